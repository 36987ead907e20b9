//! Sub-expressions that occur more than once in a projection, to be computed once a batch.
//!
//! Invariant: only what is computed for every row anyway is taken out. A branch of CASE and the right side of AND and OR may be there to
//! keep an error away (`CASE WHEN x <> 0 THEN 1 / x END`), so an occurrence there counts only for functions that can't fail.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Field, FieldRef, Schema};
use datafusion_expr::Operator;
use datafusion_physical_expr::expressions::{BinaryExpr, CaseExpr, Column, Literal};
use datafusion_physical_expr::{PhysicalExpr, ScalarFunctionExpr};

use crate::error::Result;
use crate::eval;

type Expr = Arc<dyn PhysicalExpr>;

/// The parts, smaller ones first; a later one may read the columns of earlier ones. Their columns stand behind the first `width` of the input.
#[derive(Debug, Default)]
pub(crate) struct CommonParts {
    parts: Vec<Expr>,
    width: usize,
}

impl CommonParts {
    /// The batch with the parts' columns, or `None` if there are no parts.
    pub(crate) fn extend(&self, batch: &RecordBatch) -> Result<Option<RecordBatch>> {
        if self.parts.is_empty() {
            return Ok(None);
        }
        let width = self.width.min(batch.num_columns());
        let mut fields = batch.schema_ref().fields()[..width].to_vec();
        let mut columns = batch.columns()[..width].to_vec();
        for part in &self.parts {
            let input = assemble(&fields, &columns, batch.num_rows())?;
            let column = eval::evaluate(part.as_ref(), &input)?;
            fields.push(Arc::new(Field::new("", column.data_type().clone(), true)));
            columns.push(column);
        }
        assemble(&fields, &columns, batch.num_rows()).map(Some)
    }
}

fn assemble(fields: &[FieldRef], columns: &[ArrayRef], rows: usize) -> Result<RecordBatch> {
    let schema = Arc::new(Schema::new(fields.to_vec()));
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    let batch = RecordBatch::try_new_with_options(schema, columns.to_vec(), &options)?;
    Ok(batch)
}

/// Splits `exprs` into common parts and expressions that read the parts as columns behind the input's.
pub(crate) fn extract(exprs: Vec<Expr>) -> Result<(Vec<Expr>, CommonParts)> {
    let mut seen: HashMap<Expr, Seen> = HashMap::new();
    let mut width = 0;
    for expr in &exprs {
        count(expr, true, &mut seen);
        width = width.max(columns_read(expr));
    }
    let mut found: Vec<(Expr, usize)> = seen
        .into_iter()
        .filter(|(_, seen)| seen.always && seen.times > 1)
        .map(|(expr, seen)| (expr, seen.size))
        .collect();
    if found.is_empty() {
        return Ok((exprs, CommonParts::default()));
    }
    found.sort_by_key(|(expr, size)| (*size, expr.to_string()));
    let mut places = HashMap::new();
    let mut parts = Vec::with_capacity(found.len());
    for (part, _) in found {
        let rewritten = replace_children(part.clone(), &places)?;
        places.insert(part, width + parts.len());
        parts.push(rewritten);
    }
    let exprs = exprs
        .into_iter()
        .map(|expr| replace(expr, &places))
        .collect::<Result<_>>()?;
    Ok((exprs, CommonParts { parts, width }))
}

struct Seen {
    times: usize,
    /// One of the occurrences is computed for every row.
    always: bool,
    size: usize,
}

/// Counts the occurrences below `expr`; returns the number of nodes, or `None` if the expression may differ from call to call.
fn count(expr: &Expr, always: bool, seen: &mut HashMap<Expr, Seen>) -> Option<usize> {
    if is_leaf(expr) {
        return Some(1);
    }
    let mut size = Some(1);
    let evaluated = always_evaluated(expr);
    for (index, child) in expr.children().into_iter().enumerate() {
        let child_size = count(child, always && index < evaluated, seen);
        size = size.zip(child_size).map(|(a, b)| a + b);
    }
    let size = size.filter(|_| !expr.is_volatile_node())?;
    if always || can_not_fail(expr) {
        let entry = seen.entry(Arc::clone(expr)).or_insert(Seen {
            times: 0,
            always: false,
            size,
        });
        entry.times += 1;
        entry.always |= always;
    }
    Some(size)
}

/// Functions that have a value, or NULL, for all values of their arguments.
const TOTAL: [&str; 15] = [
    "LOWER",
    "UPPER",
    "BTRIM",
    "CHAR_LENGTH",
    "SUBSTRING",
    "SPLIT_INDEX",
    "REPLACE",
    "__field",
    "HOUR",
    "MINUTE",
    "SECOND",
    "YEAR",
    "MONTH",
    "DAYOFMONTH",
    "MD5",
];

fn can_not_fail(expr: &Expr) -> bool {
    match expr.downcast_ref::<ScalarFunctionExpr>() {
        Some(call) => TOTAL.contains(&call.fun().name()) && call.args().iter().all(can_not_fail),
        None => is_leaf(expr),
    }
}

fn is_leaf(expr: &Expr) -> bool {
    expr.downcast_ref::<Column>().is_some() || expr.downcast_ref::<Literal>().is_some()
}

/// How many of the first children are evaluated for each row.
fn always_evaluated(expr: &Expr) -> usize {
    if expr.downcast_ref::<CaseExpr>().is_some() {
        return 1;
    }
    if let Some(binary) = expr.downcast_ref::<BinaryExpr>() {
        return match binary.op() {
            Operator::And | Operator::Or => 1,
            _ => 2,
        };
    }
    match expr.downcast_ref::<ScalarFunctionExpr>() {
        Some(function) if function.fun().short_circuits() => 1,
        _ => usize::MAX,
    }
}

fn columns_read(expr: &Expr) -> usize {
    let own = expr
        .downcast_ref::<Column>()
        .map_or(0, |column| column.index() + 1);
    expr.children()
        .into_iter()
        .map(columns_read)
        .fold(own, usize::max)
}

fn replace(expr: Expr, places: &HashMap<Expr, usize>) -> Result<Expr> {
    match places.get(&expr) {
        Some(place) => Ok(Arc::new(Column::new("", *place))),
        None => replace_children(expr, places),
    }
}

fn replace_children(expr: Expr, places: &HashMap<Expr, usize>) -> Result<Expr> {
    let children = expr.children();
    if children.is_empty() {
        return Ok(expr);
    }
    let children = children
        .into_iter()
        .map(|child| replace(Arc::clone(child), places))
        .collect::<Result<Vec<_>>>()?;
    Ok(expr.with_new_children(children)?)
}
