//! VALUES, and SELECT without FROM: rows that are written in the statement.
//!
//! They are a bounded source of row numbers, and behind it one CASE a column. So literals get their types by the rules of every other
//! expression, and any expression may stand in a row.

use std::collections::BTreeMap;

use sqlparser::ast::helpers::attached_token::AttachedToken;
use sqlparser::ast::{CaseWhen, Expr, Ident, Value, Values};
use weir_dataflow::types::{LogicalField, LogicalType};

use super::query::{SelectExpr, SelectValue, project};
use super::rel::RelRef;
use super::scan;
use super::scope::Scope;
use crate::catalog::{Column, ColumnKind, Table};
use crate::error::{Result, SqlError};

/// No identifier that anybody writes.
const ROW: &str = "#row";
/// Each row is a branch that every other row walks past.
const ROWS_MAX: usize = 1000;

/// A relation of one row, for a SELECT that reads nothing. Nothing of it can be named.
pub(super) fn one_row() -> Result<RelRef> {
    numbers(1)
}

/// VALUES (...), (...): columns EXPR$0, EXPR$1 ...
pub(super) fn values(values: &Values) -> Result<RelRef> {
    let rows: Vec<&Vec<Expr>> = values.rows.iter().map(|row| &row.content).collect();
    let width = rows.first().map_or(0, |row| row.len());
    if rows.len() > ROWS_MAX {
        return Err(SqlError::new(format!(
            "VALUES has {} rows, at most {ROWS_MAX} are possible; put them into a file and read it",
            rows.len()
        )));
    }
    if let Some(odd) = rows.iter().position(|row| row.len() != width) {
        return Err(SqlError::new(format!(
            "row {} of VALUES has {} columns, the first one has {width}",
            odd + 1,
            rows[odd].len()
        )));
    }
    let input = numbers(rows.len())?;
    let scope = Scope::of_relation(None, &input.columns);
    let items: Vec<SelectExpr> = (0..width)
        .map(|column| SelectExpr {
            name: format!("EXPR${column}"),
            expr: SelectValue::Written(Box::new(choice(&rows, column))),
        })
        .collect();
    project(input, &scope, &items, None)
}

/// CASE `#row` WHEN 0 THEN ... ELSE the last row's END
fn choice(rows: &[&Vec<Expr>], column: usize) -> Expr {
    let cell = |row: usize| rows[row][column].clone();
    let last = rows.len().saturating_sub(1);
    if last == 0 {
        return cell(0);
    }
    let when = |row: usize| CaseWhen {
        condition: Expr::value(Value::Number(row.to_string(), false)),
        result: cell(row),
    };
    Expr::Case {
        case_token: AttachedToken::empty(),
        end_token: AttachedToken::empty(),
        operand: Some(Box::new(Expr::Identifier(Ident::with_quote('`', ROW)))),
        conditions: (0..last).map(when).collect(),
        else_result: Some(Box::new(cell(last))),
    }
}

/// 0, 1 ... up to `count` - 1.
fn numbers(count: usize) -> Result<RelRef> {
    let field = LogicalField {
        logical_type: LogicalType::Int,
        nullable: false,
    };
    let options = [
        ("connector", "datagen".to_owned()),
        ("number-of-rows", count.to_string()),
        ("fields.#row.kind", "sequence".to_owned()),
        ("fields.#row.start", "0".to_owned()),
        ("fields.#row.end", count.saturating_sub(1).to_string()),
    ];
    let table = Table {
        name: "VALUES".to_owned(),
        temporary: true,
        columns: vec![Column {
            name: ROW.to_owned(),
            kind: ColumnKind::Physical(field),
            comment: None,
        }],
        watermark: None,
        primary_key: Vec::new(),
        key_name: None,
        partitioned_by: Vec::new(),
        comment: None,
        options: BTreeMap::from(options.map(|(key, value)| (key.to_owned(), value))),
    };
    scan::scan(&table, false)
}
