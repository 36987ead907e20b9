//! Columns to CSV.

use arrow::datatypes::SchemaRef;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use weir_dataflow::{Batch, Result};

use super::options::{CsvOptions, check_type};
use crate::format::cells::{Cells, Column, entries};
use crate::format::json::columns_of;
use crate::format::{EncodedRecords, Encoder, print};

/// Longer texts are quoted without being looked at, as Jackson does.
const MAX_UNQUOTED: usize = 24;

/// Writes one line a row, without its end; row kinds are not written.
pub(crate) struct CsvEncoder {
    options: CsvOptions,
    /// A text with a character below this one is quoted, as Jackson does: it need not be one that must be.
    min_safe: char,
    scratch: Vec<u8>,
}

impl CsvEncoder {
    pub(crate) fn new(schema: &SchemaRef, options: CsvOptions) -> Result<Self> {
        for field in schema.fields() {
            check_type(field)?;
        }
        let delimiter = options.delimiter.chars().next().unwrap_or(',');
        let quote = options.quote.map_or('\r', char::from);
        let highest = delimiter.max(quote).max('\r');
        Ok(Self {
            options,
            min_safe: char::from_u32(highest as u32 + 1).unwrap_or(char::MAX),
            scratch: Vec::new(),
        })
    }

    fn write_cell(&mut self, out: &mut Vec<u8>, column: &Column<'_>, row: usize) {
        if column.is_null(row) {
            write_null(out, &self.options);
            return;
        }
        let mut text = std::mem::take(&mut self.scratch);
        text.clear();
        let is_text = write_scalar(&mut text, column, row, &self.options);
        match (is_text, self.options.quote) {
            (true, Some(quote)) if self.needs_quotes(&text) => self.write_quoted(out, &text, quote),
            _ => out.extend_from_slice(&text),
        }
        self.scratch = text;
    }

    fn needs_quotes(&self, text: &[u8]) -> bool {
        let Ok(text) = std::str::from_utf8(text) else {
            return true;
        };
        let escape = self.options.escape.map(char::from);
        let is_unsafe = |character: char| character < self.min_safe || Some(character) == escape;
        // Java counts UTF-16 units.
        text.encode_utf16().take(MAX_UNQUOTED + 1).count() > MAX_UNQUOTED
            || text.contains(is_unsafe)
    }

    fn write_quoted(&self, out: &mut Vec<u8>, text: &[u8], quote: u8) {
        out.push(quote);
        for byte in text {
            if *byte == quote || Some(*byte) == self.options.escape {
                out.push(*byte);
            }
            out.push(*byte);
        }
        out.push(quote);
    }
}

fn write_null(out: &mut Vec<u8>, options: &CsvOptions) {
    if let Some(literal) = &options.null_literal {
        out.extend_from_slice(literal.as_bytes());
    }
}

/// Appends a cell without quotes; true if it is a text, which may need them.
fn write_scalar(out: &mut Vec<u8>, column: &Column<'_>, row: usize, options: &CsvOptions) -> bool {
    match &column.cells {
        Cells::Null => {}
        Cells::Exact(values) => values.write(out, row),
        Cells::Float32(values) => print::float(out, values.value(row)),
        Cells::Float64(values) => print::double(out, values.value(row)),
        Cells::Decimal(values, scale) if options.scientific_decimals => {
            print::decimal_stripped(out, values.value(row), *scale);
        }
        Cells::Decimal(values, scale) => print::decimal_plain(out, values.value(row), *scale),
        _ => {
            write_text(out, column, row, options);
            return true;
        }
    }
    false
}

fn write_text(out: &mut Vec<u8>, column: &Column<'_>, row: usize, options: &CsvOptions) {
    match &column.cells {
        Cells::Text(values) => out.extend_from_slice(values.value(row).as_bytes()),
        Cells::Binary(values) => {
            out.extend_from_slice(STANDARD.encode(values.value(row)).as_bytes());
        }
        Cells::Date(values) => print::date(out, i64::from(values.value(row))),
        Cells::Time(values) => {
            let ms = values.value(row).unsigned_abs();
            print::time(out, ms / 1000, ms % 1000 * 1_000_000);
        }
        Cells::Timestamp(values, unit, zoned) => {
            print::timestamp(out, values[row], *unit, b' ', *zoned);
        }
        Cells::List(list, element) => {
            let elements = entries(list.value_offsets(), row).map(|entry| (&**element, entry));
            write_elements(out, elements, options);
        }
        Cells::Row(columns) => {
            write_elements(out, columns.iter().map(|column| (column, row)), options);
        }
        // Refused by `check_type`, or written as numbers.
        _ => {}
    }
}

fn write_elements<'c, 'a: 'c>(
    out: &mut Vec<u8>,
    elements: impl Iterator<Item = (&'c Column<'a>, usize)>,
    options: &CsvOptions,
) {
    for (index, (column, row)) in elements.enumerate() {
        if index > 0 {
            out.extend_from_slice(options.array_delimiter.as_bytes());
        }
        if column.is_null(row) {
            write_null(out, options);
        } else {
            write_scalar(out, column, row, options);
        }
    }
}

impl Encoder for CsvEncoder {
    fn encode(&mut self, batch: &Batch, out: &mut EncodedRecords) -> Result<()> {
        let columns = columns_of(batch)?;
        for row in 0..batch.num_rows() {
            for (index, column) in columns.iter().enumerate() {
                if index > 0 {
                    out.bytes
                        .extend_from_slice(self.options.delimiter.as_bytes());
                }
                self.write_cell(&mut out.bytes, column, row);
            }
            out.ends.push(out.bytes.len());
        }
        Ok(())
    }
}
