//! Reads the rows on a thread: databases are downloaded before they can be read.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use weir_common::config::S3Config;
use weir_dataflow::types::LogicalType;
use weir_dataflow::{Batch, Error, Result, SourceEvent, SourceReader};
use weir_state::reader::{OperatorContents, TableContents};
use weir_state::{SnapshotReader, Transfers};

use super::SavepointOptions;
use crate::context::SourceContext;
use crate::io_thread::{Closed, Outlet, Produced, Producer};
use crate::split_state;

/// Batches that wait for the slot.
const QUEUE: usize = 4;
/// Files that are downloaded at once.
const DOWNLOADS: usize = 8;

/// State of one split.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct PartState {
    part: u32,
    /// Rows that were read.
    rows: u64,
    finished: bool,
}

enum Event {
    Started(u32),
    Batch(u32, RecordBatch),
    Finished(u32),
}

/// The reader of one subtask. It owns the parts p with p % parallelism = its number.
pub(super) struct SavepointSource {
    producer: Producer<Event>,
    parts: BTreeMap<u32, PartState>,
    /// Nothing came from the thread yet.
    discovering: bool,
}

impl SavepointSource {
    pub(super) fn open(options: SavepointOptions, context: SourceContext) -> Result<Self> {
        let (subtask, parallelism) = (context.info.subtask, context.info.parallelism.max(1));
        let mut parts = BTreeMap::new();
        for item in &context.restored {
            let state: PartState = split_state::decode("savepoint", item)?;
            if state.part % parallelism == subtask {
                parts.insert(state.part, state);
            }
        }
        let work = Work {
            options,
            schema: context.schema,
            s3: context.s3,
            transfers: Transfers::new(context.runtime, DOWNLOADS),
            read: parts.clone(),
            subtask,
            parallelism,
        };
        let run = move |outlet: &Outlet<Event>| work.run(outlet);
        Ok(Self {
            producer: Producer::spawn("weir-savepoint", QUEUE, context.waker, run)?,
            parts,
            discovering: true,
        })
    }

    fn part(&mut self, part: u32) -> &mut PartState {
        self.parts.entry(part).or_insert(PartState {
            part,
            rows: 0,
            finished: false,
        })
    }
}

impl SourceReader for SavepointSource {
    fn poll(&mut self) -> Result<SourceEvent> {
        Ok(match self.producer.poll()? {
            Produced::Nothing => SourceEvent::Pending,
            Produced::End => {
                self.discovering = false;
                SourceEvent::EndOfData
            }
            Produced::Item(Event::Started(split)) => {
                self.part(split);
                SourceEvent::SplitStarted(split)
            }
            Produced::Item(Event::Batch(split, data)) => {
                self.part(split).rows += data.num_rows() as u64;
                let batch = Batch::inserts(data);
                SourceEvent::Batch { split, batch }
            }
            Produced::Item(Event::Finished(split)) => {
                self.part(split).finished = true;
                SourceEvent::SplitFinished(split)
            }
        })
    }

    fn snapshot(&mut self) -> Result<Vec<Bytes>> {
        self.parts.values().map(split_state::encode).collect()
    }

    fn is_discovering(&self) -> bool {
        self.discovering
    }

    fn close(&mut self) {
        self.producer.close();
    }
}

/// What the thread works with.
struct Work {
    options: SavepointOptions,
    schema: SchemaRef,
    s3: S3Config,
    transfers: Transfers,
    read: BTreeMap<u32, PartState>,
    subtask: u32,
    parallelism: u32,
}

impl Work {
    fn run(self, outlet: &Outlet<Event>) -> Result<()> {
        let folder = tempfile::Builder::new().prefix("weir-savepoint-").tempdir();
        let folder = folder.map_err(|error| Error::io("cannot make a temporary folder", error))?;
        let (path, transfers) = (&self.options.path, self.transfers.clone());
        let reader = SnapshotReader::open(path, &self.s3, folder.path().to_owned(), transfers)?;
        let operator = reader.contents().operator(&self.options.operator)?;
        let table = operator.table(self.options.table.as_deref())?;
        let columns = self.columns(operator, table)?;
        for part in 0..reader.parts(operator, table) {
            let split = part as u32;
            if split % self.parallelism != self.subtask {
                continue;
            }
            let mut skip = match self.read.get(&split) {
                Some(state) if state.finished => continue,
                Some(state) => state.rows,
                None => 0,
            };
            let mut open = outlet.send(Event::Started(split)).is_ok();
            if open {
                reader.read(operator, table, part, &mut |rows| {
                    open = self
                        .hand_on(outlet, split, &rows, &columns, &mut skip)?
                        .is_ok();
                    Ok(open)
                })?;
            }
            if !open || outlet.send(Event::Finished(split)).is_err() {
                return Ok(());
            }
        }
        Ok(())
    }

    fn hand_on(
        &self,
        outlet: &Outlet<Event>,
        split: u32,
        rows: &RecordBatch,
        columns: &[usize],
        skip: &mut u64,
    ) -> Result<std::result::Result<(), Closed>> {
        let skipped = (*skip).min(rows.num_rows() as u64);
        *skip -= skipped;
        let left = rows.num_rows() - skipped as usize;
        if left == 0 {
            return Ok(Ok(()));
        }
        let rows = rows.slice(skipped as usize, left);
        let wanted = columns.iter().map(|at| Arc::clone(rows.column(*at)));
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(left));
        let schema = Arc::clone(&self.schema);
        let data = RecordBatch::try_new_with_options(schema, wanted.collect(), &options)?;
        Ok(outlet.send(Event::Batch(split, data)))
    }

    /// Where the declared columns are in the state's rows.
    fn columns(&self, operator: &OperatorContents, table: &TableContents) -> Result<Vec<usize>> {
        let sql_type = |field: &arrow::datatypes::Field| {
            LogicalType::from_field(field)
                .map_or_else(|| field.data_type().to_string(), |t| t.to_string())
        };
        let known = || {
            let columns = table.schema.fields().iter();
            let columns = columns.map(|field| format!("`{}` {}", field.name(), sql_type(field)));
            columns.collect::<Vec<_>>().join(", ")
        };
        let find = |field: &arrow::datatypes::FieldRef| {
            let place = format!("table '{}' of operator '{}'", table.name, operator.name);
            let Ok(at) = table.schema.index_of(field.name()) else {
                return Err(Error::Config(format!(
                    "connector 'savepoint': {place} has no column '{}'; it has {}",
                    field.name(),
                    known()
                )));
            };
            let found = table.schema.field(at);
            if found.data_type() != field.data_type() {
                return Err(Error::Config(format!(
                    "connector 'savepoint': column '{}' of {place} is {}: declare it so, and cast where it is used",
                    field.name(),
                    sql_type(found)
                )));
            }
            if found.is_nullable() && !field.is_nullable() {
                return Err(Error::Config(format!(
                    "connector 'savepoint': column '{}' of {place} may be NULL: declare it without NOT NULL",
                    field.name()
                )));
            }
            Ok(at)
        };
        self.schema.fields().iter().map(find).collect()
    }
}
