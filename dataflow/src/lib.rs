//! What flows between operators, and the traits that operators, sources and sinks implement.
//!
//! Owns: [`Batch`] and [`Element`], [`Operator`], [`SourceReader`], [`SinkWriter`], [`KeyedState`] and their test harness.
//! Must never know: RocksDB, gRPC, tokio, a planner, or any particular operator or connector.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod agg;
pub mod batch;
pub mod element;
pub mod error;
pub mod key;
pub mod nested;
pub mod operator;
pub mod schema;
pub mod sink;
pub mod source;
pub mod state;
pub mod testing;
pub mod types;
pub mod waker;

pub use batch::{Batch, RowKind};
pub use element::{Barrier, Element, SnapshotTarget};
pub use error::{Error, Result};
pub use operator::{
    Context, Deferred, OpenContext, Operator, OperatorInfo, OperatorStates, Output, SnapshotPart,
};
pub use sink::{Committer, SinkWriter};
pub use source::{SourceEvent, SourceReader};
pub use state::{KeyedState, StateTable, StateWrites};
pub use waker::SlotWaker;
