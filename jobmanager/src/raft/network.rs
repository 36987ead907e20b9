//! Messages to the other job managers: a bounded queue and a task for each peer.
//!
//! Raft repeats what gets lost, so a full queue or a peer that cannot be reached drops messages instead of waiting.

use std::collections::BTreeMap;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use protobuf::Message as _;
use raft::prelude::{Message, MessageType};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::Code;
use tonic::transport::Channel;
use weir_common::limits;
use weir_proto::transport::{TlsMaterial, TransportError, connect};
use weir_proto::v1;
use weir_proto::v1::raft_transport_client::RaftTransportClient;

use super::node::Input;

/// Messages that wait for one peer.
const QUEUE: usize = 512;
/// A peer that does not take a message in this time is treated as unreachable.
const STEP_TIMEOUT: Duration = Duration::from_secs(2);
/// As above, for the whole state.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(30);

/// What links to peers are made with.
#[derive(Clone)]
pub struct Links {
    /// Name of the cluster.
    pub cluster_id: String,
    /// Certificates.
    pub tls: Option<TlsMaterial>,
    /// The peers' tasks.
    pub tasks: TaskTracker,
    /// Ends them.
    pub stop: CancellationToken,
    /// Where they run: the node's thread belongs to no runtime.
    pub runtime: tokio::runtime::Handle,
}

impl Links {
    /// A client of the job manager at HOST:PORT; connects with the first call.
    pub fn client(&self, address: &str) -> Result<RaftTransportClient<Channel>, TransportError> {
        let _inside = self.runtime.enter();
        Ok(
            RaftTransportClient::new(connect(address, self.tls.as_ref())?)
                .max_encoding_message_size(limits::CONTROL_MESSAGE_BYTES)
                .max_decoding_message_size(limits::CONTROL_MESSAGE_BYTES),
        )
    }
}

/// Where a peer is, and which data folder is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// HOST:PORT
    pub address: String,
    /// See [`v1::JobManagerMember`].
    pub incarnation: u64,
}

struct Link {
    target: Target,
    queue: mpsc::Sender<Message>,
    stop: CancellationToken,
}

/// Where the node puts what it has to say.
pub struct Outbox {
    links: Links,
    own_incarnation: u64,
    own_address: String,
    node: SyncSender<Input>,
    peers: BTreeMap<u64, Link>,
}

impl Outbox {
    /// No peers yet.
    pub(super) fn new(
        links: Links,
        own_incarnation: u64,
        own_address: String,
        node: SyncSender<Input>,
    ) -> Self {
        Self {
            links,
            own_incarnation,
            own_address,
            node,
            peers: BTreeMap::new(),
        }
    }

    /// Hands a message to its peer's queue; drops it if the queue is full.
    pub(super) fn send(&self, message: Message) {
        if let Some(link) = self.peers.get(&message.to) {
            let _ = link.queue.try_send(message);
        }
    }

    /// From now on the peers are these: links to others end, links to new ones begin.
    pub(super) fn set(&mut self, targets: BTreeMap<u64, Target>) {
        self.peers.retain(|id, link| {
            let stays = targets.get(id) == Some(&link.target);
            if !stays {
                link.stop.cancel();
            }
            stays
        });
        for (id, target) in targets {
            if self.peers.contains_key(&id) {
                continue;
            }
            match self.link(id, target) {
                Ok(link) => {
                    self.peers.insert(id, link);
                }
                Err(error) => tracing::error!(peer = id, "job manager cannot be reached: {error}"),
            }
        }
    }

    /// A peer that the log has not named yet has spoken: it can be answered until the members are set anew.
    pub(super) fn meet(&mut self, id: u64, target: Target) {
        if self
            .peers
            .get(&id)
            .is_some_and(|link| link.target == target)
        {
            return;
        }
        if let Ok(link) = self.link(id, target)
            && let Some(former) = self.peers.insert(id, link)
        {
            former.stop.cancel();
        }
    }

    fn link(&self, id: u64, target: Target) -> Result<Link, TransportError> {
        let (queue, receiver) = mpsc::channel(QUEUE);
        let peer = Peer {
            id,
            target: target.clone(),
            own_incarnation: self.own_incarnation,
            own_address: self.own_address.clone(),
            cluster_id: self.links.cluster_id.clone(),
            client: self.links.client(&target.address)?,
            node: self.node.clone(),
            reachable: true,
        };
        let stop = self.links.stop.child_token();
        let work = stop.clone().run_until_cancelled_owned(peer.run(receiver));
        self.links.tasks.spawn_on(work, &self.links.runtime);
        Ok(Link {
            target,
            queue,
            stop,
        })
    }
}

struct Peer {
    id: u64,
    target: Target,
    own_incarnation: u64,
    own_address: String,
    cluster_id: String,
    client: RaftTransportClient<Channel>,
    node: SyncSender<Input>,
    reachable: bool,
}

impl Peer {
    async fn run(mut self, mut queue: mpsc::Receiver<Message>) {
        while let Some(message) = queue.recv().await {
            let is_snapshot = message.get_msg_type() == MessageType::MsgSnapshot;
            let sent = self.deliver(message, is_snapshot).await;
            if is_snapshot {
                self.tell(Input::SnapshotSent {
                    peer: self.id,
                    ok: sent,
                });
            }
            if !sent {
                // What waited is as old as the failure: Raft sends anew.
                while queue.try_recv().is_ok() {}
                self.tell(Input::Unreachable { peer: self.id });
            }
        }
    }

    async fn deliver(&mut self, message: Message, is_snapshot: bool) -> bool {
        let Ok(bytes) = message.write_to_bytes() else {
            return false;
        };
        let mut request = tonic::Request::new(v1::RaftStepRequest {
            cluster_id: self.cluster_id.clone(),
            from: message.from,
            to: message.to,
            message: bytes.into(),
            from_incarnation: self.own_incarnation,
            to_incarnation: self.target.incarnation,
            from_address: self.own_address.clone(),
        });
        request.set_timeout(if is_snapshot {
            SNAPSHOT_TIMEOUT
        } else {
            STEP_TIMEOUT
        });
        match self.client.step(request).await {
            Ok(_) => {
                if !self.reachable {
                    tracing::info!(peer = self.id, address = %self.target.address, "job manager is reachable again");
                }
                self.reachable = true;
                true
            }
            Err(status) => {
                if self.reachable {
                    tracing::warn!(
                        peer = self.id, address = %self.target.address,
                        "job manager does not take Raft messages: {}", status.message()
                    );
                }
                self.reachable = false;
                if status.code() == Code::PermissionDenied {
                    self.tell(Input::Expelled {
                        why: status.message().to_owned(),
                    });
                }
                false
            }
        }
    }

    /// The node may be busy: then it learns it from the next message.
    fn tell(&self, input: Input) {
        let _ = self.node.try_send(input);
    }
}
