//! Digests and encodings: MD5, SHA, base64, hex, binary; URLs; UUID.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryBuilder};
use arrow::datatypes::{DataType, Int32Type, Int64Type};
use base64::Engine as _;
use base64::alphabet::STANDARD as STANDARD_ALPHABET;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use datafusion_common::Result;
use sha2::Digest;
use std::fmt::Write as _;
use weir_dataflow::types::LogicalType;

use super::call::{Call, put, texts};
use super::function::{Function, Kernel};
use super::params::Param;
use super::string::is_string;
use crate::coerce::types::{BYTES, STRING};

const TEXT_OR_BYTES: &[Param] = &[Param::TextOrBytes];
const SHA2: &[Param] = &[Param::TextOrBytes, Param::Int];

pub(super) fn functions() -> Vec<Function> {
    let digest = |name, kernel: Kernel| Function::new(name, TEXT_OR_BYTES, STRING, kernel).strict();
    vec![
        digest("MD5", |call| {
            digests(call, |bytes| md5::Md5::digest(bytes).to_vec())
        }),
        digest("SHA1", |call| {
            digests(call, |bytes| sha1::Sha1::digest(bytes).to_vec())
        }),
        digest("SHA224", |call| {
            digests(call, |bytes| sha2::Sha224::digest(bytes).to_vec())
        }),
        digest("SHA256", |call| {
            digests(call, |bytes| sha2::Sha256::digest(bytes).to_vec())
        }),
        digest("SHA384", |call| {
            digests(call, |bytes| sha2::Sha384::digest(bytes).to_vec())
        }),
        digest("SHA512", |call| {
            digests(call, |bytes| sha2::Sha512::digest(bytes).to_vec())
        }),
        Function::new("SHA2", SHA2, STRING, sha2),
        digest("TO_BASE64", to_base64),
        Function::new("FROM_BASE64", TEXT_OR_BYTES, STRING, from_base64),
        Function::new("HEX", &[Param::TextOrNumeric], STRING, hex).strict(),
        Function::new("UNHEX", &[Param::Text], BYTES, unhex),
        Function::new("BIN", &[Param::Integer], STRING, bin).strict(),
        Function::new("ENCODE", &[Param::Text, Param::Text], BYTES, encode),
        Function::new("DECODE", &[Param::Bytes, Param::Text], STRING, decode),
        Function::new("UUID", &[], LogicalType::Char(36), uuid)
            .volatile()
            .never_null(),
    ]
}

/// A string's UTF-8 or the bytes.
struct Source {
    array: ArrayRef,
    text: bool,
}

impl Source {
    fn new(call: &Call, index: usize) -> Result<Self> {
        Ok(Self {
            array: call.array(index)?,
            text: is_string(call.data_type(index)?),
        })
    }

    fn get(&self, row: usize) -> Option<&[u8]> {
        if self.array.is_null(row) {
            return None;
        }
        Some(if self.text {
            self.array.as_string::<i32>().value(row).as_bytes()
        } else {
            self.array.as_binary::<i32>().value(row)
        })
    }
}

fn digests(call: &Call, digest: impl Fn(&[u8]) -> Vec<u8>) -> Result<ArrayRef> {
    let source = Source::new(call, 0)?;
    texts(call.rows, |row, out| {
        put(out, &hex::encode(digest(source.get(row)?)));
        Some(())
    })
}

fn sha2(call: &Call) -> Result<ArrayRef> {
    let (source, bits) = (Source::new(call, 0)?, call.primitive::<Int32Type>(1)?);
    texts(call.rows, |row, out| {
        let bytes = source.get(row)?;
        let digest = match bits.get(row)? {
            224 => sha2::Sha224::digest(bytes).to_vec(),
            256 | 0 => sha2::Sha256::digest(bytes).to_vec(),
            384 => sha2::Sha384::digest(bytes).to_vec(),
            512 => sha2::Sha512::digest(bytes).to_vec(),
            _ => return None,
        };
        put(out, &hex::encode(digest));
        Some(())
    })
}

fn to_base64(call: &Call) -> Result<ArrayRef> {
    let source = Source::new(call, 0)?;
    texts(call.rows, |row, out| {
        put(out, &STANDARD.encode(source.get(row)?));
        Some(())
    })
}

/// Padding may be missing; bytes that are no base64 give NULL.
fn from_base64(call: &Call) -> Result<ArrayRef> {
    let config =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let engine = GeneralPurpose::new(&STANDARD_ALPHABET, config);
    let source = Source::new(call, 0)?;
    texts(call.rows, |row, out| {
        let bytes = engine.decode(source.get(row)?).ok()?;
        put(out, &String::from_utf8_lossy(&bytes));
        Some(())
    })
}

/// Of a number its two's complement, of a string its UTF-8; in capitals.
fn hex(call: &Call) -> Result<ArrayRef> {
    if is_string(call.data_type(0)?) {
        let source = Source::new(call, 0)?;
        return texts(call.rows, |row, out| {
            put(out, &hex::encode_upper(source.get(row)?));
            Some(())
        });
    }
    let longs = arrow::compute::cast(&call.array(0)?, &DataType::Int64)?;
    let longs = longs.as_primitive::<Int64Type>();
    texts(call.rows, |row, out| {
        if longs.is_null(row) {
            return None;
        }
        let _ = write!(out, "{:X}", longs.value(row));
        Some(())
    })
}

fn bin(call: &Call) -> Result<ArrayRef> {
    let longs = arrow::compute::cast(&call.array(0)?, &DataType::Int64)?;
    let longs = longs.as_primitive::<Int64Type>();
    texts(call.rows, |row, out| {
        if longs.is_null(row) {
            return None;
        }
        let _ = write!(out, "{:b}", longs.value(row));
        Some(())
    })
}

/// An odd number of digits has a zero in front; what is no hex gives NULL.
fn unhex(call: &Call) -> Result<ArrayRef> {
    let text = call.text(0)?;
    let mut builder = BinaryBuilder::new();
    for row in 0..call.rows {
        let bytes = text.get(row).and_then(|text| {
            if text.len() % 2 == 0 {
                return hex::decode(text).ok();
            }
            // The odd digit in front has to be one, and counts as 0.
            let (first, rest) = text.split_at_checked(1)?;
            u8::from_str_radix(first, 16).ok()?;
            let mut bytes = vec![0];
            bytes.extend(hex::decode(rest).ok()?);
            Some(bytes)
        });
        builder.append_option(bytes);
    }
    Ok(Arc::new(builder.finish()))
}

/// How characters become bytes.
enum Charset {
    Ascii,
    Latin1,
    Utf8,
    Utf16 { little: bool, mark: bool },
}

impl Charset {
    fn parse(name: &str) -> Option<Self> {
        Some(match name.to_ascii_uppercase().as_str() {
            "US-ASCII" | "ASCII" => Self::Ascii,
            "ISO-8859-1" => Self::Latin1,
            "UTF-8" | "UTF8" => Self::Utf8,
            "UTF-16" => Self::Utf16 {
                little: false,
                mark: true,
            },
            "UTF-16BE" => Self::Utf16 {
                little: false,
                mark: false,
            },
            "UTF-16LE" => Self::Utf16 {
                little: true,
                mark: false,
            },
            _ => return None,
        })
    }

    fn encode(&self, text: &str) -> Vec<u8> {
        let single = |limit: u32| {
            text.chars()
                .map(|c| if u32::from(c) < limit { c as u8 } else { b'?' })
                .collect()
        };
        match self {
            Self::Ascii => single(0x80),
            Self::Latin1 => single(0x100),
            Self::Utf8 => text.as_bytes().to_vec(),
            Self::Utf16 { little, mark } => {
                let mut bytes = if *mark { vec![0xFE, 0xFF] } else { Vec::new() };
                for unit in text.encode_utf16() {
                    bytes.extend(if *little {
                        unit.to_le_bytes()
                    } else {
                        unit.to_be_bytes()
                    });
                }
                bytes
            }
        }
    }

    fn decode(&self, bytes: &[u8]) -> String {
        match self {
            Self::Ascii | Self::Latin1 => bytes.iter().map(|byte| char::from(*byte)).collect(),
            Self::Utf8 => String::from_utf8_lossy(bytes).into_owned(),
            Self::Utf16 { little, mark } => {
                let (little, bytes) = match bytes {
                    [0xFE, 0xFF, rest @ ..] if *mark => (false, rest),
                    [0xFF, 0xFE, rest @ ..] if *mark => (true, rest),
                    all => (*little, all),
                };
                let units = bytes.chunks_exact(2).map(|pair| {
                    let pair = [pair[0], pair[1]];
                    if little {
                        u16::from_le_bytes(pair)
                    } else {
                        u16::from_be_bytes(pair)
                    }
                });
                let replaced = char::decode_utf16(units);
                replaced
                    .map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER))
                    .collect()
            }
        }
    }
}

fn encode(call: &Call) -> Result<ArrayRef> {
    let (text, charset) = (call.text(0)?, call.text(1)?);
    let mut builder = BinaryBuilder::new();
    for row in 0..call.rows {
        let bytes = text
            .get(row)
            .zip(charset.get(row))
            .and_then(|(text, charset)| Some(Charset::parse(charset)?.encode(text)));
        builder.append_option(bytes);
    }
    Ok(Arc::new(builder.finish()))
}

fn decode(call: &Call) -> Result<ArrayRef> {
    let (bytes, charset) = (call.bytes(0)?, call.text(1)?);
    texts(call.rows, |row, out| {
        let charset = Charset::parse(charset.get(row)?)?;
        put(out, &charset.decode(bytes.get(row)?));
        Some(())
    })
}

fn uuid(call: &Call) -> Result<ArrayRef> {
    texts(call.rows, |_, out| {
        let mut buffer = uuid::Uuid::encode_buffer();
        put(
            out,
            uuid::Uuid::new_v4().hyphenated().encode_lower(&mut buffer),
        );
        Some(())
    })
}

#[cfg(test)]
mod tests {
    use weir_dataflow::types::LogicalType as T;

    use crate::coerce::types::STRING;
    use crate::testing::*;

    #[test]
    fn digests_and_encodings() {
        check(vec![
            ("MD5", args!["abc"], "900150983cd24fb0d6963f7d28e17f72"),
            ("MD5", args![""], "d41d8cd98f00b204e9800998ecf8427e"),
            ("MD5", args![null(STRING)], "NULL"),
            (
                "SHA1",
                args!["abc"],
                "a9993e364706816aba3e25717850c26c9cd0d89d",
            ),
            (
                "SHA256",
                args!["abc"],
                "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            ),
            (
                "SHA2",
                args!["abc", 224],
                "23097d223405d8228642a477bda255b32aadbce4bda0b3f7e36c9da7",
            ),
            ("SHA2", args!["abc", 1], "NULL"),
            (
                "TO_BASE64",
                args!["This is a test String."],
                "VGhpcyBpcyBhIHRlc3QgU3RyaW5nLg==",
            ),
            ("TO_BASE64", args!["你好"], "5L2g5aW9"),
            ("TO_BASE64", args![""], ""),
            ("FROM_BASE64", args!["aGVsbG8gd29ybGQ="], "hello world"),
            ("FROM_BASE64", args!["aGVsbG8gd29ybGQ"], "hello world"),
            ("FROM_BASE64", args![null(STRING)], "NULL"),
            ("HEX", args![100], "64"),
            ("HEX", args![-1i64], "FFFFFFFFFFFFFFFF"),
            ("HEX", args!["ö"], "C3B6"),
            ("HEX", args![0], "0"),
            ("HEX", args![null(T::Int)], "NULL"),
            ("BIN", args![12], "1100"),
            ("BIN", args![0], "0"),
            (
                "BIN",
                args![-1i64],
                "1111111111111111111111111111111111111111111111111111111111111111",
            ),
            ("UNHEX", args!["616263"], "abc"),
            ("UNHEX", args!["zz"], "NULL"),
            ("DECODE", args!["abc".as_bytes(), "UTF-8"], "abc"),
            ("ENCODE", args!["abc", "NONE"], "NULL"),
            ("ENCODE", args!["abc", "US-ASCII"], "abc"),
        ]);
    }
}
