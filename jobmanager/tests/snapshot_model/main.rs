//! The decisions about snapshots, model-checked: all ways through small worlds, in which everything may fail between any two steps.
//!
//! The worlds are made of the real decisions, which are pure: `Coordinator::step` (ready), `MetaState::apply` (complete, retained, claimed),
//! `takeover::announcements` (commit again), `FallBack` (what an attempt starts from), `publish::whose` (the conditional create),
//! `gc::of_dropped`, `of_claimed` and `orphans` (what goes), `SharedFiles` (what an incremental checkpoint may name again), `Committables` (what a
//! snapshot holds of a sink) and `Fences` (which commands a task manager takes).
//!
//! After each step: a checkpoint that the log retains is on the store with all its files, as it was completed; so is what a user has, or what a
//! job started from and still needs. Nobody starts from an older checkpoint than the newest, and never empty. A row is committed only if it is in
//! a complete checkpoint, never twice, and never after its transaction was aborted. When nothing is on its way, the rows of the newest
//! checkpoint are committed, and the store has nothing but what is retained; when the job has ended, nothing.
//!
//! Not in these worlds: rescaling, and damaged content (an object is there or not).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod attempts;
mod calls;
mod deletion;
mod explore;
mod invariants;
mod leader;
mod outside;
mod part;
mod subtask;
mod world;

use weir_proto::v1;
use weir_snapshot::manifest;

use explore::{Explored, explore};
use outside::Store;
use world::{Budget, OTHER, Submission, World};

const RETAIN_ONE: Submission = Submission {
    retained: 1,
    from: "",
    claim: false,
};

#[track_caller]
fn check(name: &str, world: World, expected: &[&str]) -> Explored {
    let explored = explore(name, world, 400_000);
    let Explored {
        states,
        steps,
        marks,
    } = &explored;
    println!("{name}: {states} states, {steps} steps: {marks:?}");
    for mark in expected {
        assert!(
            explored.marks.contains(mark),
            "{name}: '{mark}' was never seen"
        );
    }
    explored
}

/// A file reference and its object.
fn stored(store: &mut Store, base: &str, path: &str, local_name: &str) -> v1::FileRef {
    store.put(&format!("{base}/{path}"), "x".into());
    v1::FileRef {
        path: path.to_owned(),
        size_bytes: 1,
        local_name: local_name.to_owned(),
        ..Default::default()
    }
}

fn snapshot(
    store: &mut Store,
    (base, path): (&str, &str),
    id: u64,
    kind: v1::SnapshotKind,
    files: Vec<v1::FileRef>,
) {
    let manifest = v1::Manifest {
        checkpoint_id: id,
        kind: kind.into(),
        operators: vec![v1::OperatorSnapshot {
            keyed: Some(v1::KeyedState {
                files,
                ..Default::default()
            }),
            ..Default::default()
        }],
        ..Default::default()
    };
    store.put(&format!("{base}/{path}"), manifest::encode(&manifest));
}

/// Two checkpoints of a job that has failed; they share a file.
fn of_another_job() -> Store {
    let mut store = Store::default();
    let kind = v1::SnapshotKind::Checkpoint;
    for (id, tables) in [(6, &[1][..]), (7, &[1, 2])] {
        let mut files = Vec::new();
        for table in tables {
            let path = format!("shared/1-{}-u-{table}.sst", table + 5);
            files.push(stored(&mut store, OTHER, &path, &format!("{table}.sst")));
        }
        let own = format!("chk-{id}/1-u-MANIFEST-1");
        files.push(stored(&mut store, OTHER, &own, "MANIFEST-1"));
        let path = format!("chk-{id}/_metadata");
        snapshot(&mut store, (OTHER, &path), id, kind, files);
    }
    store
}

fn savepoint() -> Store {
    let mut store = Store::default();
    let base = "s3://b/taken";
    let names = ["1.sst", "MANIFEST-2"];
    let files = names.map(|name| stored(&mut store, base, &format!("files/{name}"), name));
    let kind = v1::SnapshotKind::Savepoint;
    snapshot(&mut store, (base, "_metadata"), 9, kind, files.into());
    store
}

#[test]
fn checkpoints_share_files_and_old_ones_are_collected() {
    for retained in [1, 2] {
        let submission = Submission {
            retained,
            ..RETAIN_ONE
        };
        let budget = Budget {
            checkpoints: 4,
            ..Budget::default()
        };
        let world = World::new(submission, budget, Store::default());
        let expected = ["quiet and tidy", "a checkpoint is collected"];
        check(&format!("{retained} retained"), world, &expected);
    }
}

#[test]
fn answers_are_lost_and_checkpoints_time_out() {
    let expected = [
        "quiet",
        "a checkpoint is collected",
        "an answer is lost",
        "an entry was applied that its leader had given up",
    ];
    for (losses, timeouts, expected) in [(1, 0, &expected[..]), (0, 1, &expected[..2])] {
        let budget = Budget {
            checkpoints: 2,
            losses,
            timeouts,
            ..Budget::default()
        };
        let world = World::new(RETAIN_ONE, budget, Store::default());
        check(&format!("{losses} lost, {timeouts} late"), world, expected);
    }
}

#[test]
fn the_attempt_fails_at_any_time_and_a_task_manager_may_go_on() {
    let budget = Budget {
        checkpoints: 2,
        failures: 1,
        cut_offs: 1,
        ..Budget::default()
    };
    let world = World::new(RETAIN_ONE, budget, Store::default());
    let expected = [
        "quiet and tidy",
        "orphans are swept",
        "a task manager refuses",
        "a checkpoint completes while the next attempt is started",
        "the log refuses an attempt",
    ];
    check("failures", world, &expected);
}

#[test]
fn rows_of_a_checkpoint_that_was_given_up_come_with_the_next_one() {
    let budget = Budget {
        checkpoints: 2,
        timeouts: 1,
        failures: 1,
        one_change: true,
        ..Budget::default()
    };
    let world = World::new(RETAIN_ONE, budget, Store::default());
    check("given up", world, &["quiet and tidy", "an attempt fails"]);
}

#[test]
fn a_job_manager_is_deposed_and_may_go_on() {
    for (checkpoints, failures, one_change) in [(2, 0, false), (1, 1, true)] {
        let budget = Budget {
            checkpoints,
            elections: 1,
            failures,
            one_change,
            ..Budget::default()
        };
        let world = World::new(RETAIN_ONE, budget, Store::default());
        let expected = [
            "quiet",
            "another leads",
            "a deposed leader's checkpoint does not count",
            "a task manager refuses",
        ];
        check(&format!("election, {failures} failures"), world, &expected);
    }
}

#[test]
fn savepoints_stay_whatever_becomes_of_the_job() {
    let budget = Budget {
        checkpoints: 1,
        savepoints: 1,
        failures: 1,
        ends: 1,
        one_change: true,
        ..Budget::default()
    };
    let world = World::new(RETAIN_ONE, budget, Store::default());
    check("savepoints", world, &["quiet and tidy", "ended"]);
}

#[test]
fn nothing_is_left_of_a_job_that_has_ended() {
    for (checkpoints, losses, elections) in [(2, 1, 0), (1, 0, 1)] {
        let budget = Budget {
            checkpoints,
            losses,
            elections,
            ends: 1,
            one_change: true,
            ..Budget::default()
        };
        let world = World::new(RETAIN_ONE, budget, Store::default());
        check(&format!("end, {losses} lost"), world, &["ended"]);
    }
}

#[test]
fn what_a_job_was_started_from_is_deleted_only_if_claimed_and_needed_no_longer() {
    for (name, from, store) in [
        ("checkpoint", "s3://b/other/chk-7", of_another_job()),
        ("savepoint", "s3://b/taken", savepoint()),
    ] {
        for (claim, expected) in [(true, "a claimed snapshot is deleted"), (false, "ended")] {
            let submission = Submission {
                retained: 1,
                from,
                claim,
            };
            for (losses, failures, elections) in [(1, 0, 0), (0, 1, 0), (0, 0, 1)] {
                let budget = Budget {
                    checkpoints: 1,
                    losses,
                    failures,
                    elections,
                    ends: 1,
                    one_change: true,
                    ..Budget::default()
                };
                let world = World::new(submission, budget, store.clone());
                check(&format!("{name}, claim {claim}"), world, &[expected]);
            }
        }
    }
}

#[test]
fn a_lost_object_leads_to_the_older_checkpoint_and_never_to_an_empty_start() {
    let submission = Submission {
        retained: 2,
        ..RETAIN_ONE
    };
    let budget = Budget {
        checkpoints: 2,
        failures: 1,
        damages: 1,
        one_change: true,
        ..Budget::default()
    };
    let world = World::new(submission, budget, Store::default());
    let expected = [
        "an older checkpoint is taken",
        "nothing is left to start from",
    ];
    check("damage", world, &expected);
}
