//! The thread that talks to the brokers: finds partitions, resolves offsets, fetches records and hands them over by a bounded queue.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded};
use rdkafka::ClientContext;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaErrorCode;
use weir_dataflow::{Error, Result, SlotWaker};

use super::external;
use super::options::{SourceOptions, Start, Stop};
use super::raw_records::RawRecords;
use super::split::{Split, owner};
use crate::context::SourceContext;

/// Handed-over parts that wait for the slot.
const QUEUE: usize = 16;
/// Records in one part.
const RECORDS: usize = 4096;
/// Bytes of payload in one part, more or less.
const BYTES: usize = 1 << 20;
/// Of one request for metadata or offsets.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
const POLL_TIMEOUT: Duration = Duration::from_millis(50);

/// What the thread hands over.
pub enum Fetched {
    /// All partitions of this subtask that were found at once; numbered in this order from 0.
    Splits(Vec<Split>),
    /// No partition will be added.
    NoMoreSplits,
    /// Records.
    Records(RawRecords),
    /// A bounded partition has been read to its stop offset.
    End { split: u32, offset: i64 },
}

/// Owner of the thread.
pub struct Fetcher {
    parts: Receiver<Result<Fetched>>,
    commits: Sender<Vec<Split>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    restored_own: Vec<Split>,
}

impl Fetcher {
    /// Starts the thread. `with_keys`: records come with their keys; `restored`: the splits of all subtasks.
    pub fn start(
        options: SourceOptions,
        with_keys: bool,
        restored: Vec<Split>,
        context: &SourceContext,
    ) -> Result<Self> {
        let info = &context.info;
        let mine =
            |split: &Split| owner(&split.topic, split.partition, info.parallelism) == info.subtask;
        let restored_own: Vec<Split> = restored.into_iter().filter(mine).collect();
        let (sender, parts) = bounded(QUEUE);
        let (commits, commit_requests) = bounded(1);
        let stop = Arc::new(AtomicBool::new(false));
        let worker = Worker {
            subtask: info.subtask,
            parallelism: info.parallelism,
            // A snapshot taken before any partition was found is no start.
            is_restored: context.is_restored && !context.restored.is_empty(),
            known: restored_own.clone(),
            options,
            with_keys,
            parts: sender,
            commits: commit_requests,
            stop: Arc::clone(&stop),
            waker: context.waker.clone(),
            numbers: HashMap::new(),
            splits: Vec::new(),
            confirming: HashSet::new(),
        };
        let thread = std::thread::Builder::new()
            .name(format!("kafka-fetch-{}", info.subtask))
            .spawn(move || worker.run())
            .map_err(|error| Error::io("cannot start the Kafka fetcher", error))?;
        Ok(Self {
            parts,
            commits,
            stop,
            thread: Some(thread),
            restored_own,
        })
    }

    /// Next part, if there is one.
    pub fn try_next(&mut self) -> Result<Option<Fetched>> {
        match self.parts.try_recv() {
            Ok(part) => part.map(Some),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(external("the fetcher has ended")),
        }
    }

    /// What was restored and falls to this subtask.
    pub fn restored_own(&self) -> Vec<Split> {
        self.restored_own.clone()
    }

    /// Offsets to be committed to the group; a newer request may replace one that waits.
    pub fn commit(&self, splits: Vec<Split>) {
        drop(self.commits.try_send(splits));
    }

    /// Ends and joins the thread.
    pub fn stop(&mut self) {
        self.stop.store(true, Ordering::Release);
        // Room for a part that the thread may be waiting to hand over.
        while self.parts.try_recv().is_ok() {}
        if let Some(thread) = self.thread.take() {
            while !thread.is_finished() {
                while self.parts.recv_timeout(Duration::from_millis(10)).is_ok() {}
            }
            drop(thread.join());
        }
    }
}

impl Drop for Fetcher {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Librdkafka's own reports; the end of a partition is no error.
struct Reports;

impl ClientContext for Reports {
    fn error(&self, error: KafkaError, reason: &str) {
        if !matches!(error, KafkaError::Global(RDKafkaErrorCode::PartitionEOF)) {
            tracing::warn!(%error, reason, "kafka");
        }
    }
}

impl ConsumerContext for Reports {}

type KafkaConsumer = BaseConsumer<Reports>;

struct Worker {
    subtask: u32,
    parallelism: u32,
    is_restored: bool,
    /// Restored splits of this subtask.
    known: Vec<Split>,
    options: SourceOptions,
    with_keys: bool,
    parts: Sender<Result<Fetched>>,
    commits: Receiver<Vec<Split>>,
    stop: Arc<AtomicBool>,
    waker: SlotWaker,
    numbers: HashMap<(String, i32), u32>,
    splits: Vec<Split>,
    /// Bounded splits that may be at their end: it is met once more, or a record comes.
    confirming: HashSet<u32>,
}

impl Worker {
    fn run(mut self) {
        if let Err(error) = self.fetch() {
            drop(self.parts.send(Err(error)));
            self.waker.wake();
        }
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    fn hand_over(&self, part: Fetched) -> Result<()> {
        let sent = self
            .parts
            .send(Ok(part))
            .map_err(|_| external("the reader is gone"));
        self.waker.wake();
        sent
    }

    fn fetch(&mut self) -> Result<()> {
        let consumer = KafkaConsumer::from_config_and_context(&self.options.client, Reports)
            .map_err(|error| Error::Config(format!("kafka: cannot make a consumer: {error}")))?;
        self.discover(&consumer, true)?;
        let periodic =
            !self.options.discovery_interval.is_zero() && matches!(self.options.stop, Stop::Never);
        if !periodic {
            self.hand_over(Fetched::NoMoreSplits)?;
        }
        let mut next_discovery = Instant::now() + self.options.discovery_interval;
        let mut open: HashMap<u32, RawRecords> = HashMap::new();
        while !self.stopped() {
            if periodic && Instant::now() >= next_discovery {
                self.discover(&consumer, false)?;
                next_discovery = Instant::now() + self.options.discovery_interval;
            }
            self.commit_requested(&consumer);
            // As long as something is queued it is taken without waiting; then what was gathered is handed over.
            let wait = if open.is_empty() {
                POLL_TIMEOUT
            } else {
                Duration::ZERO
            };
            match consumer.poll(wait) {
                None => self.flush(&mut open)?,
                Some(Ok(message)) => self.take(&message, &mut open)?,
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    self.flush(&mut open)?;
                    self.end_of_partition(&consumer, partition)?;
                }
                Some(Err(error)) => fatal(&error)?,
            }
        }
        Ok(())
    }

    fn take(&mut self, message: &impl Message, open: &mut HashMap<u32, RawRecords>) -> Result<()> {
        let key = (message.topic().to_owned(), message.partition());
        let Some(number) = self.numbers.get(&key).copied() else {
            return Ok(());
        };
        let Some(split) = self.splits.get_mut(number as usize) else {
            return Ok(());
        };
        if message.offset() >= split.stop_offset || split.is_finished() {
            return self.finish(number, open);
        }
        // A seek may bring back what is here already.
        if message.offset() < split.next_offset {
            return Ok(());
        }
        self.confirming.remove(&number);
        split.next_offset = message.offset() + 1;
        let finished = split.is_finished();
        let with_keys = self.with_keys;
        let records = open
            .entry(number)
            .or_insert_with(|| RawRecords::new(number, with_keys));
        records.push(message);
        if records.len() >= RECORDS || records.payload_bytes() >= BYTES {
            self.flush(open)?;
        }
        if finished {
            self.finish(number, open)
        } else {
            Ok(())
        }
    }

    /// Says once that a bounded split is read to its end.
    fn finish(&mut self, number: u32, open: &mut HashMap<u32, RawRecords>) -> Result<()> {
        self.flush(open)?;
        let Some(split) = self.splits.get_mut(number as usize) else {
            return Ok(());
        };
        if self
            .numbers
            .remove(&(split.topic.clone(), split.partition))
            .is_none()
        {
            return Ok(());
        }
        split.next_offset = split.stop_offset;
        let offset = split.stop_offset;
        self.hand_over(Fetched::End {
            split: number,
            offset,
        })
    }

    /// The end of what can be read now. The last offsets before a stop offset may be transaction markers, which are never delivered.
    fn end_of_partition(&mut self, consumer: &KafkaConsumer, partition: i32) -> Result<()> {
        // The event names no topic; a bounded read has only one.
        let at_partition: Vec<u32> = self
            .numbers
            .iter()
            .filter(|((_, p), _)| *p == partition)
            .map(|(_, n)| *n)
            .collect();
        for number in at_partition {
            let Some(split) = self.splits.get(number as usize).cloned() else {
                continue;
            };
            if split.stop_offset == i64::MAX {
                continue;
            }
            if self.confirming.remove(&number) {
                self.finish(number, &mut HashMap::new())?;
                continue;
            }
            // This end may be of long ago, with records behind it since. Only an end that is met after the partition was seen to
            // reach the stop offset counts: read on from here, and wait for it.
            let (_, high) = watermarks(consumer, &split.topic, partition)?;
            if high >= split.stop_offset {
                let offset = Offset::Offset(split.next_offset);
                consumer
                    .seek(&split.topic, partition, offset, REQUEST_TIMEOUT)
                    .map_err(|error| {
                        external(format!("cannot seek in '{}': {error}", split.topic))
                    })?;
                self.confirming.insert(number);
            }
        }
        Ok(())
    }

    fn flush(&self, open: &mut HashMap<u32, RawRecords>) -> Result<()> {
        for (_, records) in open.drain() {
            self.hand_over(Fetched::Records(records))?;
        }
        Ok(())
    }

    fn commit_requested(&self, consumer: &KafkaConsumer) {
        let Ok(splits) = self.commits.try_recv() else {
            return;
        };
        let mut list = TopicPartitionList::new();
        for split in splits {
            drop(list.add_partition_offset(
                &split.topic,
                split.partition,
                Offset::Offset(split.next_offset),
            ));
        }
        // The offsets of a group are for people to look at; the snapshot has the ones that count.
        if let Err(error) = consumer.commit(&list, CommitMode::Async) {
            tracing::warn!(%error, "kafka: the group's offsets were not committed");
        }
    }

    /// Finds partitions that are not read yet and begins to read those of this subtask.
    fn discover(&mut self, consumer: &KafkaConsumer, first: bool) -> Result<()> {
        let mut found = Vec::new();
        for topic in self.options.topics.clone() {
            for partition in partitions(consumer, &topic, &self.options.brokers)? {
                let new = !self
                    .splits
                    .iter()
                    .any(|split| split.topic == topic && split.partition == partition);
                if new && owner(&topic, partition, self.parallelism) == self.subtask {
                    found.push((topic.clone(), partition));
                }
            }
        }
        let splits = found
            .into_iter()
            .map(|(topic, partition)| self.begin(consumer, topic, partition, first))
            .collect::<Result<Vec<_>>>()?;
        self.hand_over(Fetched::Splits(splits.clone()))?;
        let mut list = TopicPartitionList::new();
        for split in splits {
            let number = self.splits.len() as u32;
            if !split.is_finished() {
                self.numbers
                    .insert((split.topic.clone(), split.partition), number);
                list.add_partition_offset(
                    &split.topic,
                    split.partition,
                    Offset::Offset(split.next_offset),
                )
                .map_err(|error| external(format!("offset {}: {error}", split.next_offset)))?;
            }
            self.splits.push(split);
        }
        if list.count() > 0 {
            consumer
                .incremental_assign(&list)
                .map_err(|error| external(format!("cannot assign partitions: {error}")))?;
        }
        Ok(())
    }

    fn begin(
        &self,
        consumer: &KafkaConsumer,
        topic: String,
        partition: i32,
        first: bool,
    ) -> Result<Split> {
        if let Some(known) = self
            .known
            .iter()
            .find(|split| split.topic == topic && split.partition == partition)
        {
            return Ok(known.clone());
        }
        // A partition that appears later, or since the snapshot, is read whole: none of its records may be missed.
        let next_offset = match first && !self.is_restored {
            true => start_offset(consumer, &self.options, &topic, partition)?,
            false => watermarks(consumer, &topic, partition)?.0,
        };
        let stop_offset = stop_offset(consumer, &self.options, &topic, partition)?;
        Ok(Split {
            topic,
            partition,
            next_offset,
            stop_offset,
        })
    }
}

/// Errors that come by poll: librdkafka goes on after most of them.
fn fatal(error: &KafkaError) -> Result<()> {
    use rdkafka::types::RDKafkaErrorCode as Code;
    match error.rdkafka_error_code() {
        Some(Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition) => {
            Err(Error::Config(format!(
                "kafka: {error}: the topic was deleted or does not exist"
            )))
        }
        Some(
            Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::SaslAuthenticationFailed,
        ) => Err(Error::Config(format!("kafka: {error}"))),
        Some(Code::OffsetOutOfRange | Code::AutoOffsetReset) => Err(Error::Config(format!(
            "kafka: {error}: the saved offset is not in the topic any more; records were deleted before they were read"
        ))),
        _ => {
            tracing::warn!(%error, "kafka: a fetch failed and is tried again");
            Ok(())
        }
    }
}

fn partitions(consumer: &KafkaConsumer, topic: &str, brokers: &str) -> Result<Vec<i32>> {
    let metadata = consumer
        .fetch_metadata(Some(topic), REQUEST_TIMEOUT)
        .map_err(|error| {
            external(format!(
                "no broker answers at '{brokers}' (properties.bootstrap.servers): {error}"
            ))
        })?;
    let found = metadata.topics().iter().find(|found| found.name() == topic);
    match found {
        Some(found) if found.error().is_none() && !found.partitions().is_empty() => {
            let mut ids: Vec<i32> = found
                .partitions()
                .iter()
                .map(|partition| partition.id())
                .collect();
            ids.sort_unstable();
            Ok(ids)
        }
        _ => Err(Error::Config(format!(
            "kafka: topic '{topic}' does not exist at '{brokers}'; create it first"
        ))),
    }
}

fn watermarks(consumer: &KafkaConsumer, topic: &str, partition: i32) -> Result<(i64, i64)> {
    consumer
        .fetch_watermarks(topic, partition, REQUEST_TIMEOUT)
        .map_err(|error| {
            external(format!(
                "cannot read the offsets of topic '{topic}', partition {partition}: {error}"
            ))
        })
}

fn committed(consumer: &KafkaConsumer, topic: &str, partition: i32) -> Result<Option<i64>> {
    let mut list = TopicPartitionList::new();
    list.add_partition(topic, partition);
    let answer = consumer
        .committed_offsets(list, REQUEST_TIMEOUT)
        .map_err(|error| {
            external(format!(
                "cannot read the group's offsets of topic '{topic}': {error}"
            ))
        })?;
    Ok(answer
        .elements()
        .iter()
        .find_map(|element| match element.offset() {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        }))
}

/// First record at or after a time; the end of the partition if there is none.
fn offset_at(
    consumer: &KafkaConsumer,
    topic: &str,
    partition: i32,
    timestamp_ms: i64,
) -> Result<i64> {
    let fail = |error: KafkaError| {
        external(format!(
            "cannot find the offset of a time in topic '{topic}': {error}"
        ))
    };
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, Offset::Offset(timestamp_ms))
        .map_err(fail)?;
    let answer = consumer
        .offsets_for_times(list, REQUEST_TIMEOUT)
        .map_err(fail)?;
    match answer.elements().first().map(|element| element.offset()) {
        Some(Offset::Offset(offset)) if offset >= 0 => Ok(offset),
        _ => Ok(watermarks(consumer, topic, partition)?.1),
    }
}

fn group_offset(
    consumer: &KafkaConsumer,
    options: &SourceOptions,
    topic: &str,
    partition: i32,
) -> Result<i64> {
    if let Some(offset) = committed(consumer, topic, partition)? {
        return Ok(offset);
    }
    let (low, high) = watermarks(consumer, topic, partition)?;
    Ok(if options.reset_to_latest { high } else { low })
}

fn start_offset(
    consumer: &KafkaConsumer,
    options: &SourceOptions,
    topic: &str,
    partition: i32,
) -> Result<i64> {
    match &options.start {
        Start::Earliest => Ok(watermarks(consumer, topic, partition)?.0),
        Start::Latest => Ok(watermarks(consumer, topic, partition)?.1),
        Start::Group => group_offset(consumer, options, topic, partition),
        Start::Timestamp(ms) => offset_at(consumer, topic, partition, *ms),
        Start::Offsets(offsets) => match offsets.get(&partition) {
            Some(offset) => Ok(*offset),
            None if options.group.is_some() => group_offset(consumer, options, topic, partition),
            None => Ok(watermarks(consumer, topic, partition)?.0),
        },
    }
}

fn stop_offset(
    consumer: &KafkaConsumer,
    options: &SourceOptions,
    topic: &str,
    partition: i32,
) -> Result<i64> {
    match &options.stop {
        Stop::Never => Ok(i64::MAX),
        Stop::Latest => Ok(watermarks(consumer, topic, partition)?.1),
        Stop::Group => committed(consumer, topic, partition)?.ok_or_else(|| {
            Error::Config(format!("kafka: the group has no offset of topic '{topic}', partition {partition}, to stop at"))
        }),
        Stop::Timestamp(ms) => offset_at(consumer, topic, partition, *ms),
        Stop::Offsets(offsets) => offsets.get(&partition).copied().ok_or_else(|| {
            Error::Config(format!("kafka: 'scan.bounded.specific-offsets' does not name partition {partition} of topic '{topic}'"))
        }),
    }
}
