//! Which formats there are: the one place where a format's name is turned into code.

use arrow::datatypes::SchemaRef;
use weir_dataflow::{Error, Result};

use super::avro::AvroOptions;
use super::container::{AvroFiles, Container, ParquetFiles};
use super::csv::{CsvDecoder, CsvEncoder, CsvOptions};
use super::debezium::{DebeziumDecoder, DebeziumEncoder, DebeziumOptions};
use super::json::{JsonDecoder, JsonEncoder, JsonOptions};
use super::raw::{RawDecoder, RawEncoder, RawOptions};
use super::{Decoder, Encoder};
use crate::options::{OptionReader, nearest, quoted};
use crate::registry::Accepts;

const KNOWN: &[&str] = &["avro", "csv", "debezium-json", "json", "parquet", "raw"];
const FLINKS_OTHERS: &[&str] = &[
    "avro-confluent",
    "canal-json",
    "debezium-avro-confluent",
    "maxwell-json",
    "ogg-json",
    "orc",
    "protobuf",
];

/// A format with its options.
#[derive(Debug, Clone)]
pub struct Format(Kind);

#[derive(Debug, Clone)]
enum Kind {
    Avro(AvroOptions),
    Json(JsonOptions),
    Csv(CsvOptions),
    DebeziumJson(DebeziumOptions),
    Parquet(ParquetFiles),
    Raw(RawOptions),
}

/// How the records of a format stand in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// A record ends with its line.
    Lines,
    /// A record ends with its line, unless the line's end stands between these quotes.
    QuotedLines(u8),
}

impl Format {
    /// Reads the option `{prefix}format` and all options of that format, which begin with `{prefix}NAME.`; `prefix` is empty, `key.` or
    /// `value.`. `None` if the option is absent.
    ///
    /// # Errors
    /// For a format that is unknown or not built, and for bad values.
    pub fn read(options: &OptionReader<'_>, prefix: &str) -> Result<Option<Self>> {
        let key = format!("{prefix}format");
        let Some(name) = options.text(&key) else {
            return Ok(None);
        };
        let inner = format!("{prefix}{name}.");
        let kind = match name {
            "avro" => Kind::Avro(AvroOptions::read(options, &inner)?),
            "json" => Kind::Json(JsonOptions::read(options, &inner)?),
            "csv" => Kind::Csv(CsvOptions::read(options, &inner)?),
            "debezium-json" => Kind::DebeziumJson(DebeziumOptions::read(options, &inner)?),
            "parquet" => Kind::Parquet(ParquetFiles::read(options, &inner)?),
            "raw" => Kind::Raw(RawOptions::read(options, &inner)?),
            _ => return Err(unknown(&key, name)),
        };
        Ok(Some(Self(kind)))
    }

    /// As [`Self::read`], refusing absence.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn required(options: &OptionReader<'_>, prefix: &str) -> Result<Self> {
        match Self::read(options, prefix)? {
            Some(format) => Ok(format),
            None => Err(Error::Config(format!(
                "connector '{}' needs the option '{prefix}format': one of {}",
                options.connector(),
                quoted(KNOWN.iter().copied())
            ))),
        }
    }

    /// Its name in SQL.
    pub fn name(&self) -> &'static str {
        match self.0 {
            Kind::Avro(_) => "avro",
            Kind::Json(_) => "json",
            Kind::Csv(_) => "csv",
            Kind::DebeziumJson(_) => "debezium-json",
            Kind::Parquet(_) => "parquet",
            Kind::Raw(_) => "raw",
        }
    }

    /// Whether decoded rows may be other than `+I`.
    pub fn emits_updates(&self) -> bool {
        matches!(self.0, Kind::DebeziumJson(_))
    }

    /// The changelogs that it can write.
    pub fn accepts(&self) -> Accepts {
        match self.0 {
            Kind::DebeziumJson(_) => Accepts::All,
            _ => Accepts::InsertOnly,
        }
    }

    /// Set if files of this format hold rows in blocks of their own: then [`Self::framing`] says nothing of files.
    pub(crate) fn container(&self) -> Option<Container> {
        match &self.0 {
            Kind::Avro(options) => Some(Container::Avro(AvroFiles(options.clone()))),
            Kind::Parquet(files) => Some(Container::Parquet(files.clone())),
            _ => None,
        }
    }

    /// How records stand in a file.
    pub fn framing(&self) -> Framing {
        match &self.0 {
            Kind::Csv(options) => match options.quote {
                Some(quote) => Framing::QuotedLines(quote),
                None => Framing::Lines,
            },
            _ => Framing::Lines,
        }
    }

    /// Decodes into `read`, whose columns are among those of `table`: all physical columns in the order of the table, which formats
    /// that go by position need.
    ///
    /// # Errors
    /// For types that the format has no text for.
    pub fn decoder(&self, read: &SchemaRef, table: &SchemaRef) -> Result<Box<dyn Decoder>> {
        Ok(match &self.0 {
            Kind::Avro(options) => options.decoder(read, table)?,
            Kind::Json(options) => Box::new(JsonDecoder::new(read.clone(), options)?),
            Kind::Csv(options) => Box::new(CsvDecoder::new(read.clone(), table, options.clone())?),
            Kind::DebeziumJson(options) => Box::new(DebeziumDecoder::new(read.clone(), options)?),
            Kind::Parquet(_) => return Err(for_files_only("parquet")),
            Kind::Raw(options) => Box::new(RawDecoder::new(read.clone(), table, options)?),
        })
    }

    /// Encodes rows of `schema`.
    ///
    /// # Errors
    /// For types that the format has no text for.
    pub fn encoder(&self, schema: &SchemaRef) -> Result<Box<dyn Encoder>> {
        Ok(match &self.0 {
            Kind::Avro(options) => options.encoder(schema)?,
            Kind::Json(options) => Box::new(JsonEncoder::new(schema.clone(), options.clone())?),
            Kind::Csv(options) => Box::new(CsvEncoder::new(schema, options.clone())?),
            Kind::DebeziumJson(options) => Box::new(DebeziumEncoder::new(schema.clone(), options)?),
            Kind::Parquet(_) => return Err(for_files_only("parquet")),
            Kind::Raw(options) => Box::new(RawEncoder::new(schema, options)?),
        })
    }
}

fn for_files_only(name: &str) -> Error {
    Error::Config(format!(
        "format '{name}' is one of files: it goes with connector 'filesystem' only"
    ))
}

fn unknown(key: &str, name: &str) -> Error {
    let listed = quoted(KNOWN.iter().copied());
    if FLINKS_OTHERS.contains(&name) {
        return Error::Config(format!(
            "option '{key}': the format '{name}' is not supported yet; the ones that are: {listed}"
        ));
    }
    let hint = nearest(name, KNOWN.iter().copied())
        .map(|near| format!("; did you mean '{near}'?"))
        .unwrap_or_default();
    Error::Config(format!(
        "option '{key}': there is no format '{name}'{hint}; there are: {listed}"
    ))
}
