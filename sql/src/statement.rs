//! Statements of Flink SQL, parsed but not resolved.

use sqlparser::ast::{self, Ident, ObjectName};
use sqlparser::tokenizer::Location;
use weir_dataflow::types::LogicalField;

use crate::error::{Result, SqlError};

/// A statement and where it stands in its script.
#[derive(Debug, Clone)]
pub struct Spanned {
    /// What it says.
    pub statement: Statement,
    /// Its text, without the semicolon.
    pub text: String,
    /// Of its first word, line and column from 1.
    pub start: Location,
}

/// One statement.
#[derive(Debug, Clone)]
pub enum Statement {
    /// CREATE [TEMPORARY] TABLE
    CreateTable(Box<CreateTable>),
    /// CREATE [TEMPORARY] VIEW
    CreateView(CreateView),
    /// DROP [TEMPORARY] TABLE | VIEW
    Drop(Drop),
    /// SHOW ...
    Show(Show),
    /// DESCRIBE t, DESC t
    Describe(ObjectName),
    /// EXPLAIN
    Explain(Explain),
    /// SET without arguments: list the settings.
    ShowSettings,
    /// SET 'key' = 'value'
    Set {
        /// The option.
        key: String,
        /// Its value as text.
        value: String,
        /// Of the key.
        location: Location,
    },
    /// RESET, RESET 'key'
    Reset(Option<(String, Location)>),
    /// USE [CATALOG] name
    Use {
        /// USE CATALOG, or the catalog's name given in front.
        catalog: Option<Ident>,
        /// The database.
        database: Option<Ident>,
    },
    /// [EXECUTE] INSERT INTO
    Insert(Insert),
    /// EXECUTE STATEMENT SET BEGIN ... END: all INSERTs are one job.
    StatementSet(Vec<Insert>),
    /// A bare SELECT, WITH or VALUES.
    Query(Box<ast::Query>),
}

/// INSERT INTO target [(columns)] query
#[derive(Debug, Clone)]
pub struct Insert {
    /// The table written to.
    pub target: ObjectName,
    /// Columns that the query's columns go to, in this order; empty: all columns that can be written.
    pub columns: Vec<Ident>,
    /// The OPTIONS hint behind the table.
    pub options: Vec<(String, String)>,
    /// SELECT or VALUES.
    pub query: Box<ast::Query>,
}

/// CREATE TABLE as written.
#[derive(Debug, Clone)]
pub struct CreateTable {
    /// Name.
    pub name: ObjectName,
    /// TEMPORARY
    pub temporary: bool,
    /// IF NOT EXISTS
    pub if_not_exists: bool,
    /// In order.
    pub columns: Vec<ColumnDefinition>,
    /// WATERMARK FOR ... AS ...
    pub watermark: Option<WatermarkDefinition>,
    /// PRIMARY KEY (...) NOT ENFORCED, of the table or of a column.
    pub primary_key: Vec<Ident>,
    /// COMMENT
    pub comment: Option<String>,
    /// PARTITIONED BY
    pub partitioned_by: Vec<Ident>,
    /// WITH (...), in order.
    pub options: Vec<(String, String)>,
    /// LIKE table (...)
    pub like: Option<LikeClause>,
}

/// A column as written.
#[derive(Debug, Clone)]
pub struct ColumnDefinition {
    /// Name.
    pub name: Ident,
    /// Where its values come from.
    pub kind: ColumnDefinitionKind,
    /// COMMENT
    pub comment: Option<String>,
}

/// Where the values of a column come from.
#[derive(Debug, Clone)]
pub enum ColumnDefinitionKind {
    /// name TYPE
    Physical(LogicalField),
    /// name TYPE METADATA [FROM 'key'] [VIRTUAL]
    Metadata {
        /// The declared type.
        field: LogicalField,
        /// FROM 'key'
        from: Option<String>,
        /// VIRTUAL
        is_virtual: bool,
    },
    /// name AS expr
    Computed(Box<ast::Expr>),
}

/// WATERMARK FOR column AS expr
#[derive(Debug, Clone)]
pub struct WatermarkDefinition {
    /// The column.
    pub column: Ident,
    /// The expression.
    pub expr: ast::Expr,
}

/// LIKE source ( { INCLUDING | EXCLUDING | OVERWRITING } feature ... )
#[derive(Debug, Clone)]
pub struct LikeClause {
    /// The table that is copied.
    pub source: ObjectName,
    /// In order.
    pub rules: Vec<LikeRule>,
}

/// How LIKE treats one feature of the source table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LikeRule {
    /// What is done.
    pub strategy: LikeStrategy,
    /// With what.
    pub feature: LikeFeature,
}

/// Strategy of LIKE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LikeStrategy {
    /// Copied; the same thing in both is an error.
    Including,
    /// Not copied.
    Excluding,
    /// Copied; the new table's wins.
    Overwriting,
}

/// What a LIKE rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LikeFeature {
    /// Everything that has no rule of its own.
    All,
    /// Primary key.
    Constraints,
    /// Computed columns.
    Generated,
    /// Metadata columns.
    Metadata,
    /// WITH options.
    Options,
    /// PARTITIONED BY
    Partitions,
    /// Watermark.
    Watermarks,
}

/// CREATE VIEW as written.
#[derive(Debug, Clone)]
pub struct CreateView {
    /// Name.
    pub name: ObjectName,
    /// TEMPORARY
    pub temporary: bool,
    /// IF NOT EXISTS
    pub if_not_exists: bool,
    /// Names for the query's columns; empty: the query's own.
    pub columns: Vec<Ident>,
    /// COMMENT
    pub comment: Option<String>,
    /// AS ...
    pub query: Box<ast::Query>,
    /// The query as written.
    pub text: String,
}

/// DROP TABLE | VIEW
#[derive(Debug, Clone)]
pub struct Drop {
    /// VIEW
    pub view: bool,
    /// TEMPORARY
    pub temporary: bool,
    /// IF EXISTS
    pub if_exists: bool,
    /// Name.
    pub name: ObjectName,
}

/// SHOW ...
#[derive(Debug, Clone)]
pub enum Show {
    /// SHOW TABLES [[NOT] LIKE 'pattern']: views too, as in Flink.
    Tables(Option<LikePattern>),
    /// SHOW VIEWS [[NOT] LIKE 'pattern']
    Views(Option<LikePattern>),
    /// SHOW CREATE TABLE t
    CreateTable(ObjectName),
    /// SHOW CREATE VIEW v
    CreateView(ObjectName),
    /// SHOW COLUMNS { FROM | IN } t [[NOT] LIKE 'pattern']
    Columns(ObjectName, Option<LikePattern>),
    /// SHOW [USER] FUNCTIONS; the flag is USER.
    Functions(bool),
    /// SHOW CATALOGS
    Catalogs,
    /// SHOW DATABASES
    Databases,
    /// SHOW CURRENT CATALOG
    CurrentCatalog,
    /// SHOW CURRENT DATABASE
    CurrentDatabase,
}

/// [NOT] LIKE 'pattern' with % and _
#[derive(Debug, Clone)]
pub struct LikePattern {
    /// NOT
    pub negated: bool,
    /// The pattern.
    pub pattern: String,
}

/// EXPLAIN [PLAN FOR | CHANGELOG_MODE] target
#[derive(Debug, Clone)]
pub struct Explain {
    /// CHANGELOG_MODE: show the row kinds that each step emits.
    pub changelog_mode: bool,
    /// What is explained.
    pub target: ExplainTarget,
}

/// What EXPLAIN is about.
#[derive(Debug, Clone)]
pub enum ExplainTarget {
    /// A query.
    Query(Box<ast::Query>),
    /// An INSERT, or all of a statement set.
    Inserts(Vec<Insert>),
}

/// The catalog that tables live in.
pub const CATALOG: &str = "default_catalog";
/// The database that tables live in.
pub const DATABASE: &str = "default_database";

/// The last part of a table's name; the parts in front may only be the default catalog and database.
pub fn relation_name(name: &ObjectName) -> Result<&Ident> {
    let mut parts = Vec::with_capacity(name.0.len());
    for part in &name.0 {
        parts.push(part.as_ident().ok_or_else(|| {
            SqlError::new(format!("'{part}' is not the name of a table")).at(part)
        })?);
    }
    let (qualifier, last) = match parts.as_slice() {
        [last] => return Ok(last),
        [database, last] => ((None, *database), *last),
        [catalog, database, last] => ((Some(*catalog), *database), *last),
        _ => return Err(SqlError::new(format!("'{name}' is not the name of a table")).at(name)),
    };
    if let Some(catalog) = qualifier.0.filter(|catalog| catalog.value != CATALOG) {
        return Err(SqlError::unknown("catalog", catalog, [CATALOG]));
    }
    if qualifier.1.value != DATABASE {
        return Err(SqlError::unknown("database", qualifier.1, [DATABASE]));
    }
    Ok(last)
}
