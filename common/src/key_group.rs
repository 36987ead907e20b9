//! Key → key group → subtask. The arithmetic is Flink's `KeyGroupRangeAssignment`, the hash is xxh3.

use serde::{Deserialize, Serialize};

/// A key group: the unit by which keyed state moves when a job is rescaled.
pub type KeyGroup = u16;

/// Largest `max_parallelism` (Flink's bound).
pub const MAX_KEY_GROUPS: u32 = 1 << 15;

/// Default `max_parallelism`.
pub const DEFAULT_KEY_GROUPS: u32 = 128;

/// The key group of an encoded key. `max_parallelism` is in 1..=[`MAX_KEY_GROUPS`].
#[inline]
pub fn key_group_of_hash(hash: u64, max_parallelism: u32) -> KeyGroup {
    // Multiply-shift over the upper half: no division, and the lower bits stay free for hash tables.
    (((hash >> 32) * u64::from(max_parallelism)) >> 32) as KeyGroup
}

/// xxh3-64 of the row-encoded key: the one hash that decides where a key lives.
#[inline]
pub fn hash_key(key: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(key)
}

/// The subtask that owns a key group.
#[inline]
pub fn subtask_of(group: KeyGroup, max_parallelism: u32, parallelism: u32) -> u32 {
    u32::from(group) * parallelism / max_parallelism
}

/// A contiguous range of key groups, both ends inclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct KeyGroupRange {
    /// First group.
    pub first: KeyGroup,
    /// Last group.
    pub last: KeyGroup,
}

impl KeyGroupRange {
    /// What subtask `index` of `parallelism` owns. `parallelism` is at most `max_parallelism`.
    pub fn of_subtask(index: u32, max_parallelism: u32, parallelism: u32) -> Self {
        let first = (index * max_parallelism).div_ceil(parallelism);
        let last = ((index + 1) * max_parallelism).div_ceil(parallelism) - 1;
        Self {
            first: first as KeyGroup,
            last: last as KeyGroup,
        }
    }

    /// Whether the group is inside.
    pub fn contains(self, group: KeyGroup) -> bool {
        (self.first..=self.last).contains(&group)
    }

    /// The common part, if any.
    pub fn intersect(self, other: Self) -> Option<Self> {
        let first = self.first.max(other.first);
        let last = self.last.min(other.last);
        (first <= last).then_some(Self { first, last })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn ranges_partition_the_groups(max in 1u32..=4096, parallelism in 1u32..=64) {
            prop_assume!(parallelism <= max);
            let mut next = 0u32;
            for index in 0..parallelism {
                let range = KeyGroupRange::of_subtask(index, max, parallelism);
                prop_assert_eq!(u32::from(range.first), next);
                for group in range.first..=range.last {
                    prop_assert_eq!(subtask_of(group, max, parallelism), index);
                }
                next = u32::from(range.last) + 1;
            }
            prop_assert_eq!(next, max);
        }

        #[test]
        fn a_hash_stays_below_the_number_of_groups(hash: u64, max in 1u32..=MAX_KEY_GROUPS) {
            prop_assert!(u32::from(key_group_of_hash(hash, max)) < max);
        }
    }
}
