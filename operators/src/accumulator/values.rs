//! An aggregate's argument with its type dissolved: integers of all widths (dates, times, booleans) as `i64`, floats as `f64`, decimals as `i128`.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{Array, ArrayData, ArrayRef, AsArray, BooleanArray, make_array};
use arrow::buffer::{Buffer, NullBuffer};
use arrow::datatypes::*;
use weir_dataflow::{Error, Result, nested};

/// How values of a type are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    Int,
    Float,
    Wide,
    Bytes,
}

impl Layout {
    /// Of an Arrow type.
    pub fn of(data_type: &DataType) -> Self {
        match data_type {
            DataType::Float32 | DataType::Float64 => Self::Float,
            DataType::Decimal128(_, _) => Self::Wide,
            DataType::Utf8 | DataType::Binary => Self::Bytes,
            other if nested::is_nested(other) => Self::Bytes,
            _ => Self::Int,
        }
    }
}

/// One a row; what stands at a NULL is meaningless.
pub enum Values<'a> {
    Int(Cow<'a, [i64]>),
    Float(Cow<'a, [f64]>),
    Wide(&'a [i128]),
    /// Texts, bytes, and nested values in their encoding.
    Bytes {
        offsets: Cow<'a, [i32]>,
        bytes: Cow<'a, [u8]>,
    },
}

fn widen<T>(array: &ArrayRef) -> Cow<'_, [i64]>
where
    T: ArrowPrimitiveType,
    T::Native: Into<i64>,
{
    let values = array.as_primitive::<T>().values();
    Cow::Owned(values.iter().map(|value| (*value).into()).collect())
}

fn same<T: ArrowPrimitiveType<Native = i64>>(array: &ArrayRef) -> Cow<'_, [i64]> {
    Cow::Borrowed(array.as_primitive::<T>().values())
}

impl<'a> Values<'a> {
    /// Of a column.
    ///
    /// # Errors
    /// On a type that no aggregate takes.
    pub fn of(array: &'a ArrayRef) -> Result<Self> {
        Ok(match array.data_type() {
            DataType::Boolean => Self::Int(Cow::Owned(
                array.as_boolean().values().iter().map(i64::from).collect(),
            )),
            DataType::Int8 => Self::Int(widen::<Int8Type>(array)),
            DataType::Int16 => Self::Int(widen::<Int16Type>(array)),
            DataType::Int32 => Self::Int(widen::<Int32Type>(array)),
            DataType::Int64 => Self::Int(same::<Int64Type>(array)),
            DataType::Date32 => Self::Int(widen::<Date32Type>(array)),
            DataType::Time32(TimeUnit::Millisecond) => {
                Self::Int(widen::<Time32MillisecondType>(array))
            }
            DataType::Interval(IntervalUnit::YearMonth) => {
                Self::Int(widen::<IntervalYearMonthType>(array))
            }
            DataType::Duration(TimeUnit::Millisecond) => {
                Self::Int(same::<DurationMillisecondType>(array))
            }
            DataType::Timestamp(TimeUnit::Second, _) => {
                Self::Int(same::<TimestampSecondType>(array))
            }
            DataType::Timestamp(TimeUnit::Millisecond, _) => {
                Self::Int(same::<TimestampMillisecondType>(array))
            }
            DataType::Timestamp(TimeUnit::Microsecond, _) => {
                Self::Int(same::<TimestampMicrosecondType>(array))
            }
            DataType::Timestamp(TimeUnit::Nanosecond, _) => {
                Self::Int(same::<TimestampNanosecondType>(array))
            }
            DataType::Float32 => {
                let values = array.as_primitive::<Float32Type>().values();
                Self::Float(Cow::Owned(values.iter().map(|v| f64::from(*v)).collect()))
            }
            DataType::Float64 => {
                Self::Float(Cow::Borrowed(array.as_primitive::<Float64Type>().values()))
            }
            DataType::Decimal128(_, _) => {
                Self::Wide(array.as_primitive::<Decimal128Type>().values())
            }
            DataType::Utf8 => {
                let text = array.as_string::<i32>();
                Self::Bytes {
                    offsets: Cow::Borrowed(text.value_offsets()),
                    bytes: Cow::Borrowed(text.value_data()),
                }
            }
            DataType::Binary => {
                let binary = array.as_binary::<i32>();
                Self::Bytes {
                    offsets: Cow::Borrowed(binary.value_offsets()),
                    bytes: Cow::Borrowed(binary.value_data()),
                }
            }
            other if nested::is_nested(other) => {
                let (offsets, bytes) = nested::encode(array)?;
                Self::Bytes {
                    offsets: Cow::Owned(offsets),
                    bytes: Cow::Owned(bytes),
                }
            }
            other => {
                return Err(Error::Config(format!(
                    "an aggregate of {other} is not supported yet"
                )));
            }
        })
    }
}

/// Bytes of a row.
#[inline]
pub fn bytes_at<'a>(offsets: &[i32], bytes: &'a [u8], row: usize) -> &'a [u8] {
    &bytes[offsets[row] as usize..offsets[row + 1] as usize]
}

fn fixed(
    data_type: &DataType,
    length: usize,
    buffer: Buffer,
    nulls: Option<NullBuffer>,
) -> Result<ArrayRef> {
    let data = ArrayData::builder(data_type.clone())
        .len(length)
        .add_buffer(buffer)
        .nulls(nulls);
    Ok(make_array(data.build()?))
}

/// A column of `data_type` (of the layout [`Layout::Int`]) out of integers; what does not fit wraps.
pub fn from_ints(
    values: Vec<i64>,
    nulls: Option<NullBuffer>,
    data_type: &DataType,
) -> Result<ArrayRef> {
    let length = values.len();
    let buffer = match data_type {
        DataType::Boolean => {
            let bits = values.iter().map(|value| *value != 0).collect();
            return Ok(Arc::new(BooleanArray::new(bits, nulls)));
        }
        _ => match data_type.primitive_width() {
            Some(1) => Buffer::from_vec(values.iter().map(|v| *v as i8).collect::<Vec<_>>()),
            Some(2) => Buffer::from_vec(values.iter().map(|v| *v as i16).collect::<Vec<_>>()),
            Some(4) => Buffer::from_vec(values.iter().map(|v| *v as i32).collect::<Vec<_>>()),
            _ => Buffer::from_vec(values),
        },
    };
    fixed(data_type, length, buffer, nulls)
}

/// A column of FLOAT or DOUBLE.
pub fn from_floats(
    values: Vec<f64>,
    nulls: Option<NullBuffer>,
    data_type: &DataType,
) -> Result<ArrayRef> {
    let length = values.len();
    let buffer = if *data_type == DataType::Float32 {
        Buffer::from_vec(values.iter().map(|v| *v as f32).collect::<Vec<_>>())
    } else {
        Buffer::from_vec(values)
    };
    fixed(data_type, length, buffer, nulls)
}

/// A column of DECIMAL.
pub fn from_wide(
    values: Vec<i128>,
    nulls: Option<NullBuffer>,
    data_type: &DataType,
) -> Result<ArrayRef> {
    fixed(data_type, values.len(), Buffer::from_vec(values), nulls)
}

/// A column of text or bytes, or of nested values in their encoding.
pub fn from_bytes<'a>(
    values: impl Iterator<Item = Option<&'a [u8]>>,
    data_type: &DataType,
) -> Result<ArrayRef> {
    if nested::is_nested(data_type) {
        return nested::decode(values, data_type);
    }
    let (mut offsets, mut bytes, mut present) = (vec![0i32], Vec::new(), Vec::new());
    for value in values {
        present.push(value.is_some());
        bytes.extend_from_slice(value.unwrap_or_default());
        offsets.push(i32::try_from(bytes.len()).map_err(|_| {
            Error::Data("the results of one batch hold more than 2 GiB of text".to_owned())
        })?);
    }
    let data = ArrayData::builder(data_type.clone())
        .len(present.len())
        .add_buffer(Buffer::from_vec(offsets))
        .add_buffer(Buffer::from_vec(bytes))
        .nulls(some_nulls(present.iter().copied()));
    Ok(make_array(data.build()?))
}

/// `None` if all are present.
pub fn some_nulls(present: impl ExactSizeIterator<Item = bool> + Clone) -> Option<NullBuffer> {
    if present.clone().all(|present| present) {
        return None;
    }
    Some(present.collect())
}
