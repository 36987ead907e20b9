//! The tables of calls with OVER: rows that wait for the watermark, and what later rows need of earlier ones. `weir-operators`' over writes them.

use arrow::datatypes::{DataType, Field, TimeUnit};
use weir_dataflow::{Error, Result};
use weir_proto::v1::{self, StateEncoding};

use crate::aggregate::running_tables;
use crate::describe::{Placed, constant, field, input_field, schema_of};
use crate::row_store::{all_rows, order_text};

/// First byte of every value of a past row.
const VALUE_VERSION: u8 = 1;
const PAST: u32 = 3;
const PENDING: u32 = 4;

/// What must stay the same: how far frames reach.
pub(crate) fn over_detail(spec: &v1::OverAggregate, placed: &Placed<'_>) -> Result<String> {
    if let Some(order) = spec.order {
        return Ok(format!("all rows by {}", order_text(&[order], placed)?));
    }
    let unit = if spec.rows { "rows" } else { "ms" };
    let clock = if spec.processing_time {
        ", processing time"
    } else {
        ""
    };
    Ok(match spec.preceding {
        Some(preceding) => format!("{preceding} {unit} preceding{clock}"),
        None => format!("unbounded {unit}{clock}"),
    })
}

/// Accumulators or past rows, and in event time the rows that wait.
pub(crate) fn over_tables(
    spec: &v1::OverAggregate,
    placed: &Placed<'_>,
) -> Result<Vec<v1::StateTable>> {
    let input = placed
        .inputs
        .first()
        .ok_or_else(|| Error::Config("an OVER without input".to_owned()))?;
    if spec.order.is_some() {
        return all_rows(&spec.partition_columns, placed);
    }
    let mut tables = match spec.preceding {
        None => running_tables(spec, placed)?,
        Some(_) => vec![past_table(spec, input)?],
    };
    if !spec.processing_time {
        let columns: Vec<Field> = input.fields().iter().map(|f| f.as_ref().clone()).collect();
        tables.push(v1::StateTable {
            name: "pending".to_owned(),
            number: PENDING,
            value: vec![field(StateEncoding::ArrowStream, columns.len())],
            schema: schema_of(columns),
            key: vec![field(StateEncoding::Ignored, 0)],
            key_columns: spec.partition_columns.clone(),
        });
    }
    Ok(tables)
}

/// The partition, the time, and the columns that the calls read.
fn past_table(
    spec: &v1::OverAggregate,
    input: &arrow::datatypes::Schema,
) -> Result<v1::StateTable> {
    let mut columns = Vec::new();
    for key in &spec.partition_columns {
        columns.push(input_field(input, *key as usize)?.clone());
    }
    let time = DataType::Timestamp(TimeUnit::Millisecond, None);
    columns.push(Field::new("time", time, false));
    let mut read: Vec<u32> = Vec::new();
    for call in spec.calls.iter().filter_map(|over| over.call.as_ref()) {
        for column in call.arguments.iter().chain(&call.filter) {
            if !read.contains(column) {
                read.push(*column);
            }
        }
    }
    for column in &read {
        columns.push(input_field(input, *column as usize)?.clone());
    }
    let keys = spec.partition_columns.len();
    Ok(v1::StateTable {
        name: "past".to_owned(),
        number: PAST,
        schema: schema_of(columns),
        key: vec![
            field(StateEncoding::SizedRowKey, keys),
            field(StateEncoding::OrderedTime, 1),
            field(StateEncoding::Ignored, 0),
        ],
        value: vec![
            constant(VALUE_VERSION),
            field(StateEncoding::RowKey, read.len()),
        ],
        key_columns: (0..keys as u32).collect(),
    })
}
