//! Topics filled and read by a client that is not Weir's.

use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

/// Makes a topic.
pub fn create_topic(brokers: &str, topic: &str, partitions: i32) -> anyhow::Result<()> {
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .create()?;
    let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(20)));
    for result in runtime.block_on(admin.create_topics([&new], &options))? {
        result.map_err(|(name, error)| anyhow::anyhow!("{name}: {error}"))?;
    }
    Ok(())
}

/// Writes records, record n to partition n % partitions.
pub fn produce(
    brokers: &str,
    topic: &str,
    partitions: i32,
    records: impl Iterator<Item = String>,
) -> anyhow::Result<()> {
    let producer: ThreadedProducer<DefaultProducerContext> = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("enable.idempotence", "true")
        .set("linger.ms", "20")
        .set("compression.type", "lz4")
        .set("queue.buffering.max.messages", "500000")
        .create()?;
    for (number, record) in records.enumerate() {
        let mut message = BaseRecord::<(), str>::to(topic)
            .partition(number as i32 % partitions)
            .payload(&record);
        while let Err((error, back)) = producer.send(message) {
            anyhow::ensure!(
                error.rdkafka_error_code() == Some(rdkafka::types::RDKafkaErrorCode::QueueFull),
                "{error}"
            );
            message = back;
            producer.flush(Duration::from_millis(100)).ok();
        }
    }
    producer.flush(Duration::from_secs(60))?;
    Ok(())
}

/// A record as a reader that is not Weir's sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Where it lies.
    pub partition: i32,
    /// `None`: it has no key.
    pub key: Option<String>,
    /// `None`: it deletes.
    pub value: Option<String>,
}

/// The values of all committed records of a topic that are there now; fails as [`read_records`].
pub fn read_committed(
    brokers: &str,
    topic: &str,
    partitions: i32,
    timeout: Duration,
) -> anyhow::Result<Vec<String>> {
    let records = read_records(brokers, topic, partitions, timeout)?;
    let values = records.into_iter();
    Ok(values
        .map(|record| record.value.unwrap_or_default())
        .collect())
}

/// All committed records of a topic that are there now; fails if an open transaction hides some for longer than `timeout`.
pub fn read_records(
    brokers: &str,
    topic: &str,
    partitions: i32,
    timeout: Duration,
) -> anyhow::Result<Vec<Record>> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "oracle")
        .set("isolation.level", "read_committed")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .create()?;
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions {
        list.add_partition_offset(topic, partition, Offset::Beginning)?;
    }
    consumer.assign(&list)?;
    let deadline = Instant::now() + timeout;
    let mut at_end = vec![false; partitions as usize];
    let mut records = Vec::new();
    while !at_end.iter().all(|end| *end) {
        anyhow::ensure!(
            Instant::now() < deadline,
            "topic {topic} was not read within {timeout:?}"
        );
        match consumer.poll(Duration::from_millis(200)) {
            Some(Ok(message)) => {
                at_end[message.partition() as usize] = false;
                let text = |bytes: Option<&[u8]>| {
                    let text = bytes.map(|bytes| String::from_utf8(bytes.to_vec()));
                    text.transpose()
                };
                records.push(Record {
                    partition: message.partition(),
                    key: text(message.key())?,
                    value: text(message.payload())?,
                });
            }
            Some(Err(rdkafka::error::KafkaError::PartitionEOF(partition))) => {
                at_end[partition as usize] = true
            }
            Some(Err(error)) => anyhow::bail!("{error}"),
            None => {}
        }
    }
    Ok(records)
}
