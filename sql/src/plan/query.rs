//! Queries: WITH, set operations, SELECT without aggregates; what a query is named and refused by.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion_expr::Expr;
use sqlparser::ast::{
    self, Distinct, GroupByExpr, Query, Select, SelectItem, SelectItemQualifiedWildcardKind,
    SetExpr, SetOperator, SetQuantifier, WildcardAdditionalOptions,
};
use weir_dataflow::types::LogicalField;

use super::expr::{Analyzer, check_condition, coerce, column};
use super::over::Overs;
use super::rel::{Column, Rel, RelOp, RelRef, conjunction, expr_schema, input_ref};
use super::scope::Scope;
use super::set_operation::{self, SetOperation};
use super::{call, group_window, select_aggregate, values};
use crate::catalog::{Catalog, View};
use crate::error::{Result, SqlError};
use crate::options::SessionOptions;
use crate::parse::hints;

/// Views may name views; deeper than this is a circle.
const MAX_DEPTH: usize = 64;

/// Plans queries against a catalog.
pub(super) struct Planner<'a> {
    pub catalog: &'a Catalog,
    /// 'table.exec.source.cdc-events-duplicate'
    pub changes_repeat: bool,
    /// WITH: the innermost scope last.
    ctes: Vec<HashMap<String, RelRef>>,
    depth: usize,
    /// Set for the FROM of a subquery: what its WHERE can name of the query around.
    pub(super) outer: Option<Scope>,
    /// The conditions of the last FROM that do, over its columns ++ those of the query around.
    pub(super) correlated: Vec<Expr>,
}

/// An expression of a SELECT list with the name of its column.
pub(super) struct SelectExpr {
    pub name: String,
    pub expr: SelectValue,
}

/// From a wildcard, or written.
pub(super) enum SelectValue {
    Column(usize),
    Written(Box<ast::Expr>),
}

impl<'a> Planner<'a> {
    pub fn new(catalog: &'a Catalog, options: &SessionOptions) -> Self {
        Self {
            catalog,
            changes_repeat: options.flag("table.exec.source.cdc-events-duplicate", false),
            ctes: Vec::new(),
            depth: 0,
            outer: None,
            correlated: Vec::new(),
        }
    }

    /// A common table expression in sight.
    pub fn cte(&self, name: &str) -> Option<&RelRef> {
        self.ctes.iter().rev().find_map(|scope| scope.get(name))
    }

    /// A view's query sees no WITH of the query that uses the view.
    pub fn view(&mut self, view: &View) -> Result<RelRef> {
        let catalog = self.catalog.within(&view.space);
        let mut planner = Planner {
            catalog: &catalog,
            changes_repeat: self.changes_repeat,
            ctes: Vec::new(),
            depth: self.depth,
            outer: None,
            correlated: Vec::new(),
        };
        planner.query(&view.query)
    }

    pub fn query(&mut self, query: &Query) -> Result<RelRef> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(SqlError::new(format!(
                "queries are nested deeper than {MAX_DEPTH}; a view may use itself"
            )));
        }
        let planned = self.with(query);
        self.depth -= 1;
        planned
    }

    fn with(&mut self, query: &Query) -> Result<RelRef> {
        refuse_query_clauses(query)?;
        self.ctes.push(HashMap::new());
        let planned = self
            .define_ctes(query)
            .and_then(|()| self.ordered(query, self.depth == 1));
        self.ctes.pop();
        planned
    }

    fn define_ctes(&mut self, query: &Query) -> Result<()> {
        let Some(with) = &query.with else {
            return Ok(());
        };
        if with.recursive {
            return Err(SqlError::unsupported("WITH RECURSIVE").at(query));
        }
        for cte in &with.cte_tables {
            let rel = self.query(&cte.query)?;
            let names: Vec<_> = cte.alias.columns.iter().map(|c| c.name.clone()).collect();
            let rel = rename(rel, &names)?;
            if let Some(scope) = self.ctes.last_mut() {
                scope.insert(cte.alias.name.value.clone(), rel);
            }
        }
        Ok(())
    }

    pub(super) fn set_expr(&mut self, body: &SetExpr) -> Result<RelRef> {
        match body {
            SetExpr::Select(select) => self.select(select),
            SetExpr::Query(query) => self.query(query),
            SetExpr::SetOperation {
                left,
                op: SetOperator::Union,
                set_quantifier,
                right,
            } => {
                let left = self.set_expr(left)?;
                let right = self.set_expr(right)?;
                let union = union(left, right).map_err(|error| error.at(body))?;
                match set_quantifier {
                    SetQuantifier::All => Ok(union),
                    SetQuantifier::None | SetQuantifier::Distinct => Ok(distinct(union)),
                    other => Err(SqlError::unsupported(format!("UNION {other}")).at(body)),
                }
            }
            SetExpr::SetOperation {
                left,
                op,
                set_quantifier,
                right,
            } => {
                let operation = match op {
                    SetOperator::Intersect => SetOperation::Intersect,
                    SetOperator::Except | SetOperator::Minus => SetOperation::Except,
                    SetOperator::Union => return Err(SqlError::unsupported("UNION").at(body)),
                };
                let all = match set_quantifier {
                    SetQuantifier::All => true,
                    SetQuantifier::None | SetQuantifier::Distinct => false,
                    other => {
                        return Err(SqlError::unsupported(format!("{op} {other}")).at(body));
                    }
                };
                let (left, right) = (self.set_expr(left)?, self.set_expr(right)?);
                let (sides, columns) =
                    same_columns(&op.to_string(), left, right).map_err(|error| error.at(body))?;
                Ok(set_operation::plan(operation, all, sides, columns))
            }
            SetExpr::Values(written) => values::values(written).map_err(|error| error.at(body)),
            SetExpr::Table(_) => Err(SqlError::unsupported("TABLE as a query").at(body)),
            SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_) => {
                Err(SqlError::new("this is no query").at(body))
            }
        }
    }

    fn select(&mut self, select: &Select) -> Result<RelRef> {
        refuse_select_clauses(select)?;
        let (input, scope) = self.from(&select.from, select.selection.as_ref())?;
        let group_by = match &select.group_by {
            GroupByExpr::Expressions(exprs, modifiers) if modifiers.is_empty() => exprs,
            GroupByExpr::Expressions(..) => {
                return Err(SqlError::unsupported("GROUP BY ... WITH").at(select));
            }
            GroupByExpr::All(_) => return Err(SqlError::unsupported("GROUP BY ALL").at(select)),
        };
        let items = expand(&select.projection, &scope)?;
        let (mut input, mut scope) = (input, scope);
        for item in &items {
            if let SelectValue::Written(written) = &item.expr {
                (input, scope) = self.join_subqueries((input, scope), written)?;
            }
        }
        let having = select.having.as_ref();
        if let Some(window) = group_window::rewrite(&input, &scope, &items, group_by, having)? {
            let rel = select_aggregate::plan(
                &window.input,
                &window.scope,
                &window.items,
                &window.group_by,
                window.having.as_ref(),
                select,
            )?;
            let rel = rel.ok_or_else(|| SqlError::new("a window groups nothing").at(select))?;
            return with_distinct(rel, select);
        }
        let rel = match select_aggregate::plan(&input, &scope, &items, group_by, having, select)? {
            Some(aggregated) => aggregated,
            None => {
                if let Some(having) = &select.having {
                    return Err(SqlError::new("HAVING needs a GROUP BY or an aggregate").at(having));
                }
                project(input, &scope, &items, Some(select))?
            }
        };
        with_distinct(rel, select)
    }
}

fn with_distinct(rel: RelRef, select: &Select) -> Result<RelRef> {
    match &select.distinct {
        None | Some(Distinct::All) => Ok(rel),
        Some(Distinct::Distinct) => Ok(distinct(rel)),
        Some(Distinct::On(_)) => Err(SqlError::unsupported("DISTINCT ON").at(select)),
    }
}

fn refuse_query_clauses(query: &Query) -> Result<()> {
    let foreign = !query.locks.is_empty()
        || query.for_clause.is_some()
        || query.settings.is_some()
        || query.format_clause.is_some()
        || !query.pipe_operators.is_empty();
    if foreign {
        return Err(SqlError::new("the query has a clause that is not in Flink's SQL").at(query));
    }
    Ok(())
}

pub(super) fn refuse_select_clauses(select: &Select) -> Result<()> {
    let hints = hints::of_select(select)?;
    if !hints.state_ttl_ms.is_empty() {
        return Err(SqlError::unsupported("the hint STATE_TTL").at(select));
    }
    if !hints.lookup.is_empty() {
        return Err(SqlError::unsupported("the hint LOOKUP").at(select));
    }
    let foreign = select.top.is_some()
        || select.into.is_some()
        || select.exclude.is_some()
        || select.prewhere.is_some()
        || select.value_table_mode.is_some()
        || select.select_modifiers.is_some()
        || !select.lateral_views.is_empty()
        || !select.connect_by.is_empty()
        || !select.cluster_by.is_empty()
        || !select.distribute_by.is_empty()
        || !select.sort_by.is_empty();
    if foreign {
        return Err(SqlError::new("the SELECT has a clause that is not in Flink's SQL").at(select));
    }
    Ok(())
}

/// The SELECT list with its wildcards written out.
pub(super) fn expand(items: &[SelectItem], scope: &Scope) -> Result<Vec<SelectExpr>> {
    let mut expanded = Vec::with_capacity(items.len());
    for item in items {
        match item {
            SelectItem::UnnamedExpr(expr) => expanded.push(SelectExpr {
                name: own_name(expr).unwrap_or_else(|| format!("EXPR${}", expanded.len())),
                expr: SelectValue::Written(Box::new(expr.clone())),
            }),
            SelectItem::ExprWithAlias { expr, alias } => expanded.push(SelectExpr {
                name: alias.value.clone(),
                expr: SelectValue::Written(Box::new(expr.clone())),
            }),
            SelectItem::Wildcard(options) => {
                refuse_wildcard_options(options, item)?;
                if scope.columns.is_empty() {
                    return Err(SqlError::new("SELECT * needs a FROM").at(item));
                }
                expanded.extend(wildcard(scope, None));
            }
            SelectItem::QualifiedWildcard(
                SelectItemQualifiedWildcardKind::ObjectName(name),
                options,
            ) => {
                refuse_wildcard_options(options, item)?;
                let qualifier = name.0.last().and_then(|part| part.as_ident());
                let qualifier = qualifier.map(|ident| ident.value.as_str());
                let before = expanded.len();
                expanded.extend(wildcard(scope, qualifier));
                if expanded.len() == before {
                    return Err(SqlError::new(format!("unknown table '{name}'")).at(item));
                }
            }
            other => return Err(SqlError::unsupported(format!("{other} in SELECT")).at(other)),
        }
    }
    make_unique(&mut expanded);
    Ok(expanded)
}

fn refuse_wildcard_options(options: &WildcardAdditionalOptions, item: &SelectItem) -> Result<()> {
    if options.to_string().is_empty() {
        return Ok(());
    }
    Err(SqlError::unsupported(format!("{item} in SELECT")).at(item))
}

fn wildcard(scope: &Scope, qualifier: Option<&str>) -> Vec<SelectExpr> {
    scope
        .columns
        .iter()
        .enumerate()
        .filter(|(_, entry)| !entry.hidden)
        .filter(|(_, entry)| qualifier.is_none() || entry.qualifier.as_deref() == qualifier)
        .map(|(index, entry)| SelectExpr {
            name: entry.column.name.clone(),
            expr: SelectValue::Column(index),
        })
        .collect()
}

/// The name that an expression has without AS.
fn own_name(expr: &ast::Expr) -> Option<String> {
    match expr {
        ast::Expr::Identifier(name) => Some(name.value.clone()),
        ast::Expr::CompoundIdentifier(names) => Some(names.last()?.value.clone()),
        ast::Expr::Nested(inner) => own_name(inner),
        _ => None,
    }
}

/// A second `a` becomes `a0`, as in Flink.
fn make_unique(items: &mut [SelectExpr]) {
    let mut taken = std::collections::HashSet::new();
    for item in items {
        if !taken.insert(item.name.clone()) {
            let free = (0..)
                .map(|number| format!("{}{number}", item.name))
                .find(|name| !taken.contains(name));
            item.name = free.unwrap_or_default();
            taken.insert(item.name.clone());
        }
    }
}

/// A SELECT list over a relation, with the calls with OVER and the QUALIFY of its `select`.
pub(super) fn project(
    input: RelRef,
    scope: &Scope,
    items: &[SelectExpr],
    select: Option<&Select>,
) -> Result<RelRef> {
    let mut overs = Overs::new(select.map_or(&[], |select| &select.named_window));
    let mut analyzer = Analyzer::new(scope, "SELECT")?.with_overs(&mut overs);
    let mut raws = Vec::with_capacity(items.len());
    for item in items {
        raws.push(match &item.expr {
            SelectValue::Column(index) => input_ref(*index),
            SelectValue::Written(written) => analyzer.raw(written)?,
        });
    }
    let qualify = select.and_then(|select| qualify(select, items));
    analyzer.clause = "QUALIFY";
    let raw_qualify = match &qualify {
        Some(qualify) => Some(analyzer.raw(qualify)?),
        None => None,
    };
    let schema = expr_schema(&input.columns)?;
    let (rel, places) = overs.append(input, &|raw| coerce(raw.clone(), &schema))?;
    let schema = expr_schema(&rel.columns)?;
    let locator = Analyzer::new(scope, "SELECT")?;
    let typed = |raw: Expr, written: &ast::Expr| {
        let replaced = Overs::replace(raw, &places);
        coerce(replaced, &schema).map_err(|error| locator.locate(written, error))
    };
    let filter = match (raw_qualify, &qualify) {
        (Some(raw), Some(written)) => {
            let (expr, field) = typed(raw, written)?;
            check_qualify(&overs, written, &field)?;
            Some(expr)
        }
        _ => None,
    };
    let mut projection = Vec::with_capacity(items.len());
    let mut columns = Vec::with_capacity(items.len());
    for (item, raw) in items.iter().zip(raws) {
        let (expr, mut out) = match &item.expr {
            SelectValue::Column(index) => (raw, scope.columns[*index].column.clone()),
            SelectValue::Written(written) => {
                let (expr, field) = typed(raw, written)?;
                let mut out = column("", field);
                if call::is_proctime(written) {
                    out.time = Some(super::TimeAttribute::Proctime);
                }
                if let Some(index) = super::rel::as_input_ref(&expr) {
                    out.time = rel.columns[index].time;
                }
                (expr, out)
            }
        };
        out.name = item.name.clone();
        projection.push(expr);
        columns.push(out);
    }
    Ok(Rel::calc(rel, filter, projection, columns))
}

/// The condition of QUALIFY, with what the SELECT list's names stand for.
pub(super) fn qualify(select: &Select, items: &[SelectExpr]) -> Option<ast::Expr> {
    let mut condition = select.qualify.clone()?;
    let _ = ast::visit_expressions_mut(&mut condition, |expr| {
        if let ast::Expr::Identifier(name) = expr {
            let meant = items.iter().find(|item| item.name == name.value);
            if let Some(SelectValue::Written(meant)) = meant.map(|item| &item.expr)
                && !matches!(meant.as_ref(), ast::Expr::Identifier(_))
            {
                *expr = ast::Expr::Nested(meant.clone());
            }
        }
        std::ops::ControlFlow::<()>::Continue(())
    });
    Some(condition)
}

/// QUALIFY takes a condition on calls with OVER.
pub(super) fn check_qualify(
    overs: &Overs,
    written: &ast::Expr,
    field: &LogicalField,
) -> Result<()> {
    if overs.is_empty() {
        let error = SqlError::new("QUALIFY takes a condition on a call with OVER");
        return Err(error.at(written).hint("use WHERE"));
    }
    check_condition("QUALIFY", field).map_err(|error| error.at(written))
}

/// Gives the columns other names; none given: keeps them.
pub(super) fn rename(rel: RelRef, names: &[ast::Ident]) -> Result<RelRef> {
    let Some(last) = names.last() else {
        return Ok(rel);
    };
    if names.len() != rel.columns.len() {
        return Err(SqlError::new(format!(
            "{} names for {} columns",
            names.len(),
            rel.columns.len()
        ))
        .at_location(last.span.start));
    }
    let mut columns = rel.columns.clone();
    for (column, name) in columns.iter_mut().zip(names) {
        column.name = name.value.clone();
    }
    let projection = (0..columns.len()).map(input_ref).collect();
    Ok(Rel::calc(rel, None, projection, columns))
}

/// One row of each kind: a GROUP BY over all columns.
fn distinct(rel: RelRef) -> RelRef {
    let mut columns = rel.columns.clone();
    for column in &mut columns {
        column.time = None;
    }
    Arc::new(Rel {
        columns,
        window: None,
        // A row that is there stays there, unless rows are taken away.
        updating: rel.updating,
        op: RelOp::GroupAggregate {
            keys: (0..rel.columns.len()).collect(),
            input: rel,
            aggregates: Vec::new(),
        },
    })
}

/// UNION ALL.
fn union(left: RelRef, right: RelRef) -> Result<RelRef> {
    let (sides, columns) = same_columns("UNION", left, right)?;
    let mut inputs = Vec::new();
    for side in sides {
        match &side.op {
            // a UNION ALL b UNION ALL c is one union of three.
            RelOp::Union { inputs: more } => inputs.extend(more.iter().cloned()),
            _ => inputs.push(side),
        }
    }
    Ok(Arc::new(Rel {
        window: None,
        updating: inputs.iter().any(|input| input.updating),
        columns,
        op: RelOp::Union { inputs },
    }))
}

/// Both sides with columns by position, with the type that both fit into, under the left side's names.
fn same_columns(
    operation: &str,
    left: RelRef,
    right: RelRef,
) -> Result<([RelRef; 2], Vec<Column>)> {
    if left.columns.len() != right.columns.len() {
        return Err(SqlError::new(format!(
            "the sides of {operation} have {} and {} columns",
            left.columns.len(),
            right.columns.len()
        )));
    }
    let mut columns = Vec::with_capacity(left.columns.len());
    for (ours, theirs) in left.columns.iter().zip(&right.columns) {
        let field = common_type(&ours.field, &theirs.field).map_err(|_| {
            SqlError::new(format!(
                "column '{}' of {operation} is {} on one side and {} on the other",
                ours.name, ours.field.logical_type, theirs.field.logical_type
            ))
        })?;
        columns.push(Column {
            name: ours.name.clone(),
            field,
            time: ours.time.filter(|time| theirs.time == Some(*time)),
        });
    }
    let sides = [cast_to(left, &columns)?, cast_to(right, &columns)?];
    Ok((sides, columns))
}

/// The type that CASE would have over both.
fn common_type(left: &LogicalField, right: &LogicalField) -> Result<LogicalField> {
    if left == right {
        return Ok(left.clone());
    }
    let pair = [column("", left.clone()), column("", right.clone())];
    let case = datafusion_expr::Case::new(
        None,
        vec![(
            Box::new(Expr::IsNull(Box::new(input_ref(0)))),
            Box::new(input_ref(0)),
        )],
        Some(Box::new(input_ref(1))),
    );
    let (_, field) = coerce(Expr::Case(case), &expr_schema(&pair)?)?;
    Ok(LogicalField {
        logical_type: field.logical_type,
        nullable: left.nullable || right.nullable,
    })
}

fn cast_to(rel: RelRef, columns: &[Column]) -> Result<RelRef> {
    let same = rel
        .columns
        .iter()
        .zip(columns)
        .all(|(ours, wanted)| ours.field.logical_type == wanted.field.logical_type);
    if same
        && rel
            .columns
            .iter()
            .map(|c| &c.name)
            .eq(columns.iter().map(|c| &c.name))
    {
        return Ok(rel);
    }
    let schema = expr_schema(&rel.columns)?;
    let mut projection = Vec::with_capacity(columns.len());
    for (index, (ours, wanted)) in rel.columns.iter().zip(columns).enumerate() {
        let expr = input_ref(index);
        projection.push(if ours.field.logical_type == wanted.field.logical_type {
            expr
        } else {
            call::implicit_cast(expr, &wanted.field, &schema)?
        });
    }
    let mut out = columns.to_vec();
    for (column, ours) in out.iter_mut().zip(&rel.columns) {
        column.field.nullable = ours.field.nullable;
    }
    Ok(Rel::calc(rel, None, projection, out))
}

/// A filter above a relation, if there is a condition.
pub(super) fn filter_by(rel: RelRef, conditions: Vec<Expr>) -> RelRef {
    match conjunction(conditions.into_iter().filter(|c| !call::is_true(c))) {
        Some(condition) => Rel::filter(rel, condition),
        None => rel,
    }
}
