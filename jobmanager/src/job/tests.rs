use weir_proto::v1;

use super::action::Choice;
use super::*;
use crate::checkpoint::coordinator::{Event, Request, Ticket};
use crate::checkpoint::storage::Restore;
use crate::job::execution::subtasks_of;
use crate::scheduler::place::Shortage;
use crate::validate::tests::two_vertices;

mod moves;

const LIMITS: Limits = Limits {
    slot_timeout_ms: 1000,
    reattach_timeout_ms: 500,
    restarting_timeout_ms: 200,
};

struct Course {
    job: Job,
    now_ms: i64,
    actions: Vec<Action>,
}

fn slots() -> Vec<v1::SlotPlace> {
    ["a", "b"]
        .iter()
        .map(|id| v1::SlotPlace {
            task_manager_id: (*id).to_owned(),
            address: format!("{id}:1"),
            slot: 0,
        })
        .collect()
}

fn record(state: v1::JobState, attempt: u64, checkpoints: bool) -> v1::JobRecord {
    let mut graph = two_vertices(2);
    if checkpoints {
        graph.checkpoint = Some(v1::CheckpointConfig {
            interval_ms: 100,
            directory: "file:///c".to_owned(),
            ..Default::default()
        });
    }
    v1::JobRecord {
        job_id: "j".to_owned(),
        graph: Some(graph),
        state: state.into(),
        attempt,
        slots: if attempt > 0 { slots() } else { Vec::new() },
        next_checkpoint_id: 1,
        ..Default::default()
    }
}

fn shown(action: &Action) -> String {
    match action {
        Action::AllocateSlots(Wanted { least, most }) if least == most => {
            format!("allocate {least}")
        }
        Action::AllocateSlots(wanted) => format!("allocate {} to {}", wanted.least, wanted.most),
        Action::ReleaseSlots => "release".to_owned(),
        Action::ChooseRestore(Verify::Sizes) => "choose".to_owned(),
        Action::ChooseRestore(Verify::Checksums) => "choose and read".to_owned(),
        Action::StartAttempt {
            attempt,
            parallelism: 0,
            ..
        } => format!("start {attempt}"),
        Action::StartAttempt {
            attempt,
            parallelism,
            ..
        } => format!("start {attempt} at {parallelism}"),
        Action::Record(state, _) => {
            format!("record {}", crate::meta::view::state_name(*state))
        }
        Action::Deploy(_) => "deploy".to_owned(),
        Action::TearDown => "tear-down".to_owned(),
        Action::Prepare(parallelism) => format!("prepare {parallelism}"),
        Action::Finish => "finish".to_owned(),
        Action::Checkpoint(Request::Allocate) => "checkpoint".to_owned(),
        Action::Checkpoint(Request::Trigger {
            id, stop_sources, ..
        }) => format!("trigger {id}{}", if *stop_sources { " stop" } else { "" }),
        Action::Checkpoint(Request::Publish { id, .. }) => format!("publish {id}"),
        Action::Checkpoint(Request::Record(info)) => format!("complete {}", info.checkpoint_id),
        Action::Checkpoint(Request::Notify { id, completed }) => {
            format!("{} {id}", if *completed { "commit" } else { "drop" })
        }
        Action::Checkpoint(other) => format!("{other:?}"),
        Action::Answer(Output::Savepoint(_, result)) => format!("savepoint {}", result.is_ok()),
        Action::Answer(Output::Rescaled(result)) => format!("rescaled {}", result.is_ok()),
        Action::Answer(Output::Stopped(result)) => format!("stopped {}", result.is_ok()),
        Action::Clean => "clean".to_owned(),
        Action::Reload => "reload".to_owned(),
        Action::Done => "done".to_owned(),
    }
}

impl Course {
    fn open(record: &v1::JobRecord) -> Self {
        let (job, actions) = Job::open(record, LIMITS, 0);
        Self {
            job,
            now_ms: 0,
            actions,
        }
    }

    /// What the last steps asked for.
    fn asked(&mut self) -> String {
        let shown: Vec<String> = self
            .actions
            .drain(..)
            .map(|action| shown(&action))
            .collect();
        shown.join(", ")
    }

    fn does(&mut self, input: Input, expected: &str) {
        let text = format!("{input:?}");
        let actions = self.job.step(self.now_ms, 0.5, input);
        self.actions.extend(actions);
        assert_eq!(self.asked(), expected, "after {text}");
    }

    fn at(&mut self, now_ms: i64) -> &mut Self {
        self.now_ms = now_ms;
        self
    }

    fn all_report(&mut self, state: v1::SubtaskState) {
        for subtask in subtasks_of(&self.job.context().graph.clone()) {
            let actions = self.job.step(self.now_ms, 0.5, report(subtask, state));
            self.actions.extend(actions);
        }
    }

    /// From the log's CREATED to RUNNING.
    fn running(checkpoints: bool) -> Self {
        let mut course = Self::open(&record(v1::JobState::Created, 0, checkpoints));
        assert_eq!(course.asked(), "allocate 2");
        course.does(Input::Slots(Ok(slots())), "choose and read");
        course.does(Input::RestoreChosen(Ok(Choice::default())), "start 1");
        course.does(Input::AttemptStarted(Ok(())), "deploy");
        course.does(Input::Deployed(1, Ok(())), "");
        course.all_report(v1::SubtaskState::Running);
        assert_eq!(course.asked(), "record RUNNING");
        course
    }

    fn snapshot(&mut self, id: u64, trigger: &str) {
        self.does(Input::Checkpoint(1, Event::Allocated(Ok(id))), trigger);
        let subtasks = subtasks_of(&self.job.context().graph.clone());
        for subtask in subtasks {
            let event = Event::Acknowledged {
                id,
                subtask,
                operators: Vec::new(),
            };
            let actions = self.job.step(self.now_ms, 0.5, Input::Checkpoint(1, event));
            self.actions.extend(actions);
        }
        assert_eq!(self.asked(), format!("publish {id}"));
        let published = Event::Published {
            id,
            result: Ok(format!("chk-{id}")),
        };
        self.does(Input::Checkpoint(1, published), &format!("complete {id}"));
        let recorded = Event::Recorded { id, result: Ok(()) };
        self.does(Input::Checkpoint(1, recorded), &format!("commit {id}"));
    }
}

fn report(subtask: weir_common::ids::SubtaskId, state: v1::SubtaskState) -> Input {
    Input::Subtask {
        subtask,
        state,
        error: String::new(),
        fatal: false,
    }
}

fn failure(error: &str, fatal: bool) -> Input {
    Input::Subtask {
        subtask: weir_common::ids::SubtaskId {
            vertex: weir_common::ids::VertexId(1),
            index: 0,
        },
        state: v1::SubtaskState::Failed,
        error: error.to_owned(),
        fatal,
    }
}

fn recorded(state: v1::JobState) -> Input {
    Input::Recorded(state, Ok(()))
}

fn committed(id: u64) -> Input {
    Input::Checkpoint(1, Event::Committed { id, result: Ok(()) })
}

#[test]
fn a_bounded_job_ends_behind_its_final_checkpoint() {
    let mut course = Course::running(true);
    course.all_report(v1::SubtaskState::EndOfData);
    assert_eq!(course.asked(), "checkpoint");
    course.snapshot(1, "trigger 1 stop");
    course.does(committed(1), "finish");
    course.does(Input::Finished(1, Ok(Vec::new())), "record FINISHED");
    course.does(recorded(v1::JobState::Finished), "release, clean, done");
}

#[test]
fn without_a_directory_it_ends_at_once() {
    let mut course = Course::running(false);
    course.all_report(v1::SubtaskState::EndOfData);
    assert_eq!(course.asked(), "finish");
    let mut other = Course::running(false);
    other.all_report(v1::SubtaskState::EndOfData);
    other.asked();
    other.does(Input::Finished(1, Err("gone".to_owned())), "record FAILED");
}

#[test]
fn a_failure_is_recorded_then_torn_down_then_the_next_attempt_follows() {
    let mut course = Course::running(true);
    course
        .at(50)
        .does(failure("boom", false), "record RESTARTING");
    // Nothing reaches a task manager before the log has it.
    course.at(5000).does(Input::Tick, "");
    course.does(recorded(v1::JobState::Restarting), "tear-down");
    course.does(Input::TornDown(1), "release, allocate 2");
    course.does(Input::Slots(Ok(slots())), "choose");
    let choice = Choice {
        restore: Restore {
            checkpoint_id: 4,
            from: None,
        },
        newest_checkpoint_id: 4,
    };
    course.does(Input::RestoreChosen(Ok(choice)), "start 2");
    course.does(
        Input::AttemptStarted(Err("checkpoint 5 was completed".to_owned())),
        "choose",
    );
    course.does(Input::RestoreChosen(Ok(Choice::default())), "start 2");
    course.does(Input::AttemptStarted(Ok(())), "deploy");
}

#[test]
fn a_restore_that_fails_is_followed_by_a_closer_look_before_it_counts() {
    let mut course = Course::running(true);
    course.does(Input::Lost(vec!["b".to_owned()]), "record RESTARTING");
    course.does(recorded(v1::JobState::Restarting), "tear-down");
    course
        .at(500)
        .does(Input::TornDown(1), "release, allocate 2");
    for (attempt, choose) in [(2, "choose"), (3, "choose and read")] {
        course.does(Input::Slots(Ok(slots())), choose);
        let start = format!("start {attempt}");
        course.does(Input::RestoreChosen(Ok(Choice::default())), &start);
        course.does(Input::AttemptStarted(Ok(())), "deploy");
        course.does(failure("1.sst is damaged", false), "record RESTARTING");
        course.does(recorded(v1::JobState::Restarting), "tear-down");
        let after = if attempt == 2 {
            "release, allocate 2"
        } else {
            "release"
        };
        course.does(Input::TornDown(attempt), after);
    }
}

#[test]
fn the_delay_is_waited_for_and_late_words_of_the_old_attempt_are_not_heard() {
    let mut course = Course::running(true);
    course.does(Input::Lost(vec!["x".to_owned()]), "");
    course.does(failure("boom", false), "record RESTARTING");
    course.does(recorded(v1::JobState::Restarting), "tear-down");
    course.does(Input::TornDown(1), "release");
    course.does(committed(1), "");
    course.at(199).does(Input::Tick, "");
    course.at(200).does(Input::Tick, "allocate 2");
}

#[test]
fn a_sound_job_that_has_lost_a_task_manager_does_not_wait() {
    let lost = || Input::Lost(vec!["b".to_owned()]);
    let mut course = Course::running(true);
    course.at(5000).does(lost(), "record RESTARTING");
    course.does(recorded(v1::JobState::Restarting), "tear-down");
    course.does(Input::TornDown(1), "release, allocate 2");

    // Its neighbours had noticed first.
    let broke = || failure("the stream from another task manager broke", false);
    let mut course = Course::running(true);
    course.at(5000).does(broke(), "record RESTARTING");
    course.does(recorded(v1::JobState::Restarting), "tear-down");
    course.does(Input::TornDown(1), "release");
    course.does(Input::Lost(vec!["x".to_owned()]), "");
    course.does(lost(), "allocate 2");

    // It has only just begun to run.
    let mut course = Course::running(true);
    course.at(50).does(lost(), "record RESTARTING");
    course.does(recorded(v1::JobState::Restarting), "tear-down");
    course.does(Input::TornDown(1), "release");
    course.at(199).does(Input::Tick, "");
    course.at(200).does(Input::Tick, "allocate 2");
}

#[test]
fn a_fatal_failure_and_one_without_restarts_end_the_job() {
    let mut course = Course::running(true);
    course.does(failure("bad record", true), "record FAILED");
    course.does(recorded(v1::JobState::Failed), "tear-down");
    course.does(Input::TornDown(1), "release, clean, done");

    let mut course = Course::running(false);
    course.does(failure("boom", false), "record FAILED");

    // The cause arrives behind its effect.
    let mut course = Course::running(true);
    course.does(failure("exchange closed", false), "record RESTARTING");
    course.does(recorded(v1::JobState::Restarting), "tear-down");
    course.does(failure("bad record", true), "record FAILED");
}

#[test]
fn a_job_waits_for_slots_and_says_so() {
    let mut course = Course::open(&record(v1::JobState::Created, 0, false));
    course.asked();
    let shortage = Shortage { needed: 2, free: 1 };
    course.does(Input::Slots(Err(shortage)), "");
    assert_eq!(
        course.job.status().waiting,
        "the job needs 2 slots, 1 are free"
    );
    course.at(500).does(Input::Tick, "allocate 2");
    course
        .at(1000)
        .does(Input::Slots(Err(shortage)), "record FAILED");
}

#[test]
fn cancelling_is_recorded_first_and_comes_from_any_state() {
    let mut course = Course::running(true);
    course.does(Input::Cancel, "record CANCELLING");
    course.does(recorded(v1::JobState::Cancelling), "tear-down");
    course.does(Input::Cancel, "");
    course.does(Input::TornDown(1), "release, record CANCELED");
    course.does(recorded(v1::JobState::Canceled), "clean, done");

    let mut course = Course::open(&record(v1::JobState::Created, 0, false));
    course.asked();
    course.does(Input::Cancel, "record CANCELLING");
    course.does(
        recorded(v1::JobState::Cancelling),
        "release, record CANCELED",
    );
}

#[test]
fn stop_takes_a_savepoint_and_waits_for_the_end_of_data() {
    let mut course = Course::running(true);
    let stop = || Input::Stop {
        base: "s".to_owned(),
        request_id: "r".to_owned(),
    };
    course.does(stop(), "record STOPPING");
    course.does(stop(), "");
    course.does(recorded(v1::JobState::Stopping), "checkpoint");
    course.snapshot(1, "trigger 1 stop");
    course.does(committed(1), "");
    course.all_report(v1::SubtaskState::EndOfData);
    assert_eq!(course.asked(), "finish");
    course.does(Input::Finished(1, Ok(Vec::new())), "record FINISHED");
    course.does(
        recorded(v1::JobState::Finished),
        "stopped true, release, clean, done",
    );
}

#[test]
fn a_failure_on_the_way_to_a_stop_restarts_the_job_and_tells_who_waits() {
    let mut course = Course::running(true);
    let stop = Input::Stop {
        base: "s".to_owned(),
        request_id: "r".to_owned(),
    };
    course.does(stop, "record STOPPING");
    course.does(recorded(v1::JobState::Stopping), "checkpoint");
    course.does(failure("boom", false), "stopped false, record RESTARTING");
}

#[test]
fn a_savepoint_is_refused_unless_the_job_runs() {
    let mut course = Course::open(&record(v1::JobState::Created, 0, true));
    course.asked();
    course.does(
        Input::Savepoint(Ticket(1), "s".to_owned()),
        "savepoint false",
    );
    let mut course = Course::running(true);
    course.does(Input::Savepoint(Ticket(1), "s".to_owned()), "checkpoint");
    course.does(failure("boom", false), "savepoint false, record RESTARTING");
}

#[test]
fn a_new_leader_goes_on_without_a_restart_and_repeats_the_last_word() {
    let mut old = record(v1::JobState::Running, 1, true);
    old.next_checkpoint_id = 6;
    old.checkpoints = vec![v1::CheckpointInfo {
        checkpoint_id: 4,
        ..Default::default()
    }];
    let mut course = Course::open(&old);
    assert_eq!(course.asked(), "");
    assert_eq!(course.job.status().accepts, Some(1));
    course.all_report(v1::SubtaskState::Running);
    // 4 may not have been committed everywhere, 5 was under way.
    assert_eq!(course.asked(), "commit 4, drop 5");
    course.at(100).does(Input::Tick, "checkpoint");
}

#[test]
fn what_runs_is_welcome_before_the_new_leader_has_looked_at_the_job() {
    for state in [
        v1::JobState::Scheduling,
        v1::JobState::Running,
        v1::JobState::Stopping,
    ] {
        let status = status::JobStatus::taken_over(&record(state, 3, true));
        assert_eq!((status.accepts, status.attempt), (Some(3), 3), "{state:?}");
        assert!(status.slots.uses("a"));
    }
    let over = status::JobStatus::taken_over(&record(v1::JobState::Restarting, 3, true));
    assert_eq!(over.accepts, None);
}

#[test]
fn a_new_leader_waits_on_while_task_managers_keep_coming() {
    let mut course = Course::open(&record(v1::JobState::Running, 1, true));
    let subtasks = subtasks_of(&course.job.context().graph);
    let count = subtasks.len() as i64;
    for (number, subtask) in (1..).zip(subtasks) {
        course.at(number * 499).does(Input::Tick, "");
        if number < count {
            let runs = report(subtask, v1::SubtaskState::Running);
            course.does(runs, "");
        }
    }
    // One does not come.
    let last = (count - 1) * 499;
    course.at(last + 499).does(Input::Tick, "");
    course.at(last + 500).does(Input::Tick, "record RESTARTING");
}

#[test]
fn a_new_leader_restarts_a_job_whose_task_managers_do_not_come() {
    let mut course = Course::open(&record(v1::JobState::Running, 1, true));
    course.at(499).does(Input::Tick, "");
    course.at(500).does(Input::Tick, "record RESTARTING");

    // Its process was replaced: no reason to wait.
    let mut course = Course::open(&record(v1::JobState::Running, 1, true));
    let heard = Input::Heard {
        task_manager_id: "a2".to_owned(),
        address: "a:1".to_owned(),
        subtasks: Vec::new(),
    };
    course.does(heard, "record RESTARTING");
}

#[test]
fn an_attempt_that_the_old_leader_did_not_deploy_is_followed_by_the_next_without_a_failure() {
    let mut course = Course::open(&record(v1::JobState::Scheduling, 1, false));
    let heard = Input::Heard {
        task_manager_id: "a".to_owned(),
        address: "a:1".to_owned(),
        subtasks: Vec::new(),
    };
    // Without checkpoints a failure would be the end of this job.
    course.does(heard, "record RESTARTING");
    course.does(recorded(v1::JobState::Restarting), "tear-down");
    course.does(Input::TornDown(1), "release, allocate 2");
}

#[test]
fn a_new_leader_goes_on_where_the_old_one_was() {
    for (state, attempt, expected) in [
        (v1::JobState::Restarting, 1, "tear-down"),
        (v1::JobState::Cancelling, 1, "tear-down"),
        (v1::JobState::Created, 0, "allocate 2"),
        (v1::JobState::Scheduling, 1, ""),
        (v1::JobState::Failed, 1, "done"),
    ] {
        let mut course = Course::open(&record(state, attempt, true));
        assert_eq!(course.asked(), expected, "{state:?}");
    }
    let mut old = record(v1::JobState::Stopping, 1, true);
    old.stop_directory = "s".to_owned();
    let mut course = Course::open(&old);
    course.all_report(v1::SubtaskState::Running);
    assert_eq!(course.asked(), "checkpoint");
}

#[test]
fn a_task_manager_that_has_forgotten_the_attempt_fails_it() {
    let mut course = Course::running(true);
    let heard = || Input::Heard {
        task_manager_id: "a".to_owned(),
        address: "a:1".to_owned(),
        subtasks: Vec::new(),
    };
    course.does(heard(), "");
    course.does(heard(), "");
    course.does(heard(), "record RESTARTING");
}
