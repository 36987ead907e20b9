//! JobManagerControl: what task managers say. Refuses whoever is not registered and whatever is not of a current attempt.

use tonic::{Request, Response, Status};
use weir_common::metric_names;
use weir_proto::v1;
use weir_proto::v1::job_manager_control_server::JobManagerControl;

use super::raft_service::check_cluster;
use crate::checkpoint::coordinator::Event;
use crate::job::action::Input;
use crate::job::driver::{JobHandle, Message};
use crate::leader::Leader;
use crate::leadership::Leadership;

/// More slots than this on one task manager are a mistake.
const SLOTS_MAX: u32 = 4096;

const REPORT: &str = "report";
const NO_SUBTASK: &str =
    "no subtask is named: this task manager has another version of Weir than the job manager";

/// See the file's head.
pub struct ControlService {
    /// Name of the cluster.
    pub cluster_id: String,
    /// Who leads.
    pub leader: Leader,
    /// How often task managers are to report.
    pub heartbeat_interval_ms: u64,
}

#[tonic::async_trait]
impl JobManagerControl for ControlService {
    async fn register_task_manager(
        &self,
        request: Request<v1::RegisterTaskManagerRequest>,
    ) -> Result<Response<v1::RegisterTaskManagerResponse>, Status> {
        let request = request.into_inner();
        check_cluster(&self.cluster_id, &request.cluster_id, "task manager")?;
        if request.task_manager_id.is_empty() || request.address.is_empty() {
            return Err(Status::invalid_argument(
                "a task manager needs an id and an address",
            ));
        }
        if request.slots == 0 || request.slots > SLOTS_MAX {
            return Err(Status::invalid_argument(format!(
                "a task manager has from 1 to {SLOTS_MAX} slots, not {}",
                request.slots
            )));
        }
        let leader = self.leader.get()?;
        let replaced =
            leader
                .members
                .lock()
                .register(&request, leader.lease_ms(), leader.clock.now_ms());
        tracing::info!(
            task_manager = %request.task_manager_id, address = %request.address, slots = request.slots,
            "task manager registered"
        );
        // A new process: the connection to its predecessor is dead.
        leader.task_managers.forget(&request.address);
        leader.lost(&replaced).await;
        leader.watch(&request.task_manager_id, &request.address);
        leader.heard(&request.task_manager_id, &request.address, &request.running);
        let stale = leader.stale(&request.running);
        log_stale(&request.task_manager_id, &stale);
        Ok(Response::new(v1::RegisterTaskManagerResponse {
            leader_term: leader.term,
            heartbeat_interval_ms: self.heartbeat_interval_ms,
            heartbeat_timeout_ms: u64::try_from(leader.heartbeat_timeout_ms).unwrap_or_default(),
            stale,
        }))
    }

    async fn heartbeat(
        &self,
        request: Request<v1::HeartbeatRequest>,
    ) -> Result<Response<v1::HeartbeatResponse>, Status> {
        let request = request.into_inner();
        check_cluster(&self.cluster_id, &request.cluster_id, "task manager")?;
        let leader = self.leader.get()?;
        let (known, address) = {
            let mut members = leader.members.lock();
            let known = members.heartbeat(&request, leader.lease_ms(), leader.clock.now_ms());
            (known, members.address_of(&request.task_manager_id))
        };
        match address {
            Some(address) => {
                leader.heard(&request.task_manager_id, &address, &request.running);
            }
            None => {
                metrics::counter!(metric_names::FENCED, "what" => "heartbeat").increment(1);
                tracing::warn!(
                    task_manager = %request.task_manager_id,
                    "refused heartbeat: its lease has ended, it has to register again"
                );
            }
        }
        let stale = leader.stale(&request.running);
        log_stale(&request.task_manager_id, &stale);
        let (drained, cannot_drain) = if request.draining && known {
            leader.drained(&request.task_manager_id)
        } else {
            Default::default()
        };
        Ok(Response::new(v1::HeartbeatResponse {
            leader_term: leader.term,
            register_again: !known,
            stale,
            drained,
            cannot_drain,
        }))
    }

    async fn report_subtask(
        &self,
        request: Request<v1::ReportSubtaskRequest>,
    ) -> Result<Response<v1::ReportSubtaskResponse>, Status> {
        let request = request.into_inner();
        let (_, job) = self.admit(REPORT, request.fence.as_ref(), &request.task_manager_id)?;
        if request.subtasks.is_empty() {
            return Err(Status::invalid_argument(NO_SUBTASK));
        }
        for report in request.subtasks {
            let Some(subtask) = report.subtask else {
                return Err(Status::invalid_argument(NO_SUBTASK));
            };
            let input = Input::Subtask {
                subtask: subtask.into(),
                state: report.state(),
                error: report.error,
                fatal: report.fatal,
            };
            deliver(&job, input).await?;
        }
        Ok(Response::new(v1::ReportSubtaskResponse {}))
    }

    async fn acknowledge_checkpoint(
        &self,
        request: Request<v1::AcknowledgeCheckpointRequest>,
    ) -> Result<Response<v1::AcknowledgeCheckpointResponse>, Status> {
        let request = request.into_inner();
        let (attempt, job) = self.admit(
            "acknowledgement",
            request.fence.as_ref(),
            &request.task_manager_id,
        )?;
        let job_id = request.fence.map_or_else(String::new, |fence| fence.job_id);
        let alignment = metrics::histogram!(metric_names::CHECKPOINT_ALIGNMENT, "job" => job_id);
        if request.subtasks.is_empty() {
            return Err(Status::invalid_argument(NO_SUBTASK));
        }
        for acknowledgement in request.subtasks {
            let Some(subtask) = acknowledgement.subtask else {
                return Err(Status::invalid_argument(NO_SUBTASK));
            };
            alignment.record(acknowledgement.alignment_ms as f64);
            let event = Event::Acknowledged {
                id: acknowledgement.checkpoint_id,
                subtask: subtask.into(),
                operators: acknowledgement.operators,
            };
            deliver(&job, Input::Checkpoint(attempt, event)).await?;
        }
        Ok(Response::new(v1::AcknowledgeCheckpointResponse {}))
    }

    async fn decline_checkpoint(
        &self,
        request: Request<v1::DeclineCheckpointRequest>,
    ) -> Result<Response<v1::DeclineCheckpointResponse>, Status> {
        let request = request.into_inner();
        let (attempt, job) =
            self.admit("decline", request.fence.as_ref(), &request.task_manager_id)?;
        let who = request
            .subtask
            .map(|subtask| weir_common::ids::SubtaskId::from(subtask).to_string())
            .unwrap_or_default();
        tracing::warn!(
            attempt,
            checkpoint = request.checkpoint_id,
            "subtask {who} declined the checkpoint: {}",
            request.reason
        );
        let event = Event::Declined {
            id: request.checkpoint_id,
            reason: request.reason,
        };
        deliver(&job, Input::Checkpoint(attempt, event)).await?;
        Ok(Response::new(v1::DeclineCheckpointResponse {}))
    }
}

impl ControlService {
    /// The job that a message is about, if it is of its current attempt and from a registered task manager.
    fn admit(
        &self,
        what: &'static str,
        fence: Option<&v1::Fence>,
        task_manager_id: &str,
    ) -> Result<(u64, JobHandle), Status> {
        let fence = fence.ok_or_else(|| Status::invalid_argument("a message without a fence"))?;
        check_cluster(&self.cluster_id, &fence.cluster_id, "task manager")?;
        let leader = self.leader.get()?;
        let refuse = |why: String| {
            metrics::counter!(metric_names::FENCED, "what" => what).increment(1);
            tracing::warn!(
                job = %fence.job_id, attempt = fence.attempt, task_manager = %task_manager_id,
                "refused {what}: {why}"
            );
            Err(Status::failed_precondition(format!("refused: {why}")))
        };
        if fence.leader_term > leader.term {
            return refuse(format!(
                "it knows leader term {}, this leader's is {}",
                fence.leader_term, leader.term
            ));
        }
        if !leader.members.lock().knows(task_manager_id) {
            return refuse(format!(
                "task manager {task_manager_id} is not registered with this leader"
            ));
        }
        current_attempt(&leader, fence, what).or_else(refuse)
    }
}

/// An attempt that runs on although it is over: usual for a moment while it is torn down, and what a task manager that comes back from
/// the dead brings along.
fn log_stale(task_manager_id: &str, stale: &[v1::RunningAttempt]) {
    for attempt in stale {
        tracing::info!(
            job = %attempt.job_id, attempt = attempt.attempt, task_manager = %task_manager_id,
            "attempt is over and is to be torn down"
        );
    }
}

/// `what` may also be a report of an attempt that has just failed: other subtasks follow it, and the cause can be among them.
fn current_attempt(
    leader: &Leadership,
    fence: &v1::Fence,
    what: &str,
) -> Result<(u64, JobHandle), String> {
    let Some(job) = leader.job(&fence.job_id) else {
        return Err(format!("job {} does not run", fence.job_id));
    };
    let status = job.status();
    if what == REPORT && status.attempt == fence.attempt {
        return Ok((fence.attempt, job));
    }
    match status.accepts {
        Some(attempt) if attempt == fence.attempt => Ok((attempt, job)),
        Some(attempt) => Err(format!(
            "attempt {} of job {} is over, the current one is {attempt}",
            fence.attempt, fence.job_id
        )),
        None => Err(format!(
            "attempt {} of job {} is over",
            fence.attempt, fence.job_id
        )),
    }
}

async fn deliver(job: &JobHandle, input: Input) -> Result<(), Status> {
    if job.send(Message::Input(input)).await {
        return Ok(());
    }
    Err(Status::unavailable("the job changes hands; try again"))
}
