//! Strings: case, trimming, padding, parts and joins. Positions count characters from 1.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::buffer::Buffer;
use arrow::datatypes::{DataType, Int32Type, Int64Type};
use datafusion_common::Result;
use weir_dataflow::types::LogicalType;

use super::call::{Call, booleans, numbers, put, put_char, texts};
use super::function::Function;
use super::params::Param;
use crate::coerce::types::STRING;

use LogicalType as T;

const ONE: &[Param] = &[Param::Text];
const TWO: &[Param] = &[Param::Text, Param::Text];
const THREE: &[Param] = &[Param::Text, Param::Text, Param::Text];
const TEXT_INT: &[Param] = &[Param::Text, Param::Int];
const PAD: &[Param] = &[Param::Text, Param::Int, Param::Text];
const TEXT_TWO_LONGS: &[Param] = &[Param::Text, Param::BigInt, Param::BigInt];
const OVERLAY: &[Param] = &[Param::Text, Param::Text, Param::BigInt, Param::BigInt];

pub(super) fn functions() -> Vec<Function> {
    vec![
        Function::new("UPPER", ONE, STRING, |call| {
            change_case(call, |bytes| bytes.to_ascii_uppercase(), str::to_uppercase)
        })
        .strict(),
        Function::new("LOWER", ONE, STRING, |call| {
            change_case(call, |bytes| bytes.to_ascii_lowercase(), str::to_lowercase)
        })
        .strict(),
        Function::new("INITCAP", ONE, STRING, initcap).strict(),
        Function::new("CHAR_LENGTH", ONE, T::Int, char_length)
            .alias("CHARACTER_LENGTH")
            .strict(),
        Function::new("REVERSE", ONE, STRING, reverse).strict(),
        Function::new("BTRIM", TWO, STRING, |call| trim(call, true, true))
            .alias("TRIM")
            .optional(1)
            .strict(),
        Function::new("LTRIM", TWO, STRING, |call| trim(call, true, false))
            .optional(1)
            .strict(),
        Function::new("RTRIM", TWO, STRING, |call| trim(call, false, true))
            .optional(1)
            .strict(),
        Function::new("LPAD", PAD, STRING, |call| pad(call, true)),
        Function::new("RPAD", PAD, STRING, |call| pad(call, false)),
        Function::new("REPEAT", TEXT_INT, STRING, repeat).strict(),
        Function::new("REPLACE", THREE, STRING, replace).strict(),
        Function::new("TRANSLATE", THREE, STRING, translate).alias("TRANSLATE3"),
        Function::new("SUBSTRING", TEXT_TWO_LONGS, STRING, substring)
            .alias("SUBSTR")
            .optional(1),
        Function::new("LEFT", TEXT_INT, STRING, left).strict(),
        Function::new("RIGHT", TEXT_INT, STRING, right).strict(),
        Function::new("OVERLAY", OVERLAY, STRING, overlay)
            .optional(1)
            .strict(),
        Function::new("ASCII", ONE, T::Int, ascii).strict(),
        Function::new("CHR", &[Param::BigInt], STRING, chr).strict(),
        Function::new("CONCAT", ONE, STRING, concat)
            .variadic()
            .strict(),
        Function::new("__concat", TWO, STRING, concat).strict(),
        Function::new("CONCAT_WS", TWO, STRING, concat_ws)
            .variadic()
            .optional(1),
        Function::new("IS_ALPHA", ONE, T::Boolean, |call| {
            every(call, char::is_alphabetic)
        }),
        Function::new("IS_DIGIT", ONE, T::Boolean, |call| {
            every(call, char::is_numeric)
        }),
        Function::new("IS_DECIMAL", ONE, T::Boolean, is_decimal),
        Function::new("HASH_CODE", ONE, T::Int, hash_code).strict(),
    ]
}

/// ASCII columns are changed as one buffer.
fn change_case(
    call: &Call,
    ascii: impl Fn(&[u8]) -> Vec<u8>,
    unicode: impl Fn(&str) -> String,
) -> Result<ArrayRef> {
    let (array, constant) = call.raw(0)?;
    if let Some(strings) = array.as_string_opt::<i32>()
        && !constant
        && is_most_of_its_buffer(strings)
        && strings.value_data().is_ascii()
    {
        let values = Buffer::from_vec(ascii(strings.value_data()));
        let (offsets, nulls) = (strings.offsets().clone(), strings.nulls().cloned());
        return Ok(Arc::new(StringArray::try_new(offsets, values, nulls)?));
    }
    let text = call.text(0)?;
    texts(call.rows, |row, out| {
        put(out, &unicode(text.get(row)?));
        Some(())
    })
}

/// A slice of a large buffer is better read row by row.
fn is_most_of_its_buffer(strings: &StringArray) -> bool {
    let offsets = strings.value_offsets();
    let used = offsets[strings.len()] - offsets[0];
    strings.value_data().len() <= 2 * used as usize + 1024
}

/// Words are runs of letters and digits.
/// Words are of ASCII letters and digits; all other characters stand between words and stay as they are (Calcite's `initcap`).
fn initcap(call: &Call) -> Result<ArrayRef> {
    let text = call.text(0)?;
    texts(call.rows, |row, out| {
        let mut inside = false;
        for c in text.get(row)?.chars() {
            put_char(
                out,
                match inside {
                    true => c.to_ascii_lowercase(),
                    false => c.to_ascii_uppercase(),
                },
            );
            inside = c.is_ascii_alphanumeric();
        }
        Some(())
    })
}

/// Characters in a text.
pub(super) fn length(text: &str) -> usize {
    if text.is_ascii() {
        text.len()
    } else {
        text.chars().count()
    }
}

/// Byte offset of the character at `index`, or the text's end.
pub(super) fn offset(text: &str, index: usize) -> usize {
    if text.is_ascii() {
        return index.min(text.len());
    }
    text.char_indices()
        .nth(index)
        .map_or(text.len(), |(at, _)| at)
}

fn char_length(call: &Call) -> Result<ArrayRef> {
    let text = call.text(0)?;
    numbers::<Int32Type>(call.rows, |row| Some(length(text.get(row)?) as i32))
}

fn reverse(call: &Call) -> Result<ArrayRef> {
    let text = call.text(0)?;
    texts(call.rows, |row, out| {
        text.get(row)?.chars().rev().for_each(|c| put_char(out, c));
        Some(())
    })
}

/// Takes off blanks, or any of the characters of the second argument.
fn trim(call: &Call, start: bool, end: bool) -> Result<ArrayRef> {
    let text = call.text(0)?;
    let set = call.optional_text(1)?;
    texts(call.rows, |row, out| {
        let mut rest = text.get(row)?;
        let set = match &set {
            Some(set) => set.get(row)?,
            None => " ",
        };
        if start {
            rest = rest.trim_start_matches(|c| set.contains(c));
        }
        if end {
            rest = rest.trim_end_matches(|c| set.contains(c));
        }
        put(out, rest);
        Some(())
    })
}

/// NULL for a negative length and an empty padding.
fn pad(call: &Call, before: bool) -> Result<ArrayRef> {
    let (text, size, fill) = (
        call.text(0)?,
        call.primitive::<Int32Type>(1)?,
        call.text(2)?,
    );
    texts(call.rows, |row, out| {
        let (text, size, fill) = (text.get(row)?, size.get(row)?, fill.get(row)?);
        if fill.is_empty() {
            return None;
        }
        let size = usize::try_from(size).ok()?;
        let have = length(text);
        let kept = &text[..offset(text, size)];
        let padding = fill.chars().cycle().take(size.saturating_sub(have));
        if before {
            padding.for_each(|c| put_char(out, c));
            put(out, kept);
        } else {
            put(out, kept);
            padding.for_each(|c| put_char(out, c));
        }
        Some(())
    })
}

fn repeat(call: &Call) -> Result<ArrayRef> {
    let (text, times) = (call.text(0)?, call.primitive::<Int32Type>(1)?);
    texts(call.rows, |row, out| {
        let (text, times) = (text.get(row)?, times.get(row)?);
        (0..times).for_each(|_| put(out, text));
        Some(())
    })
}

fn replace(call: &Call) -> Result<ArrayRef> {
    let (text, old, new) = (call.text(0)?, call.text(1)?, call.text(2)?);
    texts(call.rows, |row, out| {
        let (text, old, new) = (text.get(row)?, old.get(row)?, new.get(row)?);
        let mut rest = 0;
        for (at, found) in text.match_indices(old) {
            put(out, &text[rest..at]);
            put(out, new);
            rest = at + found.len();
        }
        put(out, &text[rest..]);
        Some(())
    })
}

/// Each character of the second argument becomes the one in the same place of the third, or goes.
fn translate(call: &Call) -> Result<ArrayRef> {
    let (text, from, to) = (call.text(0)?, call.text(1)?, call.text(2)?);
    texts(call.rows, |row, out| {
        let (text, from, to) = (text.get(row)?, from.get(row)?, to.get(row)?);
        for c in text.chars() {
            match from.chars().position(|known| known == c) {
                None => put_char(out, c),
                Some(place) => {
                    if let Some(other) = to.chars().nth(place) {
                        put_char(out, other);
                    }
                }
            }
        }
        Some(())
    })
}

/// A position from 1 on, 0 as 1, negative ones from the end. NULL for a negative length.
fn substring(call: &Call) -> Result<ArrayRef> {
    let (text, start) = (call.text(0)?, call.primitive::<Int64Type>(1)?);
    let count = call.optional::<Int64Type>(2)?;
    texts(call.rows, |row, out| {
        let (text, start) = (text.get(row)?, start.get(row)?);
        let count = match &count {
            Some(count) => usize::try_from(count.get(row)?).ok()?,
            None => usize::MAX,
        };
        put(out, slice(text, start, count));
        Some(())
    })
}

fn slice(text: &str, start: i64, count: usize) -> &str {
    let first = if start >= 0 {
        usize::try_from(start.max(1) - 1).unwrap_or(usize::MAX)
    } else {
        let from_end = usize::try_from(start.unsigned_abs()).unwrap_or(usize::MAX);
        match length(text).checked_sub(from_end) {
            Some(first) => first,
            None => return "",
        }
    };
    let rest = &text[offset(text, first)..];
    &rest[..offset(rest, count)]
}

fn left(call: &Call) -> Result<ArrayRef> {
    let (text, count) = (call.text(0)?, call.primitive::<Int32Type>(1)?);
    texts(call.rows, |row, out| {
        let (text, count) = (text.get(row)?, count.get(row)?);
        put(
            out,
            &text[..offset(text, usize::try_from(count).unwrap_or(0))],
        );
        Some(())
    })
}

fn right(call: &Call) -> Result<ArrayRef> {
    let (text, count) = (call.text(0)?, call.primitive::<Int32Type>(1)?);
    texts(call.rows, |row, out| {
        let (text, count) = (text.get(row)?, count.get(row)?);
        let skip = length(text).saturating_sub(usize::try_from(count).unwrap_or(0));
        put(out, &text[offset(text, skip)..]);
        Some(())
    })
}

/// A start outside of the text changes nothing; a length beyond its end, or a negative one, cuts all behind.
fn overlay(call: &Call) -> Result<ArrayRef> {
    let (text, part) = (call.text(0)?, call.text(1)?);
    let start = call.primitive::<Int64Type>(2)?;
    let count = call.optional::<Int64Type>(3)?;
    texts(call.rows, |row, out| {
        let (text, part, start) = (text.get(row)?, part.get(row)?, start.get(row)?);
        let size = length(text) as i64;
        let count = match &count {
            Some(count) => count.get(row)?,
            None => length(part) as i64,
        };
        if start <= 0 || start > size {
            put(out, text);
            return Some(());
        }
        put(out, &text[..offset(text, (start - 1) as usize)]);
        put(out, part);
        if count > 0 && start.saturating_add(count) <= size {
            put(out, &text[offset(text, (start - 1 + count) as usize)..]);
        }
        Some(())
    })
}

fn ascii(call: &Call) -> Result<ArrayRef> {
    let text = call.text(0)?;
    numbers::<Int32Type>(call.rows, |row| {
        let first = text.get(row)?.as_bytes().first();
        Some(first.map_or(0, |byte| i32::from(*byte as i8)))
    })
}

fn chr(call: &Call) -> Result<ArrayRef> {
    let codes = call.primitive::<Int64Type>(0)?;
    texts(call.rows, |row, out| {
        let code = codes.get(row)?;
        if code >= 0 {
            put_char(out, char::from((code & 0xFF) as u8));
        }
        Some(())
    })
}

fn concat(call: &Call) -> Result<ArrayRef> {
    let parts = (0..call.len())
        .map(|index| call.text(index))
        .collect::<Result<Vec<_>>>()?;
    texts(call.rows, |row, out| {
        if parts.iter().any(|part| part.get(row).is_none()) {
            return None;
        }
        parts
            .iter()
            .filter_map(|part| part.get(row))
            .for_each(|part| put(out, part));
        Some(())
    })
}

/// Leaves NULLs out; NULL only for a NULL separator.
fn concat_ws(call: &Call) -> Result<ArrayRef> {
    let parts = (0..call.len())
        .map(|index| call.text(index))
        .collect::<Result<Vec<_>>>()?;
    texts(call.rows, |row, out| {
        let separator = parts.first()?.get(row)?;
        for (index, part) in parts[1..]
            .iter()
            .filter_map(|part| part.get(row))
            .enumerate()
        {
            if index > 0 {
                put(out, separator);
            }
            put(out, part);
        }
        Some(())
    })
}

/// FALSE for NULL and the empty text.
fn every(call: &Call, holds: impl Fn(char) -> bool) -> Result<ArrayRef> {
    let text = call.text(0)?;
    booleans(call.rows, |row| {
        let text = text.get(row).unwrap_or("");
        Some(!text.is_empty() && text.chars().all(&holds))
    })
}

fn is_decimal(call: &Call) -> Result<ArrayRef> {
    let text = call.text(0)?;
    booleans(call.rows, |row| {
        Some(
            text.get(row)
                .is_some_and(|text| crate::value::floating::parse(text).is_some()),
        )
    })
}

/// Java's `String.hashCode`, without its sign.
fn hash_code(call: &Call) -> Result<ArrayRef> {
    let text = call.text(0)?;
    numbers::<Int32Type>(call.rows, |row| {
        let hash = text.get(row)?.encode_utf16().fold(0i32, |hash, unit| {
            hash.wrapping_mul(31).wrapping_add(i32::from(unit))
        });
        Some(hash.wrapping_abs())
    })
}

/// The type of a column of strings.
pub(super) fn is_string(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8)
}

#[cfg(test)]
mod tests {
    use weir_dataflow::types::LogicalType as T;

    use crate::coerce::types::STRING;
    use crate::testing::*;

    #[test]
    fn texts_as_in_flink() {
        check(vec![
            (
                "UPPER",
                args!["This is a test String."],
                "THIS IS A TEST STRING.",
            ),
            ("LOWER", args!["ÄbC"], "äbc"),
            ("LOWER", args!["Apple"], "apple"),
            ("UPPER", args![null(STRING)], "NULL"),
            ("INITCAP", args!["fLinK is-good"], "Flink Is-Good"),
            ("INITCAP", args!["a B"], "A B"),
            ("CHAR_LENGTH", args!["This is a test String."], "22"),
            ("CHARACTER_LENGTH", args!["äöü"], "3"),
            ("CHAR_LENGTH", args![null(STRING)], "NULL"),
            ("CHAR_LENGTH", args![""], "0"),
            ("REVERSE", args!["hhhi"], "ihhh"),
            ("REVERSE", args!["äb"], "bä"),
            ("TRIM", args!["  example  "], "example"),
            ("BTRIM", args!["abcddcba", "abc"], "dd"),
            ("BTRIM", args!["心情开开心心", "开心"], "情"),
            ("LTRIM", args!["This is", "This "], ""),
            ("LTRIM", args!["abcddcba", "abd"], "cddcba"),
            ("LTRIM", args!["  x "], "x "),
            ("LTRIM", args!["x", null(STRING)], "NULL"),
            ("RTRIM", args!["String. ", "String. "], ""),
            ("RTRIM", args!["abcddcba", "abc"], "abcdd"),
            ("RTRIM", args!["  x "], "  x"),
            ("LPAD", args!["hi", 1, "??"], "h"),
            ("LPAD", args!["hi", 5, "??"], "???hi"),
            ("LPAD", args!["", 3, "?"], "???"),
            ("LPAD", args!["111", -2, "??"], "NULL"),
            ("LPAD", args!["ab", 5, ""], "NULL"),
            ("LPAD", args!["äää", 13, "12345"], "1234512345äää"),
            ("LPAD", args!["hi", null(T::Int), "??"], "NULL"),
            ("LPAD", args!["äääääääää", 2, "??"], "ää"),
            ("RPAD", args!["hi", 5, "??"], "hi???"),
            ("RPAD", args!["äää", 13, "12345"], "äää1234512345"),
            ("RPAD", args!["üö", 1, "??"], "ü"),
            ("RPAD", args!["abcd", 5, ""], "NULL"),
            ("REPEAT", args!["ab", 2], "abab"),
            ("REPEAT", args!["ab", 0], ""),
            ("REPEAT", args!["ab", -1], ""),
            ("REPEAT", args![null(STRING), 2], "NULL"),
            ("REPLACE", args!["This is a", " ", "_"], "This_is_a"),
            ("REPLACE", args!["This", "i", ""], "Ths"),
            ("REPLACE", args!["x", "x", null(STRING)], "NULL"),
            (
                "TRANSLATE",
                args!["www.apache.org", "wapcheor", "mAPC"],
                "mmm.APAC.g",
            ),
            (
                "SUBSTRING",
                args!["This is a test String.", 2],
                "his is a test String.",
            ),
            ("SUBSTRING", args!["This is a test String.", 2, 5], "his i"),
            (
                "SUBSTRING",
                args!["This is a test String.", 2, 100],
                "his is a test String.",
            ),
            ("SUBSTRING", args!["This is a test String.", 100, 10], ""),
            ("SUBSTRING", args!["This is a test String.", 2, -1], "NULL"),
            ("SUBSTRING", args!["This is a test String.", -2], "g."),
            ("SUBSTRING", args!["This is a test String.", -2, 1], "g"),
            ("SUBSTRING", args!["This is a test String.", -2, 0], ""),
            ("SUBSTRING", args!["This is a test String.", 0, 3], "Thi"),
            ("SUBSTRING", args!["1世界", 1, 2], "1世"),
            ("SUBSTR", args!["abc", -10, 2], ""),
            ("SUBSTRING", args!["abc", null(T::Int)], "NULL"),
            ("SUBSTRING", args!["", 1], ""),
            ("LEFT", args!["Hello", 3], "Hel"),
            ("LEFT", args!["Hello", 100], "Hello"),
            ("LEFT", args!["Hello", -2], ""),
            ("LEFT", args!["Hello", null(T::Int)], "NULL"),
            ("RIGHT", args!["Hello", 3], "llo"),
            ("RIGHT", args!["Hello", 100], "Hello"),
            ("RIGHT", args!["Hello", 0], ""),
            ("OVERLAY", args!["xxxxxtest", "xxxx", 6], "xxxxxxxxx"),
            ("OVERLAY", args!["xxxxxtest", "xxxx", 6, 2], "xxxxxxxxxst"),
            ("OVERLAY", args!["123456789", "It", -1, 4], "123456789"),
            ("OVERLAY", args!["123456789", "abc", 2, 100], "1abc"),
            ("OVERLAY", args!["123456789", "abc", 2, -1], "1abc"),
            ("OVERLAY", args!["123456789", "abc", 100, -1], "123456789"),
            (
                "OVERLAY",
                args!["This is a test String.", "It", 1, 4],
                "It is a test String.",
            ),
            ("OVERLAY", args![null(STRING), "It", 1, 2], "NULL"),
            ("ASCII", args!["efg"], "101"),
            ("ASCII", args![""], "0"),
            ("ASCII", args![null(STRING)], "NULL"),
            ("CHR", args![97], "a"),
            ("CHR", args![353], "a"),
            ("CHR", args![-1], ""),
            ("CONCAT", args!["AA", "BB", "CC"], "AABBCC"),
            ("CONCAT", args!["xx", null(STRING)], "NULL"),
            ("CONCAT", args!["a", 1], "ERROR"),
            ("__concat", args!["a", "b"], "ab"),
            (
                "CONCAT_WS",
                args!["~", "AA", null(STRING), "BB", ""],
                "AA~BB~",
            ),
            ("CONCAT_WS", args![null(STRING), "AA"], "NULL"),
            ("CONCAT_WS", args!["~", "AA"], "AA"),
            ("IS_ALPHA", args!["abc"], "TRUE"),
            ("IS_ALPHA", args!["a1"], "FALSE"),
            ("IS_DIGIT", args!["12"], "TRUE"),
            ("IS_DIGIT", args![""], "FALSE"),
            ("IS_DECIMAL", args!["1.5"], "TRUE"),
            ("IS_DECIMAL", args!["x"], "FALSE"),
            ("HASH_CODE", args!["abc"], "96354"),
            ("HASH_CODE", args![null(STRING)], "NULL"),
            ("UPPER", args![texts(&["a"])], "ERROR"),
            ("LEFT", args!["a"], "ERROR"),
            ("LEFT", args!["a", "b"], "ERROR"),
        ]);
    }
}
