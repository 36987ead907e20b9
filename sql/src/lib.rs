//! Flink SQL: text to job graph.
//!
//! Owns: the dialect and its statements (`parse`), the tables, views and settings of a session (`session`, `catalog`, `options`), and the
//! streaming planner (`plan`). Must never know: sockets, state, how an operator runs.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod catalog;
pub mod error;
pub mod options;
pub mod plan;
pub mod statement;
pub mod tvf;

pub use error::{Result, SqlError};
pub use options::SessionOptions;
