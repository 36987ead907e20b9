//! From a query's syntax tree to the graph of a job.
//!
//! The way: names and types are resolved into relations (`query`, `from`, `select_aggregate` on `scope` and `expr`), these are rewritten
//! (`optimize`, `prune`, `share`), become operators with exchanges between them (`lower`), and are chained into vertices (`graph`).

mod advice;
mod aggregate;
mod call;
mod changelog_conversion;
mod changelog_normalize;
mod composite;
mod describe;
mod encode;
mod error;
mod explain;
mod expr;
mod fold;
mod from;
mod graph;
mod group_window;
mod grouping_sets;
mod join;
mod json;
pub(crate) mod literal;
mod lower;
mod lower_join;
mod lower_match;
mod lower_rank;
mod match_recognize;
mod nested;
mod optimize;
mod order_by;
mod over;
mod prune;
mod query;
mod rank;
mod rel;
mod scan;
mod scope;
mod select_aggregate;
mod set_operation;
mod share;
mod sink;
mod subquery;
mod text;
mod unnest;
mod values;
pub(crate) mod zone;

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use sqlparser::ast;
use weir_connectors::Accepts;
use weir_dataflow::types::LogicalField;
use weir_proto::v1::{self, JobGraph};

use self::lower::{Lowering, Settings};
use self::query::Planner;
use self::rel::{Column, RelOp, RelRef};
use self::sink::SinkPlan;
use crate::catalog::{Catalog, Table};
use crate::error::Result;
use crate::options::SessionOptions;
use crate::statement::{Explain, ExplainTarget, Insert};

/// A bare query, planned with a sink of connector 'collect'. Whoever runs it puts 'collect.address' and 'collect.token' into the sink's options.
#[derive(Debug, Clone)]
pub struct PlannedQuery {
    /// The job.
    pub graph: JobGraph,
    /// Of the result's rows.
    pub schema: SchemaRef,
    /// Columns by which the result's rows are updated, if the result has a key.
    pub upsert_key: Vec<usize>,
    /// The result is not insert-only.
    pub changelog: bool,
}

/// A column of a table or query with its type found out.
#[derive(Debug, Clone, PartialEq)]
pub struct ResolvedColumn {
    /// Name.
    pub name: String,
    /// Type.
    pub field: LogicalField,
    /// Event or processing time.
    pub time_attribute: Option<TimeAttribute>,
}

/// What makes a timestamp drive windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeAttribute {
    /// It has a watermark.
    Rowtime,
    /// PROCTIME()
    Proctime,
}

/// Version of the graph's meaning.
const FORMAT_VERSION: u32 = 1;

/// One job that runs all `inserts`. `name`: 'pipeline.name', or made from the targets if that is not set.
pub fn plan_insert(
    catalog: &Catalog,
    options: &SessionOptions,
    inserts: &[Insert],
    name: &str,
) -> Result<JobGraph> {
    let mut sinks = sinks(catalog, options, inserts)?;
    let lowering = lower(options, &mut sinks)?;
    job(options, &lowering, &sinks, name)
}

/// The job of a bare query.
pub fn plan_query(
    catalog: &Catalog,
    options: &SessionOptions,
    query: &ast::Query,
) -> Result<PlannedQuery> {
    let rel = optimize::optimize(&Planner::new(catalog, options).query(query)?)?;
    let mut sinks = [sink::collect(rel)];
    let lowering = lower(options, &mut sinks)?;
    let rel = &sinks[0].rel;
    Ok(PlannedQuery {
        graph: job(
            options,
            &lowering,
            &sinks,
            options.pipeline_name().unwrap_or("collect"),
        )?,
        schema: Arc::new(rel::row_schema(&rel.columns)),
        upsert_key: upsert_key(rel).unwrap_or_default(),
        changelog: rel.updating,
    })
}

/// The plan as text.
pub fn explain(catalog: &Catalog, options: &SessionOptions, explained: &Explain) -> Result<String> {
    let mut sinks = match &explained.target {
        ExplainTarget::Query(query) => {
            let rel = Planner::new(catalog, options).query(query)?;
            vec![sink::collect(optimize::optimize(&rel)?)]
        }
        ExplainTarget::Inserts(inserts) => sinks(catalog, options, inserts)?,
    };
    let lowering = lower(options, &mut sinks)?;
    let mut text = explain::explain(&lowering, options.parallelism(), explained.changelog_mode);
    if explained.plan_advice {
        text.push_str(&explain::advice(&advice::advice(&lowering, &sinks)));
    }
    if explained.json_plan {
        let graph = job(options, &lowering, &sinks, "explain")?;
        text.push_str("\n== Physical Execution Plan ==\n");
        text.push_str(&explain::json(&graph));
        text.push('\n');
    }
    Ok(text)
}

/// All columns of a table with the types of its computed ones; fails if an expression of the table can't be typed.
pub fn table_schema(
    _catalog: &Catalog,
    _options: &SessionOptions,
    table: &Table,
) -> Result<Vec<ResolvedColumn>> {
    Ok(scan::columns(table)?.into_iter().map(resolved).collect())
}

/// The columns of a query; CREATE VIEW is checked by it.
pub fn query_schema(
    catalog: &Catalog,
    options: &SessionOptions,
    query: &ast::Query,
) -> Result<Vec<ResolvedColumn>> {
    let rel = Planner::new(catalog, options).query(query)?;
    Ok(rel.columns.iter().cloned().map(resolved).collect())
}

/// Names of the scalar and aggregate functions that a query can call, in lower case and in order.
pub(crate) fn function_names() -> Vec<String> {
    let functions = weir_expr::functions::all();
    let scalar = functions
        .iter()
        .flat_map(|function| {
            std::iter::once(function.name()).chain(function.aliases().iter().map(String::as_str))
        })
        // What only the planner calls has a name that no query can write.
        .filter(|name| name.starts_with(|ch: char| ch.is_ascii_alphabetic()));
    let mut names: Vec<String> = scalar
        .chain(aggregate::names())
        .chain(over::names())
        .chain(["CAST", "CURRENT_DATABASE", "TRY_CAST"])
        .map(str::to_lowercase)
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

fn resolved(column: Column) -> ResolvedColumn {
    ResolvedColumn {
        name: column.name,
        field: column.field,
        time_attribute: column.time,
    }
}

fn sinks(catalog: &Catalog, options: &SessionOptions, inserts: &[Insert]) -> Result<Vec<SinkPlan>> {
    inserts
        .iter()
        .map(|insert| {
            let query = Planner::new(catalog, options).query(&insert.query)?;
            let mut plan = sink::plan(catalog, insert, query)?;
            plan.rel = optimize::optimize(&plan.rel)?;
            sink::check_updates(&plan).map_err(|error| error.at(&insert.target))?;
            Ok(plan)
        })
        .collect()
}

/// The operators of all sinks.
fn lower(options: &SessionOptions, sinks: &mut [SinkPlan]) -> Result<Lowering> {
    let mut rels: Vec<RelRef> = sinks.iter().map(|sink| sink.rel.clone()).collect();
    share::share_scans(&mut rels);
    let rels = rels.iter().map(nested::narrow);
    let mut lowering = Lowering::new(settings(options));
    let mut need = Vec::with_capacity(sinks.len());
    for (sink, rel) in sinks.iter_mut().zip(rels) {
        sink.rel = rel;
        lowering.sink(sink)?;
        need.push(needs_update_before(sink));
    }
    lowering.settle_update_before(need);
    Ok(lowering)
}

/// A sink that is updated by the key of the changelog itself has no use for `-U` rows.
fn needs_update_before(sink: &SinkPlan) -> bool {
    let by_key = sink.accepts == Accepts::Upsert && !sink.primary_key.is_empty();
    let same_key = upsert_key(&sink.rel).is_some_and(|mut key| {
        let mut wanted = sink.primary_key.clone();
        key.sort_unstable();
        wanted.sort_unstable();
        key == wanted
    });
    !(by_key && same_key)
}

/// The columns by which the rows of a relation are updated; `None` if they are not, or the key was projected away.
fn upsert_key(rel: &RelRef) -> Option<Vec<usize>> {
    match &rel.op {
        RelOp::GroupAggregate { keys, .. } => Some((0..keys.len()).collect()),
        RelOp::ChangelogNormalize { key, .. } => Some(key.clone()),
        RelOp::Over(over) => upsert_key(&over.input),
        RelOp::Sort(sort) => upsert_key(&sort.input),
        RelOp::Rank(rank) if rank.end == rel::RankEnd::Constant(rank.start) => {
            Some(rank.partition.clone())
        }
        RelOp::Rank(rank) if rank.with_rank => {
            let mut key = rank.partition.clone();
            key.push(rank.input.columns.len());
            Some(key)
        }
        RelOp::Rank(rank) => upsert_key(&rank.input),
        RelOp::Calc {
            input, projection, ..
        } => upsert_key(input)?
            .into_iter()
            .map(|key| {
                projection
                    .iter()
                    .position(|expr| rel::as_input_ref(expr) == Some(key))
            })
            .collect(),
        _ => None,
    }
}

fn settings(options: &SessionOptions) -> Settings {
    let phases = options.get("table.optimizer.agg-phase-strategy");
    Settings {
        state_ttl_ms: options.state_ttl_ms(),
        idle_timeout_ms: options.idle_timeout_ms(),
        drop_null_rows: options.get("table.exec.sink.not-null-enforcer") == Some("DROP"),
        length_enforcer: match options.get("table.exec.sink.type-length-enforcer") {
            Some("TRIM_PAD") => v1::sink::LengthEnforcer::TrimPad,
            Some("ERROR") => v1::sink::LengthEnforcer::Error,
            _ => v1::sink::LengthEnforcer::Ignore,
        },
        watermark_interval_ms: options.watermark_interval_ms(),
        two_phase: options.flag("table.exec.mini-batch.enabled", false)
            && phases != Some("ONE_PHASE"),
    }
}

fn job(
    options: &SessionOptions,
    lowering: &Lowering,
    sinks: &[SinkPlan],
    name: &str,
) -> Result<JobGraph> {
    let (vertices, edges) = graph::build(lowering, options.parallelism());
    Ok(v1::JobGraph {
        format_version: FORMAT_VERSION,
        name: name.to_owned(),
        max_parallelism: options.max_parallelism()?,
        vertices,
        edges,
        checkpoint: Some(options.checkpoint()),
        restart: Some(options.restart()),
        options: options
            .iter()
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect(),
        bounded: lowering.bounded(),
        adaptive: options.adaptive()?,
        warnings: advice::advice(lowering, sinks),
    })
}
