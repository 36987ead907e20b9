//! RocksDB and the state in memory, which operators are tested with, answer alike.

use proptest::prelude::*;
use weir_common::key_group::KeyGroup;
use weir_dataflow::state::{StateRange, StateWrite};
use weir_dataflow::testing::MemoryState;
use weir_dataflow::{Error, KeyedState, StateTable, StateWrites};

use super::{World, all_groups, content, one};

#[derive(Debug, Clone)]
enum Step {
    Write(Vec<StateRange>, Vec<StateWrite>),
    Get(StateTable, Vec<(KeyGroup, Vec<u8>)>),
    ScanGroup(StateTable, KeyGroup, Option<Vec<u8>>, usize),
    Snapshot,
}

fn table() -> impl Strategy<Value = StateTable> {
    prop_oneof![Just(0u8), Just(1), Just(255)].prop_map(StateTable)
}

fn group() -> impl Strategy<Value = KeyGroup> {
    prop_oneof![Just(0u16), Just(1), Just(7), Just(15)]
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop_oneof![Just(0u8), Just(1), Just(128), Just(255)], 0..4)
}

fn write() -> impl Strategy<Value = StateWrite> {
    let value = prop::option::weighted(0.8, prop::collection::vec(any::<u8>(), 0..8));
    (table(), group(), key(), value).prop_map(|(table, key_group, key, value)| StateWrite {
        table,
        key_group,
        key,
        value,
    })
}

fn range() -> impl Strategy<Value = StateRange> {
    (table(), group(), key(), prop::option::of(key())).prop_map(|(table, key_group, from, to)| {
        StateRange {
            table,
            key_group,
            from,
            to,
        }
    })
}

fn step() -> impl Strategy<Value = Step> {
    let writes = (
        prop::collection::vec(range(), 0..2),
        prop::collection::vec(write(), 0..20),
    );
    prop_oneof![
        5 => writes.prop_map(|(ranges, entries)| Step::Write(ranges, entries)),
        2 => (table(), prop::collection::vec((group(), key()), 0..10))
            .prop_map(|(table, keys)| Step::Get(table, keys)),
        2 => (table(), group(), prop::option::of(key()), 1usize..5)
            .prop_map(|(table, group, from, most)| Step::ScanGroup(table, group, from, most)),
        1 => Just(Step::Snapshot),
    ]
}

type Entry = (KeyGroup, Vec<u8>, Vec<u8>);

fn scan_group(
    state: &mut dyn KeyedState,
    table: StateTable,
    group: KeyGroup,
    from: Option<&[u8]>,
    most: usize,
) -> Vec<Entry> {
    let mut found = Vec::new();
    state
        .scan_group(table, group, from, &mut |group, key, value| {
            found.push((group, key.to_vec(), value.to_vec()));
            Ok(found.len() < most)
        })
        .unwrap();
    found
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn it_answers_as_the_state_in_memory(steps in prop::collection::vec(step(), 1..40)) {
        let world = World::new();
        let mut rocks = world.open("a");
        let mut memory = MemoryState::new(all_groups());
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Write(deleted_ranges, entries) => {
                    for state in [&mut rocks as &mut dyn KeyedState, &mut memory] {
                        let writes = StateWrites {
                            entries: entries.clone(),
                            deleted_ranges: deleted_ranges.clone(),
                        };
                        state.write(writes).unwrap();
                    }
                }
                Step::Get(table, keys) => {
                    let keys: Vec<_> = keys.iter().map(|(g, key)| (*g, key.as_slice())).collect();
                    prop_assert_eq!(
                        rocks.multi_get(table, &keys).unwrap(),
                        memory.multi_get(table, &keys).unwrap()
                    );
                }
                Step::ScanGroup(table, group, from, most) => prop_assert_eq!(
                    scan_group(&mut rocks, table, group, from.as_deref(), most),
                    scan_group(&mut memory, table, group, from.as_deref(), most)
                ),
                Step::Snapshot => {
                    world.checkpoint(&mut rocks, number as u64 + 1);
                }
            }
        }
        prop_assert_eq!(content(&mut rocks), content(&mut memory));
    }
}

#[test]
fn a_state_that_was_never_written_touches_no_disk() {
    let world = World::new();
    let mut state = world.open("a");
    let mut only_deletes = StateWrites::default();
    only_deletes.delete(StateTable(0), 3, b"k".to_vec());
    state.write(only_deletes).unwrap();
    state.write(StateWrites::default()).unwrap();
    assert!(state.is_empty() && state.size_bytes() == 0);
    let keys: &[(KeyGroup, &[u8])] = &[(3, b"k")];
    assert_eq!(state.multi_get(StateTable(0), keys).unwrap(), [None]);
    assert!(content(&mut state).is_empty());
    let snapshot = world.checkpoint(&mut state, 1);
    assert!(snapshot.files.is_empty() && snapshot.key_groups.is_some());
    assert!(!world.folder("a").exists());
    state.write(one(3, "k", "v")).unwrap();
    assert!(!state.is_empty() && state.size_bytes() > 0);
}

#[test]
fn the_visitor_ends_a_scan_and_its_error_comes_out() {
    let world = World::new();
    let mut state = world.open("a");
    for group in [1, 2, 3] {
        state.write(one(group, "k", "v")).unwrap();
    }
    let mut seen = Vec::new();
    let mut visit = |group: KeyGroup, _: &[u8], _: &[u8]| {
        seen.push(group);
        Ok(seen.len() < 2)
    };
    state.scan(StateTable(0), &mut visit).unwrap();
    assert_eq!(seen, [1, 2]);
    let mut fail = |_: KeyGroup, _: &[u8], _: &[u8]| Err(Error::Data("no".to_owned()));
    let error = state.scan(StateTable(0), &mut fail).unwrap_err();
    assert_eq!(error.to_string(), "no");
}

#[test]
fn a_foreign_key_group_is_refused() {
    let world = World::new();
    let mut state = world.open("a");
    let error = state.write(one(16, "k", "v")).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("key group 16 is outside of 0..=15"),
        "{error}"
    );
    assert!(state.is_empty());
}

#[test]
fn a_folder_that_cannot_be_made_fails_the_next_read() {
    let world = World::new();
    std::fs::create_dir_all(world.folder("")).unwrap();
    let mut state = world.open("file/a");
    std::fs::write(world.folder("file"), b"").unwrap();
    // The writer may fail before or after this.
    drop(state.write(one(1, "k", "v")));
    let error = content_error(&mut state);
    assert!(matches!(error, Error::State(_)));
    assert!(
        error.to_string().contains("cannot open the keyed state in"),
        "{error}"
    );
    assert!(state.write(one(1, "k", "v")).is_err());
}

fn content_error(state: &mut dyn KeyedState) -> Error {
    state
        .scan(StateTable(0), &mut |_, _, _| Ok(true))
        .unwrap_err()
}
