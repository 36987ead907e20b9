//! What the measurement needs of a cluster that runs the job.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const POLL: Duration = Duration::from_millis(200);

/// A running job on its task managers; everything ends when it is dropped.
pub(crate) trait Cluster {
    /// The newest one that is complete.
    fn newest_checkpoint(&mut self) -> anyhow::Result<Option<Checkpoint>>;

    /// Kills a task manager as `kill -9` does and starts another process in its place, with the same folder. The time of the kill
    /// in µs since 1970.
    fn kill(&mut self, task_manager: usize) -> anyhow::Result<i64>;

    /// Has the running job go on at this parallelism, and waits until it does.
    fn rescale(&mut self, parallelism: u32) -> anyhow::Result<()>;
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    pub(crate) id: u64,
    /// Of the whole job, what it shares with earlier ones included.
    pub(crate) state_bytes: u64,
}

/// The wall clock in µs since 1970: Flink's processes are killed by another program than Weir's.
pub(crate) fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    i64::try_from(since.unwrap_or_default().as_micros()).unwrap_or(i64::MAX)
}

/// Asks until there is an answer.
pub(crate) fn wait_until<T>(
    what: &str,
    timeout: Duration,
    mut ask: impl FnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let deadline = Instant::now() + timeout;
    loop {
        if let Some(answer) = ask()? {
            return Ok(answer);
        }
        anyhow::ensure!(
            Instant::now() < deadline,
            "waited {timeout:?} in vain for {what}"
        );
        std::thread::sleep(POLL);
    }
}
