//! The job manager: a Raft-replicated record of jobs, and the leader that runs them.
//!
//! Owns: the log and the state it adds up to (`raft`, `meta`), who runs where (`members`, `scheduler`), a job's life (`job`), its
//! checkpoints (`checkpoint`) and the services (`api`). The cores are pure (`MetaState::apply`, `Job::step`, `Coordinator`, `place`,
//! `RestartPolicy`); `job/driver.rs` does what they ask for. Must never know: operators, or how an expression is executed.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod api;
pub mod checkpoint;
mod error;
mod job;
mod leader;
mod leadership;
mod lease_clock;
mod members;
mod membership;
pub mod meta;
mod raft;
mod restart_policy;
mod scheduler;
mod start;
mod task_managers;
mod validate;
mod watch;

pub use error::{JobManagerError, LEADER_KEY};
pub use start::{JobManager, JobManagerHandle};
