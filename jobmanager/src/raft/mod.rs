//! Raft: one thread drives raft-rs over a log in RocksDB; tasks carry its messages to the peers.
//!
//! Owns: the replication of commands and who leads. Must never know: what a command means beyond `MetaState::apply`.

pub mod log_store;
mod logger;
pub mod network;
pub mod node;
mod snapshot;

pub use log_store::Identity;
pub use node::{ProposeError, RaftHandle, RaftNode, RaftStatus};

#[cfg(test)]
mod tests;
