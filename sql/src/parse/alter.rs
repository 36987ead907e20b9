//! ALTER TABLE and ALTER VIEW: what follows these words.

use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::Token;

use super::script::Source;
use super::words::{self, accept, is_word_at};
use super::{create_table, errors};
use crate::error::SqlError;
use crate::statement::{AlterTable, AlterView, ColumnPlace, CreateTable, TableChange};

type Parsed<T> = Result<T, ParserError>;

/// ALTER TABLE [IF EXISTS] t ...
pub(crate) fn table(parser: &mut Parser) -> Parsed<AlterTable> {
    let if_exists = accept(parser, "IF EXISTS");
    let name = words::object_name(parser)?;
    for (unbuilt, what) in [
        ("ADD PARTITION", "ALTER TABLE ... ADD PARTITION"),
        ("ADD IF NOT", "ALTER TABLE ... ADD PARTITION"),
        ("DROP PARTITION", "ALTER TABLE ... DROP PARTITION"),
        ("DROP IF EXISTS", "ALTER TABLE ... DROP PARTITION"),
        ("PARTITION", "ALTER TABLE ... PARTITION"),
        ("ADD DISTRIBUTION", "ALTER TABLE ... ADD DISTRIBUTION"),
        ("MODIFY DISTRIBUTION", "ALTER TABLE ... MODIFY DISTRIBUTION"),
        ("DROP DISTRIBUTION", "ALTER TABLE ... DROP DISTRIBUTION"),
        ("COMPACT", "ALTER TABLE ... COMPACT"),
    ] {
        if words::are_words(parser, &unbuilt.split(' ').collect::<Vec<_>>()) {
            let place = parser.peek_token_ref().span.start;
            return errors::refuse(SqlError::unsupported(what).at_location(place));
        }
    }
    Ok(AlterTable {
        name,
        if_exists,
        change: change(parser)?,
    })
}

fn change(parser: &mut Parser) -> Parsed<TableChange> {
    if accept(parser, "RENAME TO") {
        return Ok(TableChange::Rename(words::object_name(parser)?));
    }
    if accept(parser, "RENAME") {
        let from = words::identifier(parser)?;
        words::expect(parser, "TO")?;
        return Ok(TableChange::RenameColumn(from, words::identifier(parser)?));
    }
    if accept(parser, "SET") {
        return Ok(TableChange::Set(create_table::options(parser)?));
    }
    if accept(parser, "RESET") {
        return reset(parser);
    }
    if accept(parser, "ADD") {
        let (table, places) = elements(parser)?;
        return Ok(TableChange::Add(Box::new(table), places));
    }
    if accept(parser, "MODIFY") {
        let (table, places) = elements(parser)?;
        return Ok(TableChange::Modify(Box::new(table), places));
    }
    if accept(parser, "DROP") {
        return drop(parser);
    }
    parser.expected(
        "RENAME, SET, RESET, ADD, MODIFY or DROP",
        parser.peek_token(),
    )
}

fn reset(parser: &mut Parser) -> Parsed<TableChange> {
    parser.expect_token(&Token::LParen)?;
    let keys = parser.parse_comma_separated(|parser| {
        let place = parser.peek_token_ref().span.start;
        Ok((words::string(parser, "an option's key as 'text'")?, place))
    })?;
    parser.expect_token(&Token::RParen)?;
    Ok(TableChange::Reset(keys))
}

fn drop(parser: &mut Parser) -> Parsed<TableChange> {
    if accept(parser, "PRIMARY KEY") {
        return Ok(TableChange::DropKey(None));
    }
    if accept(parser, "CONSTRAINT") {
        return Ok(TableChange::DropKey(Some(words::identifier(parser)?)));
    }
    if accept(parser, "WATERMARK") {
        return Ok(TableChange::DropWatermark);
    }
    if parser.peek_token_ref().token == Token::LParen {
        return words::column_list(parser).map(TableChange::DropColumns);
    }
    Ok(TableChange::DropColumns(vec![words::identifier(parser)?]))
}

/// One column, key or watermark, or several in parentheses; each column with its place.
fn elements(parser: &mut Parser) -> Parsed<(CreateTable, Vec<ColumnPlace>)> {
    let mut table = create_table::empty();
    let mut places = Vec::new();
    let several = parser.consume_token(&Token::LParen);
    loop {
        accept(parser, "COLUMN");
        create_table::element(parser, &mut table)?;
        let place = place(parser)?;
        // An element that is no column has no place.
        if places.len() < table.columns.len() {
            places.push(place);
        }
        if !several || !parser.consume_token(&Token::Comma) {
            break;
        }
    }
    if several {
        parser.expect_token(&Token::RParen)?;
    }
    Ok((table, places))
}

fn place(parser: &mut Parser) -> Parsed<ColumnPlace> {
    if accept(parser, "FIRST") {
        return Ok(ColumnPlace::First);
    }
    if accept(parser, "AFTER") {
        return words::identifier(parser).map(ColumnPlace::After);
    }
    Ok(ColumnPlace::Unsaid)
}

/// ALTER VIEW [IF EXISTS] v RENAME TO w, ALTER VIEW v AS query
pub(crate) fn view(parser: &mut Parser, source: &Source<'_>) -> Parsed<AlterView> {
    let name = words::object_name(parser)?;
    if accept(parser, "RENAME TO") {
        return Ok(AlterView {
            name,
            rename: Some(words::object_name(parser)?),
            query: None,
        });
    }
    if !is_word_at(parser, 0, "AS") {
        return parser.expected("RENAME TO or AS", parser.peek_token());
    }
    words::expect(parser, "AS")?;
    let start = parser.peek_token_ref().span.start;
    let query = parser.parse_query()?;
    let text = source.between(start, parser.peek_token_ref().span.start);
    Ok(AlterView {
        name,
        rename: None,
        query: Some((query, text.trim_end().to_owned())),
    })
}
