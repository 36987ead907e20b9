//! The tables of operators that keep whole rows by key. `weir-operators`' row_store writes them.

use arrow::datatypes::{Field, Schema};
use weir_dataflow::{Error, Result};
use weir_proto::v1::{self, StateEncoding};

use crate::describe::{Placed, constant, field, input_field, schema_of};

/// First byte of every value.
const VERSION: u8 = 1;

/// Which rows an operator keeps.
struct Kept<'a> {
    name: &'static str,
    key: &'a [u32],
    /// A key has one row, or any number.
    one: bool,
    /// Of the rows only the keys.
    keys_only: bool,
}

/// What must stay the same.
pub(crate) fn deduplicate_detail(spec: &v1::Deduplicate) -> String {
    let kept = if spec.keep_last { "last" } else { "first" };
    let order = match spec.time_column {
        Some(_) => "event time",
        None => "processing time",
    };
    format!("{kept} row by {order}")
}

pub(crate) fn deduplicate_tables(
    spec: &v1::Deduplicate,
    placed: &Placed<'_>,
) -> Result<Vec<v1::StateTable>> {
    let kept = Kept {
        name: "rows",
        key: &spec.key_columns,
        one: true,
        keys_only: !spec.keep_last && spec.time_column.is_none(),
    };
    Ok(vec![table(&kept, only_input(placed)?)?])
}

pub(crate) fn normalize_tables(
    spec: &v1::ChangelogNormalize,
    placed: &Placed<'_>,
) -> Result<Vec<v1::StateTable>> {
    let kept = Kept {
        name: "rows",
        key: &spec.key_columns,
        one: true,
        keys_only: false,
    };
    Ok(vec![table(&kept, only_input(placed)?)?])
}

/// What must stay the same: another end would need rows that were not kept.
pub(crate) fn rank_detail(spec: &v1::Rank, placed: &Placed<'_>) -> Result<String> {
    let kept = match (spec.input_retracts, spec.end_column) {
        (true, _) => "all rows".to_owned(),
        (false, Some(_)) => "rows up to the bound of the partition".to_owned(),
        (false, None) => format!("rows up to {}", spec.end),
    };
    Ok(format!("{kept} by {}", order_text(&spec.order, placed)?))
}

/// ORDER BY in words.
pub(crate) fn order_text(order: &[v1::SortColumn], placed: &Placed<'_>) -> Result<String> {
    let input = only_input(placed)?;
    let mut keys = Vec::with_capacity(order.len());
    for key in order {
        let direction = if key.descending { "DESC" } else { "ASC" };
        let nulls = if key.nulls_first { "FIRST" } else { "LAST" };
        let name = input_field(input, key.column as usize)?.name();
        keys.push(format!("{name} {direction} NULLS {nulls}"));
    }
    Ok(keys.join(", "))
}

/// Rows that wait for the end of their window. Its times stand in the key, and a number; the rows have them, too.
pub(crate) fn waiting_rows(partition: &[u32], placed: &Placed<'_>) -> Result<Vec<v1::StateTable>> {
    let input = only_input(placed)?;
    for column in partition {
        input_field(input, *column as usize)?;
    }
    let columns: Vec<Field> = input.fields().iter().map(|f| f.as_ref().clone()).collect();
    Ok(vec![v1::StateTable {
        name: "rows".to_owned(),
        number: 0,
        value: vec![field(StateEncoding::ArrowStream, columns.len())],
        schema: schema_of(columns),
        key: vec![field(StateEncoding::Ignored, 0)],
        key_columns: partition.to_vec(),
    }])
}

pub(crate) fn rank_tables(spec: &v1::Rank, placed: &Placed<'_>) -> Result<Vec<v1::StateTable>> {
    all_rows(&spec.partition_columns, placed)
}

/// Rows of partitions, any number of each.
pub(crate) fn all_rows(partition: &[u32], placed: &Placed<'_>) -> Result<Vec<v1::StateTable>> {
    let kept = Kept {
        name: "rows",
        key: partition,
        one: false,
        keys_only: false,
    };
    Ok(vec![table(&kept, only_input(placed)?)?])
}

fn only_input<'a>(placed: &'a Placed<'_>) -> Result<&'a Schema> {
    let first = placed.inputs.first();
    let first = first.ok_or_else(|| Error::Config("an operator has no input".to_owned()))?;
    Ok(first)
}

/// The key's columns, then the others.
fn table(kept: &Kept<'_>, input: &Schema) -> Result<v1::StateTable> {
    let key: Vec<usize> = kept.key.iter().map(|column| *column as usize).collect();
    let mut columns: Vec<Field> = Vec::with_capacity(input.fields().len());
    for column in &key {
        columns.push(input_field(input, *column)?.clone());
    }
    if !kept.keys_only {
        let rest = (0..input.fields().len()).filter(|column| !key.contains(column));
        // A row that was emitted may be kept as NULLs.
        columns.extend(rest.map(|column| input.field(column).clone().with_nullable(true)));
    }
    let rest = columns.len() - key.len();
    Ok(v1::StateTable {
        name: kept.name.to_owned(),
        number: 0,
        key: match kept.one {
            true => vec![field(StateEncoding::RowKey, key.len())],
            false => vec![
                field(StateEncoding::SizedRowKey, key.len()),
                field(StateEncoding::Ignored, 0),
            ],
        },
        value: vec![constant(VERSION), field(StateEncoding::RowKey, rest)],
        schema: schema_of(columns),
        key_columns: (0..key.len() as u32).collect(),
    })
}
