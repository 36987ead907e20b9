//! One transaction a checkpoint, each with a producer of its own.
//!
//! A producer is never used for a second transaction: its id and epoch would be the same, and a commit of the first one that is repeated after
//! a crash would commit the second. The next producer is made ready in the background, since that takes a few round trips.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::producer::{Producer as _, ThreadedProducer};
use weir_dataflow::{Error, Result};

use super::committer::TransactionalIds;
use super::external;
use super::options::SinkOptions;
use super::sink::Delivery;

const INIT_TIMEOUT: Duration = Duration::from_secs(30);
const METADATA_TIMEOUT: Duration = Duration::from_secs(10);

/// A producer with the id of its transaction; the id is empty for one without transactions.
pub struct Writer {
    pub transactional_id: String,
    pub producer: ThreadedProducer<Delivery>,
}

/// Makes producers.
pub struct Factory {
    config: ClientConfig,
    ids: Option<TransactionalIds>,
    transaction_timeout: Duration,
    delivery: Delivery,
    topic: String,
    sequence: u64,
    next: Option<JoinHandle<Result<Writer>>>,
}

impl Factory {
    /// `ids`: `None` for producers without transactions.
    pub fn new(options: &SinkOptions, ids: Option<TransactionalIds>, delivery: Delivery) -> Self {
        Self {
            config: options.client.clone(),
            ids,
            transaction_timeout: options.transaction_timeout,
            delivery,
            topic: options.topic.clone(),
            sequence: 0,
            next: None,
        }
    }

    /// Begins to make the next one.
    pub fn make_ready(&mut self) -> Result<()> {
        if self.next.is_some() {
            return Ok(());
        }
        let transactional_id = self
            .ids
            .as_ref()
            .map(|ids| ids.id(self.sequence))
            .unwrap_or_default();
        self.sequence += 1;
        let (config, delivery, timeout) = (
            self.config.clone(),
            self.delivery.clone(),
            self.transaction_timeout,
        );
        // Once is enough: a topic that was there is not looked for again.
        let topic = (self.sequence == 1).then(|| self.topic.clone());
        let thread = std::thread::Builder::new()
            .name("kafka-init".to_owned())
            .spawn(move || make(config, topic, transactional_id, timeout, delivery))
            .map_err(|error| Error::io("cannot start a thread for a Kafka producer", error))?;
        self.next = Some(thread);
        Ok(())
    }

    /// Whether [`Self::take`] would not wait.
    pub fn is_ready(&self) -> bool {
        self.next.as_ref().is_some_and(JoinHandle::is_finished)
    }

    /// The producer that was being made.
    pub fn take(&mut self) -> Result<Writer> {
        let made = self.next.take().map(JoinHandle::join);
        match made {
            Some(Ok(result)) => result,
            Some(Err(_)) => Err(Error::Internal(
                "the thread that makes a Kafka producer has died".to_owned(),
            )),
            None => Err(Error::Internal(
                "no Kafka producer is being made".to_owned(),
            )),
        }
    }

    /// Waits for what is being made and drops it.
    pub fn close(&mut self) {
        if let Some(thread) = self.next.take() {
            drop(thread.join());
        }
    }
}

fn make(
    mut config: ClientConfig,
    topic: Option<String>,
    transactional_id: String,
    timeout: Duration,
    delivery: Delivery,
) -> Result<Writer> {
    if !transactional_id.is_empty() {
        config.set("transactional.id", &transactional_id);
        config.set("transaction.timeout.ms", timeout.as_millis().to_string());
    }
    let waker = delivery.waker.clone();
    let producer = ThreadedProducer::from_config_and_context(&config, delivery)
        .map_err(|error| Error::Config(format!("kafka: cannot make a producer: {error}")))?;
    if let Some(topic) = topic {
        check_topic(
            &producer,
            &topic,
            config.get("bootstrap.servers").unwrap_or_default(),
        )?;
    }
    if !transactional_id.is_empty() {
        let begun = producer
            .init_transactions(INIT_TIMEOUT)
            .and_then(|()| producer.begin_transaction());
        begun.map_err(|error| {
            external(format!(
                "cannot begin transaction '{transactional_id}': {error}"
            ))
        })?;
    }
    waker.wake();
    Ok(Writer {
        transactional_id,
        producer,
    })
}

fn check_topic(producer: &ThreadedProducer<Delivery>, topic: &str, brokers: &str) -> Result<()> {
    let metadata = producer
        .client()
        .fetch_metadata(Some(topic), METADATA_TIMEOUT)
        .map_err(|error| {
            external(format!(
                "no broker answers at '{brokers}' (properties.bootstrap.servers): {error}"
            ))
        })?;
    match metadata.topics().iter().find(|found| found.name() == topic) {
        Some(found) if found.error().is_none() && !found.partitions().is_empty() => Ok(()),
        _ => Err(Error::Config(format!(
            "kafka: topic '{topic}' does not exist at '{brokers}'; create it first"
        ))),
    }
}

/// What was written with a writer is known to the brokers.
pub fn flush(writer: &Arc<Writer>, timeout: Duration) -> Result<()> {
    writer.producer.flush(timeout).map_err(|error| {
        external(format!(
            "records were not acknowledged within {timeout:?}: {error}"
        ))
    })
}
