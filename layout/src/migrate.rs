//! Carries entries over from the layout that a snapshot has to the one that the job needs.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::compute::cast;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use weir_common::key_group::KeyGroupRange;
use weir_dataflow::{KeyedState, Result, StateTable, StateWrites};
use weir_proto::v1::StateEncoding;

use crate::parts::{Table, broken_entry, cut};
use crate::stored_row::RowRewrite;

/// What is to be done with every entry of an operator. The default changes nothing.
#[derive(Debug, Default)]
pub struct Migration {
    tables: Vec<TableMigration>,
}

#[derive(Debug)]
pub(crate) struct TableMigration {
    pub from: Table,
    /// `None`: the entries are dropped.
    pub change: Option<TableRewrite>,
}

#[derive(Debug)]
pub(crate) struct TableRewrite {
    pub to: Table,
    /// For each piece of the new value, the piece of the old one.
    pub values: Vec<usize>,
    /// For each column of the new rows.
    pub stream: Option<Vec<StreamColumn>>,
    /// For a value that holds one row.
    pub row: Option<RowRewrite>,
}

/// Whence a column of a stored row comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StreamColumn {
    Null,
    Of(usize),
    Cast(usize),
}

/// An entry under its new key.
#[derive(Debug, PartialEq, Eq)]
enum Rewritten {
    Same,
    Dropped,
    To(Vec<u8>, Vec<u8>),
}

impl Migration {
    pub(crate) fn of(tables: Vec<TableMigration>) -> Self {
        let changes = |table: &TableMigration| match &table.change {
            None => true,
            Some(rewrite) => rewrite.changes(&table.from),
        };
        match tables.iter().any(changes) {
            true => Self { tables },
            false => Self::default(),
        }
    }

    /// All entries are right as they are.
    pub fn is_identity(&self) -> bool {
        self.tables.is_empty()
    }

    /// Rewrites a restored state, a key group after the other.
    ///
    /// # Errors
    /// If the state can't be read or written, or an entry is broken.
    pub fn run(&self, state: &mut dyn KeyedState) -> Result<()> {
        if self.is_identity() || state.is_empty() {
            return Ok(());
        }
        let mut numbers: Vec<u8> = self.tables.iter().map(|table| table.from.number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        let KeyGroupRange { first, last } = state.key_groups();
        for group in first..=last {
            for number in &numbers {
                let table = StateTable(*number);
                let (mut gone, mut new) = (StateWrites::default(), StateWrites::default());
                state.scan_group(table, group, None, &mut |_, key, value| {
                    match self.entry(*number, key, value)? {
                        Rewritten::Same => {}
                        Rewritten::Dropped => gone.delete(table, group, key.to_vec()),
                        Rewritten::To(to, value) => {
                            if to != key {
                                gone.delete(table, group, key.to_vec());
                            }
                            new.put(table, group, to, value);
                        }
                    }
                    Ok(true)
                })?;
                // A new key may be another entry's old one: deletions come first.
                gone.entries.append(&mut new.entries);
                if !gone.is_empty() {
                    state.write(gone)?;
                }
            }
        }
        Ok(())
    }

    fn entry(&self, number: u8, key: &[u8], value: &[u8]) -> Result<Rewritten> {
        for table in self
            .tables
            .iter()
            .filter(|table| table.from.number == number)
        {
            let Some(keys) = cut(&table.from.key, key)? else {
                continue;
            };
            let Some(rewrite) = &table.change else {
                return Ok(Rewritten::Dropped);
            };
            let values = cut(&table.from.value, value)?.ok_or_else(broken_entry)?;
            let (to, rewritten) = rewrite.apply(&keys, &values)?;
            if to == key && rewritten == value {
                return Ok(Rewritten::Same);
            }
            return Ok(Rewritten::To(to, rewritten));
        }
        Err(broken_entry())
    }
}

impl TableRewrite {
    fn changes(&self, from: &Table) -> bool {
        let in_place = self.values.iter().copied().eq(0..from.value.len());
        let constants =
            |table: &Table| -> Vec<u8> { table.key.iter().map(|p| p.constant).collect() };
        let rows = self.stream.as_ref().is_some_and(|columns| {
            let kept = columns.iter().copied();
            !kept.eq((0..from.schema.fields().len()).map(StreamColumn::Of))
        });
        let row = self.row.as_ref().is_some_and(|row| !row.is_identity());
        !in_place || rows || row || constants(from) != constants(&self.to)
    }

    fn apply(&self, keys: &[&[u8]], values: &[&[u8]]) -> Result<(Vec<u8>, Vec<u8>)> {
        let mut key = Vec::new();
        for (piece, bytes) in self.to.key.iter().zip(keys) {
            match piece.encoding {
                StateEncoding::Constant => key.push(piece.constant),
                _ => key.extend_from_slice(bytes),
            }
        }
        let mut value = Vec::new();
        for (piece, from) in self.to.value.iter().zip(&self.values) {
            let bytes = values.get(*from).ok_or_else(broken_entry)?;
            match (&self.stream, &self.row, piece.encoding) {
                (Some(columns), _, StateEncoding::ArrowStream) => {
                    value.extend(self.rewrite_stream(columns, bytes)?);
                }
                (_, Some(row), StateEncoding::RowKey) => value.extend(row.apply(bytes)?),
                _ => value.extend_from_slice(bytes),
            }
        }
        Ok((key, value))
    }

    fn rewrite_stream(&self, columns: &[StreamColumn], bytes: &[u8]) -> Result<Vec<u8>> {
        let mut writer = StreamWriter::try_new(Vec::new(), &self.to.schema)?;
        for batch in StreamReader::try_new(bytes, None)? {
            let batch = batch?;
            let fields = self.to.schema.fields().iter().zip(columns);
            let rewritten = fields.map(|(field, column)| {
                let from = |at: usize| batch.columns().get(at).ok_or_else(broken_entry);
                Ok(match column {
                    StreamColumn::Null => new_null_array(field.data_type(), batch.num_rows()),
                    StreamColumn::Of(at) => Arc::clone(from(*at)?),
                    StreamColumn::Cast(at) => cast(from(*at)?, field.data_type())?,
                })
            });
            let rewritten: Vec<ArrayRef> = rewritten.collect::<Result<_>>()?;
            let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
            let schema = Arc::clone(&self.to.schema);
            writer.write(&RecordBatch::try_new_with_options(
                schema, rewritten, &options,
            )?)?;
        }
        Ok(writer.into_inner()?)
    }
}
