//! Job managers and task managers as processes on loopback.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use weir_proto::transport::{TlsMaterial, connect};
use weir_proto::v1;
use weir_proto::v1::job_service_client::JobServiceClient;

use crate::eventually::eventually;
use crate::process::{Process, run, weir};
use crate::tls;

const COMMAND_TIMEOUT: Duration = Duration::from_secs(120);

/// What differs from a plain cluster.
#[derive(Debug, Clone, Default)]
pub struct ClusterOptions {
    pub job_managers: usize,
    pub task_managers: usize,
    pub slots: u32,
    /// Endpoint of an S3 server with the test credentials.
    pub s3_endpoint: Option<String>,
    pub heartbeat_timeout_ms: Option<u64>,
    /// YAML lines under `job_defaults:`.
    pub job_defaults: Vec<(String, String)>,
    pub cluster_id: Option<String>,
    /// Folder with ca.pem, cert.pem and key.pem.
    pub tls: Option<PathBuf>,
    /// More configuration keys of the job managers.
    pub job_manager_conf: Vec<(String, String)>,
    /// More configuration keys of the task managers.
    pub task_manager_conf: Vec<(String, String)>,
}

/// A cluster in a temporary folder.
pub struct Cluster {
    pub dir: tempfile::TempDir,
    pub addresses: Vec<String>,
    options: ClusterOptions,
    pub job_managers: Vec<Option<Process>>,
    pub task_managers: Vec<Option<Process>>,
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
    listener.local_addr().expect("bound").port()
}

impl Cluster {
    /// Starts all processes and waits until the task managers are registered.
    pub fn start(options: ClusterOptions) -> anyhow::Result<Self> {
        let addresses: Vec<String> = (0..options.job_managers)
            .map(|_| format!("127.0.0.1:{}", free_port()))
            .collect();
        let mut cluster = Self {
            dir: tempfile::tempdir()?,
            addresses,
            job_managers: (0..options.job_managers).map(|_| None).collect(),
            task_managers: (0..options.task_managers).map(|_| None).collect(),
            options,
        };
        for index in 0..cluster.job_managers.len() {
            cluster.start_job_manager(index)?;
        }
        for index in 0..cluster.task_managers.len() {
            cluster.start_task_manager(index)?;
        }
        let expected = cluster.task_managers.len();
        eventually(
            "all task managers register",
            Duration::from_secs(60),
            || (cluster.registered() >= expected).then_some(()),
        )?;
        Ok(cluster)
    }

    /// How often a task manager has registered, by the logs of the job managers that run.
    fn registered(&self) -> usize {
        let logs = self.job_managers.iter().flatten().map(Process::log_text);
        logs.map(|log| log.matches("task manager registered").count())
            .sum()
    }

    /// Whether a log line of any process, now or before a restart, holds the text.
    pub fn logs_contain(&self, text: &str) -> bool {
        let logs = std::fs::read_dir(self.dir.path())
            .into_iter()
            .flatten()
            .flatten();
        logs.filter(|entry| {
            entry
                .path()
                .extension()
                .is_some_and(|extension| extension == "log")
        })
        .any(|entry| {
            std::fs::read_to_string(entry.path())
                .unwrap_or_default()
                .contains(text)
        })
    }

    fn base(&self, role: &str, data: &Path) -> Command {
        let mut command = weir();
        command.arg(role);
        let mut set = |key: &str, value: String| {
            command.arg("--conf").arg(format!("{key}={value}"));
        };
        if let Some(id) = &self.options.cluster_id {
            set("cluster_id", id.clone());
        }
        set(&format!("{role}.data_dir"), data.display().to_string());
        if let Some(endpoint) = &self.options.s3_endpoint {
            set("s3.endpoint", endpoint.clone());
            set("s3.region", "us-east-1".to_owned());
            set("s3.access_key_id", "weirtest".to_owned());
            set("s3.secret_access_key", "weirtest123".to_owned());
        }
        if let Some(tls) = &self.options.tls {
            for (key, value) in tls::settings(tls) {
                set(&key, value);
            }
        }
        command
    }

    pub fn start_job_manager(&mut self, index: usize) -> anyhow::Result<()> {
        let data = self.dir.path().join(format!("jm{index}"));
        let mut command = self.base("jobmanager", &data);
        let mut set = |key: &str, value: String| {
            command.arg("--conf").arg(format!("{key}={value}"));
        };
        set("jobmanager.id", (index + 1).to_string());
        set("jobmanager.bind", format!("\"{}\"", self.addresses[index]));
        // Those that come later name the first ones, too.
        let first = &self.addresses[..self.options.job_managers];
        if first.len() > 1 || index >= first.len() {
            let peers: Vec<String> = first
                .iter()
                .map(|address| format!("\"{address}\""))
                .collect();
            set("jobmanager.peers", format!("[{}]", peers.join(", ")));
        }
        if let Some(timeout) = self.options.heartbeat_timeout_ms {
            set("jobmanager.heartbeat_timeout_ms", timeout.to_string());
        }
        for (key, value) in &self.options.job_defaults {
            set("job_defaults", format!("{{\"{key}\" = \"{value}\"}}"));
        }
        for (key, value) in &self.options.job_manager_conf {
            set(key, value.clone());
        }
        let log = self.dir.path().join(format!("jm{index}.log"));
        self.job_managers[index] = Some(Process::start(&mut command, &log)?);
        Ok(())
    }

    /// One more job manager, which is not a member yet; its index.
    pub fn start_new_job_manager(&mut self) -> anyhow::Result<usize> {
        self.addresses.push(format!("127.0.0.1:{}", free_port()));
        self.job_managers.push(None);
        let index = self.job_managers.len() - 1;
        self.start_job_manager(index)?;
        Ok(index)
    }

    /// SIGTERM, and waits until it has ended.
    pub fn stop_job_manager(&mut self, index: usize) -> anyhow::Result<()> {
        let Some(mut process) = self.job_managers[index].take() else {
            return Ok(());
        };
        process.signal(Signal::SIGTERM);
        eventually("the job manager ends", Duration::from_secs(30), || {
            (!process.is_running()).then_some(())
        })
    }

    /// What `weir jobmanager list` says: role by id.
    pub fn job_manager_roles(&self) -> anyhow::Result<BTreeMap<u64, String>> {
        self.job_managers_by(&self.addresses.join(","), "role")
    }

    /// Takes part: it is up, knows the leader, and the leader knows of it.
    pub fn job_manager_takes_part(&self, index: usize) -> bool {
        self.job_manager_is(index, "up", &self.addresses[index])
    }

    /// The leader has not heard of it for some time.
    pub fn job_manager_is_silent(&self, index: usize) -> bool {
        self.job_manager_is(index, "silent", &self.addresses.join(","))
    }

    fn job_manager_is(&self, index: usize, state: &str, asked_at: &str) -> bool {
        let states = self.job_managers_by(asked_at, "state");
        states.is_ok_and(|of| of.get(&(index as u64 + 1)).is_some_and(|is| is == state))
    }

    /// One column of `weir jobmanager list`, asked at these addresses, by id.
    fn job_managers_by(
        &self,
        addresses: &str,
        column: &str,
    ) -> anyhow::Result<BTreeMap<u64, String>> {
        let output = run(
            weir()
                .args(["jobmanager", "list", "--format", "json", "--jobmanager"])
                .arg(addresses),
            COMMAND_TIMEOUT,
        )?;
        let lines = String::from_utf8(output.stdout)?;
        let cell = |line: &str| -> Option<(u64, String)> {
            let member: Value = serde_json::from_str(line).ok()?;
            Some((member["id"].as_u64()?, member[column].as_str()?.to_owned()))
        };
        Ok(lines.lines().filter_map(cell).collect())
    }

    pub fn start_task_manager(&mut self, index: usize) -> anyhow::Result<()> {
        let data = self.dir.path().join(format!("tm{index}"));
        let mut command = self.base("taskmanager", &data);
        let managers: Vec<String> = self
            .addresses
            .iter()
            .map(|address| format!("\"{address}\""))
            .collect();
        command
            .arg("--conf")
            .arg(format!("taskmanager.jobmanagers=[{}]", managers.join(", ")));
        command
            .arg("--conf")
            .arg(format!("taskmanager.slots={}", self.options.slots.max(1)));
        for (key, value) in &self.options.task_manager_conf {
            command.arg("--conf").arg(format!("{key}={value}"));
        }
        let log = self.dir.path().join(format!("tm{index}.log"));
        self.task_managers[index] = Some(Process::start(&mut command, &log)?);
        Ok(())
    }

    /// A client command with the cluster's addresses, `weir NAME ... --jobmanager A,B,C`.
    pub fn command(&self, name: &str) -> Command {
        let mut command = weir();
        if let Some(tls) = &self.options.tls {
            for (key, value) in tls::settings(tls) {
                command.arg("--conf").arg(format!("{key}={value}"));
            }
        }
        command
            .arg(name)
            .arg("--jobmanager")
            .arg(self.addresses.join(","));
        command
    }

    /// Runs a client command; its standard output if it succeeds.
    pub fn call(&self, name: &str, arguments: &[&str]) -> anyhow::Result<String> {
        let output = self.try_call(name, arguments)?;
        let error = String::from_utf8_lossy(&output.stderr);
        anyhow::ensure!(
            output.status.success(),
            "weir {name} {arguments:?} failed: {error}"
        );
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }

    /// Runs a client command, whether it succeeds or not.
    pub fn try_call(&self, name: &str, arguments: &[&str]) -> anyhow::Result<Output> {
        run(self.command(name).args(arguments), COMMAND_TIMEOUT)
    }

    /// Submits a script of one job; its id.
    pub fn submit(&self, script: &str, arguments: &[&str]) -> anyhow::Result<String> {
        let path = self.dir.path().join(format!("script-{}.sql", free_port()));
        std::fs::write(&path, script)?;
        let path = path.display().to_string();
        self.call("run", &[&[path.as_str()], arguments].concat())
    }

    /// `weir status JOB --format json`
    pub fn status(&self, job: &str) -> anyhow::Result<Value> {
        Ok(serde_json::from_str(
            &self.call("status", &[job, "--format", "json"])?,
        )?)
    }

    /// Waits until a job is in a state; fails at once if it is in another final one.
    pub fn wait_for_state(
        &self,
        job: &str,
        state: &str,
        timeout: Duration,
    ) -> anyhow::Result<Value> {
        let mut last = Value::Null;
        let found = eventually(&format!("job {job} is {state}"), timeout, || {
            let status = self.status(job).ok()?;
            let now = status["state"].as_str().unwrap_or_default().to_owned();
            last = status.clone();
            (now == state || ["FINISHED", "FAILED", "CANCELED"].contains(&now.as_str()))
                .then_some(status)
        });
        let status = found.map_err(|error| anyhow::anyhow!("{error}; it is {last}"))?;
        anyhow::ensure!(
            status["state"] == state,
            "the job is {}: {}",
            status["state"],
            status["error"]
        );
        Ok(status)
    }

    /// Index of the leading job manager.
    pub fn leader(&self) -> anyhow::Result<usize> {
        let tls: Option<TlsMaterial> = match &self.options.tls {
            Some(tls) => Some(TlsMaterial::read(
                &tls.join("ca.pem"),
                &tls.join("cert.pem"),
                &tls.join("key.pem"),
                None,
            )?),
            None => None,
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        eventually("a job manager leads", Duration::from_secs(30), || {
            runtime.block_on(async {
                for address in &self.addresses {
                    let mut client = JobServiceClient::new(connect(address, tls.as_ref()).ok()?);
                    let call = client.get_cluster(v1::GetClusterRequest {});
                    let answer = tokio::time::timeout(Duration::from_secs(2), call).await;
                    if let Ok(Ok(cluster)) = answer {
                        let leader = cluster.into_inner().leader;
                        return self.addresses.iter().position(|address| *address == leader);
                    }
                }
                None
            })
        })
    }

    pub fn kill_job_manager(&mut self, index: usize) {
        if let Some(mut process) = self.job_managers[index].take() {
            process.kill_9();
        }
    }

    pub fn kill_task_manager(&mut self, index: usize) {
        if let Some(mut process) = self.task_managers[index].take() {
            process.kill_9();
        }
    }

    pub fn signal_task_manager(&self, index: usize, signal: Signal) {
        if let Some(process) = &self.task_managers[index] {
            process.signal(signal);
        }
    }

    pub fn signal_job_manager(&self, index: usize, signal: Signal) {
        if let Some(process) = &self.job_managers[index] {
            process.signal(signal);
        }
    }

    /// Waits until a checkpoint is complete that was not when this was called.
    pub fn wait_for_checkpoint_after_now(
        &self,
        job: &str,
        timeout: Duration,
    ) -> anyhow::Result<u64> {
        let newest = |cluster: &Self| -> Option<u64> {
            let status = cluster.status(job).ok()?;
            let ids = status["checkpoints"]
                .as_array()?
                .iter()
                .filter_map(|checkpoint| checkpoint["checkpoint_id"].as_u64());
            Some(ids.max().unwrap_or(0))
        };
        let before = eventually("the job's status can be read", timeout, || newest(self))?;
        eventually(&format!("a checkpoint after {before}"), timeout, || {
            newest(self).filter(|id| *id > before)
        })
    }

    /// A task manager that runs subtasks of a job, found by the address in its log.
    pub fn busy_task_manager(&self, job: &str) -> anyhow::Result<usize> {
        let status = self.status(job)?;
        let addresses = status["subtasks"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|subtask| subtask["address"].as_str());
        for address in addresses {
            let found = self.task_managers.iter().position(|process| {
                process
                    .as_ref()
                    .is_some_and(|process| process.log_text().contains(address))
            });
            if let Some(index) = found {
                return Ok(index);
            }
        }
        anyhow::bail!("no task manager's log names an address of {status}")
    }

    /// The log of everything, for a failed test.
    pub fn keep_logs(self) -> PathBuf {
        let Self { dir, .. } = self;
        dir.keep()
    }
}
