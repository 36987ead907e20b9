//! UNNEST(collection) in FROM: a row for each element of a column of the relations in front of it.

use std::sync::Arc;

use datafusion_expr::Expr;
use sqlparser::ast::{FunctionArg, FunctionArgExpr, TableFactor};
use weir_dataflow::types::{LogicalField, LogicalType};

use super::expr::{Analyzer, column};
use super::rel::{Column, Rel, RelOp, RelRef, Unnest, as_input_ref, input_ref};
use super::scope::Scope;
use crate::error::{Result, SqlError};

/// An UNNEST that is not yet applied to what stands in front of it.
pub(super) struct Unnested {
    collection: Expr,
    field: LogicalField,
    /// Of the elements, then the ordinality.
    columns: Vec<Column>,
    with_ordinality: bool,
}

/// Reads UNNEST(...) behind relations with these names; `None` if the factor is something else.
pub(super) fn unnest(factor: &TableFactor, left: &Scope) -> Option<Result<(Unnested, Scope)>> {
    match factor {
        TableFactor::Table {
            name,
            args: Some(_),
            ..
        } if name.to_string().eq_ignore_ascii_case("UNNEST") => Some(read(factor, left)),
        TableFactor::UNNEST { .. } => Some(read(factor, left)),
        _ => None,
    }
}

fn read(factor: &TableFactor, left: &Scope) -> Result<(Unnested, Scope)> {
    let (collection, alias, with_ordinality) = match factor {
        TableFactor::Table {
            args: Some(arguments),
            alias,
            with_ordinality,
            ..
        } => match arguments.args.as_slice() {
            [FunctionArg::Unnamed(FunctionArgExpr::Expr(collection))] => {
                (collection, alias, *with_ordinality)
            }
            _ => return Err(SqlError::new("UNNEST takes one collection").at(factor)),
        },
        TableFactor::UNNEST {
            alias,
            array_exprs,
            with_ordinality,
            ..
        } => match array_exprs.as_slice() {
            [collection] => (collection, alias, *with_ordinality),
            _ => return Err(SqlError::new("UNNEST takes one collection").at(factor)),
        },
        _ => return Err(SqlError::unsupported("this kind of table").at(factor)),
    };
    let (expr, field) = Analyzer::new(left, "UNNEST")?.typed(collection)?;
    let mut columns = element_columns(&field.logical_type).ok_or_else(|| {
        SqlError::new(format!(
            "UNNEST takes an ARRAY, MAP or MULTISET, not {}",
            field.logical_type
        ))
        .at(collection)
    })?;
    if with_ordinality {
        let number = LogicalField {
            logical_type: LogicalType::Int,
            nullable: false,
        };
        columns.push(column("ORDINALITY", number));
    }
    if let Some(alias) = alias
        && !alias.columns.is_empty()
    {
        if alias.columns.len() != columns.len() {
            return Err(SqlError::new(format!(
                "{} names for {} columns",
                alias.columns.len(),
                columns.len()
            ))
            .at(factor));
        }
        for (column, name) in columns.iter_mut().zip(&alias.columns) {
            column.name = name.name.value.clone();
        }
    }
    let qualifier = alias.as_ref().map(|alias| alias.name.value.as_str());
    let scope = Scope::of_relation(qualifier, &columns);
    let unnested = Unnested {
        collection: expr,
        field,
        columns,
        with_ordinality,
    };
    Ok((unnested, scope))
}

/// The columns of one element.
fn element_columns(collection: &LogicalType) -> Option<Vec<Column>> {
    Some(match collection {
        LogicalType::Array(element) | LogicalType::Multiset(element) => {
            match &element.logical_type {
                LogicalType::Row(fields) => fields
                    .iter()
                    .map(|(name, field)| {
                        let mut field = field.clone();
                        field.nullable |= element.nullable;
                        column(name, field)
                    })
                    .collect(),
                _ => vec![column("EXPR$0", element.as_ref().clone())],
            }
        }
        LogicalType::Map(key, value) => vec![
            column("KEY", key.as_ref().clone()),
            column("VALUE", value.as_ref().clone()),
        ],
        _ => return None,
    })
}

/// Each row of `left` with each element. `outer`: a row without elements stays, with NULL.
pub(super) fn apply(left: RelRef, unnested: Unnested, outer: bool) -> Result<RelRef> {
    let width = left.columns.len();
    let place = as_input_ref(&unnested.collection);
    let (input, collection) = match place {
        Some(place) => (left, place),
        None => {
            let mut projection: Vec<Expr> = (0..width).map(input_ref).collect();
            projection.push(unnested.collection);
            let mut columns = left.columns.clone();
            columns.push(column("$collection", unnested.field));
            (Rel::calc(left, None, projection, columns), width)
        }
    };
    let mut columns = input.columns.clone();
    columns.extend(unnested.columns.into_iter().map(|mut column| {
        column.field.nullable |= outer;
        column
    }));
    let all = columns.len();
    let rel = Arc::new(Rel {
        columns,
        window: input.window,
        updating: input.updating,
        op: RelOp::Unnest(Unnest {
            input,
            collection,
            outer,
            with_ordinality: unnested.with_ordinality,
        }),
    });
    if place.is_some() {
        return Ok(rel);
    }
    // The computed collection goes away again.
    let kept: Vec<usize> = (0..all).filter(|index| *index != width).collect();
    let columns = kept
        .iter()
        .map(|index| rel.columns[*index].clone())
        .collect();
    let projection = kept.into_iter().map(input_ref).collect();
    Ok(Rel::calc(rel, None, projection, columns))
}
