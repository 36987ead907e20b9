//! One statement at the parser's place.

use sqlparser::ast::{Expr, Ident, Query};
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::Token;

use super::script::Source;
use super::words::{self, accept, is_word_at};
use super::{alter, create_table, errors, refused, show, spaces};
use crate::error::SqlError;
use crate::statement::{
    CreateView, Drop, Explain, ExplainTarget, Insert, JobStatement, Replace, Statement,
};

type Parsed<T> = Result<T, ParserError>;

/// Words that a statement can begin with, for the error.
const FIRST_WORDS: &[&str] = &[
    "SELECT", "WITH", "VALUES", "INSERT", "CREATE", "REPLACE", "ALTER", "DROP", "SHOW", "DESCRIBE",
    "DESC", "EXPLAIN", "SET", "RESET", "USE", "EXECUTE", "BEGIN",
];

/// The statement that begins here, up to its last token.
pub(crate) fn parse(parser: &mut Parser, source: &Source<'_>) -> Parsed<Statement> {
    refused::check(parser)?;
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
        "REPLACE" => {
            words::expect(parser, "REPLACE TABLE")?;
            let table = create_table::parse(parser, false, Replace::MustBeThere)?;
            Ok(Statement::CreateTable(Box::new(table)))
        }
        "ALTER" => alter(parser, source),
        "DROP" => drop(parser),
        "SHOW" if accept(parser, "SHOW JOBS") => Ok(Statement::Jobs(JobStatement::Show)),
        "SHOW" => show::parse(parser).map(Statement::Show),
        "STOP" => stop_job(parser),
        "DESCRIBE" | "DESC" => {
            parser.advance_token();
            if accept(parser, "JOB") {
                let id = words::string(parser, "the job's id as 'text'")?;
                return Ok(Statement::Jobs(JobStatement::Describe(id)));
            }
            if accept(parser, "CATALOG") {
                let extended = accept(parser, "EXTENDED");
                let name = words::identifier(parser)?;
                return Ok(Statement::DescribeCatalog(name, extended));
            }
            accept(parser, "EXTENDED");
            Ok(Statement::Describe(words::object_name(parser)?))
        }
        "EXPLAIN" => explain(parser),
        "SET" => set(parser, source),
        "RESET" => reset(parser, source),
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

/// STOP JOB 'id' [WITH SAVEPOINT]
fn stop_job(parser: &mut Parser) -> Parsed<Statement> {
    words::expect(parser, "STOP JOB")?;
    let id = words::string(parser, "the job's id as 'text'")?;
    let savepoint = accept(parser, "WITH SAVEPOINT");
    let place = parser.peek_token_ref().span.start;
    if accept(parser, "WITH DRAIN") {
        let error = SqlError::unsupported("STOP JOB ... WITH DRAIN");
        return errors::refuse(error.at_location(place));
    }
    Ok(Statement::Jobs(JobStatement::Stop { id, savepoint }))
}

fn query(parser: &mut Parser) -> Parsed<Box<Query>> {
    parser.parse_query()
}

/// INSERT INTO t [(columns)] query
fn insert(parser: &mut Parser) -> Parsed<Insert> {
    refused::check(parser)?;
    words::expect(parser, "INSERT INTO")?;
    accept(parser, "TABLE");
    let target = words::object_name(parser)?;
    let partition = match accept(parser, "PARTITION") {
        true => static_partition(parser)?,
        false => Vec::new(),
    };
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
        partition,
        options: Vec::new(),
        query: query(parser)?,
    })
}

/// (column = value, ...)
fn static_partition(parser: &mut Parser) -> Parsed<Vec<(Ident, Expr)>> {
    parser.expect_token(&Token::LParen)?;
    let partition = parser.parse_comma_separated(|parser| {
        let column = parser.parse_identifier()?;
        parser.expect_token(&Token::Eq)?;
        Ok((column, parser.parse_expr()?))
    })?;
    parser.expect_token(&Token::RParen)?;
    Ok(partition)
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
    if accept(parser, "OR REPLACE TABLE") {
        let table = create_table::parse(parser, false, Replace::IfThere)?;
        return Ok(Statement::CreateTable(Box::new(table)));
    }
    if accept(parser, "CATALOG") {
        return spaces::create_catalog(parser).map(Statement::Space);
    }
    if accept(parser, "DATABASE") {
        return spaces::create_database(parser).map(Statement::Space);
    }
    let temporary = accept(parser, "TEMPORARY");
    if accept(parser, "TABLE") {
        let table = create_table::parse(parser, temporary, Replace::No)?;
        return Ok(Statement::CreateTable(Box::new(table)));
    }
    if accept(parser, "VIEW") {
        return create_view(parser, source, temporary).map(Statement::CreateView);
    }
    parser.expected("TABLE, VIEW, CATALOG or DATABASE", parser.peek_token())
}

fn alter(parser: &mut Parser, source: &Source<'_>) -> Parsed<Statement> {
    words::expect(parser, "ALTER")?;
    if accept(parser, "TABLE") {
        return alter::table(parser).map(Statement::AlterTable);
    }
    if accept(parser, "VIEW") {
        return alter::view(parser, source).map(Statement::AlterView);
    }
    if accept(parser, "DATABASE") {
        return spaces::alter_database(parser).map(Statement::Space);
    }
    parser.expected("TABLE, VIEW or DATABASE", parser.peek_token())
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
    if accept(parser, "CATALOG") {
        return spaces::drop_catalog(parser).map(Statement::Space);
    }
    if accept(parser, "DATABASE") {
        return spaces::drop_database(parser).map(Statement::Space);
    }
    let temporary = accept(parser, "TEMPORARY");
    let view = if accept(parser, "TABLE") {
        false
    } else if accept(parser, "VIEW") {
        true
    } else {
        return parser.expected("TABLE, VIEW, CATALOG or DATABASE", parser.peek_token());
    };
    Ok(Statement::Drop(Drop {
        view,
        temporary,
        if_exists: accept(parser, "IF EXISTS"),
        name: words::object_name(parser)?,
    }))
}

fn explain(parser: &mut Parser) -> Parsed<Statement> {
    words::expect(parser, "EXPLAIN")?;
    let mut changelog_mode = false;
    let mut json_plan = false;
    let mut plan_advice = false;
    if !accept(parser, "PLAN FOR") {
        loop {
            let place = parser.peek_token_ref().span.start;
            if accept(parser, "CHANGELOG_MODE") {
                changelog_mode = true;
            } else if accept(parser, "JSON_EXECUTION_PLAN") {
                json_plan = true;
            } else if accept(parser, "PLAN_ADVICE") {
                plan_advice = true;
            } else if is_word_at(parser, 0, "ESTIMATED_COST") {
                let error = SqlError::unsupported("EXPLAIN ESTIMATED_COST");
                return errors::refuse(error.at_location(place));
            } else {
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
        json_plan,
        plan_advice,
        target,
    }))
}

/// SET, SET 'key' = 'value', SET key = value
fn set(parser: &mut Parser, source: &Source<'_>) -> Parsed<Statement> {
    words::expect(parser, "SET")?;
    let token = parser.peek_token();
    let location = token.span.start;
    let key = match &token.token {
        Token::SemiColon | Token::EOF => return Ok(Statement::ShowSettings),
        Token::Word(_) => unquoted(parser, source, &Token::Eq),
        _ => words::string(parser, "the key as 'text'")?,
    };
    parser.expect_token(&Token::Eq)?;
    let value = match parser.peek_token_ref().token {
        Token::SingleQuotedString(_) | Token::UnicodeStringLiteral(_) => {
            words::string(parser, "the value as 'text'")?
        }
        Token::SemiColon | Token::EOF => {
            return parser.expected("the value as 'text'", parser.peek_token());
        }
        _ => unquoted(parser, source, &Token::SemiColon),
    };
    Ok(Statement::Set {
        key,
        value,
        location,
    })
}

/// RESET, RESET 'key', RESET key
fn reset(parser: &mut Parser, source: &Source<'_>) -> Parsed<Statement> {
    words::expect(parser, "RESET")?;
    let token = parser.peek_token();
    let key = match &token.token {
        Token::SemiColon | Token::EOF => return Ok(Statement::Reset(None)),
        Token::Word(_) => unquoted(parser, source, &Token::SemiColon),
        _ => words::string(parser, "the key as 'text'")?,
    };
    Ok(Statement::Reset(Some((key, token.span.start))))
}

/// The text up to a token or the end of the statement: `parallelism.default`, `10s`.
fn unquoted(parser: &mut Parser, source: &Source<'_>, end: &Token) -> String {
    let start = parser.peek_token_ref().span.start;
    loop {
        let token = parser.peek_token_ref();
        if token.token == *end || matches!(token.token, Token::SemiColon | Token::EOF) {
            let text = source.between(start, token.span.start);
            return text.trim_end().to_owned();
        }
        parser.advance_token();
    }
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
    Ok(Statement::Use {
        catalog: None,
        database: Some(words::object_name(parser)?),
    })
}
