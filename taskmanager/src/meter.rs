//! What a subtask has done so far: for heartbeats and for Prometheus. Written by the slot's thread once a step, read by anyone.

use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use weir_common::ids::{JobId, SubtaskId};
use weir_common::metric_names as names;
use weir_proto::v1;
use weir_proto::v1::SubtaskState;

/// A number that Prometheus and the heartbeat both show.
struct Count {
    total: AtomicU64,
    exported: Counter,
}

impl Count {
    fn new(exported: Counter) -> Self {
        Self {
            total: AtomicU64::new(0),
            exported,
        }
    }

    fn add(&self, amount: u64) {
        if amount > 0 {
            self.total.fetch_add(amount, Ordering::Relaxed);
            self.exported.increment(amount);
        }
    }

    fn get(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }
}

/// Counters and state of one subtask.
pub struct Meter {
    subtask: SubtaskId,
    state: AtomicU8,
    records_in: Count,
    records_out: Count,
    bytes_in: Count,
    bytes_out: Count,
    busy: Span,
    backpressured: Span,
    idle: Span,
    watermark: AtomicI64,
    watermark_lag: Gauge,
    state_bytes: AtomicU64,
    state_gauge: Gauge,
    memory_bytes: AtomicU64,
    memory_gauge: Gauge,
    sync: Histogram,
}

/// Time in whole milliseconds, without losing what is shorter.
struct Span {
    count: Count,
    rest_micros: AtomicU64,
}

impl Span {
    fn new(exported: Counter) -> Self {
        Self {
            count: Count::new(exported),
            rest_micros: AtomicU64::new(0),
        }
    }

    /// By the slot's thread only.
    fn add(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let sum = self
            .rest_micros
            .load(Ordering::Relaxed)
            .saturating_add(micros);
        self.rest_micros.store(sum % 1000, Ordering::Relaxed);
        self.count.add(sum / 1000);
    }
}

impl Meter {
    /// All zero, in state DEPLOYING. `vertex` is the vertex' name.
    pub fn new(job: &JobId, vertex: &str, subtask: SubtaskId) -> Self {
        let labels = [
            ("job", job.to_string()),
            ("vertex", vertex.to_owned()),
            ("subtask", subtask.index.to_string()),
        ];
        let count = |name: &'static str| Count::new(counter!(name, &labels));
        let span = |name: &'static str| Span::new(counter!(name, &labels));
        Self {
            subtask,
            state: AtomicU8::new(SubtaskState::Deploying as u8),
            records_in: count(names::RECORDS_IN),
            records_out: count(names::RECORDS_OUT),
            bytes_in: count(names::BYTES_IN),
            bytes_out: count(names::BYTES_OUT),
            busy: span(names::BUSY),
            backpressured: span(names::BACKPRESSURED),
            idle: span(names::IDLE),
            watermark: AtomicI64::new(i64::MIN),
            watermark_lag: gauge!(names::WATERMARK_LAG, &labels),
            state_bytes: AtomicU64::new(0),
            state_gauge: gauge!(names::STATE_BYTES, &labels),
            memory_bytes: AtomicU64::new(0),
            memory_gauge: gauge!(names::WORKING_SET_BYTES, &labels),
            sync: histogram!(names::CHECKPOINT_SYNC, &labels[..2]),
        }
    }

    /// Current state.
    pub fn state(&self) -> SubtaskState {
        SubtaskState::try_from(i32::from(self.state.load(Ordering::Acquire)))
            .unwrap_or(SubtaskState::Unspecified)
    }

    /// Changes the state.
    pub fn set_state(&self, state: SubtaskState) {
        self.state.store(state as u8, Ordering::Release);
    }

    /// Rows and bytes that came in.
    pub fn count_in(&self, rows: u64, bytes: u64) {
        self.records_in.add(rows);
        self.bytes_in.add(bytes);
    }

    /// Rows and bytes that went out.
    pub fn count_out(&self, rows: u64, bytes: u64) {
        self.records_out.add(rows);
        self.bytes_out.add(bytes);
    }

    /// Time spent working.
    pub fn add_busy(&self, time: Duration) {
        self.busy.add(time);
    }

    /// Time spent waiting: for room, or for input.
    pub fn add_waiting(&self, time: Duration, backpressured: bool) {
        if backpressured {
            self.backpressured.add(time);
        } else {
            self.idle.add(time);
        }
    }

    /// The watermark that was last forwarded.
    pub fn set_watermark(&self, watermark: i64, now_ms: i64) {
        self.watermark.store(watermark, Ordering::Relaxed);
        if watermark != i64::MAX && watermark != i64::MIN {
            self.watermark_lag
                .set(now_ms.saturating_sub(watermark) as f64);
        }
    }

    /// Size of the keyed state.
    pub fn set_state_bytes(&self, bytes: u64) {
        self.state_bytes.store(bytes, Ordering::Relaxed);
        self.state_gauge.set(bytes as f64);
    }

    /// Size of the working sets in memory.
    pub fn set_memory_bytes(&self, bytes: u64) {
        self.memory_bytes.store(bytes, Ordering::Relaxed);
        self.memory_gauge.set(bytes as f64);
    }

    /// As last set.
    pub fn memory_bytes(&self) -> u64 {
        self.memory_bytes.load(Ordering::Relaxed)
    }

    /// How long a barrier held the stream up.
    pub fn record_cut(&self, time: Duration) {
        self.sync.record(time.as_secs_f64() * 1000.0);
    }

    /// For a heartbeat.
    pub fn status(&self) -> v1::SubtaskStatus {
        v1::SubtaskStatus {
            subtask: Some(self.subtask.into()),
            state: self.state().into(),
            metrics: Some(v1::SubtaskMetrics {
                records_in: self.records_in.get(),
                records_out: self.records_out.get(),
                bytes_in: self.bytes_in.get(),
                bytes_out: self.bytes_out.get(),
                busy_ms: self.busy.count.get(),
                backpressured_ms: self.backpressured.count.get(),
                idle_ms: self.idle.count.get(),
                watermark_ms: self.watermark.load(Ordering::Relaxed),
                state_bytes: self.state_bytes.load(Ordering::Relaxed),
                memory_bytes: self.memory_bytes(),
            }),
        }
    }
}
