//! Lets a generator emit so many events a second of wall time, and wakes the slot when the next ones are due.

use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use weir_common::clock::Clock;
use weir_dataflow::SlotWaker;

/// Events are let out in portions of this time: smaller ones cost more, larger ones are felt as latency.
const PORTION: Duration = Duration::from_millis(20);

/// Counts from its creation on: what was not emitted while the job was down is not caught up.
pub(crate) struct Pacer {
    per_second: u64,
    started_ms: i64,
    clock: Clock,
    waker: SlotWaker,
    runtime: Handle,
    alarm: Option<JoinHandle<()>>,
}

impl Pacer {
    pub(crate) fn new(per_second: u64, clock: Clock, waker: SlotWaker, runtime: Handle) -> Self {
        Self {
            per_second,
            started_ms: clock.now_ms(),
            clock,
            waker,
            runtime,
            alarm: None,
        }
    }

    /// Number of events that may have been emitted by now, since the creation.
    pub(crate) fn allowed(&self) -> u64 {
        let elapsed_ms = self.clock.now_ms().saturating_sub(self.started_ms).max(0) as u128;
        let events = elapsed_ms * u128::from(self.per_second) / 1000;
        u64::try_from(events).unwrap_or(u64::MAX)
    }

    /// The slot is woken when about the next portion is due, or the first event if that is later.
    pub(crate) fn wake_later(&mut self) {
        if self
            .alarm
            .as_ref()
            .is_some_and(|alarm| !alarm.is_finished())
        {
            return;
        }
        let one_event = Duration::from_nanos(1_000_000_000 / self.per_second.max(1));
        let delay = PORTION.max(one_event.min(Duration::from_secs(1)));
        let waker = self.waker.clone();
        self.alarm = Some(self.runtime.spawn(async move {
            tokio::time::sleep(delay).await;
            waker.wake();
        }));
    }
}

impl Drop for Pacer {
    fn drop(&mut self) {
        if let Some(alarm) = &self.alarm {
            alarm.abort();
        }
    }
}
