//! SELECT with GROUP BY or aggregates: a projection that computes keys and arguments, the aggregate, a projection for the SELECT list.

use std::sync::Arc;

use datafusion_common::ScalarValue;
use datafusion_common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion_expr::Expr;
use sqlparser::ast;
use weir_dataflow::types::{LogicalField, LogicalType};

use super::expr::{
    AggregateCall, Analyzer, check_condition, coerce, column, literal_expr, type_of,
};
use super::grouping_sets::{self, Grouping};
use super::over::Overs;
use super::query::{self, SelectExpr, SelectValue};
use super::rel::{
    Aggregate, Column, Rel, RelOp, RelRef, WindowColumns, WindowProperty, WindowSource,
    as_input_ref, expr_schema, input_ref,
};
use super::scope::Scope;
use super::{TimeAttribute, aggregate, text};
use crate::error::{Result, SqlError};

/// The SELECT as an aggregate; `None` if it is none.
pub(super) fn plan(
    input: &RelRef,
    scope: &Scope,
    items: &[SelectExpr],
    group_by: &[ast::Expr],
    having: Option<&ast::Expr>,
    select: &ast::Select,
) -> Result<Option<RelRef>> {
    let grouping = Grouping::of(group_by)?;
    let mut keys = Vec::with_capacity(grouping.keys.len());
    for expr in &grouping.keys {
        keys.push(group_key(scope, expr)?);
    }
    let mut calls = Vec::new();
    let mut overs = Overs::new(&select.named_window);
    let raw_items = raw_items(scope, items, &mut calls, &mut overs)?;
    let raw_having = match having {
        Some(having) => Some(Analyzer::with_aggregates(scope, "HAVING", &mut calls)?.raw(having)?),
        None => None,
    };
    let qualify = query::qualify(select, items);
    let raw_qualify = match &qualify {
        Some(qualify) => Some(
            Analyzer::with_aggregates(scope, "QUALIFY", &mut calls)?
                .with_overs(&mut overs)
                .raw(qualify)?,
        ),
        None => None,
    };
    if group_by.is_empty() && calls.is_empty() {
        return Ok(None);
    }
    let (grouped, keys) = group_sets(input, scope, keys, &calls, grouping.sets.as_deref())?;
    let finish = Finish {
        scope,
        keys: &keys,
        grouped: &grouped,
    };
    let having = match (raw_having, having) {
        (Some(raw), Some(written)) => {
            let (expr, field) = finish.typed(raw).map_err(|error| error.at(written))?;
            check_condition("HAVING", &field).map_err(|error| error.at(written))?;
            Some(expr)
        }
        _ => None,
    };
    // Calls with OVER see the groups that HAVING has left.
    let (rel, having) = match having {
        Some(having) if !overs.is_empty() => (Rel::filter(grouped.rel.clone(), having), None),
        having => (grouped.rel.clone(), having),
    };
    let (rel, places) = overs.append(rel, &|raw| finish.typed(raw.clone()))?;
    let schema = expr_schema(&rel.columns)?;
    let typed = |raw: Expr| coerce(Overs::replace(finish.move_behind(raw)?, &places), &schema);
    let filter = match (raw_qualify, &qualify) {
        (Some(raw), Some(written)) => {
            let (expr, field) = typed(raw).map_err(|error| error.at(written))?;
            query::check_qualify(&overs, written, &field)?;
            Some(expr)
        }
        _ => having,
    };
    let mut projection = Vec::with_capacity(items.len());
    let mut columns = Vec::with_capacity(items.len());
    for (item, raw) in items.iter().zip(raw_items) {
        let (expr, field) = typed(raw).map_err(|error| match &item.expr {
            SelectValue::Written(written) => error.at(written.as_ref()),
            SelectValue::Column(_) => error,
        })?;
        let mut out = column(&item.name, field);
        out.time = as_input_ref(&expr).and_then(|index| rel.columns[index].time);
        projection.push(expr);
        columns.push(out);
    }
    Ok(Some(Rel::calc(rel, filter, projection, columns)))
}

/// A GROUP BY expression.
struct Key {
    raw: Expr,
    typed: Expr,
    column: Column,
}

fn group_key(scope: &Scope, expr: &ast::Expr) -> Result<Key> {
    if matches!(expr, ast::Expr::Tuple(_)) {
        return Err(SqlError::unsupported("a tuple in GROUP BY").at(expr));
    }
    let mut analyzer = Analyzer::new(scope, "GROUP BY")?;
    let raw = analyzer.raw(expr)?;
    let (typed, field) = analyzer.typed(expr)?;
    if matches!(
        field.logical_type,
        LogicalType::Map(..) | LogicalType::Multiset(_)
    ) {
        return Err(
            SqlError::new(format!("GROUP BY does not take {}", field.logical_type)).at(expr),
        );
    }
    let column = match as_input_ref(&typed) {
        Some(index) => scope.columns[index].column.clone(),
        None => column(&text::expr(&typed, &scope.row()), field),
    };
    Ok(Key { raw, typed, column })
}

fn raw_items(
    scope: &Scope,
    items: &[SelectExpr],
    calls: &mut Vec<AggregateCall>,
    overs: &mut Overs,
) -> Result<Vec<Expr>> {
    let mut analyzer = Analyzer::with_aggregates(scope, "SELECT", calls)?.with_overs(overs);
    items
        .iter()
        .map(|item| match &item.expr {
            SelectValue::Column(index) => Ok(input_ref(*index)),
            SelectValue::Written(written) => analyzer.raw(written),
        })
        .collect()
}

/// An aggregate, and where its keys and calls are among its columns.
struct Grouped {
    rel: RelRef,
    key_positions: Vec<usize>,
    call_positions: Vec<usize>,
}

/// The aggregate over all grouping sets, with the calls of GROUPING behind it.
fn group_sets(
    input: &RelRef,
    scope: &Scope,
    mut keys: Vec<Key>,
    calls: &[AggregateCall],
    sets: Option<&[Vec<usize>]>,
) -> Result<(Grouped, Vec<Key>)> {
    let originals: Vec<Expr> = keys.iter().map(|key| key.typed.clone()).collect();
    let expanded = match sets {
        Some(sets) => {
            let typed: Vec<_> = keys.iter().map(|key| (&key.typed, &key.column)).collect();
            Some(grouping_sets::expand(input, &typed, sets)?)
        }
        None => None,
    };
    let input = expanded.as_ref().map_or(input, |expanded| &expanded.rel);
    if let Some(expanded) = &expanded {
        for (key, place) in keys.iter_mut().zip(&expanded.keys) {
            if let Some(place) = place {
                key.typed = input_ref(*place);
                key.column = input.columns[*place].clone();
            }
        }
        keys.push(Key {
            // No expression of a query is this.
            raw: input_ref(usize::MAX),
            typed: input_ref(expanded.set),
            column: input.columns[expanded.set].clone(),
        });
    }
    let is_grouping = |call: &&AggregateCall| call.function == "GROUPING";
    let counted: Vec<AggregateCall> = calls.iter().filter(|c| !is_grouping(c)).cloned().collect();
    let mut grouped = group(input, scope, &keys, &counted)?;
    if counted.len() == calls.len() {
        return Ok((grouped, keys));
    }
    let set = input_ref(grouped.key_positions.last().copied().unwrap_or_default());
    let mut columns = grouped.rel.columns.clone();
    let mut projection: Vec<Expr> = (0..columns.len()).map(input_ref).collect();
    let mut counted = grouped.call_positions.into_iter();
    let mut positions = Vec::with_capacity(calls.len());
    for call in calls {
        if !is_grouping(&call) {
            positions.push(counted.next().unwrap_or_default());
            continue;
        }
        let mut arguments = Vec::with_capacity(call.arguments.len());
        for argument in &call.arguments {
            let place = originals.iter().position(|key| key == argument);
            arguments.push(place.ok_or_else(|| {
                SqlError::new("the arguments of GROUPING are expressions of the GROUP BY")
            })?);
        }
        let field = LogicalField {
            logical_type: LogicalType::BigInt,
            nullable: false,
        };
        positions.push(columns.len());
        columns.push(column("GROUPING", field));
        projection.push(grouping_sets::grouping(&arguments, sets, &set));
    }
    grouped.call_positions = positions;
    grouped.rel = Rel::calc(grouped.rel, None, projection, columns);
    Ok((grouped, keys))
}

fn group(input: &RelRef, scope: &Scope, keys: &[Key], calls: &[AggregateCall]) -> Result<Grouped> {
    let properties = window_properties(input, keys);
    let windowed = properties.contains(&Some(WindowProperty::Start))
        && properties.contains(&Some(WindowProperty::End));
    let mut before = Projection::default();
    let mut key_columns = Vec::new();
    let mut key_positions = Vec::with_capacity(keys.len());
    for (key, property) in keys.iter().zip(&properties) {
        if windowed && property.is_some() {
            // Its place among the properties is found when they are there.
            key_positions.push(usize::MAX);
            continue;
        }
        let at = before.add(&key.typed, key.column.clone());
        let known = key_columns.iter().position(|known| *known == at);
        key_positions.push(known.unwrap_or_else(|| {
            key_columns.push(at);
            key_columns.len() - 1
        }));
    }
    let aggregates = aggregates(scope, calls, &mut before)?;
    let out = grouped_columns(&before, &key_columns, &aggregates, calls)?;
    let call_positions = (0..calls.len())
        .map(|index| key_columns.len() + index)
        .collect();
    let rel = if windowed {
        window_aggregate(
            input,
            before,
            key_columns,
            aggregates,
            &properties,
            keys,
            out,
        )?
    } else {
        Arc::new(Rel {
            columns: out,
            window: None,
            updating: input.updating || !aggregates.is_empty(),
            op: RelOp::GroupAggregate {
                input: before.over(input),
                keys: key_columns,
                aggregates,
            },
        })
    };
    for (position, property) in key_positions.iter_mut().zip(&properties) {
        if let (true, Some(property)) = (*position == usize::MAX, property) {
            let name = property.name();
            let at = rel.columns.iter().rposition(|column| column.name == name);
            *position = at.unwrap_or_default();
        }
    }
    Ok(Grouped {
        rel,
        key_positions,
        call_positions,
    })
}

/// The calls over columns that `before` computes.
fn aggregates(
    scope: &Scope,
    calls: &[AggregateCall],
    before: &mut Projection,
) -> Result<Vec<Aggregate>> {
    let row = scope.row();
    let schema = expr_schema(&row)?;
    let mut aggregates = Vec::with_capacity(calls.len());
    for call in calls {
        let arguments = call.arguments.iter().zip(&call.argument_types);
        let arguments = arguments
            .map(|(expr, field)| before.add(expr, named(expr, scope, field.clone())))
            .collect();
        let filter = match &call.filter {
            Some(filter) => {
                let field = type_of(filter, &schema)?;
                Some(before.add(filter, column(&text::expr(filter, &row), field)))
            }
            None => None,
        };
        aggregates.push(Aggregate {
            function: call.function.to_owned(),
            arguments,
            distinct: call.distinct,
            filter,
        });
    }
    Ok(aggregates)
}

/// Keys, then the results of the calls.
fn grouped_columns(
    before: &Projection,
    keys: &[usize],
    aggregates: &[Aggregate],
    calls: &[AggregateCall],
) -> Result<Vec<Column>> {
    let mut out = Vec::with_capacity(keys.len() + calls.len());
    for at in keys {
        let mut key = before.columns[*at].clone();
        key.time = None;
        out.push(key);
    }
    for (call, aggregate) in calls.iter().zip(aggregates) {
        let may_be_empty = call.filter.is_some() || (keys.is_empty() && call.function != "COUNT");
        let field = aggregate::result_type(call.function, &call.argument_types, may_be_empty)?;
        out.push(column(&text::aggregate(aggregate, &before.columns), field));
    }
    Ok(out)
}

/// Which of the keys are columns of the input's window.
fn window_properties(input: &Rel, keys: &[Key]) -> Vec<Option<WindowProperty>> {
    let Some(window) = input.window else {
        return vec![None; keys.len()];
    };
    let property = |key: &Key| {
        let index = as_input_ref(&key.typed)?;
        [
            (window.start, WindowProperty::Start),
            (window.end, WindowProperty::End),
            (window.time, WindowProperty::Time),
        ]
        .into_iter()
        .find_map(|(column, property)| (column == Some(index)).then_some(property))
    };
    keys.iter().map(property).collect()
}

fn window_aggregate(
    input: &RelRef,
    mut before: Projection,
    keys: Vec<usize>,
    aggregates: Vec<Aggregate>,
    properties: &[Option<WindowProperty>],
    written: &[Key],
    mut out: Vec<Column>,
) -> Result<RelRef> {
    if input.updating {
        return Err(SqlError::unsupported(
            "a window aggregate over a relation with updates",
        ));
    }
    let key_of = |wanted: WindowProperty| {
        let mut known = written.iter().zip(properties);
        let found = known.find(|(_, property)| **property == Some(wanted));
        found.map(|(key, _)| key)
    };
    let bounds = key_of(WindowProperty::Start).zip(key_of(WindowProperty::End));
    let (start, end) = bounds.ok_or_else(|| SqlError::new("a window has no start or end"))?;
    let window = WindowSource::Attached {
        start: before.add(&start.typed, start.column.clone()),
        end: before.add(&end.typed, end.column.clone()),
    };
    let mut asked = Vec::new();
    let mut place = |property: WindowProperty| {
        let mut column = key_of(property)?.column.clone();
        column.name = property.name().to_owned();
        column.field.nullable = false;
        column.time = (property == WindowProperty::Time).then_some(TimeAttribute::Rowtime);
        asked.push(property);
        out.push(column);
        Some(out.len() - 1)
    };
    let columns = WindowColumns {
        start: place(WindowProperty::Start),
        end: place(WindowProperty::End),
        time: place(WindowProperty::Time),
    };
    Ok(Arc::new(Rel {
        window: Some(columns),
        columns: out,
        updating: false,
        op: RelOp::WindowAggregate {
            input: before.over(input),
            window,
            keys,
            aggregates,
            properties: asked,
        },
    }))
}

/// A projection that grows; equal expressions are one column.
#[derive(Default)]
struct Projection {
    exprs: Vec<Expr>,
    columns: Vec<Column>,
}

impl Projection {
    fn add(&mut self, expr: &Expr, column: Column) -> usize {
        if let Some(known) = self.exprs.iter().position(|known| known == expr) {
            return known;
        }
        self.exprs.push(expr.clone());
        self.columns.push(column);
        self.exprs.len() - 1
    }

    /// At least one column, since rows without any have no number.
    fn over(mut self, input: &RelRef) -> RelRef {
        if self.exprs.is_empty() {
            let field = LogicalField {
                logical_type: LogicalType::Boolean,
                nullable: false,
            };
            let row = literal_expr(ScalarValue::Boolean(Some(true)));
            self.add(&row, column("$row", field));
        }
        Rel::calc(input.clone(), None, self.exprs, self.columns)
    }
}

fn named(expr: &Expr, scope: &Scope, field: LogicalField) -> Column {
    match as_input_ref(expr) {
        Some(index) => scope.columns[index].column.clone(),
        None => column(&text::expr(expr, &scope.row()), field),
    }
}

/// Moves expressions from the scope behind the aggregate.
struct Finish<'a> {
    scope: &'a Scope,
    keys: &'a [Key],
    grouped: &'a Grouped,
}

impl Finish<'_> {
    fn typed(&self, raw: Expr) -> Result<(Expr, LogicalField)> {
        let moved = self.move_behind(raw)?;
        coerce(moved, &expr_schema(&self.grouped.rel.columns)?)
    }

    fn move_behind(&self, raw: Expr) -> Result<Expr> {
        let width = self.scope.columns.len();
        let mut stray = None;
        let moved = raw.transform_down(|node| {
            if let Some(key) = self.keys.iter().position(|key| key.raw == node) {
                let expr = input_ref(self.grouped.key_positions[key]);
                return Ok(Transformed::new(expr, true, TreeNodeRecursion::Jump));
            }
            Ok(match as_input_ref(&node) {
                Some(index) if index >= width => {
                    let expr = input_ref(self.grouped.call_positions[index - width]);
                    Transformed::new(expr, true, TreeNodeRecursion::Jump)
                }
                Some(index) => {
                    stray.get_or_insert(index);
                    Transformed::no(node)
                }
                None => Transformed::no(node),
            })
        });
        if let Some(index) = stray {
            let name = &self.scope.columns[index].column.name;
            return Err(SqlError::new(format!(
                "column '{name}' is neither in GROUP BY nor in an aggregate"
            )));
        }
        moved
            .map(|moved| moved.data)
            .map_err(|error| super::error::translate(&error))
    }
}
