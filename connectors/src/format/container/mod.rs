//! Files that hold rows in blocks of their own instead of records one after another: Avro's object containers and Parquet.
//!
//! A file is read from its first row, or from a row on; it is written as a whole and is none before [`ContainerWriter::finish`].

mod avro;
mod parquet;

use std::fs::File;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::SchemaRef;
use std::sync::Arc;
use weir_dataflow::{Error, Result};

pub(crate) use self::avro::AvroFiles;
pub(crate) use self::parquet::ParquetFiles;

/// A format of files.
#[derive(Debug, Clone)]
pub(crate) enum Container {
    Avro(AvroFiles),
    Parquet(ParquetFiles),
}

/// The rows of a file, up to `BATCH_ROWS` at once, in the schema that was asked for. After an error there are no more.
pub(crate) type Rows = Box<dyn Iterator<Item = std::result::Result<RecordBatch, String>>>;

impl Container {
    /// Whether the format can hold the columns.
    ///
    /// # Errors
    /// For types that it has none for, with the column's name.
    pub(crate) fn check(&self, schema: &SchemaRef) -> Result<()> {
        match self {
            Self::Avro(files) => files.check(schema),
            Self::Parquet(_) => parquet::check(schema),
        }
    }

    /// Reads the columns `read` from row `skip` on. Columns that the file does not have are NULL.
    ///
    /// # Errors
    /// Why the file cannot be read, without its name.
    pub(crate) fn open(
        &self,
        file: File,
        read: &SchemaRef,
        skip: u64,
    ) -> std::result::Result<Rows, String> {
        match self {
            Self::Avro(files) => files.open(file, read, skip),
            Self::Parquet(_) => parquet::open(file, read, skip),
        }
    }

    /// Begins a file with rows of `schema`.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub(crate) fn create(&self, file: File, schema: &SchemaRef) -> Result<ContainerWriter> {
        Ok(match self {
            Self::Avro(files) => ContainerWriter::Avro(files.create(file, schema)?),
            Self::Parquet(files) => ContainerWriter::Parquet(files.create(file, schema)?),
        })
    }
}

/// A file that is being written.
pub(crate) enum ContainerWriter {
    Avro(Box<avro::Writer>),
    Parquet(Box<parquet::Writer>),
}

impl ContainerWriter {
    /// Appends rows.
    ///
    /// # Errors
    /// Of the disk.
    pub(crate) fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        match self {
            Self::Avro(writer) => writer.write(rows),
            Self::Parquet(writer) => writer.write(rows),
        }
    }

    /// Bytes of the file so far, those that are still collected for its next block included.
    pub(crate) fn bytes(&self) -> u64 {
        match self {
            Self::Avro(writer) => writer.bytes(),
            Self::Parquet(writer) => writer.bytes(),
        }
    }

    /// Writes what makes it a file of its format.
    ///
    /// # Errors
    /// Of the disk.
    pub(crate) fn finish(self) -> Result<()> {
        match self {
            Self::Avro(writer) => writer.finish(),
            Self::Parquet(writer) => writer.finish(),
        }
    }
}

/// The rows with the columns of `read`, taken by name and brought to their types.
fn conform(rows: &RecordBatch, read: &SchemaRef) -> std::result::Result<RecordBatch, String> {
    let exact = CastOptions {
        safe: false,
        ..CastOptions::default()
    };
    let columns: Vec<ArrayRef> = read
        .fields()
        .iter()
        .map(|field| match rows.column_by_name(field.name()) {
            Some(column) => cast_with_options(column, field.data_type(), &exact)
                .map_err(|error| format!("column '{}': {error}", field.name())),
            None => Ok(new_null_array(field.data_type(), rows.num_rows())),
        })
        .collect::<std::result::Result<_, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(read), columns, &options)
        .map_err(|error| error.to_string())
}

fn failed(format: &str, error: impl std::fmt::Display) -> Error {
    Error::External {
        system: "filesystem",
        message: format!("cannot write a file of format '{format}': {error}"),
    }
}

#[cfg(test)]
mod tests;
