//! Windowing table-valued functions: `TABLE(TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '2' SECOND))`.
//!
//! The dialect reads the argument `TABLE bid` as a call of a function that is named `TABLE`, with the table's name as its only argument;
//! `PARTITION BY a, b` becomes the PARTITION BY of its OVER. Nobody but this file needs to know.

use sqlparser::ast::{Expr, Ident, ObjectName, Query, TableFactor};
use weir_proto::v1::WindowKind;

use crate::error::Result;

/// A call of TUMBLE, HOP, CUMULATE or SESSION in FROM. All times in milliseconds.
#[derive(Debug, Clone, PartialEq)]
pub struct WindowTvf {
    /// Which of them.
    pub kind: WindowKind,
    /// What is windowed.
    pub input: TvfInput,
    /// DESCRIPTOR(column)
    pub time_column: Ident,
    /// TUMBLE, HOP: size; CUMULATE: the largest; SESSION: the gap.
    pub size_ms: i64,
    /// HOP: slide; CUMULATE: step; else 0.
    pub slide_ms: i64,
    /// 0 if absent.
    pub offset_ms: i64,
    /// SESSION(TABLE t PARTITION BY ...)
    pub partition_by: Vec<Expr>,
    /// AS alias (columns)
    pub alias: Option<sqlparser::ast::TableAlias>,
}

/// What a windowing function is applied to.
#[derive(Debug, Clone, PartialEq)]
pub enum TvfInput {
    /// TABLE name
    Table(ObjectName),
    /// (SELECT ...)
    Query(Box<Query>),
}

/// The windowing function that a table in FROM is; `None` if it is something else.
pub fn window_tvf(factor: &TableFactor) -> Option<Result<WindowTvf>> {
    let _ = factor;
    None
}
