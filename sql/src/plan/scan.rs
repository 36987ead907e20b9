//! Tables as relations: physical and metadata columns are read, computed ones are projected, the watermark is attached.

use std::sync::Arc;

use weir_dataflow::types::{LogicalField, LogicalType, METADATA_KEY};

use super::expr::{Analyzer, column};
use super::rel::{Column, Rel, RelOp, RelRef, Scan, ScanWatermark, input_ref};
use super::scope::Scope;
use super::{TimeAttribute, call, changelog_normalize};
use crate::catalog::{ColumnKind, Table};
use crate::error::{Result, SqlError};

/// The relation that a table is when it is read.
///
/// `changes_repeat`: 'table.exec.source.cdc-events-duplicate'.
pub(super) fn scan(table: &Table, changes_repeat: bool) -> Result<RelRef> {
    let read = read_columns(table);
    let schema = read_schema(&read);
    let key = key_places(table, &schema);
    let description =
        weir_connectors::describe_source(connector(table)?, &table.options, &schema, &key)
            .map_err(|error| in_table(table, SqlError::new(error.to_string())))?;
    let (columns, projection, watermark) = resolve(table, &read)?;
    let scan = Rel {
        op: RelOp::Scan(Scan {
            table: Arc::new(table.clone()),
            read,
            projection,
            filter: None,
            watermark,
            bounded: description.bounded,
        }),
        columns,
        window: None,
        updating: description.emits_updates || description.emits_upserts,
    };
    if changes_repeat && description.emits_updates && table.primary_key.is_empty() {
        return Err(in_table(
            table,
            SqlError::new(
                "'table.exec.source.cdc-events-duplicate' = 'true' requires a PRIMARY KEY of tables that are read as changes",
            ),
        ));
    }
    if description.emits_upserts || (changes_repeat && description.emits_updates) {
        return changelog_normalize::over(table, scan);
    }
    Ok(Arc::new(scan))
}

/// The columns of a table with the types of the computed ones.
pub(super) fn columns(table: &Table) -> Result<Vec<Column>> {
    Ok(resolve(table, &read_columns(table))?.0)
}

/// The option 'connector'.
pub(super) fn connector(table: &Table) -> Result<&str> {
    table
        .options
        .get("connector")
        .map(String::as_str)
        .ok_or_else(|| {
            in_table(table, SqlError::new("the option 'connector' is missing"))
                .hint("name the system in WITH ('connector' = '...')")
        })
}

/// Says which table an error is about.
pub(super) fn in_table(table: &Table, mut error: SqlError) -> SqlError {
    error.message = format!("table '{}': {}", table.name, error.message);
    error
}

/// As connectors take it: metadata columns are marked.
pub(super) fn read_schema(read: &[(Column, Option<String>)]) -> arrow::datatypes::Schema {
    let fields: Vec<_> = read
        .iter()
        .map(|(column, metadata)| {
            let field = column.field.to_field(&column.name);
            let Some(key) = metadata else { return field };
            let mut marks = field.metadata().clone();
            marks.insert(METADATA_KEY.to_owned(), key.clone());
            field.with_metadata(marks)
        })
        .collect();
    arrow::datatypes::Schema::new(fields)
}

/// Where the columns of the PRIMARY KEY stand in a schema of the table.
pub(super) fn key_places(table: &Table, schema: &arrow::datatypes::Schema) -> Vec<u32> {
    let names = table.primary_key.iter();
    let places = names.filter_map(|name| schema.index_of(name).ok());
    places
        .filter_map(|place| u32::try_from(place).ok())
        .collect()
}

/// All columns that records of the external system have.
pub(super) fn physical_schema(table: &Table) -> arrow::datatypes::Schema {
    let stored = table
        .columns
        .iter()
        .filter_map(|declared| match &declared.kind {
            ColumnKind::Physical(field) if partition_key(table, &declared.name).is_none() => {
                Some(field.to_field(&declared.name))
            }
            _ => None,
        });
    arrow::datatypes::Schema::new(stored.collect::<Vec<_>>())
}

/// The metadata key of a column of PARTITIONED BY.
pub(super) fn partition_key(table: &Table, column: &str) -> Option<String> {
    let place = table.partitioned_by.iter().position(|key| key == column)?;
    Some(format!("{}{place}", weir_connectors::PARTITION_KEY))
}

fn read_columns(table: &Table) -> Vec<(Column, Option<String>)> {
    let read = table.columns.iter().filter_map(|declared| {
        let (field, metadata) = match &declared.kind {
            ColumnKind::Physical(field) => (field, partition_key(table, &declared.name)),
            ColumnKind::Metadata { field, key, .. } => (field, Some(key.clone())),
            ColumnKind::Computed(_) => return None,
        };
        Some((column(&declared.name, field.clone()), metadata))
    });
    read.collect()
}

type Resolved = (
    Vec<Column>,
    Vec<datafusion_expr::Expr>,
    Option<ScanWatermark>,
);

fn resolve(table: &Table, read: &[(Column, Option<String>)]) -> Result<Resolved> {
    let read: Vec<Column> = read.iter().map(|(column, _)| column.clone()).collect();
    let scope = Scope::of_relation(Some(&table.name), &read);
    let mut analyzer = Analyzer::new(&scope, "a computed column")?;
    let mut columns = Vec::with_capacity(table.columns.len());
    let mut projection = Vec::with_capacity(table.columns.len());
    for declared in &table.columns {
        if let ColumnKind::Computed(expr) = &declared.kind {
            let (typed, field) = analyzer.typed(expr)?;
            let mut computed = column(&declared.name, field);
            computed.time = call::is_proctime(expr).then_some(TimeAttribute::Proctime);
            columns.push(computed);
            projection.push(typed);
        } else {
            let index = read.iter().position(|column| column.name == declared.name);
            let index = index.unwrap_or_default();
            columns.push(read[index].clone());
            projection.push(input_ref(index));
        }
    }
    let watermark = watermark(table, &mut columns)?;
    Ok((columns, projection, watermark))
}

fn watermark(table: &Table, columns: &mut [Column]) -> Result<Option<ScanWatermark>> {
    let Some(declared) = &table.watermark else {
        return Ok(None);
    };
    let Some(index) = columns.iter().position(|c| c.name == declared.column) else {
        return Err(in_table(
            table,
            SqlError::new(format!(
                "WATERMARK FOR '{}': there is no such column",
                declared.column
            )),
        ));
    };
    let scope = Scope::of_relation(Some(&table.name), columns);
    let (expr, field) = Analyzer::new(&scope, "WATERMARK")?.typed(&declared.expr)?;
    for (what, field) in [("column", &columns[index].field), ("expression", &field)] {
        if !is_time(field) {
            return Err(in_table(
                table,
                SqlError::new(format!(
                    "the watermark's {what} is to be TIMESTAMP or TIMESTAMP_LTZ of a precision up to 3, but is {}",
                    field.logical_type
                )),
            ));
        }
    }
    columns[index].time = Some(TimeAttribute::Rowtime);
    Ok(Some(ScanWatermark {
        column: index,
        expr,
    }))
}

fn is_time(field: &LogicalField) -> bool {
    matches!(
        field.logical_type,
        LogicalType::Timestamp(0..=3) | LogicalType::TimestampLtz(0..=3)
    )
}
