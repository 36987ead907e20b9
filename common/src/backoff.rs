//! Exponential delay with jitter and a limit: for retries and restarts alike.

use std::time::Duration;

/// How long to wait before attempt after attempt. Pure: the caller brings the random number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Backoff {
    /// Delay before the second attempt.
    pub initial: Duration,
    /// No delay is longer than this (before jitter).
    pub max: Duration,
    /// Factor from one delay to the next; at least 1.
    pub multiplier: f64,
    /// Share of the delay by which it is moved at random, 0.0..=1.0.
    pub jitter: f64,
}

impl Backoff {
    /// For calls to a peer: 50 ms to 2 s.
    pub const CALLS: Self = Self {
        initial: Duration::from_millis(50),
        max: Duration::from_secs(2),
        multiplier: 2.0,
        jitter: 0.3,
    };

    /// Delay after `failures` failures in a row (1 = the first). `random` is uniform in 0.0..1.0.
    pub fn delay(&self, failures: u32, random: f64) -> Duration {
        let exponent = i32::try_from(failures.saturating_sub(1)).unwrap_or(i32::MAX);
        let raw = self.initial.as_secs_f64() * self.multiplier.max(1.0).powi(exponent);
        let capped = raw.min(self.max.as_secs_f64());
        let moved = capped * (1.0 + self.jitter * (2.0 * random - 1.0));
        Duration::from_secs_f64(moved.clamp(0.0, 86_400.0))
    }

    /// As [`Self::delay`], with the thread's random number.
    pub fn delay_jittered(&self, failures: u32) -> Duration {
        self.delay(failures, rand::random::<f64>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_to_the_limit_and_stays() {
        let backoff = Backoff {
            jitter: 0.0,
            ..Backoff::CALLS
        };
        let delays: Vec<_> = [1, 2, 3, 100, u32::MAX]
            .iter()
            .map(|n| backoff.delay(*n, 0.5).as_millis())
            .collect();
        assert_eq!(delays, [50, 100, 200, 2000, 2000]);
    }

    #[test]
    fn jitter_moves_both_ways() {
        let backoff = Backoff {
            jitter: 0.5,
            ..Backoff::CALLS
        };
        assert_eq!(backoff.delay(1, 0.0), Duration::from_millis(25));
        assert_eq!(backoff.delay(1, 1.0), Duration::from_millis(75));
    }
}
