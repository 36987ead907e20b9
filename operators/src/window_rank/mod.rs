//! Top-N of the rows of a window, emitted when the watermark passes its end.
//!
//! The input is insert-only. Rows wait by window as in a window join; now and then those that cannot be among the first any more are dropped.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::SchemaRef;
use weir_common::ids::CheckpointId;
use weir_common::key_group::hash_key;
use weir_common::metric_names;
use weir_dataflow::key::{EncodedKeys, KeyEncoder};
use weir_dataflow::{
    Batch, Context, Error, KeyedState, OpenContext, Operator, Result, SnapshotPart,
};
use weir_proto::v1;

use crate::key_table::KeyTable;
use crate::rank::order::SortOrder;
use crate::row_store::rows_of;
use crate::waiting_rows::{WaitingRows, split_by_window};
use crate::window::is_complete;

/// Rows of a window that came since the last time that is worth looking for rows to drop.
const PRUNED_ROWS: usize = if cfg!(test) { 8 } else { 16 << 10 };

/// See the module.
pub struct WindowRankOperator {
    spec: v1::WindowRank,
    watermark_ms: i64,
    open: Option<Open>,
    late: metrics::Counter,
}

struct Open {
    ranking: Ranking,
    output: SchemaRef,
    waiting: WaitingRows,
}

/// Finds the first rows of each partition.
struct Ranking {
    partition: KeyEncoder,
    order: SortOrder,
    start: usize,
    end: usize,
    input: SchemaRef,
}

impl WindowRankOperator {
    /// # Errors
    /// If the description is broken.
    pub fn new(spec: &v1::WindowRank) -> Result<Self> {
        if spec.start == 0 {
            return Err(Error::Config("the first rank is 1".to_owned()));
        }
        Ok(Self {
            spec: spec.clone(),
            watermark_ms: i64::MIN,
            open: None,
            late: metrics::Counter::noop(),
        })
    }

    fn opened(&mut self) -> Result<(&v1::WindowRank, &mut Open)> {
        match &mut self.open {
            Some(open) => Ok((&self.spec, open)),
            None => Err(Error::Internal("a window rank was not opened".to_owned())),
        }
    }
}

impl Operator for WindowRankOperator {
    fn open(&mut self, context: OpenContext, state: &mut dyn KeyedState) -> Result<()> {
        let spec = &self.spec;
        let input = context
            .input_schemas
            .first()
            .ok_or_else(|| Error::Config("a window rank without input".to_owned()))?;
        let partition: Vec<usize> = spec.partition_columns.iter().map(|c| *c as usize).collect();
        let size = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
        self.open = Some(Open {
            ranking: Ranking {
                partition: KeyEncoder::new(input, &partition)?,
                order: SortOrder::new(input, &spec.order)?,
                start: size(spec.start - 1),
                end: size(spec.end),
                input: Arc::clone(input),
            },
            waiting: WaitingRows::open(
                input,
                &partition,
                context.info.max_parallelism,
                context.memory_bytes,
                state,
            )?,
            output: context.output_schema.clone(),
        });
        self.late = metrics::counter!(
            metric_names::LATE_RECORDS,
            "job" => context.info.job.to_string(),
            "operator" => context.info.name.to_string(),
            "subtask" => context.info.subtask.to_string()
        );
        Ok(())
    }

    fn process(&mut self, _: usize, batch: Batch, context: &mut Context<'_>) -> Result<()> {
        if batch.kinds().is_some() {
            return Err(Error::Config(
                "a window rank planned for an insert-only input got an updating one".to_owned(),
            ));
        }
        let watermark_ms = self.watermark_ms;
        let late = self.late.clone();
        let (spec, open) = self.opened()?;
        let columns = (
            spec.window_start_column as usize,
            spec.window_end_column as usize,
        );
        for (key, rows) in split_by_window(batch.data(), columns)? {
            if is_complete(key.0, watermark_ms) {
                late.increment(rows.num_rows() as u64);
                continue;
            }
            open.waiting.add(key, rows);
            let ranking = &open.ranking;
            open.waiting
                .prune(key, PRUNED_ROWS, |rows| ranking.without_last(rows))?;
        }
        open.waiting.spill_if_full(context.state)
    }

    fn watermark(&mut self, watermark_ms: i64, context: &mut Context<'_>) -> Result<i64> {
        self.watermark_ms = self.watermark_ms.max(watermark_ms);
        let watermark_ms_now = self.watermark_ms;
        let (spec, open) = self.opened()?;
        while let Some(key) = open.waiting.first()
            && is_complete(key.0, watermark_ms_now)
        {
            let rows = open.waiting.take(key, context.state)?;
            let (picked, numbers) = open.ranking.pick(&rows)?;
            let mut columns = take_record_batch(&rows, &picked)?.columns().to_vec();
            if spec.output_rank {
                columns.push(Arc::new(numbers));
            }
            let rows = rows_of(&open.output, columns, picked.len())?;
            context.out.emit(Batch::inserts(rows))?;
        }
        Ok(watermark_ms)
    }

    fn snapshot(&mut self, _: CheckpointId, context: &mut Context<'_>) -> Result<SnapshotPart> {
        self.opened()?.1.waiting.freeze(context.state)?;
        Ok(SnapshotPart::default())
    }

    fn write_frozen(&mut self, context: &mut Context<'_>) -> Result<bool> {
        self.opened()?.1.waiting.write_frozen(context.state)
    }

    fn memory_bytes(&self) -> usize {
        self.open.as_ref().map_or(0, |open| open.waiting.memory())
    }

    fn state_schema(&self) -> String {
        self.open.as_ref().map_or_else(String::new, |open| {
            format!("window rank v1 ({})", open.waiting.shape())
        })
    }
}

impl Ranking {
    /// The rows that are emitted, partition after partition, and their numbers.
    fn pick(&self, rows: &RecordBatch) -> Result<(UInt32Array, Int64Array)> {
        let (mut picked, mut numbers) = (Vec::new(), Vec::new());
        for partition in self.sorted(rows)? {
            let end = self.end.min(partition.len());
            for (at, row) in partition.iter().enumerate().take(end).skip(self.start) {
                picked.push(*row);
                numbers.push(at as i64 + 1);
            }
        }
        Ok((UInt32Array::from(picked), Int64Array::from(numbers)))
    }

    /// The rows without those that are behind the last that is emitted, in the order in which they came.
    fn without_last(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        let mut kept: Vec<u32> = Vec::new();
        for partition in self.sorted(rows)? {
            kept.extend(partition.iter().take(self.end));
        }
        kept.sort_unstable();
        Ok(take_record_batch(rows, &UInt32Array::from(kept))?)
    }

    /// Rows of each partition by the order; those that sort the same as they came.
    fn sorted(&self, rows: &RecordBatch) -> Result<Vec<Vec<u32>>> {
        debug_assert_eq!(rows.num_columns(), self.input.fields().len());
        let mut encoded = EncodedKeys::default();
        self.partition.encode_into(rows, &mut encoded)?;
        let (mut table, mut partitions) = (KeyTable::default(), BTreeMap::<u32, Vec<u32>>::new());
        for (row, key) in encoded.iter().enumerate() {
            let slot = table.slot_of(key, hash_key(key));
            partitions.entry(slot).or_default().push(row as u32);
        }
        let keys = self.order.keys(rows.columns())?;
        let sorted = partitions.into_values().map(|mut rows| {
            rows.sort_by(|a, b| keys.get(*a as usize).cmp(keys.get(*b as usize)));
            rows
        });
        Ok(sorted.collect())
    }
}

#[cfg(test)]
mod tests;
