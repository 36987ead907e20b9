//! Types as Flink writes them, in DDL and in CAST.

use sqlparser::ast::DataType;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Span, Token, Tokenizer};
use weir_dataflow::types::{LogicalField, LogicalType};

use super::errors;
use super::words::{self, accept, is_word_at};
use crate::dialect::{self, FlinkDialect};
use crate::error::{Result, SqlError};

/// Names of types, for "did you mean".
const NAMES: &[&str] = &[
    "BOOLEAN",
    "TINYINT",
    "SMALLINT",
    "INT",
    "INTEGER",
    "BIGINT",
    "FLOAT",
    "DOUBLE",
    "DECIMAL",
    "NUMERIC",
    "DEC",
    "CHAR",
    "CHARACTER",
    "VARCHAR",
    "STRING",
    "BINARY",
    "VARBINARY",
    "BYTES",
    "DATE",
    "TIME",
    "TIMESTAMP",
    "TIMESTAMP_LTZ",
    "INTERVAL",
    "ARRAY",
    "MAP",
    "MULTISET",
    "ROW",
];

/// Deepest nesting of a type.
const DEPTH: usize = 50;

type Parsed<T> = std::result::Result<T, ParserError>;

/// A type at the parser's place, with NOT NULL or NULL behind it.
pub(crate) fn parse_type(parser: &mut Parser) -> Parsed<LogicalField> {
    let mut reader = TypeReader {
        parser,
        half_closed: false,
        depth: 0,
    };
    let field = reader.field()?;
    if reader.half_closed {
        return parser.expected("the end of the type", parser.peek_token());
    }
    Ok(field)
}

/// A type as sqlparser's tree carries it in a CAST.
pub(crate) fn parse_for_cast(parser: &mut Parser) -> Parsed<DataType> {
    let span = parser.peek_token_ref().span;
    let field = parse_type(parser)?;
    Ok(dialect::custom_type(field.to_string(), span))
}

/// The type in a CAST or a typed literal (`DATE '...'`) of a query that this crate has parsed.
///
/// # Errors
/// A type that Flink does not have.
pub fn cast_type(data_type: &DataType) -> Result<LogicalField> {
    let (text, span) = match data_type {
        DataType::Custom(name, arguments) if arguments.is_empty() => match name.0.as_slice() {
            [part] => match part.as_ident() {
                Some(ident) => (ident.value.clone(), ident.span),
                None => (data_type.to_string(), Span::empty()),
            },
            _ => (data_type.to_string(), Span::empty()),
        },
        other => (other.to_string(), Span::empty()),
    };
    parse_type_text(&text).map_err(|error| {
        let mut error = error;
        error.position = None;
        error.at_location(span.start)
    })
}

/// A whole text that is one type: "ROW<`a` INT NOT NULL>".
///
/// # Errors
/// If it is not.
pub fn parse_type_text(text: &str) -> Result<LogicalField> {
    let tokens = Tokenizer::new(&FlinkDialect, text)
        .tokenize_with_location()
        .map_err(errors::from_tokenizer)?;
    let mut parser = Parser::new(&FlinkDialect).with_tokens_with_locations(tokens);
    let field = parse_type(&mut parser).map_err(errors::from_parser)?;
    match parser.peek_token().token {
        Token::EOF => Ok(field),
        other => Err(SqlError::new(format!("'{other}' follows the type {field}"))),
    }
}

struct TypeReader<'p, 'd> {
    parser: &'p mut Parser<'d>,
    /// The tokenizer gives `>>` as one token: its first half is consumed.
    half_closed: bool,
    depth: usize,
}

impl TypeReader<'_, '_> {
    fn field(&mut self) -> Parsed<LogicalField> {
        self.depth += 1;
        if self.depth > DEPTH {
            return self
                .parser
                .expected("a type nested less deeply", self.parser.peek_token());
        }
        let mut logical_type = self.base()?;
        let mut nullable = self.nullability()?;
        // INT ARRAY, INT NOT NULL ARRAY
        while !self.half_closed {
            let wrap: fn(Box<LogicalField>) -> LogicalType = if accept(self.parser, "ARRAY") {
                LogicalType::Array
            } else if accept(self.parser, "MULTISET") {
                LogicalType::Multiset
            } else {
                break;
            };
            logical_type = wrap(Box::new(LogicalField {
                logical_type,
                nullable,
            }));
            nullable = self.nullability()?;
        }
        self.depth -= 1;
        Ok(LogicalField {
            logical_type,
            nullable,
        })
    }

    fn nullability(&mut self) -> Parsed<bool> {
        if self.half_closed {
            return Ok(true);
        }
        if is_word_at(self.parser, 0, "NOT") && is_word_at(self.parser, 1, "NULL") {
            words::expect(self.parser, "NOT NULL")?;
            return Ok(false);
        }
        // Behind RETURNING a type, NULL ON EMPTY may follow.
        if !is_word_at(self.parser, 1, "ON") {
            accept(self.parser, "NULL");
        }
        Ok(true)
    }

    fn base(&mut self) -> Parsed<LogicalType> {
        let token = self.parser.peek_token();
        let name = match &token.token {
            Token::Word(word) if word.quote_style.is_none() => word.value.to_ascii_uppercase(),
            _ => return self.parser.expected("a type", token),
        };
        self.parser.advance_token();
        let scalar = match name.as_str() {
            "BOOLEAN" => LogicalType::Boolean,
            "TINYINT" => LogicalType::TinyInt,
            "SMALLINT" => LogicalType::SmallInt,
            "INT" | "INTEGER" => LogicalType::Int,
            "BIGINT" => LogicalType::BigInt,
            "FLOAT" => LogicalType::Float,
            "DOUBLE" => {
                accept(self.parser, "PRECISION");
                LogicalType::Double
            }
            "DECIMAL" | "NUMERIC" | "DEC" => self.decimal()?,
            "CHAR" | "CHARACTER" if accept(self.parser, "VARYING") => {
                LogicalType::VarChar(self.length(u32::MAX)?)
            }
            "CHAR" | "CHARACTER" => LogicalType::Char(self.length(1)?),
            "VARCHAR" => LogicalType::VarChar(self.length(u32::MAX)?),
            "STRING" => LogicalType::VarChar(u32::MAX),
            "BINARY" if accept(self.parser, "VARYING") => {
                LogicalType::VarBinary(self.length(u32::MAX)?)
            }
            "BINARY" => LogicalType::Binary(self.length(1)?),
            "VARBINARY" => LogicalType::VarBinary(self.length(u32::MAX)?),
            "BYTES" => LogicalType::VarBinary(u32::MAX),
            "DATE" => LogicalType::Date,
            "TIME" => self.time()?,
            "TIMESTAMP" => self.timestamp()?,
            "TIMESTAMP_LTZ" => LogicalType::TimestampLtz(self.precision(6)?),
            "INTERVAL" => self.interval()?,
            "ARRAY" => LogicalType::Array(Box::new(self.element()?)),
            "MULTISET" => LogicalType::Multiset(Box::new(self.element()?)),
            "MAP" => self.map()?,
            "ROW" => LogicalType::Row(self.row()?),
            "RAW" | "VARIANT" | "BITMAP" | "DESCRIPTOR" => {
                let error = SqlError::unsupported(format!("the type {name}"));
                return errors::refuse(error.at_location(token.span.start));
            }
            other => {
                let error = SqlError::new(format!("unknown type '{other}'"))
                    .did_you_mean(other, NAMES.iter().copied());
                return errors::refuse(error.at_location(token.span.start));
            }
        };
        Ok(scalar)
    }

    /// CHAR and its kin have length 1 if none is given.
    fn length(&mut self, default: u32) -> Parsed<u32> {
        let place = self.parser.peek_nth_token(1).span.start;
        match words::optional_number(self.parser)? {
            None => Ok(default),
            Some(length) if (1..=i32::MAX as u32).contains(&length) => {
                // VARCHAR(2147483647) is what STRING stands for.
                Ok(if length == i32::MAX as u32 {
                    u32::MAX
                } else {
                    length
                })
            }
            Some(length) => errors::refuse(
                SqlError::new(format!(
                    "a length of {length} is out of the range 1 to {}",
                    i32::MAX
                ))
                .at_location(place),
            ),
        }
    }

    fn precision(&mut self, default: u8) -> Parsed<u8> {
        let place = self.parser.peek_nth_token(1).span.start;
        match words::optional_number(self.parser)? {
            None => Ok(default),
            Some(precision @ 0..=9) => Ok(precision as u8),
            Some(precision) => errors::refuse(
                SqlError::new(format!(
                    "a precision of {precision} is out of the range 0 to 9"
                ))
                .at_location(place),
            ),
        }
    }

    fn decimal(&mut self) -> Parsed<LogicalType> {
        let place = self.parser.peek_nth_token(1).span.start;
        if !self.parser.consume_token(&Token::LParen) {
            return Ok(LogicalType::Decimal(10, 0));
        }
        let precision = words::number(self.parser)?;
        let scale = if self.parser.consume_token(&Token::Comma) {
            words::number(self.parser)?
        } else {
            0
        };
        self.parser.expect_token(&Token::RParen)?;
        if !(1..=38).contains(&precision) || scale > precision {
            return errors::refuse(
                SqlError::new(format!("DECIMAL({precision}, {scale}) is out of range"))
                    .hint("the precision is 1 to 38, the scale 0 to the precision")
                    .at_location(place),
            );
        }
        Ok(LogicalType::Decimal(precision as u8, scale as i8))
    }

    fn time(&mut self) -> Parsed<LogicalType> {
        let precision = self.precision(0)?;
        accept(self.parser, "WITHOUT TIME ZONE");
        Ok(LogicalType::Time(precision))
    }

    fn timestamp(&mut self) -> Parsed<LogicalType> {
        let precision = self.precision(6)?;
        if accept(self.parser, "WITH LOCAL TIME ZONE") {
            return Ok(LogicalType::TimestampLtz(precision));
        }
        let place = self.parser.peek_token_ref().span.start;
        if accept(self.parser, "WITH TIME ZONE") {
            return errors::refuse(
                SqlError::unsupported("TIMESTAMP WITH TIME ZONE")
                    .hint("TIMESTAMP_LTZ is an instant, TIMESTAMP a wall-clock time")
                    .at_location(place),
            );
        }
        accept(self.parser, "WITHOUT TIME ZONE");
        Ok(LogicalType::Timestamp(precision))
    }

    /// INTERVAL DAY TO SECOND(3), INTERVAL YEAR
    fn interval(&mut self) -> Parsed<LogicalType> {
        let token = self.parser.peek_token();
        let unit = words::identifier(self.parser)?.value.to_ascii_uppercase();
        words::optional_number(self.parser)?;
        let months = match unit.as_str() {
            "YEAR" | "MONTH" => true,
            "DAY" | "HOUR" | "MINUTE" | "SECOND" => false,
            _ => {
                return self
                    .parser
                    .expected("YEAR, MONTH, DAY, HOUR, MINUTE or SECOND", token);
            }
        };
        if accept(self.parser, "TO") {
            let token = self.parser.peek_token();
            let last = words::identifier(self.parser)?.value.to_ascii_uppercase();
            words::optional_number(self.parser)?;
            let fits = match last.as_str() {
                "MONTH" => months,
                "HOUR" | "MINUTE" | "SECOND" => !months,
                _ => false,
            };
            if !fits {
                return self
                    .parser
                    .expected("a smaller unit of the same interval", token);
            }
        }
        Ok(if months {
            LogicalType::IntervalYearMonth
        } else {
            LogicalType::IntervalDayTime
        })
    }

    fn open(&mut self) -> Parsed<()> {
        self.parser.expect_token(&Token::Lt).map(|_| ())
    }

    fn close(&mut self) -> Parsed<()> {
        if self.half_closed {
            self.half_closed = false;
            self.parser.advance_token();
            return Ok(());
        }
        if self.parser.peek_token_ref().token == Token::ShiftRight {
            self.half_closed = true;
            return Ok(());
        }
        self.parser.expect_token(&Token::Gt).map(|_| ())
    }

    fn element(&mut self) -> Parsed<LogicalField> {
        self.open()?;
        let field = self.field()?;
        self.close()?;
        Ok(field)
    }

    fn map(&mut self) -> Parsed<LogicalType> {
        self.open()?;
        let key = self.field()?;
        self.parser.expect_token(&Token::Comma)?;
        let value = self.field()?;
        self.close()?;
        Ok(LogicalType::Map(Box::new(key), Box::new(value)))
    }

    /// `ROW<a INT, b STRING>` or `ROW(a INT, b STRING)`; a field's comment is read over.
    fn row(&mut self) -> Parsed<Vec<(String, LogicalField)>> {
        let parenthesized = self.parser.consume_token(&Token::LParen);
        if !parenthesized {
            self.open()?;
        }
        let mut fields: Vec<(String, LogicalField)> = Vec::new();
        loop {
            let name = words::identifier(self.parser)?;
            if fields.iter().any(|(other, _)| *other == name.value) {
                return errors::refuse(
                    SqlError::new(format!("the field '{}' is in the ROW twice", name.value))
                        .at_location(name.span.start),
                );
            }
            let field = self.field()?;
            fields.push((name.value, field));
            if self.half_closed {
                break;
            }
            accept(self.parser, "COMMENT");
            if matches!(
                self.parser.peek_token_ref().token,
                Token::SingleQuotedString(_)
            ) {
                self.parser.advance_token();
            }
            if !self.parser.consume_token(&Token::Comma) {
                break;
            }
        }
        if parenthesized {
            self.parser.expect_token(&Token::RParen)?;
        } else {
            self.close()?;
        }
        Ok(fields)
    }
}
