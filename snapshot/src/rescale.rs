//! Which old state a subtask needs: the arithmetic of key-group ranges, and the parts of a manifest by it.

use weir_common::key_group::{KeyGroup, KeyGroupRange};
use weir_proto::v1;

/// From the wire; `None` if it is no range.
pub fn range_from_proto(range: &v1::KeyGroupRange) -> Option<KeyGroupRange> {
    let first = KeyGroup::try_from(range.first).ok()?;
    let last = KeyGroup::try_from(range.last).ok()?;
    (first <= last).then_some(KeyGroupRange { first, last })
}

/// For the wire.
pub fn range_to_proto(range: KeyGroupRange) -> v1::KeyGroupRange {
    v1::KeyGroupRange {
        first: range.first.into(),
        last: range.last.into(),
    }
}

/// The old ranges (by index) that share key groups with the new one, and which groups these are.
pub fn overlapping(old: &[KeyGroupRange], new: KeyGroupRange) -> Vec<(usize, KeyGroupRange)> {
    old.iter()
        .enumerate()
        .filter_map(|(index, range)| Some((index, range.intersect(new)?)))
        .collect()
}

/// What the subtasks of an operator had, in the order of these.
pub fn parts<'a>(manifest: &'a v1::Manifest, operator_uid: &str) -> Vec<&'a v1::OperatorSnapshot> {
    let operators = manifest.operators.iter();
    let mut parts: Vec<_> = operators
        .filter(|part| part.operator_uid == operator_uid)
        .collect();
    parts.sort_by_key(|part| part.subtask);
    parts
}

/// The keyed state of an operator that `new` needs groups of.
pub fn keyed_parts<'a>(
    manifest: &'a v1::Manifest,
    operator_uid: &str,
    new: KeyGroupRange,
) -> Vec<&'a v1::KeyedState> {
    parts(manifest, operator_uid)
        .into_iter()
        .filter_map(|part| part.keyed.as_ref())
        .filter(|keyed| {
            let range = keyed.key_groups.as_ref().and_then(range_from_proto);
            range.is_some_and(|range| range.intersect(new).is_some())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn each_group_goes_from_one_old_to_one_new_subtask(
            max in 1u32..=512,
            old in 1u32..=40,
            new in 1u32..=40,
        ) {
            prop_assume!(old <= max && new <= max);
            let range = |index, parallelism| KeyGroupRange::of_subtask(index, max, parallelism);
            let ranges: Vec<_> = (0..old).map(|index| range(index, old)).collect();
            let mut seen = vec![0; max as usize];
            for index in 0..new {
                let target = range(index, new);
                for (from, part) in overlapping(&ranges, target) {
                    for group in part.first..=part.last {
                        prop_assert!(ranges[from].contains(group) && target.contains(group));
                        seen[usize::from(group)] += 1;
                    }
                }
            }
            prop_assert!(seen.iter().all(|times| *times == 1));
        }
    }

    #[test]
    fn a_hostile_range_is_none() {
        for (first, last) in [(2, 1), (0, 1 << 20), (u32::MAX, u32::MAX)] {
            assert_eq!(range_from_proto(&v1::KeyGroupRange { first, last }), None);
        }
    }
}
