//! GROUPING SETS, ROLLUP and CUBE: the input once for each set, with NULL in the keys that the set has not, and the number of the set as one more key.

use std::sync::Arc;

use datafusion_common::ScalarValue;
use datafusion_expr::{Case, Expr};
use sqlparser::ast;
use weir_dataflow::types::{LogicalField, LogicalType};

use super::call::implicit_cast;
use super::expr::{column, literal_expr};
use super::rel::{Column, Rel, RelOp, RelRef, expr_schema, input_ref};
use crate::error::{Result, SqlError};

/// CUBE of more columns has too many sets.
const SETS_MAX: usize = 64;

/// A GROUP BY: its key expressions, and the sets of them by place.
pub(super) struct Grouping {
    pub keys: Vec<ast::Expr>,
    /// `None`: all keys are one set.
    pub sets: Option<Vec<Vec<usize>>>,
}

impl Grouping {
    /// Of what stands behind GROUP BY: the product of its elements.
    pub fn of(group_by: &[ast::Expr]) -> Result<Self> {
        let has_sets = group_by.iter().any(|expr| elements(expr).is_some());
        if !has_sets {
            return Ok(Self {
                keys: group_by.to_vec(),
                sets: None,
            });
        }
        let mut keys: Vec<ast::Expr> = Vec::new();
        let mut sets: Vec<Vec<usize>> = vec![Vec::new()];
        for expr in group_by {
            let element = elements(expr).unwrap_or_else(|| vec![vec![expr.clone()]]);
            let mut product = Vec::with_capacity(sets.len() * element.len());
            for set in &sets {
                for more in &element {
                    let mut joined = set.clone();
                    for key in more {
                        let known = keys.iter().position(|known| known == key);
                        let place = known.unwrap_or_else(|| {
                            keys.push(key.clone());
                            keys.len() - 1
                        });
                        if !joined.contains(&place) {
                            joined.push(place);
                        }
                    }
                    product.push(joined);
                }
            }
            if product.len() > SETS_MAX {
                return Err(SqlError::new(format!(
                    "GROUP BY has more than {SETS_MAX} grouping sets"
                ))
                .at(expr));
            }
            sets = product;
        }
        Ok(Self {
            keys,
            sets: Some(sets),
        })
    }
}

/// The sets of one element; `None` if it is a plain expression.
fn elements(expr: &ast::Expr) -> Option<Vec<Vec<ast::Expr>>> {
    match expr {
        ast::Expr::GroupingSets(sets) => Some(sets.iter().map(|set| flat(set)).collect()),
        ast::Expr::Rollup(parts) => Some(
            (0..=parts.len())
                .rev()
                .map(|length| flat(&parts[..length].concat()))
                .collect(),
        ),
        ast::Expr::Cube(parts) => {
            let subsets = 0..1u64 << parts.len().min(SETS_MAX.ilog2() as usize + 1);
            let subset = |bits: u64| {
                let chosen = parts.iter().enumerate();
                let chosen = chosen.filter(|(place, _)| bits & (1 << place) != 0);
                flat(
                    &chosen
                        .flat_map(|(_, part)| part.clone())
                        .collect::<Vec<_>>(),
                )
            };
            Some(subsets.rev().map(subset).collect())
        }
        _ => None,
    }
}

/// `((a, b))` is `(a, b)`.
fn flat(set: &[ast::Expr]) -> Vec<ast::Expr> {
    let mut out = Vec::with_capacity(set.len());
    for expr in set {
        match expr {
            ast::Expr::Tuple(inner) => out.extend(inner.iter().cloned()),
            ast::Expr::Nested(inner) => out.push(inner.as_ref().clone()),
            other => out.push(other.clone()),
        }
    }
    out
}

/// The input once for each set. Behind its columns: a column for each of `keys` that some set has not, and the number of the set.
pub(super) struct Expanded {
    pub rel: RelRef,
    /// Where each key is; its own expression if all sets have it.
    pub keys: Vec<Option<usize>>,
    /// Where the number of the set is.
    pub set: usize,
}

pub(super) fn expand(
    input: &RelRef,
    keys: &[(&Expr, &Column)],
    sets: &[Vec<usize>],
) -> Result<Expanded> {
    let width = input.columns.len();
    let some: Vec<usize> = (0..keys.len())
        .filter(|key| !sets.iter().all(|set| set.contains(key)))
        .collect();
    let mut columns = input.columns.clone();
    for key in &some {
        let mut nullable = keys[*key].1.clone();
        nullable.field.nullable = true;
        nullable.time = None;
        columns.push(nullable);
    }
    let number = LogicalField {
        logical_type: LogicalType::Int,
        nullable: false,
    };
    columns.push(column("$set", number));
    let schema = expr_schema(&input.columns)?;
    let mut inputs = Vec::with_capacity(sets.len());
    for (number, set) in sets.iter().enumerate() {
        let mut projection: Vec<Expr> = (0..width).map(input_ref).collect();
        for key in &some {
            let (expr, column) = keys[*key];
            projection.push(if set.contains(key) {
                expr.clone()
            } else {
                let null = literal_expr(ScalarValue::Null);
                let nullable = LogicalField::nullable(column.field.logical_type.clone());
                implicit_cast(null, &nullable, &schema)?
            });
        }
        projection.push(number_of(number));
        inputs.push(Rel::calc(input.clone(), None, projection, columns.clone()));
    }
    let place = |key: usize| some.iter().position(|other| *other == key);
    Ok(Expanded {
        keys: (0..keys.len())
            .map(|key| Some(width + place(key)?))
            .collect(),
        set: width + some.len(),
        rel: Arc::new(Rel {
            columns,
            window: input.window,
            updating: input.updating,
            op: RelOp::Union { inputs },
        }),
    })
}

fn number_of(set: usize) -> Expr {
    literal_expr(ScalarValue::Int32(i32::try_from(set).ok()))
}

/// GROUPING(a, b): a bit for each argument, the first one highest; 1 if the set of the row has it not.
pub(super) fn grouping(arguments: &[usize], sets: Option<&[Vec<usize>]>, set: &Expr) -> Expr {
    let bits = |set: &[usize]| {
        let bits = arguments
            .iter()
            .fold(0i64, |bits, key| bits << 1 | i64::from(!set.contains(key)));
        literal_expr(ScalarValue::Int64(Some(bits)))
    };
    let Some((last, others)) = sets.and_then(<[Vec<usize>]>::split_last) else {
        return literal_expr(ScalarValue::Int64(Some(0)));
    };
    if others.is_empty() {
        return bits(last);
    }
    let branches = others.iter().enumerate().map(|(number, others)| {
        let is_set = set.clone().eq(number_of(number));
        (Box::new(is_set), Box::new(bits(others)))
    });
    Expr::Case(Case::new(
        None,
        branches.collect(),
        Some(Box::new(bits(last))),
    ))
}
