//! Notices the death of a task manager at once: an open call to it ends when its process does, and its address then refuses connections. A task
//! manager that is only silent (its machine or network is gone) is left to its lease.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tonic::{Code, Status};
use weir_common::backoff::Backoff;
use weir_proto::v1;

use crate::leadership::Leadership;

const OPEN_TIMEOUT: Duration = Duration::from_secs(5);
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);
/// A call that stayed open for longer than this says nothing about the next one.
const CALM: Duration = Duration::from_secs(10);

/// What is known of a process whose call has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Dead,
    Unknown,
}

/// Until the task manager is dead, or unknown to this leader for another reason.
pub async fn watch(leader: Arc<Leadership>, id: String, address: String) {
    let mut failures = 0;
    while leader.members.lock().knows(&id) {
        let opened = tokio::time::Instant::now();
        let refusal = stay_open(&leader, &id, &address).await;
        if refusal.as_ref().map(Status::code) == Some(Code::Unimplemented) {
            // An older version: its lease has to do.
            return;
        }
        if fate(refusal.as_ref(), &address).await == Fate::Dead {
            leader.dead(&id, &address).await;
            return;
        }
        if opened.elapsed() > CALM {
            failures = 0;
        }
        failures += 1;
        tokio::time::sleep(Backoff::CALLS.delay_jittered(failures)).await;
    }
}

/// Until the call ends; the error if it could not even be opened.
async fn stay_open(leader: &Leadership, id: &str, address: &str) -> Option<Status> {
    let request = v1::WatchRequest {
        cluster_id: leader.cluster_id.clone(),
        task_manager_id: id.to_owned(),
    };
    let mut client = match leader.task_managers.client(address) {
        Ok(client) => client,
        Err(status) => return Some(status),
    };
    match tokio::time::timeout(OPEN_TIMEOUT, client.watch(request)).await {
        Ok(Ok(answer)) => {
            let mut open = answer.into_inner();
            while let Ok(Some(_)) = open.message().await {}
            None
        }
        Ok(Err(status)) => Some(status),
        Err(_) => Some(Status::deadline_exceeded("no answer")),
    }
}

async fn fate(refusal: Option<&Status>, address: &str) -> Fate {
    if refusal.map(Status::code) == Some(Code::FailedPrecondition) {
        // Another process has its address.
        return Fate::Dead;
    }
    match tokio::time::timeout(PROBE_TIMEOUT, TcpStream::connect(address)).await {
        Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused => Fate::Dead,
        _ => Fate::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_a_refused_connection_or_another_process_means_death() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let ended = Status::unavailable("the connection was reset");
        assert_eq!(fate(Some(&ended), &address).await, Fate::Unknown);
        assert_eq!(fate(None, &address).await, Fate::Unknown);
        let other = Status::failed_precondition("this is task manager b");
        assert_eq!(fate(Some(&other), &address).await, Fate::Dead);
        drop(listener);
        assert_eq!(fate(None, &address).await, Fate::Dead);
    }
}
