//! Rescaling, leaving a task manager, following the slots there are.

use weir_proto::v1::meta_command::Command;

use super::*;

#[test]
fn a_rescale_is_a_checkpoint_and_an_attempt_of_another_graph() {
    let mut course = Course::running(true);
    course.does(Input::Rescale(2), "rescaled true");
    course.does(Input::Rescale(3), "prepare 3");
    course.does(Input::Rescale(4), "rescaled false");
    course.does(Input::Tick, "");
    course.does(Input::Prepared(0), "");
    course.does(Input::Prepared(1), "checkpoint");
    course.does(Input::Prepared(1), "");
    course.snapshot(1, "trigger 1");
    course.does(committed(1), "record RESTARTING");
    assert_eq!(course.job.context().slots_needed(), 2);
    course.does(recorded(v1::JobState::Restarting), "tear-down");
    course.does(Input::TornDown(1), "release, allocate 3");
    course.does(Input::Slots(Ok(slots())), "choose");
    course.does(Input::RestoreChosen(Ok(Choice::default())), "start 2");
    course.does(Input::AttemptStarted(Ok(())), "deploy");
    course.does(Input::Deployed(2, Ok(())), "");
    course.all_report(v1::SubtaskState::Running);
    assert_eq!(course.asked(), "record RUNNING, rescaled true");
}

#[test]
fn a_job_that_ends_while_its_state_is_brought_elsewhere_is_not_rescaled() {
    let mut course = Course::running(true);
    course.does(Input::Rescale(3), "prepare 3");
    course.all_report(v1::SubtaskState::EndOfData);
    assert_eq!(course.asked(), "rescaled false, checkpoint");
    course.does(Input::Prepared(1), "");
}

fn resources(open_slots: usize, draining: &[&str]) -> Input {
    Input::Resources(Resources {
        open_slots,
        draining: draining.iter().map(|id| (*id).to_owned()).collect(),
    })
}

#[test]
fn a_job_moves_off_a_task_manager_that_drains_and_counts_no_restart() {
    let mut course = Course::running(true);
    course.does(resources(2, &["x"]), "");
    course.does(Input::Tick, "");
    course.does(resources(2, &["b"]), "");
    course.does(Input::Tick, "checkpoint");
    course.does(Input::Rescale(3), "rescaled false");
    let stop = Input::Stop {
        base: "s".to_owned(),
        request_id: "r".to_owned(),
    };
    course.does(stop, "stopped false");
    course.snapshot(1, "trigger 1");
    let actions = course.job.step(0, 0.5, committed(1));
    let [Action::Record(v1::JobState::Restarting, Command::SetJobState(entry))] =
        actions.as_slice()
    else {
        panic!("{actions:?}");
    };
    assert!(!entry.restart);
    course.does(recorded(v1::JobState::Restarting), "tear-down");
    course.does(Input::TornDown(1), "release, allocate 2");
    course.does(Input::Slots(Ok(slots())), "choose");
    // One of those that were found drains, too.
    course.does(resources(2, &["a", "b"]), "release, allocate 2");
}

#[test]
fn a_relocation_whose_checkpoint_fails_is_tried_again() {
    let mut course = Course::running(true);
    course.does(resources(2, &["b"]), "");
    course.does(Input::Tick, "checkpoint");
    let declined = Event::Allocated(Err("no".to_owned()));
    course.does(Input::Checkpoint(1, declined), "");
    course.at(50).does(Input::Tick, "");
    course.at(1000).does(Input::Tick, "checkpoint");
}

#[test]
fn a_job_that_cannot_move_says_why_once_all_task_managers_can_be_known() {
    let mut course = Course::running(true);
    course.does(resources(1, &["b"]), "");
    let mut stuck_at = |now_ms| {
        course.at(now_ms).job.step(now_ms, 0.5, Input::Tick);
        course.job.status().stuck
    };
    assert_eq!(stuck_at(199), "");
    let why = "needs 2 slots, 1 are there on task managers that stay";
    assert_eq!(stuck_at(200), why);
    course.does(resources(2, &["b"]), "");
    course.job.step(201, 0.5, Input::Tick);
    assert_eq!(course.job.status().stuck, "");

    let mut course = Course::running(false);
    course.does(resources(4, &["b"]), "");
    course.does(Input::Tick, "");
    assert!(course.job.status().stuck.contains("no checkpoints"));
}

fn adaptive(upper_bound: u32) -> v1::JobRecord {
    let mut record = record(v1::JobState::Created, 0, true);
    record.graph.as_mut().unwrap().adaptive = Some(v1::AdaptiveScheduler {
        upper_bound,
        submission_stabilization_ms: 1000,
        executing_stabilization_ms: 1000,
        cooldown_ms: 5000,
    });
    record
}

fn free(needed: usize, free: usize) -> Input {
    Input::Slots(Err(Shortage { needed, free }))
}

fn on(ids: &[&str]) -> Input {
    let place = |id: &&str| v1::SlotPlace {
        task_manager_id: (*id).to_owned(),
        address: format!("{id}:1"),
        slot: 0,
    };
    Input::Slots(Ok(ids.iter().map(place).collect()))
}

impl Course {
    /// An adaptive job that runs on these at 5000.
    fn running_on(ids: &[&str], upper_bound: u32) -> Self {
        let mut course = Self::open(&adaptive(upper_bound));
        course.asked();
        course.at(5000).does(on(ids), "choose and read");
        let start = format!("start 1 at {}", ids.len());
        course.does(Input::RestoreChosen(Ok(Choice::default())), &start);
        course.does(Input::AttemptStarted(Ok(())), "deploy");
        course.does(Input::Deployed(1, Ok(())), "");
        course.all_report(v1::SubtaskState::Running);
        assert_eq!(course.asked(), "record RUNNING");
        course
    }
}

#[test]
fn an_adaptive_job_starts_with_fewer_slots_when_no_more_have_come_for_a_while() {
    let mut course = Course::open(&adaptive(4));
    assert_eq!(course.asked(), "allocate 4");
    course.at(500).does(free(4, 0), "");
    course.at(600).does(free(4, 2), "");
    course.at(1599).does(Input::Tick, "allocate 4");
    course.does(free(4, 3), "");
    course.at(1600).does(Input::Tick, "allocate 1 to 4");
    course.does(on(&["a", "b", "c"]), "choose and read");
    course.does(Input::RestoreChosen(Ok(Choice::default())), "start 1 at 3");
    course.does(Input::AttemptStarted(Ok(())), "deploy");
    assert_eq!(course.job.context().slots_needed(), 3);
}

#[test]
fn an_adaptive_job_takes_slots_that_come() {
    let mut course = Course::running_on(&["a", "b"], 4);
    course.does(resources(3, &[]), "");
    course.at(5100).does(Input::Tick, "checkpoint");
    course.snapshot(1, "trigger 1");
    course.does(committed(1), "");
    course.at(10_000);
    course.job.step(10_000, 0.5, resources(4, &[]));
    // The periodic one of this time comes first.
    course.does(Input::Tick, "checkpoint");
    course.does(Input::Rescale(3), "rescaled false");
    course.snapshot(2, "trigger 2");
    course.does(committed(2), "record RESTARTING");
    course.does(recorded(v1::JobState::Restarting), "tear-down");
    course.does(Input::TornDown(1), "release, allocate 4");
    course.does(on(&["a", "b", "c", "d"]), "choose");
    course.does(Input::RestoreChosen(Ok(Choice::default())), "start 2 at 4");
}

#[test]
fn an_adaptive_job_goes_on_with_the_slots_that_are_left() {
    let mut course = Course::running_on(&["a", "b"], 2);
    let lost = Input::Lost(vec!["b".to_owned()]);
    course.does(lost, "record RESTARTING");
    course.does(recorded(v1::JobState::Restarting), "tear-down");
    course.does(Input::TornDown(1), "release");
    course.at(5200).does(Input::Tick, "allocate 2");
    course.does(free(2, 1), "");
    // It may come back: that is waited for.
    course.at(6199).does(Input::Tick, "allocate 2");
    course.does(free(2, 1), "");
    course.at(6200).does(Input::Tick, "allocate 1 to 2");
    course.does(on(&["a"]), "choose");
    course.does(Input::RestoreChosen(Ok(Choice::default())), "start 2 at 1");
    course.does(Input::AttemptStarted(Ok(())), "deploy");

    // One that is asked to leave is no failure, and the others will do.
    let mut course = Course::running_on(&["a", "b"], 2);
    course.does(resources(1, &["b"]), "");
    course.does(Input::Tick, "checkpoint");
    course.snapshot(1, "trigger 1");
    course.does(committed(1), "record RESTARTING");
}

#[test]
fn a_rescale_whose_checkpoint_fails_changes_nothing() {
    let mut course = Course::running(true);
    course.does(Input::Rescale(3), "prepare 3");
    course.does(Input::Prepared(1), "checkpoint");
    course.does(
        Input::Stop {
            base: "file:///s".to_owned(),
            request_id: "r".to_owned(),
        },
        "stopped false",
    );
    let declined = Event::Allocated(Err("no".to_owned()));
    course.does(Input::Checkpoint(1, declined), "rescaled false");
    assert_eq!(course.job.context().slots_needed(), 2);
    let mut course = Course::running(false);
    course.does(Input::Rescale(3), "rescaled false");
}
