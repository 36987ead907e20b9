//! Arrays, maps and rows: making them, their size, their elements.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, ListArray, MapArray, StructArray, UInt32Array, make_comparator,
    new_null_array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::compute::{SortOptions, concat, interleave, nullif, take};
use arrow::datatypes::{DataType, Fields, Int32Type};
use arrow::row::{RowConverter, SortField};
use datafusion_common::{Result, exec_err, internal_err, plan_err};
use std::cmp::Ordering;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use weir_dataflow::types::{LogicalField, LogicalType};

use super::call::{Call, numbers};
use super::function::Function;
use super::params::{Argument, Param, Returns};

use LogicalType as T;

const COMMON: &[Param] = &[Param::Common];
const ITEM: &[Param] = &[Param::Any, Param::Place];
const FIELD: &[Param] = &[Param::Any, Param::Any];
const ONE_MAP: &[Param] = &[Param::Map];

pub(super) fn functions() -> Vec<Function> {
    vec![
        Function::new("ARRAY", COMMON, Returns::Rule(array_type), array)
            .variadic()
            .never_null(),
        Function::new("MAP", &[Param::Alternating], Returns::Rule(map_type), map)
            .variadic()
            .never_null(),
        Function::new("ROW", &[Param::Any], Returns::Rule(row_type), row)
            .variadic()
            .never_null(),
        Function::new("__field", FIELD, Returns::Rule(field_type), field).variadic(),
        Function::new("ITEM", ITEM, Returns::Rule(item_type), item),
        Function::new("CARDINALITY", &[Param::Collection], T::Int, cardinality).strict(),
        Function::new(
            "ELEMENT",
            &[Param::Array],
            Returns::Rule(element_type),
            element,
        ),
        Function::new("MAP_KEYS", ONE_MAP, Returns::Rule(keys_type), |call| {
            part(call, 0)
        })
        .strict(),
        Function::new("MAP_VALUES", ONE_MAP, Returns::Rule(values_type), |call| {
            part(call, 1)
        })
        .strict(),
        Function::new("MAP_ENTRIES", ONE_MAP, Returns::Rule(entries_type), entries).strict(),
        Function::new("MAP_UNION", COMMON, Returns::Common, map_union)
            .variadic()
            .strict(),
        Function::new(
            "MAP_FROM_ARRAYS",
            &[Param::Array, Param::Array],
            Returns::Rule(from_arrays_type),
            from_arrays,
        )
        .strict(),
    ]
}

fn nullable(logical_type: LogicalType) -> Box<LogicalField> {
    Box::new(LogicalField::nullable(logical_type))
}

fn array_type(arguments: &[Argument]) -> Result<LogicalType> {
    Ok(T::Array(nullable(arguments[0].logical_type.clone())))
}

/// Interleaves the arguments' rows into one list a row.
fn array(call: &Call) -> Result<ArrayRef> {
    let DataType::List(item) = &call.returns else {
        return internal_err!("ARRAY gives an array");
    };
    let columns = (0..call.len())
        .map(|index| call.array(index))
        .collect::<Result<Vec<_>>>()?;
    let values = interleaved(&columns, call.rows)?;
    let offsets = OffsetBuffer::from_lengths(vec![columns.len(); call.rows]);
    Ok(Arc::new(ListArray::try_new(
        Arc::clone(item),
        offsets,
        values,
        None,
    )?))
}

/// Row by row: the first row of all columns, the second row of all columns ...
fn interleaved(columns: &[ArrayRef], rows: usize) -> Result<ArrayRef> {
    let arrays: Vec<&dyn Array> = columns.iter().map(AsRef::as_ref).collect();
    let places: Vec<(usize, usize)> = (0..rows)
        .flat_map(|row| (0..columns.len()).map(move |column| (column, row)))
        .collect();
    Ok(interleave(&arrays, &places)?)
}

fn map_type(arguments: &[Argument]) -> Result<LogicalType> {
    if arguments.len() % 2 == 1 {
        return plan_err!(
            "MAP takes keys and values in turn, not {} arguments",
            arguments.len()
        );
    }
    Ok(T::Map(
        Box::new(LogicalField {
            logical_type: arguments[0].logical_type.clone(),
            nullable: false,
        }),
        nullable(arguments[1].logical_type.clone()),
    ))
}

fn map(call: &Call) -> Result<ArrayRef> {
    let columns = (0..call.len())
        .map(|index| call.array(index))
        .collect::<Result<Vec<_>>>()?;
    let every_second = |first: usize| -> Vec<ArrayRef> {
        columns.iter().skip(first).step_by(2).cloned().collect()
    };
    let keys = interleaved(&every_second(0), call.rows)?;
    let values = interleaved(&every_second(1), call.rows)?;
    let offsets = OffsetBuffer::from_lengths(vec![columns.len() / 2; call.rows]);
    map_array(&call.returns, offsets, keys, values, None)
}

fn map_array(
    data_type: &DataType,
    offsets: OffsetBuffer<i32>,
    keys: ArrayRef,
    values: ArrayRef,
    nulls: Option<NullBuffer>,
) -> Result<ArrayRef> {
    let DataType::Map(entries, ordered) = data_type else {
        return internal_err!("{data_type} is no map");
    };
    let DataType::Struct(fields) = entries.data_type() else {
        return internal_err!("a map's entries are no row");
    };
    if keys.null_count() > 0 {
        return exec_err!("a MAP can't have a NULL as a key");
    }
    let pairs = StructArray::try_new(fields.clone(), vec![keys, values], None)?;
    Ok(Arc::new(MapArray::try_new(
        Arc::clone(entries),
        offsets,
        pairs,
        nulls,
        *ordered,
    )?))
}

fn row_type(arguments: &[Argument]) -> Result<LogicalType> {
    let fields = arguments.iter().enumerate().map(|(index, argument)| {
        let field = LogicalField::nullable(argument.logical_type.clone());
        (format!("EXPR${index}"), field)
    });
    Ok(T::Row(fields.collect()))
}

fn row(call: &Call) -> Result<ArrayRef> {
    let DataType::Struct(fields) = &call.returns else {
        return internal_err!("ROW gives a row");
    };
    let columns = (0..call.len())
        .map(|index| call.array(index))
        .collect::<Result<Vec<_>>>()?;
    Ok(Arc::new(StructArray::try_new_with_length(
        fields.clone(),
        columns,
        None,
        call.rows,
    )?))
}

/// `__field(row, 'name', ...)`: also into rows within.
fn field_type(arguments: &[Argument]) -> Result<LogicalType> {
    let mut found = arguments[0].logical_type.clone();
    for path in &arguments[1..] {
        let name = path.text().unwrap_or("");
        found = match found {
            T::Row(fields) => match fields.into_iter().find(|(known, _)| known == name) {
                Some((_, field)) => field.logical_type,
                None => return plan_err!("the ROW has no field '{name}'"),
            },
            other => return plan_err!("{other} has no field '{name}'"),
        };
    }
    Ok(found)
}

fn field(call: &Call) -> Result<ArrayRef> {
    let mut found = call.array(0)?;
    for index in 1..call.len() {
        let name = call.literal(index)?;
        let Some(row) = found.as_struct_opt() else {
            return internal_err!("{} has no fields", found.data_type());
        };
        let Some(column) = row.column_by_name(name) else {
            return internal_err!("the row has no field {name}");
        };
        found = match row.nulls() {
            // The field of a NULL row is NULL, whatever lies there.
            Some(nulls) if nulls.null_count() > 0 => {
                let missing = arrow::array::BooleanArray::new(!nulls.inner(), None);
                null_where(column, &missing)?
            }
            _ => Arc::clone(column),
        };
    }
    Ok(found)
}

fn null_where(column: &ArrayRef, missing: &arrow::array::BooleanArray) -> Result<ArrayRef> {
    Ok(nullif(column.as_ref(), missing)?)
}

fn item_type(arguments: &[Argument]) -> Result<LogicalType> {
    match &arguments[0].logical_type {
        T::Array(element) => match arguments[1].integer() {
            Some(index) if index < 1 => {
                plan_err!(
                    "the elements of an ARRAY are counted from 1, so there is none at {index}"
                )
            }
            _ => Ok(element.logical_type.clone()),
        },
        T::Map(_, value) => Ok(value.logical_type.clone()),
        T::Multiset(_) => Ok(T::Int),
        T::Row(fields) => match arguments[1].integer() {
            Some(index) if index >= 1 && (index as usize) <= fields.len() => {
                Ok(fields[index as usize - 1].1.logical_type.clone())
            }
            _ => plan_err!("a ROW has no such field"),
        },
        T::Null => Ok(T::Null),
        other => plan_err!("{other} has no elements"),
    }
}

/// NULL for an index out of the array, and for a key that the map does not have.
fn item(call: &Call) -> Result<ArrayRef> {
    let collection = call.array(0)?;
    match collection.data_type() {
        DataType::List(_) => {
            let list = collection.as_list::<i32>();
            let index = call.primitive::<Int32Type>(1)?;
            let places: UInt32Array = (0..call.rows)
                .map(|row| {
                    let index = usize::try_from(index.get(row)?.checked_sub(1)?).ok()?;
                    let there = list.is_valid(row) && index < list.value_length(row) as usize;
                    there.then(|| list.value_offsets()[row] as u32 + index as u32)
                })
                .collect();
            Ok(take(list.values(), &places, None)?)
        }
        DataType::Map(..) => map_item(collection.as_map(), &call.array(1)?),
        DataType::Struct(_) => {
            let index = call.primitive::<Int32Type>(1)?.get(0).unwrap_or(1);
            Ok(Arc::clone(
                collection.as_struct().column(index as usize - 1),
            ))
        }
        _ => Ok(new_null_array(&call.returns, call.rows)),
    }
}

fn map_item(map: &MapArray, keys: &ArrayRef) -> Result<ArrayRef> {
    let compare = make_comparator(map.keys(), keys, SortOptions::default())?;
    let places: UInt32Array = (0..map.len())
        .map(|row| {
            if map.is_null(row) || keys.is_null(row) {
                return None;
            }
            let range = map.value_offsets()[row] as usize..map.value_offsets()[row + 1] as usize;
            // A later entry of the same key is the one that counts.
            let found = range
                .rev()
                .find(|place| compare(*place, row) == Ordering::Equal);
            found.map(|place| place as u32)
        })
        .collect();
    Ok(take(map.values(), &places, None)?)
}

fn cardinality(call: &Call) -> Result<ArrayRef> {
    let collection = call.array(0)?;
    let lengths: Box<dyn Fn(usize) -> i32> = match collection.data_type() {
        DataType::List(_) => {
            let list = collection.as_list::<i32>().clone();
            Box::new(move |row| list.value_length(row))
        }
        DataType::Map(..) => {
            let map = collection.as_map().clone();
            Box::new(move |row| map.value_length(row))
        }
        _ => return Ok(new_null_array(&call.returns, call.rows)),
    };
    numbers::<Int32Type>(call.rows, |row| {
        collection.is_valid(row).then(|| lengths(row))
    })
}

fn element_type(arguments: &[Argument]) -> Result<LogicalType> {
    match &arguments[0].logical_type {
        T::Array(element) => Ok(element.logical_type.clone()),
        other => Ok(other.clone()),
    }
}

/// The only element; NULL of an empty array.
fn element(call: &Call) -> Result<ArrayRef> {
    let collection = call.array(0)?;
    let Some(list) = collection.as_list_opt::<i32>() else {
        return Ok(new_null_array(&call.returns, call.rows));
    };
    let mut places = Vec::with_capacity(call.rows);
    for row in 0..call.rows {
        let length = if list.is_null(row) {
            0
        } else {
            list.value_length(row)
        };
        if length > 1 {
            return exec_err!("ELEMENT takes an array of one element, not of {length}");
        }
        places.push((length == 1).then(|| list.value_offsets()[row] as u32));
    }
    Ok(take(list.values(), &UInt32Array::from(places), None)?)
}

fn map_parts(argument: &Argument) -> Result<(LogicalField, LogicalField)> {
    match &argument.logical_type {
        T::Map(key, value) => Ok((key.as_ref().clone(), value.as_ref().clone())),
        T::Multiset(key) => Ok((key.as_ref().clone(), LogicalField::nullable(T::Int))),
        other => plan_err!("{other} is no MAP"),
    }
}

fn keys_type(arguments: &[Argument]) -> Result<LogicalType> {
    Ok(T::Array(Box::new(map_parts(&arguments[0])?.0)))
}

fn values_type(arguments: &[Argument]) -> Result<LogicalType> {
    Ok(T::Array(Box::new(map_parts(&arguments[0])?.1)))
}

fn entries_type(arguments: &[Argument]) -> Result<LogicalType> {
    let (key, value) = map_parts(&arguments[0])?;
    Ok(T::Array(nullable(T::Row(vec![
        ("key".to_owned(), key),
        ("value".to_owned(), value),
    ]))))
}

fn list_of(call: &Call, map: &MapArray, values: ArrayRef) -> Result<ArrayRef> {
    let DataType::List(item) = &call.returns else {
        return internal_err!("{} is no array", call.returns);
    };
    let values = if values.data_type() == item.data_type() {
        values
    } else {
        arrow::compute::cast(&values, item.data_type())?
    };
    Ok(Arc::new(ListArray::try_new(
        Arc::clone(item),
        map.offsets().clone(),
        values,
        map.nulls().cloned(),
    )?))
}

fn part(call: &Call, column: usize) -> Result<ArrayRef> {
    let array = call.array(0)?;
    let map = array.as_map();
    list_of(call, map, Arc::clone(map.entries().column(column)))
}

fn entries(call: &Call) -> Result<ArrayRef> {
    let array = call.array(0)?;
    let map = array.as_map();
    let DataType::List(item) = &call.returns else {
        return internal_err!("MAP_ENTRIES gives an array");
    };
    let fields: Fields = match item.data_type() {
        DataType::Struct(fields) => fields.clone(),
        other => return internal_err!("{other} is no row"),
    };
    let rows = StructArray::try_new(fields, map.entries().columns().to_vec(), None)?;
    list_of(call, map, Arc::new(rows))
}

fn from_arrays_type(arguments: &[Argument]) -> Result<LogicalType> {
    match (&arguments[0].logical_type, &arguments[1].logical_type) {
        (T::Array(key), T::Array(value)) => Ok(T::Map(
            Box::new(LogicalField {
                logical_type: key.logical_type.clone(),
                nullable: false,
            }),
            value.clone(),
        )),
        (key, value) => plan_err!("MAP_FROM_ARRAYS takes two arrays, not {key} and {value}"),
    }
}

fn from_arrays(call: &Call) -> Result<ArrayRef> {
    let (keys, values) = (call.array(0)?, call.array(1)?);
    let (keys, values) = (keys.as_list::<i32>(), values.as_list::<i32>());
    let mut offsets = vec![0i32];
    let (mut key_places, mut value_places) = (Vec::new(), Vec::new());
    for row in 0..call.rows {
        if keys.is_valid(row) && values.is_valid(row) {
            let length = keys.value_length(row);
            if length != values.value_length(row) {
                return exec_err!("MAP_FROM_ARRAYS takes arrays of the same size");
            }
            let (key, value) = (keys.value_offsets()[row], values.value_offsets()[row]);
            key_places.extend((key..key + length).map(|place| place as u32));
            value_places.extend((value..value + length).map(|place| place as u32));
        }
        offsets.push(key_places.len() as i32);
    }
    let nulls = NullBuffer::union(keys.nulls(), values.nulls());
    let keys = take(keys.values(), &UInt32Array::from(key_places), None)?;
    let values = take(values.values(), &UInt32Array::from(value_places), None)?;
    let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
    map_array(&call.returns, offsets, keys, values, nulls)
}

/// The entries of all maps; of one key the last map's.
fn map_union(call: &Call) -> Result<ArrayRef> {
    let arrays = (0..call.len())
        .map(|index| call.array(index))
        .collect::<Result<Vec<_>>>()?;
    let maps = arrays
        .iter()
        .map(|array| array.as_map_opt())
        .collect::<Option<Vec<_>>>();
    let Some(maps) = maps else {
        return Ok(new_null_array(&call.returns, call.rows));
    };
    let keys: Vec<&dyn Array> = maps.iter().map(|map| map.keys().as_ref()).collect();
    let values: Vec<&dyn Array> = maps.iter().map(|map| map.values().as_ref()).collect();
    let (keys, values) = (concat(&keys)?, concat(&values)?);
    let converter = RowConverter::new(vec![SortField::new(keys.data_type().clone())])?;
    let comparable = converter.convert_columns(&[Arc::clone(&keys)])?;
    let (mut places, mut offsets, mut valid) = (Vec::new(), vec![0i32], Vec::new());
    for row in 0..call.rows {
        let mut latest = HashMap::new();
        let (start, mut base) = (places.len(), 0);
        for map in &maps {
            let range = map.value_offsets()[row] as usize..map.value_offsets()[row + 1] as usize;
            for place in range.map(|place| base + place) {
                match latest.entry(comparable.row(place)) {
                    Entry::Occupied(slot) => places[*slot.get()] = place as u32,
                    Entry::Vacant(slot) => {
                        slot.insert(places.len());
                        places.push(place as u32);
                    }
                }
            }
            base += map.keys().len();
        }
        valid.push(maps.iter().all(|map| map.is_valid(row)));
        if valid.last() == Some(&false) {
            places.truncate(start);
        }
        offsets.push(places.len() as i32);
    }
    let places = UInt32Array::from(places);
    let (keys, values) = (take(&keys, &places, None)?, take(&values, &places, None)?);
    let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
    map_array(
        &call.returns,
        offsets,
        keys,
        values,
        Some(NullBuffer::from(valid)),
    )
}

#[cfg(test)]
mod tests {
    use weir_dataflow::types::LogicalType as T;

    use crate::coerce::types::STRING;
    use crate::testing::*;

    #[test]
    fn collections() {
        check(vec![
            ("ARRAY", args![1, 2i64], "[1, 2]"),
            ("ARRAY", args!["a", null(STRING)], "[a, NULL]"),
            ("MAP", args!["a", 1, "b", 2], "{a=1, b=2}"),
            ("MAP", args!["a"], "ERROR"),
            ("ROW", args![1, "a"], "(1, a)"),
            ("ITEM", args![ints(&["1", "2"]), 2], "2"),
            ("ITEM", args![ints(&["1", "2"]), 3], "NULL"),
            ("ITEM", args![ints(&["1", "2"]), fixed(0)], "ERROR"),
            ("CARDINALITY", args![ints(&["1", "2"])], "2"),
            (
                "CARDINALITY",
                args![null(T::Array(Box::new(
                    weir_dataflow::types::LogicalField::nullable(T::Int)
                )))],
                "NULL",
            ),
            ("ELEMENT", args![ints(&["7"])], "7"),
            ("ELEMENT", args![ints(&["7", "8"])], "ERROR"),
            (
                "MAP_FROM_ARRAYS",
                args![texts(&["a", "b"]), ints(&["1", "2"])],
                "{a=1, b=2}",
            ),
        ]);
    }

    #[test]
    fn maps() {
        use datafusion_expr::Expr;
        let args = args!["a", 1, "b", 2];
        let of = |name: &str, more: Vec<Expr>| {
            let map = crate::functions::lookup("MAP").unwrap();
            let map = map.call((0..4).map(|index| operand(&args, index, true)).collect());
            let mut all = vec![map];
            all.extend(more);
            run(crate::functions::lookup(name).unwrap().call(all), &args)
                .unwrap()
                .0
        };
        assert_eq!(of("MAP_KEYS", vec![]), "[a, b]");
        assert_eq!(of("MAP_VALUES", vec![]), "[1, 2]");
        assert_eq!(of("MAP_ENTRIES", vec![]), "[(a, 1), (b, 2)]");
        assert_eq!(of("CARDINALITY", vec![]), "2");
        let more = crate::functions::lookup("MAP").unwrap();
        let more = more.call(vec![datafusion_expr::lit("b"), operand(&args, 1, true)]);
        assert_eq!(of("MAP_UNION", vec![more]), "{a=1, b=1}");
        assert_eq!(of("ITEM", vec![operand(&args, 2, true)]), "2");
        assert_eq!(of("ITEM", vec![datafusion_expr::lit("z")]), "NULL");
    }
}
