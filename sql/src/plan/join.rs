//! Joins of windowed relations.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion_expr::{BinaryExpr, Expr, Operator};
use weir_proto::v1::JoinKind;

use super::expr::{column, type_of};
use super::rel::{
    Column, Rel, RelOp, RelRef, WindowColumns, WindowJoin, as_input_ref, collect_inputs,
    conjunction, expr_schema, input_ref, replace_inputs,
};
use crate::error::{Result, SqlError};

/// Joins two relations whose windows the conditions (over left columns ++ right columns) set equal.
pub(super) fn window_join(
    kind: JoinKind,
    left: RelRef,
    right: RelRef,
    conditions: Vec<Expr>,
) -> Result<RelRef> {
    let width = left.columns.len();
    let windows = left.window.zip(right.window);
    let mut sides = Sides::default();
    let mut same_window = [false; 2];
    for condition in conditions {
        let Some((ours, theirs)) = equality(&condition, width) else {
            sides.residual.push(condition);
            continue;
        };
        let pair = as_input_ref(&ours).zip(as_input_ref(&theirs));
        let bound = windows.and_then(|(a, b)| window_bound(pair?, &a, &b));
        match bound {
            Some(which) => same_window[which] = true,
            None => sides.keys.push((ours, theirs)),
        }
    }
    let Some((left_window, right_window)) = windows.filter(|_| same_window == [true, true]) else {
        return Err(SqlError::unsupported("regular join").hint(
            "only joins of windowed relations are, ON both window_start and window_end being equal",
        ));
    };
    let (left_window, right_window) = (bounds(&left_window)?, bounds(&right_window)?);
    if left.updating || right.updating {
        return Err(SqlError::unsupported(
            "a window join of relations with updates",
        ));
    }
    build(kind, left, right, left_window, right_window, sides)
}

#[derive(Default)]
struct Sides {
    /// Equal expressions: over the left columns, over the right columns.
    keys: Vec<(Expr, Expr)>,
    /// Over both.
    residual: Vec<Expr>,
}

fn bounds(window: &WindowColumns) -> Result<(usize, usize)> {
    window
        .start
        .zip(window.end)
        .ok_or_else(|| SqlError::new("a joined relation has lost its window_start or window_end"))
}

/// 0: both are window starts; 1: both are window ends.
fn window_bound(
    (ours, theirs): (usize, usize),
    left: &WindowColumns,
    right: &WindowColumns,
) -> Option<usize> {
    [(left.start, right.start), (left.end, right.end)]
        .into_iter()
        .position(|bounds| bounds == (Some(ours), Some(theirs)))
}

/// `left = right` with each side over one relation: the two expressions, each over its own relation's columns.
fn equality(condition: &Expr, width: usize) -> Option<(Expr, Expr)> {
    let Expr::BinaryExpr(BinaryExpr {
        left,
        op: Operator::Eq,
        right,
    }) = condition
    else {
        return None;
    };
    let (first, second) = (side(left, width)?, side(right, width)?);
    let (ours, theirs) = match (first, second) {
        (Side::Left, Side::Right) => (left, right),
        (Side::Right, Side::Left) => (right, left),
        _ => return None,
    };
    let theirs = replace_inputs(theirs, |index| input_ref(index - width));
    Some((ours.as_ref().clone(), theirs))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Left,
    Right,
}

fn side(expr: &Expr, width: usize) -> Option<Side> {
    let mut used = BTreeSet::new();
    collect_inputs(expr, &mut used);
    let (first, last) = (used.first()?, used.last()?);
    match (*first < width, *last < width) {
        (true, true) => Some(Side::Left),
        (false, false) => Some(Side::Right),
        _ => None,
    }
}

fn build(
    kind: JoinKind,
    left: RelRef,
    right: RelRef,
    left_window: (usize, usize),
    right_window: (usize, usize),
    sides: Sides,
) -> Result<RelRef> {
    let (left_width, right_width) = (left.columns.len(), right.columns.len());
    let out = joined_columns(kind, &left, &right);
    let window = left.window;
    let (left_exprs, right_exprs): (Vec<_>, Vec<_>) = sides.keys.into_iter().unzip();
    let (left, left_keys) = with_keys(left, &left_exprs)?;
    let (right, right_keys) = with_keys(right, &right_exprs)?;
    let (left_now, right_now) = (left.columns.len(), right.columns.len());
    let shift = |index: usize| {
        if index < left_width {
            index
        } else {
            index - left_width + left_now
        }
    };
    let condition = conjunction(sides.residual)
        .map(|condition| replace_inputs(&condition, |index| input_ref(shift(index))));
    let columns = joined_columns(kind, &left, &right);
    let rel = Arc::new(Rel {
        op: RelOp::WindowJoin(WindowJoin {
            kind,
            left,
            right,
            left_keys,
            right_keys,
            left_window,
            right_window,
            condition,
        }),
        columns,
        window: window.filter(|_| kind != JoinKind::Right && kind != JoinKind::Full),
        updating: false,
    });
    if left_now == left_width && right_now == right_width {
        return Ok(rel);
    }
    // The computed keys go away again.
    let kept = (0..out.len()).map(|index| input_ref(shift(index)));
    Ok(Rel::calc(rel.clone(), None, kept.collect(), out))
}

fn joined_columns(kind: JoinKind, left: &Rel, right: &Rel) -> Vec<Column> {
    let nullable = |columns: &[Column], padded: bool| {
        let mut columns = columns.to_vec();
        for column in &mut columns {
            column.field.nullable |= padded;
        }
        columns
    };
    let mut columns = nullable(
        &left.columns,
        matches!(kind, JoinKind::Right | JoinKind::Full),
    );
    if !matches!(kind, JoinKind::Semi | JoinKind::Anti) {
        let padded = matches!(kind, JoinKind::Left | JoinKind::Full);
        let mut more = nullable(&right.columns, padded);
        // One of the two time attributes is enough, and the left one is never padded in an inner or left join.
        for column in &mut more {
            column.time = None;
        }
        columns.extend(more);
    }
    columns
}

/// The relation with a column for each key; keys that are columns already need none.
fn with_keys(rel: RelRef, keys: &[Expr]) -> Result<(RelRef, Vec<usize>)> {
    let mut projection: Vec<Expr> = (0..rel.columns.len()).map(input_ref).collect();
    let mut columns = rel.columns.clone();
    let schema = expr_schema(&rel.columns)?;
    let mut positions = Vec::with_capacity(keys.len());
    for key in keys {
        let at = projection.iter().position(|known| known == key);
        positions.push(match at {
            Some(at) => at,
            None => {
                let name = format!("$key{}", projection.len());
                columns.push(column(&name, type_of(key, &schema)?));
                projection.push(key.clone());
                projection.len() - 1
            }
        });
    }
    if columns.len() == rel.columns.len() {
        return Ok((rel, positions));
    }
    Ok((Rel::calc(rel, None, projection, columns), positions))
}
