//! Types as SQL text, the form in which a target type stands among a function's arguments.

use weir_dataflow::types::{LogicalField, LogicalType};

/// Reads what `LogicalType`'s `Display` writes, nested types included.
pub(crate) fn parse(text: &str) -> Option<LogicalType> {
    let mut reader = Reader { rest: text };
    let parsed = reader.logical_type()?;
    reader.rest.trim().is_empty().then_some(parsed)
}

struct Reader<'a> {
    rest: &'a str,
}

impl Reader<'_> {
    fn take(&mut self, token: &str) -> bool {
        match self.rest.trim_start().strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn word(&mut self) -> String {
        let trimmed = self.rest.trim_start();
        let end = trimmed
            .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .unwrap_or(trimmed.len());
        let (word, rest) = trimmed.split_at(end);
        self.rest = rest;
        word.to_ascii_uppercase()
    }

    fn quoted(&mut self) -> Option<String> {
        if !self.take("`") {
            return None;
        }
        let (name, rest) = self.rest.split_once('`')?;
        self.rest = rest;
        Some(name.to_owned())
    }

    fn numbers(&mut self) -> Option<Vec<u32>> {
        if !self.take("(") {
            return Some(Vec::new());
        }
        let (inner, rest) = self.rest.split_once(')')?;
        self.rest = rest;
        inner
            .split(',')
            .map(|number| number.trim().parse().ok())
            .collect()
    }

    fn field(&mut self) -> Option<LogicalField> {
        let logical_type = self.logical_type()?;
        let nullable = !self.take("NOT NULL");
        Some(LogicalField {
            logical_type,
            nullable,
        })
    }

    fn logical_type(&mut self) -> Option<LogicalType> {
        let name = self.word();
        match name.as_str() {
            "ARRAY" | "MULTISET" => {
                self.take("<").then_some(())?;
                let element = Box::new(self.field()?);
                self.take(">").then_some(())?;
                return Some(if name == "ARRAY" {
                    LogicalType::Array(element)
                } else {
                    LogicalType::Multiset(element)
                });
            }
            "MAP" => {
                self.take("<").then_some(())?;
                let key = Box::new(self.field()?);
                self.take(",").then_some(())?;
                let value = Box::new(self.field()?);
                self.take(">").then_some(())?;
                return Some(LogicalType::Map(key, value));
            }
            "ROW" => return self.row(),
            "INTERVAL" => {
                let day_time = self.take("DAY TO SECOND");
                return (day_time || self.take("YEAR TO MONTH")).then_some(if day_time {
                    LogicalType::IntervalDayTime
                } else {
                    LogicalType::IntervalYearMonth
                });
            }
            _ => {}
        }
        let numbers = self.numbers()?;
        let first = |default: u32| numbers.first().copied().unwrap_or(default);
        let precision = |default: u32| u8::try_from(first(default)).ok().filter(|p| *p <= 9);
        Some(match name.as_str() {
            "BOOLEAN" => LogicalType::Boolean,
            "TINYINT" => LogicalType::TinyInt,
            "SMALLINT" => LogicalType::SmallInt,
            "INT" | "INTEGER" => LogicalType::Int,
            "BIGINT" => LogicalType::BigInt,
            "FLOAT" => LogicalType::Float,
            "DOUBLE" => LogicalType::Double,
            "DECIMAL" => LogicalType::Decimal(
                u8::try_from(first(10)).ok()?,
                i8::try_from(numbers.get(1).copied().unwrap_or(0)).ok()?,
            ),
            "CHAR" => LogicalType::Char(first(1)),
            "VARCHAR" => LogicalType::VarChar(first(1)),
            "STRING" => LogicalType::VarChar(u32::MAX),
            "BINARY" => LogicalType::Binary(first(1)),
            "VARBINARY" => LogicalType::VarBinary(first(1)),
            "BYTES" => LogicalType::VarBinary(u32::MAX),
            "DATE" => LogicalType::Date,
            "TIME" => LogicalType::Time(precision(0)?),
            "TIMESTAMP" => LogicalType::Timestamp(precision(6)?),
            "TIMESTAMP_LTZ" => LogicalType::TimestampLtz(precision(6)?),
            "NULL" => LogicalType::Null,
            _ => return None,
        })
    }

    fn row(&mut self) -> Option<LogicalType> {
        self.take("<").then_some(())?;
        let mut fields = Vec::new();
        while !self.take(">") {
            if !fields.is_empty() {
                self.take(",").then_some(())?;
            }
            let name = self.quoted()?;
            fields.push((name, self.field()?));
        }
        Some(LogicalType::Row(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_display_writes() {
        let row = LogicalType::Row(vec![
            ("a".into(), LogicalField::nullable(LogicalType::Int)),
            (
                "b c".into(),
                LogicalField {
                    logical_type: LogicalType::Array(Box::new(LogicalField::nullable(
                        LogicalType::Decimal(23, 3),
                    ))),
                    nullable: false,
                },
            ),
        ]);
        let map = LogicalType::Map(
            Box::new(LogicalField::nullable(LogicalType::VarChar(u32::MAX))),
            Box::new(LogicalField::nullable(row)),
        );
        for logical_type in [
            map,
            LogicalType::TimestampLtz(3),
            LogicalType::IntervalDayTime,
            LogicalType::IntervalYearMonth,
            LogicalType::Time(0),
            LogicalType::Char(3),
            LogicalType::Multiset(Box::new(LogicalField::nullable(LogicalType::Date))),
        ] {
            let text = logical_type.to_string();
            assert_eq!(parse(&text), Some(logical_type), "{text}");
        }
        assert_eq!(parse("DECIMAL(1, 2) x"), None);
        assert_eq!(parse("NONSENSE"), None);
    }
}
