//! The tables of joins: the rows that wait for their partners. `weir-operators`' window_join writes them.

use arrow::datatypes::{DataType, Field};
use weir_dataflow::{Error, Result};
use weir_proto::v1::{self, JoinKind, StateEncoding};

use crate::describe::{Placed, constant, field, input_field, schema_of};

/// First byte of every value.
const VALUE_VERSION: u8 = 1;

/// What must stay the same.
pub(crate) fn join_detail(spec: &v1::Join) -> String {
    let kind = spec.kind().as_str_name();
    kind.trim_start_matches("JOIN_KIND_").to_owned()
}

/// One table a side: the join key, then the row, in the entry's key if equal rows are counted, else in its value.
pub(crate) fn join_tables(spec: &v1::Join, placed: &Placed<'_>) -> Result<Vec<v1::StateTable>> {
    let [left, right] = placed.inputs.as_slice() else {
        return Err(Error::Config("a join has two inputs".to_owned()));
    };
    let kind = spec.kind();
    let half = matches!(kind, JoinKind::Semi | JoinKind::Anti);
    let both = kind == JoinKind::Full;
    let sides = [
        (
            "left",
            left,
            &spec.left_keys,
            spec.left_retracts,
            both || half || kind == JoinKind::Left,
        ),
        (
            "right",
            right,
            &spec.right_keys,
            spec.right_retracts || half,
            both || kind == JoinKind::Right,
        ),
    ];
    let mut tables = Vec::with_capacity(2);
    for (number, (name, input, keys, counted, tracks_matches)) in sides.into_iter().enumerate() {
        let mut columns = Vec::new();
        for key in keys {
            columns.push(input_field(input, *key as usize)?.clone());
        }
        let rows: Vec<Field> = input.fields().iter().map(|f| f.as_ref().clone()).collect();
        let mut key = vec![field(StateEncoding::SizedRowKey, keys.len())];
        let row = field(StateEncoding::RowKey, rows.len());
        let number_column = |name: &str| Field::new(name, DataType::Int64, false);
        let mut numbers = vec![number_column("$touched_ms"), number_column("$count")];
        if tracks_matches {
            numbers.push(number_column("$matches"));
        }
        let mut value = vec![constant(VALUE_VERSION)];
        value.extend(numbers.iter().map(|_| field(StateEncoding::Varint, 1)));
        if counted {
            key.push(row);
            columns.extend(rows);
            columns.extend(numbers);
        } else {
            key.push(field(StateEncoding::Ignored, 0));
            value.push(row);
            columns.extend(numbers);
            columns.extend(rows);
        }
        tables.push(v1::StateTable {
            name: name.to_owned(),
            number: number as u32,
            schema: schema_of(columns),
            key,
            value,
            key_columns: (0..keys.len() as u32).collect(),
        });
    }
    Ok(tables)
}

/// What must stay the same.
pub(crate) fn window_join_detail(spec: &v1::WindowJoin) -> String {
    let kind = spec.kind().as_str_name();
    kind.trim_start_matches("JOIN_KIND_").to_owned()
}

/// One table a side. The window's times and a number stand in the key; the rows have the window's times themselves.
pub(crate) fn window_join_tables(
    spec: &v1::WindowJoin,
    placed: &Placed<'_>,
) -> Result<Vec<v1::StateTable>> {
    let [left, right] = placed.inputs.as_slice() else {
        return Err(Error::Config("a join has two inputs".to_owned()));
    };
    let sides = [
        (
            "left",
            left,
            &spec.left_keys,
            [spec.left_window_start, spec.left_window_end],
        ),
        (
            "right",
            right,
            &spec.right_keys,
            [spec.right_window_start, spec.right_window_end],
        ),
    ];
    let tables = sides.into_iter().enumerate();
    tables
        .map(|(number, (name, input, keys, window))| {
            let keys = if keys.is_empty() {
                window.to_vec()
            } else {
                keys.clone()
            };
            for key in &keys {
                input_field(input, *key as usize)?;
            }
            let columns: Vec<Field> = input.fields().iter().map(|f| f.as_ref().clone()).collect();
            Ok(v1::StateTable {
                name: name.to_owned(),
                number: number as u32,
                value: vec![field(StateEncoding::ArrowStream, columns.len())],
                schema: schema_of(columns),
                key: vec![field(StateEncoding::Ignored, 0)],
                key_columns: keys,
            })
        })
        .collect()
}
