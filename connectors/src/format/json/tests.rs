use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use proptest::prelude::*;
use weir_dataflow::Batch;
use weir_dataflow::testing::format_rows;
use weir_dataflow::types::{LogicalField, LogicalType};

use crate::format::{DecodeError, Decoded, EncodedRecords, Format};
use crate::options::OptionReader;
use crate::test_util::options;

fn format(pairs: &[(&str, &str)]) -> Format {
    let mut all = vec![("format", "json")];
    all.extend_from_slice(pairs);
    let options = options(&all);
    let reader = OptionReader::new("test", &options);
    let format = Format::required(&reader, "").unwrap();
    reader.finish().unwrap();
    format
}

fn one(logical: LogicalType) -> SchemaRef {
    let field = LogicalField::nullable(logical);
    Arc::new(Schema::new(vec![field.to_field("a")]))
}

fn try_decode(
    schema: &SchemaRef,
    pairs: &[(&str, &str)],
    records: &[&str],
) -> Result<Decoded, DecodeError> {
    let records: Vec<&[u8]> = records.iter().map(|record| record.as_bytes()).collect();
    format(pairs)
        .decoder(schema, schema)
        .unwrap()
        .decode(&records)
}

fn rows(decoded: Decoded) -> Vec<String> {
    format_rows(&Batch::inserts(decoded.columns)).unwrap()
}

/// The value of `{"a": VALUE}` as Arrow shows it, or the error.
fn value(logical: &LogicalType, value: &str) -> Result<String, String> {
    let record = format!("{{\"a\":{value}}}");
    let decoded = try_decode(&one(logical.clone()), &[], &[&record]).map_err(|e| e.reason)?;
    Ok(rows(decoded).remove(0).split_off(3))
}

#[test]
fn values_are_coerced_as_flink_does() {
    let string = LogicalType::VarChar(u32::MAX);
    let cases = [
        (LogicalType::Boolean, "true", "true"),
        (LogicalType::Boolean, "\" TRUE \"", "true"),
        (LogicalType::Boolean, "1", "false"),
        (LogicalType::TinyInt, "-128", "-128"),
        (LogicalType::SmallInt, "\"7\"", "7"),
        (LogicalType::Int, "\" 42 \"", "42"),
        (LogicalType::Int, "1.9", "1"),
        (
            LogicalType::BigInt,
            "-9223372036854775808",
            "-9223372036854775808",
        ),
        (LogicalType::BigInt, "1e3", "1000"),
        (LogicalType::Float, "1.5", "1.5"),
        (LogicalType::Double, "\"2.5\"", "2.5"),
        (LogicalType::Double, "3", "3.0"),
        (LogicalType::Decimal(5, 2), "12.345", "12.35"),
        (LogicalType::Decimal(5, 2), "\"1.1\"", "1.10"),
        (LogicalType::Decimal(5, 2), "12345", "null"),
        (
            string.clone(),
            "\"a\\u00e9\\n\\ud83d\\ude00\\/\"",
            "aé\n😀/",
        ),
        (string.clone(), "1.10", "1.10"),
        (string.clone(), "true", "true"),
        (
            string.clone(),
            "{ \"x\" : [ 1 , \"a b\\u0001\" , null ] }",
            "{\"x\":[1,\"a b\\u0001\",null]}",
        ),
        (LogicalType::VarBinary(u32::MAX), "\"aGk=\"", "6869"),
        (LogicalType::Date, "\"2026-03-31\"", "2026-03-31"),
        (LogicalType::Time(0), "\"18:40:01\"", "18:40:01"),
        (
            LogicalType::Timestamp(3),
            "\"2026-03-31 18:40:01.3\"",
            "2026-03-31T18:40:01.300",
        ),
        (
            LogicalType::TimestampLtz(3),
            "\"2026-03-31 18:40:01.3Z\"",
            "2026-03-31T18:40:01.300Z",
        ),
        (
            LogicalType::Timestamp(9),
            "\"2026-03-31 18:40:01.000000001\"",
            "2026-03-31T18:40:01.000000001",
        ),
        (LogicalType::Int, "null", "null"),
    ];
    for (logical, text, expected) in cases {
        assert_eq!(
            value(&logical, text).as_deref(),
            Ok(expected),
            "{logical} {text}"
        );
    }
}

#[test]
fn errors_say_where_and_why_without_the_value() {
    let cases = [
        (
            LogicalType::Int,
            "\"secret\"",
            "byte 5, field 'a': expected INT, found a text that is none",
        ),
        (
            LogicalType::Int,
            "3000000000",
            "byte 5, field 'a': expected INT, found a number that is none",
        ),
        (
            LogicalType::TinyInt,
            "128",
            "byte 5, field 'a': expected TINYINT, found a number that is none",
        ),
        (
            LogicalType::BigInt,
            "{}",
            "byte 5, field 'a': expected BIGINT, found an object",
        ),
        (
            LogicalType::Timestamp(3),
            "\"2026-03-31T18:40:01\"",
            "byte 5, field 'a': expected TIMESTAMP(3), found a text that is none",
        ),
        (
            LogicalType::Int,
            "01",
            "byte 7, field 'a': a number has leading zeros",
        ),
        (
            LogicalType::Int,
            "tru",
            "byte 5, field 'a': expected a JSON value",
        ),
        (
            LogicalType::Int,
            "\"a",
            "byte 8, field 'a': the JSON text ends too early: a text is not closed",
        ),
    ];
    for (logical, text, expected) in cases {
        assert_eq!(value(&logical, text).unwrap_err(), expected, "{text}");
    }
    let nested = one(LogicalType::Row(vec![(
        "b".to_owned(),
        LogicalField::nullable(LogicalType::Int),
    )]));
    let error = try_decode(&nested, &[], &["{}", "{\"a\":{\"b\":[]}}"])
        .map(rows)
        .unwrap_err();
    assert_eq!(error.record, 1);
    assert!(
        error
            .reason
            .contains("field 'a.b': expected INT, found an array"),
        "{error:?}"
    );
}

fn wide() -> SchemaRef {
    let int = || LogicalField::nullable(LogicalType::Int);
    let string = LogicalField::nullable(LogicalType::VarChar(u32::MAX));
    let row = LogicalType::Row(vec![
        ("x".to_owned(), int()),
        ("y".to_owned(), string.clone()),
    ]);
    let fields = [
        ("id", LogicalType::Int),
        ("list", LogicalType::Array(Box::new(int()))),
        (
            "map",
            LogicalType::Map(Box::new(string.clone()), Box::new(int())),
        ),
        ("row", row),
    ];
    let fields: Vec<Field> = fields
        .into_iter()
        .map(|(name, logical)| LogicalField::nullable(logical).to_field(name))
        .collect();
    Arc::new(Schema::new(fields))
}

#[test]
fn nested_unknown_missing_and_repeated_fields() {
    let decoded = try_decode(
        &wide(),
        &[],
        &[
            " { \"skip\" : {\"deep\":[{\"a\":\"}\"}]}, \"row\":{\"y\":\"t\",\"z\":1},\"list\":[1,null,3],\"id\":1, \"map\":{\"k\":1,\"l\":null} } ",
            "{\"id\":1,\"id\":2,\"list\":[]}",
            "{\"list\":null,\"row\":null}",
        ],
    )
    .unwrap();
    assert!(decoded.record_of_row.is_none());
    assert_eq!(
        rows(decoded),
        [
            "+I 1 [1, null, 3] {k: 1, l: null} {x: null, y: t}",
            "+I 2 [] null null",
            "+I null null null null",
        ]
    );
}

#[test]
fn arrays_are_several_rows_and_empty_records_none() {
    let records = ["[{\"a\":1},{\"a\":2}]", "", "null", "{\"a\":3}"];
    let decoded = try_decode(&one(LogicalType::Int), &[], &records).unwrap();
    assert_eq!(decoded.record_of_row, Some(vec![0, 0, 3]));
    assert_eq!(rows(decoded), ["+I 1", "+I 2", "+I 3"]);
}

#[test]
fn ignored_errors_make_fields_null_and_broken_records_vanish() {
    let ignore = [("json.ignore-parse-errors", "true")];
    let records = [
        "{\"id\":\"x\",\"list\":[1,\"x\"],\"row\":[],\"map\":{\"k\":{}}}",
        "{\"id\":1,\"list\":[1,2",
        "nonsense",
        "{\"id\":4,\"row\":{\"x\":\"\",\"y\":5}}",
    ];
    let decoded = try_decode(&wide(), &ignore, &records).unwrap();
    assert_eq!(decoded.skipped, 2);
    assert_eq!(decoded.record_of_row, Some(vec![0, 3]));
    assert_eq!(
        rows(decoded),
        [
            "+I null [1, null] {k: null} null",
            "+I 4 null null {x: null, y: 5}"
        ]
    );
}

#[test]
fn missing_fields_and_not_null_columns() {
    let strict = [("json.fail-on-missing-field", "true")];
    let error = try_decode(&one(LogicalType::Int), &strict, &["{\"b\":1}"])
        .map(rows)
        .unwrap_err();
    assert_eq!(error.reason, "byte 7, field 'a': the field is missing");
    let not_null: SchemaRef = Arc::new(Schema::new(vec![Field::new("a", DataType::Int32, false)]));
    for record in ["{}", "{\"a\":null}"] {
        let error = try_decode(&not_null, &[], &["{\"a\":1}", record])
            .map(rows)
            .unwrap_err();
        assert!(error.reason.contains("NOT NULL"), "{error:?}");
    }
    let both = [
        ("json.fail-on-missing-field", "true"),
        ("json.ignore-parse-errors", "true"),
    ];
    let all = options(&[&[("format", "json")], &both[..]].concat());
    assert!(Format::read(&OptionReader::new("test", &all), "").is_err());
}

fn encode(schema: &SchemaRef, pairs: &[(&str, &str)], records: &[&str]) -> Vec<String> {
    let batch = Batch::inserts(try_decode(schema, &[], records).unwrap().columns);
    let mut out = EncodedRecords::default();
    format(pairs)
        .encoder(schema)
        .unwrap()
        .encode(&batch, &mut out)
        .unwrap();
    out.iter()
        .map(|record| String::from_utf8(record.to_vec()).unwrap())
        .collect()
}

#[test]
fn rows_are_written_as_flink_does() {
    let record = "{\"id\":1,\"list\":[1,null],\"map\":{\"k\\\"\":2},\"row\":{\"x\":3,\"y\":\"a\\\\\\u0007é\"}}";
    assert_eq!(encode(&wide(), &[], &[record]), [record]);
    let nulls = "{\"id\":1,\"list\":null,\"map\":null,\"row\":{\"x\":null,\"y\":null}}";
    assert_eq!(encode(&wide(), &[], &["{\"id\":1,\"row\":{}}"]), [nulls]);
    let short = [("json.encode.ignore-null-fields", "true")];
    assert_eq!(
        encode(&wide(), &short, &["{\"id\":1,\"row\":{}}"]),
        ["{\"id\":1,\"row\":{}}"]
    );
}

#[test]
fn scalars_are_written_as_flink_does() {
    let cases = [
        (
            LogicalType::Timestamp(3),
            "\"2026-03-31 18:40:01.300\"",
            "\"2026-03-31 18:40:01.3\"",
        ),
        (
            LogicalType::Timestamp(3),
            "\"2026-03-31 18:40:01\"",
            "\"2026-03-31 18:40:01\"",
        ),
        (
            LogicalType::TimestampLtz(3),
            "\"2026-03-31 18:40:01Z\"",
            "\"2026-03-31 18:40:01Z\"",
        ),
        (LogicalType::Time(0), "\"18:40:01\"", "\"18:40:01\""),
        (LogicalType::Date, "\"2026-03-31\"", "\"2026-03-31\""),
        (LogicalType::Decimal(10, 3), "100", "1E+2"),
        (LogicalType::Decimal(10, 3), "1.5", "1.5"),
        (LogicalType::Double, "10000000", "1.0E7"),
        (LogicalType::Double, "\"NaN\"", "\"NaN\""),
        (LogicalType::VarBinary(u32::MAX), "\"aGk=\"", "\"aGk=\""),
        (LogicalType::Boolean, "true", "true"),
    ];
    for (logical, text, expected) in cases {
        let record = format!("{{\"a\":{text}}}");
        let written = encode(&one(logical), &[], &[&record]);
        assert_eq!(written, [format!("{{\"a\":{expected}}}")]);
    }
    let plain = [("json.encode.decimal-as-plain-number", "true")];
    let decimal = one(LogicalType::Decimal(10, 3));
    assert_eq!(
        encode(&decimal, &plain, &["{\"a\":100}"]),
        ["{\"a\":100.000}"]
    );
    let iso = [("json.timestamp-format.standard", "ISO-8601")];
    let time = one(LogicalType::TimestampLtz(3));
    let record = "{\"a\":\"2026-03-31 18:40:01.5Z\"}";
    assert_eq!(
        encode(&time, &iso, &[record]),
        ["{\"a\":\"2026-03-31T18:40:01.5Z\"}"]
    );
}

#[test]
fn maps_need_texts_as_keys() {
    let int = || Box::new(LogicalField::nullable(LogicalType::Int));
    let schema = one(LogicalType::Map(int(), int()));
    assert!(format(&[]).decoder(&schema, &schema).is_err());
}

fn any_json() -> impl Strategy<Value = String> {
    prop_oneof![
        "\\PC{0,40}",
        "[\\[\\]{}\",:0-9a-z\\\\. -]{0,60}",
        Just("{\"id\":1,\"list\":[1,2],\"map\":{\"a\":1},\"row\":{\"x\":1,\"y\":\"\"}}".to_owned()),
    ]
}

proptest! {
    #[test]
    fn nonsense_never_panics_and_leaves_good_records_whole(texts in proptest::collection::vec(any_json(), 0..6), cut in 0usize..60) {
        let good = "{\"id\":9,\"list\":[9],\"map\":{\"k\":9},\"row\":{\"x\":9,\"y\":\"9\"}}";
        let mut records: Vec<&str> = texts.iter().map(String::as_str).collect();
        records.push(good.get(..cut).unwrap_or(good));
        records.push(good);
        let ignore = [("json.ignore-parse-errors", "true")];
        let decoded = try_decode(&wide(), &ignore, &records).unwrap();
        let rows = rows(decoded);
        prop_assert_eq!(rows.last().map(String::as_str), Some("+I 9 [9] {k: 9} {x: 9, y: 9}"));
    }

    #[test]
    fn a_text_survives_the_round_trip(text in any::<String>()) {
        let schema = one(LogicalType::VarChar(u32::MAX));
        let array: arrow::array::ArrayRef = Arc::new(arrow::array::StringArray::from(vec![text]));
        let data = arrow::array::RecordBatch::try_new(schema.clone(), vec![array]).unwrap();
        let mut out = EncodedRecords::default();
        format(&[]).encoder(&schema).unwrap().encode(&Batch::inserts(data.clone()), &mut out).unwrap();
        let decoded = format(&[]).decoder(&schema, &schema).unwrap().decode(&[&out.bytes]).unwrap();
        prop_assert_eq!(decoded.columns, data);
    }
}

#[test]
fn timestamps_of_all_units_are_read() {
    let schema: SchemaRef = Arc::new(Schema::new(vec![Field::new(
        "a",
        DataType::Timestamp(TimeUnit::Microsecond, None),
        true,
    )]));
    let decoded = try_decode(&schema, &[], &["{\"a\":\"1970-01-01 00:00:00.0000019\"}"]).unwrap();
    assert_eq!(rows(decoded), ["+I 1970-01-01T00:00:00.000001"]);
}
