//! What MATCH_RECOGNIZE has and sqlparser does not: characters that are quantifiers, and WITHIN.

use std::ops::Range;

use sqlparser::tokenizer::{Token, TokenWithSpan, Whitespace};

use super::words::is_word;

/// Name of the "definition" that stands for WITHIN in the syntax tree.
pub(crate) const WITHIN: &str = "$within";

/// The tokens between the parentheses of each PATTERN.
pub(crate) fn patterns(tokens: &[TokenWithSpan]) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    for start in 0..tokens.len() {
        if !is_word(&tokens[start].token, "PATTERN") {
            continue;
        }
        let Some(open) = next(tokens, start + 1).filter(|at| tokens[*at].token == Token::LParen)
        else {
            continue;
        };
        let mut depth = 0;
        let end = (open..tokens.len()).find(|at| {
            match tokens[*at].token {
                Token::LParen => depth += 1,
                Token::RParen => depth -= 1,
                _ => {}
            }
            depth == 0
        });
        if let Some(end) = end {
            found.push(open + 1..end);
        }
    }
    found
}

/// Writes `PATTERN (...) WITHIN interval DEFINE a AS ...` as `PATTERN (...) DEFINE $within AS interval, a AS ...`.
pub(crate) fn move_within(mut tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    for pattern in patterns(&tokens).into_iter().rev() {
        let within =
            next(&tokens, pattern.end + 1).filter(|at| is_word(&tokens[*at].token, "WITHIN"));
        let Some(within) = within else { continue };
        let define = (within..tokens.len())
            .take_while(|at| tokens[*at].token != Token::SemiColon)
            .find(|at| is_word(&tokens[*at].token, "DEFINE"));
        let Some(define) = define else { continue };
        let span = tokens[within].span;
        let word = |text: &str| TokenWithSpan::new(Token::make_word(text, None), span);
        let space = || TokenWithSpan::new(Token::Whitespace(Whitespace::Space), span);
        let mut moved = vec![
            tokens[define].clone(),
            space(),
            word(WITHIN),
            space(),
            word("AS"),
        ];
        moved.extend(tokens[within + 1..define].iter().cloned());
        moved.push(TokenWithSpan::new(Token::Comma, span));
        tokens.splice(within..=define, moved);
    }
    tokens
}

fn next(tokens: &[TokenWithSpan], from: usize) -> Option<usize> {
    (from..tokens.len()).find(|at| !matches!(tokens[*at].token, Token::Whitespace(_)))
}
