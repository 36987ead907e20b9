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
use super::membership::{Change, Refusal};
use super::network::Links;
use super::{ProposeError, RaftHandle, RaftNode, Who, entry};
use crate::api::raft_service::RaftService;
use crate::meta::{Outcome, command};

struct Member {
    node: RaftNode,
    raft: RaftHandle,
    tasks: TaskTracker,
    stop: CancellationToken,
}

async fn start(folder: &Path, id: u64, peers: &BTreeMap<u64, String>) -> Member {
    start_in(&folder.join(id.to_string()), id, &peers[&id], peers).await
}

async fn start_in(folder: &Path, id: u64, address: &str, peers: &BTreeMap<u64, String>) -> Member {
    let log = LogStore::open(folder, "test", id).unwrap();
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let links = Links {
        cluster_id: "test".to_owned(),
        tls: None,
        tasks: tasks.clone(),
        stop: stop.clone(),
        runtime: tokio::runtime::Handle::current(),
    };
    let who = Who {
        cluster_id: "test".to_owned(),
        id,
        address: address.to_owned(),
        configured: peers.clone(),
    };
    let (node, raft) = RaftNode::start(log, who, links.clone()).unwrap();
    let coming_in = entry::come_in(raft.clone(), links, now_ms());
    tasks.spawn(stop.clone().run_until_cancelled_owned(coming_in));
    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    let service = RaftTransportServer::new(RaftService {
        cluster_id: "test".to_owned(),
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

fn now_ms() -> u64 {
    u64::try_from(weir_common::clock::Clock::System.now_ms()).unwrap()
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

    fn leads(&self) -> bool {
        self.raft.status().borrow().leading
    }

    fn role(&self, id: u64) -> Option<v1::JobManagerRole> {
        let view = self.raft.view().read();
        view.members.get(&id).map(v1::JobManagerMember::role)
    }

    /// Takes steps of a change until nothing is left to do.
    async fn change(&self, change: Change, until: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !until(self) {
            assert!(Instant::now() < deadline, "waited in vain for {change:?}");
            let _ = self.raft.change(change.clone()).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
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
    until("a leader", || members.values().any(Member::leads)).await;
    let leader = *members.iter().find(|(_, member)| member.leads()).unwrap().0;
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
        again.leads() || members.values().any(Member::leads)
    })
    .await;
    until("the state from disk", || again.jobs() == 100).await;
    again.end().await;
    for (_, member) in members {
        member.end().await;
    }
}

/// Three members, the id of the leader and of another one.
async fn three(folder: &Path) -> (BTreeMap<u64, String>, BTreeMap<u64, Member>, u64, u64) {
    let peers = peers();
    let mut members = BTreeMap::new();
    for id in 1..=3 {
        members.insert(id, start(folder, id, &peers).await);
    }
    until("a leader", || members.values().any(Member::leads)).await;
    let leader = *members.iter().find(|(_, member)| member.leads()).unwrap().0;
    let follower = members.keys().copied().find(|id| *id != leader).unwrap();
    (peers, members, leader, follower)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_lost_its_disk_votes_only_after_it_was_let_in_anew() {
    let folder = tempfile::tempdir().unwrap();
    let (peers, mut members, leader, lost) = three(folder.path()).await;
    let proposed = members[&leader].raft.propose(&submission("a")).await;
    assert!(proposed.is_ok());

    members.remove(&lost).unwrap().end().await;
    std::fs::remove_dir_all(folder.path().join(lost.to_string())).unwrap();
    let back = start(folder.path(), lost, &peers).await;
    let mut status = back.raft.status();
    let claimed = status.wait_for(|status| status.incarnation.is_some());
    let incarnation = claimed.await.unwrap().incarnation.unwrap();
    assert!(incarnation > 0, "it took itself for a first member");

    // It asks by itself; the leader promotes it as `membership::keep` would.
    members[&leader]
        .change(Change::Promote(lost), |leader| {
            let view = leader.raft.view().read();
            let member = &view.members[&lost];
            member.incarnation == incarnation && member.role() == v1::JobManagerRole::Voter
        })
        .await;
    until("the state comes back", || back.jobs() == 1).await;
    // And it counts: with one more member gone, it is needed.
    let third = *peers
        .keys()
        .find(|id| ![leader, lost].contains(id))
        .unwrap();
    members.remove(&third).unwrap().end().await;
    let needed = members[&leader].raft.propose(&submission("b")).await;
    assert!(needed.is_ok(), "{needed:?}");
    // After a restart it is an ordinary member.
    back.end().await;
    let again = start(folder.path(), lost, &peers).await;
    until("both jobs", || again.jobs() == 2).await;
    again.end().await;
    for (_, member) in members {
        member.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn members_are_added_and_removed_one_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let (peers, mut members, leader, other) = three(folder.path()).await;
    let leads = &members[&leader];
    leads.raft.propose(&submission("a")).await.unwrap();
    let address = self::peers()[&1].clone();
    let fourth = start_in(&folder.path().join("4"), 4, &address, &peers).await;
    let mut status = fourth.raft.status();
    let claimed = status.wait_for(|status| status.incarnation.is_some());
    let new = v1::JobManagerMember {
        id: 4,
        address,
        incarnation: claimed.await.unwrap().incarnation.unwrap(),
        ..Default::default()
    };
    // Not before somebody says so.
    let uninvited = leads.raft.change(Change::Rejoin(new.clone())).await;
    let uninvited = uninvited.unwrap_err().to_string();
    assert!(uninvited.contains("weir jobmanager add 4="), "{uninvited}");
    leads.raft.change(Change::Add(new)).await.unwrap();
    leads
        .change(Change::Promote(4), |leader| {
            leader.role(4) == Some(v1::JobManagerRole::Voter)
        })
        .await;
    until("the fourth has the state", || fourth.jobs() == 1).await;

    let removed = |id| move |leader: &Member| leader.role(id) == Some(v1::JobManagerRole::Removed);
    leads.change(Change::Remove(other), removed(other)).await;
    let gone = members.remove(&other).unwrap();
    // The others tell it, and its node ends.
    let mut status = gone.raft.status();
    tokio::time::timeout(Duration::from_secs(30), async {
        while status.changed().await.is_ok() {}
    })
    .await
    .unwrap();
    gone.stop.cancel();
    let why = tokio::task::spawn_blocking(move || gone.node.stop())
        .await
        .unwrap()
        .unwrap_err();
    assert!(
        why.contains("taken out") || why.contains("removed"),
        "{why}"
    );

    let own = members[&leader].raft.change(Change::Remove(leader)).await;
    assert!(matches!(own, Err(ProposeError::Membership(Refusal::Leads))));
    members[&leader]
        .raft
        .yield_leadership(Duration::from_secs(10))
        .await;
    until("another leader", || {
        fourth.leads() || members.iter().any(|(id, m)| *id != leader && m.leads())
    })
    .await;
    fourth.end().await;
    for (_, member) in members {
        member.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_cut_off_answers_no_read() {
    let folder = tempfile::tempdir().unwrap();
    let (_, mut members, leader, _) = three(folder.path()).await;
    members[&leader].raft.read_barrier().await.unwrap();
    let alone = members.remove(&leader).unwrap();
    for (_, member) in members {
        member.end().await;
    }
    assert!(alone.raft.read_barrier().await.is_err());
    alone.end().await;
}
