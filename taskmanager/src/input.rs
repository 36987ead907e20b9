//! The input channels of a subtask with the gate behind them: which element is next, and which barriers go ahead of their turn.

use std::sync::Arc;

use weir_dataflow::{Batch, Element, Result};

use crate::channel::ChannelReceiver;
use crate::gate::{Gate, GateEvent};

/// Who is on the other end of an input channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChannelId {
    /// Input of the first operator that it feeds.
    pub input: usize,
    /// Id of the edge.
    pub edge: u32,
    /// The producing subtask.
    pub source: u32,
}

/// An input channel that is not read yet.
#[derive(Debug)]
pub struct InputChannel {
    /// Who is on the other end.
    pub id: ChannelId,
    /// This end.
    pub receiver: ChannelReceiver,
}

/// See the module's head.
pub struct ChannelInput {
    gate: Gate,
    receivers: Vec<ChannelReceiver>,
    ids: Arc<[ChannelId]>,
    /// Whose turn it is.
    next: usize,
}

impl ChannelInput {
    /// `restored`: batches that were in flight when the snapshot was taken, each with its input; they come first.
    pub fn new(channels: Vec<InputChannel>, restored: Vec<(usize, Batch)>) -> Self {
        let (ids, receivers): (Vec<_>, Vec<_>) =
            channels.into_iter().map(|c| (c.id, c.receiver)).unzip();
        Self {
            gate: Gate::new(ids.iter().map(|id| id.input), restored),
            receivers,
            ids: ids.into(),
            next: 0,
        }
    }

    /// In the order of the gate's channels.
    pub fn ids(&self) -> Arc<[ChannelId]> {
        Arc::clone(&self.ids)
    }

    /// The gate, to be told of checkpoints that are given up.
    pub fn gate(&mut self) -> &mut Gate {
        &mut self.gate
    }

    /// [`Self::overtake`] has something to do.
    pub fn is_overtaken(&self, now_ms: i64) -> bool {
        self.gate.is_due(now_ms) || self.receivers.iter().any(|r| r.is_overtaken(now_ms))
    }

    /// Takes barriers that wait in line no longer, whether or not the subtask can take rows.
    pub fn overtake(&mut self, now_ms: i64, events: &mut Vec<GateEvent>) {
        for (channel, receiver) in self.receivers.iter_mut().enumerate() {
            while receiver.is_overtaken(now_ms) {
                // The rest of the line, with the barrier, has not come in yet.
                let Some(element) = receiver.take() else {
                    break;
                };
                self.gate.overtake(channel, element, now_ms, events);
            }
        }
        self.gate.cut_if_due(now_ms, events);
    }

    /// Takes the next element of a channel that may be read, the channels in turn. False: there is none.
    ///
    /// # Errors
    /// If a channel breaks the protocol.
    pub fn step(&mut self, now_ms: i64, events: &mut Vec<GateEvent>) -> Result<bool> {
        if self.gate.step_restored(events) {
            return Ok(true);
        }
        let count = self.receivers.len();
        for offset in 0..count {
            let channel = (self.next + offset) % count;
            let Some(receiver) = self.receivers.get_mut(channel) else {
                continue;
            };
            if self.gate.is_blocked(channel) {
                continue;
            }
            let mut held = self.gate.step_held(channel, now_ms, events)?;
            if held.is_none()
                && let Some(element) = receiver.take()
            {
                held = Some(matches!(element, Element::Batch(_)));
                self.gate.step(channel, element, now_ms, events)?;
            }
            let Some(was_batch) = held else {
                continue;
            };
            if was_batch {
                receiver.release_batch();
            }
            self.next = (channel + 1) % count;
            return Ok(true);
        }
        Ok(false)
    }
}
