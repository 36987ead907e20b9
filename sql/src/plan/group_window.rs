//! `GROUP BY TUMBLE(ts, INTERVAL ...)`, HOP and SESSION: the older form of windows. It becomes a windowing function over FROM and a grouping by its
//! window, TUMBLE_START(ts, ...) and its like become the window's columns.

use std::ops::ControlFlow;

use datafusion_common::ScalarValue;
use sqlparser::ast::{
    self, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, ObjectName,
};
use weir_proto::v1::WindowKind;

use super::expr::Analyzer;
use super::from::{assign, check_time_column};
use super::literal;
use super::query::{SelectExpr, SelectValue};
use super::rel::{RelRef, Window, as_input_ref};
use super::scope::{Scope, ScopeColumn};
use crate::error::{Result, SqlError};

/// Names that no table's columns have.
const COLUMNS: [&str; 3] = ["$window_start", "$window_end", "$window_time"];

/// A SELECT whose grouping has become one by a window's columns.
pub(super) struct Rewritten {
    pub input: RelRef,
    pub scope: Scope,
    pub items: Vec<SelectExpr>,
    pub group_by: Vec<Expr>,
    pub having: Option<Expr>,
}

/// Rewrites a SELECT that groups by a window; `None` if it does not.
pub(super) fn rewrite(
    input: &RelRef,
    scope: &Scope,
    items: &[SelectExpr],
    group_by: &[Expr],
    having: Option<&Expr>,
) -> Result<Option<Rewritten>> {
    let mut calls = group_by
        .iter()
        .filter_map(|expr| Some((expr, group_window(expr)?)));
    let Some((written, kind)) = calls.next() else {
        return Ok(None);
    };
    if let Some((second, _)) = calls.next() {
        return Err(SqlError::new("GROUP BY has two windows").at(second));
    }
    let Expr::Function(function) = written else {
        return Ok(None);
    };
    let mut window = read(scope, function, kind).map_err(|error| error.at(written))?;
    window.processing_time = check_time_column(&name_of(function), input, window.time_column)
        .map_err(|e| e.at(written))?;
    let others: Vec<&Expr> = group_by.iter().filter(|expr| *expr != written).collect();
    if kind == WindowKind::Session {
        window.partition = partition(scope, &others)?;
    }
    let assigned = assign(input.clone(), window);
    let mut scope = scope.clone();
    for (entry, column) in scope.columns.iter_mut().zip(&assigned.columns) {
        // The old form leaves the time attribute usable: TUMBLE_START names it again.
        entry.column.field = column.field.clone();
    }
    let width = scope.columns.len();
    for (name, column) in COLUMNS.iter().zip(&assigned.columns[width..]) {
        let mut column = column.clone();
        column.name = (*name).to_owned();
        scope.columns.push(ScopeColumn {
            qualifier: None,
            column,
            hidden: false,
        });
    }
    let mut uses_time = false;
    let mut replace = |expr: &Expr| properties(expr, written, &mut uses_time);
    let items = items
        .iter()
        .map(|item| {
            Ok(SelectExpr {
                name: item.name.clone(),
                expr: match &item.expr {
                    SelectValue::Column(index) => SelectValue::Column(*index),
                    SelectValue::Written(expr) => SelectValue::Written(Box::new(replace(expr)?)),
                },
            })
        })
        .collect::<Result<_>>()?;
    let having = having.map(&mut replace).transpose()?;
    let mut group_by: Vec<Expr> = others.into_iter().cloned().collect();
    let bounds = if uses_time { 3 } else { 2 };
    group_by.extend(COLUMNS[..bounds].iter().map(|name| column(name)));
    Ok(Some(Rewritten {
        input: assigned,
        scope,
        items,
        group_by,
        having,
    }))
}

fn name_of(function: &ast::Function) -> String {
    function.name.to_string().to_uppercase()
}

fn group_window(expr: &Expr) -> Option<WindowKind> {
    let Expr::Function(function) = expr else {
        return None;
    };
    match name_of(function).as_str() {
        "TUMBLE" => Some(WindowKind::Tumble),
        "HOP" => Some(WindowKind::Hop),
        "SESSION" => Some(WindowKind::Session),
        _ => None,
    }
}

fn arguments(function: &ast::Function) -> Option<Vec<&Expr>> {
    let FunctionArguments::List(list) = &function.args else {
        return None;
    };
    let arguments = list.args.iter().map(|argument| match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
        _ => None,
    });
    arguments.collect()
}

/// TUMBLE(time, size), HOP(time, slide, size), SESSION(time, gap), each with an offset behind it.
fn read(scope: &Scope, function: &ast::Function, kind: WindowKind) -> Result<Window> {
    let name = name_of(function);
    let arguments = arguments(function).unwrap_or_default();
    let two = kind == WindowKind::Hop;
    let (time, intervals) = arguments
        .split_first()
        .ok_or_else(|| SqlError::new(format!("{name} takes a time attribute and an interval")))?;
    let wanted = 1 + usize::from(two);
    if intervals.len() < wanted || intervals.len() > wanted + 1 {
        return Err(SqlError::new(format!(
            "{name} takes a time attribute and {wanted} interval(s), not {} arguments",
            arguments.len()
        )));
    }
    if kind == WindowKind::Session && intervals.len() > 1 {
        return Err(SqlError::new("SESSION takes no offset"));
    }
    let (typed, _) = Analyzer::new(scope, "GROUP BY")?.typed(time)?;
    let time_column = as_input_ref(&typed)
        .ok_or_else(|| SqlError::new(format!("{name} takes a time attribute")).at(*time))?;
    let mut lengths = Vec::with_capacity(intervals.len());
    for interval in intervals {
        lengths.push(length(interval)?);
    }
    let size_ms = lengths[usize::from(two)];
    let slide_ms = if two { lengths[0] } else { 0 };
    if size_ms <= 0 || (two && slide_ms <= 0) {
        return Err(SqlError::new(format!(
            "an interval of {name} is not above 0"
        )));
    }
    Ok(Window {
        kind,
        size_ms,
        slide_ms,
        offset_ms: lengths.get(wanted).copied().unwrap_or_default(),
        time_column,
        processing_time: false,
        partition: Vec::new(),
    })
}

fn length(expr: &Expr) -> Result<i64> {
    let value = match expr {
        Expr::Interval(interval) => literal::interval(interval).map_err(|error| error.at(expr))?,
        _ => return Err(SqlError::new("a window's size is an INTERVAL").at(expr)),
    };
    match value {
        ScalarValue::DurationMillisecond(Some(ms)) => Ok(ms),
        _ => Err(SqlError::new("a window's size is days, hours, minutes and seconds").at(expr)),
    }
}

/// The columns by which rows have sessions of their own.
fn partition(scope: &Scope, others: &[&Expr]) -> Result<Vec<usize>> {
    let mut partition = Vec::with_capacity(others.len());
    for expr in others {
        let (typed, _) = Analyzer::new(scope, "GROUP BY")?.typed(expr)?;
        partition.push(as_input_ref(&typed).ok_or_else(|| {
            SqlError::unsupported("GROUP BY SESSION(...) and an expression")
                .at(*expr)
                .hint("compute the expression in a subquery")
        })?);
    }
    Ok(partition)
}

fn column(name: &str) -> Expr {
    Expr::Identifier(Ident::with_quote('`', name))
}

/// `TUMBLE_START(ts, ...)` is the start of the window if its arguments are those of the grouping.
fn properties(expr: &Expr, window: &Expr, uses_time: &mut bool) -> Result<Expr> {
    let Expr::Function(grouped) = window else {
        return Ok(expr.clone());
    };
    let mut expr = expr.clone();
    let walk = ast::visit_expressions_mut(&mut expr, |part| {
        let Expr::Function(function) = part else {
            return ControlFlow::Continue(());
        };
        let name = name_of(function);
        let Some((kind, property)) = name.split_once('_') else {
            return ControlFlow::Continue(());
        };
        if !matches!(kind, "TUMBLE" | "HOP" | "SESSION") {
            return ControlFlow::Continue(());
        }
        let place = match property {
            "START" => COLUMNS[0],
            "END" => COLUMNS[1],
            "ROWTIME" => COLUMNS[2],
            "PROCTIME" => {
                function.name = ObjectName::from(vec![Ident::new("PROCTIME")]);
                if let FunctionArguments::List(list) = &mut function.args {
                    list.args.clear();
                }
                return ControlFlow::Continue(());
            }
            _ => return ControlFlow::Continue(()),
        };
        if kind != name_of(grouped) || arguments(function) != arguments(grouped) {
            let error = SqlError::new(format!("{name} is of no window in GROUP BY"));
            return ControlFlow::Break(error.at(&*part));
        }
        *uses_time |= place == COLUMNS[2];
        *part = column(place);
        ControlFlow::Continue(())
    });
    match walk {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => Ok(expr),
    }
}
