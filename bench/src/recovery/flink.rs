//! Apache Flink: `bench/flink/recovery.py` runs the cluster and takes commands.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::Context;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Deserialize;
use serde_json::{Value, json};
use weir_bench::process::run;

use crate::cluster::{Checkpoint, Cluster};
use crate::job::Job;

const SETUP_TIMEOUT: Duration = Duration::from_secs(900);

/// See the file's head.
pub(crate) struct FlinkCluster {
    process: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
}

#[derive(Debug, Deserialize)]
struct CompletedCheckpoint {
    id: u64,
    state_bytes: u64,
}

#[derive(Debug, Deserialize)]
struct Killed {
    killed_us: i64,
}

/// Beside those of `recovery.py`. Restarts follow as soon as in Weir.
fn settings(tuned: bool, rescales: bool) -> Value {
    let mut settings = json!({
        "restart-strategy.type": "fixed-delay",
        "restart-strategy.fixed-delay.attempts": 1_000_000,
        "restart-strategy.fixed-delay.delay": "100 ms",
    });
    if tuned {
        settings["heartbeat.interval"] = json!(500);
        settings["heartbeat.timeout"] = json!(3000);
    }
    if rescales {
        // Only this scheduler rescales a job that runs; without these it would wait before it begins.
        settings["jobmanager.scheduler"] = json!("adaptive");
        settings["jobmanager.adaptive-scheduler.executing.cooldown-after-rescaling"] = json!("0 s");
        settings["jobmanager.adaptive-scheduler.executing.resource-stabilization-timeout"] =
            json!("0 s");
    }
    settings
}

impl FlinkCluster {
    /// Starts it, and the job; installs it before. `tuned`: with Weir's heartbeats.
    pub(crate) fn start(folder: &Path, job: &Job, tuned: bool) -> anyhow::Result<Self> {
        let mut setup = Command::new(folder.join("setup.sh"));
        let home = run(&mut setup, None, SETUP_TIMEOUT).context("cannot install Flink")?;
        let mut process = Command::new("python3")
            .arg(folder.join("recovery.py"))
            .arg(home.trim())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start recovery.py")?;
        let commands = process.stdin.take().context("no standard input")?;
        let answers = process.stdout.take().context("no standard output")?;
        let mut cluster = Self {
            process,
            commands,
            answers: BufReader::new(answers),
        };
        let request = json!({
            "task_managers": job.shape.task_managers,
            "parallelism": job.shape.parallelism,
            "settings": settings(tuned, job.shape.windows),
            "statements": job.statements(),
        });
        cluster.call(&request.to_string())?;
        Ok(cluster)
    }

    fn call(&mut self, line: &str) -> anyhow::Result<Value> {
        writeln!(self.commands, "{line}").context("recovery.py has ended")?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer)?;
        serde_json::from_str(&answer).context("recovery.py has ended; its error is above")
    }
}

impl Cluster for FlinkCluster {
    fn newest_checkpoint(&mut self) -> anyhow::Result<Option<Checkpoint>> {
        let answer = self.call("checkpoint")?;
        let newest: Option<CompletedCheckpoint> = serde_json::from_value(answer)?;
        Ok(newest.map(|newest| Checkpoint {
            id: newest.id,
            state_bytes: newest.state_bytes,
        }))
    }

    fn kill(&mut self, task_manager: usize) -> anyhow::Result<i64> {
        let killed: Killed = serde_json::from_value(self.call(&format!("kill {task_manager}"))?)?;
        Ok(killed.killed_us)
    }

    fn rescale(&mut self, parallelism: u32) -> anyhow::Result<()> {
        self.call(&format!("rescale {parallelism}"))?;
        Ok(())
    }
}

impl Drop for FlinkCluster {
    fn drop(&mut self) {
        // It stops the cluster and removes its files, then ends. Both calls fail only if it has ended already.
        if let Ok(pid) = i32::try_from(self.process.id()) {
            kill(Pid::from_raw(pid), Signal::SIGTERM).ok();
        }
        self.process.wait().ok();
    }
}
