//! Words and names on sqlparser's token stream. Keywords of Flink that sqlparser does not know are words like any other there.

use sqlparser::ast::{Ident, ObjectName};
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Token, TokenWithSpan};

/// Whether a token is this word, in any case and without backticks.
pub(crate) fn is_word(token: &Token, word: &str) -> bool {
    matches!(token, Token::Word(found) if found.quote_style.is_none() && found.value.eq_ignore_ascii_case(word))
}

/// Whether the token after `ahead` others is this word.
pub(crate) fn is_word_at(parser: &Parser, ahead: usize, word: &str) -> bool {
    is_word(&parser.peek_nth_token_ref(ahead).token, word)
}

/// Whether these words come next.
pub(crate) fn are_words(parser: &Parser, words: &[&str]) -> bool {
    words
        .iter()
        .enumerate()
        .all(|(ahead, word)| is_word_at(parser, ahead, word))
}

/// Consumes these words (separated by blanks) if they come next, all of them.
pub(crate) fn accept(parser: &mut Parser, words: &str) -> bool {
    let words: Vec<&str> = words.split(' ').collect();
    let found = are_words(parser, &words);
    if found {
        for _ in &words {
            parser.advance_token();
        }
    }
    found
}

/// Consumes these words, or says which one is missing.
pub(crate) fn expect(parser: &mut Parser, words: &str) -> Result<(), ParserError> {
    for word in words.split(' ') {
        if !accept(parser, word) {
            return parser.expected(word, parser.peek_token());
        }
    }
    Ok(())
}

/// A name, with or without backticks. (sqlparser's own takes strings too.)
pub(crate) fn identifier(parser: &mut Parser) -> Result<Ident, ParserError> {
    match parser.peek_token() {
        TokenWithSpan {
            token: Token::Word(word),
            span,
        } => {
            parser.advance_token();
            Ok(word.into_ident(span))
        }
        other => parser.expected("a name", other),
    }
}

/// `a`, `b.a` or `c.b.a`
pub(crate) fn object_name(parser: &mut Parser) -> Result<ObjectName, ParserError> {
    let mut parts = vec![identifier(parser)?];
    while parser.consume_token(&Token::Period) {
        parts.push(identifier(parser)?);
    }
    Ok(ObjectName::from(parts))
}

/// `(a, b)`
pub(crate) fn column_list(parser: &mut Parser) -> Result<Vec<Ident>, ParserError> {
    parser.expect_token(&Token::LParen)?;
    let columns = parser.parse_comma_separated(identifier)?;
    parser.expect_token(&Token::RParen)?;
    Ok(columns)
}

/// `'text'`
pub(crate) fn string(parser: &mut Parser, what: &str) -> Result<String, ParserError> {
    match parser.peek_token() {
        TokenWithSpan {
            token: Token::SingleQuotedString(text) | Token::UnicodeStringLiteral(text),
            ..
        } => {
            parser.advance_token();
            Ok(text)
        }
        other => parser.expected(what, other),
    }
}

/// `(number)` if it comes next.
pub(crate) fn optional_number(parser: &mut Parser) -> Result<Option<u32>, ParserError> {
    if !parser.consume_token(&Token::LParen) {
        return Ok(None);
    }
    let number = number(parser)?;
    parser.expect_token(&Token::RParen)?;
    Ok(Some(number))
}

/// A whole number.
pub(crate) fn number(parser: &mut Parser) -> Result<u32, ParserError> {
    let token = parser.peek_token();
    if let Token::Number(digits, _) = &token.token
        && let Ok(number) = digits.parse()
    {
        parser.advance_token();
        return Ok(number);
    }
    parser.expected("a whole number", token)
}
