//! Expressions and schemas as they stand in a job graph.

use std::sync::Arc;

use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_expr::Expr;
use datafusion_expr::execution_props::ExecutionProps;
use datafusion_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion_physical_expr::expressions::Column as PhysicalColumn;
use datafusion_physical_expr::{PhysicalExpr, create_physical_expr};
use weir_dataflow::schema::encode_schema;
use weir_proto::v1;

use super::rel::{Column, expr_schema, row_schema};
use super::text;
use crate::error::{Result, SqlError};

/// An expression over rows of these columns.
pub(super) fn expr(expr: &Expr, columns: &[Column]) -> Result<v1::Expr> {
    let text = text::expr(expr, columns);
    let failed = |error: &dyn std::fmt::Display| SqlError::new(format!("{text}: {error}"));
    let physical = create_physical_expr(
        expr,
        &expr_schema(columns)?,
        &ExecutionProps::new(),
        &PhysicalPlanningContext::default(),
    )
    .map_err(|error| failed(&super::error::translate(&error)))?;
    let physical = named(physical, columns).map_err(|error| failed(&error))?;
    let encoded = weir_expr::codec::encode(&physical).map_err(|error| failed(&error))?;
    Ok(v1::Expr {
        physical: encoded.into(),
        text,
    })
}

/// With the names that the columns have in the rows.
fn named(
    physical: Arc<dyn PhysicalExpr>,
    columns: &[Column],
) -> datafusion_common::Result<Arc<dyn PhysicalExpr>> {
    let renamed = physical.transform_up(|node| {
        let Some(column) = node.downcast_ref::<PhysicalColumn>() else {
            return Ok(Transformed::no(node));
        };
        let index = column.index();
        let name = columns.get(index).map_or("", |column| &column.name);
        Ok(Transformed::yes(
            Arc::new(PhysicalColumn::new(name, index)) as _
        ))
    });
    renamed.map(|renamed| renamed.data)
}

/// A projection over rows of `input`, giving rows of `output`.
pub(super) fn projection(
    exprs: &[Expr],
    input: &[Column],
    output: &[Column],
) -> Result<Vec<v1::NamedExpr>> {
    exprs
        .iter()
        .zip(output)
        .map(|(value, column)| {
            Ok(v1::NamedExpr {
                name: column.name.clone(),
                expr: Some(expr(value, input)?),
            })
        })
        .collect()
}

/// Rows of these columns.
pub(super) fn schema(columns: &[Column]) -> Vec<u8> {
    encode_schema(&row_schema(columns))
}

/// A position on the wire.
pub(super) fn index(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}

/// Positions on the wire.
pub(super) fn indexes(indexes: &[usize]) -> Vec<u32> {
    indexes.iter().map(|at| index(*at)).collect()
}
