//! What aggregates make of the values that they have collected: the planner puts these functions around ARRAY_AGG and COLLECT.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Float64Builder, ListArray, MapArray};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int32Type, Int64Type};
use datafusion_common::{Result, exec_err, internal_datafusion_err};
use weir_dataflow::types::{LogicalField, LogicalType};

use super::call::{Call, put, try_texts};
use super::function::Function;
use super::params::{Argument, Param, Returns};
use crate::value::json;

use LogicalType as T;

/// What Flink declares the results of JSON aggregates as.
const JSON: LogicalType = T::VarChar(2000);

pub(super) fn functions() -> Vec<Function> {
    vec![
        Function::new("__json_arrayagg", &[Param::Any], JSON, json_array).never_null(),
        Function::new(
            "__json_objectagg",
            &[Param::Any, Param::Text],
            JSON,
            json_object,
        )
        .never_null(),
        Function::new(
            "__percentile",
            &[Param::Collection, Param::Any],
            Returns::Rule(percentile_type),
            percentile,
        ),
    ]
}

fn list_of(array: &ArrayRef) -> Result<&ListArray> {
    array
        .as_list_opt::<i32>()
        .ok_or_else(|| internal_datafusion_err!("{} is no array", array.data_type()))
}

/// `__json_arrayagg(texts)`: the elements are JSON already; NULL is `[]`.
fn json_array(call: &Call) -> Result<ArrayRef> {
    let lists = call.array(0)?;
    let lists = list_of(&lists)?;
    try_texts(call.rows, |row, out| {
        put(out, "[");
        if lists.is_valid(row) {
            let items = lists.value(row);
            for (index, item) in items.as_string::<i32>().iter().enumerate() {
                if index > 0 {
                    put(out, ",");
                }
                put(out, item.unwrap_or("null"));
            }
        }
        put(out, "]");
        Some(Ok(()))
    })
}

/// `__json_objectagg(rows of key and value, 'NULL' | 'ABSENT')`: the values are JSON already; NULL is `{}`.
fn json_object(call: &Call) -> Result<ArrayRef> {
    let lists = call.array(0)?;
    let lists = list_of(&lists)?;
    let absent = call.literal(1)? == "ABSENT";
    let object = |row: usize| -> Result<String> {
        let (mut members, mut keys) = (Vec::new(), std::collections::HashSet::new());
        let pairs = lists.value(row);
        let pairs = pairs.as_struct();
        let (names, values) = (pairs.column(0), pairs.column(1).as_string::<i32>());
        let names = names.as_string::<i32>();
        for place in 0..pairs.len() {
            if values.is_null(place) && absent {
                continue;
            }
            if names.is_null(place) {
                return exec_err!("a key of JSON_OBJECTAGG is NULL");
            }
            let name = names.value(place);
            if !keys.insert(name) {
                return exec_err!(
                    "Key '{name}' is already present. Duplicate keys are not allowed in JSON_OBJECTAGG. Please ensure that keys are unique."
                );
            }
            let value = match values.is_valid(place) {
                true => values.value(place),
                false => "null",
            };
            members.push(format!("{}:{value}", json::quote(name)));
        }
        Ok(json::canonical(&format!("{{{}}}", members.join(","))))
    };
    try_texts(call.rows, |row, out| {
        if lists.is_null(row) {
            put(out, "{}");
            return Some(Ok(()));
        }
        Some(object(row).map(|json| put(out, &json)))
    })
}

fn percentile_type(arguments: &[Argument]) -> Result<LogicalType> {
    Ok(match &arguments[1].logical_type {
        T::Array(_) => T::Array(Box::new(LogicalField::nullable(T::Double))),
        _ => T::Double,
    })
}

/// `__percentile(multiset of numbers, or of rows of a number and how often it counts; one or several of 0.0 to 1.0)`; NULL of nothing.
fn percentile(call: &Call) -> Result<ArrayRef> {
    let (bags, wanted) = (call.array(0)?, call.array(1)?);
    let bags = bags
        .as_map_opt()
        .ok_or_else(|| internal_datafusion_err!("a PERCENTILE is of a multiset"))?;
    let values = Weighted::new(bags)?;
    let lists = wanted.as_list_opt::<i32>();
    let flat = match lists {
        Some(lists) => cast(lists.values(), &DataType::Float64)?,
        None => cast(&wanted, &DataType::Float64)?,
    };
    let flat = flat.as_primitive::<Float64Type>();
    let mut rows: Vec<Option<Vec<f64>>> = Vec::with_capacity(call.rows);
    for row in 0..call.rows {
        let places = match lists {
            Some(lists) if lists.is_null(row) => 0..0,
            Some(lists) => {
                lists.value_offsets()[row] as usize..lists.value_offsets()[row + 1] as usize
            }
            None => row..row + 1,
        };
        let mut wanted = Vec::with_capacity(places.len());
        for place in places {
            let share = flat.is_valid(place).then(|| flat.value(place));
            match share.filter(|share| (0.0..=1.0).contains(share)) {
                Some(share) => wanted.push(share),
                None => {
                    let given = share.map_or("NULL".to_owned(), |share| share.to_string());
                    return exec_err!(
                        "Percentage of PERCENTILE should be between [0.0, 1.0], but was '{given}'."
                    );
                }
            }
        }
        let of_row = bags
            .is_valid(row)
            .then(|| percentiles(values.of(bags, row), &wanted));
        rows.push(of_row.flatten().filter(|_| !wanted.is_empty()));
    }
    let DataType::List(item) = &call.returns else {
        let first = rows.into_iter().map(|row| row?.first().copied());
        return Ok(Arc::new(first.collect::<Float64Array>()));
    };
    let mut numbers = Float64Builder::new();
    rows.iter()
        .flatten()
        .for_each(|row| numbers.append_slice(row));
    let nulls: NullBuffer = rows.iter().map(Option::is_some).collect();
    let lengths = rows.iter().map(|row| row.as_ref().map_or(0, Vec::len));
    let offsets = OffsetBuffer::from_lengths(lengths);
    let numbers = Arc::new(numbers.finish());
    Ok(Arc::new(ListArray::try_new(
        Arc::clone(item),
        offsets,
        numbers,
        Some(nulls),
    )?))
}

/// The entries of multisets: a number, and how often it counts.
struct Weighted {
    numbers: Float64Array,
    weights: Option<arrow::array::Int64Array>,
}

impl Weighted {
    fn new(bags: &MapArray) -> Result<Self> {
        let keys = bags.keys();
        let Some(pairs) = keys.as_struct_opt() else {
            let numbers = cast(keys, &DataType::Float64)?;
            return Ok(Self {
                numbers: numbers.as_primitive().clone(),
                weights: None,
            });
        };
        let numbers = cast(pairs.column(0), &DataType::Float64)?;
        let weights = cast(pairs.column(1), &DataType::Int64)?;
        Ok(Self {
            numbers: numbers.as_primitive().clone(),
            weights: Some(weights.as_primitive::<Int64Type>().clone()),
        })
    }

    fn of(&self, bags: &MapArray, row: usize) -> Vec<(f64, i64)> {
        let counts = bags.values().as_primitive::<Int32Type>();
        let places = bags.value_offsets()[row] as usize..bags.value_offsets()[row + 1] as usize;
        let valued = places.filter(|place| self.numbers.is_valid(*place));
        let weighted = valued.filter_map(|place| {
            let weight = match &self.weights {
                None => 1,
                Some(weights) if weights.is_valid(place) => weights.value(place),
                Some(_) => return None,
            };
            let count = weight.saturating_mul(counts.value(place).into());
            (weight > 0 && count > 0).then(|| (self.numbers.value(place), count))
        });
        weighted.collect()
    }
}

/// Percentiles with linear interpolation between neighbours; `None` if there are no values.
fn percentiles(mut values: Vec<(f64, i64)>, wanted: &[f64]) -> Option<Vec<f64>> {
    values.sort_by(|a, b| a.0.total_cmp(&b.0));
    values.dedup_by(|next, kept| {
        let same = next.0.total_cmp(&kept.0).is_eq();
        kept.1 += if same { next.1 } else { 0 };
        same
    });
    let total: i64 = values.iter().map(|(_, count)| count).sum();
    if values.is_empty() {
        return None;
    }
    let at = |share: &f64| {
        // Places count from 1.
        let position = share * (total - 1) as f64 + 1.0;
        let (lower, higher) = (position.floor(), position.ceil());
        let (mut index, mut reached) = (0, values[0].1);
        while (reached as f64) < lower && index + 1 < values.len() {
            index += 1;
            reached += values[index].1;
        }
        let value = values[index].0;
        match values.get(index + 1) {
            Some((next, _)) if (reached as f64) < higher => {
                (higher - position) * value + (position - lower) * next
            }
            _ => value,
        }
    };
    Some(wanted.iter().map(at).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_lie_between_neighbours() {
        let values = vec![(3.0, 1), (1.0, 1), (7.0, 1), (3.0, 1), (2.0, 1)];
        let all = percentiles(values, &[0.0, 0.3, 0.5, 0.6, 1.0]).unwrap();
        assert_eq!(all, [1.0, 2.2, 3.0, 3.0, 7.0]);
        assert_eq!(
            percentiles(vec![(1.0, 3), (2.0, 1)], &[0.5, 0.9]).unwrap()[0],
            1.0
        );
        assert_eq!(percentiles(Vec::new(), &[0.5]), None);
    }
}
