//! A whole cluster in this process: one job manager and one task manager over loopback, with the protocols of a real one.

use std::net::SocketAddr;

use anyhow::Context;
use weir_common::config::Config;
use weir_jobmanager::{JobManager, JobManagerHandle};
use weir_taskmanager::{TaskManager, TaskManagerHandle};

/// More than any script on a laptop asks for; a slot that is not used costs nothing.
const SLOTS: u32 = 64;

/// Its folders are deleted when it is dropped.
pub struct EmbeddedCluster {
    job_manager: JobManagerHandle,
    task_manager: TaskManagerHandle,
    folder: tempfile::TempDir,
}

impl EmbeddedCluster {
    /// Starts both, on free ports.
    pub async fn start(config: &Config, slots: u32) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("weir-")
            .tempdir()
            .context("cannot make a temporary folder")?;
        let mut config = config.clone();
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        config.tls = None;
        config.cluster_id = format!("embedded-{}", uuid::Uuid::new_v4().simple());
        config.jobmanager.bind = loopback;
        config.jobmanager.advertise = None;
        config.jobmanager.peers = Vec::new();
        config.jobmanager.id = 1;
        config.jobmanager.data_dir = folder.path().join("jobmanager");
        config.taskmanager.bind = loopback;
        config.taskmanager.advertise = None;
        config.taskmanager.data_dir = folder.path().join("taskmanager");
        config.taskmanager.slots = slots.max(SLOTS);
        let job_manager = JobManager::start(config.clone()).await?;
        config.taskmanager.jobmanagers = vec![job_manager.address().to_string()];
        let task_manager = TaskManager::start(config).await?;
        Ok(Self {
            job_manager,
            task_manager,
            folder,
        })
    }

    /// HOST:PORT of the job manager.
    pub fn address(&self) -> String {
        self.job_manager.address().to_string()
    }

    /// Where jobs keep their checkpoints unless the script says otherwise.
    pub fn checkpoint_directory(&self) -> String {
        format!(
            "file://{}",
            self.folder.path().join("checkpoints").display()
        )
    }

    /// Stops both and deletes the folders.
    pub async fn shutdown(self) {
        self.task_manager.shutdown().await;
        self.job_manager.shutdown().await;
    }
}
