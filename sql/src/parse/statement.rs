//! One statement at the parser's place.

use sqlparser::ast::{Ident, Query};
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Token, TokenWithSpan};

use super::script::Source;
use super::words::{self, accept, are_words, is_word_at};
use super::{create_table, errors};
use crate::error::SqlError;
use crate::statement::{
    CreateView, Drop, Explain, ExplainTarget, Insert, LikePattern, Show, Statement,
};

type Parsed<T> = Result<T, ParserError>;

/// Statements of Flink that are not built: first words, and what they are called.
const REFUSED: &[(&str, &str)] = &[
    ("ALTER MATERIALIZED TABLE", "ALTER MATERIALIZED TABLE"),
    ("ALTER TABLE", "ALTER TABLE"),
    ("ALTER VIEW", "ALTER VIEW"),
    ("ALTER FUNCTION", "ALTER FUNCTION"),
    ("ALTER TEMPORARY", "ALTER FUNCTION"),
    ("ALTER DATABASE", "ALTER DATABASE"),
    ("ALTER CATALOG", "ALTER CATALOG"),
    ("ALTER MODEL", "ALTER MODEL"),
    ("CREATE OR REPLACE TABLE", "CREATE OR REPLACE TABLE"),
    ("CREATE OR ALTER", "CREATE OR ALTER"),
    ("CREATE MATERIALIZED TABLE", "CREATE MATERIALIZED TABLE"),
    ("CREATE CATALOG", "CREATE CATALOG"),
    ("CREATE DATABASE", "CREATE DATABASE"),
    ("CREATE FUNCTION", "CREATE FUNCTION"),
    ("CREATE TEMPORARY FUNCTION", "CREATE FUNCTION"),
    ("CREATE TEMPORARY SYSTEM FUNCTION", "CREATE FUNCTION"),
    ("CREATE MODEL", "CREATE MODEL"),
    ("CREATE TEMPORARY MODEL", "CREATE MODEL"),
    ("CREATE CONNECTION", "CREATE CONNECTION"),
    ("DROP MATERIALIZED TABLE", "DROP MATERIALIZED TABLE"),
    ("DROP CATALOG", "DROP CATALOG"),
    ("DROP DATABASE", "DROP DATABASE"),
    ("DROP FUNCTION", "DROP FUNCTION"),
    ("DROP TEMPORARY FUNCTION", "DROP FUNCTION"),
    ("DROP TEMPORARY SYSTEM FUNCTION", "DROP FUNCTION"),
    ("DROP MODEL", "DROP MODEL"),
    ("SHOW JOBS", "SHOW JOBS"),
    ("SHOW JARS", "SHOW JARS"),
    ("SHOW MODULES", "SHOW MODULES"),
    ("SHOW FULL MODULES", "SHOW MODULES"),
    ("SHOW PARTITIONS", "SHOW PARTITIONS"),
    ("SHOW PROCEDURES", "SHOW PROCEDURES"),
    ("SHOW MODELS", "SHOW MODELS"),
    ("SHOW MATERIALIZED TABLES", "SHOW MATERIALIZED TABLES"),
    ("SHOW CREATE CATALOG", "SHOW CREATE CATALOG"),
    (
        "SHOW CREATE MATERIALIZED TABLE",
        "SHOW CREATE MATERIALIZED TABLE",
    ),
    ("DESCRIBE CATALOG", "DESCRIBE CATALOG"),
    ("DESC CATALOG", "DESCRIBE CATALOG"),
    ("DESCRIBE DATABASE", "DESCRIBE DATABASE"),
    ("DESC DATABASE", "DESCRIBE DATABASE"),
    ("DESCRIBE FUNCTION", "DESCRIBE FUNCTION"),
    ("DESC FUNCTION", "DESCRIBE FUNCTION"),
    ("DESCRIBE JOB", "DESCRIBE JOB"),
    ("DESC JOB", "DESCRIBE JOB"),
    ("DESCRIBE MODEL", "DESCRIBE MODEL"),
    ("INSERT OVERWRITE", "INSERT OVERWRITE"),
    ("EXECUTE PLAN", "EXECUTE PLAN"),
    ("COMPILE PLAN", "COMPILE PLAN"),
    ("COMPILE AND EXECUTE PLAN", "COMPILE AND EXECUTE PLAN"),
    ("USE MODULES", "USE MODULES"),
    ("ADD JAR", "ADD JAR"),
    ("REMOVE JAR", "REMOVE JAR"),
    ("ADD CUSTOM", "ADD"),
    ("LOAD MODULE", "LOAD MODULE"),
    ("UNLOAD MODULE", "UNLOAD MODULE"),
    ("STOP JOB", "STOP JOB"),
    ("ANALYZE TABLE", "ANALYZE TABLE"),
    ("TRUNCATE TABLE", "TRUNCATE TABLE"),
    ("CALL", "CALL"),
    ("UPDATE", "UPDATE"),
    ("DELETE FROM", "DELETE"),
    ("MERGE INTO", "MERGE INTO"),
    ("HELP", "HELP"),
    ("CLEAR", "CLEAR"),
    ("SOURCE", "SOURCE"),
    ("QUIT", "QUIT inside of a script"),
    ("EXIT", "EXIT inside of a script"),
];

/// Words that a statement can begin with, for the error.
const FIRST_WORDS: &[&str] = &[
    "SELECT", "WITH", "VALUES", "INSERT", "CREATE", "DROP", "SHOW", "DESCRIBE", "DESC", "EXPLAIN",
    "SET", "RESET", "USE", "EXECUTE", "BEGIN",
];

/// The statement that begins here, up to its last token.
pub(crate) fn parse(parser: &mut Parser, source: &Source<'_>) -> Parsed<Statement> {
    refuse_known(parser)?;
    let first = parser.peek_token();
    if first.token == Token::LParen {
        return Ok(Statement::Query(query(parser)?));
    }
    let word = match &first.token {
        Token::Word(word) if word.quote_style.is_none() => word.value.to_ascii_uppercase(),
        _ => return parser.expected("a statement", first),
    };
    match word.as_str() {
        "SELECT" | "WITH" | "VALUES" => Ok(Statement::Query(query(parser)?)),
        "INSERT" => Ok(Statement::Insert(insert(parser)?)),
        "CREATE" => create(parser, source),
        "DROP" => drop(parser),
        "SHOW" => show(parser).map(Statement::Show),
        "DESCRIBE" | "DESC" => {
            parser.advance_token();
            accept(parser, "EXTENDED");
            Ok(Statement::Describe(words::object_name(parser)?))
        }
        "EXPLAIN" => explain(parser),
        "SET" => set(parser),
        "RESET" => reset(parser),
        "USE" => use_(parser),
        "EXECUTE" => execute(parser),
        "BEGIN" => {
            words::expect(parser, "BEGIN STATEMENT SET")?;
            parser.expect_token(&Token::SemiColon)?;
            statement_set(parser).map(Statement::StatementSet)
        }
        other => {
            let error = SqlError::new(format!("syntax error: no statement begins with '{other}'"));
            errors::refuse(
                error
                    .did_you_mean(other, FIRST_WORDS.iter().copied())
                    .at_location(first.span.start),
            )
        }
    }
}

fn refuse_known(parser: &Parser) -> Parsed<()> {
    for (first_words, name) in REFUSED {
        let first_words: Vec<&str> = first_words.split(' ').collect();
        if are_words(parser, &first_words) {
            let place = parser.peek_token_ref().span.start;
            return errors::refuse(SqlError::unsupported(name).at_location(place));
        }
    }
    Ok(())
}

fn query(parser: &mut Parser) -> Parsed<Box<Query>> {
    parser.parse_query()
}

/// INSERT INTO t [(columns)] query
fn insert(parser: &mut Parser) -> Parsed<Insert> {
    refuse_known(parser)?;
    words::expect(parser, "INSERT INTO")?;
    accept(parser, "TABLE");
    let target = words::object_name(parser)?;
    let place = parser.peek_token_ref().span.start;
    if is_word_at(parser, 0, "PARTITION") {
        return errors::refuse(
            SqlError::unsupported("INSERT INTO ... PARTITION").at_location(place),
        );
    }
    let list_follows = parser.peek_token_ref().token == Token::LParen
        && !["SELECT", "WITH", "VALUES"]
            .iter()
            .any(|word| is_word_at(parser, 1, word))
        && parser.peek_nth_token_ref(1).token != Token::LParen;
    let columns = if list_follows {
        words::column_list(parser)?
    } else {
        Vec::new()
    };
    Ok(Insert {
        target,
        columns,
        options: Vec::new(),
        query: query(parser)?,
    })
}

/// EXECUTE STATEMENT SET BEGIN ... END, EXECUTE INSERT, EXECUTE SELECT
fn execute(parser: &mut Parser) -> Parsed<Statement> {
    words::expect(parser, "EXECUTE")?;
    if accept(parser, "STATEMENT SET") {
        words::expect(parser, "BEGIN")?;
        return statement_set(parser).map(Statement::StatementSet);
    }
    if is_word_at(parser, 0, "INSERT") {
        return Ok(Statement::Insert(insert(parser)?));
    }
    if is_word_at(parser, 0, "SELECT") || is_word_at(parser, 0, "WITH") {
        return Ok(Statement::Query(query(parser)?));
    }
    parser.expected("STATEMENT SET, INSERT or SELECT", parser.peek_token())
}

/// What follows BEGIN: INSERTs with a semicolon each, then END.
fn statement_set(parser: &mut Parser) -> Parsed<Vec<Insert>> {
    let mut inserts = Vec::new();
    loop {
        if accept(parser, "END") {
            if inserts.is_empty() {
                let place = parser.get_current_token().span.start;
                let error = SqlError::new("the statement set has no INSERT");
                return errors::refuse(error.at_location(place));
            }
            return Ok(inserts);
        }
        if !is_word_at(parser, 0, "INSERT") {
            return parser.expected("INSERT or END", parser.peek_token());
        }
        inserts.push(insert(parser)?);
        parser.expect_token(&Token::SemiColon)?;
    }
}

fn create(parser: &mut Parser, source: &Source<'_>) -> Parsed<Statement> {
    words::expect(parser, "CREATE")?;
    let temporary = accept(parser, "TEMPORARY");
    if accept(parser, "TABLE") {
        let table = create_table::parse(parser, temporary)?;
        return Ok(Statement::CreateTable(Box::new(table)));
    }
    if accept(parser, "VIEW") {
        return create_view(parser, source, temporary).map(Statement::CreateView);
    }
    parser.expected("TABLE or VIEW", parser.peek_token())
}

/// What follows CREATE [TEMPORARY] VIEW.
fn create_view(parser: &mut Parser, source: &Source<'_>, temporary: bool) -> Parsed<CreateView> {
    let if_not_exists = accept(parser, "IF NOT EXISTS");
    let name = words::object_name(parser)?;
    let columns = if parser.peek_token_ref().token == Token::LParen {
        words::column_list(parser)?
    } else {
        Vec::new()
    };
    let comment = accept(parser, "COMMENT")
        .then(|| words::string(parser, "the comment as 'text'"))
        .transpose()?;
    words::expect(parser, "AS")?;
    let start = parser.peek_token_ref().span.start;
    let query = query(parser)?;
    let text = source.between(start, parser.peek_token_ref().span.start);
    Ok(CreateView {
        name,
        temporary,
        if_not_exists,
        columns,
        comment,
        query,
        text: text.trim_end().to_owned(),
    })
}

fn drop(parser: &mut Parser) -> Parsed<Statement> {
    words::expect(parser, "DROP")?;
    let temporary = accept(parser, "TEMPORARY");
    let view = if accept(parser, "TABLE") {
        false
    } else if accept(parser, "VIEW") {
        true
    } else {
        return parser.expected("TABLE or VIEW", parser.peek_token());
    };
    Ok(Statement::Drop(Drop {
        view,
        temporary,
        if_exists: accept(parser, "IF EXISTS"),
        name: words::object_name(parser)?,
    }))
}

fn show(parser: &mut Parser) -> Parsed<Show> {
    words::expect(parser, "SHOW")?;
    if accept(parser, "TABLES") {
        in_database(parser)?;
        return Ok(Show::Tables(like_pattern(parser)?));
    }
    if accept(parser, "VIEWS") {
        in_database(parser)?;
        return Ok(Show::Views(like_pattern(parser)?));
    }
    if accept(parser, "CREATE TABLE") {
        return Ok(Show::CreateTable(words::object_name(parser)?));
    }
    if accept(parser, "CREATE VIEW") {
        return Ok(Show::CreateView(words::object_name(parser)?));
    }
    if accept(parser, "COLUMNS") {
        if !accept(parser, "FROM") {
            words::expect(parser, "IN")?;
        }
        let name = words::object_name(parser)?;
        return Ok(Show::Columns(name, like_pattern(parser)?));
    }
    if accept(parser, "USER FUNCTIONS") {
        return Ok(Show::Functions(true));
    }
    for (words, show) in [
        ("FUNCTIONS", Show::Functions(false)),
        ("CATALOGS", Show::Catalogs),
        ("DATABASES", Show::Databases),
        ("CURRENT CATALOG", Show::CurrentCatalog),
        ("CURRENT DATABASE", Show::CurrentDatabase),
    ] {
        if accept(parser, words) {
            return Ok(show);
        }
    }
    parser.expected(
        "TABLES, VIEWS, CREATE TABLE, CREATE VIEW, COLUMNS, FUNCTIONS, CATALOGS, DATABASES, CURRENT CATALOG or CURRENT DATABASE",
        parser.peek_token(),
    )
}

/// { FROM | IN } [catalog.]database: there is but one.
fn in_database(parser: &mut Parser) -> Parsed<()> {
    if !accept(parser, "FROM") && !accept(parser, "IN") {
        return Ok(());
    }
    let mut name = words::object_name(parser)?;
    name.0
        .push(sqlparser::ast::ObjectNamePart::Identifier(Ident::new("t")));
    match crate::statement::relation_name(&name) {
        Ok(_) => Ok(()),
        Err(error) => errors::refuse(error),
    }
}

fn like_pattern(parser: &mut Parser) -> Parsed<Option<LikePattern>> {
    let negated = accept(parser, "NOT");
    if !negated && !is_word_at(parser, 0, "LIKE") {
        if is_word_at(parser, 0, "ILIKE") {
            let place = parser.peek_token_ref().span.start;
            return errors::refuse(SqlError::unsupported("SHOW ... ILIKE").at_location(place));
        }
        return Ok(None);
    }
    words::expect(parser, "LIKE")?;
    Ok(Some(LikePattern {
        negated,
        pattern: words::string(parser, "a pattern as 'text'")?,
    }))
}

fn explain(parser: &mut Parser) -> Parsed<Statement> {
    words::expect(parser, "EXPLAIN")?;
    let mut changelog_mode = false;
    if !accept(parser, "PLAN FOR") {
        loop {
            let place = parser.peek_token_ref().span.start;
            if accept(parser, "CHANGELOG_MODE") {
                changelog_mode = true;
            } else {
                for detail in ["ESTIMATED_COST", "JSON_EXECUTION_PLAN", "PLAN_ADVICE"] {
                    if is_word_at(parser, 0, detail) {
                        let error = SqlError::unsupported(format!("EXPLAIN {detail}"));
                        return errors::refuse(error.at_location(place));
                    }
                }
                break;
            }
            if !parser.consume_token(&Token::Comma) {
                break;
            }
        }
    }
    let target = if is_word_at(parser, 0, "INSERT") {
        ExplainTarget::Inserts(vec![insert(parser)?])
    } else if accept(parser, "EXECUTE STATEMENT SET") || accept(parser, "STATEMENT SET") {
        words::expect(parser, "BEGIN")?;
        ExplainTarget::Inserts(statement_set(parser)?)
    } else {
        ExplainTarget::Query(query(parser)?)
    };
    Ok(Statement::Explain(Explain {
        changelog_mode,
        target,
    }))
}

/// SET, SET 'key' = 'value'
fn set(parser: &mut Parser) -> Parsed<Statement> {
    words::expect(parser, "SET")?;
    let token = parser.peek_token();
    match &token.token {
        Token::SemiColon | Token::EOF => return Ok(Statement::ShowSettings),
        Token::Word(_) => return unquoted_setting("SET 'key' = 'value'", token),
        _ => {}
    }
    let key = words::string(parser, "the key as 'text'")?;
    parser.expect_token(&Token::Eq)?;
    let value = words::string(parser, "the value as 'text'")?;
    Ok(Statement::Set {
        key,
        value,
        location: token.span.start,
    })
}

/// RESET, RESET 'key'
fn reset(parser: &mut Parser) -> Parsed<Statement> {
    words::expect(parser, "RESET")?;
    let token = parser.peek_token();
    match &token.token {
        Token::SemiColon | Token::EOF => Ok(Statement::Reset(None)),
        Token::Word(_) => unquoted_setting("RESET 'key'", token),
        _ => {
            let key = words::string(parser, "the key as 'text'")?;
            Ok(Statement::Reset(Some((key, token.span.start))))
        }
    }
}

fn unquoted_setting<T>(form: &str, token: TokenWithSpan) -> Parsed<T> {
    let error = SqlError::new("syntax error: key and value are texts in single quotes");
    errors::refuse(
        error
            .hint(format!("write {form}"))
            .at_location(token.span.start),
    )
}

/// USE CATALOG c, USE [c.]d
fn use_(parser: &mut Parser) -> Parsed<Statement> {
    words::expect(parser, "USE")?;
    if is_word_at(parser, 0, "CATALOG") {
        words::expect(parser, "CATALOG")?;
        let catalog = Some(words::identifier(parser)?);
        return Ok(Statement::Use {
            catalog,
            database: None,
        });
    }
    let first = words::identifier(parser)?;
    if parser.consume_token(&Token::Period) {
        return Ok(Statement::Use {
            catalog: Some(first),
            database: Some(words::identifier(parser)?),
        });
    }
    Ok(Statement::Use {
        catalog: None,
        database: Some(first),
    })
}
