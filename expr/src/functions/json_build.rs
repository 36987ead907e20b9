//! JSON_STRING, JSON_OBJECT and JSON_ARRAY: JSON made of SQL values. The keys of objects come out in order, as Flink writes them.

use arrow::array::{Array, ArrayRef};
use arrow::datatypes::{DataType, Field};
use datafusion_common::{Result, exec_err, internal_datafusion_err, plan_err};
use weir_dataflow::types::LogicalType;

use super::call::{Call, put, texts, try_texts};
use super::function::Function;
use super::json_write::{self, Writer};
use super::params::{Argument, Param, Returns};
use crate::coerce::types::{STRING, is_text};
use crate::value::json;

/// The first argument says what becomes of NULLs ("NULL" or "ABSENT"), a blank, and for each value 'j' if its text is JSON already, else 'v'.
const PARTS: &[Param] = &[Param::Text, Param::Any];

pub(super) fn functions() -> Vec<Function> {
    vec![
        Function::new(
            "JSON_STRING",
            &[Param::Any],
            Returns::Rule(any_json),
            string,
        )
        .strict(),
        Function::new("JSON_OBJECT", PARTS, Returns::Rule(object_json), object)
            .optional(1)
            .variadic()
            .never_null(),
        Function::new("JSON_ARRAY", PARTS, Returns::Rule(array_json), array)
            .optional(1)
            .variadic()
            .never_null(),
    ]
}

fn any_json(arguments: &[Argument]) -> Result<LogicalType> {
    for argument in arguments {
        json_write::check(&argument.logical_type)?;
    }
    Ok(STRING)
}

fn array_json(arguments: &[Argument]) -> Result<LogicalType> {
    any_json(arguments.get(1..).unwrap_or_default())
}

fn object_json(arguments: &[Argument]) -> Result<LogicalType> {
    for key in arguments.iter().skip(1).step_by(2) {
        if !is_text(&key.logical_type) {
            return plan_err!("a key of JSON_OBJECT is a text, not {}", key.logical_type);
        }
        if key
            .literal
            .is_some_and(datafusion_common::ScalarValue::is_null)
        {
            return plan_err!("a key of JSON_OBJECT must not be NULL");
        }
    }
    let values: Vec<Argument> = arguments.iter().skip(2).step_by(2).cloned().collect();
    any_json(&values)
}

/// A value as JSON; NULL for NULL.
fn string(call: &Call) -> Result<ArrayRef> {
    let array = call.array(0)?;
    if *array.data_type() == DataType::Null {
        return texts(call.rows, |_, _| None);
    }
    let write = writer(&array)?;
    texts(call.rows, |row, out| {
        if array.is_null(row) {
            return None;
        }
        let mut text = String::new();
        write(row, &mut text);
        put(out, &json::canonical(&text));
        Some(())
    })
}

fn writer(array: &ArrayRef) -> Result<Writer> {
    let logical_type = LogicalType::from_field(&Field::new("", array.data_type().clone(), true))
        .ok_or_else(|| internal_datafusion_err!("{} is no SQL type", array.data_type()))?;
    json_write::writer(array.as_ref(), &logical_type)
}

/// The values among the arguments, with what the first argument says of them.
struct Values {
    absent_on_null: bool,
    values: Vec<(ArrayRef, Part)>,
}

/// How a value gets into the text.
enum Part {
    Written(Writer),
    /// It is JSON already.
    Json,
}

impl Values {
    fn new(call: &Call, places: impl Iterator<Item = usize>) -> Result<Self> {
        let spec = call.literal(0)?;
        let (on_null, parts) = spec.split_once(' ').unwrap_or((spec, ""));
        let mut values = Vec::new();
        for (place, part) in places.zip(parts.chars()) {
            let array = call.array(place)?;
            let part = match part {
                'j' => Part::Json,
                _ => Part::Written(writer(&array)?),
            };
            values.push((array, part));
        }
        Ok(Self {
            absent_on_null: on_null == "ABSENT",
            values,
        })
    }

    /// The JSON of a value; `None` if it is to be left out.
    fn json(&self, index: usize, row: usize) -> Result<Option<String>> {
        let (array, part) = &self.values[index];
        if array.is_null(row) || *array.data_type() == DataType::Null {
            return Ok((!self.absent_on_null).then(|| "null".to_owned()));
        }
        let mut text = String::new();
        match part {
            Part::Written(write) => write(row, &mut text),
            Part::Json => {
                let given = arrow::array::AsArray::as_string::<i32>(array).value(row);
                match json::first_value(given) {
                    Some(value) => text.push_str(value),
                    None if given.trim().is_empty() => text.push_str("null"),
                    None => return exec_err!("JSON() got '{given}', which is no JSON"),
                }
            }
        }
        Ok(Some(text))
    }
}

fn object(call: &Call) -> Result<ArrayRef> {
    let pairs = call.len().saturating_sub(1) / 2;
    let values = Values::new(call, (0..pairs).map(|pair| 2 + 2 * pair))?;
    let keys = (0..pairs)
        .map(|pair| call.text(1 + 2 * pair))
        .collect::<Result<Vec<_>>>()?;
    let members = |row: usize| -> Result<String> {
        let mut members = Vec::with_capacity(pairs);
        for (index, key) in keys.iter().enumerate() {
            let Some(key) = key.get(row) else {
                return exec_err!("a key of JSON_OBJECT is NULL");
            };
            if let Some(value) = values.json(index, row)? {
                members.push(format!("{}:{value}", json::quote(key)));
            }
        }
        Ok(json::canonical(&format!("{{{}}}", members.join(","))))
    };
    try_texts(call.rows, |row, out| {
        Some(members(row).map(|json| put(out, &json)))
    })
}

fn array(call: &Call) -> Result<ArrayRef> {
    let values = Values::new(call, 1..call.len())?;
    let elements = |row: usize| -> Result<String> {
        let mut elements = Vec::with_capacity(values.values.len());
        for index in 0..values.values.len() {
            elements.extend(values.json(index, row)?);
        }
        Ok(json::canonical(&format!("[{}]", elements.join(","))))
    };
    try_texts(call.rows, |row, out| {
        Some(elements(row).map(|json| put(out, &json)))
    })
}

#[cfg(test)]
mod tests {
    use weir_dataflow::types::LogicalType as T;

    use crate::coerce::types::STRING;
    use crate::testing::*;

    #[test]
    fn values_as_json() {
        check(vec![
            ("JSON_STRING", args!["a\"b"], "\"a\\\"b\""),
            ("JSON_STRING", args![texts(&["a", "NULL"])], "[\"a\",null]"),
            ("JSON_STRING", args![1.5], "1.5"),
            ("JSON_STRING", args![1e10], "1.0E+10"),
            ("JSON_STRING", args![true], "true"),
            ("JSON_STRING", args![null(T::Int)], "NULL"),
            (
                "JSON_STRING",
                args![ts("2020-01-01 10:00:00.120")],
                "\"2020-01-01T10:00:00.12\"",
            ),
            (
                "JSON_STRING",
                args![of("2020-01-01 10:00:00", T::TimestampLtz(3))],
                "\"2020-01-01T10:00:00Z\"",
            ),
            ("JSON_STRING", args![date("2020-01-01")], "ERROR"),
        ]);
    }

    #[test]
    fn objects_and_arrays() {
        check(vec![
            ("JSON_OBJECT", args![lit("NULL ")], "{}"),
            (
                "JSON_OBJECT",
                args![lit("NULL vv"), lit("b"), 1, lit("a"), null(STRING)],
                "{\"a\":null,\"b\":1}",
            ),
            (
                "JSON_OBJECT",
                args![
                    lit("ABSENT vj"),
                    lit("b"),
                    null(T::Int),
                    lit("a"),
                    "{\"x\": 1} y"
                ],
                "{\"a\":{\"x\":1}}",
            ),
            ("JSON_OBJECT", args![lit("NULL v"), 1, 1], "ERROR"),
            ("JSON_OBJECT", args![lit("NULL j"), lit("a"), "x"], "ERROR"),
            (
                "JSON_ARRAY",
                args![lit("ABSENT vvj"), "a", null(T::Int), "[2]"],
                "[\"a\",[2]]",
            ),
            ("JSON_ARRAY", args![lit("NULL v"), null(T::Int)], "[null]"),
        ]);
    }
}
