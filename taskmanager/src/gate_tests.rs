use std::collections::VecDeque;

use arrow::array::AsArray;
use arrow::datatypes::{DataType, Int64Type};
use proptest::prelude::*;
use weir_dataflow::SnapshotTarget;
use weir_dataflow::testing::{batch, schema};

use super::*;

fn barrier(id: u64) -> Element {
    Element::Barrier(Barrier {
        checkpoint: CheckpointId(id),
        timestamp_ms: 0,
        target: SnapshotTarget::Checkpoint,
        stop_sources: false,
        overtakes_from_ms: None,
    })
}

fn row(value: i64) -> Element {
    let schema = schema(&[("a", DataType::Int64)]);
    Element::Batch(batch(&schema, &value.to_string()).unwrap())
}

fn value_of(batch: &Batch) -> i64 {
    batch.data().column(0).as_primitive::<Int64Type>().value(0)
}

fn gate(channels: usize) -> Gate {
    Gate::new((0..channels).map(|_| 0), Vec::new())
}

/// What a step gives, in short: "b5" rows, "w7" watermark, "c1" barrier, "idle" ...
fn step(gate: &mut Gate, channel: usize, element: Element) -> Vec<String> {
    let mut events = Vec::new();
    gate.step(channel, element, 0, &mut events).unwrap();
    events.iter().map(short).collect()
}

fn short(event: &GateEvent) -> String {
    match event {
        GateEvent::Batch { input, batch } => format!("b{input}:{}", value_of(batch)),
        GateEvent::Watermark(w) => format!("w{w}"),
        GateEvent::Idle => "idle".to_owned(),
        GateEvent::Active => "active".to_owned(),
        GateEvent::Barrier {
            barrier, overtakes, ..
        } => format!(
            "{}{}",
            if *overtakes { "ahead" } else { "c" },
            barrier.checkpoint
        ),
        GateEvent::InFlight {
            checkpoint,
            in_flight,
            ..
        } => {
            let rows = |batches: &[Batch]| {
                let values: Vec<String> = batches.iter().map(|b| value_of(b).to_string()).collect();
                values.join(",")
            };
            let restored: Vec<Batch> = in_flight.restored.iter().map(|(_, b)| b.clone()).collect();
            let channels: Vec<String> = in_flight.channels.iter().map(|c| rows(c)).collect();
            format!(
                "in-flight{checkpoint}:{}|{}",
                rows(&restored),
                channels.join("|")
            )
        }
        GateEvent::Abandoned { checkpoint, by } => format!("abandoned{checkpoint}by{by}"),
        GateEvent::EndOfData { complete } => format!("end:{complete}"),
    }
}

const NOTHING: [&str; 0] = [];

#[test]
fn the_watermark_is_the_least_of_all_channels() {
    let mut gate = gate(2);
    assert_eq!(step(&mut gate, 0, Element::Watermark(5)), NOTHING);
    assert_eq!(step(&mut gate, 1, Element::Watermark(3)), ["w3"]);
    assert_eq!(step(&mut gate, 1, Element::Watermark(9)), ["w5"]);
    assert_eq!(step(&mut gate, 1, Element::Watermark(2)), NOTHING);
}

#[test]
fn an_idle_channel_does_not_hold_the_watermark_back() {
    let mut gate = gate(2);
    step(&mut gate, 0, Element::Watermark(5));
    assert_eq!(step(&mut gate, 1, Element::Idle), ["w5"]);
    assert_eq!(step(&mut gate, 0, Element::Idle), ["idle"]);
    assert_eq!(step(&mut gate, 1, row(1)), ["active", "b0:1"]);
    // It was idle and is behind: it has to catch up before it counts.
    assert_eq!(step(&mut gate, 1, Element::Watermark(4)), NOTHING);
    assert_eq!(step(&mut gate, 1, Element::Watermark(8)), ["w8"]);
}

#[test]
fn when_all_are_idle_the_largest_watermark_counts() {
    let mut gate = gate(2);
    step(&mut gate, 0, Element::Watermark(5));
    step(&mut gate, 1, Element::Watermark(3));
    assert_eq!(step(&mut gate, 0, Element::Idle), NOTHING);
    assert_eq!(step(&mut gate, 1, Element::Idle), ["w5", "idle"]);
}

#[test]
fn an_ended_channel_leaves_the_watermark_to_an_idle_one() {
    let mut gate = gate(2);
    step(&mut gate, 1, Element::Watermark(3));
    step(&mut gate, 1, Element::Idle);
    assert_eq!(
        step(&mut gate, 0, Element::Watermark(i64::MAX)),
        ["w3", "idle"]
    );
    assert_eq!(step(&mut gate, 0, Element::EndOfData), NOTHING);
    assert_eq!(step(&mut gate, 1, Element::Watermark(4)), ["w4"]);
}

/// The next subtasks go on with what another one has made of the same channels, which it may have seen in another order.
#[test]
fn what_an_ended_channel_had_reached_counts_before_idleness() {
    let mut gate = gate(2);
    assert_eq!(step(&mut gate, 0, Element::Watermark(22)), NOTHING);
    assert_eq!(step(&mut gate, 0, Element::Watermark(i64::MAX)), NOTHING);
    assert_eq!(step(&mut gate, 1, Element::Idle), ["w22", "idle"]);
    let last = format!("w{}", i64::MAX);
    assert_eq!(step(&mut gate, 1, Element::Watermark(i64::MAX)), [last]);
}

#[test]
fn the_end_is_complete_only_with_the_last_watermark() {
    let mut first = gate(2);
    step(&mut first, 0, Element::Watermark(i64::MAX));
    step(&mut first, 0, Element::EndOfData);
    let last = format!("w{}", i64::MAX);
    assert_eq!(step(&mut first, 1, Element::Watermark(i64::MAX)), [last]);
    assert_eq!(step(&mut first, 1, Element::EndOfData), ["end:true"]);
    let mut stopped = gate(1);
    step(&mut stopped, 0, Element::Watermark(7));
    assert_eq!(step(&mut stopped, 0, Element::EndOfData), ["end:false"]);
}

#[test]
fn a_stopped_channel_still_holds_the_watermark_back() {
    let mut gate = gate(2);
    step(&mut gate, 0, Element::Watermark(5));
    step(&mut gate, 1, Element::Watermark(9));
    step(&mut gate, 0, Element::EndOfData);
    assert_eq!(step(&mut gate, 1, Element::Watermark(20)), NOTHING);
}

#[test]
fn an_ended_channel_delivers_barriers_and_nothing_else() {
    let mut gate = gate(1);
    step(&mut gate, 0, Element::EndOfData);
    assert!(gate.is_ended());
    assert_eq!(step(&mut gate, 0, barrier(1)), ["c1"]);
    assert!(gate.step(0, row(1), 0, &mut Vec::new()).is_err());
}

#[test]
fn a_newer_barrier_gives_the_older_checkpoint_up() {
    let mut gate = gate(2);
    assert_eq!(step(&mut gate, 0, barrier(1)), NOTHING);
    assert!(gate.is_blocked(0) && !gate.is_blocked(1));
    assert_eq!(step(&mut gate, 1, barrier(2)), ["abandoned1by2"]);
    assert!(!gate.is_blocked(0) && gate.is_blocked(1));
    assert_eq!(step(&mut gate, 0, barrier(2)), ["c2"]);
    assert!(!gate.is_blocked(1));
    assert_eq!(step(&mut gate, 1, barrier(1)), NOTHING);
}

#[test]
fn an_older_barrier_that_comes_late_is_given_up_at_once() {
    let mut gate = gate(3);
    assert_eq!(step(&mut gate, 0, barrier(2)), NOTHING);
    assert_eq!(step(&mut gate, 1, barrier(1)), ["abandoned1by2"]);
    assert_eq!(step(&mut gate, 2, barrier(1)), NOTHING);
    assert!(gate.is_blocked(0) && !gate.is_blocked(1));
    step(&mut gate, 1, barrier(2));
    assert_eq!(step(&mut gate, 2, barrier(2)), ["c2"]);
}

#[test]
fn an_abort_frees_the_channels_and_its_late_barriers_are_ignored() {
    let mut gate = gate(2);
    step(&mut gate, 0, barrier(3));
    gate.abort(CheckpointId(3));
    assert!(!gate.is_blocked(0));
    assert_eq!(step(&mut gate, 1, barrier(3)), NOTHING);
    assert!(!gate.is_blocked(1));
    step(&mut gate, 0, barrier(4));
    assert_eq!(step(&mut gate, 1, barrier(4)), ["c4"]);
}

#[test]
fn alignment_time_counts_from_the_first_barrier() {
    let mut gate = gate(2);
    let mut events = Vec::new();
    gate.step(0, barrier(1), 100, &mut events).unwrap();
    gate.step(1, barrier(1), 130, &mut events).unwrap();
    assert!(matches!(
        events.as_slice(),
        [GateEvent::Barrier {
            alignment_ms: 30,
            ..
        }]
    ));
}

#[test]
fn a_channel_that_waits_must_not_be_read() {
    let mut gate = gate(2);
    step(&mut gate, 0, barrier(1));
    assert!(gate.step(0, row(1), 0, &mut Vec::new()).is_err());
}

/// One channel's script: rows, watermarks that grow, idleness, and the barriers 1..=n in order.
fn script() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(0u8..10, 0..30)
}

proptest! {
    /// Random scripts in a random interleaving, with three checkpoints: before a barrier goes on, exactly the rows in front of it on each
    /// channel were seen; the watermark only grows and is never above an active channel's.
    #[test]
    fn cuts_are_consistent_and_watermarks_monotone(
        scripts in prop::collection::vec((script(), script(), script(), script()), 1..5),
        picks in prop::collection::vec(any::<prop::sample::Index>(), 1..400),
    ) {
        let mut channels: Vec<VecDeque<Element>> = Vec::new();
        let mut expected_rows = [0usize; 4];
        for (index, parts) in scripts.iter().enumerate() {
            let mut elements = VecDeque::new();
            let mut watermark = 0;
            for (part, codes) in [&parts.0, &parts.1, &parts.2, &parts.3].into_iter().enumerate() {
                for code in codes {
                    match code {
                        0..=5 => {
                            elements.push_back(row((index * 10 + part) as i64));
                            expected_rows[part] += 1;
                        }
                        6..=8 => {
                            watermark += i64::from(*code);
                            elements.push_back(Element::Watermark(watermark));
                        }
                        _ => elements.push_back(Element::Idle),
                    }
                }
                if part < 3 {
                    elements.push_back(barrier(part as u64 + 1));
                }
            }
            elements.push_back(Element::Watermark(i64::MAX));
            elements.push_back(Element::EndOfData);
            channels.push(elements);
        }
        let mut gate = gate(channels.len());
        let mut picks = picks.iter().cycle();
        let (mut cut, mut seen, mut watermark, mut ended) = (0, 0, i64::MIN, false);
        loop {
            let open: Vec<_> = (0..channels.len())
                .filter(|c| !gate.is_blocked(*c) && !channels[*c].is_empty())
                .collect();
            if open.is_empty() {
                break;
            }
            let channel = open[picks.next().unwrap().index(open.len())];
            let element = channels[channel].pop_front().unwrap();
            let mut events = Vec::new();
            gate.step(channel, element, 0, &mut events).unwrap();
            for event in events {
                match event {
                    GateEvent::Batch { batch, .. } => {
                        // A row of the part behind barrier n comes only after barrier n went on, and none in front of it after.
                        prop_assert_eq!(value_of(&batch) % 10, cut as i64);
                        seen += 1;
                    }
                    GateEvent::Barrier { barrier, .. } => {
                        prop_assert_eq!(barrier.checkpoint.0, cut as u64 + 1);
                        prop_assert_eq!(seen, expected_rows[..=cut].iter().sum::<usize>());
                        cut += 1;
                    }
                    GateEvent::Watermark(next) => {
                        prop_assert!(next > watermark);
                        watermark = next;
                    }
                    GateEvent::EndOfData { complete } => {
                        prop_assert!(complete);
                        ended = true;
                    }
                    GateEvent::Idle | GateEvent::Active => {}
                    GateEvent::Abandoned { .. } | GateEvent::InFlight { .. } => {
                        prop_assert!(false, "no checkpoint is given up or overtakes here");
                    }
                }
            }
        }
        prop_assert!(channels.iter().all(VecDeque::is_empty), "a channel stays blocked");
        prop_assert_eq!((cut, ended, watermark), (3, true, i64::MAX));
    }
}

#[path = "gate_overtake_tests.rs"]
mod overtake;
