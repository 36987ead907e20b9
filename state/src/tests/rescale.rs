//! A snapshot at one parallelism, restored at another.

use weir_common::key_group::KeyGroupRange;
use weir_dataflow::{KeyedState, StateTable, StateWrites};

use super::{Content, GROUPS, World, all_groups, content, fill, one};
use crate::RocksState;

fn subtasks(parallelism: u32) -> impl Iterator<Item = KeyGroupRange> {
    (0..parallelism).map(move |index| KeyGroupRange::of_subtask(index, GROUPS, parallelism))
}

fn restored(
    world: &World,
    name: &str,
    parallelism: u32,
    parts: &[weir_proto::v1::KeyedState],
) -> Vec<RocksState> {
    subtasks(parallelism)
        .enumerate()
        .map(|(index, range)| {
            let name = format!("{name}-{index}");
            world.restore(&name, range, parts).unwrap()
        })
        .collect()
}

fn joined(states: &mut [RocksState]) -> Content {
    let mut all = Content::new();
    for state in states {
        let range = state.key_groups();
        for (key, value) in content(state) {
            assert!(
                range.contains(key.1),
                "group {} outside of {range:?}",
                key.1
            );
            assert!(
                all.insert(key, value).is_none(),
                "an entry is in two subtasks"
            );
        }
    }
    all
}

#[test]
fn every_entry_is_in_one_subtask_at_any_parallelism() {
    let world = World::new();
    let mut state = world.open("start");
    fill(&mut state, 40);
    let mut expected = content(&mut state);
    let mut parts = vec![world.checkpoint(&mut state, 1)];
    for (round, parallelism) in [3, 2, 5, 1, 16, 4].into_iter().enumerate() {
        let mut states = restored(&world, &format!("round-{round}"), parallelism, &parts);
        assert_eq!(
            joined(&mut states),
            expected,
            "at parallelism {parallelism}"
        );
        let id = round as u64 + 2;
        parts.clear();
        for state in &mut states {
            let first = state.key_groups().first;
            let mut writes = StateWrites::default();
            writes.put(
                StateTable(1),
                first,
                b"round".to_vec(),
                id.to_be_bytes().to_vec(),
            );
            writes.delete(StateTable(0), first, id.to_be_bytes().to_vec());
            expected.insert(
                (StateTable(1), first, b"round".to_vec()),
                id.to_be_bytes().to_vec(),
            );
            expected.remove(&(StateTable(0), first, id.to_be_bytes().to_vec()));
            state.write(writes).unwrap();
            parts.push(world.checkpoint(state, id));
        }
    }
}

#[test]
fn groups_that_were_cut_off_do_not_come_back() {
    let world = World::new();
    let mut state = world.open("whole");
    fill(&mut state, 10);
    let whole = world.checkpoint(&mut state, 1);
    let mut halves = restored(&world, "half", 2, &[whole]);
    let (left, right) = halves.split_at_mut(1);
    // The right half loses an entry of its own, which the left half's database still has below its range delete.
    let mut deletes = StateWrites::default();
    deletes.delete(StateTable(0), 12, 2u64.to_be_bytes().to_vec());
    right[0].write(deletes).unwrap();
    let parts = [
        world.checkpoint(&mut left[0], 2),
        world.checkpoint(&mut right[0], 2),
    ];
    let mut expected = content(&mut state);
    expected.remove(&(StateTable(0), 12, 2u64.to_be_bytes().to_vec()));
    let mut again = restored(&world, "again", 1, &parts);
    assert_eq!(joined(&mut again), expected);
}

#[test]
fn parts_without_wanted_groups_or_files_are_passed_over() {
    let world = World::new();
    let mut state = world.open("start");
    state.write(one(2, "k", "v")).unwrap();
    let part = world.checkpoint(&mut state, 1);
    let empty = world.checkpoint(&mut world.open("empty"), 1);
    let halves: Vec<_> = subtasks(2).collect();
    let parts = [empty, part];
    let mut left = world.restore("left", halves[0], &parts).unwrap();
    assert_eq!(content(&mut left), content(&mut state));
    let none = world.restore("none", all_groups(), &parts[..1]).unwrap();
    assert!(none.is_empty());
}
