//! Whether a job can start from a snapshot, and which operator takes what of it. Pure; asked before anything runs.

use std::collections::{BTreeMap, BTreeSet};

use weir_layout::{check_operator, describe};
use weir_proto::v1;

use crate::validate::Refusal;

/// Refuses a snapshot that the graph can't start from, with the operator's and the field's name. Gives the manifest with the uids of the
/// graph: state of an operator whose columns were edited is found by its lineage.
pub fn fit(
    graph: &v1::JobGraph,
    mut manifest: v1::Manifest,
    allow_non_restored_state: bool,
) -> Result<v1::Manifest, Refusal> {
    if manifest.max_parallelism != graph.max_parallelism {
        return Err(format!(
            "the snapshot was taken with max_parallelism {}, the job has {}: set 'pipeline.max-parallelism' to {}",
            manifest.max_parallelism, graph.max_parallelism, manifest.max_parallelism
        ));
    }
    let wanted = describe(graph).map_err(|error| error.to_string())?;
    let takers = takers(graph, &wanted, &manifest);
    refuse_orphans(&manifest, &takers, &wanted, allow_non_restored_state)?;
    refuse_edited_in_flight(&manifest, &takers)?;
    for old in &manifest.descriptions {
        let taker = takers.get(&old.operator_uid);
        let new = taker.and_then(|uid| wanted.iter().find(|new| new.operator_uid == *uid));
        if let Some(new) = new {
            check_operator(old, new)?;
        }
    }
    for part in &mut manifest.operators {
        if let Some(uid) = takers.get(&part.operator_uid) {
            part.operator_uid.clone_from(uid);
        }
    }
    for description in &mut manifest.descriptions {
        if let Some(uid) = takers.get(&description.operator_uid) {
            description.operator_uid.clone_from(uid);
        }
    }
    Ok(manifest)
}

fn has_state(operator: &&v1::OperatorSnapshot) -> bool {
    let keyed = operator.keyed.as_ref();
    keyed.is_some_and(|keyed| !keyed.files.is_empty())
        || operator.in_flight.is_some()
        || operator.states.iter().any(|state| !state.items.is_empty())
}

/// The graph's operator for each operator of the snapshot, by uid: the one with the same uid, else the only one of the same lineage.
fn takers(
    graph: &v1::JobGraph,
    wanted: &[v1::OperatorDescription],
    manifest: &v1::Manifest,
) -> BTreeMap<String, String> {
    let operators = graph.vertices.iter().flat_map(|vertex| &vertex.chain);
    let in_graph: BTreeSet<&str> = operators.map(|operator| operator.uid.as_str()).collect();
    let in_snapshot: BTreeSet<&str> = manifest
        .operators
        .iter()
        .map(|operator| operator.operator_uid.as_str())
        .collect();
    let by_lineage = |uid: &str| {
        let same = |other: &v1::OperatorDescription, lineage: &str| other.lineage == lineage;
        let old = manifest
            .descriptions
            .iter()
            .find(|old| old.operator_uid == uid)?;
        let lineage = old.lineage.as_str();
        let free =
            |new: &&v1::OperatorDescription| !in_snapshot.contains(new.operator_uid.as_str());
        let lost = |old: &&v1::OperatorDescription| !in_graph.contains(old.operator_uid.as_str());
        let mut news = wanted.iter().filter(|new| same(new, lineage)).filter(free);
        let mut olds = manifest
            .descriptions
            .iter()
            .filter(|old| same(old, lineage))
            .filter(lost);
        match (news.next(), news.next(), olds.next(), olds.next()) {
            (Some(new), None, Some(_), None) if !lineage.is_empty() => {
                Some(new.operator_uid.clone())
            }
            _ => None,
        }
    };
    let taker = |uid: &str| match in_graph.contains(uid) {
        true => Some(uid.to_owned()),
        false => by_lineage(uid),
    };
    in_snapshot
        .iter()
        .filter_map(|uid| Some(((*uid).to_owned(), taker(uid)?)))
        .collect()
}

fn refuse_orphans(
    manifest: &v1::Manifest,
    takers: &BTreeMap<String, String>,
    wanted: &[v1::OperatorDescription],
    allow_non_restored_state: bool,
) -> Result<(), Refusal> {
    let stateful: Vec<_> = manifest.operators.iter().filter(has_state).collect();
    let taken = |operator: &&&v1::OperatorSnapshot| takers.contains_key(&operator.operator_uid);
    let Some(orphan) = stateful.iter().find(|operator| !taken(operator)) else {
        return Ok(());
    };
    if !stateful.iter().any(|operator| taken(&operator)) {
        return Err(format!(
            "it is of another job ('{}', {}): no operator of this job has state in it, neither '{}' (uid {}) nor any other",
            manifest.job_name, manifest.job_id, orphan.operator_name, orphan.operator_uid
        ));
    }
    if allow_non_restored_state {
        return Ok(());
    }
    Err(format!(
        "the snapshot has state of operator '{}' (uid {}), which the job does not have; \
         '--allow-non-restored-state' drops it, as does 'execution.state-recovery.ignore-unclaimed-state'{}",
        orphan.operator_name,
        orphan.operator_uid,
        nearest(manifest, takers, wanted, orphan).unwrap_or_default()
    ))
}

/// What is different about the one operator of the job that may have been meant: it is of the same kind and takes no other state.
fn nearest(
    manifest: &v1::Manifest,
    takers: &BTreeMap<String, String>,
    wanted: &[v1::OperatorDescription],
    orphan: &v1::OperatorSnapshot,
) -> Option<String> {
    let mut olds = manifest.descriptions.iter();
    let old = olds.find(|old| old.operator_uid == orphan.operator_uid)?;
    let takes_nothing = |new: &&v1::OperatorDescription| {
        new.kind == old.kind && !takers.values().any(|uid| *uid == new.operator_uid)
    };
    let mut news = wanted.iter().filter(takes_nothing);
    let (Some(new), None) = (news.next(), news.next()) else {
        return None;
    };
    let difference = check_operator(old, new).err()?;
    Some(format!(". Nearest to it is {difference}"))
}

/// Rows in flight have the columns of the query that took the snapshot, and nothing says how they become those of another one.
fn refuse_edited_in_flight(
    manifest: &v1::Manifest,
    takers: &BTreeMap<String, String>,
) -> Result<(), Refusal> {
    let edited = manifest.operators.iter().find(|operator| {
        let taker = takers.get(&operator.operator_uid);
        operator.in_flight.is_some() && taker.is_some_and(|uid| *uid != operator.operator_uid)
    });
    match edited {
        None => Ok(()),
        Some(operator) => Err(format!(
            "it is an unaligned checkpoint with rows in flight to operator '{}' (uid {}), whose columns have changed: start with the \
             query that took it, and stop that one with a savepoint, which has none",
            operator.operator_name, operator.operator_uid
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validate::tests::two_vertices;

    fn part(uid: &str, name: &str) -> v1::OperatorSnapshot {
        v1::OperatorSnapshot {
            operator_uid: uid.to_owned(),
            operator_name: name.to_owned(),
            keyed: Some(v1::KeyedState {
                files: vec![v1::FileRef::default()],
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    fn manifest(parts: &[(&str, &str)]) -> v1::Manifest {
        v1::Manifest {
            job_name: "orders".to_owned(),
            max_parallelism: 128,
            operators: parts.iter().map(|(uid, name)| part(uid, name)).collect(),
            ..Default::default()
        }
    }

    fn description(uid: &str, kind: &str, lineage: &str) -> v1::OperatorDescription {
        v1::OperatorDescription {
            operator_uid: uid.to_owned(),
            kind: kind.to_owned(),
            lineage: lineage.to_owned(),
            ..Default::default()
        }
    }

    #[test]
    fn state_that_nobody_takes_is_refused_by_name_unless_allowed() {
        let job = two_vertices(1);
        let snapshot = manifest(&[("uid-1", "operator 1"), ("gone", "Aggregate(bids)")]);
        let refusal = fit(&job, snapshot.clone(), false).unwrap_err();
        assert!(refusal.contains("'Aggregate(bids)'"), "{refusal}");
        assert!(refusal.contains("--allow-non-restored-state"), "{refusal}");
        assert!(fit(&job, snapshot, true).is_ok());
    }

    #[test]
    fn the_operator_that_may_have_been_meant_is_compared() {
        let job = two_vertices(1);
        let mut snapshot = manifest(&[("gone", "numbers"), ("uid-2", "operator 2")]);
        snapshot.descriptions = vec![description("gone", "source", "")];
        snapshot.descriptions[0].detail = "kafka".to_owned();
        let refusal = fit(&job, snapshot, false).unwrap_err();
        assert!(refusal.contains("'numbers' (uid gone)"), "{refusal}");
        assert!(
            refusal.contains("Nearest to it is operator 'operator 1' (uid uid-1): its state in the snapshot is of [kafka]"),
            "{refusal}"
        );
    }

    #[test]
    fn another_number_of_key_groups_is_refused_with_the_way_out() {
        let mut snapshot = manifest(&[("uid-1", "operator 1")]);
        snapshot.max_parallelism = 64;
        let refusal = fit(&two_vertices(1), snapshot, true).unwrap_err();
        assert!(
            refusal.contains("'pipeline.max-parallelism' to 64"),
            "{refusal}"
        );
    }

    #[test]
    fn another_jobs_snapshot_is_refused_even_if_state_may_be_dropped() {
        let snapshot = manifest(&[("a", "Sum(orders)"), ("b", "x")]);
        for allowed in [false, true] {
            let refusal = fit(&two_vertices(1), snapshot.clone(), allowed).unwrap_err();
            assert!(refusal.contains("another job ('orders'"), "{refusal}");
            assert!(refusal.contains("'Sum(orders)'"), "{refusal}");
        }
    }

    #[test]
    fn an_operator_of_another_kind_is_refused_by_name() {
        let mut snapshot = manifest(&[("uid-1", "operator 1")]);
        snapshot.descriptions = vec![description("uid-1", "window-join", "")];
        let refusal = fit(&two_vertices(1), snapshot, false).unwrap_err();
        assert!(
            refusal.contains("operator 'operator 1' (uid uid-1)"),
            "{refusal}"
        );
        assert!(refusal.contains("window-join"), "{refusal}");
    }

    #[test]
    fn rows_in_flight_to_an_edited_operator_or_to_none_are_refused_by_name() {
        let mut job = two_vertices(1);
        job.vertices[0].chain[0].lineage = "numbers".to_owned();
        let mut snapshot = manifest(&[("old-uid", "operator 1"), ("uid-2", "operator 2")]);
        snapshot.descriptions = vec![description("old-uid", "source", "numbers")];
        snapshot.operators[0].keyed = None;
        snapshot.operators[0].in_flight = Some(v1::InFlight::default());
        let refusal = fit(&job, snapshot.clone(), true).unwrap_err();
        assert!(
            refusal.contains("in flight to operator 'operator 1'"),
            "{refusal}"
        );

        snapshot.descriptions.clear();
        let refusal = fit(&job, snapshot.clone(), false).unwrap_err();
        assert!(refusal.contains("'operator 1' (uid old-uid)"), "{refusal}");
        assert!(fit(&job, snapshot, true).is_ok());
    }

    #[test]
    fn an_edited_operator_is_found_by_its_lineage_if_it_is_the_only_one() {
        let mut job = two_vertices(1);
        job.vertices[0].chain[0].lineage = "numbers".to_owned();
        let mut snapshot = manifest(&[("old-uid", "operator 1"), ("uid-2", "operator 2")]);
        snapshot.descriptions = vec![
            description("old-uid", "source", "numbers"),
            description("uid-2", "sink", ""),
        ];
        let fitted = fit(&job, snapshot.clone(), false).unwrap();
        let uids: Vec<_> = fitted
            .operators
            .iter()
            .map(|o| o.operator_uid.as_str())
            .collect();
        assert_eq!(uids, ["uid-1", "uid-2"]);
        assert_eq!(fitted.descriptions[0].operator_uid, "uid-1");

        snapshot.operators.push(part("third", "operator 3"));
        snapshot
            .descriptions
            .push(description("third", "source", "numbers"));
        let refusal = fit(&job, snapshot, false).unwrap_err();
        assert!(refusal.contains("'operator 1' (uid old-uid)"), "{refusal}");
    }
}
