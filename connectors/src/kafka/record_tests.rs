//! Rows to records and back, without a broker.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use weir_dataflow::testing::{batch, format_rows};
use weir_dataflow::{Batch, Result};

use super::decode::RecordDecoder;
use super::encode::{RecordEncoder, Records};
use super::raw_records::RawRecords;
use super::record::RecordFormat;
use crate::options::OptionReader;
use crate::test_util::options;

fn table() -> SchemaRef {
    let column = |name: &str, of| Field::new(name, of, true);
    Arc::new(Schema::new(vec![
        column("k_id", DataType::Int32),
        column("name", DataType::Utf8),
        column("k_shop", DataType::Utf8),
    ]))
}

fn format(connector: &str, pairs: &[(&str, &str)], primary_key: &[u32]) -> Result<RecordFormat> {
    let options = options(pairs);
    RecordFormat::read(
        &OptionReader::new(connector, &options),
        &table(),
        primary_key,
    )
}

fn texts(format: &RecordFormat, rows: &str) -> Vec<[Option<String>; 2]> {
    let mut records = Records::default();
    let mut encoder = RecordEncoder::new(format, &table()).unwrap();
    encoder
        .encode(&batch(&table(), rows).unwrap(), &mut records)
        .unwrap();
    let text = |bytes: Option<&[u8]>| bytes.map(|bytes| String::from_utf8(bytes.to_vec()).unwrap());
    let record = |index| {
        let (key, value) = records.record(index);
        [text(key), text(value)]
    };
    (0..records.len()).map(record).collect()
}

fn rows(format: &RecordFormat, read: &SchemaRef, records: &[[Option<&str>; 2]]) -> Vec<String> {
    let mut raw = RawRecords::new(0, true);
    for [key, value] in records {
        raw.append(key.map(str::as_bytes), value.map(str::as_bytes), 0, 0);
    }
    let mut decoder = RecordDecoder::new(format, read, &table()).unwrap();
    let decoded = decoder.decode(&raw).ok().unwrap();
    let rows = match decoded.kinds {
        Some(kinds) => Batch::with_kinds(decoded.columns, kinds).unwrap(),
        None => Batch::inserts(decoded.columns),
    };
    format_rows(&rows).unwrap()
}

const KEYED: &[(&str, &str)] = &[
    ("key.format", "json"),
    ("key.fields", "k_shop;k_id"),
    ("value.format", "json"),
];

fn pair<'t>(key: &'t str, value: &'t str) -> [Option<&'t str>; 2] {
    [Some(key), Some(value)]
}

#[test]
fn the_key_is_part_of_the_value_unless_it_is_excepted() {
    let all = format("kafka", KEYED, &[]).unwrap();
    let key = r#"{"k_id":1,"k_shop":"s"}"#;
    let value = r#"{"k_id":1,"name":"n","k_shop":"s"}"#;
    assert_eq!(
        texts(&all, "1 n s"),
        [[Some(key.to_owned()), Some(value.to_owned())]]
    );
    assert_eq!(rows(&all, &table(), &[pair(key, value)]), ["+I 1 n s"]);
    // What stands in both counts as it stands in the value.
    let other = r#"{"k_id":2,"name":"n","k_shop":"t"}"#;
    assert_eq!(rows(&all, &table(), &[pair(key, other)]), ["+I 2 n t"]);

    let prefixed = [
        KEYED,
        &[
            ("value.fields-include", "EXCEPT_KEY"),
            ("key.fields-prefix", "k_"),
        ],
    ]
    .concat();
    let excepted = format("kafka", &prefixed, &[]).unwrap();
    let (key, value) = (r#"{"id":1,"shop":"s"}"#, r#"{"name":"n"}"#);
    assert_eq!(
        texts(&excepted, "1 n s"),
        [[Some(key.to_owned()), Some(value.to_owned())]]
    );
    assert_eq!(rows(&excepted, &table(), &[pair(key, value)]), ["+I 1 n s"]);
    let some = Arc::new(table().project(&[2, 1]).unwrap());
    assert_eq!(rows(&excepted, &some, &[pair(key, value)]), ["+I s n"]);
}

#[test]
fn records_without_a_key_or_a_value_have_no_row() {
    let format = format("kafka", KEYED, &[]).unwrap();
    let value = r#"{"k_id":3,"name":"n"}"#;
    let records = [
        [None, Some(value)],
        [Some(r#"{"k_id":1}"#), None],
        pair(r#"{"k_id":3}"#, value),
    ];
    assert_eq!(rows(&format, &table(), &records), ["+I 3 n null"]);
}

#[test]
fn a_changelog_in_the_value_keeps_its_kinds_and_finds_its_keys() {
    let pairs = [
        ("key.format", "raw"),
        ("key.fields", "k_shop"),
        ("value.format", "debezium-json"),
        ("value.fields-include", "EXCEPT_KEY"),
    ];
    let format = format("kafka", &pairs, &[]).unwrap();
    let records = [
        pair(
            "a",
            r#"{"before":null,"after":{"k_id":1,"name":"x"},"op":"c"}"#,
        ),
        pair(
            "b",
            r#"{"before":{"k_id":2,"name":"y"},"after":{"k_id":2,"name":"z"},"op":"u"}"#,
        ),
        pair(
            "c",
            r#"{"before":{"k_id":3,"name":"w"},"after":null,"op":"d"}"#,
        ),
    ];
    assert_eq!(
        rows(&format, &table(), &records),
        ["+I 1 x a", "-U 2 y b", "+U 2 z b", "-D 3 w c"]
    );
}

const UPSERT: &[(&str, &str)] = &[("key.format", "json"), ("value.format", "json")];

#[test]
fn upserts_are_records_by_key_and_deletions_have_no_value() {
    let format = format("upsert-kafka", UPSERT, &[0]).unwrap();
    let key = |id: u32| Some(format!("{{\"k_id\":{id}}}"));
    let value = |id: u32, name: &str| {
        Some(format!(
            "{{\"k_id\":{id},\"name\":\"{name}\",\"k_shop\":\"s\"}}"
        ))
    };
    let records = texts(
        &format,
        "+I 1 a s\n-U 1 a s\n+U 1 b s\n-D 1 b s\n+I 2 c s\n-U 2 c s\n+U 3 d s",
    );
    assert_eq!(
        records,
        [
            [key(1), value(1, "a")],
            [key(1), value(1, "b")],
            [key(1), None],
            [key(2), value(2, "c")],
            // The new row of this update has another key, or a filter has dropped it.
            [key(2), None],
            [key(3), value(3, "d")],
        ]
    );
    let read: Vec<[Option<&str>; 2]> = records
        .iter()
        .map(|[key, value]| [key.as_deref(), value.as_deref()])
        .collect();
    assert_eq!(
        rows(&format, &table(), &read),
        [
            "+U 1 a s",
            "+U 1 b s",
            "-D 1 null null",
            "+U 2 c s",
            "-D 2 null null",
            "+U 3 d s"
        ]
    );
}

#[test]
fn options_that_contradict_each_other_are_refused() {
    let refused = |connector, pairs: &[(&str, &str)], key: &[u32], with: &str| {
        let error = format(connector, pairs, key).unwrap_err().to_string();
        assert!(error.contains(with), "{error}");
    };
    let json = ("value.format", "json");
    refused(
        "kafka",
        &[json, ("key.format", "json")],
        &[],
        "needs 'key.fields'",
    );
    refused(
        "kafka",
        &[json, ("key.fields", "name")],
        &[],
        "needs 'key.format'",
    );
    let key = ("key.format", "json");
    refused(
        "kafka",
        &[json, key, ("key.fields", "nam")],
        &[],
        "'k_id', 'name', 'k_shop'",
    );
    let prefix = ("key.fields-prefix", "k_");
    let except = ("value.fields-include", "EXCEPT_KEY");
    refused(
        "kafka",
        &[json, key, ("key.fields", "k_id"), prefix],
        &[],
        "EXCEPT_KEY",
    );
    refused(
        "kafka",
        &[json, key, ("key.fields", "name"), prefix, except],
        &[],
        "'name' does not",
    );
    refused("upsert-kafka", UPSERT, &[], "needs a PRIMARY KEY");
    refused("upsert-kafka", &[json], &[0], "'key.format'");
    refused(
        "upsert-kafka",
        &[key, ("value.format", "debezium-json")],
        &[0],
        "makes the changelog itself",
    );
}
