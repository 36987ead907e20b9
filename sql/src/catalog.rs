//! The tables and views of a session.

use std::collections::BTreeMap;

use sqlparser::ast::{self, ObjectName};
use weir_dataflow::types::LogicalField;

use crate::error::{Result, SqlError};
use crate::statement::relation_name;

/// A table or a view under its name.
#[derive(Debug, Clone)]
pub enum Relation {
    /// CREATE TABLE
    Table(Box<Table>),
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
    Computed(Box<ast::Expr>),
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

/// The tables and views of a session, by name.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    relations: BTreeMap<String, Relation>,
}

impl Catalog {
    /// By its bare name.
    pub fn get(&self, name: &str) -> Option<&Relation> {
        self.relations.get(name)
    }

    /// What a name in a statement stands for; `default_catalog.default_database.t` is `t`.
    ///
    /// # Errors
    /// An unknown table, with the nearest known one.
    pub fn resolve(&self, name: &ObjectName) -> Result<&Relation> {
        let ident = relation_name(name)?;
        self.relations.get(&ident.value).ok_or_else(|| {
            SqlError::unknown("table", ident, self.relations.keys().map(String::as_str))
        })
    }

    /// All of them in the order of their names.
    pub fn relations(&self) -> impl Iterator<Item = &Relation> {
        self.relations.values()
    }

    /// Adds one; the name must be free.
    pub(crate) fn insert(&mut self, relation: Relation) {
        self.relations.insert(relation.name().to_owned(), relation);
    }

    /// Takes one away.
    pub(crate) fn remove(&mut self, name: &str) -> Option<Relation> {
        self.relations.remove(name)
    }
}

impl Table {
    /// With the options of a hint in the place of its own.
    pub(crate) fn with_options(&self, options: &[(String, String)]) -> Self {
        let mut table = self.clone();
        table.options.extend(options.iter().cloned());
        table
    }
}

impl Relation {
    /// As written in its CREATE.
    pub fn name(&self) -> &str {
        match self {
            Self::Table(table) => &table.name,
            Self::View(view) => &view.name,
        }
    }

    /// CREATE TEMPORARY
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Table(table) => table.temporary,
            Self::View(view) => view.temporary,
        }
    }
}
