//! Calls to the job managers: finds the leader and follows it.

use std::time::{Duration, Instant};

use anyhow::Context;
use tonic::transport::Channel;
use tonic::{Code, Status};
use weir_common::backoff::Backoff;
use weir_common::config::{Config, TlsConfig};
use weir_common::limits;
use weir_proto::transport::{TlsMaterial, connect};
use weir_proto::v1::job_service_client::JobServiceClient;

/// How long a call looks for a leader before it gives up.
const LEADER_TIMEOUT: Duration = Duration::from_secs(20);

/// A client of `JobService` that may be called while leaders change.
pub struct JobClient {
    addresses: Vec<String>,
    current: usize,
    tls: Option<TlsMaterial>,
}

/// Certificates of this process, if TLS is configured.
pub fn tls_material(tls: Option<&TlsConfig>) -> anyhow::Result<Option<TlsMaterial>> {
    let read = |tls: &TlsConfig| {
        TlsMaterial::read(&tls.ca, &tls.certificate, &tls.key, tls.server_name.clone())
    };
    Ok(tls.map(read).transpose()?)
}

impl JobClient {
    /// Does not connect yet.
    pub fn new(config: &Config, addresses: &[String]) -> anyhow::Result<Self> {
        anyhow::ensure!(
            !addresses.is_empty(),
            "no address of a job manager is given; use --jobmanager HOST:PORT"
        );
        Ok(Self {
            addresses: addresses.to_vec(),
            current: 0,
            tls: tls_material(config.tls.as_ref())?,
        })
    }

    /// Calls until a leader answers. `timeout` bounds one call; `call` may run several times, so it must be idempotent.
    pub async fn call<T, F>(&mut self, timeout: Duration, call: F) -> anyhow::Result<T>
    where
        F: AsyncFn(JobServiceClient<Channel>) -> Result<T, Status>,
    {
        let deadline = Instant::now() + LEADER_TIMEOUT;
        let mut failures = 0;
        loop {
            let status = match self.call_once(timeout, &call).await? {
                Ok(answer) => return Ok(answer),
                Err(status) => status,
            };
            // The last two are how a connection that TLS refuses shows.
            let unreachable = matches!(
                status.code(),
                Code::Unavailable | Code::Cancelled | Code::Unknown
            );
            if !unreachable {
                anyhow::bail!("{}", status.message());
            }
            if Instant::now() >= deadline {
                anyhow::bail!(
                    "no job manager at {} answers as leader: {}",
                    self.addresses.join(", "),
                    reason(&status)
                );
            }
            self.follow(&status);
            failures += 1;
            tokio::time::sleep(Backoff::CALLS.delay_jittered(failures)).await;
        }
    }

    async fn call_once<T, F>(
        &self,
        timeout: Duration,
        call: &F,
    ) -> anyhow::Result<Result<T, Status>>
    where
        F: AsyncFn(JobServiceClient<Channel>) -> Result<T, Status>,
    {
        let address = self.addresses.get(self.current).context("no job manager")?;
        let channel = connect(address, self.tls.as_ref())?;
        let client = JobServiceClient::new(channel)
            .max_decoding_message_size(limits::CONTROL_MESSAGE_BYTES)
            .max_encoding_message_size(limits::CONTROL_MESSAGE_BYTES);
        Ok(match tokio::time::timeout(timeout, call(client)).await {
            Ok(answer) => answer,
            // A paused or cut-off job manager: another one may lead by now.
            Err(_) => Err(Status::unavailable(format!(
                "{address} did not answer within {timeout:?}"
            ))),
        })
    }

    /// To the leader if the answer names one, else to the next address.
    fn follow(&mut self, status: &Status) {
        let leader = status
            .metadata()
            .get("weir-leader")
            .and_then(|value| value.to_str().ok());
        self.current = match leader {
            Some(leader) => match self.addresses.iter().position(|address| address == leader) {
                Some(index) => index,
                None => {
                    self.addresses.push(leader.to_owned());
                    self.addresses.len() - 1
                }
            },
            None => (self.current + 1) % self.addresses.len(),
        };
    }
}

/// With the causes that a refused connection has.
fn reason(status: &Status) -> String {
    let mut text = status.message().to_owned();
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        let part = error.to_string();
        if !text.contains(&part) {
            text = format!("{text}: {part}");
        }
        cause = error.source();
    }
    text
}
