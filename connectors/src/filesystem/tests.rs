use std::path::Path;

use arrow::datatypes::{DataType, SchemaRef};
use bytes::Bytes;
use weir_common::ids::AttemptId;
use weir_dataflow::testing::{batch, format_rows, schema};
use weir_dataflow::{SinkWriter, SourceEvent, SourceReader};

use crate::test_util::{options, sink, sink_context, source, source_context};
use crate::{describe_sink, describe_source, open_sink, open_source};

fn table() -> SchemaRef {
    schema(&[("a", DataType::Int32), ("b", DataType::Utf8)])
}

fn open_reader(path: &Path, more: &[(&str, &str)], states: &[Bytes]) -> Box<dyn SourceReader> {
    let path = path.to_str().unwrap();
    let options = [&[("path", path), ("format", "json")], more].concat();
    let context = source_context(table(), 0, 1, states);
    open_source(&source("filesystem", &options), context).unwrap()
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

fn write_lines(path: &Path, numbers: std::ops::Range<i32>) {
    let lines: Vec<String> = numbers
        .map(|n| format!("{{\"a\":{n},\"b\":\"x\"}}\n"))
        .collect();
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, lines.concat()).unwrap();
}

fn expected(numbers: std::ops::Range<i32>) -> Vec<String> {
    numbers.map(|n| format!("+I {n} x")).collect()
}

#[test]
fn a_folder_is_read_with_its_folders_and_without_hidden_files() {
    let dir = tempfile::tempdir().unwrap();
    write_lines(&dir.path().join("a.json"), 0..3);
    write_lines(&dir.path().join("sub/b.json"), 3..5);
    write_lines(&dir.path().join(".hidden"), 5..6);
    write_lines(&dir.path().join("_temporary/c.json"), 6..7);
    let rows = read(&mut *open_reader(dir.path(), &[], &[]), usize::MAX);
    assert_eq!(rows, expected(0..5));
    let one = read(
        &mut *open_reader(&dir.path().join("a.json"), &[], &[]),
        usize::MAX,
    );
    assert_eq!(one, expected(0..3));
}

#[test]
fn a_restored_reader_goes_on_behind_the_last_record() {
    let dir = tempfile::tempdir().unwrap();
    write_lines(&dir.path().join("a"), 0..20_000);
    write_lines(&dir.path().join("b"), 20_000..20_010);
    let mut first = open_reader(dir.path(), &[], &[]);
    let mut rows = read(&mut *first, 1);
    let states = first.snapshot().unwrap();
    first.close();
    let mut second = open_reader(dir.path(), &[], &states);
    // A snapshot before anything was read keeps the position.
    let again = second.snapshot().unwrap();
    second.close();
    let mut third = open_reader(dir.path(), &[], &again);
    rows.extend(read(&mut *third, usize::MAX));
    assert_eq!(rows, expected(0..20_010));
    let states = third.snapshot().unwrap();
    assert!(read(&mut *open_reader(dir.path(), &[], &states), usize::MAX).is_empty());
}

#[test]
fn files_are_dealt_out_to_the_subtasks() {
    let dir = tempfile::tempdir().unwrap();
    for number in 0..10 {
        write_lines(&dir.path().join(number.to_string()), number..number + 1);
    }
    let path = dir.path().to_str().unwrap();
    let spec = source("filesystem", &[("path", path), ("format", "json")]);
    let mut rows: Vec<String> = (0..3)
        .flat_map(|subtask| {
            let mut reader = open_source(&spec, source_context(table(), subtask, 3, &[])).unwrap();
            read(&mut *reader, usize::MAX)
        })
        .collect();
    rows.sort();
    assert_eq!(rows, expected(0..10));
}

#[test]
fn a_watched_folder_gives_new_files_once() {
    let dir = tempfile::tempdir().unwrap();
    let watch = [("source.monitor-interval", "1 ms")];
    let mut reader = open_reader(&dir.path().join("later"), &watch, &[]);
    write_lines(&dir.path().join("staged"), 0..2);
    std::fs::create_dir(dir.path().join("later")).unwrap();
    std::fs::rename(dir.path().join("staged"), dir.path().join("later/a")).unwrap();
    assert_eq!(read(&mut *reader, 2), expected(0..2));
    write_lines(&dir.path().join("staged"), 2..3);
    std::fs::rename(dir.path().join("staged"), dir.path().join("later/b")).unwrap();
    assert_eq!(read(&mut *reader, 1), expected(2..3));
    reader.close();
}

#[test]
fn between_two_files_the_reader_holds_the_watermark_back() {
    let dir = tempfile::tempdir().unwrap();
    for number in 0..5 {
        write_lines(&dir.path().join(number.to_string()), number..number + 1);
    }
    for watch in [&[][..], &[("source.monitor-interval", "1 ms")]] {
        let mut reader = open_reader(dir.path(), watch, &[]);
        let mut finished = 0;
        while finished < 5 {
            assert!(reader.is_discovering());
            let event = reader.poll().unwrap();
            finished += usize::from(matches!(event, SourceEvent::SplitFinished(_)));
        }
        // All of them are read: now it waits for nothing that is there.
        while reader.is_discovering() {
            reader.poll().unwrap();
        }
        reader.close();
    }
}

#[test]
fn a_broken_record_is_named_by_file_and_byte() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    std::fs::write(&path, "{\"a\":1}\n{\"a\":secret}\n").unwrap();
    let mut reader = open_reader(&path, &[], &[]);
    let error = loop {
        match reader.poll() {
            Ok(SourceEvent::EndOfData) => panic!("the record was accepted"),
            Ok(_) => std::thread::yield_now(),
            Err(error) => break error.to_string(),
        }
    };
    assert!(
        error.contains("record at byte 8") && error.contains("field 'a'"),
        "{error}"
    );
    assert!(!error.contains("secret"), "{error}");
    let skipping = [("json.ignore-parse-errors", "true")];
    let rows = read(&mut *open_reader(&path, &skipping, &[]), usize::MAX);
    assert_eq!(rows, ["+I 1 null"]);
}

#[test]
fn a_missing_folder_and_compressed_files_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a.gz"), "").unwrap();
    for (path, expected) in [("none", "no file or folder"), ("a.gz", "compressed")] {
        let mut reader = open_reader(&dir.path().join(path), &[], &[]);
        let error = loop {
            match reader.poll() {
                Ok(SourceEvent::EndOfData) => panic!("{path} was accepted"),
                Ok(_) => std::thread::yield_now(),
                Err(error) => break error.to_string(),
            }
        };
        assert!(error.contains(expected), "{error}");
    }
}

/// The names of a folder's files, and their lines.
fn visible(folder: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    for name in names(folder) {
        if !name.starts_with('.') {
            let text = std::fs::read_to_string(folder.join(name)).unwrap();
            lines.extend(text.lines().map(str::to_owned));
        }
    }
    lines.sort();
    lines
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

fn open_writer(folder: &Path, attempt: u64, more: &[(&str, &str)]) -> Box<dyn SinkWriter> {
    open_subtask(folder, attempt, 0, 1, more)
}

fn open_subtask(
    folder: &Path,
    attempt: u64,
    subtask: u32,
    parallelism: u32,
    more: &[(&str, &str)],
) -> Box<dyn SinkWriter> {
    let path = folder.to_str().unwrap();
    let options = [&[("path", path), ("format", "csv")], more].concat();
    let mut context = sink_context(table(), subtask, parallelism);
    context.info.attempt = AttemptId(attempt);
    open_sink(&sink("filesystem", &options), context).unwrap()
}

fn write(writer: &mut dyn SinkWriter, rows: &str) {
    writer.write(&batch(&table(), rows).unwrap()).unwrap();
}

fn prepare(writer: &mut dyn SinkWriter, checkpoint: u64) -> Vec<Bytes> {
    writer.prepare(checkpoint).unwrap()().unwrap()
}

#[test]
fn rows_are_visible_after_the_commit_and_not_before() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = open_writer(dir.path(), 1, &[]);
    write(&mut *writer, "1 a\n2 b");
    let first = prepare(&mut *writer, 1);
    write(&mut *writer, "3 c");
    assert!(visible(dir.path()).is_empty());
    let committer = writer.committer().unwrap();
    committer.commit(&first).unwrap();
    assert_eq!(visible(dir.path()), ["1,a", "2,b"]);
    committer.commit(&first).unwrap();
    assert_eq!(visible(dir.path()), ["1,a", "2,b"]);
    assert!(prepare(&mut *writer, 2).len() == 1 && prepare(&mut *writer, 3).is_empty());
    writer.close();
}

/// The process dies after the barrier. The checkpoint completed: the next attempt commits. The rows behind it are gone.
#[test]
fn prepared_rows_survive_a_crash_and_later_ones_do_not() {
    let dir = tempfile::tempdir().unwrap();
    let mut crashed = open_writer(dir.path(), 1, &[]);
    write(&mut *crashed, "1 a");
    let completed = prepare(&mut *crashed, 1);
    write(&mut *crashed, "2 lost");
    let never_completed = prepare(&mut *crashed, 2);
    assert_eq!(never_completed.len(), 1);
    write(&mut *crashed, "3 lost");
    // A barrier behind the rows tells that they are written; nobody waits for its checkpoint.
    drop(prepare(&mut *crashed, 3));
    write(&mut *crashed, "4 lost");
    std::mem::forget(crashed);

    let mut writer = open_writer(dir.path(), 2, &[]);
    let committer = writer.committer().unwrap();
    committer.commit(&completed).unwrap();
    committer.abort_leftovers().unwrap();
    assert_eq!(visible(dir.path()), ["1,a"]);
    write(&mut *writer, "2 b");
    let next = prepare(&mut *writer, 4);
    committer.commit(&next).unwrap();
    assert_eq!(visible(dir.path()), ["1,a", "2,b"]);
    let pending = names(dir.path())
        .into_iter()
        .filter(|name| name.ends_with(".pending"));
    assert_eq!(pending.count(), 0);
    writer.close();
}

/// Each subtask commits all that was restored, in any order with what the others do.
#[test]
fn a_restore_at_another_parallelism_loses_and_doubles_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut restored = Vec::new();
    for subtask in 0..3 {
        let mut writer = open_subtask(dir.path(), 1, subtask, 3, &[]);
        write(&mut *writer, &format!("{subtask} a"));
        restored.extend(prepare(&mut *writer, 1));
        write(&mut *writer, &format!("{subtask} lost"));
        prepare(&mut *writer, 2);
    }
    for subtask in 0..2 {
        let writer = open_subtask(dir.path(), 2, subtask, 2, &[]);
        let committer = writer.committer().unwrap();
        committer.commit(&restored).unwrap();
        committer.abort_leftovers().unwrap();
    }
    assert_eq!(visible(dir.path()), ["0,a", "1,a", "2,a"]);
    assert_eq!(names(dir.path()).len(), 3);
}

#[test]
fn files_in_progress_of_a_dead_attempt_are_removed_and_other_sinks_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let writer = open_writer(dir.path(), 3, &[]);
    let own = super::part::PartName::first(&crate::test_util::info(0, 1));
    let other = super::part::PartName {
        sink: 1,
        ..own.clone()
    };
    for part in [&own, &other] {
        let name = part.hidden(super::part::Stage::InProgress);
        std::fs::write(dir.path().join(name), "x").unwrap();
    }
    writer.committer().unwrap().abort_leftovers().unwrap();
    assert_eq!(
        names(dir.path()),
        [other.hidden(super::part::Stage::InProgress)]
    );
}

#[test]
fn a_lost_part_file_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = open_writer(dir.path(), 1, &[]);
    write(&mut *writer, "1 a");
    let committables = prepare(&mut *writer, 1);
    for name in names(dir.path()) {
        std::fs::remove_file(dir.path().join(name)).unwrap();
    }
    let error = writer
        .committer()
        .unwrap()
        .commit(&committables)
        .unwrap_err();
    assert!(
        error.to_string().contains("gone before its commit"),
        "{error}"
    );
}

#[test]
fn large_parts_are_closed_before_the_barrier() {
    let dir = tempfile::tempdir().unwrap();
    let small = [("sink.rolling-policy.file-size", "4b")];
    let mut writer = open_writer(dir.path(), 1, &small);
    for _ in 0..3 {
        write(&mut *writer, "1 a");
        assert!(writer.ready().unwrap());
    }
    let committables = prepare(&mut *writer, 1);
    assert_eq!(committables.len(), 3);
    writer.committer().unwrap().commit(&committables).unwrap();
    assert_eq!(visible(dir.path()), ["1,a", "1,a", "1,a"]);
}

#[test]
fn options_that_are_not_built_are_refused_by_name() {
    let describe = |pairs: &[(&str, &str)]| {
        let base = [
            ("connector", "filesystem"),
            ("path", "/tmp/x"),
            ("format", "json"),
        ];
        let options = options(&[&base[..], pairs].concat());
        describe_sink("filesystem", &options, &table(), &[])
    };
    assert!(describe(&[]).unwrap().transactional);
    let refused = [
        ("auto-compaction", "true", "not supported yet"),
        ("sink.partition-commit.delay", "1 h", "expected 0 s"),
        ("format", "orc", "'orc' is not supported yet"),
        ("format", "jsn", "did you mean 'json'?"),
        ("path", "hdfs://x/y", "expected a path"),
        (
            "json.ignore-parse-error",
            "true",
            "did you mean 'json.ignore-parse-errors'?",
        ),
    ];
    for (key, value, expected) in refused {
        let error = describe(&[(key, value)]).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let bounded = options(&[("path", "/tmp/x"), ("format", "json")]);
    assert!(
        describe_source("filesystem", &bounded, &table(), &[])
            .unwrap()
            .bounded
    );
}
