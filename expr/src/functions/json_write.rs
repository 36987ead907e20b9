//! Values as JSON, for the types that Flink writes so.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use datafusion_common::{Result, exec_err, plan_err};
use weir_dataflow::types::{LogicalField, LogicalType};

use crate::cast::{OnError, cast_array};
use crate::coerce::types::{STRING, is_numeric, is_text};
use crate::value::{decimal, json};

use LogicalType as T;

/// Whether values of the type have a JSON form.
///
/// # Errors
/// If they have none: dates, times and intervals, and maps whose keys are no texts.
pub(super) fn check(logical_type: &LogicalType) -> Result<()> {
    match logical_type {
        T::Array(element) => check(&element.logical_type),
        T::Map(key, value) => {
            if !is_text(&key.logical_type) {
                return plan_err!(
                    "JSON has texts as keys, but the keys of a {logical_type} are none"
                );
            }
            check(&value.logical_type)
        }
        T::Row(fields) => fields
            .iter()
            .try_for_each(|(_, field)| check(&field.logical_type)),
        T::Date | T::Time(_) | T::IntervalDayTime | T::IntervalYearMonth | T::Multiset(_) => {
            plan_err!("{logical_type} has no JSON form; CAST it to STRING")
        }
        _ => Ok(()),
    }
}

/// Appends the JSON of a row.
pub(super) type Writer = Box<dyn Fn(usize, &mut String)>;

/// A writer for a column; "null" for NULLs.
pub(super) fn writer(array: &dyn Array, logical_type: &LogicalType) -> Result<Writer> {
    let column = arrow::array::make_array(array.to_data());
    let nulls = column.logical_nulls();
    let write = plain(&column, logical_type)?;
    Ok(Box::new(move |row, out| {
        if nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
            out.push_str("null");
        } else {
            write(row, out);
        }
    }))
}

fn plain(column: &ArrayRef, logical_type: &LogicalType) -> Result<Writer> {
    match logical_type {
        T::Array(element) => list(column, element),
        T::Map(key, value) => map(column, key, value),
        T::Row(fields) => row(column, fields),
        T::Multiset(_) => exec_err!("a MULTISET has no JSON form"),
        T::Binary(_) | T::VarBinary(_) => {
            let bytes = column.as_binary::<i32>().clone();
            Ok(Box::new(move |row, out| {
                use base64::Engine as _;
                out.push('"');
                base64::engine::general_purpose::STANDARD.encode_string(bytes.value(row), out);
                out.push('"');
            }))
        }
        T::Timestamp(_) | T::TimestampLtz(_) => timestamp(column, logical_type),
        // As the double that it is.
        T::Float => plain(&cast(column, &DataType::Float64)?, &T::Double),
        scalar => {
            let numeric = is_numeric(scalar);
            let boolean = *scalar == T::Boolean;
            let texts = cast_array(column, scalar, &STRING, OnError::Fail)?;
            let texts = texts.as_string::<i32>().clone();
            Ok(Box::new(move |row, out| {
                let text = texts.value(row);
                let number = numeric.then(|| decimal::java_text(text)).flatten();
                match number {
                    Some(number) => out.push_str(&number),
                    None if boolean => out.push_str(&text.to_ascii_lowercase()),
                    None => out.push_str(&json::quote(text)),
                }
            }))
        }
    }
}

/// "2020-01-01T10:00:00.12", with a Z if it is an instant; the fraction has the digits that it needs.
fn timestamp(column: &ArrayRef, logical_type: &LogicalType) -> Result<Writer> {
    let zone = if matches!(logical_type, T::TimestampLtz(_)) {
        "Z"
    } else {
        ""
    };
    let texts = cast_array(column, logical_type, &STRING, OnError::Fail)?;
    let texts = texts.as_string::<i32>().clone();
    Ok(Box::new(move |row, out| {
        let text = texts.value(row).replacen(' ', "T", 1);
        let text = match text.split_once('.') {
            Some(_) => text.trim_end_matches('0').trim_end_matches('.'),
            None => &text,
        };
        out.push_str(&format!("\"{text}{zone}\""));
    }))
}

fn list(column: &ArrayRef, element: &LogicalField) -> Result<Writer> {
    let list = column.as_list::<i32>();
    let write = writer(list.values().as_ref(), &element.logical_type)?;
    let offsets = list.offsets().clone();
    Ok(Box::new(move |row, out| {
        out.push('[');
        for (index, place) in (offsets[row]..offsets[row + 1]).enumerate() {
            if index > 0 {
                out.push(',');
            }
            write(place as usize, out);
        }
        out.push(']');
    }))
}

fn map(column: &ArrayRef, key: &LogicalField, value: &LogicalField) -> Result<Writer> {
    let map = column.as_map();
    let keys = cast_array(map.keys(), &key.logical_type, &STRING, OnError::Fail)?;
    let keys = keys.as_string::<i32>().clone();
    let write = writer(map.values().as_ref(), &value.logical_type)?;
    let offsets = map.offsets().clone();
    Ok(Box::new(move |row, out| {
        out.push('{');
        for (index, place) in (offsets[row]..offsets[row + 1]).enumerate() {
            if index > 0 {
                out.push(',');
            }
            out.push_str(&json::quote(keys.value(place as usize)));
            out.push(':');
            write(place as usize, out);
        }
        out.push('}');
    }))
}

fn row(column: &ArrayRef, fields: &[(String, LogicalField)]) -> Result<Writer> {
    let mut writers = Vec::with_capacity(fields.len());
    for ((name, field), column) in fields.iter().zip(column.as_struct().columns()) {
        writers.push((
            json::quote(name),
            writer(column.as_ref(), &field.logical_type)?,
        ));
    }
    Ok(Box::new(move |row, out| {
        out.push('{');
        for (index, (name, write)) in writers.iter().enumerate() {
            if index > 0 {
                out.push(',');
            }
            out.push_str(name);
            out.push(':');
            write(row, out);
        }
        out.push('}');
    }))
}
