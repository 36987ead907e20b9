//! Typed views of columns, resolved once a batch, so that writing a row asks no array for its type.

use arrow::array::{
    Array, AsArray, BinaryArray, BooleanArray, GenericStringArray, ListArray, MapArray,
    PrimitiveArray, StructArray,
};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, DurationMillisecondType, Float32Type, Float64Type,
    Int8Type, Int16Type, Int32Type, Int64Type, IntervalUnit, IntervalYearMonthType,
    Time32MillisecondType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType,
};
use weir_dataflow::{Error, Result};

use super::print;

/// The values of one column.
pub(crate) enum Cells<'a> {
    Null,
    Exact(Exact<'a>),
    Float32(&'a PrimitiveArray<Float32Type>),
    Float64(&'a PrimitiveArray<Float64Type>),
    Decimal(&'a PrimitiveArray<Decimal128Type>, i8),
    Text(&'a GenericStringArray<i32>),
    Binary(&'a BinaryArray),
    Date(&'a PrimitiveArray<Date32Type>),
    Time(&'a PrimitiveArray<Time32MillisecondType>),
    /// Values, unit, whether it is a TIMESTAMP_LTZ.
    Timestamp(&'a [i64], TimeUnit, bool),
    List(&'a ListArray, Box<Column<'a>>),
    Map(&'a MapArray, Box<Column<'a>>, Box<Column<'a>>),
    Row(Vec<Column<'a>>),
}

/// Booleans and whole numbers, which all text formats write alike.
pub(crate) enum Exact<'a> {
    Boolean(&'a BooleanArray),
    Int8(&'a PrimitiveArray<Int8Type>),
    Int16(&'a PrimitiveArray<Int16Type>),
    Int32(&'a PrimitiveArray<Int32Type>),
    Int64(&'a PrimitiveArray<Int64Type>),
    YearMonth(&'a PrimitiveArray<IntervalYearMonthType>),
    DayTime(&'a PrimitiveArray<DurationMillisecondType>),
}

impl Exact<'_> {
    #[inline]
    pub(crate) fn write(&self, out: &mut Vec<u8>, row: usize) {
        match self {
            Self::Boolean(values) => {
                out.extend_from_slice(if values.value(row) { b"true" } else { b"false" });
            }
            Self::Int8(values) => print::integer(out, values.value(row)),
            Self::Int16(values) => print::integer(out, values.value(row)),
            Self::Int32(values) => print::integer(out, values.value(row)),
            Self::Int64(values) => print::integer(out, values.value(row)),
            Self::YearMonth(values) => print::integer(out, values.value(row)),
            Self::DayTime(values) => print::integer(out, values.value(row)),
        }
    }
}

/// A column: its values and NULLs.
pub(crate) struct Column<'a> {
    array: &'a dyn Array,
    has_nulls: bool,
    pub(crate) cells: Cells<'a>,
}

impl<'a> Column<'a> {
    /// # Errors
    /// For layouts that no SQL type has.
    pub(crate) fn new(array: &'a dyn Array) -> Result<Self> {
        Ok(Self {
            array,
            has_nulls: array.logical_null_count() > 0,
            cells: Cells::new(array)?,
        })
    }

    #[inline]
    pub(crate) fn is_null(&self, row: usize) -> bool {
        self.has_nulls && (matches!(self.cells, Cells::Null) || self.array.is_null(row))
    }
}

fn boxed(array: &dyn Array) -> Result<Box<Column<'_>>> {
    Column::new(array).map(Box::new)
}

impl<'a> Cells<'a> {
    fn new(array: &'a dyn Array) -> Result<Self> {
        Ok(match array.data_type() {
            DataType::Null => Self::Null,
            DataType::Boolean => Self::Exact(Exact::Boolean(array.as_boolean())),
            DataType::Int8 => Self::Exact(Exact::Int8(array.as_primitive())),
            DataType::Int16 => Self::Exact(Exact::Int16(array.as_primitive())),
            DataType::Int32 => Self::Exact(Exact::Int32(array.as_primitive())),
            DataType::Int64 => Self::Exact(Exact::Int64(array.as_primitive())),
            DataType::Float32 => Self::Float32(array.as_primitive()),
            DataType::Float64 => Self::Float64(array.as_primitive()),
            DataType::Decimal128(_, scale) => Self::Decimal(array.as_primitive(), *scale),
            DataType::Utf8 => Self::Text(array.as_string()),
            DataType::Binary => Self::Binary(array.as_binary()),
            DataType::Date32 => Self::Date(array.as_primitive()),
            DataType::Time32(TimeUnit::Millisecond) => Self::Time(array.as_primitive()),
            DataType::Timestamp(unit, zone) => {
                Self::Timestamp(timestamps(array, *unit), *unit, zone.is_some())
            }
            DataType::Interval(IntervalUnit::YearMonth) => {
                Self::Exact(Exact::YearMonth(array.as_primitive()))
            }
            DataType::Duration(TimeUnit::Millisecond) => {
                Self::Exact(Exact::DayTime(array.as_primitive()))
            }
            DataType::List(_) => {
                let list: &ListArray = array.as_list();
                Self::List(list, boxed(list.values().as_ref())?)
            }
            DataType::Map(..) => {
                let map = array.as_map();
                Self::Map(
                    map,
                    boxed(map.keys().as_ref())?,
                    boxed(map.values().as_ref())?,
                )
            }
            DataType::Struct(_) => {
                let row: &StructArray = array.as_struct();
                let columns = row.columns().iter();
                Self::Row(
                    columns
                        .map(|c| Column::new(c.as_ref()))
                        .collect::<Result<_>>()?,
                )
            }
            other => {
                return Err(Error::Internal(format!(
                    "a column of type {other} came to a sink"
                )));
            }
        })
    }
}

fn timestamps(array: &dyn Array, unit: TimeUnit) -> &[i64] {
    match unit {
        TimeUnit::Second => array.as_primitive::<TimestampSecondType>().values(),
        TimeUnit::Millisecond => array.as_primitive::<TimestampMillisecondType>().values(),
        TimeUnit::Microsecond => array.as_primitive::<TimestampMicrosecondType>().values(),
        TimeUnit::Nanosecond => array.as_primitive::<TimestampNanosecondType>().values(),
    }
}

/// The entries of a list or map cell, as indices into its values.
pub(crate) fn entries(offsets: &[i32], row: usize) -> std::ops::Range<usize> {
    offsets[row] as usize..offsets[row + 1] as usize
}
