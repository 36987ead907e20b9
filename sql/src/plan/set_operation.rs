//! INTERSECT and EXCEPT: rows of both sides are counted, and what the counts say decides.

use std::sync::Arc;

use datafusion_common::ScalarValue;
use datafusion_expr::Expr;
use weir_dataflow::types::{LogicalField, LogicalType};

use super::expr::{column, literal_expr};
use super::rel::{Aggregate, Column, Rel, RelOp, RelRef, input_ref};

/// Which rows are left.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum SetOperation {
    Intersect,
    Except,
}

fn number(value: i64) -> Expr {
    literal_expr(ScalarValue::Int64(Some(value)))
}

/// The rows of the left side that are, or are not, in the right one, each once. `columns` are those of both.
pub(super) fn plan(
    operation: SetOperation,
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
    let (left, right) = (input_ref(width), input_ref(width + 1));
    let kept = match operation {
        SetOperation::Intersect => right.gt(number(0)),
        SetOperation::Except => right.eq(number(0)),
    };
    columns.truncate(width);
    let projection = (0..width).map(input_ref).collect();
    Rel::calc(
        counted,
        Some(left.gt(number(0)).and(kept)),
        projection,
        columns,
    )
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
