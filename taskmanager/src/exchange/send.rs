//! The producer's side of a stream.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::task::{Context, Poll};

use tokio::sync::mpsc;
use tokio_stream::Stream;
use tonic::Status;
use tonic::transport::Channel;
use weir_common::limits::{CHANNEL_ELEMENTS, EXCHANGE_MESSAGE_BYTES};
use weir_dataflow::{Element, Error, Result, SlotWaker};
use weir_proto::v1;
use weir_proto::v1::exchange_client::ExchangeClient;

use super::codec::Encoder;
use crate::channel::Waiting;

/// What may be sent on a channel.
#[derive(Debug, Default)]
struct Credits {
    /// Below 0: batches were sent ahead of a barrier that overtakes, and are not paid back yet.
    available: AtomicI64,
    waiting: Waiting,
    waker: SlotWaker,
}

/// Shared by the stream's ends in this process.
#[derive(Debug)]
struct Shared {
    /// Some producer found the queue of frames full.
    waiting: Waiting,
    producers: Vec<SlotWaker>,
}

/// Producer's end of one channel; belongs to a subtask.
pub struct RemoteSender {
    channel: v1::Channel,
    sequence: u64,
    credits: Arc<Credits>,
    shared: Arc<Shared>,
    frames: mpsc::Sender<v1::ExchangeFrame>,
    encoder: Encoder,
}

impl RemoteSender {
    /// Gives the element back if there is no credit or no room; the slot is woken when there is.
    ///
    /// # Errors
    /// If the stream is broken.
    pub fn try_send(&mut self, element: Element) -> Result<Option<Element>> {
        if let Element::Batch(_) = &element
            && !self.take_credit()
        {
            return Ok(Some(element));
        }
        self.send(element, false)
    }

    /// Sends also without credit: a barrier that overtakes, or what stands in front of it. Gives the element back if the stream's queue has
    /// no room, which is no matter of the consumer's subtask and soon passes; the slot is woken then.
    ///
    /// # Errors
    /// If the stream is broken.
    pub fn send_ahead(&mut self, element: Element) -> Result<Option<Element>> {
        let overdraft = matches!(element, Element::Batch(_))
            && self.credits.available.fetch_sub(1, Ordering::AcqRel) <= 0;
        self.send(element, overdraft)
    }

    /// More was sent than there was credit for; the slot is woken when that changes.
    pub fn is_overdrawn(&self) -> bool {
        let overdrawn = || self.credits.available.load(Ordering::Acquire) < 0;
        if !overdrawn() {
            return false;
        }
        self.credits.waiting.raise();
        overdrawn()
    }

    fn send(&mut self, element: Element, overdraft: bool) -> Result<Option<Element>> {
        let Some(permit) = self.reserve()? else {
            if let Element::Batch(_) = &element {
                self.credits.available.fetch_add(1, Ordering::AcqRel);
            }
            return Ok(Some(element));
        };
        // The queue has one producer a channel but many channels: the permit is this one's.
        let data = v1::ExchangeData {
            channel: Some(self.channel),
            sequence: self.sequence,
            element: Some(self.encoder.encode(&element)?),
            overdraft,
        };
        permit.send(v1::ExchangeFrame {
            frame: Some(v1::exchange_frame::Frame::Data(data)),
        });
        self.sequence += 1;
        Ok(None)
    }

    fn take_credit(&self) -> bool {
        let take = || {
            self.credits
                .available
                .fetch_update(Ordering::AcqRel, Ordering::Acquire, |available| {
                    (available > 0).then_some(available - 1)
                })
                .is_ok()
        };
        if take() {
            return true;
        }
        self.credits.waiting.raise();
        take()
    }

    fn reserve(&self) -> Result<Option<mpsc::OwnedPermit<v1::ExchangeFrame>>> {
        use mpsc::error::TrySendError;
        let attempt = || match self.frames.clone().try_reserve_owned() {
            Ok(permit) => Ok(Some(permit)),
            Err(TrySendError::Full(_)) => Ok(None),
            Err(TrySendError::Closed(_)) => Err(broken("it was closed by the consumer")),
        };
        if let Some(permit) = attempt()? {
            return Ok(Some(permit));
        }
        self.shared.waiting.raise();
        attempt()
    }
}

fn broken(why: impl std::fmt::Display) -> Error {
    Error::External {
        system: "exchange",
        message: format!("the stream to another task manager broke: {why}"),
    }
}

/// Request side of the gRPC call: the header, then what subtasks put into the queue.
struct Frames {
    header: Option<v1::ExchangeHeader>,
    frames: mpsc::Receiver<v1::ExchangeFrame>,
    shared: Arc<Shared>,
}

impl Stream for Frames {
    type Item = v1::ExchangeFrame;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(header) = self.header.take() {
            return Poll::Ready(Some(v1::ExchangeFrame {
                frame: Some(v1::exchange_frame::Frame::Header(header)),
            }));
        }
        let next = self.frames.poll_recv(context);
        if matches!(next, Poll::Ready(Some(_))) && self.shared.waiting.take() {
            for producer in &self.shared.producers {
                producer.wake();
            }
        }
        next
    }
}

/// Takes the credits that come back, until the stream ends. Runs as a task of the attempt.
pub struct CreditPump {
    inbound: tonic::Streaming<v1::ExchangeCredit>,
    credits: HashMap<(u32, u32), Arc<Credits>>,
}

/// Opens a stream for these channels; `targets` has the waker of each channel's producer. The consumer must have deployed: it answers
/// NOT_FOUND until it has, FAILED_PRECONDITION if the attempt is over.
pub async fn open(
    endpoint: Channel,
    header: v1::ExchangeHeader,
    targets: &[(v1::Channel, SlotWaker)],
) -> std::result::Result<(Vec<RemoteSender>, CreditPump), Status> {
    let mut client = ExchangeClient::new(endpoint)
        .max_decoding_message_size(EXCHANGE_MESSAGE_BYTES)
        .max_encoding_message_size(EXCHANGE_MESSAGE_BYTES);
    let shared = Arc::new(Shared {
        waiting: Waiting::default(),
        producers: targets.iter().map(|(_, waker)| waker.clone()).collect(),
    });
    // Room for all credits of all channels and some elements that need none.
    let (sender, frames) = mpsc::channel(targets.len() * 2 * CHANNEL_ELEMENTS);
    let request = Frames {
        header: Some(header),
        frames,
        shared: Arc::clone(&shared),
    };
    let inbound = client.open(request).await?.into_inner();
    let mut credits = HashMap::new();
    let mut senders = Vec::with_capacity(targets.len());
    for (channel, waker) in targets {
        let own = Arc::new(Credits {
            waker: waker.clone(),
            ..Credits::default()
        });
        credits.insert((channel.source, channel.target), Arc::clone(&own));
        senders.push(RemoteSender {
            channel: *channel,
            sequence: 0,
            credits: own,
            shared: Arc::clone(&shared),
            frames: sender.clone(),
            encoder: Encoder::new(false).map_err(|error| Status::internal(error.to_string()))?,
        });
    }
    Ok((senders, CreditPump { inbound, credits }))
}

impl CreditPump {
    /// Until the stream ends, gives why it did. That is no failure if the producers have sent everything.
    pub async fn run(mut self) -> Error {
        loop {
            let credit = match self.inbound.message().await {
                Ok(Some(credit)) => credit,
                Ok(None) => return broken("the consumer has ended"),
                Err(status) => return broken(describe(&status)),
            };
            let channel = credit.channel.unwrap_or_default();
            let Some(own) = self.credits.get(&(channel.source, channel.target)) else {
                return broken(format!(
                    "credit for the unknown channel {}→{}",
                    channel.source, channel.target
                ));
            };
            own.available
                .fetch_add(credit.credits.into(), Ordering::AcqRel);
            if own.waiting.take() {
                own.waker.wake();
            }
        }
    }
}

/// Code and message of a status in one line.
pub fn describe(status: &Status) -> String {
    format!("{:?}: {}", status.code(), status.message())
}
