use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use bytes::Bytes;
use weir_common::ids::AttemptId;
use weir_dataflow::testing::{batch, format_rows};
use weir_dataflow::types::METADATA_KEY;
use weir_dataflow::{SinkWriter, SourceEvent};

use crate::test_util::{options, sink, sink_context, source, source_context};
use crate::{describe_sink, open_sink, open_source};

/// PARTITIONED BY (shop, day), where `day` comes first in the table.
fn table() -> SchemaRef {
    let place =
        |place: &str| HashMap::from([(METADATA_KEY.to_owned(), format!("partition.{place}"))]);
    Arc::new(Schema::new(vec![
        Field::new("day", DataType::Int32, true).with_metadata(place("1")),
        Field::new("id", DataType::Int32, true),
        Field::new("shop", DataType::Utf8, true).with_metadata(place("0")),
    ]))
}

fn open_writer(folder: &Path, attempt: u64, more: &[(&str, &str)]) -> Box<dyn SinkWriter> {
    let path = folder.to_str().unwrap();
    let options = [&[("path", path), ("format", "csv")], more].concat();
    let mut context = sink_context(table(), 0, 1);
    context.info.attempt = AttemptId(attempt);
    open_sink(&sink("filesystem", &options), context).unwrap()
}

fn write(writer: &mut dyn SinkWriter, rows: &str) {
    writer.write(&batch(&table(), rows).unwrap()).unwrap();
}

fn prepare(writer: &mut dyn SinkWriter) -> Vec<Bytes> {
    writer.prepare(1).unwrap()().unwrap()
}

/// Files below a folder: path and content. Numbers of parts are left out, hidden names are said to be so.
fn files(folder: &Path, prefix: &str) -> Vec<String> {
    let mut found = Vec::new();
    let Ok(entries) = std::fs::read_dir(folder) else {
        return found;
    };
    for entry in entries {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(&entry.path(), &format!("{prefix}{name}/")));
            continue;
        }
        let name = match name.split_once("part-") {
            Some((before, _)) => format!("{before}part"),
            None => name,
        };
        let content = std::fs::read_to_string(entry.path()).unwrap();
        found.push(format!(
            "{prefix}{name}: {}",
            content.trim().replace('\n', " ")
        ));
    }
    found.sort();
    found
}

const COMMIT: &[(&str, &str)] = &[("sink.partition-commit.policy.kind", "success-file")];

#[test]
fn each_partition_has_a_folder_and_is_told_of_when_its_files_are_visible() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = open_writer(dir.path(), 1, COMMIT);
    write(&mut *writer, "1 10 a\n2 11 a/b\n1 12 a\n1 13 null");
    let prepared = prepare(&mut *writer);
    assert!(
        files(dir.path(), "")
            .iter()
            .all(|file| file.contains("/.part: "))
    );
    writer.committer().unwrap().commit(&prepared).unwrap();
    assert_eq!(
        files(dir.path(), ""),
        [
            "shop=__DEFAULT_PARTITION__/day=1/_SUCCESS: ",
            "shop=__DEFAULT_PARTITION__/day=1/part: 13",
            "shop=a%2Fb/day=2/_SUCCESS: ",
            "shop=a%2Fb/day=2/part: 11",
            "shop=a/day=1/_SUCCESS: ",
            "shop=a/day=1/part: 10 12",
        ]
    );
    writer.close();
}

#[test]
fn what_was_written_is_read_with_its_partition() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = open_writer(dir.path(), 1, COMMIT);
    write(&mut *writer, "1 10 a\n2 11 a=b\nnull 12 c%d");
    let prepared = prepare(&mut *writer);
    writer.committer().unwrap().commit(&prepared).unwrap();
    writer.close();
    let options = [("path", dir.path().to_str().unwrap()), ("format", "csv")];
    let mut reader = open_source(
        &source("filesystem", &options),
        source_context(table(), 0, 1, &[]),
    )
    .unwrap();
    let mut rows = Vec::new();
    loop {
        match reader.poll().unwrap() {
            SourceEvent::Batch { batch, .. } => rows.extend(format_rows(&batch).unwrap()),
            SourceEvent::EndOfData => break,
            SourceEvent::Pending => std::thread::yield_now(),
            _ => {}
        }
    }
    rows.sort();
    assert_eq!(rows, ["+I 1 10 a", "+I 2 11 a=b", "+I null 12 c%d"]);
}

#[test]
fn files_of_a_dead_attempt_are_removed_from_all_folders() {
    let dir = tempfile::tempdir().unwrap();
    let mut dead = open_writer(dir.path(), 1, &[]);
    write(&mut *dead, "1 10 a\n2 11 b");
    let lost = prepare(&mut *dead);
    assert_eq!((lost.len(), files(dir.path(), "").len()), (2, 2));
    dead.close();
    let next = open_writer(dir.path(), 2, &[]);
    next.committer().unwrap().abort_leftovers().unwrap();
    assert!(files(dir.path(), "").is_empty());
}

/// A part that gives way to another partition's is complete, and the partition goes on in a new one.
#[test]
fn more_partitions_than_files_that_may_be_open() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = open_writer(dir.path(), 1, &[]);
    let rows: Vec<String> = (0..200).map(|n| format!("{} {n} a", n % 100)).collect();
    for rows in rows.chunks(50) {
        write(&mut *writer, &rows.join("\n"));
    }
    let prepared = prepare(&mut *writer);
    writer.committer().unwrap().commit(&prepared).unwrap();
    writer.close();
    let mut ids: Vec<u32> = files(dir.path(), "")
        .iter()
        .flat_map(|file| {
            file.split_once(": ")
                .unwrap()
                .1
                .split(' ')
                .map(|id| id.parse().unwrap())
                .collect::<Vec<_>>()
        })
        .collect();
    ids.sort_unstable();
    assert_eq!(ids, (0..200).collect::<Vec<_>>());
}

#[test]
fn partitions_that_cannot_be_are_refused() {
    let described = |schema: &Schema, more: &[(&str, &str)]| {
        let base = [("path", "/tmp/x"), ("format", "json")];
        let options = options(&[&base[..], more].concat());
        describe_sink("filesystem", &options, schema, &[])
            .unwrap_err()
            .to_string()
    };
    let only = table().project(&[0, 2]).unwrap();
    assert!(described(&only, &[]).contains("nothing is left for the files"));
    for (key, value, expected) in [
        (
            "sink.partition-commit.trigger",
            "partition-time",
            "partition-time is not supported yet",
        ),
        (
            "sink.partition-commit.policy.kind",
            "metastore,success-file",
            "no metastore",
        ),
        ("sink.partition-commit.delay", "1 h", "expected 0 s"),
        (
            "partition.time-extractor.timestamp-pattern",
            "$day",
            "not supported yet",
        ),
    ] {
        let error = described(&table(), &[(key, value)]);
        assert!(error.contains(expected), "{error}");
    }
    let kafka = options(&[
        ("topic", "t"),
        ("properties.bootstrap.servers", "a:1"),
        ("format", "json"),
    ]);
    let error = describe_sink("kafka", &kafka, &table(), &[])
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("does not take PARTITIONED BY (day)"),
        "{error}"
    );
}
