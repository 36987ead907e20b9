use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use weir_dataflow::Batch;
use weir_dataflow::testing::format_rows;
use weir_dataflow::types::{LogicalField, LogicalType};

use super::{TimestampMapping, schema};
use crate::format::{EncodedRecords, Format};
use crate::options::OptionReader;
use crate::test_util::options;

fn format(pairs: &[(&str, &str)]) -> Format {
    let options = options(&[&[("format", "avro")], pairs].concat());
    let reader = OptionReader::new("test", &options);
    let format = Format::required(&reader, "").unwrap();
    reader.finish().unwrap();
    format
}

fn table(columns: &[(&str, LogicalType)]) -> SchemaRef {
    let fields = columns
        .iter()
        .map(|(name, of)| LogicalField::nullable(of.clone()).to_field(name));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

fn text() -> LogicalType {
    LogicalType::VarChar(u32::MAX)
}

/// Rows of the table from JSON, which has other tests.
fn rows_of(table: &SchemaRef, records: &[&str]) -> Batch {
    let options = options(&[("format", "json")]);
    let json = Format::required(&OptionReader::new("test", &options), "").unwrap();
    let records: Vec<&[u8]> = records.iter().map(|record| record.as_bytes()).collect();
    let decoded = json.decoder(table, table).unwrap().decode(&records);
    Batch::inserts(decoded.unwrap().columns)
}

fn encode(format: &Format, rows: &Batch) -> Vec<Vec<u8>> {
    let mut encoder = format.encoder(&rows.schema()).unwrap();
    let mut out = EncodedRecords::default();
    encoder.encode(rows, &mut out).unwrap();
    out.iter().map(<[u8]>::to_vec).collect()
}

fn decode(
    format: &Format,
    read: &SchemaRef,
    table: &SchemaRef,
    records: &[Vec<u8>],
) -> Vec<String> {
    let records: Vec<&[u8]> = records.iter().map(Vec::as_slice).collect();
    let decoded = format.decoder(read, table).unwrap().decode(&records);
    format_rows(&Batch::inserts(decoded.unwrap().columns)).unwrap()
}

/// Zigzag numbers, lengths before texts, a union's branch before its value (Avro 1.11.1, «Binary Encoding»).
#[test]
fn records_are_the_bytes_that_the_specification_gives() {
    let table = table(&[("a", LogicalType::BigInt), ("b", text())]);
    let rows = rows_of(
        &table,
        &[r#"{"a": 27, "b": "foo"}"#, r#"{"a": -64, "b": null}"#],
    );
    let expected = [
        vec![0x02, 0x36, 0x02, 0x06, b'f', b'o', b'o'],
        vec![0x02, 0x7f, 0x00],
    ];
    assert_eq!(encode(&format(&[]), &rows), expected);
}

#[test]
fn every_type_comes_back() {
    let int = |nullable| LogicalField {
        logical_type: LogicalType::SmallInt,
        nullable,
    };
    let row = LogicalType::Row(vec![
        ("x".to_owned(), int(true)),
        ("y".to_owned(), LogicalField::nullable(text())),
    ]);
    let table = table(&[
        ("tiny", LogicalType::TinyInt),
        ("small", LogicalType::SmallInt),
        ("whole", LogicalType::Int),
        ("truth", LogicalType::Boolean),
        ("float", LogicalType::Float),
        ("double", LogicalType::Double),
        ("decimal", LogicalType::Decimal(20, 3)),
        ("bytes", LogicalType::VarBinary(u32::MAX)),
        ("day", LogicalType::Date),
        ("time", LogicalType::Time(3)),
        ("ts", LogicalType::Timestamp(3)),
        ("list", LogicalType::Array(Box::new(int(true)))),
        (
            "map",
            LogicalType::Map(
                Box::new(LogicalField::nullable(text())),
                Box::new(LogicalField::nullable(row.clone())),
            ),
        ),
        ("row", row),
    ]);
    let rows = rows_of(
        &table,
        &[
            r#"{"tiny": -128, "small": 32767, "whole": -5, "truth": true, "float": 1.5, "double": -2.25, "decimal": -12345.678, "bytes": "AQI=",
                "day": "1969-12-31", "time": "23:59:59", "ts": "2026-03-31 18:40:01.3", "list": [1, null, -2],
                "map": {"k": {"x": 1, "y": "z"}, "n": null}, "row": {"x": null, "y": "w"}}"#,
            "{}",
        ],
    );
    let records = encode(&format(&[]), &rows);
    assert_eq!(
        decode(&format(&[]), &table, &table, &records),
        format_rows(&rows).unwrap()
    );

    // Some of the columns, in another order.
    let read = Arc::new(table.project(&[13, 2]).unwrap());
    let picked = Batch::inserts(rows.data().project(&[13, 2]).unwrap());
    assert_eq!(
        decode(&format(&[]), &read, &table, &records),
        format_rows(&picked).unwrap()
    );
}

#[test]
fn timestamps_lie_as_the_mapping_says() {
    let both = table(&[
        ("local", LogicalType::Timestamp(6)),
        ("instant", LogicalType::TimestampLtz(3)),
    ]);
    let json = schema::of_table(&both, TimestampMapping::Correct).unwrap();
    assert!(json.contains("\"local-timestamp-micros\""), "{json}");
    assert!(json.contains("\"timestamp-millis\""), "{json}");
    let correct = [("avro.timestamp_mapping.legacy", "false")];
    let rows = rows_of(
        &both,
        &[r#"{"local": "2026-03-31 18:40:01.000001", "instant": "2026-03-31 18:40:01.5Z"}"#],
    );
    let records = encode(&format(&correct), &rows);
    assert_eq!(
        decode(&format(&correct), &both, &both, &records),
        format_rows(&rows).unwrap()
    );

    let legacy = |of: LogicalType| {
        let refused = schema::of_table(&table(&[("t", of)]), TimestampMapping::Legacy);
        refused.map_err(|error| error.to_string())
    };
    assert!(
        legacy(LogicalType::Timestamp(3))
            .unwrap()
            .contains("\"timestamp-millis\"")
    );
    for refused in [LogicalType::TimestampLtz(3), LogicalType::Timestamp(6)] {
        let error = legacy(refused).unwrap_err();
        assert!(
            error.contains("column 't'") && error.contains("timestamp_mapping.legacy"),
            "{error}"
        );
    }
}

#[test]
fn what_avro_cannot_hold_is_refused_with_its_column() {
    let interval = LogicalField::nullable(LogicalType::IntervalDayTime);
    let row = LogicalType::Row(vec![("i".to_owned(), interval)]);
    let error = format(&[])
        .encoder(&table(&[("r", row)]))
        .err()
        .unwrap()
        .to_string();
    assert!(
        error.contains("column 'r.i'") && error.contains("INTERVAL"),
        "{error}"
    );
    let number = LogicalField::nullable(LogicalType::Int);
    let map = LogicalType::Map(Box::new(number.clone()), Box::new(number));
    let error = format(&[])
        .encoder(&table(&[("m", map)]))
        .err()
        .unwrap()
        .to_string();
    assert!(
        error.contains("column 'm'") && error.contains("texts, not INT"),
        "{error}"
    );
}

#[test]
fn a_broken_record_is_named_and_leaves_nothing_behind() {
    let table = table(&[("a", LogicalType::BigInt), ("b", text())]);
    let format = format(&[]);
    let good = encode(&format, &rows_of(&table, &[r#"{"a": 1, "b": "x"}"#])).remove(0);
    let mut decoder = format.decoder(&table, &table).unwrap();
    let long = [good.clone(), vec![0]].concat();
    for broken in [&good[..good.len() - 1], &long, &[], &[9, 9, 9]] {
        let error = decoder.decode(&[good.as_slice(), broken]).err().unwrap();
        assert_eq!(error.record, 1, "{broken:?}: {}", error.reason);
        let after = decoder.decode(&[good.as_slice()]).unwrap();
        assert_eq!(after.columns.num_rows(), 1, "{broken:?}");
    }
}

#[test]
fn no_records_are_no_rows() {
    let table = Arc::new(Schema::new(vec![Field::new("a", DataType::Int32, false)]));
    assert!(decode(&format(&[]), &table, &table, &[]).is_empty());
    let column: ArrayRef = Arc::new(Int32Array::from(Vec::<i32>::new()));
    let none = RecordBatch::try_new(Arc::clone(&table), vec![column]).unwrap();
    assert!(encode(&format(&[]), &Batch::inserts(none)).is_empty());
}
