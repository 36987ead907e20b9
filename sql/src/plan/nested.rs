//! Fields of ROW columns that nobody needs are not read: a scan delivers `bid.price` instead of `bid`, and reads a `bid` that has only that.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use datafusion_common::ScalarValue;
use datafusion_common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion_expr::Expr;
use weir_dataflow::types::LogicalType;

use super::expr::{FIELD_ACCESS, column, type_of};
use super::optimize::with_inputs;
use super::rel::{
    Column, Rel, RelOp, RelRef, Scan, as_input_ref, expr_schema, input_ref, replace_inputs,
};
use super::text;
use crate::error::Result;

/// Where a projection stands on a scan, fields that it takes from ROW columns become columns of the scan.
pub(super) fn flatten(rel: &RelRef) -> Result<RelRef> {
    if let RelOp::Calc {
        input,
        filter,
        projection,
    } = &rel.op
        && let RelOp::Scan(scan) = &input.op
    {
        return flatten_calc(rel, input, scan, filter.as_ref(), projection);
    }
    let inputs: Result<Vec<RelRef>> = rel.inputs().into_iter().map(flatten).collect();
    Ok(with_inputs(rel, inputs?))
}

fn flatten_calc(
    rel: &RelRef,
    input: &RelRef,
    scan: &Scan,
    filter: Option<&Expr>,
    projection: &[Expr],
) -> Result<RelRef> {
    let watermark = scan.watermark.as_ref();
    let readers = projection
        .iter()
        .chain(filter)
        .chain(&scan.filter)
        .chain(watermark.map(|watermark| &watermark.expr));
    let mut fields = FieldUses::default();
    readers.for_each(|expr| fields.collect(expr));
    if let Some(watermark) = watermark {
        fields.whole.insert(watermark.column);
    }
    let schema = expr_schema(&input.columns)?;
    let mut places = BTreeMap::new();
    let mut columns = input.columns.clone();
    let mut scan = scan.clone();
    for (base, path) in fields.paths() {
        if fields.whole.contains(&base) {
            continue;
        }
        let source = scan.projection[base].clone();
        columns.push(column(
            &text::expr(&path, &input.columns),
            type_of(&path, &schema)?,
        ));
        scan.projection
            .push(replace_inputs(&path, |_| source.clone()));
        places.insert(path.to_string(), columns.len() - 1);
    }
    if places.is_empty() {
        return Ok(rel.clone());
    }
    scan.filter = scan
        .filter
        .as_ref()
        .map(|expr| replace_paths(expr, &places));
    if let Some(watermark) = &mut scan.watermark {
        watermark.expr = replace_paths(&watermark.expr, &places);
    }
    let scan = Arc::new(Rel {
        op: RelOp::Scan(scan),
        columns,
        window: input.window,
        updating: input.updating,
    });
    Ok(Rel::calc(
        scan,
        filter.map(|expr| replace_paths(expr, &places)),
        projection
            .iter()
            .map(|expr| replace_paths(expr, &places))
            .collect(),
        rel.columns.clone(),
    ))
}

/// How columns are read: whole, or by their fields.
#[derive(Default)]
struct FieldUses {
    whole: BTreeSet<usize>,
    /// By text, for a fixed order: column and the outermost access.
    paths: BTreeMap<String, (usize, Expr)>,
}

impl FieldUses {
    fn collect(&mut self, expr: &Expr) {
        let _ = expr.apply(|node| {
            if let Some(index) = as_input_ref(node) {
                self.whole.insert(index);
            } else if let Some((index, _)) = field_path(node) {
                self.paths.insert(node.to_string(), (index, node.clone()));
                return Ok(TreeNodeRecursion::Jump);
            }
            Ok(TreeNodeRecursion::Continue)
        });
    }

    fn paths(&self) -> Vec<(usize, Expr)> {
        self.paths.values().cloned().collect()
    }
}

/// `#3.a.b`: the column and its first field.
fn field_path(expr: &Expr) -> Option<(usize, &str)> {
    let Expr::ScalarFunction(call) = expr else {
        return None;
    };
    let (FIELD_ACCESS, [value, Expr::Literal(ScalarValue::Utf8(Some(name)), _)]) =
        (call.func.name(), call.args.as_slice())
    else {
        return None;
    };
    match as_input_ref(value) {
        Some(index) => Some((index, name)),
        None => field_path(value),
    }
}

fn replace_paths(expr: &Expr, places: &BTreeMap<String, usize>) -> Expr {
    let replaced = expr.clone().transform_down(|node| {
        let place = field_path(&node).and_then(|_| places.get(&node.to_string()));
        Ok(match place {
            Some(place) => Transformed::new(input_ref(*place), true, TreeNodeRecursion::Jump),
            None => Transformed::no(node),
        })
    });
    // The closure never fails, so neither does the walk.
    replaced.map_or_else(|_| expr.clone(), |replaced| replaced.data)
}

/// Scans read only those fields of ROW columns that they use.
pub(super) fn narrow(rel: &RelRef) -> RelRef {
    let RelOp::Scan(scan) = &rel.op else {
        let inputs = rel.inputs().into_iter().map(narrow).collect();
        return with_inputs(rel, inputs);
    };
    let mut uses = FieldUses::default();
    scan.projection.iter().for_each(|expr| uses.collect(expr));
    let mut scan = scan.clone();
    for (index, (read, _)) in scan.read.iter_mut().enumerate() {
        let used: BTreeSet<&str> = uses
            .paths
            .values()
            .filter_map(|(_, path)| field_path(path))
            .filter_map(|(base, field)| (base == index).then_some(field))
            .collect();
        if !uses.whole.contains(&index) && !used.is_empty() {
            keep_fields(read, &used);
        }
    }
    Arc::new(Rel {
        op: RelOp::Scan(scan),
        columns: rel.columns.clone(),
        window: rel.window,
        updating: rel.updating,
    })
}

fn keep_fields(column: &mut Column, used: &BTreeSet<&str>) {
    if let LogicalType::Row(fields) = &mut column.field.logical_type {
        fields.retain(|(name, _)| used.contains(name.as_str()));
    }
}
