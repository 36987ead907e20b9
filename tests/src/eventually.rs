//! Waiting for a condition, with a bound.

use std::time::{Duration, Instant};

/// Asks every 20 ms until the answer is there; fails with `what` after `timeout`.
pub fn eventually<T>(
    what: &str,
    timeout: Duration,
    mut ask: impl FnMut() -> Option<T>,
) -> anyhow::Result<T> {
    let deadline = Instant::now() + timeout;
    loop {
        if let Some(answer) = ask() {
            return Ok(answer);
        }
        anyhow::ensure!(Instant::now() < deadline, "not within {timeout:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
