//! Words that are never a name without backticks. Flink reserves many more, which it could not read otherwise; these are the ones that a
//! mistake in front of them turns into names.

use sqlparser::ast::Ident;

use crate::error::{Result, SqlError};

const WORDS: &[&str] = &[
    "AND",
    "AS",
    "BY",
    "CASE",
    "CREATE",
    "ELSE",
    "EXCEPT",
    "FROM",
    "GROUP",
    "HAVING",
    "INSERT",
    "INTERSECT",
    "INTO",
    "JOIN",
    "ON",
    "OR",
    "ORDER",
    "SELECT",
    "THEN",
    "UNION",
    "WHEN",
    "WHERE",
    "WITH",
];

/// Fails for one of them.
pub(crate) fn check(name: &Ident) -> Result<()> {
    let is_reserved = name.quote_style.is_none()
        && WORDS
            .iter()
            .any(|word| word.eq_ignore_ascii_case(&name.value));
    match is_reserved {
        true => Err(SqlError::new(format!(
            "syntax error: '{}' is a reserved word, and no name",
            name.value
        ))
        .hint(format!("as a name it is written `{}`", name.value))
        .at_location(name.span.start)),
        false => Ok(()),
    }
}
