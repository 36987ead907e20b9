//! Raft: one thread drives raft-rs over a log in RocksDB; tasks carry its messages to the peers.
//!
//! Owns: the replication of commands, who the members are and who leads. Must never know: what a command means beyond `MetaState::apply`.

mod driver;
pub mod entry;
mod handle;
pub mod log_store;
mod logger;
pub mod membership;
pub mod network;
pub mod node;
mod reads;
mod snapshot;

pub use handle::{ProposeError, RaftHandle, RaftStatus};
pub use node::{RaftNode, Who};

#[cfg(test)]
mod tests;
