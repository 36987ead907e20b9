//! Flink SQL: text to job graph.
//!
//! Owns: the dialect and its statements (`parse`), the tables, views and settings of a session (`session`, `catalog`, `options`), and the
//! streaming planner (`plan`). Must never know: sockets, state, how an operator runs.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod alter;
pub mod catalog;
mod ctas;
mod ddl;
pub mod dialect;
pub mod error;
pub mod options;
pub mod parse;
pub mod plan;
pub mod session;
#[cfg(test)]
mod session_tests;
mod show;
mod signature;
mod spaces;
mod stack;
pub mod statement;
pub mod statements;
pub mod tvf;
pub mod types;

pub use error::{Result, SqlError};
pub use options::SessionOptions;
pub use parse::{is_complete, parse_script};
pub use plan::PlannedQuery;
pub use session::{JobKind, PlannedJob, Session, SessionDefaults, StatementResult, plan_script};
pub use statement::{JobStatement, Spanned, Statement};
