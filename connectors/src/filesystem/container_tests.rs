//! Whole files of Avro and Parquet go through the connector as lines do: exactly once, from any place on.

use std::path::Path;

use arrow::datatypes::{DataType, SchemaRef};
use bytes::Bytes;
use weir_common::ids::AttemptId;
use weir_dataflow::testing::{batch, format_rows, schema};
use weir_dataflow::{SinkWriter, SourceEvent, SourceReader};

use crate::test_util::{options, sink, sink_context, source, source_context};
use crate::{describe_sink, describe_source, open_sink, open_source};

const FORMATS: [&str; 2] = ["avro", "parquet"];

fn table() -> SchemaRef {
    schema(&[("a", DataType::Int32), ("b", DataType::Utf8)])
}

fn writer(folder: &Path, format: &str, attempt: u64, more: &[(&str, &str)]) -> Box<dyn SinkWriter> {
    let path = folder.to_str().unwrap();
    let options = [&[("path", path), ("format", format)], more].concat();
    let mut context = sink_context(table(), 0, 1);
    context.info.attempt = AttemptId(attempt);
    open_sink(&sink("filesystem", &options), context).unwrap()
}

fn reader(folder: &Path, format: &str, states: &[Bytes]) -> Box<dyn SourceReader> {
    let path = folder.to_str().unwrap();
    let spec = source("filesystem", &[("path", path), ("format", format)]);
    open_source(&spec, source_context(table(), 0, 1, states)).unwrap()
}

fn write(writer: &mut dyn SinkWriter, numbers: std::ops::Range<i32>) {
    let rows: Vec<String> = numbers.map(|n| format!("{n} x")).collect();
    writer
        .write(&batch(&table(), &rows.join("\n")).unwrap())
        .unwrap();
}

fn commit(writer: &mut dyn SinkWriter, checkpoint: u64) {
    let prepared = writer.prepare(checkpoint).unwrap()().unwrap();
    writer.committer().unwrap().commit(&prepared).unwrap();
}

/// Polls until the end of the data, or until there are `enough` rows.
fn read(reader: &mut dyn SourceReader, enough: usize) -> Vec<String> {
    let mut rows = Vec::new();
    while rows.len() < enough {
        match reader.poll().unwrap() {
            SourceEvent::Batch { batch, .. } => rows.extend(format_rows(&batch).unwrap()),
            SourceEvent::EndOfData => break,
            SourceEvent::Pending => std::thread::yield_now(),
            _ => {}
        }
    }
    rows
}

fn expected(numbers: std::ops::Range<i32>) -> Vec<String> {
    numbers.map(|n| format!("+I {n} x")).collect()
}

#[test]
fn what_was_committed_is_read_from_any_place_on() {
    for format in FORMATS {
        let dir = tempfile::tempdir().unwrap();
        let mut crashed = writer(dir.path(), format, 1, &[]);
        write(&mut *crashed, 0..7000);
        write(&mut *crashed, 7000..20_000);
        commit(&mut *crashed, 1);
        write(&mut *crashed, 20_000..20_001);
        std::mem::forget(crashed);

        let mut next = writer(dir.path(), format, 2, &[]);
        next.committer().unwrap().abort_leftovers().unwrap();
        next.close();
        let mut first = reader(dir.path(), format, &[]);
        let mut rows = read(&mut *first, 1);
        assert!(rows.len() < 20_000, "{format}: all rows were one batch");
        let states = first.snapshot().unwrap();
        first.close();
        rows.extend(read(&mut *reader(dir.path(), format, &states), usize::MAX));
        assert_eq!(rows, expected(0..20_000), "{format}");
    }
}

#[test]
fn a_part_file_is_closed_at_its_size() {
    for format in FORMATS {
        let dir = tempfile::tempdir().unwrap();
        let small = [("sink.rolling-policy.file-size", "1 kb")];
        let mut writer = writer(dir.path(), format, 1, &small);
        for start in 0..3 {
            write(&mut *writer, start * 1000..start * 1000 + 1000);
        }
        commit(&mut *writer, 1);
        writer.close();
        assert_eq!(
            std::fs::read_dir(dir.path()).unwrap().count(),
            3,
            "{format}"
        );
        let mut rows = read(&mut *reader(dir.path(), format, &[]), usize::MAX);
        rows.sort_by_key(|row| row.split(' ').nth(1).unwrap().parse::<i32>().unwrap());
        assert_eq!(rows, expected(0..3000), "{format}");
    }
}

#[test]
fn a_broken_file_is_named() {
    for format in FORMATS {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("part-7"), "{\"a\": 1}\n").unwrap();
        let mut reader = reader(dir.path(), format, &[]);
        let error = loop {
            match reader.poll() {
                Ok(SourceEvent::EndOfData) => panic!("{format}: the file was accepted"),
                Ok(_) => std::thread::yield_now(),
                Err(error) => break error.to_string(),
            }
        };
        assert!(
            error.contains("part-7") && error.contains("cannot read"),
            "{error}"
        );
    }
}

#[test]
fn columns_that_the_format_cannot_hold_are_refused_when_it_is_planned() {
    let interval = schema(&[(
        "i",
        DataType::Duration(arrow::datatypes::TimeUnit::Millisecond),
    )]);
    for format in FORMATS {
        let options = options(&[("path", "/x"), ("format", format)]);
        let write = describe_sink("filesystem", &options, &interval, &[]);
        let read = describe_source("filesystem", &options, &interval, &[]);
        for error in [write.unwrap_err(), read.unwrap_err()] {
            assert!(error.to_string().contains("column 'i'"), "{error}");
        }
    }
    let kafka = options(&[
        ("topic", "t"),
        ("properties.bootstrap.servers", "x:1"),
        ("format", "parquet"),
    ]);
    let error = describe_sink("kafka", &kafka, &table(), &[])
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("goes with connector 'filesystem' only"),
        "{error}"
    );
}
