//! Takes what task managers say, keeps it for the test, and sends them what the test says.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Channel, Server};
use tonic::{Request, Response, Status};
use weir_common::clock::Clock;
use weir_proto::transport::connect;
use weir_proto::v1;
use weir_proto::v1::job_manager_control_server::{JobManagerControl, JobManagerControlServer};
use weir_proto::v1::task_manager_control_client::TaskManagerControlClient;

pub const CLUSTER: &str = "test";
pub const JOB: &str = "0123456789abcdef0123456789abcdef";

type Answer<T> = Result<Response<T>, Status>;

/// What was heard.
#[derive(Default)]
pub struct Heard {
    pub registrations: Vec<v1::RegisterTaskManagerRequest>,
    /// With their attempts.
    pub reports: Vec<(u64, v1::SubtaskReport)>,
    pub acknowledgements: Vec<v1::SubtaskAcknowledgement>,
    /// Leader terms that they came with.
    pub acknowledged_terms: Vec<u64>,
    pub declines: Vec<v1::DeclineCheckpointRequest>,
    pub heartbeats: BTreeMap<String, v1::HeartbeatRequest>,
    /// Attempts that are not wanted any more.
    pub stale: Vec<v1::RunningAttempt>,
    /// Acknowledgements of attempts below this are refused.
    pub oldest_attempt: u64,
    /// How many were.
    pub refused: u32,
    /// It does not lead (any more): all calls are answered with this hint.
    pub follows: Option<String>,
    /// Its term.
    pub term: u64,
}

impl Heard {
    fn check_leading(&self) -> Result<(), Status> {
        let Some(leader) = &self.follows else {
            return Ok(());
        };
        let mut status = Status::unavailable("not the leader");
        status
            .metadata_mut()
            .insert("weir-leader", leader.parse().unwrap());
        Err(status)
    }

    fn check_fence(&mut self, fence: Option<&v1::Fence>) -> Result<(), Status> {
        self.check_leading()?;
        if fence.is_none_or(|fence| fence.attempt < self.oldest_attempt) {
            self.refused += 1;
            return Err(Status::failed_precondition("an older attempt"));
        }
        Ok(())
    }
}

#[derive(Clone, Default)]
pub struct Master {
    heard: Arc<Mutex<Heard>>,
}

#[tonic::async_trait]
impl JobManagerControl for Master {
    async fn register_task_manager(
        &self,
        request: Request<v1::RegisterTaskManagerRequest>,
    ) -> Answer<v1::RegisterTaskManagerResponse> {
        let mut heard = self.heard.lock().unwrap();
        heard.check_leading()?;
        heard.registrations.push(request.into_inner());
        Ok(Response::new(v1::RegisterTaskManagerResponse {
            leader_term: heard.term,
            heartbeat_interval_ms: 50,
            heartbeat_timeout_ms: 1000,
            stale: Vec::new(),
        }))
    }

    async fn heartbeat(
        &self,
        request: Request<v1::HeartbeatRequest>,
    ) -> Answer<v1::HeartbeatResponse> {
        let request = request.into_inner();
        let mut heard = self.heard.lock().unwrap();
        heard.check_leading()?;
        heard
            .heartbeats
            .insert(request.task_manager_id.clone(), request);
        Ok(Response::new(v1::HeartbeatResponse {
            leader_term: heard.term,
            register_again: false,
            stale: heard.stale.clone(),
            ..Default::default()
        }))
    }

    async fn report_subtask(
        &self,
        request: Request<v1::ReportSubtaskRequest>,
    ) -> Answer<v1::ReportSubtaskResponse> {
        let request = request.into_inner();
        let mut heard = self.heard.lock().unwrap();
        heard.check_fence(request.fence.as_ref())?;
        let attempt = request.fence.map_or(0, |fence| fence.attempt);
        let reports = request.subtasks.into_iter();
        heard
            .reports
            .extend(reports.map(|report| (attempt, report)));
        Ok(Response::new(v1::ReportSubtaskResponse {}))
    }

    async fn acknowledge_checkpoint(
        &self,
        request: Request<v1::AcknowledgeCheckpointRequest>,
    ) -> Answer<v1::AcknowledgeCheckpointResponse> {
        let request = request.into_inner();
        let mut heard = self.heard.lock().unwrap();
        heard.check_fence(request.fence.as_ref())?;
        let term = request.fence.map_or(0, |fence| fence.leader_term);
        for acknowledgement in request.subtasks {
            heard.acknowledged_terms.push(term);
            heard.acknowledgements.push(acknowledgement);
        }
        Ok(Response::new(v1::AcknowledgeCheckpointResponse {}))
    }

    async fn decline_checkpoint(
        &self,
        request: Request<v1::DeclineCheckpointRequest>,
    ) -> Answer<v1::DeclineCheckpointResponse> {
        let request = request.into_inner();
        let mut heard = self.heard.lock().unwrap();
        heard.check_fence(request.fence.as_ref())?;
        heard.declines.push(request);
        Ok(Response::new(v1::DeclineCheckpointResponse {}))
    }
}

/// Repeats until it gives something, at most 30 seconds.
pub async fn until<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    for _ in 0..6000 {
        if let Some(value) = attempt() {
            return value;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("not within 30 seconds: {what}")
}

pub fn fence(attempt: u64, term: u64) -> v1::Fence {
    v1::Fence {
        cluster_id: CLUSTER.to_owned(),
        job_id: JOB.to_owned(),
        attempt,
        leader_term: term,
    }
}

impl Master {
    /// Serves on a free port; gives the address.
    pub async fn start() -> (Self, String) {
        let master = Self::default();
        master.heard(|heard| heard.term = 1);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = Server::builder().add_service(JobManagerControlServer::new(master.clone()));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        (master, address)
    }

    pub fn heard<T>(&self, look: impl FnOnce(&mut Heard) -> T) -> T {
        look(&mut self.heard.lock().unwrap())
    }

    /// Waits for this many subtasks of the attempt in a state.
    pub async fn all_report(&self, attempt: u64, state: v1::SubtaskState, count: usize) {
        until(
            &format!("{count} subtasks of attempt {attempt} in {state:?}"),
            || {
                self.heard(|heard| {
                    let matching = heard
                        .reports
                        .iter()
                        .filter(|(of, report)| *of == attempt && report.state() == state);
                    (matching.count() >= count).then_some(())
                })
            },
        )
        .await;
    }

    /// Waits for the acknowledgements of a checkpoint; gives the manifest that they make.
    pub async fn manifest(
        &self,
        checkpoint: u64,
        count: usize,
        kind: v1::SnapshotKind,
    ) -> v1::Manifest {
        let acknowledged = until(&format!("{count} acknowledgements of {checkpoint}"), || {
            self.heard(|heard| {
                assert!(heard.declines.is_empty(), "declined: {:?}", heard.declines);
                let own = heard
                    .acknowledgements
                    .iter()
                    .filter(|a| a.checkpoint_id == checkpoint);
                let own: Vec<_> = own.cloned().collect();
                (own.len() >= count).then_some(own)
            })
        })
        .await;
        v1::Manifest {
            job_id: JOB.to_owned(),
            checkpoint_id: checkpoint,
            kind: kind.into(),
            max_parallelism: 128,
            operators: acknowledged.into_iter().flat_map(|a| a.operators).collect(),
            ..v1::Manifest::default()
        }
    }
}

/// A task manager as the master calls it.
#[derive(Clone)]
pub struct Worker {
    pub id: String,
    pub address: String,
    pub client: TaskManagerControlClient<Channel>,
}

impl Worker {
    pub fn new(id: &str, address: &str) -> Self {
        Self {
            id: id.to_owned(),
            address: address.to_owned(),
            client: TaskManagerControlClient::new(connect(address, None).unwrap()),
        }
    }

    pub async fn trigger(
        &self,
        fence: v1::Fence,
        checkpoint: u64,
        target: Option<&str>,
        stop: bool,
    ) -> Result<(), Status> {
        self.trigger_unaligned(fence, checkpoint, target, stop, None)
            .await
    }

    pub async fn trigger_unaligned(
        &self,
        fence: v1::Fence,
        checkpoint: u64,
        target: Option<&str>,
        stop: bool,
        unaligned_after_ms: Option<u64>,
    ) -> Result<(), Status> {
        let kind = match target {
            None => v1::SnapshotKind::Checkpoint,
            Some(_) => v1::SnapshotKind::Savepoint,
        };
        let request = v1::TriggerCheckpointRequest {
            fence: Some(fence),
            checkpoint_id: checkpoint,
            kind: kind.into(),
            timestamp_ms: Clock::System.now_ms(),
            savepoint_base: target.unwrap_or_default().to_owned(),
            stop_sources: stop,
            unaligned_after_ms,
        };
        self.client
            .clone()
            .trigger_checkpoint(request)
            .await
            .map(|_| ())
    }

    pub async fn notify(
        &self,
        fence: v1::Fence,
        checkpoint: u64,
        completed: bool,
    ) -> Result<(), Status> {
        let request = v1::NotifyCheckpointRequest {
            fence: Some(fence),
            checkpoint_id: checkpoint,
            completed,
        };
        self.client
            .clone()
            .notify_checkpoint(request)
            .await
            .map(|_| ())
    }

    pub async fn cancel(&self, fence: v1::Fence) -> Result<(), Status> {
        let request = v1::CancelRequest { fence: Some(fence) };
        self.client.clone().cancel(request).await.map(|_| ())
    }

    pub async fn finish(&self, fence: v1::Fence) -> Result<(), Status> {
        let request = v1::FinishRequest { fence: Some(fence) };
        self.client.clone().finish(request).await.map(|_| ())
    }
}
