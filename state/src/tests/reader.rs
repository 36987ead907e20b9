//! A snapshot's rows, without the states that wrote it.

use arrow::array::AsArray;
use arrow::datatypes::{DataType, Field, Schema};
use weir_dataflow::schema::encode_schema;
use weir_proto::v1::{StateEncoding, StateField};
use weir_snapshot::{paths, publish};

use super::*;
use crate::SnapshotReader;

fn text_table() -> v1::StateTable {
    let rest = |_| StateField {
        encoding: StateEncoding::Rest.into(),
        columns: 1,
        constant: 0,
    };
    let columns = ["key", "value"].map(|name| Field::new(name, DataType::Utf8, false));
    v1::StateTable {
        name: "texts".to_owned(),
        schema: encode_schema(&Schema::new(columns.to_vec())),
        key: vec![rest(0)],
        value: vec![rest(1)],
        ..v1::StateTable::default()
    }
}

fn manifest(parts: Vec<v1::KeyedState>) -> v1::Manifest {
    let part = |(subtask, keyed): (usize, v1::KeyedState)| v1::OperatorSnapshot {
        operator_uid: "0011aabb".to_owned(),
        operator_name: "Texts".to_owned(),
        subtask: subtask as u32,
        parallelism: 2,
        keyed: Some(keyed),
        states: vec![v1::OperatorState {
            name: "splits".to_owned(),
            items: vec![format!("\u{1}{{\"n\":{subtask}}}").into()],
            ..v1::OperatorState::default()
        }],
        ..v1::OperatorSnapshot::default()
    };
    v1::Manifest {
        checkpoint_id: 1,
        kind: v1::SnapshotKind::Savepoint.into(),
        operators: parts.into_iter().enumerate().map(part).collect(),
        descriptions: vec![v1::OperatorDescription {
            operator_uid: "0011aabb".to_owned(),
            operator_name: "Texts".to_owned(),
            kind: "test".to_owned(),
            tables: vec![text_table()],
            ..v1::OperatorDescription::default()
        }],
        ..v1::Manifest::default()
    }
}

/// A savepoint of two subtasks; the folder that it lies in.
fn savepoint(world: &World) -> PathBuf {
    let folder = world.dir.path().join("savepoint");
    let store = Store::open(&folder.to_string_lossy(), &S3Config::default()).unwrap();
    let uploader = Uploader::new(store.clone(), AttemptId(1), world.transfers());
    let target = SnapshotTarget::Savepoint(store.url().into());
    let parts = (0..2).map(|subtask| {
        let range = KeyGroupRange::of_subtask(subtask, GROUPS, 2);
        let options = world.options(&format!("subtask-{subtask}"), range);
        let mut state = RocksState::open(options).unwrap();
        for (group, key) in [(range.first, "first"), (range.last, "last")] {
            state
                .write(one(group, key, &format!("of {subtask}")))
                .unwrap();
        }
        begin(&mut state, 1, &target).run(&uploader).unwrap()
    });
    let manifest = manifest(parts.collect());
    let published = publish(&store, paths::METADATA, &manifest);
    world.runtime.block_on(published).unwrap();
    folder
}

fn open(world: &World, path: &std::path::Path) -> weir_dataflow::Result<SnapshotReader> {
    let folder = world.folder("reader");
    let path = path.to_string_lossy();
    SnapshotReader::open(&path, &S3Config::default(), folder, world.transfers())
}

fn rows(reader: &SnapshotReader, table: &str) -> weir_dataflow::Result<Vec<String>> {
    let operator = reader.contents().operator("0011")?;
    let table = operator.table(Some(table))?;
    let mut rows = Vec::new();
    for part in 0..reader.parts(operator, table) {
        reader.read(operator, table, part, &mut |batch| {
            let keys = batch.column(0).as_string::<i32>();
            let values = batch.column(1).as_string::<i32>();
            let pairs = keys.iter().zip(values).filter_map(|(k, v)| Some((k?, v?)));
            rows.extend(pairs.map(|(key, value)| format!("{key} {value}")));
            Ok(true)
        })?;
    }
    Ok(rows)
}

#[test]
fn a_moved_savepoint_gives_all_rows_of_all_subtasks() {
    let world = World::new();
    let moved = world.dir.path().join("elsewhere/renamed");
    std::fs::create_dir_all(moved.parent().unwrap()).unwrap();
    std::fs::rename(savepoint(&world), &moved).unwrap();
    let reader = open(&world, &moved).unwrap();
    assert_eq!(
        rows(&reader, "texts").unwrap(),
        ["first of 0", "last of 0", "first of 1", "last of 1"]
    );
    let operator = reader.contents().operator("Texts").unwrap();
    let splits = operator.table(Some("splits")).unwrap();
    let mut numbers: Vec<i64> = Vec::new();
    let mut read = |batch: arrow::array::RecordBatch| {
        let column = batch
            .column(1)
            .as_primitive::<arrow::datatypes::Int64Type>();
        numbers.extend(column.values());
        Ok(true)
    };
    reader.read(operator, splits, 0, &mut read).unwrap();
    assert_eq!(numbers, [0, 1]);
    assert!(
        !world.folder("reader/part-0").exists(),
        "databases are removed again"
    );
}

#[test]
fn what_is_not_there_is_refused_with_what_there_is() {
    let world = World::new();
    let folder = savepoint(&world);
    let reader = open(&world, &folder).unwrap();
    let error = reader.contents().operator("Sums").unwrap_err().to_string();
    assert!(error.contains("'Texts' (0011aabb)"), "{error}");
    let error = rows(&reader, "left").unwrap_err().to_string();
    assert!(error.contains("'texts', 'splits'"), "{error}");
    assert!(open(&world, &world.dir.path().join("none")).is_err());
}

#[test]
fn a_changed_byte_is_found_before_a_row_is_shown() {
    let world = World::new();
    let folder = savepoint(&world);
    let files = std::fs::read_dir(folder.join("files")).unwrap();
    let mut tables = files.map(|entry| entry.unwrap().path());
    let table = tables
        .find(|path| path.extension().is_some_and(|e| e == "sst"))
        .unwrap();
    let mut bytes = std::fs::read(&table).unwrap();
    bytes[20] ^= 1;
    std::fs::write(&table, bytes).unwrap();
    let reader = open(&world, &folder).unwrap();
    let error = rows(&reader, "texts").unwrap_err().to_string();
    assert!(error.contains("checksum"), "{error}");
}
