//! CREATE, ALTER and DROP of catalogs and databases: what follows these words.

use sqlparser::parser::{Parser, ParserError};

use super::words::{self, accept};
use super::{create_table, errors};
use crate::error::SqlError;
use crate::statement::SpaceChange;

type Parsed<T> = Result<T, ParserError>;

pub(crate) fn create_catalog(parser: &mut Parser) -> Parsed<SpaceChange> {
    Ok(SpaceChange::CreateCatalog {
        if_not_exists: accept(parser, "IF NOT EXISTS"),
        name: words::identifier(parser)?,
        comment: create_table::comment(parser)?,
        options: options(parser)?,
    })
}

pub(crate) fn drop_catalog(parser: &mut Parser) -> Parsed<SpaceChange> {
    Ok(SpaceChange::DropCatalog {
        if_exists: accept(parser, "IF EXISTS"),
        name: words::identifier(parser)?,
    })
}

pub(crate) fn create_database(parser: &mut Parser) -> Parsed<SpaceChange> {
    Ok(SpaceChange::CreateDatabase {
        if_not_exists: accept(parser, "IF NOT EXISTS"),
        name: words::object_name(parser)?,
        comment: create_table::comment(parser)?,
        options: options(parser)?,
    })
}

pub(crate) fn alter_database(parser: &mut Parser) -> Parsed<SpaceChange> {
    let name = words::object_name(parser)?;
    words::expect(parser, "SET")?;
    Ok(SpaceChange::AlterDatabase {
        name,
        options: create_table::options(parser)?,
    })
}

/// DROP DATABASE [IF EXISTS] d [RESTRICT | CASCADE]
pub(crate) fn drop_database(parser: &mut Parser) -> Parsed<SpaceChange> {
    let if_exists = accept(parser, "IF EXISTS");
    let place = parser.peek_token_ref().span.start;
    let name = words::object_name(parser)?;
    let cascade = accept(parser, "CASCADE");
    if accept(parser, "RESTRICT") && cascade {
        let error = SqlError::new("CASCADE and RESTRICT cannot both be");
        return errors::refuse(error.at_location(place));
    }
    Ok(SpaceChange::DropDatabase {
        name,
        if_exists,
        cascade,
    })
}

fn options(parser: &mut Parser) -> Parsed<Vec<(String, String)>> {
    match accept(parser, "WITH") {
        true => create_table::options(parser),
        false => Ok(Vec::new()),
    }
}
