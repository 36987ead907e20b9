//! Expressions on record batches.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::compute::{CastOptions, cast_with_options, prep_null_mask_filter};
use arrow::datatypes::{DataType, Field, SchemaRef};
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

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int64Array, StringViewArray};
    use arrow::datatypes::{Int64Type, Schema};
    use datafusion_common::ScalarValue;
    use datafusion_expr::Operator;
    use datafusion_physical_expr::expressions::{binary, case, col, lit};

    fn input() -> RecordBatch {
        let fields = vec![
            Field::new("a", DataType::Int64, true),
            Field::new("b", DataType::Utf8View, true),
        ];
        let numbers = Int64Array::from(vec![Some(0), Some(2), None]);
        let texts = StringViewArray::from(vec!["x", "a text that is too long to be inlined", "z"]);
        RecordBatch::try_new(
            Arc::new(Schema::new(fields)),
            vec![Arc::new(numbers), Arc::new(texts)],
        )
        .unwrap()
    }

    fn schema(fields: Vec<Field>) -> SchemaRef {
        Arc::new(Schema::new(fields))
    }

    #[test]
    fn a_projection_has_the_declared_types() {
        let batch = input();
        let exprs = vec![col("b", &batch.schema()).unwrap(), lit(1i64)];
        let output = schema(vec![
            Field::new("text", DataType::Utf8, true),
            Field::new("one", DataType::Int64, false),
        ]);
        let projected = Projector::new(exprs, output.clone())
            .unwrap()
            .apply(&batch)
            .unwrap();
        assert_eq!(projected.schema(), output);
        assert_eq!(projected.num_rows(), 3);
        assert_eq!(projected.column(0).as_string::<i32>().value(2), "z");
    }

    #[test]
    fn columns_that_must_not_be_null_are_not() {
        let batch = input();
        let exprs = vec![col("a", &batch.schema()).unwrap()];
        let output = schema(vec![Field::new("a", DataType::Int64, false)]);
        let error = Projector::new(exprs, output)
            .unwrap()
            .apply(&batch)
            .unwrap_err();
        assert!(error.to_string().contains("'a' is NOT NULL"), "{error}");
    }

    #[test]
    fn a_projection_without_columns_keeps_its_rows() {
        let projected = Projector::new(vec![], schema(vec![])).unwrap();
        assert_eq!(projected.apply(&input()).unwrap().num_rows(), 3);
    }

    #[test]
    fn null_is_not_true() {
        let batch = input();
        let schema = batch.schema();
        let condition = binary(col("a", &schema).unwrap(), Operator::Gt, lit(1i64), &schema);
        let mask = evaluate_predicate(condition.unwrap().as_ref(), &batch).unwrap();
        assert_eq!(
            mask.iter().flatten().collect::<Vec<_>>(),
            [false, true, false]
        );
        assert!(evaluate_predicate(&Column::new("a", 0), &batch).is_err());
    }

    #[test]
    fn functions_that_can_not_fail_are_shared_with_branches() {
        use datafusion_physical_expr::ScalarFunctionExpr;
        let batch = input();
        let schema_in = batch.schema();
        let text = cast_with_options(batch.column(1), &DataType::Utf8, &CastOptions::default());
        let field = Field::new("b", DataType::Utf8, true);
        let batch = RecordBatch::try_new(schema(vec![field]), vec![text.unwrap()]).unwrap();
        assert_ne!(batch.schema(), schema_in);
        let lower = || -> Arc<dyn PhysicalExpr> {
            let field = Arc::new(Field::new("LOWER", DataType::Utf8, true));
            let function = crate::functions::lookup("LOWER").unwrap();
            let args = vec![col("b", &batch.schema()).unwrap()];
            Arc::new(ScalarFunctionExpr::new(
                "LOWER",
                function,
                args,
                field,
                Arc::default(),
            ))
        };
        let is = |text: &str| {
            binary(lower(), Operator::Eq, lit(text.to_owned()), &batch.schema()).unwrap()
        };
        let branches = vec![(is("x"), lit(1i64)), (is("z"), lit(2i64))];
        let exprs = vec![case(None, branches, None).unwrap()];
        let (exprs, common) = common_parts::extract(exprs).unwrap();
        assert!(
            exprs[0].to_string().matches("LOWER").next().is_none(),
            "{}",
            exprs[0]
        );
        let extended = common.extend(&batch).unwrap().unwrap();
        let found = evaluate(exprs[0].as_ref(), &extended).unwrap();
        let found: Vec<_> = found.as_primitive::<Int64Type>().iter().collect();
        assert_eq!(found, [Some(1), None, Some(2)]);
    }

    #[test]
    fn common_parts_leave_guarded_branches_alone() {
        let batch = input();
        let schema_in = batch.schema();
        let a = || col("a", &schema_in).unwrap();
        let quotient = || binary(lit(10i64), Operator::Divide, a(), &schema_in).unwrap();
        let guarded = || {
            let safe = binary(a(), Operator::NotEq, lit(0i64), &schema_in).unwrap();
            let none = lit(ScalarValue::Int64(None));
            case(None, vec![(safe, quotient())], Some(none)).unwrap()
        };
        let sum = || binary(a(), Operator::Plus, lit(1i64), &schema_in).unwrap();
        let twice = binary(sum(), Operator::Multiply, sum(), &schema_in).unwrap();
        let names = ["p", "q", "r", "s"].map(|name| Field::new(name, DataType::Int64, true));
        let exprs = vec![guarded(), guarded(), twice, sum()];
        let projector = Projector::new(exprs, schema(names.to_vec())).unwrap();
        let projected = projector.apply(&batch).unwrap();
        let column = |index: usize| {
            let column = projected.column(index).as_primitive::<Int64Type>();
            column.iter().collect::<Vec<_>>()
        };
        assert_eq!(column(0), [None, Some(5), None]);
        assert_eq!(column(1), column(0));
        assert_eq!(column(2), [Some(1), Some(9), None]);
        assert_eq!(column(3), [Some(1), Some(3), None]);
    }
}
