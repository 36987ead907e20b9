//! The queue of one channel inside a process, and the consumer's end of any channel. One producer, one consumer, no lock, no serialisation.
//!
//! Room is kept by count and not by the queue's capacity, for the sake of barriers that overtake: a producer may send what stands in front
//! of such a barrier beyond the limit (and then takes no input until that is paid back), and a batch that has left the queue out of turn
//! keeps its room until it is processed. So what is in flight is bounded however often a checkpoint is taken. Its bytes are bounded over
//! all channels of the process together ([`ExchangeMemory`]).

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool, AtomicI64, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
};

use crossbeam_channel::{Receiver, Sender};
use tokio::sync::Notify;
use weir_common::limits::CHANNEL_ELEMENTS;
use weir_dataflow::{Barrier, Element, SlotWaker};

use crate::exchange_memory::{ChannelMemory, ExchangeMemory, Parcel};

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

/// Tells the consumer of barriers on their way to it that may overtake, so that it looks for them when their time has come.
#[derive(Debug, Default)]
pub struct Announced {
    count: AtomicU64,
    /// Of the newest one. An older one that is still on its way belongs to a checkpoint that was given up.
    from_ms: AtomicI64,
}

impl Announced {
    /// Before the barrier goes into the queue.
    pub fn announce(&self, barrier: &Barrier) {
        if let Some(from_ms) = barrier.overtakes_from_ms {
            self.from_ms.store(from_ms, Ordering::Relaxed);
            self.count.fetch_add(1, Ordering::Release);
        }
    }

    fn is_due(&self, taken: u64, now_ms: i64) -> bool {
        self.count.load(Ordering::Acquire) != taken
            && self.from_ms.load(Ordering::Relaxed) <= now_ms
    }
}

/// What both ends of a channel inside the process see.
#[derive(Debug)]
struct Local {
    /// Elements that were sent and have not given their room back.
    used: AtomicUsize,
    waiting: Waiting,
    memory: ChannelMemory,
}

impl Local {
    fn has_room(&self) -> bool {
        match self.used.load(Ordering::Acquire) {
            0 => true,
            used => used < CHANNEL_ELEMENTS && self.memory.has_room(),
        }
    }
}

/// Producer's end of a channel inside the process.
#[derive(Debug)]
pub struct LocalSender {
    queue: Sender<Parcel>,
    shared: Arc<Local>,
    announced: Arc<Announced>,
    consumer: SlotWaker,
}

/// Consumer's end.
#[derive(Debug)]
pub struct ChannelReceiver {
    queue: Receiver<Parcel>,
    release: Release,
    announced: Arc<Announced>,
    /// Announced barriers that have left the queue.
    taken: u64,
    /// Of the batches that were taken and keep their room.
    taken_bytes: VecDeque<usize>,
}

/// Whom to tell that there is room.
#[derive(Debug)]
enum Release {
    Local {
        shared: Arc<Local>,
        producer: SlotWaker,
    },
    Remote(Arc<Returned>),
}

/// Credits that a consumer has freed and that the stream's task has not yet sent back.
#[derive(Debug)]
pub struct Returned {
    /// Batches that were processed.
    pub credits: AtomicU32,
    /// Elements stand behind the full queue: any taken element makes room.
    pub staged: AtomicBool,
    /// The task that receives the stream.
    pub notify: Arc<Notify>,
    /// Barriers that have come.
    pub announced: Arc<Announced>,
    /// Of batches that have come and are not processed.
    pub memory: ChannelMemory,
}

impl Returned {
    /// Of a channel that nothing has come through. `notify` is told of credits and of room.
    pub fn new(notify: Arc<Notify>, memory: Arc<ExchangeMemory>) -> Self {
        Self {
            credits: AtomicU32::new(0),
            staged: AtomicBool::new(false),
            notify,
            announced: Arc::default(),
            memory: ChannelMemory::new(memory),
        }
    }
}

/// A channel between two subtasks of this process.
pub fn local(
    producer: SlotWaker,
    consumer: SlotWaker,
    memory: Arc<ExchangeMemory>,
) -> (LocalSender, ChannelReceiver) {
    // `LocalSender::try_send` bounds it.
    let (sender, queue) = crossbeam_channel::unbounded();
    let shared = Arc::new(Local {
        used: AtomicUsize::new(0),
        waiting: Waiting::default(),
        memory: ChannelMemory::new(memory),
    });
    let announced = Arc::new(Announced::default());
    let sender = LocalSender {
        queue: sender,
        shared: Arc::clone(&shared),
        announced: Arc::clone(&announced),
        consumer,
    };
    let release = Release::Local { shared, producer };
    (sender, ChannelReceiver::new(queue, release, announced))
}

/// The consumer's end of a channel that comes from another process; the task that receives the stream fills `Sender`.
pub fn remote(returned: Arc<Returned>) -> (Sender<Parcel>, ChannelReceiver) {
    // Twice the credits: watermarks and barriers need none.
    let (sender, queue) = crossbeam_channel::bounded(2 * CHANNEL_ELEMENTS);
    let announced = Arc::clone(&returned.announced);
    let release = Release::Remote(returned);
    (sender, ChannelReceiver::new(queue, release, announced))
}

impl LocalSender {
    /// Gives the element back if there is no room; the producer's slot is woken when there is. An element for a consumer that is
    /// gone vanishes: the attempt is being torn down.
    pub fn try_send(&self, element: Element) -> Option<Element> {
        if !self.shared.has_room() {
            self.shared.waiting.raise();
            if !self.shared.has_room() {
                return Some(element);
            }
        }
        self.send_ahead(element);
        None
    }

    /// Sends also when there is no room: a barrier that overtakes, or what stands in front of it.
    pub fn send_ahead(&self, element: Element) {
        if let Element::Barrier(barrier) = &element {
            self.announced.announce(barrier);
        }
        let parcel = Parcel::from(element);
        let bytes = parcel.bytes;
        self.shared.memory.add(bytes);
        self.shared.used.fetch_add(1, Ordering::AcqRel);
        match self.queue.send(parcel) {
            Ok(()) => self.consumer.wake(),
            Err(_) => {
                self.shared.used.fetch_sub(1, Ordering::AcqRel);
                self.shared.memory.remove(bytes);
            }
        }
    }

    /// More was sent than there is room for; the producer's slot is woken when that changes.
    pub fn is_overdrawn(&self) -> bool {
        let overdrawn = || self.shared.used.load(Ordering::Acquire) > CHANNEL_ELEMENTS;
        if !overdrawn() {
            return false;
        }
        self.shared.waiting.raise();
        overdrawn()
    }
}

impl ChannelReceiver {
    fn new(queue: Receiver<Parcel>, release: Release, announced: Arc<Announced>) -> Self {
        Self {
            queue,
            release,
            announced,
            taken: 0,
            taken_bytes: VecDeque::new(),
        }
    }

    /// Next element, if there is one. A batch keeps its room until [`Self::release_batch`].
    pub fn take(&mut self) -> Option<Element> {
        let Parcel { element, bytes } = self.queue.try_recv().ok()?;
        if let Element::Barrier(barrier) = &element {
            self.taken += u64::from(barrier.overtakes_from_ms.is_some());
        }
        let is_batch = matches!(element, Element::Batch(_));
        if is_batch {
            self.taken_bytes.push_back(bytes);
        }
        match &self.release {
            Release::Local { shared, producer } if !is_batch => free(shared, producer),
            Release::Local { .. } => {}
            Release::Remote(returned) => {
                fence(Ordering::SeqCst);
                if returned.staged.load(Ordering::Relaxed) {
                    returned.notify.notify_one();
                }
            }
        }
        Some(element)
    }

    /// The first batch that was taken is being processed now: its room is free.
    pub fn release_batch(&mut self) {
        let bytes = self.taken_bytes.pop_front().unwrap_or(0);
        match &self.release {
            Release::Local { shared, producer } => {
                shared.memory.remove(bytes);
                free(shared, producer);
            }
            Release::Remote(returned) => {
                returned.memory.remove(bytes);
                returned.credits.fetch_add(1, Ordering::AcqRel);
                returned.notify.notify_one();
            }
        }
    }

    /// A barrier on its way to this end does not wait in line any more.
    pub fn is_overtaken(&self, now_ms: i64) -> bool {
        self.announced.is_due(self.taken, now_ms)
    }
}

fn free(shared: &Local, producer: &SlotWaker) {
    shared.used.fetch_sub(1, Ordering::AcqRel);
    if shared.waiting.take() {
        producer.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_common::ids::CheckpointId;
    use weir_dataflow::SnapshotTarget;

    fn unbounded_local(producer: SlotWaker) -> (LocalSender, ChannelReceiver) {
        local(producer, SlotWaker::none(), ExchangeMemory::new(u64::MAX))
    }

    fn a_batch() -> Element {
        let schema = weir_dataflow::testing::schema(&[("a", arrow::datatypes::DataType::Int64)]);
        Element::Batch(weir_dataflow::testing::batch(&schema, "1").unwrap())
    }

    fn a_barrier(overtakes_from_ms: Option<i64>) -> Element {
        Element::Barrier(Barrier {
            checkpoint: CheckpointId(1),
            timestamp_ms: 0,
            target: SnapshotTarget::Checkpoint,
            stop_sources: false,
            overtakes_from_ms,
        })
    }

    #[test]
    fn a_full_channel_gives_the_element_back_and_takes_it_when_there_is_room() {
        let (sender, mut receiver) = unbounded_local(SlotWaker::none());
        for watermark in 0..CHANNEL_ELEMENTS as i64 {
            assert!(sender.try_send(Element::Watermark(watermark)).is_none());
        }
        assert!(matches!(
            sender.try_send(Element::Watermark(99)),
            Some(Element::Watermark(99))
        ));
        assert!(matches!(receiver.take(), Some(Element::Watermark(0))));
        assert!(sender.try_send(Element::Watermark(99)).is_none());
    }

    #[test]
    fn when_memory_is_used_up_every_channel_goes_on_by_one_batch_at_a_time() {
        let memory = ExchangeMemory::new(1);
        let make = || local(SlotWaker::none(), SlotWaker::none(), Arc::clone(&memory));
        let (mut channels, rounds) = ([make(), make()], 3);
        for _ in 0..rounds {
            for (sender, _) in &channels {
                assert!(sender.try_send(a_batch()).is_none());
            }
            for (sender, _) in &channels {
                assert!(sender.try_send(a_batch()).is_some());
            }
            assert!(memory.used_bytes() > 0);
            for (_, receiver) in &mut channels {
                assert!(receiver.take().is_some());
                receiver.release_batch();
            }
            assert_eq!(memory.used_bytes(), 0);
        }
    }

    #[test]
    fn a_channel_that_is_torn_down_gives_its_memory_back() {
        let memory = ExchangeMemory::new(u64::MAX);
        let (sender, mut receiver) =
            local(SlotWaker::none(), SlotWaker::none(), Arc::clone(&memory));
        for _ in 0..3 {
            assert!(sender.try_send(a_batch()).is_none());
        }
        assert!(receiver.take().is_some());
        drop(receiver);
        assert!(sender.try_send(a_batch()).is_none(), "it vanishes");
        drop(sender);
        assert_eq!(memory.used_bytes(), 0);
    }

    #[test]
    fn a_waiting_producer_is_woken_by_the_first_element_taken() {
        let parker = crossbeam_utils::sync::Parker::new();
        let (sender, mut receiver) = unbounded_local(SlotWaker::new(parker.unparker().clone()));
        while sender.try_send(Element::Idle).is_none() {}
        assert!(receiver.take().is_some());
        let started = std::time::Instant::now();
        parker.park_timeout(std::time::Duration::from_secs(30));
        assert!(started.elapsed().as_secs() < 30);
    }

    #[test]
    fn only_batches_return_credits_and_only_when_they_are_processed() {
        let returned = Arc::new(Returned::new(Arc::default(), ExchangeMemory::new(u64::MAX)));
        let (sender, mut receiver) = remote(Arc::clone(&returned));
        sender.send(Element::Watermark(1).into()).unwrap();
        sender.send(a_batch().into()).unwrap();
        while receiver.take().is_some() {}
        assert_eq!(returned.credits.load(Ordering::Relaxed), 0);
        receiver.release_batch();
        assert_eq!(returned.credits.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_batch_out_of_the_queue_keeps_its_room_until_it_is_processed() {
        let (sender, mut receiver) = unbounded_local(SlotWaker::none());
        for _ in 0..CHANNEL_ELEMENTS {
            assert!(sender.try_send(a_batch()).is_none());
        }
        let mut held = 0;
        while receiver.take().is_some() {
            held += 1;
        }
        assert_eq!(held, CHANNEL_ELEMENTS);
        assert!(sender.try_send(a_batch()).is_some());
        receiver.release_batch();
        assert!(sender.try_send(a_batch()).is_none());
    }

    #[test]
    fn what_was_sent_ahead_is_paid_back_before_there_is_room_again() {
        let parker = crossbeam_utils::sync::Parker::new();
        let (sender, mut receiver) = unbounded_local(SlotWaker::new(parker.unparker().clone()));
        for _ in 0..CHANNEL_ELEMENTS {
            assert!(sender.try_send(a_batch()).is_none());
        }
        assert!(!sender.is_overdrawn(), "full, not more");
        sender.send_ahead(a_batch());
        sender.send_ahead(a_barrier(Some(0)));
        assert!(sender.is_overdrawn());
        while receiver.take().is_some() {}
        assert!(
            sender.is_overdrawn(),
            "the barrier's room is free, the batch's is not"
        );
        receiver.release_batch();
        parker.park_timeout(std::time::Duration::from_secs(30));
        assert!(!sender.is_overdrawn());
        assert!(sender.try_send(a_batch()).is_some(), "and still no room");
    }

    #[test]
    fn an_announced_barrier_is_due_from_its_time_until_it_is_taken() {
        let (sender, mut receiver) = unbounded_local(SlotWaker::none());
        assert!(sender.try_send(a_barrier(None)).is_none());
        assert!(sender.try_send(a_barrier(Some(50))).is_none());
        assert!(!receiver.is_overtaken(49));
        assert!(receiver.is_overtaken(50));
        assert!(receiver.take().is_some());
        assert!(
            receiver.is_overtaken(50),
            "the one that waits in line is not the one"
        );
        assert!(receiver.take().is_some());
        assert!(!receiver.is_overtaken(i64::MAX));
    }
}
