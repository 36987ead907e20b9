//! The gRPC services, thin: they check, then hand over.

pub mod raft_service;
