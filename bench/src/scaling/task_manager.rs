//! A task manager that runs nothing: over the wire it says what a real one would say, at once.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio_stream::Stream;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};
use weir_common::key_group::KeyGroupRange;
use weir_proto::transport::connect;
use weir_proto::v1;
use weir_proto::v1::job_manager_control_client::JobManagerControlClient;
use weir_proto::v1::task_manager_control_server::{TaskManagerControl, TaskManagerControlServer};
use weir_snapshot::{FileInfo, rescale};

use crate::seen::Seen;
use crate::{CLUSTER, KEY_GROUPS, SOURCE};

type Client = JobManagerControlClient<Channel>;
type Answer<T> = Result<Response<T>, Status>;
/// Vertex and index.
type Subtask = (u32, u32);
/// By job and number.
type Attempts = BTreeMap<(String, u64), BTreeMap<Subtask, v1::SubtaskState>>;
/// A dead leader is not waited for.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);

/// See the file's head. Ends with its token.
#[derive(Clone)]
pub struct FakeTaskManager {
    id: String,
    address: String,
    job_managers: Arc<[String]>,
    leader: Arc<Mutex<Option<Client>>>,
    running: Arc<Mutex<Attempts>>,
    seen: Arc<Seen>,
    /// Of the job's vertices.
    parallelism: Arc<AtomicU32>,
    stop: CancellationToken,
}

impl FakeTaskManager {
    /// Serves, registers and reports.
    pub async fn start(
        index: usize,
        job_managers: Arc<[String]>,
        seen: Arc<Seen>,
        stop: CancellationToken,
    ) -> anyhow::Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let own = Self {
            id: format!("task-manager-{index:05}"),
            address: listener.local_addr()?.to_string(),
            job_managers,
            leader: Arc::default(),
            running: Arc::default(),
            seen,
            parallelism: Arc::default(),
            stop: stop.clone(),
        };
        let server = tonic::transport::Server::builder()
            .tcp_nodelay(true)
            .add_service(
                TaskManagerControlServer::new(own.clone())
                    .max_decoding_message_size(weir_common::limits::CONTROL_MESSAGE_BYTES),
            )
            .serve_with_incoming_shutdown(
                TcpListenerStream::new(listener),
                stop.clone().cancelled_owned(),
            );
        tokio::spawn(server);
        tokio::spawn(stop.run_until_cancelled_owned(own.report()));
        Ok(())
    }

    fn running(&self) -> Vec<v1::RunningAttempt> {
        let running = self.running.lock();
        let attempt = |((job_id, attempt), subtasks): (&(String, u64), &BTreeMap<_, _>)| {
            let status =
                |(&(vertex, index), state): (&Subtask, &v1::SubtaskState)| v1::SubtaskStatus {
                    subtask: Some(v1::SubtaskId { vertex, index }),
                    state: (*state).into(),
                    metrics: Some(v1::SubtaskMetrics {
                        records_in: 1_000_000,
                        records_out: 1_000_000,
                        bytes_in: 1 << 30,
                        bytes_out: 1 << 30,
                        busy_ms: 1_000_000,
                        watermark_ms: 1_700_000_000_000,
                        ..Default::default()
                    }),
                };
            v1::RunningAttempt {
                job_id: job_id.clone(),
                attempt: *attempt,
                subtasks: subtasks.iter().map(status).collect(),
            }
        };
        running.iter().map(attempt).collect()
    }

    fn tear_down(&self, stale: &[v1::RunningAttempt]) {
        let mut running = self.running.lock();
        for attempt in stale {
            running.remove(&(attempt.job_id.clone(), attempt.attempt));
        }
    }

    /// Registers with whoever leads and sends heartbeats, for ever.
    async fn report(self) {
        loop {
            for address in self.job_managers.iter() {
                if let Some((client, interval)) = self.register(address).await {
                    *self.leader.lock() = Some(client.clone());
                    self.heartbeats(client, interval).await;
                    *self.leader.lock() = None;
                }
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn register(&self, address: &str) -> Option<(Client, Duration)> {
        let mut client = JobManagerControlClient::new(connect(address, None).ok()?);
        let request = v1::RegisterTaskManagerRequest {
            cluster_id: CLUSTER.to_owned(),
            task_manager_id: self.id.clone(),
            address: self.address.clone(),
            slots: 1,
            running: self.running(),
            draining: false,
        };
        let call = client.register_task_manager(request);
        let answer = tokio::time::timeout(CALL_TIMEOUT, call).await.ok()?.ok()?;
        let answer = answer.into_inner();
        self.tear_down(&answer.stale);
        self.seen.registrations.fetch_add(1, Ordering::Relaxed);
        Some((client, Duration::from_millis(answer.heartbeat_interval_ms)))
    }

    async fn heartbeats(&self, mut client: Client, interval: Duration) {
        loop {
            tokio::time::sleep(interval).await;
            let request = v1::HeartbeatRequest {
                cluster_id: CLUSTER.to_owned(),
                task_manager_id: self.id.clone(),
                leader_term: 0,
                running: self.running(),
                draining: false,
            };
            let started = Instant::now();
            let call = client.heartbeat(request);
            let Ok(Ok(answer)) = tokio::time::timeout(CALL_TIMEOUT, call).await else {
                return;
            };
            self.seen.heartbeat(started.elapsed());
            let answer = answer.into_inner();
            self.tear_down(&answer.stale);
            if answer.register_again {
                return;
            }
        }
    }

    async fn report_running(&self, fence: &v1::Fence) {
        let key = (fence.job_id.clone(), fence.attempt);
        let subtasks: Vec<Subtask> = match self.running.lock().get_mut(&key) {
            Some(subtasks) => {
                subtasks
                    .values_mut()
                    .for_each(|state| *state = v1::SubtaskState::Running);
                subtasks.keys().copied().collect()
            }
            None => return,
        };
        let Some(mut client) = self.leader.lock().clone() else {
            return;
        };
        let report = |&(vertex, index): &Subtask| v1::SubtaskReport {
            subtask: Some(v1::SubtaskId { vertex, index }),
            state: v1::SubtaskState::Running.into(),
            ..Default::default()
        };
        for subtasks in as_they_come(&subtasks) {
            let request = v1::ReportSubtaskRequest {
                fence: Some(fence.clone()),
                task_manager_id: self.id.clone(),
                subtasks: subtasks.iter().map(report).collect(),
            };
            // A leader that is just going is told by the next heartbeat.
            let _ = client.report_subtask(request).await;
        }
    }

    /// As large as the names of some files.
    fn keyed_state(&self, index: u32) -> v1::KeyedState {
        let parallelism = self.parallelism.load(Ordering::Relaxed).max(1);
        let range = KeyGroupRange::of_subtask(index, KEY_GROUPS, parallelism);
        let content = [7; 64];
        let info = FileInfo::of(&content);
        let file = |number: u32| v1::FileRef {
            size_bytes: info.size_bytes,
            checksum: info.checksum,
            local_name: format!("{number:06}.sst"),
            content: content.to_vec(),
            ..Default::default()
        };
        v1::KeyedState {
            key_groups: Some(rescale::range_to_proto(range)),
            files: (0..5).map(file).collect(),
            uploaded_bytes: 0,
        }
    }

    async fn acknowledge(&self, request: v1::TriggerCheckpointRequest) {
        let fence = request.fence.unwrap_or_default();
        let key = (fence.job_id.clone(), fence.attempt);
        let subtasks: Vec<Subtask> = match self.running.lock().get(&key) {
            Some(subtasks) => subtasks.keys().copied().collect(),
            None => return,
        };
        let Some(mut client) = self.leader.lock().clone() else {
            return;
        };
        let acknowledgement = |&(vertex, index): &Subtask| v1::SubtaskAcknowledgement {
            checkpoint_id: request.checkpoint_id,
            subtask: Some(v1::SubtaskId { vertex, index }),
            operators: vec![v1::OperatorSnapshot {
                operator_uid: format!("uid-{vertex}"),
                operator_name: format!("operator {vertex}"),
                subtask: index,
                parallelism: self.parallelism.load(Ordering::Relaxed),
                keyed: (vertex != SOURCE).then(|| self.keyed_state(index)),
                states: (vertex == SOURCE).then(splits).into_iter().collect(),
                ..Default::default()
            }],
            ..Default::default()
        };
        for subtasks in as_they_come(&subtasks) {
            let acknowledgements = v1::AcknowledgeCheckpointRequest {
                fence: Some(fence.clone()),
                task_manager_id: self.id.clone(),
                subtasks: subtasks.iter().map(acknowledgement).collect(),
            };
            // The checkpoint of a leader that has just gone comes to nothing.
            if client
                .acknowledge_checkpoint(acknowledgements)
                .await
                .is_ok()
            {
                let count = subtasks.len() as u64;
                self.seen.acknowledged(request.checkpoint_id, count);
            }
        }
    }
}

fn splits() -> v1::OperatorState {
    v1::OperatorState {
        name: "splits".to_owned(),
        redistribution: v1::operator_state::Redistribution::Union.into(),
        items: vec!["topic/0:123456789".into()],
    }
}

/// A real one tells of the first subtask at once, and of those that follow meanwhile with the next call.
fn as_they_come(subtasks: &[Subtask]) -> [&[Subtask]; 2] {
    let (first, rest) = subtasks.split_at(subtasks.len().min(1));
    [first, rest]
}

#[tonic::async_trait]
impl TaskManagerControl for FakeTaskManager {
    async fn deploy(&self, request: Request<v1::DeployRequest>) -> Answer<v1::DeployResponse> {
        let request = request.into_inner();
        let bytes = prost_bytes(&request);
        self.seen.deployment_bytes.store(bytes, Ordering::Relaxed);
        self.seen.deployments.fetch_add(1, Ordering::Relaxed);
        let parallelism = u32::try_from(request.slots.len()).unwrap_or(u32::MAX);
        self.parallelism.store(parallelism, Ordering::Relaxed);
        let fence = request.fence.unwrap_or_default();
        let subtasks = request.subtasks.iter().filter_map(|deployment| {
            let subtask = deployment.subtask?;
            Some(((subtask.vertex, subtask.index), v1::SubtaskState::Deploying))
        });
        let key = (fence.job_id.clone(), fence.attempt);
        self.running.lock().insert(key, subtasks.collect());
        let own = self.clone();
        tokio::spawn(async move { own.report_running(&fence).await });
        Ok(Response::new(v1::DeployResponse {}))
    }

    async fn fetch_state(
        &self,
        _: Request<v1::FetchStateRequest>,
    ) -> Answer<v1::FetchStateResponse> {
        Ok(Response::new(v1::FetchStateResponse {}))
    }

    async fn trigger_checkpoint(
        &self,
        request: Request<v1::TriggerCheckpointRequest>,
    ) -> Answer<v1::TriggerCheckpointResponse> {
        let (own, request) = (self.clone(), request.into_inner());
        self.seen.triggered(request.checkpoint_id);
        tokio::spawn(async move { own.acknowledge(request).await });
        Ok(Response::new(v1::TriggerCheckpointResponse {}))
    }

    async fn notify_checkpoint(
        &self,
        request: Request<v1::NotifyCheckpointRequest>,
    ) -> Answer<v1::NotifyCheckpointResponse> {
        let request = request.into_inner();
        if request.completed {
            self.seen.completed(request.checkpoint_id);
        }
        Ok(Response::new(v1::NotifyCheckpointResponse {}))
    }

    async fn cancel(&self, request: Request<v1::CancelRequest>) -> Answer<v1::CancelResponse> {
        self.forget(request.into_inner().fence);
        Ok(Response::new(v1::CancelResponse {}))
    }

    async fn finish(&self, request: Request<v1::FinishRequest>) -> Answer<v1::FinishResponse> {
        self.forget(request.into_inner().fence);
        Ok(Response::new(v1::FinishResponse::default()))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<v1::WatchResponse, Status>> + Send>>;

    async fn watch(&self, _: Request<v1::WatchRequest>) -> Answer<Self::WatchStream> {
        let until_stop = self.stop.clone().cancelled_owned();
        let silence = futures::stream::pending().take_until(until_stop);
        Ok(Response::new(Box::pin(silence)))
    }
}

impl FakeTaskManager {
    fn forget(&self, fence: Option<v1::Fence>) {
        let fence = fence.unwrap_or_default();
        self.running.lock().remove(&(fence.job_id, fence.attempt));
    }
}

fn prost_bytes(request: &v1::DeployRequest) -> u64 {
    prost::Message::encoded_len(request) as u64
}
