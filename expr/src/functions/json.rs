//! JSON functions over texts. A text that is no JSON, and a path that leads to nothing, give NULL, as Flink's ON EMPTY and ON ERROR
//! defaults do.

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Field};
use datafusion_common::{Result, exec_err, internal_datafusion_err};
use weir_dataflow::types::LogicalType;

use super::call::{Call, Text, booleans, put, texts};
use super::function::Function;
use super::json_write;
use super::params::Param;
use crate::coerce::types::STRING;
use crate::value::json::{self, Path};

use LogicalType as T;

const ONE: &[Param] = &[Param::Text];
const TWO: &[Param] = &[Param::Text, Param::Text];

pub(super) fn functions() -> Vec<Function> {
    vec![
        Function::new("JSON_VALUE", TWO, STRING, value),
        Function::new("JSON_QUERY", TWO, STRING, query),
        Function::new("JSON_EXISTS", TWO, T::Boolean, exists),
        Function::new("IS_JSON", ONE, T::Boolean, is_json),
        Function::new("JSON_QUOTE", ONE, STRING, quote).strict(),
        Function::new("JSON_UNQUOTE", ONE, STRING, unquote).strict(),
        Function::new("JSON_STRING", &[Param::Any], STRING, string),
    ]
}

/// The path of each row; a literal one is read once and must be right.
enum Paths<'a> {
    One(Option<Path>),
    Many(Text<'a>),
}

impl<'a> Paths<'a> {
    fn new(text: Text<'a>) -> Result<Self> {
        if !text.constant {
            return Ok(Self::Many(text));
        }
        let Some(source) = text.get(0) else {
            return Ok(Self::One(None));
        };
        match Path::parse(source) {
            Some(path) => Ok(Self::One(Some(path))),
            None => {
                exec_err!("'{source}' is no JSON path that is supported; write it like '$.a.b[0]'")
            }
        }
    }

    fn with<R>(&self, row: usize, f: impl FnOnce(&Path) -> Option<R>) -> Option<R> {
        match self {
            Self::One(path) => f(path.as_ref()?),
            Self::Many(text) => f(&Path::parse(text.get(row)?)?),
        }
    }
}

/// A scalar as a text; NULL for an object or array.
fn value(call: &Call) -> Result<ArrayRef> {
    let text = call.text(0)?;
    let paths = Paths::new(call.text(1)?)?;
    texts(call.rows, |row, out| {
        let text = text.get(row)?;
        paths.with(row, |path| {
            if !json::is_valid(text) {
                return None;
            }
            let [part] = path.find(text)[..] else {
                return None;
            };
            match part.as_bytes().first()? {
                b'{' | b'[' | b'n' => None,
                b'"' => {
                    put(out, &json::unquote(part)?);
                    Some(())
                }
                _ => {
                    put(out, part);
                    Some(())
                }
            }
        })
    })
}

/// An object or array; NULL for a scalar.
fn query(call: &Call) -> Result<ArrayRef> {
    let text = call.text(0)?;
    let paths = Paths::new(call.text(1)?)?;
    texts(call.rows, |row, out| {
        let text = text.get(row)?;
        paths.with(row, |path| {
            if !json::is_valid(text) {
                return None;
            }
            let found = path.find(text);
            if path.is_indefinite() {
                let parts: Vec<String> = found.into_iter().map(json::compact).collect();
                put(out, &format!("[{}]", parts.join(",")));
                return Some(());
            }
            let part = *found.first()?;
            if !part.starts_with(['{', '[']) {
                return None;
            }
            put(out, &json::compact(part));
            Some(())
        })
    })
}

fn exists(call: &Call) -> Result<ArrayRef> {
    let text = call.text(0)?;
    let paths = Paths::new(call.text(1)?)?;
    booleans(call.rows, |row| {
        let text = text.get(row)?;
        paths.with(row, |path| {
            Some(json::is_valid(text) && !path.find(text).is_empty())
        })
    })
}

/// FALSE for NULL.
fn is_json(call: &Call) -> Result<ArrayRef> {
    let text = call.text(0)?;
    booleans(call.rows, |row| {
        Some(text.get(row).is_some_and(json::is_valid))
    })
}

/// Quotes, and writes what is not ASCII with its code.
fn quote(call: &Call) -> Result<ArrayRef> {
    let text = call.text(0)?;
    texts(call.rows, |row, out| {
        for c in json::quote(text.get(row)?).chars() {
            if c.is_ascii() {
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

/// Any value as JSON; NULL for NULL.
fn string(call: &Call) -> Result<ArrayRef> {
    let array = call.array(0)?;
    if matches!(array.data_type(), DataType::Null) {
        return texts(call.rows, |_, _| None);
    }
    let logical_type = LogicalType::from_field(&Field::new("", array.data_type().clone(), true))
        .ok_or_else(|| internal_datafusion_err!("{} is no SQL type", array.data_type()))?;
    let write = json_write::writer(array.as_ref(), &logical_type)?;
    texts(call.rows, |row, out| {
        if array.is_null(row) {
            return None;
        }
        let mut text = String::new();
        write(row, &mut text);
        put(out, &text);
        Some(())
    })
}

#[cfg(test)]
mod tests {
    use crate::coerce::types::STRING;
    use crate::testing::*;

    #[test]
    fn json_texts() {
        check(vec![
            (
                "JSON_VALUE",
                args![
                    "{\"a\": {\"b\": [1, 2]}, \"c\": true, \"d\": \"x\", \"n\": null}",
                    "$.c"
                ],
                "true",
            ),
            (
                "JSON_VALUE",
                args![
                    "{\"a\": {\"b\": [1, 2]}, \"c\": true, \"d\": \"x\", \"n\": null}",
                    "$.d"
                ],
                "x",
            ),
            (
                "JSON_VALUE",
                args![
                    "{\"a\": {\"b\": [1, 2]}, \"c\": true, \"d\": \"x\", \"n\": null}",
                    "$.a.b[1]"
                ],
                "2",
            ),
            (
                "JSON_VALUE",
                args![
                    "{\"a\": {\"b\": [1, 2]}, \"c\": true, \"d\": \"x\", \"n\": null}",
                    "$.a"
                ],
                "NULL",
            ),
            (
                "JSON_VALUE",
                args![
                    "{\"a\": {\"b\": [1, 2]}, \"c\": true, \"d\": \"x\", \"n\": null}",
                    "$.n"
                ],
                "NULL",
            ),
            (
                "JSON_VALUE",
                args![
                    "{\"a\": {\"b\": [1, 2]}, \"c\": true, \"d\": \"x\", \"n\": null}",
                    "$.zz"
                ],
                "NULL",
            ),
            ("JSON_VALUE", args!["no json", "$.a"], "NULL"),
            ("JSON_VALUE", args![null(STRING), "$.a"], "NULL"),
            (
                "JSON_VALUE",
                args![
                    "{\"a\": {\"b\": [1, 2]}, \"c\": true, \"d\": \"x\", \"n\": null}",
                    lit("a.b")
                ],
                "ERROR",
            ),
            (
                "JSON_QUERY",
                args![
                    "{\"a\": {\"b\": [1, 2]}, \"c\": true, \"d\": \"x\", \"n\": null}",
                    "$.a"
                ],
                "{\"b\":[1,2]}",
            ),
            (
                "JSON_QUERY",
                args![
                    "{\"a\": {\"b\": [1, 2]}, \"c\": true, \"d\": \"x\", \"n\": null}",
                    "$.a.b"
                ],
                "[1,2]",
            ),
            (
                "JSON_QUERY",
                args![
                    "{\"a\": {\"b\": [1, 2]}, \"c\": true, \"d\": \"x\", \"n\": null}",
                    "$.c"
                ],
                "NULL",
            ),
            (
                "JSON_QUERY",
                args![
                    "{\"a\": {\"b\": [1, 2]}, \"c\": true, \"d\": \"x\", \"n\": null}",
                    "$.a.b[*]"
                ],
                "[1,2]",
            ),
            (
                "JSON_EXISTS",
                args![
                    "{\"a\": {\"b\": [1, 2]}, \"c\": true, \"d\": \"x\", \"n\": null}",
                    "$.a.b"
                ],
                "TRUE",
            ),
            (
                "JSON_EXISTS",
                args![
                    "{\"a\": {\"b\": [1, 2]}, \"c\": true, \"d\": \"x\", \"n\": null}",
                    "$.x"
                ],
                "FALSE",
            ),
            (
                "IS_JSON",
                args!["{\"a\": {\"b\": [1, 2]}, \"c\": true, \"d\": \"x\", \"n\": null}"],
                "TRUE",
            ),
            ("IS_JSON", args!["{"], "FALSE"),
            ("JSON_QUOTE", args!["≠ \" x"], "\"\\u2260 \\\" x\""),
            ("JSON_UNQUOTE", args!["\"[\\u0041]\""], "[A]"),
            ("JSON_UNQUOTE", args!["[}"], "[}"),
            ("JSON_UNQUOTE", args!["\"\"\""], "\""),
            ("JSON_UNQUOTE", args!["\""], "\""),
            ("JSON_UNQUOTE", args!["\"\\uzzzz\""], "\"\\uzzzz\""),
            ("JSON_STRING", args!["a\"b"], "\"a\\\"b\""),
            ("JSON_STRING", args![texts(&["a", "NULL"])], "[\"a\",null]"),
            ("JSON_STRING", args![1.5], "1.5"),
            ("JSON_STRING", args![true], "true"),
        ]);
    }
}
