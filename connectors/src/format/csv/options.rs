//! The options `csv.*`.

use arrow::datatypes::{DataType, Field};
use weir_dataflow::{Error, Result};

use crate::options::OptionReader;

/// Of reading and writing.
#[derive(Debug, Clone)]
pub(crate) struct CsvOptions {
    /// One character, as UTF-8.
    pub delimiter: String,
    /// `None`: quotes have no meaning.
    pub quote: Option<u8>,
    pub escape: Option<u8>,
    pub array_delimiter: String,
    pub null_literal: Option<String>,
    pub allow_comments: bool,
    pub ignore_parse_errors: bool,
    pub scientific_decimals: bool,
}

impl CsvOptions {
    pub(crate) fn read(options: &OptionReader<'_>, prefix: &str) -> Result<Self> {
        let key = |name: &str| format!("{prefix}{name}");
        let character = |name: &str| options.character(&key(name));
        let ascii = |name: &str| -> Result<Option<u8>> {
            match character(name)? {
                Some(found) if !found.is_ascii() => {
                    Err(options.invalid(&key(name), &found.to_string(), "an ASCII character"))
                }
                found => Ok(found.map(|found| found as u8)),
            }
        };
        let flag = |name: &str| options.boolean(&key(name));
        let quote = ascii("quote-character")?;
        let disable_quote = flag("disable-quote-character")?.unwrap_or(false);
        if quote.is_some() && disable_quote {
            return Err(Error::Config(format!(
                "options '{}' and '{}' cannot both be set",
                key("quote-character"),
                key("disable-quote-character")
            )));
        }
        let array_key = key("array-element-delimiter");
        Ok(Self {
            delimiter: character("field-delimiter")?.unwrap_or(',').to_string(),
            quote: (!disable_quote).then_some(quote.unwrap_or(b'"')),
            escape: ascii("escape-character")?,
            array_delimiter: options.raw_text(&array_key).unwrap_or(";").to_owned(),
            null_literal: options.raw_text(&key("null-literal")).map(str::to_owned),
            allow_comments: flag("allow-comments")?.unwrap_or(false),
            ignore_parse_errors: flag("ignore-parse-errors")?.unwrap_or(false),
            scientific_decimals: flag("write-bigdecimal-in-scientific-notation")?.unwrap_or(true),
        })
    }
}

/// Refuses what the format has no text for: maps, and rows or arrays inside rows or arrays.
pub(super) fn check_type(field: &Field) -> Result<()> {
    let is_scalar = |field: &Field| !field.data_type().is_nested();
    let fits = match field.data_type() {
        DataType::List(element) => is_scalar(element),
        DataType::Struct(fields) => fields.iter().all(|field| is_scalar(field)),
        _ => is_scalar(field),
    };
    if fits {
        return Ok(());
    }
    Err(Error::Config(format!(
        "format 'csv' cannot hold column '{}': it holds no MAP, and ARRAY and ROW of scalars only",
        field.name()
    )))
}
