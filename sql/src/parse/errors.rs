//! From sqlparser's errors to [`SqlError`]. sqlparser puts the position into the text; an error of ours travels through it the same way.

use sqlparser::parser::ParserError;
use sqlparser::tokenizer::{Location, TokenizerError};

use crate::error::SqlError;

/// Marks a message of ours inside of a [`ParserError`], so that it comes out as it went in.
const OWN: char = '\u{1}';
const FIELD: char = '\u{2}';

/// An error of ours on the way through sqlparser's functions.
pub(crate) fn refuse<T>(error: SqlError) -> Result<T, ParserError> {
    Err(into_parser(error))
}

/// See [`refuse`].
pub(crate) fn into_parser(error: SqlError) -> ParserError {
    let (line, column) = error.position.unwrap_or_default();
    let hint = error.hint.unwrap_or_default();
    ParserError::ParserError(format!(
        "{OWN}{line}{FIELD}{column}{FIELD}{hint}{FIELD}{}",
        error.message
    ))
}

/// What a user is told.
pub(crate) fn from_parser(error: ParserError) -> SqlError {
    let text = match error {
        ParserError::ParserError(text) | ParserError::TokenizerError(text) => text,
        ParserError::RecursionLimitExceeded => {
            return SqlError::new("the statement is nested too deeply");
        }
    };
    match text.strip_prefix(OWN) {
        Some(own) => unpack(own),
        None => syntax_error(&text),
    }
}

pub(crate) fn from_tokenizer(error: TokenizerError) -> SqlError {
    SqlError::new(lower_first(error.message.trim_end_matches('.'))).at_location(error.location)
}

fn unpack(text: &str) -> SqlError {
    let mut fields = text.splitn(4, FIELD);
    let mut field = || fields.next().unwrap_or_default();
    let line = field().parse().unwrap_or(0);
    let column = field().parse().unwrap_or(0);
    let hint = field();
    let error = SqlError::new(field()).at_location(Location { line, column });
    if hint.is_empty() {
        error
    } else {
        error.hint(hint)
    }
}

/// "Expected: X, found: Y at Line: 1, Column: 2" becomes "syntax error: expected X, found 'Y'" at 1:2.
fn syntax_error(text: &str) -> SqlError {
    let (text, location) = split_location(text);
    if text.starts_with("No infix parser for token") {
        return SqlError::new("syntax error: this is no operator of Flink SQL")
            .at_location(location);
    }
    let body = match text
        .strip_prefix("Expected")
        .map(|rest| rest.trim_start_matches([':', ' ']))
        .and_then(|rest| rest.rsplit_once(", found: "))
    {
        Some((expected, "EOF")) => format!("expected {expected}, found the end of the statement"),
        Some((expected, found)) => format!("expected {expected}, found '{found}'"),
        None => lower_first(text),
    };
    SqlError::new(format!("syntax error: {body}")).at_location(location)
}

fn split_location(text: &str) -> (&str, Location) {
    let none = (text, Location::empty());
    let Some((message, place)) = text.rsplit_once(" at Line: ") else {
        return none;
    };
    let Some((line, column)) = place.split_once(", Column: ") else {
        return none;
    };
    match (line.trim().parse(), column.trim().parse()) {
        (Ok(line), Ok(column)) => (message, Location { line, column }),
        _ => none,
    }
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_lowercase().chain(chars).collect(),
        None => String::new(),
    }
}
