//! Options of a datagen table: how each column is made.

use std::time::Duration;

use arrow::datatypes::Schema;
use weir_dataflow::types::LogicalType;
use weir_dataflow::{Error, Result};

use crate::options::OptionReader;

/// How many characters or bytes a random text has if nothing is said.
const DEFAULT_LENGTH: i64 = 100;

/// Of one table.
pub(super) struct DatagenOptions {
    pub rows_per_second: u64,
    /// `None`: without end.
    pub rows: Option<u64>,
    /// One a column of the schema.
    pub columns: Vec<ColumnRule>,
}

/// How a column's values are made.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Rule {
    /// start, start + 1, ...
    Sequence {
        start: i64,
    },
    /// Uniform, both ends included; of a DECIMAL the unscaled values.
    Integer {
        min: i128,
        max: i128,
    },
    Float {
        min: f64,
        max: f64,
    },
    Boolean,
    /// Hexadecimal digits.
    Text {
        length: usize,
    },
    Bytes {
        length: usize,
    },
    /// The wall clock, less a random time of up to `max_past`.
    Time {
        max_past: Duration,
    },
}

/// A rule with its share of NULLs.
#[derive(Debug, Clone)]
pub(super) struct ColumnRule {
    pub rule: Rule,
    /// 0.0..=1.0
    pub null_rate: f64,
}

impl DatagenOptions {
    /// `schema` has all columns of the table, also those that a query does not read: a sequence among them ends the source.
    pub fn read(reader: OptionReader<'_>, schema: &Schema) -> Result<Self> {
        let rows_per_second = reader
            .integer("rows-per-second", 1..=i64::MAX)?
            .unwrap_or(10_000)
            .unsigned_abs();
        let mut rows = reader
            .integer("number-of-rows", 0..=i64::MAX)?
            .map(i64::unsigned_abs);
        reader.refuse("scan.parallelism", "use 'parallelism.default'")?;
        let mut columns = Vec::new();
        for field in schema.fields() {
            let logical = LogicalType::from_field(field).ok_or_else(|| {
                Error::Config(format!(
                    "column '{}' has a type that datagen can't make",
                    field.name()
                ))
            })?;
            let (rule, sequence_rows) = column_rule(&reader, field.name(), &logical)?;
            rows = match (rows, sequence_rows) {
                (Some(rows), Some(sequence)) => Some(rows.min(sequence)),
                (rows, sequence) => rows.or(sequence),
            };
            let key = format!("fields.{}.null-rate", field.name());
            let null_rate = reader.double(&key)?.unwrap_or(0.0);
            if !(0.0..=1.0).contains(&null_rate) {
                return Err(reader.invalid(&key, &null_rate.to_string(), "a number from 0 to 1"));
            }
            columns.push(ColumnRule { rule, null_rate });
        }
        reader.finish()?;
        Ok(Self {
            rows_per_second,
            rows,
            columns,
        })
    }
}

/// The rule, and the number of rows that a sequence allows.
fn column_rule(
    reader: &OptionReader<'_>,
    name: &str,
    logical: &LogicalType,
) -> Result<(Rule, Option<u64>)> {
    let key = |suffix: &str| format!("fields.{name}.{suffix}");
    let kind = reader
        .choice(&key("kind"), &["random", "sequence"])?
        .unwrap_or("random");
    for suffix in [
        "start", "end", "min", "max", "length", "max-past", "var-len",
    ] {
        reader.text(&key(suffix));
    }
    reader.refuse(&key("var-len"), "texts have a fixed length")?;
    if kind == "sequence" {
        reader.required(&key("start"))?;
        reader.required(&key("end"))?;
        let start = reader
            .integer(&key("start"), i64::MIN..=i64::MAX)?
            .unwrap_or_default();
        let end = reader
            .integer(&key("end"), start..=i64::MAX)?
            .unwrap_or_default();
        let numeric = matches!(
            logical,
            LogicalType::TinyInt
                | LogicalType::SmallInt
                | LogicalType::Int
                | LogicalType::BigInt
                | LogicalType::Float
                | LogicalType::Double
                | LogicalType::VarChar(_)
                | LogicalType::Char(_)
                | LogicalType::Decimal(_, _)
        );
        if !numeric {
            return Err(Error::Config(format!(
                "datagen: column '{name}' of type {logical} can't be a sequence"
            )));
        }
        return Ok((
            Rule::Sequence { start },
            Some(end.abs_diff(start).saturating_add(1)),
        ));
    }
    Ok((random_rule(reader, name, logical)?, None))
}

fn random_rule(reader: &OptionReader<'_>, name: &str, logical: &LogicalType) -> Result<Rule> {
    let key = |suffix: &str| format!("fields.{name}.{suffix}");
    let integers = |low: i64, high: i64| -> Result<Rule> {
        let min = reader.integer(&key("min"), low..=high)?.unwrap_or(low);
        let max = reader.integer(&key("max"), min..=high)?.unwrap_or(high);
        Ok(Rule::Integer {
            min: i128::from(min),
            max: i128::from(max),
        })
    };
    let floats = |low: f64, high: f64| -> Result<Rule> {
        let (min, max) = (
            reader.double(&key("min"))?.unwrap_or(low),
            reader.double(&key("max"))?.unwrap_or(high),
        );
        Ok(Rule::Float {
            min,
            max: max.max(min),
        })
    };
    let length = |default: i64| -> Result<usize> {
        Ok(usize::try_from(
            reader
                .integer(&key("length"), 0..=1 << 24)?
                .unwrap_or(default),
        )
        .unwrap_or_default())
    };
    let limit = |n: u32| {
        if n == u32::MAX {
            DEFAULT_LENGTH
        } else {
            i64::from(n)
        }
    };
    match logical {
        LogicalType::Boolean => Ok(Rule::Boolean),
        LogicalType::TinyInt => integers(i64::from(i8::MIN), i64::from(i8::MAX)),
        LogicalType::SmallInt => integers(i64::from(i16::MIN), i64::from(i16::MAX)),
        LogicalType::Int => integers(i64::from(i32::MIN), i64::from(i32::MAX)),
        LogicalType::BigInt => integers(i64::MIN, i64::MAX),
        LogicalType::Float => floats(f64::from(f32::MIN), f64::from(f32::MAX)),
        LogicalType::Double => floats(f64::MIN / 2.0, f64::MAX / 2.0),
        LogicalType::Decimal(precision, scale) => {
            let largest = 10i128.pow(u32::from(*precision)) - 1;
            let unit = 10f64.powi(i32::from(*scale));
            let scaled = |value: f64| ((value * unit) as i128).clamp(-largest, largest);
            let min = reader.double(&key("min"))?.map_or(-largest, scaled);
            let max = reader.double(&key("max"))?.map_or(largest, scaled);
            Ok(Rule::Integer {
                min,
                max: max.max(min),
            })
        }
        LogicalType::Char(n) | LogicalType::VarChar(n) => Ok(Rule::Text {
            length: length(limit(*n))?,
        }),
        LogicalType::Binary(n) | LogicalType::VarBinary(n) => Ok(Rule::Bytes {
            length: length(limit(*n))?,
        }),
        LogicalType::Date | LogicalType::Time(_) => Ok(Rule::Time {
            max_past: Duration::ZERO,
        }),
        LogicalType::Timestamp(_) | LogicalType::TimestampLtz(_) => Ok(Rule::Time {
            max_past: reader.duration(&key("max-past"))?.unwrap_or_default(),
        }),
        _ => Err(Error::Config(format!(
            "datagen: column '{name}' of type {logical} is not supported yet"
        ))),
    }
}
