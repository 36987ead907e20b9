//! The protocol on the object store: files with checksums, manifests, their conditional create, the choice of a snapshot to
//! recover from, the collection of files that nothing names any more.
//!
//! Owns: [`Store`], the framing of `_metadata`, the layout of folders, and the rules (pure functions) over manifests.
//! Must never know: RocksDB, Raft, who calls.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod error;
pub mod gc;
mod local;
pub mod locate;
pub mod manifest;
pub mod paths;
pub mod publish;
pub mod recovery;
pub mod reduce;
pub mod rescale;
mod s3;
pub mod shared;
pub mod store;

pub use error::SnapshotError;
pub use local::file_info;
pub use locate::{Located, locate};
pub use manifest::ManifestError;
pub use publish::{Publication, publish, read_manifest};
pub use shared::SharedFiles;
pub use store::{Created, FileInfo, Listed, Store};

/// Result of everything on the object store.
pub type Result<T> = std::result::Result<T, SnapshotError>;
