//! From primitives to the results of calls.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Decimal128Type, Int64Type};
use weir_dataflow::agg::CallPlan;
use weir_dataflow::{Error, Result};

use super::plan::AggregatePlan;
use super::values::{Values, from_floats, from_ints, from_wide, some_nulls};
use super::{collected, distances};

/// Results of all calls out of partial results (one array a primitive).
pub fn results(plan: &AggregatePlan, partials: &[ArrayRef]) -> Result<Vec<ArrayRef>> {
    let calls = plan.parts.calls.iter().zip(&plan.outputs);
    calls
        .map(|(call, output)| match *call {
            CallPlan::Value(value) if partials[value].data_type() == output => {
                Ok(partials[value].clone())
            }
            CallPlan::Value(value) => Ok(arrow::compute::cast(&partials[value], output)?),
            CallPlan::Sum { sum, count } => {
                combine(&partials[sum], &partials[count], output, false)
            }
            CallPlan::Avg { sum, count } => combine(&partials[sum], &partials[count], output, true),
            CallPlan::List(list) => collected::array(&partials[list], output, false),
            CallPlan::Values(bag) => collected::array(&partials[bag], output, true),
            CallPlan::Multiset { bag, distinct } => {
                collected::multiset(&partials[bag], output, distinct)
            }
            CallPlan::SquaredDistances(sum) => distances::results(&partials[sum], output),
        })
        .collect()
}

fn combine(
    sums: &ArrayRef,
    counts: &ArrayRef,
    output: &DataType,
    average: bool,
) -> Result<ArrayRef> {
    let counts = counts
        .as_primitive_opt::<Int64Type>()
        .ok_or_else(|| Error::Internal("a count is not BIGINT".to_owned()))?
        .values();
    // The divisor of a NULL is never 0.
    let divided = sums.len() == counts.len() && average;
    let pairs = |row: usize| if divided { counts[row].max(1) } else { 1 };
    let nulls = || some_nulls(counts.iter().map(|count| *count > 0));
    match Values::of(sums)? {
        Values::Int(sums) => {
            let values = sums
                .iter()
                .enumerate()
                .map(|(row, sum)| sum.wrapping_div(pairs(row)));
            from_ints(values.collect(), nulls(), output)
        }
        Values::Float(sums) => {
            let values = sums
                .iter()
                .enumerate()
                .map(|(row, sum)| sum / pairs(row) as f64);
            from_floats(values.collect(), nulls(), output)
        }
        Values::Wide(sums_wide) => decimals(sums, sums_wide, counts, output, average),
        Values::Bytes { .. } => Err(Error::Internal("a sum of text".to_owned())),
    }
}

fn decimals(
    sums: &ArrayRef,
    values: &[i128],
    counts: &[i64],
    output: &DataType,
    average: bool,
) -> Result<ArrayRef> {
    let scale_in = match sums.data_type() {
        DataType::Decimal128(_, scale) => *scale,
        other => return Err(Error::Internal(format!("a decimal sum is {other}"))),
    };
    let scale_out = match output {
        DataType::Decimal128(_, scale) => *scale,
        other => {
            return Err(Error::Config(format!(
                "a decimal aggregate gives DECIMAL, not {other}"
            )));
        }
    };
    let shift = u32::try_from(scale_out - scale_in).map_err(|_| {
        Error::Config("a decimal aggregate gives fewer digits than its argument has".to_owned())
    })?;
    let factor = 10i128.pow(shift);
    let present = |row: usize| counts[row] > 0 && sums.is_valid(row);
    let result = values.iter().enumerate().map(|(row, sum)| {
        let count = if average {
            i128::from(counts[row].max(1))
        } else {
            1
        };
        present(row).then(|| divide(*sum, count, factor)).flatten()
    });
    let result: Vec<Option<i128>> = result.collect();
    let nulls: Option<NullBuffer> = some_nulls(result.iter().map(Option::is_some));
    let values = result.into_iter().map(Option::unwrap_or_default).collect();
    let array = from_wide(values, nulls, output)?;
    debug_assert!(array.as_primitive_opt::<Decimal128Type>().is_some());
    Ok(array)
}

/// `sum * factor / count`, rounded half up (away from zero); `None` beyond 38 digits.
fn divide(sum: i128, count: i128, factor: i128) -> Option<i128> {
    let (whole, rest) = (sum / count, sum % count);
    let fraction = rest.checked_mul(factor)?;
    let mut digits = fraction / count;
    if (fraction % count).abs() * 2 >= count {
        digits += fraction.signum();
    }
    let result = whole.checked_mul(factor)?.checked_add(digits)?;
    (result.abs() < 10i128.pow(38)).then_some(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn averages_of_decimals_round_half_up() {
        assert_eq!(divide(10, 4, 1), Some(3));
        assert_eq!(divide(-10, 4, 1), Some(-3));
        assert_eq!(divide(1, 3, 1_000_000), Some(333_333));
        assert_eq!(divide(2, 3, 1_000_000), Some(666_667));
        assert_eq!(divide(10i128.pow(37), 1, 100), None);
    }
}
