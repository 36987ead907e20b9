//! One YAML file, every key overridable by environment (`WEIR_` and `__` between levels: `WEIR_TASKMANAGER__SLOTS=4`) and by flag.
//! Unknown keys are refused with the nearest known one.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use figment::Figment;
use figment::providers::{Env, Format, Serialized, Yaml};
use serde::{Deserialize, Serialize};

use crate::telemetry::LogFormat;

/// What a process of the cluster is told.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Processes of another cluster id are refused.
    pub cluster_id: String,
    /// Logs.
    pub log: LogConfig,
    /// Address of the Prometheus endpoint (`/metrics`, `/healthz`); absent: none.
    pub metrics_address: Option<SocketAddr>,
    /// Certificates for mutual TLS on every link; absent: plain text.
    pub tls: Option<TlsConfig>,
    /// Job manager.
    pub jobmanager: JobManagerConfig,
    /// Task manager.
    pub taskmanager: TaskManagerConfig,
    /// Access to S3, for checkpoints and the filesystem connector.
    pub s3: S3Config,
    /// Defaults for jobs, under Flink's keys ("execution.checkpointing.interval": "10 s").
    pub job_defaults: BTreeMap<String, String>,
}

/// Logs to standard error.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// `text` or `json`.
    pub format: LogFormat,
    /// Directives: "info", "warn,weir_jobmanager=debug".
    pub filter: String,
}

/// PEM files. The same authority signs all processes of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// Certificate of the authority that peers must be signed by.
    pub ca: PathBuf,
    /// This process' certificate chain.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Name that peers' certificates carry; default: the host that is called.
    #[serde(default)]
    pub server_name: Option<String>,
}

/// A job manager.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct JobManagerConfig {
    /// Number of this job manager: its place in `peers` from 1, or a higher one if it is added to a cluster.
    pub id: u64,
    /// gRPC address to listen on.
    pub bind: SocketAddr,
    /// HOST:PORT under which others reach this process; default: `bind`.
    pub advertise: Option<String>,
    /// HOST:PORT of the 1, 3 or 5 job managers that a cluster begins with, in the order of their ids. Empty: a single one.
    pub peers: Vec<String>,
    /// Folder of the Raft log and state.
    pub data_dir: PathBuf,
    /// How often task managers report.
    pub heartbeat_interval_ms: u64,
    /// Silence after which a task manager counts as lost.
    pub heartbeat_timeout_ms: u64,
    /// A new leader waits this long for the task managers of a running job to report before it restarts the job.
    pub reattach_timeout_ms: u64,
    /// How long a job waits for slots before it fails (and is retried by its restart strategy).
    pub slot_timeout_ms: u64,
}

/// A task manager.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TaskManagerConfig {
    /// gRPC address to listen on; port 0 takes a free one.
    pub bind: SocketAddr,
    /// HOST (or HOST:PORT) under which others reach this process; default: `bind`.
    pub advertise: Option<String>,
    /// HOST:PORT of the job managers.
    pub jobmanagers: Vec<String>,
    /// Threads that run subtasks; a job of parallelism N needs N slots.
    pub slots: u32,
    /// Folder for RocksDB and downloads; emptied at start but for local copies.
    pub data_dir: PathBuf,
    /// Keep files of checkpoints here, so that a subtask that is restarted on this machine downloads nothing. Costs disk: up to
    /// the size of the state once more.
    pub local_copies: bool,
    /// Memory for data, in bytes: keyed state in RocksDB and in operators' working sets, and batches on their way.
    /// [`crate::memory::MemoryBudget`] divides it.
    pub memory_bytes: u64,
    /// Parallel uploads and downloads of snapshot files.
    pub transfer_threads: usize,
    /// After SIGTERM it waits this long for its jobs to move to other task managers.
    pub drain_timeout_ms: u64,
    /// What uploads of snapshots may take of the network together, in bytes a second; 0: all that there is.
    pub upload_bytes_per_second: u64,
}

/// S3 access. Empty values fall back to the AWS environment variables.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct S3Config {
    /// For servers that are not AWS: "http://127.0.0.1:9000". Path-style requests are used then.
    pub endpoint: Option<String>,
    /// Region.
    pub region: Option<String>,
    /// Access key; better by environment.
    pub access_key_id: Option<String>,
    /// Secret key; better by environment.
    pub secret_access_key: Option<Secret>,
}

/// A text that does not show itself in logs.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            cluster_id: "weir".to_owned(),
            log: LogConfig::default(),
            metrics_address: None,
            tls: None,
            jobmanager: JobManagerConfig::default(),
            taskmanager: TaskManagerConfig::default(),
            s3: S3Config::default(),
            job_defaults: BTreeMap::new(),
        }
    }
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            format: LogFormat::Text,
            filter: "info".to_owned(),
        }
    }
}

impl Default for JobManagerConfig {
    fn default() -> Self {
        Self {
            id: 1,
            bind: SocketAddr::from(([127, 0, 0, 1], 6123)),
            advertise: None,
            peers: Vec::new(),
            data_dir: PathBuf::from("weir-data/jobmanager"),
            heartbeat_interval_ms: 500,
            heartbeat_timeout_ms: 3000,
            reattach_timeout_ms: 10_000,
            slot_timeout_ms: 60_000,
        }
    }
}

impl Default for TaskManagerConfig {
    fn default() -> Self {
        Self {
            bind: SocketAddr::from(([127, 0, 0, 1], 0)),
            advertise: None,
            jobmanagers: vec!["127.0.0.1:6123".to_owned()],
            slots: 2,
            data_dir: PathBuf::from("weir-data/taskmanager"),
            local_copies: true,
            memory_bytes: 640 << 20,
            transfer_threads: 4,
            drain_timeout_ms: 60_000,
            upload_bytes_per_second: 0,
        }
    }
}

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is not there.
    #[error("configuration file {0} does not exist")]
    Missing(PathBuf),
    /// A key or value that is not understood, with its place and, where there is one, the nearest key.
    #[error("configuration: {0}")]
    Invalid(String),
}

impl Config {
    /// Defaults, then the file, then the environment, then `flags` (dotted key and value as text, the later ones win). What follows
    /// `job_defaults.` is one option's name, dots and all.
    pub fn load(file: Option<&Path>, flags: &[(String, String)]) -> Result<Self, ConfigError> {
        let mut figment = Figment::from(Serialized::defaults(Self::default()));
        if let Some(path) = file {
            if !path.is_file() {
                return Err(ConfigError::Missing(path.to_owned()));
            }
            figment = figment.merge(Yaml::file_exact(path));
        }
        // Other variables begin with WEIR_ too (Kubernetes makes WEIR_JOBMANAGER_PORT of a service): only what can be a key counts.
        let is_key = |name: &str| {
            name.contains("__")
                || name.eq_ignore_ascii_case("cluster_id")
                || name.eq_ignore_ascii_case("metrics_address")
        };
        figment = figment.merge(
            Env::prefixed("WEIR_")
                .filter(move |name| is_key(name.as_str()))
                .split("__"),
        );
        for (key, value) in flags {
            if let Some(option) = key.strip_prefix("job_defaults.") {
                let option = BTreeMap::from([(option, value)]);
                figment = figment.merge(Serialized::default("job_defaults", option));
                continue;
            }
            let value: figment::value::Value = value.parse().map_err(|_| {
                ConfigError::Invalid(format!("--conf {key}: cannot read the value"))
            })?;
            figment = figment.merge(Serialized::default(key, value));
        }
        figment
            .extract()
            .map_err(|error| ConfigError::Invalid(describe(&error)))
    }
}

fn describe(error: &figment::Error) -> String {
    let lines: Vec<String> = error.clone().into_iter().map(describe_one).collect();
    lines.join("; ")
}

fn describe_one(error: figment::Error) -> String {
    // Flags come as values of the program's own; to a user they are --conf.
    let source = error
        .metadata
        .as_ref()
        .and_then(|data| data.source.as_ref());
    let place = match source {
        Some(figment::Source::File(path)) => path.display().to_string(),
        _ if error
            .metadata
            .as_ref()
            .is_some_and(|data| data.name.contains("environment")) =>
        {
            "the environment".to_owned()
        }
        _ => "--conf".to_owned(),
    };
    let key = error.path.join(".");
    let figment::error::Kind::UnknownField(name, known) = &error.kind else {
        return format!("key '{key}' in {place}: {}", error.kind);
    };
    let near = known
        .iter()
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate))
        .min()
        .filter(|(distance, _)| *distance <= 3);
    let parent = key.strip_suffix(name.as_str()).unwrap_or_default();
    match near {
        Some((_, candidate)) => {
            format!("unknown key '{key}' in {place}; did you mean '{parent}{candidate}'?")
        }
        None => format!(
            "unknown key '{key}' in {place}; the known ones are {}",
            known.join(", ")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(yaml: &str, flags: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("weir.yaml");
        std::fs::write(&path, yaml).unwrap();
        let flags: Vec<_> = flags
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        Config::load(Some(&path), &flags)
    }

    #[test]
    fn a_flag_beats_the_file() {
        let config = load("taskmanager: {slots: 3}\n", &[("taskmanager.slots", "5")]).unwrap();
        assert_eq!(config.taskmanager.slots, 5);
        assert_eq!(config.jobmanager.heartbeat_timeout_ms, 3000);
    }

    #[test]
    fn defaults_of_jobs_add_up() {
        let flags = [
            ("job_defaults.parallelism.default", "4"),
            ("job_defaults.execution.checkpointing.interval", "10 s"),
            ("job_defaults", "{\"restart-strategy.type\" = \"none\"}"),
            ("job_defaults.parallelism.default", "2"),
        ];
        let yaml = "job_defaults: {pipeline.name: hot items}\n";
        let defaults = load(yaml, &flags).unwrap().job_defaults;
        let expected = [
            ("execution.checkpointing.interval", "10 s"),
            ("parallelism.default", "2"),
            ("pipeline.name", "hot items"),
            ("restart-strategy.type", "none"),
        ];
        assert_eq!(
            defaults,
            BTreeMap::from(expected.map(|(key, value)| (key.to_owned(), value.to_owned())))
        );
    }

    #[test]
    fn an_unknown_key_is_refused_with_the_nearest() {
        let error = load("taskmanager: {slot: 3}\n", &[])
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("unknown key 'taskmanager.slot'")
                && error.contains("did you mean 'taskmanager.slots'?"),
            "{error}"
        );
    }

    #[test]
    fn a_secret_does_not_show() {
        let config = load("s3: {secret_access_key: hunter2}\n", &[]).unwrap();
        assert!(!format!("{config:?}").contains("hunter2"));
    }
}
