//! Columns to JSON, as Flink's Jackson writes it.

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, SchemaRef};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use weir_dataflow::{Batch, Error, Result};

use super::decode::check_type;
use super::options::{JsonOptions, NullKey};
use crate::format::cells::{Cells, Column, entries};
use crate::format::parse::TimestampStandard;
use crate::format::{EncodedRecords, Encoder, print};

/// Writes one object a row; row kinds are not written.
pub struct JsonEncoder {
    names: Names,
    options: JsonOptions,
}

/// The names of a row's fields with quotes and colon, and those of the rows inside.
pub(crate) struct Names {
    fields: Vec<(Vec<u8>, Names)>,
}

impl Names {
    pub(crate) fn of_schema(schema: &SchemaRef) -> Self {
        Self {
            fields: schema.fields().iter().map(|field| name(field)).collect(),
        }
    }

    fn of_type(data_type: &DataType) -> Self {
        let fields = match data_type {
            DataType::Struct(fields) => fields.iter().map(|field| name(field)).collect(),
            DataType::List(element) => return Self::of_type(element.data_type()),
            DataType::Map(entries, _) => match entries.data_type() {
                DataType::Struct(pair) if pair.len() == 2 => {
                    return Self::of_type(pair[1].data_type());
                }
                _ => Vec::new(),
            },
            _ => Vec::new(),
        };
        Self { fields }
    }
}

fn name(field: &Field) -> (Vec<u8>, Names) {
    let mut quoted = Vec::new();
    write_text(&mut quoted, field.name());
    quoted.push(b':');
    (quoted, Names::of_type(field.data_type()))
}

impl JsonEncoder {
    pub(crate) fn new(schema: SchemaRef, options: JsonOptions) -> Result<Self> {
        for field in schema.fields() {
            check_type(field)?;
        }
        Ok(Self {
            names: Names::of_schema(&schema),
            options,
        })
    }

    /// With the format's default options.
    ///
    /// # Errors
    /// For a MAP whose keys are no texts.
    pub fn for_schema(schema: &SchemaRef) -> Result<Self> {
        Self::new(schema.clone(), JsonOptions::default())
    }

    /// Each row as a text.
    ///
    /// # Errors
    /// For a MAP with a NULL key.
    pub fn encode_rows(&mut self, data: &RecordBatch) -> Result<Vec<String>> {
        let mut records = EncodedRecords::default();
        self.encode(&Batch::inserts(data.clone()), &mut records)?;
        let texts = records
            .iter()
            .map(|record| String::from_utf8_lossy(record).into_owned());
        Ok(texts.collect())
    }

    /// The names, for [`write_row`].
    pub(crate) fn names(&self) -> &Names {
        &self.names
    }

    pub(crate) fn options(&self) -> &JsonOptions {
        &self.options
    }
}

impl Encoder for JsonEncoder {
    fn encode(&mut self, batch: &Batch, out: &mut EncodedRecords) -> Result<()> {
        let columns = columns_of(batch)?;
        for row in 0..batch.num_rows() {
            write_row(&mut out.bytes, &columns, &self.names, row, &self.options)?;
            out.ends.push(out.bytes.len());
        }
        Ok(())
    }
}

/// Typed views of a batch's columns.
pub(crate) fn columns_of(batch: &Batch) -> Result<Vec<Column<'_>>> {
    let columns = batch.data().columns().iter();
    columns.map(|column| Column::new(column.as_ref())).collect()
}

/// Appends a row as an object.
pub(crate) fn write_row(
    out: &mut Vec<u8>,
    columns: &[Column<'_>],
    names: &Names,
    row: usize,
    options: &JsonOptions,
) -> Result<()> {
    out.push(b'{');
    let mut first = true;
    for (column, (name, inner)) in columns.iter().zip(&names.fields) {
        if options.ignore_null_fields && column.is_null(row) {
            continue;
        }
        if !first {
            out.push(b',');
        }
        first = false;
        out.extend_from_slice(name);
        write_value(out, column, inner, row, options)?;
    }
    out.push(b'}');
    Ok(())
}

fn write_value(
    out: &mut Vec<u8>,
    column: &Column<'_>,
    names: &Names,
    row: usize,
    options: &JsonOptions,
) -> Result<()> {
    if column.is_null(row) {
        out.extend_from_slice(b"null");
        return Ok(());
    }
    match &column.cells {
        Cells::Null => out.extend_from_slice(b"null"),
        Cells::Exact(values) => values.write(out, row),
        Cells::Float32(values) => {
            let value = values.value(row);
            quoted_if(out, !value.is_finite(), |out| print::float(out, value));
        }
        Cells::Float64(values) => {
            let value = values.value(row);
            quoted_if(out, !value.is_finite(), |out| print::double(out, value));
        }
        Cells::Decimal(values, scale) if options.plain_decimals => {
            print::decimal_plain(out, values.value(row), *scale);
        }
        Cells::Decimal(values, scale) => print::decimal_stripped(out, values.value(row), *scale),
        Cells::Text(values) => write_text(out, values.value(row)),
        Cells::Binary(values) => {
            quoted_if(out, true, |out| {
                out.extend_from_slice(STANDARD.encode(values.value(row)).as_bytes());
            });
        }
        Cells::Date(values) => {
            quoted_if(out, true, |out| {
                print::date(out, i64::from(values.value(row)))
            });
        }
        Cells::Time(values) => {
            // Flink's JSON drops the fraction.
            let seconds = (values.value(row) / 1000) as u32;
            quoted_if(out, true, |out| print::time(out, seconds, 0));
        }
        Cells::Timestamp(values, unit, zoned) => {
            let separator = match options.timestamps {
                TimestampStandard::Sql => b' ',
                TimestampStandard::Iso8601 => b'T',
            };
            quoted_if(out, true, |out| {
                print::timestamp(out, values[row], *unit, separator, *zoned);
            });
        }
        Cells::List(list, element) => {
            out.push(b'[');
            for (index, entry) in entries(list.value_offsets(), row).enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write_value(out, element, names, entry, options)?;
            }
            out.push(b']');
        }
        Cells::Map(map, keys, values) => {
            let entries = entries(map.value_offsets(), row);
            write_map(out, keys, values, names, entries, options)?;
        }
        Cells::Row(columns) => write_row(out, columns, names, row, options)?,
    }
    Ok(())
}

fn write_map(
    out: &mut Vec<u8>,
    keys: &Column<'_>,
    values: &Column<'_>,
    names: &Names,
    entries: std::ops::Range<usize>,
    options: &JsonOptions,
) -> Result<()> {
    let Cells::Text(texts) = &keys.cells else {
        return Err(Error::Internal("a map's keys are not texts".to_owned()));
    };
    out.push(b'{');
    let mut first = true;
    for entry in entries {
        let key = match (&options.null_key, keys.is_null(entry)) {
            (_, false) => texts.value(entry),
            (NullKey::Drop, true) => continue,
            (NullKey::Literal(literal), true) => literal,
            (NullKey::Fail, true) => {
                return Err(Error::Data(
                    "a MAP with a NULL key can't be written as JSON; set 'json.map-null-key.mode' to DROP or LITERAL"
                        .to_owned(),
                ));
            }
        };
        if !first {
            out.push(b',');
        }
        first = false;
        write_text(out, key);
        out.push(b':');
        write_value(out, values, names, entry, options)?;
    }
    out.push(b'}');
    Ok(())
}

fn quoted_if(out: &mut Vec<u8>, quoted: bool, write: impl FnOnce(&mut Vec<u8>)) {
    if quoted {
        out.push(b'"');
    }
    write(out);
    if quoted {
        out.push(b'"');
    }
}

/// A text with quotes, escaped as Jackson does: quotes, backslashes and control characters only.
pub(crate) fn write_text(out: &mut Vec<u8>, text: &str) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut written = 0;
    for (at, byte) in bytes.iter().enumerate() {
        if *byte >= b' ' && *byte != b'"' && *byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&bytes[written..at]);
        written = at + 1;
        let short = match byte {
            b'"' => b'"',
            b'\\' => b'\\',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            8 => b'b',
            12 => b'f',
            _ => {
                out.extend_from_slice(b"\\u00");
                out.push(HEX[usize::from(byte >> 4)]);
                out.push(HEX[usize::from(byte & 15)]);
                continue;
            }
        };
        out.extend_from_slice(&[b'\\', short]);
    }
    out.extend_from_slice(&bytes[written..]);
    out.push(b'"');
}
