//! What a sink has prepared and not yet committed, by the checkpoint that prepared it. Pure.
//!
//! Invariant: a snapshot holds all that was prepared up to it and is not known to be committed, also what checkpoints prepared that were given
//! up: its rows lie in front of the snapshot's cut. What is prepared behind a checkpoint is never committed with it.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

/// See the file's head.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Committables {
    /// Prepared and not yet known to be committed.
    pending: BTreeMap<u64, Vec<Bytes>>,
    /// Being prepared.
    preparing: BTreeSet<u64>,
    /// A prepare that failed: its rows are lost to this attempt, which must end.
    failure: Option<String>,
}

impl Committables {
    /// A checkpoint's cut: what was written up to it is being prepared.
    pub fn begin(&mut self, checkpoint: u64) {
        self.preparing.insert(checkpoint);
    }

    /// It is prepared.
    pub fn prepared(&mut self, checkpoint: u64, items: Vec<Bytes>) {
        self.pending.insert(checkpoint, items);
        self.preparing.remove(&checkpoint);
    }

    /// It can't be prepared.
    pub fn failed(&mut self, checkpoint: u64, why: String) {
        self.failure = Some(why);
        self.preparing.remove(&checkpoint);
    }

    /// Why the attempt must end. It stays: a snapshot that is cut already may be finished after the subtask has heard of it.
    pub fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    /// A checkpoint before this one is still being prepared: what the snapshot holds is not known yet.
    pub fn waits_for_earlier(&self, checkpoint: u64) -> bool {
        self.preparing.range(..checkpoint).next().is_some()
    }

    /// What the snapshot of a checkpoint holds.
    ///
    /// # Errors
    /// If something could not be prepared: a snapshot without it would lose rows.
    pub fn in_snapshot(&self, checkpoint: u64) -> Result<Vec<Bytes>, String> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        let held = self.pending.range(..=checkpoint);
        Ok(held.flat_map(|(_, items)| items.iter().cloned()).collect())
    }

    /// What is to be committed when a checkpoint is complete, by the checkpoint that prepared it, in order.
    pub fn due(&self, checkpoint: u64) -> BTreeMap<u64, Vec<Bytes>> {
        let due = self.pending.range(..=checkpoint);
        due.map(|(id, items)| (*id, items.clone())).collect()
    }

    /// What this checkpoint had prepared is committed.
    pub fn committed(&mut self, checkpoint: u64) {
        self.pending.remove(&checkpoint);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items(names: &[&'static str]) -> Vec<Bytes> {
        names
            .iter()
            .map(|name| Bytes::from_static(name.as_bytes()))
            .collect()
    }

    #[test]
    fn a_snapshot_waits_for_what_lies_in_front_of_it_and_holds_it() {
        let mut ledger = Committables::default();
        ledger.begin(1);
        ledger.begin(2);
        ledger.prepared(2, items(&["b"]));
        assert!(ledger.waits_for_earlier(2) && !ledger.waits_for_earlier(1));
        ledger.prepared(1, items(&["a"]));
        assert!(!ledger.waits_for_earlier(2));
        assert_eq!(ledger.in_snapshot(1), Ok(items(&["a"])));
        assert_eq!(ledger.in_snapshot(2), Ok(items(&["a", "b"])));
        assert_eq!(ledger.due(1), BTreeMap::from([(1, items(&["a"]))]));
        ledger.committed(1);
        assert_eq!(ledger.in_snapshot(2), Ok(items(&["b"])));
    }

    #[test]
    fn what_cannot_be_prepared_is_in_no_snapshot() {
        let mut ledger = Committables::default();
        ledger.begin(1);
        ledger.failed(1, "full".to_owned());
        ledger.begin(2);
        ledger.prepared(2, items(&["b"]));
        assert!(!ledger.waits_for_earlier(2));
        assert_eq!(ledger.failure(), Some("full"));
        assert_eq!(ledger.in_snapshot(2), Err("full".to_owned()));
    }
}
