//! Local copies: what is restored where it was needs no object store.

use std::sync::Arc;

use super::*;
use crate::LocalCopies;

fn options(world: &World, name: &str) -> StateOptions {
    StateOptions {
        copies: Some(Arc::new(LocalCopies::new(world.folder("copies")))),
        ..world.options(name, all_groups())
    }
}

fn restore(world: &World, name: &str, part: &v1::KeyedState) -> crate::Result<RocksState> {
    let parts = std::slice::from_ref(part);
    RocksState::restore(
        options(world, name),
        parts,
        &world.source(),
        &world.transfers(),
    )
}

fn tables(part: &v1::KeyedState) -> impl Iterator<Item = &v1::FileRef> {
    let files = part.files.iter();
    files.filter(|file| file.local_name.ends_with(".sst"))
}

/// A state's checkpoint, and what it had; the state is gone.
fn checkpointed(world: &World) -> (v1::KeyedState, Content) {
    let mut state = RocksState::open(options(world, "a")).unwrap();
    fill(&mut state, 3);
    let part = world.checkpoint(&mut state, 1);
    let content = content(&mut state);
    (part, content)
}

fn copies(world: &World) -> usize {
    std::fs::read_dir(world.folder("copies")).map_or(0, Iterator::count)
}

#[test]
fn tables_are_taken_from_the_local_disk_and_the_rest_from_the_store() {
    let world = World::new();
    let (part, expected) = checkpointed(&world);
    for file in tables(&part) {
        std::fs::remove_file(world.stored(file)).unwrap();
    }
    let mut restored = restore(&world, "b", &part).unwrap();
    assert_eq!(content(&mut restored), expected);
    drop(restored);
    // A second time: the database that used the copies has gone, they have not.
    let mut restored = restore(&world, "c", &part).unwrap();
    assert_eq!(content(&mut restored), expected);
}

#[test]
fn what_was_fetched_beforehand_is_not_downloaded_at_the_restore() {
    let world = World::new();
    let mut state = world.open("start");
    fill(&mut state, 10);
    let part = world.checkpoint(&mut state, 1);
    let tables: Vec<_> = part.files.iter().filter(|f| !f.path.is_empty()).collect();
    let bytes: u64 = tables
        .iter()
        .filter(|file| file.local_name.ends_with(".sst"))
        .map(|file| file.size_bytes)
        .sum();
    let copies = LocalCopies::new(world.folder("fetched"));
    let fetch = || copies.fetch(&part.files, &world.store, &world.transfers());
    assert_eq!(fetch().unwrap(), bytes);
    assert_eq!(fetch().unwrap(), 0, "they are there");
    for file in tables
        .iter()
        .filter(|file| file.local_name.ends_with(".sst"))
    {
        std::fs::remove_file(world.stored(file)).unwrap();
    }
    let options = StateOptions {
        copies: Some(Arc::new(copies)),
        ..world.options("again", all_groups())
    };
    let again = RocksState::restore(
        options,
        std::slice::from_ref(&part),
        &world.source(),
        &world.transfers(),
    );
    assert_eq!(content(&mut again.unwrap()), content(&mut state));
}

#[test]
fn a_damaged_copy_is_downloaded_again() {
    let world = World::new();
    let (part, expected) = checkpointed(&world);
    for copy in std::fs::read_dir(world.folder("copies")).unwrap() {
        std::fs::write(copy.unwrap().path(), b"other").unwrap();
    }
    let mut restored = restore(&world, "b", &part).unwrap();
    assert_eq!(content(&mut restored), expected);
}

#[test]
fn copies_go_with_the_checkpoints_that_need_them() {
    let world = World::new();
    let mut state = RocksState::open(options(&world, "a")).unwrap();
    let mut last = 0;
    for id in 1..=6 {
        fill(&mut state, id);
        let part = world.checkpoint(&mut state, id);
        state.confirm(CheckpointId(id));
        last = tables(&part).count();
    }
    // Those of the confirmed checkpoint stay until the next one has its own.
    state.write(one(0, "key", "value")).unwrap();
    let part = world.checkpoint(&mut state, 7);
    assert!(copies(&world) <= last + tables(&part).count());
    let kept = LocalCopies::new(world.folder("copies"));
    kept.retain(tables(&part).map(|file| file.path.as_str()));
    assert_eq!(copies(&world), tables(&part).count());
}
