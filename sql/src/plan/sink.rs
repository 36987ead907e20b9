//! INSERT INTO: the query's columns become those of the table, by Flink's implicit casts or not at all.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion_common::ScalarValue;
use datafusion_expr::Expr;
use weir_connectors::Accepts;
use weir_dataflow::types::{LogicalField, LogicalType};

use super::call::implicit_cast;
use super::expr::{Analyzer, column, literal_expr};
use super::rel::{Column, Rel, RelOp, RelRef, expr_schema, input_ref};
use super::scan::{connector, in_table, partition_key, read_schema};
use super::scope::Scope;
use crate::catalog::{Catalog, ColumnKind, Relation, Table};
use crate::error::{Result, SqlError};
use crate::statement::{CATALOG, DATABASE, Insert};

/// A table that is written to, and what is written.
pub(super) struct SinkPlan {
    /// Columns are those of the sink, in order.
    pub rel: RelRef,
    pub table: String,
    pub connector: String,
    pub options: std::collections::BTreeMap<String, String>,
    /// The sink's columns; `.1` is a metadata column's key.
    pub columns: Vec<(Column, Option<String>)>,
    pub primary_key: Vec<usize>,
    pub accepts: Accepts,
}

/// Checks an INSERT against its table.
pub(super) fn plan(catalog: &Catalog, insert: &Insert, query: RelRef) -> Result<SinkPlan> {
    let table = match catalog.resolve(&insert.target)? {
        Relation::Table(table) => table,
        Relation::View(view) => {
            return Err(SqlError::new(format!(
                "'{}' is a view: it cannot be written to",
                view.name
            ))
            .at(&insert.target));
        }
    };
    let hinted = (!insert.options.is_empty()).then(|| table.with_options(&insert.options));
    target(hinted.as_ref().unwrap_or(table), insert, query)
        .map_err(|error| error.at(&insert.target))
}

fn target(table: &Table, insert: &Insert, query: RelRef) -> Result<SinkPlan> {
    let columns = written_columns(table);
    let rel = align(table, insert, query, &columns)?;
    let primary_key = primary_key(table, &columns)?;
    let positions: Vec<u32> = super::encode::indexes(&primary_key);
    let connector = connector(table)?;
    let description = weir_connectors::describe_sink(
        connector,
        &table.options,
        &read_schema(&columns),
        &positions,
    )
    .map_err(|error| in_table(table, SqlError::new(error.to_string())))?;
    Ok(SinkPlan {
        rel,
        table: table.name.clone(),
        connector: connector.to_owned(),
        options: table.options.clone(),
        columns,
        primary_key,
        accepts: description.accepts,
    })
}

/// Refuses updates that the sink can't take.
pub(super) fn check_updates(plan: &SinkPlan) -> Result<()> {
    if !plan.rel.updating || plan.accepts != Accepts::InsertOnly {
        return Ok(());
    }
    Err(SqlError::new(format!(
        "Table sink '{CATALOG}.{DATABASE}.{}' doesn't support consuming update changes which is produced by node {}",
        plan.table,
        updating_node(&plan.rel)
    ))
    .hint("write to a table that takes updates, e.g. of the format 'debezium-json'"))
}

/// The first operation from the sink that makes updates of insertions.
pub(super) fn updating_node(rel: &Rel) -> String {
    let below = rel.inputs().into_iter().find(|input| input.updating);
    match (&rel.op, below) {
        (RelOp::GroupAggregate { input, keys, .. }, _) => {
            format!(
                "GroupAggregate(groupBy=[{}])",
                super::text::names(keys, &input.columns)
            )
        }
        (RelOp::Rank(rank), _) => {
            let keys = super::text::names(&rank.partition, &rank.input.columns);
            match super::rank::kind(rank) {
                super::rank::RankKind::Deduplicate { .. } => {
                    format!("Deduplicate(keep=[LastRow], key=[{keys}])")
                }
                _ => format!("Rank(rankType=[{}], partitionBy=[{keys}])", rank.function),
            }
        }
        (RelOp::Scan(scan), _) => format!("TableSourceScan(table=[{}])", scan.table.name),
        (_, Some(below)) => updating_node(below),
        _ => "Calc".to_owned(),
    }
}

/// Physical columns and metadata columns that are not VIRTUAL.
fn written_columns(table: &Table) -> Vec<(Column, Option<String>)> {
    let written = table.columns.iter().filter_map(|declared| {
        let (field, metadata) = match &declared.kind {
            ColumnKind::Physical(field) => (field, partition_key(table, &declared.name)),
            ColumnKind::Metadata {
                field,
                key,
                is_virtual: false,
            } => (field, Some(key.clone())),
            ColumnKind::Metadata { .. } | ColumnKind::Computed(_) => return None,
        };
        Some((column(&declared.name, field.clone()), metadata))
    });
    written.collect()
}

fn primary_key(table: &Table, columns: &[(Column, Option<String>)]) -> Result<Vec<usize>> {
    let place = |name: &String| {
        let at = columns.iter().position(|(column, _)| column.name == *name);
        at.ok_or_else(|| {
            in_table(
                table,
                SqlError::new(format!("PRIMARY KEY column '{name}' is no physical column")),
            )
        })
    };
    table.primary_key.iter().map(place).collect()
}

/// The query with the sink's columns: in the order of the column list, cast, NULL where the list leaves one out.
fn align(
    table: &Table,
    insert: &Insert,
    query: RelRef,
    columns: &[(Column, Option<String>)],
) -> Result<RelRef> {
    let fixed = fixed_partition(table, insert, columns)?;
    let targets = target_positions(table, insert, columns, &fixed)?;
    if targets.len() != query.columns.len() {
        return Err(mismatch(
            table,
            &query,
            columns,
            &targets,
            "Different number of columns.",
        ));
    }
    let schema = expr_schema(&query.columns)?;
    let mut projection = Vec::with_capacity(columns.len());
    let mut out = Vec::with_capacity(columns.len());
    for (position, (wanted, _)) in columns.iter().enumerate() {
        let source = targets.iter().position(|target| *target == position);
        let (expr, field) = match source {
            Some(source) => {
                let given = &query.columns[source].field;
                if !fits(&given.logical_type, &wanted.field.logical_type) {
                    let cause = format!(
                        "Incompatible types for sink column '{}' at position {position}.",
                        wanted.name
                    );
                    return Err(mismatch(table, &query, columns, &targets, &cause));
                }
                let expr = cast(source, given, &wanted.field, &schema)?;
                let mut field = wanted.field.clone();
                field.nullable = given.nullable;
                (expr, field)
            }
            None if fixed.contains_key(&position) => (
                fixed[&position].clone(),
                LogicalField::nullable(wanted.field.logical_type.clone()),
            ),
            None => (
                null(table, wanted)?,
                LogicalField::nullable(wanted.field.logical_type.clone()),
            ),
        };
        projection.push(expr);
        let mut to = wanted.clone();
        to.field = field;
        out.push(to);
    }
    Ok(Rel::calc(query, None, projection, out))
}

fn cast(
    source: usize,
    given: &LogicalField,
    wanted: &LogicalField,
    schema: &datafusion_common::DFSchema,
) -> Result<Expr> {
    if given.logical_type == wanted.logical_type {
        return Ok(input_ref(source));
    }
    let target = LogicalField::nullable(wanted.logical_type.clone());
    implicit_cast(input_ref(source), &target, schema)
}

fn null(table: &Table, wanted: &Column) -> Result<Expr> {
    if !wanted.field.nullable {
        return Err(in_table(
            table,
            SqlError::new(format!(
                "column '{}' is NOT NULL and is not among the columns of the INSERT",
                wanted.name
            )),
        ));
    }
    let null = ScalarValue::try_from(&wanted.field.logical_type.to_arrow())
        .map_err(|error| super::error::translate(&error))?;
    Ok(literal_expr(null))
}

/// What PARTITION (...) says, by the place of the column.
fn fixed_partition(
    table: &Table,
    insert: &Insert,
    columns: &[(Column, Option<String>)],
) -> Result<BTreeMap<usize, Expr>> {
    let scope = Scope::of_relation(None, &[]);
    let schema = expr_schema(&[])?;
    let mut fixed = BTreeMap::new();
    for (name, value) in &insert.partition {
        let known = table.partitioned_by.iter().map(String::as_str);
        if !table.partitioned_by.contains(&name.value) {
            return Err(SqlError::unknown("column of PARTITIONED BY", name, known));
        }
        let position = columns.iter().position(|(c, _)| c.name == name.value);
        let position = position.ok_or_else(|| {
            SqlError::new(format!("column '{}' cannot be written", name.value))
                .at_location(name.span.start)
        })?;
        let wanted = &columns[position].0.field.logical_type;
        let (expr, given) = Analyzer::new(&scope, "PARTITION")?.typed(value)?;
        if !fits(&given.logical_type, wanted) {
            return Err(SqlError::new(format!(
                "column '{}' is {wanted}, the value in PARTITION is {}",
                name.value, given.logical_type
            ))
            .at(value));
        }
        let target = LogicalField::nullable(wanted.clone());
        let expr = match given.logical_type == *wanted {
            true => expr,
            false => implicit_cast(expr, &target, &schema)?,
        };
        fixed.insert(position, expr);
    }
    Ok(fixed)
}

/// The sink column of each of the query's columns.
fn target_positions(
    table: &Table,
    insert: &Insert,
    columns: &[(Column, Option<String>)],
    fixed: &BTreeMap<usize, Expr>,
) -> Result<Vec<usize>> {
    if insert.columns.is_empty() {
        let given = (0..columns.len()).filter(|at| !fixed.contains_key(at));
        return Ok(given.collect());
    }
    let mut targets = Vec::with_capacity(insert.columns.len());
    for name in &insert.columns {
        let at = columns
            .iter()
            .position(|(column, _)| column.name == name.value);
        let Some(at) = at else {
            if table.columns.iter().any(|column| column.name == name.value) {
                return Err(
                    SqlError::new(format!("column '{}' cannot be written", name.value))
                        .at_location(name.span.start),
                );
            }
            let known = columns.iter().map(|(column, _)| column.name.as_str());
            return Err(SqlError::unknown("column", name, known));
        };
        if targets.contains(&at) || fixed.contains_key(&at) {
            return Err(
                SqlError::new(format!("column '{}' is named twice", name.value))
                    .at_location(name.span.start),
            );
        }
        targets.push(at);
    }
    Ok(targets)
}

fn mismatch(
    table: &Table,
    query: &Rel,
    columns: &[(Column, Option<String>)],
    targets: &[usize],
    cause: &str,
) -> SqlError {
    let list = |columns: &mut dyn Iterator<Item = &Column>| {
        let texts: Vec<_> = columns
            .map(|c| format!("{}: {}", c.name, c.field))
            .collect();
        texts.join(", ")
    };
    SqlError::new(format!(
        "Column types of query result and sink for '{CATALOG}.{DATABASE}.{}' do not match.\nCause: {cause}\n\nQuery schema: [{}]\nSink schema:  [{}]",
        table.name,
        list(&mut query.columns.iter()),
        list(&mut targets.iter().map(|at| &columns[*at].0))
    ))
}

/// Whether Flink casts a value by itself when it is written into a column of another type.
fn fits(from: &LogicalType, to: &LogicalType) -> bool {
    use LogicalType as T;
    match (from, to) {
        (T::Null, _) => true,
        (T::Char(_) | T::VarChar(_), T::Char(_) | T::VarChar(_)) => true,
        (T::Binary(_) | T::VarBinary(_), T::Binary(_) | T::VarBinary(_)) => true,
        (T::Time(_), T::Time(_)) => true,
        (
            T::Timestamp(_) | T::TimestampLtz(_),
            T::Timestamp(_) | T::TimestampLtz(_) | T::Date | T::Time(_),
        ) => true,
        (T::Array(from), T::Array(to)) | (T::Multiset(from), T::Multiset(to)) => {
            fits(&from.logical_type, &to.logical_type)
        }
        (T::Map(from_key, from_value), T::Map(to_key, to_value)) => {
            fits(&from_key.logical_type, &to_key.logical_type)
                && fits(&from_value.logical_type, &to_value.logical_type)
        }
        (T::Row(from), T::Row(to)) => {
            from.len() == to.len()
                && from
                    .iter()
                    .zip(to)
                    .all(|((_, from), (_, to))| fits(&from.logical_type, &to.logical_type))
        }
        _ => from == to || numeric_fits(from, to),
    }
}

/// Integers widen; every number becomes a DECIMAL or DOUBLE.
fn numeric_fits(from: &LogicalType, to: &LogicalType) -> bool {
    use LogicalType as T;
    let rank = |logical_type: &T| match logical_type {
        T::TinyInt => Some(0),
        T::SmallInt => Some(1),
        T::Int => Some(2),
        T::BigInt => Some(3),
        _ => None,
    };
    let integer = rank(from);
    let number = integer.is_some() || matches!(from, T::Decimal(..) | T::Float | T::Double);
    match to {
        T::Decimal(..) | T::Double => number,
        T::Float => integer.is_some() || matches!(from, T::Decimal(..)),
        _ => integer.zip(rank(to)).is_some_and(|(from, to)| from <= to),
    }
}

/// The sink of a bare query: its rows go to whoever asked.
pub(super) fn collect(query: RelRef) -> SinkPlan {
    SinkPlan {
        table: "collect".to_owned(),
        connector: "collect".to_owned(),
        options: std::collections::BTreeMap::new(),
        columns: query
            .columns
            .iter()
            .map(|column| (column.clone(), None))
            .collect(),
        primary_key: Vec::new(),
        accepts: Accepts::All,
        rel: Arc::clone(&query),
    }
}
