//! Checkpoints and savepoints of a job.
//!
//! Owns: when one is taken and when it is complete (`coordinator`, pure), and what that means on the object store (`storage`).

pub mod coordinator;
pub mod fit;
pub mod storage;
