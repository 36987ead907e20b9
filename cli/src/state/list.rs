//! `weir state ls`: the operators of a snapshot and the tables of each.

use arrow::datatypes::Schema;
use serde_json::json;
use weir_common::config::Config;
use weir_dataflow::types::LogicalField;
use weir_proto::v1;
use weir_state::SnapshotReader;
use weir_state::reader::{OperatorContents, TableContents};

use crate::args::{OutputFormat, StateLsCommand};
use crate::commands::{table, time};

pub fn run(config: &Config, command: &StateLsCommand) -> anyhow::Result<()> {
    let opened = super::open(config, &command.path)?;
    let reader = &opened.reader;
    let mut counts = Vec::new();
    for operator in &reader.contents().operators {
        for table in &operator.tables {
            let rows = match command.no_count {
                true => None,
                false => Some(count(reader, operator, table)?),
            };
            counts.push(rows);
        }
    }
    let mut counts = counts.into_iter();
    match command.format {
        OutputFormat::Json => {
            for operator in &reader.contents().operators {
                println!("{}", operator_json(operator, &mut counts));
            }
        }
        OutputFormat::Text => print_text(reader, &mut counts),
    }
    Ok(())
}

fn count(
    reader: &SnapshotReader,
    operator: &OperatorContents,
    table: &TableContents,
) -> anyhow::Result<u64> {
    let mut rows = 0;
    for part in 0..reader.parts(operator, table) {
        reader.read(operator, table, part, &mut |batch| {
            rows += batch.num_rows() as u64;
            Ok(true)
        })?;
    }
    Ok(rows)
}

/// `k BIGINT, SUM(price) DOUBLE NOT NULL`
fn columns(schema: &Schema) -> Vec<(String, String)> {
    let of = |field: &arrow::datatypes::FieldRef| {
        let sql_type = LogicalField::from_field(field);
        let sql_type = sql_type.map_or_else(|| field.data_type().to_string(), |t| t.to_string());
        (field.name().clone(), sql_type)
    };
    schema.fields().iter().map(of).collect()
}

fn operator_json(
    operator: &OperatorContents,
    counts: &mut dyn Iterator<Item = Option<u64>>,
) -> serde_json::Value {
    let tables = operator.tables.iter().map(|table| {
        let columns = columns(&table.schema).into_iter();
        let columns = columns.map(|(name, sql_type)| json!({ "name": name, "type": sql_type }));
        json!({
            "table": table.name,
            "rows": counts.next().flatten(),
            "columns": columns.collect::<Vec<_>>(),
        })
    });
    let tables: Vec<_> = tables.collect();
    json!({
        "operator": operator.uid,
        "name": operator.name,
        "kind": operator.kind,
        "detail": operator.detail,
        "parallelism": operator.parallelism,
        "bytes": operator.bytes,
        "in_flight_rows": operator.in_flight_rows,
        "tables": tables,
    })
}

fn print_text(reader: &SnapshotReader, counts: &mut dyn Iterator<Item = Option<u64>>) {
    let manifest = reader.manifest();
    let kind = match manifest.kind() {
        v1::SnapshotKind::Savepoint => "savepoint",
        _ => "checkpoint",
    };
    println!(
        "{kind} {} of job {} ({}), {}, {} key groups\n",
        manifest.checkpoint_id,
        manifest.job_name,
        manifest.job_id,
        time(manifest.created_ms),
        manifest.max_parallelism,
    );
    let mut shown = table(&[
        "OPERATOR", "KIND", "BYTES", "TABLE", "ROWS", "COLUMNS", "NAME",
    ]);
    for operator in &reader.contents().operators {
        let kind = match operator.detail.is_empty() {
            true => operator.kind.clone(),
            false => format!("{}, {}", operator.kind, operator.detail),
        };
        let row = |table: String, rows: String, columns: String| {
            [
                operator.uid.clone(),
                kind.clone(),
                operator.bytes.to_string(),
                table,
                rows,
                columns,
                operator.name.clone(),
            ]
        };
        if operator.in_flight_rows > 0 {
            let rows = operator.in_flight_rows.to_string();
            shown.add_row(row("-".to_owned(), rows, "rows in flight".to_owned()));
        }
        if operator.tables.is_empty() && operator.bytes > 0 {
            shown.add_row(row(
                "-".to_owned(),
                "-".to_owned(),
                "not described".to_owned(),
            ));
        }
        for table in &operator.tables {
            let rows = counts.next().flatten();
            let rows = rows.map_or_else(|| "-".to_owned(), |rows| rows.to_string());
            let columns = columns(&table.schema).into_iter();
            let columns = columns.map(|(name, sql_type)| format!("{name} {sql_type}"));
            let columns = columns.collect::<Vec<_>>().join(", ");
            shown.add_row(row(table.name.clone(), rows, columns));
        }
    }
    println!("{shown}");
}
