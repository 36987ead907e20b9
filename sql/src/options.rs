//! Settings of a session, under Flink's keys: which there are, what values they take, and what they mean for a job.

mod keys;
mod values;

use std::collections::BTreeMap;

use weir_common::key_group::{DEFAULT_KEY_GROUPS, MAX_KEY_GROUPS};
use weir_common::limits::PARALLELISM_MAX;
use weir_proto::v1::{AdaptiveScheduler, CheckpointConfig, RestartStrategy};

use crate::error::{Result, SqlError};

pub use values::parse_duration_ms;

/// Flink's key for the parallelism of a job's operators.
pub const PARALLELISM: &str = "parallelism.default";
const MAX_PARALLELISM: &str = "pipeline.max-parallelism";
const CHECKPOINT_INTERVAL: &str = "execution.checkpointing.interval";
const RESTART_TYPE: &str = "restart-strategy.type";
/// A strategy without a limit.
const NO_LIMIT: u32 = u32::MAX;
/// "Never", for the time after which a delay starts over.
const TEN_YEARS_MS: u64 = 10 * 365 * 86_400_000;

/// What SET has set, on top of the defaults that the session was started with. Every value is one that its key takes.
#[derive(Debug, Clone, Default)]
pub struct SessionOptions {
    defaults: BTreeMap<String, String>,
    values: BTreeMap<String, String>,
}

impl SessionOptions {
    /// With these in place of Flink's defaults; RESET goes back to them.
    ///
    /// # Errors
    /// An unknown key, or a value that its key does not take.
    pub fn with_defaults(defaults: &BTreeMap<String, String>) -> Result<Self> {
        let mut options = Self::default();
        for (key, value) in defaults {
            let (key, value) = keys::check(key, value)?;
            options.defaults.insert(key.to_owned(), value);
        }
        options.values = options.defaults.clone();
        Ok(options)
    }

    /// SET 'key' = 'value'
    ///
    /// # Errors
    /// An unknown key, with the nearest known one; a value that the key does not take; a setting that is not built.
    pub fn set(&mut self, key: &str, value: &str) -> Result<()> {
        let (key, value) = keys::check(key, value)?;
        self.values.insert(key.to_owned(), value);
        Ok(())
    }

    /// RESET 'key'
    ///
    /// # Errors
    /// An unknown key.
    pub fn reset(&mut self, key: &str) -> Result<()> {
        let key = keys::find(key)?;
        match self.defaults.get(key) {
            Some(default) => self.values.insert(key.to_owned(), default.clone()),
            None => self.values.remove(key),
        };
        Ok(())
    }

    /// RESET
    pub fn reset_all(&mut self) {
        self.values = self.defaults.clone();
    }

    /// The value as text: set, or default of the session. `None`: Flink's own default holds. Keys are Flink's newest names; an older name
    /// that was set stands under the newer one.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(String::as_str)
    }

    /// All that differ from Flink's defaults, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.values
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// What goes into the graph for operators and connectors to read.
    pub fn for_graph(&self) -> std::collections::HashMap<String, String> {
        self.values.clone().into_iter().collect()
    }

    /// 'table.exec.resource.default-parallelism', else 'parallelism.default', else 1.
    pub fn parallelism(&self) -> u32 {
        self.number("table.exec.resource.default-parallelism")
            .or_else(|| self.number(PARALLELISM))
            .unwrap_or(1)
            .clamp(1, PARALLELISM_MAX)
    }

    /// Number of key groups: 'pipeline.max-parallelism', else 128 or what a larger parallelism needs.
    ///
    /// # Errors
    /// If it is below the parallelism.
    pub fn max_parallelism(&self) -> Result<u32> {
        let parallelism = self.parallelism();
        match self.number(MAX_PARALLELISM) {
            Some(max) if max < parallelism => Err(SqlError::new(format!(
                "'{MAX_PARALLELISM}' is {max}, below the parallelism {parallelism}"
            ))),
            Some(max) => Ok(max),
            // Flink's rule: half as much again as the parallelism, as a power of two.
            None => Ok((parallelism + parallelism / 2)
                .next_power_of_two()
                .clamp(DEFAULT_KEY_GROUPS, MAX_KEY_GROUPS)),
        }
    }

    /// 'pipeline.name'
    pub fn pipeline_name(&self) -> Option<&str> {
        self.get("pipeline.name")
    }

    /// 'table.exec.state.ttl' in milliseconds; 0: kept for ever.
    pub fn state_ttl_ms(&self) -> u64 {
        self.millis("table.exec.state.ttl").unwrap_or(0)
    }

    /// 'table.local-time-zone', if it is not UTC.
    pub fn time_zone(&self) -> Option<&str> {
        self.get("table.local-time-zone")
            .filter(|zone| *zone != "UTC")
    }

    /// 'table.exec.source.idle-timeout' in milliseconds; 0: never idle.
    pub fn idle_timeout_ms(&self) -> u64 {
        self.millis("table.exec.source.idle-timeout").unwrap_or(0)
    }

    /// 'pipeline.auto-watermark-interval' in milliseconds.
    pub fn watermark_interval_ms(&self) -> u64 {
        self.millis("pipeline.auto-watermark-interval")
            .unwrap_or(200)
    }

    /// A setting that is 'true' or 'false'.
    pub fn flag(&self, key: &str, default: bool) -> bool {
        self.get(key).map_or(default, |value| value == "true")
    }

    /// A duration in milliseconds, if it is set.
    pub fn millis(&self, key: &str) -> Option<u64> {
        self.get(key)
            .and_then(|value| parse_duration_ms(value).ok())
    }

    fn number(&self, key: &str) -> Option<u32> {
        self.get(key).and_then(|value| value.parse().ok())
    }

    fn text(&self, key: &str) -> String {
        self.get(key).unwrap_or_default().to_owned()
    }

    /// The job's checkpoints. Without an interval there are none but savepoints.
    pub fn checkpoint(&self) -> CheckpointConfig {
        let tolerable = self.number("execution.checkpointing.tolerable-failed-checkpoints");
        CheckpointConfig {
            interval_ms: self.millis(CHECKPOINT_INTERVAL).unwrap_or(0),
            timeout_ms: self
                .millis("execution.checkpointing.timeout")
                .unwrap_or(600_000),
            min_pause_ms: self
                .millis("execution.checkpointing.min-pause")
                .unwrap_or(0),
            retained: self
                .number("execution.checkpointing.num-retained")
                .unwrap_or(1)
                .max(1),
            directory: self.text("execution.checkpointing.dir"),
            savepoint_directory: self.text("execution.checkpointing.savepoint-dir"),
            // Flink counts the failures that are borne, the graph the one that is not; 0 there means that all are borne.
            tolerable_failures: tolerable.map_or(0, |borne| borne.saturating_add(1)),
            unaligned: self.flag("execution.checkpointing.unaligned.enabled", false),
            aligned_timeout_ms: self
                .millis("execution.checkpointing.aligned-checkpoint-timeout")
                .unwrap_or(0),
        }
    }

    /// Whether and how the job's parallelism follows the slots there are: 'jobmanager.scheduler', 'scheduler-mode' and
    /// 'jobmanager.adaptive-scheduler.*'.
    ///
    /// # Errors
    /// If the number of key groups is refused.
    pub fn adaptive(&self) -> Result<Option<AdaptiveScheduler>> {
        let reactive = self.get("scheduler-mode").is_some();
        if !reactive && self.get("jobmanager.scheduler") != Some("adaptive") {
            return Ok(None);
        }
        let millis = |name: &str, default: u64| {
            let key = format!("jobmanager.adaptive-scheduler.{name}");
            self.millis(&key).unwrap_or(default)
        };
        let wait = if reactive { 0 } else { 10_000 };
        Ok(Some(AdaptiveScheduler {
            upper_bound: match reactive {
                true => self.max_parallelism()?.min(PARALLELISM_MAX),
                false => self.parallelism(),
            },
            submission_stabilization_ms: millis("submission.resource-stabilization-timeout", wait),
            executing_stabilization_ms: millis("executing.resource-stabilization-timeout", 60_000),
            cooldown_ms: millis("executing.cooldown-after-rescaling", 30_000),
        }))
    }

    /// What happens after a failure. As in Flink, a job without checkpoints is not restarted unless a strategy is set: it would begin anew.
    pub fn restart(&self) -> RestartStrategy {
        let checkpoints = self.millis(CHECKPOINT_INTERVAL).unwrap_or(0) > 0;
        let default = if checkpoints {
            "exponential-delay"
        } else {
            "none"
        };
        match self.get(RESTART_TYPE).unwrap_or(default) {
            "exponential-delay" => self.exponential_delay(),
            "fixed-delay" => self.fixed_delay(),
            _ => RestartStrategy {
                max_attempts: 0,
                multiplier: 1.0,
                ..RestartStrategy::default()
            },
        }
    }

    fn exponential_delay(&self) -> RestartStrategy {
        let key = |name: &str| format!("restart-strategy.exponential-delay.{name}");
        let float = |name: &str, default: f64| {
            let value = self.get(&key(name)).and_then(|value| value.parse().ok());
            value.unwrap_or(default)
        };
        RestartStrategy {
            initial_backoff_ms: self.millis(&key("initial-backoff")).unwrap_or(1000),
            max_backoff_ms: self.millis(&key("max-backoff")).unwrap_or(60_000),
            multiplier: float("backoff-multiplier", 1.5),
            reset_after_ms: self
                .millis(&key("reset-backoff-threshold"))
                .unwrap_or(3_600_000),
            max_attempts: self
                .number(&key("attempts-before-reset-backoff"))
                .unwrap_or(NO_LIMIT),
            jitter: float("jitter-factor", 0.1),
        }
    }

    fn fixed_delay(&self) -> RestartStrategy {
        let delay = self
            .millis("restart-strategy.fixed-delay.delay")
            .unwrap_or(1000);
        RestartStrategy {
            initial_backoff_ms: delay,
            max_backoff_ms: delay,
            multiplier: 1.0,
            reset_after_ms: TEN_YEARS_MS,
            max_attempts: self
                .number("restart-strategy.fixed-delay.attempts")
                .unwrap_or(1),
            jitter: 0.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(settings: &[(&str, &str)]) -> SessionOptions {
        let mut options = SessionOptions::default();
        for (key, value) in settings {
            options.set(key, value).unwrap();
        }
        options
    }

    #[test]
    fn reset_goes_back_to_the_sessions_defaults() {
        let defaults = [(PARALLELISM.to_owned(), "3".to_owned())].into();
        let mut options = SessionOptions::with_defaults(&defaults).unwrap();
        options.set(PARALLELISM, "8").unwrap();
        options.set("pipeline.name", "x").unwrap();
        assert_eq!(
            (options.parallelism(), options.pipeline_name()),
            (8, Some("x"))
        );
        options.reset(PARALLELISM).unwrap();
        options.reset("pipeline.name").unwrap();
        assert_eq!((options.parallelism(), options.pipeline_name()), (3, None));
    }

    #[test]
    fn older_names_stand_under_the_newer_ones() {
        let options = options(&[
            ("state.checkpoints.dir", "s3://b/c"),
            ("state.checkpoints.num-retained", "4"),
            ("restart-strategy", "fixed-delay"),
        ]);
        assert_eq!(options.checkpoint().directory, "s3://b/c");
        assert_eq!(options.checkpoint().retained, 4);
        assert_eq!(options.restart().max_attempts, 1);
    }

    #[test]
    fn without_checkpoints_nothing_is_restarted() {
        assert_eq!(options(&[]).restart().max_attempts, 0);
        let restart = options(&[(CHECKPOINT_INTERVAL, "10 s")]).restart();
        assert_eq!(
            (restart.max_attempts, restart.initial_backoff_ms),
            (NO_LIMIT, 1000)
        );
        let restart = options(&[(CHECKPOINT_INTERVAL, "10 s"), (RESTART_TYPE, "none")]).restart();
        assert_eq!(restart.max_attempts, 0);
    }

    #[test]
    fn the_parallelism_follows_the_slots_if_it_is_told_to() {
        let of = |settings: &[(&str, &str)]| options(settings).adaptive().unwrap();
        assert_eq!(of(&[(PARALLELISM, "4")]), None);
        assert_eq!(of(&[("jobmanager.scheduler", "DEFAULT")]), None);
        let adaptive = of(&[(PARALLELISM, "4"), ("jobmanager.scheduler", "Adaptive")]).unwrap();
        let expected = AdaptiveScheduler {
            upper_bound: 4,
            submission_stabilization_ms: 10_000,
            executing_stabilization_ms: 60_000,
            cooldown_ms: 30_000,
        };
        assert_eq!(adaptive, expected);
        let reactive = of(&[
            (PARALLELISM, "4"),
            ("scheduler-mode", "REACTIVE"),
            ("jobmanager.adaptive-scheduler.scaling-interval.min", "5 s"),
        ]);
        let expected = AdaptiveScheduler {
            upper_bound: DEFAULT_KEY_GROUPS,
            submission_stabilization_ms: 0,
            cooldown_ms: 5000,
            ..expected
        };
        assert_eq!(reactive, Some(expected));
    }

    #[test]
    fn a_borne_failure_is_one_below_the_one_that_is_not() {
        assert_eq!(options(&[]).checkpoint().tolerable_failures, 0);
        let key = "execution.checkpointing.tolerable-failed-checkpoints";
        assert_eq!(options(&[(key, "2")]).checkpoint().tolerable_failures, 3);
    }

    #[test]
    fn unaligned_checkpoints_are_off_and_have_no_patience_by_default() {
        let of = |settings: &[(&str, &str)]| {
            let checkpoint = options(settings).checkpoint();
            (checkpoint.unaligned, checkpoint.aligned_timeout_ms)
        };
        let enabled = ("execution.checkpointing.unaligned.enabled", "true");
        let timeout = "execution.checkpointing.aligned-checkpoint-timeout";
        assert_eq!(of(&[]), (false, 0));
        assert_eq!(of(&[enabled]), (true, 0));
        assert_eq!(of(&[enabled, (timeout, "30 s")]), (true, 30_000));
        let older = [
            ("execution.checkpointing.unaligned", "true"),
            ("execution.checkpointing.alignment-timeout", "1 s"),
        ];
        assert_eq!(of(&older), (true, 1000));
    }

    #[test]
    fn key_groups_grow_with_the_parallelism() {
        assert_eq!(options(&[]).max_parallelism().unwrap(), 128);
        assert_eq!(
            options(&[(PARALLELISM, "100")]).max_parallelism().unwrap(),
            256
        );
        let small = options(&[(PARALLELISM, "4"), (MAX_PARALLELISM, "2")]);
        assert!(small.max_parallelism().is_err());
    }
}
