//! 'sink.rows-per-second': any sink writes no faster than this, so that a job that catches up does not drown the system behind it.

use std::num::NonZeroU64;
use std::sync::Arc;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use weir_common::clock::Clock;
use weir_dataflow::{Batch, Committer, Deferred, Result, SinkWriter, SlotWaker};

use crate::context::SinkContext;
use crate::options::OptionReader;

/// The option. Of all subtasks of the sink together.
pub(crate) const ROWS_PER_SECOND: &str = "sink.rows-per-second";

/// The limit, if the table has one.
pub(crate) fn rows_per_second(options: &OptionReader<'_>) -> Result<Option<NonZeroU64>> {
    let Some(value) = options.text(ROWS_PER_SECOND) else {
        return Ok(None);
    };
    let limit = value.parse().map_err(|_| {
        options.invalid(
            ROWS_PER_SECOND,
            value,
            "a whole number above 0, like '10000'",
        )
    })?;
    Ok(Some(limit))
}

/// A writer that is not ready while the rows it took are ahead of their time.
pub(crate) struct Throttle {
    inner: Box<dyn SinkWriter>,
    /// Of this subtask.
    micros_per_row: f64,
    /// When what was taken so far is paid off. Time without rows gives no right to more of them later.
    free_from_micros: f64,
    clock: Clock,
    waker: SlotWaker,
    runtime: Handle,
    alarm: Option<JoinHandle<()>>,
}

impl Throttle {
    pub(crate) fn new(
        inner: Box<dyn SinkWriter>,
        limit: NonZeroU64,
        context: &SinkContext,
    ) -> Self {
        let parallelism = f64::from(context.info.parallelism.max(1));
        Self {
            inner,
            micros_per_row: 1e6 * parallelism / limit.get() as f64,
            free_from_micros: 0.0,
            clock: context.clock.clone(),
            waker: context.waker.clone(),
            runtime: context.runtime.clone(),
            alarm: None,
        }
    }

    fn now_micros(&self) -> f64 {
        self.clock.now_ms() as f64 * 1e3
    }

    fn wake_in(&mut self, micros: f64) {
        let alarm = self.alarm.as_ref();
        if alarm.is_some_and(|alarm| !alarm.is_finished()) {
            return;
        }
        let delay = std::time::Duration::from_micros(micros as u64);
        let waker = self.waker.clone();
        self.alarm = Some(self.runtime.spawn(async move {
            tokio::time::sleep(delay).await;
            waker.wake();
        }));
    }
}

impl SinkWriter for Throttle {
    fn ready(&mut self) -> Result<bool> {
        let wait = self.free_from_micros - self.now_micros();
        if wait > 0.0 {
            self.wake_in(wait);
            return Ok(false);
        }
        self.inner.ready()
    }

    /// What was written is with the system: a snapshot does not wait for the limit.
    fn can_prepare(&mut self) -> Result<bool> {
        self.inner.can_prepare()
    }

    fn write(&mut self, batch: &Batch) -> Result<()> {
        let from = self.free_from_micros.max(self.now_micros());
        self.free_from_micros = from + batch.num_rows() as f64 * self.micros_per_row;
        self.inner.write(batch)
    }

    fn prepare(&mut self, checkpoint_id: u64) -> Result<Deferred<Vec<Bytes>>> {
        self.inner.prepare(checkpoint_id)
    }

    fn committer(&self) -> Option<Arc<dyn Committer>> {
        self.inner.committer()
    }

    fn close(&mut self) {
        self.inner.close();
    }
}

impl Drop for Throttle {
    fn drop(&mut self) {
        if let Some(alarm) = &self.alarm {
            alarm.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::DataType;
    use weir_dataflow::testing::{batch, schema};

    use super::*;
    use crate::test_util::{sink, sink_context};

    #[test]
    fn rows_beyond_the_limit_have_to_wait_and_idle_time_is_not_saved_up() {
        let schema = schema(&[("a", DataType::Int32)]);
        let clock = Clock::manual(1000);
        let context = SinkContext {
            clock: clock.clone(),
            ..sink_context(Arc::clone(&schema), 0, 2)
        };
        // Two subtasks: five rows a second each.
        let spec = sink("blackhole", &[(ROWS_PER_SECOND, "10")]);
        let mut writer = crate::open_sink(&spec, context).unwrap();
        let rows = batch(&schema, "1\n2").unwrap();
        assert!(writer.ready().unwrap());
        writer.write(&rows).unwrap();
        assert!(!writer.ready().unwrap());
        assert!(writer.can_prepare().unwrap());
        clock.set(1399);
        assert!(!writer.ready().unwrap());
        clock.set(1400);
        assert!(writer.ready().unwrap());
        clock.set(60_000);
        writer.write(&rows).unwrap();
        clock.set(60_399);
        assert!(!writer.ready().unwrap());
    }

    #[test]
    fn a_limit_that_is_none_is_refused() {
        for value in ["0", "fast", "-1"] {
            let context = sink_context(schema(&[("a", DataType::Int32)]), 0, 1);
            let spec = sink("blackhole", &[(ROWS_PER_SECOND, value)]);
            let error = crate::open_sink(&spec, context).err().unwrap().to_string();
            assert!(error.contains("'sink.rows-per-second'"), "{error}");
        }
    }
}
