//! The right to use the network, shared by all states of a process: so many files at once, and for uploads so many bytes a second.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt, stream};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use crate::Result;

/// See the module.
#[derive(Debug, Clone)]
pub struct Transfers {
    runtime: Handle,
    permits: Arc<Semaphore>,
    limit: usize,
    pace: Option<Arc<Mutex<Pace>>>,
}

impl Transfers {
    /// At most `limit` files at once are under way, on `runtime`.
    pub fn new(runtime: Handle, limit: usize) -> Self {
        let limit = limit.max(1);
        Self {
            runtime,
            permits: Arc::new(Semaphore::new(limit)),
            limit,
            pace: None,
        }
    }

    /// Uploads take no more than this on average; 0: no limit.
    #[must_use]
    pub fn with_upload_limit(mut self, bytes_a_second: u64) -> Self {
        let pace = |bytes_a_second| Arc::new(Mutex::new(Pace::new(bytes_a_second)));
        self.pace = (bytes_a_second > 0).then(|| pace(bytes_a_second));
        self
    }

    /// Files at once.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// Waits until so many bytes may be sent.
    pub(crate) async fn before_upload(&self, bytes: u64) {
        if let Some(pace) = &self.pace {
            let delay = pace.lock().delay(bytes, Instant::now());
            tokio::time::sleep(delay).await;
        }
    }

    /// Waits for one call of the object store. Blocks.
    pub(crate) fn wait<T>(&self, call: impl Future<Output = T>) -> T {
        self.runtime.block_on(call)
    }

    /// Does `transfer` for each item; the first error ends all. Blocks.
    pub(crate) fn run<T, R, F>(&self, items: Vec<T>, transfer: impl Fn(T) -> F) -> Result<Vec<R>>
    where
        F: Future<Output = Result<R>>,
    {
        let all = stream::iter(items)
            .map(|item| {
                let transfer = transfer(item);
                async {
                    // Never closed, so there is no error to tell.
                    let _permit = self.permits.acquire().await;
                    transfer.await
                }
            })
            .buffered(self.limit)
            .try_collect();
        self.runtime.block_on(all)
    }
}

/// Spreads uploads over time: each begins when those before it would be through at the agreed rate.
#[derive(Debug)]
struct Pace {
    bytes_a_second: u64,
    free_at: Option<Instant>,
}

impl Pace {
    fn new(bytes_a_second: u64) -> Self {
        Self {
            bytes_a_second,
            free_at: None,
        }
    }

    /// How long an upload of so many bytes has to wait.
    fn delay(&mut self, bytes: u64, now: Instant) -> Duration {
        let begin = self.free_at.map_or(now, |free_at| free_at.max(now));
        let seconds = bytes as f64 / self.bytes_a_second as f64;
        self.free_at = Some(begin + Duration::from_secs_f64(seconds));
        begin - now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uploads_wait_for_those_before_them_at_the_agreed_rate() {
        let start = Instant::now();
        let mut pace = Pace::new(1000);
        let second = Duration::from_secs(1);
        assert_eq!(pace.delay(2000, start), Duration::ZERO);
        assert_eq!(pace.delay(500, start), 2 * second);
        assert_eq!(pace.delay(500, start + second), second * 3 / 2);
        assert_eq!(pace.delay(1, start + 60 * second), Duration::ZERO);
    }
}
