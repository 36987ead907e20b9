//! Finding and splitting: POSITION, LOCATE, INSTR, SPLIT_INDEX, SPLIT, STR_TO_MAP. Positions count characters from 1; 0 is "not found".

use std::sync::Arc;

use arrow::array::{ArrayRef, ListBuilder, MapBuilder, MapFieldNames, StringBuilder};
use arrow::datatypes::{DataType, Field, Int32Type, Int64Type};
use datafusion_common::{Result, exec_err, internal_err};
use memchr::{memchr_iter, memmem};
use weir_dataflow::types::{LogicalField, LogicalType};

use super::call::{Call, numbers, put, texts, try_numbers};
use super::function::Function;
use super::params::Param;
use super::string::{is_string, length, offset};
use crate::coerce::types::STRING;

use LogicalType as T;

pub(super) fn functions() -> Vec<Function> {
    let text_map = T::Map(
        Box::new(LogicalField {
            logical_type: STRING,
            nullable: false,
        }),
        Box::new(LogicalField::nullable(STRING)),
    );
    let text_list = T::Array(Box::new(LogicalField::nullable(STRING)));
    const LOCATE: &[Param] = &[Param::Text, Param::Text, Param::Int];
    const INSTR: &[Param] = &[Param::Text, Param::Text, Param::Int, Param::Int];
    const SPLIT_INDEX: &[Param] = &[Param::Text, Param::TextOrNumeric, Param::Int];
    const THREE: &[Param] = &[Param::Text, Param::Text, Param::Text];
    const TWO: &[Param] = &[Param::Text, Param::Text];
    vec![
        // POSITION(part IN text) and LOCATE(part, text[, from])
        Function::new("LOCATE", LOCATE, T::Int, locate)
            .alias("POSITION")
            .optional(1)
            .strict(),
        Function::new("INSTR", INSTR, T::Int, instr)
            .optional(2)
            .strict(),
        Function::new("SPLIT_INDEX", SPLIT_INDEX, STRING, split_index),
        Function::new("SPLIT", TWO, text_list, split).strict(),
        Function::new("STR_TO_MAP", THREE, text_map, str_to_map)
            .optional(2)
            .strict(),
    ]
}

/// Character position from 1 of `part` at or behind the character `from` (from 0); 0 if there is none.
fn position(text: &str, part: &str, from: usize) -> usize {
    if from > length(text) {
        return 0;
    }
    let start = offset(text, from);
    match memmem::find(&text.as_bytes()[start..], part.as_bytes()) {
        Some(found) => length(&text[..start + found]) + 1,
        None => 0,
    }
}

fn locate(call: &Call) -> Result<ArrayRef> {
    let (part, text) = (call.text(0)?, call.text(1)?);
    let from = call.optional::<Int32Type>(2)?;
    numbers::<Int32Type>(call.rows, |row| {
        let (part, text) = (part.get(row)?, text.get(row)?);
        let from = match &from {
            Some(from) => from.get(row)?,
            None => 1,
        };
        let from = usize::try_from(i64::from(from) - 1).unwrap_or(0);
        Some(position(text, part, from) as i32)
    })
}

/// INSTR(text, part[, start[, which]]); a negative start searches backwards from the end.
fn instr(call: &Call) -> Result<ArrayRef> {
    let (text, part) = (call.text(0)?, call.text(1)?);
    let (start, which) = (
        call.optional::<Int32Type>(2)?,
        call.optional::<Int32Type>(3)?,
    );
    try_numbers::<Int32Type>(call.rows, |row| {
        let (text, part) = (text.get(row)?, part.get(row)?);
        let start = match &start {
            Some(start) => start.get(row)?,
            None => 1,
        };
        let which = match &which {
            Some(which) => which.get(row)?,
            None => 1,
        };
        if which <= 0 {
            return Some(exec_err!(
                "INSTR wants a positive number of an occurrence, not {which}"
            ));
        }
        Some(Ok(match start {
            0 => 0,
            1.. => nth_position(text, part, start as usize - 1, which) as i32,
            _ => {
                let reversed = |text: &str| text.chars().rev().collect::<String>();
                let from = start.unsigned_abs() as usize - 1;
                match nth_position(&reversed(text), &reversed(part), from, which) {
                    0 => 0,
                    found => (length(text) + 2 - found - length(part)) as i32,
                }
            }
        }))
    })
}

fn nth_position(text: &str, part: &str, mut from: usize, which: i32) -> usize {
    let mut found = 0;
    for _ in 0..which {
        found = position(text, part, from);
        if found == 0 {
            return 0;
        }
        from = found;
    }
    found
}

/// The part with that number, from 0; NULL if there is none. The separator is a text or the code of a character.
fn split_index(call: &Call) -> Result<ArrayRef> {
    let (text, index) = (call.text(0)?, call.primitive::<Int32Type>(2)?);
    if is_string(call.data_type(1)?) {
        let separator = call.text(1)?;
        return texts(call.rows, |row, out| {
            let (text, separator) = (text.get(row)?, separator.get(row)?);
            let index = usize::try_from(index.get(row)?).ok()?;
            put(out, part(text, separator, index)?);
            Some(())
        });
    }
    let codes = arrow::compute::cast(&call.array(1)?, &DataType::Int64)?;
    let codes = super::call::Numbers::<Int64Type> {
        array: arrow::array::AsArray::as_primitive(&codes),
        constant: false,
    };
    texts(call.rows, |row, out| {
        let (text, code) = (text.get(row)?, codes.get(row)?);
        let code = u8::try_from(code).ok().filter(|code| *code > 0)?;
        let index = usize::try_from(index.get(row)?).ok()?;
        let mut buffer = [0; 4];
        let separator: &str = char::from(code).encode_utf8(&mut buffer);
        put(out, part(text, separator, index)?);
        Some(())
    })
}

fn part<'a>(text: &'a str, separator: &str, index: usize) -> Option<&'a str> {
    if text.is_empty() {
        return None;
    }
    let bytes = text.as_bytes();
    let slice = |start: usize, end: usize| Some(&text[start..end]);
    if separator.is_empty() {
        return text.split(char::is_whitespace).nth(index);
    }
    let mut start = 0;
    let mut seen = 0;
    let mut next = |at: usize, size: usize| {
        let found = (seen == index).then_some((start, at));
        seen += 1;
        start = at + size;
        found
    };
    let found = match separator.as_bytes() {
        [one] => memchr_iter(*one, bytes).find_map(|at| next(at, 1)),
        many => memmem::find_iter(bytes, many).find_map(|at| next(at, many.len())),
    };
    match found {
        Some((start, end)) => slice(start, end),
        None => (seen == index).then(|| &text[start..]),
    }
}

/// All parts; an empty separator gives single characters.
fn split(call: &Call) -> Result<ArrayRef> {
    let (text, separator) = (call.text(0)?, call.text(1)?);
    let DataType::List(item) = &call.returns else {
        return internal_err!("SPLIT gives an array");
    };
    let mut builder = ListBuilder::new(StringBuilder::new()).with_field(Arc::clone(item));
    for row in 0..call.rows {
        let (Some(text), Some(separator)) = (text.get(row), separator.get(row)) else {
            builder.append_null();
            continue;
        };
        if separator.is_empty() {
            let mut buffer = [0; 4];
            for c in text.chars() {
                builder.values().append_value(c.encode_utf8(&mut buffer));
            }
        } else {
            text.split(separator)
                .for_each(|part| builder.values().append_value(part));
        }
        builder.append(true);
    }
    Ok(Arc::new(builder.finish()))
}

/// "a=1,b=2"; both delimiters are regular expressions; a later entry replaces an earlier one of the same key.
fn str_to_map(call: &Call) -> Result<ArrayRef> {
    let text = call.text(0)?;
    let (pairs, keys) = (call.optional_text(1)?, call.optional_text(2)?);
    let names = MapFieldNames {
        entry: "entries".to_owned(),
        key: "key".to_owned(),
        value: "value".to_owned(),
    };
    let mut builder = MapBuilder::new(Some(names), StringBuilder::new(), StringBuilder::new())
        .with_values_field(Field::new("value", DataType::Utf8, true));
    for row in 0..call.rows {
        let pair = pairs.as_ref().map_or(Some(","), |text| text.get(row));
        let key = keys.as_ref().map_or(Some("="), |text| text.get(row));
        let (Some(text), Some(pair), Some(key)) = (text.get(row), pair, key) else {
            builder.append(false)?;
            continue;
        };
        let (Some(pair), Some(key)) = (super::regex::compile(pair), super::regex::compile(key))
        else {
            return exec_err!("STR_TO_MAP can't read its delimiters as regular expressions");
        };
        let mut entries: Vec<(&str, Option<&str>)> = Vec::new();
        for part in pair.split(text).filter(|_| !text.is_empty()) {
            let mut sides = key.splitn(part, 2);
            let name = sides.next().unwrap_or(part);
            let value = sides.next();
            match entries.iter_mut().find(|(known, _)| *known == name) {
                Some(entry) => entry.1 = value,
                None => entries.push((name, value)),
            }
        }
        for (name, value) in entries {
            builder.keys().append_value(name);
            builder.values().append_option(value);
        }
        builder.append(true)?;
    }
    Ok(Arc::new(builder.finish()))
}

#[cfg(test)]
mod tests {
    use crate::coerce::types::STRING;
    use crate::testing::*;

    #[test]
    fn finds_and_splits() {
        check(vec![
            ("POSITION", args!["test", "xxxtest"], "4"),
            ("POSITION", args!["testx", "xxxtest"], "0"),
            ("LOCATE", args!["aa", "aaads"], "1"),
            ("LOCATE", args!["aa", "aaads", 2], "2"),
            ("POSITION", args!["界", "1世界"], "3"),
            ("POSITION", args!["", "abc"], "1"),
            ("POSITION", args![null(STRING), "abc"], "NULL"),
            ("INSTR", args!["Corporate Floor", "or", 3, 2], "14"),
            ("INSTR", args!["Corporate Floor", "or", -3, 2], "2"),
            ("INSTR", args!["Tech on the net", "e"], "2"),
            ("INSTR", args!["Tech on the net", "e", 1, 3], "14"),
            ("INSTR", args!["Tech on the net", "e", -3, 2], "2"),
            ("INSTR", args!["a", "b", 0], "0"),
            ("INSTR", args![null(STRING), "e"], "NULL"),
            ("INSTR", args!["a", "a", 1, 0], "ERROR"),
            ("SPLIT_INDEX", args!["AQIDBA==", "I", 0], "AQ"),
            ("SPLIT_INDEX", args!["AQIDBA==", "I", 2], "NULL"),
            ("SPLIT_INDEX", args!["AQIDBA==", "I", -1], "NULL"),
            ("SPLIT_INDEX", args!["AQIDBA==", 73, 0], "AQ"),
            ("SPLIT_INDEX", args!["AQIDBA==", 256, 0], "NULL"),
            ("SPLIT_INDEX", args!["AQIDBA==", 0, 0], "NULL"),
            (
                "SPLIT_INDEX",
                args!["https://www.nexmark.com/a/b/item.htm?query=1", "/", 3],
                "a",
            ),
            (
                "SPLIT_INDEX",
                args!["https://www.nexmark.com/a/b/item.htm?query=1", "/", 1],
                "",
            ),
            ("SPLIT_INDEX", args!["", "/", 0], "NULL"),
            ("SPLIT_INDEX", args!["a--b--c", "--", 2], "c"),
            ("SPLIT_INDEX", args!["test", null(STRING), 1], "NULL"),
            ("SPLIT_INDEX", args!["a/", "/", 1], ""),
            ("SPLIT", args!["a,b,,c", ","], "[a, b, , c]"),
            ("SPLIT", args!["ab", ""], "[a, b]"),
            ("SPLIT", args![null(STRING), ","], "NULL"),
            ("STR_TO_MAP", args!["k1=v1,k2=v2"], "{k1=v1, k2=v2}"),
            (
                "STR_TO_MAP",
                args!["k1:v1;k2: v2", ";", ":"],
                "{k1=v1, k2= v2}",
            ),
            ("STR_TO_MAP", args!["k1"], "{k1=NULL}"),
            ("STR_TO_MAP", args!["a=1,a=2"], "{a=2}"),
            ("STR_TO_MAP", args![null(STRING)], "NULL"),
        ]);
    }
}
