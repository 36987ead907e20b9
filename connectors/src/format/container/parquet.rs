//! Parquet. Timestamps are written as 64-bit numbers with their unit, which all readers of today take; the 96-bit ones of older writers are read.

use std::fs::File;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::arrow::{ArrowWriter, ProjectionMask};
use parquet::basic::{Compression, GzipLevel, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use weir_common::limits::BATCH_ROWS;
use weir_dataflow::types::{LogicalField, LogicalType};
use weir_dataflow::{Error, Result};

use super::{Rows, conform, failed};
use crate::options::OptionReader;

/// A row group is complete when it is that large: less than Hadoop's 128 MB, because it is collected in memory.
const BLOCK_BYTES: u64 = 32 << 20;

/// The options `parquet.*`.
#[derive(Debug, Clone)]
pub(crate) struct ParquetFiles {
    compression: Compression,
    block_bytes: usize,
    has_dictionary: bool,
}

impl ParquetFiles {
    pub(crate) fn read(options: &OptionReader<'_>, prefix: &str) -> Result<Self> {
        let compression = format!("{prefix}compression");
        let built = ["SNAPPY", "UNCOMPRESSED", "GZIP", "ZSTD", "LZ4_RAW"];
        let all = &[
            "SNAPPY",
            "UNCOMPRESSED",
            "GZIP",
            "ZSTD",
            "LZ4_RAW",
            "LZO",
            "BROTLI",
            "LZ4",
        ];
        let compression = match options.choice(&compression, all)? {
            None | Some("SNAPPY") => Compression::SNAPPY,
            Some("UNCOMPRESSED") => Compression::UNCOMPRESSED,
            Some("GZIP") => Compression::GZIP(GzipLevel::default()),
            Some("ZSTD") => Compression::ZSTD(ZstdLevel::default()),
            Some("LZ4_RAW") => Compression::LZ4_RAW,
            Some(other) => {
                return Err(Error::Config(format!(
                    "option '{compression}' = '{other}' is not supported yet; the ones that are: {}",
                    crate::options::quoted(built.into_iter())
                )));
            }
        };
        for (key, only) in [("utc-timezone", true), ("write.int64.timestamp", true)] {
            let key = format!("{prefix}{key}");
            if options.boolean(&key)?.is_some_and(|value| value != only) {
                return Err(Error::Config(format!(
                    "option '{key}' = '{}' is not supported yet: timestamps are 64-bit numbers in UTC",
                    !only
                )));
            }
        }
        let unit = format!("{prefix}timestamp.time.unit");
        options.refuse(
            &unit,
            "timestamps are written in the unit of their precision",
        )?;
        let block = options.memory(&format!("{prefix}block.size"))?;
        let dictionary = options.boolean(&format!("{prefix}enable.dictionary"))?;
        Ok(Self {
            compression,
            block_bytes: usize::try_from(block.unwrap_or(BLOCK_BYTES).max(1)).unwrap_or(usize::MAX),
            has_dictionary: dictionary.unwrap_or(true),
        })
    }

    pub(super) fn create(&self, file: File, schema: &SchemaRef) -> Result<Box<Writer>> {
        check(schema)?;
        let schema: SchemaRef = Arc::new(Schema::new(bare(schema.fields())));
        let properties = WriterProperties::builder()
            .set_compression(self.compression)
            .set_dictionary_enabled(self.has_dictionary)
            .build();
        let rows = ArrowWriter::try_new(file, Arc::clone(&schema), Some(properties))
            .map_err(|error| failed("parquet", error))?;
        Ok(Box::new(Writer {
            schema,
            rows,
            block_bytes: self.block_bytes,
        }))
    }
}

/// Whether Parquet can hold the columns.
pub(super) fn check(schema: &SchemaRef) -> Result<()> {
    for field in schema.fields() {
        let found = LogicalField::from_field(field);
        if let Some(
            LogicalType::IntervalYearMonth | LogicalType::IntervalDayTime | LogicalType::Null,
        ) = found.as_ref().map(|found| &found.logical_type)
        {
            return Err(Error::Config(format!(
                "format 'parquet' cannot hold column '{}': there is no type for {} in it",
                field.name(),
                found.map_or_else(String::new, |found| found.to_string())
            )));
        }
    }
    Ok(())
}

/// Without the notes that the fields carry for this engine alone.
fn bare(fields: &Fields) -> Fields {
    fields.iter().map(bare_field).collect()
}

fn bare_field(field: &FieldRef) -> FieldRef {
    let inner = match field.data_type() {
        DataType::List(element) => DataType::List(bare_field(element)),
        DataType::Map(entries, sorted) => DataType::Map(bare_field(entries), *sorted),
        DataType::Struct(fields) => DataType::Struct(bare(fields)),
        other => other.clone(),
    };
    Arc::new(Field::new(field.name(), inner, field.is_nullable()))
}

pub(super) fn open(file: File, read: &SchemaRef, skip: u64) -> std::result::Result<Rows, String> {
    let text = |error: ParquetError| error.to_string();
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(text)?;
    let wanted = builder.schema().fields().iter().enumerate();
    let wanted = wanted.filter(|(_, field)| read.column_with_name(field.name()).is_some());
    let roots: Vec<usize> = wanted.map(|(index, _)| index).collect();
    let mask = ProjectionMask::roots(builder.parquet_schema(), roots);
    let rows = builder
        .with_projection(mask)
        .with_offset(usize::try_from(skip).unwrap_or(usize::MAX))
        .with_batch_size(BATCH_ROWS)
        .build()
        .map_err(text)?;
    let read = Arc::clone(read);
    Ok(Box::new(rows.map(move |batch| {
        let batch = batch.map_err(|error| error.to_string())?;
        conform(&batch, &read)
    })))
}

pub(crate) struct Writer {
    schema: SchemaRef,
    rows: ArrowWriter<File>,
    block_bytes: usize,
}

impl Writer {
    pub(super) fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        let rows = conform(rows, &self.schema).map_err(|error| failed("parquet", error))?;
        let mut written = self.rows.write(&rows);
        if written.is_ok() && self.rows.in_progress_size() >= self.block_bytes {
            written = self.rows.flush();
        }
        written.map_err(|error| failed("parquet", error))
    }

    pub(super) fn bytes(&self) -> u64 {
        (self.rows.bytes_written() + self.rows.in_progress_size()) as u64
    }

    pub(super) fn finish(self) -> Result<()> {
        let closed = self.rows.close();
        closed.map(|_| ()).map_err(|error| failed("parquet", error))
    }
}
