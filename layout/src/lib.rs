//! What operators' state consists of: described from a job graph, read as rows, compared between a snapshot and a job, carried over
//! from one layout to another. Pure: it works on entries that somebody else read.
//!
//! A description ([`weir_proto::v1::OperatorDescription`]) travels in every snapshot's manifest and says for each kind of entries what the
//! bytes of its key and value are. Everything here but [`describe`] knows only descriptions, no operators: a snapshot can be read
//! and compared without the job that wrote it.
//!
//! Must never know: RocksDB, the object store, operators' code.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod aggregate;
mod columns;
pub mod compare;
pub mod describe;
mod join;
pub mod lists;
mod match_recognize;
pub mod migrate;
mod over;
mod parts;
mod row_store;
pub mod rows;
mod stored_row;

pub use compare::check_operator;
pub use describe::describe;
pub use migrate::Migration;
pub use rows::RowReader;
