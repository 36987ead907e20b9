//! Apache Kafka: topics as tables, through librdkafka; what it can't do (ending a transaction that a dead producer left) through the
//! protocol itself.
//!
//! Guarantees: the source keeps offsets in the snapshot; the sink is at-least-once, or exactly-once by one transaction a checkpoint.

mod committer;
mod fetcher;
mod options;
mod protocol;
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
use crate::format::Format;
use crate::options::OptionReader;
use crate::registry::{SinkDescription, SourceDescription};
use options::{Guarantee, SinkOptions, SourceOptions, Stop};

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
) -> Result<SourceDescription> {
    let options = SourceOptions::read(&reader)?;
    let format = format(&reader)?;
    let (stored, _) = source::physical(schema);
    let stored = Arc::new(stored);
    format.decoder(&stored, &stored)?;
    reader.finish()?;
    Ok(SourceDescription {
        bounded: !matches!(options.stop, Stop::Never),
        emits_updates: format.emits_updates(),
        metadata: metadata(),
    })
}

pub(crate) fn describe_sink(reader: OptionReader<'_>, schema: &Schema) -> Result<SinkDescription> {
    let options = SinkOptions::read(&reader)?;
    let format = format(&reader)?;
    format.encoder(&Arc::new(schema.clone()))?;
    reader.finish()?;
    Ok(SinkDescription {
        accepts: format.accepts(),
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

/// The format of the value: 'value.format', or 'format' for short.
fn format(reader: &OptionReader<'_>) -> Result<Format> {
    match Format::read(reader, "value.")? {
        Some(format) => Ok(format),
        None => Format::required(reader, ""),
    }
}

fn external(message: impl Into<String>) -> Error {
    Error::External {
        system: "kafka",
        message: message.into(),
    }
}
