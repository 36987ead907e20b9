//! Joins: which of the conditions are keys, and which rows meet.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::{DataType, Schema};
use datafusion_expr::{BinaryExpr, Expr, Operator};
use weir_dataflow::key::KeyEncoder;
use weir_dataflow::nested::is_nested;
use weir_proto::v1::JoinKind;

use super::call::is_true;
use super::expr::{column, type_of};
use super::rel::{
    Column, Join, JoinShape, Rel, RelOp, RelRef, WindowColumns, as_input_ref, collect_inputs,
    conjunction, expr_schema, input_ref, replace_inputs,
};
use crate::error::{Result, SqlError};

/// Joins two relations on conditions over left columns ++ right columns: window by window if they set the windows equal.
pub(super) fn join(
    kind: JoinKind,
    left: RelRef,
    right: RelRef,
    conditions: Vec<Expr>,
) -> Result<RelRef> {
    let windows = left.window.zip(right.window);
    let mut sides = Sides::default();
    let mut window_keys = [None, None];
    for condition in conditions {
        let Some(key) = equality(&condition, &left, &right)? else {
            sides.residual.push(condition);
            continue;
        };
        let pair = as_input_ref(&key.left).zip(as_input_ref(&key.right));
        let bound = windows.and_then(|(a, b)| window_bound(pair?, &a, &b));
        match bound {
            Some(which) => window_keys[which] = Some(key),
            None => sides.keys.push(key),
        }
    }
    sides.residual.retain(|condition| !is_true(condition));
    let shape = match (windows, &window_keys) {
        (Some((a, b)), [Some(_), Some(_)]) => JoinShape::Window {
            left: bounds(&a)?,
            right: bounds(&b)?,
        },
        _ => {
            sides.keys.extend(window_keys.into_iter().flatten());
            JoinShape::Regular
        }
    };
    if shape != JoinShape::Regular {
        if left.updating || right.updating {
            return Err(SqlError::unsupported(
                "a window join of relations with updates",
            ));
        }
        if sides.keys.iter().any(|key| key.null_safe) {
            return Err(SqlError::unsupported(
                "IS NOT DISTINCT FROM in a window join",
            ));
        }
    }
    build(kind, shape, left, right, sides)
}

/// Whether the result of a join is a changelog.
pub(super) fn updates(join: &Join) -> bool {
    let comes_and_goes =
        join.shape == JoinShape::Regular && !matches!(join.kind, JoinKind::Inner | JoinKind::Semi);
    comes_and_goes || join.left.updating || join.right.updating
}

/// An equality of an expression over the left columns and one over the right columns, each over its own relation's.
struct Key {
    left: Expr,
    right: Expr,
    null_safe: bool,
}

#[derive(Default)]
struct Sides {
    keys: Vec<Key>,
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

/// `left = right` with each side over one relation, and of one type that can be a key.
fn equality(condition: &Expr, ours: &Rel, theirs: &Rel) -> Result<Option<Key>> {
    let Expr::BinaryExpr(BinaryExpr { left, op, right }) = condition else {
        return Ok(None);
    };
    let null_safe = match op {
        Operator::Eq => false,
        Operator::IsNotDistinctFrom => true,
        _ => return Ok(None),
    };
    let width = ours.columns.len();
    let (left, right) = match (side(left, width), side(right, width)) {
        (Some(Side::Left), Some(Side::Right)) => (left, right),
        (Some(Side::Right), Some(Side::Left)) => (right, left),
        _ => return Ok(None),
    };
    let right = replace_inputs(right, |index| input_ref(index - width));
    let ours = type_of(left, &expr_schema(&ours.columns)?)?.to_field("left");
    let theirs = type_of(&right, &expr_schema(&theirs.columns)?)?.to_field("right");
    let alike = match (ours.data_type(), theirs.data_type()) {
        (DataType::Decimal128(_, a), DataType::Decimal128(_, b)) => a == b,
        (a, b) => a == b,
    };
    let both = Schema::new(vec![ours, theirs]);
    // Nested values are compared as expressions compare them.
    let nested = is_nested(both.field(0).data_type());
    if !alike || nested || KeyEncoder::new(&both, &[0, 1]).is_err() {
        return Ok(None);
    }
    Ok(Some(Key {
        left: left.as_ref().clone(),
        right,
        null_safe,
    }))
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
    shape: JoinShape,
    left: RelRef,
    right: RelRef,
    sides: Sides,
) -> Result<RelRef> {
    let (left_width, right_width) = (left.columns.len(), right.columns.len());
    let out = joined_columns(kind, &shape, &left, &right);
    let window = match shape {
        JoinShape::Window { .. } => left.window,
        JoinShape::Regular => None,
    };
    let keys = sides.keys.iter();
    let left_exprs: Vec<_> = keys.clone().map(|key| key.left.clone()).collect();
    let right_exprs: Vec<_> = keys.clone().map(|key| key.right.clone()).collect();
    let null_safe = keys.map(|key| key.null_safe).collect();
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
    let columns = joined_columns(kind, &shape, &left, &right);
    let join = Join {
        kind,
        shape,
        left,
        right,
        left_keys,
        right_keys,
        null_safe,
        condition,
    };
    let rel = Arc::new(Rel {
        updating: updates(&join),
        op: RelOp::Join(join),
        columns,
        window: window.filter(|_| kind != JoinKind::Right && kind != JoinKind::Full),
    });
    if left_now == left_width && right_now == right_width {
        return Ok(rel);
    }
    // The computed keys go away again.
    let kept = (0..out.len()).map(|index| input_ref(shift(index)));
    Ok(Rel::calc(rel.clone(), None, kept.collect(), out))
}

fn joined_columns(kind: JoinKind, shape: &JoinShape, left: &Rel, right: &Rel) -> Vec<Column> {
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
    // Rows of a regular join come at any time.
    if *shape == JoinShape::Regular {
        columns.iter_mut().for_each(|column| column.time = None);
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
