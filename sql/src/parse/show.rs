//! SHOW ...

use sqlparser::ast::ObjectName;
use sqlparser::parser::{Parser, ParserError};

use super::words::{self, accept, is_word_at};
use crate::statement::{LikePattern, Show};

type Parsed<T> = Result<T, ParserError>;

/// The statement from SHOW on.
pub(crate) fn parse(parser: &mut Parser) -> Parsed<Show> {
    words::expect(parser, "SHOW")?;
    if accept(parser, "TABLES") {
        return Ok(Show::Tables(database(parser)?, like(parser)?));
    }
    if accept(parser, "VIEWS") {
        return Ok(Show::Views(database(parser)?, like(parser)?));
    }
    if accept(parser, "CREATE TABLE") {
        return Ok(Show::CreateTable(words::object_name(parser)?));
    }
    if accept(parser, "CREATE VIEW") {
        return Ok(Show::CreateView(words::object_name(parser)?));
    }
    if accept(parser, "CREATE CATALOG") {
        return Ok(Show::CreateCatalog(words::identifier(parser)?));
    }
    if accept(parser, "PARTITIONS") {
        return Ok(Show::Partitions(words::object_name(parser)?));
    }
    if accept(parser, "COLUMNS") {
        if !accept(parser, "FROM") {
            words::expect(parser, "IN")?;
        }
        let name = words::object_name(parser)?;
        return Ok(Show::Columns(name, like(parser)?));
    }
    if accept(parser, "USER FUNCTIONS") {
        return Ok(Show::Functions(true, like(parser)?));
    }
    if accept(parser, "FUNCTIONS") {
        return Ok(Show::Functions(false, like(parser)?));
    }
    if accept(parser, "CATALOGS") {
        return Ok(Show::Catalogs(like(parser)?));
    }
    if accept(parser, "DATABASES") {
        let catalog = is_from(parser)
            .then(|| words::identifier(parser))
            .transpose()?;
        return Ok(Show::Databases(catalog, like(parser)?));
    }
    for (words, show) in [
        ("CURRENT CATALOG", Show::CurrentCatalog),
        ("CURRENT DATABASE", Show::CurrentDatabase),
        ("FULL MODULES", Show::Modules(true)),
        ("MODULES", Show::Modules(false)),
        ("JARS", Show::Jars),
        ("MODELS", Show::Models),
    ] {
        if accept(parser, words) {
            return Ok(show);
        }
    }
    parser.expected(
        "TABLES, VIEWS, COLUMNS, CREATE TABLE, CREATE VIEW, FUNCTIONS, CATALOGS, DATABASES, CURRENT CATALOG or CURRENT DATABASE",
        parser.peek_token(),
    )
}

fn is_from(parser: &mut Parser) -> bool {
    accept(parser, "FROM") || accept(parser, "IN")
}

/// `{ FROM | IN } [catalog.]database`, if it comes next.
fn database(parser: &mut Parser) -> Parsed<Option<ObjectName>> {
    is_from(parser)
        .then(|| words::object_name(parser))
        .transpose()
}

fn like(parser: &mut Parser) -> Parsed<Option<LikePattern>> {
    let negated = accept(parser, "NOT");
    let any_case = is_word_at(parser, 0, "ILIKE");
    if !any_case && !negated && !is_word_at(parser, 0, "LIKE") {
        return Ok(None);
    }
    words::expect(parser, if any_case { "ILIKE" } else { "LIKE" })?;
    Ok(Some(LikePattern {
        negated,
        any_case,
        pattern: words::string(parser, "a pattern as 'text'")?,
    }))
}
