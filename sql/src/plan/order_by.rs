//! ORDER BY, LIMIT, OFFSET and FETCH behind a query: with a number of rows a Top-N, else a sort by time or of a bounded input.

use std::sync::Arc;

use datafusion_common::ScalarValue;
use datafusion_expr::Expr;
use sqlparser::ast::{
    self, Ident, LimitClause, OrderByExpr, OrderByKind, Query, SelectItem, SetExpr, Spanned,
};

use super::expr::{Analyzer, column};
use super::over::Direction;
use super::query::Planner;
use super::rel::{Rel, RelOp, RelRef, Sort, SortKey, input_ref};
use super::scope::Scope;
use super::{TimeAttribute, literal, rank};
use crate::error::{Result, SqlError};

/// How many rows, and how many in front of them are left out.
struct Limit {
    offset: u64,
    count: u64,
}

impl Planner<'_> {
    /// The body of a query with its ORDER BY and LIMIT. `outermost`: a subquery's order means nothing without a limit.
    pub(super) fn ordered(&mut self, query: &Query, outermost: bool) -> Result<RelRef> {
        let keys = sort_keys(query)?;
        let limit = limit(query)?;
        if limit.is_none() && (keys.is_empty() || !outermost) {
            return self.set_expr(&query.body);
        }
        let body = self.set_expr(&query.body)?;
        let (rel, order) = self.with_sort_columns(query, &body, keys)?;
        let sorted = match limit {
            Some(limit) => {
                let place = query.span().start;
                rank::limit(rel, order, limit.offset, limit.count, place)
            }
            None => sort(rel, order).map_err(|error| match &query.order_by {
                Some(order_by) => error.at(order_by),
                None => error,
            })?,
        };
        if sorted.columns.len() == body.columns.len() {
            return Ok(sorted);
        }
        let projection = (0..body.columns.len()).map(input_ref).collect();
        Ok(Rel::calc(sorted, None, projection, body.columns.clone()))
    }

    /// The body with columns to sort by, behind its own.
    fn with_sort_columns(
        &mut self,
        query: &Query,
        body: &RelRef,
        keys: &[OrderByExpr],
    ) -> Result<(RelRef, Vec<SortKey>)> {
        let mut places = Vec::with_capacity(keys.len());
        let mut hidden: Vec<&ast::Expr> = Vec::new();
        let width = body.columns.len();
        for key in keys {
            places.push(match output_column(body, &key.expr)? {
                Some(at) => at,
                None => {
                    hidden.push(&key.expr);
                    width + hidden.len() - 1
                }
            });
        }
        let rel = match hidden.is_empty() {
            true => body.clone(),
            false => self.with_hidden(query, body, &hidden)?,
        };
        let order = keys.iter().zip(places).map(|(key, column)| {
            let direction = Direction::of(&key.options);
            SortKey {
                column,
                descending: direction.descending,
                nulls_first: direction.nulls_first,
            }
        });
        Ok((rel, order.collect()))
    }

    /// Expressions over the result's columns or, where the body is a SELECT, over what it reads.
    fn with_hidden(
        &mut self,
        query: &Query,
        body: &RelRef,
        hidden: &[&ast::Expr],
    ) -> Result<RelRef> {
        let over_result = over_result(body, hidden);
        let SetExpr::Select(select) = query.body.as_ref() else {
            return over_result;
        };
        if over_result.is_ok() || select.distinct.is_some() {
            return over_result;
        }
        let mut select = select.clone();
        for (number, expr) in hidden.iter().enumerate() {
            select.projection.push(SelectItem::ExprWithAlias {
                expr: (*expr).clone(),
                alias: Ident::new(format!("$order{number}")),
            });
        }
        self.set_expr(&SetExpr::Select(select))
    }
}

fn over_result(body: &RelRef, hidden: &[&ast::Expr]) -> Result<RelRef> {
    let scope = Scope::of_relation(None, &body.columns);
    let mut analyzer = Analyzer::new(&scope, "ORDER BY")?;
    let mut projection: Vec<Expr> = (0..body.columns.len()).map(input_ref).collect();
    let mut columns = body.columns.clone();
    for (number, expr) in hidden.iter().enumerate() {
        let (typed, field) = analyzer.typed(expr)?;
        projection.push(typed);
        columns.push(column(&format!("$order{number}"), field));
    }
    Ok(Rel::calc(body.clone(), None, projection, columns))
}

/// A name or number of a column of the result.
fn output_column(body: &Rel, expr: &ast::Expr) -> Result<Option<usize>> {
    match expr {
        ast::Expr::Identifier(name) => {
            let mut columns = body.columns.iter();
            Ok(columns.position(|column| column.name == name.value))
        }
        ast::Expr::Value(value) => {
            let number = match literal::value(&value.value) {
                Ok(ScalarValue::Int32(Some(number))) => usize::try_from(number).ok(),
                _ => return Ok(None),
            };
            let at = number.and_then(|number| number.checked_sub(1));
            match at.filter(|at| *at < body.columns.len()) {
                Some(at) => Ok(Some(at)),
                None => Err(SqlError::new(format!(
                    "ORDER BY {value}: the result has {} columns",
                    body.columns.len()
                ))
                .at(expr)),
            }
        }
        _ => Ok(None),
    }
}

fn sort_keys(query: &Query) -> Result<&[OrderByExpr]> {
    let Some(order_by) = &query.order_by else {
        return Ok(&[]);
    };
    match &order_by.kind {
        OrderByKind::Expressions(keys) => {
            if let Some(key) = keys.iter().find(|key| key.with_fill.is_some()) {
                return Err(SqlError::new("Flink's SQL has no WITH FILL").at(key));
            }
            Ok(keys)
        }
        OrderByKind::All(_) => Err(SqlError::new("Flink's SQL has no ORDER BY ALL").at(order_by)),
    }
}

fn limit(query: &Query) -> Result<Option<Limit>> {
    let (mut count, mut offset) = (None, 0);
    match &query.limit_clause {
        None => {}
        Some(LimitClause::LimitOffset {
            limit,
            offset: skipped,
            limit_by,
        }) if limit_by.is_empty() => {
            count = limit.as_ref().map(rows).transpose()?;
            if let Some(skipped) = skipped {
                offset = rows(&skipped.value)?;
            }
        }
        Some(LimitClause::OffsetCommaLimit {
            offset: skipped,
            limit,
        }) => {
            offset = rows(skipped)?;
            count = Some(rows(limit)?);
        }
        Some(_) => return Err(SqlError::new("Flink's SQL has no LIMIT BY").at(query)),
    }
    if let Some(fetch) = &query.fetch {
        if fetch.with_ties || fetch.percent {
            return Err(SqlError::new("Flink's SQL has no FETCH with PERCENT or TIES").at(query));
        }
        count = Some(match &fetch.quantity {
            Some(quantity) => rows(quantity)?,
            None => 1,
        });
    }
    match count {
        Some(count) => Ok(Some(Limit { offset, count })),
        None if offset == 0 => Ok(None),
        None => Err(SqlError::new(
            "FETCH is missed, which on streaming table is not supported currently",
        )
        .at(query)
        .hint("say with LIMIT how many rows follow the OFFSET")),
    }
}

fn rows(expr: &ast::Expr) -> Result<u64> {
    let value = match expr {
        ast::Expr::Value(value) => literal::value(&value.value).ok(),
        _ => None,
    };
    let rows = match value {
        Some(ScalarValue::Int32(Some(rows))) => u64::try_from(rows).ok(),
        Some(ScalarValue::Int64(Some(rows))) => u64::try_from(rows).ok(),
        _ => None,
    };
    rows.ok_or_else(|| SqlError::new("LIMIT, OFFSET and FETCH take a number of rows").at(expr))
}

/// All rows, in order.
fn sort(input: RelRef, order: Vec<SortKey>) -> Result<RelRef> {
    if input.updating {
        return Err(SqlError::unsupported(
            "ORDER BY without LIMIT of a relation with updates",
        ));
    }
    let by_time = order.first().filter(|key| !key.descending);
    let by_time = by_time.and_then(|key| Some((key.column, input.columns[key.column].time?)));
    let time = match by_time {
        // That is how they come.
        Some((_, TimeAttribute::Proctime)) => return Ok(input),
        Some((column, TimeAttribute::Rowtime)) => Some(column),
        None if is_bounded(&input) => None,
        None => {
            return Err(
                SqlError::new("Sort on a non-time-attribute field is not supported.")
                    .hint("sort by a time attribute, ascending, or say with LIMIT how many rows"),
            );
        }
    };
    Ok(Arc::new(Rel {
        columns: input.columns.clone(),
        window: input.window,
        updating: false,
        op: RelOp::Sort(Sort { input, order, time }),
    }))
}

fn is_bounded(rel: &Rel) -> bool {
    match &rel.op {
        RelOp::Scan(scan) => scan.bounded,
        _ => rel.inputs().into_iter().all(|input| is_bounded(input)),
    }
}
