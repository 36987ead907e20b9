//! `raw`: the record is the value of the table's only column.

use std::sync::Arc;

use arrow::datatypes::{Field, SchemaRef};
use weir_dataflow::{Batch, Error, Result};

use super::cells::{Cells, Exact};
use super::column::{Column, Values};
use super::json::columns_of;
use super::{DecodeError, Decoded, Decoder, EncodedRecords, Encoder};
use crate::options::OptionReader;

/// The options `raw.*`.
#[derive(Debug, Clone)]
pub(crate) struct RawOptions {
    little_endian: bool,
}

impl RawOptions {
    pub(crate) fn read(options: &OptionReader<'_>, prefix: &str) -> Result<Self> {
        options.choice(&format!("{prefix}charset"), &["UTF-8"])?;
        let key = format!("{prefix}endianness");
        let endianness = options.choice(&key, &["big-endian", "little-endian"])?;
        Ok(Self {
            little_endian: endianness == Some("little-endian"),
        })
    }
}

fn only_column(schema: &SchemaRef) -> Result<&Arc<Field>> {
    match schema.fields().as_ref() {
        [field] => match Column::new(field)?.values {
            Values::Text(_)
            | Values::Binary(_)
            | Values::Boolean(_)
            | Values::Int8(_)
            | Values::Int16(_)
            | Values::Int32(_)
            | Values::Int64(_)
            | Values::Float32(_)
            | Values::Float64(_) => Ok(field),
            _ => Err(Error::Config(format!(
                "format 'raw' cannot hold column '{}': it holds STRING, BYTES, BOOLEAN and the numbers without DECIMAL",
                field.name()
            ))),
        },
        fields => Err(Error::Config(format!(
            "format 'raw' is for tables with one physical column; this one has {}",
            fields.len()
        ))),
    }
}

/// Reads records into one column.
pub(crate) struct RawDecoder {
    schema: SchemaRef,
    column: Option<Column>,
    little_endian: bool,
}

impl RawDecoder {
    pub(crate) fn new(read: SchemaRef, table: &SchemaRef, options: &RawOptions) -> Result<Self> {
        only_column(table)?;
        let column = read.fields().first().map(Column::new).transpose()?;
        Ok(Self {
            schema: read,
            column,
            little_endian: options.little_endian,
        })
    }
}

fn number<const N: usize>(record: &[u8], little_endian: bool) -> Option<[u8; N]> {
    let mut bytes: [u8; N] = record.try_into().ok()?;
    if little_endian {
        bytes.reverse();
    }
    Some(bytes)
}

fn append(column: &mut Column, record: &[u8], little: bool) -> Option<()> {
    match &mut column.values {
        Values::Text(texts) => texts.push(std::str::from_utf8(record).ok()?.as_bytes()),
        Values::Binary(bytes) => bytes.push(record),
        Values::Boolean(values) => values.push(number::<1>(record, little)? != [0]),
        Values::Int8(values) => values.push(i8::from_be_bytes(number(record, little)?)),
        Values::Int16(values) => values.push(i16::from_be_bytes(number(record, little)?)),
        Values::Int32(values) => values.push(i32::from_be_bytes(number(record, little)?)),
        Values::Int64(values) => values.push(i64::from_be_bytes(number(record, little)?)),
        Values::Float32(values) => values.push(f32::from_be_bytes(number(record, little)?)),
        Values::Float64(values) => values.push(f64::from_be_bytes(number(record, little)?)),
        _ => return None,
    }
    column.set_valid();
    Some(())
}

impl Decoder for RawDecoder {
    fn decode(&mut self, records: &[&[u8]]) -> std::result::Result<Decoded, DecodeError> {
        let mut arrays = Vec::new();
        if let Some(column) = &mut self.column {
            for (index, record) in records.iter().enumerate() {
                if append(column, record, self.little_endian).is_none() {
                    column.truncate(0);
                    return Err(DecodeError {
                        record: index,
                        reason: format!(
                            "{} bytes are not a value of type {}",
                            record.len(),
                            column.type_name()
                        ),
                    });
                }
            }
            arrays.push(column.finish().map_err(|error| DecodeError {
                record: 0,
                reason: error.to_string(),
            })?);
        }
        super::decoded(&self.schema, arrays, records.len())
    }
}

/// Writes the only column.
pub(crate) struct RawEncoder {
    little_endian: bool,
}

impl RawEncoder {
    pub(crate) fn new(schema: &SchemaRef, options: &RawOptions) -> Result<Self> {
        only_column(schema)?;
        Ok(Self {
            little_endian: options.little_endian,
        })
    }

    fn number<const N: usize>(&self, out: &mut Vec<u8>, mut bytes: [u8; N]) {
        if self.little_endian {
            bytes.reverse();
        }
        out.extend_from_slice(&bytes);
    }
}

impl Encoder for RawEncoder {
    fn encode(&mut self, batch: &Batch, out: &mut EncodedRecords) -> Result<()> {
        let columns = columns_of(batch)?;
        let Some(column) = columns.first() else {
            return Ok(());
        };
        for row in 0..batch.num_rows() {
            let bytes = &mut out.bytes;
            match &column.cells {
                _ if column.is_null(row) => {}
                Cells::Text(values) => bytes.extend_from_slice(values.value(row).as_bytes()),
                Cells::Binary(values) => bytes.extend_from_slice(values.value(row)),
                Cells::Exact(Exact::Boolean(values)) => bytes.push(u8::from(values.value(row))),
                Cells::Exact(Exact::Int8(values)) => {
                    self.number(bytes, values.value(row).to_be_bytes())
                }
                Cells::Exact(Exact::Int16(values)) => {
                    self.number(bytes, values.value(row).to_be_bytes())
                }
                Cells::Exact(Exact::Int32(values)) => {
                    self.number(bytes, values.value(row).to_be_bytes())
                }
                Cells::Exact(Exact::Int64(values)) => {
                    self.number(bytes, values.value(row).to_be_bytes())
                }
                Cells::Float32(values) => self.number(bytes, values.value(row).to_be_bytes()),
                Cells::Float64(values) => self.number(bytes, values.value(row).to_be_bytes()),
                _ => return Err(Error::Internal("format 'raw': unexpected type".to_owned())),
            }
            out.ends.push(out.bytes.len());
        }
        Ok(())
    }
}
