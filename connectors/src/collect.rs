//! `collect`: sends rows to the client that runs a bare SELECT. Made by the planner, not by users.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arrow::ipc::writer::StreamWriter;
use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use weir_common::limits;
use weir_dataflow::{Batch, Deferred, Error, Result, SinkWriter, SlotWaker};
use weir_proto::v1;
use weir_proto::v1::result_service_client::ResultServiceClient;

use crate::context::SinkContext;
use crate::options::OptionReader;
use crate::registry::{Accepts, SinkDescription};

/// Frames that wait to be sent.
const QUEUE: usize = 16;
/// A client that takes nothing for so long is gone.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(120);

struct CollectOptions {
    address: String,
    token: String,
}

fn read(options: OptionReader<'_>) -> Result<CollectOptions> {
    let address = options
        .text("collect.address")
        .unwrap_or_default()
        .to_owned();
    let token = options.text("collect.token").unwrap_or_default().to_owned();
    options.finish()?;
    Ok(CollectOptions { address, token })
}

pub(crate) fn describe(options: OptionReader<'_>) -> Result<SinkDescription> {
    read(options)?;
    Ok(SinkDescription {
        accepts: Accepts::All,
        transactional: false,
    })
}

pub(crate) fn open(
    options: OptionReader<'_>,
    context: &SinkContext,
) -> Result<Box<dyn SinkWriter>> {
    for key in ["collect.address", "collect.token"] {
        options.required(key)?;
    }
    let options = read(options)?;
    // A channel starts a task.
    let _inside = context.runtime.enter();
    let channel = weir_proto::transport::connect(&options.address, None)
        .map_err(|error| external(error.to_string()))?;
    let client =
        ResultServiceClient::new(channel).max_encoding_message_size(limits::EXCHANGE_MESSAGE_BYTES);
    let (commands, receiver) = mpsc::channel(QUEUE);
    let failure = Failure::default();
    let sender = Sender {
        client,
        waker: context.waker.clone(),
        failure: failure.clone(),
        stream: None,
    };
    let task = context.runtime.spawn(sender.run(receiver));
    Ok(Box::new(Collect {
        token: options.token,
        attempt: context.info.attempt.0,
        subtask: context.info.subtask,
        commands,
        waiting: VecDeque::new(),
        failure,
        task,
        runtime: context.runtime.clone(),
    }))
}

fn external(message: String) -> Error {
    Error::External {
        system: "the client of the query",
        message,
    }
}

/// First error of the task.
#[derive(Clone, Default)]
struct Failure(Arc<Mutex<Option<String>>>);

impl Failure {
    fn set(&self, message: String) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert(message);
    }

    fn check(&self) -> Result<()> {
        match self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_ref()
        {
            Some(message) => Err(external(message.clone())),
            None => Ok(()),
        }
    }
}

enum Command {
    Frame(v1::ResultFrame),
    /// Answered when the client has everything so far.
    Flush(oneshot::Sender<Result<()>>),
}

struct Collect {
    token: String,
    attempt: u64,
    subtask: u32,
    commands: mpsc::Sender<Command>,
    waiting: VecDeque<v1::ResultFrame>,
    failure: Failure,
    task: JoinHandle<()>,
    runtime: Handle,
}

impl Collect {
    fn send_waiting(&mut self) -> Result<()> {
        while let Some(frame) = self.waiting.pop_front() {
            match self.commands.try_send(Command::Frame(frame)) {
                Ok(()) => {}
                Err(TrySendError::Full(Command::Frame(frame))) => {
                    self.waiting.push_front(frame);
                    return Ok(());
                }
                Err(error) => return Err(external(error.to_string())),
            }
        }
        Ok(())
    }
}

impl SinkWriter for Collect {
    fn ready(&mut self) -> Result<bool> {
        self.failure.check()?;
        self.send_waiting()?;
        Ok(self.waiting.is_empty())
    }

    fn write(&mut self, batch: &Batch) -> Result<()> {
        let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema())?;
        writer.write(batch.data())?;
        let frame = v1::ResultFrame {
            token: self.token.clone(),
            attempt: self.attempt,
            subtask: self.subtask,
            ipc_stream: writer.into_inner()?,
            row_kinds: batch.kinds_to_bytes(),
        };
        // One input of an operator in front may give several batches: the ones that find no room wait here.
        self.waiting.push_back(frame);
        self.send_waiting()
    }

    fn prepare(&mut self, _: u64) -> Result<Deferred<Vec<Bytes>>> {
        self.failure.check()?;
        let waiting = std::mem::take(&mut self.waiting);
        let (commands, runtime) = (self.commands.clone(), self.runtime.clone());
        Ok(Box::new(move || {
            runtime.block_on(async {
                let (done, flushed) = oneshot::channel();
                let gone = |_| external("it has gone away".to_owned());
                for frame in waiting {
                    commands
                        .send(Command::Frame(frame))
                        .await
                        .map_err(|_| external("it has gone away".to_owned()))?;
                }
                commands
                    .send(Command::Flush(done))
                    .await
                    .map_err(|_| external("it has gone away".to_owned()))?;
                let answer = tokio::time::timeout(CLIENT_TIMEOUT, flushed).await;
                answer
                    .map_err(|_| external(format!("it took no rows for {CLIENT_TIMEOUT:?}")))?
                    .map_err(gone)?
            })?;
            Ok(Vec::new())
        }))
    }

    fn close(&mut self) {
        self.task.abort();
    }
}

/// A call under way: where its frames go, and its outcome.
type Push = (
    mpsc::Sender<v1::ResultFrame>,
    JoinHandle<std::result::Result<(), tonic::Status>>,
);

/// The task that owns the stream to the client. A stream is ended, and so acknowledged, at each flush.
struct Sender {
    client: ResultServiceClient<Channel>,
    waker: SlotWaker,
    failure: Failure,
    stream: Option<Push>,
}

impl Sender {
    async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        while let Some(command) = commands.recv().await {
            let result = match command {
                Command::Frame(frame) => self.send(frame).await,
                Command::Flush(done) => {
                    let result = self.flush().await;
                    let (copy, result) = match result {
                        Ok(()) => (Ok(()), Ok(())),
                        Err(message) => (Err(external(message.clone())), Err(message)),
                    };
                    drop(done.send(copy));
                    result
                }
            };
            if let Err(message) = result {
                self.failure.set(message);
            }
            self.waker.wake();
        }
    }

    async fn send(&mut self, frame: v1::ResultFrame) -> std::result::Result<(), String> {
        if self.stream.is_none() {
            let (frames, receiver) = mpsc::channel(1);
            let mut client = self.client.clone();
            let push =
                tokio::spawn(
                    async move { client.push(ReceiverStream::new(receiver)).await.map(drop) },
                );
            self.stream = Some((frames, push));
        }
        let Some((frames, _)) = &self.stream else {
            return Ok(());
        };
        if frames.send(frame).await.is_err() {
            return self
                .flush()
                .await
                .and(Err("it has ended the stream".to_owned()));
        }
        Ok(())
    }

    async fn flush(&mut self) -> std::result::Result<(), String> {
        let Some((frames, push)) = self.stream.take() else {
            return Ok(());
        };
        drop(frames);
        match tokio::time::timeout(CLIENT_TIMEOUT, push).await {
            Ok(Ok(Ok(()))) => Ok(()),
            Ok(Ok(Err(status))) => Err(status.message().to_owned()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("it took no rows for {CLIENT_TIMEOUT:?}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_util::{runtime, sink, sink_context};
    use arrow::datatypes::DataType;
    use tokio_stream::StreamExt;
    use tokio_stream::wrappers::TcpListenerStream;
    use tonic::{Request, Response, Status, Streaming};
    use v1::result_service_server::{ResultService, ResultServiceServer};
    use weir_dataflow::testing::{batch, schema};

    #[derive(Clone, Default)]
    struct Client(Arc<Mutex<Vec<v1::ResultFrame>>>);

    #[tonic::async_trait]
    impl ResultService for Client {
        async fn push(
            &self,
            request: Request<Streaming<v1::ResultFrame>>,
        ) -> std::result::Result<Response<v1::ResultSummary>, Status> {
            let mut frames = request.into_inner();
            let mut rows = 0;
            while let Some(frame) = frames.next().await {
                let frame = frame?;
                if frame.token != "secret" {
                    return Err(Status::permission_denied("wrong token"));
                }
                let reader =
                    arrow::ipc::reader::StreamReader::try_new(&frame.ipc_stream[..], None).unwrap();
                rows += reader
                    .map(|batch| batch.unwrap().num_rows() as u64)
                    .sum::<u64>();
                self.0.lock().unwrap().push(frame);
            }
            Ok(Response::new(v1::ResultSummary { rows }))
        }
    }

    fn serve() -> (String, Client) {
        let client = Client::default();
        let service = ResultServiceServer::new(client.clone());
        let listener = runtime()
            .block_on(tokio::net::TcpListener::bind(("127.0.0.1", 0)))
            .unwrap();
        let address = listener.local_addr().unwrap().to_string();
        runtime().spawn(
            tonic::transport::Server::builder()
                .add_service(service)
                .serve_with_incoming(TcpListenerStream::new(listener)),
        );
        (address, client)
    }

    #[test]
    fn a_barrier_waits_until_the_client_has_the_rows() {
        let (address, client) = serve();
        let schema = schema(&[("a", DataType::Int32)]);
        let options = [
            ("collect.address", address.as_str()),
            ("collect.token", "secret"),
        ];
        let context = sink_context(schema.clone(), 0, 1);
        let mut writer = crate::open_sink(&sink("collect", &options), context).unwrap();
        for checkpoint in 1..=2 {
            writer.write(&batch(&schema, "1\n-D 2").unwrap()).unwrap();
            writer.write(&batch(&schema, "3").unwrap()).unwrap();
            let prepared = writer.prepare(checkpoint).unwrap();
            assert!(prepared().unwrap().is_empty());
            assert_eq!(client.0.lock().unwrap().len(), checkpoint as usize * 2);
        }
        assert_eq!(client.0.lock().unwrap()[0].row_kinds, [0, 3]);
        writer.close();
    }

    #[test]
    fn a_refused_token_fails_the_barrier() {
        let (address, _) = serve();
        let schema = schema(&[("a", DataType::Int32)]);
        let options = [
            ("collect.address", address.as_str()),
            ("collect.token", "guess"),
        ];
        let context = sink_context(schema.clone(), 0, 1);
        let mut writer = crate::open_sink(&sink("collect", &options), context).unwrap();
        writer.write(&batch(&schema, "1").unwrap()).unwrap();
        let error = writer.prepare(1).unwrap()().unwrap_err().to_string();
        assert!(error.contains("wrong token"), "{error}");
    }
}
