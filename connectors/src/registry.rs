//! Which connectors there are. The one place where a connector's name is turned into code.

use std::collections::BTreeMap;

use arrow::datatypes::Schema;
use weir_dataflow::types::LogicalType;
use weir_dataflow::{Error, Result, SinkWriter, SourceReader};
use weir_proto::v1;

use crate::context::{SinkContext, SourceContext};
use crate::layout::refuse_partitions;
use crate::options::{OptionReader, nearest, quoted};
use crate::throttle::{self, Throttle};
use crate::{blackhole, collect, datagen, filesystem, kafka, nexmark, print, savepoint};

const SOURCES: &[&str] = &[
    "datagen",
    "filesystem",
    "kafka",
    "nexmark",
    "savepoint",
    "upsert-kafka",
];
/// 'collect' is left out: no user names it.
const SINKS: &[&str] = &["blackhole", "filesystem", "kafka", "print", "upsert-kafka"];

/// Names that users bring from Flink and that have nothing behind them here.
const UNSUPPORTED: &[&str] = &[
    "dynamodb",
    "elasticsearch-7",
    "firehose",
    "iceberg",
    "jdbc",
    "kinesis",
    "kinesis-legacy",
    "lambda",
    "mongodb",
    "opensearch",
    "savepoint",
];

/// What the planner must know of a source.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceDescription {
    /// Ends by itself.
    pub bounded: bool,
    /// Its rows may be other than `+I`.
    pub emits_updates: bool,
    /// Its rows are `+U` and `-D` by primary key, where `+U` may be the first of its key and `-D` knows the key only.
    pub emits_upserts: bool,
    /// The metadata columns that it can deliver: key and type.
    pub metadata: Vec<(String, LogicalType)>,
}

/// Which changelogs a sink can be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepts {
    /// `+I` only.
    InsertOnly,
    /// `+I`, `+U` and `-D` by primary key; `-U` rows are not needed and may be left out.
    Upsert,
    /// Everything, `-U` included.
    All,
}

/// What the planner must know of a sink.
#[derive(Debug, Clone, PartialEq)]
pub struct SinkDescription {
    /// The changelogs that it takes.
    pub accepts: Accepts,
    /// Rows become visible by the commit of a checkpoint, each exactly once.
    pub transactional: bool,
}

/// Validates all options of a table that is read. `schema` has its physical and metadata columns, `primary_key` places in it. No I/O.
///
/// # Errors
/// [`Error::Config`], naming the option.
pub fn describe_source(
    connector: &str,
    options: &BTreeMap<String, String>,
    schema: &Schema,
    primary_key: &[u32],
) -> Result<SourceDescription> {
    let reader = OptionReader::new(connector, options);
    if connector != "filesystem" {
        refuse_partitions(connector, schema)?;
    }
    match connector {
        "datagen" => datagen::describe(reader, schema),
        "filesystem" => filesystem::describe_source(reader, schema),
        "kafka" | "upsert-kafka" => kafka::describe_source(reader, schema, primary_key),
        "nexmark" => nexmark::describe(reader, schema),
        "savepoint" => savepoint::describe(reader, schema),
        _ => Err(unknown(connector, "read from", SOURCES, SINKS)),
    }
}

/// Validates all options of a table that is written to. No I/O.
///
/// # Errors
/// [`Error::Config`], naming the option.
pub fn describe_sink(
    connector: &str,
    options: &BTreeMap<String, String>,
    schema: &Schema,
    primary_key: &[u32],
) -> Result<SinkDescription> {
    let reader = OptionReader::new(connector, options);
    throttle::rows_per_second(&reader)?;
    if connector != "filesystem" {
        refuse_partitions(connector, schema)?;
    }
    match connector {
        "blackhole" => blackhole::describe(reader),
        "collect" => collect::describe(reader),
        "filesystem" => filesystem::describe_sink(reader, schema),
        "kafka" | "upsert-kafka" => kafka::describe_sink(reader, schema, primary_key),
        "print" => print::describe(reader),
        _ => Err(unknown(connector, "written to", SINKS, SOURCES)),
    }
}

/// A reader for one subtask.
///
/// # Errors
/// [`Error::Config`] as [`describe_source`], [`Error::Restore`] for states that do not fit, [`Error::External`] where the system can't be reached.
pub fn open_source(spec: &v1::Source, context: SourceContext) -> Result<Box<dyn SourceReader>> {
    let reader = OptionReader::new(&spec.connector, &spec.options);
    match spec.connector.as_str() {
        "datagen" => datagen::open(spec, context),
        "filesystem" => filesystem::open_source(reader, spec, context),
        "kafka" | "upsert-kafka" => kafka::open_source(spec, context),
        "nexmark" => nexmark::open(reader, context),
        "savepoint" => savepoint::open(reader, context),
        _ => Err(unknown(&spec.connector, "read from", SOURCES, SINKS)),
    }
}

/// A writer for one subtask.
///
/// # Errors
/// As [`open_source`].
pub fn open_sink(spec: &v1::Sink, context: SinkContext) -> Result<Box<dyn SinkWriter>> {
    let reader = OptionReader::new(&spec.connector, &spec.options);
    match throttle::rows_per_second(&reader)? {
        None => open_unlimited(spec, context),
        Some(limit) => {
            let mut spec = spec.clone();
            spec.options.remove(throttle::ROWS_PER_SECOND);
            let writer = open_unlimited(&spec, context.clone())?;
            Ok(Box::new(Throttle::new(writer, limit, &context)))
        }
    }
}

fn open_unlimited(spec: &v1::Sink, context: SinkContext) -> Result<Box<dyn SinkWriter>> {
    let reader = OptionReader::new(&spec.connector, &spec.options);
    match spec.connector.as_str() {
        "blackhole" => blackhole::open(reader),
        "collect" => collect::open(reader, &context),
        "filesystem" => filesystem::open_sink(reader, context),
        "kafka" | "upsert-kafka" => kafka::open_sink(spec, context),
        "print" => print::open(reader, &context),
        _ => Err(unknown(&spec.connector, "written to", SINKS, SOURCES)),
    }
}

fn unknown(connector: &str, verb: &str, known: &[&str], other_way: &[&str]) -> Error {
    let listed = quoted(known.iter().copied());
    if other_way.contains(&connector) {
        return Error::Config(format!(
            "connector '{connector}' cannot be {verb}; the ones that can: {listed}"
        ));
    }
    if UNSUPPORTED.contains(&connector) {
        return Error::Config(format!(
            "connector '{connector}' is not supported yet; the ones that can be {verb}: {listed}"
        ));
    }
    let hint = nearest(connector, known.iter().copied())
        .map(|near| format!("; did you mean '{near}'?"))
        .unwrap_or_default();
    Error::Config(format!(
        "there is no connector '{connector}' that can be {verb}{hint}; the ones that can: {listed}"
    ))
}
