//! What is in a snapshot, what is sent for it, and what damage does.

use std::collections::BTreeSet;

use weir_common::config::S3Config;
use weir_common::ids::{AttemptId, CheckpointId};
use weir_common::key_group::hash_key;
use weir_dataflow::{KeyedState, SnapshotTarget, StateTable, StateWrites};
use weir_proto::v1;
use weir_snapshot::Store;

use super::{World, all_groups, begin, content, fill, one};
use crate::{RestoreSource, RocksState, StateError, Uploader};

fn paths(snapshot: &v1::KeyedState) -> BTreeSet<&str> {
    snapshot
        .files
        .iter()
        .map(|file| file.path.as_str())
        .collect()
}

fn tables(snapshot: &v1::KeyedState) -> BTreeSet<&str> {
    paths(snapshot)
        .into_iter()
        .filter(|path| path.ends_with(".sst"))
        .collect()
}

fn entries(folder: &std::path::Path) -> usize {
    std::fs::read_dir(folder).unwrap().count()
}

#[test]
fn a_snapshot_has_what_was_written_before_it_and_nothing_after() {
    let world = World::new();
    let mut state = world.open("a");
    let mut expected = Vec::new();
    let mut pending = Vec::new();
    for round in 0..5u64 {
        fill(&mut state, 20 * (round + 1));
        state.write(one(3, "round", &round.to_string())).unwrap();
        pending.push(begin(&mut state, round + 1, &SnapshotTarget::Checkpoint));
        state.write(one(3, "round", "later")).unwrap();
        state.write(one(4, "later", "later")).unwrap();
        expected.push(round);
    }
    for (round, pending) in expected.into_iter().zip(pending) {
        let snapshot = pending.run(&world.uploader()).unwrap();
        let restored = world.restore("b", all_groups(), &[snapshot]);
        let content = content(&mut restored.unwrap());
        let value = |group, key: &str| {
            let key = (weir_dataflow::StateTable(0), group, key.as_bytes().to_vec());
            content
                .get(&key)
                .map(|value| String::from_utf8(value.clone()).unwrap())
        };
        assert_eq!(value(3, "round"), Some(round.to_string()));
        assert_eq!(value(4, "later").is_some(), round > 0);
        let later = usize::from(round > 0);
        assert_eq!(
            content.len() as u64,
            16 * 20 * (round + 1) + 1 + later as u64
        );
    }
    assert_eq!(entries(&world.folder("a")), 1, "only the database is left");
}

#[test]
fn what_is_written_behind_the_barrier_belongs_to_the_snapshot_until_it_is_sealed() {
    let world = World::new();
    let mut state = world.open("a");
    state.write(one(1, "before", "1")).unwrap();
    let target = SnapshotTarget::Checkpoint;
    let pending = state.snapshot(CheckpointId(1), &target).unwrap();
    state.write_behind(one(2, "frozen", "1")).unwrap();
    state.seal().unwrap();
    state.write_behind(one(2, "frozen", "2")).unwrap();
    state.seal().unwrap();
    let expected = one(2, "frozen", "1").entries.remove(0);
    let snapshot = pending.run(&world.uploader()).unwrap();
    let restored = content(&mut world.restore("b", all_groups(), &[snapshot]).unwrap());
    let key = (expected.table, expected.key_group, expected.key);
    assert_eq!(
        (restored.len(), restored.get(&key)),
        (2, expected.value.as_ref())
    );

    // A read sees what was written behind once something was written for reads.
    state.write(weir_dataflow::StateWrites::default()).unwrap();
    let found = state.multi_get(key.0, &[(key.1, &key.2)]).unwrap();
    assert_eq!(found[0].as_deref(), Some(&b"2"[..]));
}

#[test]
fn only_what_is_new_is_sent_once_a_checkpoint_is_confirmed() {
    let world = World::new();
    let mut state = world.open("a");
    fill(&mut state, 200);
    let first = world.checkpoint(&mut state, 1);
    assert_eq!(
        first.uploaded_bytes,
        first.files.iter().map(|f| f.size_bytes).sum::<u64>()
    );

    // Not confirmed: it may be dropped from the store.
    let second = world.checkpoint(&mut state, 2);
    assert!(tables(&second).is_disjoint(&tables(&first)));

    state.confirm(CheckpointId(2));
    state.write(one(1, "k", "v")).unwrap();
    let third = world.checkpoint(&mut state, 3);
    assert!(tables(&third).is_superset(&tables(&second)));
    assert_eq!(tables(&third).len(), tables(&second).len() + 1);
    assert!(
        third.uploaded_bytes < second.uploaded_bytes / 10,
        "{third:?}"
    );

    state.abort(CheckpointId(3));
    state.confirm(CheckpointId(3));
    let fourth = world.checkpoint(&mut state, 4);
    assert!(tables(&fourth).is_superset(&tables(&second)));
    assert_eq!(
        tables(&fourth).intersection(&tables(&third)).count(),
        tables(&second).len()
    );
}

#[test]
fn a_hundredth_of_the_keys_sends_less_than_a_twentieth_of_the_state() {
    let world = World::new();
    let mut state = world.open("a");
    fill(&mut state, 4000);
    let (mut sent, mut size) = (0, 0);
    for id in 1..=104u64 {
        if id > 1 {
            let mut writes = StateWrites::default();
            for n in 0..640u64 {
                // Anywhere among the keys of `fill`.
                let random = hash_key(&(id << 16 | n).to_le_bytes());
                let (group, entry) = ((random % 16) as u16, (random >> 8) % 4000);
                let value =
                    (0..16u64).flat_map(|n| hash_key(&(random ^ n).to_le_bytes()).to_le_bytes());
                let table = StateTable((entry % 2) as u8);
                writes.put(table, group, entry.to_be_bytes().to_vec(), value.collect());
            }
            state.write(writes).unwrap();
        }
        let snapshot = world.checkpoint(&mut state, id);
        state.confirm(CheckpointId(id));
        // What the first fill left to be compacted is not of interest; one merge of the whole is.
        if id > 4 {
            sent += snapshot.uploaded_bytes;
            size += snapshot
                .files
                .iter()
                .map(|file| file.size_bytes)
                .sum::<u64>();
        }
    }
    assert!(sent * 20 < size, "{sent} of {size}");
}

#[test]
fn an_attempt_goes_on_from_the_files_it_was_restored_from() {
    let world = World::new();
    let mut state = world.open("a");
    fill(&mut state, 200);
    let first = world.checkpoint(&mut state, 1);
    let mut restored = world
        .restore("b", all_groups(), std::slice::from_ref(&first))
        .unwrap();
    assert!(!restored.is_empty());
    assert!((1..=restored.size_bytes()).contains(&restored.stored_bytes()));
    assert_eq!(content(&mut restored), content(&mut state));
    restored.write(one(1, "k", "v")).unwrap();
    let second = world.checkpoint(&mut restored, 2);
    assert!(tables(&second).is_superset(&tables(&first)));

    let foreign = RestoreSource {
        base: world.store.clone(),
        share_files: false,
    };
    let options = world.options("c", all_groups());
    let mut restored =
        RocksState::restore(options, &[second], &foreign, &world.transfers()).unwrap();
    let third = world.checkpoint(&mut restored, 3);
    assert!(tables(&third).is_disjoint(&tables(&first)));
}

#[test]
fn an_unchanged_state_sends_nothing() {
    let world = World::new();
    let mut state = world.open("a");
    fill(&mut state, 50);
    let first = world.checkpoint(&mut state, 1);
    state.confirm(CheckpointId(1));
    for id in [2, 3] {
        let again = world.checkpoint(&mut state, id);
        assert_eq!((again.uploaded_bytes, paths(&again)), (0, paths(&first)));
        state.confirm(CheckpointId(id));
    }
    let mut restored = world
        .restore("b", all_groups(), std::slice::from_ref(&first))
        .unwrap();
    assert_eq!(paths(&world.checkpoint(&mut restored, 9)), paths(&first));
    restored.write(one(1, "k", "v")).unwrap();
    let changed = world.checkpoint(&mut restored, 10);
    let mut from_changed = world.restore("c", all_groups(), &[changed]).unwrap();
    assert_eq!(content(&mut from_changed), content(&mut restored));

    let half = weir_common::key_group::KeyGroupRange { first: 0, last: 7 };
    let mut half = world.restore("d", half, &[first]).unwrap();
    let cut = world.checkpoint(&mut half, 11);
    assert!(
        cut.uploaded_bytes > 0,
        "what was cut off must not come back"
    );
}

#[test]
fn a_savepoint_is_whole_and_can_be_moved() {
    let world = World::new();
    let mut state = world.open("a");
    fill(&mut state, 100);
    world.checkpoint(&mut state, 1);
    state.confirm(CheckpointId(1));
    let from = world.dir.path().join("savepoint");
    let open = |folder: &std::path::Path| {
        Store::open(&folder.to_string_lossy(), &S3Config::default()).unwrap()
    };
    let uploader = Uploader::new(open(&from), AttemptId(1), world.transfers());
    let target = SnapshotTarget::Savepoint(from.to_string_lossy().into());
    let pending = begin(&mut state, 2, &target);
    let savepoint = pending.run(&uploader).unwrap();
    let to = world.dir.path().join("moved");
    std::fs::rename(&from, &to).unwrap();
    std::fs::remove_dir_all(world.dir.path().join("store")).unwrap();
    let source = RestoreSource {
        base: open(&to),
        share_files: false,
    };
    let options = world.options("b", all_groups());
    let mut restored =
        RocksState::restore(options, &[savepoint], &source, &world.transfers()).unwrap();
    assert_eq!(content(&mut restored), content(&mut state));
}

#[test]
fn small_files_lie_in_the_manifest() {
    let world = World::new();
    let mut state = world.open("a");
    let uploader = world.uploader().inlining(20 << 10);
    let checkpoint = |state: &mut RocksState, id| {
        let pending = begin(state, id, &SnapshotTarget::Checkpoint);
        let snapshot = pending.run(&uploader).unwrap();
        state.confirm(CheckpointId(id));
        snapshot
    };
    state.write(one(1, "k", "v")).unwrap();
    let small = checkpoint(&mut state, 1);
    assert!(small.files.iter().all(|file| file.path.is_empty()));
    assert!(
        !world.dir.path().join("store").exists(),
        "no object was made"
    );
    fill(&mut state, 200);
    let large = checkpoint(&mut state, 2);
    state.write(one(1, "k", "w")).unwrap();
    let third = checkpoint(&mut state, 3);
    let objects = |snapshot: &v1::KeyedState| {
        let paths = paths(snapshot).into_iter().filter(|path| !path.is_empty());
        paths.map(str::to_owned).collect::<Vec<_>>()
    };
    assert!(!objects(&large).is_empty());
    assert_eq!(objects(&third), objects(&large));

    let mut restored = world.restore("b", all_groups(), std::slice::from_ref(&third));
    assert_eq!(content(restored.as_mut().unwrap()), content(&mut state));
    let mut damaged = small;
    let file = damaged.files.first_mut().unwrap();
    let mut bytes = file.content.to_vec();
    bytes[0] ^= 1;
    file.content = bytes;
    let error = world.restore("c", all_groups(), &[damaged]).unwrap_err();
    assert!(error.to_string().contains("in the manifest"), "{error}");
}

#[test]
fn damage_is_found_and_names_the_file() {
    let world = World::new();
    let mut state = world.open("a");
    fill(&mut state, 50);
    let snapshot = world.checkpoint(&mut state, 1);
    for file in &snapshot.files {
        let path = world.stored(file);
        let whole = std::fs::read(&path).unwrap();
        let mut flipped = whole.clone();
        flipped[whole.len() / 2] ^= 1;
        for (bytes, words) in [
            (Some(&flipped[..]), "is damaged: its checksum is"),
            (Some(&whole[1..]), "is damaged: it has"),
            (None, "does not exist"),
        ] {
            match bytes {
                Some(bytes) => std::fs::write(&path, bytes).unwrap(),
                None => std::fs::remove_file(&path).unwrap(),
            }
            let parts = std::slice::from_ref(&snapshot);
            let error = world.restore("b", all_groups(), parts).unwrap_err();
            assert!(matches!(error, StateError::Snapshot { damaged: true, .. }));
            let shown = error.to_string();
            assert!(
                shown.contains(&file.path) && shown.contains(words),
                "{shown}"
            );
        }
        std::fs::write(&path, &whole).unwrap();
    }
    assert!(world.restore("b", all_groups(), &[snapshot]).is_ok());
}

#[test]
fn a_hostile_manifest_is_refused() {
    let world = World::new();
    let mut state = world.open("a");
    fill(&mut state, 5);
    let good = world.checkpoint(&mut state, 1);
    let change = |edit: &dyn Fn(&mut v1::KeyedState)| {
        let mut bad = good.clone();
        edit(&mut bad);
        world
            .restore("b", all_groups(), &[bad])
            .unwrap_err()
            .to_string()
    };
    for name in ["../../escape", "/etc/passwd", "", ".."] {
        let shown = change(&|bad| bad.files[0].local_name = name.to_owned());
        assert!(shown.contains("is no file name"), "{shown}");
    }
    let shown = change(&|bad| bad.files.retain(|file| file.local_name.ends_with(".sst")));
    assert!(shown.contains("MANIFEST"), "{shown}");
    let shown = change(&|bad| bad.key_groups = None);
    assert!(shown.contains("range of key groups"), "{shown}");
}

#[test]
fn what_is_given_up_leaves_nothing() {
    let world = World::new();
    let mut state = world.open("a");
    fill(&mut state, 50);
    let target = SnapshotTarget::Checkpoint;
    drop(begin(&mut state, 1, &target));
    world.checkpoint(&mut state, 2);
    assert_eq!(entries(&world.folder("a")), 1);

    let pending = begin(&mut state, 3, &target);
    drop(state);
    assert!(!world.folder("a").exists());
    assert!(pending.run(&world.uploader()).is_err());
}
