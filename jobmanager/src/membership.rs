//! How a leader carries out changes of the job managers: users' wishes, and what follows by itself.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tonic::Status;
use weir_proto::v1;
use weir_proto::v1::JobManagerRole as Role;

use crate::error::{not_leader, propose_status};
use crate::leadership::Leadership;
use crate::raft::ProposeError;
use crate::raft::membership::{Change, Refusal};

const KEEP_EVERY: Duration = Duration::from_millis(200);
const DESCRIBE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a call waits for a new job manager to be ready, and then for it to vote.
const ADD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the next leader may take to come forward.
const YIELD_TIMEOUT: Duration = Duration::from_secs(3);

/// As long as this member leads: learners that have caught up become voters, and the log learns where this member is now.
pub async fn keep(leader: Arc<Leadership>) {
    loop {
        tokio::time::sleep(KEEP_EVERY).await;
        let own = leader.raft.own();
        let changes: Vec<Change> = {
            let view = leader.raft.view().read();
            let due = view.members.values().filter_map(|member| {
                if member.role() == Role::Learner {
                    return Some(Change::Promote(member.id));
                }
                let moved = member.id == own.id && member.address != own.address;
                moved.then(|| {
                    Change::Rejoin(v1::JobManagerMember {
                        address: own.address.clone(),
                        ..member.clone()
                    })
                })
            });
            due.collect()
        };
        for change in changes {
            if let Err(error) = leader.raft.change(change.clone()).await {
                tracing::debug!(?change, "not yet: {error}");
            }
        }
    }
}

/// Lets a running job manager in; comes back when it votes.
pub async fn add(leader: &Leadership, id: u64, address: &str) -> Result<(), Status> {
    if id == 0 {
        return Err(Status::invalid_argument("ids of job managers count from 1"));
    }
    let deadline = Instant::now() + ADD_TIMEOUT;
    let role = |id| {
        let view = leader.raft.view().read();
        let member = view.members.get(&id);
        member.map(|member| (member.role(), member.address.clone()))
    };
    if role(id) == Some((Role::Voter, address.to_owned())) {
        return Ok(());
    }
    let incarnation = ready(leader, id, address, deadline).await?;
    let member = v1::JobManagerMember {
        id,
        address: address.to_owned(),
        incarnation,
        ..Default::default()
    };
    let added = leader.raft.change(Change::Add(member)).await;
    added.map_err(|error| propose_status(&error))?;
    while !matches!(role(id), Some((Role::Voter, _))) {
        if Instant::now() >= deadline {
            return Err(Status::deadline_exceeded(format!(
                "job manager {id} is let in, but has not caught up within {} s; it will vote as soon as it has",
                ADD_TIMEOUT.as_secs()
            )));
        }
        tokio::time::sleep(KEEP_EVERY).await;
    }
    Ok(())
}

/// Waits until the process at the address asks to be let in; gives the number of its data folder.
async fn ready(
    leader: &Leadership,
    id: u64,
    address: &str,
    deadline: Instant,
) -> Result<u64, Status> {
    let client = leader.links.client(address);
    let client = client.map_err(|error| Status::invalid_argument(error.to_string()))?;
    loop {
        let request = v1::DescribeMemberRequest {
            cluster_id: leader.cluster_id.clone(),
        };
        let mut asking = client.clone();
        let asked = tokio::time::timeout(DESCRIBE_TIMEOUT, asking.describe(request)).await;
        let why = match asked {
            Ok(Ok(answer)) => {
                let answer = answer.into_inner();
                if answer.id != id {
                    return Err(Status::failed_precondition(format!(
                        "{address} is job manager {}, not {id}",
                        answer.id
                    )));
                }
                if !answer.blank {
                    return Ok(answer.incarnation);
                }
                "it has not found out that the cluster exists; are its jobmanager.peers those of this cluster?".to_owned()
            }
            Ok(Err(status)) => status.message().to_owned(),
            Err(_) => "no answer".to_owned(),
        };
        if Instant::now() + DESCRIBE_TIMEOUT >= deadline {
            return Err(Status::failed_precondition(format!(
                "no job manager is ready at {address} ({why}); start it first, with jobmanager.id={id}, an empty data folder and the \
                 cluster's job managers as jobmanager.peers"
            )));
        }
        tokio::time::sleep(KEEP_EVERY).await;
    }
}

/// Takes a job manager out. If it is this one, another one leads first and the caller is sent there.
pub async fn remove(leader: &Leadership, id: u64) -> Result<(), Status> {
    match leader.raft.change(Change::Remove(id)).await {
        Ok(()) => Ok(()),
        Err(ProposeError::Membership(Refusal::Leads)) => {
            leader.raft.yield_leadership(YIELD_TIMEOUT).await;
            let successor = leader.raft.status().borrow().leader;
            Err(not_leader(leader.raft.address_of(successor).as_deref()))
        }
        Err(error) => Err(propose_status(&error)),
    }
}
