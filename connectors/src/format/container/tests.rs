use std::fs::File;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use weir_dataflow::Batch;
use weir_dataflow::testing::format_rows;
use weir_dataflow::types::{LogicalField, LogicalType};

use super::Container;
use crate::format::Format;
use crate::options::OptionReader;
use crate::test_util::options;

fn format(pairs: &[(&str, &str)]) -> Result<Format, String> {
    let options = options(pairs);
    let reader = OptionReader::new("filesystem", &options);
    let format = Format::required(&reader, "").map_err(|error| error.to_string())?;
    reader.finish().map_err(|error| error.to_string())?;
    Ok(format)
}

fn container(pairs: &[(&str, &str)]) -> Container {
    format(pairs).unwrap().container().unwrap()
}

fn table() -> SchemaRef {
    let text = LogicalField::nullable(LogicalType::VarChar(u32::MAX));
    let whole = LogicalField::nullable(LogicalType::SmallInt);
    let row = LogicalType::Row(vec![
        ("x".to_owned(), whole.clone()),
        ("y".to_owned(), text.clone()),
    ]);
    let columns = [
        ("id", LogicalType::BigInt),
        ("tiny", LogicalType::TinyInt),
        ("name", LogicalType::VarChar(10)),
        ("price", LogicalType::Decimal(10, 2)),
        ("day", LogicalType::Date),
        ("time", LogicalType::Time(0)),
        ("ts", LogicalType::Timestamp(3)),
        ("list", LogicalType::Array(Box::new(whole))),
        (
            "map",
            LogicalType::Map(
                Box::new(text.clone()),
                Box::new(LogicalField::nullable(row.clone())),
            ),
        ),
        ("row", row),
    ];
    let fields = columns.map(|(name, of)| LogicalField::nullable(of).to_field(name));
    Arc::new(Schema::new(fields.to_vec()))
}

fn rows(ids: std::ops::Range<i64>) -> RecordBatch {
    let options = options(&[("format", "json")]);
    let json = Format::required(&OptionReader::new("test", &options), "").unwrap();
    let records: Vec<String> = ids
        .map(|id| match id % 3 {
            0 => format!("{{\"id\": {id}}}"),
            _ => format!(
                r#"{{"id": {id}, "tiny": -3, "name": "n{id}", "price": {id}.25, "day": "2026-03-31", "time": "18:40:01",
                    "ts": "2026-03-31 18:40:01.123", "list": [1, null, {id}], "map": {{"a": {{"x": 5, "y": null}}, "b": null}}, "row": {{"x": 7, "y": "z"}}}}"#
            ),
        })
        .collect();
    let records: Vec<&[u8]> = records.iter().map(|record| record.as_bytes()).collect();
    let decoded = json.decoder(&table(), &table()).unwrap().decode(&records);
    decoded.unwrap().columns
}

fn shown(rows: &RecordBatch) -> Vec<String> {
    format_rows(&Batch::inserts(rows.clone())).unwrap()
}

fn read(
    container: &Container,
    path: &std::path::Path,
    columns: &SchemaRef,
    skip: u64,
) -> RecordBatch {
    let opened = container
        .open(File::open(path).unwrap(), columns, skip)
        .unwrap();
    let batches: Vec<RecordBatch> = opened.map(Result::unwrap).collect();
    concat_batches(columns, &batches).unwrap()
}

fn written(container: &Container, path: &std::path::Path, batches: &[RecordBatch]) {
    let mut writer = container
        .create(File::create(path).unwrap(), &table())
        .unwrap();
    for batch in batches {
        writer.write(batch).unwrap();
    }
    assert!(writer.bytes() > 0);
    writer.finish().unwrap();
}

fn each() -> Vec<Container> {
    let avro = ["snappy", "null", "deflate", "zstandard"];
    let parquet = ["SNAPPY", "UNCOMPRESSED", "GZIP", "ZSTD", "LZ4_RAW"];
    let avro = avro.map(|codec| container(&[("format", "avro"), ("avro.codec", codec)]));
    let parquet =
        parquet.map(|codec| container(&[("format", "parquet"), ("parquet.compression", codec)]));
    avro.into_iter().chain(parquet).collect()
}

#[test]
fn a_file_gives_back_its_rows_from_any_row_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let batches = [rows(0..1000), rows(1000..1001), rows(1001..9000)];
    let all = concat_batches(&table(), &batches).unwrap();
    for container in each() {
        written(&container, &path, &batches);
        for skip in [0, 1, 999, 1000, 4097, 8999, 9000, 10_000] {
            let left = read(&container, &path, &table(), skip as u64);
            let from = skip.min(all.num_rows());
            let expected = all.slice(from, all.num_rows() - from);
            assert!(left == expected, "{container:?} from row {skip}");
        }
    }
}

#[test]
fn columns_are_taken_by_name_and_absent_ones_are_null() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let wanted = Arc::new(Schema::new(vec![
        Field::new("other", DataType::Utf8, true),
        Field::new("id", DataType::Int64, true),
    ]));
    for container in [
        container(&[("format", "parquet")]),
        container(&[("format", "avro")]),
    ] {
        written(&container, &path, &[rows(7..9)]);
        assert_eq!(
            shown(&read(&container, &path, &wanted, 0)),
            ["+I null 7", "+I null 8"]
        );
    }
}

#[test]
fn a_damaged_file_is_an_error_and_not_an_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    for container in [
        container(&[("format", "parquet")]),
        container(&[("format", "avro")]),
    ] {
        written(&container, &path, &[rows(0..3000)]);
        let whole = std::fs::read(&path).unwrap();
        for damaged in [
            &whole[..whole.len() / 2],
            &whole[..3],
            &[],
            b"{\"id\": 1}\n",
        ] {
            std::fs::write(&path, damaged).unwrap();
            let opened = container.open(File::open(&path).unwrap(), &table(), 0);
            let failed = opened.map_or(true, |mut rows| rows.any(|batch| batch.is_err()));
            assert!(
                failed,
                "{container:?} with {} of {} bytes",
                damaged.len(),
                whole.len()
            );
        }
    }
}

#[test]
fn a_row_group_ends_at_the_block_size() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let small = container(&[("format", "parquet"), ("parquet.block.size", "1kb")]);
    written(&small, &path, &[rows(0..100), rows(100..200)]);
    let file =
        parquet::file::serialized_reader::SerializedFileReader::new(File::open(&path).unwrap())
            .unwrap();
    assert_eq!(parquet::file::reader::FileReader::num_row_groups(&file), 2);
}

#[test]
fn what_is_not_built_is_refused_by_name() {
    let refused = |pairs: &[(&str, &str)], with: &str| {
        let error = format(pairs).unwrap_err();
        assert!(error.contains(with), "{error}");
    };
    refused(
        &[("format", "avro"), ("avro.codec", "xz")],
        "'xz' is not supported yet",
    );
    refused(
        &[("format", "avro"), ("avro.codec", "rar")],
        "one of 'snappy'",
    );
    refused(
        &[("format", "parquet"), ("parquet.compression", "LZO")],
        "'LZO' is not supported yet",
    );
    refused(
        &[("format", "parquet"), ("parquet.utc-timezone", "false")],
        "parquet.utc-timezone",
    );
    let interval = LogicalField::nullable(LogicalType::IntervalDayTime).to_field("i");
    let schema: SchemaRef = Arc::new(Schema::new(vec![interval]));
    for name in ["parquet", "avro"] {
        let error = container(&[("format", name)])
            .check(&schema)
            .unwrap_err()
            .to_string();
        assert!(error.contains("column 'i'"), "{error}");
    }
}

/// Others call their records otherwise, and may have fields more and in another order.
#[test]
fn avro_files_of_other_writers_are_read_by_the_names_of_fields() {
    use arrow_avro::schema::{AVRO_NAME_METADATA_KEY, AVRO_NAMESPACE_METADATA_KEY};
    let inner = DataType::Struct(vec![Field::new("y", DataType::Utf8, true)].into());
    let named = [
        (AVRO_NAME_METADATA_KEY.to_owned(), "Order".to_owned()),
        (
            AVRO_NAMESPACE_METADATA_KEY.to_owned(),
            "com.example".to_owned(),
        ),
    ];
    let fields = vec![
        Field::new("row", inner, true),
        Field::new("more", DataType::Float64, false),
        Field::new("id", DataType::Int64, false),
    ];
    let schema = Arc::new(Schema::new_with_metadata(fields, named.into()));
    let json = r#"{"row": {"y": "z"}, "more": 1.5, "id": 3}"#;
    let options = options(&[("format", "json")]);
    let decoder = Format::required(&OptionReader::new("test", &options), "").unwrap();
    let rows = decoder
        .decoder(&schema, &schema)
        .unwrap()
        .decode(&[json.as_bytes()]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let mut writer =
        arrow_avro::writer::AvroWriter::new(File::create(&path).unwrap(), schema.as_ref().clone())
            .unwrap();
    writer.write(&rows.unwrap().columns).unwrap();
    writer.finish().unwrap();
    let wanted = table().project(&[0, 9]).unwrap();
    let found = read(
        &container(&[("format", "avro")]),
        &path,
        &Arc::new(wanted),
        0,
    );
    assert_eq!(shown(&found), ["+I 3 {x: null, y: z}"]);
}
