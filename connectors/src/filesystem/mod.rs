//! `filesystem`: folders of files on this machine or on S3.
//!
//! Source: all files below the path, or one file; one file is one split, its state the byte behind the last record, or in a container
//! the number of rows that were read. Sink: part files that become visible
//! by the commit of a checkpoint, exactly once. Tables with PARTITIONED BY have a folder for each partition.

mod commit;
#[cfg(test)]
mod container_tests;
mod content;
mod framing;
mod options;
mod part;
mod partition;
#[cfg(test)]
mod partition_tests;
mod reader;
mod sink;
mod source;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use weir_dataflow::types::LogicalType;
use weir_dataflow::{Error, Result, SinkWriter, SourceReader};
use weir_proto::v1;
use weir_snapshot::SnapshotError;

use crate::context::{SinkContext, SourceContext};
use crate::layout::{Layout, check_metadata};
use crate::options::OptionReader;
use crate::registry::{SinkDescription, SourceDescription};
use options::{SinkOptions, SourceOptions};
use partition::Partitioner;

/// Metadata columns of a file.
fn metadata() -> Vec<(String, LogicalType)> {
    let string = LogicalType::VarChar(u32::MAX);
    vec![
        ("file.path".to_owned(), string.clone()),
        ("file.name".to_owned(), string),
        ("file.size".to_owned(), LogicalType::BigInt),
        (
            "file.modification-time".to_owned(),
            LogicalType::TimestampLtz(3),
        ),
    ]
}

pub(crate) fn describe_source(
    options: OptionReader<'_>,
    schema: &Schema,
) -> Result<SourceDescription> {
    let read = SourceOptions::read(options)?;
    let metadata = metadata();
    check_metadata("filesystem", schema, &metadata)?;
    partition::check(schema)?;
    let layout = Layout::new(&Arc::new(schema.clone()));
    match read.format.container() {
        Some(container) => container.check(layout.physical())?,
        None => {
            read.format.decoder(layout.physical(), layout.physical())?;
        }
    }
    Ok(SourceDescription {
        bounded: read.monitor_interval.is_none(),
        emits_updates: read.format.emits_updates(),
        emits_upserts: false,
        metadata,
    })
}

pub(crate) fn describe_sink(options: OptionReader<'_>, schema: &Schema) -> Result<SinkDescription> {
    let read = SinkOptions::read(options)?;
    let schema: SchemaRef = Arc::new(schema.clone());
    check_metadata("filesystem", &schema, &[])?;
    partition::check(&schema)?;
    let partitioner = Partitioner::new(&schema, read.default_partition.clone());
    if partitioner.schema().fields().is_empty() {
        return Err(Error::Config(
            "all columns are in PARTITIONED BY: nothing is left for the files".to_owned(),
        ));
    }
    content::Portions::new(&read.format, partitioner.schema())?;
    Ok(SinkDescription {
        accepts: read.format.accepts(),
        transactional: true,
    })
}

pub(crate) fn open_source(
    options: OptionReader<'_>,
    spec: &v1::Source,
    context: SourceContext,
) -> Result<Box<dyn SourceReader>> {
    let options = SourceOptions::read(options)?;
    Ok(Box::new(source::FileReader::open(options, spec, context)?))
}

pub(crate) fn open_sink(
    options: OptionReader<'_>,
    context: SinkContext,
) -> Result<Box<dyn SinkWriter>> {
    let options = SinkOptions::read(options)?;
    Ok(Box::new(sink::FileWriter::open(options, context)?))
}

fn external(error: SnapshotError) -> Error {
    match error {
        SnapshotError::Url { .. } => Error::Config(error.to_string()),
        error => Error::External {
            system: "filesystem",
            message: error.to_string(),
        },
    }
}
