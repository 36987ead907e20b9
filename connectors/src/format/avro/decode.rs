//! Avro records to columns.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::SchemaRef;
use arrow_avro::reader::{Decoder as RecordDecoder, ReaderBuilder};
use arrow_avro::schema::{AvroSchema, Fingerprint, FingerprintAlgorithm, SchemaStore};
use weir_dataflow::{Error, Result};

use super::super::{DecodeError, Decoded, Decoder, decoded};
use super::{TimestampMapping, schema};

/// The library reads records behind a header that names their schema; this one is put before each.
const HEADER: [u8; 5] = [0, 0, 0, 0, 1];
const SCHEMA_ID: u32 = 1;
/// Rows that the library collects before it wants to be emptied; more than a poll has.
const MAX_ROWS: usize = 1 << 20;

/// Reads records that were all written with the table's schema.
pub(super) struct AvroDecoder {
    schema: SchemaRef,
    builder: Box<dyn Fn() -> Result<RecordDecoder> + Send>,
    records: RecordDecoder,
    /// A header and a record.
    framed: Vec<u8>,
}

impl AvroDecoder {
    pub(super) fn new(
        read: &SchemaRef,
        table: &SchemaRef,
        mapping: TimestampMapping,
    ) -> Result<Self> {
        let writer = schema::of_table(table, mapping)?;
        let reader = schema::of_table(read, mapping)?;
        let builder = move || build(&writer, &reader);
        Ok(Self {
            schema: Arc::clone(read),
            records: builder()?,
            builder: Box::new(builder),
            framed: Vec::new(),
        })
    }

    fn read(&mut self, records: &[&[u8]]) -> std::result::Result<Vec<ArrayRef>, DecodeError> {
        for (index, record) in records.iter().enumerate() {
            let failed = |reason: String| DecodeError {
                record: index,
                reason,
            };
            self.framed.clear();
            self.framed.extend_from_slice(&HEADER);
            self.framed.extend_from_slice(record);
            let room = self.records.capacity();
            let taken = self.records.decode(&self.framed).map_err(|error| {
                failed(format!(
                    "it is no Avro record of the table's schema: {error}"
                ))
            })?;
            if taken < self.framed.len() || self.records.capacity() + 1 != room {
                return Err(failed(format!(
                    "it is no Avro record of the table's schema: its {} bytes are too many or too few",
                    record.len()
                )));
            }
        }
        self.finish().map_err(|error| DecodeError {
            record: 0,
            reason: error,
        })
    }

    fn finish(&mut self) -> std::result::Result<Vec<ArrayRef>, String> {
        let Some(batch) = self.records.flush().map_err(|error| error.to_string())? else {
            return Ok(empty(&self.schema));
        };
        let exact = CastOptions {
            safe: false,
            ..CastOptions::default()
        };
        let columns = batch.columns().iter().zip(self.schema.fields());
        columns
            .map(|(column, field)| {
                cast_with_options(column, field.data_type(), &exact)
                    .map_err(|error| format!("field '{}': {error}", field.name()))
            })
            .collect()
    }
}

fn empty(schema: &SchemaRef) -> Vec<ArrayRef> {
    let fields = schema.fields().iter();
    fields
        .map(|field| arrow::array::new_empty_array(field.data_type()))
        .collect()
}

fn build(writer: &str, reader: &str) -> Result<RecordDecoder> {
    let failed =
        |error: arrow::error::ArrowError| Error::Internal(format!("format 'avro': {error}"));
    let mut store = SchemaStore::new_with_type(FingerprintAlgorithm::Id);
    store
        .set(
            Fingerprint::Id(SCHEMA_ID),
            AvroSchema::new(writer.to_owned()),
        )
        .map_err(failed)?;
    ReaderBuilder::new()
        .with_writer_schema_store(store)
        .with_reader_schema(AvroSchema::new(reader.to_owned()))
        .with_batch_size(MAX_ROWS)
        .build_decoder()
        .map_err(failed)
}

impl Decoder for AvroDecoder {
    fn decode(&mut self, records: &[&[u8]]) -> std::result::Result<Decoded, DecodeError> {
        let arrays = self.read(records);
        if arrays.is_err() {
            // What the library has read of the broken record can't be taken back.
            match (self.builder)() {
                Ok(fresh) => self.records = fresh,
                Err(error) => {
                    return Err(DecodeError {
                        record: 0,
                        reason: error.to_string(),
                    });
                }
            }
        }
        decoded(&self.schema, arrays?, records.len())
    }
}
