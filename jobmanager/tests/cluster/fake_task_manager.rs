//! A task manager that runs nothing: it says what a real one would say, over the same wire.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio_stream::Stream;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use weir_proto::transport::connect;
use weir_proto::v1;
use weir_proto::v1::job_manager_control_client::JobManagerControlClient;
use weir_proto::v1::task_manager_control_server::{TaskManagerControl, TaskManagerControlServer};

type Client = JobManagerControlClient<tonic::transport::Channel>;

/// What it was told, and what it "runs".
#[derive(Default)]
pub struct Seen {
    /// (job, attempt) → its subtasks here and their state.
    pub running: BTreeMap<(String, u64), BTreeMap<(u32, u32), v1::SubtaskState>>,
    /// Checkpoints that were announced as complete.
    pub committed: Vec<u64>,
    /// Restored checkpoint of each deployment, 0 if it started empty.
    pub restored: Vec<u64>,
    /// Fence of the last deployment.
    pub fence: v1::Fence,
    /// It says that it wants to leave.
    pub draining: bool,
    /// The answer to its last heartbeat.
    pub answer: v1::HeartbeatResponse,
}

pub struct FakeTaskManager {
    pub id: String,
    pub address: String,
    pub seen: Arc<Mutex<Seen>>,
    stop: CancellationToken,
}

#[derive(Clone)]
struct Node {
    id: String,
    address: String,
    job_managers: Vec<String>,
    leader: Arc<Mutex<String>>,
    seen: Arc<Mutex<Seen>>,
    stop: CancellationToken,
}

impl FakeTaskManager {
    /// Serves, registers and reports until it is dropped.
    pub async fn start(id: &str, job_managers: &[String]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let node = Node {
            id: id.to_owned(),
            address: address.clone(),
            job_managers: job_managers.to_vec(),
            leader: Arc::new(Mutex::new(job_managers[0].clone())),
            seen: Arc::default(),
            stop: CancellationToken::new(),
        };
        let server = tonic::transport::Server::builder()
            .add_service(TaskManagerControlServer::new(node.clone()))
            .serve_with_incoming_shutdown(
                TcpListenerStream::new(listener),
                node.stop.clone().cancelled_owned(),
            );
        tokio::spawn(server);
        let (seen, stop) = (Arc::clone(&node.seen), node.stop.clone());
        let token = stop.clone();
        tokio::spawn(async move { token.run_until_cancelled(node.report()).await });
        Self {
            id: id.to_owned(),
            address,
            seen,
            stop,
        }
    }

    /// As if its process was killed.
    pub fn kill(&self) {
        self.stop.cancel();
    }
}

impl Drop for FakeTaskManager {
    fn drop(&mut self) {
        self.kill();
    }
}

fn client(address: &str) -> Client {
    JobManagerControlClient::new(connect(address, None).unwrap())
}

impl Node {
    fn running(&self) -> Vec<v1::RunningAttempt> {
        let seen = self.seen.lock();
        seen.running
            .iter()
            .map(|((job_id, attempt), subtasks)| v1::RunningAttempt {
                job_id: job_id.clone(),
                attempt: *attempt,
                subtasks: subtasks
                    .iter()
                    .map(|(&(vertex, index), state)| v1::SubtaskStatus {
                        subtask: Some(v1::SubtaskId { vertex, index }),
                        state: (*state).into(),
                        metrics: None,
                    })
                    .collect(),
            })
            .collect()
    }

    fn tear_down(&self, stale: &[v1::RunningAttempt]) {
        let mut seen = self.seen.lock();
        for attempt in stale {
            seen.running
                .remove(&(attempt.job_id.clone(), attempt.attempt));
        }
    }

    async fn report(self) {
        loop {
            for address in &self.job_managers {
                let request = v1::RegisterTaskManagerRequest {
                    cluster_id: "test".to_owned(),
                    task_manager_id: self.id.clone(),
                    address: self.address.clone(),
                    slots: 2,
                    running: self.running(),
                    draining: self.seen.lock().draining,
                };
                let mut client = client(address);
                let Ok(registered) = client.register_task_manager(request).await else {
                    continue;
                };
                self.tear_down(&registered.into_inner().stale);
                *self.leader.lock() = address.clone();
                self.heartbeats(client).await;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn heartbeats(&self, mut client: Client) {
        loop {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let request = v1::HeartbeatRequest {
                cluster_id: "test".to_owned(),
                task_manager_id: self.id.clone(),
                leader_term: 0,
                running: self.running(),
                draining: self.seen.lock().draining,
            };
            match client.heartbeat(request).await {
                Ok(answer) => {
                    let answer = answer.into_inner();
                    self.tear_down(&answer.stale);
                    self.seen.lock().answer.clone_from(&answer);
                    if answer.register_again {
                        return;
                    }
                }
                Err(_) => return,
            }
        }
    }

    fn leader(&self) -> Client {
        client(&self.leader.lock())
    }

    async fn set_all(&self, fence: &v1::Fence, state: v1::SubtaskState) {
        let key = (fence.job_id.clone(), fence.attempt);
        let subtasks: Vec<(u32, u32)> = {
            let mut seen = self.seen.lock();
            let Some(subtasks) = seen.running.get_mut(&key) else {
                return;
            };
            subtasks.values_mut().for_each(|known| *known = state);
            subtasks.keys().copied().collect()
        };
        let report = |(vertex, index)| v1::SubtaskReport {
            subtask: Some(v1::SubtaskId { vertex, index }),
            state: state.into(),
            ..Default::default()
        };
        let request = v1::ReportSubtaskRequest {
            fence: Some(fence.clone()),
            task_manager_id: self.id.clone(),
            subtasks: subtasks.into_iter().map(report).collect(),
        };
        // A leader that is just going is told by the next heartbeat.
        let _ = self.leader().report_subtask(request).await;
    }

    async fn acknowledge(&self, request: v1::TriggerCheckpointRequest) {
        let fence = request.fence.clone().unwrap();
        let key = (fence.job_id.clone(), fence.attempt);
        let subtasks: Vec<(u32, u32)> = match self.seen.lock().running.get(&key) {
            Some(subtasks) => subtasks.keys().copied().collect(),
            None => return,
        };
        let acknowledgement = |(vertex, index)| v1::SubtaskAcknowledgement {
            checkpoint_id: request.checkpoint_id,
            subtask: Some(v1::SubtaskId { vertex, index }),
            operators: vec![v1::OperatorSnapshot {
                operator_uid: format!("uid-{vertex}"),
                operator_name: format!("operator {vertex}"),
                subtask: index,
                parallelism: 2,
                states: vec![v1::OperatorState {
                    name: "s".to_owned(),
                    redistribution: 0,
                    items: vec!["item".into()],
                }],
                ..Default::default()
            }],
            ..Default::default()
        };
        let acknowledgements = v1::AcknowledgeCheckpointRequest {
            fence: Some(fence.clone()),
            task_manager_id: self.id.clone(),
            subtasks: subtasks.into_iter().map(acknowledgement).collect(),
        };
        let _ = self.leader().acknowledge_checkpoint(acknowledgements).await;
        if request.stop_sources {
            self.set_all(&fence, v1::SubtaskState::EndOfData).await;
        }
    }
}

#[tonic::async_trait]
impl TaskManagerControl for Node {
    async fn deploy(
        &self,
        request: Request<v1::DeployRequest>,
    ) -> Result<Response<v1::DeployResponse>, Status> {
        let request = request.into_inner();
        let fence = request.fence.unwrap();
        {
            let mut seen = self.seen.lock();
            let restored = request
                .restore
                .and_then(|restore| restore.manifest)
                .map_or(0, |manifest| manifest.checkpoint_id);
            seen.restored.push(restored);
            seen.fence = fence.clone();
            let subtasks = request
                .subtasks
                .iter()
                .map(|deployment| {
                    let subtask = deployment.subtask.unwrap();
                    ((subtask.vertex, subtask.index), v1::SubtaskState::Deploying)
                })
                .collect();
            seen.running
                .insert((fence.job_id.clone(), fence.attempt), subtasks);
        }
        let node = self.clone();
        tokio::spawn(async move { node.set_all(&fence, v1::SubtaskState::Running).await });
        Ok(Response::new(v1::DeployResponse {}))
    }

    async fn fetch_state(
        &self,
        _: Request<v1::FetchStateRequest>,
    ) -> Result<Response<v1::FetchStateResponse>, Status> {
        Ok(Response::new(v1::FetchStateResponse {}))
    }

    async fn trigger_checkpoint(
        &self,
        request: Request<v1::TriggerCheckpointRequest>,
    ) -> Result<Response<v1::TriggerCheckpointResponse>, Status> {
        let node = self.clone();
        tokio::spawn(async move { node.acknowledge(request.into_inner()).await });
        Ok(Response::new(v1::TriggerCheckpointResponse {}))
    }

    async fn notify_checkpoint(
        &self,
        request: Request<v1::NotifyCheckpointRequest>,
    ) -> Result<Response<v1::NotifyCheckpointResponse>, Status> {
        let request = request.into_inner();
        if request.completed {
            self.seen.lock().committed.push(request.checkpoint_id);
        }
        Ok(Response::new(v1::NotifyCheckpointResponse {}))
    }

    async fn cancel(
        &self,
        request: Request<v1::CancelRequest>,
    ) -> Result<Response<v1::CancelResponse>, Status> {
        let fence = request.into_inner().fence.unwrap();
        let key = (fence.job_id, fence.attempt);
        self.seen.lock().running.remove(&key);
        Ok(Response::new(v1::CancelResponse {}))
    }

    async fn finish(
        &self,
        request: Request<v1::FinishRequest>,
    ) -> Result<Response<v1::FinishResponse>, Status> {
        let fence = request.into_inner().fence.unwrap();
        let key = (fence.job_id, fence.attempt);
        self.seen.lock().running.remove(&key);
        Ok(Response::new(v1::FinishResponse::default()))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<v1::WatchResponse, Status>> + Send>>;

    async fn watch(
        &self,
        _: Request<v1::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let killed = self.stop.clone().cancelled_owned();
        let silence = futures::stream::pending().take_until(killed);
        Ok(Response::new(Box::pin(silence)))
    }
}
