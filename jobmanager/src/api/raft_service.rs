//! RaftTransport: messages of the other job managers, and members that come in.

use protobuf::Message as _;
use raft::prelude::Message;
use tonic::{Request, Response, Status};
use weir_proto::v1;
use weir_proto::v1::raft_transport_server::RaftTransport;

use crate::error::{not_leader, propose_status};
use crate::raft::RaftHandle;
use crate::raft::membership::Change;

/// Gives what comes to the node, if it comes from a member of this cluster and is meant for this data folder.
pub struct RaftService {
    /// Name of the cluster.
    pub cluster_id: String,
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
        check_cluster(&self.cluster_id, &request.cluster_id, "job manager")?;
        self.check_ends(&request)?;
        let mut message = Message::default();
        message
            .merge_from_bytes(&request.message)
            .map_err(|error| Status::invalid_argument(format!("raft message: {error}")))?;
        if message.from != request.from || message.to != request.to {
            return Err(Status::invalid_argument(
                "raft message: its ends are not the request's",
            ));
        }
        let known = self.raft.view().read().members.contains_key(&request.from);
        if !known {
            self.raft
                .met(request.from, request.from_address, request.from_incarnation);
        }
        self.raft.step(message);
        Ok(Response::new(v1::RaftStepResponse {}))
    }

    async fn describe(
        &self,
        request: Request<v1::DescribeMemberRequest>,
    ) -> Result<Response<v1::DescribeMemberResponse>, Status> {
        check_cluster(
            &self.cluster_id,
            &request.into_inner().cluster_id,
            "job manager",
        )?;
        let status = *self.raft.status().borrow();
        Ok(Response::new(v1::DescribeMemberResponse {
            id: self.raft.own().id,
            blank: status.blank,
            incarnation: status.incarnation.unwrap_or_default(),
        }))
    }

    async fn join(
        &self,
        request: Request<v1::JoinRequest>,
    ) -> Result<Response<v1::JoinResponse>, Status> {
        let request = request.into_inner();
        check_cluster(&self.cluster_id, &request.cluster_id, "job manager")?;
        let status = *self.raft.status().borrow();
        if !status.leading {
            let leader = self.raft.address_of(status.leader);
            return Err(not_leader(leader.as_deref()));
        }
        let member = v1::JobManagerMember {
            id: request.id,
            address: request.address,
            incarnation: request.incarnation,
            ..Default::default()
        };
        let joined = self.raft.change(Change::Rejoin(member)).await;
        joined.map_err(|error| propose_status(&error))?;
        Ok(Response::new(v1::JoinResponse {}))
    }
}

impl RaftService {
    fn check_ends(&self, request: &v1::RaftStepRequest) -> Result<(), Status> {
        let own = self.raft.own();
        if request.to != own.id {
            return Err(Status::failed_precondition(format!(
                "this is job manager {}, the message is from {} to {}: are jobmanager.peers in the same order everywhere?",
                own.id, request.from, request.to
            )));
        }
        let incarnation = self.raft.status().borrow().incarnation;
        if incarnation != Some(request.to_incarnation) {
            return Err(Status::failed_precondition(format!(
                "job manager {} has another data folder than the one that is meant, and was not let in with it yet",
                own.id
            )));
        }
        let view = self.raft.view().read();
        let Some(from) = view.members.get(&request.from) else {
            // One that was added behind what is applied here.
            return Ok(());
        };
        let gone = matches!(
            from.role(),
            v1::JobManagerRole::Removed | v1::JobManagerRole::Absent
        );
        if request.from_incarnation < from.incarnation
            || (gone && request.from_incarnation == from.incarnation)
        {
            return Err(Status::permission_denied(format!(
                "job manager {} with this data folder was taken out of the cluster; empty the folder, and add it again if it was removed",
                request.from
            )));
        }
        Ok(())
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
