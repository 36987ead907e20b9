//! Everything to strings.

use std::fmt::Write;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringBuilder, new_null_array};
use arrow::datatypes::{
    DataType, Decimal128Type, DurationMillisecondType, Float32Type, Float64Type, Int8Type,
    Int16Type, Int32Type, Int64Type, IntervalYearMonthType,
};
use datafusion_common::{Result, exec_err};
use weir_dataflow::types::{LogicalField, LogicalType};

use super::temporal::points;
use crate::value::calendar::{self, MILLIS_PER_DAY};
use crate::value::zone::Zone;
use crate::value::{decimal, floating};

use LogicalType as T;

/// Writes the text of a row that is not NULL.
type Writer<'a> = Box<dyn Fn(usize, &mut StringBuilder) + 'a>;

pub(super) fn cast(
    array: &ArrayRef,
    from: &LogicalType,
    to: &LogicalType,
    zone: Zone,
) -> Result<ArrayRef> {
    if let (T::Char(a) | T::VarChar(a), T::VarChar(b)) = (from, to)
        && a <= b
    {
        return Ok(Arc::clone(array));
    }
    if *from == T::Null {
        return Ok(new_null_array(&DataType::Utf8, array.len()));
    }
    let write = writer(array.as_ref(), from, zone)?;
    let mut builder = StringBuilder::with_capacity(array.len(), array.len() * 16);
    for row in 0..array.len() {
        if array.is_null(row) {
            builder.append_null();
        } else {
            write(row, &mut builder);
            builder.append_value("");
        }
    }
    let texts: ArrayRef = Arc::new(builder.finish());
    Ok(match to {
        T::VarChar(u32::MAX) => texts,
        T::VarChar(length) => sized(&texts, *length as usize, false),
        T::Char(length) => sized(&texts, *length as usize, true),
        _ => return exec_err!("{to} is no string type"),
    })
}

/// Cuts at `length` characters; fills up with blanks if `pad`.
fn sized(texts: &ArrayRef, length: usize, pad: bool) -> ArrayRef {
    let mut builder = StringBuilder::with_capacity(texts.len(), texts.len() * 16);
    for text in texts.as_string::<i32>() {
        let Some(text) = text else {
            builder.append_null();
            continue;
        };
        let end = text
            .char_indices()
            .nth(length)
            .map_or(text.len(), |(at, _)| at);
        let _ = builder.write_str(&text[..end]);
        if pad {
            for _ in text.chars().count()..length {
                let _ = builder.write_char(' ');
            }
        }
        builder.append_value("");
    }
    Arc::new(builder.finish())
}

fn writer<'a>(array: &'a dyn Array, from: &LogicalType, zone: Zone) -> Result<Writer<'a>> {
    macro_rules! plain {
        ($type:ty) => {{
            let array = array.as_primitive::<$type>();
            Box::new(move |row, out| {
                let _ = write!(out, "{}", array.value(row));
            })
        }};
    }
    Ok(match from {
        T::TinyInt => plain!(Int8Type),
        T::SmallInt => plain!(Int16Type),
        T::Int => plain!(Int32Type),
        T::BigInt => plain!(Int64Type),
        T::Boolean => {
            let array = array.as_boolean();
            Box::new(move |row, out| {
                let _ = out.write_str(if array.value(row) { "TRUE" } else { "FALSE" });
            })
        }
        T::Float => {
            let array = array.as_primitive::<Float32Type>();
            Box::new(move |row, out| floating::write_f32(out, array.value(row)))
        }
        T::Double => {
            let array = array.as_primitive::<Float64Type>();
            Box::new(move |row, out| floating::write_f64(out, array.value(row)))
        }
        T::Decimal(_, scale) => {
            let (array, scale) = (array.as_primitive::<Decimal128Type>(), *scale);
            Box::new(move |row, out| decimal::write(out, array.value(row), scale))
        }
        T::Char(_) | T::VarChar(_) => {
            let array = array.as_string::<i32>();
            Box::new(move |row, out| {
                let _ = out.write_str(array.value(row));
            })
        }
        T::Binary(_) | T::VarBinary(_) => {
            let array = array.as_binary::<i32>();
            Box::new(move |row, out| {
                let _ = out.write_str(&String::from_utf8_lossy(array.value(row)));
            })
        }
        T::Date | T::Time(_) | T::Timestamp(_) | T::TimestampLtz(_) => {
            temporal_writer(array, from, zone)?
        }
        T::IntervalYearMonth | T::IntervalDayTime => interval_writer(array, from),
        T::Array(_) | T::Map(..) | T::Multiset(_) | T::Row(_) => nested_writer(array, from, zone)?,
        // Inside of a ROW, ARRAY or MAP: Arrow's arrays of this type have no validity to ask.
        T::Null => Box::new(|_, out| {
            let _ = out.write_str("NULL");
        }),
    })
}

fn temporal_writer<'a>(array: &'a dyn Array, from: &LogicalType, zone: Zone) -> Result<Writer<'a>> {
    let read = points(array)?;
    Ok(match from.clone() {
        T::Date => Box::new(move |row, out| {
            if let Some(point) = read(row) {
                calendar::write_date(out, point.day);
            }
        }),
        T::Time(precision) => Box::new(move |row, out| {
            if let Some(point) = read(row) {
                calendar::write_short_time(out, point.nanos, precision);
            }
        }),
        T::TimestampLtz(precision) => Box::new(move |row, out| {
            if let Some(point) = read(row) {
                zone.local(point).write(out, precision);
            }
        }),
        T::Timestamp(precision) => Box::new(move |row, out| {
            if let Some(point) = read(row) {
                point.write(out, precision);
            }
        }),
        other => return exec_err!("{other} is no date or time"),
    })
}

/// "+1-02" and "+1 02:03:04.567"
fn interval_writer<'a>(array: &'a dyn Array, from: &LogicalType) -> Writer<'a> {
    let sign = |negative: bool| if negative { '-' } else { '+' };
    if *from == T::IntervalYearMonth {
        let array = array.as_primitive::<IntervalYearMonthType>();
        return Box::new(move |row, out| {
            let months = array.value(row);
            let size = months.unsigned_abs();
            let _ = write!(out, "{}{}-{:02}", sign(months < 0), size / 12, size % 12);
        });
    }
    let array = array.as_primitive::<DurationMillisecondType>();
    Box::new(move |row, out| {
        let millis = array.value(row);
        let size = millis.unsigned_abs();
        let day = MILLIS_PER_DAY.unsigned_abs();
        let _ = write!(out, "{}{} ", sign(millis < 0), size / day);
        calendar::write_time(out, (size % day) as i64 * 1_000_000, 3);
    })
}

/// The writer of an element: "NULL" where there is none.
fn element<'a>(array: &'a dyn Array, field: &LogicalField, zone: Zone) -> Result<Writer<'a>> {
    let write = writer(array, &field.logical_type, zone)?;
    Ok(Box::new(move |row, out| {
        if array.is_null(row) {
            let _ = out.write_str("NULL");
        } else {
            write(row, out);
        }
    }))
}

/// "[1, 2]", "{k=v}" and "(1, a)"
fn nested_writer<'a>(array: &'a dyn Array, from: &LogicalType, zone: Zone) -> Result<Writer<'a>> {
    let comma = |first: bool, out: &mut StringBuilder| {
        if !first {
            let _ = out.write_str(", ");
        }
    };
    match from {
        T::Array(field) => {
            let list = array.as_list::<i32>();
            let write = element(list.values().as_ref(), field, zone)?;
            Ok(Box::new(move |row, out| {
                let _ = out.write_char('[');
                let range = list.value_offsets()[row]..list.value_offsets()[row + 1];
                for (index, place) in range.enumerate() {
                    comma(index == 0, out);
                    write(place as usize, out);
                }
                let _ = out.write_char(']');
            }))
        }
        T::Row(fields) => {
            let row_array = array.as_struct();
            let writers = row_array
                .columns()
                .iter()
                .zip(fields)
                .map(|(column, (_, field))| element(column.as_ref(), field, zone))
                .collect::<Result<Vec<_>>>()?;
            Ok(Box::new(move |row, out| {
                let _ = out.write_char('(');
                for (index, write) in writers.iter().enumerate() {
                    comma(index == 0, out);
                    write(row, out);
                }
                let _ = out.write_char(')');
            }))
        }
        _ => map_writer(array, from, zone),
    }
}

fn map_writer<'a>(array: &'a dyn Array, from: &LogicalType, zone: Zone) -> Result<Writer<'a>> {
    let count = LogicalField::nullable(T::Int);
    let (key, value) = match from {
        T::Map(key, value) => (key.as_ref(), value.as_ref()),
        T::Multiset(key) => (key.as_ref(), &count),
        other => return exec_err!("{other} is no collection"),
    };
    let map = array.as_map();
    let keys = element(map.keys().as_ref(), key, zone)?;
    let values = element(map.values().as_ref(), value, zone)?;
    Ok(Box::new(move |row, out| {
        let _ = out.write_char('{');
        let range = map.value_offsets()[row]..map.value_offsets()[row + 1];
        for (index, place) in range.enumerate() {
            if index > 0 {
                let _ = out.write_str(", ");
            }
            keys(place as usize, out);
            let _ = out.write_char('=');
            values(place as usize, out);
        }
        let _ = out.write_char('}');
    }))
}
