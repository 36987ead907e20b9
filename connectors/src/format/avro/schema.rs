//! The Avro schema of a table, as Flink's `AvroSchemaConverter` derives it: a record `org.apache.flink.avro.generated.record`, whose nested
//! records are named after the way to them; what may be NULL is a union of null and the type, with null as its default.

use arrow::datatypes::{Field, Fields, Schema};
use serde_json::{Value, json};
use weir_dataflow::types::{LogicalField, LogicalType};
use weir_dataflow::{Error, Result};

use super::TimestampMapping;

/// Name of the record that a row is.
pub(super) const RECORD: &str = "org.apache.flink.avro.generated.record";

/// The schema as JSON text.
///
/// # Errors
/// For types that Avro, or the mapping of timestamps, has none for; the column is named.
pub(super) fn of_table(schema: &Schema, mapping: TimestampMapping) -> Result<String> {
    let fields = logical(schema.fields())?;
    let record = Derive { mapping }.record(RECORD, &fields);
    record
        .map(|record| record.to_string())
        .map_err(|Refused { path, reason }| {
            Error::Config(format!(
                "format 'avro' cannot hold column '{path}': {reason}"
            ))
        })
}

/// The reader's schema with the writer's names of records: what belongs together is found by the fields' names, as Java's Avro does.
///
/// # Errors
/// If one of them is no JSON.
pub(crate) fn with_names_of(reader: &str, writer: &str) -> serde_json::Result<String> {
    let mut reader: Value = serde_json::from_str(reader)?;
    let writer: Value = serde_json::from_str(writer)?;
    adopt_names(&mut reader, &writer);
    Ok(reader.to_string())
}

fn adopt_names(reader: &mut Value, writer: &Value) {
    // A union of null and a type stands for the type.
    if let Value::Array(branches) = writer {
        for branch in branches.iter().filter(|branch| **branch != json!("null")) {
            adopt_names(reader, branch);
        }
        return;
    }
    if let Value::Array(branches) = reader {
        for branch in branches {
            adopt_names(branch, writer);
        }
        return;
    }
    if reader["type"] != writer["type"] || !reader.is_object() {
        return;
    }
    for part in ["items", "values"] {
        if !writer[part].is_null() && !reader[part].is_null() {
            adopt_names(&mut reader[part], &writer[part]);
        }
    }
    if reader["type"] != json!("record") {
        return;
    }
    reader["name"] = writer["name"].clone();
    if let Some(namespace) = writer.get("namespace") {
        reader["namespace"] = namespace.clone();
    }
    let written = writer["fields"].as_array().map_or(&[][..], Vec::as_slice);
    for field in reader["fields"].as_array_mut().into_iter().flatten() {
        if let Some(same) = written
            .iter()
            .find(|written| written["name"] == field["name"])
        {
            adopt_names(&mut field["type"], &same["type"]);
        }
    }
}

fn logical(fields: &Fields) -> Result<Vec<(String, LogicalField)>> {
    let logical = |field: &Field| {
        let found = LogicalField::from_field(field)
            .ok_or_else(|| Error::Internal(format!("no SQL type lies as {}", field.data_type())))?;
        Ok((field.name().clone(), found))
    };
    fields.iter().map(|field| logical(field)).collect()
}

struct Refused {
    path: String,
    reason: String,
}

struct Derive {
    mapping: TimestampMapping,
}

impl Derive {
    fn record(
        &self,
        name: &str,
        fields: &[(String, LogicalField)],
    ) -> std::result::Result<Value, Refused> {
        let mut members = Vec::with_capacity(fields.len());
        for (field_name, field) in fields {
            let schema = self
                .field(&format!("{name}_{field_name}"), field)
                .map_err(|refused| refused.below(field_name))?;
            members.push(if field.nullable {
                json!({"name": field_name, "type": schema, "default": null})
            } else {
                json!({"name": field_name, "type": schema})
            });
        }
        Ok(json!({"type": "record", "name": name, "fields": members}))
    }

    /// `name`: of the record that the type holds, if it is a ROW.
    fn field(&self, name: &str, field: &LogicalField) -> std::result::Result<Value, Refused> {
        let schema = self.bare(name, &field.logical_type)?;
        Ok(if field.nullable && schema != json!("null") {
            json!(["null", schema])
        } else {
            schema
        })
    }

    fn bare(&self, name: &str, of: &LogicalType) -> std::result::Result<Value, Refused> {
        Ok(match of {
            LogicalType::Null => json!("null"),
            LogicalType::Boolean => json!("boolean"),
            LogicalType::TinyInt | LogicalType::SmallInt | LogicalType::Int => json!("int"),
            LogicalType::BigInt => json!("long"),
            LogicalType::Float => json!("float"),
            LogicalType::Double => json!("double"),
            LogicalType::Char(_) | LogicalType::VarChar(_) => json!("string"),
            LogicalType::Binary(_) | LogicalType::VarBinary(_) => json!("bytes"),
            LogicalType::Date => json!({"type": "int", "logicalType": "date"}),
            LogicalType::Time(0..=3) => json!({"type": "int", "logicalType": "time-millis"}),
            LogicalType::Timestamp(precision) => self.timestamp(*precision, true)?,
            LogicalType::TimestampLtz(precision) => self.timestamp(*precision, false)?,
            LogicalType::Decimal(precision, scale) => {
                json!({"type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale})
            }
            LogicalType::Array(element) => {
                json!({"type": "array", "items": self.field(name, element)?})
            }
            LogicalType::Map(key, value) => {
                text_keys(key)?;
                json!({"type": "map", "values": self.field(name, value)?})
            }
            LogicalType::Multiset(element) => {
                text_keys(element)?;
                json!({"type": "map", "values": "int"})
            }
            LogicalType::Row(fields) => self.record(name, fields)?,
            LogicalType::Time(_)
            | LogicalType::IntervalYearMonth
            | LogicalType::IntervalDayTime => {
                return Err(Refused::of(format!("Avro has no type for {of}")));
            }
        })
    }

    fn timestamp(&self, precision: u8, is_local: bool) -> std::result::Result<Value, Refused> {
        let prefix = match (self.mapping, is_local) {
            (TimestampMapping::Legacy, false) => {
                return Err(Refused::of(
                    "TIMESTAMP_LTZ needs 'avro.timestamp_mapping.legacy' = 'false'".to_owned(),
                ));
            }
            (TimestampMapping::Legacy, true) | (TimestampMapping::Correct, false) => "timestamp",
            (TimestampMapping::Correct, true) => "local-timestamp",
        };
        let unit = match (self.mapping, precision) {
            (_, 0..=3) => "millis",
            (TimestampMapping::Correct, 4..=6) => "micros",
            (TimestampMapping::Legacy, _) => {
                return Err(Refused::of(format!(
                    "a precision of {precision} is above 3; up to 6 goes with 'avro.timestamp_mapping.legacy' = 'false'"
                )));
            }
            (TimestampMapping::Correct, _) => {
                return Err(Refused::of(format!(
                    "a precision of {precision} is above 6, which is Avro's highest"
                )));
            }
        };
        Ok(json!({"type": "long", "logicalType": format!("{prefix}-{unit}")}))
    }
}

fn text_keys(key: &LogicalField) -> std::result::Result<(), Refused> {
    match key.logical_type {
        LogicalType::Char(_) | LogicalType::VarChar(_) => Ok(()),
        _ => Err(Refused::of(format!(
            "the keys of Avro's maps are texts, not {}",
            key.logical_type
        ))),
    }
}

impl Refused {
    fn of(reason: String) -> Self {
        Self {
            path: String::new(),
            reason,
        }
    }

    fn below(mut self, name: &str) -> Self {
        self.path = if self.path.is_empty() {
            name.to_owned()
        } else {
            format!("{name}.{}", self.path)
        };
        self
    }
}
