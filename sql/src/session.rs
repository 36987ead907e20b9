//! One user's session: tables, views and settings, and what each statement does to them.

use std::collections::BTreeMap;

use sqlparser::ast::{Ident, ObjectName};
use sqlparser::tokenizer::Location;
use weir_proto::v1::JobGraph;

use crate::catalog::{Catalog, Relation, View};
use crate::error::{Result, SqlError};
use crate::options::{PARALLELISM, SessionOptions};
use crate::plan::{self, PlannedQuery};
use crate::statement::{
    CATALOG, CreateTable, CreateView, DATABASE, Drop, Insert, Spanned, Statement, relation_name,
};
use crate::{ddl, show, stack};

/// What a session starts with.
#[derive(Debug, Clone, Default)]
pub struct SessionDefaults {
    /// Parallelism of jobs, if 'parallelism.default' is not among the options; 0 is 1.
    pub default_parallelism: u32,
    /// Settings under Flink's keys, in place of Flink's defaults.
    pub options: BTreeMap<String, String>,
}

/// What a statement gives. Those with a job do nothing yet: the caller runs it, before the next statement if it is to see its effects.
#[derive(Debug, Clone)]
pub enum StatementResult {
    /// Done; with a word for a person.
    Ok(String),
    /// A small table, for SHOW and its like.
    Rows {
        /// Names of the columns.
        columns: Vec<String>,
        /// One cell a column; `None` is NULL.
        rows: Vec<Vec<Option<String>>>,
    },
    /// INSERT or STATEMENT SET
    Job(PlannedJob),
    /// A bare query.
    Query(PlannedQuery),
}

/// A job that writes into tables.
#[derive(Debug, Clone)]
pub struct PlannedJob {
    /// What to submit.
    pub graph: JobGraph,
    /// The graph's name.
    pub name: String,
    /// Which statement it is.
    pub kind: JobKind,
}

/// Which statement made a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobKind {
    /// INSERT
    Insert,
    /// EXECUTE STATEMENT SET
    StatementSet,
}

/// Tables, views and settings. Statements are executed one after the other.
#[derive(Debug, Clone)]
pub struct Session {
    catalog: Catalog,
    options: SessionOptions,
}

impl Session {
    /// An empty one.
    ///
    /// # Errors
    /// An option that there is not, or a value that it does not take.
    pub fn new(defaults: SessionDefaults) -> Result<Self> {
        let mut options = defaults.options;
        if defaults.default_parallelism > 0 {
            options
                .entry(PARALLELISM.to_owned())
                .or_insert_with(|| defaults.default_parallelism.to_string());
        }
        Ok(Self {
            catalog: Catalog::default(),
            options: SessionOptions::with_defaults(&options)?,
        })
    }

    /// The tables and views.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// The settings.
    pub fn options(&self) -> &SessionOptions {
        &self.options
    }

    /// Does what a statement says, up to running its job.
    ///
    /// # Errors
    /// What is wrong with it, with its place in the script. The session is then as before.
    pub fn execute(&mut self, statement: &Spanned) -> Result<StatementResult> {
        let zone = self.options.time_zone().map(str::to_owned);
        stack::with_large(|| {
            plan::zone::with(zone.as_deref(), || self.execute_here(&statement.statement))
        })?
        .map_err(|error| error.at_location(statement.start))
    }

    fn execute_here(&mut self, statement: &Statement) -> Result<StatementResult> {
        match statement {
            Statement::CreateTable(create) => self.create_table(create),
            Statement::CreateView(create) => self.create_view(create),
            Statement::Drop(drop) => self.drop_relation(drop),
            Statement::Show(what) => show::show(&self.catalog, &self.options, what),
            Statement::Describe(name) => show::describe(&self.catalog, &self.options, name, None),
            Statement::Explain(explain) => {
                let text = plan::explain(
                    &self.catalog,
                    &self.options,
                    &explain.target,
                    explain.changelog_mode,
                )?;
                Ok(show::one_cell("result", text))
            }
            Statement::ShowSettings => Ok(show::settings(&self.options)),
            Statement::Set {
                key,
                value,
                location,
            } => self.set(key, value, *location),
            Statement::Reset(None) => {
                self.options.reset_all();
                Ok(ok("all options are reset"))
            }
            Statement::Reset(Some((key, location))) => {
                let result = self.options.reset(key);
                result.map_err(|error| error.at_location(*location))?;
                Ok(ok(format!("'{key}' is reset")))
            }
            Statement::Use { catalog, database } => use_(catalog.as_ref(), database.as_ref()),
            Statement::Insert(insert) => self.job(std::slice::from_ref(insert), JobKind::Insert),
            Statement::StatementSet(inserts) => self.job(inserts, JobKind::StatementSet),
            Statement::Query(query) => {
                plan::plan_query(&self.catalog, &self.options, query).map(StatementResult::Query)
            }
        }
    }

    fn set(&mut self, key: &str, value: &str, location: Location) -> Result<StatementResult> {
        let result = self.options.set(key, value);
        result.map_err(|error| error.at_location(location))?;
        Ok(ok(format!("'{key}' is '{value}'")))
    }

    fn create_table(&mut self, create: &CreateTable) -> Result<StatementResult> {
        let table = ddl::resolve(create, &self.catalog)?;
        if self.is_taken(&create.name, create.if_not_exists)? {
            return Ok(ok(format!("'{}' exists already", table.name)));
        }
        plan::table_schema(&self.catalog, &self.options, &table)
            .map_err(|error| error.at(&create.name))?;
        let message = format!("table '{}' is created", table.name);
        self.catalog.insert(Relation::Table(Box::new(table)));
        Ok(ok(message))
    }

    fn create_view(&mut self, create: &CreateView) -> Result<StatementResult> {
        let name = relation_name(&create.name)?.value.clone();
        if self.is_taken(&create.name, create.if_not_exists)? {
            return Ok(ok(format!("'{name}' exists already")));
        }
        let columns = plan::query_schema(&self.catalog, &self.options, &create.query)?;
        if !create.columns.is_empty() && create.columns.len() != columns.len() {
            let error = SqlError::new(format!(
                "the view '{name}' names {} columns, and its query has {}",
                create.columns.len(),
                columns.len()
            ));
            return Err(error.at(&create.name));
        }
        let message = format!("view '{name}' is created");
        self.catalog.insert(Relation::View(View {
            name,
            temporary: create.temporary,
            columns: create
                .columns
                .iter()
                .map(|column| column.value.clone())
                .collect(),
            query: create.query.clone(),
            text: create.text.clone(),
        }));
        Ok(ok(message))
    }

    /// Whether a name is in use and may be (IF NOT EXISTS); if it may not, an error.
    fn is_taken(&self, name: &ObjectName, if_not_exists: bool) -> Result<bool> {
        let ident = relation_name(name)?;
        match self.catalog.get(&ident.value) {
            None => Ok(false),
            Some(_) if if_not_exists => Ok(true),
            Some(existing) => Err(SqlError::new(format!(
                "a {} '{}' exists already",
                kind_of(existing),
                ident.value
            ))
            .at_location(ident.span.start)),
        }
    }

    fn drop_relation(&mut self, drop: &Drop) -> Result<StatementResult> {
        let ident = relation_name(&drop.name)?;
        let name = ident.value.clone();
        let kind = match (drop.temporary, drop.view) {
            (true, true) => "temporary view",
            (true, false) => "temporary table",
            (false, true) => "view",
            (false, false) => "table",
        };
        match self.catalog.get(&name) {
            Some(existing) if kind_of(existing) == kind => {
                self.catalog.remove(&name);
                Ok(ok(format!("{kind} '{name}' is dropped")))
            }
            Some(existing) => {
                let actual = kind_of(existing);
                Err(SqlError::new(format!("'{name}' is a {actual}"))
                    .hint(format!("write DROP {} {name}", actual.to_uppercase()))
                    .at_location(ident.span.start))
            }
            None if drop.if_exists => Ok(ok(format!("there is no {kind} '{name}'"))),
            None => {
                let known = self
                    .catalog
                    .relations()
                    .filter(|other| kind_of(other) == kind);
                Err(SqlError::unknown(kind, ident, known.map(Relation::name)))
            }
        }
    }

    fn job(&self, inserts: &[Insert], kind: JobKind) -> Result<StatementResult> {
        let name = self.job_name(inserts);
        let graph = plan::plan_insert(&self.catalog, &self.options, inserts, &name)?;
        Ok(StatementResult::Job(PlannedJob { graph, name, kind }))
    }

    /// 'pipeline.name', or Flink's: "insert-into_default_catalog.default_database.t".
    fn job_name(&self, inserts: &[Insert]) -> String {
        if let Some(name) = self.options.pipeline_name() {
            return name.to_owned();
        }
        let targets = inserts.iter().map(|insert| {
            let target = relation_name(&insert.target);
            let table = target.map_or("", |ident| ident.value.as_str());
            format!("{CATALOG}.{DATABASE}.{table}")
        });
        format!("insert-into_{}", targets.collect::<Vec<_>>().join(","))
    }
}

fn kind_of(relation: &Relation) -> &'static str {
    match (relation, relation.is_temporary()) {
        (Relation::Table(_), false) => "table",
        (Relation::Table(_), true) => "temporary table",
        (Relation::View(_), false) => "view",
        (Relation::View(_), true) => "temporary view",
    }
}

fn ok(message: impl Into<String>) -> StatementResult {
    StatementResult::Ok(message.into())
}

/// There is one catalog with one database.
fn use_(catalog: Option<&Ident>, database: Option<&Ident>) -> Result<StatementResult> {
    if let Some(catalog) = catalog.filter(|catalog| catalog.value != CATALOG) {
        return Err(SqlError::unknown("catalog", catalog, [CATALOG]));
    }
    if let Some(database) = database.filter(|database| database.value != DATABASE) {
        return Err(SqlError::unknown("database", database, [DATABASE]));
    }
    Ok(ok(format!("using {CATALOG}.{DATABASE}")))
}

/// The jobs of a script: one for each INSERT and each STATEMENT SET. What other statements show is not for anyone to see.
///
/// # Errors
/// The first mistake; a bare query, for nobody would get its rows.
pub fn plan_script(text: &str, defaults: SessionDefaults) -> Result<Vec<JobGraph>> {
    let mut session = Session::new(defaults)?;
    let mut graphs = Vec::new();
    let statements = crate::parse_script(text)?;
    for statement in &statements {
        if matches!(statement.statement, Statement::Query(_)) {
            let error = SqlError::new("a bare query gives its rows to nobody here")
                .hint("write INSERT INTO a table, or run it with `weir sql`");
            return Err(error.at_location(statement.start));
        }
        if let StatementResult::Job(job) = session.execute(statement)? {
            graphs.push(job.graph);
        }
    }
    if graphs.is_empty() {
        return Err(SqlError::new(
            "the script has no INSERT and no STATEMENT SET",
        ));
    }
    Ok(graphs)
}
