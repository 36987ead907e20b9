//! ROW_NUMBER with a bound: a filter on it over its relation becomes a relation of its own, which keeps the rows within the bound only.

use std::sync::Arc;

use datafusion_common::ScalarValue;
use datafusion_expr::{BinaryExpr, Expr, Operator};
use sqlparser::tokenizer::Location;
use weir_dataflow::types::{LogicalField, LogicalType};

use super::TimeAttribute;
use super::expr::{column, literal_expr};
use super::optimize::is_cheap;
use super::rel::{
    Column, Over, Rank, RankEnd, Rel, RelOp, RelRef, SortKey, as_input_ref, collect_inputs,
    conjunction, conjuncts, input_ref, replace_inputs,
};

/// What a [`Rank`] is carried out as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RankKind {
    /// Once for each window, at its end: columns of its start and end.
    Window { start: usize, end: usize },
    /// The first or last row of a key by a time attribute; `time` is the column of a rowtime.
    Deduplicate {
        time: Option<usize>,
        keep_last: bool,
    },
    /// All others.
    TopN,
}

/// How a relation's rows are ranked.
pub(super) fn kind(rank: &Rank) -> RankKind {
    let input = &rank.input;
    if input.updating {
        return RankKind::TopN;
    }
    let is_key = |column: Option<usize>| column.filter(|at| rank.partition.contains(at));
    if let Some(window) = input.window
        && let (Some(start), Some(end)) = (is_key(window.start), is_key(window.end))
    {
        return RankKind::Window { start, end };
    }
    let first = rank.start == 1 && rank.end == RankEnd::Constant(1) && !rank.with_rank;
    if let (true, [key]) = (first, rank.order.as_slice())
        && let Some(time) = input.columns[key.column].time
    {
        return RankKind::Deduplicate {
            time: (time == TimeAttribute::Rowtime).then_some(key.column),
            keep_last: key.descending,
        };
    }
    RankKind::TopN
}

/// The result is updated as rows come.
pub(super) fn is_updating(rank: &Rank) -> bool {
    match kind(rank) {
        RankKind::Window { .. } => false,
        RankKind::Deduplicate { keep_last, .. } => keep_last,
        // Without an order the rows that came first stay.
        RankKind::TopN => rank.input.updating || !rank.order.is_empty(),
    }
}

/// A rank as a relation: the input's columns, then the rank if it is wanted.
pub(super) fn relation(rank: Rank) -> RelRef {
    let mut columns = rank.input.columns.clone();
    if rank.with_rank {
        columns.push(rank_column());
    }
    Arc::new(Rel {
        columns,
        window: rank.input.window,
        updating: is_updating(&rank),
        op: RelOp::Rank(rank),
    })
}

/// LIMIT and OFFSET.
pub(super) fn limit(
    input: RelRef,
    order: Vec<SortKey>,
    offset: u64,
    count: u64,
    place: Location,
) -> RelRef {
    relation(Rank {
        input,
        partition: Vec::new(),
        order,
        function: "ROW_NUMBER".to_owned(),
        start: offset.saturating_add(1),
        end: RankEnd::Constant(offset.saturating_add(count)),
        with_rank: false,
        place,
    })
}

fn rank_column() -> Column {
    column(
        "rank",
        LogicalField {
            logical_type: LogicalType::BigInt,
            nullable: false,
        },
    )
}

/// If `filter` bounds a ROW_NUMBER of `input`: the relation without the rows beyond, and what is left of the filter.
pub(super) fn bound(input: &RelRef, filter: &Expr) -> Option<(RelRef, Option<Expr>)> {
    match &input.op {
        RelOp::Over(over) => bound_over(input, over, filter),
        RelOp::Calc {
            input: below,
            filter: own,
            projection,
        } => {
            let (moved, above): (Vec<Expr>, Vec<Expr>) =
                conjuncts(filter).into_iter().partition(|condition| {
                    let mut used = std::collections::BTreeSet::new();
                    collect_inputs(condition, &mut used);
                    used.iter().all(|index| is_cheap(&projection[*index]))
                });
            let moved = moved
                .iter()
                .map(|condition| replace_inputs(condition, |index| projection[index].clone()));
            let all = conjunction(own.iter().flat_map(conjuncts).chain(moved))?;
            let (below, rest) = bound(below, &all)?;
            let calc = Rel::calc(below, rest, projection.clone(), input.columns.clone());
            Some((calc, conjunction(above)))
        }
        _ => None,
    }
}

fn bound_over(input: &RelRef, over: &Over, filter: &Expr) -> Option<(RelRef, Option<Expr>)> {
    let [call] = over.calls.as_slice() else {
        return None;
    };
    if !matches!(
        call.call.function.as_str(),
        "ROW_NUMBER" | "RANK" | "DENSE_RANK"
    ) {
        return None;
    }
    let at = over.input.columns.len();
    let mut range = Range::default();
    let mut rest = Vec::new();
    for condition in conjuncts(filter) {
        if !range.narrow(&condition, at) {
            rest.push(condition);
        }
    }
    let end = range.end?;
    let start = range.start.unwrap_or(1).max(1);
    let ranked = relation(Rank {
        input: over.input.clone(),
        partition: over.partition.clone(),
        order: over.order.clone(),
        function: call.call.function.clone(),
        start,
        end,
        // What nobody reads is dropped later.
        with_rank: end != RankEnd::Constant(start),
        place: over.place,
    });
    if ranked.columns.len() == input.columns.len() {
        return Some((ranked, conjunction(rest)));
    }
    // The number is always the same.
    let mut projection: Vec<Expr> = (0..at).map(input_ref).collect();
    projection.push(literal_expr(ScalarValue::Int64(i64::try_from(start).ok())));
    let numbered = Rel::calc(ranked, None, projection, input.columns.clone());
    Some((numbered, conjunction(rest)))
}

#[derive(Default)]
struct Range {
    start: Option<u64>,
    end: Option<RankEnd>,
}

impl Range {
    /// Takes a condition on the rank; `false` if it is none that says a bound.
    fn narrow(&mut self, condition: &Expr, rank: usize) -> bool {
        let Expr::BinaryExpr(BinaryExpr { left, op, right }) = condition else {
            return false;
        };
        let is_rank = |expr: &Expr| as_input_ref(expr) == Some(rank);
        let (op, other) = if is_rank(left) {
            (*op, right.as_ref())
        } else if is_rank(right) {
            let Some(op) = op.swap() else { return false };
            (op, left.as_ref())
        } else {
            return false;
        };
        match (integer(other), as_input_ref(other)) {
            (Some(number), _) => self.narrow_to(op, number),
            // Only one end can be a column.
            (None, Some(column)) if op == Operator::LtEq && self.end.is_none() => {
                self.end = Some(RankEnd::Column(column));
                true
            }
            _ => false,
        }
    }

    fn narrow_to(&mut self, op: Operator, number: i64) -> bool {
        let (start, end) = match op {
            Operator::Eq => (Some(number), Some(number)),
            Operator::LtEq => (None, Some(number)),
            Operator::Lt => (None, Some(number.saturating_sub(1))),
            Operator::GtEq => (Some(number), None),
            Operator::Gt => (Some(number.saturating_add(1)), None),
            _ => return false,
        };
        let count = |number: i64| u64::try_from(number).unwrap_or_default();
        match (end.map(count), self.end) {
            (Some(_), Some(RankEnd::Column(_))) => return false,
            (Some(end), Some(RankEnd::Constant(known))) => {
                self.end = Some(RankEnd::Constant(end.min(known)));
            }
            (Some(end), None) => self.end = Some(RankEnd::Constant(end)),
            (None, _) => {}
        }
        if let Some(start) = start.map(count) {
            self.start = Some(self.start.map_or(start, |known| known.max(start)));
        }
        true
    }
}

fn integer(expr: &Expr) -> Option<i64> {
    match expr {
        Expr::Literal(ScalarValue::Int8(Some(value)), _) => Some((*value).into()),
        Expr::Literal(ScalarValue::Int16(Some(value)), _) => Some((*value).into()),
        Expr::Literal(ScalarValue::Int32(Some(value)), _) => Some((*value).into()),
        Expr::Literal(ScalarValue::Int64(Some(value)), _) => Some(*value),
        _ => None,
    }
}
