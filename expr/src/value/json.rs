//! JSON texts: their parts without building a tree, their canonical form, and quoting.
//!
//! Parts are slices of the text, so numbers stay as they are written; serde_json's tree rounds them. Its `RawValue` would not, but needs a
//! feature that changes its build for everyone. The text is validated by serde_json before it is walked here.

use std::collections::BTreeMap;

use serde::de::IgnoredAny;

use super::decimal;

/// Whether the text starts with a JSON value. What stands behind the value does not matter, as in Flink.
pub(crate) fn is_valid(text: &str) -> bool {
    first_value(text).is_some()
}

/// The JSON value at the start of the text.
pub(crate) fn first_value(text: &str) -> Option<&str> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<IgnoredAny>();
    values.next()?.ok()?;
    Some(text.get(..values.byte_offset())?.trim())
}

/// Keys (still quoted) and values of an object.
pub(crate) fn members(json: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = json.get(1..).unwrap_or("");
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches([' ', '\t', '\n', '\r', ',']);
        if !rest.starts_with('"') {
            return None;
        }
        let (key, behind) = rest.split_at(value_end(rest));
        let behind = behind.trim_start().strip_prefix(':')?.trim_start();
        let (value, behind) = behind.split_at(value_end(behind));
        rest = behind;
        Some((key, value))
    })
}

/// Elements of an array.
pub(crate) fn elements(json: &str) -> impl Iterator<Item = &str> {
    let mut rest = json.get(1..).unwrap_or("");
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches([' ', '\t', '\n', '\r', ',']);
        if rest.is_empty() || rest.starts_with(']') {
            return None;
        }
        let (value, behind) = rest.split_at(value_end(rest));
        rest = behind;
        Some(value)
    })
}

/// Where the value at the start of the text ends.
fn value_end(text: &str) -> usize {
    let bytes = text.as_bytes();
    let (mut depth, mut in_string, mut at) = (0usize, false, 0);
    while at < bytes.len() {
        match bytes[at] {
            b'\\' if in_string => at += 1,
            b'"' => {
                in_string = !in_string;
                if !in_string && depth == 0 {
                    return at + 1;
                }
            }
            b'{' | b'[' if !in_string => depth += 1,
            b'}' | b']' if !in_string => {
                if depth == 0 {
                    return at;
                }
                depth -= 1;
                if depth == 0 {
                    return at + 1;
                }
            }
            b',' | b' ' | b'\t' | b'\n' | b'\r' if !in_string && depth == 0 => return at,
            _ => {}
        }
        at += 1;
    }
    bytes.len()
}

/// The characters of a quoted string; `None` if it is none.
pub(crate) fn unquote(json: &str) -> Option<String> {
    serde_json::from_str(json).ok()
}

/// What stands between the quotes of a string; quotes in it may stand alone, as Flink lets them.
pub(crate) fn unescape(inner: &str) -> Option<String> {
    let mut strict = String::with_capacity(inner.len() + 2);
    let mut escaped = false;
    strict.push('"');
    for c in inner.chars() {
        if c == '"' && !escaped {
            strict.push('\\');
        }
        escaped = c == '\\' && !escaped;
        strict.push(c);
    }
    strict.push('"');
    unquote(&strict)
}

/// A string as JSON.
pub(crate) fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// As Flink writes JSON that it has read: without blanks, the keys of objects in order, numbers with a fraction or an exponent as Java's
/// BigDecimal prints them.
pub(crate) fn canonical(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    write_canonical(json, &mut out);
    out
}

fn write_canonical(json: &str, out: &mut String) {
    let comma = |first: &mut bool, out: &mut String| {
        if !std::mem::take(first) {
            out.push(',');
        }
    };
    let mut first = true;
    match json.as_bytes().first() {
        Some(b'{') => {
            let sorted: BTreeMap<String, &str> = members(json)
                .filter_map(|(key, value)| Some((unquote(key)?, value)))
                .collect();
            out.push('{');
            for (key, value) in sorted {
                comma(&mut first, out);
                out.push_str(&quote(&key));
                out.push(':');
                write_canonical(value, out);
            }
            out.push('}');
        }
        Some(b'[') => {
            out.push('[');
            for value in elements(json) {
                comma(&mut first, out);
                write_canonical(value, out);
            }
            out.push(']');
        }
        Some(b'"') => match unquote(json) {
            Some(text) => out.push_str(&quote(&text)),
            None => out.push_str(json),
        },
        _ => out.push_str(&number(json)),
    }
}

/// A number, or true, false and null, which stay as they are.
pub(crate) fn number(json: &str) -> String {
    if json
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'-')
        || json.starts_with(['t', 'f', 'n'])
    {
        return json.to_owned();
    }
    decimal::java_text(json).unwrap_or_else(|| json.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_forms() {
        for (json, expected) in [
            (
                "{ \"b\" : [1, 2 ], \"a\":null }",
                "{\"a\":null,\"b\":[1,2]}",
            ),
            (r#"{"a": "x\" \/\u00e9"}"#, r#"{"a":"x\" /é"}"#),
            (
                "[1e3, 1.10, 1E-10, -0.0, 1e400]",
                "[1E+3,1.10,1E-10,0.0,1E+400]",
            ),
        ] {
            assert_eq!(canonical(json), expected);
        }
    }

    #[test]
    fn a_text_may_go_on_behind_its_value() {
        assert_eq!(first_value(" {\"a\": 1} x"), Some("{\"a\": 1}"));
        assert_eq!(first_value("1 2"), Some("1"));
        for text in ["", "x", "01", "{\"a\":1", "{a:1}"] {
            assert_eq!(first_value(text), None, "{text}");
        }
    }
}
