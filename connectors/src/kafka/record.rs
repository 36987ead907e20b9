//! What stands in a record's key and what in its value, as the options say: 'key.format', 'key.fields' and their like; for 'upsert-kafka' the
//! key is the table's PRIMARY KEY, and a record without a value deletes.

use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use weir_dataflow::types::METADATA_KEY;
use weir_dataflow::{Error, Result};

use crate::format::Format;
use crate::options::OptionReader;

/// Name of the connector whose records are upserts.
pub const UPSERT: &str = "upsert-kafka";

/// The formats of key and value, and the columns of each.
#[derive(Debug, Clone)]
pub struct RecordFormat {
    /// `None`: keys are neither read nor written.
    pub key: Option<Format>,
    pub value: Format,
    /// Records are upserts by their key.
    pub is_upsert: bool,
    key_columns: Vec<String>,
    /// Stands before the names of the key's columns in the table, not in the key.
    prefix: String,
    value_has_key: bool,
}

/// Some columns of a table as they stand in one part of a record.
#[derive(Debug)]
pub struct Part {
    /// Their places in the schema that was asked.
    pub columns: Vec<usize>,
    /// With the names that they have in the record.
    pub schema: SchemaRef,
}

impl RecordFormat {
    /// `table`: all columns; `primary_key`: places in it.
    ///
    /// # Errors
    /// For options that contradict each other or the table.
    pub fn read(reader: &OptionReader<'_>, table: &Schema, primary_key: &[u32]) -> Result<Self> {
        let is_upsert = reader.connector() == UPSERT;
        let prefix = reader.text("key.fields-prefix").unwrap_or_default();
        let include = reader.choice("value.fields-include", &["ALL", "EXCEPT_KEY"])?;
        let (key, key_columns) = if is_upsert {
            upsert_key(reader, table, primary_key)?
        } else {
            declared_key(reader)?
        };
        let value = match Format::read(reader, "value.")? {
            Some(value) => value,
            None if is_upsert => Format::required(reader, "value.")?,
            None => Format::required(reader, "")?,
        };
        let read = Self {
            key,
            value,
            is_upsert,
            key_columns,
            prefix: prefix.to_owned(),
            value_has_key: include != Some("EXCEPT_KEY"),
        };
        read.check(reader, table)?;
        Ok(read)
    }

    fn check(&self, reader: &OptionReader<'_>, table: &Schema) -> Result<()> {
        let physical = physical_names(table);
        for column in &self.key_columns {
            if !physical.contains(&column.as_str()) {
                return Err(reader.invalid(
                    "key.fields",
                    column,
                    &format!(
                        "physical columns of the table: {}",
                        crate::options::quoted(physical.iter().copied())
                    ),
                ));
            }
            if !column.starts_with(&self.prefix) {
                return Err(reader.invalid(
                    "key.fields-prefix",
                    &self.prefix,
                    &format!("what all columns of the key begin with, but '{column}' does not"),
                ));
            }
        }
        if !self.prefix.is_empty() && self.value_has_key {
            return Err(Error::Config(format!(
                "connector '{}': 'key.fields-prefix' needs 'value.fields-include' = 'EXCEPT_KEY', because the value has no prefix",
                reader.connector()
            )));
        }
        if self.is_upsert && (self.value.emits_updates() || self.key_emits_updates()) {
            return Err(Error::Config(format!(
                "connector '{UPSERT}' makes the changelog itself: the format '{}' is one, too",
                self.value.name()
            )));
        }
        Ok(())
    }

    fn key_emits_updates(&self) -> bool {
        self.key.as_ref().is_some_and(Format::emits_updates)
    }

    /// The columns of a key.
    pub fn key_part(&self, schema: &Schema) -> Part {
        let stripped = |field: &Field| {
            let name = field.name();
            name.strip_prefix(&self.prefix).unwrap_or(name).to_owned()
        };
        part(schema, |name| self.is_key(name), stripped)
    }

    /// The columns of a value.
    pub fn value_part(&self, schema: &Schema) -> Part {
        let is_value = |name: &str| self.value_has_key || !self.is_key(name);
        part(schema, is_value, |field| field.name().clone())
    }

    fn is_key(&self, name: &str) -> bool {
        self.key_columns.iter().any(|column| column == name)
    }
}

fn part(schema: &Schema, takes: impl Fn(&str) -> bool, name: impl Fn(&Field) -> String) -> Part {
    let physical = schema.fields().iter().enumerate();
    let taken = physical
        .filter(|(_, field)| !field.metadata().contains_key(METADATA_KEY) && takes(field.name()));
    let (columns, fields): (Vec<usize>, Vec<Field>) = taken
        .map(|(index, field)| (index, field.as_ref().clone().with_name(name(field))))
        .unzip();
    Part {
        columns,
        schema: Arc::new(Schema::new(fields)),
    }
}

fn physical_names(table: &Schema) -> Vec<&str> {
    let fields = table.fields().iter();
    fields
        .filter(|field| !field.metadata().contains_key(METADATA_KEY))
        .map(|field| field.name().as_str())
        .collect()
}

fn declared_key(reader: &OptionReader<'_>) -> Result<(Option<Format>, Vec<String>)> {
    let format = Format::read(reader, "key.")?;
    let columns: Vec<String> = reader
        .text("key.fields")
        .unwrap_or_default()
        .split(';')
        .map(|column| column.trim().to_owned())
        .filter(|column| !column.is_empty())
        .collect();
    match (&format, columns.is_empty()) {
        (Some(_), true) => Err(Error::Config(
            "connector 'kafka': 'key.format' needs 'key.fields', the columns that the key holds"
                .to_owned(),
        )),
        (None, false) => Err(Error::Config(
            "connector 'kafka': 'key.fields' needs 'key.format'".to_owned(),
        )),
        _ => Ok((format, columns)),
    }
}

fn upsert_key(
    reader: &OptionReader<'_>,
    table: &Schema,
    primary_key: &[u32],
) -> Result<(Option<Format>, Vec<String>)> {
    reader.refuse("key.fields", "the key is the table's PRIMARY KEY")?;
    let columns = primary_key.iter().filter_map(|place| {
        let field = table.fields().get(*place as usize)?;
        Some(field.name().clone())
    });
    let columns: Vec<String> = columns.collect();
    if columns.is_empty() {
        return Err(Error::Config(format!(
            "connector '{UPSERT}' needs a PRIMARY KEY (...) NOT ENFORCED: its records are updates by it"
        )));
    }
    Ok((Some(Format::required(reader, "key.")?), columns))
}
