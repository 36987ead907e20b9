//! Snapshots of the replicated state: they keep the log short, and bring a member that fell far behind up to date.

use raft::prelude::{ConfState, Snapshot};

use super::log_store::{LogStore, LogStoreError};
use crate::meta::MetaState;

/// Entries after which the log is replaced by a snapshot.
const ENTRIES_MAX: usize = if cfg!(test) { 20 } else { 2000 };
/// Bytes of entries after which it is.
const BYTES_MAX: usize = 16 << 20;

/// Whether it is time to compact.
pub(super) fn is_due(store: &LogStore) -> bool {
    let (entries, bytes) = store.size();
    entries > ENTRIES_MAX || bytes > BYTES_MAX
}

/// Replaces the entries up to `applied` by the state they add up to, with the members as of then.
pub(super) fn compact(
    store: &mut LogStore,
    state: &MetaState,
    applied: u64,
    conf_state: &ConfState,
) -> Result<(), LogStoreError> {
    let Some(term) = store.term_of(applied) else {
        return Ok(());
    };
    let mut snapshot = Snapshot::default();
    let metadata = snapshot.mut_metadata();
    metadata.index = applied;
    metadata.term = term;
    metadata.set_conf_state(conf_state.clone());
    snapshot.data = state.encode().into();
    store.install(snapshot)
}
