//! Flink's dialect for sqlparser's expressions and queries. Whole statements are read by `parse`.
//!
//! What Flink writes and sqlparser's tree has no place for is put into the tree like this:
//!
//! | Flink | tree |
//! | --- | --- |
//! | `TABLE bid [PARTITION BY a]` as an argument | see `signature` |
//! | `CAST(x AS type)`, `TRY_CAST(x AS type)` | [`Expr::Cast`] whose type is [`DataType::Custom`]; [`crate::parse::types::cast_type`] gives it back |
//! | `MAP['a', 1]` | a call of the function `MAP` |
//! | `JSON_VALUE(x, y RETURNING INT)`, `IS JSON` and the like | see [`crate::parse::forms`] |
//!
//! Everything else is sqlparser's own: `ROW(1, 2)` and `TIMESTAMPDIFF(DAY, a, b)` are calls, `EXTRACT`, `FLOOR(x TO DAY)`, `POSITION`,
//! `TRIM`, `OVERLAY`, `INTERVAL` have their own kinds of expression, `DATE '2020-01-01'` is [`Expr::TypedString`], `a.b.c` is
//! [`Expr::CompoundIdentifier`] whatever the parts are.

use sqlparser::ast::{
    CastKind, DataType, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList,
    FunctionArguments, Ident, ObjectName, WindowSpec, WindowType,
};
use sqlparser::dialect::Dialect;
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Span, Token};

use crate::parse::words::{self, is_word_at};
use crate::parse::{forms, types};

/// Names keep their case; only backticks quote them.
#[derive(Debug, Clone, Copy)]
pub struct FlinkDialect;

impl Dialect for FlinkDialect {
    fn is_delimited_identifier_start(&self, ch: char) -> bool {
        ch == '`'
    }

    fn identifier_quote_style(&self, _identifier: &str) -> Option<char> {
        Some('`')
    }

    // U+E024 stands for '$', see `parse::script`.
    fn is_identifier_start(&self, ch: char) -> bool {
        ch.is_alphabetic() || ch == '_' || ch == '\u{E024}'
    }

    fn is_identifier_part(&self, ch: char) -> bool {
        ch.is_alphanumeric() || ch == '_' || ch == '\u{E024}'
    }

    fn supports_unicode_string_literal(&self) -> bool {
        true
    }

    fn supports_filter_during_aggregation(&self) -> bool {
        true
    }

    fn supports_group_by_expr(&self) -> bool {
        true
    }

    fn supports_match_recognize(&self) -> bool {
        true
    }

    fn supports_window_clause_named_window_reference(&self) -> bool {
        true
    }

    fn supports_window_function_null_treatment_arg(&self) -> bool {
        true
    }

    fn supports_parens_around_table_factor(&self) -> bool {
        true
    }

    fn supports_table_versioning(&self) -> bool {
        true
    }

    fn parse_prefix(&self, parser: &mut Parser) -> Option<Result<Expr, ParserError>> {
        let word = match &parser.peek_token_ref().token {
            Token::LParen => return forms::difference(parser),
            Token::Word(word) if word.quote_style.is_none() => word.value.to_ascii_uppercase(),
            _ => return None,
        };
        let next = parser.peek_nth_token_ref(1).token.clone();
        match (word.as_str(), next) {
            ("CAST", Token::LParen) => Some(cast(parser, CastKind::Cast)),
            ("TRY_CAST", Token::LParen) => Some(cast(parser, CastKind::TryCast)),
            ("MAP", Token::LBracket) => Some(map_literal(parser)),
            ("TABLE", Token::Word(_)) => Some(table_argument(parser)),
            (word, next) => forms::prefix(parser, word, &next),
        }
    }

    fn parse_infix(
        &self,
        parser: &mut Parser,
        operand: &Expr,
        _precedence: u8,
    ) -> Option<Result<Expr, ParserError>> {
        forms::infix(self, parser, operand)
    }
}

/// `CAST(expr AS type)`, with Flink's types.
fn cast(parser: &mut Parser, kind: CastKind) -> Result<Expr, ParserError> {
    parser.advance_token();
    parser.expect_token(&Token::LParen)?;
    let expr = Box::new(parser.parse_expr()?);
    parser.expect_keyword(Keyword::AS)?;
    let data_type = types::parse_for_cast(parser)?;
    parser.expect_token(&Token::RParen)?;
    Ok(Expr::Cast {
        kind,
        expr,
        data_type,
        array: false,
        format: None,
    })
}

/// `MAP['a', 1, 'b', 2]`
fn map_literal(parser: &mut Parser) -> Result<Expr, ParserError> {
    let name = words::identifier(parser)?;
    parser.expect_token(&Token::LBracket)?;
    let args = parser.parse_comma_separated0(Parser::parse_expr, Token::RBracket)?;
    parser.expect_token(&Token::RBracket)?;
    Ok(call(name, args, None))
}

/// `TABLE name [PARTITION BY a, b]`, or with the columns in parentheses.
fn table_argument(parser: &mut Parser) -> Result<Expr, ParserError> {
    let span = parser.peek_token_ref().span;
    parser.advance_token();
    let name = words::object_name(parser)?;
    let idents = name.0.iter().filter_map(|part| part.as_ident().cloned());
    let relation = Expr::CompoundIdentifier(idents.collect());
    let over = if is_word_at(parser, 0, "PARTITION") {
        parser.expect_keywords(&[Keyword::PARTITION, Keyword::BY])?;
        let partition_by = if parser.consume_token(&Token::LParen) {
            let list = parser.parse_comma_separated(Parser::parse_expr)?;
            parser.expect_token(&Token::RParen)?;
            list
        } else {
            partition_columns(parser)?
        };
        Some(WindowType::WindowSpec(WindowSpec {
            window_name: None,
            partition_by,
            order_by: Vec::new(),
            window_frame: None,
        }))
    } else {
        None
    };
    Ok(call(ident("TABLE", span), vec![relation], over))
}

/// `a, b` without parentheses: a comma may also end the argument, then a call or a named argument follows and no column.
fn partition_columns(parser: &mut Parser) -> Result<Vec<Expr>, ParserError> {
    let mut columns = vec![Expr::Identifier(words::identifier(parser)?)];
    while parser.peek_token_ref().token == Token::Comma
        && matches!(parser.peek_nth_token_ref(1).token, Token::Word(_))
        && !matches!(
            parser.peek_nth_token_ref(2).token,
            Token::LParen | Token::RArrow
        )
        && !is_word_at(parser, 1, "INTERVAL")
    {
        parser.advance_token();
        columns.push(Expr::Identifier(words::identifier(parser)?));
    }
    Ok(columns)
}

fn ident(value: &str, span: Span) -> Ident {
    Ident::with_span(span, value)
}

fn call(name: Ident, args: Vec<Expr>, over: Option<WindowType>) -> Expr {
    let args = args
        .into_iter()
        .map(|arg| FunctionArg::Unnamed(FunctionArgExpr::Expr(arg)));
    Expr::Function(Function {
        name: ObjectName::from(vec![name]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList {
            duplicate_treatment: None,
            args: args.collect(),
            clauses: Vec::new(),
        }),
        filter: None,
        null_treatment: None,
        over,
        within_group: Vec::new(),
    })
}

/// The tree's place for a type: its SQL text as a name.
pub(crate) fn custom_type(text: String, span: Span) -> DataType {
    DataType::Custom(ObjectName::from(vec![ident(&text, span)]), Vec::new())
}
