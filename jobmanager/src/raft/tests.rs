//! Members over real sockets and logs.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use weir_proto::v1;
use weir_proto::v1::meta_command::Command;
use weir_proto::v1::raft_transport_server::RaftTransportServer;

use super::log_store::LogStore;
use super::{Identity, ProposeError, RaftHandle, RaftNode};
use crate::api::raft_service::RaftService;
use crate::meta::{Outcome, command};

struct Member {
    node: RaftNode,
    raft: RaftHandle,
    tasks: TaskTracker,
    stop: CancellationToken,
}

async fn start(folder: &Path, id: u64, peers: &BTreeMap<u64, String>) -> Member {
    let identity = Identity {
        cluster_id: "test".to_owned(),
        id,
        members: peers.len() as u64,
    };
    let log = LogStore::open(&folder.join(id.to_string()), &identity).unwrap();
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let (node, raft) = RaftNode::start(log, &identity, peers, None, &tasks, &stop).unwrap();
    let listener = tokio::net::TcpListener::bind(&peers[&id]).await.unwrap();
    let service = RaftTransportServer::new(RaftService {
        identity,
        raft: raft.clone(),
    });
    let server = tonic::transport::Server::builder()
        .add_service(service)
        .serve_with_incoming_shutdown(
            TcpListenerStream::new(listener),
            stop.clone().cancelled_owned(),
        );
    tasks.spawn(server);
    Member {
        node,
        raft,
        tasks,
        stop,
    }
}

impl Member {
    async fn end(self) {
        self.stop.cancel();
        self.tasks.close();
        let _ = tokio::time::timeout(Duration::from_secs(5), self.tasks.wait()).await;
        tokio::task::spawn_blocking(move || self.node.stop())
            .await
            .unwrap()
            .unwrap();
    }

    fn jobs(&self) -> usize {
        self.raft.view().read().jobs().count()
    }
}

fn submission(name: &str) -> v1::MetaCommand {
    let job = v1::NewJob {
        job_id: name.to_owned(),
        graph: Some(v1::JobGraph::default()),
        ..Default::default()
    };
    let jobs = vec![job];
    command::at(
        0,
        Command::SubmitJobs(v1::SubmitJobsCommand {
            request_id: name.to_owned(),
            jobs,
        }),
    )
}

async fn until(what: &str, check: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !check() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn peers() -> BTreeMap<u64, String> {
    let sockets: Vec<_> = (0..3)
        .map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap())
        .collect();
    let addresses = sockets
        .iter()
        .map(|socket| socket.local_addr().unwrap().to_string());
    (1..).zip(addresses).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_fell_behind_the_log_catches_up_by_a_snapshot() {
    let folder = tempfile::tempdir().unwrap();
    let peers = peers();
    let mut members = BTreeMap::new();
    for id in 1..=3 {
        members.insert(id, start(folder.path(), id, &peers).await);
    }
    let leads = |member: &Member| member.raft.status().borrow().leading;
    until("a leader", || members.values().any(leads)).await;
    let leader = *members.iter().find(|(_, member)| leads(member)).unwrap().0;
    let follower = members.keys().copied().find(|id| *id != leader).unwrap();
    let refused = members[&follower].raft.propose(&submission("x")).await;
    assert!(matches!(refused, Err(ProposeError::NotLeader)));

    members.remove(&follower).unwrap().end().await;
    // More than the log keeps.
    for n in 0..100 {
        let name = format!("job-{n:03}");
        let outcome = members[&leader]
            .raft
            .propose(&submission(&name))
            .await
            .unwrap();
        assert_eq!(outcome, Outcome::Jobs(vec![name]));
    }
    let back = start(folder.path(), follower, &peers).await;
    until("the follower to catch up", || back.jobs() == 100).await;
    back.end().await;

    // And from its own disk: the snapshot and what followed it.
    let last = members.remove(&leader).unwrap();
    last.end().await;
    let again = start(folder.path(), follower, &peers).await;
    until("a leader among the two", || {
        leads(&again) || members.values().any(leads)
    })
    .await;
    until("the state from disk", || again.jobs() == 100).await;
    again.end().await;
    for (_, member) in members {
        member.end().await;
    }
}
