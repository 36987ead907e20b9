//! Rows that wait for the watermark, by time: in memory and, behind barriers or under memory pressure, in the keyed state.
//!
//! Rows lie in buckets of time. A bucket into which the watermark falls is cut: what is left of it becomes another generation of the bucket, since
//! entries of the old one may still have to be deleted when the new one is written. State: a table as `window_join`'s, with a bucket's start and
//! generation instead of a window.

use std::collections::BTreeMap;

use arrow::array::{BooleanArray, RecordBatch, UInt32Array};
use arrow::compute::{filter_record_batch, not};
use arrow::datatypes::SchemaRef;
use weir_dataflow::{Error, KeyedState, Result, StateTable, StateWrites};

use crate::window::{millis, window_start};
use crate::window_join::rows::{RowsCodec, SideRows};

/// Span of a bucket as long as batches do not span many of them.
const BUCKET_MS: i64 = 250;
/// Buckets that one batch is split into at most.
const BUCKETS_A_BATCH: i64 = 64;

/// Start and generation.
type BucketKey = (i64, i64);

/// Rows of one input with a column of time.
pub struct TimeBuffer {
    schema: SchemaRef,
    time_column: usize,
    table: StateTable,
    codec: RowsCodec,
    buckets: BTreeMap<BucketKey, SideRows>,
    bucket_ms: i64,
    next_generation: i64,
    /// Buckets with rows that the snapshot has and the state not yet.
    frozen: Vec<BucketKey>,
    /// Rows that were taken, to be deleted from the state: not before the snapshot that has them is written.
    done: StateWrites,
}

impl TimeBuffer {
    /// For rows of `schema` that an exchange by `partition_columns` has dealt out.
    ///
    /// # Errors
    /// If a column is not there, or can't be a key.
    pub fn new(
        schema: &SchemaRef,
        time_column: usize,
        partition_columns: &[usize],
        max_parallelism: u32,
        table: StateTable,
    ) -> Result<Self> {
        if time_column >= schema.fields().len() {
            return Err(Error::Config(format!(
                "time column {time_column} of {} columns",
                schema.fields().len()
            )));
        }
        Ok(Self {
            codec: RowsCodec::new(schema, partition_columns, max_parallelism)?,
            schema: schema.clone(),
            time_column,
            table,
            buckets: BTreeMap::new(),
            bucket_ms: BUCKET_MS,
            next_generation: 1,
            frozen: Vec::new(),
            done: StateWrites::default(),
        })
    }

    /// Finds what a snapshot holds; of more than `budget` bytes it stays in the state until it is needed.
    pub fn restore(&mut self, budget: usize, state: &mut dyn KeyedState) -> Result<()> {
        let (buckets, mut bytes, mut last) = (&mut self.buckets, 0, 0);
        self.codec.restore(self.table, state, |key, group, batch| {
            bytes += batch.get_array_memory_size();
            last = last.max(key.1);
            buckets.entry(key).or_default().add_restored(group, batch);
            if bytes > budget {
                bytes = 0;
                buckets.values_mut().for_each(SideRows::spill);
            }
        })?;
        self.next_generation = last + 1;
        Ok(())
    }

    /// Adds rows; `times` are theirs in milliseconds.
    pub fn add(&mut self, rows: &RecordBatch, times: &[i64]) -> Result<()> {
        let (Some(first), Some(last)) = (times.iter().min(), times.iter().max()) else {
            return Ok(());
        };
        while last.saturating_sub(*first) > self.bucket_ms.saturating_mul(BUCKETS_A_BATCH) {
            self.bucket_ms = self.bucket_ms.saturating_mul(2);
        }
        let start_of = |time: i64| window_start(time, 0, self.bucket_ms);
        if start_of(*first) == start_of(*last) {
            self.bucket(start_of(*first)).add(rows.clone());
            return Ok(());
        }
        let mut split: BTreeMap<i64, Vec<u32>> = BTreeMap::new();
        for (row, time) in times.iter().enumerate() {
            split.entry(start_of(*time)).or_default().push(row as u32);
        }
        for (start, rows_of) in split {
            let part = arrow::compute::take_record_batch(rows, &UInt32Array::from(rows_of))?;
            self.bucket(start).add(part);
        }
        Ok(())
    }

    /// The newest generation of a bucket: what came before stands in it.
    fn bucket(&mut self, start: i64) -> &mut SideRows {
        let generations = self.buckets.range((start, i64::MIN)..=(start, i64::MAX));
        let key = generations.last().map_or((start, 0), |(key, _)| *key);
        self.buckets.entry(key).or_default()
    }

    /// Takes the rows up to a time out, those of one time in the order in which they came.
    pub fn take_until(
        &mut self,
        time_ms: i64,
        state: &mut dyn KeyedState,
    ) -> Result<Vec<RecordBatch>> {
        let mut taken = Vec::new();
        let due: Vec<BucketKey> = self
            .buckets
            .range(..=(time_ms, i64::MAX))
            .map(|(key, _)| *key)
            .collect();
        for key in due {
            let Some(mut bucket) = self.buckets.remove(&key) else {
                continue;
            };
            let stored = self.codec.load(self.table, key, &bucket, state)?;
            let rows = bucket.concat(&self.schema, stored)?;
            let times = millis(rows.column(self.time_column))?;
            let is_due: BooleanArray = times
                .values()
                .iter()
                .map(|time| Some(*time <= time_ms))
                .collect();
            match is_due.true_count() {
                0 => {
                    self.buckets.insert(key, bucket);
                    continue;
                }
                all if all == rows.num_rows() => taken.push(rows),
                _ => {
                    taken.push(filter_record_batch(&rows, &is_due)?);
                    let rest = filter_record_batch(&rows, &not(&is_due)?)?;
                    let next = (key.0, self.next_generation);
                    self.next_generation += 1;
                    self.buckets.entry(next).or_default().add(rest);
                }
            }
            // What a running snapshot has of the bucket is written before it is deleted.
            let mut writes = StateWrites::default();
            while bucket.is_frozen() {
                self.codec.save(self.table, key, &mut bucket, &mut writes)?;
            }
            state.write_behind(writes)?;
            bucket.forget(self.table, key, &mut self.done);
        }
        Ok(taken)
    }

    /// What is there now belongs to the snapshot. What was frozen before must be written.
    pub fn freeze(&mut self, state: &mut dyn KeyedState) -> Result<()> {
        for (key, bucket) in &mut self.buckets {
            if bucket.freeze() {
                self.frozen.push(*key);
            }
        }
        state.write_behind(std::mem::take(&mut self.done))
    }

    /// Writes a part of what is frozen; `true` if more is left.
    pub fn write_frozen(&mut self, state: &mut dyn KeyedState) -> Result<bool> {
        while let Some(key) = self.frozen.last() {
            let bucket = self.buckets.get_mut(key);
            let Some(bucket) = bucket.filter(|bucket| bucket.is_frozen()) else {
                // It was taken, and written then.
                self.frozen.pop();
                continue;
            };
            let mut writes = StateWrites::default();
            self.codec.save(self.table, *key, bucket, &mut writes)?;
            state.write_behind(writes)?;
            return Ok(true);
        }
        Ok(false)
    }

    /// Brings all rows into the state and keeps none in memory. What a snapshot has must be written and sealed.
    pub fn spill(&mut self, state: &mut dyn KeyedState) -> Result<()> {
        self.freeze(state)?;
        while self.write_frozen(state)? {}
        self.buckets.values_mut().for_each(SideRows::spill);
        // From now on reads have to see that.
        state.write(StateWrites::default())
    }

    /// Bytes in memory.
    pub fn memory(&self) -> usize {
        self.buckets.values().map(SideRows::memory).sum()
    }
}
