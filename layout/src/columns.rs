//! Values that were cut out of entries, as columns of the types that the description names.

use std::sync::Arc;

use arrow::array::{ArrayData, ArrayRef, BooleanArray, make_array};
use arrow::buffer::{Buffer, NullBuffer};
use arrow::datatypes::DataType;
use weir_dataflow::{Error, Result, nested};
use weir_proto::v1::StateEncoding;

use crate::parts::{behind_length, broken_entry, varint};

/// A column that grows by entries.
#[derive(Debug)]
pub(crate) enum Growing {
    Int(Vec<Option<i64>>),
    Float(Vec<Option<f64>>),
    Wide(Vec<Option<i128>>),
    Bytes(Vec<Option<Vec<u8>>>),
}

fn zigzag(bytes: &[u8]) -> Result<i64> {
    let (value, _) = varint(bytes)?;
    Ok((value >> 1) as i64 ^ -((value & 1) as i64))
}

fn fixed<const N: usize>(bytes: &[u8]) -> Result<[u8; N]> {
    bytes.try_into().map_err(|_| broken_entry())
}

/// What follows an OPTIONAL piece's mark.
fn present(bytes: &[u8]) -> Option<&[u8]> {
    match bytes.split_first() {
        Some((1, rest)) => Some(rest),
        _ => None,
    }
}

impl Growing {
    /// Empty, for an encoding that fills one column.
    pub fn new(encoding: StateEncoding) -> Self {
        match encoding {
            StateEncoding::Float64
            | StateEncoding::OptionalFloat64
            | StateEncoding::OrderedFloat => Self::Float(Vec::new()),
            StateEncoding::Int128 | StateEncoding::DecimalSum | StateEncoding::OptionalInt128 => {
                Self::Wide(Vec::new())
            }
            StateEncoding::OptionalBytes | StateEncoding::Rest | StateEncoding::Hash128 => {
                Self::Bytes(Vec::new())
            }
            _ => Self::Int(Vec::new()),
        }
    }

    pub fn push_int(&mut self, value: i64) {
        if let Self::Int(values) = self {
            values.push(Some(value));
        }
    }

    /// Adds what the bytes of a piece say.
    pub fn push(&mut self, encoding: StateEncoding, bytes: &[u8]) -> Result<()> {
        match self {
            Self::Int(values) => values.push(match encoding {
                StateEncoding::OrderedTime => {
                    Some((u64::from_be_bytes(fixed(bytes)?) ^ (1 << 63)) as i64)
                }
                StateEncoding::Int64 => Some(i64::from_le_bytes(fixed(bytes)?)),
                StateEncoding::OptionalVarint => present(bytes).map(zigzag).transpose()?,
                _ => Some(zigzag(bytes)?),
            }),
            Self::Float(values) => values.push(match encoding {
                StateEncoding::OrderedFloat => {
                    let ordered = zigzag(bytes)?;
                    let bits = ordered ^ (((ordered >> 63) as u64) >> 1) as i64;
                    Some(f64::from_bits(bits as u64))
                }
                StateEncoding::OptionalFloat64 => {
                    let value = present(bytes).map(fixed).transpose()?;
                    value.map(f64::from_le_bytes)
                }
                _ => Some(f64::from_le_bytes(fixed(bytes)?)),
            }),
            Self::Wide(values) => values.push(match encoding {
                StateEncoding::OptionalInt128 => {
                    let value = present(bytes).map(fixed).transpose()?;
                    value.map(i128::from_le_bytes)
                }
                StateEncoding::DecimalSum => {
                    Some(i128::from_le_bytes(fixed(bytes)?)).filter(|sum| *sum != i128::MAX)
                }
                _ => Some(i128::from_le_bytes(fixed(bytes)?)),
            }),
            Self::Bytes(values) => values.push(match encoding {
                StateEncoding::OptionalBytes => present(bytes)
                    .map(|rest| Ok::<_, Error>(behind_length(rest)?.to_vec()))
                    .transpose()?,
                _ => Some(bytes.to_vec()),
            }),
        }
        Ok(())
    }

    /// The column; this is empty again.
    pub fn finish(&mut self, data_type: &DataType) -> Result<ArrayRef> {
        match self {
            Self::Int(values) => ints(&std::mem::take(values), data_type),
            Self::Float(values) => {
                let values = std::mem::take(values);
                let buffer = match data_type {
                    DataType::Float32 => {
                        let narrow = values.iter().map(|v| v.unwrap_or_default() as f32);
                        Buffer::from_vec(narrow.collect::<Vec<_>>())
                    }
                    _ => unwrapped(&values),
                };
                build(data_type, vec![buffer], nulls(&values), values.len())
            }
            Self::Wide(values) => {
                let values = std::mem::take(values);
                build(
                    data_type,
                    vec![unwrapped(&values)],
                    nulls(&values),
                    values.len(),
                )
            }
            Self::Bytes(values) => {
                let values = std::mem::take(values);
                if nested::is_nested(data_type) {
                    return nested::decode(values.iter().map(Option::as_deref), data_type);
                }
                let (mut offsets, mut bytes) = (vec![0i32], Vec::new());
                for value in &values {
                    bytes.extend_from_slice(value.as_deref().unwrap_or_default());
                    offsets.push(i32::try_from(bytes.len()).map_err(|_| {
                        Error::Data("a batch of the state has more than 2 GiB of text".to_owned())
                    })?);
                }
                let buffers = vec![Buffer::from_vec(offsets), Buffer::from_vec(bytes)];
                build(data_type, buffers, nulls(&values), values.len())
            }
        }
    }
}

fn nulls<T>(values: &[Option<T>]) -> Option<NullBuffer> {
    let nulls: NullBuffer = values.iter().map(Option::is_some).collect();
    Some(nulls).filter(|nulls| nulls.null_count() > 0)
}

fn unwrapped<T: Copy + Default + arrow::datatypes::ArrowNativeType>(
    values: &[Option<T>],
) -> Buffer {
    let values: Vec<T> = values.iter().map(|v| v.unwrap_or_default()).collect();
    Buffer::from_vec(values)
}

/// A column of a type that is kept as an integer.
fn ints(values: &[Option<i64>], data_type: &DataType) -> Result<ArrayRef> {
    let plain = || values.iter().map(|v| v.unwrap_or_default());
    let buffer = match (data_type, data_type.primitive_width()) {
        (DataType::Boolean, _) => {
            let bits = plain().map(|v| v != 0).collect();
            return Ok(Arc::new(BooleanArray::new(bits, nulls(values))));
        }
        (_, Some(1)) => Buffer::from_vec(plain().map(|v| v as i8).collect::<Vec<_>>()),
        (_, Some(2)) => Buffer::from_vec(plain().map(|v| v as i16).collect::<Vec<_>>()),
        (_, Some(4)) => Buffer::from_vec(plain().map(|v| v as i32).collect::<Vec<_>>()),
        _ => Buffer::from_vec(plain().collect::<Vec<i64>>()),
    };
    build(data_type, vec![buffer], nulls(values), values.len())
}

fn build(
    data_type: &DataType,
    buffers: Vec<Buffer>,
    nulls: Option<NullBuffer>,
    length: usize,
) -> Result<ArrayRef> {
    let mut data = ArrayData::builder(data_type.clone())
        .len(length)
        .nulls(nulls);
    for buffer in buffers {
        data = data.add_buffer(buffer);
    }
    // Checks that texts are UTF-8 and buffers long enough: the bytes come from outside.
    Ok(make_array(data.build()?))
}
