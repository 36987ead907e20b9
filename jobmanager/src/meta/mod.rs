//! The replicated metadata: what the Raft log says about jobs.
//!
//! Owns: the commands, how each one changes the state, and the state's snapshot. Invariant: applying is a pure function of state and
//! command, so that all job managers have the same state at the same index. Must never know: tokio, sockets, the clock.

pub mod apply;
pub mod command;
pub mod view;

pub use view::{MetaState, Outcome, Refusal};
