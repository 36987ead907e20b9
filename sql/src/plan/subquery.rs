//! Subqueries in conditions and as values, as joins: IN and EXISTS are semi joins, their negations anti joins, a value comes from a join
//! with the one row that the subquery gives. What a subquery's WHERE says of the query around it becomes a condition of the join.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use datafusion_common::ScalarValue;
use datafusion_expr::{Expr, Operator};
use sqlparser::ast::{self, GroupByExpr, Ident, Query, Select, SetExpr, Visit, Visitor};
use weir_dataflow::types::{LogicalField, LogicalType};
use weir_proto::v1::JoinKind;

use super::expr::{Analyzer, binary, coerce, column, literal_expr};
use super::query::{Planner, SelectExpr, SelectValue, expand, project, refuse_select_clauses};
use super::rel::{
    Aggregate, Column, Rel, RelOp, RelRef, as_input_ref, collect_inputs, expr_schema, input_ref,
    replace_inputs,
};
use super::scope::{Scope, ScopeColumn};
use super::{call, join, select_aggregate};
use crate::error::{Result, SqlError};

/// A subquery as a relation to join with.
struct Sub {
    rel: RelRef,
    /// So many of its columns are those of its SELECT list; they stand first.
    width: usize,
    /// What it says of the query around it, over that one's columns ++ the relation's.
    conditions: Vec<Expr>,
    /// It gives one row at most.
    single: bool,
}

/// A relation with its names.
type Named = (RelRef, Scope);

/// Parts of a condition between ANDs.
pub(super) fn conjuncts(condition: &ast::Expr) -> Vec<&ast::Expr> {
    match condition {
        ast::Expr::BinaryOp {
            left,
            op: ast::BinaryOperator::And,
            right,
        } => [conjuncts(left), conjuncts(right)].concat(),
        ast::Expr::Nested(inner) => conjuncts(inner),
        other => vec![other],
    }
}

/// The subqueries of an expression that are not inside others.
fn subqueries(expr: &ast::Expr) -> Vec<ast::Expr> {
    #[derive(Default)]
    struct Found {
        depth: usize,
        subqueries: Vec<ast::Expr>,
    }
    impl Visitor for Found {
        type Break = ();
        fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
            self.depth += 1;
            ControlFlow::Continue(())
        }
        fn post_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
            self.depth -= 1;
            ControlFlow::Continue(())
        }
        fn post_visit_expr(&mut self, expr: &ast::Expr) -> ControlFlow<()> {
            use ast::Expr as E;
            let is_one = matches!(
                expr,
                E::Subquery(_) | E::Exists { .. } | E::InSubquery { .. }
            );
            if is_one && self.depth == 0 && !self.subqueries.contains(expr) {
                self.subqueries.push(expr.clone());
            }
            ControlFlow::Continue(())
        }
    }
    let mut found = Found::default();
    let _ = expr.visit(&mut found);
    found.subqueries
}

/// Whether an expression has a subquery.
pub(super) fn has_subquery(expr: &ast::Expr) -> bool {
    !subqueries(expr).is_empty()
}

impl Planner<'_> {
    /// The rows that fulfil a condition with subqueries.
    pub fn filter_with_subqueries(
        &mut self,
        (rel, scope): Named,
        condition: &ast::Expr,
    ) -> Result<Named> {
        use ast::Expr as E;
        match condition {
            E::Nested(inner) => self.filter_with_subqueries((rel, scope), inner),
            E::UnaryOp {
                op: ast::UnaryOperator::Not,
                expr: inner,
            } if negated(inner).is_some() => match negated(inner) {
                Some(positive) => self.filter_with_subqueries((rel, scope), &positive),
                None => Err(super::expr::unsupported(condition)),
            },
            E::Exists { subquery, negated } => {
                let sub = self.subquery(subquery, &scope, true)?;
                let kind = half(*negated);
                joined(kind, (rel, scope), sub).map_err(|error| error.at(condition))
            }
            E::InSubquery {
                expr: value,
                subquery,
                negated,
            } => {
                let (rel, scope) = self.join_subqueries((rel, scope), value)?;
                let mut sub = self.subquery(subquery, &scope, false)?;
                let equal = equalities(&rel, &scope, value, &sub, *negated)
                    .map_err(|error| error.at(condition))?;
                sub.conditions.extend(equal);
                joined(half(*negated), (rel, scope), sub).map_err(|error| error.at(condition))
            }
            other => {
                let (rel, scope) = self.join_subqueries((rel, scope), other)?;
                let condition = Analyzer::new(&scope, "WHERE")?.condition(other)?;
                Ok((Rel::filter(rel, condition), scope))
            }
        }
    }

    /// Joins with the subqueries of an expression; the scope says what stands for each.
    pub fn join_subqueries(&mut self, named: Named, expr: &ast::Expr) -> Result<Named> {
        let (mut rel, mut scope) = named;
        for found in subqueries(expr) {
            if scope.subqueries.iter().any(|(known, _)| *known == found) {
                continue;
            }
            for column in &rel.columns[scope.columns.len()..] {
                scope.columns.push(ScopeColumn::hidden(column.clone()));
            }
            let joined = match &found {
                ast::Expr::Subquery(query) => self.value((rel, scope), query),
                ast::Expr::Exists { subquery, negated } => {
                    self.existence((rel, scope), subquery, *negated)
                }
                ast::Expr::InSubquery {
                    expr: value,
                    subquery,
                    negated,
                } => self.membership((rel, scope), value, subquery, *negated),
                _ => Err(super::expr::unsupported(&found)),
            };
            let value;
            ((rel, scope), value) = joined.map_err(|error| error.at(&found))?;
            scope.subqueries.push((found, value));
        }
        Ok((rel, scope))
    }

    /// (SELECT ...) as a value: NULL without a row.
    fn value(&mut self, (rel, scope): Named, query: &Query) -> Result<(Named, Expr)> {
        let sub = self.subquery(query, &scope, false)?;
        if sub.width != 1 {
            return Err(SqlError::new(format!(
                "a subquery as a value has one column, not {}",
                sub.width
            )));
        }
        if !sub.single {
            return Err(SqlError::unsupported(
                "a subquery as a value that may give more than one row",
            )
            .hint("let it give one, e.g. by MAX(...) without GROUP BY"));
        }
        let at = rel.columns.len();
        let counts = !sub.conditions.is_empty() && counts(query)?;
        let named = joined(JoinKind::Left, (rel, scope), sub)?;
        let value = match counts {
            // Of no rows there is no group, but their number is 0.
            true => call::scalar("COALESCE", vec![input_ref(at), number(0)])?,
            false => input_ref(at),
        };
        Ok((named, value))
    }

    /// EXISTS inside an expression.
    fn existence(
        &mut self,
        (rel, scope): Named,
        query: &Query,
        negated: bool,
    ) -> Result<(Named, Expr)> {
        let mut sub = self.subquery(query, &scope, true)?;
        let outside = rel.columns.len();
        let keys = key_columns(&sub, outside)?;
        // One row for each way to be found.
        sub.rel = aggregated(&sub.rel, &keys, &[("COUNT", None)]);
        move_conditions(&mut sub, outside, &keys);
        let at = outside + keys.len();
        let named = joined(JoinKind::Left, (rel, scope), sub)?;
        let none = Expr::IsNull(Box::new(input_ref(at)));
        let value = match negated {
            true => none,
            false => Expr::Not(Box::new(none)),
        };
        Ok((named, value))
    }

    /// IN inside an expression, with NULL where it is not known.
    fn membership(
        &mut self,
        (rel, scope): Named,
        value: &ast::Expr,
        query: &Query,
        negated: bool,
    ) -> Result<(Named, Expr)> {
        let sub = self.subquery(query, &scope, false)?;
        if !sub.conditions.is_empty() || sub.width != 1 {
            return Err(SqlError::unsupported(
                "IN inside an expression, with a subquery that speaks of the query around it or has several columns",
            ));
        }
        let sizes = aggregated(&sub.rel, &[], &[("COUNT", None), ("COUNT", Some(0))]);
        let (rows, values) = (rel.columns.len(), rel.columns.len() + 1);
        let sizes = Sub {
            width: 2,
            rel: sizes,
            conditions: Vec::new(),
            single: true,
        };
        let (rel, scope) = joined(JoinKind::Left, (rel, scope), sizes)?;
        let found = rel.columns.len();
        let mut distinct = Sub {
            rel: aggregated(&sub.rel, &[0], &[]),
            ..sub
        };
        let raw = Analyzer::new(&scope, "WHERE")?.raw(value)?;
        distinct.conditions = equalities(&rel, &scope, value, &distinct, false)?;
        let named = joined(JoinKind::Left, (rel, scope), distinct)?;
        let no_rows = input_ref(rows)
            .eq(number(0))
            .or(Expr::IsNull(Box::new(input_ref(rows))));
        let unknown = Expr::Literal(ScalarValue::Boolean(None), None);
        let whens = vec![
            (no_rows, literal_expr(ScalarValue::Boolean(Some(negated)))),
            (Expr::IsNull(Box::new(raw)), unknown.clone()),
            (
                Expr::IsNotNull(Box::new(input_ref(found))),
                literal_expr(ScalarValue::Boolean(Some(!negated))),
            ),
            (
                binary(input_ref(values), Operator::Lt, input_ref(rows)),
                unknown,
            ),
        ];
        let whens = whens.into_iter().map(|(a, b)| (Box::new(a), Box::new(b)));
        let otherwise = literal_expr(ScalarValue::Boolean(Some(negated)));
        let case = datafusion_expr::Case::new(None, whens.collect(), Some(Box::new(otherwise)));
        Ok((named, Expr::Case(case)))
    }

    /// Plans a subquery in sight of the columns of `scope`. `existence`: nobody reads its SELECT list.
    fn subquery(&mut self, query: &Query, scope: &Scope, existence: bool) -> Result<Sub> {
        let select = match query.body.as_ref() {
            SetExpr::Select(select)
                if query.with.is_none()
                    && query.order_by.is_none()
                    && query.limit_clause.is_none()
                    && query.fetch.is_none() =>
            {
                select
            }
            _ => {
                let rel = self.query(query)?;
                return Ok(Sub {
                    width: rel.columns.len(),
                    rel,
                    conditions: Vec::new(),
                    single: false,
                });
            }
        };
        refuse_select_clauses(select)?;
        self.outer = Some(scope.clone());
        let found = self.from(&select.from, select.selection.as_ref());
        self.outer = None;
        let correlated = std::mem::take(&mut self.correlated);
        self.selected(select, found?, correlated, scope.columns.len(), existence)
    }

    /// The SELECT list over FROM and WHERE, with the columns that the conditions need behind it.
    fn selected(
        &mut self,
        select: &Select,
        (input, inner): Named,
        correlated: Vec<Expr>,
        outside: usize,
        existence: bool,
    ) -> Result<Sub> {
        let GroupByExpr::Expressions(group_by, _) = &select.group_by else {
            return Err(SqlError::unsupported("GROUP BY ALL").at(select));
        };
        let mut items = expand(&select.projection, &inner)?;
        let having = select.having.as_ref();
        let plain = select_aggregate::plan(&input, &inner, &items, group_by, having, select)?;
        if existence && plain.is_none() {
            items.clear();
        }
        let width = items.len();
        let inside = inner.columns.len();
        let mut needed = BTreeSet::new();
        for condition in &correlated {
            collect_inputs(condition, &mut needed);
        }
        let needed: Vec<usize> = needed.range(..inside).copied().collect();
        items.extend(needed.iter().map(|index| SelectExpr {
            name: format!("$outer{index}"),
            expr: SelectValue::Column(*index),
        }));
        let single = select.from.is_empty() || (plain.is_some() && group_by.is_empty());
        let rel = match plain {
            Some(plain) if needed.is_empty() => plain,
            Some(_) => {
                let equal = |condition: &Expr| is_equality(condition, inside);
                if !correlated.iter().all(equal) {
                    return Err(SqlError::unsupported(
                        "an aggregate in a subquery that speaks of the query around it other than by equality",
                    )
                    .at(select));
                }
                let mut keys = group_by.clone();
                keys.extend(needed.iter().map(|index| name_of(&inner, *index)));
                let grouped =
                    select_aggregate::plan(&input, &inner, &items, &keys, having, select)?;
                grouped.ok_or_else(|| SqlError::new("a subquery lost its aggregate"))?
            }
            None if items.is_empty() => {
                let truth = literal_expr(ScalarValue::Boolean(Some(true)));
                let field = LogicalField {
                    logical_type: LogicalType::Boolean,
                    nullable: false,
                };
                Rel::calc(input, None, vec![truth], vec![column("$exists", field)])
            }
            None => project(input, &inner, &items, Some(select))?,
        };
        let conditions = correlated.iter().map(|condition| {
            replace_inputs(condition, |index| {
                let place = needed.iter().position(|needed| *needed == index);
                match place {
                    Some(place) => input_ref(outside + width + place),
                    None => input_ref(index - inside),
                }
            })
        });
        Ok(Sub {
            conditions: conditions.collect(),
            rel,
            width,
            single,
        })
    }
}

fn half(negated: bool) -> JoinKind {
    match negated {
        true => JoinKind::Anti,
        false => JoinKind::Semi,
    }
}

fn number(value: i64) -> Expr {
    literal_expr(ScalarValue::Int64(Some(value)))
}

/// NOT of an IN or EXISTS.
fn negated(expr: &ast::Expr) -> Option<ast::Expr> {
    use ast::Expr as E;
    match expr {
        E::Nested(inner) => negated(inner),
        E::Exists { subquery, negated } => Some(E::Exists {
            subquery: subquery.clone(),
            negated: !negated,
        }),
        E::InSubquery {
            expr,
            subquery,
            negated,
        } => Some(E::InSubquery {
            expr: expr.clone(),
            subquery: subquery.clone(),
            negated: !negated,
        }),
        _ => None,
    }
}

/// Joins; the subquery's columns get no names.
fn joined(kind: JoinKind, (rel, mut scope): Named, sub: Sub) -> Result<Named> {
    let rel = join::join(kind, rel, sub.rel, sub.conditions)?;
    for (entry, column) in scope.columns.iter_mut().zip(&rel.columns) {
        entry.column = column.clone();
    }
    for column in rel.columns.iter().skip(scope.columns.len()) {
        scope.columns.push(ScopeColumn::hidden(column.clone()));
    }
    Ok((rel, scope))
}

/// `value IN (subquery)` as conditions of the join. NOT IN also meets what may be equal, were it known.
fn equalities(
    rel: &Rel,
    scope: &Scope,
    value: &ast::Expr,
    sub: &Sub,
    negated: bool,
) -> Result<Vec<Expr>> {
    let values = match value {
        ast::Expr::Tuple(values) => values.iter().collect(),
        ast::Expr::Nested(inner) => return equalities(rel, scope, inner, sub, negated),
        other => vec![other],
    };
    if values.len() != sub.width {
        return Err(SqlError::new(format!(
            "IN has {} values and a subquery of {} columns",
            values.len(),
            sub.width
        )));
    }
    let both: Vec<Column> = rel
        .columns
        .iter()
        .chain(&sub.rel.columns)
        .cloned()
        .collect();
    let schema = expr_schema(&both)?;
    let mut equal = Vec::with_capacity(values.len());
    let mut nullable = false;
    for (index, value) in values.into_iter().enumerate() {
        let raw = Analyzer::new(scope, "IN")?.raw(value)?;
        let theirs = input_ref(rel.columns.len() + index);
        let (expr, field) = coerce(binary(raw, Operator::Eq, theirs), &schema)?;
        nullable |= field.nullable;
        equal.push(expr);
    }
    if !negated || !nullable {
        return Ok(equal);
    }
    let all = equal.into_iter().reduce(Expr::and);
    Ok(all
        .map(|all| Expr::IsNotFalse(Box::new(all)))
        .into_iter()
        .collect())
}

/// An equality of an inner expression and an outer one, over inner columns ++ outer columns.
fn is_equality(condition: &Expr, inside: usize) -> bool {
    let Expr::BinaryExpr(equal) = condition else {
        return false;
    };
    let is_inner = |expr: &Expr| as_input_ref(expr).is_some_and(|index| index < inside);
    let is_outer = |expr: &Expr| {
        let mut used = BTreeSet::new();
        collect_inputs(expr, &mut used);
        used.first().is_none_or(|first| *first >= inside)
    };
    equal.op == Operator::Eq
        && ((is_inner(&equal.left) && is_outer(&equal.right))
            || (is_outer(&equal.left) && is_inner(&equal.right)))
}

/// The inner columns of conditions that are equalities.
fn key_columns(sub: &Sub, outside: usize) -> Result<Vec<usize>> {
    let mut keys = BTreeSet::new();
    for condition in &sub.conditions {
        let mut used = BTreeSet::new();
        collect_inputs(condition, &mut used);
        keys.extend(used.range(outside..).map(|index| index - outside));
    }
    Ok(keys.into_iter().collect())
}

/// The conditions over a relation that has only the key columns, in their order.
fn move_conditions(sub: &mut Sub, outside: usize, keys: &[usize]) {
    for condition in &mut sub.conditions {
        *condition = replace_inputs(condition, |index| {
            let inner = index.checked_sub(outside);
            let place = inner.and_then(|inner| keys.iter().position(|key| *key == inner));
            input_ref(place.map_or(index, |place| outside + place))
        });
    }
}

/// GROUP BY the columns at `keys`, with calls of aggregates of at most one column.
fn aggregated(rel: &RelRef, keys: &[usize], calls: &[(&str, Option<usize>)]) -> RelRef {
    let mut columns: Vec<Column> = keys.iter().map(|key| rel.columns[*key].clone()).collect();
    columns.iter_mut().for_each(|column| column.time = None);
    let count = LogicalField {
        logical_type: LogicalType::BigInt,
        nullable: false,
    };
    columns.extend(calls.iter().map(|_| column("$count", count.clone())));
    let aggregates = calls.iter().map(|(function, argument)| Aggregate {
        function: (*function).to_owned(),
        arguments: argument.iter().copied().collect(),
        distinct: false,
        filter: None,
    });
    Arc::new(Rel {
        columns,
        window: None,
        updating: rel.updating || !calls.is_empty(),
        op: RelOp::GroupAggregate {
            input: rel.clone(),
            keys: keys.to_vec(),
            aggregates: aggregates.collect(),
        },
    })
}

/// A column of FROM as it can be written.
fn name_of(scope: &Scope, index: usize) -> ast::Expr {
    let entry = &scope.columns[index];
    let name = Ident::with_quote('`', &entry.column.name);
    match &entry.qualifier {
        Some(qualifier) => {
            ast::Expr::CompoundIdentifier(vec![Ident::with_quote('`', qualifier), name])
        }
        None => ast::Expr::Identifier(name),
    }
}

/// Whether the one value of a subquery is a number of rows.
fn counts(query: &Query) -> Result<bool> {
    let SetExpr::Select(select) = query.body.as_ref() else {
        return Ok(false);
    };
    let is_count = |expr: &ast::Expr| {
        matches!(expr, ast::Expr::Function(function)
            if function.name.to_string().eq_ignore_ascii_case("COUNT"))
    };
    let item = match select.projection.first() {
        Some(ast::SelectItem::UnnamedExpr(expr) | ast::SelectItem::ExprWithAlias { expr, .. }) => {
            expr
        }
        _ => return Ok(false),
    };
    if is_count(item) {
        return Ok(true);
    }
    struct Counts<F>(F);
    impl<F: Fn(&ast::Expr) -> bool> Visitor for Counts<F> {
        type Break = ();
        fn pre_visit_expr(&mut self, expr: &ast::Expr) -> ControlFlow<()> {
            match (self.0)(expr) {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        }
    }
    match item.visit(&mut Counts(is_count)) {
        ControlFlow::Break(()) => Err(SqlError::unsupported(
            "an expression of COUNT in a subquery that speaks of the query around it",
        )
        .at(item)),
        ControlFlow::Continue(()) => Ok(false),
    }
}
