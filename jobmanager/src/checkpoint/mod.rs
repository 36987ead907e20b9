//! Checkpoints and savepoints of a job.
//!
//! Owns: when one is taken and when it is complete (`coordinator`), what a new leader says of them (`takeover`), what an attempt starts
//! from (`fall_back`), what is retained and what is not (`retention`), all pure; and what that means on the object store (`storage`).

pub mod coordinator;
pub mod fall_back;
pub mod fit;
pub mod retention;
pub mod storage;
pub mod takeover;
