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
    /// DESCRIBE CATALOG [EXTENDED] c; the flag is EXTENDED.
    DescribeCatalog(Ident, bool),
    /// ALTER TABLE
    AlterTable(AlterTable),
    /// ALTER VIEW
    AlterView(AlterView),
    /// CREATE, ALTER, DROP of a CATALOG or DATABASE
    Space(SpaceChange),
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
        /// USE CATALOG
        catalog: Option<Ident>,
        /// USE [catalog.]database
        database: Option<ObjectName>,
    },
    /// SHOW JOBS, DESCRIBE JOB, STOP JOB
    Jobs(JobStatement),
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
    /// PARTITION (column = value, ...): columns of PARTITIONED BY that the query does not give.
    pub partition: Vec<(Ident, ast::Expr)>,
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
    /// CONSTRAINT name of the key.
    pub key_name: Option<String>,
    /// COMMENT
    pub comment: Option<String>,
    /// PARTITIONED BY
    pub partitioned_by: Vec<Ident>,
    /// WITH (...), in order.
    pub options: Vec<(String, String)>,
    /// LIKE table (...)
    pub like: Option<LikeClause>,
    /// AS query
    pub query: Option<AsQuery>,
    /// [CREATE OR] REPLACE: one of this name goes.
    pub replace: Replace,
}

/// AS query behind CREATE TABLE: the table gets its columns, and a job writes its rows into it.
#[derive(Debug, Clone)]
pub struct AsQuery {
    /// The query.
    pub query: Box<ast::Query>,
    /// `(a, b)` behind the table's name: the query's columns in this order.
    pub order: Vec<Ident>,
}

/// What CREATE TABLE does with a table of the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replace {
    /// It must not be there.
    No,
    /// CREATE OR REPLACE
    IfThere,
    /// REPLACE: it must be there.
    MustBeThere,
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

/// ALTER TABLE [IF EXISTS] name change
#[derive(Debug, Clone)]
pub struct AlterTable {
    /// Name.
    pub name: ObjectName,
    /// IF EXISTS
    pub if_exists: bool,
    /// What becomes of it.
    pub change: TableChange,
}

/// What ALTER TABLE does.
#[derive(Debug, Clone)]
pub enum TableChange {
    /// RENAME TO name
    Rename(ObjectName),
    /// RENAME column TO name
    RenameColumn(Ident, Ident),
    /// SET (...)
    Set(Vec<(String, String)>),
    /// RESET (...)
    Reset(Vec<(String, Location)>),
    /// ADD: the columns with their places, and a key and a watermark.
    Add(Box<CreateTable>, Vec<ColumnPlace>),
    /// MODIFY
    Modify(Box<CreateTable>, Vec<ColumnPlace>),
    /// DROP column, DROP (columns)
    DropColumns(Vec<Ident>),
    /// DROP PRIMARY KEY, DROP CONSTRAINT name
    DropKey(Option<Ident>),
    /// DROP WATERMARK
    DropWatermark,
}

/// Where ALTER TABLE puts a column.
#[derive(Debug, Clone)]
pub enum ColumnPlace {
    /// Behind all others; a column that is modified stays.
    Unsaid,
    /// FIRST
    First,
    /// AFTER column
    After(Ident),
}

/// ALTER VIEW name change
#[derive(Debug, Clone)]
pub struct AlterView {
    /// Name.
    pub name: ObjectName,
    /// RENAME TO name
    pub rename: Option<ObjectName>,
    /// AS query, with its text.
    pub query: Option<(Box<ast::Query>, String)>,
}

/// What a statement does to catalogs and databases.
#[derive(Debug, Clone)]
pub enum SpaceChange {
    /// CREATE CATALOG
    CreateCatalog {
        /// Name.
        name: Ident,
        /// IF NOT EXISTS
        if_not_exists: bool,
        /// COMMENT
        comment: Option<String>,
        /// WITH (...)
        options: Vec<(String, String)>,
    },
    /// DROP CATALOG
    DropCatalog {
        /// Name.
        name: Ident,
        /// IF EXISTS
        if_exists: bool,
    },
    /// CREATE DATABASE
    CreateDatabase {
        /// [catalog.]name
        name: ObjectName,
        /// IF NOT EXISTS
        if_not_exists: bool,
        /// COMMENT
        comment: Option<String>,
        /// WITH (...)
        options: Vec<(String, String)>,
    },
    /// ALTER DATABASE name SET (...)
    AlterDatabase {
        /// [catalog.]name
        name: ObjectName,
        /// New ones.
        options: Vec<(String, String)>,
    },
    /// DROP DATABASE
    DropDatabase {
        /// [catalog.]name
        name: ObjectName,
        /// IF EXISTS
        if_exists: bool,
        /// CASCADE: with all that is in it.
        cascade: bool,
    },
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
    /// SHOW TABLES [{ FROM | IN } database] [[NOT] LIKE 'pattern']: views too, as in Flink.
    Tables(Option<ObjectName>, Option<LikePattern>),
    /// SHOW VIEWS [{ FROM | IN } database] [[NOT] LIKE 'pattern']
    Views(Option<ObjectName>, Option<LikePattern>),
    /// SHOW PARTITIONS t
    Partitions(ObjectName),
    /// SHOW CREATE CATALOG c
    CreateCatalog(Ident),
    /// SHOW [FULL] MODULES; the flag is FULL.
    Modules(bool),
    /// SHOW JARS
    Jars,
    /// SHOW MODELS
    Models,
    /// SHOW CREATE TABLE t
    CreateTable(ObjectName),
    /// SHOW CREATE VIEW v
    CreateView(ObjectName),
    /// SHOW COLUMNS { FROM | IN } t [[NOT] LIKE 'pattern']
    Columns(ObjectName, Option<LikePattern>),
    /// SHOW [USER] FUNCTIONS [[NOT] LIKE 'pattern']; the flag is USER.
    Functions(bool, Option<LikePattern>),
    /// SHOW CATALOGS [[NOT] LIKE 'pattern']
    Catalogs(Option<LikePattern>),
    /// SHOW DATABASES [{ FROM | IN } catalog] [[NOT] LIKE 'pattern']
    Databases(Option<Ident>, Option<LikePattern>),
    /// SHOW CURRENT CATALOG
    CurrentCatalog,
    /// SHOW CURRENT DATABASE
    CurrentDatabase,
}

/// [NOT] { LIKE | ILIKE } 'pattern' with % and _
#[derive(Debug, Clone)]
pub struct LikePattern {
    /// NOT
    pub negated: bool,
    /// ILIKE: in any case of letters.
    pub any_case: bool,
    /// The pattern.
    pub pattern: String,
}

/// EXPLAIN [PLAN FOR | CHANGELOG_MODE | JSON_EXECUTION_PLAN] target
#[derive(Debug, Clone)]
pub struct Explain {
    /// JSON_EXECUTION_PLAN: the vertices of the job, too.
    pub json_plan: bool,
    /// CHANGELOG_MODE: show the row kinds that each step emits.
    pub changelog_mode: bool,
    /// PLAN_ADVICE: what the job's graph has as warnings.
    pub plan_advice: bool,
    /// What is explained.
    pub target: ExplainTarget,
}

/// About the jobs of the cluster that a session is connected to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobStatement {
    /// SHOW JOBS
    Show,
    /// DESCRIBE JOB 'id'
    Describe(String),
    /// STOP JOB 'id': behind a savepoint, or at once.
    Stop {
        /// Of the job.
        id: String,
        /// WITH SAVEPOINT
        savepoint: bool,
    },
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

/// The parts of a name.
pub fn parts(name: &ObjectName) -> Result<Vec<&Ident>> {
    name.0
        .iter()
        .map(|part| {
            part.as_ident()
                .ok_or_else(|| SqlError::new(format!("'{part}' is not a name")).at(part))
        })
        .collect()
}

/// The last part of a table's name.
pub fn relation_name(name: &ObjectName) -> Result<&Ident> {
    parts(name)?
        .pop()
        .ok_or_else(|| SqlError::new("a table without a name"))
}
