//! How a member with an empty data folder comes in. It may be one of the first members of a new cluster, or one that has lost its disk: it
//! may have voted and acknowledged what it does not know any more, so it must not vote before the others have let it in anew.

use std::time::{Duration, Instant};

use futures::future::join_all;
use tonic::Status;
use weir_proto::v1;

use super::handle::RaftHandle;
use super::membership::{Description, Entry, entry};
use super::network::Links;
use crate::error::LEADER_KEY;

const ASK_EVERY: Duration = Duration::from_millis(100);
const ASK_LATER: Duration = Duration::from_secs(1);
const ASK_TIMEOUT: Duration = Duration::from_secs(1);
/// How long the first members wait for all of them, before most of them found the cluster without the rest.
const PATIENCE: Duration = Duration::from_secs(5);
const JOIN_EVERY: Duration = Duration::from_millis(500);
/// Joining takes proposals that are replicated.
const JOIN_TIMEOUT: Duration = Duration::from_secs(12);
/// How often a member that is still outside says why.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// A member without data: founds the cluster or asks to be let in, until it has a state.
pub async fn come_in(raft: RaftHandle, links: Links, now_ms: u64) {
    if raft.status().borrow().incarnation.is_none() {
        match decide(&raft, &links).await {
            Entry::Join => {
                tracing::warn!(
                    id = raft.own().id,
                    "this job manager has no data, but its cluster exists already: it waits to be let in and does not vote before"
                );
                raft.claim(now_ms);
            }
            _ => raft.found(),
        }
        let mut status = raft.status();
        if status.wait_for(|s| s.incarnation.is_some()).await.is_err() {
            return;
        }
    }
    join(&raft, &links).await;
}

/// Addresses of the others in the configuration.
fn others(raft: &RaftHandle) -> Vec<String> {
    let own = raft.own();
    let others = raft.configured.iter();
    others
        .filter(|(id, address)| **id != own.id && **address != own.address)
        .map(|(_, address)| address.clone())
        .collect()
}

async fn decide(raft: &RaftHandle, links: &Links) -> Entry {
    let (started, others) = (Instant::now(), others(raft));
    let mut said: Option<Instant> = None;
    loop {
        let asked = others.iter().map(|address| describe(links, address));
        let (mut heard, mut reasons) = (Vec::new(), Vec::new());
        for answer in join_all(asked).await {
            match answer {
                Ok(description) => heard.push(description),
                Err(reason) => reasons.push(reason),
            }
        }
        let patient = started.elapsed() < PATIENCE;
        let entry = entry(raft.own().id, raft.configured.len(), &heard, patient);
        if entry != Entry::Wait {
            return entry;
        }
        if !patient && said.is_none_or(|at| at.elapsed() >= SAY_EVERY) {
            said = Some(Instant::now());
            tracing::warn!(
                "waits for most of the job managers, {} of {} others answer: {}",
                heard.len(),
                others.len(),
                reasons.join("; ")
            );
        }
        tokio::time::sleep(if patient { ASK_EVERY } else { ASK_LATER }).await;
    }
}

async fn describe(links: &Links, address: &str) -> Result<Description, String> {
    let mut client = links.client(address).map_err(|error| error.to_string())?;
    let request = v1::DescribeMemberRequest {
        cluster_id: links.cluster_id.clone(),
    };
    match tokio::time::timeout(ASK_TIMEOUT, client.describe(request)).await {
        Ok(Ok(answer)) => Ok(Description {
            blank: answer.into_inner().blank,
        }),
        Ok(Err(status)) => Err(format!("{address}: {}", status.message())),
        Err(_) => Err(format!("{address}: no answer")),
    }
}

/// Asks until a leader has let this member in and it has a state.
async fn join(raft: &RaftHandle, links: &Links) {
    let mut status = raft.status();
    let mut said: Option<Instant> = None;
    let mut hint: Option<String> = None;
    loop {
        let seen = *status.borrow_and_update();
        let (Some(incarnation), false) = (seen.incarnation, seen.has_state) else {
            return;
        };
        let request = v1::JoinRequest {
            cluster_id: links.cluster_id.clone(),
            id: raft.own().id,
            incarnation,
            address: raft.own().address.clone(),
        };
        let mut reason = String::new();
        for address in hint.take().into_iter().chain(others(raft)) {
            match ask(links, &address, request.clone()).await {
                Ok(()) => {
                    reason.clear();
                    break;
                }
                Err(status) => {
                    hint = hint.or_else(|| leader_of(&status));
                    reason = format!("{address}: {}", status.message());
                }
            }
        }
        if !reason.is_empty() && said.is_none_or(|at| at.elapsed() >= SAY_EVERY) {
            said = Some(Instant::now());
            tracing::warn!(id = raft.own().id, "not let in yet: {reason}");
        }
        // With the first snapshot there is a state.
        let _ = tokio::time::timeout(JOIN_EVERY, status.wait_for(|s| s.has_state)).await;
    }
}

async fn ask(links: &Links, address: &str, request: v1::JoinRequest) -> Result<(), Status> {
    let mut client = links
        .client(address)
        .map_err(|error| Status::invalid_argument(error.to_string()))?;
    match tokio::time::timeout(JOIN_TIMEOUT, client.join(request)).await {
        Ok(answer) => answer.map(drop),
        Err(_) => Err(Status::deadline_exceeded("no answer")),
    }
}

fn leader_of(status: &Status) -> Option<String> {
    let value = status.metadata().get(LEADER_KEY)?.to_str().ok()?;
    Some(value.to_owned())
}
