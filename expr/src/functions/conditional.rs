//! COALESCE, IF and their like, GREATEST and LEAST. The former are mostly rewritten to CASE by coercion, which leaves branches alone that
//! are not taken; they are here for their names and types.

use std::cmp::Ordering;

use arrow::array::{Array, ArrayRef, make_comparator};
use arrow::compute::kernels::zip::zip;
use arrow::compute::{SortOptions, interleave, is_null};
use datafusion_common::{Result, internal_err};

use super::call::Call;
use super::function::Function;
use super::params::{Param, Returns};
use crate::coerce::types::STRING;

const COMMON: &[Param] = &[Param::Common];
const TWO_COMMON: &[Param] = &[Param::Common, Param::Common];
const IF: &[Param] = &[Param::Boolean, Param::Common, Param::Common];

pub(super) fn functions() -> Vec<Function> {
    vec![
        Function::new("COALESCE", COMMON, Returns::Common, coalesce)
            .variadic()
            .null_if_all_are(),
        Function::new("IFNULL", TWO_COMMON, Returns::Common, coalesce).null_if_all_are(),
        Function::new(
            "NULLIF",
            &[Param::Any, Param::Any],
            Returns::Argument(0),
            rewritten,
        )
        .lazy(),
        Function::new("IF", IF, Returns::Common, rewritten).lazy(),
        Function::new("GREATEST", COMMON, Returns::Common, |call| {
            extreme(call, Ordering::Greater)
        })
        .variadic()
        .strict(),
        Function::new("LEAST", COMMON, Returns::Common, |call| {
            extreme(call, Ordering::Less)
        })
        .variadic()
        .strict(),
        Function::new("TYPEOF", &[Param::Any], STRING, rewritten),
    ]
}

fn rewritten(_: &Call) -> Result<ArrayRef> {
    internal_err!("NULLIF, IF and TYPEOF are something else after coercion")
}

/// Only where the arguments behind the first cost nothing; coercion makes all others a CASE.
fn coalesce(call: &Call) -> Result<ArrayRef> {
    let mut found = call.array(0)?;
    for index in 1..call.len() {
        if found.null_count() == 0 {
            break;
        }
        let missing = is_null(&found)?;
        found = zip(&missing, &call.array(index)?, &found)?;
    }
    Ok(found)
}

/// NULL if any argument is.
fn extreme(call: &Call, wanted: Ordering) -> Result<ArrayRef> {
    let columns = (0..call.len())
        .map(|index| call.array(index))
        .collect::<Result<Vec<_>>>()?;
    let mut best: Vec<usize> = vec![0; call.rows];
    for challenger in 1..columns.len() {
        let comparators = columns
            .iter()
            .take(challenger)
            .map(|column| make_comparator(&columns[challenger], column, SortOptions::default()))
            .collect::<Result<Vec<_>, _>>()?;
        for (row, best) in best.iter_mut().enumerate() {
            if comparators[*best](row, row) == wanted {
                *best = challenger;
            }
        }
    }
    let arrays: Vec<&dyn Array> = columns.iter().map(AsRef::as_ref).collect();
    let places: Vec<(usize, usize)> = best
        .into_iter()
        .enumerate()
        .map(|(row, best)| {
            let null = columns.iter().position(|column| column.is_null(row));
            (null.unwrap_or(best), row)
        })
        .collect();
    if places.is_empty() {
        return Ok(arrow::array::new_empty_array(&call.returns));
    }
    Ok(interleave(&arrays, &places)?)
}

#[cfg(test)]
mod tests {
    use weir_dataflow::types::LogicalType as T;

    use crate::coerce::types::STRING;
    use crate::testing::*;

    #[test]
    fn choices() {
        check(vec![
            ("COALESCE", args![null(T::Int), 2, 3], "2"),
            ("COALESCE", args![null(T::Int), null(T::Int)], "NULL"),
            ("COALESCE", args![1, 2.5], "1.0"),
            ("COALESCE", args![1, "a"], "ERROR"),
            ("IFNULL", args![null(STRING), "x"], "x"),
            ("IFNULL", args!["a", "x"], "a"),
            ("NULLIF", args![1, 1], "NULL"),
            ("NULLIF", args![1, 2], "1"),
            ("NULLIF", args![null(T::Int), 2], "NULL"),
            ("IF", args![true, 1, 2i64], "1"),
            ("IF", args![false, 1, 2i64], "2"),
            ("IF", args![null(T::Boolean), 1, 2], "2"),
            ("GREATEST", args![1, 3, 2], "3"),
            ("GREATEST", args![1, null(T::Int)], "NULL"),
            ("GREATEST", args!["a", "c", "b"], "c"),
            ("LEAST", args![1, 3, 2], "1"),
            ("LEAST", args![1.5, 1], "1.0"),
            ("LEAST", args![null(T::Int), 1], "NULL"),
            (
                "GREATEST",
                args![ts("2020-01-01 00:00:00"), ts("2021-01-01 00:00:00")],
                "2021-01-01 00:00:00.000",
            ),
        ]);
    }
}
