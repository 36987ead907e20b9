//! The few requests that librdkafka can't make: looking at, ending and fencing a transaction of a producer that is gone.
//!
//! Blocking, one connection a call: these are made once a checkpoint or at a start. Plain text only. rdkafka and its C library were looked
//! at first: they end only transactions of a producer that lives in the same process.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::{
    ApiKey, DescribeTransactionsRequest, DescribeTransactionsResponse, EndTxnRequest,
    EndTxnResponse, FindCoordinatorRequest, FindCoordinatorResponse, InitProducerIdRequest,
    InitProducerIdResponse, ListTransactionsRequest, ListTransactionsResponse, MetadataRequest,
    MetadataResponse, ProducerId, RequestHeader, ResponseHeader, TransactionalId,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, StrBytes};
use weir_common::backoff::Backoff;
use weir_dataflow::Result;

use super::external;

const IO_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a request is tried again while the coordinator is loading, moving or busy with the transaction.
const RETRY_TIMEOUT: Duration = Duration::from_secs(60);
/// No answer to these requests is larger.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Identity under which a transaction was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Producer {
    pub transactional_id: String,
    pub producer_id: i64,
    pub epoch: i16,
}

/// A transaction as its coordinator sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionInfo {
    pub producer_id: i64,
    pub epoch: i16,
    /// "Ongoing", "CompleteCommit", ...
    pub state: String,
}

/// Makes requests to a cluster.
#[derive(Debug, Clone)]
pub struct Admin {
    bootstrap: Vec<String>,
}

/// What a retried step says.
enum Step<T> {
    Done(T),
    Retry(String),
}

impl Admin {
    /// `brokers`: HOST:PORT,HOST:PORT
    pub fn new(brokers: &str) -> Self {
        Self {
            bootstrap: brokers
                .split(',')
                .map(|broker| broker.trim().to_owned())
                .collect(),
        }
    }

    /// Ends a transaction with success. One that is committed already is success.
    pub fn commit(&self, producer: &Producer) -> Result<()> {
        self.retry("commit the transaction", &producer.transactional_id, || {
            let request = EndTxnRequest::default()
                .with_transactional_id(transactional_id(&producer.transactional_id))
                .with_producer_id(ProducerId(producer.producer_id))
                .with_producer_epoch(producer.epoch)
                .with_committed(true);
            // Version 3: later ones change the epoch with the end of each transaction, which librdkafka's producers don't expect.
            let answer: EndTxnResponse =
                self.to_coordinator(&producer.transactional_id, ApiKey::EndTxn, &request, 3)?;
            match ResponseError::try_from_code(answer.error_code) {
                None => Ok(Step::Done(())),
                Some(error)
                    if error.is_retriable() || error == ResponseError::ConcurrentTransactions =>
                {
                    Ok(Step::Retry(error.to_string()))
                }
                Some(error) => self.explain_refusal(producer, &error),
            }
        })
    }

    /// The coordinator refused: fine if the transaction was committed before, a loss otherwise, which is said.
    fn explain_refusal(&self, producer: &Producer, error: &ResponseError) -> Result<Step<()>> {
        let state = self.describe(&producer.transactional_id)?;
        match state {
            Some(info)
                if info.producer_id == producer.producer_id
                    && info.epoch == producer.epoch
                    && info.state == "CompleteCommit" =>
            {
                Ok(Step::Done(()))
            }
            Some(info) => Err(external(format!(
                "transaction '{}' (producer {}, epoch {}) can't be committed: {error}; it is {} with producer {}, epoch {}. Its records are \
                 lost if it was aborted: a time-out ('properties.transaction.timeout.ms') or another job with the same \
                 'sink.transactional-id-prefix' does that",
                producer.transactional_id,
                producer.producer_id,
                producer.epoch,
                info.state,
                info.producer_id,
                info.epoch
            ))),
            None => Err(external(format!(
                "transaction '{}' can't be committed: {error}; the brokers have forgotten it, its records are lost unless it was committed",
                producer.transactional_id
            ))),
        }
    }

    /// Aborts what is open under an id and fences the producer that had it.
    pub fn fence(&self, id: &str) -> Result<()> {
        self.retry("abort the transaction", id, || {
            let request = InitProducerIdRequest::default()
                .with_transactional_id(Some(transactional_id(id)))
                .with_transaction_timeout_ms(60_000)
                .with_producer_id(ProducerId(-1))
                .with_producer_epoch(-1);
            let answer: InitProducerIdResponse =
                self.to_coordinator(id, ApiKey::InitProducerId, &request, 4)?;
            match ResponseError::try_from_code(answer.error_code) {
                None => Ok(Step::Done(())),
                Some(error)
                    if error.is_retriable() || error == ResponseError::ConcurrentTransactions =>
                {
                    Ok(Step::Retry(error.to_string()))
                }
                Some(error) => Err(external(format!(
                    "transaction '{id}' can't be aborted: {error}"
                ))),
            }
        })
    }

    /// State of a transaction; `None`: the brokers don't know it.
    pub fn describe(&self, id: &str) -> Result<Option<TransactionInfo>> {
        self.retry("describe the transaction", id, || {
            let request = DescribeTransactionsRequest::default()
                .with_transactional_ids(vec![transactional_id(id)]);
            let answer: DescribeTransactionsResponse =
                self.to_coordinator(id, ApiKey::DescribeTransactions, &request, 0)?;
            let Some(state) = answer.transaction_states.into_iter().next() else {
                return Ok(Step::Retry("an empty answer".to_owned()));
            };
            match ResponseError::try_from_code(state.error_code) {
                None => Ok(Step::Done(Some(TransactionInfo {
                    producer_id: state.producer_id.0,
                    epoch: state.producer_epoch,
                    state: state.transaction_state.to_string(),
                }))),
                Some(ResponseError::TransactionalIdNotFound) => Ok(Step::Done(None)),
                Some(error) if error.is_retriable() => Ok(Step::Retry(error.to_string())),
                Some(error) => Err(external(format!(
                    "transaction '{id}' can't be described: {error}"
                ))),
            }
        })
    }

    /// Ids of the open transactions whose id starts with `prefix`, of all brokers.
    pub fn list_open(&self, prefix: &str) -> Result<Vec<String>> {
        self.retry("list the transactions", prefix, || {
            let metadata: MetadataResponse = self.to_any(
                ApiKey::Metadata,
                &MetadataRequest::default().with_topics(Some(Vec::new())),
                9,
            )?;
            let mut found = Vec::new();
            for broker in metadata.brokers {
                let address = format!("{}:{}", broker.host, broker.port);
                let request = ListTransactionsRequest::default().with_state_filters(vec![
                    StrBytes::from_static_str("Ongoing"),
                    StrBytes::from_static_str("PrepareAbort"),
                ]);
                let answer: ListTransactionsResponse =
                    call(&address, ApiKey::ListTransactions, &request, 0)?;
                if let Some(error) = ResponseError::try_from_code(answer.error_code) {
                    return Ok(Step::Retry(error.to_string()));
                }
                let ids = answer
                    .transaction_states
                    .into_iter()
                    .map(|state| state.transactional_id.to_string());
                found.extend(ids.filter(|id| id.starts_with(prefix)));
            }
            Ok(Step::Done(found))
        })
    }

    fn retry<T>(
        &self,
        what: &str,
        id: &str,
        mut step: impl FnMut() -> Result<Step<T>>,
    ) -> Result<T> {
        let deadline = Instant::now() + RETRY_TIMEOUT;
        let mut failures = 0;
        loop {
            let reason = match step() {
                Ok(Step::Done(value)) => return Ok(value),
                Ok(Step::Retry(reason)) => reason,
                Err(error) if Instant::now() >= deadline || !is_connection(&error) => {
                    return Err(error);
                }
                Err(error) => error.to_string(),
            };
            if Instant::now() >= deadline {
                return Err(external(format!("cannot {what} '{id}': {reason}")));
            }
            failures += 1;
            std::thread::sleep(Backoff::CALLS.delay_jittered(failures));
        }
    }

    fn to_any<Q: Encodable, A: Decodable + HeaderVersion>(
        &self,
        key: ApiKey,
        request: &Q,
        version: i16,
    ) -> Result<A> {
        let mut last = external("no broker is named in 'properties.bootstrap.servers'");
        for address in &self.bootstrap {
            match call(address, key, request, version) {
                Ok(answer) => return Ok(answer),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn to_coordinator<Q: Encodable, A: Decodable + HeaderVersion>(
        &self,
        id: &str,
        key: ApiKey,
        request: &Q,
        version: i16,
    ) -> Result<A> {
        const TRANSACTION: i8 = 1;
        let find = FindCoordinatorRequest::default()
            .with_key(StrBytes::from_string(id.to_owned()))
            .with_key_type(TRANSACTION);
        let coordinator: FindCoordinatorResponse =
            self.to_any(ApiKey::FindCoordinator, &find, 2)?;
        if let Some(error) = ResponseError::try_from_code(coordinator.error_code) {
            return Err(connection(format!(
                "no coordinator of transaction '{id}': {error}"
            )));
        }
        call(
            &format!("{}:{}", coordinator.host, coordinator.port),
            key,
            request,
            version,
        )
    }
}

fn transactional_id(id: &str) -> TransactionalId {
    TransactionalId(StrBytes::from_string(id.to_owned()))
}

/// Marks errors that another try may not meet.
const CONNECTION: &str = "connection: ";

fn connection(message: impl std::fmt::Display) -> weir_dataflow::Error {
    external(format!("{CONNECTION}{message}"))
}

fn is_connection(error: &weir_dataflow::Error) -> bool {
    matches!(error, weir_dataflow::Error::External { message, .. } if message.starts_with(CONNECTION))
}

fn call<Q: Encodable, A: Decodable + HeaderVersion>(
    address: &str,
    key: ApiKey,
    request: &Q,
    version: i16,
) -> Result<A> {
    let context = |error: std::io::Error| connection(format!("{address}: {error}"));
    let broken = |error: &dyn std::fmt::Display| external(format!("{address}: {key:?}: {error}"));
    let mut addresses = address.to_socket_addrs().map_err(context)?;
    let target = addresses
        .next()
        .ok_or_else(|| connection(format!("{address}: no such host")))?;
    let mut stream = TcpStream::connect_timeout(&target, IO_TIMEOUT).map_err(context)?;
    stream.set_read_timeout(Some(IO_TIMEOUT)).map_err(context)?;
    stream
        .set_write_timeout(Some(IO_TIMEOUT))
        .map_err(context)?;

    let header = RequestHeader::default()
        .with_request_api_key(key as i16)
        .with_request_api_version(version)
        .with_correlation_id(1)
        .with_client_id(Some(StrBytes::from_static_str("weir")));
    let mut body = BytesMut::new();
    header
        .encode(&mut body, key.request_header_version(version))
        .map_err(|error| broken(&error))?;
    request
        .encode(&mut body, version)
        .map_err(|error| broken(&error))?;
    let length = i32::try_from(body.len()).map_err(|error| broken(&error))?;
    stream
        .write_all(&[&length.to_be_bytes()[..], &body].concat())
        .map_err(context)?;

    let mut length = [0; 4];
    stream.read_exact(&mut length).map_err(context)?;
    let length = usize::try_from(i32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if length > ANSWER_BYTES_MAX {
        return Err(broken(&"the answer is no Kafka message"));
    }
    let mut answer = vec![0; length];
    stream.read_exact(&mut answer).map_err(context)?;
    let mut answer = bytes::Bytes::from(answer);
    let header = ResponseHeader::decode(&mut answer, A::header_version(version))
        .map_err(|error| broken(&error))?;
    if header.correlation_id != 1 || !answer.has_remaining() {
        return Err(broken(&"the answer is to another request"));
    }
    A::decode(&mut answer, version).map_err(|error| broken(&error))
}
