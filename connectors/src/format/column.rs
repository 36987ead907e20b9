//! Columns under construction. Arrow's own builders can't take back what was appended, which is what a record needs that turns out to be broken in
//! its middle: these can be cut to an earlier length.

use std::sync::Arc;

use arrow::array::Date32Array;
use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Decimal128Array, DurationMillisecondArray, Float32Array,
    Float64Array, Int8Array, Int16Array, Int32Array, Int64Array, IntervalYearMonthArray, ListArray,
    MapArray, NullArray, NullBufferBuilder, PrimitiveArray, StringArray, StructArray,
    Time32MillisecondArray, TimestampMicrosecondArray, TimestampMillisecondArray,
    TimestampNanosecondArray, TimestampSecondArray,
};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Field, FieldRef, Fields, IntervalUnit, TimeUnit,
};
use weir_dataflow::types::LogicalType;
use weir_dataflow::{Error, Result};

/// Variable-length bytes.
#[derive(Debug)]
pub(crate) struct Texts {
    offsets: Vec<i32>,
    bytes: Vec<u8>,
}

impl Texts {
    fn new() -> Self {
        Self {
            offsets: vec![0],
            bytes: Vec::new(),
        }
    }

    /// Appends a value.
    pub(crate) fn push(&mut self, value: &[u8]) {
        self.bytes.extend_from_slice(value);
        self.end();
    }

    /// Appends a value that `write` appends to the buffer.
    pub(crate) fn push_with<E>(
        &mut self,
        write: impl FnOnce(&mut Vec<u8>) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        let start = self.bytes.len();
        let written = write(&mut self.bytes);
        if written.is_ok() {
            self.end();
        } else {
            self.bytes.truncate(start);
        }
        written
    }

    fn end(&mut self) {
        // Batches are bounded far below 2 GiB; saturation would show as an invalid offset, not as wrong data.
        self.offsets
            .push(i32::try_from(self.bytes.len()).unwrap_or(i32::MAX));
    }

    fn truncate(&mut self, length: usize) {
        self.offsets.truncate(length + 1);
        self.bytes
            .truncate(self.offsets.last().map_or(0, |end| *end as usize));
    }

    fn take(&mut self) -> (Vec<i32>, Vec<u8>) {
        let empty = Vec::with_capacity(self.bytes.len());
        let offsets = std::mem::replace(&mut self.offsets, vec![0]);
        (offsets, std::mem::replace(&mut self.bytes, empty))
    }
}

/// The values of a column by their layout; under a NULL stands any value.
#[derive(Debug)]
pub(crate) enum Values {
    Null,
    Boolean(Vec<bool>),
    Int8(Vec<i8>),
    Int16(Vec<i16>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    Float32(Vec<f32>),
    Float64(Vec<f64>),
    Decimal(Vec<i128>, u8, i8),
    Text(Texts),
    Binary(Texts),
    Date(Vec<i32>),
    Time(Vec<i32>),
    Timestamp(Vec<i64>, TimeUnit, bool),
    YearMonth(Vec<i32>),
    DayTime(Vec<i64>),
    List(Vec<i32>, Box<Column>),
    Map(Vec<i32>, Box<Column>, Box<Column>),
    Row(Vec<Column>),
}

/// One column with its NULLs.
#[derive(Debug)]
pub(crate) struct Column {
    field: FieldRef,
    nulls: NullBufferBuilder,
    pub(crate) values: Values,
}

impl Column {
    /// # Errors
    /// For layouts that no SQL type has.
    pub(crate) fn new(field: &FieldRef) -> Result<Self> {
        let column = |field: &FieldRef| Self::new(field).map(Box::new);
        let values = match field.data_type() {
            DataType::Null => Values::Null,
            DataType::Boolean => Values::Boolean(Vec::new()),
            DataType::Int8 => Values::Int8(Vec::new()),
            DataType::Int16 => Values::Int16(Vec::new()),
            DataType::Int32 => Values::Int32(Vec::new()),
            DataType::Int64 => Values::Int64(Vec::new()),
            DataType::Float32 => Values::Float32(Vec::new()),
            DataType::Float64 => Values::Float64(Vec::new()),
            DataType::Decimal128(precision, scale) => {
                Values::Decimal(Vec::new(), *precision, *scale)
            }
            DataType::Utf8 => Values::Text(Texts::new()),
            DataType::Binary => Values::Binary(Texts::new()),
            DataType::Date32 => Values::Date(Vec::new()),
            DataType::Time32(TimeUnit::Millisecond) => Values::Time(Vec::new()),
            DataType::Timestamp(unit, zone) => Values::Timestamp(Vec::new(), *unit, zone.is_some()),
            DataType::Interval(IntervalUnit::YearMonth) => Values::YearMonth(Vec::new()),
            DataType::Duration(TimeUnit::Millisecond) => Values::DayTime(Vec::new()),
            DataType::List(element) => Values::List(vec![0], column(element)?),
            DataType::Map(entries, _) => {
                let (key, value) = map_fields(entries)?;
                Values::Map(vec![0], column(key)?, column(value)?)
            }
            DataType::Struct(fields) => {
                Values::Row(fields.iter().map(Self::new).collect::<Result<_>>()?)
            }
            other => {
                return Err(Error::Config(format!(
                    "column '{}' has the type {other}, which no format can read",
                    field.name()
                )));
            }
        };
        Ok(Self {
            field: Arc::clone(field),
            nulls: NullBufferBuilder::new(1024),
            values,
        })
    }

    pub(crate) fn name(&self) -> &str {
        self.field.name()
    }

    pub(crate) fn is_nullable(&self) -> bool {
        self.field.is_nullable()
    }

    /// The type's SQL text, for errors.
    pub(crate) fn type_name(&self) -> String {
        LogicalType::from_field(&self.field).map_or_else(
            || self.field.data_type().to_string(),
            |logical| logical.to_string(),
        )
    }

    pub(crate) fn len(&self) -> usize {
        self.nulls.len()
    }

    /// Completes a value that was appended to `values`.
    pub(crate) fn set_valid(&mut self) {
        self.nulls.append_non_null();
    }

    pub(crate) fn append_null(&mut self) {
        self.nulls.append_null();
        match &mut self.values {
            Values::Null => {}
            Values::Boolean(values) => values.push(false),
            Values::Int8(values) => values.push(0),
            Values::Int16(values) => values.push(0),
            Values::Int32(values)
            | Values::Date(values)
            | Values::Time(values)
            | Values::YearMonth(values) => values.push(0),
            Values::Int64(values) | Values::Timestamp(values, ..) | Values::DayTime(values) => {
                values.push(0);
            }
            Values::Float32(values) => values.push(0.0),
            Values::Float64(values) => values.push(0.0),
            Values::Decimal(values, ..) => values.push(0),
            Values::Text(texts) | Values::Binary(texts) => texts.end(),
            Values::List(offsets, element) => offsets.push(element.len() as i32),
            Values::Map(offsets, key, _) => offsets.push(key.len() as i32),
            Values::Row(columns) => columns.iter_mut().for_each(Self::append_null),
        }
    }

    /// Takes back everything after the first `length` values, also what was appended to `values` without being completed.
    pub(crate) fn truncate(&mut self, length: usize) {
        if self.nulls.len() > length {
            self.nulls.truncate(length);
        }
        match &mut self.values {
            Values::Null => {}
            Values::Boolean(values) => values.truncate(length),
            Values::Int8(values) => values.truncate(length),
            Values::Int16(values) => values.truncate(length),
            Values::Int32(values)
            | Values::Date(values)
            | Values::Time(values)
            | Values::YearMonth(values) => values.truncate(length),
            Values::Int64(values) | Values::Timestamp(values, ..) | Values::DayTime(values) => {
                values.truncate(length);
            }
            Values::Float32(values) => values.truncate(length),
            Values::Float64(values) => values.truncate(length),
            Values::Decimal(values, ..) => values.truncate(length),
            Values::Text(texts) | Values::Binary(texts) => texts.truncate(length),
            Values::List(offsets, element) => {
                offsets.truncate(length + 1);
                element.truncate(offsets.last().map_or(0, |end| *end as usize));
            }
            Values::Map(offsets, key, value) => {
                offsets.truncate(length + 1);
                let end = offsets.last().map_or(0, |end| *end as usize);
                key.truncate(end);
                value.truncate(end);
            }
            Values::Row(columns) => {
                columns
                    .iter_mut()
                    .for_each(|column| column.truncate(length));
            }
        }
    }

    /// The array; the column is empty afterwards.
    pub(crate) fn finish(&mut self) -> Result<ArrayRef> {
        let length = self.nulls.len();
        let nulls = self.nulls.finish();
        let data_type = self.field.data_type();
        Ok(match &mut self.values {
            Values::Null => Arc::new(NullArray::new(length)),
            Values::Boolean(values) => {
                Arc::new(BooleanArray::new(std::mem::take(values).into(), nulls))
            }
            Values::Int8(values) => Arc::new(Int8Array::new(taken(values), nulls)),
            Values::Int16(values) => Arc::new(Int16Array::new(taken(values), nulls)),
            Values::Int32(values) => Arc::new(Int32Array::new(taken(values), nulls)),
            Values::Int64(values) => Arc::new(Int64Array::new(taken(values), nulls)),
            Values::Float32(values) => Arc::new(Float32Array::new(taken(values), nulls)),
            Values::Float64(values) => Arc::new(Float64Array::new(taken(values), nulls)),
            Values::Decimal(values, ..) => {
                let array = Decimal128Array::new(taken(values), nulls);
                Arc::new(array.with_data_type(data_type.clone()))
            }
            Values::Text(texts) => {
                let (offsets, bytes) = texts.take();
                let bytes = Buffer::from_vec(bytes);
                Arc::new(StringArray::try_new(checked(offsets)?, bytes, nulls)?)
            }
            Values::Binary(texts) => {
                let (offsets, bytes) = texts.take();
                let bytes = Buffer::from_vec(bytes);
                Arc::new(BinaryArray::try_new(checked(offsets)?, bytes, nulls)?)
            }
            Values::Date(values) => Arc::new(Date32Array::new(taken(values), nulls)),
            Values::Time(values) => Arc::new(Time32MillisecondArray::new(taken(values), nulls)),
            Values::Timestamp(values, unit, _) => {
                let values = taken(values);
                match unit {
                    TimeUnit::Second => zoned(TimestampSecondArray::new(values, nulls), data_type),
                    TimeUnit::Millisecond => {
                        zoned(TimestampMillisecondArray::new(values, nulls), data_type)
                    }
                    TimeUnit::Microsecond => {
                        zoned(TimestampMicrosecondArray::new(values, nulls), data_type)
                    }
                    TimeUnit::Nanosecond => {
                        zoned(TimestampNanosecondArray::new(values, nulls), data_type)
                    }
                }
            }
            Values::YearMonth(values) => {
                Arc::new(IntervalYearMonthArray::new(taken(values), nulls))
            }
            Values::DayTime(values) => {
                Arc::new(DurationMillisecondArray::new(taken(values), nulls))
            }
            Values::List(offsets, element) => {
                let offsets = checked(std::mem::replace(offsets, vec![0]))?;
                let values = element.finish()?;
                let field = Arc::clone(&element.field);
                Arc::new(ListArray::try_new(field, offsets, values, nulls)?)
            }
            Values::Map(offsets, key, value) => {
                let offsets = checked(std::mem::replace(offsets, vec![0]))?;
                finish_map(data_type, offsets, key, value, nulls)?
            }
            Values::Row(columns) => {
                let fields: Fields = columns.iter().map(|c| Arc::clone(&c.field)).collect();
                let arrays = columns
                    .iter_mut()
                    .map(Self::finish)
                    .collect::<Result<_>>()?;
                let array = StructArray::try_new_with_length(fields, arrays, nulls, length)?;
                Arc::new(array)
            }
        })
    }
}

fn taken<T: arrow::datatypes::ArrowNativeType>(
    values: &mut Vec<T>,
) -> arrow::buffer::ScalarBuffer<T> {
    let empty = Vec::with_capacity(values.len());
    std::mem::replace(values, empty).into()
}

/// Offsets that grew beyond an i32 do not ascend any more.
fn checked(offsets: Vec<i32>) -> Result<OffsetBuffer<i32>> {
    if offsets.is_sorted() && offsets.last().is_some_and(|end| *end < i32::MAX) {
        Ok(OffsetBuffer::new(offsets.into()))
    } else {
        Err(Error::Data(
            "the records of one batch have more than 2 GiB in one column".to_owned(),
        ))
    }
}

fn zoned<T: ArrowPrimitiveType>(array: PrimitiveArray<T>, data_type: &DataType) -> ArrayRef {
    Arc::new(array.with_data_type(data_type.clone()))
}

/// Key and value of a map's entries.
pub(crate) fn map_fields(entries: &Field) -> Result<(&FieldRef, &FieldRef)> {
    match entries.data_type() {
        DataType::Struct(fields) if fields.len() == 2 => Ok((&fields[0], &fields[1])),
        other => Err(Error::Internal(format!(
            "a map has entries of type {other}"
        ))),
    }
}

fn finish_map(
    data_type: &DataType,
    offsets: OffsetBuffer<i32>,
    key: &mut Column,
    value: &mut Column,
    nulls: Option<NullBuffer>,
) -> Result<ArrayRef> {
    let DataType::Map(entries, ordered) = data_type else {
        return Err(Error::Internal(format!("{data_type} is not a map")));
    };
    let fields = Fields::from(vec![Arc::clone(&key.field), Arc::clone(&value.field)]);
    let pairs = StructArray::try_new(fields, vec![key.finish()?, value.finish()?], None)?;
    let entries = Arc::clone(entries);
    Ok(Arc::new(MapArray::try_new(
        entries, offsets, pairs, nulls, *ordered,
    )?))
}
