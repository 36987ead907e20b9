//! What a subtask makes of the elements of its input channels: the combined watermark, idleness, barriers aligned over all channels,
//! the end of the data. Pure: no queue, no clock.
//!
//! Invariants: after a barrier on a channel, nothing of that channel is taken until the barrier has come on all channels (or its checkpoint
//! is given up); the watermark never goes back; a channel that has ended still delivers barriers.

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
    /// The barrier has come on all channels: snapshot now.
    Barrier {
        /// As the sources made it.
        barrier: Barrier,
        /// Since its first arrival.
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

#[derive(Debug)]
struct Channel {
    input: usize,
    watermark: i64,
    idle: bool,
    ended: bool,
    /// Has delivered the barrier of the running alignment.
    blocked: bool,
}

#[derive(Debug)]
struct Alignment {
    barrier: Barrier,
    arrived: usize,
    started_ms: i64,
}

/// See the module's head.
#[derive(Debug)]
pub struct Gate {
    channels: Vec<Channel>,
    watermark: i64,
    idle: bool,
    ended: usize,
    alignment: Option<Alignment>,
    /// Barriers at or below this are done with: complete, or given up.
    settled: u64,
}

impl Gate {
    /// One entry a channel: the input that it feeds.
    pub fn new(inputs: impl IntoIterator<Item = usize>) -> Self {
        let channels = inputs
            .into_iter()
            .map(|input| Channel {
                input,
                watermark: i64::MIN,
                idle: false,
                ended: false,
                blocked: false,
            })
            .collect();
        Self {
            channels,
            watermark: i64::MIN,
            idle: false,
            ended: 0,
            alignment: None,
            settled: 0,
        }
    }

    /// The channel must not be read now: it waits for the others' barrier.
    pub fn is_blocked(&self, channel: usize) -> bool {
        self.channels.get(channel).is_none_or(|c| c.blocked)
    }

    /// All channels have delivered their end.
    pub fn is_ended(&self) -> bool {
        self.ended == self.channels.len()
    }

    /// Takes the next element of a channel that is not blocked; appends to `events` what follows from it.
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
        let state = self
            .channels
            .get_mut(channel)
            .ok_or_else(|| Error::Internal(format!("no input channel {channel}")))?;
        if state.blocked {
            return Err(Error::Internal(format!(
                "channel {channel} was read behind its barrier"
            )));
        }
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
            self.unblock();
        }
    }

    fn unblock(&mut self) {
        self.alignment = None;
        for channel in &mut self.channels {
            channel.blocked = false;
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
                self.unblock();
            }
        }
        let alignment = self.alignment.get_or_insert(Alignment {
            barrier,
            arrived: 0,
            started_ms: now_ms,
        });
        alignment.arrived += 1;
        if alignment.arrived < self.channels.len() {
            if let Some(state) = self.channels.get_mut(channel) {
                state.blocked = true;
            }
            return;
        }
        if let Some(Alignment {
            barrier,
            started_ms,
            ..
        }) = self.alignment.take()
        {
            self.settled = id.0;
            self.unblock();
            let alignment_ms = u64::try_from(now_ms - started_ms).unwrap_or(0);
            events.push(GateEvent::Barrier {
                barrier,
                alignment_ms,
            });
        }
    }

    /// The minimum over the channels that count: not idle, not at their end, and not behind what was already forwarded (a channel that
    /// was idle and comes back late has to catch up first, as in Flink).
    fn advance(&mut self, events: &mut Vec<GateEvent>) {
        let open = || self.channels.iter().filter(|c| c.watermark != i64::MAX);
        let next = if open().next().is_none() {
            Some(i64::MAX)
        } else if open().all(|c| c.idle) {
            // Nobody holds it back: what any of them had reached counts.
            open().map(|c| c.watermark).max()
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

#[cfg(test)]
#[path = "gate_tests.rs"]
mod tests;
