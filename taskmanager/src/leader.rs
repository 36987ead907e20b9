//! The way to the leading job manager: who it is, and calls that are repeated until it has heard them.

use std::future::Future;
use std::time::Duration;

use metrics::histogram;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Code, Response, Status};
use weir_common::backoff::Backoff;
use weir_common::ids::LeaderTerm;
use weir_common::limits::{CONTROL_CALL_TIMEOUT, CONTROL_MESSAGE_BYTES};
use weir_common::metric_names::RPC_LATENCY;
use weir_proto::transport::{TlsMaterial, TransportError, connect};
use weir_proto::v1::job_manager_control_client::JobManagerControlClient;

use crate::exchange::send::describe;

/// A client of a job manager.
pub type Client = JobManagerControlClient<Channel>;

/// How long a report or acknowledgement is repeated while no leader takes it. An attempt that nobody asks for any longer than this is
/// restarted by the job manager anyway.
const REPEAT_FOR: Duration = Duration::from_secs(600);

/// Refusals of one call in a row until it is given up.
const REFUSALS: u32 = 6;

/// The leader as this process last heard from it.
#[derive(Clone)]
pub struct Connection {
    /// HOST:PORT.
    pub address: String,
    /// Its term.
    pub term: LeaderTerm,
    /// Calls it.
    pub client: Client,
}

/// Why a call was given up.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The leader does not want this attempt any more.
    #[error("the job manager refused it: {0}")]
    Fenced(String),
    /// The call is wrong; another try would be too.
    #[error("the job manager rejected it: {0}")]
    Rejected(String),
    /// The attempt was ended, or no leader was found for too long.
    #[error("no job manager took it")]
    GivenUp,
}

/// Shared by everything that calls the job manager.
pub struct Leader {
    current: watch::Sender<Option<Connection>>,
    tls: Option<TlsMaterial>,
    /// Raised by a refusal: the leader is to be asked at once what it does not want any more.
    pub suspicion: Notify,
}

impl Leader {
    /// None is known yet.
    pub fn new(tls: Option<TlsMaterial>) -> Self {
        Self {
            current: watch::Sender::new(None),
            tls,
            suspicion: Notify::new(),
        }
    }

    /// A client of the job manager at HOST:PORT, leader or not. Connects with the first call.
    pub fn client(&self, address: &str) -> Result<Client, TransportError> {
        Ok(
            JobManagerControlClient::new(connect(address, self.tls.as_ref())?)
                .max_decoding_message_size(CONTROL_MESSAGE_BYTES)
                .max_encoding_message_size(CONTROL_MESSAGE_BYTES),
        )
    }

    /// Whether there is one, as far as this process has heard.
    pub fn is_known(&self) -> bool {
        self.current.borrow().is_some()
    }

    /// From now on the leader is this, or unknown.
    pub fn set(&self, connection: Option<Connection>) {
        self.current.send_replace(connection);
    }

    /// Makes a call until a leader has answered it. `call` gets a client and the leader's term.
    pub async fn call<T, F, R>(
        &self,
        method: &'static str,
        cancel: &CancellationToken,
        call: F,
    ) -> Result<T, CallError>
    where
        F: Fn(Client, LeaderTerm) -> R,
        R: Future<Output = Result<Response<T>, Status>>,
    {
        let deadline = Instant::now() + REPEAT_FOR;
        let repeat = async {
            let (mut failures, mut refusals) = (0, 0);
            let mut leaders = self.current.subscribe();
            loop {
                let known = leaders.wait_for(Option::is_some).await;
                let Some(connection) = known.ok().and_then(|c| c.clone()) else {
                    return Err(CallError::GivenUp);
                };
                let answer = timed(method, call(connection.client, connection.term)).await;
                match answer {
                    Ok(response) => return Ok(response),
                    Err(status) => match status.code() {
                        Code::FailedPrecondition => {
                            // Either the attempt is over, and the leader will say so; or this process has yet to register
                            // with it again.
                            self.suspicion.notify_one();
                            refusals += 1;
                            if refusals > REFUSALS {
                                return Err(CallError::Fenced(status.message().to_owned()));
                            }
                            tracing::warn!(method, "{}", status.message());
                            tokio::time::sleep(Backoff::CALLS.delay_jittered(refusals)).await;
                        }
                        Code::InvalidArgument
                        | Code::NotFound
                        | Code::Unimplemented
                        | Code::OutOfRange
                        | Code::PermissionDenied
                        | Code::Unauthenticated => {
                            return Err(CallError::Rejected(describe(&status)));
                        }
                        _ => {
                            failures += 1;
                            tracing::debug!(
                                method,
                                status = describe(&status),
                                "call failed, trying again"
                            );
                            tokio::time::sleep(Backoff::CALLS.delay_jittered(failures)).await;
                        }
                    },
                }
            }
        };
        tokio::select! {
            () = cancel.cancelled() => Err(CallError::GivenUp),
            () = tokio::time::sleep_until(deadline) => Err(CallError::GivenUp),
            answer = repeat => answer,
        }
    }
}

/// A leader that takes longer for a registration or heartbeat is paused or cut off: another one is looked for.
pub const PRESENCE_CALL_TIMEOUT: Duration = Duration::from_secs(2);

/// One call with the time-out of control calls; measured.
pub async fn timed<T>(
    method: &'static str,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, Status> {
    timed_within(CONTROL_CALL_TIMEOUT, method, call).await
}

/// One call with a time-out of its own; measured.
pub async fn timed_within<T>(
    limit: Duration,
    method: &'static str,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, Status> {
    let started = Instant::now();
    let answer = timeout(limit, call).await;
    histogram!(RPC_LATENCY, "method" => method).record(started.elapsed().as_secs_f64() * 1000.0);
    match answer {
        Ok(answer) => answer.map(Response::into_inner),
        Err(_) => Err(Status::deadline_exceeded(format!(
            "no answer within {limit:?}"
        ))),
    }
}
