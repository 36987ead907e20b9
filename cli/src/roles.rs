//! The processes of a cluster: run until SIGTERM or Ctrl-C. A task manager lets its jobs move away first; a second signal ends it at once.

use tokio::signal::unix::{Signal, SignalKind, signal};
use weir_common::config::Config;
use weir_jobmanager::JobManager;
use weir_taskmanager::TaskManager;

use crate::metrics_http;

/// SIGTERM and Ctrl-C. One that comes while nobody waits is kept.
pub struct Interrupts {
    terminate: Signal,
    interrupt: Signal,
}

impl Interrupts {
    /// From now on the signals do not end the process any more.
    pub fn catch() -> anyhow::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// The next one.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

pub async fn job_manager(config: Config) -> anyhow::Result<()> {
    let mut interrupts = Interrupts::catch()?;
    if let Some(address) = config.metrics_address {
        metrics_http::serve(address).await?;
    }
    let mut handle = JobManager::start(config).await?;
    tracing::info!(address = %handle.address(), "job manager is up");
    // A member that cannot write its log has to go: whoever started the process starts it again.
    let ended = tokio::select! {
        () = interrupts.next() => Ok(()),
        ended = handle.wait() => ended.map_err(anyhow::Error::from),
    };
    handle.shutdown().await;
    ended
}

pub async fn task_manager(config: Config) -> anyhow::Result<()> {
    let mut interrupts = Interrupts::catch()?;
    if let Some(address) = config.metrics_address {
        metrics_http::serve(address).await?;
    }
    let handle = TaskManager::start(config).await?;
    tracing::info!(address = %handle.address(), "task manager is up");
    interrupts.next().await;
    tokio::select! {
        () = handle.drain() => {}
        () = interrupts.next() => tracing::warn!("asked a second time: leaves at once"),
    }
    handle.shutdown().await;
    Ok(())
}
