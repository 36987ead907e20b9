//! Several databases as one state.

use weir_common::ids::CheckpointId;
use weir_common::key_group::{KeyGroup, KeyGroupRange, hash_key};
use weir_dataflow::{KeyedState, SnapshotTarget, StateTable, StateWrites};
use weir_proto::v1;

use super::{Content, GROUPS, World, all_groups, content};
use crate::PartedState;

const TABLE: StateTable = StateTable(0);
/// Of each group: half of all groups are more than a part that would be copied.
const ENTRIES: u64 = 20;
const VALUE_BYTES: usize = 128 << 10;

fn checkpoint(world: &World, state: &mut PartedState, id: u64) -> Vec<v1::KeyedState> {
    let pending = state
        .snapshot(CheckpointId(id), &SnapshotTarget::Checkpoint)
        .unwrap();
    state.seal().unwrap();
    let stored = pending.run(&world.uploader()).unwrap();
    state.confirm(CheckpointId(id));
    stored
}

fn restore(world: &World, name: &str, range: KeyGroupRange, old: &[v1::KeyedState]) -> PartedState {
    let options = world.options(name, range);
    PartedState::restore(options, old, &world.source(), &world.transfers()).unwrap()
}

fn key(entry: u64) -> Vec<u8> {
    entry.to_be_bytes().to_vec()
}

/// Much, that does not compress away.
fn fill(state: &mut PartedState) {
    let range = state.key_groups();
    for group in range.first..=range.last {
        let mut writes = StateWrites::default();
        for entry in 0..ENTRIES {
            let seed = u64::from(group) << 32 | entry << 16;
            let words = (0..VALUE_BYTES as u64 / 8).map(|n| hash_key(&(seed | n).to_le_bytes()));
            let value = words.flat_map(u64::to_le_bytes).collect();
            writes.put(TABLE, group, key(entry), value);
        }
        state.write(writes).unwrap();
    }
}

/// What two subtasks have, and its parts in a checkpoint.
fn two_halves(world: &World) -> (Content, Vec<v1::KeyedState>) {
    let (mut all, mut parts) = (Content::new(), Vec::new());
    for index in 0..2 {
        let range = KeyGroupRange::of_subtask(index, GROUPS, 2);
        let options = world.options(&format!("half-{index}"), range);
        let mut half = PartedState::open(options).unwrap();
        fill(&mut half);
        all.extend(content(&mut half));
        parts.extend(checkpoint(world, &mut half, 1));
    }
    (all, parts)
}

#[test]
fn large_parts_are_one_state_without_being_copied() {
    let world = World::new();
    let (mut expected, halves) = two_halves(&world);
    let mut joined = restore(&world, "joined", all_groups(), &halves);
    assert!(
        content(&mut joined) == expected,
        "it has what the halves had"
    );

    // The same files again: nothing was written, nothing is sent.
    let again = checkpoint(&world, &mut joined, 2);
    let sent: Vec<u64> = again.iter().map(|part| part.uploaded_bytes).collect();
    assert_eq!(sent, [0, 0]);

    let groups: [KeyGroup; 4] = [9, 0, 15, 7];
    let mut writes = StateWrites::default();
    for group in groups {
        writes.put(TABLE, group, key(3), vec![group as u8]);
        writes.delete(TABLE, group, key(4));
        expected.insert((TABLE, group, key(3)), vec![group as u8]);
        expected.remove(&(TABLE, group, key(4)));
    }
    joined.write_behind(writes).unwrap();
    joined.write(StateWrites::default()).unwrap();
    let (three, four) = (key(3), key(4));
    let asked: Vec<(KeyGroup, &[u8])> = groups
        .iter()
        .flat_map(|group| [(*group, three.as_slice()), (*group, four.as_slice())])
        .collect();
    let found = joined.multi_get(TABLE, &asked).unwrap();
    let wanted = groups.map(|group| [Some(vec![group as u8].into()), None]);
    assert_eq!(found, wanted.concat());

    let parts = checkpoint(&world, &mut joined, 3);
    assert_eq!(parts.len(), 2);
    let mut thirds = Content::new();
    for index in 0..3 {
        let range = KeyGroupRange::of_subtask(index, GROUPS, 3);
        let mut third = restore(&world, &format!("third-{index}"), range, &parts);
        thirds.extend(content(&mut third));
    }
    assert!(thirds == expected, "three subtasks have what the one had");
}

#[test]
fn a_scan_ends_when_it_is_told_to_and_foreign_groups_are_refused() {
    let world = World::new();
    let (_, halves) = two_halves(&world);
    let mut joined = restore(&world, "joined", all_groups(), &halves);
    let mut seen = Vec::new();
    joined
        .scan(TABLE, &mut |group, _, _| {
            seen.push(group);
            Ok(seen.len() < 3)
        })
        .unwrap();
    assert_eq!(seen, [0, 0, 0]);
    let mut foreign = StateWrites::default();
    foreign.put(TABLE, GROUPS as KeyGroup, key(0), vec![1]);
    assert!(joined.write(foreign).is_err());
}

#[test]
fn what_was_never_written_is_one_empty_part() {
    let world = World::new();
    let mut state = PartedState::open(world.options("empty", all_groups())).unwrap();
    assert!(state.is_empty());
    let parts = checkpoint(&world, &mut state, 1);
    assert_eq!(parts.len(), 1);
    assert!(parts[0].files.is_empty());
    let folder = world.folder("empty");
    drop(state);
    assert!(!folder.exists());
}
