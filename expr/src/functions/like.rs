//! LIKE and SIMILAR TO.

use arrow::array::ArrayRef;
use datafusion_common::{Result, exec_err};
use memchr::memmem::Finder;
use regex::Regex;
use weir_dataflow::types::LogicalType;

use super::call::{Call, Text, booleans};
use super::function::Function;
use super::params::Param;

use LogicalType as T;

const PARAMS: &[Param] = &[Param::Text, Param::Text, Param::Text];

pub(super) fn functions() -> Vec<Function> {
    vec![
        Function::new("__like", PARAMS, T::Boolean, like)
            .optional(1)
            .strict(),
        Function::new("__similar", PARAMS, T::Boolean, similar)
            .alias("SIMILAR")
            .optional(1)
            .strict(),
    ]
}

/// A pattern in the cheapest form that decides it.
enum Pattern {
    Exact(String),
    Prefix(String),
    Suffix(String),
    Contains(Box<Finder<'static>>),
    Any(Vec<Token>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Char(char),
    One,
    Many,
}

fn tokens(pattern: &str, escape: Option<char>) -> Result<Vec<Token>> {
    let mut tokens = Vec::with_capacity(pattern.len());
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        tokens.push(if Some(c) == escape {
            match chars.next() {
                Some(next) if next == '%' || next == '_' || Some(next) == escape => {
                    Token::Char(next)
                }
                _ => return exec_err!("the LIKE pattern '{pattern}' has a stray escape character"),
            }
        } else {
            match c {
                '%' => Token::Many,
                '_' => Token::One,
                c => Token::Char(c),
            }
        });
    }
    Ok(tokens)
}

impl Pattern {
    fn new(pattern: &str, escape: Option<char>) -> Result<Self> {
        let tokens = tokens(pattern, escape)?;
        let text = |tokens: &[Token]| -> Option<String> {
            tokens
                .iter()
                .map(|token| match token {
                    Token::Char(c) => Some(*c),
                    _ => None,
                })
                .collect()
        };
        Ok(match tokens.as_slice() {
            [Token::Many, inner @ .., Token::Many] if text(inner).is_some() => {
                let text = text(inner).unwrap_or_default();
                Self::Contains(Box::new(Finder::new(text.as_bytes()).into_owned()))
            }
            [Token::Many, inner @ ..] if text(inner).is_some() => {
                Self::Suffix(text(inner).unwrap_or_default())
            }
            [inner @ .., Token::Many] if text(inner).is_some() => {
                Self::Prefix(text(inner).unwrap_or_default())
            }
            all => match text(all) {
                Some(text) => Self::Exact(text),
                None => Self::Any(tokens),
            },
        })
    }

    fn matches(&self, text: &str) -> bool {
        match self {
            Self::Exact(other) => text == other,
            Self::Prefix(prefix) => text.starts_with(prefix.as_str()),
            Self::Suffix(suffix) => text.ends_with(suffix.as_str()),
            Self::Contains(finder) => finder.find(text.as_bytes()).is_some(),
            Self::Any(tokens) => wildcard(tokens, text),
        }
    }
}

/// Goes back only to the last `%`, which is enough since an earlier one could not match less.
fn wildcard(tokens: &[Token], text: &str) -> bool {
    let (mut rest, mut at) = (text, 0);
    let mut retry: Option<(usize, &str)> = None;
    loop {
        match tokens.get(at) {
            Some(Token::Many) => {
                retry = Some((at + 1, rest));
                at += 1;
                continue;
            }
            None if rest.is_empty() => return true,
            Some(token) => {
                let mut chars = rest.chars();
                if let Some(c) = chars.next()
                    && (*token == Token::One || *token == Token::Char(c))
                {
                    rest = chars.as_str();
                    at += 1;
                    continue;
                }
            }
            None => {}
        }
        let Some((token, from)) = retry else {
            return false;
        };
        let mut chars = from.chars();
        if chars.next().is_none() {
            return false;
        }
        rest = chars.as_str();
        retry = Some((token, rest));
        at = token;
    }
}

fn escape_char(escape: &Option<Text<'_>>) -> Result<Option<char>> {
    let Some(text) = escape.as_ref().and_then(|escape| escape.get(0)) else {
        return Ok(None);
    };
    let mut chars = text.chars();
    match (chars.next(), chars.next()) {
        (Some(c), None) => Ok(Some(c)),
        _ => exec_err!("ESCAPE takes one character, not '{text}'"),
    }
}

fn like(call: &Call) -> Result<ArrayRef> {
    let (text, pattern) = (call.text(0)?, call.text(1)?);
    let escape = escape_char(&call.optional_text(2)?)?;
    if pattern.constant {
        let Some(source) = pattern.get(0) else {
            return booleans(call.rows, |_| None);
        };
        let pattern = Pattern::new(source, escape)?;
        return booleans(call.rows, |row| Some(pattern.matches(text.get(row)?)));
    }
    let mut failure = None;
    let result = booleans(call.rows, |row| {
        let (text, source) = (text.get(row)?, pattern.get(row)?);
        match tokens(source, escape) {
            Ok(tokens) => Some(wildcard(&tokens, text)),
            Err(error) => {
                failure = Some(error);
                None
            }
        }
    });
    failure.map_or(result, Err)
}

/// SQL's regular expressions: `%` and `_` are wildcards, everything else is as in POSIX, and the whole text must match.
fn similar(call: &Call) -> Result<ArrayRef> {
    let (text, pattern) = (call.text(0)?, call.text(1)?);
    let escape = escape_char(&call.optional_text(2)?)?;
    let mut compiled: Option<(String, Regex)> = None;
    let mut failure = None;
    let result = booleans(call.rows, |row| {
        let (text, source) = (text.get(row)?, pattern.get(row)?);
        if compiled.as_ref().is_none_or(|(known, _)| known != source) {
            match Regex::new(&similar_to_regex(source, escape)) {
                Ok(regex) => compiled = Some((source.to_owned(), regex)),
                Err(_) => failure = Some(source.to_owned()),
            }
        }
        compiled.as_ref().map(|(_, regex)| regex.is_match(text))
    });
    match failure {
        Some(source) => exec_err!("'{source}' is not a pattern that SIMILAR TO can read"),
        None => result,
    }
}

fn similar_to_regex(pattern: &str, escape: Option<char>) -> String {
    let mut out = String::from("(?s)^(?:");
    let mut chars = pattern.chars();
    let mut in_class = false;
    while let Some(c) = chars.next() {
        if Some(c) == escape {
            if let Some(next) = chars.next() {
                out.push_str(&regex::escape(next.encode_utf8(&mut [0; 4])));
            }
            continue;
        }
        match c {
            '[' => in_class = true,
            ']' => in_class = false,
            _ => {}
        }
        match c {
            '%' if !in_class => out.push_str(".*"),
            '_' if !in_class => out.push('.'),
            '.' | '^' | '$' | '\\' if !in_class => {
                out.push('\\');
                out.push(c);
            }
            _ => out.push(c),
        }
    }
    out.push_str(")$");
    out
}

#[cfg(test)]
mod tests {
    use crate::coerce::types::STRING;
    use crate::testing::*;

    #[test]
    fn patterns() {
        check(vec![
            ("__like", args!["This is a test String.", "Th_s%"], "TRUE"),
            ("__like", args!["This is a test String.", "%is a%"], "TRUE"),
            ("__like", args!["abcxxxdef", "abcx%"], "TRUE"),
            ("__like", args!["abcxxxdef", "%%def"], "TRUE"),
            ("__like", args!["abcxxxdef", "abcxxxdef"], "TRUE"),
            ("__like", args!["abcxxxdef", "%xdef"], "TRUE"),
            ("__like", args!["abcxxxdef", "%abc%def%"], "TRUE"),
            ("__like", args!["abcxxxdef", "abc%qef"], "FALSE"),
            ("__like", args!["abcxxxdef", "abdxxxdef"], "FALSE"),
            ("__like", args!["ab", "a"], "FALSE"),
            ("__like", args!["", "%"], "TRUE"),
            ("__like", args!["äb", "_b"], "TRUE"),
            ("__like", args!["a\\b", "a\\b"], "TRUE"),
            ("__like", args!["aXbXc", "a%X_"], "TRUE"),
            ("__like", args!["%This", "&%Th_s%", "&"], "TRUE"),
            ("__like", args!["xThis", "&%Th_s%", "&"], "FALSE"),
            ("__like", args!["a", lit("&a"), lit("&")], "ERROR"),
            ("__like", args![null(STRING), "%"], "NULL"),
            ("__like", args!["a", null(STRING)], "NULL"),
            ("SIMILAR", args!["This is a test String.", "_*"], "TRUE"),
            (
                "SIMILAR",
                args!["This is a test String.", "This (is)? a (test)+ Strin_*"],
                "TRUE",
            ),
            (
                "SIMILAR",
                args!["This is a test String.", "This (is )?a (test)+ Strin_*"],
                "TRUE",
            ),
            ("SIMILAR", args!["abc", "%b%"], "TRUE"),
            ("SIMILAR", args!["abc", "b"], "FALSE"),
            ("SIMILAR", args!["a.c", "a.c"], "TRUE"),
            ("SIMILAR", args!["abc", "a.c"], "FALSE"),
        ]);
    }
}
