//! `csv`: one line a record, as Flink's Jackson reads and writes it.
//!
//! arrow-csv is not used: it knows neither Flink's coercions, array columns, null literal and quoting rules, nor does it say which record is broken.

mod decode;
mod encode;
mod options;
mod split;
#[cfg(test)]
mod tests;

pub(crate) use decode::CsvDecoder;
pub(crate) use encode::CsvEncoder;
pub(crate) use options::CsvOptions;
