use weir_common::ids::VertexId;

use super::*;

fn subtask(index: u32) -> SubtaskId {
    SubtaskId {
        vertex: VertexId(0),
        index,
    }
}

fn coordinator(tolerable_failures: u32) -> Coordinator {
    let settings = Settings {
        interval_ms: 100,
        timeout_ms: 1000,
        min_pause_ms: 30,
        tolerable_failures,
        unaligned_after_ms: Some(5),
        rescales_unaligned: true,
    };
    Coordinator::new(settings, [subtask(0), subtask(1)].into(), 0)
}

fn ack(id: u64, index: u32) -> Event {
    Event::Acknowledged {
        id,
        subtask: subtask(index),
        operators: vec![v1::OperatorSnapshot {
            subtask: index,
            ..Default::default()
        }],
    }
}

/// One word a request, so that a course of events reads as a table.
fn shown(requests: Vec<Request>) -> String {
    let words: Vec<String> = requests
        .into_iter()
        .map(|request| match request {
            Request::Allocate => "allocate".to_owned(),
            Request::Trigger {
                id,
                kind,
                stop_sources,
                unaligned_after_ms,
                ..
            } => {
                let kind = match kind {
                    v1::SnapshotKind::Savepoint => "savepoint",
                    _ => "checkpoint",
                };
                let stop = if stop_sources { "-stop" } else { "" };
                // Savepoints, and what ends a job, wait.
                assert_eq!(
                    unaligned_after_ms.is_some(),
                    kind == "checkpoint" && !stop_sources
                );
                format!("trigger-{kind}{stop}:{id}")
            }
            Request::Publish { id, operators, .. } => format!("publish:{id}/{}", operators.len()),
            Request::Record(info) => format!("record:{}", info.checkpoint_id),
            Request::Notify { id, completed } => {
                format!("{}:{id}", if completed { "commit" } else { "drop" })
            }
            Request::Answer(ticket, result) => {
                format!(
                    "answer{}:{}",
                    ticket.0,
                    if result.is_ok() { "ok" } else { "error" }
                )
            }
            Request::Settled(path) => format!("settled:{path}"),
            Request::NotMoved(_) => "not moved".to_owned(),
            Request::FailOver(_) => "failover".to_owned(),
        })
        .collect();
    words.join(" ")
}

fn run(coordinator: &mut Coordinator, table: Vec<(i64, Event, &str)>) {
    for (line, (now_ms, event, expected)) in table.into_iter().enumerate() {
        let text = format!("{event:?}");
        let got = shown(coordinator.step(now_ms, event));
        assert_eq!(got, expected, "line {line}: {text} at {now_ms}");
    }
}

fn published(id: u64) -> Event {
    Event::Published {
        id,
        result: Ok(format!("chk-{id}")),
    }
}

fn recorded(id: u64) -> Event {
    Event::Recorded { id, result: Ok(()) }
}

fn committed(id: u64) -> Event {
    Event::Committed { id, result: Ok(()) }
}

#[test]
fn a_checkpoint_goes_its_way_and_the_next_one_waits_for_interval_and_pause() {
    run(
        &mut coordinator(0),
        vec![
            (99, Event::Tick, ""),
            (100, Event::Tick, "allocate"),
            (101, Event::Allocated(Ok(7)), "trigger-checkpoint:7"),
            (102, ack(7, 0), ""),
            (102, ack(7, 0), ""),
            (102, ack(6, 1), ""),
            (103, ack(7, 1), "publish:7/2"),
            (104, Event::Tick, ""),
            (105, published(7), "record:7"),
            (106, recorded(7), "commit:7"),
            (190, committed(7), ""),
            (205, Event::Tick, ""),
            (219, Event::Tick, ""),
            (220, Event::Tick, "allocate"),
        ],
    );
}

#[test]
fn what_is_late_for_a_dropped_one_changes_nothing() {
    let mut coordinator = coordinator(0);
    run(
        &mut coordinator,
        vec![
            (100, Event::Tick, "allocate"),
            (100, Event::Allocated(Ok(1)), "trigger-checkpoint:1"),
            (101, ack(1, 0), ""),
            (1100, Event::Tick, "drop:1"),
            (1101, ack(1, 1), ""),
            (1101, published(1), ""),
            (1101, recorded(1), ""),
            (1130, Event::Tick, "allocate"),
            (1130, Event::Allocated(Ok(2)), "trigger-checkpoint:2"),
            (
                1131,
                Event::Declined {
                    id: 1,
                    reason: String::new(),
                },
                "",
            ),
            (1132, ack(2, 0), ""),
            (1132, ack(2, 1), "publish:2/2"),
            (
                1133,
                Event::Published {
                    id: 2,
                    result: Err("full".to_owned()),
                },
                "drop:2",
            ),
        ],
    );
    assert_eq!(
        (coordinator.failed, coordinator.last_failure.as_str()),
        (2, "full")
    );
}

#[test]
fn too_many_failures_in_a_row_fail_the_attempt() {
    let mut coordinator = coordinator(2);
    let decline = |id| Event::Declined {
        id,
        reason: "no".to_owned(),
    };
    run(
        &mut coordinator,
        vec![
            (100, Event::Tick, "allocate"),
            (100, Event::Allocated(Ok(1)), "trigger-checkpoint:1"),
            (101, decline(1), "drop:1"),
            (200, Event::Tick, "allocate"),
            (200, Event::Allocated(Ok(2)), "trigger-checkpoint:2"),
            (201, decline(2), "drop:2 failover"),
        ],
    );
}

#[test]
fn a_savepoint_waits_for_the_checkpoint_under_way() {
    let savepoint = Purpose::Savepoint {
        ticket: Ticket(4),
        base: "s".to_owned(),
    };
    run(
        &mut coordinator(0),
        vec![
            (100, Event::Tick, "allocate"),
            (100, Event::Allocated(Ok(1)), "trigger-checkpoint:1"),
            (101, Event::Wanted(savepoint), ""),
            (101, ack(1, 0), ""),
            (101, ack(1, 1), "publish:1/2"),
            (102, published(1), "record:1"),
            (102, recorded(1), "commit:1"),
            (103, committed(1), "allocate"),
            (103, Event::Allocated(Ok(2)), "trigger-savepoint:2"),
            (104, ack(2, 0), ""),
            (104, ack(2, 1), "publish:2/2"),
            (105, published(2), "record:2"),
            (105, recorded(2), "commit:2"),
            (106, committed(2), "answer4:ok"),
        ],
    );
}

#[test]
fn a_failed_commit_fails_the_attempt_but_not_the_savepoint() {
    let savepoint = Purpose::Savepoint {
        ticket: Ticket(4),
        base: "s".to_owned(),
    };
    let failed = Event::Committed {
        id: 1,
        result: Err("broker".to_owned()),
    };
    run(
        &mut coordinator(0),
        vec![
            (1, Event::Wanted(savepoint), "allocate"),
            (1, Event::Allocated(Ok(1)), "trigger-savepoint:1"),
            (2, ack(1, 0), ""),
            (2, ack(1, 1), "publish:1/2"),
            (3, published(1), "record:1"),
            (3, recorded(1), "commit:1"),
            (4, failed, "answer4:ok failover"),
        ],
    );
}

#[test]
fn the_last_snapshot_settles_the_job_only_when_it_is_committed() {
    let mut coordinator = coordinator(0);
    coordinator.stop_periodic();
    let stop = Purpose::Stop {
        base: "s".to_owned(),
    };
    run(
        &mut coordinator,
        vec![
            (500, Event::Wanted(stop), "allocate"),
            (500, Event::Allocated(Ok(3)), "trigger-savepoint-stop:3"),
            (501, ack(3, 1), ""),
            (501, ack(3, 0), "publish:3/2"),
            (502, published(3), "record:3"),
            (503, recorded(3), "commit:3"),
            (504, committed(3), "settled:chk-3"),
            (9999, Event::Tick, ""),
        ],
    );
}

#[test]
fn a_final_checkpoint_is_tried_again_and_then_fails_the_attempt() {
    let mut coordinator = coordinator(0);
    coordinator.stop_periodic();
    let failed = |id| Event::Declined {
        id,
        reason: "disk full".to_owned(),
    };
    run(
        &mut coordinator,
        vec![
            (0, Event::Wanted(Purpose::Final), "allocate"),
            (0, Event::Allocated(Ok(1)), "trigger-checkpoint-stop:1"),
            (1, failed(1), "drop:1 allocate"),
            (1, Event::Allocated(Ok(2)), "trigger-checkpoint-stop:2"),
            (2, failed(2), "drop:2 allocate"),
            (2, Event::Allocated(Ok(3)), "trigger-checkpoint-stop:3"),
            (3, failed(3), "drop:3 failover"),
        ],
    );
}

#[test]
fn the_end_of_an_attempt_gives_up_what_was_wanted() {
    let mut coordinator = coordinator(0);
    for ticket in [1, 2] {
        coordinator.step(
            0,
            Event::Wanted(Purpose::Savepoint {
                ticket: Ticket(ticket),
                base: "s".to_owned(),
            }),
        );
    }
    assert_eq!(coordinator.abandon(), [Ticket(1), Ticket(2)]);
}

#[test]
fn an_adaptive_job_takes_no_checkpoint_that_it_could_not_go_on_from() {
    let mut graph = crate::validate::tests::two_vertices(2);
    graph.checkpoint = Some(v1::CheckpointConfig {
        unaligned: true,
        ..Default::default()
    });
    let overtakes = |graph: &v1::JobGraph| Settings::of(graph).unaligned_after_ms.is_some();
    assert!(overtakes(&graph));
    graph.edges[0].set_partitioning(v1::Partitioning::Forward);
    assert!(overtakes(&graph));
    graph.adaptive = Some(v1::AdaptiveScheduler::default());
    assert!(!overtakes(&graph));
    graph.edges[0].set_partitioning(v1::Partitioning::Hash);
    assert!(overtakes(&graph));
}
