//! `__plus`, `__minus`, `__times`, `__divide` and MOD, for what DataFusion's operators do otherwise: DECIMAL, division of integers,
//! dates and intervals. + - * of integers and floating point stay with DataFusion, whose kernels wrap as Java does.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Decimal128Array, Int64Array, PrimitiveArray};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Decimal128Type, DurationMillisecondType, Float64Type, Int64Type, IntervalUnit,
    IntervalYearMonthType, TimeUnit,
};
use datafusion_common::{Result, exec_err, plan_err};
use weir_dataflow::types::LogicalType;

use super::call::{Call, try_numbers};
use super::function::Function;
use super::params::{Argument, Param, Returns};
use super::temporal_arithmetic::shift;
use crate::coerce::types::{
    Arithmetic, arithmetic_result, as_decimal, is_interval, is_numeric, is_temporal,
    temporal_result,
};
use crate::value::decimal;

const TWO: &[Param] = &[Param::Any, Param::Any];
const TWO_NUMBERS: &[Param] = &[Param::Numeric, Param::Numeric];

pub(super) fn functions() -> Vec<Function> {
    vec![
        Function::new(
            "__plus",
            TWO,
            rule(|a| result(Arithmetic::Plus, a)),
            |call| compute(Arithmetic::Plus, call),
        ),
        Function::new(
            "__minus",
            TWO,
            rule(|a| result(Arithmetic::Minus, a)),
            |call| compute(Arithmetic::Minus, call),
        ),
        Function::new(
            "__times",
            TWO,
            rule(|a| result(Arithmetic::Times, a)),
            |call| compute(Arithmetic::Times, call),
        ),
        Function::new(
            "__divide",
            TWO,
            rule(|a| result(Arithmetic::Divide, a)),
            |call| compute(Arithmetic::Divide, call),
        ),
        Function::new("MOD", TWO_NUMBERS, rule(modulo_result), |call| {
            compute(Arithmetic::Modulo, call)
        }),
    ]
}

fn rule(rule: fn(&[Argument]) -> Result<LogicalType>) -> Returns {
    Returns::Rule(rule)
}

fn result(op: Arithmetic, arguments: &[Argument]) -> Result<LogicalType> {
    let (left, right) = (&arguments[0].logical_type, &arguments[1].logical_type);
    let found = if is_temporal(left) || is_temporal(right) {
        temporal_result(left, right)
    } else {
        arithmetic_result(op, left, right)
    };
    match found {
        Some(found) => Ok(found),
        None => plan_err!("there is no {left} {} {right}", op.symbol()),
    }
}

/// Of whole numbers the divisor's type, since the rest is smaller than the divisor.
fn modulo_result(arguments: &[Argument]) -> Result<LogicalType> {
    let (left, right) = (&arguments[0].logical_type, &arguments[1].logical_type);
    if let (Some((_, 0)), Some((_, 0))) = (as_decimal(left), as_decimal(right)) {
        return Ok(right.clone());
    }
    result(Arithmetic::Modulo, arguments)
}

fn compute(op: Arithmetic, call: &Call) -> Result<ArrayRef> {
    let (left, right) = (call.data_type(0)?, call.data_type(1)?);
    match &call.returns {
        DataType::Decimal128(precision, scale) => decimals(op, call, *precision, *scale),
        DataType::Date32 | DataType::Time32(_) | DataType::Timestamp(..) => {
            let negative = op == Arithmetic::Minus;
            let point_first = !matches!(left, DataType::Duration(_) | DataType::Interval(_));
            if point_first {
                shift(call, 0, 1, negative)
            } else {
                shift(call, 1, 0, negative)
            }
        }
        DataType::Duration(_) | DataType::Interval(_) => intervals(op, call),
        DataType::Float32 | DataType::Float64 => floats(op, call),
        _ if left.is_integer() && right.is_integer() => integers(op, call),
        narrower if narrower.is_integer() => {
            let rest = decimals(op, call, 38, 0)?;
            Ok(cast(&rest, narrower)?)
        }
        other => exec_err!("there is no {left} {} {right} as {other}", op.symbol()),
    }
}

fn integers(op: Arithmetic, call: &Call) -> Result<ArrayRef> {
    let (left, left_constant) = call.raw(0)?;
    let (right, right_constant) = call.raw(1)?;
    let (left, right) = (longs(left)?, longs(right)?);
    let (left, right) = (
        Operand::Whole(left, left_constant),
        Operand::Whole(right, right_constant),
    );
    let result = try_numbers::<Int64Type>(call.rows, |row| {
        let (a, b) = (left.get(row)? as i64, right.get(row)? as i64);
        Some(match op {
            Arithmetic::Plus => Ok(a.wrapping_add(b)),
            Arithmetic::Minus => Ok(a.wrapping_sub(b)),
            Arithmetic::Times => Ok(a.wrapping_mul(b)),
            Arithmetic::Divide | Arithmetic::Modulo if b == 0 => division_by_zero(),
            Arithmetic::Divide => Ok(a.wrapping_div(b)),
            Arithmetic::Modulo => Ok(a.wrapping_rem(b)),
        })
    })?;
    if call.returns == DataType::Int64 {
        return Ok(result);
    }
    let result = result.as_primitive::<Int64Type>();
    Ok(match call.returns {
        DataType::Int8 => Arc::new(result.unary::<_, arrow::datatypes::Int8Type>(|v| v as i8)),
        DataType::Int16 => Arc::new(result.unary::<_, arrow::datatypes::Int16Type>(|v| v as i16)),
        _ => Arc::new(result.unary::<_, arrow::datatypes::Int32Type>(|v| v as i32)),
    })
}

fn division_by_zero<V>() -> Result<V> {
    exec_err!("division by zero")
}

fn longs(array: &ArrayRef) -> Result<Int64Array> {
    Ok(cast(array, &DataType::Int64)?
        .as_primitive::<Int64Type>()
        .clone())
}

/// A column of exact numbers, whatever its width.
enum Operand<'a> {
    Whole(Int64Array, bool),
    Decimal(&'a Decimal128Array, bool),
}

impl Operand<'_> {
    /// A column times a literal, which can't overflow.
    fn times(&self, literal: &Self) -> Option<Decimal128Array> {
        let factor = match literal {
            Self::Whole(_, true) | Self::Decimal(_, true) => literal.get(0)?,
            _ => return None,
        };
        match self {
            Self::Whole(array, false) => Some(array.unary(|value| i128::from(value) * factor)),
            Self::Decimal(array, false) => Some(array.unary(|value| value * factor)),
            _ => None,
        }
    }

    fn get(&self, row: usize) -> Option<i128> {
        use arrow::array::Array;
        match self {
            Self::Whole(array, constant) => {
                let index = if *constant { 0 } else { row };
                array
                    .is_valid(index)
                    .then(|| i128::from(array.value(index)))
            }
            Self::Decimal(array, constant) => {
                let index = if *constant { 0 } else { row };
                array.is_valid(index).then(|| array.value(index))
            }
        }
    }
}

fn operand(call: &Call, index: usize) -> Result<(Operand<'_>, u8, i8)> {
    let (array, constant) = call.raw(index)?;
    Ok(match array.data_type() {
        DataType::Decimal128(precision, scale) => (
            Operand::Decimal(array.as_primitive::<Decimal128Type>(), constant),
            *precision,
            *scale,
        ),
        DataType::Null => {
            let nulls = cast(array, &DataType::Int64)?;
            (Operand::Whole(longs(&nulls)?, constant), 1, 0)
        }
        integer => {
            let precision = match integer {
                DataType::Int8 => 3,
                DataType::Int16 => 5,
                DataType::Int32 => 10,
                _ => 19,
            };
            (Operand::Whole(longs(array)?, constant), precision, 0)
        }
    })
}

fn decimals(op: Arithmetic, call: &Call, precision: u8, scale: i8) -> Result<ArrayRef> {
    let (left, p1, s1) = operand(call, 0)?;
    let (right, p2, s2) = operand(call, 1)?;
    let data_type = DataType::Decimal128(precision, scale);
    // With this many digits the product fits as it is.
    let exact = p1 + p2 <= precision && s1 + s2 == scale;
    if op == Arithmetic::Times
        && exact
        && let Some(product) = left.times(&right).or_else(|| right.times(&left))
    {
        return Ok(Arc::new(product.with_data_type(data_type)));
    }
    let result = match op {
        Arithmetic::Times if exact => collect(call.rows, |row| {
            Some(Ok(Some(left.get(row)? * right.get(row)?)))
        }),
        Arithmetic::Times => collect(call.rows, |row| {
            let (a, b) = (left.get(row)?, right.get(row)?);
            Some(Ok(decimal::multiply((a, s1), (b, s2), precision, scale)))
        }),
        Arithmetic::Plus | Arithmetic::Minus => collect(call.rows, |row| {
            let (a, b) = (left.get(row)?, right.get(row)?);
            let b = if op == Arithmetic::Minus { -b } else { b };
            Some(Ok(add((a, s1), (b, s2), precision, scale)))
        }),
        Arithmetic::Divide => collect(call.rows, |row| {
            let (a, b) = (left.get(row)?, right.get(row)?);
            if b == 0 {
                return Some(division_by_zero());
            }
            Some(Ok(decimal::divide((a, s1), (b, s2), precision, scale)))
        }),
        Arithmetic::Modulo => collect(call.rows, |row| {
            let (a, b) = (left.get(row)?, right.get(row)?);
            if b == 0 {
                return Some(division_by_zero());
            }
            Some(Ok(modulo((a, s1), (b, s2), precision, scale)))
        }),
    }?;
    Ok(Arc::new(result.with_data_type(data_type)))
}

/// `None` is a NULL operand, `Ok(None)` an overflow, which is NULL too.
fn collect(
    rows: usize,
    value: impl Fn(usize) -> Option<Result<Option<i128>>>,
) -> Result<Decimal128Array> {
    let mut builder = arrow::array::Decimal128Builder::with_capacity(rows);
    for row in 0..rows {
        builder.append_option(value(row).transpose()?.flatten());
    }
    Ok(builder.finish())
}

fn add(left: (i128, i8), right: (i128, i8), precision: u8, scale: i8) -> Option<i128> {
    let common = left.1.max(right.1);
    let a = decimal::rescale(left.0, left.1, common, 38)?;
    let b = decimal::rescale(right.0, right.1, common, 38)?;
    decimal::rescale(a.checked_add(b)?, common, scale, precision)
}

fn modulo(left: (i128, i8), right: (i128, i8), precision: u8, scale: i8) -> Option<i128> {
    let common = left.1.max(right.1);
    let a = decimal::rescale(left.0, left.1, common, 38)?;
    let b = decimal::rescale(right.0, right.1, common, 38)?;
    decimal::rescale(a.checked_rem(b)?, common, scale, precision)
}

fn doubles(call: &Call, index: usize) -> Result<(PrimitiveArray<Float64Type>, bool)> {
    let (array, constant) = call.raw(index)?;
    let array = match array.data_type() {
        DataType::Decimal128(_, scale) => array
            .as_primitive::<Decimal128Type>()
            .unary(|value| decimal::to_f64(value, *scale)),
        _ => cast(array, &DataType::Float64)?
            .as_primitive::<Float64Type>()
            .clone(),
    };
    Ok((array, constant))
}

fn floats(op: Arithmetic, call: &Call) -> Result<ArrayRef> {
    use super::call::{Numbers, numbers};
    let (left, left_constant) = doubles(call, 0)?;
    let (right, right_constant) = doubles(call, 1)?;
    let left = Numbers {
        array: &left,
        constant: left_constant,
    };
    let right = Numbers {
        array: &right,
        constant: right_constant,
    };
    let result = numbers::<Float64Type>(call.rows, |row| {
        let (a, b) = (left.get(row)?, right.get(row)?);
        Some(match op {
            Arithmetic::Plus => a + b,
            Arithmetic::Minus => a - b,
            Arithmetic::Times => a * b,
            Arithmetic::Divide => a / b,
            Arithmetic::Modulo => a % b,
        })
    })?;
    Ok(cast(&result, &call.returns)?)
}

/// Intervals plus or minus intervals, and times or divided by a number.
fn intervals(op: Arithmetic, call: &Call) -> Result<ArrayRef> {
    let months = call.returns == DataType::Interval(IntervalUnit::YearMonth);
    let unit = |index: usize| -> Result<(Int64Array, bool)> {
        let (array, constant) = call.raw(index)?;
        let longs = match array.data_type() {
            DataType::Interval(IntervalUnit::YearMonth) => array
                .as_primitive::<IntervalYearMonthType>()
                .unary(i64::from),
            DataType::Duration(TimeUnit::Millisecond) => array
                .as_primitive::<DurationMillisecondType>()
                .unary(|millis| millis),
            _ => longs(array)?,
        };
        Ok((longs, constant))
    };
    let (left, left_constant) = unit(0)?;
    let (right, right_constant) = unit(1)?;
    let left = Operand::Whole(left, left_constant);
    let right = Operand::Whole(right, right_constant);
    let result = try_numbers::<Int64Type>(call.rows, |row| {
        let (a, b) = (left.get(row)? as i64, right.get(row)? as i64);
        Some(match op {
            Arithmetic::Plus => Ok(a.wrapping_add(b)),
            Arithmetic::Minus => Ok(a.wrapping_sub(b)),
            Arithmetic::Times => Ok(a.wrapping_mul(b)),
            _ if b == 0 => division_by_zero(),
            Arithmetic::Divide => Ok(a.wrapping_div(b)),
            Arithmetic::Modulo => Ok(a.wrapping_rem(b)),
        })
    })?;
    let result = result.as_primitive::<Int64Type>();
    Ok(if months {
        Arc::new(result.unary::<_, IntervalYearMonthType>(|months| months as i32))
    } else {
        Arc::new(result.unary::<_, DurationMillisecondType>(|millis| millis))
    })
}

/// Whether DataFusion's operator does the same.
pub(crate) fn is_native(op: Arithmetic, left: &LogicalType, right: &LogicalType) -> bool {
    let decimal = |t: &LogicalType| matches!(t, LogicalType::Decimal(..));
    let plain = |t: &LogicalType| is_numeric(t) && !decimal(t) && !is_interval(t);
    let floating = |t: &LogicalType| matches!(t, LogicalType::Float | LogicalType::Double);
    match op {
        Arithmetic::Plus | Arithmetic::Minus | Arithmetic::Times => {
            (plain(left) && plain(right)) || floating(left) || floating(right)
        }
        Arithmetic::Divide => floating(left) || floating(right),
        Arithmetic::Modulo => false,
    }
}

#[cfg(test)]
mod tests {
    use weir_dataflow::types::LogicalType as T;

    use crate::testing::*;

    #[test]
    fn arithmetic_as_in_flink() {
        check(vec![
            ("__times", args![dec("0.908", 3, 3), 1000i64], "908.000"),
            ("__plus", args![dec("1.5", 2, 1), dec("1.25", 3, 2)], "2.75"),
            ("__minus", args![dec("1.5", 2, 1), 2], "-0.5"),
            (
                "__divide",
                args![dec("1.00", 3, 2), dec("3.00", 3, 2)],
                "0.333333",
            ),
            ("__divide", args![7, 2], "3"),
            ("__divide", args![-7, 2], "-3"),
            ("__divide", args![1, 0], "ERROR"),
            ("__divide", args![dec("1", 1, 0), dec("0", 1, 0)], "ERROR"),
            ("__divide", args![i32::MIN, -1], "-2147483648"),
            ("__divide", args![null(T::Int), 0], "NULL"),
            (
                "__times",
                args![
                    of("99999999999999999999999999999999999999", T::Decimal(38, 0)),
                    of("99", T::Decimal(38, 0))
                ],
                "NULL",
            ),
            (
                "__plus",
                args![
                    of("99999999999999999999999999999999999999", T::Decimal(38, 0)),
                    of("1", T::Decimal(38, 0))
                ],
                "NULL",
            ),
            (
                "__plus",
                args![ts("2020-01-31 10:00:00"), months(1)],
                "2020-02-29 10:00:00.000",
            ),
            (
                "__minus",
                args![ts("2020-01-01 00:00:00"), day_time(4000)],
                "2019-12-31 23:59:56.000",
            ),
            (
                "__plus",
                args![day_time(1000), of("10:00:00", T::Time(0))],
                "10:00:01",
            ),
            (
                "__plus",
                args![date("2020-02-28"), day_time(86_400_000)],
                "2020-02-29",
            ),
            (
                "__minus",
                args![date("2020-03-31"), months(1)],
                "2020-02-29",
            ),
            (
                "__plus",
                args![
                    of("2020-01-01 00:00:00.123456", T::Timestamp(6)),
                    day_time(1)
                ],
                "2020-01-01 00:00:00.124456",
            ),
            (
                "__plus",
                args![of("2020-01-01 00:00:00", T::TimestampLtz(3)), day_time(1)],
                "2020-01-01 00:00:00.001",
            ),
            (
                "__plus",
                args![day_time(1000), day_time(500)],
                "+0 00:00:01.500",
            ),
            ("__times", args![months(5), 3], "+1-03"),
            ("__minus", args![months(1), months(3)], "-0-02"),
            ("__plus", args!["a", 1], "ERROR"),
            ("__plus", args![ts("2020-01-01 00:00:00"), 1], "ERROR"),
        ]);
    }
}
