//! INTERSECT and EXCEPT: rows of both sides are counted, and what the counts say decides, with ALL also how often a row is there.

use std::sync::Arc;

use datafusion_common::ScalarValue;
use datafusion_expr::expr::Case;
use datafusion_expr::{Expr, Operator, binary_expr};
use weir_dataflow::types::{LogicalField, LogicalType};

use super::expr::{column, literal_expr};
use super::rel::{Aggregate, Column, Rel, RelOp, RelRef, Unnest, input_ref};

/// Which rows are left.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum SetOperation {
    Intersect,
    Except,
}

fn number(value: i64) -> Expr {
    literal_expr(ScalarValue::Int64(Some(value)))
}

/// The rows of the left side that are, or are not, in the right one: each once, or with `all` as often as it is in both, or more often in the
/// left one. `columns` are those of both.
pub(super) fn plan(
    operation: SetOperation,
    all: bool,
    [left, right]: [RelRef; 2],
    mut columns: Vec<Column>,
) -> RelRef {
    let width = columns.len();
    let sides = [marked(left, 1, 0), marked(right, 0, 1)];
    let updating = sides.iter().any(|side| side.updating);
    for column in &mut columns {
        column.time = None;
    }
    columns.extend_from_slice(&sides[0].columns[width..]);
    let union = Arc::new(Rel {
        columns: columns.clone(),
        window: None,
        updating,
        op: RelOp::Union {
            inputs: sides.to_vec(),
        },
    });
    let sum = |at: usize| Aggregate {
        function: "SUM".to_owned(),
        arguments: vec![at],
        distinct: false,
        filter: None,
    };
    let counted = Arc::new(Rel {
        columns: columns.clone(),
        window: None,
        updating: true,
        op: RelOp::GroupAggregate {
            input: union,
            keys: (0..width).collect(),
            aggregates: vec![sum(width), sum(width + 1)],
        },
    });
    columns.truncate(width);
    match all {
        true => repeated(operation, counted, columns),
        false => once(operation, counted, columns),
    }
}

fn once(operation: SetOperation, counted: RelRef, columns: Vec<Column>) -> RelRef {
    let width = columns.len();
    let (left, right) = (input_ref(width), input_ref(width + 1));
    let kept = match operation {
        SetOperation::Intersect => right.gt(number(0)),
        SetOperation::Except => right.eq(number(0)),
    };
    let projection = (0..width).map(input_ref).collect();
    Rel::calc(
        counted,
        Some(left.gt(number(0)).and(kept)),
        projection,
        columns,
    )
}

fn repeated(operation: SetOperation, counted: RelRef, columns: Vec<Column>) -> RelRef {
    let width = columns.len();
    let (left, right) = (input_ref(width), input_ref(width + 1));
    let times = match operation {
        SetOperation::Intersect => Expr::Case(Case::new(
            None,
            vec![(
                Box::new(left.clone().lt(right.clone())),
                Box::new(left.clone()),
            )],
            Some(Box::new(right.clone())),
        )),
        SetOperation::Except => binary_expr(left.clone(), Operator::Minus, right.clone()),
    };
    let kept = match operation {
        SetOperation::Intersect => left.gt(number(0)).and(right.gt(number(0))),
        SetOperation::Except => left.gt(right),
    };
    let mut with_times = columns.clone();
    with_times.push(column("$times", counted.columns[width].field.clone()));
    let mut projection: Vec<Expr> = (0..width).map(input_ref).collect();
    projection.push(times);
    let input = Rel::calc(counted, Some(kept), projection, with_times.clone());
    let repeated = Arc::new(Rel {
        columns: with_times,
        window: None,
        updating: input.updating,
        op: RelOp::Unnest(Unnest {
            input,
            collection: width,
            outer: false,
            with_ordinality: false,
        }),
    });
    let projection = (0..width).map(input_ref).collect();
    Rel::calc(repeated, None, projection, columns)
}

/// With two columns that say on which side a row is.
fn marked(rel: RelRef, left: i64, right: i64) -> RelRef {
    let mut columns = rel.columns.clone();
    let mut projection: Vec<Expr> = (0..columns.len()).map(input_ref).collect();
    for (name, mark) in [("$left", left), ("$right", right)] {
        let field = LogicalField {
            logical_type: LogicalType::BigInt,
            nullable: false,
        };
        columns.push(column(name, field));
        projection.push(number(mark));
    }
    Rel::calc(rel, None, projection, columns)
}
