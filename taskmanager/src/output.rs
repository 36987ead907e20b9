//! The outgoing edges of a subtask. What finds no room waits in the subtask, in order, and the subtask takes no input until it is gone.
//!
//! A barrier that overtakes does not wait, and neither does what stands in front of it: it is sent without room, and the subtask takes no
//! input until the consumers have paid that back. So only consumers hold rows that belong to a snapshot.

use std::collections::VecDeque;

use weir_dataflow::{Batch, Element, Result};

use crate::channel::LocalSender;
use crate::exchange::send::RemoteSender;
use crate::partition::Partitioner;

/// Producer's end of a channel.
pub enum ChannelSender {
    /// To a subtask of this process.
    Local(LocalSender),
    /// To another process.
    Remote(Box<RemoteSender>),
}

impl ChannelSender {
    fn try_send(&mut self, element: Element) -> Result<Option<Element>> {
        match self {
            Self::Local(sender) => Ok(sender.try_send(element)),
            Self::Remote(sender) => sender.try_send(element),
        }
    }

    /// Needs no room at the consumer; a stream that carries many channels may still have to be waited for.
    fn send_ahead(&mut self, element: Element) -> Result<Option<Element>> {
        match self {
            Self::Local(sender) => {
                sender.send_ahead(element);
                Ok(None)
            }
            Self::Remote(sender) => sender.send_ahead(element),
        }
    }

    fn is_overdrawn(&self) -> bool {
        match self {
            Self::Local(sender) => sender.is_overdrawn(),
            Self::Remote(sender) => sender.is_overdrawn(),
        }
    }
}

struct ChannelOutput {
    sender: ChannelSender,
    pending: VecDeque<Element>,
    /// Something was sent ahead and may not be paid back yet.
    overdrawn: bool,
}

impl ChannelOutput {
    fn send(&mut self, element: Element) -> Result<()> {
        if !self.pending.is_empty() {
            self.pending.push_back(element);
            return Ok(());
        }
        if let Some(element) = self.sender.try_send(element)? {
            self.pending.push_back(element);
        }
        Ok(())
    }

    /// True when nothing waits and nothing is owed.
    fn flush(&mut self, now_ms: i64) -> Result<bool> {
        let mut ahead = self.ahead(now_ms);
        self.overdrawn |= ahead > 0;
        while let Some(element) = self.pending.pop_front() {
            let refused = if ahead > 0 {
                self.sender.send_ahead(element)?
            } else {
                self.sender.try_send(element)?
            };
            if let Some(element) = refused {
                self.pending.push_front(element);
                return Ok(false);
            }
            ahead = ahead.saturating_sub(1);
        }
        self.overdrawn = self.overdrawn && self.sender.is_overdrawn();
        Ok(!self.overdrawn)
    }

    /// How many of the waiting elements go up to a barrier that overtakes.
    fn ahead(&self, now_ms: i64) -> usize {
        let last = self
            .pending
            .iter()
            .rposition(|element| matches!(element, Element::Barrier(b) if b.overtakes(now_ms)));
        last.map_or(0, |position| position + 1)
    }
}

/// One outgoing edge.
pub struct EdgeOutput {
    partitioner: Partitioner,
    channels: Vec<ChannelOutput>,
}

impl EdgeOutput {
    /// `channels` in the order of the target's subtasks.
    pub fn new(partitioner: Partitioner, channels: Vec<ChannelSender>) -> Self {
        let channels = channels
            .into_iter()
            .map(|sender| ChannelOutput {
                sender,
                pending: VecDeque::new(),
                overdrawn: false,
            })
            .collect();
        Self {
            partitioner,
            channels,
        }
    }
}

/// All outgoing edges; none for a vertex that ends in a sink.
#[derive(Default)]
pub struct Outputs {
    edges: Vec<EdgeOutput>,
    /// Emitted, or taken by a sink, since the last call of [`Self::take_counts`].
    rows: u64,
    bytes: u64,
}

impl Outputs {
    /// Of these edges.
    pub fn new(edges: Vec<EdgeOutput>) -> Self {
        Self {
            edges,
            rows: 0,
            bytes: 0,
        }
    }

    /// Rows for every edge.
    pub fn emit(&mut self, batch: Batch) -> Result<()> {
        self.count(&batch);
        for edge in &mut self.edges {
            let EdgeOutput {
                partitioner,
                channels,
            } = edge;
            partitioner.split(
                batch.clone(),
                &mut |channel, part| match channels.get_mut(channel) {
                    Some(output) => output.send(Element::Batch(part)),
                    None => Ok(()),
                },
            )?;
        }
        Ok(())
    }

    fn count(&mut self, batch: &Batch) {
        self.rows += batch.num_rows() as u64;
        self.bytes += batch.memory_bytes() as u64;
    }

    /// The chain's last operator takes these rows: behind a sink they go out of the job.
    pub fn reached_last(&mut self, batch: &Batch) {
        if self.edges.is_empty() {
            self.count(batch);
        }
    }

    /// A watermark, barrier, or end for every channel.
    pub fn broadcast(&mut self, element: &Element) -> Result<()> {
        for channel in self.edges.iter_mut().flat_map(|edge| &mut edge.channels) {
            channel.send(element.clone())?;
        }
        Ok(())
    }

    /// Sends what waits, and ahead of its turn what stands in front of a barrier that overtakes. True when nothing waits any more.
    pub fn flush(&mut self, now_ms: i64) -> Result<bool> {
        let mut done = true;
        for channel in self.edges.iter_mut().flat_map(|edge| &mut edge.channels) {
            done &= channel.flush(now_ms)?;
        }
        Ok(done)
    }

    /// Something waits for room.
    pub fn is_blocked(&self) -> bool {
        let mut channels = self.edges.iter().flat_map(|edge| &edge.channels);
        channels.any(|channel| channel.overdrawn || !channel.pending.is_empty())
    }

    /// Rows and Arrow bytes that went out since the last call.
    pub fn take_counts(&mut self) -> (u64, u64) {
        (
            std::mem::take(&mut self.rows),
            std::mem::take(&mut self.bytes),
        )
    }
}
