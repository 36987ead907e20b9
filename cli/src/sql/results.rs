//! Receives the rows of a bare SELECT from the job's 'collect' sink.

use std::io::Cursor;
use std::net::SocketAddr;

use anyhow::Context;
use arrow::ipc::reader::StreamReader;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, Streaming};
use weir_common::limits;
use weir_dataflow::Batch;
use weir_proto::v1;
use weir_proto::v1::result_service_server::{ResultService, ResultServiceServer};

/// Parts that wait to be shown; beyond it the job feels back pressure.
const QUEUE: usize = 64;

/// Rows of one frame.
pub struct ResultRows {
    /// The rows.
    pub batches: Vec<Batch>,
}

/// Listens on loopback for one query.
pub struct ResultServer {
    address: SocketAddr,
    token: String,
    rows: mpsc::Receiver<ResultRows>,
    running: Running,
}

/// The server's task.
pub struct Running {
    stop: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<()>,
}

impl Running {
    /// Ends the task.
    pub async fn stop(self) {
        drop(self.stop);
        let aborter = self.task.abort_handle();
        if tokio::time::timeout(std::time::Duration::from_secs(2), self.task)
            .await
            .is_err()
        {
            aborter.abort();
        }
    }
}

impl ResultServer {
    /// On a free port.
    pub async fn start() -> anyhow::Result<Self> {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0))
            .await
            .context("cannot listen for results")?;
        let address = listener.local_addr()?;
        let token = uuid::Uuid::new_v4().to_string();
        let (sender, rows) = mpsc::channel(QUEUE);
        let service = ResultServiceServer::new(Collector {
            token: token.clone(),
            sender,
        })
        .max_decoding_message_size(limits::EXCHANGE_MESSAGE_BYTES);
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(async move {
            let served = tonic::transport::Server::builder()
                .add_service(service)
                .serve_with_incoming_shutdown(TcpListenerStream::new(listener), async {
                    stopped.await.ok();
                })
                .await;
            if let Err(error) = served {
                tracing::error!(%error, "the result service has ended");
            }
        });
        Ok(Self {
            address,
            token,
            rows,
            running: Running { stop, task },
        })
    }

    /// HOST:PORT for the sink's options.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Secret that the sink shows.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// The rows, and the task that receives them.
    pub fn into_parts(self) -> (mpsc::Receiver<ResultRows>, Running) {
        (self.rows, self.running)
    }
}

struct Collector {
    token: String,
    sender: mpsc::Sender<ResultRows>,
}

#[tonic::async_trait]
impl ResultService for Collector {
    async fn push(
        &self,
        request: Request<Streaming<v1::ResultFrame>>,
    ) -> Result<Response<v1::ResultSummary>, Status> {
        let mut frames = request.into_inner();
        let mut rows = 0;
        while let Some(frame) = frames.next().await {
            let frame = frame?;
            if frame.token != self.token {
                return Err(Status::permission_denied("the token is not this query's"));
            }
            let part =
                decode(&frame).map_err(|error| Status::invalid_argument(error.to_string()))?;
            rows += part
                .batches
                .iter()
                .map(|batch| batch.num_rows() as u64)
                .sum::<u64>();
            self.sender
                .send(part)
                .await
                .map_err(|_| Status::cancelled("the query has ended"))?;
        }
        Ok(Response::new(v1::ResultSummary { rows }))
    }
}

fn decode(frame: &v1::ResultFrame) -> anyhow::Result<ResultRows> {
    let mut batches = Vec::new();
    let mut offset = 0;
    for data in StreamReader::try_new(Cursor::new(&frame.ipc_stream), None)? {
        let data = data?;
        let rows = data.num_rows();
        let kinds = match frame.row_kinds.is_empty() {
            true => &[][..],
            false => frame
                .row_kinds
                .get(offset..offset + rows)
                .context("row kinds are missing")?,
        };
        offset += rows;
        batches.push(Batch::from_wire(data, kinds)?);
    }
    Ok(ResultRows { batches })
}
