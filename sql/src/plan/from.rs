//! FROM: tables, views, subqueries, windowing functions, and how several of them are joined.

use std::sync::Arc;

use datafusion_expr::Expr;
use sqlparser::ast::{
    Ident, Join, JoinConstraint, JoinOperator, ObjectName, TableAlias, TableFactor, TableWithJoins,
};
use weir_dataflow::types::{LogicalField, LogicalType};
use weir_proto::v1::{JoinKind, WindowKind};

use super::changelog_conversion::Conversion;
use super::expr::Analyzer;
use super::query::{Planner, filter_by, rename};
use super::rel::{
    Column, Rel, RelOp, RelRef, Window, WindowColumns, collect_inputs, conjuncts, input_ref,
    replace_inputs,
};
use super::scope::Scope;
use super::unnest::Unnested;
use super::{TimeAttribute, call, join, match_recognize, scan, subquery, unnest, values};
use crate::catalog::Relation;
use crate::error::{Result, SqlError};
use crate::parse::hints;
use crate::signature;
use crate::statement::relation_name;
use crate::tvf::{TvfInput, WindowTvf, window_tvf};

/// A relation of FROM with its names.
type Named = (RelRef, Scope);

/// Conditions that are not yet part of the relation, over its columns.
struct Joined {
    rel: RelRef,
    scope: Scope,
}

/// What is joined with the relations in front of it.
enum Item {
    Relation(RelRef),
    Unnested(Unnested),
}

impl Planner<'_> {
    /// All of FROM with the WHERE on it.
    pub fn from(
        &mut self,
        tables: &[TableWithJoins],
        selection: Option<&sqlparser::ast::Expr>,
    ) -> Result<Named> {
        let outer = self.outer.take().map(Arc::new);
        let (with_subqueries, plain): (Vec<_>, Vec<_>) = selection
            .into_iter()
            .flat_map(subquery::conjuncts)
            .partition(|condition| subquery::has_subquery(condition));
        let (mut named, conditions) = self.joined(tables, &plain, outer)?;
        // Conditions that speak of the query around are the subquery's to join by.
        let width = named.1.columns.len();
        let (mine, mut correlated): (Vec<_>, Vec<_>) = conditions
            .into_iter()
            .partition(|condition| reads_below(condition, width));
        named.0 = filter_by(named.0, mine);
        for condition in with_subqueries {
            named = self.filter_with_subqueries(named, condition)?;
        }
        let more = named.1.columns.len() - width;
        for condition in &mut correlated {
            *condition = replace_inputs(condition, |index| match index < width {
                true => input_ref(index),
                false => input_ref(index + more),
            });
        }
        self.correlated = correlated;
        Ok(named)
    }

    /// All tables of FROM, joined; and the conditions that no join has taken.
    fn joined(
        &mut self,
        tables: &[TableWithJoins],
        selection: &[&sqlparser::ast::Expr],
        outer: Option<Arc<Scope>>,
    ) -> Result<(Named, Vec<Expr>)> {
        let Some((first, others)) = tables.split_first() else {
            let mut nothing = Scope::of_relation(None, &[]);
            nothing.outer = outer;
            let conditions = where_conditions(selection, &nothing)?;
            nothing.outer = None;
            return Ok(((values::one_row()?, nothing), conditions));
        };
        let (rel, scope) = self.relation(&first.relation)?;
        let mut joined = Joined { rel, scope };
        // Names of WHERE are known when all of FROM is, but a comma's join needs its conditions before.
        let mut later: Vec<(&TableFactor, Option<&JoinOperator>)> = Vec::new();
        later.extend(
            first
                .joins
                .iter()
                .map(|join| (&join.relation, Some(&join.join_operator))),
        );
        for other in others {
            later.push((&other.relation, None));
            let joins = other.joins.iter();
            later.extend(joins.map(|join| (&join.relation, Some(&join.join_operator))));
        }
        refuse_global(tables)?;
        let mut planned = Vec::with_capacity(later.len());
        let mut whole = joined.scope.clone();
        for (factor, operator) in later {
            let (item, scope) = match unnest::unnest(factor, &whole) {
                Some(unnested) => {
                    let (unnested, scope) = unnested?;
                    (Item::Unnested(unnested), scope)
                }
                None => {
                    let (rel, scope) = self.relation(factor)?;
                    (Item::Relation(rel), scope)
                }
            };
            append(&mut whole, &scope)?;
            planned.push((item, scope, operator, factor));
        }
        whole.outer = outer;
        let mut conditions = where_conditions(selection, &whole)?;
        for (item, scope, operator, factor) in planned {
            let next = match item {
                Item::Relation(rel) => self.join(joined, (rel, scope), operator, &mut conditions),
                Item::Unnested(unnested) => unnested_join(joined, (unnested, scope), operator),
            };
            joined = next.map_err(|error| error.at(factor))?;
        }
        Ok(((joined.rel, joined.scope), conditions))
    }

    /// One join. Of the WHERE's conditions an inner join takes those that speak of its columns only.
    fn join(
        &mut self,
        left: Joined,
        (right, right_scope): Named,
        operator: Option<&JoinOperator>,
        selection: &mut Vec<Expr>,
    ) -> Result<Joined> {
        let (kind, constraint) = join_kind(operator)?;
        let mut scope = left.scope.clone();
        append(&mut scope, &right_scope)?;
        let mut conditions = match constraint {
            Some(JoinConstraint::On(on)) => conjuncts(&Analyzer::new(&scope, "ON")?.condition(on)?),
            None | Some(JoinConstraint::None) => Vec::new(),
            Some(JoinConstraint::Using(_)) => return Err(SqlError::unsupported("JOIN ... USING")),
            Some(JoinConstraint::Natural) => return Err(SqlError::unsupported("NATURAL JOIN")),
        };
        if kind == JoinKind::Inner {
            let width = scope.columns.len();
            let (mine, others) = std::mem::take(selection)
                .into_iter()
                .partition(|condition| reads_below(condition, width));
            conditions.extend::<Vec<Expr>>(mine);
            *selection = others;
        }
        let rel = join::join(kind, left.rel, right, conditions)?;
        if matches!(kind, JoinKind::Semi | JoinKind::Anti) {
            scope.columns.truncate(rel.columns.len());
        }
        for (entry, column) in scope.columns.iter_mut().zip(&rel.columns) {
            entry.column = column.clone();
        }
        Ok(Joined { rel, scope })
    }

    fn relation(&mut self, factor: &TableFactor) -> Result<Named> {
        if let Some(tvf) = window_tvf(factor) {
            return self.window_function(&tvf?).map_err(|e| e.at(factor));
        }
        if let Some(conversion) = Conversion::of(factor) {
            return self
                .conversion(conversion?, factor)
                .map_err(|e| e.at(factor));
        }
        if let Some((table, clauses, alias)) = match_recognize::Clauses::of(factor) {
            let (input, scope) = self.relation(table)?;
            let matches = match_recognize::plan(&clauses, input, &scope);
            return aliased(matches.map_err(|e| e.at(factor))?, None, alias);
        }
        match factor {
            TableFactor::Table {
                name,
                alias,
                args: None,
                version: None,
                sample: None,
                with_hints,
                ..
            } => {
                let rel = match hints::table_options(with_hints) {
                    options if options.is_empty() => self.named(name)?,
                    options => self.with_options(name, &options)?,
                };
                let own = relation_name(name)?.value.clone();
                aliased(rel, Some(&own), alias.as_ref())
            }
            TableFactor::Derived {
                lateral: false,
                subquery,
                alias,
                sample: None,
            } => aliased(self.query(subquery)?, None, alias.as_ref()),
            other => Err(refused(other).at(other)),
        }
    }

    /// A table with the options of its hint.
    fn with_options(&self, name: &ObjectName, options: &[(String, String)]) -> Result<RelRef> {
        match self.catalog.resolve(name)? {
            Relation::Table(table) => scan::scan(&table.with_options(options), self.changes_repeat)
                .map_err(|mut error| {
                    error.position = None;
                    error.at(name)
                }),
            Relation::View(view) => Err(SqlError::new(format!(
                "'{}' is a view: the hint OPTIONS is for tables",
                view.name
            ))
            .at(name)),
        }
    }

    /// A common table expression, table or view.
    fn named(&mut self, name: &ObjectName) -> Result<RelRef> {
        if let [part] = name.0.as_slice()
            && let Some(rel) = part.as_ident().and_then(|ident| self.cte(&ident.value))
        {
            return Ok(rel.clone());
        }
        match self.catalog.resolve(name)? {
            Relation::Table(table) => {
                scan::scan(table, self.changes_repeat).map_err(|mut error| {
                    // Positions in a table's expressions and in a view's query are of another statement.
                    error.position = None;
                    error.at(name)
                })
            }
            Relation::View(view) => {
                let in_view = |mut error: SqlError| {
                    error.message = format!("view '{}': {}", view.name, error.message);
                    error.position = None;
                    error.at(name)
                };
                let rel = self.view(view).map_err(in_view)?;
                let names: Vec<_> = view.columns.iter().map(Ident::new).collect();
                rename(rel, &names).map_err(in_view)
            }
        }
    }

    fn conversion(&mut self, conversion: Conversion, factor: &TableFactor) -> Result<Named> {
        let input = match &conversion.input {
            TvfInput::Table(table) => self.named(table)?,
            TvfInput::Query(query) => self.query(query)?,
        };
        let alias = signature::call(factor).and_then(|(_, _, alias)| alias);
        aliased(conversion.plan(input)?, None, alias)
    }

    fn window_function(&mut self, tvf: &WindowTvf) -> Result<Named> {
        let name = match tvf.kind {
            WindowKind::Tumble => "TUMBLE",
            WindowKind::Hop => "HOP",
            WindowKind::Cumulate => "CUMULATE",
            WindowKind::Session => "SESSION",
            WindowKind::Unspecified => return Err(SqlError::unsupported("this window")),
        };
        let (input, own) = match &tvf.input {
            TvfInput::Table(table) => (
                self.named(table)?,
                Some(relation_name(table)?.value.clone()),
            ),
            TvfInput::Query(query) => (self.query(query)?, None),
        };
        let scope = Scope::of_relation(own.as_deref(), &input.columns);
        let (time_column, _) = scope.resolve(std::slice::from_ref(&tvf.time_column))?;
        let processing_time = check_time_column(name, &input, time_column)
            .map_err(|error| error.at_location(tvf.time_column.span.start))?;
        let mut partition = Vec::with_capacity(tvf.partition_by.len());
        for expr in &tvf.partition_by {
            let (column, _) = Analyzer::new(&scope, "PARTITION BY")?.typed(expr)?;
            partition.push(super::rel::as_input_ref(&column).ok_or_else(|| {
                SqlError::new(format!("PARTITION BY of {name} takes columns")).at(expr)
            })?);
        }
        let rel = assign(
            input,
            Window {
                kind: tvf.kind,
                size_ms: tvf.size_ms,
                slide_ms: tvf.slide_ms,
                offset_ms: tvf.offset_ms,
                time_column,
                processing_time,
                partition,
            },
        );
        aliased(rel, own.as_deref(), tvf.alias.as_ref())
    }
}

/// A join with the elements of a collection of the relations in front.
fn unnested_join(
    left: Joined,
    (unnested, more): (Unnested, Scope),
    operator: Option<&JoinOperator>,
) -> Result<Joined> {
    let (kind, constraint) = join_kind(operator)?;
    let mut scope = left.scope;
    append(&mut scope, &more)?;
    let conditions = match constraint {
        Some(JoinConstraint::On(on)) => conjuncts(&Analyzer::new(&scope, "ON")?.condition(on)?),
        None | Some(JoinConstraint::None) => Vec::new(),
        Some(_) => return Err(SqlError::unsupported("USING with UNNEST")),
    };
    let outer = match kind {
        JoinKind::Inner => false,
        JoinKind::Left if conditions.iter().all(call::is_true) => true,
        JoinKind::Left => {
            return Err(
                SqlError::unsupported("LEFT JOIN UNNEST(...) ON a condition").hint("write ON TRUE"),
            );
        }
        _ => return Err(SqlError::unsupported("RIGHT or FULL JOIN of UNNEST(...)")),
    };
    let rel = unnest::apply(left.rel, unnested, outer)?;
    for (entry, column) in scope.columns.iter_mut().zip(&rel.columns) {
        entry.column = column.clone();
    }
    Ok(Joined {
        rel: filter_by(rel, conditions),
        scope,
    })
}

fn refuse_global(tables: &[TableWithJoins]) -> Result<()> {
    let joins: Vec<&Join> = tables.iter().flat_map(|table| &table.joins).collect();
    match joins.iter().find(|join| join.global) {
        Some(join) => Err(SqlError::new("GLOBAL JOIN is not in Flink's SQL").at(&join.relation)),
        None => Ok(()),
    }
}

fn where_conditions(selection: &[&sqlparser::ast::Expr], scope: &Scope) -> Result<Vec<Expr>> {
    let mut conditions = Vec::new();
    for condition in selection {
        conditions.extend(conjuncts(
            &Analyzer::new(scope, "WHERE")?.condition(condition)?,
        ));
    }
    Ok(conditions)
}

fn reads_below(expr: &Expr, width: usize) -> bool {
    let mut used = std::collections::BTreeSet::new();
    collect_inputs(expr, &mut used);
    used.last().is_none_or(|last| *last < width)
}

/// Adds the columns of a joined relation.
fn append(scope: &mut Scope, more: &Scope) -> Result<()> {
    let first = |scope: &Scope| scope.columns.first().and_then(|c| c.qualifier.clone());
    if let Some(name) = first(more)
        && scope
            .columns
            .iter()
            .any(|c| c.qualifier.as_ref() == Some(&name))
    {
        return Err(SqlError::new(format!("FROM has '{name}' twice")).hint("give one an alias"));
    }
    scope.columns.extend(more.columns.iter().cloned());
    Ok(())
}

fn join_kind(operator: Option<&JoinOperator>) -> Result<(JoinKind, Option<&JoinConstraint>)> {
    Ok(match operator {
        None => (JoinKind::Inner, None),
        Some(JoinOperator::Join(on) | JoinOperator::Inner(on)) => (JoinKind::Inner, Some(on)),
        Some(JoinOperator::CrossJoin(on)) => (JoinKind::Inner, Some(on)),
        Some(JoinOperator::Left(on) | JoinOperator::LeftOuter(on)) => (JoinKind::Left, Some(on)),
        Some(JoinOperator::Right(on) | JoinOperator::RightOuter(on)) => (JoinKind::Right, Some(on)),
        Some(JoinOperator::FullOuter(on)) => (JoinKind::Full, Some(on)),
        Some(_) => return Err(SqlError::unsupported("this kind of join")),
    })
}

fn refused(factor: &TableFactor) -> SqlError {
    let what = match factor {
        TableFactor::Table {
            version: Some(_), ..
        } => "FOR SYSTEM_TIME AS OF",
        TableFactor::Table {
            sample: Some(_), ..
        }
        | TableFactor::Derived {
            sample: Some(_), ..
        } => "TABLESAMPLE",
        TableFactor::Derived { lateral: true, .. } | TableFactor::Function { .. } => "LATERAL",
        TableFactor::UNNEST { .. } => "UNNEST",
        TableFactor::NestedJoin { .. } => "a join in parentheses",
        TableFactor::Pivot { .. } => "PIVOT",
        TableFactor::Unpivot { .. } => "UNPIVOT",
        TableFactor::TableFunction { .. } | TableFactor::Table { args: Some(_), .. } => {
            "a table function other than TUMBLE, HOP and CUMULATE"
        }
        _ => "this kind of table",
    };
    SqlError::unsupported(what)
}

/// Under its alias, or its own name.
fn aliased(rel: RelRef, own: Option<&str>, alias: Option<&TableAlias>) -> Result<Named> {
    let Some(alias) = alias else {
        let scope = Scope::of_relation(own, &rel.columns);
        return Ok((rel, scope));
    };
    let names: Vec<_> = alias
        .columns
        .iter()
        .map(|column| column.name.clone())
        .collect();
    let rel = rename(rel, &names)?;
    let scope = Scope::of_relation(Some(&alias.name.value), &rel.columns);
    Ok((rel, scope))
}

/// Whether the column is processing time.
///
/// # Errors
/// If it is no time attribute.
pub(super) fn check_time_column(function: &str, input: &Rel, index: usize) -> Result<bool> {
    if input.updating {
        return Err(SqlError::unsupported(format!(
            "{function} over a relation with updates"
        )));
    }
    let column = &input.columns[index];
    match column.time {
        Some(time) => Ok(time == TimeAttribute::Proctime),
        None => Err(SqlError::new(format!(
            "{function} takes a time attribute, but '{}' is a {} without a watermark",
            column.name, column.field.logical_type
        ))
        .hint("declare WATERMARK FOR it in CREATE TABLE, and pass it on unchanged")),
    }
}

/// Each row with the window it belongs to, once for each window.
pub(super) fn assign(input: RelRef, window: Window) -> RelRef {
    let width = input.columns.len();
    let time_type = input.columns[window.time_column].field.logical_type.clone();
    let time = input.columns[window.time_column].time;
    let mut columns = input.columns.clone();
    // Behind a window its time attribute is window_time.
    columns[window.time_column].time = None;
    for (name, logical_type, time) in [
        ("window_start", LogicalType::Timestamp(3), None),
        ("window_end", LogicalType::Timestamp(3), None),
        ("window_time", time_type, time),
    ] {
        columns.push(Column {
            name: name.to_owned(),
            field: LogicalField {
                logical_type,
                nullable: false,
            },
            time,
        });
    }
    Arc::new(Rel {
        op: RelOp::WindowAssign { input, window },
        columns,
        window: Some(WindowColumns {
            start: Some(width),
            end: Some(width + 1),
            time: Some(width + 2),
        }),
        updating: false,
    })
}
