//! Starts a job manager: log, Raft, leader, server; and ends it in the opposite order.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::Server;
use weir_common::clock::Clock;
use weir_common::config::{Config, JobManagerConfig};
use weir_common::limits;
use weir_proto::transport::TlsMaterial;
use weir_proto::v1::job_manager_control_server::JobManagerControlServer;
use weir_proto::v1::job_service_server::JobServiceServer;
use weir_proto::v1::raft_transport_server::RaftTransportServer;

use crate::api::control_service::ControlService;
use crate::api::job_service::Jobs;
use crate::api::raft_service::RaftService;
use crate::error::JobManagerError;
use crate::job::Limits;
use crate::leader::Leader;
use crate::leadership::Surroundings;
use crate::raft::log_store::LogStore;
use crate::raft::network::Links;
use crate::raft::{RaftHandle, RaftNode, Who, entry};
use crate::task_managers::TaskManagers;

/// Calls under way get this long at shutdown.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(3);

/// A single job manager elects itself within milliseconds: callers need not learn that it might not have.
const ALONE_GRACE: Duration = Duration::from_secs(5);
/// A leader that ends waits this long for its successor.
const YIELD_TIMEOUT: Duration = Duration::from_secs(1);
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Entry point of the role.
pub struct JobManager;

/// A running job manager. To be ended by [`shutdown`](Self::shutdown).
pub struct JobManagerHandle {
    address: SocketAddr,
    advertised: String,
    node: RaftNode,
    raft: RaftHandle,
    leader: Leader,
    tasks: TaskTracker,
    stop: CancellationToken,
    server: JoinHandle<Result<(), tonic::transport::Error>>,
}

impl JobManager {
    /// Opens the data folder, listens and takes part in Raft. Returns once it serves; whether anyone leads is another question
    /// (see [`JobManagerHandle::wait_for_leader`]).
    pub async fn start(config: Config) -> Result<JobManagerHandle, JobManagerError> {
        let settings = &config.jobmanager;
        let listener = listen(settings.bind).await?;
        let address = listener
            .local_addr()
            .map_err(|error| JobManagerError::Server(error.to_string()))?;
        let peers = members(settings, address)?;
        let advertised = match peers.get(&settings.id) {
            Some(own) => own.clone(),
            None => advertised(settings, address),
        };
        let tls = match &config.tls {
            Some(tls) => Some(TlsMaterial::read(
                &tls.ca,
                &tls.certificate,
                &tls.key,
                tls.server_name.clone(),
            )?),
            None => None,
        };
        let who = Who {
            cluster_id: config.cluster_id.clone(),
            id: settings.id,
            address: advertised.clone(),
            configured: peers,
        };
        let alone = who.configured.len() == 1 && settings.id == 1;
        let (data_dir, cluster_id, id) =
            (settings.data_dir.clone(), who.cluster_id.clone(), who.id);
        let log = tokio::task::spawn_blocking(move || LogStore::open(&data_dir, &cluster_id, id))
            .await
            .map_err(|error| JobManagerError::Stopped(error.to_string()))?
            .map_err(crate::raft::node::StartError::from)?;
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let links = Links {
            cluster_id: config.cluster_id.clone(),
            tls: tls.clone(),
            tasks: tasks.clone(),
            stop: stop.clone(),
            runtime: tokio::runtime::Handle::current(),
        };
        let has_state = log.has_state();
        let (node, raft) = RaftNode::start(log, who, links.clone())?;
        let surroundings = surroundings(&config, &raft, &links, tls.clone());
        if !has_state {
            let now_ms = u64::try_from(Clock::System.now_ms()).unwrap_or(1).max(1);
            let coming_in = entry::come_in(raft.clone(), links, now_ms);
            tasks.spawn(stop.clone().run_until_cancelled_owned(coming_in));
        }
        let leader = Leader::new(raft.clone());
        tasks.spawn(leader.clone().run(surroundings, stop.clone()));
        let services = Services {
            raft: RaftService {
                cluster_id: config.cluster_id.clone(),
                raft: raft.clone(),
            },
            control: ControlService {
                cluster_id: config.cluster_id.clone(),
                leader: leader.clone(),
                heartbeat_interval_ms: settings.heartbeat_interval_ms,
            },
            jobs: Jobs {
                cluster_id: config.cluster_id.clone(),
                leader: leader.clone(),
                job_defaults: config.job_defaults.clone(),
                advertised: advertised.clone(),
            },
        };
        let server = services.serve(listener, tls.as_ref(), &stop)?;
        tracing::info!(%address, cluster = %config.cluster_id, id = settings.id, "job manager serves");
        if alone
            && tokio::time::timeout(ALONE_GRACE, leader.known())
                .await
                .is_err()
        {
            tracing::warn!("this only job manager does not lead yet");
        }
        Ok(JobManagerHandle {
            address,
            advertised,
            node,
            raft,
            leader,
            tasks,
            stop,
            server,
        })
    }
}

async fn listen(address: SocketAddr) -> Result<TcpListener, JobManagerError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| JobManagerError::Bind { address, source })
}

fn advertised(settings: &JobManagerConfig, address: SocketAddr) -> String {
    settings
        .advertise
        .clone()
        .unwrap_or_else(|| address.to_string())
}

/// The first members of the cluster by id. This one may come later: then it has a higher id and they are whom it asks.
fn members(
    settings: &JobManagerConfig,
    address: SocketAddr,
) -> Result<BTreeMap<u64, String>, JobManagerError> {
    let peers = if settings.peers.is_empty() {
        vec![advertised(settings, address)]
    } else {
        settings.peers.clone()
    };
    if settings.id == 0 {
        return Err(JobManagerError::Config(
            "jobmanager.id is 0; ids count from 1".to_owned(),
        ));
    }
    let first = settings.id <= peers.len() as u64;
    if !first && settings.peers.is_empty() {
        return Err(JobManagerError::Config(format!(
            "jobmanager.id is {}, but jobmanager.peers is empty: name the job managers of the cluster that it is to be added to",
            settings.id
        )));
    }
    if first && ![1, 3, 5].contains(&peers.len()) {
        return Err(JobManagerError::Config(format!(
            "jobmanager.peers has {} entries; a cluster begins with 1, 3 or 5 job managers",
            peers.len()
        )));
    }
    Ok((1..).zip(peers).collect())
}

fn surroundings(
    config: &Config,
    raft: &RaftHandle,
    links: &Links,
    tls: Option<TlsMaterial>,
) -> Surroundings {
    let settings = &config.jobmanager;
    let ms = |value: u64| i64::try_from(value).unwrap_or(i64::MAX / 4);
    Surroundings {
        cluster_id: config.cluster_id.clone(),
        raft: raft.clone(),
        links: links.clone(),
        s3: config.s3.clone(),
        task_managers: Arc::new(TaskManagers::new(tls)),
        clock: Clock::System,
        limits: Limits {
            slot_timeout_ms: ms(settings.slot_timeout_ms),
            reattach_timeout_ms: ms(settings.reattach_timeout_ms),
            restarting_timeout_ms: ms(settings
                .reattach_timeout_ms
                .min(settings.heartbeat_timeout_ms)),
        },
        heartbeat_timeout_ms: ms(settings.heartbeat_timeout_ms),
    }
}

struct Services {
    raft: RaftService,
    control: ControlService,
    jobs: Jobs,
}

impl Services {
    fn serve(
        self,
        listener: TcpListener,
        tls: Option<&TlsMaterial>,
        stop: &CancellationToken,
    ) -> Result<JoinHandle<Result<(), tonic::transport::Error>>, JobManagerError> {
        let failed = |error: &dyn std::fmt::Display| JobManagerError::Server(error.to_string());
        let reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(weir_proto::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .build_v1()
            .map_err(|error| failed(&error))?;
        let (_, health) = tonic_health::server::health_reporter();
        let bytes = limits::CONTROL_MESSAGE_BYTES;
        let mut builder = Server::builder();
        if let Some(tls) = tls {
            builder = builder
                .tls_config(tls.server())
                .map_err(|error| failed(&error))?;
        }
        let router = builder
            .tcp_nodelay(true)
            .http2_keepalive_interval(Some(KEEP_ALIVE))
            .http2_keepalive_timeout(Some(KEEP_ALIVE))
            .add_service(reflection)
            .add_service(health)
            .add_service(
                RaftTransportServer::new(self.raft)
                    .max_decoding_message_size(bytes)
                    .max_encoding_message_size(bytes),
            )
            .add_service(
                JobManagerControlServer::new(self.control)
                    .max_decoding_message_size(bytes)
                    .max_encoding_message_size(bytes),
            )
            .add_service(
                JobServiceServer::new(self.jobs)
                    .max_decoding_message_size(bytes)
                    .max_encoding_message_size(bytes),
            );
        let stopped = stop.clone().cancelled_owned();
        Ok(tokio::spawn(router.serve_with_incoming_shutdown(
            TcpListenerStream::new(listener),
            stopped,
        )))
    }
}

impl JobManagerHandle {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// HOST:PORT under which others reach it.
    pub fn advertised(&self) -> &str {
        &self.advertised
    }

    /// Whether this member leads.
    pub fn is_leader(&self) -> bool {
        self.leader.get().is_ok()
    }

    /// Waits until this member knows a leader; false if that takes longer than `timeout`.
    pub async fn wait_for_leader(&self, timeout: Duration) -> bool {
        tokio::time::timeout(timeout, self.leader.known())
            .await
            .is_ok()
    }

    /// Waits until it ends by itself, which it does only when something is broken: the error says what.
    pub async fn wait(&mut self) -> Result<(), JobManagerError> {
        let mut status = self.raft.status();
        let raft_ended = async { while status.changed().await.is_ok() {} };
        tokio::select! {
            result = &mut self.server => match result {
                Ok(Ok(())) => Ok(()),
                Ok(Err(error)) => Err(JobManagerError::Server(error.to_string())),
                Err(error) => Err(JobManagerError::Server(error.to_string())),
            },
            () = raft_ended => Err(JobManagerError::Stopped(
                "Raft has ended; the log has the reason".to_owned(),
            )),
        }
    }

    /// Ends everything it started. Jobs go on: their task managers look for another leader.
    pub async fn shutdown(mut self) {
        // An orderly change of leader takes less than an election.
        self.raft.yield_leadership(YIELD_TIMEOUT).await;
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        if !self.server.is_finished()
            && tokio::time::timeout(SHUTDOWN_GRACE, &mut self.server)
                .await
                .is_err()
        {
            self.server.abort();
        }
        let node = self.node;
        match tokio::task::spawn_blocking(move || node.stop()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!("Raft had ended before: {error}"),
            Err(error) => tracing::error!("Raft could not be ended: {error}"),
        }
    }
}
