//! Numbers: rounding, logarithms, trigonometry, random.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Decimal128Type, DurationMillisecondType, Float32Type, Float64Type, Int8Type,
    Int16Type, Int32Type, Int64Type, IntervalYearMonthType,
};
use datafusion_common::{Result, exec_err, plan_err};
use rand::Rng;
use weir_dataflow::types::LogicalType;

use super::call::{Call, numbers, try_numbers};
use super::function::{Function, Kernel};
use super::params::{Argument, Param, Returns};
use crate::coerce::types::{is_interval, is_numeric, is_temporal, round_result};
use crate::value::{decimal, floating};

use LogicalType as T;

const DOUBLE: &[Param] = &[Param::Double];
const TWO_DOUBLES: &[Param] = &[Param::Double, Param::Double];

/// A number; or a date or time, the unit and the session time zone.
const ROUND_TO: &[Param] = &[Param::Any, Param::Text, Param::Text];

pub(super) fn functions() -> Vec<Function> {
    let double = |name, kernel: Kernel| Function::new(name, DOUBLE, T::Double, kernel).strict();
    vec![
        double("SQRT", |call| unary(call, f64::sqrt)),
        double("EXP", |call| unary(call, f64::exp)),
        double("LN", |call| unary(call, f64::ln)),
        double("LOG10", |call| unary(call, f64::log10)),
        double("LOG2", |call| {
            unary(call, |x| x.ln() / std::f64::consts::LN_2)
        }),
        double("SIN", |call| unary(call, f64::sin)),
        double("COS", |call| unary(call, f64::cos)),
        double("TAN", |call| unary(call, f64::tan)),
        double("COT", |call| unary(call, |x| 1.0 / x.tan())),
        double("ASIN", |call| unary(call, f64::asin)),
        double("ACOS", |call| unary(call, f64::acos)),
        double("ATAN", |call| unary(call, f64::atan)),
        double("SINH", |call| unary(call, f64::sinh)),
        double("COSH", |call| unary(call, f64::cosh)),
        double("TANH", |call| unary(call, f64::tanh)),
        double("DEGREES", |call| unary(call, f64::to_degrees)),
        double("RADIANS", |call| unary(call, f64::to_radians)),
        Function::new("ATAN2", TWO_DOUBLES, T::Double, |call| {
            binary(call, f64::atan2)
        })
        .strict(),
        Function::new("POWER", TWO_DOUBLES, T::Double, |call| {
            binary(call, f64::powf)
        })
        .strict(),
        Function::new("LOG", TWO_DOUBLES, T::Double, log)
            .optional(1)
            .strict(),
        Function::new("PI", &[], T::Double, |call| {
            constant(call, std::f64::consts::PI)
        })
        .never_null(),
        Function::new("E", &[], T::Double, |call| {
            constant(call, std::f64::consts::E)
        })
        .never_null(),
        Function::new("ABS", &[Param::Any], rule(number_or_interval), abs),
        Function::new("SIGN", &[Param::Numeric], Returns::Argument(0), sign),
        Function::new(
            "ROUND",
            &[Param::Numeric, Param::Int],
            rule(rounded),
            |call| round(call, Rounding::HalfUp),
        )
        .optional(1),
        Function::new(
            "TRUNCATE",
            &[Param::Numeric, Param::Int],
            rule(rounded),
            |call| round(call, Rounding::Down),
        )
        .optional(1),
        Function::new("FLOOR", ROUND_TO, rule(without_fraction), |call| {
            whole(call, Rounding::Floor)
        })
        .optional(2),
        Function::new("CEIL", ROUND_TO, rule(without_fraction), |call| {
            whole(call, Rounding::Ceiling)
        })
        .alias("CEILING")
        .optional(2),
        Function::new("RAND", &[Param::Int], T::Double, rand_double)
            .optional(1)
            .volatile(),
        Function::new(
            "RAND_INTEGER",
            &[Param::Int, Param::Int],
            T::Int,
            rand_integer,
        )
        .optional(1)
        .volatile(),
    ]
}

fn rule(rule: fn(&[Argument]) -> Result<LogicalType>) -> Returns {
    Returns::Rule(rule)
}

fn unary(call: &Call, f: impl Fn(f64) -> f64) -> Result<ArrayRef> {
    let x = call.primitive::<Float64Type>(0)?;
    numbers::<Float64Type>(call.rows, |row| Some(f(x.get(row)?)))
}

fn binary(call: &Call, f: impl Fn(f64, f64) -> f64) -> Result<ArrayRef> {
    let x = call.primitive::<Float64Type>(0)?;
    let y = call.primitive::<Float64Type>(1)?;
    numbers::<Float64Type>(call.rows, |row| Some(f(x.get(row)?, y.get(row)?)))
}

fn constant(call: &Call, value: f64) -> Result<ArrayRef> {
    numbers::<Float64Type>(call.rows, |_| Some(value))
}

/// LOG(x) is the natural one, LOG(base, x) has the base first.
fn log(call: &Call) -> Result<ArrayRef> {
    if call.len() == 1 {
        return unary(call, f64::ln);
    }
    binary(call, |base, x| x.ln() / base.ln())
}

fn number_or_interval(arguments: &[Argument]) -> Result<LogicalType> {
    let given = &arguments[0].logical_type;
    if is_numeric(given) || is_interval(given) {
        return Ok(given.clone());
    }
    plan_err!("argument 1 of ABS must be a number or an INTERVAL, not {given}")
}

fn abs(call: &Call) -> Result<ArrayRef> {
    let (array, _) = call.raw(0)?;
    let array = match array.data_type() {
        DataType::Int8 => Arc::new(
            array
                .as_primitive::<Int8Type>()
                .unary::<_, Int8Type>(i8::wrapping_abs),
        ) as ArrayRef,
        DataType::Int16 => Arc::new(
            array
                .as_primitive::<Int16Type>()
                .unary::<_, Int16Type>(i16::wrapping_abs),
        ),
        DataType::Int32 => Arc::new(
            array
                .as_primitive::<Int32Type>()
                .unary::<_, Int32Type>(i32::wrapping_abs),
        ),
        DataType::Int64 => Arc::new(
            array
                .as_primitive::<Int64Type>()
                .unary::<_, Int64Type>(i64::wrapping_abs),
        ),
        DataType::Float32 => Arc::new(
            array
                .as_primitive::<Float32Type>()
                .unary::<_, Float32Type>(f32::abs),
        ),
        DataType::Float64 => Arc::new(
            array
                .as_primitive::<Float64Type>()
                .unary::<_, Float64Type>(f64::abs),
        ),
        DataType::Decimal128(..) => {
            let abs = array
                .as_primitive::<Decimal128Type>()
                .unary::<_, Decimal128Type>(i128::abs);
            Arc::new(abs.with_data_type(array.data_type().clone()))
        }
        DataType::Duration(_) => Arc::new(
            array
                .as_primitive::<DurationMillisecondType>()
                .unary::<_, DurationMillisecondType>(i64::wrapping_abs),
        ),
        _ => Arc::new(
            array
                .as_primitive::<IntervalYearMonthType>()
                .unary::<_, IntervalYearMonthType>(i32::wrapping_abs),
        ),
    };
    Ok(array)
}

fn sign(call: &Call) -> Result<ArrayRef> {
    let rows = call.rows;
    match call.data_type(0)?.clone() {
        DataType::Decimal128(precision, scale) => {
            let x = call.primitive::<Decimal128Type>(0)?;
            let one = decimal::rescale(1, 0, scale, precision);
            let signs =
                numbers::<Decimal128Type>(rows, |row| x.get(row)?.signum().checked_mul(one?))?;
            Ok(Arc::new(
                signs
                    .as_primitive::<Decimal128Type>()
                    .clone()
                    .with_data_type(call.returns.clone()),
            ))
        }
        DataType::Float32 | DataType::Float64 => {
            let doubles = cast(&call.array(0)?, &DataType::Float64)?;
            let sign = |x: f64| {
                if x == 0.0 || x.is_nan() {
                    x
                } else {
                    x.signum()
                }
            };
            let signs = doubles
                .as_primitive::<Float64Type>()
                .unary::<_, Float64Type>(sign);
            Ok(cast(&signs, &call.returns)?)
        }
        _ => {
            let longs = cast(&call.array(0)?, &DataType::Int64)?;
            let signs = longs
                .as_primitive::<Int64Type>()
                .unary::<_, Int64Type>(i64::signum);
            Ok(cast(&signs, &call.returns)?)
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Rounding {
    HalfUp,
    Down,
    Floor,
    Ceiling,
}

impl Rounding {
    fn divide(self, value: i128, divisor: i128) -> i128 {
        match self {
            Self::HalfUp => decimal::divide_half_up(value, divisor),
            Self::Down => value / divisor,
            Self::Floor => value.div_euclid(divisor),
            Self::Ceiling => -(-value).div_euclid(divisor),
        }
    }
}

/// ROUND and TRUNCATE of a DECIMAL lose digits of the type; where the digits are no literal they stay.
fn rounded(arguments: &[Argument]) -> Result<LogicalType> {
    let given = arguments[0].logical_type.clone();
    let T::Decimal(precision, scale) = given else {
        return Ok(given);
    };
    let digits = match arguments.get(1) {
        None => Some(0),
        Some(digits) => digits.integer(),
    };
    Ok(digits.map_or(given, |digits| round_result(precision, scale, digits)))
}

fn round(call: &Call, rounding: Rounding) -> Result<ArrayRef> {
    let digits = call.optional::<Int32Type>(1)?;
    let digit = |row: usize| match &digits {
        None => Some(0),
        Some(digits) => digits.get(row),
    };
    match call.data_type(0)?.clone() {
        DataType::Decimal128(_, from) => round_decimal(call, rounding, from, digit),
        DataType::Float32 | DataType::Float64 => {
            let doubles = cast(&call.array(0)?, &DataType::Float64)?;
            let doubles = doubles.as_primitive::<Float64Type>();
            let rounded = numbers::<Float64Type>(call.rows, |row| {
                use arrow::array::Array;
                let digits = digit(row)?;
                doubles
                    .is_valid(row)
                    .then(|| round_double(doubles.value(row), digits, rounding))
            })?;
            Ok(cast(&rounded, &call.returns)?)
        }
        _ => {
            let longs = cast(&call.array(0)?, &DataType::Int64)?;
            let longs = longs.as_primitive::<Int64Type>();
            let rounded = numbers::<Int64Type>(call.rows, |row| {
                use arrow::array::Array;
                let digits = digit(row)?;
                longs
                    .is_valid(row)
                    .then(|| round_long(longs.value(row), digits, rounding))
            })?;
            narrowed(&rounded, &call.returns)
        }
    }
}

/// To the integer type of the result, as Java's `intValue` cuts.
fn narrowed(longs: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    let longs = longs.as_primitive::<Int64Type>();
    Ok(match to {
        DataType::Int8 => Arc::new(longs.unary::<_, Int8Type>(|v| v as i8)),
        DataType::Int16 => Arc::new(longs.unary::<_, Int16Type>(|v| v as i16)),
        DataType::Int32 => Arc::new(longs.unary::<_, Int32Type>(|v| v as i32)),
        _ => Arc::new(longs.clone()),
    })
}

fn round_long(value: i64, digits: i32, rounding: Rounding) -> i64 {
    if digits >= 0 {
        return value;
    }
    let Some(power) = decimal::pow10(-digits) else {
        return 0;
    };
    (rounding.divide(i128::from(value), power) * power) as i64
}

/// By the decimal digits that the number is written with, not by its binary ones.
fn round_double(value: f64, digits: i32, rounding: Rounding) -> f64 {
    if !value.is_finite() || digits > 20 || value.abs() >= 1e18 && digits >= 0 {
        return value;
    }
    let digits = digits.max(-20);
    let mut text = String::with_capacity(32);
    floating::write_f64(&mut text, value);
    const SCALE: i8 = 18;
    let Some(unscaled) = decimal::parse(&text, 38, SCALE).flatten() else {
        return value;
    };
    if digits >= i32::from(SCALE) {
        return value;
    }
    let Some(power) = decimal::pow10(i32::from(SCALE) - digits) else {
        return 0.0;
    };
    let rounded = rounding.divide(unscaled, power);
    if digits >= 0 {
        decimal::to_f64(rounded, digits as i8)
    } else {
        let factor = decimal::pow10(-digits).unwrap_or(0);
        rounded.saturating_mul(factor) as f64
    }
}

fn round_decimal(
    call: &Call,
    rounding: Rounding,
    from: i8,
    digit: impl Fn(usize) -> Option<i32>,
) -> Result<ArrayRef> {
    let DataType::Decimal128(precision, to) = call.returns else {
        return exec_err!("a rounded DECIMAL is a DECIMAL");
    };
    let x = call.primitive::<Decimal128Type>(0)?;
    let rounded = numbers::<Decimal128Type>(call.rows, |row| {
        let (value, digits) = (x.get(row)?, digit(row)?);
        let by = i32::from(from) - digits;
        let kept = if by <= 0 {
            value
        } else {
            match decimal::pow10(by) {
                Some(power) => rounding.divide(value, power).checked_mul(power)?,
                None => 0,
            }
        };
        decimal::rescale(kept, from, to, precision)
    })?;
    let rounded = rounded.as_primitive::<Decimal128Type>().clone();
    Ok(Arc::new(rounded.with_data_type(call.returns.clone())))
}

/// FLOOR and CEIL: a DECIMAL loses its fraction; dates and times with a unit keep their type.
fn without_fraction(arguments: &[Argument]) -> Result<LogicalType> {
    let given = &arguments[0].logical_type;
    match (given, arguments.len()) {
        (T::Decimal(precision, _), 1) => Ok(T::Decimal(*precision, 0)),
        (T::Null, 1) => Ok(T::Int),
        (number, 1) if is_numeric(number) => Ok(number.clone()),
        (point, 2 | 3) if is_temporal(point) => Ok(point.clone()),
        (_, 1) => {
            plan_err!("FLOOR and CEIL take a number, or a date or time and TO a unit, not {given}")
        }
        _ => plan_err!("FLOOR and CEIL TO a unit take a DATE, TIME or TIMESTAMP, not {given}"),
    }
}

fn whole(call: &Call, rounding: Rounding) -> Result<ArrayRef> {
    if call.len() > 1 {
        return super::temporal_round::round_to_unit(call, rounding == Rounding::Ceiling);
    }
    let f = if rounding == Rounding::Floor {
        f64::floor
    } else {
        f64::ceil
    };
    match call.data_type(0)?.clone() {
        DataType::Decimal128(_, from) => round_decimal(call, rounding, from, |_| Some(0)),
        DataType::Float64 => unary(call, f),
        DataType::Float32 => {
            let x = call.primitive::<Float32Type>(0)?;
            numbers::<Float32Type>(call.rows, |row| Some(f(f64::from(x.get(row)?)) as f32))
        }
        DataType::Null => Ok(arrow::array::new_null_array(&call.returns, call.rows)),
        _ => call.array(0),
    }
}

/// `java.util.Random`, so that a seed gives Flink's numbers. The sequence starts anew with each batch.
struct JavaRandom(u64);

impl JavaRandom {
    const MULTIPLIER: u64 = 0x5_DEEC_E66D;
    const MASK: u64 = (1 << 48) - 1;

    fn new(seed: i64) -> Self {
        Self((seed as u64 ^ Self::MULTIPLIER) & Self::MASK)
    }

    fn next(&mut self, bits: u32) -> i32 {
        self.0 = (self.0.wrapping_mul(Self::MULTIPLIER).wrapping_add(0xB)) & Self::MASK;
        (self.0 >> (48 - bits)) as i32
    }

    fn double(&mut self) -> f64 {
        let high = i64::from(self.next(26)) << 27;
        let low = i64::from(self.next(27));
        (high + low) as f64 / (1u64 << 53) as f64
    }

    fn below(&mut self, bound: i32) -> i32 {
        if bound & bound.wrapping_neg() == bound {
            return ((i64::from(bound) * i64::from(self.next(31))) >> 31) as i32;
        }
        loop {
            let bits = self.next(31);
            let value = bits % bound;
            if bits.wrapping_sub(value).wrapping_add(bound - 1) >= 0 {
                return value;
            }
        }
    }
}

fn rand_double(call: &Call) -> Result<ArrayRef> {
    let Some(seeds) = call.optional::<Int32Type>(0)? else {
        let mut random = rand::rng();
        return numbers::<Float64Type>(call.rows, |_| Some(random.random()));
    };
    let mut random = None;
    numbers::<Float64Type>(call.rows, |row| {
        let seed = i64::from(seeds.get(row)?);
        if seeds.constant {
            return Some(random.get_or_insert_with(|| JavaRandom::new(seed)).double());
        }
        Some(JavaRandom::new(seed).double())
    })
}

/// RAND_INTEGER(bound), RAND_INTEGER(seed, bound)
fn rand_integer(call: &Call) -> Result<ArrayRef> {
    let positive = |bound: i32| match bound {
        1.. => Ok(bound),
        _ => exec_err!("the bound of RAND_INTEGER must be positive, not {bound}"),
    };
    if call.len() == 1 {
        let bounds = call.primitive::<Int32Type>(0)?;
        let mut random = rand::rng();
        return try_numbers::<Int32Type>(call.rows, |row| {
            let bound = bounds.get(row)?;
            Some(positive(bound).map(|bound| random.random_range(0..bound)))
        });
    }
    let (seeds, bounds) = (
        call.primitive::<Int32Type>(0)?,
        call.primitive::<Int32Type>(1)?,
    );
    let mut random = None;
    try_numbers::<Int32Type>(call.rows, |row| {
        let seed = i64::from(seeds.get(row)?);
        let bound = bounds.get(row)?;
        Some(positive(bound).map(|bound| {
            if seeds.constant {
                random
                    .get_or_insert_with(|| JavaRandom::new(seed))
                    .below(bound)
            } else {
                JavaRandom::new(seed).below(bound)
            }
        }))
    })
}

#[cfg(test)]
mod tests {
    use weir_dataflow::types::LogicalType as T;

    use crate::testing::*;

    #[test]
    fn numbers_as_in_flink() {
        check(vec![
            ("ABS", args![-5], "5"),
            ("ABS", args![-5i64], "5"),
            ("ABS", args![i32::MIN], "-2147483648"),
            ("ABS", args![dec("-1.50", 5, 2)], "1.50"),
            ("ABS", args![-1.5], "1.5"),
            ("ABS", args![day_time(-1000)], "+0 00:00:01.000"),
            ("ABS", args!["x"], "ERROR"),
            ("SIGN", args![-3], "-1"),
            ("SIGN", args![dec("-1.50", 5, 2)], "-1.00"),
            ("SIGN", args![0.0], "0.0"),
            ("SIGN", args![2.5], "1.0"),
            ("ROUND", args![dec("12.345", 5, 3), fixed(2)], "12.35"),
            ("ROUND", args![dec("-12.345", 5, 3), fixed(2)], "-12.35"),
            ("ROUND", args![dec("12.5", 3, 1)], "13"),
            ("ROUND", args![125, -1], "130"),
            ("ROUND", args![2.5], "3.0"),
            ("ROUND", args![-2.5], "-3.0"),
            ("ROUND", args![1.005, 2], "1.01"),
            ("ROUND", args![123.456, -1], "120.0"),
            ("ROUND", args![null(T::Int), 1], "NULL"),
            ("TRUNCATE", args![42.345, 2], "42.34"),
            ("TRUNCATE", args![-42.345, 2], "-42.34"),
            ("TRUNCATE", args![44, -1], "40"),
            ("TRUNCATE", args![dec("12.349", 5, 3), fixed(2)], "12.34"),
            ("TRUNCATE", args![12.9], "12.0"),
            ("FLOOR", args![dec("-1.5", 3, 1)], "-2"),
            ("CEIL", args![dec("1.2", 3, 1)], "2"),
            ("CEILING", args![-1.5], "-1.0"),
            ("FLOOR", args![7], "7"),
            ("FLOOR", args![null(T::Double)], "NULL"),
            ("SQRT", args![4], "2.0"),
            ("POWER", args![2, 10], "1024.0"),
            ("EXP", args![0], "1.0"),
            ("LN", args![1], "0.0"),
            ("LOG10", args![100], "2.0"),
            ("LOG2", args![8], "3.0"),
            ("LOG2", args![10], "3.3219280948873626"),
            ("LOG", args![10], "2.302585092994046"),
            ("LOG", args![1, 100], "Infinity"),
            ("LOG", args![-1], "NaN"),
            ("LOG", args![2, 8], "3.0"),
            ("LOG", args![1], "0.0"),
            ("LN", args![0], "-Infinity"),
            ("SQRT", args![null(T::Double)], "NULL"),
            ("SIN", args![0], "0.0"),
            ("COS", args![0], "1.0"),
            ("TAN", args![0.0], "0.0"),
            ("ATAN2", args![0, 1], "0.0"),
            ("DEGREES", args![0], "0.0"),
            ("COT", args![1.0], "0.6420926159343306"),
            ("SINH", args![0], "0.0"),
            ("PI", args![], "3.141592653589793"),
            ("E", args![], "2.718281828459045"),
            ("MOD", args![17, 5], "2"),
            ("MOD", args![-17, 5], "-2"),
            ("MOD", args![17i64, 5], "2"),
            ("MOD", args![dec("5.5", 3, 1), 2], "1.5"),
            ("MOD", args![dec("1514356320000", 19, 0), 7], "6"),
            ("MOD", args![17, dec("5", 2, 0)], "2"),
            ("MOD", args![1, 0], "ERROR"),
            ("MOD", args![null(T::Int), 5], "NULL"),
            ("RAND", args![1], "0.7308781907032909"),
            ("RAND_INTEGER", args![1, 10], "5"),
            ("RAND", args![null(T::Int)], "NULL"),
            ("RAND_INTEGER", args![3, 99], "50"),
            ("RAND_INTEGER", args![0], "ERROR"),
        ]);
    }
}
