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

/// Where the node puts what it has to say.
pub struct Outbox {
    queues: BTreeMap<u64, mpsc::Sender<Message>>,
}

impl Outbox {
    /// Hands a message to its peer's queue; drops it if the queue is full.
    pub(super) fn send(&self, message: Message) {
        if let Some(queue) = self.queues.get(&message.to) {
            let _ = queue.try_send(message);
        }
    }
}

/// Starts a task for each peer (id → HOST:PORT, without this member). They end with the token.
pub(super) fn start(
    cluster_id: &str,
    peers: &BTreeMap<u64, String>,
    tls: Option<&TlsMaterial>,
    node: &SyncSender<Input>,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> Result<Outbox, TransportError> {
    let mut queues = BTreeMap::new();
    for (&id, address) in peers {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let peer = Peer {
            id,
            address: address.clone(),
            cluster_id: cluster_id.to_owned(),
            client: RaftTransportClient::new(connect(address, tls)?)
                .max_encoding_message_size(limits::CONTROL_MESSAGE_BYTES)
                .max_decoding_message_size(limits::CONTROL_MESSAGE_BYTES),
            node: node.clone(),
            reachable: true,
        };
        let stop = stop.clone();
        tasks.spawn(stop.run_until_cancelled_owned(peer.run(receiver)));
        queues.insert(id, sender);
    }
    Ok(Outbox { queues })
}

struct Peer {
    id: u64,
    address: String,
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
        });
        request.set_timeout(if is_snapshot {
            SNAPSHOT_TIMEOUT
        } else {
            STEP_TIMEOUT
        });
        match self.client.step(request).await {
            Ok(_) => {
                if !self.reachable {
                    tracing::info!(peer = self.id, address = %self.address, "job manager is reachable again");
                }
                self.reachable = true;
                true
            }
            Err(status) => {
                if self.reachable {
                    tracing::warn!(
                        peer = self.id, address = %self.address,
                        "job manager does not take Raft messages: {}", status.message()
                    );
                }
                self.reachable = false;
                false
            }
        }
    }

    /// The node may be busy: then it learns it from the next message.
    fn tell(&self, input: Input) {
        let _ = self.node.try_send(input);
    }
}
