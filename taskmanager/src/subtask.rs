//! One subtask: its input, its chain of operators, and the loop body that a slot's thread calls again and again.
//!
//! Invariants: nothing here blocks; no input is taken while an output waits for room or an operator can take nothing; a barrier goes on
//! only after every operator has been cut. A barrier that overtakes is no input: it cuts a subtask that can take no rows, too.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use weir_common::clock::Clock;
use weir_common::ids::{AttemptId, CheckpointId, JobId, SubtaskId};
use weir_dataflow::{Barrier, Deferred, Element, Error, OperatorInfo, Result, SnapshotTarget};
use weir_operators::source::{SourceOperator, SourceStatus};
use weir_proto::v1::SubtaskState;

use crate::chain::{Chain, OperatorCut};
use crate::gate::{GateEvent, InFlight};
use crate::in_flight::Recorded;
use crate::input::ChannelInput;
use crate::meter::Meter;

/// Elements (or polls of a source) that one step takes before the slot's other subtasks have their turn.
const ELEMENTS_PER_STEP: usize = 8;
/// Behind a barrier, writing what it froze takes as long as the stream's own work in a step, within these bounds: neither of
/// the two starves, and nobody waits long for either.
const WRITING: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_millis(8);
/// How often operators learn of processing time.
const TICK_MS: i64 = 100;

/// What a step did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Something; there may be more.
    Busy,
    /// There is no input.
    Idle,
    /// An output or a sink has no room.
    Blocked,
}

/// Which attempt of which job.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AttemptKey {
    /// The job.
    pub job: JobId,
    /// Its attempt.
    pub attempt: AttemptId,
}

/// What a subtask tells its attempt.
pub struct SubtaskEvent {
    /// Which subtask.
    pub subtask: SubtaskId,
    /// What happened.
    pub kind: EventKind,
}

/// See [`SubtaskEvent`].
pub enum EventKind {
    /// Everything is emitted.
    EndOfData,
    /// It has ended with an error.
    Failed(Error),
    /// The operators are cut: upload and acknowledge.
    Cut(Cut),
    /// A checkpoint can't be taken here.
    Declined {
        /// Which.
        checkpoint: CheckpointId,
        /// For people.
        reason: String,
    },
}

/// The synchronous part of a subtask's snapshot.
pub struct Cut {
    /// Of which checkpoint.
    pub barrier: Barrier,
    /// One an operator, in the order of the chain.
    pub operators: Vec<OperatorCut>,
    /// Time on the slot's thread.
    pub sync_ms: u64,
    /// Time from the first to the last barrier; 0 if these are still to come.
    pub alignment_ms: u64,
    /// The barrier overtakes: what it has overtaken follows. Closed without it if the checkpoint is given up.
    pub in_flight: Option<oneshot::Receiver<Recorded>>,
}

/// Where a subtask's rows come from.
pub enum Input {
    /// A connector.
    Source {
        /// Who it is in snapshots.
        info: OperatorInfo,
        /// Runs the reader.
        source: Box<SourceOperator>,
        /// Idleness was told to the next subtasks.
        idle: bool,
    },
    /// Other subtasks.
    Channels(Box<ChannelInput>),
}

/// A cut whose overtaken rows have not all come.
struct OpenCut {
    barrier: Barrier,
    recorded: oneshot::Sender<Recorded>,
}

/// See the module's head.
pub struct Subtask {
    attempt: AttemptKey,
    id: SubtaskId,
    input: Input,
    /// Kept for its memory.
    gate_events: Vec<GateEvent>,
    open_cut: Option<OpenCut>,
    chain: Chain,
    meter: Arc<Meter>,
    events: mpsc::Sender<SubtaskEvent>,
    clock: Clock,
    ticked_ms: i64,
    /// Forwarded to the next subtasks.
    watermark: i64,
    ended: bool,
    last_checkpoint: CheckpointId,
    step_ended: Instant,
    was_blocked: bool,
    /// Of the last turn.
    turned_ms: i64,
    /// For how long outputs or a sink had no room.
    blocked_ms: i64,
}

impl Subtask {
    /// A subtask whose operators are open.
    pub fn new(
        attempt: AttemptKey,
        id: SubtaskId,
        input: Input,
        chain: Chain,
        meter: Arc<Meter>,
        events: mpsc::Sender<SubtaskEvent>,
        clock: Clock,
    ) -> Self {
        Self {
            attempt,
            id,
            input,
            gate_events: Vec::new(),
            open_cut: None,
            chain,
            meter,
            events,
            clock,
            ticked_ms: i64::MIN,
            watermark: i64::MIN,
            ended: false,
            last_checkpoint: CheckpointId(0),
            step_ended: Instant::now(),
            was_blocked: false,
            turned_ms: i64::MAX,
            blocked_ms: 0,
        }
    }

    /// Which attempt it belongs to.
    pub fn attempt(&self) -> &AttemptKey {
        &self.attempt
    }

    /// Which subtask of the attempt.
    pub fn id(&self) -> SubtaskId {
        self.id
    }

    /// One turn.
    ///
    /// # Errors
    /// Any error ends the subtask.
    pub fn step(&mut self) -> Result<Progress> {
        let started = Instant::now();
        self.meter
            .add_waiting(started - self.step_ended, self.was_blocked);
        let progress = self
            .turn()
            .and_then(|progress| self.write_frozen(progress, started));
        let (rows, bytes) = self.chain.outputs.take_counts();
        self.meter.count_out(rows, bytes);
        self.step_ended = Instant::now();
        self.was_blocked = matches!(progress, Ok(Progress::Blocked));
        if matches!(progress, Ok(Progress::Busy)) {
            self.meter.add_busy(self.step_ended - started);
        } else {
            self.meter
                .add_waiting(self.step_ended - started, self.was_blocked);
        }
        progress
    }

    /// What the last barrier froze goes to the state, also while the outputs are full.
    fn write_frozen(&mut self, progress: Progress, started: Instant) -> Result<Progress> {
        if !self.chain.is_writing() {
            return Ok(progress);
        }
        let now = Instant::now();
        let time = (now - started).clamp(*WRITING.start(), *WRITING.end());
        let wrote = self.chain.write_frozen(self.clock.now_ms(), now + time)?;
        Ok(if wrote { Progress::Busy } else { progress })
    }

    fn turn(&mut self) -> Result<Progress> {
        let now_ms = self.clock.now_ms();
        if self.was_blocked {
            self.blocked_ms += now_ms.saturating_sub(self.turned_ms).max(0);
        }
        self.turned_ms = now_ms;
        self.overtake(now_ms)?;
        if !self.chain.outputs.flush(now_ms)? {
            return Ok(Progress::Blocked);
        }
        if now_ms.saturating_sub(self.ticked_ms) >= TICK_MS || now_ms < self.ticked_ms {
            self.tick(now_ms)?;
        }
        let mut progress = Progress::Idle;
        for _ in 0..ELEMENTS_PER_STEP {
            if self.chain.outputs.is_blocked() || !self.chain.ready()? {
                return Ok(match progress {
                    Progress::Busy => Progress::Busy,
                    _ => Progress::Blocked,
                });
            }
            let took = match &self.input {
                Input::Source { .. } => self.poll_source(now_ms)?,
                Input::Channels(_) => self.poll_channels(now_ms)?,
            };
            if !took {
                break;
            }
            progress = Progress::Busy;
        }
        Ok(progress)
    }

    fn tick(&mut self, now_ms: i64) -> Result<()> {
        self.ticked_ms = now_ms;
        if !self.ended {
            self.chain.tick(now_ms)?;
        }
        self.meter.set_watermark(self.watermark, now_ms);
        self.meter.set_state_bytes(self.chain.state_bytes());
        self.meter.set_memory_bytes(self.chain.memory_bytes());
        Ok(())
    }

    /// Whether it is to be polled again. No barrier comes between the parts of a batch: the source's position is behind all of it.
    fn poll_source(&mut self, now_ms: i64) -> Result<bool> {
        loop {
            let again = self.poll_source_once(now_ms)?;
            match &self.input {
                Input::Source { source, .. } if source.has_rest() => {}
                _ => return Ok(again),
            }
        }
    }

    fn poll_source_once(&mut self, now_ms: i64) -> Result<bool> {
        let Input::Source { source, idle, .. } = &mut self.input else {
            return Ok(false);
        };
        if self.ended {
            return Ok(false);
        }
        // Nobody is idle while nothing can be read: a split whose rows wait behind backpressure is not to be passed by the watermark (as in
        // Flink since FLINK-35886).
        let reading_ms = now_ms - self.blocked_ms;
        let status = source.poll(&mut self.chain.head(now_ms), reading_ms)?;
        let read = source.take_read();
        self.meter.count_in(read.rows, read.bytes);
        let watermark = source.take_watermark(reading_ms);
        let is_idle = source.is_idle(reading_ms);
        let was_idle = std::mem::replace(idle, is_idle);
        let complete = !source.is_stopped();
        if let Some(watermark) = watermark {
            self.forward_watermark(watermark, now_ms)?;
        }
        if is_idle && !was_idle {
            self.chain.outputs.broadcast(&Element::Idle)?;
        }
        if was_idle && !is_idle {
            self.announce_active()?;
        }
        match status {
            SourceStatus::Emitted => Ok(true),
            SourceStatus::Pending => Ok(false),
            SourceStatus::EndOfData => {
                if complete {
                    self.forward_watermark(i64::MAX, now_ms)?;
                }
                self.end_of_data(complete, now_ms)?;
                Ok(true)
            }
        }
    }

    /// Whether there was something.
    fn poll_channels(&mut self, now_ms: i64) -> Result<bool> {
        let mut events = std::mem::take(&mut self.gate_events);
        let took = match &mut self.input {
            Input::Channels(input) => input.step(now_ms, &mut events)?,
            Input::Source { .. } => false,
        };
        self.handle_all(events, now_ms)?;
        Ok(took)
    }

    /// Barriers that wait no longer, also while nothing else can be taken.
    fn overtake(&mut self, now_ms: i64) -> Result<()> {
        let Input::Channels(input) = &mut self.input else {
            return Ok(());
        };
        if !input.is_overtaken(now_ms) || !self.chain.can_be_cut()? {
            return Ok(());
        }
        let mut events = std::mem::take(&mut self.gate_events);
        input.overtake(now_ms, &mut events);
        self.handle_all(events, now_ms)
    }

    fn handle_all(&mut self, mut events: Vec<GateEvent>, now_ms: i64) -> Result<()> {
        for event in events.drain(..) {
            self.handle(event, now_ms)?;
        }
        self.gate_events = events;
        Ok(())
    }

    fn handle(&mut self, event: GateEvent, now_ms: i64) -> Result<()> {
        match event {
            GateEvent::Batch { input, batch } => {
                self.meter
                    .count_in(batch.num_rows() as u64, batch.memory_bytes() as u64);
                self.chain.process(input, batch, now_ms)
            }
            GateEvent::Watermark(watermark) => self.forward_watermark(watermark, now_ms),
            GateEvent::Idle => self.chain.outputs.broadcast(&Element::Idle),
            GateEvent::Active => self.announce_active(),
            GateEvent::Barrier {
                barrier,
                alignment_ms,
                overtakes,
            } => self.cut(barrier, alignment_ms, overtakes),
            GateEvent::InFlight {
                checkpoint,
                in_flight,
                alignment_ms,
            } => {
                self.complete_cut(checkpoint, in_flight, alignment_ms);
                Ok(())
            }
            GateEvent::Abandoned { checkpoint, by } => {
                self.give_up_cut(checkpoint);
                self.chain.checkpoint_aborted(checkpoint);
                self.tell(EventKind::Declined {
                    checkpoint,
                    reason: format!("the barrier of checkpoint {by} came before it was aligned"),
                })
            }
            GateEvent::EndOfData { complete } => self.end_of_data(complete, now_ms),
        }
    }

    fn forward_watermark(&mut self, watermark: i64, now_ms: i64) -> Result<()> {
        let forwarded = self.chain.watermark(watermark, now_ms)?;
        if forwarded > self.watermark {
            self.watermark = forwarded;
            self.chain
                .outputs
                .broadcast(&Element::Watermark(forwarded))?;
        }
        Ok(())
    }

    /// After idleness, a repeated watermark says that this subtask counts again.
    fn announce_active(&mut self) -> Result<()> {
        self.chain
            .outputs
            .broadcast(&Element::Watermark(self.watermark))
    }

    fn end_of_data(&mut self, complete: bool, now_ms: i64) -> Result<()> {
        if complete {
            self.chain.end_of_data(now_ms)?;
        }
        self.chain.outputs.broadcast(&Element::EndOfData)?;
        self.ended = true;
        self.meter.set_state(SubtaskState::EndOfData);
        self.tell(EventKind::EndOfData)
    }

    /// A checkpoint begins at this source.
    ///
    /// # Errors
    /// Any error ends the subtask.
    pub fn trigger(&mut self, barrier: Barrier) -> Result<()> {
        if barrier.checkpoint <= self.last_checkpoint {
            return Ok(());
        }
        let stop = barrier.stop_sources;
        self.cut(barrier, 0, false)?;
        if let (Input::Source { source, .. }, true) = (&mut self.input, stop) {
            source.stop();
        }
        Ok(())
    }

    fn cut(&mut self, mut barrier: Barrier, alignment_ms: u64, overtakes: bool) -> Result<()> {
        let started = Instant::now();
        let operators = self.cut_operators(barrier.checkpoint, &barrier.target)?;
        let in_flight = overtakes.then(|| {
            // The subtasks behind do not wait for their own clocks.
            barrier.overtakes_from_ms = Some(i64::MIN);
            let (recorded, follows) = oneshot::channel();
            let barrier = barrier.clone();
            self.open_cut = Some(OpenCut { barrier, recorded });
            follows
        });
        self.chain
            .outputs
            .broadcast(&Element::Barrier(barrier.clone()))?;
        // What waits for room goes ahead with the barrier, if that overtakes.
        self.chain.outputs.flush(self.clock.now_ms())?;
        let sync = started.elapsed();
        self.meter.record_cut(sync);
        self.tell(EventKind::Cut(Cut {
            barrier,
            operators,
            sync_ms: millis(sync),
            alignment_ms,
            in_flight,
        }))
    }

    fn complete_cut(&mut self, checkpoint: CheckpointId, in_flight: InFlight, alignment_ms: u64) {
        let Input::Channels(input) = &self.input else {
            return;
        };
        let cut = self.open_cut.take();
        if let Some(cut) = cut.filter(|cut| cut.barrier.checkpoint == checkpoint) {
            // Nobody waits for it when the attempt ends.
            let _ = cut.recorded.send(Recorded {
                barrier: cut.barrier,
                alignment_ms,
                ids: input.ids(),
                in_flight,
            });
        }
    }

    /// Whoever waits for the rest of the cut learns that it does not come.
    fn give_up_cut(&mut self, checkpoint: CheckpointId) {
        self.open_cut
            .take_if(|cut| cut.barrier.checkpoint <= checkpoint);
    }

    /// At the end of a job without checkpoints: what its sinks have is made final.
    ///
    /// # Errors
    /// Any error ends the subtask.
    pub fn last_cut(&mut self, checkpoint: CheckpointId) -> Result<Vec<OperatorCut>> {
        self.cut_operators(checkpoint, &SnapshotTarget::Checkpoint)
    }

    fn cut_operators(
        &mut self,
        checkpoint: CheckpointId,
        target: &SnapshotTarget,
    ) -> Result<Vec<OperatorCut>> {
        let now_ms = self.clock.now_ms();
        self.last_checkpoint = checkpoint;
        self.tick(now_ms)?;
        let mut operators = Vec::new();
        if let Input::Source { info, source, .. } = &mut self.input {
            operators.push(OperatorCut {
                info: info.clone(),
                state_schema: String::new(),
                part: source.snapshot()?,
                keyed: None,
            });
        }
        operators.extend(self.chain.snapshot(checkpoint, target, now_ms)?);
        Ok(operators)
    }

    /// The checkpoint is complete; gives the commits, to be run beside the stream.
    ///
    /// # Errors
    /// Any error ends the subtask.
    pub fn checkpoint_completed(&mut self, checkpoint: CheckpointId) -> Result<Vec<Deferred<()>>> {
        if let Input::Source { source, .. } = &mut self.input {
            source.checkpoint_completed(checkpoint.0)?;
        }
        self.chain.checkpoint_completed(checkpoint)
    }

    /// The checkpoint is given up.
    pub fn checkpoint_aborted(&mut self, checkpoint: CheckpointId) {
        if let Input::Channels(input) = &mut self.input {
            input.gate().abort(checkpoint);
        }
        self.give_up_cut(checkpoint);
        self.chain.checkpoint_aborted(checkpoint);
    }

    /// The subtask has ended with this error; it is not stepped again.
    pub fn fail(&mut self, error: Error) {
        self.meter.set_state(SubtaskState::Failed);
        // A full queue means that the attempt's task is gone, and with it the attempt.
        let _ = self.events.try_send(SubtaskEvent {
            subtask: self.id,
            kind: EventKind::Failed(error),
        });
    }

    /// Closes operators and reader; may wait for their threads.
    pub fn close(&mut self) {
        if let Input::Source { source, .. } = &mut self.input {
            source.close();
        }
        self.chain.close();
    }

    fn tell(&self, kind: EventKind) -> Result<()> {
        let event = SubtaskEvent {
            subtask: self.id,
            kind,
        };
        self.events.try_send(event).map_err(|_| {
            Error::Internal("the attempt takes no more events of its subtasks".to_owned())
        })
    }
}

/// Whole milliseconds.
pub fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[path = "subtask_tests.rs"]
mod tests;
