//! `weir state show`: the first rows of an operator's state.

use arrow::array::RecordBatch;
use weir_common::config::Config;
use weir_dataflow::Batch;
use weir_state::SnapshotReader;
use weir_state::reader::{OperatorContents, TableContents};

use crate::args::{OutputFormat, ResultMode, StateShowCommand};
use crate::sql::{Renderer, ResultRows};

pub fn run(config: &Config, command: &StateShowCommand) -> anyhow::Result<()> {
    let opened = super::open(config, &command.path)?;
    let reader = &opened.reader;
    for (operator, table) in selected(reader, command)? {
        if command.format == OutputFormat::Text {
            println!(
                "{} ({}), table '{}':",
                operator.name, operator.uid, table.name
            );
        }
        let mut renderer = Renderer::new(&table.schema, ResultMode::Table, command.format, false)?;
        renderer.add(&ResultRows {
            batches: first_rows(reader, operator, table, command.limit)?,
        })?;
        renderer.finish()?;
    }
    Ok(())
}

/// The tables that the command names; all without names.
fn selected<'a>(
    reader: &'a SnapshotReader,
    command: &StateShowCommand,
) -> anyhow::Result<Vec<(&'a OperatorContents, &'a TableContents)>> {
    let contents = reader.contents();
    let all =
        |operator: &'a OperatorContents| operator.tables.iter().map(move |table| (operator, table));
    let Some(wanted) = &command.operator else {
        return Ok(contents.operators.iter().flat_map(all).collect());
    };
    let operator = contents.operator(wanted)?;
    let first = operator.table(command.table.as_deref())?;
    match command.table {
        Some(_) => Ok(vec![(operator, first)]),
        None => Ok(all(operator).collect()),
    }
}

fn first_rows(
    reader: &SnapshotReader,
    operator: &OperatorContents,
    table: &TableContents,
    limit: usize,
) -> anyhow::Result<Vec<Batch>> {
    let mut batches = Vec::new();
    let mut left = limit;
    for part in 0..reader.parts(operator, table) {
        if left == 0 {
            break;
        }
        reader.read(operator, table, part, &mut |batch: RecordBatch| {
            let taken = batch.slice(0, batch.num_rows().min(left));
            left -= taken.num_rows();
            batches.push(Batch::inserts(taken));
            Ok(left > 0)
        })?;
    }
    Ok(batches)
}
