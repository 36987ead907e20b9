//! Apache Kafka: topics as tables, through librdkafka; what it can't do (ending a transaction that a dead producer left) through the
//! protocol itself.
//!
//! Guarantees: the source keeps offsets in the snapshot; the sink is at-least-once, or exactly-once by one transaction a checkpoint.
//! `kafka` reads and writes values, and keys if it is told to; `upsert-kafka` reads and writes updates by key.

mod committer;
mod decode;
mod encode;
mod fetcher;
mod options;
mod protocol;
mod raw_records;
mod record;
#[cfg(test)]
mod record_tests;
mod sink;
mod source;
mod split;
mod transaction;

use std::sync::Arc;

use weir_dataflow::types::LogicalType;
use weir_dataflow::{Error, Result, SinkWriter, SourceReader};
use weir_proto::v1;

use arrow::datatypes::Schema;

use crate::context::{SinkContext, SourceContext};
use crate::options::OptionReader;
use crate::registry::{Accepts, SinkDescription, SourceDescription};
use decode::RecordDecoder;
use encode::RecordEncoder;
use options::{Guarantee, SinkOptions, SourceOptions, Stop};
use record::RecordFormat;

/// Metadata columns of a record.
fn metadata() -> Vec<(String, LogicalType)> {
    vec![
        ("topic".to_owned(), LogicalType::VarChar(u32::MAX)),
        ("partition".to_owned(), LogicalType::Int),
        ("offset".to_owned(), LogicalType::BigInt),
        ("timestamp".to_owned(), LogicalType::TimestampLtz(3)),
    ]
}

pub(crate) fn describe_source(
    reader: OptionReader<'_>,
    schema: &Schema,
    primary_key: &[u32],
) -> Result<SourceDescription> {
    let options = SourceOptions::read(&reader)?;
    let format = RecordFormat::read(&reader, schema, primary_key)?;
    let (stored, _) = source::physical(schema);
    let stored = Arc::new(stored);
    RecordDecoder::new(&format, &stored, &stored)?;
    reader.finish()?;
    Ok(SourceDescription {
        bounded: !matches!(options.stop, Stop::Never),
        emits_updates: format.value.emits_updates(),
        emits_upserts: format.is_upsert,
        metadata: metadata(),
    })
}

pub(crate) fn describe_sink(
    reader: OptionReader<'_>,
    schema: &Schema,
    primary_key: &[u32],
) -> Result<SinkDescription> {
    let options = SinkOptions::read(&reader)?;
    let format = RecordFormat::read(&reader, schema, primary_key)?;
    RecordEncoder::new(&format, &Arc::new(schema.clone()))?;
    reader.finish()?;
    Ok(SinkDescription {
        accepts: if format.is_upsert {
            Accepts::Upsert
        } else {
            format.value.accepts()
        },
        transactional: options.guarantee == Guarantee::ExactlyOnce,
    })
}

pub(crate) fn open_source(
    spec: &v1::Source,
    context: SourceContext,
) -> Result<Box<dyn SourceReader>> {
    Ok(Box::new(source::KafkaSource::open(spec, context)?))
}

pub(crate) fn open_sink(spec: &v1::Sink, context: SinkContext) -> Result<Box<dyn SinkWriter>> {
    sink::open(spec, context)
}

fn external(message: impl Into<String>) -> Error {
    Error::External {
        system: "kafka",
        message: message.into(),
    }
}
