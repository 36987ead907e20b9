//! Regular expressions in Java's dialect, as far as linear-time matching goes: no look-around, no back references.

use std::cell::RefCell;
use std::num::NonZeroUsize;
use std::sync::Arc;

use arrow::array::{ArrayRef, ListBuilder, StringBuilder};
use arrow::datatypes::{DataType, Int32Type};
use datafusion_common::{Result, exec_err, internal_err};
use lru::LruCache;
use regex::{NoExpand, Regex};
use weir_dataflow::types::{LogicalField, LogicalType};

use super::call::{Call, Text, booleans, numbers, put, texts};
use super::function::Function;
use super::params::Param;
use super::string::length;
use crate::coerce::types::STRING;

use LogicalType as T;

const TWO: &[Param] = &[Param::Text, Param::Text];
const THREE: &[Param] = &[Param::Text, Param::Text, Param::Text];
const EXTRACT: &[Param] = &[Param::Text, Param::Text, Param::Int];

pub(super) fn functions() -> Vec<Function> {
    let list = T::Array(Box::new(LogicalField::nullable(STRING)));
    vec![
        Function::new("REGEXP", TWO, T::Boolean, regexp),
        Function::new("REGEXP_EXTRACT", EXTRACT, STRING, extract).optional(1),
        Function::new("REGEXP_EXTRACT_ALL", EXTRACT, list, extract_all).optional(1),
        Function::new("REGEXP_REPLACE", THREE, STRING, replace),
        Function::new("REGEXP_COUNT", TWO, T::Int, count),
        Function::new("REGEXP_INSTR", TWO, T::Int, instr),
        Function::new("REGEXP_SUBSTR", TWO, STRING, substr),
    ]
}

const CACHED: NonZeroUsize = match NonZeroUsize::new(64) {
    Some(size) => size,
    None => NonZeroUsize::MIN,
};

thread_local! {
    static PATTERNS: RefCell<LruCache<String, Option<Regex>>> = RefCell::new(LruCache::new(CACHED));
}

/// The compiled pattern, `None` if it is none. Kept for later calls on this thread.
pub(super) fn compile(pattern: &str) -> Option<Regex> {
    PATTERNS.with_borrow_mut(|patterns| {
        if let Some(known) = patterns.get(pattern) {
            return known.clone();
        }
        let compiled = Regex::new(&from_java(pattern)).ok();
        patterns.put(pattern.to_owned(), compiled.clone());
        compiled
    })
}

/// A pattern that Java takes and that can't be matched in linear time.
fn needs_backtracking(pattern: &str) -> bool {
    let around = ["(?=", "(?!", "(?<=", "(?<!"];
    let reference = |pair: &[u8]| pair[0] == b'\\' && (b'1'..=b'9').contains(&pair[1]);
    around.iter().any(|start| pattern.contains(start))
        || pattern.as_bytes().windows(2).any(reference)
}

/// What Java reads otherwise: its classes are ASCII, `\<` is a character, `\Q...\E` quotes.
pub(super) fn from_java(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len() + 8);
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('d') => out.push_str("[0-9]"),
            Some('D') => out.push_str("[^0-9]"),
            Some('w') => out.push_str("[a-zA-Z0-9_]"),
            Some('W') => out.push_str("[^a-zA-Z0-9_]"),
            Some('s') => out.push_str("[ \\t\\n\\x0B\\f\\r]"),
            Some('S') => out.push_str("[^ \\t\\n\\x0B\\f\\r]"),
            Some('b') => out.push_str("(?-u:\\b)"),
            Some('h') => out.push_str("[ \\t]"),
            Some('Z') => out.push_str("\\n?\\z"),
            Some('<') => out.push('<'),
            Some('>') => out.push('>'),
            Some('Q') => {
                let rest = chars.as_str();
                let (quoted, after) = rest.split_once("\\E").unwrap_or((rest, ""));
                out.push_str(&regex::escape(quoted));
                chars = after.chars();
            }
            Some('p') if chars.as_str().starts_with("{Alpha}") => {
                out.push_str("[a-zA-Z]");
                chars = chars.as_str()["{Alpha}".len()..].chars();
            }
            Some('p') if chars.as_str().starts_with("{Punct}") => {
                out.push_str("[[:punct:]]");
                chars = chars.as_str()["{Punct}".len()..].chars();
            }
            Some(other) => {
                out.push('\\');
                out.push(other);
            }
            None => out.push('\\'),
        }
    }
    out
}

/// The pattern of each row; a literal one is compiled once. What is no pattern is like NULL, as in Flink.
enum Patterns<'a> {
    One(Option<Regex>),
    Many(Text<'a>),
}

impl<'a> Patterns<'a> {
    fn new(text: Text<'a>) -> Result<Self> {
        if !text.constant {
            return Ok(Self::Many(text));
        }
        let Some(pattern) = text.get(0) else {
            return Ok(Self::One(None));
        };
        let compiled = compile(pattern);
        if compiled.is_none() && needs_backtracking(pattern) {
            return exec_err!(
                "the regular expression '{pattern}' has what is not supported: look-around or back references"
            );
        }
        Ok(Self::One(compiled))
    }

    /// Calls `f` with the row's pattern; `None` if it is NULL or no pattern.
    fn with<R>(&self, row: usize, f: impl FnOnce(&Regex) -> Option<R>) -> Option<R> {
        match self {
            Self::One(regex) => f(regex.as_ref()?),
            Self::Many(text) => f(&compile(text.get(row)?)?),
        }
    }
}

/// FALSE for the empty pattern.
fn regexp(call: &Call) -> Result<ArrayRef> {
    let (text, source) = (call.text(0)?, call.text(1)?);
    let patterns = Patterns::new(source)?;
    booleans(call.rows, |row| {
        let (text, pattern) = (text.get(row)?, source.get(row)?);
        if pattern.is_empty() {
            return Some(false);
        }
        Some(
            patterns
                .with(row, |regex| Some(regex.is_match(text)))
                .unwrap_or(false),
        )
    })
}

/// The first match, or a group of it; NULL if there is none.
fn extract(call: &Call) -> Result<ArrayRef> {
    let text = call.text(0)?;
    let patterns = Patterns::new(call.text(1)?)?;
    let group = call.optional::<Int32Type>(2)?;
    let mut places = match &patterns {
        Patterns::One(Some(regex)) => Some(regex.capture_locations()),
        _ => None,
    };
    texts(call.rows, |row, out| {
        let text = text.get(row)?;
        let group = match &group {
            Some(group) => usize::try_from(group.get(row)?).ok()?,
            None => 0,
        };
        patterns.with(row, |regex| {
            let (start, end) = if group == 0 {
                let found = regex.find(text)?;
                (found.start(), found.end())
            } else if let Some(places) = &mut places {
                regex.captures_read(places, text)?;
                places.get(group)?
            } else {
                let found = regex.captures(text)?.get(group)?;
                (found.start(), found.end())
            };
            put(out, &text[start..end]);
            Some(())
        })
    })
}

/// That group (the first, if none is named) of all matches.
fn extract_all(call: &Call) -> Result<ArrayRef> {
    let text = call.text(0)?;
    let patterns = Patterns::new(call.text(1)?)?;
    let group = call.optional::<Int32Type>(2)?;
    let DataType::List(item) = &call.returns else {
        return internal_err!("REGEXP_EXTRACT_ALL gives an array");
    };
    let mut builder = ListBuilder::new(StringBuilder::new()).with_field(Arc::clone(item));
    for row in 0..call.rows {
        let found = text.get(row).and_then(|text| {
            let group = match &group {
                Some(group) => usize::try_from(group.get(row)?).ok()?,
                None => 1,
            };
            patterns.with(row, |regex| {
                if group >= regex.captures_len() {
                    return None;
                }
                for captures in regex.captures_iter(text) {
                    let part = captures.get(group).map(|part| part.as_str());
                    builder.values().append_option(part);
                }
                Some(())
            })
        });
        builder.append(found.is_some());
    }
    Ok(Arc::new(builder.finish()))
}

/// The replacement is taken as it is.
fn replace(call: &Call) -> Result<ArrayRef> {
    let (text, new) = (call.text(0)?, call.text(2)?);
    let patterns = Patterns::new(call.text(1)?)?;
    texts(call.rows, |row, out| {
        let (text, new) = (text.get(row)?, new.get(row)?);
        patterns.with(row, |regex| {
            put(out, &regex.replace_all(text, NoExpand(new)));
            Some(())
        })
    })
}

fn count(call: &Call) -> Result<ArrayRef> {
    let text = call.text(0)?;
    let patterns = Patterns::new(call.text(1)?)?;
    numbers::<Int32Type>(call.rows, |row| {
        let text = text.get(row)?;
        patterns.with(row, |regex| Some(regex.find_iter(text).count() as i32))
    })
}

fn instr(call: &Call) -> Result<ArrayRef> {
    let text = call.text(0)?;
    let patterns = Patterns::new(call.text(1)?)?;
    numbers::<Int32Type>(call.rows, |row| {
        let text = text.get(row)?;
        patterns.with(row, |regex| {
            let found = regex.find(text);
            Some(found.map_or(0, |found| length(&text[..found.start()]) as i32 + 1))
        })
    })
}

fn substr(call: &Call) -> Result<ArrayRef> {
    let text = call.text(0)?;
    let patterns = Patterns::new(call.text(1)?)?;
    texts(call.rows, |row, out| {
        let text = text.get(row)?;
        patterns.with(row, |regex| {
            put(out, regex.find(text)?.as_str());
            Some(())
        })
    })
}

#[cfg(test)]
mod tests {
    use crate::coerce::types::STRING;
    use crate::testing::*;

    #[test]
    fn expressions_as_in_java() {
        check(vec![
            (
                "REGEXP_REPLACE",
                args!["foobar", "oo|ar", "abc"],
                "fabcbabc",
            ),
            ("REGEXP_REPLACE", args!["foofar", "^f", ""], "oofar"),
            ("REGEXP_REPLACE", args!["foobar", "^f*.*r$", ""], ""),
            ("REGEXP_REPLACE", args!["foobar", "\\d", ""], "foobar"),
            ("REGEXP_REPLACE", args!["foobar", "\\w", ""], ""),
            ("REGEXP_REPLACE", args!["fooobar", "oo", "$"], "f$obar"),
            ("REGEXP_REPLACE", args![null(STRING), "oo", ""], "NULL"),
            (
                "REGEXP_REPLACE",
                args!["foobar", "oo|ar", null(STRING)],
                "NULL",
            ),
            (
                "REGEXP_EXTRACT",
                args!["foothebar", "foo(.*?)(bar)", 2],
                "bar",
            ),
            (
                "REGEXP_EXTRACT",
                args!["foothebar", "foo(.*?)(bar)", 0],
                "foothebar",
            ),
            (
                "REGEXP_EXTRACT",
                args!["foothebar", "foo(.*?)(bar)"],
                "foothebar",
            ),
            (
                "REGEXP_EXTRACT",
                args!["foothebar", "foo(.*?)(bar)", 1],
                "the",
            ),
            (
                "REGEXP_EXTRACT",
                args!["foothebar", "foo([\\w]+)", 1],
                "thebar",
            ),
            (
                "REGEXP_EXTRACT",
                args!["foothebar", "foo([\\d]+)", 1],
                "NULL",
            ),
            ("REGEXP_EXTRACT", args![null(STRING), "foo", 2], "NULL"),
            (
                "REGEXP_EXTRACT",
                args!["foothebar", null(STRING), 2],
                "NULL",
            ),
            ("REGEXP_EXTRACT", args!["foothebar", "foo", 3], "NULL"),
            (
                "REGEXP_EXTRACT",
                args!["https://x.y/z&channel_id=42", "(&|^)channel_id=([^&]*)", 2],
                "42",
            ),
            ("REGEXP_EXTRACT", args!["x", lit("(?=x)")], "ERROR"),
            ("REGEXP_EXTRACT", args!["x", lit("(")], "NULL"),
            ("REGEXP", args!["x", lit("(")], "FALSE"),
            (
                "REGEXP_EXTRACT_ALL",
                args!["100-200, 300-400", "(\\d+)-(\\d+)", 1],
                "[100, 300]",
            ),
            (
                "REGEXP_EXTRACT_ALL",
                args!["100-200", "(\\d+)-(\\d+)"],
                "[100]",
            ),
            ("REGEXP_EXTRACT_ALL", args!["100-200", "(\\d+)", 5], "NULL"),
            ("REGEXP", args!["100-200", "(\\d+)"], "TRUE"),
            ("REGEXP", args!["abc-def", "(\\d+)"], "FALSE"),
            ("REGEXP", args!["abc", ""], "FALSE"),
            ("REGEXP", args![null(STRING), "x"], "NULL"),
            ("REGEXP", args!["٣", "\\d"], "FALSE"),
            ("REGEXP", args!["a.b", "\\Qa.b\\E"], "TRUE"),
            ("REGEXP_COUNT", args!["Hello abc", "[a-z]+"], "2"),
            ("REGEXP_COUNT", args!["abc", "z"], "0"),
            ("REGEXP_INSTR", args!["abcab", "c"], "3"),
            ("REGEXP_INSTR", args!["abc", "z"], "0"),
            ("REGEXP_SUBSTR", args!["a1b22", "[0-9]+"], "1"),
            ("REGEXP_SUBSTR", args!["abc", "[0-9]+"], "NULL"),
        ]);
    }
}
