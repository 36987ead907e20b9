//! Formats: the bytes of records to columns and back.
//!
//! A [`Decoder`] takes the records of one poll together and writes them straight into columns; an [`Encoder`] writes the rows of a batch one
//! record after another into one buffer. Neither knows where records come from or go to: the connector adds split and position to an error.

mod avro;
pub(crate) mod cells;
mod column;
pub(crate) mod container;
mod csv;
mod debezium;
pub mod json;
mod parse;
pub(crate) mod print;
mod raw;
mod registry;
mod scalar;

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
pub use registry::{Format, Framing};
use weir_dataflow::{Batch, Error, Result, RowKind};

/// The rows of some records.
pub struct Decoded {
    /// The columns, in the decoder's schema.
    pub columns: RecordBatch,
    /// One a row; `None`: all `+I`.
    pub kinds: Option<Vec<RowKind>>,
    /// Index of the record that each row came from; `None`: row i came from record i.
    pub record_of_row: Option<Vec<u32>>,
    /// Records that were left out because they are broken (`ignore-parse-errors`).
    pub skipped: u64,
}

impl Decoded {
    /// Rows without kinds, none left out.
    pub(crate) fn inserts(columns: RecordBatch) -> Self {
        Self {
            columns,
            kinds: None,
            record_of_row: None,
            skipped: 0,
        }
    }
}

/// Rows without kinds, row i from record i.
fn decoded(
    schema: &SchemaRef,
    arrays: Vec<ArrayRef>,
    rows: usize,
) -> std::result::Result<Decoded, DecodeError> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::clone(schema), arrays, &options)
        .map(Decoded::inserts)
        .map_err(|error| DecodeError {
            record: 0,
            reason: error.to_string(),
        })
}

/// Why a record can't be decoded. Never holds the record's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodeError {
    /// Index among the records given.
    pub record: usize,
    /// What is wrong, and where in the record.
    pub reason: String,
}

impl DecodeError {
    /// The error that fails the job. `place` names split and offset: "partition 3, offset 17".
    pub fn at(&self, table: &str, place: &str) -> Error {
        Error::Data(format!(
            "table '{table}', {place}: cannot decode the record: {}",
            self.reason
        ))
    }
}

/// Bytes of records to columns. Keeps nothing between calls.
pub trait Decoder: Send {
    /// The rows of `records`, in their order.
    fn decode(&mut self, records: &[&[u8]]) -> std::result::Result<Decoded, DecodeError>;
}

/// Rows as bytes, one record a row.
#[derive(Debug, Default)]
pub struct EncodedRecords {
    /// The records one after another, without separators.
    pub bytes: Vec<u8>,
    /// End of each record in `bytes`.
    pub ends: Vec<usize>,
}

impl EncodedRecords {
    /// Empties it and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    /// A record's bytes.
    pub fn get(&self, index: usize) -> Option<&[u8]> {
        let start = match index.checked_sub(1) {
            Some(before) => *self.ends.get(before)?,
            None => 0,
        };
        self.bytes.get(start..*self.ends.get(index)?)
    }

    /// Each record's bytes.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts
            .zip(&self.ends)
            .map(|(start, end)| &self.bytes[start..*end])
    }
}

/// Columns to bytes of records.
pub trait Encoder: Send {
    /// Appends one record a row.
    fn encode(&mut self, batch: &Batch, out: &mut EncodedRecords) -> Result<()>;
}
