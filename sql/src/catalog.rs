//! The tables and views of a session, in catalogs and databases that live as long as it does, as Flink's `generic_in_memory` ones.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use sqlparser::ast::{self, Ident, ObjectName};
use weir_dataflow::types::LogicalField;

use crate::error::{Result, SqlError};
use crate::statement::{CATALOG, DATABASE, parts};

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
    /// CONSTRAINT name in front of the key; else the name is made of its columns.
    pub key_name: Option<String>,
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
    /// COMMENT
    pub comment: Option<String>,
    /// Where the names in the query are looked up: what was in use when the view was made.
    pub space: Space,
}

/// A database of a catalog.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Space {
    /// Catalog.
    pub catalog: String,
    /// Database in it.
    pub database: String,
}

/// The whole name of a table or view. Shows as Flink shows it in messages: `c.d.t`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Path {
    /// Where it lies.
    pub space: Space,
    /// Its own name.
    pub name: String,
}

impl fmt::Display for Space {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.catalog, self.database)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.space, self.name)
    }
}

/// CREATE CATALOG
#[derive(Debug, Clone, Default)]
pub struct NamedCatalog {
    /// COMMENT
    pub comment: Option<String>,
    /// WITH (...), 'type' included.
    pub options: BTreeMap<String, String>,
    /// By name.
    pub databases: BTreeMap<String, Database>,
}

/// CREATE DATABASE
#[derive(Debug, Clone, Default)]
pub struct Database {
    /// COMMENT
    pub comment: Option<String>,
    /// WITH (...)
    pub options: BTreeMap<String, String>,
    relations: BTreeMap<String, Relation>,
}

/// All catalogs of a session and the database in use. A clone costs nothing until it is changed.
#[derive(Debug, Clone)]
pub struct Catalog {
    catalogs: Arc<BTreeMap<String, NamedCatalog>>,
    /// They hide others of the same name.
    temporary: Arc<BTreeMap<Path, Relation>>,
    space: Space,
}

impl Default for Catalog {
    fn default() -> Self {
        let databases = [(DATABASE.to_owned(), Database::default())];
        let options = [("type".to_owned(), IN_MEMORY.to_owned())];
        let own = NamedCatalog {
            comment: None,
            options: options.into(),
            databases: databases.into(),
        };
        Self {
            catalogs: Arc::new([(CATALOG.to_owned(), own)].into()),
            temporary: Arc::default(),
            space: Space {
                catalog: CATALOG.to_owned(),
                database: DATABASE.to_owned(),
            },
        }
    }
}

/// The type of catalog that there is.
pub(crate) const IN_MEMORY: &str = "generic_in_memory";

impl Catalog {
    /// The database in use.
    pub fn space(&self) -> &Space {
        &self.space
    }

    /// The same with another database in use, which need not be there.
    pub(crate) fn within(&self, space: &Space) -> Self {
        Self {
            space: space.clone(),
            ..self.clone()
        }
    }

    /// Changes the database in use.
    pub(crate) fn use_space(&mut self, space: Space) {
        self.space = space;
    }

    /// All catalogs by name.
    pub fn catalogs(&self) -> &BTreeMap<String, NamedCatalog> {
        &self.catalogs
    }

    /// To be changed.
    pub(crate) fn catalogs_mut(&mut self) -> &mut BTreeMap<String, NamedCatalog> {
        Arc::make_mut(&mut self.catalogs)
    }

    /// A catalog.
    ///
    /// # Errors
    /// There is none of this name; the nearest is told.
    pub fn catalog(&self, name: &Ident) -> Result<&NamedCatalog> {
        self.catalogs.get(&name.value).ok_or_else(|| {
            SqlError::unknown("catalog", name, self.catalogs.keys().map(String::as_str))
        })
    }

    /// `[catalog.]database`, which is there.
    ///
    /// # Errors
    /// It is not.
    pub fn database(&self, name: &ObjectName) -> Result<Space> {
        let (catalog, database) = match parts(name)?.as_slice() {
            [database] => (Ident::new(&self.space.catalog), *database),
            [catalog, database] => ((*catalog).clone(), *database),
            _ => {
                return Err(
                    SqlError::new(format!("'{name}' is not the name of a database")).at(name),
                );
            }
        };
        let databases = &self.catalog(&catalog)?.databases;
        if !databases.contains_key(&database.value) {
            let known = databases.keys().map(String::as_str);
            return Err(SqlError::unknown("database", database, known));
        }
        Ok(Space {
            catalog: catalog.value,
            database: database.value.clone(),
        })
    }

    /// The whole name of what a statement calls `name`, whether it is there or not; its database is.
    ///
    /// # Errors
    /// There is no such catalog or database.
    pub fn path(&self, name: &ObjectName) -> Result<Path> {
        let all = parts(name)?;
        let (space, last) = match all.as_slice() {
            [last] => (self.space.clone(), *last),
            [rest @ .., last] if rest.len() <= 2 => {
                let idents: Vec<Ident> = rest.iter().map(|ident| (*ident).clone()).collect();
                (self.database(&ObjectName::from(idents))?, *last)
            }
            _ => {
                return Err(SqlError::new(format!("'{name}' is not the name of a table")).at(name));
            }
        };
        Ok(Path {
            space,
            name: last.value.clone(),
        })
    }

    /// A table or view; a temporary one comes first.
    pub fn get(&self, path: &Path) -> Option<&Relation> {
        let temporary = self.temporary.get(path);
        temporary.or_else(|| self.get_kept(path))
    }

    /// One that is not temporary.
    pub(crate) fn get_kept(&self, path: &Path) -> Option<&Relation> {
        let catalog = self.catalogs.get(&path.space.catalog)?;
        let database = catalog.databases.get(&path.space.database)?;
        database.relations.get(&path.name)
    }

    /// One that is temporary.
    pub(crate) fn get_temporary(&self, path: &Path) -> Option<&Relation> {
        self.temporary.get(path)
    }

    /// What a name in a statement stands for.
    ///
    /// # Errors
    /// An unknown table, with the nearest known one of its database.
    pub fn resolve(&self, name: &ObjectName) -> Result<&Relation> {
        let path = self.path(name)?;
        match (self.get(&path), parts(name)?.last()) {
            (Some(relation), _) => Ok(relation),
            (None, Some(last)) => {
                let known = self.relations(&path.space);
                Err(SqlError::unknown(
                    "table",
                    last,
                    known.iter().map(|other| other.name()),
                ))
            }
            (None, None) => Err(SqlError::new("a table without a name")),
        }
    }

    /// What a database shows, in the order of the names.
    pub fn relations(&self, space: &Space) -> Vec<&Relation> {
        let kept = self
            .catalogs
            .get(&space.catalog)
            .and_then(|catalog| catalog.databases.get(&space.database))
            .into_iter()
            .flat_map(|database| &database.relations);
        let mut all: BTreeMap<&String, &Relation> = kept.collect();
        let temporary = self.temporary.iter();
        all.extend(
            temporary
                .filter(|(path, _)| path.space == *space)
                .map(|(path, relation)| (&path.name, relation)),
        );
        all.into_values().collect()
    }

    /// Adds one, or puts it in the place of the one there was.
    pub(crate) fn insert(&mut self, space: &Space, relation: Relation) {
        let name = relation.name().to_owned();
        if relation.is_temporary() {
            let path = Path {
                space: space.clone(),
                name,
            };
            Arc::make_mut(&mut self.temporary).insert(path, relation);
            return;
        }
        let database = self
            .catalogs_mut()
            .get_mut(&space.catalog)
            .and_then(|catalog| catalog.databases.get_mut(&space.database));
        if let Some(database) = database {
            database.relations.insert(name, relation);
        }
    }

    /// Takes one away.
    pub(crate) fn remove(&mut self, path: &Path, temporary: bool) -> Option<Relation> {
        if temporary {
            return Arc::make_mut(&mut self.temporary).remove(path);
        }
        let catalog = self.catalogs_mut().get_mut(&path.space.catalog)?;
        let database = catalog.databases.get_mut(&path.space.database)?;
        database.relations.remove(&path.name)
    }
}

impl Database {
    /// It holds no table and no view.
    pub(crate) fn is_empty(&self) -> bool {
        self.relations.is_empty()
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
