//! The consumer's side: streams that are expected, and the task that receives one.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::datatypes::SchemaRef;
use crossbeam_channel::{Sender, TrySendError};
use tokio::sync::{Notify, mpsc};
use tonic::{Status, Streaming};
use weir_common::ids::{AttemptId, JobId, SubtaskId};
use weir_common::limits::CHANNEL_ELEMENTS;
use weir_dataflow::{Element, Error, Result, SlotWaker};
use weir_proto::v1;

use super::codec;
use super::send::describe;
use crate::channel::{self, ChannelReceiver, Returned};
use crate::exchange_memory::{ExchangeMemory, Parcel};

/// Which stream.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct StreamKey {
    /// The job.
    pub job: JobId,
    /// Its attempt.
    pub attempt: AttemptId,
    /// Id of the edge.
    pub edge: u32,
    /// The task manager that opens the stream.
    pub producer: String,
}

/// The receiving half of one channel, inside the stream's task.
struct Inbox {
    queue: Sender<Parcel>,
    returned: Arc<Returned>,
    consumer: SlotWaker,
    /// What the queue has no room for. Bounded by the credits, and what the producer sent ahead of them: of several watermarks in a row
    /// only the last is kept.
    staged: VecDeque<Parcel>,
    sequence: u64,
    /// Credits that the producer has. Below 0: it has sent batches ahead of a barrier that overtakes.
    outstanding: i64,
    ended: bool,
}

impl Inbox {
    fn push(&mut self, element: Element, overdraft: bool) -> Result<()> {
        let parcel = Parcel::from(element);
        let element = &parcel.element;
        if matches!(element, Element::Batch(_)) {
            if self.outstanding <= 0 && !overdraft {
                return Err(broken("a batch came without credit"));
            }
            self.outstanding -= 1;
            self.returned.memory.add(parcel.bytes);
        }
        if let Element::Barrier(barrier) = element {
            self.returned.announced.announce(barrier);
        }
        self.ended |= matches!(element, Element::EndOfData);
        let replaces = matches!(element, Element::Watermark(_))
            && self
                .staged
                .back()
                .is_some_and(|last| matches!(last.element, Element::Watermark(_)));
        if replaces {
            self.staged.pop_back();
        }
        self.staged.push_back(parcel);
        self.flush();
        Ok(())
    }

    fn flush(&mut self) {
        if self.fill() {
            return;
        }
        // The consumer looks at the flag after it took something: set it, then look for room once more.
        self.returned.staged.store(true, Ordering::SeqCst);
        std::sync::atomic::fence(Ordering::SeqCst);
        self.fill();
    }

    /// True when nothing is left behind.
    fn fill(&mut self) -> bool {
        let mut woke = false;
        while let Some(parcel) = self.staged.pop_front() {
            match self.queue.try_send(parcel) {
                Ok(()) => woke = true,
                Err(TrySendError::Full(parcel)) => {
                    self.staged.push_front(parcel);
                    break;
                }
                // The subtask is gone; the attempt is being torn down.
                Err(TrySendError::Disconnected(_)) => self.staged.clear(),
            }
        }
        if woke {
            self.consumer.wake();
        }
        let done = self.staged.is_empty();
        if done {
            self.returned.staged.store(false, Ordering::SeqCst);
        }
        done
    }
}

/// A stream that a producer is to open.
pub struct ExpectedStream {
    schema: SchemaRef,
    inboxes: HashMap<(u32, u32), Inbox>,
    notify: Arc<Notify>,
    memory: Arc<ExchangeMemory>,
    consumers: Vec<SubtaskId>,
}

impl ExpectedStream {
    /// A stream of an edge with this schema, without channels yet.
    pub fn new(schema: SchemaRef, memory: Arc<ExchangeMemory>) -> Self {
        Self {
            schema,
            inboxes: HashMap::new(),
            notify: Arc::new(Notify::new()),
            memory,
            consumers: Vec::new(),
        }
    }

    /// Adds a channel; gives the end that the consumer reads.
    pub fn add(
        &mut self,
        channel: v1::Channel,
        subtask: SubtaskId,
        consumer: SlotWaker,
    ) -> ChannelReceiver {
        let returned = Returned::new(Arc::clone(&self.notify), Arc::clone(&self.memory));
        let returned = Arc::new(returned);
        let (queue, receiver) = channel::remote(Arc::clone(&returned));
        let inbox = Inbox {
            queue,
            returned,
            consumer,
            staged: VecDeque::new(),
            sequence: 0,
            outstanding: 0,
            ended: false,
        };
        self.inboxes.insert((channel.source, channel.target), inbox);
        if !self.consumers.contains(&subtask) {
            self.consumers.push(subtask);
        }
        receiver
    }

    /// The subtasks that the stream feeds.
    pub fn consumers(&self) -> &[SubtaskId] {
        &self.consumers
    }

    /// Receives until the producer ends the stream. Dropping `credits` ends it for the producer.
    ///
    /// # Errors
    /// When the stream breaks, or ends before all channels did.
    pub async fn run(
        mut self,
        mut inbound: Streaming<v1::ExchangeFrame>,
        credits: mpsc::Sender<std::result::Result<v1::ExchangeCredit, Status>>,
    ) -> Result<()> {
        let first = u32::try_from(CHANNEL_ELEMENTS).unwrap_or(u32::MAX);
        for (key, inbox) in &mut self.inboxes {
            inbox.outstanding = first.into();
            send_credit(&credits, *key, first).await?;
        }
        let notify = Arc::clone(&self.notify);
        loop {
            tokio::select! {
                () = notify.notified() => self.release(&credits).await?,
                frame = inbound.message() => match frame {
                    Ok(Some(frame)) => self.accept(frame)?,
                    Ok(None) if self.all_ended() => return Ok(()),
                    Ok(None) => return Err(broken("it ended before its data did")),
                    Err(status) if self.all_ended() => {
                        tracing::debug!(status = describe(&status), "a stream went down after its end of data");
                        return Ok(());
                    }
                    Err(status) => return Err(broken(describe(&status))),
                },
            }
        }
    }

    fn all_ended(&self) -> bool {
        self.inboxes.values().all(|inbox| inbox.ended)
    }

    async fn release(
        &mut self,
        credits: &mpsc::Sender<std::result::Result<v1::ExchangeCredit, Status>>,
    ) -> Result<()> {
        for (key, inbox) in &mut self.inboxes {
            if !inbox.staged.is_empty() {
                inbox.flush();
            }
            let freed = inbox.returned.credits.load(Ordering::Acquire);
            let granted = grant(freed, inbox.outstanding, self.memory.has_room());
            if granted > 0 {
                inbox.returned.credits.fetch_sub(granted, Ordering::AcqRel);
                inbox.outstanding += i64::from(granted);
                send_credit(credits, *key, granted).await?;
            }
        }
        Ok(())
    }

    fn accept(&mut self, frame: v1::ExchangeFrame) -> Result<()> {
        let Some(v1::exchange_frame::Frame::Data(data)) = frame.frame else {
            return Err(broken("a second header"));
        };
        let channel = data.channel.unwrap_or_default();
        let inbox = self
            .inboxes
            .get_mut(&(channel.source, channel.target))
            .ok_or_else(|| {
                broken(format!(
                    "an unknown channel {}→{}",
                    channel.source, channel.target
                ))
            })?;
        if data.sequence != inbox.sequence {
            return Err(broken(format!(
                "element {} of channel {}→{} came where {} was due",
                data.sequence, channel.source, channel.target, inbox.sequence
            )));
        }
        inbox.sequence += 1;
        let wire = data
            .element
            .ok_or_else(|| broken("an element of an unknown kind"))?;
        inbox.push(codec::decode(wire, &self.schema)?, data.overdraft)
    }
}

/// How many of the credits that were freed go back to the producer, which has `outstanding`. Without room in memory it gets one batch at a
/// time; processing that one brings the others here again.
fn grant(freed: u32, outstanding: i64, has_room: bool) -> u32 {
    let needed = if has_room { i64::MAX } else { 1 - outstanding };
    i64::from(freed).min(needed).max(0) as u32
}

async fn send_credit(
    credits: &mpsc::Sender<std::result::Result<v1::ExchangeCredit, Status>>,
    (source, target): (u32, u32),
    amount: u32,
) -> Result<()> {
    let credit = v1::ExchangeCredit {
        channel: Some(v1::Channel { source, target }),
        credits: amount,
    };
    credits
        .send(Ok(credit))
        .await
        .map_err(|_| broken("the producer closed it"))
}

fn broken(why: impl std::fmt::Display) -> Error {
    Error::External {
        system: "exchange",
        message: format!("the stream from another task manager broke: {why}"),
    }
}

#[cfg(test)]
#[path = "exchange_tests.rs"]
mod tests;
