//! Entries of one table as rows.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::ipc::reader::StreamReader;
use weir_common::key_group::KeyGroup;
use weir_dataflow::Result;
use weir_dataflow::key::KeyEncoder;
use weir_proto::v1::{self, StateEncoding};

use crate::columns::Growing;
use crate::parts::{Piece, Table, behind_length, broken_entry, cut};

/// Collects the entries of one table, and gives them as rows of [`Self::schema`].
#[derive(Debug)]
pub struct RowReader {
    table: Table,
    columns: Vec<Filler>,
    /// Rows that came as a whole.
    whole: Vec<RecordBatch>,
    rows: usize,
}

/// What a piece's bytes are collected in.
#[derive(Debug)]
enum Filler {
    Nothing,
    One(Growing),
    Keys(KeyEncoder, Vec<Vec<u8>>),
    Bits(Vec<Growing>),
}

impl RowReader {
    /// # Errors
    /// If the description is broken, or of a later version.
    pub fn new(table: &v1::StateTable) -> Result<Self> {
        let table = Table::new(table)?;
        let pieces = table.key.iter().chain(&table.value);
        let columns = pieces
            .map(|piece| filler(piece, &table.schema))
            .collect::<Result<_>>()?;
        Ok(Self {
            table,
            columns,
            whole: Vec::new(),
            rows: 0,
        })
    }

    /// The rows' columns.
    pub fn schema(&self) -> &SchemaRef {
        &self.table.schema
    }

    /// The number of the table, by which entries are found.
    pub fn number(&self) -> u8 {
        self.table.number
    }

    /// Rows collected so far.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// None collected.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Takes an entry of the table's number; `false` if it is of another table with the same number.
    ///
    /// # Errors
    /// If the bytes are not as the description says.
    pub fn add(&mut self, group: KeyGroup, key: &[u8], value: &[u8]) -> Result<bool> {
        let Some(keys) = cut(&self.table.key, key)? else {
            return Ok(false);
        };
        // The version in front of a value is one of the constants.
        let values = cut(&self.table.value, value)?.ok_or_else(broken_entry)?;
        let pieces = self.table.key.iter().chain(&self.table.value);
        let mut rows = 1;
        for ((piece, bytes), filler) in pieces
            .zip(keys.into_iter().chain(values))
            .zip(&mut self.columns)
        {
            match (piece.encoding, filler) {
                (StateEncoding::ArrowStream, _) => {
                    let batches = read_stream(bytes, &self.table.schema)?;
                    rows = batches.iter().map(RecordBatch::num_rows).sum();
                    self.whole.extend(batches);
                }
                (StateEncoding::KeyGroup, Filler::One(column)) => column.push_int(i64::from(group)),
                (encoding, Filler::One(column)) => column.push(encoding, bytes)?,
                (StateEncoding::SizedRowKey, Filler::Keys(_, keys)) => {
                    keys.push(behind_length(bytes)?.to_vec());
                }
                (_, Filler::Keys(_, keys)) => keys.push(bytes.to_vec()),
                (_, Filler::Bits(columns)) => {
                    for (index, column) in columns.iter_mut().enumerate() {
                        column.push_int(i64::from(bytes[index / 8] >> (index % 8) & 1));
                    }
                }
                (_, Filler::Nothing) => {}
            }
        }
        self.rows += rows;
        Ok(true)
    }

    /// The rows collected since the last call.
    ///
    /// # Errors
    /// If a key or a text can't be decoded.
    pub fn finish(&mut self) -> Result<RecordBatch> {
        let rows = std::mem::take(&mut self.rows);
        if self.reads_streams() {
            let whole = std::mem::take(&mut self.whole);
            return Ok(concat_batches(&self.table.schema, &whole)?);
        }
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.table.schema.fields().len());
        for filler in &mut self.columns {
            let data_type = |at: usize| self.table.schema.field(at).data_type();
            match filler {
                Filler::Nothing => {}
                Filler::One(column) => columns.push(column.finish(data_type(columns.len()))?),
                Filler::Keys(encoder, keys) => {
                    let keys = std::mem::take(keys);
                    let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
                    columns.extend(encoder.decode(&keys)?);
                }
                Filler::Bits(bits) => {
                    for column in bits {
                        columns.push(column.finish(&DataType::Boolean)?);
                    }
                }
            }
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(
            Arc::clone(&self.table.schema),
            columns,
            &options,
        )?)
    }

    fn reads_streams(&self) -> bool {
        let last = self.table.value.last();
        last.is_some_and(|piece| piece.encoding == StateEncoding::ArrowStream)
    }
}

fn filler(piece: &Piece, schema: &SchemaRef) -> Result<Filler> {
    let columns: Vec<usize> = (piece.first..piece.first + piece.columns).collect();
    Ok(match piece.encoding {
        StateEncoding::Constant | StateEncoding::Ignored | StateEncoding::ArrowStream => {
            Filler::Nothing
        }
        StateEncoding::RowKey | StateEncoding::SizedRowKey => {
            Filler::Keys(KeyEncoder::new(schema, &columns)?, Vec::new())
        }
        StateEncoding::Bits => {
            let bit = |_| Growing::new(StateEncoding::Varint);
            Filler::Bits(columns.into_iter().map(bit).collect())
        }
        encoding => Filler::One(Growing::new(encoding)),
    })
}

/// The rows of an Arrow stream, under the names of `schema`.
pub(crate) fn read_stream(bytes: &[u8], schema: &SchemaRef) -> Result<Vec<RecordBatch>> {
    let mut batches = Vec::new();
    for batch in StreamReader::try_new(bytes, None)? {
        let columns = batch?.columns().to_vec();
        batches.push(RecordBatch::try_new(Arc::clone(schema), columns)?);
    }
    Ok(batches)
}
