//! What a subtask takes out of a snapshot. Pure.

use bytes::Bytes;
use weir_common::key_group::KeyGroupRange;
use weir_dataflow::state::LAYOUT_LIST;
use weir_dataflow::{Error, OperatorStates, Result};
use weir_layout::{Migration, check_operator};
use weir_proto::v1;
use weir_proto::v1::operator_state::Redistribution;
use weir_snapshot::rescale;

/// One operator's share.
#[derive(Debug, Default)]
pub struct Share {
    /// Lists: UNION ones whole, of SPLIT ones this subtask's items.
    pub states: OperatorStates,
    /// Keyed state that has some of this subtask's key groups.
    pub keyed: Vec<v1::KeyedState>,
    /// Layout of the keyed state; `None` if the operator is not in the snapshot.
    pub state_schema: Option<String>,
    /// What its entries are; `None` if the snapshot does not say.
    pub description: Option<v1::OperatorDescription>,
}

impl Share {
    /// How the entries become those of the operator as it is now. `None`: the layouts in words have to be compared, one of the two is not
    /// described. Otherwise those count for nothing from here on.
    ///
    /// # Errors
    /// [`Error::Restore`], naming the operator and the column.
    pub fn migration(
        &mut self,
        wanted: Option<&v1::OperatorDescription>,
    ) -> Result<Option<Migration>> {
        let (Some(old), Some(new)) = (&self.description, wanted) else {
            return Ok(None);
        };
        let migration = check_operator(old, new).map_err(Error::Restore)?;
        self.state_schema = None;
        let states = std::mem::take(&mut self.states).into_inner().into_iter();
        self.states = OperatorStates::from_parts(states.filter(|state| state.name != LAYOUT_LIST));
        Ok(Some(migration))
    }
}

/// The share of subtask `index` of `parallelism`, which owns `range`.
pub fn share(
    manifest: &v1::Manifest,
    uid: &str,
    index: u32,
    parallelism: u32,
    range: KeyGroupRange,
) -> Share {
    let parts = rescale::parts(manifest, uid);
    let whole = OperatorStates::from_parts(
        parts
            .iter()
            .flat_map(|operator| operator.states.iter().cloned()),
    );
    let mine = whole.into_inner().into_iter().map(|mut state| {
        if state.redistribution() == Redistribution::Split {
            state.items = dealt(state.items, index, parallelism);
        }
        state
    });
    Share {
        states: OperatorStates::from_parts(mine),
        keyed: rescale::keyed_parts(manifest, uid, range)
            .into_iter()
            .cloned()
            .collect(),
        state_schema: parts.first().map(|operator| operator.state_schema.clone()),
        description: manifest
            .descriptions
            .iter()
            .find(|description| description.operator_uid == uid)
            .cloned(),
    }
}

fn dealt(items: Vec<Bytes>, index: u32, parallelism: u32) -> Vec<Bytes> {
    items
        .into_iter()
        .skip(index as usize)
        .step_by(parallelism.max(1) as usize)
        .collect()
}

/// Refuses a snapshot of another layout.
///
/// # Errors
/// [`Error::Restore`], naming the operator.
pub fn check_schema(operator: &str, snapshot: Option<&str>, current: &str) -> Result<()> {
    match snapshot {
        Some(old) if !old.is_empty() && !current.is_empty() && old != current => {
            Err(Error::Restore(format!(
                "the state of operator '{operator}' does not fit: the snapshot has [{old}], the job needs [{current}]; \
                 start without this snapshot, or with the query that wrote it"
            )))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(name: &str, kind: Redistribution, items: &[&'static str]) -> v1::OperatorState {
        v1::OperatorState {
            name: name.to_owned(),
            redistribution: kind.into(),
            items: items
                .iter()
                .map(|item| Bytes::from_static(item.as_bytes()))
                .collect(),
        }
    }

    fn part(
        subtask: u32,
        states: Vec<v1::OperatorState>,
        range: (u32, u32),
    ) -> v1::OperatorSnapshot {
        v1::OperatorSnapshot {
            operator_uid: "u".to_owned(),
            subtask,
            parallelism: 2,
            states,
            keyed: Some(v1::KeyedState {
                key_groups: Some(v1::KeyGroupRange {
                    first: range.0,
                    last: range.1,
                }),
                ..v1::KeyedState::default()
            }),
            state_schema: "long".to_owned(),
            ..v1::OperatorSnapshot::default()
        }
    }

    fn manifest() -> v1::Manifest {
        let union = |items: &[&'static str]| list("splits", Redistribution::Union, items);
        let split = |items: &[&'static str]| list("commits", Redistribution::Split, items);
        v1::Manifest {
            operators: vec![
                part(1, vec![union(&["c"]), split(&["3", "4"])], (64, 127)),
                part(0, vec![union(&["a", "b"]), split(&["1", "2"])], (0, 63)),
            ],
            ..v1::Manifest::default()
        }
    }

    #[test]
    fn every_subtask_gets_the_union_and_its_own_of_the_split() {
        let mut seen = Vec::new();
        for index in 0..3 {
            let range = KeyGroupRange::of_subtask(index, 128, 3);
            let share = share(&manifest(), "u", index, 3, range);
            assert_eq!(share.states.get("splits"), ["a", "b", "c"]);
            seen.extend(share.states.get("commits").to_vec());
            assert_eq!(share.keyed.len(), if index == 1 { 2 } else { 1 });
        }
        seen.sort();
        assert_eq!(seen, ["1", "2", "3", "4"]);
    }

    #[test]
    fn an_operator_that_is_not_in_the_snapshot_starts_empty() {
        let range = KeyGroupRange::of_subtask(0, 128, 1);
        let share = share(&manifest(), "other", 0, 1, range);
        assert_eq!(share.state_schema, None);
        assert!(share.keyed.is_empty() && share.states.get("splits").is_empty());
    }

    #[test]
    fn another_layout_is_refused_by_name() {
        assert!(check_schema("agg", Some("long"), "long").is_ok());
        assert!(check_schema("agg", None, "long").is_ok());
        let error = check_schema("agg", Some("long"), "string").unwrap_err();
        assert!(error.is_fatal());
        assert!(error.to_string().contains("'agg'"), "{error}");
    }
}
