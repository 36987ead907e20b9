//! The one thread that writes to a database, in the order in which it is told. A snapshot is a mark in that order: flush and
//! RocksDB checkpoint happen here, so the slot's thread waits for neither, and the checkpoint has exactly what was written
//! before the mark.
//!
//! Reads wait for the writes that they have to see, and for no more: what is written behind a barrier is in the operator's memory
//! anyway.
//!
//! The queue is bounded in bytes, and so are all queues of a process together; one write may always wait. After an error nothing more is
//! written; every later call gets the error.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use rocksdb::checkpoint::Checkpoint;
use weir_dataflow::state::StateWrites;

use crate::db::Db;
use crate::memory::StateMemory;
use crate::snapshot::Local;
use crate::{Result, StateError};

/// Bytes that may wait to be written; one larger write may wait alone.
const QUEUE_BYTES: usize = 24 << 20;
/// What a part of a working set takes at most.
const MODERATE_BYTES: usize = 1 << 20;
/// A writer that makes no progress for so long is taken for stuck.
pub(crate) const STUCK_AFTER: Duration = Duration::from_secs(300);

enum Command {
    Write {
        writes: StateWrites,
        bytes: usize,
    },
    Checkpoint {
        to: PathBuf,
        done: SyncSender<Result<Local>>,
    },
}

#[derive(Default)]
struct Queue {
    commands: VecDeque<Command>,
    bytes: usize,
    /// Number of writes that are applied.
    applied: u64,
    failed: Option<StateError>,
    closed: bool,
}

struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
    db: OnceLock<Arc<Db>>,
    folder: PathBuf,
    memory: Arc<StateMemory>,
}

/// The handle that the state has; closing joins the thread.
pub(crate) struct Writer {
    shared: Arc<Shared>,
    /// Number of writes that were handed over.
    enqueued: u64,
    /// So many of them are to be seen by reads.
    visible: u64,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Begins with a database that the thread creates in `folder`.
    pub(crate) fn create(folder: PathBuf, memory: Arc<StateMemory>) -> Result<Self> {
        let create = {
            let (folder, memory) = (folder.clone(), Arc::clone(&memory));
            move || Db::open(&folder, &memory)
        };
        Self::start(folder, memory, OnceLock::new(), create)
    }

    /// Begins with a database that is open.
    pub(crate) fn of(db: Db, memory: Arc<StateMemory>) -> Result<Self> {
        let folder = db.folder().to_owned();
        let db = Arc::new(db);
        let again = Arc::clone(&db);
        Self::start(folder, memory, OnceLock::from(db), move || Ok(again))
    }

    fn start<D: Into<Arc<Db>>>(
        folder: PathBuf,
        memory: Arc<StateMemory>,
        db: OnceLock<Arc<Db>>,
        open: impl FnOnce() -> Result<D> + Send + 'static,
    ) -> Result<Self> {
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            changed: Condvar::new(),
            db,
            folder,
            memory,
        });
        let work = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("weir-state".to_owned())
            .spawn(move || work.run(|| open().map(Into::into)))
            .map_err(|error| StateError::local("cannot start the state's writer", &error))?;
        Ok(Self {
            shared,
            enqueued: 0,
            visible: 0,
            thread: Some(thread),
        })
    }

    /// Hands changes over; waits while too much is under way.
    pub(crate) fn write(&mut self, writes: StateWrites) -> Result<()> {
        let bytes = size_of(&writes);
        let mut queue = self.shared.queue.lock();
        self.shared
            .wait(&mut queue, "the writer does not keep up", |queue| {
                let fits = queue.bytes + bytes <= QUEUE_BYTES && self.shared.memory.fits(bytes);
                queue.bytes == 0 || fits
            })?;
        queue.bytes += bytes;
        self.shared.memory.queue(bytes);
        queue.commands.push_back(Command::Write { writes, bytes });
        self.enqueued += 1;
        self.shared.changed.notify_all();
        Ok(())
    }

    /// Reads are to see all writes so far.
    pub(crate) fn show(&mut self) {
        self.visible = self.enqueued;
    }

    /// A write of a moderate size would not wait.
    pub(crate) fn has_room(&self) -> bool {
        let bytes = self.shared.queue.lock().bytes;
        bytes == 0 || (bytes <= QUEUE_BYTES / 2 && self.shared.memory.fits(MODERATE_BYTES))
    }

    /// Marks the cut: `to` becomes a RocksDB checkpoint of all writes before this call. `done` is told when it is there.
    pub(crate) fn checkpoint(&self, to: PathBuf, done: SyncSender<Result<Local>>) -> Result<()> {
        let mut queue = self.shared.queue.lock();
        if let Some(error) = &queue.failed {
            return Err(error.clone());
        }
        queue.commands.push_back(Command::Checkpoint { to, done });
        self.shared.changed.notify_all();
        Ok(())
    }

    /// The database, when all writes that reads are to see are in it. Does not wait for checkpoints after the last of them.
    pub(crate) fn settled(&self) -> Result<&Db> {
        {
            let mut queue = self.shared.queue.lock();
            let visible = self.visible;
            self.shared
                .wait(&mut queue, "a write takes too long", |queue| {
                    queue.applied >= visible
                })?;
        }
        match self.shared.db.get() {
            Some(db) => Ok(db),
            None => Err(self.shared.stuck("it is not open")),
        }
    }

    /// The database if it is open yet, however much is still to be written.
    pub(crate) fn current(&self) -> Option<&Db> {
        self.shared.db.get().map(AsRef::as_ref)
    }

    /// Bytes handed over and not yet written.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.shared.queue.lock().bytes
    }
}

impl Drop for Writer {
    /// What was not yet written is given up: the state is at its end, and its snapshots are elsewhere.
    fn drop(&mut self) {
        {
            let mut queue = self.shared.queue.lock();
            queue.closed = true;
            queue.commands.clear();
            self.shared.changed.notify_all();
        }
        if let Some(thread) = self.thread.take() {
            // A writer that panicked has told the panic itself.
            let _ = thread.join();
        }
        let left = self.shared.queue.lock().bytes;
        self.shared.memory.written(left);
    }
}

impl Shared {
    fn run(&self, open: impl FnOnce() -> Result<Arc<Db>>) {
        let db = match open() {
            Ok(db) => self.db.get_or_init(|| db),
            Err(error) => return self.fail(error),
        };
        while let Some(command) = self.next() {
            match command {
                Command::Write { writes, bytes } => match db.write(writes) {
                    Ok(()) => self.applied(bytes),
                    Err(error) => return self.fail(error),
                },
                Command::Checkpoint { to, done } => {
                    let made = checkpoint(db, &to).map(|()| Local::Files);
                    if done.send(made).is_err() {
                        // The snapshot was given up meanwhile; the folder is nobody's.
                        let _ = std::fs::remove_dir_all(&to);
                    }
                }
            }
        }
    }

    /// Waits for the next command without a limit: it ends with the state, which closes the queue.
    fn next(&self) -> Option<Command> {
        let mut queue = self.queue.lock();
        loop {
            if queue.closed {
                return None;
            }
            if let Some(command) = queue.commands.pop_front() {
                return Some(command);
            }
            self.changed.wait(&mut queue);
        }
    }

    fn applied(&self, bytes: usize) {
        let mut queue = self.queue.lock();
        queue.applied += 1;
        queue.bytes -= bytes;
        self.memory.written(bytes);
        self.changed.notify_all();
    }

    fn fail(&self, error: StateError) {
        let mut queue = self.queue.lock();
        for command in queue.commands.drain(..) {
            if let Command::Checkpoint { done, .. } = command {
                // Whoever waits no longer needs no answer.
                let _ = done.send(Err(error.clone()));
            }
        }
        queue.failed = Some(error);
        self.changed.notify_all();
    }

    fn wait(
        &self,
        queue: &mut parking_lot::MutexGuard<'_, Queue>,
        reason: &'static str,
        ready: impl Fn(&Queue) -> bool,
    ) -> Result<()> {
        let deadline = Instant::now() + STUCK_AFTER;
        loop {
            if let Some(error) = &queue.failed {
                return Err(error.clone());
            }
            if ready(queue) {
                return Ok(());
            }
            if self.changed.wait_until(queue, deadline).timed_out() {
                return Err(self.stuck(reason));
            }
        }
    }

    fn stuck(&self, reason: &'static str) -> StateError {
        StateError::Stuck {
            folder: self.folder.clone(),
            reason,
        }
    }
}

/// Flushes and links the files.
fn checkpoint(db: &Db, to: &Path) -> Result<()> {
    Checkpoint::new(db.rocks())
        .and_then(|checkpoint| checkpoint.create_checkpoint(to))
        .map_err(|error| db.error("snapshot", &error))
}

fn size_of(writes: &StateWrites) -> usize {
    let entries = writes.entries.iter().map(|write| {
        size_of_val(write) + write.key.len() + write.value.as_ref().map_or(0, Vec::len)
    });
    let ranges = writes
        .deleted_ranges
        .iter()
        .map(|range| size_of_val(range) + range.from.len() + range.to.as_ref().map_or(0, Vec::len));
    entries.sum::<usize>() + ranges.sum::<usize>()
}
