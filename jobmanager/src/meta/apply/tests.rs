use std::sync::Arc;

use weir_proto::v1::meta_command::Command;

use super::*;
use crate::meta::command;

fn apply(state: &mut MetaState, command: Command) -> Result<Outcome, Refusal> {
    state.apply(&command::at(7, command))
}

fn submit(state: &mut MetaState, request_id: &str, job_id: &str, retained: u32) -> Outcome {
    let graph = v1::JobGraph {
        name: "q5".to_owned(),
        checkpoint: Some(v1::CheckpointConfig {
            retained,
            directory: "file:///c".to_owned(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let jobs = v1::SubmitJobsCommand {
        request_id: request_id.to_owned(),
        jobs: vec![v1::NewJob {
            job_id: job_id.to_owned(),
            graph: Some(graph),
            ..Default::default()
        }],
    };
    apply(state, Command::SubmitJobs(jobs)).unwrap()
}

fn start(attempt: u64, newest: u64, restored: u64) -> Command {
    Command::StartAttempt(v1::StartAttemptCommand {
        job_id: "a".to_owned(),
        attempt,
        newest_checkpoint_id: newest,
        restored_checkpoint_id: restored,
        ..Default::default()
    })
}

fn begin(attempt: u64) -> Command {
    Command::BeginCheckpoint(v1::BeginCheckpointCommand {
        job_id: "a".to_owned(),
        attempt,
    })
}

fn complete(attempt: u64, id: u64, savepoint: bool) -> Command {
    Command::CompleteCheckpoint(v1::CompleteCheckpointCommand {
        job_id: "a".to_owned(),
        attempt,
        checkpoint: Some(v1::CheckpointInfo {
            checkpoint_id: id,
            savepoint,
            ..Default::default()
        }),
    })
}

fn checkpoint_ids(state: &MetaState) -> Vec<u64> {
    let job = state.job("a").unwrap();
    job.checkpoints.iter().map(|c| c.checkpoint_id).collect()
}

#[test]
fn a_request_makes_its_jobs_once() {
    let mut state = MetaState::default();
    let first = submit(&mut state, "r", "a", 1);
    assert_eq!(submit(&mut state, "r", "b", 1), first);
    assert_eq!(state.jobs().count(), 1);
    assert_eq!(state.job("a").unwrap().submitted_ms, 7);
}

#[test]
fn only_the_current_attempt_completes_checkpoints() {
    let mut state = MetaState::default();
    submit(&mut state, "r", "a", 3);
    apply(&mut state, start(1, 0, 0)).unwrap();
    assert_eq!(apply(&mut state, begin(1)), Ok(Outcome::CheckpointId(1)));
    apply(&mut state, complete(1, 1, false)).unwrap();
    assert_eq!(apply(&mut state, begin(1)), Ok(Outcome::CheckpointId(2)));
    apply(&mut state, start(2, 1, 1)).unwrap();
    let error = apply(&mut state, complete(1, 2, false)).unwrap_err();
    assert!(error.0.contains("attempt 2, not 1"), "{error}");
    // The id of the abandoned checkpoint does not come back.
    assert_eq!(apply(&mut state, begin(2)), Ok(Outcome::CheckpointId(3)));
    assert_eq!(checkpoint_ids(&state), [1]);
}

#[test]
fn a_recovery_does_not_pass_over_a_checkpoint_that_completed_meanwhile() {
    let mut state = MetaState::default();
    submit(&mut state, "r", "a", 3);
    apply(&mut state, start(1, 0, 0)).unwrap();
    apply(&mut state, complete(1, 1, false)).unwrap();
    apply(&mut state, complete(1, 2, false)).unwrap();
    assert!(apply(&mut state, start(2, 1, 1)).is_err());
    assert!(apply(&mut state, start(3, 2, 2)).is_err());
    // 2 is corrupt: it is dropped for good when 1 is restored.
    apply(&mut state, start(2, 2, 1)).unwrap();
    assert_eq!(checkpoint_ids(&state), [1]);
}

#[test]
fn an_attempt_may_bring_its_own_parallelism() {
    let mut state = MetaState::default();
    submit(&mut state, "r", "a", 3);
    let mut graph = crate::validate::tests::two_vertices(4);
    graph.vertices[1].fixed_parallelism = true;
    Arc::make_mut(state.jobs.get_mut("a").unwrap()).graph = Some(graph);
    let parallelism = |state: &MetaState| -> Vec<u32> {
        let graph = state.job("a").unwrap().graph.clone().unwrap();
        graph.vertices.iter().map(|v| v.parallelism).collect()
    };
    apply(&mut state, start(1, 0, 0)).unwrap();
    assert_eq!(parallelism(&state), [4, 4]);
    let Command::StartAttempt(mut next) = start(2, 0, 0) else {
        unreachable!()
    };
    next.parallelism = 2;
    apply(&mut state, Command::StartAttempt(next)).unwrap();
    assert_eq!(parallelism(&state), [2, 4]);
}

#[test]
fn savepoints_do_not_push_checkpoints_out() {
    let mut state = MetaState::default();
    submit(&mut state, "r", "a", 2);
    apply(&mut state, start(1, 0, 0)).unwrap();
    for (id, savepoint) in [(1, false), (2, true), (3, false), (4, true), (5, false)] {
        apply(&mut state, complete(1, id, savepoint)).unwrap();
    }
    assert_eq!(checkpoint_ids(&state), [2, 3, 4, 5]);
    assert!(apply(&mut state, complete(1, 5, false)).is_err());
}

#[test]
fn an_ended_job_takes_no_command() {
    let mut state = MetaState::default();
    submit(&mut state, "r", "a", 2);
    apply(&mut state, command::end("a", v1::JobState::Canceled, "")).unwrap();
    let job = state.job("a").unwrap();
    assert!(job.cleaning && job.graph.is_none() && job.ended_ms == 7);
    for late in [
        start(1, 0, 0),
        begin(0),
        command::set_state("a", v1::JobState::Running),
        command::end("a", v1::JobState::Failed, "late"),
    ] {
        assert!(apply(&mut state, late).is_err());
    }
    assert_eq!(state.job("a").unwrap().state(), v1::JobState::Canceled);
}

#[test]
fn cancelling_is_not_taken_back() {
    let mut state = MetaState::default();
    submit(&mut state, "r", "a", 2);
    apply(
        &mut state,
        command::set_state("a", v1::JobState::Cancelling),
    )
    .unwrap();
    assert!(apply(&mut state, command::restarting("a", "boom")).is_err());
    apply(&mut state, command::end("a", v1::JobState::Canceled, "")).unwrap();
}

#[test]
fn old_ended_jobs_are_forgotten_but_not_before_they_are_cleaned() {
    let mut state = MetaState::default();
    for n in 0..end_job::REMEMBERED + 5 {
        let id = format!("{n:032}");
        submit(&mut state, &id, &id, 1);
        apply(&mut state, command::end(&id, v1::JobState::Finished, "")).unwrap();
        if n > 0 {
            let cleaned = v1::JobCleanedCommand { job_id: id };
            apply(&mut state, Command::JobCleaned(cleaned)).unwrap();
        }
    }
    assert!(
        state.job(&format!("{:032}", 0)).is_some(),
        "not cleaned yet"
    );
    assert!(state.job(&format!("{:032}", 1)).is_none());
    assert!(state.jobs().count() <= end_job::REMEMBERED + 2);
}

#[test]
fn a_claimed_snapshot_is_given_up_once_enough_own_checkpoints_have_followed() {
    for (claim_mode, kept) in [
        (v1::ClaimMode::Claim, ["/s", "/s", ""]),
        (v1::ClaimMode::NoClaim, ["/s", "/s", "/s"]),
    ] {
        let mut state = MetaState::default();
        submit(&mut state, "r", "a", 2);
        let mut job = (*state.job("a").unwrap()).clone();
        job.from_savepoint = "/s".to_owned();
        job.claim_mode = claim_mode.into();
        state.jobs.insert("a".to_owned(), std::sync::Arc::new(job));
        apply(&mut state, start(1, 0, 0)).unwrap();
        // A savepoint of the job's own does not count: it is not the job's to keep.
        for (id, savepoint, kept) in [(1, false, kept[0]), (2, true, kept[1]), (3, false, kept[2])]
        {
            apply(&mut state, complete(1, id, savepoint)).unwrap();
            let job = state.job("a").unwrap();
            assert_eq!(job.from_savepoint, kept, "{claim_mode:?} after {id}");
            assert_eq!(job.subsumed_savepoint.is_empty(), !kept.is_empty());
        }
    }
}

#[test]
fn a_deleted_snapshot_is_forgotten_unless_another_one_is_meant() {
    let mut state = MetaState::default();
    submit(&mut state, "r", "a", 2);
    let mut job = (*state.job("a").unwrap()).clone();
    job.subsumed_savepoint = "/s".to_owned();
    state.jobs.insert("a".to_owned(), std::sync::Arc::new(job));
    let deleted = |path: &str| {
        Command::SavepointDeleted(v1::SavepointDeletedCommand {
            job_id: "a".to_owned(),
            path: path.to_owned(),
        })
    };
    apply(&mut state, deleted("/other")).unwrap();
    assert_eq!(state.job("a").unwrap().subsumed_savepoint, "/s");
    apply(&mut state, deleted("/s")).unwrap();
    assert_eq!(state.job("a").unwrap().subsumed_savepoint, "");
}
