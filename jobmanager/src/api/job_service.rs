//! JobService: what users call.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::oneshot;
use tonic::{Request, Response, Status};
use weir_common::ids::JobId;
use weir_proto::v1;
use weir_proto::v1::job_service_server::JobService;
use weir_snapshot::{Store, paths};

use super::{job_status, submit};
use crate::error::propose_status;
use crate::job::driver::{JobHandle, Message, Reply};
use crate::leader::Leader;
use crate::leadership::Leadership;
use crate::membership;
use crate::meta::view::{has_ended, state_name};
use crate::validate;

/// See the file's head.
pub struct Jobs {
    /// Name of the cluster.
    pub cluster_id: String,
    /// Who leads.
    pub leader: Leader,
    /// Defaults of jobs, under Flink's keys.
    pub job_defaults: BTreeMap<String, String>,
    /// HOST:PORT of this member.
    pub advertised: String,
}

#[tonic::async_trait]
impl JobService for Jobs {
    async fn submit_job(
        &self,
        request: Request<v1::SubmitJobRequest>,
    ) -> Result<Response<v1::SubmitJobResponse>, Status> {
        let leader = self.leader.get()?;
        let job_ids = submit::submit(&leader, &self.job_defaults, request.into_inner()).await?;
        let view = leader.raft.view();
        let records: Vec<_> = {
            let view = view.read();
            job_ids.iter().filter_map(|id| view.job(id)).collect()
        };
        let graphs = records.iter().filter_map(|record| record.graph.as_ref());
        let warnings = graphs.flat_map(|graph| graph.warnings.clone()).collect();
        Ok(Response::new(v1::SubmitJobResponse { job_ids, warnings }))
    }

    async fn list_jobs(
        &self,
        _request: Request<v1::ListJobsRequest>,
    ) -> Result<Response<v1::ListJobsResponse>, Status> {
        let leader = self.current().await?;
        let records: Vec<_> = leader.raft.view().read().jobs().cloned().collect();
        let jobs = records
            .iter()
            .map(|record| {
                let status = leader.job(&record.job_id).map(|job| job.status());
                job_status::summary(record, status.as_ref())
            })
            .collect();
        Ok(Response::new(v1::ListJobsResponse { jobs }))
    }

    async fn get_job(
        &self,
        request: Request<v1::GetJobRequest>,
    ) -> Result<Response<v1::GetJobResponse>, Status> {
        let leader = self.current().await?;
        let record = record(&leader, &request.into_inner().job_id)?;
        Ok(Response::new(job_status::details(&leader, &record)))
    }

    async fn cancel_job(
        &self,
        request: Request<v1::CancelJobRequest>,
    ) -> Result<Response<v1::CancelJobResponse>, Status> {
        let leader = self.leader.get()?;
        let record = record(&leader, &request.into_inner().job_id)?;
        match record.state() {
            v1::JobState::Canceled => return Ok(Response::new(v1::CancelJobResponse {})),
            state if has_ended(state) => return Err(ended(&record)),
            _ => {}
        }
        let job = running(&leader, &record)?;
        ask(&job, Message::Cancel).await?;
        Ok(Response::new(v1::CancelJobResponse {}))
    }

    async fn trigger_savepoint(
        &self,
        request: Request<v1::TriggerSavepointRequest>,
    ) -> Result<Response<v1::TriggerSavepointResponse>, Status> {
        let request = request.into_inner();
        let leader = self.leader.get()?;
        let record = active(&leader, &request.job_id)?;
        let base = savepoint_folder(&leader, &record, &request.directory)?;
        let job = running(&leader, &record)?;
        let path = ask(&job, |reply| Message::Savepoint(base, reply)).await?;
        Ok(Response::new(v1::TriggerSavepointResponse { path }))
    }

    async fn stop_job(
        &self,
        request: Request<v1::StopJobRequest>,
    ) -> Result<Response<v1::StopJobResponse>, Status> {
        let request = request.into_inner();
        let leader = self.leader.get()?;
        let record = record(&leader, &request.job_id)?;
        if has_ended(record.state()) {
            // The answer to the first try of the same request was lost.
            let same = !request.request_id.is_empty()
                && record.stop_request_id == request.request_id
                && record.state() == v1::JobState::Finished;
            let savepoint = record.checkpoints.iter().rev().find(|c| c.savepoint);
            return match savepoint {
                Some(savepoint) if same => Ok(Response::new(v1::StopJobResponse {
                    savepoint_path: savepoint.path.clone(),
                })),
                _ => Err(ended(&record)),
            };
        }
        let base = savepoint_folder(&leader, &record, &request.savepoint_directory)?;
        let job = running(&leader, &record)?;
        let request_id = match request.request_id {
            id if id.is_empty() => uuid::Uuid::new_v4().simple().to_string(),
            id => id,
        };
        let savepoint_path = ask(&job, |reply| Message::Stop(base, request_id, reply)).await?;
        Ok(Response::new(v1::StopJobResponse { savepoint_path }))
    }

    async fn rescale_job(
        &self,
        request: Request<v1::RescaleJobRequest>,
    ) -> Result<Response<v1::RescaleJobResponse>, Status> {
        let request = request.into_inner();
        let leader = self.leader.get()?;
        let record = active(&leader, &request.job_id)?;
        let mut graph = record.graph.clone().unwrap_or_default();
        if graph.adaptive.is_some() {
            return Err(Status::failed_precondition(
                "the job's parallelism follows the slots there are ('jobmanager.scheduler', 'scheduler-mode'): start or stop task managers, \
                 or stop it with a savepoint and start it with another 'parallelism.default'",
            ));
        }
        validate::set_parallelism(&mut graph, request.parallelism);
        validate::graph(&graph).map_err(Status::invalid_argument)?;
        let needed = graph.vertices.iter().map(|vertex| vertex.parallelism).max();
        let needed = needed.unwrap_or_default() as usize;
        let open = leader.members.lock().open_to(&record.job_id).open_slots;
        if needed > open {
            return Err(Status::failed_precondition(format!(
                "the job would need {needed} slots, {open} are there for it: start task managers first"
            )));
        }
        let job = running(&leader, &record)?;
        ask(&job, |reply| Message::Rescale(request.parallelism, reply)).await?;
        Ok(Response::new(v1::RescaleJobResponse {}))
    }

    async fn get_cluster(
        &self,
        _request: Request<v1::GetClusterRequest>,
    ) -> Result<Response<v1::GetClusterResponse>, Status> {
        let leader = self.current().await?;
        let job_managers = leader.raft.members();
        let active = leader.raft.active().await;
        let active = active.map_err(|error| propose_status(&error))?;
        let members = leader.members.lock();
        let task_managers = members
            .iter()
            .map(|(id, member)| v1::TaskManagerInfo {
                task_manager_id: id.clone(),
                address: member.address.clone(),
                slots: member.slots,
                free_slots: members.free_slots(id),
                last_heartbeat_ms: member.heard_wall_ms,
                draining: member.draining,
            })
            .collect();
        Ok(Response::new(v1::GetClusterResponse {
            cluster_id: self.cluster_id.clone(),
            leader: self.advertised.clone(),
            leader_term: leader.term,
            task_managers,
            job_managers: job_managers.iter().map(|m| m.address.clone()).collect(),
            job_manager_infos: job_managers
                .into_iter()
                .map(|member| v1::JobManagerInfo {
                    id: member.id,
                    voter: member.role() == v1::JobManagerRole::Voter,
                    active: active.contains(&member.id),
                    address: member.address,
                })
                .collect(),
        }))
    }

    async fn add_job_manager(
        &self,
        request: Request<v1::AddJobManagerRequest>,
    ) -> Result<Response<v1::AddJobManagerResponse>, Status> {
        let request = request.into_inner();
        let leader = self.leader.get()?;
        membership::add(&leader, request.id, &request.address).await?;
        Ok(Response::new(v1::AddJobManagerResponse {}))
    }

    async fn remove_job_manager(
        &self,
        request: Request<v1::RemoveJobManagerRequest>,
    ) -> Result<Response<v1::RemoveJobManagerResponse>, Status> {
        let leader = self.leader.get()?;
        membership::remove(&leader, request.into_inner().id).await?;
        Ok(Response::new(v1::RemoveJobManagerResponse {}))
    }
}

impl Jobs {
    /// The leadership, once it is certain that nobody else has led meanwhile: what is read then is as new as the call.
    async fn current(&self) -> Result<Arc<Leadership>, Status> {
        let leader = self.leader.get()?;
        let confirmed = leader.raft.read_barrier().await;
        confirmed.map_err(|error| propose_status(&error))?;
        Ok(leader)
    }
}

fn record(leader: &Leadership, job_id: &str) -> Result<Arc<v1::JobRecord>, Status> {
    let id: JobId = job_id
        .parse()
        .map_err(|error: weir_common::ids::InvalidJobId| {
            Status::invalid_argument(error.to_string())
        })?;
    leader
        .raft
        .view()
        .read()
        .job(id.as_str())
        .ok_or_else(|| Status::not_found(format!("there is no job {id}")))
}

/// A job that has not ended.
fn active(leader: &Leadership, job_id: &str) -> Result<Arc<v1::JobRecord>, Status> {
    let record = record(leader, job_id)?;
    match has_ended(record.state()) {
        true => Err(ended(&record)),
        false => Ok(record),
    }
}

fn ended(record: &v1::JobRecord) -> Status {
    Status::failed_precondition(format!(
        "job {} has ended, it is {}",
        record.job_id,
        state_name(record.state())
    ))
}

fn running(leader: &Arc<Leadership>, record: &v1::JobRecord) -> Result<JobHandle, Status> {
    leader
        .job(&record.job_id)
        .ok_or_else(|| Status::unavailable("the job changes hands; try again"))
}

/// The new folder for a savepoint: below the one of the request, else the job's.
fn savepoint_folder(
    leader: &Leadership,
    record: &v1::JobRecord,
    directory: &str,
) -> Result<String, Status> {
    let default = record
        .graph
        .as_ref()
        .and_then(|graph| graph.checkpoint.as_ref())
        .map(|checkpoint| checkpoint.savepoint_directory.as_str())
        .unwrap_or_default();
    let directory = if directory.is_empty() {
        default
    } else {
        directory
    };
    if directory.is_empty() {
        return Err(Status::invalid_argument(
            "no folder for the savepoint: name one, or set 'execution.checkpointing.savepoint-dir' for the job",
        ));
    }
    let store = Store::open(directory, &leader.s3)
        .map_err(|error| Status::invalid_argument(error.to_string()))?;
    let id: JobId = record
        .job_id
        .parse()
        .map_err(|_| Status::internal("the job's id is damaged"))?;
    Ok(paths::new_savepoint_folder(store.url(), &id))
}

async fn ask<T>(job: &JobHandle, message: impl FnOnce(Reply<T>) -> Message) -> Result<T, Status> {
    let (reply, answer) = oneshot::channel();
    let gone = || Status::unavailable("the job changes hands; try again");
    if !job.send(message(reply)).await {
        return Err(gone());
    }
    match answer.await {
        Ok(result) => result.map_err(Status::failed_precondition),
        Err(_) => Err(gone()),
    }
}
