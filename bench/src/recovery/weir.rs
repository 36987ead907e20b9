//! Weir: a job manager and task managers as processes, with a folder and an address each that outlive a kill.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context;
use weir_bench::free_port;
use weir_bench::log::{completed_checkpoints, number};
use weir_bench::process::{Process, run};

use crate::cluster::{Checkpoint, Cluster, now_us};
use crate::job::Job;

const CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// See the file's head. Heartbeats and local copies are as by default.
pub(crate) struct WeirCluster {
    binary: PathBuf,
    job_manager_address: String,
    // Processes are declared before the folder that they write to: fields are dropped in this order.
    task_managers: Vec<Process>,
    ports: Vec<u16>,
    _job_manager: Process,
    job_id: String,
    folder: tempfile::TempDir,
}

impl WeirCluster {
    /// Starts it, and the job.
    pub(crate) fn start(binary: &Path, job: &Job) -> anyhow::Result<Self> {
        let mut folder = tempfile::Builder::new().prefix("weir-").tempdir()?;
        folder.disable_cleanup(std::env::var_os("KEEP_LOGS").is_some());
        let job_manager_address = format!("127.0.0.1:{}", free_port()?);
        let job_manager = job_manager(binary, folder.path(), &job_manager_address)?;
        let mut cluster = Self {
            binary: binary.to_owned(),
            job_manager_address,
            task_managers: Vec::new(),
            ports: Vec::new(),
            _job_manager: job_manager,
            job_id: String::new(),
            folder,
        };
        for index in 0..job.shape.task_managers as usize {
            cluster.ports.push(free_port()?);
            let process = cluster.task_manager(index)?;
            cluster.task_managers.push(process);
        }
        cluster.job_id = cluster.submit(job)?;
        Ok(cluster)
    }

    fn task_manager(&self, index: usize) -> anyhow::Result<Process> {
        let port = self.ports.get(index).context("no such task manager")?;
        let folder = self.folder.path().join(format!("tm-{index}"));
        let settings = [
            format!("taskmanager.bind=\"127.0.0.1:{port}\""),
            format!("taskmanager.jobmanagers=[\"{}\"]", self.job_manager_address),
            "taskmanager.slots=1".to_owned(),
            format!("taskmanager.data_dir={}", folder.display()),
        ];
        let log = self.folder.path().join(format!("tm-{index}.log"));
        role(&self.binary, "taskmanager", &settings, &log)
    }

    fn submit(&self, job: &Job) -> anyhow::Result<String> {
        let script = self.folder.path().join("script.sql");
        std::fs::write(&script, job.statements().join(";\n"))?;
        let mut command = Command::new(&self.binary);
        command
            .args(["run", "--jobmanager", &self.job_manager_address])
            .arg(&script)
            .args(["--parallelism", &job.shape.parallelism.to_string()]);
        let answer = run(&mut command, None, CALL_TIMEOUT).context("cannot start the job")?;
        let id = answer.split_whitespace().find(|word| word.len() == 32);
        Ok(id.context("no job id was printed")?.to_owned())
    }
}

fn job_manager(binary: &Path, folder: &Path, address: &str) -> anyhow::Result<Process> {
    let checkpoints = format!("file://{}/checkpoints", folder.display());
    let defaults = [
        ("execution.checkpointing.interval", "10 s"),
        ("execution.checkpointing.dir", &checkpoints),
        ("restart-strategy.type", "fixed-delay"),
        ("restart-strategy.fixed-delay.attempts", "1000000"),
        ("restart-strategy.fixed-delay.delay", "100 ms"),
    ];
    let defaults = defaults.map(|(key, value)| format!("\"{key}\" = \"{value}\""));
    let settings = [
        format!("jobmanager.bind=\"{address}\""),
        format!(
            "jobmanager.data_dir={}",
            folder.join("jobmanager").display()
        ),
        format!("job_defaults={{{}}}", defaults.join(", ")),
    ];
    role(
        binary,
        "jobmanager",
        &settings,
        &folder.join("jobmanager.log"),
    )
}

fn role(binary: &Path, name: &str, settings: &[String], log: &Path) -> anyhow::Result<Process> {
    let mut command = Command::new(binary);
    command.arg(name);
    for setting in settings {
        command.args(["--conf", setting]);
    }
    Process::start(&mut command, log)
}

impl Cluster for WeirCluster {
    fn newest_checkpoint(&mut self) -> anyhow::Result<Option<Checkpoint>> {
        let log = std::fs::read_to_string(self.folder.path().join("jobmanager.log"))?;
        Ok(newest_checkpoint(&log))
    }

    fn kill(&mut self, task_manager: usize) -> anyhow::Result<i64> {
        let process = self.task_managers.get_mut(task_manager);
        let process = process.context("no such task manager")?;
        let killed_us = now_us();
        process.kill()?;
        let process = self.task_manager(task_manager)?;
        self.task_managers[task_manager] = process;
        Ok(killed_us)
    }

    fn rescale(&mut self, parallelism: u32) -> anyhow::Result<()> {
        let mut command = Command::new(&self.binary);
        command
            .args(["rescale", "--jobmanager", &self.job_manager_address])
            .arg(&self.job_id)
            .args(["--parallelism", &parallelism.to_string()]);
        run(&mut command, None, CALL_TIMEOUT).context("cannot rescale the job")?;
        Ok(())
    }
}

/// By the job manager's log.
fn newest_checkpoint(log: &str) -> Option<Checkpoint> {
    let line = completed_checkpoints(log).next_back()?;
    Some(Checkpoint {
        id: number(line, "checkpoint")?,
        state_bytes: number(line, "state_bytes")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_checkpoint_is_the_last_in_the_log() {
        let log = "INFO x: checkpoint is complete job=a attempt=1 checkpoint=1 path=p duration_ms=3 state_bytes=70 uploaded_bytes=9\n\
                   INFO x: checkpoint is complete job=a attempt=2 checkpoint=5 path=p duration_ms=3 state_bytes=80 uploaded_bytes=9\n\
                   WARN x: job is restarting";
        let newest = newest_checkpoint(log).unwrap();
        assert_eq!((newest.id, newest.state_bytes), (5, 80));
        assert_eq!(newest_checkpoint("INFO x: nothing"), None);
    }
}
