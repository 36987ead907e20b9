//! Rows as bytes: the columns of the key, and the others.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Schema, SchemaRef};
use weir_dataflow::key::{EncodedKeys, KeyEncoder};
use weir_dataflow::{Error, Result};

/// Takes rows of one schema apart and puts them together again. Both parts have the encoding of keys.
#[derive(Debug, Clone)]
pub struct RowCodec {
    key: KeyEncoder,
    rest: KeyEncoder,
}

impl RowCodec {
    /// For rows of `schema` whose key are the columns `key`.
    ///
    /// # Errors
    /// If a column is not there.
    pub fn new(schema: &Schema, key: &[usize]) -> Result<Self> {
        let rest: Vec<usize> = (0..schema.fields().len())
            .filter(|column| !key.contains(column))
            .collect();
        Ok(Self {
            key: KeyEncoder::new(schema, key)?,
            rest: KeyEncoder::new(schema, &rest)?,
        })
    }

    /// Of the other columns nothing is kept.
    pub fn keys_only(schema: &Schema, key: &[usize]) -> Result<Self> {
        Ok(Self {
            key: KeyEncoder::new(schema, key)?,
            rest: KeyEncoder::new(schema, &[])?,
        })
    }

    /// Of the key's columns.
    pub fn key(&self) -> &KeyEncoder {
        &self.key
    }

    /// Everything but the key, for each row.
    pub fn encode(&self, batch: &RecordBatch, rows: &mut EncodedKeys) -> Result<()> {
        self.rest.encode_into(batch, rows)
    }

    /// Columns of rows, in the order of the schema.
    pub fn decode(&self, keys: &[&[u8]], rows: &[&[u8]]) -> Result<Vec<ArrayRef>> {
        let places = self.key.columns().iter().chain(self.rest.columns());
        let decoded = self.key.decode(keys)?.into_iter();
        let decoded = decoded.chain(self.rest.decode(rows)?);
        let width = places.clone().max().map_or(0, |last| last + 1);
        let mut columns: Vec<Option<ArrayRef>> = vec![None; width];
        for (place, column) in places.zip(decoded) {
            columns[*place] = Some(column);
        }
        let missing = || Error::Internal("a row's column is not there".to_owned());
        columns
            .into_iter()
            .map(|column| column.ok_or_else(missing))
            .collect()
    }

    /// The layout in words.
    pub fn fingerprint(&self) -> String {
        let types = |encoder: &KeyEncoder| {
            let types: Vec<String> = encoder.types().iter().map(ToString::to_string).collect();
            types.join(", ")
        };
        format!("keys ({}), rows ({})", types(&self.key), types(&self.rest))
    }
}

/// Columns as rows of `schema`, however few columns there are.
pub fn rows_of(schema: &SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(
        Arc::clone(schema),
        columns,
        &options,
    )?)
}
