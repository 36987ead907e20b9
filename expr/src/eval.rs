//! Expressions on record batches.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::compute::{CastOptions, cast_with_options, prep_null_mask_filter};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::Column;

use crate::common_parts::{self, CommonParts};
use crate::error::{ExprError, Result};

/// The expression's column over a batch, one value a row. A plain column reference copies nothing.
///
/// # Errors
/// If the expression fails on a row.
pub fn evaluate(expr: &dyn PhysicalExpr, batch: &RecordBatch) -> Result<ArrayRef> {
    if let Some(column) = expr.downcast_ref::<Column>() {
        let found = batch.columns().get(column.index());
        return found.cloned().ok_or_else(|| missing(column, batch));
    }
    Ok(expr.evaluate(batch)?.into_array(batch.num_rows())?)
}

fn missing(column: &Column, batch: &RecordBatch) -> ExprError {
    ExprError::Type(format!(
        "an expression wants column {} ({}) of a batch that has {}",
        column.index(),
        column.name(),
        batch.num_columns()
    ))
}

/// A predicate over a batch: true where it holds, false where it is FALSE or NULL (no NULLs in the result).
///
/// # Errors
/// If the expression fails on a row, or is not BOOLEAN.
pub fn evaluate_predicate(expr: &dyn PhysicalExpr, batch: &RecordBatch) -> Result<BooleanArray> {
    let array = evaluate(expr, batch)?;
    let Some(mask) = array.as_boolean_opt() else {
        let found = array.data_type();
        return Err(ExprError::Type(format!(
            "a condition must be BOOLEAN, not {found}"
        )));
    };
    Ok(if mask.null_count() == 0 {
        mask.clone()
    } else {
        prep_null_mask_filter(mask)
    })
}

/// Several expressions whose results make a batch of a declared schema.
#[derive(Debug)]
pub struct Projector {
    exprs: Vec<Arc<dyn PhysicalExpr>>,
    common: CommonParts,
    output: SchemaRef,
}

impl Projector {
    /// `exprs` in the order of `output`'s fields. Expressions that occur more than once are evaluated once.
    ///
    /// # Errors
    /// If the numbers differ.
    pub fn new(exprs: Vec<Arc<dyn PhysicalExpr>>, output: SchemaRef) -> Result<Self> {
        if exprs.len() != output.fields().len() {
            return Err(ExprError::Type(format!(
                "a projection has {} expressions for {} columns",
                exprs.len(),
                output.fields().len()
            )));
        }
        let (exprs, common) = common_parts::extract(exprs)?;
        Ok(Self {
            exprs,
            common,
            output,
        })
    }

    /// Of the batches that [`Projector::apply`] gives.
    pub fn output_schema(&self) -> &SchemaRef {
        &self.output
    }

    /// The projected batch: as many rows, the columns in the declared types.
    ///
    /// # Errors
    /// If an expression fails on a row, or gives a NULL for a NOT NULL column.
    pub fn apply(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let extended = self.common.extend(batch)?;
        let input = extended.as_ref().unwrap_or(batch);
        let columns = self
            .exprs
            .iter()
            .zip(self.output.fields())
            .map(|(expr, field)| conform(evaluate(expr.as_ref(), input)?, field))
            .collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        Ok(RecordBatch::try_new_with_options(
            Arc::clone(&self.output),
            columns,
            &options,
        )?)
    }
}

/// Brings an array into a field's exact layout (Utf8View to Utf8, names and nullability inside of nested types).
///
/// # Errors
/// If the types have nothing to do with each other, or a NOT NULL field gets a NULL.
pub fn conform(array: ArrayRef, field: &Field) -> Result<ArrayRef> {
    let array = if array.data_type() == field.data_type() {
        array
    } else {
        let options = CastOptions {
            safe: false,
            ..CastOptions::default()
        };
        relabel(&array, field.data_type()).map_or_else(
            || cast_with_options(&array, field.data_type(), &options),
            Ok,
        )?
    };
    if !field.is_nullable() && array.is_nullable() && array.logical_null_count() > 0 {
        return Err(ExprError::Type(format!(
            "column '{}' is NOT NULL, but a NULL is about to be written into it",
            field.name()
        )));
    }
    Ok(array)
}

/// Nested types that differ only in the names of their fields keep their data.
fn relabel(array: &ArrayRef, target: &DataType) -> Option<ArrayRef> {
    let same_shape = array.data_type().equals_datatype(target);
    if !same_shape {
        return None;
    }
    let data = array.to_data().into_builder().data_type(target.clone());
    data.build().ok().map(arrow::array::make_array)
}

/// A schema like `schema` whose fields are named `names`.
pub fn renamed(schema: &Schema, names: &[String]) -> Schema {
    let fields: Vec<Field> = schema
        .fields()
        .iter()
        .zip(names)
        .map(|(field, name)| field.as_ref().clone().with_name(name))
        .collect();
    Schema::new_with_metadata(fields, schema.metadata().clone())
}
