//! Hints: `/*+ OPTIONS('k' = 'v') */` behind a table's name, `/*+ STATE_TTL('a' = '1d'), LOOKUP(...) */` behind SELECT.
//!
//! sqlparser takes them for comments. So they are collected from the tokens by the place of the word in front of them, and put into the
//! finished tree: into `with_hints` of the table (which Flink SQL has no other use for) and `optimizer_hints` of the SELECT.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use sqlparser::ast::{
    Expr, ObjectName, OptimizerHint, OptimizerHintStyle, Query, Select, Spanned, TableFactor,
    Value, VisitMut, VisitorMut,
};
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer, Whitespace};

use super::{errors, words};
use crate::dialect::FlinkDialect;
use crate::error::{Result, SqlError};
use crate::options::parse_duration_ms;
use crate::statement::{ExplainTarget, Insert, Statement};

/// Flink's hints of a SELECT that choose how a join of a batch job is done, or one of several plans that give the same rows.
const STRATEGIES: &[&str] = &[
    "BROADCAST",
    "SHUFFLE_HASH",
    "SHUFFLE_MERGE",
    "NEST_LOOP",
    "MULTI_JOIN",
];

/// What the hints of one SELECT ask for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SelectHints {
    /// STATE_TTL: table or alias, and milliseconds.
    pub(crate) state_ttl_ms: Vec<(String, u64)>,
    /// LOOKUP: the options of each, 'table' among them.
    pub(crate) lookup: Vec<BTreeMap<String, String>>,
}

/// Hints of a script that are not in the tree yet, by the place of the word in front of them.
#[derive(Debug, Default)]
pub(crate) struct Pending(BTreeMap<(u64, u64), (Location, String)>);

impl Pending {
    /// All hints among the tokens.
    pub(crate) fn collect(tokens: &[TokenWithSpan]) -> Self {
        let mut pending = Self::default();
        let mut word = Location::empty();
        for token in tokens {
            match &token.token {
                Token::Whitespace(Whitespace::MultiLineComment(comment)) => {
                    if let Some(text) = comment.strip_prefix('+') {
                        let place = (word.line, word.column);
                        pending.0.insert(place, (token.span.start, text.to_owned()));
                    }
                }
                Token::Whitespace(_) => {}
                _ => word = token.span.start,
            }
        }
        pending
    }

    /// Puts the hints of a statement into its tree.
    ///
    /// # Errors
    /// A hint that there is not, or where none can be.
    pub(crate) fn attach(&mut self, statement: &mut Statement, end: Location) -> Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        match statement {
            Statement::Query(query) => self.query(query)?,
            Statement::Insert(insert) => self.insert(insert)?,
            Statement::StatementSet(inserts) => self.inserts(inserts)?,
            Statement::CreateView(view) => self.query(&mut view.query)?,
            Statement::CreateTable(create) => {
                if let Some(written) = &mut create.query {
                    self.query(&mut written.query)?;
                }
            }
            Statement::AlterView(alter) => {
                if let Some((query, _)) = &mut alter.query {
                    self.query(query)?;
                }
            }
            Statement::Explain(explain) => match &mut explain.target {
                ExplainTarget::Query(query) => self.query(query)?,
                ExplainTarget::Inserts(inserts) => self.inserts(inserts)?,
            },
            _ => {}
        }
        let is_behind = |place: &Location| end.line > 0 && *place >= end;
        match self.0.values().find(|(place, _)| !is_behind(place)) {
            Some((place, text)) => Err(SqlError::new(format!(
                "the hint /*+{text}*/ is neither behind the name of a table nor behind SELECT"
            ))
            .at_location(*place)),
            None => Ok(()),
        }
    }

    fn inserts(&mut self, inserts: &mut [Insert]) -> Result<()> {
        inserts
            .iter_mut()
            .try_for_each(|insert| self.insert(insert))
    }

    fn insert(&mut self, insert: &mut Insert) -> Result<()> {
        if let Some((place, text)) = self.behind(&insert.target) {
            insert.options = options(&text).map_err(|error| error.at_location(place))?;
        }
        self.query(&mut insert.query)
    }

    fn query(&mut self, query: &mut Query) -> Result<()> {
        match query.visit(&mut Attach(self)) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(error) => Err(error),
        }
    }

    fn behind(&mut self, name: &ObjectName) -> Option<(Location, String)> {
        let start = name.0.last()?.span().start;
        self.0.remove(&(start.line, start.column))
    }
}

struct Attach<'a>(&'a mut Pending);

impl VisitorMut for Attach<'_> {
    type Break = SqlError;

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<SqlError> {
        let start = select.select_token.0.span.start;
        let Some((place, text)) = self.0.0.remove(&(start.line, start.column)) else {
            return ControlFlow::Continue(());
        };
        if let Err(error) = parse_select(&text) {
            return ControlFlow::Break(error.at_location(place));
        }
        select.optimizer_hints.push(OptimizerHint {
            prefix: String::new(),
            text,
            style: OptimizerHintStyle::MultiLine,
        });
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<SqlError> {
        let TableFactor::Table {
            name, with_hints, ..
        } = factor
        else {
            return ControlFlow::Continue(());
        };
        let Some((place, text)) = self.0.behind(name) else {
            return ControlFlow::Continue(());
        };
        match options(&text) {
            Ok(options) => {
                let text = |text: String| {
                    Expr::Value(Value::SingleQuotedString(text).with_span(name.span()))
                };
                with_hints.extend(
                    options
                        .into_iter()
                        .map(|(key, value)| Expr::Tuple(vec![text(key), text(value)])),
                );
                ControlFlow::Continue(())
            }
            Err(error) => ControlFlow::Break(error.at_location(place)),
        }
    }
}

/// The OPTIONS hint of a table in the tree.
pub(crate) fn table_options(with_hints: &[Expr]) -> Vec<(String, String)> {
    let text = |expr: &Expr| match expr {
        Expr::Value(value) => value.value.clone().into_string(),
        _ => None,
    };
    with_hints
        .iter()
        .filter_map(|hint| match hint {
            Expr::Tuple(pair) => Some((text(pair.first()?)?, text(pair.get(1)?)?)),
            _ => None,
        })
        .collect()
}

/// The hints of a SELECT in the tree.
pub(crate) fn of_select(select: &Select) -> Result<SelectHints> {
    let mut all = SelectHints::default();
    for hint in &select.optimizer_hints {
        let hints = parse_select(&hint.text)?;
        all.state_ttl_ms.extend(hints.state_ttl_ms);
        all.lookup.extend(hints.lookup);
    }
    Ok(all)
}

fn parse_select(text: &str) -> Result<SelectHints> {
    let mut hints = SelectHints::default();
    for hint in parse(text)? {
        match hint.name.to_ascii_uppercase().as_str() {
            "STATE_TTL" => {
                for (table, ttl) in hint.pairs()? {
                    let ttl = parse_duration_ms(&ttl).map_err(|wanted| {
                        SqlError::new(format!("'{ttl}' in STATE_TTL is not {wanted}"))
                    })?;
                    hints.state_ttl_ms.push((table, ttl));
                }
            }
            "LOOKUP" => hints.lookup.push(hint.pairs()?.into_iter().collect()),
            name if STRATEGIES.contains(&name) => {}
            "OPTIONS" => {
                return Err(SqlError::new("the hint OPTIONS belongs to a table")
                    .hint("write it behind the table's name"));
            }
            name => {
                let known = STRATEGIES.iter().copied().chain(["STATE_TTL", "LOOKUP"]);
                return Err(SqlError::new(format!("there is no hint '{}'", hint.name))
                    .did_you_mean(name, known));
            }
        }
    }
    Ok(hints)
}

/// What the hints behind a table's name say: OPTIONS is the only one there.
fn options(text: &str) -> Result<Vec<(String, String)>> {
    let mut options = Vec::new();
    for hint in parse(text)? {
        match hint.name.to_ascii_uppercase().as_str() {
            "OPTIONS" => options.extend(hint.pairs()?),
            "STATE_TTL" | "LOOKUP" => {
                return Err(
                    SqlError::new(format!("the hint {} belongs to a SELECT", hint.name))
                        .hint("write it behind the word SELECT"),
                );
            }
            name => {
                return Err(
                    SqlError::new(format!("there is no hint '{}' of a table", hint.name))
                        .did_you_mean(name, ["OPTIONS"]),
                );
            }
        }
    }
    Ok(options)
}

/// `NAME`, `NAME(a, b.c, 'd')` or `NAME('k' = 'v', k = 'v')`
struct Hint {
    name: String,
    items: Vec<(String, Option<String>)>,
}

impl Hint {
    fn pairs(self) -> Result<Vec<(String, String)>> {
        let Self { name, items } = self;
        items
            .into_iter()
            .map(|(key, value)| match value {
                Some(value) => Ok((key, value)),
                None => Err(
                    SqlError::new(format!("'{key}' in the hint {name} has no value"))
                        .hint(format!("write {name}('key' = 'value')")),
                ),
            })
            .collect()
    }
}

fn parse(text: &str) -> Result<Vec<Hint>> {
    let broken = |error: ParserError| {
        let mut error = errors::from_parser(error);
        // Its place is one inside of the comment.
        error.position = None;
        error.message = format!("the hint /*+{text}*/: {}", error.message);
        error
    };
    let tokens = Tokenizer::new(&FlinkDialect, text)
        .tokenize_with_location()
        .map_err(errors::from_tokenizer)?;
    let mut parser = Parser::new(&FlinkDialect).with_tokens_with_locations(tokens);
    let mut hints = Vec::new();
    while parser.peek_token_ref().token != Token::EOF {
        hints.push(parse_one(&mut parser).map_err(broken)?);
        let _ = parser.consume_token(&Token::Comma);
    }
    Ok(hints)
}

fn parse_one(parser: &mut Parser) -> std::result::Result<Hint, ParserError> {
    let name = words::identifier(parser)?.value;
    let mut items = Vec::new();
    if parser.consume_token(&Token::LParen) && !parser.consume_token(&Token::RParen) {
        items = parser.parse_comma_separated(|parser| {
            let key = match &parser.peek_token_ref().token {
                Token::Word(_) => words::object_name(parser)?.to_string(),
                _ => words::string(parser, "a name or a text")?,
            };
            let value = parser
                .consume_token(&Token::Eq)
                .then(|| words::string(parser, "the value as 'text'"))
                .transpose()?;
            Ok((key, value))
        })?;
        parser.expect_token(&Token::RParen)?;
    }
    Ok(Hint { name, items })
}
