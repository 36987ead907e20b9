//! What a job tells its task managers: each call goes to all that the attempt runs on, at the same time.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tonic::{Code, Status};
use weir_common::backoff::Backoff;
use weir_common::limits::CONTROL_CALL_TIMEOUT;
use weir_proto::v1;

use super::deployment::Deployment;
use super::placement::Placement;
use crate::task_managers::{TaskManagers, call};

/// A task manager that does not tear an attempt down in this time is not waited for; it is told again with its next heartbeat.
const TEAR_DOWN_TIMEOUT: Duration = Duration::from_secs(15);
const LEASE_POLL: Duration = Duration::from_millis(50);
/// Commits may have to wait for systems outside.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(120);
/// The job runs meanwhile.
const FETCH_TIMEOUT: Duration = Duration::from_secs(600);
/// Calls of one kind that are under way: requests are made only then, they can be large.
const CALLS: usize = 256;
/// Tries of the notification that a checkpoint is complete.
const NOTIFY_TRIES: u32 = 3;

/// An attempt, and where it runs.
#[derive(Clone)]
pub struct Attempt {
    /// Carried by every call.
    pub fence: v1::Fence,
    /// Slot k has subtask k of every vertex.
    pub slots: Arc<Placement>,
}

impl Attempt {
    fn task_managers(&self) -> BTreeMap<&str, &str> {
        self.slots
            .iter()
            .map(|slot| (slot.task_manager_id.as_str(), slot.address.as_str()))
            .collect()
    }

    /// Calls all task managers, so many at a time; the errors with their names.
    async fn on_all<'a, F, R>(&'a self, each: F) -> Vec<(String, Status)>
    where
        F: Fn(&'a str, &'a str) -> R,
        R: Future<Output = Result<(), Status>>,
    {
        let (each, permits) = (&each, &Semaphore::new(CALLS));
        let calls = self
            .task_managers()
            .into_iter()
            .map(|(id, address)| async move {
                // Never closed.
                let _permit = permits.acquire().await;
                (id, each(id, address).await)
            });
        let results = join_all(calls).await;
        results
            .into_iter()
            .filter_map(|(id, result)| result.err().map(|status| (id.to_owned(), status)))
            .collect()
    }
}

fn describe(errors: &[(String, Status)]) -> String {
    let each: Vec<String> = errors
        .iter()
        .map(|(id, status)| format!("task manager {id}: {}", status.message()))
        .collect();
    each.join("; ")
}

/// Why a deployment failed.
pub struct DeployError {
    /// With the names of the task managers.
    pub reason: String,
    /// Another try may help.
    pub passing: bool,
    /// Those that did not answer at all.
    pub unreached: Vec<String>,
}

/// Deploys an attempt.
pub async fn deploy(
    pool: &TaskManagers,
    attempt: &Attempt,
    graph: &v1::JobGraph,
    restore: Option<v1::RestoreFrom>,
    checkpoint_base: &str,
) -> Result<(), DeployError> {
    let common = v1::DeployRequest {
        fence: Some(attempt.fence.clone()),
        graph: Some(graph.clone()),
        restore,
        checkpoint_base: checkpoint_base.to_owned(),
        ..Default::default()
    };
    let deployment = Deployment::new(common, &attempt.slots);
    let errors = attempt
        .on_all(|id, address| {
            let request = deployment.for_task_manager(id);
            async move {
                let mut client = pool.client(address)?;
                call("Deploy", CONTROL_CALL_TIMEOUT, client.deploy(request)).await?;
                Ok(())
            }
        })
        .await;
    if errors.is_empty() {
        return Ok(());
    }
    let fatal = |status: &Status| status.code() == Code::InvalidArgument;
    let silent =
        |status: &Status| matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded);
    Err(DeployError {
        reason: format!("deployment failed: {}", describe(&errors)),
        passing: !errors.iter().any(|(_, status)| fatal(status)),
        unreached: errors
            .iter()
            .filter(|(_, status)| silent(status))
            .map(|(id, _)| id.clone())
            .collect(),
    })
}

/// Has all task managers of the attempt that `next` will be bring the state here that they will need. `next` carries the fence of the one that runs.
pub async fn fetch_state(
    pool: &TaskManagers,
    next: &Attempt,
    graph: v1::JobGraph,
    restore: Option<v1::RestoreFrom>,
) {
    let common = v1::DeployRequest {
        graph: Some(graph),
        restore,
        ..Default::default()
    };
    let deployment = Deployment::new(common, &next.slots);
    let errors = next
        .on_all(|id, address| {
            let restore = deployment.restore_of(id);
            async move {
                let request = v1::FetchStateRequest {
                    fence: Some(next.fence.clone()),
                    restore: Some(restore.unwrap_or_default()),
                };
                let mut client = pool.client(address)?;
                call("FetchState", FETCH_TIMEOUT, client.fetch_state(request)).await?;
                Ok(())
            }
        })
        .await;
    for (id, status) in &errors {
        tracing::info!(
            job = %next.fence.job_id,
            "task manager {id} did not fetch the next attempt's state: {}", status.message()
        );
    }
}

/// Starts a checkpoint on all task managers.
pub async fn trigger(
    pool: &TaskManagers,
    attempt: &Attempt,
    request: v1::TriggerCheckpointRequest,
) -> Result<(), String> {
    let errors = attempt
        .on_all(|_, address| {
            let request = request.clone();
            async move {
                let mut client = pool.client(address)?;
                let triggered = client.trigger_checkpoint(request);
                call("TriggerCheckpoint", CONTROL_CALL_TIMEOUT, triggered).await?;
                Ok(())
            }
        })
        .await;
    if errors.is_empty() {
        return Ok(());
    }
    Err(format!("could not be triggered: {}", describe(&errors)))
}

/// Says that a checkpoint is complete, or never will be.
pub async fn notify(
    pool: &TaskManagers,
    attempt: &Attempt,
    checkpoint_id: u64,
    completed: bool,
) -> Result<(), String> {
    let errors = attempt
        .on_all(|_, address| notify_one(pool, attempt, address, checkpoint_id, completed))
        .await;
    if errors.is_empty() {
        return Ok(());
    }
    Err(describe(&errors))
}

async fn notify_one(
    pool: &TaskManagers,
    attempt: &Attempt,
    address: &str,
    checkpoint_id: u64,
    completed: bool,
) -> Result<(), Status> {
    let mut tries = 0;
    loop {
        tries += 1;
        let request = v1::NotifyCheckpointRequest {
            fence: Some(attempt.fence.clone()),
            checkpoint_id,
            completed,
        };
        let mut client = pool.client(address)?;
        let notified = client.notify_checkpoint(request);
        match call("NotifyCheckpoint", COMMIT_TIMEOUT, notified).await {
            Ok(_) => return Ok(()),
            // Commits are idempotent: a lost answer is asked for again.
            Err(status)
                if status.code() == Code::Unavailable && tries < NOTIFY_TRIES && completed =>
            {
                tokio::time::sleep(Backoff::CALLS.delay_jittered(tries)).await;
            }
            Err(status) => return Err(status),
        }
    }
}

/// Tears the attempt down on those task managers that `lives` says are there; gives those that could not be reached. One whose lease
/// ends meanwhile is not waited for: should it come back, it is told to tear down before anything else.
pub async fn tear_down(
    pool: &TaskManagers,
    attempt: &Attempt,
    lives: impl Fn(&str) -> bool,
) -> Vec<String> {
    let lives = &lives;
    let errors = attempt
        .on_all(|id, address| async move {
            let request = v1::CancelRequest {
                fence: Some(attempt.fence.clone()),
            };
            let mut client = pool.client(address)?;
            tokio::select! {
                answer = call("Cancel", TEAR_DOWN_TIMEOUT, client.cancel(request)) => answer.map(drop),
                () = until_gone(id, lives) => Ok(()),
            }
        })
        .await;
    for (id, status) in &errors {
        tracing::info!(
            job = %attempt.fence.job_id, attempt = attempt.fence.attempt,
            "task manager {id} did not tear the attempt down: {}", status.message()
        );
    }
    errors.into_iter().map(|(id, _)| id).collect()
}

async fn until_gone(id: &str, lives: impl Fn(&str) -> bool) {
    while lives(id) {
        tokio::time::sleep(LEASE_POLL).await;
    }
}

/// Lets all subtasks end; gives their last figures.
pub async fn finish(
    pool: &TaskManagers,
    attempt: &Attempt,
) -> Result<Vec<v1::SubtaskStatus>, String> {
    let ended = Mutex::new(Vec::new());
    let ended_here = &ended;
    let errors = attempt
        .on_all(|_, address| async move {
            let request = v1::FinishRequest {
                fence: Some(attempt.fence.clone()),
            };
            let mut client = pool.client(address)?;
            let answer = call("Finish", CONTROL_CALL_TIMEOUT, client.finish(request)).await?;
            ended_here.lock().extend(answer.subtasks);
            Ok(())
        })
        .await;
    if errors.is_empty() {
        return Ok(ended.into_inner());
    }
    Err(describe(&errors))
}
