//! Keyed state in RocksDB: one database an operator instance, or a few, local snapshots, their incremental upload, and restore at any
//! parallelism.
//!
//! Owns: [`PartedState`] (the `KeyedState` of a running job, of [`RocksState`]s), [`StateMemory`] (what all of a process' databases share), [`Uploader`],
//! [`SnapshotReader`] (a snapshot's content as rows).
//! Must never know: operators, gRPC, how a checkpoint is coordinated.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod db;
pub mod error;
mod key;
mod local_copies;
mod memory;
mod object;
mod parted;
pub mod reader;
mod restore;
mod snapshot;
mod state;
#[cfg(test)]
mod tests;
mod transfers;
mod upload;
mod writer;

pub use error::StateError;
pub use local_copies::{LocalCopies, remove_forgotten};
pub use memory::StateMemory;
pub use parted::{PartedSnapshot, PartedState};
pub use reader::SnapshotReader;
pub use restore::RestoreSource;
pub use snapshot::PendingSnapshot;
pub use state::{RocksState, StateOptions};
pub use transfers::Transfers;
pub use upload::Uploader;

/// Result of this crate.
pub type Result<T> = std::result::Result<T, StateError>;
