//! Records with keys to rows.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::{concat, take};
use arrow::datatypes::SchemaRef;
use weir_dataflow::{Result, RowKind};

use super::raw_records::RawRecords;
use super::record::RecordFormat;
use crate::format::{DecodeError, Decoded, Decoder};

/// One part of each record.
struct PartDecoder {
    /// Where its columns stand in the rows.
    columns: Vec<usize>,
    decoder: Box<dyn Decoder>,
}

/// Decodes records into rows with the physical columns that are read.
pub struct RecordDecoder {
    schema: SchemaRef,
    key: Option<PartDecoder>,
    value: PartDecoder,
    is_upsert: bool,
}

/// A row of the result, by the row of each part that it is made of.
struct Picked {
    key: Option<u32>,
    value: Option<u32>,
    record: u32,
    kind: RowKind,
}

impl RecordDecoder {
    /// `read`: the physical columns that are wanted; `table`: all of them.
    pub fn new(format: &RecordFormat, read: &SchemaRef, table: &SchemaRef) -> Result<Self> {
        let value = format.value_part(read);
        let key = format.key.as_ref().map(|key| {
            let part = format.key_part(read);
            let decoder = key.decoder(&part.schema, &format.key_part(table).schema);
            decoder.map(|decoder| PartDecoder {
                columns: part.columns,
                decoder,
            })
        });
        let decoder = format
            .value
            .decoder(&value.schema, &format.value_part(table).schema)?;
        Ok(Self {
            schema: Arc::clone(read),
            key: key.transpose()?,
            value: PartDecoder {
                columns: value.columns,
                decoder,
            },
            is_upsert: format.is_upsert,
        })
    }

    /// Whether records are to be fetched with their keys.
    pub fn reads_keys(&self) -> bool {
        self.key.is_some()
    }

    /// The rows; which record each came from is always told.
    ///
    /// # Errors
    /// With the record's index.
    pub fn decode(&mut self, records: &RawRecords) -> std::result::Result<Decoded, DecodeError> {
        let values = decode_part(&mut self.value, records, RawRecords::payload)?;
        let Some(key) = &mut self.key else {
            return Ok(values);
        };
        let keys = decode_part(key, records, RawRecords::key)?;
        let picked = self.pick(records, &keys, &values);
        // A record without a key has no rows, as in Flink.
        let missing = records.len() - distinct(&keys);
        let columns = self.assemble(&keys.columns, &values.columns, &picked);
        let columns = columns.map_err(|error| DecodeError {
            record: 0,
            reason: error.to_string(),
        })?;
        let kinds = picked.iter().map(|row| row.kind);
        let has_kinds = self.is_upsert || values.kinds.is_some();
        Ok(Decoded {
            columns,
            kinds: has_kinds.then(|| kinds.collect()),
            record_of_row: Some(picked.iter().map(|row| row.record).collect()),
            skipped: values.skipped + missing as u64,
        })
    }

    fn pick(&self, records: &RawRecords, keys: &Decoded, values: &Decoded) -> Vec<Picked> {
        let of = |decoded: &Decoded, row: usize| {
            let records = decoded.record_of_row.as_ref();
            records.and_then(|records| records.get(row)).copied()
        };
        let mut picked = Vec::with_capacity(records.len());
        let mut value = 0;
        for key in 0..keys.columns.num_rows() {
            let Some(record) = of(keys, key) else { break };
            while of(values, value).is_some_and(|other| other < record) {
                value += 1;
            }
            let row = |value: Option<usize>, kind| Picked {
                key: Some(key as u32),
                value: value.map(|value| value as u32),
                record,
                kind,
            };
            if self.is_upsert && records.payload(record as usize).is_none() {
                picked.push(row(None, RowKind::Delete));
            }
            let mut of_record = value;
            while of(values, of_record) == Some(record) {
                let kind = match &values.kinds {
                    Some(kinds) => kinds.get(of_record).copied().unwrap_or(RowKind::Insert),
                    None if self.is_upsert => RowKind::UpdateAfter,
                    None => RowKind::Insert,
                };
                picked.push(row(Some(of_record), kind));
                of_record += 1;
            }
        }
        picked
    }

    fn assemble(
        &self,
        keys: &RecordBatch,
        values: &RecordBatch,
        picked: &[Picked],
    ) -> std::result::Result<RecordBatch, arrow::error::ArrowError> {
        let key_rows: UInt32Array = picked.iter().map(|row| row.key).collect();
        let value_rows: UInt32Array = picked.iter().map(|row| row.value).collect();
        let mut columns: Vec<Option<ArrayRef>> = vec![None; self.schema.fields().len()];
        for (place, column) in self.value.columns.iter().zip(values.columns()) {
            columns[*place] = Some(take(column, &value_rows, None)?);
        }
        let key_places = self.key.iter().flat_map(|key| &key.columns);
        for (place, column) in key_places.zip(keys.columns()) {
            let slot = &mut columns[*place];
            *slot = Some(match slot.take() {
                None => take(column, &key_rows, None)?,
                // It stands in the value as well, which counts where there is one.
                Some(value) if value_rows.null_count() == 0 => value,
                Some(value) => {
                    let both = concat(&[value.as_ref(), column.as_ref()])?;
                    let rows = (0u32..).zip(picked).map(|(row, from)| match from.value {
                        Some(_) => Some(row),
                        None => from.key.map(|key| key + picked.len() as u32),
                    });
                    take(&both, &rows.collect::<UInt32Array>(), None)?
                }
            });
        }
        let nullable = self.schema.fields().iter().map(|field| {
            // What a deletion does not know is NULL, whatever the table says.
            field.as_ref().clone().with_nullable(true)
        });
        let schema = Arc::new(arrow::datatypes::Schema::new(nullable.collect::<Vec<_>>()));
        let options = RecordBatchOptions::new().with_row_count(Some(picked.len()));
        let columns = columns.into_iter().flatten().collect();
        RecordBatch::try_new_with_options(schema, columns, &options)
    }
}

/// Records of which there are rows, if these are in the order of their records.
fn distinct(decoded: &Decoded) -> usize {
    let mut records = decoded.record_of_row.clone().unwrap_or_default();
    records.dedup();
    records.len()
}

/// Decodes one part of those records that have it.
fn decode_part(
    part: &mut PartDecoder,
    records: &RawRecords,
    bytes: impl Fn(&RawRecords, usize) -> Option<&[u8]>,
) -> std::result::Result<Decoded, DecodeError> {
    let present: Vec<usize> = (0..records.len())
        .filter(|index| bytes(records, *index).is_some())
        .collect();
    let parts: Vec<&[u8]> = present
        .iter()
        .filter_map(|index| bytes(records, *index))
        .collect();
    let record = |index: usize| present.get(index).copied().unwrap_or_default();
    let mut decoded = part.decoder.decode(&parts).map_err(|error| DecodeError {
        record: record(error.record),
        ..error
    })?;
    let rows = decoded.columns.num_rows();
    decoded.record_of_row = Some(match decoded.record_of_row {
        Some(origins) => origins
            .iter()
            .map(|origin| record(*origin as usize) as u32)
            .collect(),
        None => (0..rows).map(|row| record(row) as u32).collect(),
    });
    Ok(decoded)
}
