//! Keys as RocksDB has them: key group (u16, big-endian), table (u8), the operator's key. A key group is one contiguous range
//! over all tables, and a range of key groups too: that is what makes rescaling a matter of ranges.

use weir_common::key_group::KeyGroup;
use weir_dataflow::StateTable;

/// Bytes before the operator's key.
pub(crate) const PREFIX_BYTES: usize = 3;

/// Above every key: groups end at 32767.
pub(crate) const END: [u8; 1] = [0xff];

pub(crate) fn prefix(group: KeyGroup, table: StateTable) -> [u8; PREFIX_BYTES] {
    let [high, low] = group.to_be_bytes();
    [high, low, table.0]
}

/// The smallest bytes above all keys with this prefix.
pub(crate) fn prefix_end(group: KeyGroup, table: StateTable) -> [u8; PREFIX_BYTES] {
    match table.0.checked_add(1) {
        Some(next) => prefix(group, StateTable(next)),
        None => prefix(group.saturating_add(1), StateTable(0)),
    }
}

/// Where a group begins.
pub(crate) fn group_start(group: KeyGroup) -> [u8; 2] {
    group.to_be_bytes()
}

/// Where the group after this one begins.
pub(crate) fn group_end(group: KeyGroup) -> [u8; 2] {
    group.saturating_add(1).to_be_bytes()
}

pub(crate) fn encode(group: KeyGroup, table: StateTable, key: &[u8]) -> Vec<u8> {
    let mut encoded = Vec::with_capacity(PREFIX_BYTES + key.len());
    encoded.extend_from_slice(&prefix(group, table));
    encoded.extend_from_slice(key);
    encoded
}

/// Takes a stored key apart.
pub(crate) fn decode(encoded: &[u8]) -> Option<(KeyGroup, StateTable, &[u8])> {
    let ([high, low, table], key) = encoded.split_first_chunk::<PREFIX_BYTES>()?;
    let group = KeyGroup::from_be_bytes([*high, *low]);
    Some((group, StateTable(*table), key))
}
