//! A slot: one thread that steps its subtasks in turn and sleeps when none has anything to do.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TrySendError};
use crossbeam_utils::sync::Parker;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use weir_common::ids::{CheckpointId, SubtaskId};
use weir_dataflow::{Barrier, Deferred, Error, Result, SlotWaker};

use crate::chain::OperatorCut;
use crate::subtask::{AttemptKey, Progress, Subtask};

/// Longest sleep: timers of processing time are looked at this often.
const PARK: Duration = Duration::from_millis(20);
/// Longest sleep without subtasks; commands wake the thread.
const PARK_EMPTY: Duration = Duration::from_secs(1);
/// Commands that wait for the thread.
const COMMANDS: usize = 256;
/// How long a command waits for room among them.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);

/// What a slot's thread is told.
pub enum SlotCommand {
    /// Runs this subtask from now on.
    Add(Box<Subtask>),
    /// A checkpoint begins at a source. Answers whether the subtask is here.
    Trigger {
        /// Of which attempt.
        attempt: AttemptKey,
        /// Which source.
        subtask: SubtaskId,
        /// What it emits.
        barrier: Barrier,
        /// See above.
        reply: oneshot::Sender<bool>,
    },
    /// A checkpoint is complete: answers with the commits of each subtask of the attempt.
    Completed {
        /// Of which attempt.
        attempt: AttemptKey,
        /// Which checkpoint.
        checkpoint: CheckpointId,
        /// See above.
        reply: oneshot::Sender<Vec<(SubtaskId, Deferred<()>)>>,
    },
    /// Everything has ended and no checkpoint is taken: answers with the cut of each subtask of the attempt.
    LastCut {
        /// Of which attempt.
        attempt: AttemptKey,
        /// A number for the sinks.
        checkpoint: CheckpointId,
        /// See above.
        reply: oneshot::Sender<Vec<(SubtaskId, Vec<OperatorCut>)>>,
    },
    /// A checkpoint is given up.
    Aborted {
        /// Of which attempt.
        attempt: AttemptKey,
        /// Which checkpoint.
        checkpoint: CheckpointId,
    },
    /// Something that these subtasks need has failed outside of the thread.
    Fail {
        /// Of which attempt.
        attempt: AttemptKey,
        /// Which subtasks.
        subtasks: Vec<SubtaskId>,
        /// Becomes their error.
        message: String,
    },
    /// Hands the attempt's subtasks back, to be closed elsewhere.
    Remove {
        /// Which attempt.
        attempt: AttemptKey,
        /// See above.
        reply: oneshot::Sender<Vec<Subtask>>,
    },
    /// Ends the thread.
    Stop,
}

/// A slot as the rest of the process sees it. Ends its thread when dropped.
pub struct Slot {
    commands: Sender<SlotCommand>,
    waker: SlotWaker,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// The slot takes no commands: its thread is gone or stuck.
#[derive(Debug, thiserror::Error)]
#[error("the slot does not answer")]
pub struct SlotGone;

impl Slot {
    /// Starts the thread.
    pub fn start(index: usize) -> std::io::Result<Self> {
        let (commands, inbox) = crossbeam_channel::bounded(COMMANDS);
        let parker = Parker::new();
        let waker = SlotWaker::new(parker.unparker().clone());
        let thread = std::thread::Builder::new()
            .name(format!("slot-{index}"))
            .spawn(move || SlotThread::new(inbox, parker).run())?;
        Ok(Self {
            commands,
            waker,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Wakes the thread.
    pub fn waker(&self) -> SlotWaker {
        self.waker.clone()
    }

    /// Hands a command over; waits for room, not for its execution.
    pub async fn send(&self, command: SlotCommand) -> std::result::Result<(), SlotGone> {
        let mut command = command;
        let deadline = tokio::time::Instant::now() + COMMAND_TIMEOUT;
        loop {
            command = match self.commands.try_send(command) {
                Ok(()) => {
                    self.waker.wake();
                    return Ok(());
                }
                Err(TrySendError::Full(command)) => command,
                Err(TrySendError::Disconnected(_)) => return Err(SlotGone),
            };
            if tokio::time::Instant::now() >= deadline {
                return Err(SlotGone);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Ends the thread and waits for it. Blocks; a second call does nothing.
    pub fn stop(&self) {
        let Some(thread) = self.thread.lock().take() else {
            return;
        };
        // A full queue empties as long as the thread lives; without it, the thread has ended.
        let _ = self
            .commands
            .send_timeout(SlotCommand::Stop, COMMAND_TIMEOUT);
        self.waker.wake();
        if thread.join().is_err() {
            tracing::error!("a slot's thread had panicked");
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.stop();
    }
}

struct SlotThread {
    inbox: Receiver<SlotCommand>,
    parker: Parker,
    running: Vec<Subtask>,
    /// Ended with an error. They keep their channels until the attempt is torn down, so that the subtasks around them do not
    /// report broken channels over the real cause.
    failed: Vec<Subtask>,
}

impl SlotThread {
    fn new(inbox: Receiver<SlotCommand>, parker: Parker) -> Self {
        Self {
            inbox,
            parker,
            running: Vec::new(),
            failed: Vec::new(),
        }
    }

    fn run(mut self) {
        loop {
            while let Ok(command) = self.inbox.try_recv() {
                if matches!(command, SlotCommand::Stop) {
                    return self.close_all();
                }
                self.execute(command);
            }
            if !self.step_all() {
                let empty = self.running.is_empty();
                self.parker
                    .park_timeout(if empty { PARK_EMPTY } else { PARK });
            }
        }
    }

    /// Whether any subtask was busy.
    fn step_all(&mut self) -> bool {
        let mut busy = false;
        let mut index = 0;
        while index < self.running.len() {
            match guarded(|| self.running[index].step()) {
                Ok(progress) => {
                    busy |= progress == Progress::Busy;
                    index += 1;
                }
                Err(error) => self.fail(index, error),
            }
        }
        busy
    }

    fn fail(&mut self, index: usize, error: Error) {
        let mut subtask = self.running.remove(index);
        tracing::warn!(
            job = %subtask.attempt().job, attempt = subtask.attempt().attempt.0,
            subtask = %subtask.id(), %error, "subtask failed"
        );
        subtask.fail(error);
        self.failed.push(subtask);
    }

    /// Calls `call` for each running subtask of an attempt; an error fails the subtask.
    fn for_each(&mut self, attempt: &AttemptKey, mut call: impl FnMut(&mut Subtask) -> Result<()>) {
        let mut index = 0;
        while index < self.running.len() {
            let subtask = &mut self.running[index];
            if subtask.attempt() != attempt {
                index += 1;
                continue;
            }
            match guarded(|| call(subtask)) {
                Ok(()) => index += 1,
                Err(error) => self.fail(index, error),
            }
        }
    }

    fn execute(&mut self, command: SlotCommand) {
        match command {
            SlotCommand::Add(subtask) => self.running.push(*subtask),
            SlotCommand::Trigger {
                attempt,
                subtask: id,
                barrier,
                reply,
            } => {
                let mut found = false;
                self.for_each(&attempt, |subtask| {
                    if subtask.id() != id {
                        return Ok(());
                    }
                    found = true;
                    subtask.trigger(barrier.clone())
                });
                // Nobody listens any more when the call was given up.
                let _ = reply.send(found);
            }
            SlotCommand::Completed {
                attempt,
                checkpoint,
                reply,
            } => {
                let mut commits = Vec::new();
                self.for_each(&attempt, |subtask| {
                    let own = subtask.checkpoint_completed(checkpoint)?;
                    commits.extend(own.into_iter().map(|commit| (subtask.id(), commit)));
                    Ok(())
                });
                let _ = reply.send(commits);
            }
            SlotCommand::LastCut {
                attempt,
                checkpoint,
                reply,
            } => {
                let mut cuts = Vec::new();
                self.for_each(&attempt, |subtask| {
                    cuts.push((subtask.id(), subtask.last_cut(checkpoint)?));
                    Ok(())
                });
                let _ = reply.send(cuts);
            }
            SlotCommand::Aborted {
                attempt,
                checkpoint,
            } => self.for_each(&attempt, |subtask| {
                subtask.checkpoint_aborted(checkpoint);
                Ok(())
            }),
            SlotCommand::Fail {
                attempt,
                subtasks,
                message,
            } => self.for_each(&attempt, |subtask| {
                if !subtasks.contains(&subtask.id()) {
                    return Ok(());
                }
                Err(Error::External {
                    system: "exchange",
                    message: message.clone(),
                })
            }),
            SlotCommand::Remove { attempt, reply } => {
                let of_attempt = |subtask: &mut Subtask| *subtask.attempt() == attempt;
                let mut removed: Vec<_> = self.running.extract_if(.., of_attempt).collect();
                removed.extend(self.failed.extract_if(.., of_attempt));
                let _ = reply.send(removed);
            }
            SlotCommand::Stop => {}
        }
    }

    fn close_all(&mut self) {
        for subtask in self.running.iter_mut().chain(&mut self.failed) {
            close(subtask);
        }
    }
}

/// Closes a subtask; a panic of a connector or operator ends here.
pub fn close(subtask: &mut Subtask) {
    let closed = guarded(|| {
        subtask.close();
        Ok(())
    });
    if let Err(error) = closed {
        tracing::warn!(subtask = %subtask.id(), %error, "closing a subtask failed");
    }
}

/// A panic becomes an error: it fails the subtask and not the process.
pub fn guarded<T>(call: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(call))
        .unwrap_or_else(|panic| Err(Error::Internal(format!("panic: {}", text_of(&*panic)))))
}

fn text_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("of an unknown kind")
}
