//! Finds the leading job manager, registers with it and reports to it at the interval it asks for, until the process ends.
//!
//! Losing the leader stops nothing: subtasks run on, and the next leader adopts them. What a leader calls stale is torn down at once, before
//! anything else is said to it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tonic::Status;
use weir_common::backoff::Backoff;
use weir_common::ids::LeaderTerm;
use weir_proto::v1;

use crate::drain::Answer;
use crate::exchange::send::describe;
use crate::leader::{Connection, PRESENCE_CALL_TIMEOUT, timed_within};
use crate::memory;
use crate::node::Node;

/// Metadata key in which a follower names the leader.
const LEADER_HINT: &str = "weir-leader";
/// Bounds of what a leader may ask for.
const INTERVAL_MS: std::ops::RangeInclusive<u64> = 10..=60_000;

/// What follows from a registration.
struct Registered {
    connection: Connection,
    interval: Duration,
}

/// The loop; ends when the node shuts down.
pub async fn run(node: Arc<Node>) {
    let stop = node.shutdown.clone();
    let work = async {
        let mut failures = 0;
        let mut hint = None;
        loop {
            match register_somewhere(&node, hint.take()).await {
                Some(registered) => {
                    failures = 0;
                    hint = heartbeats(&node, registered).await;
                }
                None => {
                    failures += 1;
                    if failures == 5 {
                        tracing::warn!(jobmanagers = ?node.options.config.jobmanagers, "no leading job manager found, still trying");
                    }
                    tokio::time::sleep(Backoff::CALLS.delay_jittered(failures)).await;
                }
            }
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = work => {}
    }
}

/// Asks the hinted job manager, then all configured ones; follows hints on the way.
async fn register_somewhere(node: &Arc<Node>, hint: Option<String>) -> Option<Registered> {
    let mut candidates: VecDeque<String> = hint.into_iter().collect();
    candidates.extend(node.options.config.jobmanagers.iter().cloned());
    let mut followed = 0;
    while let Some(address) = candidates.pop_front() {
        match register(node, &address).await {
            Ok(registered) => return Some(registered),
            Err(status) => {
                tracing::debug!(address, status = describe(&status), "not registered");
                if let Some(leader) = hint_of(&status)
                    && leader != address
                    && followed < 3
                {
                    followed += 1;
                    candidates.push_front(leader);
                }
            }
        }
    }
    None
}

fn hint_of(status: &Status) -> Option<String> {
    let value = status.metadata().get(LEADER_HINT)?.to_str().ok()?;
    (!value.is_empty()).then(|| value.to_owned())
}

async fn register(node: &Arc<Node>, address: &str) -> Result<Registered, Status> {
    let client = node
        .leader
        .client(address)
        .map_err(|error| Status::invalid_argument(error.to_string()))?;
    let request = v1::RegisterTaskManagerRequest {
        cluster_id: node.options.cluster_id.clone(),
        task_manager_id: node.id.clone(),
        address: node.address.clone(),
        slots: node.options.config.slots,
        running: node.running(),
        draining: node.drain.is_wanted(),
    };
    let mut calling = client.clone();
    let response = timed_within(
        PRESENCE_CALL_TIMEOUT,
        "RegisterTaskManager",
        calling.register_task_manager(request),
    )
    .await?;
    let term = LeaderTerm(response.leader_term);
    accept_term(node, term)?;
    node.tear_down_stale(&response.stale);
    let connection = Connection {
        address: address.to_owned(),
        term,
        client,
    };
    tracing::info!(
        leader = address,
        term = term.0,
        task_manager = node.id,
        "registered"
    );
    node.leader.set(Some(connection.clone()));
    let interval = response
        .heartbeat_interval_ms
        .clamp(*INTERVAL_MS.start(), *INTERVAL_MS.end());
    Ok(Registered {
        connection,
        interval: Duration::from_millis(interval),
    })
}

/// A leader of an older term than one that was heard before has been deposed and does not know it yet.
fn accept_term(node: &Node, term: LeaderTerm) -> Result<(), Status> {
    let mut fences = node.fences.lock();
    let newest = fences.term();
    if term < newest {
        tracing::warn!(
            term = term.0,
            newest = newest.0,
            "refused a leader of an older term"
        );
        metrics::counter!(weir_common::metric_names::FENCED, "what" => "leader").increment(1);
        return Err(Status::failed_precondition("an older leader"));
    }
    fences.observe_term(term);
    Ok(())
}

/// Until the leader is lost or wants a new registration; gives the address to try first.
async fn heartbeats(node: &Arc<Node>, registered: Registered) -> Option<String> {
    let Registered {
        connection,
        interval,
    } = registered;
    let mut failures = 0;
    loop {
        // A refusal somewhere may mean that an attempt is over: ask at once.
        let _ = timeout(interval, node.leader.suspicion.notified()).await;
        let draining = node.drain.is_wanted();
        let running = node.running();
        memory::report(node, &running);
        let request = v1::HeartbeatRequest {
            cluster_id: node.options.cluster_id.clone(),
            task_manager_id: node.id.clone(),
            leader_term: node.fences.lock().term().0,
            running,
            draining,
        };
        let mut client = connection.client.clone();
        let answer = timed_within(
            PRESENCE_CALL_TIMEOUT,
            "Heartbeat",
            client.heartbeat(request),
        )
        .await;
        match answer {
            Ok(response) => {
                failures = 0;
                if accept_term(node, LeaderTerm(response.leader_term)).is_err() {
                    node.leader.set(None);
                    return None;
                }
                if response.leader_term != connection.term.0 {
                    node.leader.set(Some(Connection {
                        term: LeaderTerm(response.leader_term),
                        ..connection.clone()
                    }));
                }
                node.tear_down_stale(&response.stale);
                if draining {
                    node.drain.answered(Answer {
                        drained: response.drained,
                        cannot_drain: response.cannot_drain,
                    });
                }
                if response.register_again {
                    return Some(connection.address);
                }
            }
            Err(status) => {
                failures += 1;
                tracing::warn!(
                    leader = connection.address,
                    status = describe(&status),
                    "heartbeat failed"
                );
                let hint = hint_of(&status);
                if hint.is_some() || failures >= 2 {
                    node.leader.set(None);
                    return hint;
                }
            }
        }
    }
}
