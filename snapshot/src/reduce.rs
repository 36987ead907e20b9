//! A manifest without what a task manager does not need: at a restore each gets one, and all of all subtasks would be too much for each of
//! thousands. Pure.

use std::collections::BTreeMap;

use weir_common::key_group::KeyGroupRange;
use weir_proto::v1;

use crate::rescale::range_from_proto;

/// Key groups that subtasks need, by the id of their operator.
pub type Needed<'a> = BTreeMap<&'a str, Vec<KeyGroupRange>>;

/// A manifest of which parts are taken many times.
pub struct Reducer {
    /// Without its parts.
    head: v1::Manifest,
    parts: Vec<Part>,
    /// Operators' ids; parts name them by their place here.
    uids: Vec<String>,
}

struct Part {
    uid: usize,
    /// Of its keyed state.
    key_groups: Option<KeyGroupRange>,
    /// Every subtask of the operator may need it: it has state that belongs to no key, or is the one that says how the state is laid out.
    for_all: bool,
    content: v1::OperatorSnapshot,
}

impl Reducer {
    /// Of the whole.
    pub fn new(mut manifest: v1::Manifest) -> Self {
        let mut uids: BTreeMap<String, usize> = BTreeMap::new();
        let mut parts = Vec::new();
        for content in std::mem::take(&mut manifest.operators) {
            let next = uids.len();
            let uid = *uids.entry(content.operator_uid.clone()).or_insert(next);
            let keyed = content.keyed.as_ref();
            parts.push(Part {
                uid,
                key_groups: keyed
                    .and_then(|keyed| keyed.key_groups.as_ref())
                    .and_then(range_from_proto),
                for_all: uid == next || !content.states.is_empty() || content.in_flight.is_some(),
                content,
            });
        }
        let mut by_place: Vec<(usize, String)> =
            uids.into_iter().map(|(uid, place)| (place, uid)).collect();
        by_place.sort_unstable();
        Self {
            head: manifest,
            parts,
            uids: by_place.into_iter().map(|(_, uid)| uid).collect(),
        }
    }

    /// What these need: parts of their operators, and of keyed state only what has some of their key groups.
    pub fn reduced(&self, needed: &Needed<'_>) -> v1::Manifest {
        let needed: Vec<Option<&Vec<KeyGroupRange>>> = self
            .uids
            .iter()
            .map(|uid| needed.get(uid.as_str()))
            .collect();
        let reduced = self.parts.iter().filter_map(|part| {
            let ranges = (*needed.get(part.uid)?)?;
            let has_keys = part.key_groups.is_some_and(|own| {
                let mut ranges = ranges.iter();
                ranges.any(|range| range.intersect(own).is_some())
            });
            match (has_keys, part.for_all) {
                (true, _) => Some(part.content.clone()),
                (false, true) => Some(without_keys(&part.content)),
                (false, false) => None,
            }
        });
        v1::Manifest {
            operators: reduced.collect(),
            ..self.head.clone()
        }
    }
}

fn without_keys(part: &v1::OperatorSnapshot) -> v1::OperatorSnapshot {
    v1::OperatorSnapshot {
        operator_uid: part.operator_uid.clone(),
        operator_name: part.operator_name.clone(),
        subtask: part.subtask,
        parallelism: part.parallelism,
        keyed: None,
        states: part.states.clone(),
        state_schema: part.state_schema.clone(),
        in_flight: part.in_flight.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rescale::{keyed_parts, parts, range_to_proto};

    /// "a" has keyed state, "b" splits, too.
    fn manifest(parallelism: u32) -> v1::Manifest {
        let part = |uid: &str, subtask| v1::OperatorSnapshot {
            operator_uid: uid.to_owned(),
            subtask,
            parallelism,
            state_schema: "long".to_owned(),
            keyed: Some(v1::KeyedState {
                key_groups: Some(range_to_proto(KeyGroupRange::of_subtask(
                    subtask,
                    128,
                    parallelism,
                ))),
                ..Default::default()
            }),
            states: (uid == "b")
                .then(v1::OperatorState::default)
                .into_iter()
                .collect(),
            ..Default::default()
        };
        let all = |uid| (0..parallelism).map(move |subtask| part(uid, subtask));
        v1::Manifest {
            checkpoint_id: 7,
            operators: all("a").chain(all("b")).collect(),
            ..Default::default()
        }
    }

    #[test]
    fn each_subtask_finds_in_a_reduced_manifest_what_the_whole_one_has_for_it() {
        for (old, new) in [(1, 1), (4, 4), (4, 3), (3, 16)] {
            let whole = manifest(old);
            let reducer = Reducer::new(whole.clone());
            for index in 0..new {
                let own = KeyGroupRange::of_subtask(index, 128, new);
                let reduced = reducer.reduced(&Needed::from([("a", vec![own]), ("b", vec![own])]));
                for uid in ["a", "b"] {
                    assert_eq!(
                        keyed_parts(&reduced, uid, own),
                        keyed_parts(&whole, uid, own)
                    );
                    let schema = |manifest| parts(manifest, uid)[0].state_schema.clone();
                    assert_eq!(schema(&reduced), schema(&whole));
                    let states = |manifest| -> Vec<_> {
                        let parts = parts(manifest, uid).into_iter();
                        parts.flat_map(|part| part.states.clone()).collect()
                    };
                    assert_eq!(states(&reduced), states(&whole));
                }
                assert_eq!(reduced.checkpoint_id, 7);
            }
        }
    }

    #[test]
    fn what_nobody_needs_is_not_there() {
        let reducer = Reducer::new(manifest(100));
        let own = KeyGroupRange::of_subtask(2, 128, 100);
        let has = |uid: &'static str| {
            let reduced = reducer.reduced(&Needed::from([(uid, vec![own])]));
            let keyed = reduced.operators.iter().filter(|part| part.keyed.is_some());
            let keyed: Vec<(String, u32)> = keyed
                .map(|part| (part.operator_uid.clone(), part.subtask))
                .collect();
            (reduced.operators.len(), keyed)
        };
        // The needed part and the first one, which has the layout; of "b" all, because of the splits.
        assert_eq!(has("a"), (2, vec![("a".to_owned(), 2)]));
        assert_eq!(has("b"), (100, vec![("b".to_owned(), 2)]));
        assert_eq!(has("other"), (0, vec![]));
    }
}
