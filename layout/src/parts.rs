//! Entries cut into the pieces that a description names.

use arrow::datatypes::SchemaRef;
use weir_dataflow::schema::decode_schema;
use weir_dataflow::{Error, Result};
use weir_proto::v1::{self, StateEncoding};

/// One piece of a key or value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Piece {
    pub encoding: StateEncoding,
    /// First column of the table's that it fills, and how many.
    pub first: usize,
    pub columns: usize,
    pub constant: u8,
}

/// A table's description, checked: the pieces fill the columns of the schema, each once and in order.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    pub name: String,
    pub number: u8,
    pub schema: SchemaRef,
    pub key: Vec<Piece>,
    pub value: Vec<Piece>,
    pub key_columns: Vec<usize>,
}

fn broken(what: impl std::fmt::Display) -> Error {
    Error::Restore(format!(
        "the snapshot's description of its state is broken: {what}"
    ))
}

impl Table {
    /// # Errors
    /// If the description is not consistent, or of a later version.
    pub fn new(table: &v1::StateTable) -> Result<Self> {
        let schema = decode_schema(&table.schema).map_err(broken)?;
        let number = u8::try_from(table.number)
            .map_err(|_| broken(format!("table {} of 256", table.number)))?;
        let mut next = 0;
        let key = pieces(&table.key, &mut next, &table.name)?;
        let value = pieces(&table.value, &mut next, &table.name)?;
        let columns = schema.fields().len();
        if next != columns {
            return Err(broken(format!(
                "table '{}' has {columns} columns and fills {next}",
                table.name
            )));
        }
        let key_columns: Vec<usize> = table.key_columns.iter().map(|c| *c as usize).collect();
        if key_columns.iter().any(|column| *column >= columns) {
            return Err(broken(format!(
                "table '{}' has no such key column",
                table.name
            )));
        }
        Ok(Self {
            name: table.name.clone(),
            number,
            schema,
            key,
            value,
            key_columns,
        })
    }
}

fn pieces(fields: &[v1::StateField], next: &mut usize, table: &str) -> Result<Vec<Piece>> {
    let mut pieces = Vec::with_capacity(fields.len());
    for (index, field) in fields.iter().enumerate() {
        let encoding = field.encoding();
        let columns = field.columns as usize;
        let fits = match encoding {
            StateEncoding::Unspecified => {
                return Err(Error::Restore(format!(
                    "table '{table}' of the snapshot has an encoding that this version of Weir does not know ({}); \
                     read it with the version that wrote it, or a later one",
                    field.encoding
                )));
            }
            StateEncoding::Constant | StateEncoding::Ignored => columns == 0,
            StateEncoding::RowKey
            | StateEncoding::SizedRowKey
            | StateEncoding::Bits
            | StateEncoding::ArrowStream => true,
            _ => columns == 1,
        };
        let last = index + 1 == fields.len();
        if !fits || (takes_all(encoding) && !last) {
            return Err(broken(format!(
                "table '{table}' has {encoding:?} at {index}"
            )));
        }
        pieces.push(Piece {
            encoding,
            first: *next,
            columns,
            constant: field.constant as u8,
        });
        *next = next.saturating_add(columns);
    }
    Ok(pieces)
}

fn takes_all(encoding: StateEncoding) -> bool {
    matches!(
        encoding,
        StateEncoding::RowKey
            | StateEncoding::Ignored
            | StateEncoding::Rest
            | StateEncoding::ArrowStream
    )
}

/// Cuts bytes into one slice a piece. `None`: a constant has another value, the entry is another table's.
///
/// # Errors
/// If the bytes are too short or too long.
pub(crate) fn cut<'a>(pieces: &[Piece], bytes: &'a [u8]) -> Result<Option<Vec<&'a [u8]>>> {
    let mut rest = bytes;
    let mut slices = Vec::with_capacity(pieces.len());
    for piece in pieces {
        let length = length(piece, rest)?;
        let (slice, behind) = rest.split_at_checked(length).ok_or_else(broken_entry)?;
        if piece.encoding == StateEncoding::Constant && slice != [piece.constant] {
            return Ok(None);
        }
        slices.push(slice);
        rest = behind;
    }
    if !rest.is_empty() {
        return Err(broken_entry());
    }
    Ok(Some(slices))
}

pub(crate) fn broken_entry() -> Error {
    Error::State("an entry of the state is not as its description says".to_owned())
}

fn length(piece: &Piece, bytes: &[u8]) -> Result<usize> {
    let optional = |inner: &dyn Fn(&[u8]) -> Result<usize>| match bytes.split_first() {
        Some((0, _)) => Ok(1),
        Some((1, rest)) => Ok(1 + inner(rest)?),
        _ => Err(broken_entry()),
    };
    Ok(match piece.encoding {
        StateEncoding::Constant => 1,
        StateEncoding::KeyGroup => 0,
        StateEncoding::OrderedTime | StateEncoding::Float64 | StateEncoding::Int64 => 8,
        StateEncoding::Int128 | StateEncoding::DecimalSum | StateEncoding::Hash128 => 16,
        StateEncoding::SizedRowKey => sized(bytes)?,
        StateEncoding::Varint | StateEncoding::OrderedFloat => varint(bytes)?.1,
        StateEncoding::OptionalVarint => optional(&|rest| Ok(varint(rest)?.1))?,
        StateEncoding::OptionalFloat64 => optional(&|_| Ok(8))?,
        StateEncoding::OptionalInt128 => optional(&|_| Ok(16))?,
        StateEncoding::OptionalBytes => optional(&sized)?,
        StateEncoding::Bits => piece.columns.div_ceil(8),
        StateEncoding::RowKey
        | StateEncoding::Ignored
        | StateEncoding::Rest
        | StateEncoding::ArrowStream
        | StateEncoding::Unspecified => bytes.len(),
    })
}

fn sized(bytes: &[u8]) -> Result<usize> {
    let (length, head) = varint(bytes)?;
    let length = usize::try_from(length).map_err(|_| broken_entry())?;
    head.checked_add(length).ok_or_else(broken_entry)
}

/// An unsigned LEB128 number and its length.
pub(crate) fn varint(bytes: &[u8]) -> Result<(u64, usize)> {
    let mut value = 0u64;
    for (index, byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Ok((value, index + 1));
        }
    }
    Err(broken_entry())
}

/// Bytes behind their own length.
pub(crate) fn behind_length(bytes: &[u8]) -> Result<&[u8]> {
    bytes.get(varint(bytes)?.1..).ok_or_else(broken_entry)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::describe::{constant, field, schema_of};
    use arrow::datatypes::{DataType, Field};
    use proptest::prelude::*;

    fn table() -> v1::StateTable {
        v1::StateTable {
            name: "t".to_owned(),
            schema: schema_of(vec![
                Field::new("k", DataType::Utf8, true),
                Field::new("n", DataType::Int64, true),
                Field::new("s", DataType::Utf8, true),
            ]),
            key: vec![field(StateEncoding::SizedRowKey, 1), constant(7)],
            value: vec![
                constant(1),
                field(StateEncoding::OptionalVarint, 1),
                field(StateEncoding::OptionalBytes, 1),
            ],
            ..v1::StateTable::default()
        }
    }

    #[test]
    fn an_entry_is_cut_where_its_description_says() {
        let table = Table::new(&table()).unwrap();
        let key = cut(&table.key, b"\x03\0ab\x07").unwrap().unwrap();
        assert_eq!(key, [&b"\x03\0ab"[..], b"\x07"]);
        assert_eq!(cut(&table.key, b"\x03\0ab\x08").unwrap(), None);
        let value = cut(&table.value, b"\x01\x00\x01\x02hi").unwrap().unwrap();
        assert_eq!(value, [&b"\x01"[..], b"\x00", b"\x01\x02hi"]);
        for broken in [&b"\x01"[..], b"\x01\x00\x01\x09hi", b"\x01\x00\x00tail"] {
            assert!(cut(&table.value, broken).is_err(), "{broken:?}");
        }
    }

    #[test]
    fn what_a_later_version_wrote_is_refused_by_name() {
        let mut later = table();
        later.value[1].encoding = 99;
        let error = Table::new(&later).unwrap_err().to_string();
        assert!(
            error.contains("table 't'") && error.contains("99"),
            "{error}"
        );
        let mut short = table();
        short.value.pop();
        assert!(Table::new(&short).is_err());
        let mut behind = table();
        behind.key.insert(0, field(StateEncoding::Rest, 1));
        assert!(Table::new(&behind).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_may_come(key in prop::collection::vec(any::<u8>(), 0..40), value in prop::collection::vec(any::<u8>(), 0..40)) {
            let mut reader = crate::RowReader::new(&table()).unwrap();
            if reader.add(0, &key, &value).is_ok() {
                let _ = reader.finish();
            }
        }
    }
}
