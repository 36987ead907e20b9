//! Numbers and booleans among each other: Java's narrowing (integers wrap, doubles saturate), HALF_UP into DECIMAL.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, BooleanArray, Decimal128Array, Float64Array, Int64Array, PrimitiveArray,
};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type,
    Int32Type, Int64Type,
};
use datafusion_common::{Result, exec_err};
use weir_dataflow::types::LogicalType;

use crate::coerce::types::{is_integer, is_numeric};
use crate::value::{decimal, floating};

use LogicalType as T;

/// Numbers, and what is cast as if it were one.
pub(super) fn is_numeric_layout(logical_type: &LogicalType) -> bool {
    is_numeric(logical_type) || *logical_type == T::Boolean
}

/// The source in one of three widths.
enum Source {
    Whole(Int64Array),
    Float(Float64Array),
    Decimal(Decimal128Array, i8),
}

fn source(array: &ArrayRef, from: &LogicalType) -> Result<Source> {
    let whole = |array: &ArrayRef| arrow::compute::cast(array, &DataType::Int64);
    Ok(match from {
        T::Float | T::Double => {
            let doubles = arrow::compute::cast(array, &DataType::Float64)?;
            Source::Float(doubles.as_primitive::<Float64Type>().clone())
        }
        T::Decimal(_, scale) => {
            Source::Decimal(array.as_primitive::<Decimal128Type>().clone(), *scale)
        }
        _ => Source::Whole(whole(array)?.as_primitive::<Int64Type>().clone()),
    })
}

pub(super) fn cast(array: &ArrayRef, from: &LogicalType, to: &LogicalType) -> Result<ArrayRef> {
    if *from == T::Float && *to == T::Double || is_integer(from) && matches!(to, T::Float) {
        return Ok(arrow::compute::cast(array, &to.to_arrow())?);
    }
    if let (T::Float, T::Decimal(precision, scale)) = (from, to) {
        return Ok(float_to_decimal(array, *precision, *scale));
    }
    let source = source(array, from)?;
    Ok(match to {
        T::TinyInt => Arc::new(narrow::<Int8Type>(&source, |v| v as i8, |v| v as i32 as i8)),
        T::SmallInt => Arc::new(narrow::<Int16Type>(
            &source,
            |v| v as i16,
            |v| v as i32 as i16,
        )),
        T::Int => Arc::new(narrow::<Int32Type>(&source, |v| v as i32, |v| v as i32)),
        T::BigInt => Arc::new(narrow::<Int64Type>(&source, |v| v, |v| v as i64)),
        T::Float => Arc::new(widen::<Float32Type>(&source, |v| v as f32)),
        T::Double => Arc::new(widen::<Float64Type>(&source, |v| v)),
        T::Decimal(precision, scale) => to_decimal(&source, *precision, *scale)?,
        T::Boolean => to_boolean(array, from)?,
        _ => return exec_err!("there is no cast from {from} to {to}"),
    })
}

fn narrow<P: ArrowPrimitiveType>(
    source: &Source,
    whole: impl Fn(i64) -> P::Native,
    float: impl Fn(f64) -> P::Native,
) -> PrimitiveArray<P> {
    match source {
        Source::Whole(array) => array.unary(whole),
        Source::Float(array) => array.unary(float),
        Source::Decimal(array, scale) => {
            let power = decimal::pow10(i32::from(*scale)).unwrap_or(i128::MAX);
            array.unary(|value| whole((value / power) as i64))
        }
    }
}

fn widen<P: ArrowPrimitiveType>(
    source: &Source,
    double: impl Fn(f64) -> P::Native,
) -> PrimitiveArray<P> {
    match source {
        Source::Whole(array) => array.unary(|value| double(value as f64)),
        Source::Float(array) => array.unary(double),
        Source::Decimal(array, scale) => {
            array.unary(|value| double(decimal::to_f64(value, *scale)))
        }
    }
}

fn to_decimal(source: &Source, precision: u8, scale: i8) -> Result<ArrayRef> {
    let array: Decimal128Array = match source {
        Source::Whole(array) => {
            array.unary_opt(|value| decimal::rescale(i128::from(value), 0, scale, precision))
        }
        Source::Float(array) => array.unary_opt(|value| {
            let mut text = String::with_capacity(24);
            floating::write_f64(&mut text, value);
            decimal::parse(&text, precision, scale).flatten()
        }),
        Source::Decimal(array, from) => {
            array.unary_opt(|value| decimal::rescale(value, *from, scale, precision))
        }
    };
    Ok(Arc::new(array.with_precision_and_scale(precision, scale)?))
}

/// By the digits of the FLOAT, not by those of the DOUBLE next to it.
fn float_to_decimal(array: &ArrayRef, precision: u8, scale: i8) -> ArrayRef {
    let floats = array.as_primitive::<Float32Type>();
    let decimals: Decimal128Array = floats.unary_opt(|value| {
        let mut text = String::with_capacity(16);
        floating::write_f32(&mut text, value);
        decimal::parse(&text, precision, scale).flatten()
    });
    Arc::new(decimals.with_data_type(DataType::Decimal128(precision, scale)))
}

/// Zero is FALSE.
pub(super) fn to_boolean(array: &ArrayRef, from: &LogicalType) -> Result<ArrayRef> {
    let values: BooleanArray = match source(array, from)? {
        Source::Whole(array) => array.iter().map(|v| v.map(|v| v != 0)).collect(),
        Source::Float(array) => array.iter().map(|v| v.map(|v| v != 0.0)).collect(),
        Source::Decimal(array, _) => array.iter().map(|v| v.map(|v| v != 0)).collect(),
    };
    Ok(Arc::new(values))
}
