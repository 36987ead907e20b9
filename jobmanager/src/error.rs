//! Why a job manager cannot start or had to end, and how its refusals look on the wire.

use std::net::SocketAddr;

use tonic::Status;
use tonic::metadata::MetadataValue;

use crate::raft::ProposeError;

/// Metadata key under which a follower names the leader (HOST:PORT).
pub const LEADER_KEY: &str = "weir-leader";

/// Why a job manager cannot start, or had to end.
#[derive(Debug, thiserror::Error)]
pub enum JobManagerError {
    /// The configuration contradicts itself.
    #[error("configuration: {0}")]
    Config(String),
    /// The address is taken, or is not this machine's.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// `jobmanager.bind`
        address: SocketAddr,
        /// The system's error.
        source: std::io::Error,
    },
    /// Raft's log, thread or network.
    #[error(transparent)]
    Raft(#[from] crate::raft::node::StartError),
    /// Certificates.
    #[error(transparent)]
    Transport(#[from] weir_proto::transport::TransportError),
    /// The gRPC server.
    #[error("gRPC server: {0}")]
    Server(String),
    /// Raft ended by itself: the data folder could not be written.
    #[error("{0}")]
    Stopped(String),
}

/// Refusal of a member that does not lead; names the leader if it is known.
pub fn not_leader(leader: Option<&str>) -> Status {
    let mut status = Status::unavailable(match leader {
        Some(leader) => format!("this job manager does not lead; {leader} does"),
        None => "no job manager leads at the moment; try again".to_owned(),
    });
    if let Some(value) = leader.and_then(|leader| MetadataValue::try_from(leader).ok()) {
        status.metadata_mut().insert(LEADER_KEY, value);
    }
    status
}

/// A proposal's error for a caller who can repeat the call.
pub fn propose_status(error: &ProposeError) -> Status {
    match error {
        ProposeError::NotLeader | ProposeError::Unknown(_) => {
            Status::unavailable(error.to_string())
        }
        ProposeError::Refused(refusal) => Status::failed_precondition(refusal.0.clone()),
        ProposeError::Membership(refusal) => Status::failed_precondition(refusal.to_string()),
    }
}
