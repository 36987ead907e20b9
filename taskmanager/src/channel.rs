//! The queue of one channel inside a process, and the consumer's end of any channel. One producer, one consumer, no lock, no serialisation.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering, fence};

use crossbeam_channel::{Receiver, Sender, TryRecvError, TrySendError};
use tokio::sync::Notify;
use weir_common::limits::CHANNEL_ELEMENTS;
use weir_dataflow::{Element, SlotWaker};

/// A producer that found no room raises this; the consumer wakes it when it made some. The order of the two steps on both sides
/// (flag, then look again; take, then look at the flag) leaves no gap in which a wake-up gets lost.
#[derive(Debug, Default)]
pub struct Waiting(AtomicBool);

impl Waiting {
    /// By the producer, before it looks for room once more.
    pub fn raise(&self) {
        self.0.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// By the consumer, after it made room: whether the producer waits.
    pub fn take(&self) -> bool {
        fence(Ordering::SeqCst);
        self.0.load(Ordering::Relaxed) && self.0.swap(false, Ordering::AcqRel)
    }
}

/// Producer's end of a channel inside the process.
#[derive(Debug)]
pub struct LocalSender {
    queue: Sender<Element>,
    waiting: Arc<Waiting>,
    consumer: SlotWaker,
}

/// Consumer's end.
#[derive(Debug)]
pub struct ChannelReceiver {
    queue: Receiver<Element>,
    release: Release,
}

/// Whom to tell that there is room.
#[derive(Debug)]
enum Release {
    Local {
        waiting: Arc<Waiting>,
        producer: SlotWaker,
    },
    Remote(Arc<Returned>),
}

/// Credits that a consumer has freed and that the stream's task has not yet sent back.
#[derive(Debug, Default)]
pub struct Returned {
    /// Batches taken out of the queue.
    pub credits: AtomicU32,
    /// Elements stand behind the full queue: any taken element makes room.
    pub staged: AtomicBool,
    /// The task that receives the stream.
    pub notify: Arc<Notify>,
}

/// A channel between two subtasks of this process.
pub fn local(producer: SlotWaker, consumer: SlotWaker) -> (LocalSender, ChannelReceiver) {
    let (sender, queue) = crossbeam_channel::bounded(CHANNEL_ELEMENTS);
    let waiting = Arc::new(Waiting::default());
    let sender = LocalSender {
        queue: sender,
        waiting: Arc::clone(&waiting),
        consumer,
    };
    let release = Release::Local { waiting, producer };
    (sender, ChannelReceiver { queue, release })
}

/// The consumer's end of a channel that comes from another process; the task that receives the stream fills `Sender`.
pub fn remote(returned: Arc<Returned>) -> (Sender<Element>, ChannelReceiver) {
    // Twice the credits: watermarks and barriers need none.
    let (sender, queue) = crossbeam_channel::bounded(2 * CHANNEL_ELEMENTS);
    let release = Release::Remote(returned);
    (sender, ChannelReceiver { queue, release })
}

impl LocalSender {
    /// Gives the element back if there is no room; the producer's slot is woken when there is. An element for a consumer that is
    /// gone vanishes: the attempt is being torn down.
    pub fn try_send(&self, element: Element) -> Option<Element> {
        let element = match self.queue.try_send(element) {
            Err(TrySendError::Full(element)) => element,
            sent => return self.sent(sent.is_ok()),
        };
        self.waiting.raise();
        match self.queue.try_send(element) {
            Err(TrySendError::Full(element)) => Some(element),
            sent => self.sent(sent.is_ok()),
        }
    }

    fn sent(&self, ok: bool) -> Option<Element> {
        if ok {
            self.consumer.wake();
        }
        None
    }
}

impl ChannelReceiver {
    /// Next element, if there is one.
    pub fn try_recv(&self) -> Option<Element> {
        let element = match self.queue.try_recv() {
            Ok(element) => element,
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => return None,
        };
        match &self.release {
            Release::Local { waiting, producer } => {
                if waiting.take() {
                    producer.wake();
                }
            }
            Release::Remote(returned) => {
                let is_batch = matches!(element, Element::Batch(_));
                if is_batch {
                    returned.credits.fetch_add(1, Ordering::AcqRel);
                }
                fence(Ordering::SeqCst);
                if is_batch || returned.staged.load(Ordering::Relaxed) {
                    returned.notify.notify_one();
                }
            }
        }
        Some(element)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_channel_gives_the_element_back_and_takes_it_when_there_is_room() {
        let (sender, receiver) = local(SlotWaker::none(), SlotWaker::none());
        for watermark in 0..CHANNEL_ELEMENTS as i64 {
            assert!(sender.try_send(Element::Watermark(watermark)).is_none());
        }
        assert!(matches!(
            sender.try_send(Element::Watermark(99)),
            Some(Element::Watermark(99))
        ));
        assert!(matches!(receiver.try_recv(), Some(Element::Watermark(0))));
        assert!(sender.try_send(Element::Watermark(99)).is_none());
    }

    #[test]
    fn a_waiting_producer_is_woken_by_the_first_element_taken() {
        let parker = crossbeam_utils::sync::Parker::new();
        let (sender, receiver) =
            local(SlotWaker::new(parker.unparker().clone()), SlotWaker::none());
        while sender.try_send(Element::Idle).is_none() {}
        assert!(receiver.try_recv().is_some());
        let started = std::time::Instant::now();
        parker.park_timeout(std::time::Duration::from_secs(30));
        assert!(started.elapsed().as_secs() < 30);
    }

    #[test]
    fn only_batches_return_credits() {
        let returned = Arc::new(Returned::default());
        let (sender, receiver) = remote(Arc::clone(&returned));
        sender.send(Element::Watermark(1)).unwrap();
        let schema = weir_dataflow::testing::schema(&[("a", arrow::datatypes::DataType::Int64)]);
        let batch = weir_dataflow::testing::batch(&schema, "1").unwrap();
        sender.send(Element::Batch(batch)).unwrap();
        while receiver.try_recv().is_some() {}
        assert_eq!(returned.credits.load(Ordering::Relaxed), 1);
    }
}
