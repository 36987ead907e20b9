//! Splits a script into statements: tokens, their places, and which error to show.

use sqlparser::keywords::Keyword;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer, Whitespace};
use weir_common::limits::SQL_SCRIPT_BYTES;

use super::hints::Pending;
use super::{errors, foreign, match_recognize, statement};
use crate::dialect::FlinkDialect;
use crate::error::{Result, SqlError};
use crate::statement::Spanned;

/// Operators that may stand in one list element; each makes the tree one deeper.
const OPERATORS: usize = 1000;

/// Stands for `$` in front of the tokenizer, which would take it for the beginning of a text; in Flink it is a letter. Of the private use area.
const DOLLAR: &str = "\u{E024}";

/// The statements of a script, in order.
///
/// # Errors
/// The first statement that is not Flink SQL, or is not built yet; positions are those of the whole script.
pub fn parse_script(text: &str) -> Result<Vec<Spanned>> {
    if text.len() > SQL_SCRIPT_BYTES {
        return Err(SqlError::new(format!(
            "the script has {} bytes; {SQL_SCRIPT_BYTES} is the most",
            text.len()
        )));
    }
    crate::stack::with_large(|| parse_tokens(text, tokenize(text)?))?
}

/// Whether a line-wise reader may stop: there is a statement and the last one ends with a semicolon (of its END, in a statement set).
pub fn is_complete(text: &str) -> bool {
    let tokens = match Tokenizer::new(&FlinkDialect, text).tokenize() {
        Ok(tokens) => tokens,
        // More text closes an open quote or comment, and mends nothing else.
        Err(error) => {
            return !error.message.contains("EOF") && !error.message.contains("nterminated");
        }
    };
    let mut words = tokens
        .iter()
        .filter(|token| !matches!(token, Token::Whitespace(_)));
    if words.next_back() != Some(&Token::SemiColon) {
        return false;
    }
    let is_word = |token: &Token, word: &str| super::words::is_word(token, word);
    let last_set = tokens
        .windows(3)
        .rposition(|window| is_word(&window[0], "STATEMENT") && is_word(&window[2], "SET"));
    match last_set {
        Some(start) => tokens[start..].iter().any(|token| is_word(token, "END")),
        None => true,
    }
}

fn tokenize(text: &str) -> Result<Vec<TokenWithSpan>> {
    let hidden = text.replace('$', DOLLAR);
    let mut tokens = Tokenizer::new(&FlinkDialect, &hidden)
        .tokenize_with_location()
        .map_err(errors::from_tokenizer)?;
    if hidden.len() != text.len() {
        tokens.iter_mut().for_each(show_dollars);
    }
    let mut operators = 0;
    let patterns = match_recognize::patterns(&tokens);
    for (index, token) in tokens.iter().enumerate() {
        if !patterns.iter().any(|pattern| pattern.contains(&index)) {
            check_token(token)?;
        }
        operators = match &token.token {
            Token::Comma | Token::SemiColon => 0,
            other if deepens(other) => operators + 1,
            _ => operators,
        };
        if operators > OPERATORS {
            return Err(
                SqlError::new(format!("an expression of more than {OPERATORS} operators"))
                    .hint("x IN (a, b, ...) can be longer")
                    .at_location(token.span.start),
            );
        }
    }
    Ok(tokens)
}

fn show_dollars(token: &mut TokenWithSpan) {
    let text = match &mut token.token {
        Token::Word(word) => &mut word.value,
        Token::SingleQuotedString(text)
        | Token::DoubleQuotedString(text)
        | Token::UnicodeStringLiteral(text)
        | Token::Whitespace(
            Whitespace::MultiLineComment(text)
            | Whitespace::SingleLineComment { comment: text, .. },
        ) => text,
        _ => return,
    };
    *text = text.replace(DOLLAR, "$");
}

fn deepens(token: &Token) -> bool {
    match token {
        Token::Word(word) => matches!(word.keyword, Keyword::AND | Keyword::OR | Keyword::UNION),
        Token::Plus | Token::Minus | Token::Mul | Token::Div | Token::StringConcat => true,
        _ => false,
    }
}

/// What sqlparser would take, or lose, but is not Flink SQL.
fn check_token(token: &TokenWithSpan) -> Result<()> {
    let error = match &token.token {
        Token::DoubleQuotedString(text) => SqlError::new(format!("\"{text}\" in double quotes"))
            .hint(format!("a text is written '{text}', a name `{text}`")),
        Token::DoubleColon
        | Token::DoubleEq
        | Token::LongArrow
        | Token::Placeholder(_)
        | Token::LBrace
        | Token::Assignment => SqlError::new(format!(
            "syntax error: '{}' is not part of Flink SQL",
            token.token
        )),
        _ => return Ok(()),
    };
    Err(error.at_location(token.span.start))
}

fn parse_tokens(text: &str, tokens: Vec<TokenWithSpan>) -> Result<Vec<Spanned>> {
    let source = Source::new(text);
    let mut hints = Pending::collect(&tokens);
    let tokens = match_recognize::move_within(tokens);
    let mut parser = Parser::new(&FlinkDialect).with_tokens_with_locations(tokens.clone());
    let mut statements = Vec::new();
    loop {
        while parser.consume_token(&Token::SemiColon) {}
        let first = parser.peek_token();
        if first.token == Token::EOF {
            return Ok(statements);
        }
        let start = first.span.start;
        let parsed = statement::parse(&mut parser, &source).and_then(|parsed| {
            match parser.peek_token_ref().token {
                Token::SemiColon | Token::EOF => Ok(parsed),
                _ => parser.expected("';' or the end of the statement", parser.peek_token()),
            }
        });
        let mut statement = parsed.map_err(|error| {
            let error = errors::from_parser(error);
            deepest(error, &tokens, start).at_location(source.end_of_statement(&tokens, start))
        })?;
        foreign::check_statement(&statement).map_err(|error| error.at_location(start))?;
        hints.attach(&mut statement, parser.peek_token_ref().span.start)?;
        let text = source.between(start, parser.peek_token_ref().span.start);
        statements.push(Spanned {
            statement,
            text: text.trim_end().to_owned(),
            start,
        });
    }
}

/// sqlparser tries `(` as a subquery first, and if there is a mistake in it, reports whatever else it then fails at. So the subqueries
/// of the statement are tried alone: the error that lies furthest into the text is the one to show.
fn deepest(error: SqlError, tokens: &[TokenWithSpan], start: Location) -> SqlError {
    let statement = tokens
        .iter()
        .skip_while(|token| token.span.start < start)
        .take_while(|token| token.token != Token::SemiColon);
    let words: Vec<&TokenWithSpan> = statement
        .filter(|token| !matches!(token.token, Token::Whitespace(_)))
        .collect();
    let mut best = error;
    for (index, pair) in words.windows(2).enumerate() {
        let opens = pair[0].token == Token::LParen
            && matches!(&pair[1].token, Token::Word(word) if matches!(word.keyword, Keyword::SELECT | Keyword::WITH | Keyword::VALUES));
        if !opens {
            continue;
        }
        let inner: Vec<TokenWithSpan> = words[index + 1..].iter().map(|t| (*t).clone()).collect();
        let mut parser = Parser::new(&FlinkDialect).with_tokens_with_locations(inner);
        let result = parser
            .parse_query()
            .and_then(|_| parser.expect_token(&Token::RParen));
        if let Err(inner) = result {
            let inner = errors::from_parser(inner);
            // No position is the end of the statement.
            let further = match (inner.position, best.position) {
                (_, None) => false,
                (None, Some(_)) => true,
                (Some(inner), Some(best)) => inner > best,
            };
            if further {
                best = inner;
            }
        }
    }
    best
}

/// The script's text by the tokenizer's places.
pub(crate) struct Source<'a> {
    text: &'a str,
    /// Byte offset of the start of each line.
    lines: Vec<usize>,
}

impl<'a> Source<'a> {
    fn new(text: &'a str) -> Self {
        let breaks = text.match_indices('\n').map(|(offset, _)| offset + 1);
        Self {
            text,
            lines: std::iter::once(0).chain(breaks).collect(),
        }
    }

    fn offset(&self, place: Location) -> usize {
        let line = usize::try_from(place.line).unwrap_or(usize::MAX);
        let Some(start) = line.checked_sub(1).and_then(|line| self.lines.get(line)) else {
            return self.text.len();
        };
        let column = usize::try_from(place.column.saturating_sub(1)).unwrap_or(usize::MAX);
        self.text[*start..]
            .char_indices()
            .nth(column)
            .map_or(self.text.len(), |(offset, _)| start + offset)
    }

    /// The text from one place up to another; line 0 is the end.
    pub(crate) fn between(&self, from: Location, to: Location) -> &'a str {
        let to = if to.line == 0 {
            self.text.len()
        } else {
            self.offset(to)
        };
        self.text.get(self.offset(from)..to).unwrap_or_default()
    }

    /// Where an error stands that came at the end of the statement: behind its last token.
    fn end_of_statement(&self, tokens: &[TokenWithSpan], start: Location) -> Location {
        tokens
            .iter()
            .skip_while(|token| token.span.start < start)
            .take_while(|token| token.token != Token::SemiColon)
            .filter(|token| !matches!(token.token, Token::Whitespace(_)))
            .last()
            .map_or(start, |token| token.span.end)
    }
}
