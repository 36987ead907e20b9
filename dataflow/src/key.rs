//! The encoding of keys: what is hashed to find a key's group, and what stands in keyed state.
//!
//! One row's key is: a bitmap of the NULL columns (bit `i % 8` of byte `i / 8`; ⌈columns / 8⌉ bytes), then the columns that are not NULL, each
//! as little-endian bytes of its Arrow layout; text and bytes have their length in front (LEB128) unless they are the last column of the key.
//! ARRAY, MAP, MULTISET and ROW are bytes, see [`crate::nested`].
//! Floats are normalised: one NaN, no negative zero. The key without columns is empty. The encoding is part of the state's format: it must not change.

use std::borrow::Cow;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, BooleanBuilder, RecordBatch, downcast_primitive_array,
    make_array, new_null_array,
};
use arrow::buffer::{Buffer, MutableBuffer, NullBuffer};
use arrow::datatypes::{DataType, Float32Type, Float64Type, IntervalUnit, Schema, TimeUnit};
use weir_common::key_group::hash_key;

use crate::error::{Error, Result};
use crate::nested;
use crate::types::LogicalType;

/// Encodes and decodes the key columns of rows of one schema.
#[derive(Debug, Clone)]
pub struct KeyEncoder {
    columns: Vec<usize>,
    types: Vec<DataType>,
}

/// The keys of a batch's rows, one after the other.
#[derive(Debug, Clone, Default)]
pub struct EncodedKeys {
    bytes: Vec<u8>,
    /// One more than keys; the first is 0.
    offsets: Vec<u32>,
}

impl EncodedKeys {
    /// Number of keys.
    pub fn len(&self) -> usize {
        self.offsets.len().saturating_sub(1)
    }

    /// No keys.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets all keys.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.offsets.clear();
    }

    /// Adds a key that is made of these parts.
    ///
    /// # Errors
    /// If the keys of one batch have more than 4 GiB.
    pub fn push(&mut self, parts: [&[u8]; 2]) -> Result<()> {
        if self.offsets.is_empty() {
            self.offsets.push(0);
        }
        for part in parts {
            self.bytes.extend_from_slice(part);
        }
        let end = u32::try_from(self.bytes.len());
        self.offsets.push(
            end.map_err(|_| Error::Data("the keys of one batch hold more than 4 GiB".to_owned()))?,
        );
        Ok(())
    }

    /// Key of a row below [`Self::len`].
    #[inline]
    pub fn get(&self, row: usize) -> &[u8] {
        &self.bytes[self.offsets[row] as usize..self.offsets[row + 1] as usize]
    }

    /// All keys in the order of the rows.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.offsets
            .windows(2)
            .map(|ends| &self.bytes[ends[0] as usize..ends[1] as usize])
    }
}

impl<'a> FromIterator<&'a [u8]> for EncodedKeys {
    fn from_iter<I: IntoIterator<Item = &'a [u8]>>(keys: I) -> Self {
        let mut all = Self {
            bytes: Vec::new(),
            offsets: vec![0],
        };
        for key in keys {
            all.bytes.extend_from_slice(key);
            all.offsets.push(all.bytes.len() as u32);
        }
        all
    }
}

/// One key column, its type dissolved into bytes.
enum View<'a> {
    Fixed {
        width: usize,
        bytes: Cow<'a, [u8]>,
    },
    Bits(&'a BooleanArray),
    Text {
        offsets: Cow<'a, [i32]>,
        bytes: Cow<'a, [u8]>,
    },
    Null,
}

struct Column<'a> {
    view: View<'a>,
    nulls: Option<&'a NullBuffer>,
}

impl Column<'_> {
    #[inline]
    fn is_null(&self, row: usize) -> bool {
        matches!(self.view, View::Null) || self.nulls.is_some_and(|nulls| nulls.is_null(row))
    }
}

impl KeyEncoder {
    /// For the columns at `columns` of rows of `schema`, in that order.
    ///
    /// # Errors
    /// If a column is not there, or has a type that no SQL type has.
    pub fn new(schema: &Schema, columns: &[usize]) -> Result<Self> {
        let types = columns
            .iter()
            .map(|column| {
                let field = schema.fields().get(*column).ok_or_else(|| {
                    Error::Config(format!(
                        "key column {column} of {} columns",
                        schema.fields().len()
                    ))
                })?;
                if is_key_type(field.data_type()) {
                    return Ok(field.data_type().clone());
                }
                let sql_type = LogicalType::from_field(field)
                    .map_or_else(|| field.data_type().to_string(), |t| t.to_string());
                Err(Error::Config(format!(
                    "column '{}' of type {sql_type} as a key is not supported yet",
                    field.name()
                )))
            })
            .collect::<Result<_>>()?;
        Ok(Self {
            columns: columns.to_vec(),
            types,
        })
    }

    /// Types of the key columns.
    pub fn types(&self) -> &[DataType] {
        &self.types
    }

    /// Where the key columns are in the rows.
    pub fn columns(&self) -> &[usize] {
        &self.columns
    }

    /// The keys of all rows. Rows have the schema that the encoder was made for.
    pub fn encode_batch(&self, batch: &RecordBatch) -> Result<EncodedKeys> {
        let mut keys = EncodedKeys::default();
        self.encode_into(batch, &mut keys)?;
        Ok(keys)
    }

    /// As [`Self::encode_batch`], into buffers that are used again; what `keys` held is gone.
    pub fn encode_into(&self, batch: &RecordBatch, keys: &mut EncodedKeys) -> Result<()> {
        let columns = self.views(batch)?;
        let rows = batch.num_rows();
        let bitmap = self.types.len().div_ceil(8);
        let mut cursors = layout(&columns, rows, bitmap, keys)?;
        for (index, column) in columns.iter().enumerate() {
            mark_nulls(column, index, keys);
            match &column.view {
                View::Fixed { width, bytes } => match width {
                    1 => put_fixed::<1>(column, bytes, &mut cursors, &mut keys.bytes),
                    2 => put_fixed::<2>(column, bytes, &mut cursors, &mut keys.bytes),
                    4 => put_fixed::<4>(column, bytes, &mut cursors, &mut keys.bytes),
                    8 => put_fixed::<8>(column, bytes, &mut cursors, &mut keys.bytes),
                    _ => put_fixed::<16>(column, bytes, &mut cursors, &mut keys.bytes),
                },
                View::Bits(bits) => {
                    for (row, cursor) in cursors.iter_mut().enumerate() {
                        if !column.is_null(row) {
                            keys.bytes[*cursor as usize] = u8::from(bits.value(row));
                            *cursor += 1;
                        }
                    }
                }
                View::Text { offsets, bytes } => {
                    let last = index + 1 == columns.len();
                    put_text(column, offsets, bytes, last, &mut cursors, &mut keys.bytes);
                }
                View::Null => {}
            }
        }
        Ok(())
    }

    /// The hash of each row's encoded key ([`hash_key`]), without the keys where there is a shorter way. What `hashes` held is gone.
    pub fn hashes(&self, batch: &RecordBatch, hashes: &mut Vec<u64>) -> Result<()> {
        hashes.clear();
        if let [column] = self.views(batch)?.as_slice()
            && let View::Fixed { width: 8, bytes } = &column.view
            && column.nulls.is_none()
        {
            let mut key = [0u8; 9];
            hashes.extend(bytes.as_chunks::<8>().0.iter().map(|value| {
                key[1..].copy_from_slice(value);
                hash_key(&key)
            }));
            return Ok(());
        }
        let keys = self.encode_batch(batch)?;
        hashes.extend(keys.iter().map(hash_key));
        Ok(())
    }

    /// The key columns of encoded keys.
    ///
    /// # Errors
    /// If the bytes are not keys of these types.
    pub fn decode(&self, keys: &[&[u8]]) -> Result<Vec<ArrayRef>> {
        let bitmap = self.types.len().div_ceil(8);
        if keys.iter().any(|key| key.len() < bitmap) {
            return Err(broken());
        }
        let mut cursors = vec![bitmap; keys.len()];
        let last = self.types.len().saturating_sub(1);
        self.types
            .iter()
            .enumerate()
            .map(|(index, data_type)| {
                let nulls: NullBuffer = keys
                    .iter()
                    .map(|key| key[index / 8] & (1 << (index % 8)) == 0)
                    .collect();
                let nulls = Some(nulls).filter(|nulls| nulls.null_count() > 0);
                decode_column(keys, data_type, nulls, index == last, &mut cursors)
            })
            .collect()
    }

    fn views<'a>(&self, batch: &'a RecordBatch) -> Result<Vec<Column<'a>>> {
        self.columns
            .iter()
            .zip(&self.types)
            .map(|(column, expected)| {
                let array = batch
                    .columns()
                    .get(*column)
                    .filter(|array| array.data_type() == expected)
                    .ok_or_else(|| {
                        Error::Internal(format!("key column {column} is not {expected}"))
                    })?;
                Ok(Column {
                    view: view(array)?,
                    nulls: array.nulls().filter(|nulls| nulls.null_count() > 0),
                })
            })
            .collect()
    }
}

fn broken() -> Error {
    Error::State("an encoded key is broken".into())
}

fn is_key_type(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Boolean
            | DataType::Int8
            | DataType::Int16
            | DataType::Int32
            | DataType::Int64
            | DataType::Float32
            | DataType::Float64
            | DataType::Decimal128(_, _)
            | DataType::Utf8
            | DataType::Binary
            | DataType::Date32
            | DataType::Time32(TimeUnit::Millisecond)
            | DataType::Timestamp(_, _)
            | DataType::Interval(IntervalUnit::YearMonth)
            | DataType::Duration(TimeUnit::Millisecond)
            | DataType::Null
    ) || nested::is_nested(data_type)
}

fn view(array: &ArrayRef) -> Result<View<'_>> {
    Ok(match array.data_type() {
        DataType::Boolean => View::Bits(array.as_boolean()),
        DataType::Utf8 => {
            let text = array.as_string::<i32>();
            View::Text {
                offsets: Cow::Borrowed(text.value_offsets()),
                bytes: Cow::Borrowed(text.value_data()),
            }
        }
        DataType::Binary => {
            let binary = array.as_binary::<i32>();
            View::Text {
                offsets: Cow::Borrowed(binary.value_offsets()),
                bytes: Cow::Borrowed(binary.value_data()),
            }
        }
        data_type if nested::is_nested(data_type) => {
            let (offsets, bytes) = nested::encode(array)?;
            View::Text {
                offsets: Cow::Owned(offsets),
                bytes: Cow::Owned(bytes),
            }
        }
        DataType::Null => View::Null,
        DataType::Float32 => {
            let normal = array
                .as_primitive::<Float32Type>()
                .unary::<_, Float32Type>(|v| if v.is_nan() { f32::NAN } else { v + 0.0 });
            View::Fixed {
                width: 4,
                bytes: Cow::Owned(normal.values().inner().as_slice().to_vec()),
            }
        }
        DataType::Float64 => {
            let normal = array
                .as_primitive::<Float64Type>()
                .unary::<_, Float64Type>(|v| if v.is_nan() { f64::NAN } else { v + 0.0 });
            View::Fixed {
                width: 8,
                bytes: Cow::Owned(normal.values().inner().as_slice().to_vec()),
            }
        }
        data_type => {
            let width = data_type.primitive_width().ok_or_else(broken)?;
            let bytes = downcast_primitive_array!(
                array => array.values().inner().as_slice(),
                _ => return Err(broken()),
            );
            View::Fixed {
                width,
                bytes: Cow::Borrowed(bytes),
            }
        }
    })
}

/// Sets the offsets, makes room, and gives each row's first position after the bitmap.
fn layout(
    columns: &[Column<'_>],
    rows: usize,
    bitmap: usize,
    keys: &mut EncodedKeys,
) -> Result<Vec<u32>> {
    let always: usize = columns
        .iter()
        .map(|column| match (&column.view, column.nulls) {
            (View::Fixed { width, .. }, None) => *width,
            (View::Bits(_), None) => 1,
            _ => 0,
        })
        .sum();
    let mut lengths = vec![(bitmap + always) as u64; rows];
    for (index, column) in columns.iter().enumerate() {
        let last = index + 1 == columns.len();
        let present = lengths
            .iter_mut()
            .enumerate()
            .filter(|(row, _)| !column.is_null(*row));
        match (&column.view, column.nulls) {
            (View::Fixed { width, .. }, Some(_)) => {
                present.for_each(|(_, length)| *length += *width as u64);
            }
            (View::Bits(_), Some(_)) => present.for_each(|(_, length)| *length += 1),
            (View::Text { offsets, .. }, _) => present.for_each(|(row, length)| {
                let bytes = (offsets[row + 1] - offsets[row]) as u32;
                let prefix = if last { 0 } else { leb128_length(bytes) };
                *length += u64::from(bytes + prefix);
            }),
            _ => {}
        }
    }
    keys.offsets.clear();
    keys.offsets.reserve(rows + 1);
    keys.offsets.push(0);
    let mut end = 0u64;
    for length in lengths {
        end += length;
        keys.offsets.push(u32::try_from(end).map_err(|_| {
            Error::Data("the keys of one batch are larger than 4 GiB: make batches smaller".into())
        })?);
    }
    keys.bytes.clear();
    keys.bytes.resize(end as usize, 0);
    Ok(keys.offsets[..rows]
        .iter()
        .map(|start| start + bitmap as u32)
        .collect())
}

fn mark_nulls(column: &Column<'_>, index: usize, keys: &mut EncodedKeys) {
    if column.nulls.is_none() && !matches!(column.view, View::Null) {
        return;
    }
    for row in 0..keys.len() {
        if column.is_null(row) {
            keys.bytes[keys.offsets[row] as usize + index / 8] |= 1 << (index % 8);
        }
    }
}

fn put_fixed<const WIDTH: usize>(
    column: &Column<'_>,
    values: &[u8],
    cursors: &mut [u32],
    out: &mut [u8],
) {
    for (row, (cursor, value)) in cursors
        .iter_mut()
        .zip(values.as_chunks::<WIDTH>().0)
        .enumerate()
    {
        if column.nulls.is_none() || !column.is_null(row) {
            out[*cursor as usize..*cursor as usize + WIDTH].copy_from_slice(value);
            *cursor += WIDTH as u32;
        }
    }
}

fn put_text(
    column: &Column<'_>,
    offsets: &[i32],
    bytes: &[u8],
    last: bool,
    cursors: &mut [u32],
    out: &mut [u8],
) {
    for (row, cursor) in cursors.iter_mut().enumerate() {
        if column.is_null(row) {
            continue;
        }
        let value = &bytes[offsets[row] as usize..offsets[row + 1] as usize];
        if !last {
            let mut length = value.len() as u32;
            while length >= 0x80 {
                out[*cursor as usize] = length as u8 | 0x80;
                length >>= 7;
                *cursor += 1;
            }
            out[*cursor as usize] = length as u8;
            *cursor += 1;
        }
        out[*cursor as usize..*cursor as usize + value.len()].copy_from_slice(value);
        *cursor += value.len() as u32;
    }
}

fn leb128_length(value: u32) -> u32 {
    (32 - (value | 1).leading_zeros()).div_ceil(7)
}

fn read_leb128(key: &[u8], cursor: &mut usize) -> Result<usize> {
    let mut value = 0u64;
    for shift in (0..35).step_by(7) {
        let byte = *key.get(*cursor).ok_or_else(broken)?;
        *cursor += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value as usize);
        }
    }
    Err(broken())
}

fn take<'a>(key: &'a [u8], cursor: &mut usize, length: usize) -> Result<&'a [u8]> {
    let end = cursor.checked_add(length).ok_or_else(broken)?;
    let value = key.get(*cursor..end).ok_or_else(broken)?;
    *cursor = end;
    Ok(value)
}

/// A text, bytes or a nested value; `last`: it goes to the end of the key.
fn text_at<'a>(key: &'a [u8], cursor: &mut usize, last: bool) -> Result<&'a [u8]> {
    let length = if last {
        key.len() - (*cursor).min(key.len())
    } else {
        read_leb128(key, cursor)?
    };
    take(key, cursor, length)
}

fn decode_column(
    keys: &[&[u8]],
    data_type: &DataType,
    nulls: Option<NullBuffer>,
    last: bool,
    cursors: &mut [usize],
) -> Result<ArrayRef> {
    let is_null = |row: usize| nulls.as_ref().is_some_and(|nulls| nulls.is_null(row));
    let rows = keys.iter().zip(cursors.iter_mut()).enumerate();
    let builder = arrow::array::ArrayData::builder(data_type.clone()).len(keys.len());
    let builder = match data_type {
        DataType::Null => return Ok(new_null_array(data_type, keys.len())),
        DataType::Boolean => {
            let mut bits = BooleanBuilder::with_capacity(keys.len());
            for (row, (key, cursor)) in rows {
                if is_null(row) {
                    bits.append_null();
                } else {
                    bits.append_value(take(key, cursor, 1)? == [1]);
                }
            }
            return Ok(std::sync::Arc::new(bits.finish()));
        }
        DataType::Utf8 | DataType::Binary => {
            let mut offsets = vec![0i32];
            let mut bytes = Vec::new();
            for (row, (key, cursor)) in rows {
                if !is_null(row) {
                    bytes.extend_from_slice(text_at(key, cursor, last)?);
                }
                offsets.push(i32::try_from(bytes.len()).map_err(|_| {
                    Error::Data("the keys of one batch hold more than 2 GiB of text".into())
                })?);
            }
            builder
                .add_buffer(Buffer::from_vec(offsets))
                .add_buffer(Buffer::from_vec(bytes))
        }
        nested if nested::is_nested(nested) => {
            let values = rows.map(|(row, (key, cursor))| {
                if is_null(row) {
                    return Ok(None);
                }
                text_at(key, cursor, last).map(Some)
            });
            let values = values.collect::<Result<Vec<_>>>()?;
            return nested::decode(values.into_iter(), nested);
        }
        _ => {
            let width = data_type.primitive_width().ok_or_else(broken)?;
            let mut bytes = MutableBuffer::from_len_zeroed(keys.len() * width);
            for ((row, (key, cursor)), to) in rows.zip(bytes.as_slice_mut().chunks_mut(width)) {
                if !is_null(row) {
                    to.copy_from_slice(take(key, cursor, width)?);
                }
            }
            builder.add_buffer(bytes.into())
        }
    };
    Ok(make_array(builder.nulls(nulls.clone()).build()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{batch, format_rows, schema};
    use std::sync::Arc;

    fn all_types() -> arrow::datatypes::SchemaRef {
        schema(&[
            ("a", DataType::Int64),
            ("b", DataType::Utf8),
            ("c", DataType::Boolean),
            ("d", DataType::Decimal128(10, 2)),
            ("e", DataType::Timestamp(TimeUnit::Millisecond, None)),
            ("f", DataType::Float64),
            ("g", DataType::Int16),
            ("h", DataType::Date32),
            ("i", DataType::Float32),
            ("j", DataType::Utf8),
        ])
    }

    #[test]
    fn every_type_and_null_survives() {
        let schema = all_types();
        let long = "x".repeat(300);
        let text = format!(
            "1 {long} true 1.25 2020-01-01T00:00:00 1.5 7 2020-01-02 2.5 tail
             null null null null null null null null null null
             -5 y false -9.00 1960-01-01T00:00:00 -0.5 -7 1969-01-02 -2.5 null"
        );
        let rows = batch(&schema, &text).unwrap();
        let encoder = KeyEncoder::new(&schema, &(0..10).collect::<Vec<_>>()).unwrap();
        let keys = encoder.encode_batch(rows.data()).unwrap();
        let keys: Vec<&[u8]> = keys.iter().collect();
        assert_eq!(keys[1], [0xff, 0x03]);
        let decoded =
            RecordBatch::try_new(Arc::clone(&schema), encoder.decode(&keys).unwrap()).unwrap();
        assert_eq!(
            format_rows(&crate::Batch::inserts(decoded)).unwrap(),
            format_rows(&rows).unwrap()
        );
    }

    #[test]
    fn the_short_way_to_a_hash_gives_the_hash_of_the_key() {
        let schema = schema(&[("a", DataType::Int64), ("b", DataType::Utf8)]);
        for text in ["1 a\n2 b\n-3 c", "1 a\nnull b\n-3 c"] {
            let rows = batch(&schema, text).unwrap();
            for columns in [&[0][..], &[1], &[0, 1], &[]] {
                let encoder = KeyEncoder::new(&schema, columns).unwrap();
                let mut hashes = vec![1, 2];
                encoder.hashes(rows.data(), &mut hashes).unwrap();
                let keys = encoder.encode_batch(rows.data()).unwrap();
                assert_eq!(hashes, keys.iter().map(hash_key).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn the_encoding_is_fixed() {
        let schema = schema(&[("a", DataType::Int64), ("b", DataType::Utf8)]);
        let rows = batch(&schema, "258 ab").unwrap();
        let encode = |columns: &[usize]| {
            let encoder = KeyEncoder::new(&schema, columns).unwrap();
            encoder.encode_batch(rows.data()).unwrap().get(0).to_vec()
        };
        assert_eq!(encode(&[0]), [0, 2, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(encode(&[1, 0]), [0, 2, 97, 98, 2, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(encode(&[0, 1]), [0, 2, 1, 0, 0, 0, 0, 0, 0, 97, 98]);
        assert!(encode(&[]).is_empty());
    }

    #[test]
    fn zeros_and_nans_are_one_key_and_slices_work() {
        let schema = schema(&[("a", DataType::Float64)]);
        let values = arrow::array::Float64Array::from(vec![9.0, 0.0, -0.0, f64::NAN, -f64::NAN]);
        let rows = RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(values)]).unwrap();
        let encoder = KeyEncoder::new(&schema, &[0]).unwrap();
        let keys = encoder.encode_batch(&rows.slice(1, 4)).unwrap();
        assert_eq!(keys.get(0), keys.get(1));
        assert_eq!(keys.get(2), keys.get(3));
        assert_ne!(keys.get(0), keys.get(2));
    }

    #[test]
    fn broken_keys_are_refused() {
        let encoder = KeyEncoder::new(&all_types(), &[0, 1]).unwrap();
        assert!(encoder.decode(&[&[0, 1, 2]]).is_err());
        assert!(encoder.decode(&[&[]]).is_err());
    }

    #[test]
    fn nested_columns_are_bytes() {
        use arrow::array::ListArray;
        use arrow::datatypes::{Field, Int32Type};
        let lists = ListArray::from_iter_primitive::<Int32Type, _, _>(vec![
            Some(vec![Some(1), None]),
            None,
            Some(vec![]),
        ]);
        let fields = vec![
            Field::new("tags", lists.data_type().clone(), true),
            Field::new("n", DataType::Int32, true),
        ];
        let schema = Arc::new(Schema::new(fields));
        let numbers = arrow::array::Int32Array::from(vec![1, 2, 3]);
        let rows = RecordBatch::try_new(schema.clone(), vec![Arc::new(lists), Arc::new(numbers)]);
        let rows = rows.unwrap();
        for columns in [&[0, 1], &[1, 0]] {
            let encoder = KeyEncoder::new(&schema, columns).unwrap();
            let keys = encoder.encode_batch(&rows).unwrap();
            let keys: Vec<&[u8]> = keys.iter().collect();
            for (decoded, column) in encoder.decode(&keys).unwrap().iter().zip(columns) {
                assert_eq!(decoded, rows.column(*column));
            }
        }
    }
}
