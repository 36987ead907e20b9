//! The pipeline of the fault tests: numbered records through Kafka into windows and running counts, with the answer worked out by hand.

use std::collections::BTreeMap;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::kafka::{create_topic, produce, read_committed};
use crate::rows::fold_debezium;

/// Size of a run.
#[derive(Debug, Clone)]
pub struct Stream {
    pub brokers: String,
    /// In front of the topics' names.
    pub name: String,
    pub records: u64,
    pub keys: u64,
    pub partitions: i32,
}

/// Event time between two records.
const STEP_MS: u64 = 5;
const WINDOW_MS: u64 = 10_000;

impl Stream {
    fn topic(&self, kind: &str) -> String {
        format!("{}-{kind}", self.name)
    }

    pub fn create_topics(&self) -> anyhow::Result<()> {
        create_topic(&self.brokers, &self.topic("in"), self.partitions)?;
        create_topic(&self.brokers, &self.topic("windows"), 2)?;
        create_topic(&self.brokers, &self.topic("counts"), 2)
    }

    fn key(&self, number: u64) -> u64 {
        // Not in step with the partitions.
        number.wrapping_mul(2_654_435_761) % self.keys
    }

    fn record(&self, number: u64) -> String {
        let ms = number * STEP_MS;
        let (seconds, fraction) = (ms / 1000, ms % 1000);
        let time = format!(
            "2026-01-{:02} {:02}:{:02}:{:02}.{fraction:03}",
            1 + seconds / 86_400,
            seconds / 3600 % 24,
            seconds / 60 % 60,
            seconds % 60
        );
        format!(
            "{{\"id\":{number},\"k\":{},\"v\":{},\"ts\":\"{time}\"}}",
            self.key(number),
            number % 97
        )
    }

    /// Writes all records over `duration`, evenly.
    pub fn produce(&self, duration: Duration) -> anyhow::Result<()> {
        self.produce_paced(duration, |_| ())
    }

    /// As [`Self::produce`], but the last records come only when `release` has something or is closed: until then the job goes on.
    pub fn produce_held(&self, duration: Duration, release: &Receiver<()>) -> anyhow::Result<()> {
        let held_from = self.records - self.records / 10;
        self.produce_paced(duration, |number| {
            if number == held_from {
                let _ = release.recv();
            }
        })
    }

    fn produce_paced(&self, duration: Duration, before: impl Fn(u64)) -> anyhow::Result<()> {
        let started = Instant::now();
        let pace = |number: u64| {
            before(number);
            if number.is_multiple_of(500) {
                let due = duration.mul_f64(number as f64 / self.records as f64);
                std::thread::sleep(due.saturating_sub(started.elapsed()));
            }
            number
        };
        let records = (0..self.records).map(|number| self.record(pace(number)));
        produce(&self.brokers, &self.topic("in"), self.partitions, records)
    }

    /// The SQL of the job; it ends when all records are read.
    pub fn script(&self, checkpoints: &str, interval: &str) -> String {
        self.script_with(checkpoints, interval, "", "")
    }

    /// With more statements in front, and more options of the sink that counts.
    pub fn script_with(
        &self,
        checkpoints: &str,
        interval: &str,
        settings: &str,
        counts_options: &str,
    ) -> String {
        let stops: Vec<String> = (0..self.partitions as u64)
            .map(|partition| {
                let count = (self.records + self.partitions as u64 - 1 - partition)
                    / self.partitions as u64;
                format!("partition:{partition},offset:{count}")
            })
            .collect();
        let kafka = |topic: &str| {
            format!(
                "'connector' = 'kafka', 'topic' = '{topic}', 'properties.bootstrap.servers' = '{}'",
                self.brokers
            )
        };
        let sink = |kind: &str, format: &str| {
            format!(
                "{}, 'format' = '{format}', 'sink.delivery-guarantee' = 'exactly-once', \
                 'sink.transactional-id-prefix' = '{}-{kind}'",
                kafka(&self.topic(kind)),
                self.name
            )
        };
        format!(
            "{settings}
             SET 'execution.checkpointing.interval' = '{interval}';
             SET 'execution.checkpointing.dir' = '{checkpoints}';
             SET 'restart-strategy.exponential-delay.initial-backoff' = '100 ms';
             SET 'restart-strategy.exponential-delay.max-backoff' = '1 s';
             CREATE TABLE input (id BIGINT, k BIGINT, v BIGINT, ts TIMESTAMP(3),
               WATERMARK FOR ts AS ts - INTERVAL '5' SECOND)
             WITH ({}, 'format' = 'json', 'scan.startup.mode' = 'earliest-offset',
               'scan.bounded.mode' = 'specific-offsets', 'scan.bounded.specific-offsets' = '{}');
             CREATE TABLE windows (k BIGINT, ws TIMESTAMP(3), n BIGINT, total BIGINT) WITH ({});
             CREATE TABLE counts (k BIGINT, n BIGINT, PRIMARY KEY (k) NOT ENFORCED) WITH ({});
             EXECUTE STATEMENT SET BEGIN
               INSERT INTO windows SELECT k, window_start, COUNT(*), SUM(v)
                 FROM TABLE(TUMBLE(TABLE input, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY k, window_start, window_end;
               INSERT INTO counts SELECT k, COUNT(*) FROM input GROUP BY k;
             END;",
            kafka(&self.topic("in")),
            stops.join(";"),
            sink("windows", "json"),
            sink("counts", "debezium-json") + counts_options,
        )
    }

    /// What a reader of committed records sees is exactly the answer.
    pub fn check(&self) -> anyhow::Result<()> {
        let windows = read_committed(
            &self.brokers,
            &self.topic("windows"),
            2,
            Duration::from_secs(120),
        )?;
        let mut expected: BTreeMap<(u64, u64), (u64, u64)> = BTreeMap::new();
        let mut counts: BTreeMap<u64, u64> = BTreeMap::new();
        for number in 0..self.records {
            let entry = expected
                .entry((self.key(number), number * STEP_MS / WINDOW_MS))
                .or_default();
            entry.0 += 1;
            entry.1 += number % 97;
            *counts.entry(self.key(number)).or_default() += 1;
        }
        for line in &windows {
            let row: Value = serde_json::from_str(line)?;
            let window = window_number(row["ws"].as_str().unwrap_or_default())?;
            let key = (row["k"].as_u64().unwrap_or(u64::MAX), window);
            let found = (
                row["n"].as_u64().unwrap_or(0),
                row["total"].as_u64().unwrap_or(0),
            );
            anyhow::ensure!(
                expected.remove(&key) == Some(found),
                "window {key:?} is {found:?}, or there twice: {line}"
            );
        }
        let missing: Vec<_> = expected
            .keys()
            .map(|(_, window)| window)
            .collect::<std::collections::BTreeSet<_>>()
            .into_iter()
            .collect();
        anyhow::ensure!(
            expected.is_empty(),
            "{} results are missing, of the windows {missing:?}",
            expected.len()
        );
        let changes = read_committed(
            &self.brokers,
            &self.topic("counts"),
            2,
            Duration::from_secs(120),
        )?;
        let rows = fold_debezium(&changes)?;
        anyhow::ensure!(
            rows.len() == counts.len(),
            "{} counts instead of {}",
            rows.len(),
            counts.len()
        );
        for row in rows {
            let key = row["k"].as_u64().unwrap_or(u64::MAX);
            anyhow::ensure!(
                counts.get(&key).copied() == row["n"].as_u64(),
                "count of key {key}: {row}, not {:?}",
                counts.get(&key)
            );
        }
        Ok(())
    }
}

/// Index of a window from its start, "2026-01-01 00:00:10".
fn window_number(start: &str) -> anyhow::Result<u64> {
    let number = |range: std::ops::Range<usize>| -> anyhow::Result<u64> {
        Ok(start
            .get(range)
            .ok_or_else(|| anyhow::anyhow!("not a time: {start}"))?
            .parse()?)
    };
    let seconds = (number(8..10)? - 1) * 86_400
        + number(11..13)? * 3600
        + number(14..16)? * 60
        + number(17..19)?;
    Ok(seconds * 1000 / WINDOW_MS)
}
