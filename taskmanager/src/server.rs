//! Start and end of a task manager.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use weir_common::clock::Clock;
use weir_common::config::{Config, S3Config, TaskManagerConfig, TlsConfig};
use weir_common::limits::{CONTROL_MESSAGE_BYTES, EXCHANGE_MESSAGE_BYTES};
use weir_common::memory::MemoryBudget;
use weir_proto::transport::{TlsMaterial, TransportError};
use weir_proto::v1::exchange_server::ExchangeServer;
use weir_proto::v1::task_manager_control_server::TaskManagerControlServer;
use weir_state::StateMemory;

use crate::deploy::open::{Connectors, StandardConnectors};
use crate::drain::{self, Leaving};
use crate::node::{COPIES, Node, NodeParts};
use crate::register;
use crate::service::Service;
use crate::slot::Slot;

/// Receive windows of streams that carry batches.
const WINDOW_BYTES: u32 = 8 << 20;
/// How long calls under way have to end when the server stops.
const GRACE: Duration = Duration::from_secs(5);

/// What a task manager is told.
#[derive(Clone)]
pub struct TaskManagerOptions {
    /// Calls for another cluster are refused.
    pub cluster_id: String,
    /// Addresses, slots, memory, folders.
    pub config: TaskManagerConfig,
    /// Mutual TLS on every link; `None`: plain text.
    pub tls: Option<TlsConfig>,
    /// Access to object stores.
    pub s3: S3Config,
    /// Wall clock.
    pub clock: Clock,
    /// What opens sources and sinks.
    pub connectors: Arc<dyn Connectors>,
}

impl TaskManagerOptions {
    /// With the connectors of `weir-connectors` and the system's clock.
    pub fn from_config(config: &Config) -> Self {
        Self {
            cluster_id: config.cluster_id.clone(),
            config: config.taskmanager.clone(),
            tls: config.tls.clone(),
            s3: config.s3.clone(),
            clock: Clock::System,
            connectors: Arc::new(StandardConnectors),
        }
    }
}

/// Why a task manager can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration is wrong.
    #[error("{0}")]
    Config(String),
    /// The address can't be listened on.
    #[error("cannot listen on {0}: {1}")]
    Bind(SocketAddr, std::io::Error),
    /// Certificates can't be used.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The folder can't be used.
    #[error("cannot use taskmanager.data_dir {}: {error}", folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// The system's error.
        error: std::io::Error,
    },
    /// No memory or threads.
    #[error("cannot start: {0}")]
    Resources(String),
}

/// A process that runs subtasks.
pub struct TaskManager;

/// A running task manager. Dropping it without [`shutdown`](Self::shutdown) leaves it running.
pub struct TaskManagerHandle {
    node: Arc<Node>,
    server: JoinHandle<Result<(), tonic::transport::Error>>,
    registration: JoinHandle<()>,
}

impl TaskManager {
    /// With the connectors of `weir-connectors`; see [`Self::start_with`].
    ///
    /// # Errors
    /// If the configuration can't be carried out here.
    pub async fn start(config: Config) -> Result<TaskManagerHandle, StartError> {
        Self::start_with(TaskManagerOptions::from_config(&config)).await
    }

    /// Listens, starts the slots and begins to look for the job manager. Needs a multi-threaded tokio runtime around it.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn start_with(options: TaskManagerOptions) -> Result<TaskManagerHandle, StartError> {
        let bind = options.config.bind;
        let tls = options.tls.as_ref().map(read_tls).transpose()?;
        if options.config.slots == 0 || options.config.slots > 4096 {
            let slots = options.config.slots;
            let text = format!("taskmanager.slots is {slots}; it must be 1..=4096");
            return Err(StartError::Config(text));
        }
        if options.config.jobmanagers.is_empty() {
            let text =
                "taskmanager.jobmanagers is empty: name at least one job manager as HOST:PORT";
            return Err(StartError::Config(text.to_owned()));
        }
        let listener = TcpListener::bind(bind).await;
        let listener = listener.map_err(|error| StartError::Bind(bind, error))?;
        let bound = listener.local_addr();
        let bound = bound.map_err(|error| StartError::Bind(bind, error))?;
        let address = advertised(options.config.advertise.as_deref(), bound)?;
        let folder = options.config.data_dir.clone();
        empty(&folder).map_err(|error| StartError::Folder {
            folder: folder.clone(),
            error,
        })?;
        let resources = |error: String| StartError::Resources(error);
        let budget = MemoryBudget::of(options.config.memory_bytes);
        let memory = StateMemory::new(budget.rocksdb_bytes, budget.writes_bytes);
        let memory = memory.map_err(|error| resources(error.to_string()))?;
        let slots = (0..options.config.slots as usize).map(Slot::start);
        let slots = slots.collect::<std::io::Result<Vec<_>>>();
        let slots = slots.map_err(|error| resources(error.to_string()))?;
        let node = Node::new(NodeParts {
            id: uuid::Uuid::new_v4().simple().to_string(),
            address,
            slots,
            tls: tls.clone(),
            memory: Arc::new(memory),
            folder,
            options,
        });
        let server = serve(&node, listener, tls)?;
        let registration = tokio::spawn(register::run(Arc::clone(&node)));
        tracing::info!(
            address = node.address,
            task_manager = node.id,
            slots = node.slots.len(),
            "task manager started"
        );
        Ok(TaskManagerHandle {
            node,
            server,
            registration,
        })
    }
}

fn serve(
    node: &Arc<Node>,
    listener: TcpListener,
    tls: Option<TlsMaterial>,
) -> Result<JoinHandle<Result<(), tonic::transport::Error>>, StartError> {
    let mut builder = Server::builder()
        .tcp_nodelay(true)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(4 * WINDOW_BYTES)
        .http2_keepalive_interval(Some(Duration::from_secs(10)))
        .http2_keepalive_timeout(Some(Duration::from_secs(10)));
    if let Some(tls) = tls {
        let with_tls = builder.tls_config(tls.server());
        builder = with_tls.map_err(|error| StartError::Config(format!("TLS: {error}")))?;
    }
    let service = Service::new(Arc::clone(node));
    let control = TaskManagerControlServer::new(service.clone())
        .max_decoding_message_size(CONTROL_MESSAGE_BYTES)
        .max_encoding_message_size(CONTROL_MESSAGE_BYTES);
    let exchange = ExchangeServer::new(service)
        .max_decoding_message_size(EXCHANGE_MESSAGE_BYTES)
        .max_encoding_message_size(EXCHANGE_MESSAGE_BYTES);
    let (reporter, health) = tonic_health::server::health_reporter();
    let stop = node.shutdown.clone();
    let router = builder
        .add_service(health)
        .add_service(control)
        .add_service(exchange);
    Ok(tokio::spawn(async move {
        reporter
            .set_serving::<TaskManagerControlServer<Service>>()
            .await;
        let incoming = TcpListenerStream::new(listener);
        router
            .serve_with_incoming_shutdown(incoming, stop.cancelled_owned())
            .await
    }))
}

fn read_tls(config: &TlsConfig) -> Result<TlsMaterial, TransportError> {
    TlsMaterial::read(
        &config.ca,
        &config.certificate,
        &config.key,
        config.server_name.clone(),
    )
}

/// HOST:PORT for others: as configured, the port of the socket where none is given.
fn advertised(configured: Option<&str>, bound: SocketAddr) -> Result<String, StartError> {
    match configured {
        Some(host)
            if host
                .rsplit_once(':')
                .is_some_and(|(_, port)| port.parse::<u16>().is_ok()) =>
        {
            Ok(host.to_owned())
        }
        Some(host) => Ok(format!("{host}:{}", bound.port())),
        None if bound.ip().is_unspecified() => Err(StartError::Config(format!(
            "taskmanager.bind {bound} is every address of this machine: \
             set taskmanager.advertise to the HOST under which others reach it"
        ))),
        None => Ok(bound.to_string()),
    }
}

/// What an earlier process left in the folder is of no use but for copies of checkpoints' files: state comes from snapshots.
fn empty(folder: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.file_name().is_some_and(|name| name == COPIES) {
            continue;
        }
        if path.is_dir() {
            std::fs::remove_dir_all(path)?;
        } else {
            std::fs::remove_file(path)?;
        }
    }
    Ok(())
}

impl TaskManagerHandle {
    /// HOST:PORT under which others reach it.
    pub fn address(&self) -> &str {
        &self.node.address
    }

    /// The id with which it registers.
    pub fn id(&self) -> &str {
        &self.node.id
    }

    /// Asks the job manager to move what runs here to other task managers, and waits until nothing is left, as long as that can be hoped for
    /// (`taskmanager.drain_timeout_ms`). To be followed by [`shutdown`](Self::shutdown).
    pub async fn drain(&self) {
        tracing::info!("leaving: the jobs that run here are to move to other task managers");
        let timeout = Duration::from_millis(self.node.options.config.drain_timeout_ms);
        let leaves_behind = match drain::drain(&self.node, timeout).await {
            Leaving::Drained => {
                tracing::info!("nothing runs here any more");
                return;
            }
            Leaving::CannotDrain(why) => why,
            Leaving::TimedOut => format!(
                "they have not moved within {} s (taskmanager.drain_timeout_ms)",
                timeout.as_secs_f64()
            ),
            Leaving::Leaderless => "no leading job manager is there to move them".to_owned(),
        };
        tracing::warn!("leaves although subtasks run here, their jobs restart: {leaves_behind}");
    }

    /// Ends it: no calls are taken any more, subtasks are closed, all threads are gone when this returns. The job manager restarts its
    /// jobs elsewhere when it misses it.
    pub async fn shutdown(self) {
        self.stop();
        if let Err(error) = self.join().await {
            tracing::warn!(%error, "the task manager did not end well");
        }
    }

    /// Begins to end.
    pub fn stop(&self) {
        self.node.shutdown.cancel();
    }

    /// Waits until it has ended by [`stop`](Self::stop) or by an error of its server; all threads are gone then.
    ///
    /// # Errors
    /// The server's.
    pub async fn join(self) -> Result<(), StartError> {
        let Self {
            node,
            mut server,
            registration,
        } = self;
        let early = tokio::select! {
            () = node.shutdown.cancelled() => None,
            ended = &mut server => Some(ended),
        };
        node.shutdown.cancel();
        node.end_all().await;
        let ended = match early {
            Some(ended) => Some(ended),
            None => tokio::time::timeout(GRACE, &mut server).await.ok(),
        };
        server.abort();
        node.tracker.close();
        let background = tokio::time::timeout(GRACE, async {
            node.tracker.wait().await;
            registration.await
        });
        if background.await.is_err() {
            tracing::warn!("background work did not end in time");
        }
        let slots = Arc::clone(&node);
        let stopping = tokio::task::spawn_blocking(move || {
            for slot in &slots.slots {
                slot.stop();
            }
        });
        stopping
            .await
            .map_err(|error| StartError::Resources(error.to_string()))?;
        match ended {
            Some(Ok(Err(error))) => Err(StartError::Resources(format!("server: {error}"))),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_advertised_address_has_a_port() {
        let bound: SocketAddr = "127.0.0.1:99".parse().unwrap();
        assert_eq!(advertised(None, bound).unwrap(), "127.0.0.1:99");
        assert_eq!(advertised(Some("tm-1"), bound).unwrap(), "tm-1:99");
        assert_eq!(advertised(Some("tm-1:5"), bound).unwrap(), "tm-1:5");
        let every: SocketAddr = "0.0.0.0:99".parse().unwrap();
        assert!(advertised(None, every).is_err());
    }

    #[test]
    fn the_folder_is_emptied_but_for_local_copies() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("old/db")).unwrap();
        std::fs::create_dir_all(dir.path().join(COPIES)).unwrap();
        std::fs::write(dir.path().join("file"), b"x").unwrap();
        empty(dir.path()).unwrap();
        let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().collect();
        assert_eq!(left.len(), 1);
        assert!(dir.path().join(COPIES).is_dir());
    }
}
