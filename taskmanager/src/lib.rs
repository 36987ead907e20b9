//! Runs subtasks: slots, the subtask loop, gates with barrier alignment, the exchange between task managers, and the task
//! manager's part in deployment, checkpoints, restore and the end of a job.
//!
//! Owns: everything between a Deploy command and an operator's call. Must never know: the planner, Raft, what an operator computes.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod attempt;
mod backend;
mod chain;
mod channel;
mod checkpoint;
mod deploy;
mod drain;
mod exchange;
mod exchange_memory;
pub mod fence;
mod gate;
mod in_flight;
mod input;
mod leader;
mod memory;
mod meter;
mod node;
mod output;
mod partition;
mod register;
mod server;
mod service;
mod slot;
mod subtask;
mod tell;

pub use deploy::open::{Connectors, StandardConnectors};
pub use server::{StartError, TaskManager, TaskManagerHandle, TaskManagerOptions};
