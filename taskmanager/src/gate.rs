//! What a subtask makes of the elements of its input channels: the combined watermark, idleness, barriers aligned over all channels or
//! ahead of their rows, the end of the data. Pure: no clock, and no queue but the elements that a barrier has overtaken.
//!
//! Invariants of an aligned barrier: nothing of a channel is taken behind it until it has come on all channels (or its checkpoint is given
//! up). Of one that overtakes (Chandy and Lamport's markers): the cut is made when the first one comes; every batch that is in front of one
//! and was not processed before the cut is recorded, exactly once; all batches are processed in the order of their channel. An aligned
//! barrier may become one that overtakes while it waits for the other channels.
//! Always: the watermark never goes back; a channel that has ended still delivers barriers.

use std::collections::VecDeque;

use weir_common::ids::CheckpointId;
use weir_dataflow::{Barrier, Batch, Element, Error, Result};

/// What comes out of the gate, in order.
#[derive(Debug)]
pub enum GateEvent {
    /// Rows for an input of the first operator.
    Batch {
        /// 0, or 1 for the right side of a join.
        input: usize,
        /// The rows.
        batch: Batch,
    },
    /// Event time of all channels that count has come to this.
    Watermark(i64),
    /// No channel holds the watermark back any more.
    Idle,
    /// Channels were idle and one is not any more; the watermark is as it was.
    Active,
    /// Snapshot now: the barrier has come on all channels, or it overtakes and has come on the first.
    Barrier {
        /// As the sources made it.
        barrier: Barrier,
        /// Since its first arrival.
        alignment_ms: u64,
        /// It overtakes: [`GateEvent::InFlight`] follows, or [`GateEvent::Abandoned`].
        overtakes: bool,
    },
    /// The barrier that overtakes has come on all channels.
    InFlight {
        /// Of which checkpoint.
        checkpoint: CheckpointId,
        /// What the cut has overtaken.
        in_flight: InFlight,
        /// From the first arrival of the barrier to the last.
        alignment_ms: u64,
    },
    /// A newer barrier came before this checkpoint's barrier was complete: it can't be taken here any more.
    Abandoned {
        /// The older checkpoint.
        checkpoint: CheckpointId,
        /// The one that overtook it.
        by: CheckpointId,
    },
    /// All channels have ended. `complete`: with the last watermark, so what is left is to be emitted; otherwise the sources were
    /// stopped behind a savepoint and nothing more may come out.
    EndOfData {
        /// See above.
        complete: bool,
    },
}

/// Batches that a cut has overtaken; they belong to its snapshot.
#[derive(Debug, Default)]
pub struct InFlight {
    /// What the attempt was started with and has not processed, each with its input.
    pub restored: Vec<(usize, Batch)>,
    /// By channel, in order.
    pub channels: Vec<Vec<Batch>>,
}

#[derive(Debug)]
struct Channel {
    input: usize,
    watermark: i64,
    /// The largest one before the last of all.
    reached: i64,
    idle: bool,
    ended: bool,
    /// Has delivered the barrier of the running alignment.
    arrived: bool,
    /// Left the queue before their turn, because a barrier behind them overtook; they come before what is in the queue.
    held: VecDeque<Element>,
}

impl Channel {
    /// Of several watermarks without rows between them only the last counts; so what is held is bounded by the room for batches.
    fn hold(&mut self, element: Element) {
        let is_status =
            |element: &Element| matches!(element, Element::Watermark(_) | Element::Idle);
        if let Element::Watermark(_) = element {
            while self.held.back().is_some_and(is_status) {
                self.held.pop_back();
            }
        }
        let repeats =
            matches!(element, Element::Idle) && matches!(self.held.back(), Some(Element::Idle));
        if !repeats {
            self.held.push_back(element);
        }
    }
}

#[derive(Debug)]
struct Alignment {
    barrier: Barrier,
    arrived: usize,
    started_ms: i64,
    /// The cut was made ahead of the last barrier: what it has overtaken, so far.
    in_flight: Option<InFlight>,
}

/// See the module's head.
#[derive(Debug)]
pub struct Gate {
    channels: Vec<Channel>,
    /// Batches that the snapshot held in flight, each with its input: they come before everything else.
    restored: VecDeque<(usize, Batch)>,
    watermark: i64,
    idle: bool,
    ended: usize,
    alignment: Option<Alignment>,
    /// Barriers at or below this are done with: complete, or given up.
    settled: u64,
}

impl Gate {
    /// One entry a channel: the input that it feeds. `restored`: batches that were in flight when the snapshot was taken.
    pub fn new(inputs: impl IntoIterator<Item = usize>, restored: Vec<(usize, Batch)>) -> Self {
        let channels = inputs
            .into_iter()
            .map(|input| Channel {
                input,
                watermark: i64::MIN,
                reached: i64::MIN,
                idle: false,
                ended: false,
                arrived: false,
                held: VecDeque::new(),
            })
            .collect();
        Self {
            channels,
            restored: restored.into(),
            watermark: i64::MIN,
            idle: false,
            ended: 0,
            alignment: None,
            settled: 0,
        }
    }

    /// The channel must not be read now: it waits for the others' barrier.
    pub fn is_blocked(&self, channel: usize) -> bool {
        let aligns = self
            .alignment
            .as_ref()
            .is_some_and(|a| a.in_flight.is_none());
        self.channels
            .get(channel)
            .is_none_or(|c| c.arrived && aligns)
    }

    /// All channels have delivered their end.
    pub fn is_ended(&self) -> bool {
        self.ended == self.channels.len()
    }

    /// The next batch of those that were restored, if there is one: to be called until there is none, before any other step.
    pub fn step_restored(&mut self, events: &mut Vec<GateEvent>) -> bool {
        let Some((input, batch)) = self.restored.pop_front() else {
            return false;
        };
        events.push(GateEvent::Batch { input, batch });
        true
    }

    /// Takes the next of the elements that a channel that is not blocked has held, and says whether it was a batch; `None`: there is none,
    /// so the queue's turn has come.
    ///
    /// # Errors
    /// As [`Self::step`].
    pub fn step_held(
        &mut self,
        channel: usize,
        now_ms: i64,
        events: &mut Vec<GateEvent>,
    ) -> Result<Option<bool>> {
        let held = self.channels.get_mut(channel).map(|c| &mut c.held);
        let Some(element) = held.and_then(VecDeque::pop_front) else {
            return Ok(None);
        };
        let is_batch = matches!(element, Element::Batch(_));
        self.process(channel, element, now_ms, events)?;
        Ok(Some(is_batch))
    }

    /// Takes the next element of the queue of a channel that is not blocked and holds nothing; appends to `events` what follows from it.
    ///
    /// # Errors
    /// If the channel breaks the protocol: an element while blocked, or rows after the end.
    pub fn step(
        &mut self,
        channel: usize,
        element: Element,
        now_ms: i64,
        events: &mut Vec<GateEvent>,
    ) -> Result<()> {
        self.record(channel, &element);
        self.process(channel, element, now_ms, events)
    }

    /// Takes the next element of a channel's queue out of turn, because a barrier on its way is to overtake. It may be blocked.
    pub fn overtake(
        &mut self,
        channel: usize,
        element: Element,
        now_ms: i64,
        events: &mut Vec<GateEvent>,
    ) {
        match element {
            Element::Barrier(barrier) if barrier.overtakes(now_ms) => {
                self.barrier(channel, barrier, now_ms, events);
            }
            element => {
                self.record(channel, &element);
                if let Some(state) = self.channels.get_mut(channel) {
                    state.hold(element);
                }
            }
        }
    }

    /// A barrier that waits for other channels is to wait no longer.
    pub fn is_due(&self, now_ms: i64) -> bool {
        self.alignment
            .as_ref()
            .is_some_and(|a| a.in_flight.is_none() && a.barrier.overtakes(now_ms))
    }

    /// Makes the cut of a barrier that [`Self::is_due`].
    pub fn cut_if_due(&mut self, now_ms: i64, events: &mut Vec<GateEvent>) {
        if self.is_due(now_ms) {
            self.cut_ahead(now_ms, events);
        }
    }

    /// A batch that leaves a queue in front of a barrier whose cut was made belongs to the snapshot.
    fn record(&mut self, channel: usize, element: &Element) {
        let Element::Batch(batch) = element else {
            return;
        };
        let in_flight = self.alignment.as_mut().and_then(|a| a.in_flight.as_mut());
        if let Some(in_flight) = in_flight
            && self.channels.get(channel).is_some_and(|c| !c.arrived)
            && let Some(recorded) = in_flight.channels.get_mut(channel)
        {
            recorded.push(batch.clone());
        }
    }

    fn process(
        &mut self,
        channel: usize,
        element: Element,
        now_ms: i64,
        events: &mut Vec<GateEvent>,
    ) -> Result<()> {
        if self.is_blocked(channel) {
            return Err(Error::Internal(format!(
                "channel {channel} does not exist, or was read behind its barrier"
            )));
        }
        let Some(state) = self.channels.get_mut(channel) else {
            return Ok(());
        };
        if state.ended && !matches!(element, Element::Barrier(_)) {
            return Err(Error::Internal(format!(
                "channel {channel} goes on after its end: {element:?}"
            )));
        }
        match element {
            Element::Batch(batch) => {
                let input = state.input;
                if std::mem::take(&mut state.idle) {
                    self.reactivated(events);
                }
                events.push(GateEvent::Batch { input, batch });
            }
            Element::Watermark(watermark) => {
                state.idle = false;
                state.watermark = state.watermark.max(watermark);
                if watermark != i64::MAX {
                    state.reached = state.watermark;
                }
                self.advance(events);
                self.reactivated(events);
            }
            Element::Idle => {
                state.idle = true;
                self.advance(events);
            }
            Element::Barrier(barrier) => self.barrier(channel, barrier, now_ms, events),
            Element::EndOfData => {
                state.ended = true;
                self.ended += 1;
                if self.is_ended() {
                    let complete = self.channels.iter().all(|c| c.watermark == i64::MAX);
                    events.push(GateEvent::EndOfData { complete });
                }
            }
        }
        Ok(())
    }

    /// The checkpoint is given up: what waits for its barrier goes on, and its barriers are ignored from now on.
    pub fn abort(&mut self, checkpoint: CheckpointId) {
        self.settled = self.settled.max(checkpoint.0);
        if self
            .alignment
            .as_ref()
            .is_some_and(|a| a.barrier.checkpoint <= checkpoint)
        {
            self.forget_alignment();
        }
    }

    /// Nothing waits for a barrier any more.
    fn forget_alignment(&mut self) {
        self.alignment = None;
        for channel in &mut self.channels {
            channel.arrived = false;
        }
    }

    fn barrier(
        &mut self,
        channel: usize,
        barrier: Barrier,
        now_ms: i64,
        events: &mut Vec<GateEvent>,
    ) {
        let id = barrier.checkpoint;
        if id.0 <= self.settled {
            return;
        }
        if let Some(current) = self.alignment.as_ref().map(|a| a.barrier.checkpoint) {
            if current > id {
                self.settled = id.0;
                events.push(GateEvent::Abandoned {
                    checkpoint: id,
                    by: current,
                });
                return;
            }
            if current < id {
                events.push(GateEvent::Abandoned {
                    checkpoint: current,
                    by: id,
                });
                self.settled = current.0;
                self.forget_alignment();
            }
        }
        let overtakes_from_ms = barrier.overtakes_from_ms.filter(|from| *from <= now_ms);
        let alignment = self.alignment.get_or_insert(Alignment {
            barrier,
            arrived: 0,
            started_ms: now_ms,
            in_flight: None,
        });
        // One that was let go ahead by a subtask in front takes those with it that still wait here.
        if overtakes_from_ms.is_some() {
            alignment.barrier.overtakes_from_ms = overtakes_from_ms;
        }
        self.cut_if_due(now_ms, events);
        self.arrive(channel, now_ms, events);
    }

    /// The cut ahead of the last barrier: what is held in front of one belongs to the snapshot.
    fn cut_ahead(&mut self, now_ms: i64, events: &mut Vec<GateEvent>) {
        let Some(alignment) = &mut self.alignment else {
            return;
        };
        let overtaken = |channel: &Channel| {
            let held = channel.held.iter().filter(|_| !channel.arrived);
            held.filter_map(|element| match element {
                Element::Batch(batch) => Some(batch.clone()),
                _ => None,
            })
            .collect()
        };
        alignment.in_flight = Some(InFlight {
            restored: self.restored.iter().cloned().collect(),
            channels: self.channels.iter().map(overtaken).collect(),
        });
        events.push(GateEvent::Barrier {
            barrier: alignment.barrier.clone(),
            alignment_ms: since(alignment.started_ms, now_ms),
            overtakes: true,
        });
    }

    fn arrive(&mut self, channel: usize, now_ms: i64, events: &mut Vec<GateEvent>) {
        let Some(alignment) = &mut self.alignment else {
            return;
        };
        if let Some(state) = self.channels.get_mut(channel) {
            alignment.arrived += usize::from(!state.arrived);
            state.arrived = true;
        }
        if alignment.arrived < self.channels.len() {
            return;
        }
        let alignment_ms = since(alignment.started_ms, now_ms);
        let (barrier, in_flight) = (alignment.barrier.clone(), alignment.in_flight.take());
        self.settled = barrier.checkpoint.0;
        self.forget_alignment();
        events.push(match in_flight {
            Some(in_flight) => GateEvent::InFlight {
                checkpoint: barrier.checkpoint,
                in_flight,
                alignment_ms,
            },
            None => GateEvent::Barrier {
                barrier,
                alignment_ms,
                overtakes: false,
            },
        });
    }

    /// The minimum over the channels that count: not idle, not at their end, and not behind what was already forwarded (a channel that
    /// was idle and comes back late has to catch up first, as in Flink).
    fn advance(&mut self, events: &mut Vec<GateEvent>) {
        let open = || self.channels.iter().filter(|c| c.watermark != i64::MAX);
        let next = if open().next().is_none() {
            Some(i64::MAX)
        } else if open().all(|c| c.idle) {
            // Nobody holds it back: what any had reached counts, also of those that have ended since. Others may have forwarded that,
            // and rows that wait for it here would be late where they go.
            self.channels.iter().map(|c| c.reached).max()
        } else {
            open()
                .filter(|c| !c.idle && c.watermark >= self.watermark)
                .map(|c| c.watermark)
                .min()
        };
        if let Some(next) = next.filter(|next| *next > self.watermark) {
            self.watermark = next;
            self.idle = false;
            events.push(GateEvent::Watermark(next));
        }
        let mut open = self.channels.iter().filter(|c| c.watermark != i64::MAX);
        let all_idle = open.clone().next().is_some() && open.all(|c| c.idle);
        if all_idle && !self.idle {
            self.idle = true;
            events.push(GateEvent::Idle);
        }
    }

    fn reactivated(&mut self, events: &mut Vec<GateEvent>) {
        let any_active = self
            .channels
            .iter()
            .any(|c| !c.idle && c.watermark != i64::MAX);
        if self.idle && any_active {
            self.idle = false;
            events.push(GateEvent::Active);
        }
    }
}

fn since(started_ms: i64, now_ms: i64) -> u64 {
    u64::try_from(now_ms - started_ms).unwrap_or(0)
}

#[cfg(test)]
#[path = "gate_tests.rs"]
mod tests;
