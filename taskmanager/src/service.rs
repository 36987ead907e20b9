//! The gRPC services of a task manager: commands of the job manager, streams of other task managers.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::join_all;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use weir_common::ids::CheckpointId;
use weir_dataflow::{Barrier, Error, SnapshotTarget};
use weir_proto::v1;
use weir_proto::v1::exchange_server::Exchange;
use weir_proto::v1::task_manager_control_server::TaskManagerControl;
use weir_proto::v1::{SnapshotKind, SubtaskState};

use crate::checkpoint::finish;
use crate::exchange::receive::StreamKey;
use crate::fence::Refusal;
use crate::node::Node;
use crate::slot::guarded;
use crate::subtask::AttemptKey;

/// How long a producer may take to say which stream it opens.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Credits on their way back to a producer.
const CREDIT_MESSAGES: usize = 256;

type Answer<T> = Result<Response<T>, Status>;

/// Both services.
#[derive(Clone)]
pub struct Service {
    node: Arc<Node>,
}

fn status_of(error: &Error) -> Status {
    match error {
        Error::Config(message) => Status::invalid_argument(message),
        other => Status::internal(other.to_string()),
    }
}

fn not_here(key: &AttemptKey) -> Status {
    Status::not_found(format!(
        "attempt {} of job {} does not run here",
        key.attempt, key.job
    ))
}

fn refusal_status(refusal: &Refusal) -> Status {
    match refusal {
        Refusal::Malformed(_) => Status::invalid_argument(refusal.to_string()),
        _ => Status::failed_precondition(refusal.to_string()),
    }
}

impl Service {
    /// Of this node.
    pub fn new(node: Arc<Node>) -> Self {
        Self { node }
    }

    fn command(&self, fence: Option<&v1::Fence>, what: &'static str) -> Result<AttemptKey, Status> {
        let checked = self.node.fences.lock().command(fence);
        match checked {
            Ok((job, attempt)) => Ok(AttemptKey { job, attempt }),
            Err(refusal) => {
                self.node.refused(&refusal, what);
                Err(refusal_status(&refusal))
            }
        }
    }

    /// Runs the commits of a complete checkpoint side by side; one that fails, fails its subtask.
    async fn commit(&self, key: &AttemptKey, checkpoint: CheckpointId) -> Result<(), Status> {
        let attempt = self.node.attempt(key).ok_or_else(|| not_here(key))?;
        let commits = self.node.completed(&attempt, checkpoint).await;
        let commits = commits.map_err(|error| status_of(&error))?;
        let running = commits.into_iter().map(|(subtask, commit)| {
            let work = attempt.tracker.spawn_blocking(move || guarded(commit));
            async move { (subtask, work.await) }
        });
        let mut failure = None;
        for (subtask, result) in join_all(running).await {
            let result = result.unwrap_or_else(|error| Err(Error::Internal(error.to_string())));
            if let Err(error) = result {
                failure = Some(Status::internal(format!(
                    "subtask {subtask} cannot commit checkpoint {checkpoint}: {error}"
                )));
                attempt.report_failed(subtask, error);
            }
        }
        failure.map_or(Ok(()), Err)
    }
    /// A job without checkpoints makes its results visible when it ends.
    async fn commit_without_checkpoint(&self, key: &AttemptKey) -> Result<(), Status> {
        let attempt = self.node.attempt(key);
        let Some(attempt) = attempt.filter(|attempt| !attempt.takes_checkpoints()) else {
            return Ok(());
        };
        let last = CheckpointId(u64::MAX);
        let cuts = self.node.last_cuts(&attempt, last).await;
        for (subtask, cut) in cuts.map_err(|error| status_of(&error))? {
            let work = attempt
                .tracker
                .spawn_blocking(move || guarded(|| finish(cut)));
            let finished = work.await;
            if let Err(error) =
                finished.unwrap_or_else(|error| Err(Error::Internal(error.to_string())))
            {
                let status = Status::internal(format!("subtask {subtask} cannot end: {error}"));
                attempt.report_failed(subtask, error);
                return Err(status);
            }
        }
        self.commit(key, last).await
    }
}

#[tonic::async_trait]
impl TaskManagerControl for Service {
    async fn deploy(&self, request: Request<v1::DeployRequest>) -> Answer<v1::DeployResponse> {
        let request = request.into_inner();
        let key = self.command(request.fence.as_ref(), "deploy")?;
        let deployed = self.node.deploy(key, request).await;
        deployed.map_err(|error| status_of(&error))?;
        Ok(Response::new(v1::DeployResponse {}))
    }

    async fn fetch_state(
        &self,
        request: Request<v1::FetchStateRequest>,
    ) -> Answer<v1::FetchStateResponse> {
        let request = request.into_inner();
        let key = self.command(request.fence.as_ref(), "fetch")?;
        let (node, from) = (Arc::clone(&self.node), request.restore.unwrap_or_default());
        let fetching = tokio::task::spawn_blocking(move || node.fetch_state(&key, &from));
        let fetched = fetching
            .await
            .unwrap_or_else(|error| Err(Error::Internal(error.to_string())));
        fetched.map_err(|error| status_of(&error))?;
        Ok(Response::new(v1::FetchStateResponse {}))
    }

    async fn trigger_checkpoint(
        &self,
        request: Request<v1::TriggerCheckpointRequest>,
    ) -> Answer<v1::TriggerCheckpointResponse> {
        let request = request.into_inner();
        let key = self.command(request.fence.as_ref(), "trigger")?;
        let target = match request.kind() {
            SnapshotKind::Savepoint => SnapshotTarget::Savepoint(request.savepoint_base.into()),
            _ => SnapshotTarget::Checkpoint,
        };
        let barrier = Barrier {
            checkpoint: CheckpointId(request.checkpoint_id),
            timestamp_ms: request.timestamp_ms,
            target,
            stop_sources: request.stop_sources,
            overtakes_from_ms: request.unaligned_after_ms.map(|after| match after {
                0 => i64::MIN,
                after => request.timestamp_ms.saturating_add_unsigned(after),
            }),
        };
        match self.node.trigger(&key, barrier).await {
            Ok(()) => Ok(Response::new(v1::TriggerCheckpointResponse {})),
            Err(Error::Config(why)) => Err(Status::not_found(format!(
                "attempt {} of job {}: {why}",
                key.attempt, key.job
            ))),
            Err(error) => Err(status_of(&error)),
        }
    }

    async fn notify_checkpoint(
        &self,
        request: Request<v1::NotifyCheckpointRequest>,
    ) -> Answer<v1::NotifyCheckpointResponse> {
        let request = request.into_inner();
        let key = self.command(request.fence.as_ref(), "notify")?;
        let checkpoint = CheckpointId(request.checkpoint_id);
        if request.completed {
            self.commit(&key, checkpoint).await?;
        } else {
            let attempt = self.node.attempt(&key).ok_or_else(|| not_here(&key))?;
            let aborted = self.node.aborted(&attempt, checkpoint).await;
            aborted.map_err(|error| status_of(&error))?;
        }
        Ok(Response::new(v1::NotifyCheckpointResponse {}))
    }

    async fn cancel(&self, request: Request<v1::CancelRequest>) -> Answer<v1::CancelResponse> {
        let key = self.command(request.into_inner().fence.as_ref(), "cancel")?;
        self.node.end(&key, SubtaskState::Canceled).await;
        Ok(Response::new(v1::CancelResponse {}))
    }

    async fn finish(&self, request: Request<v1::FinishRequest>) -> Answer<v1::FinishResponse> {
        let key = self.command(request.into_inner().fence.as_ref(), "finish")?;
        self.commit_without_checkpoint(&key).await?;
        let attempt = self.node.attempt(&key);
        self.node.end(&key, SubtaskState::Finished).await;
        let subtasks = attempt.map_or_else(Vec::new, |attempt| attempt.status().subtasks);
        Ok(Response::new(v1::FinishResponse { subtasks }))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<v1::WatchResponse, Status>> + Send>>;

    async fn watch(&self, request: Request<v1::WatchRequest>) -> Answer<Self::WatchStream> {
        let request = request.into_inner();
        if request.cluster_id != self.node.options.cluster_id
            || request.task_manager_id != self.node.id
        {
            return Err(Status::failed_precondition(format!(
                "this is task manager {} of cluster '{}'",
                self.node.id, self.node.options.cluster_id
            )));
        }
        // Ends with the process, or a moment before it.
        let until_shutdown = self.node.shutdown.clone().cancelled_owned();
        let silence = futures::stream::pending().take_until(until_shutdown);
        Ok(Response::new(Box::pin(silence)))
    }
}

#[tonic::async_trait]
impl Exchange for Service {
    type OpenStream = ReceiverStream<Result<v1::ExchangeCredit, Status>>;

    async fn open(
        &self,
        request: Request<Streaming<v1::ExchangeFrame>>,
    ) -> Answer<Self::OpenStream> {
        let mut inbound = request.into_inner();
        let first = tokio::time::timeout(HEADER_TIMEOUT, inbound.message()).await;
        let first = first.map_err(|_| Status::deadline_exceeded("no header came"))??;
        let Some(v1::exchange_frame::Frame::Header(header)) = first.and_then(|first| first.frame)
        else {
            return Err(Status::invalid_argument("the first frame is not a header"));
        };
        let checked = self.node.fences.lock().peer(header.fence.as_ref());
        let (job, attempt) = checked.map_err(|refusal| {
            self.node.refused(&refusal, "exchange");
            refusal_status(&refusal)
        })?;
        let key = StreamKey {
            job,
            attempt,
            edge: header.edge,
            producer: header.producer_task_manager_id,
        };
        let Some((attempt, stream)) = self.node.take_stream(&key) else {
            return Err(Status::not_found(format!(
                "no stream of edge {} of attempt {} is expected from {} (yet)",
                key.edge, key.attempt, key.producer
            )));
        };
        let (credits, outbound) = mpsc::channel(CREDIT_MESSAGES);
        let (node, own) = (Arc::clone(&self.node), Arc::clone(&attempt));
        attempt.spawn(async move {
            let consumers = stream.consumers().to_vec();
            if let Err(error) = stream.run(inbound, credits).await
                && !own.have_ended(&consumers)
            {
                node.fail_subtasks(&own, consumers, &error).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(outbound)))
    }
}
