//! Calls and conditions with a syntax of their own that sqlparser does not have: the JSON functions with their clauses, TRIM(LEADING FROM x),
//! CASE x WHEN a, b THEN, IS JSON, BETWEEN SYMMETRIC.
//!
//! In the tree, a clause of a JSON function is a named argument (`ON_EMPTY => 'NULL'`), a pair of JSON_OBJECT is a named argument whose name is
//! the key's expression, and IS JSON is a call of IS_JSON. [`crate::plan`] reads them.

use sqlparser::ast::helpers::attached_token::AttachedToken;
use sqlparser::ast::{
    BinaryOperator, CaseWhen, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgOperator,
    FunctionArgumentClause, FunctionArgumentList, FunctionArguments, Ident, JsonNullClause,
    ObjectName, TrimWhereField, UnaryOperator, Value,
};
use sqlparser::dialect::{Dialect, Precedence};
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Span, Token};

use super::types;
use super::words::{self, accept, are_words, is_word_at};

type Parsed<T> = Result<T, ParserError>;

/// The forms that start with a word and `(`, or with CASE.
pub(crate) fn prefix(parser: &mut Parser, word: &str, next: &Token) -> Option<Parsed<Expr>> {
    Some(match (word, next) {
        ("JSON_VALUE", Token::LParen) => json_value(parser),
        ("JSON_QUERY", Token::LParen) => json_query(parser),
        ("JSON_EXISTS", Token::LParen) => json_exists(parser),
        ("JSON_OBJECT" | "JSON_OBJECTAGG", Token::LParen) => json_object(parser),
        ("JSON_ARRAY" | "JSON_ARRAYAGG", Token::LParen) => json_array(parser),
        ("TRIM", Token::LParen) => trim(parser),
        ("CASE", _) => case(parser),
        _ => return None,
    })
}

/// The forms that stand behind an operand.
pub(crate) fn infix(
    dialect: &dyn Dialect,
    parser: &mut Parser,
    operand: &Expr,
) -> Option<Parsed<Expr>> {
    for (words, negated) in [("IS JSON", false), ("IS NOT JSON", true)] {
        if accept(parser, words) {
            return Some(Ok(is_json(parser, operand, negated)));
        }
    }
    for (words, symmetric, negated) in [
        ("BETWEEN SYMMETRIC", true, false),
        ("BETWEEN ASYMMETRIC", false, false),
        ("NOT BETWEEN SYMMETRIC", true, true),
        ("NOT BETWEEN ASYMMETRIC", false, true),
    ] {
        if accept(parser, words) {
            return Some(between(dialect, parser, operand, symmetric, negated));
        }
    }
    None
}

fn is_json(parser: &mut Parser, operand: &Expr, negated: bool) -> Expr {
    let kinds = ["VALUE", "SCALAR", "ARRAY", "OBJECT"];
    let kind = kinds.into_iter().find(|kind| accept(parser, kind));
    let kind = text(kind.unwrap_or("VALUE"));
    let args = vec![unnamed(operand.clone()), unnamed(kind)];
    let call = call(Ident::with_span(Span::empty(), "IS_JSON"), args, Vec::new());
    if negated {
        Expr::UnaryOp {
            op: UnaryOperator::Not,
            expr: Box::new(call),
        }
    } else {
        call
    }
}

/// The ends of a symmetric one may come in either order.
fn between(
    dialect: &dyn Dialect,
    parser: &mut Parser,
    operand: &Expr,
    symmetric: bool,
    negated: bool,
) -> Parsed<Expr> {
    let precedence = dialect.prec_value(Precedence::Between);
    let low = parser.parse_subexpr(precedence)?;
    parser.expect_keyword_is(Keyword::AND)?;
    let high = parser.parse_subexpr(precedence)?;
    let ends = |low: Expr, high: Expr| Expr::Between {
        expr: Box::new(operand.clone()),
        negated,
        low: Box::new(low),
        high: Box::new(high),
    };
    if !symmetric {
        return Ok(ends(low, high));
    }
    Ok(Expr::Nested(Box::new(Expr::BinaryOp {
        left: Box::new(ends(low.clone(), high.clone())),
        op: if negated {
            BinaryOperator::And
        } else {
            BinaryOperator::Or
        },
        right: Box::new(ends(high, low)),
    })))
}

/// `(a - b) DAY [TO SECOND]`: what lies between two points in time, as an interval. In the tree a call of `__difference`.
pub(crate) fn difference(parser: &mut Parser) -> Option<Parsed<Expr>> {
    const UNITS: [&str; 8] = [
        "YEAR", "QUARTER", "MONTH", "WEEK", "DAY", "HOUR", "MINUTE", "SECOND",
    ];
    let unit_at = |parser: &Parser, ahead: usize| {
        UNITS
            .into_iter()
            .find(|unit| is_word_at(parser, ahead, unit))
    };
    let behind = closing(parser)? + 1;
    let unit = unit_at(parser, behind)?;
    if parser.peek_nth_token_ref(behind + 1).token == Token::LParen {
        return None;
    }
    parser.advance_token();
    let inner = match parser.parse_expr() {
        Ok(inner) => inner,
        Err(error) => return Some(Err(error)),
    };
    let Expr::BinaryOp {
        left,
        op: BinaryOperator::Minus,
        right,
    } = inner
    else {
        return Some(parser.expected("a difference of two points in time", parser.peek_token()));
    };
    parser.advance_token();
    parser.advance_token();
    if accept(parser, "TO") {
        parser.advance_token();
    }
    let args = vec![unnamed(*left), unnamed(*right), unnamed(text(unit))];
    let name = Ident::with_span(Span::empty(), "__difference");
    Some(Ok(call(name, args, Vec::new())))
}

/// How many tokens ahead the parenthesis closes that opens here, if there is a minus in it.
fn closing(parser: &Parser) -> Option<usize> {
    /// A difference is no longer than this.
    const FAR: usize = 200;
    let (mut depth, mut minus) = (0usize, false);
    for ahead in 0..FAR {
        match parser.peek_nth_token_ref(ahead).token {
            Token::LParen => depth += 1,
            Token::RParen if depth == 1 => return minus.then_some(ahead),
            Token::RParen => depth = depth.checked_sub(1)?,
            Token::Minus if depth == 1 => minus = true,
            Token::EOF => return None,
            _ => {}
        }
    }
    None
}

/// The function's name and the opening parenthesis.
fn open(parser: &mut Parser) -> Parsed<Ident> {
    let name = words::identifier(parser)?;
    parser.expect_token(&Token::LParen)?;
    Ok(name)
}

/// `json, path` and the opening of every JSON function over a text.
fn json_and_path(parser: &mut Parser) -> Parsed<(Ident, Vec<FunctionArg>)> {
    let name = open(parser)?;
    let json = parser.parse_expr()?;
    parser.expect_token(&Token::Comma)?;
    let path = parser.parse_expr()?;
    Ok((name, vec![unnamed(json), unnamed(path)]))
}

/// `JSON_VALUE(json, path [RETURNING type] [NULL | ERROR | DEFAULT value ON EMPTY] [... ON ERROR])`
fn json_value(parser: &mut Parser) -> Parsed<Expr> {
    let (name, mut args) = json_and_path(parser)?;
    returning(parser, &mut args)?;
    while !parser.consume_token(&Token::RParen) {
        let (word, default) = if accept(parser, "DEFAULT") {
            ("DEFAULT", Some(parser.parse_expr()?))
        } else {
            (behavior(parser, &["NULL", "ERROR"])?, None)
        };
        let event = event(parser)?;
        args.push(clause(event, text(word)));
        if let Some(default) = default {
            args.push(clause(&format!("DEFAULT_{event}"), default));
        }
    }
    Ok(call(name, args, Vec::new()))
}

/// `JSON_QUERY(json, path [RETURNING type] [WITH ... WRAPPER] [NULL | ERROR | EMPTY ARRAY | EMPTY OBJECT ON EMPTY] [... ON ERROR])`
fn json_query(parser: &mut Parser) -> Parsed<Expr> {
    let (name, mut args) = json_and_path(parser)?;
    returning(parser, &mut args)?;
    let wrapper = if accept(parser, "WITHOUT") {
        Some("WITHOUT")
    } else if accept(parser, "WITH") {
        let conditional = accept(parser, "CONDITIONAL");
        if !conditional {
            accept(parser, "UNCONDITIONAL");
        }
        Some(if conditional {
            "CONDITIONAL"
        } else {
            "UNCONDITIONAL"
        })
    } else {
        None
    };
    if let Some(wrapper) = wrapper {
        accept(parser, "ARRAY");
        words::expect(parser, "WRAPPER")?;
        args.push(clause("WRAPPER", text(wrapper)));
    }
    while !parser.consume_token(&Token::RParen) {
        let words = ["NULL", "ERROR", "EMPTY ARRAY", "EMPTY OBJECT"];
        let word = behavior(parser, &words)?;
        args.push(clause(event(parser)?, text(word)));
    }
    Ok(call(name, args, Vec::new()))
}

/// `JSON_EXISTS(json, path [TRUE | FALSE | UNKNOWN | ERROR ON ERROR])`
fn json_exists(parser: &mut Parser) -> Parsed<Expr> {
    let (name, mut args) = json_and_path(parser)?;
    if !parser.consume_token(&Token::RParen) {
        let word = behavior(parser, &["TRUE", "FALSE", "UNKNOWN", "ERROR"])?;
        words::expect(parser, "ON ERROR")?;
        args.push(clause("ON_ERROR", text(word)));
        parser.expect_token(&Token::RParen)?;
    }
    Ok(call(name, args, Vec::new()))
}

/// `JSON_OBJECT([[KEY] key VALUE value | key : value], ... [NULL | ABSENT ON NULL])`
fn json_object(parser: &mut Parser) -> Parsed<Expr> {
    let name = open(parser)?;
    let mut args = Vec::new();
    loop {
        if let Some(clauses) = end_of_json(parser)? {
            return Ok(call(name, args, clauses));
        }
        if !args.is_empty() {
            parser.expect_token(&Token::Comma)?;
        }
        // KEY may also be a column.
        if is_word_at(parser, 0, "KEY") && !is_word_at(parser, 1, "VALUE") {
            accept(parser, "KEY");
        }
        let key = parser.parse_expr()?;
        if !parser.consume_token(&Token::Colon) {
            words::expect(parser, "VALUE")?;
        }
        let value = parser.parse_expr()?;
        args.push(FunctionArg::ExprNamed {
            name: key,
            arg: FunctionArgExpr::Expr(value),
            operator: FunctionArgOperator::Value,
        });
    }
}

/// `JSON_ARRAY([value, ...] [NULL | ABSENT ON NULL])`
fn json_array(parser: &mut Parser) -> Parsed<Expr> {
    let name = open(parser)?;
    let mut args = Vec::new();
    loop {
        if let Some(clauses) = end_of_json(parser)? {
            return Ok(call(name, args, clauses));
        }
        if !args.is_empty() {
            parser.expect_token(&Token::Comma)?;
        }
        args.push(unnamed(parser.parse_expr()?));
    }
}

/// `[NULL | ABSENT ON NULL])`, if it comes next.
fn end_of_json(parser: &mut Parser) -> Parsed<Option<Vec<FunctionArgumentClause>>> {
    let null_clause = if accept(parser, "NULL ON NULL") {
        Some(JsonNullClause::NullOnNull)
    } else if accept(parser, "ABSENT ON NULL") {
        Some(JsonNullClause::AbsentOnNull)
    } else {
        None
    };
    if null_clause.is_some() {
        parser.expect_token(&Token::RParen)?;
    } else if !parser.consume_token(&Token::RParen) {
        return Ok(None);
    }
    let clauses = null_clause.map(FunctionArgumentClause::JsonNullClause);
    Ok(Some(clauses.into_iter().collect()))
}

fn returning(parser: &mut Parser, args: &mut Vec<FunctionArg>) -> Parsed<()> {
    if accept(parser, "RETURNING") {
        let field = types::parse_type(parser)?;
        let written = text(&field.logical_type.to_string());
        args.push(clause("RETURNING", written));
    }
    Ok(())
}

/// One of these, as it is written here.
fn behavior<'w>(parser: &mut Parser, choices: &[&'w str]) -> Parsed<&'w str> {
    match choices.iter().find(|words| accept(parser, words)) {
        Some(words) => Ok(words),
        None => parser.expected(
            &format!("one of {}", choices.join(", ")),
            parser.peek_token(),
        ),
    }
}

/// `ON EMPTY` or `ON ERROR`
fn event(parser: &mut Parser) -> Parsed<&'static str> {
    if accept(parser, "ON EMPTY") {
        return Ok("ON_EMPTY");
    }
    words::expect(parser, "ON ERROR").map(|()| "ON_ERROR")
}

/// `TRIM([[BOTH | LEADING | TRAILING] [characters] FROM] text)`
fn trim(parser: &mut Parser) -> Parsed<Expr> {
    open(parser)?;
    let place = if accept(parser, "BOTH") {
        Some(TrimWhereField::Both)
    } else if accept(parser, "LEADING") {
        Some(TrimWhereField::Leading)
    } else if accept(parser, "TRAILING") {
        Some(TrimWhereField::Trailing)
    } else {
        None
    };
    let mut what = None;
    if place.is_none() || !accept(parser, "FROM") {
        let first = parser.parse_expr()?;
        if !accept(parser, "FROM") {
            parser.expect_token(&Token::RParen)?;
            return Ok(trimmed(first, None, None));
        }
        what = Some(Box::new(first));
    }
    let operand = parser.parse_expr()?;
    parser.expect_token(&Token::RParen)?;
    Ok(trimmed(operand, place, what))
}

fn trimmed(operand: Expr, place: Option<TrimWhereField>, what: Option<Box<Expr>>) -> Expr {
    Expr::Trim {
        expr: Box::new(operand),
        trim_where: place,
        trim_what: what,
        trim_characters: None,
    }
}

/// `CASE x WHEN a, b THEN r` is `CASE x WHEN a THEN r WHEN b THEN r`.
fn case(parser: &mut Parser) -> Parsed<Expr> {
    let case_token = AttachedToken(parser.peek_token());
    words::expect(parser, "CASE")?;
    let operand = if are_words(parser, &["WHEN"]) {
        None
    } else {
        Some(Box::new(parser.parse_expr()?))
    };
    let mut conditions = Vec::new();
    while accept(parser, "WHEN") {
        let alternatives = match operand {
            Some(_) => parser.parse_comma_separated(Parser::parse_expr)?,
            None => vec![parser.parse_expr()?],
        };
        words::expect(parser, "THEN")?;
        let result = parser.parse_expr()?;
        conditions.extend(alternatives.into_iter().map(|condition| CaseWhen {
            condition,
            result: result.clone(),
        }));
    }
    if conditions.is_empty() {
        return parser.expected("WHEN", parser.peek_token());
    }
    let else_result = match accept(parser, "ELSE") {
        true => Some(Box::new(parser.parse_expr()?)),
        false => None,
    };
    let end_token = AttachedToken(parser.expect_keyword(Keyword::END)?);
    Ok(Expr::Case {
        case_token,
        end_token,
        operand,
        conditions,
        else_result,
    })
}

fn text(value: &str) -> Expr {
    Expr::value(Value::SingleQuotedString(value.to_owned()))
}

fn unnamed(expr: Expr) -> FunctionArg {
    FunctionArg::Unnamed(FunctionArgExpr::Expr(expr))
}

fn clause(name: &str, value: Expr) -> FunctionArg {
    FunctionArg::Named {
        name: Ident::new(name),
        arg: FunctionArgExpr::Expr(value),
        operator: FunctionArgOperator::RightArrow,
    }
}

fn call(name: Ident, args: Vec<FunctionArg>, clauses: Vec<FunctionArgumentClause>) -> Expr {
    Expr::Function(Function {
        name: ObjectName::from(vec![name]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList {
            duplicate_treatment: None,
            args,
            clauses,
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}
