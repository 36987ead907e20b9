//! Runs one operator without a cluster: rows in, watermark, barrier, restore, rows out.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use bytes::Bytes;
use weir_common::clock::Clock;
use weir_common::ids::{AttemptId, CheckpointId, JobId};
use weir_common::key_group::{KeyGroup, KeyGroupRange};

use crate::batch::{Batch, RowKind};
use crate::error::{Error, Result};
use crate::operator::{Context, OpenContext, Operator, OperatorInfo, OperatorStates};
use crate::state::{KeyedState, StateTable, StateWrites, Visit};
use crate::waker::SlotWaker;

type Entries = BTreeMap<(StateTable, KeyGroup, Vec<u8>), Vec<u8>>;

/// Keyed state in memory.
#[derive(Debug, Clone, PartialEq)]
pub struct MemoryState {
    key_groups: KeyGroupRange,
    entries: Entries,
    /// What the snapshot that is being written has.
    sealed: Option<Entries>,
}

impl MemoryState {
    /// Empty, for these key groups.
    pub fn new(key_groups: KeyGroupRange) -> Self {
        Self {
            key_groups,
            entries: Entries::new(),
            sealed: None,
        }
    }

    /// Number of entries in all tables.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl KeyedState for MemoryState {
    fn key_groups(&self) -> KeyGroupRange {
        self.key_groups
    }

    fn multi_get(
        &mut self,
        table: StateTable,
        keys: &[(KeyGroup, &[u8])],
    ) -> Result<Vec<Option<Bytes>>> {
        let get =
            |(group, key): &(KeyGroup, &[u8])| self.entries.get(&(table, *group, key.to_vec()));
        Ok(keys
            .iter()
            .map(|key| get(key).map(|value| Bytes::copy_from_slice(value)))
            .collect())
    }

    fn write(&mut self, writes: StateWrites) -> Result<()> {
        for range in writes.deleted_ranges {
            let inside = |key: &(StateTable, KeyGroup, Vec<u8>)| {
                key.0 == range.table
                    && key.1 == range.key_group
                    && key.2 >= range.from
                    && range.to.as_ref().is_none_or(|to| key.2 < *to)
            };
            self.entries.retain(|key, _| !inside(key));
        }
        for write in writes.entries {
            if !self.key_groups.contains(write.key_group) {
                return Err(Error::Internal(format!(
                    "key group {} is not in {:?}",
                    write.key_group, self.key_groups
                )));
            }
            let key = (write.table, write.key_group, write.key);
            match write.value {
                Some(value) => self.entries.insert(key, value),
                None => self.entries.remove(&key),
            };
        }
        Ok(())
    }

    fn seal(&mut self) -> Result<()> {
        if self.sealed.is_none() {
            self.sealed = Some(self.entries.clone());
        }
        Ok(())
    }

    fn scan(&mut self, table: StateTable, visit: &mut Visit<'_>) -> Result<()> {
        for ((_, group, key), value) in self
            .entries
            .range((table, 0, Vec::new())..)
            .take_while(|((t, _, _), _)| *t == table)
        {
            if !visit(*group, key, value)? {
                break;
            }
        }
        Ok(())
    }

    fn scan_group(
        &mut self,
        table: StateTable,
        key_group: KeyGroup,
        from: Option<&[u8]>,
        visit: &mut Visit<'_>,
    ) -> Result<()> {
        let start = (table, key_group, from.unwrap_or_default().to_vec());
        for ((t, group, key), value) in self.entries.range(start..) {
            if (*t, *group) != (table, key_group) || !visit(*group, key, value)? {
                break;
            }
        }
        Ok(())
    }

    fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn stored_bytes(&self) -> u64 {
        let entries = self.entries.iter();
        entries
            .map(|((_, _, key), value)| (key.len() + value.len()) as u64)
            .sum()
    }
}

/// What [`Harness::snapshot`] gives and [`Harness::restore`] takes.
#[derive(Debug, Clone, PartialEq)]
pub struct HarnessSnapshot {
    /// Keyed entries.
    pub keyed: Vec<MemoryState>,
    /// Lists.
    pub states: OperatorStates,
}

/// One operator with state in memory.
pub struct Harness {
    operator: Box<dyn Operator>,
    state: MemoryState,
    out: Vec<Batch>,
    now_ms: i64,
    checkpoint: u64,
    /// What belongs to no key, of the snapshot that is being written.
    pending: OperatorStates,
}

/// Makes the context of an operator of a test job.
pub fn open_context(
    inputs: Vec<SchemaRef>,
    output: SchemaRef,
    subtask: u32,
    parallelism: u32,
) -> OpenContext {
    OpenContext {
        info: OperatorInfo {
            job: JobId::random(),
            job_name: "test".into(),
            attempt: AttemptId(1),
            uid: "operator".into(),
            name: "operator".into(),
            subtask,
            parallelism,
            max_parallelism: 128,
        },
        input_schemas: inputs,
        output_schema: output,
        restored: OperatorStates::default(),
        is_restored: false,
        waker: SlotWaker::none(),
        clock: Clock::manual(0),
        memory_bytes: 64 << 20,
        job_options: Arc::default(),
        s3: weir_common::config::S3Config::default(),
    }
}

impl Harness {
    /// Opens an operator as the only subtask.
    pub fn open(
        operator: Box<dyn Operator>,
        inputs: Vec<SchemaRef>,
        output: SchemaRef,
    ) -> Result<Self> {
        Self::open_with(operator, open_context(inputs, output, 0, 1))
    }

    /// Opens an operator with this context.
    pub fn open_with(mut operator: Box<dyn Operator>, context: OpenContext) -> Result<Self> {
        let mut state = MemoryState::new(context.info.key_groups());
        operator.open(context, &mut state)?;
        Ok(Self {
            operator,
            state,
            out: Vec::new(),
            now_ms: 0,
            checkpoint: 0,
            pending: OperatorStates::default(),
        })
    }

    /// Opens an operator on a snapshot, at any parallelism: only the key groups of `context` are taken.
    pub fn restore(
        mut operator: Box<dyn Operator>,
        mut context: OpenContext,
        snapshot: &HarnessSnapshot,
    ) -> Result<Self> {
        let range = context.info.key_groups();
        let mut state = MemoryState::new(range);
        for part in &snapshot.keyed {
            let inside = part
                .entries
                .iter()
                .filter(|((_, group, _), _)| range.contains(*group));
            state
                .entries
                .extend(inside.map(|(key, value)| (key.clone(), value.clone())));
        }
        context.restored = snapshot.states.clone();
        context.is_restored = true;
        operator.open(context, &mut state)?;
        Ok(Self {
            operator,
            state,
            out: Vec::new(),
            now_ms: 0,
            checkpoint: 0,
            pending: OperatorStates::default(),
        })
    }

    fn run<T>(
        &mut self,
        step: impl FnOnce(&mut dyn Operator, &mut Context<'_>) -> Result<T>,
    ) -> Result<T> {
        let mut context = Context {
            state: &mut self.state,
            out: &mut self.out,
            now_ms: self.now_ms,
        };
        step(self.operator.as_mut(), &mut context)
    }

    /// Rows on an input.
    pub fn push(&mut self, input: usize, batch: Batch) -> Result<()> {
        self.run(|operator, context| operator.process(input, batch, context))
    }

    /// A watermark on all inputs; gives the one that the operator forwards.
    pub fn watermark(&mut self, watermark_ms: i64) -> Result<i64> {
        self.run(|operator, context| operator.watermark(watermark_ms, context))
    }

    /// Processing time comes to `now_ms`.
    pub fn tick(&mut self, now_ms: i64) -> Result<()> {
        self.now_ms = now_ms;
        self.run(|operator, context| operator.tick(context))
    }

    /// The last watermark, then the end of the data.
    pub fn end(&mut self) -> Result<()> {
        self.watermark(i64::MAX)?;
        self.run(|operator, context| operator.end_of_data(context))
    }

    /// A barrier. Runs deferred work at once.
    pub fn snapshot(&mut self) -> Result<HarnessSnapshot> {
        self.begin_snapshot()?;
        self.finish_snapshot()
    }

    /// A barrier, without what may be done behind it.
    pub fn begin_snapshot(&mut self) -> Result<()> {
        self.checkpoint += 1;
        let checkpoint = CheckpointId(self.checkpoint);
        let mut part = self.run(|operator, context| operator.snapshot(checkpoint, context))?;
        if let Some(deferred) = part.deferred {
            part.states.extend(deferred()?);
        }
        self.pending = part.states;
        self.state.sealed = None;
        Ok(())
    }

    /// Writes a part of what the snapshot froze; `true` if more is left.
    pub fn write_frozen(&mut self) -> Result<bool> {
        let more = self.run(|operator, context| operator.write_frozen(context))?;
        if !more {
            self.state.seal()?;
        }
        Ok(more)
    }

    /// Writes the rest; gives the snapshot as of [`Self::begin_snapshot`].
    pub fn finish_snapshot(&mut self) -> Result<HarnessSnapshot> {
        while self.write_frozen()? {}
        let mut sealed = MemoryState::new(self.state.key_groups);
        sealed.entries = self.state.sealed.take().unwrap_or_default();
        Ok(HarnessSnapshot {
            keyed: vec![sealed],
            states: std::mem::take(&mut self.pending),
        })
    }

    /// The last snapshot is complete.
    pub fn complete(&mut self) -> Result<()> {
        match self
            .operator
            .checkpoint_completed(CheckpointId(self.checkpoint))?
        {
            Some(deferred) => deferred(),
            None => Ok(()),
        }
    }

    /// Number of entries in the keyed state.
    pub fn state_entries(&self) -> usize {
        self.state.len()
    }

    /// What was emitted since the last call.
    pub fn take(&mut self) -> Vec<Batch> {
        std::mem::take(&mut self.out)
    }

    /// What was emitted since the last call, one text a row: "+I 1 abc 2020-01-01T00:00:00" ("null" for NULL).
    pub fn rows(&mut self) -> Result<Vec<String>> {
        let mut rows = Vec::new();
        for batch in self.out.drain(..) {
            rows.extend(format_rows(&batch)?);
        }
        Ok(rows)
    }

    /// As [`Self::rows`], sorted.
    pub fn sorted_rows(&mut self) -> Result<Vec<String>> {
        let mut rows = self.rows()?;
        rows.sort();
        Ok(rows)
    }
}

/// One text a row: kind, then the columns, separated by blanks.
pub fn format_rows(batch: &Batch) -> Result<Vec<String>> {
    let options = FormatOptions::default().with_null("null");
    let formatters = batch
        .data()
        .columns()
        .iter()
        .map(|column| ArrayFormatter::try_new(column.as_ref(), &options))
        .collect::<std::result::Result<Vec<_>, _>>()?;
    Ok((0..batch.num_rows())
        .map(|row| {
            let cells = formatters
                .iter()
                .map(|formatter| formatter.value(row).to_string());
            std::iter::once(batch.kind(row).short().to_owned())
                .chain(cells)
                .collect::<Vec<_>>()
                .join(" ")
        })
        .collect())
}

/// A batch from a table in text: one row a line, "+I 1 abc null" with the kind first (absent: +I), cells separated by blanks, parsed to the
/// schema's types by Arrow's cast. A test helper: panics never, errs on nonsense.
pub fn batch(schema: &SchemaRef, text: &str) -> Result<Batch> {
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let mut kinds = Vec::with_capacity(lines.len());
    let mut cells: Vec<Vec<Option<&str>>> = vec![Vec::new(); schema.fields().len()];
    for line in &lines {
        let mut words: Vec<&str> = line.split_whitespace().collect();
        let kind = match words.first() {
            Some(&"+I") => Some(RowKind::Insert),
            Some(&"-U") => Some(RowKind::UpdateBefore),
            Some(&"+U") => Some(RowKind::UpdateAfter),
            Some(&"-D") => Some(RowKind::Delete),
            _ => None,
        };
        if kind.is_some() {
            words.remove(0);
        }
        kinds.push(kind.unwrap_or(RowKind::Insert));
        if words.len() != cells.len() {
            return Err(Error::Data(format!(
                "{} cells for {} columns: {line}",
                words.len(),
                cells.len()
            )));
        }
        for (column, word) in cells.iter_mut().zip(words) {
            column.push((word != "null").then_some(word));
        }
    }
    let columns = cells
        .into_iter()
        .zip(schema.fields())
        .map(|(column, field)| {
            let texts = arrow::array::StringArray::from(column);
            arrow::compute::cast(&texts, field.data_type()).map_err(Error::from)
        })
        .collect::<Result<Vec<_>>>()?;
    Batch::with_kinds(RecordBatch::try_new(Arc::clone(schema), columns)?, kinds)
}

/// A schema from "name: type" pairs; all columns are nullable.
pub fn schema(columns: &[(&str, arrow::datatypes::DataType)]) -> SchemaRef {
    let fields: Vec<_> = columns
        .iter()
        .map(|(name, data_type)| arrow::datatypes::Field::new(*name, data_type.clone(), true))
        .collect();
    Arc::new(Schema::new(fields))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::DataType;

    struct Echo;

    impl Operator for Echo {
        fn open(&mut self, _: OpenContext, _: &mut dyn KeyedState) -> Result<()> {
            Ok(())
        }

        fn process(&mut self, _: usize, batch: Batch, context: &mut Context<'_>) -> Result<()> {
            let mut writes = StateWrites::default();
            writes.put(
                StateTable(0),
                3,
                b"key".to_vec(),
                vec![batch.num_rows() as u8],
            );
            context.state.write(writes)?;
            context.out.emit(batch)
        }
    }

    #[test]
    fn rows_go_through_and_state_survives_a_restore_in_its_key_groups() {
        let schema = schema(&[("a", DataType::Int64), ("b", DataType::Utf8)]);
        let mut harness =
            Harness::open(Box::new(Echo), vec![schema.clone()], schema.clone()).unwrap();
        harness
            .push(0, batch(&schema, "1 x\n-D 2 null").unwrap())
            .unwrap();
        assert_eq!(harness.rows().unwrap(), ["+I 1 x", "-D 2 null"]);
        let snapshot = harness.snapshot().unwrap();
        for (subtask, entries) in [(0, 1), (1, 0)] {
            let context = open_context(vec![schema.clone()], schema.clone(), subtask, 2);
            let restored = Harness::restore(Box::new(Echo), context, &snapshot).unwrap();
            assert_eq!(restored.state_entries(), entries);
        }
    }
}
