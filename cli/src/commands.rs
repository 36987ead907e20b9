//! Client commands against a cluster.

use std::io::{Write, stderr, stdout};
use std::time::Duration;

use anyhow::Context;
use comfy_table::{Table, presets};
use weir_common::config::Config;
use weir_proto::v1;

use crate::args::{
    ClaimMode, ClusterCommand, JobCommand, OutputFormat, RescaleCommand, RunCommand,
    SavepointCommand, StopCommand,
};
use crate::client::JobClient;

/// For calls that only read or write metadata: after it another job manager is asked.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// For planning and validating a script.
const SUBMIT_TIMEOUT: Duration = Duration::from_secs(30);
/// For calls that wait for a savepoint.
const SAVEPOINT_TIMEOUT: Duration = Duration::from_secs(600);
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// "RUNNING" from `JOB_STATE_RUNNING`.
pub fn state_name(state: v1::JobState) -> &'static str {
    state.as_str_name().trim_start_matches("JOB_STATE_")
}

pub async fn run(config: &Config, command: RunCommand) -> anyhow::Result<()> {
    let script = std::fs::read_to_string(&command.file)
        .with_context(|| format!("cannot read the script {}", command.file.display()))?;
    let mut client = JobClient::new(config, &command.cluster.jobmanager)?;
    let request = v1::SubmitJobRequest {
        request_id: command
            .request_id
            .unwrap_or_else(|| uuid::Uuid::new_v4().to_string()),
        program: Some(v1::submit_job_request::Program::SqlScript(script)),
        parallelism: command.parallelism.unwrap_or(0),
        from_savepoint: absolute(command.from_savepoint)?,
        allow_non_restored_state: command.allow_non_restored_state,
        claim_mode: match command.claim_mode {
            None => v1::ClaimMode::Unspecified,
            Some(ClaimMode::NoClaim) => v1::ClaimMode::NoClaim,
            Some(ClaimMode::Claim) => v1::ClaimMode::Claim,
        }
        .into(),
        job_name: command.name.unwrap_or_default(),
    };
    let answer = client
        .call(SUBMIT_TIMEOUT, async |mut client| {
            Ok(client.submit_job(request.clone()).await?.into_inner())
        })
        .await?;
    for warning in &answer.warnings {
        writeln!(stderr(), "warning: {warning}")?;
    }
    for job in &answer.job_ids {
        match command.cluster.format {
            OutputFormat::Text => writeln!(stdout(), "{job}")?,
            OutputFormat::Json => writeln!(stdout(), "{}", serde_json::json!({ "job_id": job }))?,
        }
    }
    if command.wait {
        for job in &answer.job_ids {
            wait_for_end(&mut client, job).await?;
        }
    }
    Ok(())
}

/// Waits until a job is in a final state; an error if that is not FINISHED.
pub async fn wait_for_end(client: &mut JobClient, job: &str) -> anyhow::Result<()> {
    loop {
        let answer = get_job(client, job).await?;
        let summary = answer.job.unwrap_or_default();
        match summary.state() {
            v1::JobState::Finished => return Ok(()),
            state @ (v1::JobState::Failed | v1::JobState::Canceled) => {
                let reason = if summary.error.is_empty() {
                    String::new()
                } else {
                    format!(": {}", summary.error)
                };
                anyhow::bail!(
                    "job {job} ({}) is {}{reason}",
                    summary.name,
                    state_name(state)
                );
            }
            _ => tokio::time::sleep(POLL_INTERVAL).await,
        }
    }
}

pub async fn get_job(client: &mut JobClient, job: &str) -> anyhow::Result<v1::GetJobResponse> {
    let request = v1::GetJobRequest {
        job_id: job.to_owned(),
    };
    client
        .call(CALL_TIMEOUT, async |mut client| {
            Ok(client.get_job(request.clone()).await?.into_inner())
        })
        .await
}

pub fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(header);
    table
}

pub fn time(ms: i64) -> String {
    match arrow::temporal_conversions::timestamp_ms_to_datetime(ms) {
        Some(time) if ms > 0 => time.format("%Y-%m-%dT%H:%M:%SZ").to_string(),
        _ => "-".to_owned(),
    }
}

fn summary_json(job: &v1::JobSummary) -> serde_json::Value {
    serde_json::json!({
        "job_id": job.job_id,
        "name": job.name,
        "state": state_name(job.state()),
        "attempt": job.attempt,
        "restarts": job.restarts,
        "submitted_ms": job.submitted_ms,
        "ended_ms": job.ended_ms,
        "error": job.error,
    })
}

/// All jobs of the cluster, oldest first.
pub async fn list_jobs(client: &mut JobClient) -> anyhow::Result<Vec<v1::JobSummary>> {
    let answer = client
        .call(CALL_TIMEOUT, async |mut client| {
            Ok(client.list_jobs(v1::ListJobsRequest {}).await?.into_inner())
        })
        .await?;
    Ok(answer.jobs)
}

pub async fn list(config: &Config, command: ClusterCommand) -> anyhow::Result<()> {
    let mut client = JobClient::new(config, &command.jobmanager)?;
    let jobs = list_jobs(&mut client).await?;
    if command.format == OutputFormat::Json {
        for job in &jobs {
            writeln!(stdout(), "{}", summary_json(job))?;
        }
        return Ok(());
    }
    let mut table = table(&["JOB", "STATE", "RESTARTS", "SUBMITTED", "NAME"]);
    for job in &jobs {
        table.add_row([
            job.job_id.clone(),
            state_name(job.state()).to_owned(),
            job.restarts.to_string(),
            time(job.submitted_ms),
            job.name.clone(),
        ]);
    }
    writeln!(stdout(), "{table}")?;
    Ok(())
}

pub async fn status(config: &Config, command: JobCommand) -> anyhow::Result<()> {
    let mut client = JobClient::new(config, &command.cluster.jobmanager)?;
    let answer = get_job(&mut client, &command.job).await?;
    let job = answer.job.clone().unwrap_or_default();
    if command.cluster.format == OutputFormat::Json {
        writeln!(stdout(), "{}", status_json(&job, &answer))?;
        return Ok(());
    }
    writeln!(
        stdout(),
        "{} {} ({}), attempt {}, {} restarts",
        job.job_id,
        job.name,
        state_name(job.state()),
        job.attempt,
        job.restarts
    )?;
    if !job.error.is_empty() {
        writeln!(stdout(), "last failure: {}", job.error)?;
    }
    if !answer.last_checkpoint_failure.is_empty() {
        writeln!(
            stdout(),
            "{} checkpoints failed, the last one: {}",
            answer.failed_checkpoints,
            answer.last_checkpoint_failure
        )?;
    }
    print_subtasks(&answer)?;
    print_checkpoints(&answer)?;
    Ok(())
}

fn status_json(job: &v1::JobSummary, answer: &v1::GetJobResponse) -> serde_json::Value {
    let mut json = summary_json(job);
    json["failed_checkpoints"] = answer.failed_checkpoints.into();
    json["last_checkpoint_failure"] = answer.last_checkpoint_failure.clone().into();
    json["checkpoints"] = answer
        .checkpoints
        .iter()
        .map(|checkpoint| {
            serde_json::json!({
                "checkpoint_id": checkpoint.checkpoint_id, "path": checkpoint.path, "savepoint": checkpoint.savepoint,
                "completed_ms": checkpoint.completed_ms, "duration_ms": checkpoint.duration_ms,
                "state_bytes": checkpoint.state_bytes, "uploaded_bytes": checkpoint.uploaded_bytes,
                "in_flight_bytes": checkpoint.in_flight_bytes,
            })
        })
        .collect();
    json["subtasks"] = answer
        .subtasks
        .iter()
        .map(|info| {
            let status = info.status.unwrap_or_default();
            let (id, metrics) = (status.subtask.unwrap_or_default(), status.metrics.unwrap_or_default());
            serde_json::json!({
                "vertex": info.vertex_name, "subtask": id.index, "state": subtask_state(status.state()),
                "task_manager": info.task_manager_id, "address": info.address,
                "records_in": metrics.records_in, "records_out": metrics.records_out,
                "bytes_in": metrics.bytes_in, "bytes_out": metrics.bytes_out, "busy_ms": metrics.busy_ms,
                "backpressured_ms": metrics.backpressured_ms, "idle_ms": metrics.idle_ms,
                "watermark_ms": metrics.watermark_ms, "state_bytes": metrics.state_bytes,
                "memory_bytes": metrics.memory_bytes,
            })
        })
        .collect();
    json
}

fn subtask_state(state: v1::SubtaskState) -> &'static str {
    state.as_str_name().trim_start_matches("SUBTASK_STATE_")
}

fn print_subtasks(answer: &v1::GetJobResponse) -> std::io::Result<()> {
    let mut table = table(&[
        "VERTEX",
        "SUBTASK",
        "STATE",
        "RECORDS IN",
        "RECORDS OUT",
        "WATERMARK",
        "STATE BYTES",
        "IN MEMORY",
        "ON",
    ]);
    for info in &answer.subtasks {
        let status = info.status.unwrap_or_default();
        let (id, metrics) = (
            status.subtask.unwrap_or_default(),
            status.metrics.unwrap_or_default(),
        );
        table.add_row([
            info.vertex_name.clone(),
            id.index.to_string(),
            subtask_state(status.state()).to_owned(),
            metrics.records_in.to_string(),
            metrics.records_out.to_string(),
            time(metrics.watermark_ms),
            metrics.state_bytes.to_string(),
            metrics.memory_bytes.to_string(),
            info.address.clone(),
        ]);
    }
    writeln!(stdout(), "\n{table}")?;
    Ok(())
}

fn print_checkpoints(answer: &v1::GetJobResponse) -> std::io::Result<()> {
    let mut table = table(&[
        "CHECKPOINT",
        "COMPLETED",
        "TOOK MS",
        "BYTES",
        "UPLOADED",
        "PATH",
    ]);
    for checkpoint in &answer.checkpoints {
        table.add_row([
            checkpoint.checkpoint_id.to_string(),
            time(checkpoint.completed_ms),
            checkpoint.duration_ms.to_string(),
            checkpoint.state_bytes.to_string(),
            checkpoint.uploaded_bytes.to_string(),
            checkpoint.path.clone(),
        ]);
    }
    writeln!(stdout(), "\n{table}")?;
    Ok(())
}

pub async fn cancel(config: &Config, command: JobCommand) -> anyhow::Result<()> {
    let mut client = JobClient::new(config, &command.cluster.jobmanager)?;
    let request = v1::CancelJobRequest {
        job_id: command.job,
    };
    client
        .call(CALL_TIMEOUT, async |mut client| {
            Ok(client.cancel_job(request.clone()).await?.into_inner())
        })
        .await?;
    Ok(())
}

pub async fn savepoint(config: &Config, command: SavepointCommand) -> anyhow::Result<()> {
    let mut client = JobClient::new(config, &command.cluster.jobmanager)?;
    let request = v1::TriggerSavepointRequest {
        job_id: command.job,
        directory: absolute(command.directory)?,
        request_id: uuid::Uuid::new_v4().to_string(),
    };
    let answer = client
        .call(SAVEPOINT_TIMEOUT, async |mut client| {
            Ok(client
                .trigger_savepoint(request.clone())
                .await?
                .into_inner())
        })
        .await?;
    print_path(command.cluster.format, &answer.path)?;
    Ok(())
}

pub async fn stop(config: &Config, command: StopCommand) -> anyhow::Result<()> {
    let mut client = JobClient::new(config, &command.cluster.jobmanager)?;
    let directory = absolute(command.savepoint)?;
    let path = stop_job(&mut client, command.job, directory).await?;
    print_path(command.cluster.format, &path)?;
    Ok(())
}

/// Stops a job behind a savepoint in `directory` (empty: the job's, or the cluster's default); gives its path.
pub async fn stop_job(
    client: &mut JobClient,
    job_id: String,
    directory: String,
) -> anyhow::Result<String> {
    let request = v1::StopJobRequest {
        job_id,
        savepoint_directory: directory,
        request_id: uuid::Uuid::new_v4().to_string(),
    };
    let answer = client
        .call(SAVEPOINT_TIMEOUT, async |mut client| {
            Ok(client.stop_job(request.clone()).await?.into_inner())
        })
        .await?;
    Ok(answer.savepoint_path)
}

pub async fn rescale(config: &Config, command: RescaleCommand) -> anyhow::Result<()> {
    let mut client = JobClient::new(config, &command.cluster.jobmanager)?;
    let request = v1::RescaleJobRequest {
        job_id: command.job,
        parallelism: command.parallelism,
    };
    client
        .call(SAVEPOINT_TIMEOUT, async |mut client| {
            Ok(client.rescale_job(request.clone()).await?.into_inner())
        })
        .await?;
    Ok(())
}

fn print_path(format: OutputFormat, path: &str) -> std::io::Result<()> {
    match format {
        OutputFormat::Text => writeln!(stdout(), "{path}")?,
        OutputFormat::Json => writeln!(stdout(), "{}", serde_json::json!({ "path": path }))?,
    }
    Ok(())
}

/// A relative path means the caller's folder, not the job manager's.
fn absolute(directory: Option<String>) -> anyhow::Result<String> {
    match directory {
        None => Ok(String::new()),
        Some(url) if url.contains("://") => Ok(url),
        Some(path) => Ok(std::path::absolute(path)?.to_string_lossy().into_owned()),
    }
}
