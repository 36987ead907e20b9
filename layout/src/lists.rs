//! State that belongs to no key, as rows: source splits and what sinks have prepared.
//!
//! Connectors write most items as JSON objects behind a version byte; their members become columns. What is no JSON comes as bytes.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Float64Array, Int32Array, Int64Array, RecordBatch,
    StringArray,
};
use arrow::datatypes::{DataType, Field, Schema};
use serde_json::{Map, Value};
use weir_dataflow::Result;
use weir_proto::v1;

/// Column that says which subtask wrote an item.
pub const SUBTASK: &str = "subtask";
/// Column of items that are no JSON objects.
pub const ITEM: &str = "item";

/// The items of one list, as its subtasks wrote them, in rows. Columns: `subtask`, then the members of the items by name.
///
/// # Errors
/// Never for what Weir wrote; Arrow's, if a column has more than 2 GiB.
pub fn rows(parts: &[(u32, &v1::OperatorState)]) -> Result<RecordBatch> {
    let items = parts
        .iter()
        .flat_map(|(subtask, state)| state.items.iter().map(|item| (*subtask, item.as_ref())));
    let items: Vec<(u32, &[u8])> = items.collect();
    let subtasks = Int32Array::from_iter_values(items.iter().map(|(subtask, _)| *subtask as i32));
    let mut fields = vec![Field::new(SUBTASK, DataType::Int32, false)];
    let mut columns: Vec<ArrayRef> = vec![Arc::new(subtasks)];
    let objects: Option<Vec<Map<String, Value>>> =
        items.iter().map(|(_, item)| object(item)).collect();
    match objects {
        Some(objects) => {
            for (name, column) in members(&objects) {
                fields.push(Field::new(name, column.data_type().clone(), true));
                columns.push(column);
            }
        }
        None => {
            fields.push(Field::new(ITEM, DataType::Binary, false));
            let bytes = items.iter().map(|(_, item)| *item);
            columns.push(Arc::new(BinaryArray::from_iter_values(bytes)));
        }
    }
    Ok(RecordBatch::try_new(
        Arc::new(Schema::new(fields)),
        columns,
    )?)
}

/// A JSON object, perhaps behind a version byte (which is no character).
fn object(item: &[u8]) -> Option<Map<String, Value>> {
    let json = match item.split_first() {
        Some((version, rest)) if *version < b' ' => rest,
        _ => item,
    };
    match serde_json::from_slice(json) {
        Ok(Value::Object(object)) => Some(object),
        _ => None,
    }
}

fn members(objects: &[Map<String, Value>]) -> BTreeMap<&str, ArrayRef> {
    let names = objects.iter().flat_map(|object| object.keys());
    let mut columns = BTreeMap::new();
    for name in names {
        columns.entry(name.as_str()).or_insert_with(|| {
            let values = objects
                .iter()
                .map(|object| object.get(name).filter(|v| !v.is_null()));
            column(&values.collect::<Vec<_>>())
        });
    }
    columns
}

/// BIGINT, DOUBLE or BOOLEAN if all values are; else STRING, of nested values their JSON.
fn column(values: &[Option<&Value>]) -> ArrayRef {
    let all = |is: fn(&Value) -> bool| values.iter().flatten().all(|value| is(value));
    if all(Value::is_i64) {
        let numbers = values.iter().map(|value| value.and_then(Value::as_i64));
        return Arc::new(numbers.collect::<Int64Array>());
    }
    if all(Value::is_number) {
        let numbers = values.iter().map(|value| value.and_then(Value::as_f64));
        return Arc::new(numbers.collect::<Float64Array>());
    }
    if all(Value::is_boolean) {
        let flags = values.iter().map(|value| value.and_then(Value::as_bool));
        return Arc::new(flags.collect::<BooleanArray>());
    }
    let texts = values.iter().map(|value| {
        value.map(|value| match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        })
    });
    Arc::new(texts.collect::<StringArray>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_dataflow::Batch;
    use weir_dataflow::testing::format_rows;

    fn list(items: &[&'static str]) -> v1::OperatorState {
        v1::OperatorState {
            items: items.iter().map(|item| item.as_bytes().into()).collect(),
            ..v1::OperatorState::default()
        }
    }

    fn shown(parts: &[(u32, &v1::OperatorState)]) -> (String, Vec<String>) {
        let rows = rows(parts).unwrap();
        let schema = rows.schema();
        let columns = schema.fields().iter();
        let columns = columns.map(|f| format!("{} {}", f.name(), f.data_type()));
        let columns = columns.collect::<Vec<_>>().join(", ");
        (columns, format_rows(&Batch::inserts(rows)).unwrap())
    }

    #[test]
    fn members_of_json_items_are_columns() {
        let first = list(&[
            "\x01{\"topic\":\"a\",\"offset\":7}",
            "\x01{\"topic\":\"b\",\"x\":[1]}",
        ]);
        let second = list(&["\x01{\"offset\":1.5,\"done\":true}"]);
        let (columns, rows) = shown(&[(0, &first), (1, &second)]);
        assert_eq!(
            columns,
            "subtask Int32, done Boolean, offset Float64, topic Utf8, x Utf8"
        );
        assert_eq!(
            rows,
            [
                "+I 0 null 7.0 a null",
                "+I 0 null null b [1]",
                "+I 1 true 1.5 null null"
            ]
        );
    }

    #[test]
    fn other_items_are_bytes() {
        let items = list(&["\x01{}", "\x02"]);
        let (columns, rows) = shown(&[(3, &items)]);
        assert_eq!(columns, "subtask Int32, item Binary");
        assert_eq!(rows, ["+I 3 017b7d", "+I 3 02"]);
    }
}
