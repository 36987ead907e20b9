//! Folders of a PARTITIONED BY table, as Hive and Flink name them: `day=2026-01-01/shop=a%2Fb`. Partition columns are in no file.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringArray, UInt32Array, new_null_array};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use weir_dataflow::{Batch, Error, Result};

use crate::layout::partition_place;

/// Stands for NULL and for the empty text ('partition.default-name').
pub(super) const DEFAULT_NAME: &str = "__DEFAULT_PARTITION__";

/// Casts that fail instead of giving NULL.
const STRICT: CastOptions<'static> = CastOptions {
    safe: false,
    format_options: arrow::util::display::FormatOptions::new(),
};

/// Refuses partition columns that no folder can be named after.
pub(super) fn check(schema: &Schema) -> Result<()> {
    for field in schema.fields() {
        let nameable = match field.data_type() {
            DataType::Utf8 | DataType::Boolean | DataType::Date32 | DataType::Timestamp(..) => true,
            other => other.is_numeric(),
        };
        if partition_place(field).is_some() && !nameable {
            return Err(Error::Config(format!(
                "PARTITIONED BY ({}): a column of its type cannot be in the name of a folder",
                field.name()
            )));
        }
    }
    Ok(())
}

/// Deals the rows of batches out to folders.
pub(super) struct Partitioner {
    /// Partition columns in the order of the folders.
    keys: Vec<usize>,
    /// All others, in the order of the table.
    rest: Vec<usize>,
    schema: SchemaRef,
    default_name: String,
}

impl Partitioner {
    /// Of a sink's rows.
    pub(super) fn new(schema: &SchemaRef, default_name: String) -> Self {
        let fields = schema.fields().iter().enumerate();
        let mut keys: Vec<(usize, usize)> = fields
            .filter_map(|(index, field)| Some((partition_place(field)?, index)))
            .collect();
        keys.sort_unstable();
        let keys: Vec<usize> = keys.into_iter().map(|(_, index)| index).collect();
        let rest: Vec<usize> = (0..schema.fields().len())
            .filter(|index| !keys.contains(index))
            .collect();
        let fields: Vec<_> = rest
            .iter()
            .map(|index| Arc::clone(&schema.fields()[*index]))
            .collect();
        Self {
            keys,
            rest,
            schema: Arc::new(Schema::new(fields)),
            default_name,
        }
    }

    /// What is in the files.
    pub(super) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Each folder (`""` without partition columns) with its rows, in their order.
    pub(super) fn split(&self, batch: &Batch) -> Result<Vec<(Arc<str>, Batch)>> {
        if self.keys.is_empty() {
            return Ok(vec![("".into(), batch.clone())]);
        }
        let columns: Vec<(&str, ArrayRef)> = self
            .keys
            .iter()
            .map(|index| {
                let name = batch.data().schema_ref().field(*index).name().as_str();
                let column = batch.data().column(*index);
                Ok((name, cast_with_options(column, &DataType::Utf8, &STRICT)?))
            })
            .collect::<Result<_>>()?;
        let mut rows_of: HashMap<String, Vec<u32>> = HashMap::new();
        let mut folder = String::new();
        for row in 0..batch.num_rows() {
            folder.clear();
            for (name, values) in &columns {
                let values = values.as_string::<i32>();
                let value = if values.is_null(row) {
                    ""
                } else {
                    values.value(row)
                };
                if !folder.is_empty() {
                    folder.push('/');
                }
                escape(name, &mut folder);
                folder.push('=');
                match value {
                    "" => folder.push_str(&self.default_name),
                    value => escape(value, &mut folder),
                }
            }
            match rows_of.get_mut(folder.as_str()) {
                Some(rows) => rows.push(row as u32),
                None => drop(rows_of.insert(folder.clone(), vec![row as u32])),
            }
        }
        rows_of
            .into_iter()
            .map(|(folder, rows)| {
                let part = batch.take(&UInt32Array::from(rows))?;
                let data = part.data().project(&self.rest)?;
                Ok((folder.into(), part.with_data(data)?))
            })
            .collect()
    }
}

/// What the folders of a file say about a partition column: one value for each of `rows` rows.
pub(super) fn column(
    url: &str,
    field: &Field,
    default_name: &str,
    rows: usize,
) -> Result<ArrayRef> {
    let broken = |reason: String| Error::Data(format!("file {url}: {reason}"));
    let mut folders = url.rsplit('/').filter_map(|folder| folder.split_once('='));
    let value = folders.find(|(name, _)| unescape(name) == *field.name());
    let Some((_, value)) = value else {
        return Err(broken(format!(
            "it is in no folder '{}=...' of the table's PARTITIONED BY",
            field.name()
        )));
    };
    if value == default_name {
        return Ok(new_null_array(field.data_type(), rows));
    }
    let value = unescape(value);
    let values = StringArray::from(vec![value.as_str(); rows]);
    cast_with_options(&values, field.data_type(), &STRICT).map_err(|_| {
        broken(format!(
            "'{value}' is no value of column '{}'",
            field.name()
        ))
    })
}

/// The characters that Hive does not have in the name of a folder.
fn is_escaped(ch: char) -> bool {
    ch.is_ascii_control() || "\"#%'*/:=?\\{[]^".contains(ch)
}

fn escape(text: &str, out: &mut String) {
    for ch in text.chars() {
        if is_escaped(ch) {
            // Writing into a String cannot fail.
            let _ = write!(out, "%{:02X}", u32::from(ch));
        } else {
            out.push(ch);
        }
    }
}

fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        let code = rest.get(at + 1..at + 3);
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(byte) if byte.is_ascii() => {
                out.push(char::from(byte));
                rest = &rest[at + 3..];
            }
            _ => {
                out.push('%');
                rest = &rest[at + 1..];
            }
        }
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_folders_are_read_back() {
        for text in ["a", "a/b", "x=1:2", "50%", "é #?", "%41"] {
            let mut escaped = String::new();
            escape(text, &mut escaped);
            assert!(!escaped.contains('/'), "{escaped}");
            assert_eq!(unescape(&escaped), text);
        }
        let mut escaped = String::new();
        escape("10:00", &mut escaped);
        assert_eq!(escaped, "10%3A00");
    }

    #[test]
    fn a_file_tells_its_partition() {
        let url = "file:///lake/day=2026-01-02/shop=a%2Fb/part-1";
        let text = column(
            url,
            &Field::new("shop", DataType::Utf8, true),
            DEFAULT_NAME,
            2,
        )
        .unwrap();
        assert_eq!(text.as_string::<i32>().value(1), "a/b");
        let day = column(
            url,
            &Field::new("day", DataType::Date32, true),
            DEFAULT_NAME,
            1,
        )
        .unwrap();
        assert_eq!(day.data_type(), &DataType::Date32);
        let missing = column(
            url,
            &Field::new("hour", DataType::Int32, true),
            DEFAULT_NAME,
            1,
        );
        assert!(missing.unwrap_err().to_string().contains("'hour=...'"));
        let wrong = column(
            url,
            &Field::new("shop", DataType::Int32, true),
            DEFAULT_NAME,
            1,
        );
        assert!(wrong.unwrap_err().to_string().contains("'a/b' is no value"));
        let null = "file:///lake/shop=__DEFAULT_PARTITION__/part-1";
        let null = column(
            null,
            &Field::new("shop", DataType::Int32, true),
            DEFAULT_NAME,
            1,
        )
        .unwrap();
        assert_eq!(null.null_count(), 1);
    }
}
