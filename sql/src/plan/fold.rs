//! What does not depend on a row is computed once, when the query is planned.

use std::sync::Arc;

use arrow::datatypes::Schema;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion_common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion_common::{DFSchema, Result, ScalarValue};
use datafusion_expr::execution_props::ExecutionProps;
use datafusion_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion_expr::{ColumnarValue, Expr, Volatility};
use datafusion_physical_expr::create_physical_expr;

use super::expr::type_of;
use super::literal;

/// The expression with its constant parts as literals. What fails is left to fail on a row, if one ever gets there.
pub(super) fn fold(expr: Expr, schema: &DFSchema) -> Expr {
    let original = expr.clone();
    let folded = expr.transform_down(|node| {
        if matches!(node, Expr::Literal(..) | Expr::Column(_)) || !is_constant(&node) {
            return Ok(Transformed::no(node));
        }
        let value = evaluate(&node).ok();
        let (Some(value), Ok(field)) = (value, type_of(&node, schema)) else {
            return Ok(Transformed::no(node));
        };
        if value.data_type() != field.logical_type.to_arrow() {
            return Ok(Transformed::no(node));
        }
        let literal = literal::exact(value, field.logical_type);
        Ok(Transformed::new(literal, true, TreeNodeRecursion::Jump))
    });
    folded.map_or(original, |folded| folded.data)
}

/// Gives the same value for every row and at any time.
fn is_constant(expr: &Expr) -> bool {
    let varies = expr.exists(|node| {
        Ok(match node {
            Expr::Column(_) => true,
            Expr::ScalarFunction(call) => call.func.signature().volatility != Volatility::Immutable,
            _ => false,
        })
    });
    !varies.unwrap_or(true)
}

fn evaluate(expr: &Expr) -> Result<ScalarValue> {
    let physical = create_physical_expr(
        expr,
        &DFSchema::empty(),
        &ExecutionProps::new(),
        &PhysicalPlanningContext::default(),
    )?;
    let one_row = RecordBatchOptions::new().with_row_count(Some(1));
    let row = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), Vec::new(), &one_row)?;
    match physical.evaluate(&row)? {
        ColumnarValue::Scalar(value) => Ok(value),
        ColumnarValue::Array(values) => ScalarValue::try_from_array(&values, 0),
    }
}
