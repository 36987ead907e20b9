//! Weir: a job manager and a task manager as processes for one measurement, the same roles as Flink's.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context;
use serde_json::Value;

use weir_bench::free_port;
use weir_bench::log::{completed_checkpoints, number};
use weir_bench::process::{Process, run};

use crate::PARALLELISM;
use crate::report::Measurement;

const RUN_TIMEOUT: Duration = Duration::from_secs(3600);
const CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// Runs both lists of statements on a fresh cluster; the figures are those of the second.
pub(crate) fn measure(
    binary: &Path,
    warm_up: Option<&[String]>,
    timed: &[String],
) -> anyhow::Result<Measurement> {
    let cluster = Cluster::start(binary)?;
    if let Some(statements) = warm_up {
        cluster.run(statements)?;
    }
    let before = (
        cluster.task_manager.cpu_seconds()?,
        cluster.job_manager.cpu_seconds()?,
    );
    let job = cluster.run(timed)?;
    let after = (
        cluster.task_manager.cpu_seconds()?,
        cluster.job_manager.cpu_seconds()?,
    );
    let status = cluster.call("status", &[&job, "--format", "json"])?;
    let status: Value = serde_json::from_str(&status)?;
    let time = |key: &str| {
        status[key]
            .as_i64()
            .context("the job's status has no times")
    };
    let states = cluster.checkpoint_sizes(&job)?;
    Ok(Measurement {
        seconds: (time("ended_ms")? - time("submitted_ms")?) as f64 / 1000.0,
        cpu_s: after.0 - before.0,
        job_manager_cpu_s: after.1 - before.1,
        peak_rss_mb: cluster.task_manager.peak_rss_mb()?,
        state_mb: states.iter().max().copied().unwrap_or(0) as f64 / f64::from(1 << 20),
        checkpoints: states.len(),
    })
}

/// The settings of `bench/flink/flink.py` on Weir: checkpoints every 10 s to a local folder; RocksDB and incremental they are always.
struct Cluster {
    binary: PathBuf,
    address: String,
    // Processes are declared before the folder that they write to: fields are dropped in this order.
    task_manager: Process,
    job_manager: Process,
    folder: tempfile::TempDir,
}

impl Cluster {
    fn start(binary: &Path) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let address = format!("127.0.0.1:{}", free_port()?);
        let role = |name: &str, settings: &[String]| {
            let mut command = Command::new(binary);
            command.arg(name);
            let data = format!("{name}.data_dir={}", folder.path().join(name).display());
            for setting in std::iter::once(&data).chain(settings) {
                command.args(["--conf", setting]);
            }
            Process::start(&mut command, &folder.path().join(format!("{name}.log")))
        };
        let checkpoints = format!("file://{}/checkpoints", folder.path().display());
        let defaults = format!(
            "job_defaults={{\"execution.checkpointing.interval\" = \"10 s\", \"execution.checkpointing.dir\" = \"{checkpoints}\"}}"
        );
        let bind = format!("jobmanager.bind=\"{address}\"");
        let job_manager = role("jobmanager", &[bind, defaults])?;
        let task_manager = role(
            "taskmanager",
            &[
                format!("taskmanager.jobmanagers=[\"{address}\"]"),
                format!("taskmanager.slots={PARALLELISM}"),
            ],
        )?;
        Ok(Self {
            binary: binary.to_owned(),
            address,
            task_manager,
            job_manager,
            folder,
        })
    }

    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(&self.binary);
        command.args([name, "--jobmanager", &self.address]);
        command
    }

    fn call(&self, name: &str, arguments: &[&str]) -> anyhow::Result<String> {
        run(self.command(name).args(arguments), None, CALL_TIMEOUT)
    }

    /// Bytes of state of the job's checkpoints, by the job manager's log: a finished job has given them up.
    fn checkpoint_sizes(&self, job: &str) -> anyhow::Result<Vec<u64>> {
        let log = std::fs::read_to_string(self.folder.path().join("jobmanager.log"))?;
        Ok(checkpoint_sizes(&log, job))
    }

    /// Runs statements, the last of which starts a job, until that has finished; its id.
    fn run(&self, statements: &[String]) -> anyhow::Result<String> {
        let script = self.folder.path().join("script.sql");
        std::fs::write(&script, statements.join(";\n"))?;
        let mut command = self.command("run");
        let parallelism = PARALLELISM.to_string();
        command
            .arg(&script)
            .args(["--wait", "--parallelism", &parallelism]);
        let jobs = run(&mut command, None, RUN_TIMEOUT)?;
        Ok(jobs.trim().to_owned())
    }
}

fn checkpoint_sizes(log: &str, job: &str) -> Vec<u64> {
    completed_checkpoints(log)
        .filter(|line| line.contains(job))
        .filter_map(|line| number(line, "state_bytes"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_the_jobs_checkpoints() {
        let log = "INFO x: checkpoint is complete job=a attempt=1 checkpoint=1 path=p duration_ms=3 state_bytes=70 uploaded_bytes=9\n\
                   INFO x: checkpoint is complete job=b attempt=1 checkpoint=1 path=p duration_ms=3 state_bytes=80 uploaded_bytes=9\n\
                   INFO x: a job has ended job=a state_bytes=1";
        assert_eq!(checkpoint_sizes(log, "job=a"), [70]);
    }
}
