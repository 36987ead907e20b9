//! Rewriting of relations: filters go down, projections are merged, windows and aggregates become one, unused columns are not read.
//!
//! DataFusion's optimizer is not used: its rules reshape aggregates and joins in ways that have other state and other changelogs.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion_expr::{BinaryExpr, Expr, Operator};
use weir_proto::v1::{JoinKind, WindowKind};

use super::expr::FIELD_ACCESS;
use super::query::filter_by;
use super::rel::{
    Join, Rel, RelOp, RelRef, Scan, WindowSource, as_input_ref, collect_inputs, conjunction,
    conjuncts, input_ref, is_updating, replace_inputs,
};
use crate::error::Result;

/// All rewriting that one query needs by itself.
///
/// # Errors
/// If an expression can't be typed, which naming it has ruled out before.
pub(super) fn optimize(rel: &RelRef) -> Result<RelRef> {
    let pushed = push(rel, Vec::new());
    let merged = merge(&pushed);
    let fused = fuse_windows(&merged);
    let all: Vec<usize> = (0..fused.columns.len()).collect();
    let pruned = super::prune::exactly(&merge(&fused), &all);
    let flat = super::nested::flatten(&pruned)?;
    Ok(super::prune::exactly(&flat, &all))
}

/// The same relation over other inputs.
pub(super) fn with_inputs(rel: &Rel, inputs: Vec<RelRef>) -> RelRef {
    let mut inputs = inputs.into_iter();
    let mut next = |old: &RelRef| inputs.next().unwrap_or_else(|| old.clone());
    let mut op = rel.op.clone();
    match &mut op {
        RelOp::Scan(_) => {}
        RelOp::Calc { input, .. }
        | RelOp::WindowAssign { input, .. }
        | RelOp::WindowAggregate { input, .. }
        | RelOp::GroupAggregate { input, .. }
        | RelOp::ChangelogNormalize { input, .. } => *input = next(input),
        RelOp::Join(Join { left, right, .. }) => {
            *left = next(left);
            *right = next(right);
        }
        RelOp::Unnest(unnest) => unnest.input = next(&unnest.input),
        RelOp::ChangelogConversion(conversion) => conversion.input = next(&conversion.input),
        RelOp::Over(over) => over.input = next(&over.input),
        RelOp::Rank(rank) => rank.input = next(&rank.input),
        RelOp::MatchRecognize(matching) => matching.input = next(&matching.input),
        RelOp::Sort(sort) => sort.input = next(&sort.input),
        RelOp::Union { inputs } => {
            for input in inputs {
                *input = next(input);
            }
        }
    }
    Arc::new(Rel {
        updating: is_updating(&op, rel.updating),
        op,
        columns: rel.columns.clone(),
        window: rel.window,
    })
}

fn rewrite_inputs(rel: &Rel, rewrite: impl Fn(&RelRef) -> RelRef) -> RelRef {
    let inputs = rel.inputs().into_iter().map(rewrite).collect();
    with_inputs(rel, inputs)
}

/// `rel` with only the rows that fulfil `conditions`, which are checked as early as possible.
fn push(rel: &RelRef, conditions: Vec<Expr>) -> RelRef {
    match &rel.op {
        RelOp::Calc {
            input,
            filter,
            projection,
        } => push_through_calc(rel, input, filter.as_ref(), projection, conditions),
        RelOp::Scan(scan) => {
            let own = scan.filter.iter().flat_map(conjuncts);
            let scan = Scan {
                filter: conjunction(own.chain(conditions)),
                ..scan.clone()
            };
            Arc::new(Rel {
                op: RelOp::Scan(scan),
                columns: rel.columns.clone(),
                window: rel.window,
                updating: rel.updating,
            })
        }
        RelOp::WindowAssign { input, .. } => {
            let (below, above) = partition(conditions, |index| index < input.columns.len());
            filter_by(with_inputs(rel, vec![push(input, below)]), above)
        }
        RelOp::Unnest(unnest) => {
            let (below, above) = partition(conditions, |index| index < unnest.input.columns.len());
            filter_by(with_inputs(rel, vec![push(&unnest.input, below)]), above)
        }
        RelOp::ChangelogNormalize { input, key } => {
            // Of a key all changes are there, or none.
            let (below, above) = partition(conditions, |index| key.contains(&index));
            filter_by(with_inputs(rel, vec![push(input, below)]), above)
        }
        RelOp::Over(over) => {
            // Of a partition all rows are there, or none.
            let (below, above) = partition(conditions, |index| over.partition.contains(&index));
            filter_by(with_inputs(rel, vec![push(&over.input, below)]), above)
        }
        RelOp::Sort(sort) => with_inputs(rel, vec![push(&sort.input, conditions)]),
        RelOp::Rank(rank) => {
            // As above. A condition without columns may be another one each time.
            let (constant, others) = partition(conditions, |_| false);
            let (below, above) = partition(others, |index| rank.partition.contains(&index));
            let above = above.into_iter().chain(constant).collect();
            filter_by(with_inputs(rel, vec![push(&rank.input, below)]), above)
        }
        RelOp::Union { inputs } => {
            let inputs = inputs
                .iter()
                .map(|input| push(input, conditions.clone()))
                .collect();
            with_inputs(rel, inputs)
        }
        RelOp::Join(join) => push_through_join(rel, join, conditions),
        RelOp::WindowAggregate { .. }
        | RelOp::GroupAggregate { .. }
        | RelOp::MatchRecognize(_)
        | RelOp::ChangelogConversion(_) => filter_by(
            rewrite_inputs(rel, |input| push(input, Vec::new())),
            conditions,
        ),
    }
}

fn push_through_calc(
    rel: &Rel,
    input: &RelRef,
    filter: Option<&Expr>,
    projection: &[Expr],
    conditions: Vec<Expr>,
) -> RelRef {
    let mut below: Vec<Expr> = filter.into_iter().flat_map(conjuncts).collect();
    let mut above = Vec::new();
    for condition in conditions {
        let mut used = BTreeSet::new();
        collect_inputs(&condition, &mut used);
        // What costs something is not to be computed twice, below for the condition and here for its column.
        if used.iter().all(|index| is_cheap(&projection[*index])) {
            below.push(replace_inputs(&condition, |index| {
                projection[index].clone()
            }));
        } else {
            above.push(condition);
        }
    }
    let calc = Rel::calc(
        push(input, below),
        None,
        projection.to_vec(),
        rel.columns.clone(),
    );
    filter_by(calc, above)
}

fn push_through_join(rel: &Rel, join: &Join, conditions: Vec<Expr>) -> RelRef {
    let width = join.left.columns.len();
    let mut join = join.clone();
    join.kind = without_padding(join.kind, &conditions, width);
    let kind = join.kind;
    // A condition on the result may be checked before, where it is not the join that makes up the row.
    let (above_left, above_right) = match kind {
        JoinKind::Inner => (true, true),
        JoinKind::Left | JoinKind::Semi | JoinKind::Anti => (true, false),
        JoinKind::Right => (false, true),
        JoinKind::Full | JoinKind::Unspecified => (false, false),
    };
    // A condition of the join itself may be, where a row without a partner is not in the result.
    let own_left = matches!(kind, JoinKind::Inner | JoinKind::Right | JoinKind::Semi);
    let own_right = !matches!(kind, JoinKind::Right | JoinKind::Full);
    let own = join.condition.iter().flat_map(conjuncts).collect();
    let (mut left, own) = partition(own, |index| own_left && index < width);
    let (mut right, own) = partition(own, |index| own_right && index >= width);
    let (more, above) = partition(conditions, |index| above_left && index < width);
    left.extend(more);
    let (more, above) = partition(above, |index| above_right && index >= width);
    right.extend(more);
    let right = right
        .iter()
        .map(|condition| replace_inputs(condition, |index| input_ref(index - width)))
        .collect();
    join.left = push(&join.left, left);
    join.right = push(&join.right, right);
    // An inner join tests for itself what speaks of both sides.
    let (own, above) = match kind {
        JoinKind::Inner => (own.into_iter().chain(above).collect(), Vec::new()),
        _ => (own, above),
    };
    join.condition = conjunction(own);
    let joined = Arc::new(Rel {
        updating: super::join::updates(&join),
        op: RelOp::Join(join),
        columns: rel.columns.clone(),
        window: rel.window,
    });
    filter_by(joined, above)
}

/// The kind that gives the same rows where a condition on the result drops those that were padded with NULL.
fn without_padding(kind: JoinKind, conditions: &[Expr], width: usize) -> JoinKind {
    let rejects = |side: &dyn Fn(usize) -> bool| {
        conditions.iter().any(|condition| match condition {
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
                let compares = matches!(
                    op,
                    Operator::Eq
                        | Operator::NotEq
                        | Operator::Lt
                        | Operator::LtEq
                        | Operator::Gt
                        | Operator::GtEq
                );
                let is_theirs = |operand: &Expr| as_input_ref(operand).is_some_and(side);
                compares && (is_theirs(left) || is_theirs(right))
            }
            Expr::IsNotNull(operand) => as_input_ref(operand).is_some_and(side),
            _ => false,
        })
    };
    let pads_right = matches!(kind, JoinKind::Left | JoinKind::Full) && !rejects(&|i| i >= width);
    let pads_left = matches!(kind, JoinKind::Right | JoinKind::Full) && !rejects(&|i| i < width);
    match (kind, pads_left, pads_right) {
        (JoinKind::Semi | JoinKind::Anti, ..) => kind,
        (_, true, true) => JoinKind::Full,
        (_, false, true) => JoinKind::Left,
        (_, true, false) => JoinKind::Right,
        (_, false, false) => JoinKind::Inner,
    }
}

/// Conditions all of whose columns fulfil `test`, and the others. One without columns goes to the first.
fn partition(conditions: Vec<Expr>, test: impl Fn(usize) -> bool) -> (Vec<Expr>, Vec<Expr>) {
    conditions.into_iter().partition(|condition| {
        let mut used = BTreeSet::new();
        collect_inputs(condition, &mut used);
        used.into_iter().all(&test)
    })
}

/// Gives the same value each time it is computed for a row.
fn is_stable(expr: &Expr) -> bool {
    !expr.is_volatile()
}

/// Merges neighbouring projections, from the leaves upwards; drops those that do nothing.
pub(super) fn merge(rel: &RelRef) -> RelRef {
    let rel = rewrite_inputs(rel, merge);
    let RelOp::Calc {
        input,
        filter,
        projection,
    } = &rel.op
    else {
        return rel;
    };
    if let RelOp::Calc {
        input: below,
        filter: lower_filter,
        projection: lower,
    } = &input.op
        && may_merge(lower, filter.as_ref(), projection)
    {
        let inline = |expr: &Expr| replace_inputs(expr, |index| lower[index].clone());
        let own = filter.as_ref().map(inline);
        let merged = Rel::calc(
            below.clone(),
            conjunction(lower_filter.clone().into_iter().chain(own)),
            projection.iter().map(inline).collect(),
            rel.columns.clone(),
        );
        return merge_over(merged);
    }
    merge_over(rel)
}

/// Nothing is left of a projection that passes all columns under the same names.
fn merge_over(rel: RelRef) -> RelRef {
    let RelOp::Calc {
        input,
        filter: None,
        projection,
    } = &rel.op
    else {
        return rel;
    };
    let passes = projection
        .iter()
        .enumerate()
        .all(|(index, expr)| as_input_ref(expr) == Some(index));
    if passes && input.columns == rel.columns {
        return input.clone();
    }
    rel
}

/// Merging must not compute anything twice that costs something or is not the same each time.
fn may_merge(lower: &[Expr], filter: Option<&Expr>, upper: &[Expr]) -> bool {
    let mut uses = vec![0usize; lower.len()];
    for expr in upper.iter().chain(filter) {
        replace_inputs(expr, |index| {
            uses[index] += 1;
            input_ref(index)
        });
    }
    lower
        .iter()
        .zip(uses)
        .all(|(expr, uses)| is_cheap(expr) || (uses <= 1 && is_stable(expr)))
}

/// A column, a literal or a field of a ROW.
pub(super) fn is_cheap(expr: &Expr) -> bool {
    match expr {
        Expr::Column(_) | Expr::Literal(..) => true,
        Expr::ScalarFunction(call) => {
            call.func.name() == FIELD_ACCESS && call.args.iter().all(is_cheap)
        }
        _ => false,
    }
}

/// An aggregate by the window of a windowing function does the windowing itself: rows are not copied for each window.
fn fuse_windows(rel: &RelRef) -> RelRef {
    let rel = rewrite_inputs(rel, fuse_windows);
    fuse(&rel).unwrap_or(rel)
}

fn fuse(rel: &RelRef) -> Option<RelRef> {
    let RelOp::WindowAggregate {
        input: calc,
        window: WindowSource::Attached { start, end },
        keys,
        aggregates,
        properties,
    } = &rel.op
    else {
        return None;
    };
    let RelOp::Calc {
        input: assigned,
        filter,
        projection,
    } = &calc.op
    else {
        return None;
    };
    let RelOp::WindowAssign { input, window } = &assigned.op else {
        return None;
    };
    let width = input.columns.len();
    let reads_window = |expr: &Expr| {
        let mut reads = BTreeSet::new();
        collect_inputs(expr, &mut reads);
        reads.last().is_some_and(|last| *last >= width)
    };
    // The window's own columns may be read for nothing but the grouping.
    let is_bound = |at: usize, bound: usize| as_input_ref(&projection[at]) == Some(bound);
    let mut used_elsewhere = keys
        .iter()
        .chain(
            aggregates
                .iter()
                .flat_map(|call| call.arguments.iter().chain(&call.filter)),
        )
        .map(|index| &projection[*index])
        .chain(filter);
    if !is_bound(*start, width) || !is_bound(*end, width + 1) || used_elsewhere.any(reads_window) {
        return None;
    }
    if window.kind == WindowKind::Session && !are_partition(&window.partition, keys, projection) {
        return None;
    }
    // Columns of the window are no longer there: their places take the time column, which pruning removes where it is not needed.
    let mut exprs = projection.clone();
    let mut columns = calc.columns.clone();
    for (expr, column) in exprs.iter_mut().zip(&mut columns) {
        if reads_window(expr) {
            *expr = input_ref(window.time_column);
            *column = input.columns[window.time_column].clone();
        }
    }
    let mut window = window.clone();
    window.time_column = *start;
    // From here on the aggregate's keys say it.
    window.partition = Vec::new();
    Some(Arc::new(Rel {
        op: RelOp::WindowAggregate {
            input: Rel::calc(input.clone(), filter.clone(), exprs, columns),
            window: WindowSource::Assign(window),
            keys: keys.clone(),
            aggregates: aggregates.clone(),
            properties: properties.clone(),
        },
        columns: rel.columns.clone(),
        window: rel.window,
        updating: rel.updating,
    }))
}

/// Sessions of a partition are those of a group if both have the same columns.
fn are_partition(partition: &[usize], keys: &[usize], projection: &[Expr]) -> bool {
    let keys: Option<BTreeSet<usize>> = keys
        .iter()
        .map(|key| as_input_ref(&projection[*key]))
        .collect();
    keys.is_some_and(|keys| keys == partition.iter().copied().collect())
}
