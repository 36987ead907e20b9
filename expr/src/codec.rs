//! How physical expressions travel in the job graph: DataFusion's protobuf, with our functions by name.
//!
//! Invariant: a function has no state of its own. What parameterises it (a pattern, a target type) is among its arguments, so a name and
//! literals are enough to build it again. DataFusion's messages drop the metadata of types inside an expression, so a function must not need them.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use arrow::datatypes::Schema;
use datafusion_execution::TaskContext;
use datafusion_execution::config::SessionConfig;
use datafusion_execution::runtime_env::RuntimeEnv;
use datafusion_physical_expr::PhysicalExpr;
use datafusion_proto::physical_plan::DefaultPhysicalExtensionCodec;
use datafusion_proto::physical_plan::from_proto::parse_physical_expr;
use datafusion_proto::physical_plan::to_proto::serialize_physical_expr;
use datafusion_proto::protobuf::PhysicalExprNode;
use prost::Message;

use crate::error::{ExprError, Result};
use crate::functions;

/// Nothing but the registry of functions. DataFusion's own field access becomes ours, which minds that the row may be NULL.
static CONTEXT: LazyLock<TaskContext> = LazyLock::new(|| {
    let field = functions::lookup("__field").map(|field| ("get_field".to_owned(), field));
    let functions = functions::all()
        .iter()
        .flat_map(|function| {
            let names = std::iter::once(function.name())
                .chain(function.aliases().iter().map(String::as_str));
            names.map(|name| (name.to_owned(), Arc::clone(function)))
        })
        .chain(field)
        .collect();
    TaskContext::new(
        None,
        String::new(),
        SessionConfig::new(),
        functions,
        HashMap::new(),
        HashMap::new(),
        HashMap::new(),
        Arc::new(RuntimeEnv::default()),
    )
});

/// To the bytes that stand in the job graph.
///
/// # Errors
/// If a part of the expression does not travel, or is a function that [`functions::lookup`] does not know.
pub fn encode(expr: &Arc<dyn PhysicalExpr>) -> Result<Vec<u8>> {
    serialize_physical_expr(expr, &DefaultPhysicalExtensionCodec {})
        .map(|node| node.encode_to_vec())
        .map_err(|error| ExprError::Encode(error.strip_backtrace()))
}

/// From [`encode`]; columns are resolved in `schema`, which must be the one that the expression was made for.
///
/// # Errors
/// If the bytes are no expression, or name a function or a column that does not exist here.
pub fn decode(bytes: &[u8], schema: &Schema) -> Result<Arc<dyn PhysicalExpr>> {
    let node = PhysicalExprNode::decode(bytes)
        .map_err(|error| ExprError::Decode(format!("broken bytes: {error}")))?;
    parse_physical_expr(&node, &CONTEXT, schema, &DefaultPhysicalExtensionCodec {})
        .map_err(|error| ExprError::Decode(error.strip_backtrace()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, StructArray};
    use arrow::buffer::NullBuffer;
    use arrow::datatypes::{DataType, Field, Fields, Int64Type};
    use datafusion_physical_expr::ScalarFunctionExpr;
    use datafusion_physical_expr::expressions::{col, lit};

    #[test]
    fn every_function_travels() {
        let schema = Schema::new(vec![Field::new("a", DataType::Utf8, true)]);
        for function in functions::all() {
            let argument = col("a", &schema).unwrap();
            let expr: Arc<dyn PhysicalExpr> = Arc::new(ScalarFunctionExpr::new(
                function.name(),
                Arc::clone(function),
                vec![argument],
                Arc::new(Field::new(function.name(), DataType::Int32, true)),
                Arc::default(),
            ));
            let decoded = decode(&encode(&expr).unwrap(), &schema).unwrap();
            assert_eq!(decoded.to_string(), expr.to_string());
        }
    }

    #[test]
    fn broken_bytes_and_unknown_functions_are_refused() {
        let schema = Schema::empty();
        assert!(matches!(
            decode(&[255, 1, 2], &schema),
            Err(ExprError::Decode(_))
        ));
        let foreign = datafusion_functions::math::abs();
        let expr: Arc<dyn PhysicalExpr> = Arc::new(ScalarFunctionExpr::new(
            "of_another_version",
            foreign,
            vec![lit(1i32)],
            Arc::new(Field::new("x", DataType::Int32, true)),
            Arc::default(),
        ));
        assert!(decode(&encode(&expr).unwrap(), &schema).is_err());
    }

    #[test]
    fn the_field_of_a_null_row_is_null() {
        let fields = Fields::from(vec![Field::new("x", DataType::Int64, true)]);
        let values: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
        let nulls = Some(NullBuffer::from(vec![true, false]));
        let rows = StructArray::try_new(fields, vec![values], nulls).unwrap();
        let schema = Schema::new(vec![Field::new("r", rows.data_type().clone(), true)]);
        let field = Field::new("x", DataType::Int64, true);
        let expr: Arc<dyn PhysicalExpr> = Arc::new(ScalarFunctionExpr::new(
            "get_field",
            datafusion_functions::core::get_field(),
            vec![col("r", &schema).unwrap(), lit("x")],
            Arc::new(field),
            Arc::default(),
        ));
        let expr = decode(&encode(&expr).unwrap(), &schema).unwrap();
        let batch = RecordBatch::try_new(Arc::new(schema), vec![Arc::new(rows)]).unwrap();
        let found = crate::eval::evaluate(expr.as_ref(), &batch).unwrap();
        let found = found.as_primitive::<Int64Type>();
        assert!(found.is_valid(0) && found.is_null(1));
    }
}
