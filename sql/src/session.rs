//! One user's session: tables, views and settings, and what each statement does to them.

use std::collections::BTreeMap;

use sqlparser::ast::ObjectName;
use sqlparser::tokenizer::Location;
use weir_proto::v1::JobGraph;

use crate::catalog::{Catalog, Path, Relation, View};
use crate::error::{Result, SqlError};
use crate::options::{PARALLELISM, SessionOptions};
use crate::plan::{self, PlannedQuery};
use crate::statement::{
    AlterTable, AlterView, CreateTable, CreateView, Drop, Insert, JobStatement, Replace, Spanned,
    Statement, TableChange, relation_name,
};
use crate::{alter, ctas, ddl, show, spaces, stack};

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
    /// What is to be done with the jobs of the cluster.
    Jobs(JobStatement),
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
            Statement::AlterTable(alter) => self.alter_table(alter),
            Statement::AlterView(alter) => self.alter_view(alter),
            Statement::Space(change) => spaces::change(&mut self.catalog, change).map(ok),
            Statement::DescribeCatalog(name, extended) => {
                let rows = spaces::describe(&self.catalog, name, *extended)?;
                Ok(StatementResult::Rows {
                    columns: ["info name", "info value"].map(str::to_owned).into(),
                    rows,
                })
            }
            Statement::Describe(name) => show::describe(&self.catalog, &self.options, name, None),
            Statement::Explain(explain) => {
                let text = plan::explain(&self.catalog, &self.options, explain)?;
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
            Statement::Use { catalog, database } => {
                spaces::use_(&mut self.catalog, catalog.as_ref(), database.as_ref()).map(ok)
            }
            Statement::Jobs(jobs) => Ok(StatementResult::Jobs(jobs.clone())),
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
        let path = self.catalog.path(&create.name)?;
        self.check_replaced(create, &path)?;
        let Some(written) = &create.query else {
            let table = ddl::resolve(create, &self.catalog)?;
            if self.is_taken(&path, create.temporary, &create.name, create.if_not_exists)? {
                return Ok(ok(format!("'{path}' exists already")));
            }
            plan::table_schema(&self.catalog, &self.options, &table)
                .map_err(|error| error.at(&create.name))?;
            let table = Relation::Table(Box::new(table));
            self.catalog.insert(&path.space, table);
            return Ok(ok(format!("table '{path}' is created")));
        };
        let columns = plan::query_schema(&self.catalog, &self.options, &written.query)?;
        let (create, insert) = ctas::taken_apart(create, written, columns)?;
        let table = ddl::resolve(&create, &self.catalog)?;
        let taken = create.replace == Replace::No
            && self.is_taken(&path, false, &create.name, create.if_not_exists)?;
        let before = self.catalog.clone();
        if !taken {
            let table = Relation::Table(Box::new(table));
            self.catalog.insert(&path.space, table);
        }
        let job = self.job(std::slice::from_ref(&insert), JobKind::Insert);
        if job.is_err() {
            self.catalog = before;
        }
        job
    }

    fn check_replaced(&self, create: &CreateTable, path: &Path) -> Result<()> {
        if create.replace == Replace::MustBeThere && self.catalog.get_kept(path).is_none() {
            let error = SqlError::new(format!("there is no table '{path}' to replace"));
            return Err(error.hint("write CREATE OR REPLACE TABLE").at(&create.name));
        }
        Ok(())
    }

    fn create_view(&mut self, create: &CreateView) -> Result<StatementResult> {
        let path = self.catalog.path(&create.name)?;
        if self.is_taken(&path, create.temporary, &create.name, create.if_not_exists)? {
            return Ok(ok(format!("'{path}' exists already")));
        }
        let columns = plan::query_schema(&self.catalog, &self.options, &create.query)?;
        if !create.columns.is_empty() && create.columns.len() != columns.len() {
            let error = SqlError::new(format!(
                "the view '{}' names {} columns, and its query has {}",
                path.name,
                create.columns.len(),
                columns.len()
            ));
            return Err(error.at(&create.name));
        }
        let names = create.columns.iter().map(|column| column.value.clone());
        let view = View {
            name: path.name.clone(),
            temporary: create.temporary,
            columns: names.collect(),
            query: create.query.clone(),
            text: create.text.clone(),
            comment: create.comment.clone(),
            space: self.catalog.space().clone(),
        };
        self.catalog.insert(&path.space, Relation::View(view));
        Ok(ok(format!("view '{path}' is created")))
    }

    /// Whether a name is in use and may be (IF NOT EXISTS); if it may not, an error. A temporary table may hide one that is not.
    fn is_taken(
        &self,
        path: &Path,
        temporary: bool,
        name: &ObjectName,
        if_not_exists: bool,
    ) -> Result<bool> {
        let existing = match temporary {
            true => self.catalog.get_temporary(path),
            false => self.catalog.get_kept(path),
        };
        match existing {
            None => Ok(false),
            Some(_) if if_not_exists => Ok(true),
            Some(existing) => Err(SqlError::new(format!(
                "a {} '{}' exists already",
                kind_of(existing),
                path.name
            ))
            .at(name)),
        }
    }

    fn drop_relation(&mut self, drop: &Drop) -> Result<StatementResult> {
        let path = self.catalog.path(&drop.name)?;
        let kind = match (drop.temporary, drop.view) {
            (true, true) => "temporary view",
            (true, false) => "temporary table",
            (false, true) => "view",
            (false, false) => "table",
        };
        match self.catalog.get(&path) {
            Some(existing) if kind_of(existing) == kind => {
                self.catalog.remove(&path, drop.temporary);
                Ok(ok(format!("{kind} '{path}' is dropped")))
            }
            Some(existing) => {
                let (actual, name) = (kind_of(existing), &path.name);
                Err(SqlError::new(format!("'{name}' is a {actual}"))
                    .hint(format!("write DROP {} {name}", actual.to_uppercase()))
                    .at(&drop.name))
            }
            None if drop.if_exists => Ok(ok(format!("there is no {kind} '{path}'"))),
            None => {
                let all = self.catalog.relations(&path.space);
                let known = all.into_iter().filter(|other| kind_of(other) == kind);
                let name = relation_name(&drop.name)?;
                Err(SqlError::unknown(kind, name, known.map(Relation::name)))
            }
        }
    }

    fn alter_table(&mut self, alter: &AlterTable) -> Result<StatementResult> {
        let path = self.catalog.path(&alter.name)?;
        let table = match self.catalog.get_kept(&path) {
            Some(Relation::Table(table)) => table,
            Some(Relation::View(_)) => {
                let error = SqlError::new(format!("'{path}' is a view"));
                return Err(error.hint("write ALTER VIEW").at(&alter.name));
            }
            None if alter.if_exists => return Ok(ok(format!("there is no table '{path}'"))),
            None if self.catalog.get_temporary(&path).is_some() => {
                let error = SqlError::new(format!("'{path}' is temporary: it cannot be altered"));
                return Err(error.hint("drop it and create it again").at(&alter.name));
            }
            None => {
                self.catalog.resolve(&alter.name)?;
                return Err(SqlError::new(format!("there is no table '{path}'")).at(&alter.name));
            }
        };
        let altered = alter::altered(table, &alter.change).map_err(|e| e.at(&alter.name))?;
        plan::table_schema(&self.catalog, &self.options, &altered)
            .map_err(|error| error.at(&alter.name))?;
        let table = Relation::Table(Box::new(altered));
        if let TableChange::Rename(to) = &alter.change {
            return self.rename(&path, to, table);
        }
        self.catalog.insert(&path.space, table);
        Ok(ok(format!("table '{path}' is altered")))
    }

    /// Within its database, as in Flink.
    fn rename(
        &mut self,
        path: &Path,
        to: &ObjectName,
        mut relation: Relation,
    ) -> Result<StatementResult> {
        let new = self.catalog.path(to)?;
        if new.space != path.space {
            let error = SqlError::new("a table is not renamed into another database");
            return Err(error.at(to));
        }
        self.is_taken(&new, false, to, false)?;
        match &mut relation {
            Relation::Table(table) => table.name.clone_from(&new.name),
            Relation::View(view) => view.name.clone_from(&new.name),
        }
        self.catalog.remove(path, false);
        self.catalog.insert(&new.space, relation);
        Ok(ok(format!("'{path}' is now '{new}'")))
    }

    fn alter_view(&mut self, alter: &AlterView) -> Result<StatementResult> {
        let path = self.catalog.path(&alter.name)?;
        let mut view = match self.catalog.get_kept(&path) {
            Some(Relation::View(view)) => view.clone(),
            Some(Relation::Table(_)) => {
                let error = SqlError::new(format!("'{path}' is a table"));
                return Err(error.hint("write ALTER TABLE").at(&alter.name));
            }
            None => {
                let all = self.catalog.relations(&path.space);
                let views = all.into_iter().filter(|other| kind_of(other) == "view");
                let name = relation_name(&alter.name)?;
                return Err(SqlError::unknown("view", name, views.map(Relation::name)));
            }
        };
        if let Some(to) = &alter.rename {
            return self.rename(&path, to, Relation::View(view));
        }
        if let Some((query, text)) = &alter.query {
            plan::query_schema(&self.catalog, &self.options, query)?;
            view.query.clone_from(query);
            view.text.clone_from(text);
            view.columns.clear();
            view.space = self.catalog.space().clone();
        }
        self.catalog.insert(&path.space, Relation::View(view));
        Ok(ok(format!("view '{path}' is altered")))
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
            let target = self.catalog.path(&insert.target);
            target.map_or_else(|_| String::new(), |path| path.to_string())
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
        match session.execute(statement)? {
            StatementResult::Job(job) => graphs.push(job.graph),
            StatementResult::Jobs(_) => {
                let error =
                    SqlError::new("a script that is submitted says nothing about other jobs")
                        .hint("run it with `weir sql --jobmanager`");
                return Err(error.at_location(statement.start));
            }
            _ => {}
        }
    }
    if graphs.is_empty() {
        return Err(SqlError::new(
            "the script has no INSERT and no STATEMENT SET",
        ));
    }
    Ok(graphs)
}
