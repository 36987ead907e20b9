//! The tables of MATCH_RECOGNIZE: the runs of each partition, and the rows that wait for the watermark. `weir-operators`' match_recognize writes them.

use arrow::datatypes::Field;
use weir_dataflow::{Error, Result};
use weir_proto::v1::{self, StateEncoding};

use crate::describe::{Placed, constant, field, input_field, schema_of};

/// First byte of every value of a partition.
const VALUE_VERSION: u8 = 1;
const RUNS: u32 = 0;
const PENDING: u32 = 1;

/// What must stay the same: what a run means.
pub(crate) fn match_detail(spec: &v1::MatchRecognize) -> String {
    let variables = spec.pattern.iter().map(|variable| {
        let condition = variable
            .condition
            .as_ref()
            .map_or("TRUE", |c| c.text.as_str());
        let max = variable.max.map_or("any".to_owned(), |max| max.to_string());
        let kind = if variable.greedy {
            "greedy"
        } else {
            "reluctant"
        };
        format!(
            "{} {} to {max} {kind} AS {condition}",
            variable.name, variable.min
        )
    });
    let clock = if spec.processing_time {
        ", processing time"
    } else {
        ""
    };
    format!(
        "{}, {}, within {} ms{clock}",
        variables.collect::<Vec<_>>().join("; "),
        spec.skip().as_str_name(),
        spec.within_ms
    )
}

/// The runs of a partition as bytes, and in event time the rows that wait.
pub(crate) fn match_tables(
    spec: &v1::MatchRecognize,
    placed: &Placed<'_>,
) -> Result<Vec<v1::StateTable>> {
    let input = placed
        .inputs
        .first()
        .ok_or_else(|| Error::Config("a MATCH_RECOGNIZE without input".to_owned()))?;
    let keys = spec
        .partition_columns
        .iter()
        .map(|key| input_field(input, *key as usize).cloned())
        .collect::<Result<Vec<Field>>>()?;
    let width = keys.len();
    let mut tables = vec![v1::StateTable {
        name: "runs".to_owned(),
        number: RUNS,
        schema: schema_of(keys),
        key: vec![field(StateEncoding::RowKey, width)],
        value: vec![constant(VALUE_VERSION), field(StateEncoding::Ignored, 0)],
        key_columns: (0..width as u32).collect(),
    }];
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
