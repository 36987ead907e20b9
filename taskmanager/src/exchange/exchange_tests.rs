//! A stream over loopback, without jobs around it.

use std::time::Duration;

use arrow::datatypes::DataType;
use tokio::net::TcpListener;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::transport::{Endpoint, Server};
use tonic::{Request, Response};
use weir_common::ids::{CheckpointId, VertexId};
use weir_dataflow::testing::{batch, format_rows, schema};
use weir_dataflow::{Barrier, SnapshotTarget};
use weir_proto::v1::exchange_server::{Exchange, ExchangeServer};

use super::*;
use crate::exchange::send::{self, RemoteSender};

type Verdict = tokio::sync::oneshot::Sender<Result<()>>;

struct OneStream(parking_lot::Mutex<Option<(ExpectedStream, Verdict)>>);

#[tonic::async_trait]
impl Exchange for OneStream {
    type OpenStream = ReceiverStream<std::result::Result<v1::ExchangeCredit, Status>>;

    async fn open(
        &self,
        request: Request<Streaming<v1::ExchangeFrame>>,
    ) -> std::result::Result<Response<Self::OpenStream>, Status> {
        let mut inbound = request.into_inner();
        inbound.message().await?;
        let (stream, verdict) = self.0.lock().take().unwrap();
        let (credits, outbound) = mpsc::channel(16);
        tokio::spawn(async move { verdict.send(stream.run(inbound, credits).await) });
        Ok(Response::new(ReceiverStream::new(outbound)))
    }
}

struct Link {
    senders: Vec<RemoteSender>,
    receivers: Vec<ChannelReceiver>,
    verdict: tokio::sync::oneshot::Receiver<Result<()>>,
}

fn rows_schema() -> SchemaRef {
    schema(&[("a", DataType::Int64)])
}

fn rows(value: usize) -> Element {
    Element::Batch(batch(&rows_schema(), &value.to_string()).unwrap())
}

async fn link(channels: u32) -> Link {
    link_within(channels, ExchangeMemory::new(u64::MAX)).await
}

async fn link_within(channels: u32, memory: Arc<ExchangeMemory>) -> Link {
    let mut expected = ExpectedStream::new(rows_schema(), memory);
    let targets: Vec<_> = (0..channels)
        .map(|target| (v1::Channel { source: 0, target }, SlotWaker::none()))
        .collect();
    let receivers = targets
        .iter()
        .map(|(channel, waker)| {
            let subtask = SubtaskId {
                vertex: VertexId(1),
                index: channel.target,
            };
            expected.add(*channel, subtask, waker.clone())
        })
        .collect();
    let (sender, verdict) = tokio::sync::oneshot::channel();
    let service = OneStream(parking_lot::Mutex::new(Some((expected, sender))));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = Server::builder().add_service(ExchangeServer::new(service));
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .unwrap()
        .connect_lazy();
    let header = v1::ExchangeHeader::default();
    let (senders, pump) = send::open(endpoint, header, &targets).await.unwrap();
    tokio::spawn(pump.run());
    Link {
        senders,
        receivers,
        verdict,
    }
}

/// Repeats until it gives something, at most 10 seconds.
async fn until<T>(mut attempt: impl FnMut() -> Option<T>) -> T {
    for _ in 0..10_000 {
        if let Some(value) = attempt() {
            return value;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("it did not happen within 10 seconds")
}

async fn send_it(sender: &mut RemoteSender, element: Element) {
    until(|| {
        sender
            .try_send(element.clone())
            .unwrap()
            .is_none()
            .then_some(())
    })
    .await;
}

/// Next element, processed at once.
async fn recv(receiver: &mut ChannelReceiver) -> Element {
    let element = until(|| receiver.take()).await;
    if let Element::Batch(_) = element {
        receiver.release_batch();
    }
    element
}

fn a_barrier() -> Element {
    barrier(None)
}

fn barrier(overtakes_from_ms: Option<i64>) -> Element {
    Element::Barrier(Barrier {
        checkpoint: CheckpointId(1),
        timestamp_ms: 0,
        target: SnapshotTarget::Checkpoint,
        stop_sources: false,
        overtakes_from_ms,
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_channel_stops_neither_its_neighbour_nor_barriers() {
    let mut link = link(2).await;
    // Nobody reads channel 0: it takes as many batches as it has credits, and then none.
    for value in 0..CHANNEL_ELEMENTS {
        send_it(&mut link.senders[0], rows(value)).await;
    }
    assert!(link.senders[0].try_send(rows(99)).unwrap().is_some());
    // A barrier needs no credit, and channel 1 has its own.
    send_it(&mut link.senders[0], a_barrier()).await;
    for value in 0..10 * CHANNEL_ELEMENTS {
        send_it(&mut link.senders[1], rows(value)).await;
        let Element::Batch(got) = recv(&mut link.receivers[1]).await else {
            panic!("not a batch")
        };
        assert_eq!(format_rows(&got).unwrap(), [format!("+I {value}")]);
    }
    // When channel 0 is read, everything comes in order and credit flows again.
    for value in 0..CHANNEL_ELEMENTS {
        let Element::Batch(got) = recv(&mut link.receivers[0]).await else {
            panic!("not a batch")
        };
        assert_eq!(format_rows(&got).unwrap(), [format!("+I {value}")]);
    }
    assert!(matches!(
        recv(&mut link.receivers[0]).await,
        Element::Barrier(_)
    ));
    send_it(&mut link.senders[0], rows(99)).await;
    assert!(matches!(
        recv(&mut link.receivers[0]).await,
        Element::Batch(_)
    ));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_in_front_of_a_barrier_that_overtakes_comes_without_credit_and_is_paid_back() {
    let mut link = link(1).await;
    for value in 0..CHANNEL_ELEMENTS {
        send_it(&mut link.senders[0], rows(value)).await;
    }
    assert!(!link.senders[0].is_overdrawn());
    let more = 3 * CHANNEL_ELEMENTS;
    for value in CHANNEL_ELEMENTS..more {
        until(|| {
            link.senders[0]
                .send_ahead(rows(value))
                .unwrap()
                .is_none()
                .then_some(())
        })
        .await;
    }
    let ahead = barrier(Some(5));
    until(|| {
        link.senders[0]
            .send_ahead(ahead.clone())
            .unwrap()
            .is_none()
            .then_some(())
    })
    .await;
    assert!(link.senders[0].is_overdrawn());
    // The consumer learns of the barrier, though nobody has taken anything, and drains the line up to it.
    let receiver = &mut link.receivers[0];
    until(|| receiver.is_overtaken(5).then_some(())).await;
    assert!(!receiver.is_overtaken(4));
    for value in 0..more {
        let Element::Batch(got) = until(|| receiver.take()).await else {
            panic!("not a batch")
        };
        assert_eq!(format_rows(&got).unwrap(), [format!("+I {value}")]);
    }
    assert!(matches!(
        until(|| receiver.take()).await,
        Element::Barrier(_)
    ));
    assert!(!receiver.is_overtaken(5));
    // Drained is not processed: there is no credit before that.
    assert!(link.senders[0].try_send(rows(99)).unwrap().is_some());
    for _ in 0..more - CHANNEL_ELEMENTS {
        link.receivers[0].release_batch();
    }
    until(|| (!link.senders[0].is_overdrawn()).then_some(())).await;
    assert!(link.senders[0].try_send(rows(99)).unwrap().is_some());
    link.receivers[0].release_batch();
    send_it(&mut link.senders[0], rows(99)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watermarks_that_nobody_reads_do_not_pile_up() {
    let mut link = link(2).await;
    for watermark in 0..1000 {
        send_it(&mut link.senders[0], Element::Watermark(watermark)).await;
    }
    send_it(&mut link.senders[0], Element::EndOfData).await;
    // The last one comes through, with far fewer before it than were sent.
    let mut received = Vec::new();
    loop {
        match recv(&mut link.receivers[0]).await {
            Element::Watermark(watermark) => received.push(watermark),
            Element::EndOfData => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(received.last(), Some(&999));
    assert!(received.is_sorted());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_ends_early_is_an_error_and_one_that_ends_late_is_not() {
    let early = link(1).await;
    drop(early.senders);
    let error = early.verdict.await.unwrap().unwrap_err();
    assert!(!error.is_fatal());
    assert!(error.to_string().contains("before its data did"), "{error}");
    let mut late = link(1).await;
    send_it(&mut late.senders[0], Element::EndOfData).await;
    drop(late.senders);
    assert!(late.verdict.await.unwrap().is_ok());
}

#[test]
fn gaps_and_batches_without_credit_are_refused() {
    let mut stream = ExpectedStream::new(rows_schema(), ExchangeMemory::new(u64::MAX));
    let channel = v1::Channel {
        source: 0,
        target: 0,
    };
    let subtask = SubtaskId {
        vertex: VertexId(1),
        index: 0,
    };
    let _receiver = stream.add(channel, subtask, SlotWaker::none());
    let mut encoder = codec::Encoder::new(false).unwrap();
    let mut frame = |sequence, element: &Element| v1::ExchangeFrame {
        frame: Some(v1::exchange_frame::Frame::Data(v1::ExchangeData {
            channel: Some(channel),
            sequence,
            element: Some(encoder.encode(element).unwrap()),
            overdraft: false,
        })),
    };
    stream.accept(frame(0, &Element::Watermark(1))).unwrap();
    let error = stream.accept(frame(2, &Element::Idle)).unwrap_err();
    assert!(error.to_string().contains("where 1 was due"), "{error}");
    let error = stream.accept(frame(1, &rows(1))).unwrap_err();
    assert!(error.to_string().contains("without credit"), "{error}");
}

#[test]
fn without_room_a_producer_gets_credit_for_one_batch() {
    assert_eq!(grant(5, 3, true), 5);
    assert_eq!(grant(5, 3, false), 0);
    assert_eq!(grant(5, 1, false), 0);
    assert_eq!(grant(5, 0, false), 1);
    assert_eq!(grant(5, -2, false), 3, "what was sent ahead is paid back");
    assert_eq!(grant(1, -2, false), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_goes_on_when_memory_is_used_up_and_gives_it_back() {
    let memory = ExchangeMemory::new(1);
    let mut link = link_within(2, Arc::clone(&memory)).await;
    // Nobody reads channel 0.
    send_it(&mut link.senders[0], rows(0)).await;
    for value in 0..10 * CHANNEL_ELEMENTS {
        send_it(&mut link.senders[1], rows(value)).await;
        let Element::Batch(got) = recv(&mut link.receivers[1]).await else {
            panic!("not a batch")
        };
        assert_eq!(format_rows(&got).unwrap(), [format!("+I {value}")]);
    }
    until(|| (memory.used_bytes() > 0).then_some(())).await;
    recv(&mut link.receivers[0]).await;
    assert_eq!(memory.used_bytes(), 0);
}
