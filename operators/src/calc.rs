//! Filter, then projection: stateless, keeps the kinds of rows.

use arrow::array::Array;
use arrow::datatypes::Schema;
use std::sync::Arc;

use datafusion_physical_expr::PhysicalExpr;
use weir_dataflow::{Batch, Context, Error, KeyedState, OpenContext, Operator, Result};
use weir_expr::eval::Projector;
use weir_proto::v1;

/// `WHERE` and `SELECT` over the columns of one input.
pub struct CalcOperator {
    spec: v1::Calc,
    filter: Option<Arc<dyn PhysicalExpr>>,
    projector: Option<Projector>,
}

impl CalcOperator {
    /// An empty projection passes the columns as they are.
    pub fn new(spec: v1::Calc) -> Self {
        Self {
            spec,
            filter: None,
            projector: None,
        }
    }
}

/// An expression of the graph, ready to evaluate over `schema`.
pub(crate) fn decode(expr: &v1::Expr, schema: &Schema) -> Result<Arc<dyn PhysicalExpr>> {
    weir_expr::codec::decode(&expr.physical, schema).map_err(|error| {
        Error::Config(format!("cannot read the expression {}: {error}", expr.text))
    })
}

/// Named expressions of the graph as one projector onto `output`.
pub(crate) fn decode_projection(
    exprs: &[v1::NamedExpr],
    input: &Schema,
    output: &Schema,
) -> Result<Projector> {
    let decoded = exprs
        .iter()
        .map(|named| {
            let expr = named.expr.as_ref().ok_or_else(|| {
                Error::Config(format!("column '{}' has no expression", named.name))
            })?;
            decode(expr, input)
        })
        .collect::<Result<Vec<_>>>()?;
    Projector::new(decoded, Arc::new(output.clone())).map_err(expression_error)
}

pub(crate) fn expression_error(error: weir_expr::ExprError) -> Error {
    Error::Expression(error.to_string())
}

/// Keeps the rows for which the filter is true. The same batch comes back, without a copy, if that is all of them.
pub(crate) fn apply_filter(filter: &Arc<dyn PhysicalExpr>, batch: Batch) -> Result<Batch> {
    let mask = weir_expr::eval::evaluate_predicate(filter.as_ref(), batch.data())
        .map_err(expression_error)?;
    if mask.null_count() == 0 && mask.true_count() == mask.len() {
        return Ok(batch);
    }
    batch.filter(&mask)
}

impl Operator for CalcOperator {
    fn open(&mut self, context: OpenContext, _: &mut dyn KeyedState) -> Result<()> {
        let Some(input) = context.input_schemas.first() else {
            return Err(Error::Internal("a calc without an input".to_owned()));
        };
        self.filter = self
            .spec
            .filter
            .as_ref()
            .map(|expr| decode(expr, input))
            .transpose()?;
        if !self.spec.projection.is_empty() {
            self.projector = Some(decode_projection(
                &self.spec.projection,
                input,
                &context.output_schema,
            )?);
        }
        Ok(())
    }

    fn process(&mut self, _: usize, batch: Batch, context: &mut Context<'_>) -> Result<()> {
        let kept = match &self.filter {
            Some(filter) => apply_filter(filter, batch)?,
            None => batch,
        };
        if kept.num_rows() == 0 {
            return Ok(());
        }
        match &self.projector {
            Some(projector) => {
                let data = projector.apply(kept.data()).map_err(expression_error)?;
                context.out.emit(kept.with_data(data)?)
            }
            None => context.out.emit(kept),
        }
    }
}
