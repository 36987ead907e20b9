//! The processes of a cluster: run until SIGTERM or Ctrl-C.

use weir_common::config::Config;
use weir_jobmanager::JobManager;
use weir_taskmanager::TaskManager;

use crate::metrics_http;

/// Ends with the first of SIGTERM and Ctrl-C.
pub async fn shutdown_signal() -> anyhow::Result<()> {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        _ = terminate.recv() => Ok(()),
        result = tokio::signal::ctrl_c() => Ok(result?),
    }
}

pub async fn job_manager(config: Config) -> anyhow::Result<()> {
    if let Some(address) = config.metrics_address {
        metrics_http::serve(address).await?;
    }
    let mut handle = JobManager::start(config).await?;
    tracing::info!(address = %handle.address(), "job manager is up");
    // A member that cannot write its log has to go: whoever started the process starts it again.
    let ended = tokio::select! {
        signal = shutdown_signal() => signal,
        ended = handle.wait() => ended.map_err(anyhow::Error::from),
    };
    handle.shutdown().await;
    ended
}

pub async fn task_manager(config: Config) -> anyhow::Result<()> {
    if let Some(address) = config.metrics_address {
        metrics_http::serve(address).await?;
    }
    let handle = TaskManager::start(config).await?;
    tracing::info!(address = %handle.address(), "task manager is up");
    shutdown_signal().await?;
    handle.shutdown().await;
    Ok(())
}
