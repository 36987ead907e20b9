//! RaftTransport: messages of the other job managers.

use protobuf::Message as _;
use raft::prelude::Message;
use tonic::{Request, Response, Status};
use weir_proto::v1;
use weir_proto::v1::raft_transport_server::RaftTransport;

use crate::raft::{Identity, RaftHandle};

/// Gives what comes to the node, if it comes from a member of this cluster.
pub struct RaftService {
    /// Who this member is.
    pub identity: Identity,
    /// The node.
    pub raft: RaftHandle,
}

#[tonic::async_trait]
impl RaftTransport for RaftService {
    async fn step(
        &self,
        request: Request<v1::RaftStepRequest>,
    ) -> Result<Response<v1::RaftStepResponse>, Status> {
        let request = request.into_inner();
        check_cluster(
            &self.identity.cluster_id,
            &request.cluster_id,
            "job manager",
        )?;
        let known = 1..=self.identity.members;
        if request.to != self.identity.id || !known.contains(&request.from) {
            return Err(Status::failed_precondition(format!(
                "this is job manager {} of {}, the message is from {} to {}: are jobmanager.peers in the same order everywhere?",
                self.identity.id, self.identity.members, request.from, request.to
            )));
        }
        let mut message = Message::default();
        message
            .merge_from_bytes(&request.message)
            .map_err(|error| Status::invalid_argument(format!("raft message: {error}")))?;
        if message.from != request.from || message.to != request.to {
            return Err(Status::invalid_argument(
                "raft message: its ends are not the request's",
            ));
        }
        self.raft.step(message);
        Ok(Response::new(v1::RaftStepResponse {}))
    }
}

/// Refuses a process of another cluster, naming both.
pub fn check_cluster(own: &str, other: &str, what: &str) -> Result<(), Status> {
    if own == other {
        return Ok(());
    }
    tracing::warn!("refused a {what} of cluster '{other}': this is cluster '{own}'");
    Err(Status::failed_precondition(format!(
        "the {what} belongs to cluster '{other}', this job manager to cluster '{own}'"
    )))
}
