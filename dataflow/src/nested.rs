//! Values of ARRAY, MAP, MULTISET and ROW as bytes, one string of bytes a value, and back.
//!
//! An array or a map is its length (LEB128) and its elements (of a map: key, value), a row its fields. Each element and field begins with a byte:
//! 0 is NULL, 1 a value that follows. Numbers are little-endian in the width of their Arrow layout; text and bytes have their length in front
//! (LEB128). Floats are as in keys: one NaN, no negative zero. The encoding is part of the state's format: it must not change.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayData, ArrayRef, AsArray, BooleanBuilder, ListArray, MapArray, NullBufferBuilder,
    StructArray, downcast_primitive_array, make_array, new_null_array,
};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, FieldRef, Fields, Float32Type, Float64Type};

use crate::error::{Error, Result};

/// Whether values of this type are encoded here.
pub fn is_nested(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::List(_) | DataType::Map(_, _) | DataType::Struct(_)
    )
}

/// The values of a column, one after the other: offsets (one more than rows) and bytes. A NULL has no bytes.
///
/// # Errors
/// If the values of the column have more than 2 GiB, or a type that no SQL type has.
pub fn encode(array: &ArrayRef) -> Result<(Vec<i32>, Vec<u8>)> {
    let (mut offsets, mut bytes) = (Vec::with_capacity(array.len() + 1), Vec::new());
    offsets.push(0);
    let writer = Writer::new(array)?;
    for row in 0..array.len() {
        if array.is_valid(row) {
            writer.put(row, &mut bytes);
        }
        offsets.push(i32::try_from(bytes.len()).map_err(|_| {
            Error::Data("the nested values of one batch are larger than 2 GiB".into())
        })?);
    }
    Ok((offsets, bytes))
}

/// The column again; `None` is NULL.
///
/// # Errors
/// If the bytes are not those of values of this type.
pub fn decode<'a>(
    values: impl Iterator<Item = Option<&'a [u8]>>,
    data_type: &DataType,
) -> Result<ArrayRef> {
    let mut builder = Builder::new(data_type)?;
    for value in values {
        match value {
            None => builder.append_null(),
            Some(mut bytes) => {
                builder.append(&mut bytes)?;
                if !bytes.is_empty() {
                    return Err(broken());
                }
            }
        }
    }
    builder.finish(data_type)
}

fn broken() -> Error {
    Error::State("an encoded ARRAY, MAP or ROW is broken".into())
}

fn put_length(mut length: usize, out: &mut Vec<u8>) {
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Result<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(length).ok_or_else(broken)?;
    *bytes = rest;
    Ok(taken)
}

fn take_length(bytes: &mut &[u8]) -> Result<usize> {
    let mut length = 0u64;
    for shift in (0..35).step_by(7) {
        let byte = take(bytes, 1)?[0];
        length |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(length as usize);
        }
    }
    Err(broken())
}

/// Writes the values of one column.
enum Writer {
    Null,
    Bits(arrow::array::BooleanArray),
    Fixed {
        width: usize,
        bytes: Buffer,
    },
    Text {
        offsets: ScalarBuffer<i32>,
        bytes: Buffer,
    },
    List {
        offsets: ScalarBuffer<i32>,
        items: Element,
    },
    Map {
        offsets: ScalarBuffer<i32>,
        pair: [Element; 2],
    },
    Row(Vec<Element>),
}

/// A column inside of another one.
struct Element {
    nulls: Option<NullBuffer>,
    writer: Box<Writer>,
}

impl Element {
    fn new(array: &ArrayRef) -> Result<Self> {
        Ok(Self {
            nulls: array.logical_nulls(),
            writer: Box::new(Writer::new(array)?),
        })
    }

    fn put(&self, row: usize, out: &mut Vec<u8>) {
        let is_null = self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row));
        out.push(u8::from(!is_null));
        if !is_null {
            self.writer.put(row, out);
        }
    }
}

impl Writer {
    fn new(array: &ArrayRef) -> Result<Self> {
        Ok(match array.data_type() {
            DataType::Null => Self::Null,
            DataType::Boolean => Self::Bits(array.as_boolean().clone()),
            DataType::Utf8 => {
                let text = array.as_string::<i32>();
                Self::Text {
                    offsets: text.offsets().inner().clone(),
                    bytes: text.values().clone(),
                }
            }
            DataType::Binary => {
                let binary = array.as_binary::<i32>();
                Self::Text {
                    offsets: binary.offsets().inner().clone(),
                    bytes: binary.values().clone(),
                }
            }
            DataType::List(_) => {
                let list = array.as_list::<i32>();
                Self::List {
                    offsets: list.offsets().inner().clone(),
                    items: Element::new(list.values())?,
                }
            }
            DataType::Map(_, _) => {
                let map = array.as_map();
                Self::Map {
                    offsets: map.offsets().inner().clone(),
                    pair: [Element::new(map.keys())?, Element::new(map.values())?],
                }
            }
            DataType::Struct(_) => {
                let columns = array.as_struct().columns().iter();
                Self::Row(columns.map(Element::new).collect::<Result<_>>()?)
            }
            DataType::Float32 => {
                let values = array.as_primitive::<Float32Type>();
                let normal =
                    values.unary::<_, Float32Type>(|v| if v.is_nan() { f32::NAN } else { v + 0.0 });
                Self::Fixed {
                    width: 4,
                    bytes: normal.values().inner().clone(),
                }
            }
            DataType::Float64 => {
                let values = array.as_primitive::<Float64Type>();
                let normal =
                    values.unary::<_, Float64Type>(|v| if v.is_nan() { f64::NAN } else { v + 0.0 });
                Self::Fixed {
                    width: 8,
                    bytes: normal.values().inner().clone(),
                }
            }
            data_type => {
                let width = data_type.primitive_width().ok_or_else(broken)?;
                let bytes = downcast_primitive_array!(
                    array => array.values().inner().clone(),
                    _ => return Err(broken()),
                );
                Self::Fixed { width, bytes }
            }
        })
    }

    fn put(&self, row: usize, out: &mut Vec<u8>) {
        let range = |offsets: &ScalarBuffer<i32>| offsets[row] as usize..offsets[row + 1] as usize;
        match self {
            Self::Null => {}
            Self::Bits(bits) => out.push(u8::from(bits.value(row))),
            Self::Fixed { width, bytes } => {
                out.extend_from_slice(&bytes[row * width..(row + 1) * width]);
            }
            Self::Text { offsets, bytes } => {
                let range = range(offsets);
                put_length(range.len(), out);
                out.extend_from_slice(&bytes[range]);
            }
            Self::List { offsets, items } => {
                let range = range(offsets);
                put_length(range.len(), out);
                range.for_each(|place| items.put(place, out));
            }
            Self::Map { offsets, pair } => {
                let range = range(offsets);
                put_length(range.len(), out);
                for place in range {
                    pair.iter().for_each(|element| element.put(place, out));
                }
            }
            Self::Row(fields) => fields.iter().for_each(|field| field.put(row, out)),
        }
    }
}

/// Reads values into a column.
struct Builder {
    nulls: NullBufferBuilder,
    length: usize,
    values: Values,
}

enum Values {
    Null,
    Bits(BooleanBuilder),
    Fixed {
        width: usize,
        bytes: Vec<u8>,
    },
    Text {
        offsets: Vec<i32>,
        bytes: Vec<u8>,
    },
    /// The children are the items, or keys and values.
    Repeated {
        offsets: Vec<i32>,
        children: Vec<Builder>,
    },
    Row(Vec<Builder>),
}

impl Builder {
    fn new(data_type: &DataType) -> Result<Self> {
        let children = |fields: &[FieldRef]| {
            let children = fields.iter().map(|field| Self::new(field.data_type()));
            children.collect::<Result<Vec<_>>>()
        };
        let values = match data_type {
            DataType::Null => Values::Null,
            DataType::Boolean => Values::Bits(BooleanBuilder::new()),
            DataType::Utf8 | DataType::Binary => Values::Text {
                offsets: vec![0],
                bytes: Vec::new(),
            },
            DataType::List(item) => Values::Repeated {
                offsets: vec![0],
                children: children(std::slice::from_ref(item))?,
            },
            DataType::Map(entries, _) => Values::Repeated {
                offsets: vec![0],
                children: children(pair_of(entries)?)?,
            },
            DataType::Struct(fields) => Values::Row(children(fields)?),
            other => Values::Fixed {
                width: other.primitive_width().ok_or_else(broken)?,
                bytes: Vec::new(),
            },
        };
        Ok(Self {
            nulls: NullBufferBuilder::new(0),
            length: 0,
            values,
        })
    }

    fn append_null(&mut self) {
        self.nulls.append_null();
        self.length += 1;
        match &mut self.values {
            Values::Null => {}
            Values::Bits(bits) => bits.append_value(false),
            Values::Fixed { width, bytes } => bytes.resize(bytes.len() + *width, 0),
            Values::Text { offsets, .. } | Values::Repeated { offsets, .. } => {
                offsets.push(offsets.last().copied().unwrap_or_default());
            }
            Values::Row(fields) => fields.iter_mut().for_each(Self::append_null),
        }
    }

    fn append(&mut self, from: &mut &[u8]) -> Result<()> {
        self.nulls.append_non_null();
        self.length += 1;
        match &mut self.values {
            Values::Null => {}
            Values::Bits(bits) => bits.append_value(take(from, 1)? == [1]),
            Values::Fixed { width, bytes } => bytes.extend_from_slice(take(from, *width)?),
            Values::Text { offsets, bytes } => {
                let length = take_length(from)?;
                bytes.extend_from_slice(take(from, length)?);
                offsets.push(offset(bytes.len())?);
            }
            Values::Repeated { offsets, children } => {
                for _ in 0..take_length(from)? {
                    for child in children.iter_mut() {
                        child.append_element(from)?;
                    }
                }
                offsets.push(offset(children.first().map_or(0, |child| child.length))?);
            }
            Values::Row(fields) => {
                for field in fields {
                    field.append_element(from)?;
                }
            }
        }
        Ok(())
    }

    fn append_element(&mut self, from: &mut &[u8]) -> Result<()> {
        if take(from, 1)? == [0] {
            self.append_null();
            return Ok(());
        }
        self.append(from)
    }

    fn finish(mut self, data_type: &DataType) -> Result<ArrayRef> {
        let nulls = self.nulls.finish();
        let flat = |buffers: Vec<Buffer>, nulls: Option<NullBuffer>| -> Result<ArrayRef> {
            let mut data = ArrayData::builder(data_type.clone())
                .len(self.length)
                .nulls(nulls);
            for buffer in buffers {
                data = data.add_buffer(buffer);
            }
            // Checks that texts are UTF-8: the bytes come from outside.
            Ok(make_array(data.build()?))
        };
        Ok(match (self.values, data_type) {
            (Values::Null, _) => new_null_array(data_type, self.length),
            (Values::Bits(mut bits), _) => {
                let (bits, _) = bits.finish().into_parts();
                Arc::new(arrow::array::BooleanArray::new(bits, nulls))
            }
            (Values::Fixed { bytes, .. }, _) => {
                // A copy is aligned as the type needs it.
                let mut buffer = arrow::buffer::MutableBuffer::from_len_zeroed(bytes.len());
                buffer.as_slice_mut().copy_from_slice(&bytes);
                flat(vec![buffer.into()], nulls)?
            }
            (Values::Text { offsets, bytes }, _) => flat(
                vec![Buffer::from_vec(offsets), Buffer::from_vec(bytes)],
                nulls,
            )?,
            (Values::Repeated { offsets, children }, DataType::List(item)) => {
                let offsets = OffsetBuffer::new(offsets.into());
                let mut items = finish_all(children, std::slice::from_ref(item))?;
                let items = items.pop().ok_or_else(broken)?;
                Arc::new(ListArray::try_new(Arc::clone(item), offsets, items, nulls)?)
            }
            (Values::Repeated { offsets, children }, DataType::Map(entries, sorted)) => {
                let offsets = OffsetBuffer::new(offsets.into());
                let fields = pair_of(entries)?;
                let pair = finish_all(children, fields)?;
                let pair = StructArray::try_new(fields.clone(), pair, None)?;
                Arc::new(MapArray::try_new(
                    Arc::clone(entries),
                    offsets,
                    pair,
                    nulls,
                    *sorted,
                )?)
            }
            (Values::Row(children), DataType::Struct(fields)) if fields.is_empty() => {
                drop(children);
                Arc::new(StructArray::new_empty_fields(self.length, nulls))
            }
            (Values::Row(children), DataType::Struct(fields)) => {
                let columns = finish_all(children, fields)?;
                Arc::new(StructArray::try_new(fields.clone(), columns, nulls)?)
            }
            _ => return Err(broken()),
        })
    }
}

fn offset(length: usize) -> Result<i32> {
    i32::try_from(length)
        .map_err(|_| Error::Data("the nested values of one batch are larger than 2 GiB".into()))
}

fn pair_of(entries: &FieldRef) -> Result<&Fields> {
    match entries.data_type() {
        DataType::Struct(pair) if pair.len() == 2 => Ok(pair),
        _ => Err(broken()),
    }
}

fn finish_all(children: Vec<Builder>, fields: &[FieldRef]) -> Result<Vec<ArrayRef>> {
    let children = children.into_iter().zip(fields);
    children
        .map(|(child, field)| child.finish(field.data_type()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{LogicalField, LogicalType as T};
    use arrow::array::{Int32Array, StringArray};
    use arrow::datatypes::Field;

    fn list(lengths: &[usize], values: ArrayRef, nulls: Option<NullBuffer>) -> ArrayRef {
        let item = Arc::new(Field::new("item", values.data_type().clone(), true));
        let offsets = OffsetBuffer::from_lengths(lengths.iter().copied());
        Arc::new(ListArray::try_new(item, offsets, values, nulls).unwrap())
    }

    fn check(array: &ArrayRef) {
        let (offsets, bytes) = encode(array).unwrap();
        let values = (0..array.len()).map(|row| {
            let range = offsets[row] as usize..offsets[row + 1] as usize;
            array.is_valid(row).then(|| &bytes[range])
        });
        let again = decode(values, array.data_type()).unwrap();
        assert_eq!(&again, array);
    }

    #[test]
    fn arrays_maps_and_rows_survive() {
        let numbers: ArrayRef = Arc::new(Int32Array::from(vec![Some(1), None, Some(-3), Some(4)]));
        let texts: ArrayRef = Arc::new(StringArray::from(vec![
            Some("a"),
            Some(""),
            None,
            Some("d"),
        ]));
        let arrays = list(
            &[2, 0, 1, 1],
            numbers.clone(),
            Some(vec![true, true, false, true].into()),
        );
        check(&arrays);
        check(&list(&[1, 3], arrays.clone(), None));
        let field =
            |name: &str, array: &ArrayRef| Field::new(name, array.data_type().clone(), true);
        let rows: ArrayRef = Arc::new(StructArray::from(vec![
            (Arc::new(field("x", &numbers)), numbers.clone()),
            (Arc::new(field("y", &texts)), texts.clone()),
            (Arc::new(field("z", &arrays)), arrays.clone()),
        ]));
        check(&rows);
        check(&rows.slice(1, 2));
        check(&list(&[4], rows, None));
        let int = Box::new(LogicalField::nullable(T::Int));
        let DataType::Map(entries, _) = T::Multiset(int).to_arrow() else {
            panic!("a multiset is a map");
        };
        let DataType::Struct(pair) = entries.data_type() else {
            panic!("entries are rows");
        };
        let counts: ArrayRef = Arc::new(Int32Array::from(vec![1, 2, 3]));
        let entries_of = StructArray::try_new(pair.clone(), vec![counts.clone(), counts], None);
        let offsets = OffsetBuffer::from_lengths([1, 2]);
        check(
            &(Arc::new(MapArray::new(
                entries,
                offsets,
                entries_of.unwrap(),
                None,
                false,
            )) as ArrayRef),
        );
    }

    #[test]
    fn broken_bytes_are_refused() {
        let integers = T::Array(Box::new(LogicalField::nullable(T::Int))).to_arrow();
        for bytes in [&[2, 1, 0, 0, 0, 0][..], &[], &[0, 0], &[0xff; 9]] {
            assert!(decode([Some(bytes)].into_iter(), &integers).is_err());
        }
    }

    #[test]
    fn the_encoding_is_fixed() {
        let numbers: ArrayRef = Arc::new(Int32Array::from(vec![Some(258), None]));
        let (offsets, bytes) = encode(&list(&[2, 0], numbers, None)).unwrap();
        assert_eq!(offsets, [0, 7, 8]);
        assert_eq!(bytes, [2, 1, 2, 1, 0, 0, 0, 0]);
    }
}
