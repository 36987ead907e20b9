//! Calls to task managers: channels by address, with time-outs and measured.

use std::collections::HashMap;
use std::future::Future;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tonic::transport::Channel;
use tonic::{Response, Status};
use weir_common::{limits, metric_names};
use weir_proto::transport::{TlsMaterial, connect};
use weir_proto::v1::task_manager_control_client::TaskManagerControlClient;

/// Connections to task managers; made when they are first needed.
pub struct TaskManagers {
    tls: Option<TlsMaterial>,
    clients: Mutex<HashMap<String, TaskManagerControlClient<Channel>>>,
}

impl TaskManagers {
    /// None yet.
    pub fn new(tls: Option<TlsMaterial>) -> Self {
        Self {
            tls,
            clients: Mutex::new(HashMap::new()),
        }
    }

    /// The one at this HOST:PORT.
    pub fn client(&self, address: &str) -> Result<TaskManagerControlClient<Channel>, Status> {
        let mut clients = self.clients.lock();
        if let Some(client) = clients.get(address) {
            return Ok(client.clone());
        }
        let channel = connect(address, self.tls.as_ref())
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let client = TaskManagerControlClient::new(channel)
            .max_decoding_message_size(limits::CONTROL_MESSAGE_BYTES)
            .max_encoding_message_size(limits::CONTROL_MESSAGE_BYTES);
        clients.insert(address.to_owned(), client.clone());
        Ok(client)
    }

    /// It is gone: its connection is not kept.
    pub fn forget(&self, address: &str) {
        self.clients.lock().remove(address);
    }
}

/// Makes one call with a limit on its time.
pub async fn call<T>(
    method: &'static str,
    timeout: Duration,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, Status> {
    let started = Instant::now();
    let result = match tokio::time::timeout(timeout, call).await {
        Ok(result) => result.map(Response::into_inner),
        Err(_) => Err(Status::deadline_exceeded(format!(
            "no answer within {} s",
            timeout.as_secs()
        ))),
    };
    let elapsed_ms = started.elapsed().as_secs_f64() * 1000.0;
    metrics::histogram!(metric_names::RPC_LATENCY, "method" => method).record(elapsed_ms);
    result
}
