//! ARRAY_...: functions that look into arrays. Elements are compared by their row encoding, so one implementation serves all types;
//! NULL elements are equal to each other.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, UInt32Array, new_null_array};
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::compute::{concat, take};
use arrow::datatypes::{DataType, Field, Int32Type};
use arrow::row::{Row, RowConverter, Rows, SortField};
use datafusion_common::{Result, internal_datafusion_err, internal_err};
use std::ops::Range;
use weir_dataflow::types::{LogicalField, LogicalType};

use super::call::{Call, booleans, numbers, put, texts};
use super::function::Function;
use super::params::{Argument, Param, Returns};
use crate::cast::{OnError, cast_array};
use crate::coerce::types::STRING;

use LogicalType as T;

const ELEMENT: &[Param] = &[Param::Array, Param::Element];
const TWO: &[Param] = &[Param::Common, Param::Common];
const SLICE: &[Param] = &[Param::Array, Param::Int, Param::Int];
const SORT: &[Param] = &[Param::Array, Param::Boolean, Param::Boolean];
const JOIN: &[Param] = &[Param::Array, Param::Text, Param::Text];

pub(super) fn functions() -> Vec<Function> {
    let same = Returns::Argument(0);
    vec![
        Function::new("ARRAY_CONTAINS", ELEMENT, T::Boolean, contains),
        Function::new("ARRAY_POSITION", ELEMENT, T::Int, position),
        Function::new("ARRAY_APPEND", ELEMENT, Returns::Rule(longer), |call| {
            insert(call, true)
        }),
        Function::new("ARRAY_PREPEND", ELEMENT, Returns::Rule(longer), |call| {
            insert(call, false)
        }),
        Function::new("ARRAY_REMOVE", ELEMENT, same.clone(), remove),
        Function::new("ARRAY_DISTINCT", &[Param::Array], same.clone(), distinct).strict(),
        Function::new("ARRAY_REVERSE", &[Param::Array], same.clone(), reverse).strict(),
        Function::new("ARRAY_SLICE", SLICE, same.clone(), slice).optional(1),
        Function::new("ARRAY_SORT", SORT, same, sort).optional(2),
        Function::new(
            "ARRAY_CONCAT",
            &[Param::Common],
            Returns::Common,
            concatenate,
        )
        .variadic()
        .strict(),
        Function::new("ARRAY_UNION", TWO, Returns::Common, union).strict(),
        Function::new("ARRAY_INTERSECT", TWO, Returns::Common, |call| {
            keep(call, true)
        })
        .strict(),
        Function::new("ARRAY_EXCEPT", TWO, Returns::Common, |call| {
            keep(call, false)
        })
        .strict(),
        Function::new(
            "ARRAY_MAX",
            &[Param::Array],
            Returns::Rule(element),
            |call| extreme(call, true),
        ),
        Function::new(
            "ARRAY_MIN",
            &[Param::Array],
            Returns::Rule(element),
            |call| extreme(call, false),
        ),
        Function::new("ARRAY_JOIN", JOIN, STRING, join).optional(1),
    ]
}

fn element(arguments: &[Argument]) -> Result<LogicalType> {
    Ok(match &arguments[0].logical_type {
        T::Array(element) => element.logical_type.clone(),
        other => other.clone(),
    })
}

/// The elements of all arguments, one behind the other, as comparable rows.
struct Pool {
    values: ArrayRef,
    rows: Rows,
    parts: Vec<Part>,
}

/// Where an argument's elements are in the pool.
struct Part {
    base: usize,
    offsets: Option<OffsetBuffer<i32>>,
    nulls: Option<NullBuffer>,
}

impl Pool {
    /// Of lists, and of single elements that stand beside them.
    fn new(call: &Call) -> Result<Self> {
        let mut arrays: Vec<ArrayRef> = Vec::new();
        let mut parts = Vec::new();
        let mut base = 0;
        for index in 0..call.len() {
            let array = call.array(index)?;
            let (values, offsets) = match array.as_list_opt::<i32>() {
                Some(list) if index == 0 || is_same_list(call, index)? => {
                    (Arc::clone(list.values()), Some(list.offsets().clone()))
                }
                _ => (Arc::clone(&array), None),
            };
            parts.push(Part {
                base,
                offsets,
                nulls: array.logical_nulls(),
            });
            base += values.len();
            arrays.push(values);
        }
        let refs: Vec<&dyn Array> = arrays.iter().map(AsRef::as_ref).collect();
        let values = match refs.as_slice() {
            [] => return internal_err!("an array function without arguments"),
            [_] => Arc::clone(&arrays[0]),
            many => concat(many)?,
        };
        let converter = RowConverter::new(vec![SortField::new(values.data_type().clone())])?;
        let rows = converter.convert_columns(&[Arc::clone(&values)])?;
        Ok(Self {
            values,
            rows,
            parts,
        })
    }

    /// The places of a list's elements; `None` for a NULL list.
    fn list(&self, part: usize, row: usize) -> Option<Range<usize>> {
        let part = &self.parts[part];
        if part.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
            return None;
        }
        let offsets = part.offsets.as_ref()?;
        Some(part.base + offsets[row] as usize..part.base + offsets[row + 1] as usize)
    }

    /// The place of a single element.
    fn single(&self, part: usize, row: usize) -> usize {
        self.parts[part].base + row
    }

    fn row(&self, place: usize) -> Row<'_> {
        self.rows.row(place)
    }

    /// Lists of chosen elements; `None` makes a NULL.
    fn lists(
        &self,
        call: &Call,
        mut choose: impl FnMut(usize, &mut Vec<u32>) -> Option<()>,
    ) -> Result<ArrayRef> {
        let DataType::List(item) = &call.returns else {
            return Ok(new_null_array(&call.returns, call.rows));
        };
        let mut places = Vec::new();
        let mut offsets = vec![0i32];
        let mut valid = Vec::with_capacity(call.rows);
        for row in 0..call.rows {
            valid.push(choose(row, &mut places).is_some());
            offsets.push(places.len() as i32);
        }
        let values = take(&self.values, &UInt32Array::from(places), None)?;
        let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
        let nulls = Some(NullBuffer::from(valid));
        Ok(Arc::new(ListArray::try_new(
            Arc::clone(item),
            offsets,
            values,
            nulls,
        )?))
    }
}

/// Whether an argument is a list like the first one, not an element that is itself a list.
fn is_same_list(call: &Call, index: usize) -> Result<bool> {
    Ok(call.data_type(0)?.equals_datatype(call.data_type(index)?))
}

fn contains(call: &Call) -> Result<ArrayRef> {
    let pool = Pool::new(call)?;
    booleans(call.rows, |row| {
        let wanted = pool.row(pool.single(1, row));
        Some(pool.list(0, row)?.any(|place| pool.row(place) == wanted))
    })
}

fn position(call: &Call) -> Result<ArrayRef> {
    let pool = Pool::new(call)?;
    numbers::<Int32Type>(call.rows, |row| {
        let wanted = pool.row(pool.single(1, row));
        let found = pool
            .list(0, row)?
            .position(|place| pool.row(place) == wanted);
        Some(found.map_or(0, |index| index as i32 + 1))
    })
}

/// With an element more, which may be NULL.
fn longer(arguments: &[Argument]) -> Result<LogicalType> {
    Ok(match &arguments[0].logical_type {
        LogicalType::Array(element) => LogicalType::Array(Box::new(LogicalField {
            logical_type: element.logical_type.clone(),
            nullable: element.nullable || arguments[1].nullable,
        })),
        other => other.clone(),
    })
}

fn insert(call: &Call, behind: bool) -> Result<ArrayRef> {
    let pool = Pool::new(call)?;
    pool.lists(call, |row, out| {
        let list = pool.list(0, row)?.map(|place| place as u32);
        let one = pool.single(1, row) as u32;
        if behind {
            out.extend(list);
            out.push(one);
        } else {
            out.push(one);
            out.extend(list);
        }
        Some(())
    })
}

fn remove(call: &Call) -> Result<ArrayRef> {
    let pool = Pool::new(call)?;
    pool.lists(call, |row, out| {
        let unwanted = pool.row(pool.single(1, row));
        let rest = pool
            .list(0, row)?
            .filter(|place| pool.row(*place) != unwanted);
        out.extend(rest.map(|place| place as u32));
        Some(())
    })
}

fn distinct(call: &Call) -> Result<ArrayRef> {
    let pool = Pool::new(call)?;
    pool.lists(call, |row, out| {
        let mut seen = HashSet::new();
        let first = pool
            .list(0, row)?
            .filter(|place| seen.insert(pool.row(*place)));
        out.extend(first.map(|place| place as u32));
        Some(())
    })
}

fn reverse(call: &Call) -> Result<ArrayRef> {
    let pool = Pool::new(call)?;
    pool.lists(call, |row, out| {
        out.extend(pool.list(0, row)?.rev().map(|place| place as u32));
        Some(())
    })
}

/// From and to are counted from 1, from the end if negative, and included.
fn slice(call: &Call) -> Result<ArrayRef> {
    let (from, to) = (
        call.primitive::<Int32Type>(1)?,
        call.optional::<Int32Type>(2)?,
    );
    let list = call.array(0)?;
    let Some(list) = list.as_list_opt::<i32>() else {
        return Ok(new_null_array(&call.returns, call.rows));
    };
    let DataType::List(item) = &call.returns else {
        return internal_err!("ARRAY_SLICE gives an array");
    };
    let (mut places, mut offsets, mut valid) = (Vec::new(), vec![0i32], Vec::new());
    for row in 0..call.rows {
        let size = if list.is_null(row) {
            0
        } else {
            i64::from(list.value_length(row))
        };
        let to_row = to.as_ref().map_or(Some(size as i32), |to| to.get(row));
        let bounds = from.get(row).zip(to_row).filter(|_| list.is_valid(row));
        valid.push(bounds.is_some());
        if let Some((from, to)) = bounds {
            let place = |index: i32| match index {
                0 => 1,
                1.. => i64::from(index),
                _ => size + i64::from(index) + 1,
            };
            let (first, last) = (place(from).max(1), place(to).min(size));
            let start = i64::from(list.value_offsets()[row]);
            places.extend((first..=last).map(|index| (start + index - 1) as u32));
        }
        offsets.push(places.len() as i32);
    }
    let values = take(list.values(), &UInt32Array::from(places), None)?;
    let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
    let nulls = Some(NullBuffer::from(valid));
    Ok(Arc::new(ListArray::try_new(
        Arc::clone(item),
        offsets,
        values,
        nulls,
    )?))
}

/// ARRAY_SORT(array[, ascending[, nulls first]]); NULLs are first of ascending ones unless told otherwise.
fn sort(call: &Call) -> Result<ArrayRef> {
    let flag = |index: usize| -> Result<Option<super::call::Booleans<'_>>> {
        (index < call.len())
            .then(|| call.boolean(index))
            .transpose()
    };
    let (ascending, nulls_first) = (flag(1)?, flag(2)?);
    let array = call.array(0)?;
    let Some(list) = array.as_list_opt::<i32>() else {
        return Ok(new_null_array(&call.returns, call.rows));
    };
    let converter = RowConverter::new(vec![SortField::new(list.value_type())])?;
    let rows = converter.convert_columns(&[Arc::clone(list.values())])?;
    let pool = Pool {
        values: Arc::clone(list.values()),
        rows,
        parts: vec![Part {
            base: 0,
            offsets: Some(list.offsets().clone()),
            nulls: list.nulls().cloned(),
        }],
    };
    pool.lists(call, |row, out| {
        let ascending = ascending
            .as_ref()
            .map_or(Some(true), |flag| flag.get(row))?;
        let nulls_first = match &nulls_first {
            Some(flag) => flag.get(row)?,
            None => ascending,
        };
        let (nulls, mut present): (Vec<usize>, Vec<usize>) = pool
            .list(0, row)?
            .partition(|place| pool.values.is_null(*place));
        present.sort_by(|a, b| pool.row(*a).cmp(&pool.row(*b)));
        if !ascending {
            present.reverse();
        }
        let as_place = |place: usize| place as u32;
        if nulls_first {
            out.extend(nulls.into_iter().chain(present).map(as_place));
        } else {
            out.extend(present.into_iter().chain(nulls).map(as_place));
        }
        Some(())
    })
}

fn concatenate(call: &Call) -> Result<ArrayRef> {
    let pool = Pool::new(call)?;
    pool.lists(call, |row, out| {
        let lists: Option<Vec<_>> = (0..call.len()).map(|part| pool.list(part, row)).collect();
        out.extend(lists?.into_iter().flatten().map(|place| place as u32));
        Some(())
    })
}

fn union(call: &Call) -> Result<ArrayRef> {
    let pool = Pool::new(call)?;
    pool.lists(call, |row, out| {
        let both = pool.list(0, row)?.chain(pool.list(1, row)?);
        let mut seen = HashSet::new();
        out.extend(
            both.filter(|place| seen.insert(pool.row(*place)))
                .map(|place| place as u32),
        );
        Some(())
    })
}

/// The distinct elements of the first that are (or are not) in the second.
fn keep(call: &Call, wanted: bool) -> Result<ArrayRef> {
    let pool = Pool::new(call)?;
    pool.lists(call, |row, out| {
        let second: HashSet<Row> = pool.list(1, row)?.map(|place| pool.row(place)).collect();
        let mut seen = HashSet::new();
        let kept = pool.list(0, row)?.filter(|place| {
            let element = pool.row(*place);
            second.contains(&element) == wanted && seen.insert(element)
        });
        out.extend(kept.map(|place| place as u32));
        Some(())
    })
}

/// NULL elements do not count.
fn extreme(call: &Call, largest: bool) -> Result<ArrayRef> {
    if matches!(call.data_type(0)?, DataType::Null) {
        return Ok(new_null_array(&call.returns, call.rows));
    }
    let pool = Pool::new(call)?;
    let places: UInt32Array = (0..call.rows)
        .map(|row| {
            let present = pool
                .list(0, row)?
                .filter(|place| pool.values.is_valid(*place));
            let best = if largest {
                present.max_by(|a, b| pool.row(*a).cmp(&pool.row(*b)))
            } else {
                present.min_by(|a, b| pool.row(*a).cmp(&pool.row(*b)))
            };
            best.map(|place| place as u32)
        })
        .collect();
    Ok(take(&pool.values, &places, None)?)
}

/// Leaves NULLs out, unless there is a text for them.
fn join(call: &Call) -> Result<ArrayRef> {
    let array = call.array(0)?;
    let Some(list) = array.as_list_opt::<i32>() else {
        return texts(call.rows, |_, _| None);
    };
    let (separator, null_text) = (call.text(1)?, call.optional_text(2)?);
    let item = LogicalType::from_field(&Field::new("", list.value_type(), true))
        .ok_or_else(|| internal_datafusion_err!("{} is no SQL type", list.value_type()))?;
    let strings = cast_array(list.values(), &item, &STRING, OnError::Fail)?;
    let strings = strings.as_string::<i32>();
    texts(call.rows, |row, out| {
        let separator = separator.get(row)?;
        let null_text = match &null_text {
            Some(text) => Some(text.get(row)?),
            None => None,
        };
        if list.is_null(row) {
            return None;
        }
        let range = list.value_offsets()[row] as usize..list.value_offsets()[row + 1] as usize;
        let elements = range.filter_map(|place| {
            if strings.is_valid(place) {
                Some(strings.value(place))
            } else {
                null_text
            }
        });
        for (index, element) in elements.enumerate() {
            if index > 0 {
                put(out, separator);
            }
            put(out, element);
        }
        Some(())
    })
}

#[cfg(test)]
mod tests {
    use weir_dataflow::types::LogicalType as T;

    use crate::testing::*;

    #[test]
    fn arrays() {
        check(vec![
            ("ARRAY_CONTAINS", args![ints(&["1", "2"]), 2], "TRUE"),
            ("ARRAY_CONTAINS", args![ints(&["1", "2"]), 3], "FALSE"),
            (
                "ARRAY_CONTAINS",
                args![ints(&["1", "NULL"]), null(T::Int)],
                "TRUE",
            ),
            ("ARRAY_POSITION", args![ints(&["1", "2"]), 2], "2"),
            ("ARRAY_POSITION", args![ints(&["1"]), 5], "0"),
            ("ARRAY_APPEND", args![ints(&["1"]), 2], "[1, 2]"),
            ("ARRAY_PREPEND", args![ints(&["1"]), 2], "[2, 1]"),
            ("ARRAY_REMOVE", args![ints(&["1", "2", "1"]), 1], "[2]"),
            (
                "ARRAY_DISTINCT",
                args![ints(&["1", "2", "1", "NULL", "NULL"])],
                "[1, 2, NULL]",
            ),
            ("ARRAY_REVERSE", args![ints(&["1", "2"])], "[2, 1]"),
            (
                "ARRAY_SLICE",
                args![ints(&["1", "2", "3", "4"]), 2, 3],
                "[2, 3]",
            ),
            ("ARRAY_SLICE", args![ints(&["1", "2", "3"]), -2], "[2, 3]"),
            ("ARRAY_SLICE", args![ints(&["1", "2", "3"]), 3, 1], "[]"),
            (
                "ARRAY_SORT",
                args![ints(&["3", "NULL", "1"])],
                "[NULL, 1, 3]",
            ),
            (
                "ARRAY_SORT",
                args![ints(&["3", "NULL", "1"]), false],
                "[3, 1, NULL]",
            ),
            (
                "ARRAY_SORT",
                args![ints(&["3", "NULL", "1"]), true, false],
                "[1, 3, NULL]",
            ),
            (
                "ARRAY_CONCAT",
                args![ints(&["1"]), ints(&["2", "3"])],
                "[1, 2, 3]",
            ),
            (
                "ARRAY_UNION",
                args![ints(&["1", "2"]), ints(&["2", "3"])],
                "[1, 2, 3]",
            ),
            (
                "ARRAY_INTERSECT",
                args![ints(&["1", "2"]), ints(&["2", "3"])],
                "[2]",
            ),
            (
                "ARRAY_EXCEPT",
                args![ints(&["1", "2"]), ints(&["2", "3"])],
                "[1]",
            ),
            ("ARRAY_MAX", args![ints(&["1", "5", "NULL"])], "5"),
            ("ARRAY_MIN", args![texts(&["b", "a"])], "a"),
            ("ARRAY_MAX", args![ints(&[])], "NULL"),
            ("ARRAY_JOIN", args![ints(&["1", "NULL", "2"]), ","], "1,2"),
            ("ARRAY_JOIN", args![texts(&["a", "NULL"]), "+", "?"], "a+?"),
        ]);
    }
}
