//! From a query's syntax tree to the graph of a job.

use arrow::datatypes::SchemaRef;
use sqlparser::ast;
use weir_dataflow::types::LogicalField;
use weir_proto::v1::JobGraph;

use crate::catalog::{Catalog, Table};
use crate::error::{Result, SqlError};
use crate::options::SessionOptions;
use crate::statement::{ExplainTarget, Insert};

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

/// One job that runs all `inserts`. `name`: 'pipeline.name', or made from the targets if that is not set.
pub fn plan_insert(
    catalog: &Catalog,
    options: &SessionOptions,
    inserts: &[Insert],
    name: &str,
) -> Result<JobGraph> {
    let _ = (catalog, options, inserts, name);
    Err(SqlError::unsupported("INSERT"))
}

/// The job of a bare query.
pub fn plan_query(
    catalog: &Catalog,
    options: &SessionOptions,
    query: &ast::Query,
) -> Result<PlannedQuery> {
    let _ = (catalog, options, query);
    Err(SqlError::unsupported("SELECT"))
}

/// The plan as text. `changelog_mode`: with the row kinds that each step emits.
pub fn explain(
    catalog: &Catalog,
    options: &SessionOptions,
    target: &ExplainTarget,
    changelog_mode: bool,
) -> Result<String> {
    let _ = (catalog, options, target, changelog_mode);
    Err(SqlError::unsupported("EXPLAIN"))
}

/// All columns of a table with the types of its computed ones; fails if an expression of the table can't be typed.
pub fn table_schema(
    catalog: &Catalog,
    options: &SessionOptions,
    table: &Table,
) -> Result<Vec<ResolvedColumn>> {
    let _ = (catalog, options);
    let columns = table.columns.iter().filter_map(|column| {
        let field = crate::ddl::declared(&column.kind)?.clone();
        Some(ResolvedColumn {
            name: column.name.clone(),
            field,
            time_attribute: None,
        })
    });
    Ok(columns.collect())
}

/// The columns of a query; CREATE VIEW is checked by it.
pub fn query_schema(
    catalog: &Catalog,
    options: &SessionOptions,
    query: &ast::Query,
) -> Result<Vec<ResolvedColumn>> {
    let _ = (catalog, options, query);
    Ok(Vec::new())
}
