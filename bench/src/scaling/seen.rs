//! What the task managers together have seen: all figures are taken where a cluster's user would notice, without a call to a job manager.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// See the file's head.
#[derive(Default)]
pub struct Seen {
    /// Registrations that were taken.
    pub registrations: AtomicU64,
    /// Deployments that came.
    pub deployments: AtomicU64,
    /// Bytes of the last deployment.
    pub deployment_bytes: AtomicU64,
    /// How long heartbeats took since they were last taken out.
    heartbeats: Mutex<Vec<Duration>>,
    checkpoints: Mutex<BTreeMap<u64, Checkpoint>>,
}

/// One checkpoint.
#[derive(Debug, Clone, Copy)]
pub struct Checkpoint {
    /// The first trigger came.
    triggered: Instant,
    acknowledged: Instant,
    acknowledgements: u64,
    told: Instant,
    /// Task managers that were told of its completion.
    notifications: u64,
}

impl Checkpoint {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            triggered: now,
            acknowledged: now,
            acknowledgements: 0,
            told: now,
            notifications: 0,
        }
    }

    /// From the first trigger until the last acknowledgement was answered.
    pub fn until_acknowledged(&self) -> Duration {
        self.acknowledged - self.triggered
    }

    /// From the first trigger until the last task manager was told that it is complete.
    pub fn until_complete(&self) -> Duration {
        self.told - self.triggered
    }

    /// Its acknowledgements.
    pub fn acknowledgements(&self) -> u64 {
        self.acknowledgements
    }
}

impl Seen {
    fn checkpoint(&self, id: u64, change: impl FnOnce(&mut Checkpoint)) {
        let mut checkpoints = self.checkpoints.lock();
        change(checkpoints.entry(id).or_insert_with(Checkpoint::new));
    }

    /// A trigger came.
    pub fn triggered(&self, id: u64) {
        self.checkpoint(id, |_| {});
    }

    /// Acknowledgements were answered.
    pub fn acknowledged(&self, id: u64, count: u64) {
        self.checkpoint(id, |checkpoint| {
            checkpoint.acknowledged = Instant::now();
            checkpoint.acknowledgements += count;
        });
    }

    /// A task manager was told that it is complete.
    pub fn completed(&self, id: u64) {
        self.checkpoint(id, |checkpoint| {
            checkpoint.told = Instant::now();
            checkpoint.notifications += 1;
        });
    }

    /// The newest one that so many task managers were told of.
    pub fn newest(&self, task_managers: u64) -> u64 {
        let complete = self.complete_after(0, task_managers);
        complete.last().map_or(0, |(id, _)| *id)
    }

    /// Those with a greater id that all task managers were told of, oldest first.
    pub fn complete_after(&self, id: u64, task_managers: u64) -> Vec<(u64, Checkpoint)> {
        let checkpoints = self.checkpoints.lock();
        let newer = checkpoints.range(id + 1..);
        newer
            .filter(|(_, checkpoint)| checkpoint.notifications >= task_managers)
            .map(|(id, checkpoint)| (*id, *checkpoint))
            .collect()
    }

    /// A heartbeat was answered after this time.
    pub fn heartbeat(&self, took: Duration) {
        self.heartbeats.lock().push(took);
    }

    /// How long heartbeats took since the last call, shortest first.
    pub fn take_heartbeats(&self) -> Vec<Duration> {
        let mut times = std::mem::take(&mut *self.heartbeats.lock());
        times.sort_unstable();
        times
    }

    /// Reads a counter.
    pub fn count(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::Relaxed)
    }
}
