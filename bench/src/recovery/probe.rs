//! Sends records for some keys all the time, and notes when the job's output for them arrives.
//!
//! After a restart a job repeats what it had done since its last checkpoint. Only output that shows a later time of sending than any before
//! counts as new.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use parking_lot::Mutex;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::topic_partition_list::Offset;
use serde::Deserialize;
use weir_bench::broker::client;

use crate::cluster::now_us;
use crate::job::{Job, TEXT};
use crate::report::Kill;

/// So many keys, spread over all: on each task manager lie some.
const KEYS: u64 = 60;
const INTERVAL: Duration = Duration::from_millis(20);
const FLUSH_TIMEOUT: Duration = Duration::from_secs(10);

/// What was seen of one key.
#[derive(Debug, Default)]
struct Seen {
    /// The newest time of sending.
    newest_us: i64,
    /// The generator's row is in.
    filled: bool,
    /// When new output came.
    arrivals_us: Vec<i64>,
}

impl Seen {
    fn take(&mut self, row: &Row, arrived_us: i64) -> anyhow::Result<()> {
        if row.t <= self.newest_us {
            return Ok(());
        }
        let filled = row.filled.is_some_and(|length| length == TEXT);
        anyhow::ensure!(
            filled || !self.filled,
            "key {} has lost its text: the state is not what it was",
            row.k
        );
        self.newest_us = row.t;
        self.filled = filled;
        self.arrivals_us.push(arrived_us);
        Ok(())
    }
}

/// Debezium's envelope; retractions have no `after`.
#[derive(Debug, Deserialize)]
struct Change {
    after: Option<Row>,
}

#[derive(Debug, Deserialize)]
struct Row {
    k: i64,
    t: i64,
    filled: Option<u64>,
}

type Shared = Arc<Mutex<BTreeMap<i64, Seen>>>;

/// The two threads.
pub(crate) struct Probes {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<anyhow::Result<()>>>,
    seen: Shared,
}

impl Probes {
    pub(crate) fn start(job: &Job) -> anyhow::Result<Self> {
        let keys = KEYS.min(job.rows());
        let keys: Vec<i64> = (0..keys)
            .map(|n| i64::try_from(n * job.rows() / keys))
            .collect::<Result<_, _>>()?;
        let seen = keys.iter().map(|key| (*key, Seen::default())).collect();
        let seen: Shared = Arc::new(Mutex::new(seen));
        let stop = Arc::new(AtomicBool::new(false));
        let partitions = i32::try_from(job.shape.task_managers)?;
        let consumer = consumer(job.results(), partitions)?;
        let producer: ThreadedProducer<DefaultProducerContext> =
            client().set("linger.ms", "0").create()?;
        let (topic, stopped) = (job.probes().to_owned(), Arc::clone(&stop));
        let sender =
            std::thread::spawn(move || send(&producer, (&topic, partitions), &keys, &stopped));
        let (own, stopped) = (Arc::clone(&seen), Arc::clone(&stop));
        let reader = std::thread::spawn(move || receive(&consumer, &own, &stopped));
        Ok(Self {
            stop,
            threads: vec![sender, reader],
            seen,
        })
    }

    /// An error if a thread has ended.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        let ended = self.threads.iter().any(JoinHandle::is_finished);
        anyhow::ensure!(!ended, "sending or receiving has ended");
        Ok(())
    }

    /// All keys have the generator's row.
    pub(crate) fn all_filled(&self) -> bool {
        self.seen.lock().values().all(|seen| seen.filled)
    }

    /// What was seen so far does not count for the next outage, but for the last arrival of each key.
    pub(crate) fn forget_arrivals(&self) {
        for seen in self.seen.lock().values_mut() {
            let old = seen.arrivals_us.len().saturating_sub(1);
            seen.arrivals_us.drain(..old);
        }
    }

    /// When output came again after the kill.
    pub(crate) fn outage(&self, killed_us: i64) -> anyhow::Result<Kill> {
        let seen = self.seen.lock();
        let ends = seen.iter().map(|(key, seen)| {
            end_of_outage(&seen.arrivals_us, killed_us)
                .with_context(|| format!("nothing new came for key {key} after the kill"))
        });
        let ends = ends.collect::<anyhow::Result<Vec<i64>>>()?;
        let seconds = |end: Option<&i64>| {
            end.map(|end| (end - killed_us) as f64 / 1e6)
                .context("there are no keys")
        };
        Ok(Kill {
            first_s: seconds(ends.iter().min())?,
            all_s: seconds(ends.iter().max())?,
        })
    }

    /// The longest time that any key was without new output since then, in seconds.
    pub(crate) fn longest_gap_s(&self, since_us: i64) -> anyhow::Result<f64> {
        let seen = self.seen.lock();
        let gaps = seen.iter().map(|(key, seen)| {
            longest_gap(&seen.arrivals_us, since_us)
                .with_context(|| format!("nothing new came for key {key}"))
        });
        let gaps = gaps.collect::<anyhow::Result<Vec<i64>>>()?;
        let longest = gaps.into_iter().max().context("there are no keys")?;
        Ok(longest as f64 / 1e6)
    }

    /// Ends the threads; their error if they had one.
    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let ended = thread.join();
            ended.map_err(|_| anyhow::anyhow!("a thread panicked"))??;
        }
        Ok(())
    }
}

impl Drop for Probes {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // On the way out because of another error.
            let _ = thread.join();
        }
    }
}

/// Where the longest pause ends that was not over at the kill. Task managers that live go on for a moment, until they hear of the loss.
fn end_of_outage(arrivals_us: &[i64], killed_us: i64) -> Option<i64> {
    arrivals_us
        .windows(2)
        .filter(|pair| pair[1] > killed_us)
        .max_by_key(|pair| pair[1] - pair[0].max(killed_us))
        .map(|pair| pair[1])
}

/// Between two arrivals of which the second is behind `since_us`.
fn longest_gap(arrivals_us: &[i64], since_us: i64) -> Option<i64> {
    let pairs = arrivals_us.windows(2).filter(|pair| pair[1] > since_us);
    pairs.map(|pair| pair[1] - pair[0]).max()
}

fn consumer(topic: &str, partitions: i32) -> anyhow::Result<BaseConsumer> {
    let consumer: BaseConsumer = client()
        .set("group.id", "recovery")
        .set("isolation.level", "read_uncommitted")
        .set("enable.auto.commit", "false")
        .set("fetch.wait.max.ms", "10")
        .create()?;
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions {
        list.add_partition_offset(topic, partition, Offset::Beginning)?;
    }
    consumer.assign(&list)?;
    Ok(consumer)
}

fn send(
    producer: &ThreadedProducer<DefaultProducerContext>,
    (topic, partitions): (&str, i32),
    keys: &[i64],
    stop: &AtomicBool,
) -> anyhow::Result<()> {
    while !stop.load(Ordering::Relaxed) {
        for (key, partition) in keys.iter().zip((0..partitions).cycle()) {
            let record = format!(r#"{{"k":{key},"v":"","t":{}}}"#, now_us());
            producer
                .send(
                    BaseRecord::<(), str>::to(topic)
                        .partition(partition)
                        .payload(&record),
                )
                .map_err(|(error, _)| error)?;
        }
        std::thread::sleep(INTERVAL);
    }
    producer.flush(FLUSH_TIMEOUT)?;
    Ok(())
}

fn receive(
    consumer: &BaseConsumer,
    seen: &Mutex<BTreeMap<i64, Seen>>,
    stop: &AtomicBool,
) -> anyhow::Result<()> {
    while !stop.load(Ordering::Relaxed) {
        let Some(message) = consumer.poll(Duration::from_millis(100)) else {
            continue;
        };
        let message = message?;
        let arrived_us = now_us();
        let change: Change = serde_json::from_slice(message.payload().unwrap_or_default())
            .context("the job's output is no changelog")?;
        if let Some(row) = change.after
            && let Some(seen) = seen.lock().get_mut(&row.k)
        {
            seen.take(&row, arrived_us)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_ends_with_the_longest_pause_behind_the_kill() {
        // A pause of 500 before the kill, then output for 40 more, then the outage.
        let arrivals = [0, 500, 520, 540, 560, 900, 920, 940];
        assert_eq!(end_of_outage(&arrivals, 525), Some(900));
        // The key's owner was killed: its pause begins before the kill.
        assert_eq!(end_of_outage(&[500, 1000, 1020], 525), Some(1000));
        assert_eq!(end_of_outage(&[500, 520], 525), None);
        assert_eq!(longest_gap(&arrivals, 530), Some(340));
        assert_eq!(longest_gap(&arrivals, 950), None);
    }

    #[test]
    fn what_is_repeated_is_not_new_and_a_lost_text_is_an_error() {
        let row = |t: i64, filled: u64| Row {
            k: 7,
            t,
            filled: Some(filled),
        };
        let mut seen = Seen::default();
        seen.take(&row(10, 0), 1).unwrap();
        seen.take(&row(20, TEXT), 2).unwrap();
        seen.take(&row(20, TEXT), 3).unwrap();
        seen.take(&row(15, 0), 4).unwrap();
        assert_eq!(seen.arrivals_us, [1, 2]);
        assert!(seen.filled);
        let error = seen.take(&row(30, 0), 5).unwrap_err();
        assert!(error.to_string().contains("key 7"), "{error}");
    }
}
