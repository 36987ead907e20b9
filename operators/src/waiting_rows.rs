//! Rows that wait for the end of their window, of one insert-only input, in memory and in the keyed state (table 0).
//!
//! Behind a barrier those that came since the last one go to the state. Under memory pressure all are in the state only until their window ends.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::SchemaRef;
use weir_dataflow::{Error, KeyedState, Result, StateTable, StateWrites};

use crate::window::millis;
use crate::window_join::rows::{RowsCodec, SideRows};

pub(crate) use crate::window_join::WindowKey;

/// The rows.
const ROWS: StateTable = StateTable(0);

/// Rows by window.
pub struct WaitingRows {
    schema: SchemaRef,
    codec: RowsCodec,
    windows: BTreeMap<WindowKey, SideRows>,
    /// Windows with rows that the snapshot has and the state not yet.
    frozen: Vec<WindowKey>,
    /// Rows of windows that ended, to be deleted from the state: not before the snapshot that has them is written.
    done: StateWrites,
    memory_bytes: usize,
}

impl WaitingRows {
    /// With the rows that the state has. `partition` are the columns of the exchange.
    pub fn open(
        schema: &SchemaRef,
        partition: &[usize],
        max_parallelism: u32,
        memory_bytes: usize,
        state: &mut dyn KeyedState,
    ) -> Result<Self> {
        let codec = RowsCodec::new(schema, partition, max_parallelism)?;
        let mut windows: BTreeMap<WindowKey, SideRows> = BTreeMap::new();
        let mut bytes = 0;
        codec.restore(ROWS, state, |key, group, batch| {
            bytes += batch.get_array_memory_size();
            windows.entry(key).or_default().add_restored(group, batch);
            if bytes > memory_bytes / 2 {
                bytes = 0;
                windows.values_mut().for_each(SideRows::spill);
            }
        })?;
        Ok(Self {
            schema: Arc::clone(schema),
            codec,
            windows,
            frozen: Vec::new(),
            done: StateWrites::default(),
            memory_bytes,
        })
    }

    /// New rows of a window.
    pub fn add(&mut self, key: WindowKey, rows: RecordBatch) {
        self.windows.entry(key).or_default().add(rows);
    }

    /// The window that ends first.
    pub fn first(&self) -> Option<WindowKey> {
        self.windows.first_key_value().map(|(key, _)| *key)
    }

    /// Drops rows of a window that nobody needs, if more than `rows` came since the last time. `keep` gets those in memory, oldest first.
    pub fn prune(
        &mut self,
        key: WindowKey,
        rows: usize,
        keep: impl Fn(&RecordBatch) -> Result<RecordBatch>,
    ) -> Result<()> {
        match self.windows.get_mut(&key) {
            Some(waiting) => waiting.prune(&self.schema, rows, keep),
            None => Ok(()),
        }
    }

    /// All rows of a window, which is forgotten.
    pub fn take(&mut self, key: WindowKey, state: &mut dyn KeyedState) -> Result<RecordBatch> {
        let Some(mut waiting) = self.windows.remove(&key) else {
            return Ok(RecordBatch::new_empty(Arc::clone(&self.schema)));
        };
        let stored = self.codec.load(ROWS, key, &waiting, state)?;
        let rows = waiting.concat(&self.schema, stored)?;
        let mut writes = StateWrites::default();
        while waiting.is_frozen() {
            self.codec.save(ROWS, key, &mut waiting, &mut writes)?;
        }
        waiting.forget(ROWS, key, &mut self.done);
        state.write_behind(writes)?;
        Ok(rows)
    }

    /// The cut: what is here now belongs to the snapshot.
    pub fn freeze(&mut self, state: &mut dyn KeyedState) -> Result<()> {
        for (key, waiting) in &mut self.windows {
            if waiting.freeze() {
                self.frozen.push(*key);
            }
        }
        state.write_behind(std::mem::take(&mut self.done))
    }

    /// Writes some of what is frozen; `true` if more is left.
    pub fn write_frozen(&mut self, state: &mut dyn KeyedState) -> Result<bool> {
        let Some(key) = self.frozen.last() else {
            return Ok(false);
        };
        let Some(waiting) = self.windows.get_mut(key).filter(|rows| rows.is_frozen()) else {
            // A window that ended was written then.
            self.frozen.pop();
            return Ok(true);
        };
        let mut writes = StateWrites::default();
        self.codec.save(ROWS, *key, waiting, &mut writes)?;
        state.write_behind(writes)?;
        Ok(true)
    }

    /// Brings all rows into the state and keeps none in memory, if they take too much of it.
    pub fn spill_if_full(&mut self, state: &mut dyn KeyedState) -> Result<()> {
        if self.memory() <= self.memory_bytes {
            return Ok(());
        }
        self.write_all_frozen(state)?;
        state.seal()?;
        self.windows.values_mut().for_each(|rows| {
            rows.freeze();
        });
        self.write_all_frozen(state)?;
        self.windows.values_mut().for_each(SideRows::spill);
        // From now on reads have to see that.
        state.write(std::mem::take(&mut self.done))
    }

    fn write_all_frozen(&mut self, state: &mut dyn KeyedState) -> Result<()> {
        self.frozen.clear();
        for (key, waiting) in &mut self.windows {
            while waiting.is_frozen() {
                let mut writes = StateWrites::default();
                self.codec.save(ROWS, *key, waiting, &mut writes)?;
                state.write_behind(writes)?;
            }
        }
        Ok(())
    }

    /// Bytes in memory.
    pub fn memory(&self) -> usize {
        self.windows.values().map(SideRows::memory).sum()
    }

    /// The rows' columns in words.
    pub fn shape(&self) -> String {
        let fields = self.schema.fields().iter();
        let fields = fields.map(|field| format!("{} {}", field.name(), field.data_type()));
        fields.collect::<Vec<_>>().join(", ")
    }
}

/// Rows of each window in a batch, by its columns of window start and end; the whole batch if it is of one window.
pub fn split_by_window(
    data: &RecordBatch,
    (start, end): (usize, usize),
) -> Result<Vec<(WindowKey, RecordBatch)>> {
    let column = |index: usize| {
        let column = data.columns().get(index);
        column.ok_or_else(|| Error::Config("a window's column does not exist".to_owned()))
    };
    let (starts, ends) = (millis(column(start)?)?, millis(column(end)?)?);
    let mut groups: BTreeMap<WindowKey, Vec<u32>> = BTreeMap::new();
    let mut last: Option<(WindowKey, Vec<u32>)> = None;
    for row in 0..data.num_rows() {
        let key = (ends.value(row), starts.value(row));
        match &mut last {
            Some((known, rows)) if *known == key => rows.push(row as u32),
            _ => {
                if let Some((key, rows)) = last.replace((key, vec![row as u32])) {
                    groups.entry(key).or_default().extend(rows);
                }
            }
        }
    }
    if let Some((key, rows)) = last {
        groups.entry(key).or_default().extend(rows);
    }
    if let (1, Some(key)) = (groups.len(), groups.keys().next()) {
        return Ok(vec![(*key, data.clone())]);
    }
    groups
        .into_iter()
        .map(|(key, rows)| Ok((key, take_record_batch(data, &UInt32Array::from(rows))?)))
        .collect()
}
