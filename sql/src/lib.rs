//! Flink SQL: text to job graph.

pub mod catalog;
