//! The tables of joins: the rows that wait for their partners. `weir-operators`' window_join writes them.

use arrow::datatypes::Field;
use weir_dataflow::{Error, Result};
use weir_proto::v1::{self, StateEncoding};

use crate::describe::{Placed, field, input_field, schema_of};

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
