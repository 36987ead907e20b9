//! Wakes the thread of a slot that sleeps because none of its subtasks had anything to do.

use std::sync::Arc;

use crossbeam_utils::sync::Unparker;

/// Held by whoever makes input available or room free: channels, I/O threads of sources and sinks. Cheap to clone.
#[derive(Clone, Default)]
pub struct SlotWaker(Option<Arc<Unparker>>);

impl SlotWaker {
    /// Wakes the thread that parks on the other end.
    pub fn new(unparker: Unparker) -> Self {
        Self(Some(Arc::new(unparker)))
    }

    /// Wakes nobody: for tests.
    pub fn none() -> Self {
        Self(None)
    }

    /// The slot's thread runs its subtasks once more, soon. Never blocks.
    pub fn wake(&self) {
        if let Some(unparker) = &self.0 {
            unparker.unpark();
        }
    }
}

impl std::fmt::Debug for SlotWaker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SlotWaker")
    }
}
