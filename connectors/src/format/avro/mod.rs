//! `avro`: a record is the Avro binary encoding of a row, without any header. The schema is that of the table, as Flink derives it
//! ([`schema`]), so whoever wrote the records must have written them with the same one. In files the records stand in an object container,
//! see `container`.

mod decode;
mod encode;
mod schema;

use arrow::datatypes::SchemaRef;
use arrow_avro::compression::CompressionCodec;
pub(crate) use encode::{encodable, file_schema};
pub(crate) use schema::with_names_of;
use weir_dataflow::{Error, Result};

use super::{Decoder, Encoder};
use crate::options::OptionReader;

/// Values of 'avro.codec', those that are not built included.
const CODECS: &[&str] = &["snappy", "null", "deflate", "zstandard", "bzip2", "xz"];

/// How TIMESTAMP and TIMESTAMP_LTZ lie in Avro.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TimestampMapping {
    /// TIMESTAMP is an instant in UTC (`timestamp-millis`); there is no TIMESTAMP_LTZ. Flink's default.
    Legacy,
    /// TIMESTAMP is `local-timestamp-*`, TIMESTAMP_LTZ is `timestamp-*`.
    Correct,
}

/// The options `avro.*`.
#[derive(Debug, Clone)]
pub(crate) struct AvroOptions {
    pub(crate) mapping: TimestampMapping,
    /// Of the blocks of a file.
    pub(crate) codec: Option<CompressionCodec>,
}

impl AvroOptions {
    pub(crate) fn read(options: &OptionReader<'_>, prefix: &str) -> Result<Self> {
        let encoding = format!("{prefix}encoding");
        if options.choice(&encoding, &["binary", "json"])? == Some("json") {
            return Err(Error::Config(format!(
                "option '{encoding}' = 'json' is not supported yet; 'binary' is"
            )));
        }
        let codec = format!("{prefix}codec");
        let codec = match options.choice(&codec, CODECS)? {
            None | Some("snappy") => Some(CompressionCodec::Snappy),
            Some("deflate") => Some(CompressionCodec::Deflate),
            Some("zstandard") => Some(CompressionCodec::ZStandard),
            Some("null") => None,
            Some(other) => {
                return Err(Error::Config(format!(
                    "option '{codec}' = '{other}' is not supported yet; 'snappy', 'deflate', 'zstandard' and 'null' are"
                )));
            }
        };
        let legacy = options.boolean(&format!("{prefix}timestamp_mapping.legacy"))?;
        Ok(Self {
            codec,
            mapping: if legacy.unwrap_or(true) {
                TimestampMapping::Legacy
            } else {
                TimestampMapping::Correct
            },
        })
    }

    /// The Avro schema of a table as JSON.
    ///
    /// # Errors
    /// For types that Avro has none for, with the column's name.
    pub(crate) fn schema_of(&self, table: &SchemaRef) -> Result<String> {
        schema::of_table(table, self.mapping)
    }

    pub(crate) fn decoder(&self, read: &SchemaRef, table: &SchemaRef) -> Result<Box<dyn Decoder>> {
        let decoder = decode::AvroDecoder::new(read, table, self.mapping)?;
        Ok(Box::new(decoder))
    }

    pub(crate) fn encoder(&self, schema: &SchemaRef) -> Result<Box<dyn Encoder>> {
        let encoder = encode::AvroEncoder::new(schema, self.mapping)?;
        Ok(Box::new(encoder))
    }
}

#[cfg(test)]
mod tests;
