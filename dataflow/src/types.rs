//! Flink's SQL types and how they lie in Arrow.
//!
//! What Arrow can't say (CHAR against STRING, a timestamp's exact precision) travels in the field's metadata under [`TYPE_KEY`], as the
//! type's SQL text; a field without it gets the widest type of its Arrow layout. Timestamps are milliseconds up to precision 3, microseconds
//! up to 6, nanoseconds up to 9; TIMESTAMP_LTZ carries the zone "UTC", TIMESTAMP carries none.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, IntervalUnit, TimeUnit};

/// Field metadata: SQL text of the type, where Arrow's type alone is not enough.
pub const TYPE_KEY: &str = "weir.type";
/// Field metadata: the column is a metadata column with this key.
pub const METADATA_KEY: &str = "weir.metadata";

/// A type of Flink SQL, without its nullability.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogicalType {
    /// BOOLEAN
    Boolean,
    /// TINYINT
    TinyInt,
    /// SMALLINT
    SmallInt,
    /// INT
    Int,
    /// BIGINT
    BigInt,
    /// FLOAT
    Float,
    /// DOUBLE
    Double,
    /// DECIMAL(precision 1..=38, scale 0..=precision)
    Decimal(u8, i8),
    /// CHAR(n)
    Char(u32),
    /// VARCHAR(n); STRING is `u32::MAX`.
    VarChar(u32),
    /// BINARY(n)
    Binary(u32),
    /// VARBINARY(n); BYTES is `u32::MAX`.
    VarBinary(u32),
    /// DATE
    Date,
    /// TIME(p), kept in milliseconds
    Time(u8),
    /// TIMESTAMP(p)
    Timestamp(u8),
    /// TIMESTAMP_LTZ(p)
    TimestampLtz(u8),
    /// INTERVAL YEAR TO MONTH
    IntervalYearMonth,
    /// INTERVAL DAY TO SECOND, kept in milliseconds
    IntervalDayTime,
    /// ARRAY<element>
    Array(Box<LogicalField>),
    /// MAP<key, value>
    Map(Box<LogicalField>, Box<LogicalField>),
    /// MULTISET<element>: a map to the INT number of occurrences
    Multiset(Box<LogicalField>),
    /// ROW<...>
    Row(Vec<(String, LogicalField)>),
    /// The type of a bare NULL
    Null,
}

/// A type with its nullability.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogicalField {
    /// The type.
    pub logical_type: LogicalType,
    /// Whether NULL is allowed.
    pub nullable: bool,
}

impl LogicalField {
    /// A nullable one, Flink's default.
    pub fn nullable(logical_type: LogicalType) -> Self {
        Self {
            logical_type,
            nullable: true,
        }
    }
}

fn timestamp_unit(precision: u8) -> TimeUnit {
    match precision {
        0..=3 => TimeUnit::Millisecond,
        4..=6 => TimeUnit::Microsecond,
        _ => TimeUnit::Nanosecond,
    }
}

impl LogicalType {
    /// The Arrow layout.
    pub fn to_arrow(&self) -> DataType {
        match self {
            Self::Boolean => DataType::Boolean,
            Self::TinyInt => DataType::Int8,
            Self::SmallInt => DataType::Int16,
            Self::Int => DataType::Int32,
            Self::BigInt => DataType::Int64,
            Self::Float => DataType::Float32,
            Self::Double => DataType::Float64,
            Self::Decimal(precision, scale) => DataType::Decimal128(*precision, *scale),
            Self::Char(_) | Self::VarChar(_) => DataType::Utf8,
            Self::Binary(_) | Self::VarBinary(_) => DataType::Binary,
            Self::Date => DataType::Date32,
            Self::Time(_) => DataType::Time32(TimeUnit::Millisecond),
            Self::Timestamp(precision) => DataType::Timestamp(timestamp_unit(*precision), None),
            Self::TimestampLtz(precision) => {
                DataType::Timestamp(timestamp_unit(*precision), Some("UTC".into()))
            }
            Self::IntervalYearMonth => DataType::Interval(IntervalUnit::YearMonth),
            Self::IntervalDayTime => DataType::Duration(TimeUnit::Millisecond),
            Self::Array(element) => DataType::List(Arc::new(element.to_field("item"))),
            Self::Map(key, value) => map_type(key, value),
            Self::Multiset(element) => map_type(
                element,
                &LogicalField {
                    logical_type: Self::Int,
                    nullable: false,
                },
            ),
            Self::Row(fields) => DataType::Struct(
                fields
                    .iter()
                    .map(|(name, field)| field.to_field(name))
                    .collect(),
            ),
            Self::Null => DataType::Null,
        }
    }

    /// From a field: its metadata if it has some that agrees with its layout, else the widest type of the layout.
    /// `None` for layouts that no SQL type has.
    pub fn from_field(field: &Field) -> Option<Self> {
        let widest = Self::from_arrow(field.data_type())?;
        let Some(text) = field.metadata().get(TYPE_KEY) else {
            return Some(widest);
        };
        if let (Some(element), Self::Map(key, _)) = (multiset_of(text), &widest) {
            let mut key = key.clone();
            key.nullable = !element.ends_with(" NOT NULL");
            return Some(Self::Multiset(key));
        }
        Some(
            Self::parse_simple(text)
                .filter(|exact| exact.to_arrow() == *field.data_type())
                .unwrap_or(widest),
        )
    }

    fn from_arrow(data_type: &DataType) -> Option<Self> {
        Some(match data_type {
            DataType::Boolean => Self::Boolean,
            DataType::Int8 => Self::TinyInt,
            DataType::Int16 => Self::SmallInt,
            DataType::Int32 => Self::Int,
            DataType::Int64 => Self::BigInt,
            DataType::Float32 => Self::Float,
            DataType::Float64 => Self::Double,
            DataType::Decimal128(precision, scale) => Self::Decimal(*precision, *scale),
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Self::VarChar(u32::MAX),
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView => {
                Self::VarBinary(u32::MAX)
            }
            DataType::Date32 => Self::Date,
            DataType::Time32(TimeUnit::Millisecond) => Self::Time(3),
            DataType::Timestamp(unit, zone) => {
                let precision = match unit {
                    TimeUnit::Second => 0,
                    TimeUnit::Millisecond => 3,
                    TimeUnit::Microsecond => 6,
                    TimeUnit::Nanosecond => 9,
                };
                if zone.is_some() {
                    Self::TimestampLtz(precision)
                } else {
                    Self::Timestamp(precision)
                }
            }
            DataType::Interval(IntervalUnit::YearMonth) => Self::IntervalYearMonth,
            DataType::Duration(TimeUnit::Millisecond) => Self::IntervalDayTime,
            DataType::List(element) => Self::Array(Box::new(LogicalField::from_field(element)?)),
            DataType::Map(entries, _) => match entries.data_type() {
                DataType::Struct(pair) if pair.len() == 2 => Self::Map(
                    Box::new(LogicalField::from_field(&pair[0])?),
                    Box::new(LogicalField::from_field(&pair[1])?),
                ),
                _ => return None,
            },
            DataType::Struct(fields) => Self::Row(
                fields
                    .iter()
                    .map(|field| Some((field.name().clone(), LogicalField::from_field(field)?)))
                    .collect::<Option<_>>()?,
            ),
            DataType::Null => Self::Null,
            _ => return None,
        })
    }

    /// Reads the texts that [`TYPE_KEY`] holds: scalar types with their numbers.
    fn parse_simple(text: &str) -> Option<Self> {
        let (name, arguments) = match text.split_once('(') {
            Some((name, rest)) => (name, rest.trim_end_matches(')')),
            None => (text, ""),
        };
        let number = || arguments.trim().parse::<u32>().ok();
        Some(match name {
            "CHAR" => Self::Char(number()?),
            "VARCHAR" => Self::VarChar(number()?),
            "STRING" => Self::VarChar(u32::MAX),
            "BINARY" => Self::Binary(number()?),
            "VARBINARY" => Self::VarBinary(number()?),
            "BYTES" => Self::VarBinary(u32::MAX),
            "TIME" => Self::Time(number()? as u8),
            "TIMESTAMP" => Self::Timestamp(number()? as u8),
            "TIMESTAMP_LTZ" => Self::TimestampLtz(number()? as u8),
            _ => return None,
        })
    }
}

/// The element of `MULTISET<element>`.
fn multiset_of(text: &str) -> Option<&str> {
    text.strip_prefix("MULTISET<")?.strip_suffix('>')
}

fn map_type(key: &LogicalField, value: &LogicalField) -> DataType {
    let mut key_field = key.to_field("key");
    key_field.set_nullable(false);
    let entries = DataType::Struct(Fields::from(vec![key_field, value.to_field("value")]));
    DataType::Map(Arc::new(Field::new("entries", entries, false)), false)
}

impl LogicalField {
    /// As an Arrow field, with metadata where the layout alone does not say it.
    pub fn to_field(&self, name: &str) -> Field {
        let data_type = self.logical_type.to_arrow();
        let exact = LogicalType::from_arrow(&data_type).as_ref() == Some(&self.logical_type);
        let simple = LogicalType::parse_simple(&self.logical_type.to_string()).is_some();
        let field = Field::new(name, data_type, self.nullable);
        let is_multiset = matches!(self.logical_type, LogicalType::Multiset(_));
        if exact || !(simple || is_multiset) {
            return field;
        }
        field.with_metadata([(TYPE_KEY.to_owned(), self.logical_type.to_string())].into())
    }

    /// From an Arrow field; see [`LogicalType::from_field`].
    pub fn from_field(field: &Field) -> Option<Self> {
        Some(Self {
            logical_type: LogicalType::from_field(field)?,
            nullable: field.is_nullable(),
        })
    }
}

impl fmt::Display for LogicalField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}{}",
            self.logical_type,
            if self.nullable { "" } else { " NOT NULL" }
        )
    }
}

impl fmt::Display for LogicalType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boolean => f.write_str("BOOLEAN"),
            Self::TinyInt => f.write_str("TINYINT"),
            Self::SmallInt => f.write_str("SMALLINT"),
            Self::Int => f.write_str("INT"),
            Self::BigInt => f.write_str("BIGINT"),
            Self::Float => f.write_str("FLOAT"),
            Self::Double => f.write_str("DOUBLE"),
            Self::Decimal(precision, scale) => write!(f, "DECIMAL({precision}, {scale})"),
            Self::Char(length) => write!(f, "CHAR({length})"),
            Self::VarChar(u32::MAX) => f.write_str("STRING"),
            Self::VarChar(length) => write!(f, "VARCHAR({length})"),
            Self::Binary(length) => write!(f, "BINARY({length})"),
            Self::VarBinary(u32::MAX) => f.write_str("BYTES"),
            Self::VarBinary(length) => write!(f, "VARBINARY({length})"),
            Self::Date => f.write_str("DATE"),
            Self::Time(precision) => write!(f, "TIME({precision})"),
            Self::Timestamp(precision) => write!(f, "TIMESTAMP({precision})"),
            Self::TimestampLtz(precision) => write!(f, "TIMESTAMP_LTZ({precision})"),
            Self::IntervalYearMonth => f.write_str("INTERVAL YEAR TO MONTH"),
            Self::IntervalDayTime => f.write_str("INTERVAL DAY TO SECOND"),
            Self::Array(element) => write!(f, "ARRAY<{element}>"),
            Self::Map(key, value) => write!(f, "MAP<{key}, {value}>"),
            Self::Multiset(element) => write!(f, "MULTISET<{element}>"),
            Self::Row(fields) => {
                f.write_str("ROW<")?;
                for (index, (name, field)) in fields.iter().enumerate() {
                    let comma = if index > 0 { ", " } else { "" };
                    write!(f, "{comma}`{}` {field}", name.replace('`', "``"))?;
                }
                f.write_str(">")
            }
            Self::Null => f.write_str("NULL"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_multiset_is_told_from_a_map() {
        for nullable in [true, false] {
            let logical_type = LogicalType::Int;
            let element = Box::new(LogicalField {
                logical_type,
                nullable,
            });
            let multiset = LogicalField::nullable(LogicalType::Multiset(element));
            let field = multiset.to_field("m");
            assert_eq!(LogicalField::from_field(&field), Some(multiset));
        }
    }

    #[test]
    fn types_survive_arrow() {
        let all = [
            LogicalType::TinyInt,
            LogicalType::Decimal(23, 3),
            LogicalType::Char(5),
            LogicalType::VarChar(20),
            LogicalType::VarChar(u32::MAX),
            LogicalType::Timestamp(0),
            LogicalType::Timestamp(3),
            LogicalType::TimestampLtz(5),
            LogicalType::Time(0),
            LogicalType::Array(Box::new(LogicalField::nullable(LogicalType::Char(3)))),
            LogicalType::Row(vec![(
                "a".into(),
                LogicalField {
                    logical_type: LogicalType::Int,
                    nullable: false,
                },
            )]),
        ];
        for logical_type in all {
            let field = LogicalField::nullable(logical_type);
            assert_eq!(LogicalField::from_field(&field.to_field("c")), Some(field));
        }
    }
}
