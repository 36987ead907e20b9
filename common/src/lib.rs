//! Words that every crate shares: identifiers, key groups, configuration, errors at the edge, limits, clock, metric names.
//!
//! Owns: pure values and the rules over them. Must never know: Arrow, RocksDB, gRPC services, tokio. Does no I/O except
//! for reading the configuration at start.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod backoff;
pub mod clock;
pub mod config;
pub mod ids;
pub mod key_group;
pub mod limits;
pub mod memory;
pub mod metric_names;
pub mod telemetry;
