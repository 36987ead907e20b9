//! Follows Raft's elections: begins and ends this member's leadership.

use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use weir_common::metric_names;

use crate::error::not_leader;
use crate::leadership::{Leadership, Surroundings};
use crate::raft::{RaftHandle, RaftStatus};

/// Who leads, for the services.
#[derive(Clone)]
pub struct Leader {
    current: Arc<watch::Sender<Option<Arc<Leadership>>>>,
    raft: RaftHandle,
}

impl Leader {
    /// Nobody yet.
    pub fn new(raft: RaftHandle) -> Self {
        Self {
            current: Arc::new(watch::Sender::new(None)),
            raft,
        }
    }

    /// This member's leadership, or the refusal that names who leads.
    pub fn get(&self) -> Result<Arc<Leadership>, Status> {
        if let Some(leadership) = self.current.borrow().as_ref() {
            return Ok(Arc::clone(leadership));
        }
        Err(not_leader(self.address_of_other().as_deref()))
    }

    /// Waits until this member leads, or another is known to.
    pub async fn known(&self) {
        let mut own = self.current.subscribe();
        let mut raft = self.raft.status();
        let other = |status: &RaftStatus| status.leader != 0 && !status.leading;
        loop {
            if own.borrow().is_some() || other(&raft.borrow_and_update()) {
                return;
            }
            let over = tokio::select! {
                changed = own.changed() => changed.is_err(),
                changed = raft.changed() => changed.is_err(),
            };
            if over {
                // Raft has ended: nobody will ever lead here.
                return std::future::pending().await;
            }
        }
    }

    /// The leader's address, unless it is this member's (which then is not ready yet).
    fn address_of_other(&self) -> Option<String> {
        let status = *self.raft.status().borrow();
        (!status.leading)
            .then(|| self.raft.address_of(status.leader))
            .flatten()
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
        let current = self.current.borrow().clone();
        if current.as_ref().map(|leadership| leadership.term) == term {
            return;
        }
        if let Some(old) = current {
            self.current.send_replace(None);
            tracing::warn!(term = old.term, "this job manager leads no more");
            old.end().await;
        }
        if let Some(term) = term {
            tracing::info!(term, "this job manager leads");
            let leadership = Leadership::begin(surroundings.clone(), term);
            self.current.send_replace(Some(leadership));
        }
    }
}
