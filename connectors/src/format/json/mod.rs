//! `json`: one object a record.
//!
//! The decoder is our own: it parses straight into columns. arrow-json (through its tape), serde_json and simd-json were looked at; none lets a record
//! that breaks off in its middle be taken back alone, names the record that is broken, or coerces as Flink's Jackson does (numbers in
//! texts, texts from numbers and objects, Java's dates), and mending that would mean a second pass over every value.

mod decode;
mod encode;
mod options;
mod parser;
#[cfg(test)]
mod tests;

pub(crate) use decode::{JsonDecoder, Origins};
pub use encode::JsonEncoder;
pub(crate) use encode::{columns_of, write_row};
pub(crate) use options::JsonOptions;
