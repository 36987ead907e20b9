//! The tables and views of a session.

use std::collections::BTreeMap;

use sqlparser::ast;
use weir_dataflow::types::LogicalField;

/// A table or a view under its name.
#[derive(Debug, Clone)]
pub enum Relation {
    /// CREATE TABLE
    Table(Table),
    /// CREATE VIEW
    View(View),
}

/// CREATE TABLE, resolved: types are known, options are not yet validated by the connector.
#[derive(Debug, Clone)]
pub struct Table {
    /// As written.
    pub name: String,
    /// TEMPORARY
    pub temporary: bool,
    /// In order of declaration.
    pub columns: Vec<Column>,
    /// WATERMARK FOR column AS expr
    pub watermark: Option<Watermark>,
    /// PRIMARY KEY (...) NOT ENFORCED: names of columns
    pub primary_key: Vec<String>,
    /// PARTITIONED BY (...)
    pub partitioned_by: Vec<String>,
    /// COMMENT
    pub comment: Option<String>,
    /// WITH (...), 'connector' included.
    pub options: BTreeMap<String, String>,
}

/// A column of a table.
#[derive(Debug, Clone)]
pub struct Column {
    /// As written; names are case-sensitive, as in Flink.
    pub name: String,
    /// Where its values come from.
    pub kind: ColumnKind,
    /// COMMENT
    pub comment: Option<String>,
}

/// Where a column's values come from.
#[derive(Debug, Clone)]
pub enum ColumnKind {
    /// Stored by the external system.
    Physical(LogicalField),
    /// `METADATA [FROM 'key'] [VIRTUAL]`
    Metadata {
        /// Declared type.
        field: LogicalField,
        /// The connector's key; the column's name if FROM is absent.
        key: String,
        /// Not written by INSERT.
        is_virtual: bool,
    },
    /// `AS expr`; its type is found by planning it. PROCTIME() makes a processing-time attribute.
    Computed(ast::Expr),
}

/// WATERMARK FOR column AS expr
#[derive(Debug, Clone)]
pub struct Watermark {
    /// The rowtime column.
    pub column: String,
    /// Over the table's columns.
    pub expr: ast::Expr,
}

/// CREATE VIEW
#[derive(Debug, Clone)]
pub struct View {
    /// As written.
    pub name: String,
    /// TEMPORARY
    pub temporary: bool,
    /// CREATE VIEW v (a, b): names that replace the query's.
    pub columns: Vec<String>,
    /// The query.
    pub query: Box<ast::Query>,
    /// The query's text, for SHOW CREATE VIEW.
    pub text: String,
}
