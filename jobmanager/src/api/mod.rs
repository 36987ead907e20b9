//! The gRPC services, thin: they check, then hand over.

pub mod control_service;
pub mod job_service;
pub mod job_status;
pub mod raft_service;
pub mod submit;
