//! CREATE TABLE ... AS query: a table with the query's columns, and an INSERT of its rows.

use sqlparser::ast::Ident;

use crate::error::{Result, SqlError};
use crate::plan::ResolvedColumn;
use crate::statement::{AsQuery, ColumnDefinition, ColumnDefinitionKind, CreateTable, Insert};

/// Declared columns come first, then those of the query that are not declared. A declared one of the same name gives the type.
pub(crate) fn taken_apart(
    create: &CreateTable,
    written: &AsQuery,
    columns: Vec<ResolvedColumn>,
) -> Result<(CreateTable, Insert)> {
    let insert = Insert {
        partition: Vec::new(),
        target: create.name.clone(),
        columns: columns
            .iter()
            .map(|column| Ident::new(&column.name))
            .collect(),
        options: Vec::new(),
        query: written.query.clone(),
    };
    let mut table = create.clone();
    table.query = None;
    for column in ordered(columns, &written.order)? {
        let declared = table
            .columns
            .iter()
            .any(|other| other.name.value == column.name);
        if !declared {
            table.columns.push(ColumnDefinition {
                name: Ident::new(&column.name),
                kind: ColumnDefinitionKind::Physical(column.field),
                comment: None,
            });
        }
    }
    Ok((table, insert))
}

/// In the order of the list behind the table's name, if there is one.
fn ordered(columns: Vec<ResolvedColumn>, order: &[Ident]) -> Result<Vec<ResolvedColumn>> {
    if order.is_empty() {
        return Ok(columns);
    }
    let mut left = columns;
    let mut ordered = Vec::with_capacity(order.len());
    for name in order {
        let Some(at) = left.iter().position(|column| column.name == name.value) else {
            let known = left.iter().map(|column| column.name.as_str());
            return Err(SqlError::unknown("column of the query", name, known));
        };
        ordered.push(left.remove(at));
    }
    match left.first() {
        Some(missing) => Err(SqlError::new(format!(
            "the query's column '{}' is not in the list of columns",
            missing.name
        ))
        .at_location(order[0].span.start)),
        None => Ok(ordered),
    }
}
