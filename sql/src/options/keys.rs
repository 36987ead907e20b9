//! The settings there are.

use super::values::{Kind, Refusal};
use crate::error::{Result, SqlError, nearest};

use Kind::{
    AtLeast, Duration, Flag, Float, Memory, OneOf, Only, Parallelism, Text, TimeZone, Unbuilt,
};

/// Flink's keys. A key whose only built value is Flink's default is here to be refused by name for the others.
const KEYS: &[(&str, Kind)] = &[
    ("parallelism.default", Parallelism),
    ("pipeline.name", Text),
    ("pipeline.max-parallelism", Parallelism),
    ("pipeline.object-reuse", Flag),
    (
        "pipeline.operator-chaining.enabled",
        Only("true", &["false"]),
    ),
    ("pipeline.auto-watermark-interval", Duration),
    (
        "execution.runtime-mode",
        Only("streaming", &["batch", "automatic"]),
    ),
    ("execution.attached", Flag),
    ("execution.checkpointing.interval", Duration),
    ("execution.checkpointing.timeout", Duration),
    ("execution.checkpointing.min-pause", Duration),
    (
        "execution.checkpointing.max-concurrent-checkpoints",
        Only("1", &["2", "3", "4", "5"]),
    ),
    (
        "execution.checkpointing.mode",
        OneOf(&["EXACTLY_ONCE", "AT_LEAST_ONCE"]),
    ),
    ("execution.checkpointing.num-retained", AtLeast(1)),
    ("execution.checkpointing.dir", Text),
    ("execution.checkpointing.savepoint-dir", Text),
    (
        "execution.checkpointing.storage",
        Only("filesystem", &["jobmanager"]),
    ),
    (
        "execution.checkpointing.tolerable-failed-checkpoints",
        AtLeast(0),
    ),
    (
        "execution.checkpointing.incremental",
        Only("true", &["false"]),
    ),
    ("execution.checkpointing.unaligned.enabled", Flag),
    (
        "execution.checkpointing.data-inline-threshold",
        Memory(1 << 20),
    ),
    (
        "execution.checkpointing.aligned-checkpoint-timeout",
        Duration,
    ),
    (
        "execution.checkpointing.unaligned.forced",
        Only("false", &["true"]),
    ),
    (
        "execution.checkpointing.externalized-checkpoint-retention",
        OneOf(&[
            "RETAIN_ON_CANCELLATION",
            "DELETE_ON_CANCELLATION",
            "NO_EXTERNALIZED_CHECKPOINTS",
        ]),
    ),
    (
        "execution.checkpointing.checkpoints-after-tasks-finish",
        Only("true", &["false"]),
    ),
    ("execution.state-recovery.path", Text),
    (
        "execution.state-recovery.claim-mode",
        OneOf(&["NO_CLAIM", "CLAIM"]),
    ),
    ("execution.state-recovery.ignore-unclaimed-state", Flag),
    ("state.backend.type", Only("rocksdb", &["hashmap", "forst"])),
    ("state.backend.rocksdb.memory.managed", Flag),
    ("state.backend.rocksdb.localdir", Text),
    ("state.backend.local-recovery", Flag),
    (
        "restart-strategy.type",
        OneOf(&["exponential-delay", "fixed-delay", "none"]),
    ),
    (
        "restart-strategy.exponential-delay.initial-backoff",
        Duration,
    ),
    ("restart-strategy.exponential-delay.max-backoff", Duration),
    (
        "restart-strategy.exponential-delay.backoff-multiplier",
        Float(1.0),
    ),
    (
        "restart-strategy.exponential-delay.reset-backoff-threshold",
        Duration,
    ),
    (
        "restart-strategy.exponential-delay.jitter-factor",
        Float(0.0),
    ),
    (
        "restart-strategy.exponential-delay.attempts-before-reset-backoff",
        AtLeast(0),
    ),
    ("restart-strategy.fixed-delay.attempts", AtLeast(0)),
    ("restart-strategy.fixed-delay.delay", Duration),
    (
        "jobmanager.scheduler",
        Kind::Built(&["default", "adaptive"], &["adaptivebatch"]),
    ),
    ("scheduler-mode", OneOf(&["reactive"])),
    (
        "jobmanager.adaptive-scheduler.submission.resource-stabilization-timeout",
        Duration,
    ),
    (
        "jobmanager.adaptive-scheduler.submission.resource-wait-timeout",
        Unbuilt,
    ),
    (
        "jobmanager.adaptive-scheduler.executing.resource-stabilization-timeout",
        Duration,
    ),
    (
        "jobmanager.adaptive-scheduler.executing.cooldown-after-rescaling",
        Duration,
    ),
    (
        "jobmanager.adaptive-scheduler.rescale-trigger.max-delay",
        Unbuilt,
    ),
    (
        "jobmanager.adaptive-scheduler.rescale-trigger.max-checkpoint-failures",
        Unbuilt,
    ),
    (
        "jobmanager.adaptive-scheduler.min-parallelism-increase",
        Unbuilt,
    ),
    (
        "jobmanager.adaptive-scheduler.scaling-interval.max",
        Unbuilt,
    ),
    (
        "jobmanager.adaptive-scheduler.prefer-minimal-taskmanagers",
        Unbuilt,
    ),
    ("table.local-time-zone", TimeZone),
    ("table.sql-dialect", Only("default", &["hive"])),
    ("table.dml-sync", Flag),
    ("table.exec.state.ttl", Duration),
    ("table.exec.source.idle-timeout", Duration),
    ("table.exec.source.cdc-events-duplicate", Flag),
    ("table.exec.mini-batch.enabled", Flag),
    ("table.exec.mini-batch.allow-latency", Duration),
    ("table.exec.mini-batch.size", AtLeast(1)),
    (
        "table.exec.sink.not-null-enforcer",
        OneOf(&["ERROR", "DROP"]),
    ),
    (
        "table.exec.sink.nested-constraint-enforcer",
        Only("IGNORE", &["ROWS", "ROWS_AND_COLLECTIONS"]),
    ),
    (
        "table.exec.sink.upsert-materialize",
        OneOf(&["AUTO", "NONE"]),
    ),
    (
        "table.exec.sink.type-length-enforcer",
        OneOf(&["IGNORE", "TRIM_PAD", "ERROR"]),
    ),
    ("table.exec.resource.default-parallelism", Parallelism),
    (
        "table.optimizer.agg-phase-strategy",
        OneOf(&["AUTO", "ONE_PHASE", "TWO_PHASE"]),
    ),
    ("table.optimizer.distinct-agg.split.enabled", Flag),
    ("table.optimizer.distinct-agg.split.bucket-num", AtLeast(1)),
    ("table.optimizer.reuse-sub-plan-enabled", Flag),
    ("table.optimizer.reuse-source-enabled", Flag),
    ("table.optimizer.reuse-sink-enabled", Flag),
    ("table.optimizer.incremental-agg-enabled", Flag),
    ("table.optimizer.join-reorder-enabled", Flag),
    ("table.optimizer.multi-join.enabled", Flag),
    (
        "table.optimizer.delta-join.strategy",
        Kind::Built(&["AUTO", "NONE"], &["FORCE"]),
    ),
    (
        "table.optimizer.non-deterministic-update.strategy",
        OneOf(&["IGNORE", "TRY_RESOLVE"]),
    ),
    ("table.optimizer.source.predicate-pushdown-enabled", Flag),
    ("table.optimizer.source.aggregate-pushdown-enabled", Flag),
    (
        "table.dynamic-table-options.enabled",
        Only("true", &["false"]),
    ),
    ("table.exec.simplify-operator-name-enabled", Flag),
    ("table.exec.rank.topn-cache-size", AtLeast(0)),
    ("table.exec.window-agg.buffer-size-limit", AtLeast(0)),
    (
        "table.exec.deduplicate.mini-batch.compact-changes-enabled",
        Flag,
    ),
    (
        "table.exec.legacy-cast-behaviour",
        Only("DISABLED", &["ENABLED"]),
    ),
    ("table.plan.force-recompile", Flag),
    ("taskmanager.memory.managed.size", Memory(u64::MAX)),
    (
        "sql-client.execution.result-mode",
        OneOf(&["table", "changelog", "tableau"]),
    ),
    ("sql-client.execution.max-table-result.rows", AtLeast(1)),
    ("sql-client.display.max-column-width", AtLeast(1)),
    ("sql-client.verbose", Flag),
];

/// Names that a key had in an older Flink, and in some cases its values.
const OLDER: &[(&str, &str)] = &[
    ("state.checkpoints.dir", "execution.checkpointing.dir"),
    (
        "state.checkpoints.num-retained",
        "execution.checkpointing.num-retained",
    ),
    (
        "state.savepoints.dir",
        "execution.checkpointing.savepoint-dir",
    ),
    (
        "state.checkpoint-storage",
        "execution.checkpointing.storage",
    ),
    (
        "state.storage.fs.memory-threshold",
        "execution.checkpointing.data-inline-threshold",
    ),
    ("state.backend", "state.backend.type"),
    (
        "state.backend.incremental",
        "execution.checkpointing.incremental",
    ),
    (
        "execution.checkpointing.alignment-timeout",
        "execution.checkpointing.aligned-checkpoint-timeout",
    ),
    (
        "execution.checkpointing.unaligned",
        "execution.checkpointing.unaligned.enabled",
    ),
    (
        "execution.checkpointing.externalized-checkpoint-retention.mode",
        "execution.checkpointing.externalized-checkpoint-retention",
    ),
    (
        "execution.checkpointing.checkpoints-after-tasks-finish.enabled",
        "execution.checkpointing.checkpoints-after-tasks-finish",
    ),
    ("execution.savepoint.path", "execution.state-recovery.path"),
    (
        "execution.savepoint-restore-mode",
        "execution.state-recovery.claim-mode",
    ),
    (
        "execution.savepoint.ignore-unclaimed-state",
        "execution.state-recovery.ignore-unclaimed-state",
    ),
    (
        "jobmanager.adaptive-scheduler.resource-stabilization-timeout",
        "jobmanager.adaptive-scheduler.submission.resource-stabilization-timeout",
    ),
    (
        "jobmanager.adaptive-scheduler.resource-wait-timeout",
        "jobmanager.adaptive-scheduler.submission.resource-wait-timeout",
    ),
    (
        "jobmanager.adaptive-scheduler.scaling-interval.min",
        "jobmanager.adaptive-scheduler.executing.cooldown-after-rescaling",
    ),
    ("restart-strategy", "restart-strategy.type"),
    (
        "pipeline.operator-chaining",
        "pipeline.operator-chaining.enabled",
    ),
];

/// The key as it is kept.
pub(super) fn find(key: &str) -> Result<&'static str> {
    entry(key).map(|(key, _)| key)
}

fn entry(key: &str) -> Result<(&'static str, Kind)> {
    let key = key.trim();
    let newer = OLDER
        .iter()
        .find(|(older, _)| *older == key)
        .map_or(key, |(_, newer)| newer);
    KEYS.iter()
        .find(|(known, _)| *known == newer)
        .copied()
        .ok_or_else(|| {
            let known = KEYS.iter().map(|(known, _)| *known);
            let error = SqlError::new(format!("unknown option '{key}'"));
            match nearest(key, known.chain(OLDER.iter().map(|(older, _)| *older))) {
                Some(near) => error.hint(format!("did you mean '{near}'?")),
                None => {
                    error.hint("SET lists the options that are set, docs/sql.md those there are")
                }
            }
        })
}

/// Key and value as they are kept.
pub(super) fn check(key: &str, value: &str) -> Result<(&'static str, String)> {
    let (known, kind) = entry(key)?;
    let value = older_value(known, value);
    match kind.check(value) {
        Ok(value) => Ok((known, value)),
        Err(Refusal::Wrong(wanted)) => Err(SqlError::new(format!(
            "'{}' is not a value of the option '{}': it takes {wanted}",
            value.trim(),
            key.trim()
        ))),
        Err(Refusal::Unsupported) => Err(SqlError::unsupported(format!(
            "'{}' = '{}'",
            key.trim(),
            value.trim()
        ))),
    }
}

/// Other spellings that Flink takes.
fn older_value<'a>(key: &str, value: &'a str) -> &'a str {
    match (key, value.trim().to_ascii_lowercase().as_str()) {
        ("restart-strategy.type", "off" | "disable") => "none",
        ("restart-strategy.type", "exponentialdelay") => "exponential-delay",
        ("restart-strategy.type", "fixeddelay") => "fixed-delay",
        ("table.local-time-zone", "gmt" | "etc/utc" | "z" | "utc+00:00" | "+00:00" | "default") => {
            "UTC"
        }
        _ => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(key: &str, value: &str) -> String {
        check(key, value).unwrap_err().to_string()
    }

    #[test]
    fn an_unknown_key_is_refused_with_the_nearest() {
        assert_eq!(
            message("execution.checkpointing.intervall", "10 s"),
            "unknown option 'execution.checkpointing.intervall'; did you mean 'execution.checkpointing.interval'?"
        );
        assert!(message("foo", "bar").starts_with("unknown option 'foo'; SET lists"));
    }

    #[test]
    fn a_wrong_value_says_what_the_key_takes() {
        assert_eq!(
            message("execution.checkpointing.interval", "soon"),
            "'soon' is not a value of the option 'execution.checkpointing.interval': it takes a duration like '10 s', '500 ms', '1 min', '2 h' or '1 d'"
        );
        assert_eq!(
            message("restart-strategy.type", "failure-rate"),
            "'failure-rate' is not a value of the option 'restart-strategy.type': it takes one of 'exponential-delay', 'fixed-delay', 'none'"
        );
    }

    #[test]
    fn what_is_not_built_is_refused_by_name() {
        assert_eq!(
            message("execution.runtime-mode", "BATCH"),
            "'execution.runtime-mode' = 'BATCH' is not supported yet"
        );
        assert!(check("execution.runtime-mode", "STREAMING").is_ok());
        assert!(message("state.backend", "hashmap").contains("not supported yet"));
        for (key, value) in [
            ("jobmanager.scheduler", "AdaptiveBatch"),
            ("jobmanager.adaptive-scheduler.resource-wait-timeout", "-1"),
        ] {
            assert!(message(key, value).contains("not supported yet"));
        }
    }

    #[test]
    fn every_older_name_leads_to_a_key() {
        for (older, newer) in OLDER {
            assert_eq!(find(older).unwrap(), *newer);
        }
    }
}
