//! CSV to columns.

use arrow::datatypes::SchemaRef;
use weir_dataflow::{Error, Result};

use super::options::{CsvOptions, check_type};
use super::split::Fields;
use crate::format::column::{Column, Values};
use crate::format::json::Origins;
use crate::format::parse::TimestampStandard;
use crate::format::scalar::{self, Scalar, ScalarRules};
use crate::format::{DecodeError, Decoded, Decoder};

const RULES: ScalarRules = ScalarRules {
    timestamps: TimestampStandard::Sql,
    lenient_dates: true,
};

/// Reads lines of one table. Fields are matched by position.
pub(crate) struct CsvDecoder {
    schema: SchemaRef,
    columns: Vec<Column>,
    /// Position in the line of each of `columns`.
    positions: Vec<usize>,
    /// Fields of a line.
    width: usize,
    options: CsvOptions,
    fields: Fields,
    rows: usize,
}

impl CsvDecoder {
    pub(crate) fn new(read: SchemaRef, table: &SchemaRef, options: CsvOptions) -> Result<Self> {
        for field in table.fields() {
            check_type(field)?;
        }
        let positions = read.fields().iter().map(|field| {
            table.index_of(field.name()).map_err(|_| {
                Error::Internal(format!("column '{}' is not in the table", field.name()))
            })
        });
        Ok(Self {
            positions: positions.collect::<Result<_>>()?,
            columns: read
                .fields()
                .iter()
                .map(Column::new)
                .collect::<Result<_>>()?,
            width: table.fields().len(),
            schema: read,
            options,
            fields: Fields::default(),
            rows: 0,
        })
    }

    /// Appends the row of a record, or none for an empty line or a comment.
    fn read_record(&mut self, record: &[u8]) -> std::result::Result<(), String> {
        let text = std::str::from_utf8(record)
            .map_err(|error| format!("byte {}: not UTF-8", error.valid_up_to()))?;
        let text = text.strip_suffix('\r').unwrap_or(text);
        if text.is_empty() || (self.options.allow_comments && text.starts_with('#')) {
            return Ok(());
        }
        self.fields.split(text, &self.options)?;
        let (found, expected) = (self.fields.len(), self.width);
        if found > expected || (found < expected && !self.options.ignore_parse_errors) {
            return Err(format!("{expected} fields expected, found {found}"));
        }
        for (column, position) in self.columns.iter_mut().zip(&self.positions) {
            append(column, self.fields.get(*position), &self.options)?;
        }
        self.rows += 1;
        Ok(())
    }

    fn truncate(&mut self, rows: usize) {
        self.columns
            .iter_mut()
            .for_each(|column| column.truncate(rows));
        self.rows = rows;
    }
}

/// One value; with `ignore-parse-errors` a bad one is NULL.
fn append(
    column: &mut Column,
    text: Option<&str>,
    options: &CsvOptions,
) -> std::result::Result<(), String> {
    let before = column.len();
    let Some(text) = text.filter(|text| options.null_literal.as_deref() != Some(*text)) else {
        if column.is_nullable() {
            column.append_null();
            return Ok(());
        }
        return Err(format!(
            "field '{}': NULL for a NOT NULL column",
            column.name()
        ));
    };
    let appended = match &mut column.values {
        Values::List(offsets, element) => {
            let elements = elements(text, options);
            let appended = elements
                .into_iter()
                .try_for_each(|text| append(element, Some(text), options));
            offsets.push(element.len() as i32);
            column.set_valid();
            appended
        }
        Values::Row(fields) => {
            let elements = elements(text, options);
            let appended = fields
                .iter_mut()
                .enumerate()
                .try_for_each(|(index, field)| {
                    append(field, elements.get(index).copied(), options)
                });
            column.set_valid();
            appended
        }
        _ => scalar::append(column, Scalar::Text(text), RULES)
            .map_err(|_| format!("field '{}': not a {}", column.name(), column.type_name())),
    };
    if appended.is_err() && options.ignore_parse_errors && column.is_nullable() {
        column.truncate(before);
        column.append_null();
        return Ok(());
    }
    appended
}

fn elements<'a>(text: &'a str, options: &CsvOptions) -> Vec<&'a str> {
    if text.is_empty() {
        return Vec::new();
    }
    if options.array_delimiter.is_empty() {
        return vec![text];
    }
    text.split(options.array_delimiter.as_str()).collect()
}

impl Decoder for CsvDecoder {
    fn decode(&mut self, records: &[&[u8]]) -> std::result::Result<Decoded, DecodeError> {
        let mut origins = Origins::default();
        let mut skipped = 0;
        self.rows = 0;
        for (index, record) in records.iter().enumerate() {
            let before = self.rows;
            if let Err(reason) = self.read_record(record) {
                self.truncate(before);
                if !self.options.ignore_parse_errors {
                    self.truncate(0);
                    let record = index;
                    return Err(DecodeError { record, reason });
                }
                skipped += 1;
            }
            origins.add(index, before, self.rows);
        }
        let arrays = self.columns.iter_mut().map(Column::finish);
        let arrays = arrays.collect::<Result<_>>().map_err(|error| DecodeError {
            record: 0,
            reason: error.to_string(),
        })?;
        Ok(Decoded {
            record_of_row: origins.into_inner(),
            skipped,
            ..crate::format::decoded(&self.schema, arrays, self.rows)?
        })
    }
}
