//! Refuses what sqlparser reads and Flink SQL does not have, or what has no plan yet, so that no part of a query is ever read and then ignored.

use std::ops::ControlFlow;

use sqlparser::ast::{
    Distinct, Expr, ObjectName, Query, Select, SelectFlavor, SelectItem, SetExpr, TableFactor,
    TableVersion, Visit, Visitor, WildcardAdditionalOptions,
};

use super::reserved;
use crate::error::{Result, SqlError};
use crate::statement::{ExplainTarget, Insert, Statement};

/// All queries in a statement.
pub(crate) fn check_statement(statement: &Statement) -> Result<()> {
    match statement {
        Statement::Query(query) => check_query(query),
        Statement::Insert(insert) => check_query(&insert.query),
        Statement::StatementSet(inserts) => check_inserts(inserts),
        Statement::CreateView(view) => check_query(&view.query),
        Statement::CreateTable(create) => match &create.query {
            Some(written) => check_query(&written.query),
            None => Ok(()),
        },
        Statement::AlterView(alter) => match &alter.query {
            Some((query, _)) => check_query(query),
            None => Ok(()),
        },
        Statement::Explain(explain) => match &explain.target {
            ExplainTarget::Query(query) => check_query(query),
            ExplainTarget::Inserts(inserts) => check_inserts(inserts),
        },
        _ => Ok(()),
    }
}

fn check_inserts(inserts: &[Insert]) -> Result<()> {
    inserts
        .iter()
        .try_for_each(|insert| check_query(&insert.query))
}

fn check_query(query: &Query) -> Result<()> {
    match query.visit(&mut Check) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(error),
    }
}

struct Check;

fn foreign(what: &str) -> SqlError {
    SqlError::new(format!("{what} is not part of Flink SQL"))
}

/// The first refusal whose condition holds.
fn first(refusals: impl IntoIterator<Item = (bool, SqlError)>) -> Option<SqlError> {
    refusals
        .into_iter()
        .find_map(|(holds, error)| holds.then_some(error))
}

fn end(error: Option<SqlError>, place: &impl sqlparser::ast::Spanned) -> ControlFlow<SqlError> {
    match error {
        Some(error) => ControlFlow::Break(error.at(place)),
        None => ControlFlow::Continue(()),
    }
}

impl Visitor for Check {
    type Break = SqlError;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<SqlError> {
        let body = match query.body.as_ref() {
            SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_) => {
                Some("a statement that changes data inside of a query")
            }
            SetExpr::Table(_) => Some("TABLE name as a query"),
            _ => None,
        };
        let recursive = query.with.as_ref().is_some_and(|with| with.recursive);
        let error = first([
            (!query.locks.is_empty(), foreign("FOR UPDATE")),
            (query.for_clause.is_some(), foreign("FOR XML / FOR JSON")),
            (query.settings.is_some(), foreign("SETTINGS")),
            (query.format_clause.is_some(), foreign("FORMAT")),
            (!query.pipe_operators.is_empty(), foreign("|>")),
            (recursive, SqlError::unsupported("WITH RECURSIVE")),
            (body.is_some(), foreign(body.unwrap_or_default())),
        ]);
        end(error, query)
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<SqlError> {
        let distinct_on = matches!(select.distinct, Some(Distinct::On(_)));
        let error = first([
            (distinct_on, foreign("DISTINCT ON")),
            (select.top.is_some(), foreign("TOP")),
            (select.exclude.is_some(), foreign("EXCLUDE")),
            (select.into.is_some(), foreign("SELECT INTO")),
            (!select.lateral_views.is_empty(), foreign("LATERAL VIEW")),
            (select.prewhere.is_some(), foreign("PREWHERE")),
            (!select.connect_by.is_empty(), foreign("CONNECT BY")),
            (!select.cluster_by.is_empty(), foreign("CLUSTER BY")),
            (!select.distribute_by.is_empty(), foreign("DISTRIBUTE BY")),
            (!select.sort_by.is_empty(), foreign("SORT BY")),
            (select.value_table_mode.is_some(), foreign("SELECT AS")),
            (
                !matches!(select.flavor, SelectFlavor::Standard),
                foreign("FROM in front of SELECT"),
            ),
            (
                select.projection.iter().any(has_wildcard_options),
                foreign("EXCEPT, EXCLUDE, REPLACE or RENAME behind *"),
            ),
            (
                select.projection.iter().any(has_text_alias),
                foreign("a text behind an expression").hint("an alias is written AS `name`"),
            ),
        ]);
        end(error, select)
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<SqlError> {
        let name = match expr {
            Expr::Identifier(name) => Some(name),
            Expr::CompoundIdentifier(names) => names.first(),
            _ => None,
        };
        match name.map_or(Ok(()), reserved::check) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(error),
        }
    }

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<SqlError> {
        let mut names = relation.0.iter().filter_map(|part| part.as_ident());
        match names.try_for_each(reserved::check) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(error),
        }
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<SqlError> {
        let error = match factor {
            TableFactor::Table {
                name,
                version,
                with_hints,
                partitions,
                with_ordinality,
                json_path,
                sample,
                index_hints,
                ..
            } => first([
                (
                    matches!(version, Some(TableVersion::ForSystemTimeAsOf(_))),
                    SqlError::unsupported("FOR SYSTEM_TIME AS OF (temporal and lookup joins)"),
                ),
                (version.is_some(), foreign("a table's version")),
                (!with_hints.is_empty(), foreign("WITH (...) behind a table")),
                (!partitions.is_empty(), foreign("PARTITION behind a table")),
                (
                    *with_ordinality && !name.to_string().eq_ignore_ascii_case("UNNEST"),
                    foreign("WITH ORDINALITY behind what is no UNNEST"),
                ),
                (json_path.is_some(), foreign("a path behind a table")),
                (sample.is_some(), SqlError::unsupported("TABLESAMPLE")),
                (!index_hints.is_empty(), foreign("an index hint")),
            ]),
            TableFactor::Pivot { .. } => Some(foreign("PIVOT")),
            TableFactor::Unpivot { .. } => Some(foreign("UNPIVOT")),
            TableFactor::JsonTable { .. } => Some(foreign("JSON_TABLE")),
            TableFactor::OpenJsonTable { .. } => Some(foreign("OPENJSON")),
            TableFactor::XmlTable { .. } => Some(foreign("XMLTABLE")),
            TableFactor::SemanticView { .. } => Some(foreign("SEMANTIC_VIEW")),
            _ => None,
        };
        end(error, factor)
    }
}

fn has_text_alias(item: &SelectItem) -> bool {
    matches!(item, SelectItem::ExprWithAlias { alias, .. } if alias.quote_style == Some('\''))
}

fn has_wildcard_options(item: &SelectItem) -> bool {
    let options = match item {
        SelectItem::Wildcard(options) | SelectItem::QualifiedWildcard(_, options) => options,
        SelectItem::ExprWithAliases { .. } => return true,
        _ => return false,
    };
    let WildcardAdditionalOptions {
        opt_ilike,
        opt_exclude,
        opt_except,
        opt_replace,
        opt_rename,
        ..
    } = options;
    opt_ilike.is_some()
        || opt_exclude.is_some()
        || opt_except.is_some()
        || opt_replace.is_some()
        || opt_rename.is_some()
}
