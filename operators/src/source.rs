//! The head of a source chain: polls the reader, computes columns, generates the watermark, filters.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, TimestampMillisecondArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, TimeUnit, TimestampMillisecondType};
use datafusion_physical_expr::PhysicalExpr;
use weir_dataflow::schema::decode_schema;
use weir_dataflow::{
    Batch, Error, OpenContext, OperatorStates, Output, Result, SnapshotPart, SourceEvent,
    SourceReader,
};
use weir_expr::eval::Projector;
use weir_proto::v1;
use weir_proto::v1::operator_state::Redistribution;

use crate::calc::{apply_filter, decode, decode_projection, expression_error};
use crate::watermark::{EagerWatermarks, SplitWatermarks};

/// Name of the list that holds one item a split.
pub const SPLITS: &str = "splits";

/// What a poll did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceStatus {
    /// Something was read; poll again at once.
    Emitted,
    /// Nothing now; the reader wakes the slot.
    Pending,
    /// All splits have ended, or the source was stopped.
    EndOfData,
}

/// Runs a connector's reader. The connector gets the restored items of [`SPLITS`] when it is opened by the caller.
pub struct SourceOperator {
    spec: v1::Source,
    reader: Box<dyn SourceReader>,
    projector: Option<Projector>,
    filter: Option<Arc<dyn PhysicalExpr>>,
    watermark_expr: Option<Arc<dyn PhysicalExpr>>,
    watermarks: SplitWatermarks,
    eager: Option<EagerWatermarks>,
    /// What follows behind the next watermark.
    rest: Option<Rest>,
    stopped: bool,
    ended: bool,
    read: RowsRead,
}

/// A batch of which a part is emitted.
struct Rest {
    split: u32,
    batch: Batch,
    times: TimestampMillisecondArray,
    watermarks: TimestampMillisecondArray,
    /// First row that is not emitted.
    from: usize,
}

/// What came from the connector, before the filter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RowsRead {
    /// Records.
    pub rows: u64,
    /// Their Arrow bytes.
    pub bytes: u64,
}

impl SourceOperator {
    /// Wraps an opened reader.
    pub fn new(spec: v1::Source, reader: Box<dyn SourceReader>) -> Self {
        let watermark = spec.watermark.as_ref();
        let idle_timeout_ms = watermark.map_or(0, |watermark| watermark.idle_timeout_ms);
        let eager_interval_ms = watermark.and_then(|watermark| watermark.eager_interval_ms);
        Self {
            spec,
            reader,
            projector: None,
            filter: None,
            watermark_expr: None,
            watermarks: SplitWatermarks::new(idle_timeout_ms),
            eager: eager_interval_ms.map(EagerWatermarks::new),
            rest: None,
            stopped: false,
            ended: false,
            read: RowsRead::default(),
        }
    }

    /// Decodes the expressions.
    pub fn open(&mut self, context: &OpenContext) -> Result<()> {
        let read = decode_schema(&self.spec.read_schema)?;
        let output = &context.output_schema;
        if !self.spec.projection.is_empty() {
            self.projector = Some(decode_projection(&self.spec.projection, &read, output)?);
        }
        self.filter = self
            .spec
            .filter
            .as_ref()
            .map(|expr| decode(expr, output))
            .transpose()?;
        let watermark = self.spec.watermark.as_ref();
        self.watermark_expr = watermark
            .and_then(|spec| spec.expr.as_ref())
            .map(|expr| decode(expr, output))
            .transpose()?;
        Ok(())
    }

    /// Reads once. Emits at most one batch. Here as below, `now_ms` is of a clock that stands still while nothing can be read.
    pub fn poll(&mut self, out: &mut dyn Output, now_ms: i64) -> Result<SourceStatus> {
        if let Some(rest) = self.rest.take() {
            self.emit_part(rest, out, now_ms)?;
            return Ok(SourceStatus::Emitted);
        }
        if self.stopped || self.ended {
            return Ok(SourceStatus::EndOfData);
        }
        match self.reader.poll()? {
            SourceEvent::Batch { split, batch } => {
                self.read.rows += batch.num_rows() as u64;
                self.read.bytes += batch.memory_bytes() as u64;
                self.emit(split, batch, out, now_ms)?;
                Ok(SourceStatus::Emitted)
            }
            SourceEvent::SplitStarted(split) => {
                self.watermarks.start(split, now_ms);
                Ok(SourceStatus::Emitted)
            }
            SourceEvent::SplitFinished(split) => {
                self.watermarks.finish(split);
                Ok(SourceStatus::Emitted)
            }
            SourceEvent::Pending => Ok(SourceStatus::Pending),
            SourceEvent::EndOfData => {
                self.ended = true;
                Ok(SourceStatus::EndOfData)
            }
        }
    }

    fn emit(&mut self, split: u32, batch: Batch, out: &mut dyn Output, now_ms: i64) -> Result<()> {
        let projected = match &self.projector {
            Some(projector) => {
                batch.with_data(projector.apply(batch.data()).map_err(expression_error)?)?
            }
            None => batch,
        };
        let Some(expr) = &self.watermark_expr else {
            return self.emit_filtered(projected, out);
        };
        let watermarks =
            weir_expr::eval::evaluate(expr.as_ref(), projected.data()).map_err(expression_error)?;
        let watermarks = millis(&watermarks)?;
        if self.eager.is_some() {
            let column = self.spec.watermark.as_ref().map_or(0, |w| w.time_column);
            let rest = Rest {
                split,
                times: millis(projected.data().column(column as usize))?,
                batch: projected,
                watermarks,
                from: 0,
            };
            return self.emit_part(rest, out, now_ms);
        }
        let largest = arrow::compute::max(&watermarks);
        self.watermarks.advance(split, largest, now_ms);
        self.emit_filtered(projected, out)
    }

    /// Up to the next row that the rows in front of it make late, or all that is left.
    fn emit_part(&mut self, mut rest: Rest, out: &mut dyn Output, now_ms: i64) -> Result<()> {
        let (times, watermarks) = (rest.times.iter(), rest.watermarks.iter());
        let cut = self
            .eager
            .as_mut()
            .and_then(|eager| eager.next_cut(rest.from, times, watermarks));
        let (end, watermark) = match cut {
            Some((row, watermark)) => (row, Some(watermark)),
            None => (rest.batch.num_rows(), arrow::compute::max(&rest.watermarks)),
        };
        self.watermarks.advance(rest.split, watermark, now_ms);
        let whole = rest.from == 0 && cut.is_none();
        let part = match whole {
            true => rest.batch.clone(),
            false => rest.batch.slice(rest.from, end - rest.from),
        };
        rest.from = end;
        self.rest = cut.map(|_| rest);
        if part.num_rows() == 0 {
            return Ok(());
        }
        self.emit_filtered(part, out)
    }

    fn emit_filtered(&self, batch: Batch, out: &mut dyn Output) -> Result<()> {
        out.emit(match &self.filter {
            Some(filter) => apply_filter(filter, batch)?,
            None => batch,
        })
    }

    /// A batch is emitted in part: to be polled on behind the watermark, before anything else is done. Its position counts as read.
    pub fn has_rest(&self) -> bool {
        self.rest.is_some()
    }

    /// What was read since the last call.
    pub fn take_read(&mut self) -> RowsRead {
        std::mem::take(&mut self.read)
    }

    /// The watermark, if it has grown since the last call. None for a table without WATERMARK.
    pub fn take_watermark(&mut self, now_ms: i64) -> Option<i64> {
        self.watermark_expr.as_ref()?;
        self.watermarks.take_advance(now_ms)
    }

    /// No split is active: this subtask does not hold the watermark back.
    pub fn is_idle(&self, now_ms: i64) -> bool {
        self.watermark_expr.is_some()
            && !self.reader.is_discovering()
            && self.watermarks.is_idle(now_ms)
    }

    /// Whether it was ended by [`Self::stop`] rather than by its input: no last watermark follows then.
    pub fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// Reads nothing more; what was polled stays as it is.
    pub fn stop(&mut self) {
        self.stopped = true;
    }

    /// The positions of the splits at the cut.
    pub fn snapshot(&mut self) -> Result<SnapshotPart> {
        let mut states = OperatorStates::default();
        states.put(SPLITS, Redistribution::Union, self.reader.snapshot()?);
        Ok(SnapshotPart {
            states,
            deferred: None,
        })
    }

    /// Tells the reader.
    pub fn checkpoint_completed(&mut self, checkpoint_id: u64) -> Result<()> {
        self.reader.checkpoint_completed(checkpoint_id)
    }

    /// Closes the reader.
    pub fn close(&mut self) {
        self.reader.close();
    }
}

/// Timestamps in milliseconds, rounded down.
fn millis(times: &ArrayRef) -> Result<TimestampMillisecondArray> {
    let zone = match times.data_type() {
        DataType::Timestamp(_, zone) => zone.clone(),
        other => {
            return Err(Error::Config(format!(
                "the watermark expression gives {other}, not a timestamp"
            )));
        }
    };
    let millis = match times.data_type() {
        DataType::Timestamp(TimeUnit::Millisecond, _) => Arc::clone(times),
        _ => cast(times, &DataType::Timestamp(TimeUnit::Millisecond, zone))?,
    };
    Ok(millis.as_primitive::<TimestampMillisecondType>().clone())
}
