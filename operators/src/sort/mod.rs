//! ORDER BY without a limit: by time as the watermark goes on, or by anything when the data have ended.
//!
//! The input is insert-only and sorted by one subtask.

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use weir_common::ids::CheckpointId;
use weir_common::metric_names;
use weir_dataflow::{
    Batch, Context, Error, KeyedState, OpenContext, Operator, Result, SnapshotPart,
};
use weir_proto::v1;

use crate::rank::order::SortOrder;
use crate::waiting_rows::{WaitingRows, WindowKey, split_by_window};

/// Rows that are emitted together.
const EMITTED_ROWS: usize = 4096;
/// All rows, if there is no time.
const END_OF_DATA: WindowKey = (i64::MAX, i64::MAX);

/// See the module.
pub struct SortOperator {
    spec: v1::Sort,
    watermark_ms: i64,
    open: Option<Open>,
    late: metrics::Counter,
}

struct Open {
    order: SortOrder,
    waiting: WaitingRows,
}

impl SortOperator {
    /// Described by `spec`.
    pub fn new(spec: &v1::Sort) -> Self {
        Self {
            spec: spec.clone(),
            watermark_ms: i64::MIN,
            open: None,
            late: metrics::Counter::noop(),
        }
    }

    fn opened(&mut self) -> Result<&mut Open> {
        match &mut self.open {
            Some(open) => Ok(open),
            None => Err(Error::Internal("a sort was not opened".to_owned())),
        }
    }

    fn emit(&mut self, key: WindowKey, context: &mut Context<'_>) -> Result<()> {
        let open = self.opened()?;
        let rows = open.waiting.take(key, context.state)?;
        let sorted = open.sorted(&rows)?;
        for from in (0..sorted.len()).step_by(EMITTED_ROWS) {
            let part = sorted.slice(from, EMITTED_ROWS.min(sorted.len() - from));
            let part = take_record_batch(&rows, &part)?;
            context.out.emit(Batch::inserts(part))?;
        }
        Ok(())
    }
}

impl Open {
    /// Rows that sort the same stay as they came.
    fn sorted(&self, rows: &RecordBatch) -> Result<UInt32Array> {
        let keys = self.order.keys(rows.columns())?;
        let mut sorted: Vec<u32> = (0..rows.num_rows() as u32).collect();
        sorted.sort_by(|a, b| keys.get(*a as usize).cmp(keys.get(*b as usize)));
        Ok(UInt32Array::from(sorted))
    }
}

impl Operator for SortOperator {
    fn open(&mut self, context: OpenContext, state: &mut dyn KeyedState) -> Result<()> {
        let input = context
            .input_schemas
            .first()
            .ok_or_else(|| Error::Config("a sort without input".to_owned()))?;
        self.open = Some(Open {
            order: SortOrder::new(input, &self.spec.order)?,
            waiting: WaitingRows::open(
                input,
                &[],
                context.info.max_parallelism,
                context.memory_bytes,
                state,
            )?,
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
                "a sort planned for an insert-only input got an updating one".to_owned(),
            ));
        }
        let watermark_ms = self.watermark_ms;
        let late = self.late.clone();
        let time = self.spec.time_column.map(|column| column as usize);
        let open = self.opened()?;
        match time {
            None => open.waiting.add(END_OF_DATA, batch.data().clone()),
            // Each time is a window of its own.
            Some(time) => {
                for (key, rows) in split_by_window(batch.data(), (time, time))? {
                    if key.0 <= watermark_ms {
                        late.increment(rows.num_rows() as u64);
                        continue;
                    }
                    open.waiting.add(key, rows);
                }
            }
        }
        open.waiting.spill_if_full(context.state)
    }

    fn watermark(&mut self, watermark_ms: i64, context: &mut Context<'_>) -> Result<i64> {
        self.watermark_ms = self.watermark_ms.max(watermark_ms);
        while let Some(key) = self.opened()?.waiting.first()
            && key.0 <= self.watermark_ms
            && key != END_OF_DATA
        {
            self.emit(key, context)?;
        }
        Ok(watermark_ms)
    }

    fn end_of_data(&mut self, context: &mut Context<'_>) -> Result<()> {
        while let Some(key) = self.opened()?.waiting.first() {
            self.emit(key, context)?;
        }
        Ok(())
    }

    fn snapshot(&mut self, _: CheckpointId, context: &mut Context<'_>) -> Result<SnapshotPart> {
        self.opened()?.waiting.freeze(context.state)?;
        Ok(SnapshotPart::default())
    }

    fn write_frozen(&mut self, context: &mut Context<'_>) -> Result<bool> {
        self.opened()?.waiting.write_frozen(context.state)
    }

    fn memory_bytes(&self) -> usize {
        self.open.as_ref().map_or(0, |open| open.waiting.memory())
    }

    fn state_schema(&self) -> String {
        self.open.as_ref().map_or_else(String::new, |open| {
            format!("sort v1 ({})", open.waiting.shape())
        })
    }
}

#[cfg(test)]
mod tests;
