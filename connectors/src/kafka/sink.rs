//! The writer of a Kafka table: encodes on the slot's thread, librdkafka sends from its own.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use rdkafka::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext};
use weir_dataflow::{Batch, Committer, Deferred, Error, Result, SinkWriter, SlotWaker};
use weir_proto::v1;

use super::committer::{KafkaCommitter, TransactionalIds, encode};
use super::encode::{RecordEncoder, Records};
use super::external;
use super::options::{Guarantee, SinkOptions};
use super::protocol::{Admin, Producer};
use super::record::RecordFormat;
use super::transaction::{Factory, Writer, flush};
use crate::context::SinkContext;
use crate::options::OptionReader;

const FLUSH_TIMEOUT: Duration = Duration::from_secs(60);
const METADATA_TIMEOUT: Duration = Duration::from_secs(10);

/// Called by librdkafka for each record that was sent or not.
#[derive(Clone)]
pub struct Delivery {
    /// First failure.
    failure: Arc<Mutex<Option<String>>>,
    pub waker: SlotWaker,
}

impl ClientContext for Delivery {}

impl ProducerContext for Delivery {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
            failure.get_or_insert_with(|| error.to_string());
            self.waker.wake();
        }
    }
}

impl Delivery {
    fn check(&self) -> Result<()> {
        match self
            .failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_ref()
        {
            Some(failure) => Err(external(format!("a record was not written: {failure}"))),
            None => Ok(()),
        }
    }
}

/// Writes the rows of one subtask to one topic.
pub struct KafkaSink {
    options: SinkOptions,
    encoder: RecordEncoder,
    delivery: Delivery,
    factory: Factory,
    current: Option<Arc<Writer>>,
    /// Records were written with `current`.
    is_dirty: bool,
    /// Encoded and not yet taken by librdkafka, from `sent` on.
    records: Records,
    sent: usize,
    committer: Option<Arc<KafkaCommitter>>,
}

/// Opens a writer.
pub fn open(spec: &v1::Sink, context: SinkContext) -> Result<Box<dyn SinkWriter>> {
    let reader = OptionReader::new(&spec.connector, &spec.options);
    let options = SinkOptions::read(&reader)?;
    let format = RecordFormat::read(&reader, &context.schema, &spec.primary_key)?;
    let encoder = RecordEncoder::new(&format, &context.schema)?;
    let info = &context.info;
    let transactional = options.guarantee == Guarantee::ExactlyOnce;
    let ids = transactional.then(|| TransactionalIds {
        prefix: format!("{}-", options.transactional_id_prefix),
        job: info.job.to_string(),
        goes_on: context.is_restored,
        attempt: info.attempt.0,
        subtask: info.subtask,
        parallelism: info.parallelism,
    });
    let delivery = Delivery {
        failure: Arc::default(),
        waker: context.waker.clone(),
    };
    let admin = Admin::new(&options.brokers);
    let committer = ids
        .clone()
        .map(|ids| Arc::new(KafkaCommitter { admin, ids }));
    let mut factory = Factory::new(&options, ids, delivery.clone());
    factory.make_ready()?;
    Ok(Box::new(KafkaSink {
        options,
        encoder,
        delivery,
        factory,
        current: None,
        is_dirty: false,
        records: Records::default(),
        sent: 0,
        committer,
    }))
}

impl KafkaSink {
    /// The producer of the open transaction, if it is made by now.
    fn writer(&mut self) -> Result<Option<Arc<Writer>>> {
        if self.current.is_none() && self.factory.is_ready() {
            let writer = self.factory.take()?;
            if self.options.guarantee == Guarantee::ExactlyOnce {
                self.factory.make_ready()?;
            }
            self.current = Some(Arc::new(writer));
        }
        Ok(self.current.clone())
    }

    /// Hands encoded records to librdkafka until its queue is full. True if none is left.
    fn drain(&mut self) -> Result<bool> {
        if self.sent == self.records.len() {
            return Ok(true);
        }
        let Some(writer) = self.writer()? else {
            return Ok(false);
        };
        while self.sent < self.records.len() {
            let record = producer_record(&self.options.topic, &self.records, self.sent);
            match writer.producer.send(record) {
                Ok(()) => {
                    self.sent += 1;
                    self.is_dirty = true;
                }
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                    return Ok(false);
                }
                Err((error, _)) => return Err(self.explain(&writer, &error)),
            }
        }
        self.records.clear();
        self.sent = 0;
        Ok(true)
    }

    fn explain(&self, writer: &Writer, error: &KafkaError) -> Error {
        let topic = &self.options.topic;
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::UnknownTopic | RDKafkaErrorCode::UnknownTopicOrPartition) => {
                Error::Config(format!(
                    "kafka: topic '{topic}' does not exist; create it first"
                ))
            }
            Some(RDKafkaErrorCode::MessageSizeTooLarge) => Error::Data(format!(
                "kafka: a record for topic '{topic}' is larger than 'properties.message.max.bytes'"
            )),
            _ => external(format!(
                "cannot write to topic '{topic}' in transaction '{}': {error}",
                writer.transactional_id
            )),
        }
    }
}

impl SinkWriter for KafkaSink {
    fn ready(&mut self) -> Result<bool> {
        self.delivery.check()?;
        if self.drain()? && self.writer()?.is_some() {
            return Ok(true);
        }
        Ok(false)
    }

    /// Rows without a producer have no transaction that they could belong to, and operators in front may emit some at the cut. One is
    /// being made.
    fn can_prepare(&mut self) -> Result<bool> {
        self.delivery.check()?;
        Ok(self.writer()?.is_some())
    }

    fn write(&mut self, batch: &Batch) -> Result<()> {
        self.encoder.encode(batch, &mut self.records)?;
        self.drain().map(drop)
    }

    fn prepare(&mut self, _: u64) -> Result<Deferred<Vec<Bytes>>> {
        self.delivery.check()?;
        // Records that librdkafka had no room for belong to this transaction too.
        let rest = std::mem::take(&mut self.records);
        let rest_from = std::mem::take(&mut self.sent);
        let has_rest = rest_from < rest.len();
        let Some(writer) = self.current.clone() else {
            if has_rest {
                return Err(external(
                    "the producer was not ready in time for the checkpoint",
                ));
            }
            return Ok(Box::new(|| Ok(Vec::new())));
        };
        if !self.is_dirty && !has_rest {
            return Ok(Box::new(|| Ok(Vec::new())));
        }
        self.is_dirty = false;
        if self.options.guarantee == Guarantee::ExactlyOnce {
            self.current = None;
        }
        let (topic, delivery, committer) = (
            self.options.topic.clone(),
            self.delivery.clone(),
            self.committer.clone(),
        );
        Ok(Box::new(move || {
            send_rest(&writer, &topic, &rest, rest_from)?;
            flush(&writer, FLUSH_TIMEOUT)?;
            delivery.check()?;
            match committer {
                Some(committer) => committable(&writer, &committer),
                None => Ok(Vec::new()),
            }
        }))
    }

    fn committer(&self) -> Option<Arc<dyn Committer>> {
        self.committer
            .clone()
            .map(|committer| committer as Arc<dyn Committer>)
    }

    fn close(&mut self) {
        self.factory.close();
        if let Some(writer) = self.current.take()
            && !writer.transactional_id.is_empty()
        {
            // An open transaction would hide what comes after it until it times out.
            if let Err(error) = writer.producer.abort_transaction(METADATA_TIMEOUT) {
                tracing::debug!(%error, "the open transaction was not aborted; the next attempt does it");
            }
        }
    }
}

fn producer_record<'a>(
    topic: &'a str,
    records: &'a Records,
    index: usize,
) -> BaseRecord<'a, [u8], [u8]> {
    let mut record = BaseRecord::to(topic);
    (record.key, record.payload) = records.record(index);
    record
}

/// Blocks until librdkafka has taken the records.
fn send_rest(writer: &Writer, topic: &str, records: &Records, from: usize) -> Result<()> {
    for index in from..records.len() {
        let mut record = producer_record(topic, records, index);
        loop {
            match writer.producer.send(record) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    record = back;
                    flush_some(writer)?;
                }
                Err((error, _)) => {
                    return Err(external(format!(
                        "cannot write to topic '{topic}': {error}"
                    )));
                }
            }
        }
    }
    Ok(())
}

fn flush_some(writer: &Writer) -> Result<()> {
    writer
        .producer
        .flush(FLUSH_TIMEOUT)
        .map_err(|error| external(format!("records were not acknowledged: {error}")))
}

/// The transaction's identity, which is all that is needed to commit it, from anywhere.
fn committable(writer: &Arc<Writer>, committer: &KafkaCommitter) -> Result<Vec<Bytes>> {
    let id = &writer.transactional_id;
    let info = committer
        .admin
        .describe(id)?
        .ok_or_else(|| external(format!("the brokers do not know transaction '{id}'")))?;
    if info.state != "Ongoing" {
        return Err(external(format!(
            "transaction '{id}' is {} before it was committed: it took longer than its time-out",
            info.state
        )));
    }
    Ok(vec![encode(&Producer {
        transactional_id: id.clone(),
        producer_id: info.producer_id,
        epoch: info.epoch,
    })])
}
