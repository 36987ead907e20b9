//! Follows Raft's elections: begins and ends this member's leadership.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::RwLock;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use weir_common::metric_names;

use crate::error::not_leader;
use crate::leadership::{Leadership, Surroundings};
use crate::raft::RaftHandle;

/// Who leads, for the services.
#[derive(Clone)]
pub struct Leader {
    current: Arc<RwLock<Option<Arc<Leadership>>>>,
    raft: RaftHandle,
    peers: Arc<BTreeMap<u64, String>>,
}

impl Leader {
    /// Nobody yet. `peers` are the addresses of all members by id.
    pub fn new(raft: RaftHandle, peers: BTreeMap<u64, String>) -> Self {
        Self {
            current: Arc::default(),
            raft,
            peers: Arc::new(peers),
        }
    }

    /// This member's leadership, or the refusal that names who leads.
    pub fn get(&self) -> Result<Arc<Leadership>, Status> {
        if let Some(leadership) = self.current.read().as_ref() {
            return Ok(Arc::clone(leadership));
        }
        Err(not_leader(self.address_of_other().as_deref()))
    }

    /// The leader's address, unless it is this member's (which then is not ready yet).
    fn address_of_other(&self) -> Option<String> {
        let status = *self.raft.status().borrow();
        (!status.leading)
            .then(|| self.peers.get(&status.leader).cloned())
            .flatten()
    }

    /// Addresses of all members.
    pub fn peers(&self) -> &BTreeMap<u64, String> {
        &self.peers
    }

    /// Until `stop`: leads whenever Raft says so.
    pub async fn run(self, surroundings: Surroundings, stop: CancellationToken) {
        let mut status = self.raft.status();
        loop {
            let seen = *status.borrow_and_update();
            self.follow(&surroundings, seen.leading.then_some(seen.term))
                .await;
            metrics::gauge!(metric_names::RAFT_LEADER).set(f64::from(u8::from(seen.leading)));
            metrics::gauge!(metric_names::RAFT_TERM).set(seen.term as f64);
            tokio::select! {
                () = stop.cancelled() => break,
                changed = status.changed() => if changed.is_err() {
                    break;
                },
            }
        }
        self.follow(&surroundings, None).await;
    }

    /// Ends a leadership that is over, begins a new one.
    async fn follow(&self, surroundings: &Surroundings, term: Option<u64>) {
        let current = self.current.read().clone();
        if current.as_ref().map(|leadership| leadership.term) == term {
            return;
        }
        if let Some(old) = current {
            *self.current.write() = None;
            tracing::warn!(term = old.term, "this job manager leads no more");
            old.end().await;
        }
        if let Some(term) = term {
            tracing::info!(term, "this job manager leads");
            *self.current.write() = Some(Leadership::begin(surroundings.clone(), term));
        }
    }
}
