//! `weir state export`: whole tables into files, as JSON lines or Parquet.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, bail};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use weir_common::config::{Config, S3Config};
use weir_connectors::OptionReader;
use weir_connectors::format::{EncodedRecords, Encoder, Format};
use weir_dataflow::Batch;
use weir_snapshot::Store;
use weir_state::SnapshotReader;
use weir_state::reader::{OperatorContents, TableContents};

use crate::args::{ExportFormat, StateExportCommand};

pub fn run(config: &Config, command: &StateExportCommand) -> anyhow::Result<()> {
    let opened = super::open(config, &command.path)?;
    let reader = &opened.reader;
    let operator = reader.contents().operator(&command.operator)?;
    let tables = match &command.table {
        Some(name) => vec![operator.table(Some(name))?],
        None => {
            operator.table(None)?;
            operator.tables.iter().collect()
        }
    };
    let target = Target::new(&command.output, command.format, tables.len())?;
    for table in tables {
        let file = tempfile::NamedTempFile::new().context("cannot make a temporary file")?;
        let rows = write(reader, operator, table, command.format, file.path())?;
        let url = target.put(&config.s3, operator, table, file.path())?;
        println!(
            "{url}: {rows} rows of '{}' of {}",
            table.name, operator.name
        );
    }
    Ok(())
}

/// Where the files go: one file if its name was given, else one a table in a folder.
struct Target {
    folder: String,
    file: Option<String>,
    extension: &'static str,
}

impl Target {
    fn new(output: &str, format: ExportFormat, tables: usize) -> anyhow::Result<Self> {
        let extension = match format {
            ExportFormat::Json => "json",
            ExportFormat::Parquet => "parquet",
        };
        let names_file = output.ends_with(&format!(".{extension}"));
        if !names_file {
            return Ok(Self {
                folder: output.to_owned(),
                file: None,
                extension,
            });
        }
        if tables > 1 {
            bail!(
                "the operator has {tables} tables: name one with --table, or a folder as --output"
            );
        }
        let (folder, file) = output.rsplit_once('/').unwrap_or((".", output));
        Ok(Self {
            folder: if folder.is_empty() { "/" } else { folder }.to_owned(),
            file: Some(file.to_owned()),
            extension,
        })
    }

    fn put(
        &self,
        s3: &S3Config,
        operator: &OperatorContents,
        table: &TableContents,
        from: &Path,
    ) -> anyhow::Result<String> {
        let store = Store::open(&self.folder, s3)?;
        let name = match &self.file {
            Some(name) => name.clone(),
            None => {
                let uid = operator.uid.get(..8).unwrap_or(&operator.uid);
                let name = file_name(&format!("{}-{uid}-{}", operator.name, table.name));
                format!("{name}.{}", self.extension)
            }
        };
        let put = store.put_file(&name, from);
        tokio::runtime::Handle::current().block_on(put)?;
        Ok(store.url_of(&name))
    }
}

/// What every file system and object store takes.
fn file_name(text: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    let name: String = text.chars().map(plain).collect();
    let words: Vec<&str> = name.split('_').filter(|word| !word.is_empty()).collect();
    words.join("_")
}

/// Writes all rows of a table; gives their number.
fn write(
    reader: &SnapshotReader,
    operator: &OperatorContents,
    table: &TableContents,
    format: ExportFormat,
    to: &Path,
) -> anyhow::Result<u64> {
    let file = File::create(to).with_context(|| format!("cannot write {}", to.display()))?;
    let mut rows = 0;
    let mut writer = RowWriter::new(file, format, &table.schema)?;
    let mut failure = None;
    for part in 0..reader.parts(operator, table) {
        reader.read(operator, table, part, &mut |batch| {
            rows += batch.num_rows() as u64;
            failure = writer.write(batch).err();
            Ok(failure.is_none())
        })?;
        if let Some(error) = failure {
            return Err(error);
        }
    }
    writer.finish()?;
    Ok(rows)
}

enum RowWriter {
    Json(BufWriter<File>, Box<dyn Encoder>),
    Parquet(Box<ArrowWriter<File>>),
}

impl RowWriter {
    fn new(file: File, format: ExportFormat, schema: &SchemaRef) -> anyhow::Result<Self> {
        match format {
            ExportFormat::Json => {
                let options = [("format".to_owned(), "json".to_owned())].into();
                let json = Format::required(&OptionReader::new("savepoint", &options), "")?;
                Ok(Self::Json(BufWriter::new(file), json.encoder(schema)?))
            }
            ExportFormat::Parquet => {
                let properties = WriterProperties::builder()
                    .set_compression(Compression::SNAPPY)
                    .build();
                let writer = ArrowWriter::try_new(file, schema.clone(), Some(properties))?;
                Ok(Self::Parquet(Box::new(writer)))
            }
        }
    }

    fn write(&mut self, batch: RecordBatch) -> anyhow::Result<()> {
        match self {
            Self::Json(file, encoder) => {
                let mut records = EncodedRecords::default();
                encoder.encode(&Batch::inserts(batch), &mut records)?;
                for record in records.iter() {
                    file.write_all(record)?;
                    file.write_all(b"\n")?;
                }
            }
            Self::Parquet(writer) => writer.write(&batch)?,
        }
        Ok(())
    }

    fn finish(self) -> anyhow::Result<()> {
        match self {
            Self::Json(mut file, _) => file.flush()?,
            Self::Parquet(writer) => drop(writer.close()?),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_plain_file_names() {
        assert_eq!(
            file_name("GlobalWindowAggregate-1a2b3c4d-DISTINCT(a b)"),
            "GlobalWindowAggregate_1a2b3c4d_DISTINCT_a_b"
        );
    }

    #[test]
    fn parquet_gives_the_rows_and_their_types_back() {
        use std::sync::Arc;

        use arrow::array::{ArrayRef, Int64Array, StringArray};
        use parquet::arrow::arrow_reader::ParquetRecordBatchReader;

        let shops: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None]));
        let counts: ArrayRef = Arc::new(Int64Array::from(vec![2, 1]));
        let columns = [("shop", shops, true), ("COUNT(*)", counts, false)];
        let rows = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        let out = file.reopen().unwrap();
        let mut writer = RowWriter::new(out, ExportFormat::Parquet, &rows.schema()).unwrap();
        writer.write(rows.clone()).unwrap();
        writer.finish().unwrap();
        let read = ParquetRecordBatchReader::try_new(file.reopen().unwrap(), 1024).unwrap();
        let read: Vec<RecordBatch> = read.collect::<Result<_, _>>().unwrap();
        assert_eq!(read, [rows]);
    }

    #[test]
    fn one_file_can_be_named_for_one_table_only() {
        let target = Target::new("s3://b/x.json", ExportFormat::Json, 1).unwrap();
        assert_eq!(
            (target.folder.as_str(), target.file.as_deref()),
            ("s3://b", Some("x.json"))
        );
        assert!(Target::new("x.json", ExportFormat::Json, 2).is_err());
        assert!(
            Target::new("x.json", ExportFormat::Parquet, 2)
                .unwrap()
                .file
                .is_none()
        );
    }
}
