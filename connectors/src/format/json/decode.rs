//! JSON to columns.

use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, SchemaRef};
use weir_dataflow::{Error, Result};

use super::options::JsonOptions;
use super::parser::{Fault, Parsed, Parser, Token};
use crate::format::column::{Column, Values, map_fields};
use crate::format::scalar::{self, Scalar, ScalarRules};
use crate::format::{DecodeError, Decoded, Decoder};

/// Reads records of one schema. Fields are matched by name; unknown ones are skipped, missing ones are NULL.
pub(crate) struct JsonDecoder {
    schema: SchemaRef,
    root: Column,
    reader: Reader,
}

struct Reader {
    rules: ScalarRules,
    ignore_errors: bool,
    fail_on_missing: bool,
    scratch: String,
}

/// Which record each row came from, kept only once a record did not give exactly one row.
#[derive(Default)]
pub(crate) struct Origins(Option<Vec<u32>>);

impl Origins {
    /// `record` gave the rows `before..after`.
    pub(crate) fn add(&mut self, record: usize, before: usize, after: usize) {
        if self.0.is_none() && (after != before + 1 || before != record) {
            self.0 = Some((0..before as u32).collect());
        }
        if let Some(records) = &mut self.0 {
            records.resize(after, record as u32);
        }
    }

    pub(crate) fn into_inner(self) -> Option<Vec<u32>> {
        self.0
    }
}

impl JsonDecoder {
    pub(crate) fn new(schema: SchemaRef, options: &JsonOptions) -> Result<Self> {
        for field in schema.fields() {
            check_type(field)?;
        }
        let root = Field::new("", DataType::Struct(schema.fields().clone()), false);
        Ok(Self {
            root: Column::new(&Arc::new(root))?,
            schema,
            reader: Reader {
                rules: options.scalar_rules(),
                ignore_errors: options.ignore_parse_errors,
                fail_on_missing: options.fail_on_missing_field,
                scratch: String::new(),
            },
        })
    }

    /// Appends the rows of a record: one object, an array of objects, or none for an empty record or `null`.
    fn read_record(&mut self, record: &[u8]) -> std::result::Result<(), String> {
        let text = std::str::from_utf8(record)
            .map_err(|error| format!("byte {}: not UTF-8", error.valid_up_to()))?;
        let mut parser = Parser::new(text);
        let read = match parser.peek() {
            0 => Ok(()),
            b'n' => parser.literal("null"),
            b'[' => self.read_rows(&mut parser),
            _ => self.reader.read_value(&mut parser, &mut self.root),
        };
        read.map_err(|fault| describe(&fault))
    }

    fn read_rows(&mut self, parser: &mut Parser<'_>) -> Parsed<()> {
        parser.expect(b'[', "expected '['")?;
        let mut first = true;
        while !parser.take(b']') {
            if !first {
                parser.expect(b',', "expected ',' or ']'")?;
            }
            first = false;
            self.reader.read_value(parser, &mut self.root)?;
        }
        Ok(())
    }

    /// The rows so far; the decoder is empty afterwards.
    fn finish(&mut self) -> Result<RecordBatch> {
        let rows = self.root.len();
        let root = self.root.finish()?;
        let columns = root.as_struct().columns().to_vec();
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(rows));
        let schema = Arc::clone(&self.schema);
        Ok(RecordBatch::try_new_with_options(
            schema, columns, &options,
        )?)
    }
}

impl Decoder for JsonDecoder {
    fn decode(&mut self, records: &[&[u8]]) -> std::result::Result<Decoded, DecodeError> {
        let mut origins = Origins::default();
        let mut skipped = 0;
        for (index, record) in records.iter().enumerate() {
            let before = self.root.len();
            if let Err(reason) = self.read_record(record) {
                self.root.truncate(before);
                if !self.reader.ignore_errors {
                    self.root.truncate(0);
                    let record = index;
                    return Err(DecodeError { record, reason });
                }
                skipped += 1;
            }
            origins.add(index, before, self.root.len());
        }
        let columns = self.finish().map_err(|error| DecodeError {
            record: 0,
            reason: error.to_string(),
        })?;
        Ok(Decoded {
            columns,
            kinds: None,
            record_of_row: origins.into_inner(),
            skipped,
        })
    }
}

fn describe(fault: &Fault) -> String {
    let mut path: Vec<&str> = fault.path.iter().map(String::as_str).collect();
    path.reverse();
    let field = if path.is_empty() {
        String::new()
    } else {
        format!(", field '{}'", path.join("."))
    };
    format!("byte {}{field}: {}", fault.position, fault.reason)
}

/// Refuses what the format has no text for.
pub(super) fn check_type(field: &Field) -> Result<()> {
    match field.data_type() {
        DataType::Map(entries, _) => {
            let (key, value) = map_fields(entries)?;
            if *key.data_type() != DataType::Utf8 {
                return Err(Error::Config(format!(
                    "column '{}': format 'json' needs keys of type STRING in a MAP",
                    field.name()
                )));
            }
            check_type(value)
        }
        DataType::List(element) => check_type(element),
        DataType::Struct(fields) => fields.iter().try_for_each(|field| check_type(field)),
        _ => Ok(()),
    }
}

impl Reader {
    /// Appends exactly one value to `column`, or fails and leaves it in disorder (the record is taken back then).
    fn read_value(&mut self, parser: &mut Parser<'_>, column: &mut Column) -> Parsed<()> {
        let first = parser.peek();
        let position = parser.position();
        if first == b'n' {
            parser.literal("null")?;
            return null(column, position);
        }
        let before = column.len();
        match self.read_present(parser, column, first) {
            Err(fault) if fault.value_only && self.ignore_errors && column.is_nullable() => {
                column.truncate(before);
                column.append_null();
                Ok(())
            }
            other => other,
        }
    }

    fn read_present(
        &mut self,
        parser: &mut Parser<'_>,
        column: &mut Column,
        first: u8,
    ) -> Parsed<()> {
        let position = parser.position();
        let scalar = match first {
            b'"' => match parser.string(&mut self.scratch)? {
                Token::Borrowed(text) => Scalar::Text(text),
                Token::Unescaped => Scalar::Text(&self.scratch),
            },
            b'{' | b'[' => return self.read_nested(parser, column, first),
            b't' => {
                parser.literal("true")?;
                Scalar::Boolean(true)
            }
            b'f' => {
                parser.literal("false")?;
                Scalar::Boolean(false)
            }
            _ => match parser.number()? {
                (number, true) => Scalar::Float(number),
                (number, false) => Scalar::Integer(number),
            },
        };
        scalar::append(column, scalar, self.rules).map_err(|_| mismatch(column, position, first))
    }

    fn read_nested(
        &mut self,
        parser: &mut Parser<'_>,
        column: &mut Column,
        first: u8,
    ) -> Parsed<()> {
        let position = parser.position();
        let row = column.len();
        match &mut column.values {
            Values::Row(fields) if first == b'{' => {
                self.read_row(parser, fields, row)?;
            }
            Values::List(offsets, element) if first == b'[' => {
                self.read_elements(parser, element)?;
                offsets.push(element.len() as i32);
            }
            Values::Map(offsets, key, value) if first == b'{' => {
                self.read_entries(parser, key, value)?;
                offsets.push(key.len() as i32);
            }
            Values::Text(texts) => {
                texts.push_with(|out| parser.compact(out, &mut self.scratch))?;
            }
            _ => {
                parser.skip(&mut self.scratch)?;
                return Err(mismatch(column, position, first));
            }
        }
        column.set_valid();
        Ok(())
    }

    /// An object into the columns of its fields; the row is number `row` of each.
    fn read_row(
        &mut self,
        parser: &mut Parser<'_>,
        fields: &mut [Column],
        row: usize,
    ) -> Parsed<()> {
        parser.expect(b'{', "expected '{'")?;
        let mut expected = 0;
        let mut first = true;
        while !parser.take(b'}') {
            if !first {
                parser.expect(b',', "expected ',' or '}'")?;
            }
            first = false;
            parser.open_key()?;
            let name = match parser.string(&mut self.scratch)? {
                Token::Borrowed(name) => name,
                Token::Unescaped => self.scratch.as_str(),
            };
            let found = find(fields, name, expected);
            parser.expect(b':', "expected ':'")?;
            match found.and_then(|index| fields.get_mut(index)) {
                Some(field) => {
                    if field.len() > row {
                        // The last of several fields of one name counts.
                        field.truncate(row);
                    }
                    if let Err(mut fault) = self.read_value(parser, field) {
                        fault.path.push(field.name().to_owned());
                        return Err(fault);
                    }
                    expected = found.map_or(0, |index| index + 1);
                }
                None => parser.skip(&mut self.scratch)?,
            }
        }
        for field in fields.iter_mut().filter(|field| field.len() == row) {
            let missing = |reason: &str| {
                Box::new(Fault {
                    position: parser.position(),
                    reason: reason.to_owned(),
                    path: vec![field.name().to_owned()],
                    value_only: false,
                })
            };
            if self.fail_on_missing {
                return Err(missing("the field is missing"));
            }
            if !field.is_nullable() {
                return Err(missing("the field is missing, and its column is NOT NULL"));
            }
            field.append_null();
        }
        Ok(())
    }

    fn read_elements(&mut self, parser: &mut Parser<'_>, element: &mut Column) -> Parsed<()> {
        parser.expect(b'[', "expected '['")?;
        let mut first = true;
        while !parser.take(b']') {
            if !first {
                parser.expect(b',', "expected ',' or ']'")?;
            }
            first = false;
            self.read_value(parser, element)?;
        }
        Ok(())
    }

    fn read_entries(
        &mut self,
        parser: &mut Parser<'_>,
        key: &mut Column,
        value: &mut Column,
    ) -> Parsed<()> {
        parser.expect(b'{', "expected '{'")?;
        let mut first = true;
        while !parser.take(b'}') {
            if !first {
                parser.expect(b',', "expected ',' or '}'")?;
            }
            first = false;
            parser.open_key()?;
            let position = parser.position();
            let name = match parser.string(&mut self.scratch)? {
                Token::Borrowed(name) => name,
                Token::Unescaped => self.scratch.as_str(),
            };
            scalar::append(key, Scalar::Text(name), self.rules)
                .map_err(|_| mismatch(key, position, b'"'))?;
            parser.expect(b':', "expected ':'")?;
            self.read_value(parser, value)?;
        }
        Ok(())
    }
}

/// Index of a field; `expected` is tried first, since records mostly have the order of the schema.
fn find(fields: &[Column], name: &str, expected: usize) -> Option<usize> {
    if fields
        .get(expected)
        .is_some_and(|field| field.name() == name)
    {
        return Some(expected);
    }
    fields.iter().position(|field| field.name() == name)
}

fn null(column: &mut Column, position: usize) -> Parsed<()> {
    if column.is_nullable() {
        column.append_null();
        return Ok(());
    }
    Err(Box::new(Fault {
        position,
        reason: "null for a NOT NULL column".to_owned(),
        path: Vec::new(),
        value_only: false,
    }))
}

/// The error for a value of another type. It does not show the value: records may hold secrets, and errors go to logs.
fn mismatch(column: &Column, position: usize, first: u8) -> Box<Fault> {
    let found = match first {
        b'"' => "a text that is none",
        b'{' => "an object",
        b'[' => "an array",
        b't' | b'f' => "a boolean",
        _ => "a number that is none",
    };
    let expected = if column.name().is_empty() {
        "a JSON object".to_owned()
    } else {
        column.type_name()
    };
    Box::new(Fault {
        position,
        reason: format!("expected {expected}, found {found}"),
        path: Vec::new(),
        value_only: true,
    })
}
