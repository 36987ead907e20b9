//! Real servers, started by the scripts under `tests/services`; one of each kind a test binary, on ports of its own.

use std::path::PathBuf;
use std::process::Command;

use crate::cluster::free_port;

/// A server that is stopped when it is dropped.
pub struct Service {
    script: PathBuf,
    environment: Vec<(String, String)>,
    pub port: u16,
}

impl Service {
    fn start(
        name: &str,
        instance: &str,
        port_variable: &str,
        more: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("services")
            .join(format!("{name}.sh"));
        let port = free_port();
        let mut environment = vec![
            (port_variable.to_owned(), port.to_string()),
            (
                "WEIR_INSTANCE".to_owned(),
                format!("{instance}-{}", std::process::id()),
            ),
            ("WEIR_FRESH".to_owned(), "1".to_owned()),
        ];
        environment.extend(
            more.iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned())),
        );
        let service = Self {
            script,
            environment,
            port,
        };
        service.run("start")?;
        Ok(service)
    }

    fn run(&self, verb: &str) -> anyhow::Result<()> {
        let output = Command::new(&self.script)
            .arg(verb)
            .envs(self.environment.iter().cloned())
            .output()?;
        anyhow::ensure!(
            output.status.success(),
            "{} {verb} failed: {}",
            self.script.display(),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }

    /// Apache Kafka.
    pub fn kafka(instance: &str) -> anyhow::Result<Self> {
        let controller = free_port().to_string();
        Self::start(
            "kafka",
            instance,
            "KAFKA_PORT",
            &[
                ("KAFKA_CONTROLLER_PORT", &controller),
                ("KAFKA_HEAP", "512m"),
            ],
        )
    }

    /// Versity S3 Gateway with one bucket, "weir".
    pub fn s3(instance: &str) -> anyhow::Result<Self> {
        Self::start(
            "s3",
            instance,
            "S3_PORT",
            &[("S3_BUCKETS", "weir"), ("S3_QUIET", "1")],
        )
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Err(error) = self.run("stop") {
            eprintln!("{error}");
        }
    }
}
