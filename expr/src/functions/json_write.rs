//! Values of any type as JSON.

use arrow::array::{Array, ArrayRef, AsArray};
use datafusion_common::{Result, exec_err};
use weir_dataflow::types::{LogicalField, LogicalType};

use crate::cast::{OnError, cast_array};
use crate::coerce::types::{STRING, is_numeric};
use crate::value::json;

use LogicalType as T;

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
        scalar => {
            let bare = is_numeric(scalar);
            let boolean = *scalar == T::Boolean;
            let texts = cast_array(column, scalar, &STRING, OnError::Fail)?;
            let texts = texts.as_string::<i32>().clone();
            Ok(Box::new(move |row, out| {
                let text = texts.value(row);
                if boolean {
                    out.push_str(&text.to_ascii_lowercase());
                } else if bare {
                    out.push_str(text);
                } else {
                    out.push_str(&json::quote(text));
                }
            }))
        }
    }
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
