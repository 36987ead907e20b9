//! Bytes of the batches that stand in channels, against their share of the process' memory.
//!
//! A channel that holds a batch gets no room for another one while the share is used up; an empty channel always takes one. So every
//! channel goes on, if by one batch at a time, and none waits for room that only another one can make.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use weir_dataflow::Element;

/// Of all channels whose consumer is in this process.
#[derive(Debug)]
pub struct ExchangeMemory {
    used: AtomicUsize,
    limit: usize,
}

impl ExchangeMemory {
    /// `limit` in bytes.
    pub fn new(limit: u64) -> Arc<Self> {
        Arc::new(Self {
            used: AtomicUsize::new(0),
            limit: usize::try_from(limit).unwrap_or(usize::MAX),
        })
    }

    /// The share is not used up.
    pub fn has_room(&self) -> bool {
        self.used.load(Ordering::Relaxed) < self.limit
    }

    /// In channels now.
    pub fn used_bytes(&self) -> u64 {
        self.used.load(Ordering::Relaxed) as u64
    }
}

/// One channel's part. What is left in it is given back when both ends are gone.
#[derive(Debug)]
pub struct ChannelMemory {
    all: Arc<ExchangeMemory>,
    own: AtomicUsize,
}

impl ChannelMemory {
    /// Of an empty channel.
    pub fn new(all: Arc<ExchangeMemory>) -> Self {
        Self {
            all,
            own: AtomicUsize::new(0),
        }
    }

    /// See [`ExchangeMemory::has_room`].
    pub fn has_room(&self) -> bool {
        self.all.has_room()
    }

    /// So many bytes come into the channel.
    pub fn add(&self, bytes: usize) {
        self.own.fetch_add(bytes, Ordering::Relaxed);
        self.all.used.fetch_add(bytes, Ordering::Relaxed);
    }

    /// They are being processed.
    pub fn remove(&self, bytes: usize) {
        self.own.fetch_sub(bytes, Ordering::Relaxed);
        self.all.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Drop for ChannelMemory {
    fn drop(&mut self) {
        self.all
            .used
            .fetch_sub(*self.own.get_mut(), Ordering::Relaxed);
    }
}

/// An element in a channel, with what it takes: that is counted once, for it takes a look at every column.
#[derive(Debug)]
pub struct Parcel {
    /// What is sent.
    pub element: Element,
    /// Of its rows; nothing else counts.
    pub bytes: usize,
}

impl From<Element> for Parcel {
    fn from(element: Element) -> Self {
        let bytes = match &element {
            Element::Batch(batch) => batch.data_bytes(),
            _ => 0,
        };
        Self { element, bytes }
    }
}
