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

/// The expression with its constant parts as literals. What fails is left to fail on a row, if one ever gets there.
pub(super) fn fold(expr: Expr, schema: &DFSchema) -> Expr {
    let original = expr.clone();
    let folded = expr.transform_down(|node| {
        if matches!(node, Expr::Literal(..) | Expr::Column(_)) || !is_constant(&node) {
            return Ok(Transformed::no(node));
        }
        let literal = evaluate(&node).map(|value| Expr::Literal(value, None));
        let same_type = |literal: &Expr| {
            let types = (type_of(&node, schema), type_of(literal, schema));
            matches!(types, (Ok(old), Ok(new)) if old.logical_type == new.logical_type)
        };
        Ok(match literal.ok().filter(same_type) {
            Some(literal) => Transformed::new(literal, true, TreeNodeRecursion::Jump),
            None => Transformed::no(node),
        })
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
