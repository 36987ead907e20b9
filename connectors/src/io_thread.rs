//! Threads that do a reader's or writer's I/O, so that the slot's thread never blocks. Their owner joins them; the queue between is bounded.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, bounded, unbounded};
use parking_lot::Mutex;
use weir_dataflow::{Error, Result, SlotWaker};

fn start(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(run)
        .map_err(|error| Error::io(format!("cannot start the thread '{name}'"), error))
}

fn join(handle: &mut Option<JoinHandle<()>>) {
    if let Some(handle) = handle.take()
        && handle.join().is_err()
    {
        tracing::error!("an I/O thread of a connector has panicked");
    }
}

/// A thread that makes items for a reader.
pub(crate) struct Producer<T> {
    items: Option<Receiver<Result<T>>>,
    stop: Arc<AtomicBool>,
    waker: SlotWaker,
    handle: Option<JoinHandle<()>>,
}

/// Where the thread puts its items.
pub(crate) struct Outlet<T> {
    items: Sender<Result<T>>,
    stop: Arc<AtomicBool>,
    waker: SlotWaker,
}

/// The reader was closed: the thread is to end.
#[derive(Debug)]
pub(crate) struct Closed;

impl<T> Outlet<T> {
    /// Waits for room.
    pub(crate) fn send(&self, item: T) -> std::result::Result<(), Closed> {
        let sent = self.items.send(Ok(item)).map_err(|_| Closed);
        self.waker.wake();
        sent
    }

    /// Waits; ends early when the reader is closed.
    pub(crate) fn sleep(&self, duration: Duration) -> std::result::Result<(), Closed> {
        const STEP: Duration = Duration::from_millis(50);
        let mut left = duration;
        while !left.is_zero() && !self.is_closed() {
            let step = left.min(STEP);
            std::thread::sleep(step);
            left -= step;
        }
        if self.is_closed() {
            Err(Closed)
        } else {
            Ok(())
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }
}

/// What a producer has.
pub(crate) enum Produced<T> {
    Item(T),
    /// Nothing now; the slot is woken when there is.
    Nothing,
    /// The thread has ended, and all its items were taken.
    End,
}

impl<T: Send + 'static> Producer<T> {
    /// `work` gives its items to the outlet until it is done or the outlet is closed. An error that it returns comes behind the items.
    pub(crate) fn spawn(
        name: &str,
        capacity: usize,
        waker: SlotWaker,
        work: impl FnOnce(&Outlet<T>) -> Result<()> + Send + 'static,
    ) -> Result<Self> {
        let (sender, items) = bounded(capacity);
        let stop = Arc::new(AtomicBool::new(false));
        let outlet = Outlet {
            items: sender,
            stop: Arc::clone(&stop),
            waker: waker.clone(),
        };
        let handle = start(name, move || {
            if let Err(error) = work(&outlet) {
                // The reader may be gone; then nobody needs the error.
                let _ = outlet.items.send(Err(error));
            }
            let waker = outlet.waker.clone();
            drop(outlet);
            waker.wake();
        })?;
        Ok(Self {
            items: Some(items),
            stop,
            waker,
            handle: Some(handle),
        })
    }

    pub(crate) fn poll(&mut self) -> Result<Produced<T>> {
        let Some(items) = &self.items else {
            return Ok(Produced::End);
        };
        match items.try_recv() {
            Ok(item) => item.map(Produced::Item),
            Err(TryRecvError::Empty) => Ok(Produced::Nothing),
            Err(TryRecvError::Disconnected) => Ok(Produced::End),
        }
    }

    pub(crate) fn close(&mut self) {
        self.stop.store(true, Ordering::Release);
        // A thread that waits for room gets an error now.
        self.items = None;
        join(&mut self.handle);
        self.waker.wake();
    }
}

impl<T> Drop for Producer<T> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.items = None;
        join(&mut self.handle);
    }
}

/// A thread that carries out the commands of a writer, in order.
pub(crate) struct Worker<C> {
    commands: Option<Sender<C>>,
    capacity: usize,
    failure: Arc<Mutex<Option<Error>>>,
    handle: Option<JoinHandle<()>>,
}

/// How often an idle worker is given a turn.
const TURN: Duration = Duration::from_secs(1);

/// What a worker thread does.
pub(crate) trait Work<C>: Send {
    /// Carries out a command. An error ends the thread and surfaces in [`Worker::ready`].
    fn run(&mut self, command: C) -> Result<()>;

    /// Called about every second without commands.
    fn idle(&mut self) -> Result<()> {
        Ok(())
    }
}

impl<C: Send + 'static> Worker<C> {
    pub(crate) fn spawn(
        name: &str,
        capacity: usize,
        waker: SlotWaker,
        mut work: impl Work<C> + 'static,
    ) -> Result<Self> {
        // [`Self::ready`] bounds the queue: beyond `capacity` it takes only what one input of the operators in front gives, and barriers.
        let (sender, commands) = unbounded::<C>();
        let failure = Arc::new(Mutex::new(None));
        let failed = Arc::clone(&failure);
        let handle = start(name, move || {
            loop {
                let done = match commands.recv_timeout(TURN) {
                    Ok(command) => work.run(command),
                    Err(RecvTimeoutError::Timeout) => work.idle(),
                    Err(RecvTimeoutError::Disconnected) => break,
                };
                if let Err(error) = done {
                    *failed.lock() = Some(error);
                    break;
                }
                waker.wake();
            }
            // Whoever waits for an answer to a command finds its channel closed.
            drop(commands);
            waker.wake();
        })?;
        Ok(Self {
            commands: Some(sender),
            capacity,
            failure,
            handle: Some(handle),
        })
    }

    /// Whether there is room for data. The thread's error comes out here, once.
    pub(crate) fn ready(&self) -> Result<bool> {
        if let Some(error) = self.failure.lock().take() {
            return Err(error);
        }
        Ok(self
            .commands
            .as_ref()
            .is_some_and(|commands| commands.len() < self.capacity))
    }

    /// Does not wait.
    pub(crate) fn submit(&self, command: C) -> Result<()> {
        let sent = match &self.commands {
            Some(commands) => commands.send(command).is_ok(),
            None => false,
        };
        if sent {
            return Ok(());
        }
        Err(self
            .failure
            .lock()
            .take()
            .unwrap_or_else(|| Error::Internal("a writer's I/O thread has ended".to_owned())))
    }

    pub(crate) fn close(&mut self) {
        self.commands = None;
        join(&mut self.handle);
    }
}

impl<C> Drop for Worker<C> {
    fn drop(&mut self) {
        self.commands = None;
        join(&mut self.handle);
    }
}

/// How long a barrier waits for what was written before it.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(600);

/// Waits for a worker's answer.
pub(crate) fn answer<T>(system: &'static str, answer: &Receiver<Result<T>>) -> Result<T> {
    answer.recv_timeout(ANSWER_TIMEOUT).unwrap_or_else(|error| {
        Err(Error::External {
            system,
            message: match error {
                RecvTimeoutError::Timeout => "what was written is not durable after 10 minutes",
                RecvTimeoutError::Disconnected => "the writer has failed before the barrier",
            }
            .to_owned(),
        })
    })
}
