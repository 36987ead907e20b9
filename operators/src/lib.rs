//! Weir's operators, one file each, and `create`, which builds one from its description in the job graph.
//!
//! Owns: what an operator computes and what it keeps as state. Must never know: RocksDB, gRPC, connectors, the planner, threads.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod accumulator;
mod codec;
mod fingerprint;
mod key_table;

pub mod group_aggregate;
