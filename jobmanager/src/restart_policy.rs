//! Whether and when a failed job is started again. Pure: time and random number come with the call.

use std::time::Duration;

use weir_common::backoff::Backoff;
use weir_proto::v1;

/// No limit on restarts.
const UNLIMITED: u32 = u32::MAX;

/// What to do about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Start again, not at once.
    RestartAfter(Delays),
    /// The job has failed for good.
    GiveUp,
}

/// How long to wait before the next start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delays {
    /// After a failure of the job, which may come again at once: as the strategy says.
    pub failure: Duration,
    /// If a task manager is gone. The job itself is sound, so the time that it has run counts: it only must not start more often.
    pub loss: Duration,
}

/// Exponential delay with a limit; starts over after a time without failure.
#[derive(Debug, Clone)]
pub struct RestartPolicy {
    backoff: Backoff,
    max_attempts: u32,
    reset_after_ms: i64,
    failures: u32,
    running_since_ms: Option<i64>,
}

impl RestartPolicy {
    /// As the graph says. Flink's defaults where it says nothing: with checkpoints exponential delay without end, else none.
    pub fn of(graph: &v1::JobGraph) -> Self {
        let default = v1::RestartStrategy {
            initial_backoff_ms: 200,
            max_backoff_ms: 10_000,
            multiplier: 1.5,
            reset_after_ms: 60_000,
            max_attempts: match &graph.checkpoint {
                Some(checkpoint) if checkpoint.interval_ms > 0 => UNLIMITED,
                _ => 0,
            },
            jitter: 0.1,
        };
        let strategy = graph.restart.as_ref().unwrap_or(&default);
        Self {
            backoff: Backoff {
                initial: Duration::from_millis(strategy.initial_backoff_ms),
                max: Duration::from_millis(
                    strategy.max_backoff_ms.max(strategy.initial_backoff_ms),
                ),
                multiplier: strategy.multiplier.clamp(1.0, 1000.0),
                jitter: strategy.jitter.clamp(0.0, 1.0),
            },
            max_attempts: strategy.max_attempts,
            reset_after_ms: i64::try_from(strategy.reset_after_ms).unwrap_or(i64::MAX),
            failures: 0,
            running_since_ms: None,
        }
    }

    /// All subtasks run.
    pub fn running(&mut self, now_ms: i64) {
        self.running_since_ms = Some(now_ms);
    }

    /// The attempt failed. `random` is uniform in 0.0..1.0.
    pub fn failed(&mut self, now_ms: i64, random: f64) -> Decision {
        let ran_ms = self
            .running_since_ms
            .take()
            .map_or(0, |since| now_ms - since);
        let calm = ran_ms > 0 && ran_ms >= self.reset_after_ms;
        if calm {
            self.failures = 0;
        }
        if self.max_attempts != UNLIMITED && self.failures >= self.max_attempts {
            return Decision::GiveUp;
        }
        self.failures = self.failures.saturating_add(1);
        let failure = self.backoff.delay(self.failures, random);
        let ran = Duration::from_millis(u64::try_from(ran_ms).unwrap_or_default());
        Decision::RestartAfter(Delays {
            failure,
            loss: failure.saturating_sub(ran),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(max_attempts: u32) -> RestartPolicy {
        RestartPolicy::of(&v1::JobGraph {
            restart: Some(v1::RestartStrategy {
                initial_backoff_ms: 100,
                max_backoff_ms: 300,
                multiplier: 2.0,
                reset_after_ms: 1000,
                max_attempts,
                jitter: 0.0,
            }),
            ..Default::default()
        })
    }

    fn after(failure_ms: u64, loss_ms: u64) -> Decision {
        Decision::RestartAfter(Delays {
            failure: Duration::from_millis(failure_ms),
            loss: Duration::from_millis(loss_ms),
        })
    }

    #[test]
    fn the_delay_grows_to_its_limit_and_the_attempts_run_out() {
        let mut policy = policy(4);
        let decisions: Vec<_> = (0..5).map(|n| policy.failed(n, 0.5)).collect();
        assert_eq!(
            decisions,
            [
                after(100, 100),
                after(200, 200),
                after(300, 300),
                after(300, 300),
                Decision::GiveUp
            ]
        );
    }

    #[test]
    fn a_calm_run_starts_it_over_a_short_one_does_not() {
        let mut policy = policy(10);
        policy.failed(0, 0.5);
        policy.running(100);
        assert_eq!(policy.failed(1099, 0.5), after(200, 0));
        policy.running(2000);
        assert_eq!(policy.failed(3000, 0.5), after(100, 0));
    }

    #[test]
    fn the_time_that_the_job_has_run_is_not_waited_for_again_after_a_loss() {
        let mut policy = policy(10);
        policy.running(1000);
        assert_eq!(policy.failed(1030, 0.5), after(100, 70));
        // It did not get to run in between.
        assert_eq!(policy.failed(1200, 0.5), after(200, 200));
        policy.running(1300);
        assert_eq!(policy.failed(1700, 0.5), after(300, 0));
    }

    #[test]
    fn without_checkpoints_the_default_is_no_restart() {
        let mut graph = v1::JobGraph::default();
        assert_eq!(RestartPolicy::of(&graph).failed(0, 0.5), Decision::GiveUp);
        graph.checkpoint = Some(v1::CheckpointConfig {
            interval_ms: 1,
            ..Default::default()
        });
        assert_eq!(RestartPolicy::of(&graph).failed(0, 0.5), after(200, 200));
    }
}
