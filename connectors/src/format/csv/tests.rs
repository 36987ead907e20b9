use std::sync::Arc;

use arrow::datatypes::{DataType, Field, SchemaRef, TimeUnit};
use proptest::prelude::*;
use weir_dataflow::Batch;
use weir_dataflow::testing::{format_rows, schema};
use weir_dataflow::types::{LogicalField, LogicalType};

use crate::format::{EncodedRecords, Format};
use crate::options::OptionReader;
use crate::test_util::options;

fn format(pairs: &[(&str, &str)]) -> Format {
    let mut all = vec![("format", "csv")];
    all.extend_from_slice(pairs);
    let options = options(&all);
    let reader = OptionReader::new("test", &options);
    let format = Format::required(&reader, "").unwrap();
    reader.finish().unwrap();
    format
}

fn table() -> SchemaRef {
    let numbers = LogicalField::nullable(LogicalType::Array(Box::new(LogicalField::nullable(
        LogicalType::Int,
    ))));
    let row = LogicalField::nullable(LogicalType::Row(vec![
        ("x".to_owned(), LogicalField::nullable(LogicalType::Int)),
        (
            "y".to_owned(),
            LogicalField::nullable(LogicalType::VarChar(u32::MAX)),
        ),
    ]));
    let mut fields = vec![
        Field::new("id", DataType::Int32, true),
        Field::new("name", DataType::Utf8, true),
        Field::new("at", DataType::Timestamp(TimeUnit::Millisecond, None), true),
        Field::new("price", DataType::Decimal128(10, 2), true),
    ];
    fields.push(numbers.to_field("numbers"));
    fields.push(row.to_field("row"));
    Arc::new(arrow::datatypes::Schema::new(fields))
}

fn decode(pairs: &[(&str, &str)], lines: &[&str]) -> Result<Vec<String>, String> {
    let mut decoder = format(pairs).decoder(&table(), &table()).unwrap();
    let records: Vec<&[u8]> = lines.iter().map(|line| line.as_bytes()).collect();
    let decoded = decoder.decode(&records).map_err(|error| error.reason)?;
    Ok(format_rows(&Batch::inserts(decoded.columns)).unwrap())
}

#[test]
fn lines_become_rows() {
    let rows = decode(
        &[("csv.null-literal", "NULL")],
        &[
            "1,a b,2026-03-31 18:40:01.3,12.345,1;2;NULL,7;z\r",
            "2,\"say \"\"hi\"\", you\",\"2026-01-01 00:00:00\",1E+2,,NULL",
            "",
            "NULL,NULL,NULL,NULL,NULL,NULL",
        ],
    );
    assert_eq!(
        rows.unwrap(),
        [
            "+I 1 a b 2026-03-31T18:40:01.300 12.35 [1, 2, null] {x: 7, y: z}",
            "+I 2 say \"hi\", you 2026-01-01T00:00:00 100.00 [] null",
            "+I null null null null null null",
        ]
    );
}

#[test]
fn broken_lines_are_refused_with_the_field() {
    let errors = [
        ("1,a", "6 fields expected, found 2"),
        (",a,,,,", "field 'id': not a INT"),
        ("1,\"a", "byte 3: a quote is not closed"),
        (
            "1,\"a\"b,,,,",
            "byte 5: expected the delimiter behind the quote",
        ),
        ("1,a,,,,,", "6 fields expected, found 7"),
    ];
    for (line, expected) in errors {
        assert_eq!(decode(&[], &[line]).unwrap_err(), expected);
    }
}

#[test]
fn ignored_errors_make_fields_null() {
    let options = [
        ("csv.ignore-parse-errors", "true"),
        ("csv.allow-comments", "true"),
    ];
    let rows = decode(&options, &["# x", "x,a,yesterday,b,1;x,", "7", "1,\"a,,,,"]).unwrap();
    assert_eq!(
        rows,
        [
            "+I null a null null [1, null] {x: null, y: null}",
            "+I 7 null null null null null"
        ]
    );
}

#[test]
fn other_delimiters_quotes_and_escapes() {
    let options = [
        ("csv.field-delimiter", "|"),
        ("csv.quote-character", "'"),
        ("csv.escape-character", "\\"),
        ("csv.array-element-delimiter", "::"),
    ];
    let rows = decode(
        &options,
        &["1|'it''s \\'x\\' | y'|'1970-01-01 00:00:00'|1|1::2|1::q"],
    );
    assert_eq!(
        rows.unwrap(),
        ["+I 1 it's 'x' | y 1970-01-01T00:00:00 1.00 [1, 2] {x: 1, y: q}"]
    );
}

#[test]
fn only_the_columns_that_are_read_are_decoded() {
    let read = schema(&[("price", DataType::Decimal128(10, 2))]);
    let mut decoder = format(&[]).decoder(&read, &table()).unwrap();
    let decoded = decoder.decode(&[b"no number,,no time,3,,"]).unwrap();
    let rows = format_rows(&Batch::inserts(decoded.columns)).unwrap();
    assert_eq!(rows, ["+I 3.00"]);
}

fn encode(pairs: &[(&str, &str)], lines: &[&str]) -> Vec<String> {
    let mut decoder = format(&[("csv.null-literal", "NULL")])
        .decoder(&table(), &table())
        .unwrap();
    let records: Vec<&[u8]> = lines.iter().map(|line| line.as_bytes()).collect();
    let batch = Batch::inserts(decoder.decode(&records).unwrap().columns);
    let mut out = EncodedRecords::default();
    format(pairs)
        .encoder(&table())
        .unwrap()
        .encode(&batch, &mut out)
        .unwrap();
    out.iter()
        .map(|line| String::from_utf8(line.to_vec()).unwrap())
        .collect()
}

/// Quoted is what has a character below '-', or more than 24 characters.
#[test]
fn quoting_is_jacksons() {
    let lines = [
        "1,plain,2026-01-01 00:00:00,100.00,1;2;NULL,7;z",
        "2,a b,NULL,0.05,NULL,NULL",
        "3,\"say \"\"hi\"\"\",NULL,NULL,NULL,NULL",
        "4,abcdefghijklmnopqrstuvwxy,NULL,NULL,NULL,NULL",
    ];
    assert_eq!(
        encode(&[], &lines),
        [
            "1,plain,\"2026-01-01 00:00:00\",1E+2,1;2;,7;z",
            "2,\"a b\",,0.05,,",
            "3,\"say \"\"hi\"\"\",,,,",
            "4,\"abcdefghijklmnopqrstuvwxy\",,,,",
        ]
    );
    let plain = [
        ("csv.disable-quote-character", "true"),
        ("csv.null-literal", "n/a"),
        ("csv.write-bigdecimal-in-scientific-notation", "false"),
    ];
    assert_eq!(
        encode(&plain, &lines[..2]),
        [
            "1,plain,2026-01-01 00:00:00,100.00,1;2;n/a,7;z",
            "2,a b,n/a,0.05,n/a,n/a",
        ]
    );
}

proptest! {
    #[test]
    fn a_text_survives_the_round_trip(text in "[^\\x00]*") {
        let schema = schema(&[("a", DataType::Utf8), ("b", DataType::Int32)]);
        let texts: arrow::array::ArrayRef = Arc::new(arrow::array::StringArray::from(vec![text.as_str()]));
        let numbers: arrow::array::ArrayRef = Arc::new(arrow::array::Int32Array::from(vec![1]));
        let data = arrow::array::RecordBatch::try_new(schema.clone(), vec![texts, numbers]).unwrap();
        let mut out = EncodedRecords::default();
        format(&[]).encoder(&schema).unwrap().encode(&Batch::inserts(data.clone()), &mut out).unwrap();
        let decoded = format(&[]).decoder(&schema, &schema).unwrap().decode(&[&out.bytes]).unwrap();
        prop_assert_eq!(decoded.columns, data);
    }

    #[test]
    fn nonsense_never_panics(line in proptest::collection::vec(any::<u8>(), 0..60)) {
        let _ = format(&[("csv.escape-character", "\\")]).decoder(&table(), &table()).unwrap().decode(&[&line]);
    }
}
