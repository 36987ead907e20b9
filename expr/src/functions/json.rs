//! JSON functions over texts.
//!
//! A path says `strict` (also if it says nothing) or `lax`: where it leads to nothing, or where the text is no JSON, a strict one is an error
//! and a lax one is empty. The clauses ON ERROR and ON EMPTY, which the planner hands over as texts, say what comes out then.

use arrow::array::{Array, ArrayRef, AsArray, ListBuilder, StringBuilder};
use arrow::datatypes::DataType;
use datafusion_common::{Result, exec_datafusion_err, exec_err, plan_err};
use weir_dataflow::types::{LogicalField, LogicalType};

use super::call::{Call, Text, booleans, put, texts};
use super::function::Function;
use super::params::{Argument, Param, Returns};
use crate::cast::{OnError, cast_array};
use crate::coerce::types::STRING;
use crate::type_text;
use crate::value::json;
use crate::value::json_path::{Found, Path};

use LogicalType as T;

const ONE: &[Param] = &[Param::Text];
const TWO: &[Param] = &[Param::Text, Param::Text];
/// Text, path, type of the result, ON EMPTY, ON ERROR, and their defaults.
const VALUE: &[Param] = &[
    Param::Text,
    Param::Text,
    Param::Text,
    Param::Text,
    Param::Text,
    Param::Any,
    Param::Any,
];
/// Text, path, type of the result, wrapper, ON EMPTY, ON ERROR.
const QUERY: &[Param] = &[
    Param::Text,
    Param::Text,
    Param::Text,
    Param::Text,
    Param::Text,
    Param::Text,
];
/// Text, path, ON ERROR.
const EXISTS: &[Param] = &[Param::Text, Param::Text, Param::Text];

pub(super) fn functions() -> Vec<Function> {
    vec![
        Function::new("JSON_VALUE", VALUE, Returns::Rule(returning), value).optional(5),
        Function::new("JSON_QUERY", QUERY, Returns::Rule(returning), query).optional(4),
        Function::new("JSON_EXISTS", EXISTS, T::Boolean, exists).optional(1),
        Function::new("IS_JSON", TWO, T::Boolean, is_json)
            .optional(1)
            .never_null(),
        Function::new("JSON_QUOTE", ONE, STRING, quote).strict(),
        Function::new("JSON_UNQUOTE", ONE, STRING, unquote).strict(),
    ]
}

/// The type that RETURNING names.
fn returning(arguments: &[Argument]) -> Result<LogicalType> {
    let Some(argument) = arguments.get(2) else {
        return Ok(STRING);
    };
    match argument.text().and_then(type_text::parse) {
        Some(target) => Ok(target),
        None => plan_err!("RETURNING wants a type"),
    }
}

/// The path of each row; a literal one is read once.
enum Paths<'a> {
    One(Option<Path>),
    Many(Text<'a>),
}

impl<'a> Paths<'a> {
    fn new(text: Text<'a>) -> Self {
        if text.constant {
            Self::One(text.get(0).map(Path::parse))
        } else {
            Self::Many(text)
        }
    }

    fn with<R>(&self, row: usize, f: impl FnOnce(&Path) -> Option<R>) -> Option<R> {
        match self {
            Self::One(path) => f(path.as_ref()?),
            Self::Many(text) => f(&Path::parse(text.get(row)?)),
        }
    }
}

/// What a clause says: NULL, ERROR, DEFAULT, TRUE ...
fn clause<'a>(call: &'a Call, index: usize, default: &'a str) -> Result<&'a str> {
    if index < call.len() {
        call.literal(index)
    } else {
        Ok(default)
    }
}

/// What comes out of a row.
enum Outcome {
    Null,
    Value(String),
    Default(usize),
    Failure(&'static str),
}

/// A scalar; objects and arrays are an error, or, of a lax path, nothing.
fn value(call: &Call) -> Result<ArrayRef> {
    let text = call.text(0)?;
    let paths = Paths::new(call.text(1)?);
    let on_empty = clause(call, 3, "NULL")?;
    let on_error = clause(call, 4, "NULL")?;
    let target = type_text::parse(clause(call, 2, "STRING")?).unwrap_or(STRING);
    let outcome = |row: usize| -> Option<Outcome> {
        let text = text.get(row)?;
        paths.with(row, |path| {
            let found = path.find(text);
            if let Found::Value(part) = &found
                && !part.starts_with(['{', '['])
            {
                let scalar = match json::unquote(part) {
                    Some(text) => Outcome::Value(text),
                    None => Outcome::Value(json::number(part)),
                };
                return Some(match fits(&target, part) {
                    true => scalar,
                    false => Outcome::Failure("a value of JSON_VALUE is not of the type RETURNING"),
                });
            }
            let empty = found == Found::Empty || path.is_lax();
            Some(match if empty { on_empty } else { on_error } {
                "DEFAULT" => Outcome::Default(if empty { 5 } else { 6 }),
                "ERROR" if empty => Outcome::Failure("JSON_VALUE has found nothing"),
                "ERROR" => Outcome::Failure("JSON_VALUE has found no scalar"),
                _ => Outcome::Null,
            })
        })
    };
    let defaults = [default_texts(call, 5)?, default_texts(call, 6)?];
    let mut builder = StringBuilder::with_capacity(call.rows, call.rows * 8);
    for row in 0..call.rows {
        match outcome(row) {
            None | Some(Outcome::Null) => builder.append_null(),
            Some(Outcome::Value(text)) => builder.append_value(text),
            Some(Outcome::Default(index)) => {
                let texts = defaults[index - 5].as_ref();
                let texts = texts.map(|texts| texts.as_string::<i32>());
                // A default is a literal mostly: one value for all rows.
                builder.append_option(texts.and_then(|texts| {
                    let place = row % texts.len();
                    texts.is_valid(place).then(|| texts.value(place))
                }));
            }
            Some(Outcome::Failure(why)) => return exec_err!("{why}"),
        }
    }
    let texts: ArrayRef = std::sync::Arc::new(builder.finish());
    cast_array(&texts, &STRING, &target, OnError::Fail)
        .map_err(|error| exec_datafusion_err!("{error}"))
}

/// The values of DEFAULT ... as texts.
fn default_texts(call: &Call, index: usize) -> Result<Option<ArrayRef>> {
    if index >= call.len() || *call.data_type(index)? == DataType::Null {
        return Ok(None);
    }
    let (array, _) = call.raw(index)?;
    Ok(Some(arrow::compute::cast(array, &DataType::Utf8)?))
}

/// Flink converts nothing: an INT is a number without a fraction, a BOOLEAN is true or false.
fn fits(target: &LogicalType, part: &str) -> bool {
    match target {
        T::Boolean => part == "true" || part == "false",
        T::Int => part.parse::<i32>().is_ok(),
        T::Double => part.parse::<f64>().is_ok() && part.contains(['.', 'e', 'E']),
        _ => true,
    }
}

/// An object or array.
fn query(call: &Call) -> Result<ArrayRef> {
    let text = call.text(0)?;
    let paths = Paths::new(call.text(1)?);
    let target = type_text::parse(clause(call, 2, "STRING")?).unwrap_or(STRING);
    let wrapper = clause(call, 3, "WITHOUT")?;
    let on_empty = clause(call, 4, "NULL")?;
    let on_error = clause(call, 5, "NULL")?;
    let array = matches!(target, T::Array(_));
    let outcome = |row: usize| -> Option<Outcome> {
        let text = text.get(row)?;
        paths.with(row, |path| {
            let found = path.find(text);
            if let Found::Value(part) = &found {
                let wrap = match wrapper {
                    "UNCONDITIONAL" => true,
                    "CONDITIONAL" => !part.starts_with('['),
                    _ => false,
                };
                if wrap {
                    return Some(Outcome::Value(json::canonical(&format!("[{part}]"))));
                }
                if part.starts_with('[') || (part.starts_with('{') && !array) {
                    return Some(Outcome::Value(json::canonical(part)));
                }
            }
            let empty = found == Found::Empty || path.is_lax();
            Some(match if empty { on_empty } else { on_error } {
                "EMPTY ARRAY" => Outcome::Value("[]".to_owned()),
                "EMPTY OBJECT" => Outcome::Value("{}".to_owned()),
                "ERROR" if empty => Outcome::Failure("JSON_QUERY has found nothing"),
                "ERROR" => Outcome::Failure("JSON_QUERY has found no object and no array"),
                _ => Outcome::Null,
            })
        })
    };
    let outcomes = (0..call.rows).map(|row| match outcome(row) {
        Some(Outcome::Value(json)) => Ok(Some(json)),
        Some(Outcome::Failure(why)) => exec_err!("{why}"),
        _ => Ok(None),
    });
    if array {
        return text_lists(outcomes, &target);
    }
    let mut builder = StringBuilder::with_capacity(call.rows, call.rows * 16);
    for json in outcomes {
        builder.append_option(json?);
    }
    let texts: ArrayRef = std::sync::Arc::new(builder.finish());
    cast_array(&texts, &STRING, &target, OnError::Fail)
        .map_err(|error| exec_datafusion_err!("{error}"))
}

/// RETURNING ARRAY<STRING>: the elements as texts, strings without their quotes.
fn text_lists(
    outcomes: impl Iterator<Item = Result<Option<String>>>,
    target: &LogicalType,
) -> Result<ArrayRef> {
    let field = LogicalField::nullable(STRING).to_field("item");
    let mut builder = ListBuilder::new(StringBuilder::new()).with_field(field);
    for json in outcomes {
        let Some(json) = json? else {
            builder.append_null();
            continue;
        };
        for element in json::elements(&json).filter(|_| json.starts_with('[')) {
            match (element, json::unquote(element)) {
                ("null", _) => builder.values().append_null(),
                (_, Some(text)) => builder.values().append_value(text),
                (part, None) => builder.values().append_value(part),
            }
        }
        builder.append(true);
    }
    let lists: ArrayRef = std::sync::Arc::new(builder.finish());
    let texts = T::Array(Box::new(LogicalField::nullable(STRING)));
    cast_array(&lists, &texts, target, OnError::Fail)
        .map_err(|error| exec_datafusion_err!("{error}"))
}

fn exists(call: &Call) -> Result<ArrayRef> {
    let text = call.text(0)?;
    let paths = Paths::new(call.text(1)?);
    let on_error = match clause(call, 2, "FALSE")? {
        "TRUE" => Ok(Some(true)),
        "FALSE" => Ok(Some(false)),
        "UNKNOWN" => Ok(None),
        _ => Err(()),
    };
    let mut failed = false;
    let found = booleans(call.rows, |row| {
        let text = text.get(row)?;
        paths.with(row, |path| match (path.find(text), on_error) {
            (Found::Value(_), _) => Some(true),
            (Found::Empty, _) => Some(false),
            (Found::Error, Ok(value)) => value,
            (Found::Error, Err(())) => {
                failed = true;
                None
            }
        })
    })?;
    if failed {
        return exec_err!("JSON_EXISTS has an error, and its clause says ERROR ON ERROR");
    }
    Ok(found)
}

/// IS JSON [VALUE | SCALAR | OBJECT | ARRAY]: FALSE for NULL.
fn is_json(call: &Call) -> Result<ArrayRef> {
    let text = call.text(0)?;
    let kind = clause(call, 1, "VALUE")?;
    booleans(call.rows, |row| {
        let value = text.get(row).and_then(json::first_value);
        Some(value.is_some_and(|value| match kind {
            "SCALAR" => !value.starts_with(['{', '[']),
            "OBJECT" => value.starts_with('{'),
            "ARRAY" => value.starts_with('['),
            _ => true,
        }))
    })
}

/// Quotes, with an escape before a slash, and writes what is not ASCII with its code.
fn quote(call: &Call) -> Result<ArrayRef> {
    let text = call.text(0)?;
    texts(call.rows, |row, out| {
        for c in json::quote(text.get(row)?).chars() {
            if c == '/' {
                put(out, "\\/");
            } else if c.is_ascii() {
                put(out, c.encode_utf8(&mut [0; 4]));
            } else {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    put(out, &format!("\\u{unit:04x}"));
                }
            }
        }
        Some(())
    })
}

/// What is not in quotes, or has an escape that is none, stays as it is.
fn unquote(call: &Call) -> Result<ArrayRef> {
    let text = call.text(0)?;
    texts(call.rows, |row, out| {
        let text = text.get(row)?;
        let quoted = text
            .strip_prefix('"')
            .and_then(|text| text.strip_suffix('"'));
        let inner = quoted.and_then(json::unescape);
        put(out, inner.as_deref().unwrap_or(text));
        Some(())
    })
}

#[cfg(test)]
mod tests {
    use crate::coerce::types::STRING;
    use crate::testing::*;

    const JSON: &str =
        "{\"a\": {\"b\": [1, 2]}, \"c\": true, \"d\": \"x\", \"n\": null, \"e\": 1.50}";

    #[test]
    fn json_texts() {
        check(vec![
            ("JSON_VALUE", args![JSON, "$.c"], "true"),
            ("JSON_VALUE", args![JSON, "$.d"], "x"),
            ("JSON_VALUE", args![JSON, "$.e"], "1.50"),
            ("JSON_VALUE", args![JSON, "$.a.b[1]"], "2"),
            ("JSON_VALUE", args![JSON, "$.a"], "NULL"),
            ("JSON_VALUE", args![JSON, "$.n"], "NULL"),
            ("JSON_VALUE", args![JSON, "$.zz"], "NULL"),
            ("JSON_VALUE", args!["no json", "$.a"], "NULL"),
            ("JSON_VALUE", args![null(STRING), "$.a"], "NULL"),
            ("JSON_VALUE", args![JSON, lit("a.b")], "NULL"),
            ("JSON_QUERY", args![JSON, "$.a"], "{\"b\":[1,2]}"),
            ("JSON_QUERY", args![JSON, "$.a.b"], "[1,2]"),
            ("JSON_QUERY", args![JSON, "$.c"], "NULL"),
            ("JSON_QUERY", args![JSON, "$.a.b[*]"], "[1,2]"),
            ("JSON_EXISTS", args![JSON, "$.a.b"], "TRUE"),
            ("JSON_EXISTS", args![JSON, "$.x"], "FALSE"),
            ("IS_JSON", args![JSON], "TRUE"),
            ("IS_JSON", args!["{"], "FALSE"),
            ("IS_JSON", args!["[1]", lit("ARRAY")], "TRUE"),
            ("JSON_QUOTE", args!["≠ \" x/"], "\"\\u2260 \\\" x\\/\""),
            ("JSON_UNQUOTE", args!["\"[\\u0041]\""], "[A]"),
            ("JSON_UNQUOTE", args!["[}"], "[}"),
            ("JSON_UNQUOTE", args!["\"\"\""], "\""),
            ("JSON_UNQUOTE", args!["\""], "\""),
            ("JSON_UNQUOTE", args!["\"\\uzzzz\""], "\"\\uzzzz\""),
        ]);
    }

    #[test]
    fn clauses() {
        let int = || lit("INT");
        let text = || lit("STRING");
        check(vec![
            ("JSON_VALUE", args!["{\"a\": 7}", "$.a", int()], "7"),
            ("JSON_VALUE", args!["{\"a\": \"7\"}", "$.a", int()], "ERROR"),
            (
                "JSON_VALUE",
                args!["{}", "lax $.a", int(), lit("DEFAULT"), lit("NULL"), 5],
                "5",
            ),
            (
                "JSON_VALUE",
                args!["{}", "$.a", text(), lit("NULL"), lit("DEFAULT"), "e", "x"],
                "x",
            ),
            (
                "JSON_VALUE",
                args!["{}", "$.a", text(), lit("NULL"), lit("ERROR")],
                "ERROR",
            ),
            (
                "JSON_QUERY",
                args!["{\"a\": 7}", "$.a", text(), lit("CONDITIONAL")],
                "[7]",
            ),
            (
                "JSON_QUERY",
                args!["{\"a\": [7]}", "$.a", text(), lit("CONDITIONAL")],
                "[7]",
            ),
            (
                "JSON_QUERY",
                args!["{\"a\": [7]}", "$.a", text(), lit("UNCONDITIONAL")],
                "[[7]]",
            ),
            (
                "JSON_QUERY",
                args!["{\"a\": [\"b\", null]}", "$.a", lit("ARRAY<STRING>")],
                "[b, NULL]",
            ),
            (
                "JSON_QUERY",
                args![
                    "{}",
                    "$.a",
                    text(),
                    lit("WITHOUT"),
                    lit("NULL"),
                    lit("EMPTY ARRAY")
                ],
                "[]",
            ),
            ("JSON_EXISTS", args!["{}", "$.a", lit("UNKNOWN")], "NULL"),
            ("JSON_EXISTS", args!["{}", "$.a", lit("ERROR")], "ERROR"),
            ("JSON_EXISTS", args!["{}", "lax $.a", lit("TRUE")], "FALSE"),
        ]);
    }
}
