//! CREATE TABLE: what follows `CREATE [TEMPORARY] TABLE`.

use sqlparser::ast::{Ident, ObjectName};
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::Token;

use super::words::{self, accept, are_words, is_word_at};
use super::{errors, reserved, types};
use crate::error::SqlError;
use crate::statement::{
    AsQuery, ColumnDefinition, ColumnDefinitionKind, CreateTable, LikeClause, LikeFeature,
    LikeRule, LikeStrategy, Replace, WatermarkDefinition,
};

type Parsed<T> = Result<T, ParserError>;

/// A table without anything.
pub(crate) fn empty() -> CreateTable {
    CreateTable {
        name: ObjectName(Vec::new()),
        temporary: false,
        if_not_exists: false,
        columns: Vec::new(),
        watermark: None,
        primary_key: Vec::new(),
        key_name: None,
        comment: None,
        partitioned_by: Vec::new(),
        options: Vec::new(),
        like: None,
        query: None,
        replace: Replace::No,
    }
}

/// The table from its name (or IF NOT EXISTS) on.
pub(crate) fn parse(parser: &mut Parser, temporary: bool, replace: Replace) -> Parsed<CreateTable> {
    let if_not_exists = accept(parser, "IF NOT EXISTS");
    let mut table = CreateTable {
        name: words::object_name(parser)?,
        temporary,
        if_not_exists,
        replace,
        ..empty()
    };
    let order = match is_name_list(parser) {
        true => words::column_list(parser)?,
        false => Vec::new(),
    };
    if order.is_empty() && parser.consume_token(&Token::LParen) {
        loop {
            element(parser, &mut table)?;
            if !parser.consume_token(&Token::Comma) {
                break;
            }
        }
        parser.expect_token(&Token::RParen)?;
    }
    table.comment = comment(parser)?;
    if is_word_at(parser, 0, "DISTRIBUTED") {
        return unsupported(parser, "DISTRIBUTED BY");
    }
    if accept(parser, "PARTITIONED BY") {
        table.partitioned_by = words::column_list(parser)?;
    }
    if accept(parser, "WITH") {
        table.options = options(parser)?;
    }
    if accept(parser, "LIKE") {
        table.like = Some(like(parser)?);
    }
    if accept(parser, "AS") {
        if temporary {
            return unsupported(parser, "CREATE TEMPORARY TABLE ... AS query");
        }
        let query = parser.parse_query()?;
        table.query = Some(AsQuery { query, order });
    } else if !order.is_empty() || replace != Replace::No {
        return parser.expected("AS and a query", parser.peek_token());
    }
    Ok(table)
}

/// `(a, b)`: names without types.
fn is_name_list(parser: &Parser) -> bool {
    parser.peek_token_ref().token == Token::LParen
        && matches!(parser.peek_nth_token_ref(1).token, Token::Word(_))
        && matches!(
            parser.peek_nth_token_ref(2).token,
            Token::Comma | Token::RParen
        )
}

/// COMMENT 'text', if it comes next.
pub(crate) fn comment(parser: &mut Parser) -> Parsed<Option<String>> {
    accept(parser, "COMMENT")
        .then(|| words::string(parser, "the comment as 'text'"))
        .transpose()
}

fn unsupported<T>(parser: &Parser, what: &str) -> Parsed<T> {
    let place = parser.peek_token_ref().span.start;
    errors::refuse(SqlError::unsupported(what).at_location(place))
}

/// A column, a watermark or a constraint.
pub(crate) fn element(parser: &mut Parser, table: &mut CreateTable) -> Parsed<()> {
    let place = parser.peek_token_ref().span.start;
    if are_words(parser, &["WATERMARK", "FOR"]) {
        if table.watermark.is_some() {
            let error = SqlError::new("a table has one watermark at most");
            return errors::refuse(error.at_location(place));
        }
        table.watermark = Some(watermark(parser)?);
        return Ok(());
    }
    if is_word_at(parser, 0, "CONSTRAINT") && !is_word_at(parser, 1, "CONSTRAINT") {
        parser.advance_token();
        table.key_name = Some(words::identifier(parser)?.value);
    }
    if are_words(parser, &["PRIMARY", "KEY"]) {
        words::expect(parser, "PRIMARY KEY")?;
        let columns = words::column_list(parser)?;
        not_enforced(parser)?;
        return primary_key(table, columns);
    }
    if is_word_at(parser, 0, "UNIQUE") && parser.peek_nth_token_ref(1).token == Token::LParen {
        return unsupported(parser, "UNIQUE");
    }
    column(parser, table)
}

fn watermark(parser: &mut Parser) -> Parsed<WatermarkDefinition> {
    words::expect(parser, "WATERMARK FOR")?;
    let column = words::identifier(parser)?;
    if parser.peek_token_ref().token == Token::Period {
        return unsupported(parser, "a watermark on a field of a ROW");
    }
    words::expect(parser, "AS")?;
    Ok(WatermarkDefinition {
        column,
        expr: parser.parse_expr()?,
    })
}

fn primary_key(table: &mut CreateTable, columns: Vec<Ident>) -> Parsed<()> {
    if !table.primary_key.is_empty() {
        let error = SqlError::new("a table has one PRIMARY KEY at most");
        return errors::refuse(match columns.first() {
            Some(column) => error.at_location(column.span.start),
            None => error,
        });
    }
    table.primary_key = columns;
    Ok(())
}

/// Flink does not own the data: it refuses to promise what it can't check.
fn not_enforced(parser: &mut Parser) -> Parsed<()> {
    if accept(parser, "NOT ENFORCED") {
        return Ok(());
    }
    let place = parser.peek_token_ref().span.start;
    let error = SqlError::new("a PRIMARY KEY cannot be enforced: the data lie in another system")
        .hint("write PRIMARY KEY (...) NOT ENFORCED");
    errors::refuse(error.at_location(place))
}

fn column(parser: &mut Parser, table: &mut CreateTable) -> Parsed<()> {
    let name = words::identifier(parser)?;
    reserved::check(&name).map_err(errors::into_parser)?;
    if accept(parser, "AS") {
        let kind = ColumnDefinitionKind::Computed(Box::new(parser.parse_expr()?));
        return push_column(parser, table, name, kind);
    }
    let field = types::parse_type(parser)?;
    if accept(parser, "METADATA") {
        let from = accept(parser, "FROM")
            .then(|| words::string(parser, "the metadata key as 'text'"))
            .transpose()?;
        let is_virtual = accept(parser, "VIRTUAL");
        let kind = ColumnDefinitionKind::Metadata {
            field,
            from,
            is_virtual,
        };
        return push_column(parser, table, name, kind);
    }
    if is_word_at(parser, 0, "CONSTRAINT") {
        parser.advance_token();
        table.key_name = Some(words::identifier(parser)?.value);
    }
    if are_words(parser, &["PRIMARY", "KEY"]) {
        words::expect(parser, "PRIMARY KEY")?;
        not_enforced(parser)?;
        primary_key(table, vec![name.clone()])?;
    }
    for refused in ["DEFAULT", "UNIQUE", "CHECK", "REFERENCES"] {
        if is_word_at(parser, 0, refused) {
            return unsupported(parser, &format!("{refused} on a column"));
        }
    }
    push_column(parser, table, name, ColumnDefinitionKind::Physical(field))
}

fn push_column(
    parser: &mut Parser,
    table: &mut CreateTable,
    name: Ident,
    kind: ColumnDefinitionKind,
) -> Parsed<()> {
    let comment = comment(parser)?;
    table.columns.push(ColumnDefinition {
        name,
        kind,
        comment,
    });
    Ok(())
}

/// `('key' = 'value', ...)`
pub(crate) fn options(parser: &mut Parser) -> Parsed<Vec<(String, String)>> {
    parser.expect_token(&Token::LParen)?;
    let mut options: Vec<(String, String)> = Vec::new();
    loop {
        let place = parser.peek_token_ref().span.start;
        let key = words::string(parser, "an option's key as 'text'")?;
        parser.expect_token(&Token::Eq)?;
        let value = words::string(parser, "the option's value as 'text'")?;
        if options.iter().any(|(other, _)| *other == key) {
            let error = SqlError::new(format!("the option '{key}' is given twice"));
            return errors::refuse(error.at_location(place));
        }
        options.push((key, value));
        if !parser.consume_token(&Token::Comma) {
            break;
        }
    }
    parser.expect_token(&Token::RParen)?;
    Ok(options)
}

/// `source [( { INCLUDING | EXCLUDING | OVERWRITING } feature ... )]`
fn like(parser: &mut Parser) -> Parsed<LikeClause> {
    let source = words::object_name(parser)?;
    let mut rules: Vec<LikeRule> = Vec::new();
    if parser.consume_token(&Token::LParen) {
        while !parser.consume_token(&Token::RParen) {
            let place = parser.peek_token_ref().span.start;
            let rule = like_rule(parser)?;
            if rules.iter().any(|other| other.feature == rule.feature) {
                let error = SqlError::new("LIKE has two rules for the same feature");
                return errors::refuse(error.at_location(place));
            }
            rules.push(rule);
        }
    }
    Ok(LikeClause { source, rules })
}

fn like_rule(parser: &mut Parser) -> Parsed<LikeRule> {
    let strategy = if accept(parser, "INCLUDING") {
        LikeStrategy::Including
    } else if accept(parser, "EXCLUDING") {
        LikeStrategy::Excluding
    } else if accept(parser, "OVERWRITING") {
        LikeStrategy::Overwriting
    } else {
        return parser.expected(
            "INCLUDING, EXCLUDING, OVERWRITING or ')'",
            parser.peek_token(),
        );
    };
    let token = parser.peek_token();
    let feature = match words::identifier(parser)?
        .value
        .to_ascii_uppercase()
        .as_str()
    {
        "ALL" => LikeFeature::All,
        "CONSTRAINTS" => LikeFeature::Constraints,
        "GENERATED" => LikeFeature::Generated,
        "METADATA" => LikeFeature::Metadata,
        "OPTIONS" => LikeFeature::Options,
        "PARTITIONS" => LikeFeature::Partitions,
        "WATERMARKS" => LikeFeature::Watermarks,
        _ => {
            return parser.expected(
                "ALL, CONSTRAINTS, GENERATED, METADATA, OPTIONS, PARTITIONS or WATERMARKS",
                token,
            );
        }
    };
    Ok(LikeRule { strategy, feature })
}
