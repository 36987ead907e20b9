//! Rows to records with keys.

use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::datatypes::{Schema, SchemaRef};
use weir_dataflow::{Batch, Result, RowKind};

use super::record::{Part, RecordFormat};
use crate::format::{EncodedRecords, Encoder, Format};

/// One part of each record.
struct PartEncoder {
    part: Part,
    encoder: Box<dyn Encoder>,
}

/// Encodes batches.
pub struct RecordEncoder {
    key: Option<PartEncoder>,
    value: PartEncoder,
    is_upsert: bool,
}

/// Records that wait to be sent.
#[derive(Default)]
pub struct Records {
    keys: Option<EncodedRecords>,
    values: EncodedRecords,
    /// Whether a record has a value; empty: all have.
    has_value: Vec<bool>,
}

impl PartEncoder {
    fn new(format: &Format, part: Part) -> Result<Self> {
        Ok(Self {
            encoder: format.encoder(&part.schema)?,
            part,
        })
    }

    fn encode(&mut self, batch: &Batch, out: &mut EncodedRecords) -> Result<()> {
        let columns = self.part.columns.iter();
        let columns = columns.map(|index| Arc::clone(batch.data().column(*index)));
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        // The rows' own fields: what they say of NULLs is of no interest to an encoder.
        let schema = nullable(&self.part.schema);
        let data = RecordBatch::try_new_with_options(schema, columns.collect(), &options)?;
        self.encoder.encode(&batch.with_data(data)?, out)
    }
}

fn nullable(schema: &SchemaRef) -> SchemaRef {
    let fields = schema.fields().iter();
    let fields = fields.map(|field| field.as_ref().clone().with_nullable(true));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

impl RecordEncoder {
    /// For rows of `schema`.
    pub fn new(format: &RecordFormat, schema: &SchemaRef) -> Result<Self> {
        let key = format.key.as_ref().map(|key| {
            let part = format.key_part(schema);
            PartEncoder::new(key, part)
        });
        Ok(Self {
            key: key.transpose()?,
            value: PartEncoder::new(&format.value, format.value_part(schema))?,
            is_upsert: format.is_upsert,
        })
    }

    /// Appends one record a row. Of upserts, those that take a row away have no value; a `-U` before the `+U` of its key is left out.
    pub fn encode(&mut self, batch: &Batch, out: &mut Records) -> Result<()> {
        let mut keys = EncodedRecords::default();
        if let Some(key) = &mut self.key {
            key.encode(batch, &mut keys)?;
        }
        let left = match batch.kinds() {
            Some(kinds) if self.is_upsert => Some(without_replaced(kinds, &keys)),
            _ => None,
        };
        let Some(left) = left.filter(|left| left.len() < batch.num_rows()) else {
            return self.append(batch, keys.iter(), out);
        };
        let rows = batch.take(&UInt32Array::from(left.clone()))?;
        let keys = left.iter().filter_map(|row| keys.get(*row as usize));
        self.append(&rows, keys, out)
    }

    fn append<'k>(
        &mut self,
        batch: &Batch,
        keys: impl Iterator<Item = &'k [u8]>,
        out: &mut Records,
    ) -> Result<()> {
        let before = out.values.ends.len();
        if self.key.is_some() {
            let all = out.keys.get_or_insert_default();
            for key in keys {
                all.bytes.extend_from_slice(key);
                all.ends.push(all.bytes.len());
            }
        }
        self.value.encode(batch, &mut out.values)?;
        if self.is_upsert && (batch.kinds().is_some() || !out.has_value.is_empty()) {
            out.has_value.resize(before, true);
            let kinds = (0..batch.num_rows()).map(|row| !batch.kind(row).is_retraction());
            out.has_value.extend(kinds);
        }
        Ok(())
    }
}

/// The rows but for each `-U` that a `+U` with the same key follows at once.
fn without_replaced(kinds: &[RowKind], keys: &EncodedRecords) -> Vec<u32> {
    let is_replaced = |row: usize| {
        kinds.get(row) == Some(&RowKind::UpdateBefore)
            && kinds.get(row + 1) == Some(&RowKind::UpdateAfter)
            && keys.get(row) == keys.get(row + 1)
    };
    let rows = (0..kinds.len()).filter(|row| !is_replaced(*row));
    rows.map(|row| row as u32).collect()
}

impl Records {
    /// Number of records.
    pub fn len(&self) -> usize {
        self.values.ends.len()
    }

    /// Key and value of a record; `None`: it has none.
    pub fn record(&self, index: usize) -> (Option<&[u8]>, Option<&[u8]>) {
        let key = self.keys.as_ref().and_then(|keys| keys.get(index));
        let has_value = self.has_value.get(index).copied().unwrap_or(true);
        (key, has_value.then(|| self.values.get(index)).flatten())
    }

    /// Empties it and keeps the memory.
    pub fn clear(&mut self) {
        if let Some(keys) = &mut self.keys {
            keys.clear();
        }
        self.values.clear();
        self.has_value.clear();
    }
}
