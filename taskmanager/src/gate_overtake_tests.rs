//! Barriers that overtake.

use super::*;

fn overtaking(id: u64, from_ms: i64) -> Element {
    Element::Barrier(Barrier {
        checkpoint: CheckpointId(id),
        timestamp_ms: 0,
        target: SnapshotTarget::Checkpoint,
        stop_sources: false,
        overtakes_from_ms: Some(from_ms),
    })
}

/// The element leaves the queue out of turn.
fn overtake(gate: &mut Gate, channel: usize, element: Element, now_ms: i64) -> Vec<String> {
    let mut events = Vec::new();
    gate.overtake(channel, element, now_ms, &mut events);
    events.iter().map(short).collect()
}

/// Everything that a channel holds, processed.
fn held(gate: &mut Gate, channel: usize) -> Vec<String> {
    let mut events = Vec::new();
    while gate.step_held(channel, 0, &mut events).unwrap().is_some() {}
    events.iter().map(short).collect()
}

fn due(gate: &mut Gate, now_ms: i64) -> Vec<String> {
    let mut events = Vec::new();
    gate.cut_if_due(now_ms, &mut events);
    events.iter().map(short).collect()
}

#[test]
fn the_first_barrier_cuts_and_what_it_has_overtaken_is_recorded_until_the_last() {
    let mut gate = gate(2);
    assert_eq!(step(&mut gate, 0, row(1)), ["b0:1"]);
    for value in [2, 3] {
        assert_eq!(overtake(&mut gate, 0, row(value), 0), NOTHING);
    }
    assert_eq!(overtake(&mut gate, 0, overtaking(7, 0), 0), ["ahead7"]);
    // Behind the barrier: not of the snapshot. On the other channel, in front of it: of the snapshot, and processed.
    assert!(!gate.is_blocked(0) && !gate.is_blocked(1));
    assert_eq!(held(&mut gate, 0), ["b0:2", "b0:3"]);
    assert_eq!(step(&mut gate, 0, row(4)), ["b0:4"]);
    assert_eq!(step(&mut gate, 1, row(10)), ["b0:10"]);
    assert_eq!(overtake(&mut gate, 1, row(11), 0), NOTHING);
    assert_eq!(
        overtake(&mut gate, 1, overtaking(7, 0), 0),
        ["in-flight7:|2,3|10,11"]
    );
    assert_eq!(held(&mut gate, 1), ["b0:11"]);
    assert_eq!(step(&mut gate, 1, row(12)), ["b0:12"]);
}

#[test]
fn an_aligned_barrier_overtakes_when_it_has_waited_too_long() {
    let mut gate = gate(3);
    assert_eq!(step(&mut gate, 0, overtaking(1, 100)), NOTHING);
    assert!(gate.is_blocked(0) && !gate.is_due(99));
    assert_eq!(step(&mut gate, 1, row(5)), ["b0:5"]);
    assert_eq!(due(&mut gate, 99), NOTHING);
    assert_eq!(due(&mut gate, 100), ["ahead1"]);
    assert_eq!(due(&mut gate, 101), NOTHING, "once");
    assert!(!gate.is_blocked(0));
    assert_eq!(step(&mut gate, 0, row(6)), ["b0:6"]);
    assert_eq!(step(&mut gate, 1, row(7)), ["b0:7"]);
    assert_eq!(step(&mut gate, 1, overtaking(1, 100)), NOTHING);
    assert_eq!(step(&mut gate, 2, overtaking(1, 100)), ["in-flight1:||7|"]);
}

#[test]
fn an_aligned_barrier_that_is_in_time_stays_aligned() {
    let mut gate = gate(2);
    assert_eq!(step(&mut gate, 0, overtaking(1, 100)), NOTHING);
    assert_eq!(step(&mut gate, 1, row(5)), ["b0:5"]);
    assert_eq!(step(&mut gate, 1, overtaking(1, 100)), ["c1"]);
    assert_eq!(due(&mut gate, 1000), NOTHING);
}

#[test]
fn a_barrier_that_was_let_go_ahead_takes_those_with_it_that_wait() {
    let mut gate = gate(3);
    assert_eq!(step(&mut gate, 0, overtaking(1, 100)), NOTHING);
    assert_eq!(overtake(&mut gate, 1, row(5), 0), NOTHING);
    assert_eq!(
        overtake(&mut gate, 1, overtaking(1, i64::MIN), 0),
        ["ahead1"]
    );
    assert_eq!(
        overtake(&mut gate, 2, overtaking(1, i64::MIN), 0),
        ["in-flight1:||5|"]
    );
}

#[test]
fn restored_rows_come_first_and_belong_to_the_next_snapshot_until_they_are_processed() {
    let restored = |value| match row(value) {
        Element::Batch(batch) => (1, batch),
        other => panic!("{other:?}"),
    };
    let mut gate = Gate::new([0, 1], vec![restored(1), restored(2)]);
    let mut events = Vec::new();
    assert!(gate.step_restored(&mut events));
    assert_eq!(short(&events[0]), "b1:1");
    assert_eq!(overtake(&mut gate, 0, overtaking(3, 0), 0), ["ahead3"]);
    assert_eq!(
        overtake(&mut gate, 1, overtaking(3, 0), 0),
        ["in-flight3:2||"]
    );
    assert!(gate.step_restored(&mut events) && !gate.step_restored(&mut events));
    assert_eq!(short(&events[1]), "b1:2");
}

#[test]
fn an_aborted_checkpoint_drops_its_record_and_nothing_else() {
    let mut gate = gate(2);
    overtake(&mut gate, 0, row(1), 0);
    assert_eq!(overtake(&mut gate, 0, overtaking(1, 0), 0), ["ahead1"]);
    gate.abort(CheckpointId(1));
    assert_eq!(overtake(&mut gate, 1, overtaking(1, 0), 0), NOTHING);
    assert_eq!(held(&mut gate, 0), ["b0:1"]);
    overtake(&mut gate, 1, row(2), 0);
    assert_eq!(overtake(&mut gate, 1, overtaking(2, 0), 0), ["ahead2"]);
    assert_eq!(step(&mut gate, 0, overtaking(2, 0)), ["in-flight2:||2"]);
}

#[test]
fn a_newer_barrier_gives_up_the_older_ones_record() {
    let mut gate = gate(2);
    assert_eq!(overtake(&mut gate, 0, overtaking(1, 0), 0), ["ahead1"]);
    overtake(&mut gate, 0, row(1), 0);
    assert_eq!(
        overtake(&mut gate, 0, overtaking(2, 0), 0),
        ["abandoned1by2", "ahead2"]
    );
    assert_eq!(step(&mut gate, 1, overtaking(1, 0)), NOTHING);
    // An aligned one, too: a savepoint that a user wants.
    assert_eq!(step(&mut gate, 1, barrier(3)), ["abandoned2by3"]);
    assert!(gate.is_blocked(1) && !gate.is_blocked(0));
    assert_eq!(held(&mut gate, 0), ["b0:1"]);
    assert_eq!(step(&mut gate, 0, barrier(3)), ["c3"]);
}

#[test]
fn watermarks_that_are_held_do_not_pile_up() {
    let mut gate = gate(1);
    for watermark in 0..100 {
        overtake(&mut gate, 0, Element::Watermark(watermark), 0);
        overtake(&mut gate, 0, Element::Idle, 0);
        overtake(&mut gate, 0, Element::Idle, 0);
    }
    assert_eq!(gate.channels[0].held.len(), 2);
    assert_eq!(held(&mut gate, 0), ["w99", "idle"]);
}

/// What the model's subtask has seen of one channel.
#[derive(Default)]
struct Seen {
    /// Rows processed so far.
    processed: Vec<i64>,
    /// Rows of the channel in front of each barrier.
    in_front: Vec<usize>,
}

proptest! {
    /// Random scripts with four checkpoints, each aligned, overtaking at once, or overtaking from a time on; elements processed in turn or
    /// drained for a barrier that is due, at random. Every snapshot has each row in front of its barriers exactly once, processed or in
    /// flight, and every row is processed once, in the order of its channel.
    #[test]
    fn each_row_is_in_a_snapshot_exactly_once(
        scripts in prop::collection::vec(prop::collection::vec(0usize..4, 5), 1..4),
        patience in prop::collection::vec(prop::option::of(0i64..60), 4),
        picks in prop::collection::vec((0usize..4, 0u8..3), 0..300),
    ) {
        let mut queues: Vec<VecDeque<Element>> = Vec::new();
        let mut all: Vec<Seen> = Vec::new();
        for counts in &scripts {
            let (mut queue, mut seen, mut next) = (VecDeque::new(), Seen::default(), 0);
            for (part, count) in counts.iter().enumerate() {
                for _ in 0..*count {
                    queue.push_back(row(next));
                    next += 1;
                }
                seen.in_front.push(next as usize);
                if let Some(patience) = patience.get(part) {
                    let id = part as u64 + 1;
                    queue.push_back(match patience {
                        None => barrier(id),
                        Some(from) => overtaking(id, part as i64 * 100 + from),
                    });
                }
            }
            queues.push(queue);
            all.push(seen);
        }
        let inputs = 0..queues.len();
        let mut gate = Gate::new(inputs, Vec::new());
        // Behind what is drawn, everything has its turn until all is done.
        let rest = (0..3000usize).map(|turn| (turn / 3, (turn % 3) as u8));
        let (mut now_ms, mut cuts) = (0, Vec::<Vec<usize>>::new());
        let mut complete = 0usize;
        for (pick, action) in picks.into_iter().chain(rest) {
            let channel = pick % queues.len();
            // A checkpoint begins when the one before it is complete.
            let next = complete as u64 + 1;
            let is_to_come = |e: &Element| matches!(e, Element::Barrier(b) if b.checkpoint.0 > next);
            let mut events = Vec::new();
            match action {
                0 => now_ms += 7,
                1 if !gate.is_blocked(channel) => {
                    if gate.step_held(channel, now_ms, &mut events).unwrap().is_none()
                        && let Some(element) = queues[channel].pop_front_if(|e| !is_to_come(e))
                    {
                        gate.step(channel, element, now_ms, &mut events).unwrap();
                    }
                }
                _ => {
                    let is_due = |e: &Element| matches!(e, Element::Barrier(b) if b.overtakes(now_ms));
                    if let Some(place) = queues[channel].iter().position(|e| is_due(e) && !is_to_come(e)) {
                        for element in queues[channel].drain(..=place) {
                            gate.overtake(channel, element, now_ms, &mut events);
                        }
                    }
                    gate.cut_if_due(now_ms, &mut events);
                }
            }
            for event in events {
                match event {
                    GateEvent::Batch { input, batch } => {
                        let seen = &mut all[input];
                        prop_assert_eq!(value_of(&batch), seen.processed.len() as i64);
                        seen.processed.push(value_of(&batch));
                    }
                    GateEvent::Barrier { barrier, overtakes, .. } => {
                        prop_assert_eq!(barrier.checkpoint.0, cuts.len() as u64 + 1);
                        let processed: Vec<usize> = all.iter().map(|s| s.processed.len()).collect();
                        if !overtakes {
                            let in_front: Vec<usize> = all.iter().map(|s| s.in_front[complete]).collect();
                            prop_assert_eq!(&processed, &in_front);
                            complete += 1;
                        }
                        cuts.push(processed);
                    }
                    GateEvent::InFlight { checkpoint, in_flight, .. } => {
                        prop_assert_eq!(checkpoint.0, cuts.len() as u64);
                        let cut = &cuts[cuts.len() - 1];
                        for (index, recorded) in in_flight.channels.iter().enumerate() {
                            let values: Vec<i64> = recorded.iter().map(value_of).collect();
                            let expected: Vec<i64> =
                                (cut[index] as i64..all[index].in_front[complete] as i64).collect();
                            prop_assert_eq!(values, expected);
                        }
                        complete += 1;
                    }
                    other => prop_assert!(false, "{other:?}"),
                }
            }
        }
        prop_assert_eq!(complete, 4);
        for seen in &all {
            prop_assert_eq!(seen.processed.len(), seen.in_front[4]);
        }
    }
}
