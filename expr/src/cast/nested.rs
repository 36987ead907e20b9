//! Collections and rows, element by element, and BYTES.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryBuilder, ListArray, MapArray, StructArray};
use arrow::datatypes::{DataType, FieldRef, Fields};
use datafusion_common::{Result, exec_err, internal_err};
use weir_dataflow::types::{LogicalField, LogicalType};

use super::Casting;

use LogicalType as T;

pub(super) fn cast(
    array: &ArrayRef,
    from: &LogicalType,
    to: &LogicalType,
    casting: &Casting,
) -> Result<ArrayRef> {
    match (from, to) {
        (T::Array(a), T::Array(b)) => {
            let list = array.as_list::<i32>();
            let values = casting.cast(list.values(), &a.logical_type, &b.logical_type)?;
            let field = Arc::new(b.to_field("item"));
            let (offsets, nulls) = (list.offsets().clone(), list.nulls().cloned());
            Ok(Arc::new(ListArray::try_new(field, offsets, values, nulls)?))
        }
        (T::Map(ka, va), T::Map(kb, vb)) => {
            let map = array.as_map();
            let keys = casting.cast(map.keys(), &ka.logical_type, &kb.logical_type)?;
            let values = casting.cast(map.values(), &va.logical_type, &vb.logical_type)?;
            rebuild_map(map, keys, values, to)
        }
        (T::Multiset(a), T::Multiset(b)) => {
            let map = array.as_map();
            let keys = casting.cast(map.keys(), &a.logical_type, &b.logical_type)?;
            rebuild_map(map, keys, Arc::clone(map.values()), to)
        }
        (T::Row(a), T::Row(b)) if a.len() == b.len() => row(array, a, b, casting),
        _ => exec_err!("there is no cast from {from} to {to}"),
    }
}

fn rebuild_map(
    map: &MapArray,
    keys: ArrayRef,
    values: ArrayRef,
    to: &LogicalType,
) -> Result<ArrayRef> {
    let DataType::Map(entries, ordered) = to.to_arrow() else {
        return internal_err!("{to} is no map");
    };
    let DataType::Struct(fields) = entries.data_type() else {
        return internal_err!("a map's entries are no row");
    };
    let pairs = StructArray::try_new(fields.clone(), vec![keys, values], None)?;
    let (offsets, nulls) = (map.offsets().clone(), map.nulls().cloned());
    Ok(Arc::new(MapArray::try_new(
        entries, offsets, pairs, nulls, ordered,
    )?))
}

fn row(
    array: &ArrayRef,
    from: &[(String, LogicalField)],
    to: &[(String, LogicalField)],
    casting: &Casting,
) -> Result<ArrayRef> {
    let source = array.as_struct();
    let mut columns = Vec::with_capacity(to.len());
    for (index, ((_, a), (_, b))) in from.iter().zip(to).enumerate() {
        columns.push(casting.cast(source.column(index), &a.logical_type, &b.logical_type)?);
    }
    let fields: Vec<FieldRef> = to
        .iter()
        .map(|(name, field)| Arc::new(field.to_field(name)))
        .collect();
    let nulls = source.nulls().cloned();
    let rows = source.len();
    Ok(Arc::new(StructArray::try_new_with_length(
        Fields::from(fields),
        columns,
        nulls,
        rows,
    )?))
}

/// Cuts at `length` bytes; fills up with zeros if `pad`.
pub(super) fn cut_bytes(array: &ArrayRef, length: u32, pad: bool) -> Result<ArrayRef> {
    let length = length as usize;
    let mut builder = BinaryBuilder::new();
    for value in array.as_binary::<i32>() {
        let Some(value) = value else {
            builder.append_null();
            continue;
        };
        if pad && value.len() < length {
            let mut padded = value.to_vec();
            padded.resize(length, 0);
            builder.append_value(padded);
        } else {
            builder.append_value(&value[..value.len().min(length)]);
        }
    }
    Ok(Arc::new(builder.finish()))
}
