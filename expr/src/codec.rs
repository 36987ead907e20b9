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

/// Nothing but the registry of functions.
static CONTEXT: LazyLock<TaskContext> = LazyLock::new(|| {
    let functions = functions::all()
        .iter()
        .flat_map(|function| {
            let names = std::iter::once(function.name())
                .chain(function.aliases().iter().map(String::as_str));
            names.map(|name| (name.to_owned(), Arc::clone(function)))
        })
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
