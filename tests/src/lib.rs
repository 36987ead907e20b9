//! Runs the real binary as separate processes against real services, and compares what comes out with what must.
//!
//! Owns: processes, services, data sets and oracles for the tests under `tests/`. Must never know: what is inside of the binary.

pub mod cluster;
pub mod eventually;
pub mod kafka;
pub mod nexmark;
pub mod process;
pub mod resume;
pub mod rows;
pub mod said;
pub mod savepoints;
pub mod services;
pub mod sql;
pub mod stream;
pub mod terminal;
pub mod tls;
