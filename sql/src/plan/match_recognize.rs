//! MATCH_RECOGNIZE: what its conditions and measures read of a match is taken out of them as values, and they become expressions over these.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use datafusion_common::ScalarValue;
use datafusion_expr::Expr;
use sqlparser::ast::{
    self, AfterMatchSkip, FunctionArg, FunctionArgExpr, FunctionArguments, Ident,
    MatchRecognizePattern, MatchRecognizeSymbol, Measure, OrderByExpr, RepetitionQuantifier,
    RowsPerMatch, SymbolDefinition, TableFactor, VisitMut, VisitorMut,
};
use weir_dataflow::types::{LogicalField, LogicalType};
use weir_proto::v1::match_recognize::Skip;
use weir_proto::v1::match_value::Pick;

use super::expr::{Analyzer, column};
use super::over::Direction;
use super::rel::{
    Column, MatchRecognize, MatchValue, PatternVariable, Rel, RelOp, RelRef, SortKey, as_input_ref,
    input_ref,
};
use super::scope::Scope;
use super::{TimeAttribute, aggregate, literal};
use crate::error::{Result, SqlError};
use crate::parse::match_recognize::WITHIN;

/// The parts of the syntax tree.
pub(super) struct Clauses<'a> {
    partition_by: &'a [ast::Expr],
    order_by: &'a [OrderByExpr],
    measures: &'a [Measure],
    rows_per_match: Option<&'a RowsPerMatch>,
    after: Option<&'a AfterMatchSkip>,
    pattern: &'a MatchRecognizePattern,
    definitions: &'a [SymbolDefinition],
}

impl<'a> Clauses<'a> {
    /// With the table that is matched, and the alias.
    pub fn of(
        factor: &'a TableFactor,
    ) -> Option<(&'a TableFactor, Self, Option<&'a ast::TableAlias>)> {
        let TableFactor::MatchRecognize {
            table,
            partition_by,
            order_by,
            measures,
            rows_per_match,
            after_match_skip,
            pattern,
            symbols,
            alias,
        } = factor
        else {
            return None;
        };
        let clauses = Self {
            partition_by,
            order_by,
            measures,
            rows_per_match: rows_per_match.as_ref(),
            after: after_match_skip.as_ref(),
            pattern,
            definitions: symbols,
        };
        Some((table, clauses, alias.as_ref()))
    }
}

/// The relation of the matches in `input`, whose names are `scope`'s.
pub(super) fn plan(clauses: &Clauses<'_>, input: RelRef, scope: &Scope) -> Result<RelRef> {
    if input.updating {
        return Err(SqlError::new(
            "MATCH_RECOGNIZE does not take a relation with updates and deletions",
        ));
    }
    if let Some(RowsPerMatch::AllRows(_)) = clauses.rows_per_match {
        return Err(SqlError::unsupported("ALL ROWS PER MATCH").hint("write ONE ROW PER MATCH"));
    }
    let partition = clauses
        .partition_by
        .iter()
        .map(|expr| plain_column(scope, expr, "PARTITION BY"));
    let partition = partition.collect::<Result<Vec<_>>>()?;
    let (time, order) = order(clauses.order_by, scope)?;
    let mut variables = Vec::new();
    flatten(clauses.pattern, &mut variables)?;
    let (definitions, within_ms) = definitions(clauses.definitions, &variables)?;
    check_last(&variables)?;

    let mut values = Values {
        variables: variables
            .iter()
            .map(|variable| variable.name.clone())
            .collect(),
        time_column: input.columns[time].name.clone(),
        asked: Vec::new(),
        error: None,
    };
    let mut conditions: BTreeMap<usize, ast::Expr> = BTreeMap::new();
    for (variable, definition) in definitions {
        conditions.insert(variable, values.take_out(definition)?);
    }
    let measured = clauses.measures.iter();
    let measured: Vec<(ast::Expr, &Ident)> = measured
        .map(|measure| Ok((values.take_out(&measure.expr)?, &measure.alias)))
        .collect::<Result<_>>()?;

    let (input, values, value_columns) = resolve(values.asked, input, scope, time)?;
    let value_scope = Scope::of_relation(None, &value_columns);
    for (index, condition) in &conditions {
        let mut analyzer = Analyzer::new(&value_scope, "DEFINE")?;
        variables[*index].condition = Some(analyzer.condition(condition)?);
    }
    let mut columns: Vec<Column> = partition
        .iter()
        .map(|at| input.columns[*at].clone())
        .collect();
    let mut measures = Vec::with_capacity(measured.len());
    for (expr, name) in measured {
        let mut out = match super::call::is_proctime(&expr) {
            true => column(
                &name.value,
                LogicalField::nullable(LogicalType::TimestampLtz(3)),
            ),
            false => column(&name.value, LogicalField::nullable(LogicalType::Null)),
        };
        let (typed, field) = Analyzer::new(&value_scope, "MEASURES")?.typed(&expr)?;
        out.field = field;
        out.time = match super::call::is_proctime(&expr) {
            true => Some(TimeAttribute::Proctime),
            false => as_input_ref(&typed).and_then(|value| value_columns[value].time),
        };
        measures.push(typed);
        columns.push(out);
    }
    let skip = skip(clauses.after, &variables)?;
    let processing_time = input.columns[time].time == Some(TimeAttribute::Proctime);
    Ok(Arc::new(Rel {
        op: RelOp::MatchRecognize(MatchRecognize {
            input,
            partition,
            time,
            processing_time,
            order,
            variables,
            values,
            value_columns,
            measures,
            skip,
            within_ms,
        }),
        columns,
        window: None,
        updating: false,
    }))
}

fn plain_column(scope: &Scope, expr: &ast::Expr, clause: &'static str) -> Result<usize> {
    let (typed, _) = Analyzer::new(scope, clause)?.typed(expr)?;
    as_input_ref(&typed)
        .ok_or_else(|| SqlError::new(format!("{clause} of MATCH_RECOGNIZE takes columns")).at(expr))
}

/// The time attribute, and the columns behind it.
fn order(order_by: &[OrderByExpr], scope: &Scope) -> Result<(usize, Vec<SortKey>)> {
    let key = |by: &OrderByExpr| {
        let direction = Direction::of(&by.options);
        Ok(SortKey {
            column: plain_column(scope, &by.expr, "ORDER BY")?,
            descending: direction.descending,
            nulls_first: direction.nulls_first,
        })
    };
    let keys = order_by.iter().map(key).collect::<Result<Vec<_>>>()?;
    let Some((first, others)) = keys.split_first() else {
        return Err(SqlError::new(
            "You must specify either rowtime or proctime for order by.",
        ));
    };
    let place = &order_by[0];
    match scope.columns[first.column].column.time {
        None => Err(SqlError::new(
            "You must specify either rowtime or proctime for order by as the first one.",
        )
        .at(&place.expr)),
        Some(_) if first.descending => Err(SqlError::new(
            "Primary sort order of a streaming table must be ascending on time.",
        )
        .at(&place.expr)),
        Some(TimeAttribute::Proctime) if !others.is_empty() => Err(SqlError::unsupported(
            "MATCH_RECOGNIZE ordered by processing time and another column",
        )
        .at(&order_by[1].expr)),
        Some(_) => Ok((first.column, others.to_vec())),
    }
}

/// A pattern is a row of variables with quantifiers; what else there is, Flink does not have either.
fn flatten(pattern: &MatchRecognizePattern, out: &mut Vec<PatternVariable>) -> Result<()> {
    use MatchRecognizePattern as P;
    match pattern {
        P::Concat(parts) => parts.iter().try_for_each(|part| flatten(part, out)),
        P::Repetition(inner, quantifier) => {
            let variable = repeated(inner, quantifier)?;
            add(variable, out)
        }
        P::Symbol(_) => {
            let variable = PatternVariable::once(symbol(pattern)?);
            add(variable, out)
        }
        P::Group(inner) if !matches!(inner.as_ref(), P::Concat(_) | P::Alternation(_)) => {
            flatten(inner, out)
        }
        P::Group(_) => Err(SqlError::unsupported("a group in a PATTERN")),
        P::Alternation(_) => Err(SqlError::unsupported("an alternation (|) in a PATTERN")),
        P::Permute(_) => Err(SqlError::unsupported("PERMUTE in a PATTERN")),
        P::Exclude(_) => Err(SqlError::unsupported("an exclusion in a PATTERN")),
    }
}

fn add(variable: PatternVariable, out: &mut Vec<PatternVariable>) -> Result<()> {
    if out.iter().any(|known| known.name == variable.name) {
        return Err(SqlError::unsupported(format!(
            "the variable '{}' twice in a PATTERN",
            variable.name
        )));
    }
    out.push(variable);
    Ok(())
}

fn symbol(pattern: &MatchRecognizePattern) -> Result<&Ident> {
    match pattern {
        MatchRecognizePattern::Symbol(MatchRecognizeSymbol::Named(name)) => Ok(name),
        MatchRecognizePattern::Symbol(_) => Err(SqlError::unsupported("^ or $ in a PATTERN")),
        _ => Err(SqlError::unsupported("a group in a PATTERN")),
    }
}

/// `?` behind a quantifier makes it reluctant.
fn repeated(
    inner: &MatchRecognizePattern,
    quantifier: &RepetitionQuantifier,
) -> Result<PatternVariable> {
    use RepetitionQuantifier as Q;
    if let MatchRecognizePattern::Repetition(symbol, own) = inner {
        let mut variable = repeated(symbol, own)?;
        if *quantifier != Q::AtMostOne {
            return Err(SqlError::new(format!(
                "two quantifiers behind the pattern variable '{}'",
                variable.name
            )));
        }
        if variable.min == 0 && variable.max == Some(1) {
            return Err(SqlError::unsupported("a reluctant optional variable (??)"));
        }
        variable.greedy = false;
        return Ok(variable);
    }
    let mut variable = PatternVariable::once(symbol(inner)?);
    (variable.min, variable.max) = match quantifier {
        Q::ZeroOrMore => (0, None),
        Q::OneOrMore => (1, None),
        Q::AtMostOne => (0, Some(1)),
        Q::Exactly(count) => (*count, Some(*count)),
        Q::AtLeast(min) => (*min, None),
        Q::AtMost(max) => (0, Some(*max)),
        Q::Range(min, max) => (*min, Some(*max)),
    };
    if variable.max.is_some_and(|max| max < variable.min.max(1)) {
        return Err(SqlError::new(format!(
            "the quantifier of the pattern variable '{}' asks for no row",
            variable.name
        )));
    }
    // Of one row that may be absent both ways are tried, as in Flink.
    variable.greedy = variable.max != Some(variable.min) && variable.max != Some(1);
    Ok(variable)
}

fn check_last(variables: &[PatternVariable]) -> Result<()> {
    match variables.last() {
        Some(last) if last.greedy => Err(SqlError::new(
            "Greedy quantifiers are not allowed as the last element of a Pattern yet. Finish your pattern with either a simple \
             variable or reluctant quantifier.",
        )),
        _ => Ok(()),
    }
}

type Definitions<'a> = Vec<(usize, &'a ast::Expr)>;

/// The variables' conditions, and WITHIN, which the parser has put among them.
fn definitions<'a>(
    symbols: &'a [SymbolDefinition],
    variables: &[PatternVariable],
) -> Result<(Definitions<'a>, i64)> {
    let mut found = Vec::new();
    let mut within_ms = 0;
    for SymbolDefinition { symbol, definition } in symbols {
        if symbol.value == WITHIN {
            within_ms = within(definition)?;
            continue;
        }
        let Some(index) = variables
            .iter()
            .position(|known| known.name == symbol.value)
        else {
            let known = variables.iter().map(|known| known.name.as_str());
            return Err(SqlError::unknown("pattern variable", symbol, known));
        };
        if found.iter().any(|(known, _)| *known == index) {
            return Err(
                SqlError::new(format!("'{}' is defined twice", symbol.value))
                    .at_location(symbol.span.start),
            );
        }
        found.push((index, definition));
    }
    Ok((found, within_ms))
}

fn within(expr: &ast::Expr) -> Result<i64> {
    let interval = match expr {
        ast::Expr::Interval(interval) => {
            literal::interval(interval).map_err(|error| error.at(expr))?
        }
        _ => ScalarValue::Null,
    };
    match interval {
        ScalarValue::DurationMillisecond(Some(ms)) if ms > 0 => Ok(ms),
        _ => Err(
            SqlError::new("WITHIN takes an interval of days, hours, minutes or seconds")
                .hint("write WITHIN INTERVAL '1' HOUR")
                .at(expr),
        ),
    }
}

fn skip(after: Option<&AfterMatchSkip>, variables: &[PatternVariable]) -> Result<(Skip, usize)> {
    let place = |name: &Ident| {
        let place = variables.iter().position(|known| known.name == name.value);
        let known = variables.iter().map(|known| known.name.as_str());
        place.ok_or_else(|| SqlError::unknown("pattern variable", name, known))
    };
    Ok(match after {
        None | Some(AfterMatchSkip::ToNextRow) => (Skip::ToNextRow, 0),
        Some(AfterMatchSkip::PastLastRow) => (Skip::PastLastRow, 0),
        Some(AfterMatchSkip::ToFirst(name)) => (Skip::ToFirst, place(name)?),
        Some(AfterMatchSkip::ToLast(name)) => (Skip::ToLast, place(name)?),
    })
}

/// A value as it is asked for: of a variable's rows, or of all.
#[derive(PartialEq)]
struct Asked {
    variable: Option<usize>,
    pick: Pick,
    offset: u32,
    function: &'static str,
    /// Without variables in front of its columns.
    argument: Option<ast::Expr>,
}

/// Takes values out of expressions; in their place stands a name, `$0`, `$1` ....
struct Values {
    variables: Vec<String>,
    time_column: String,
    asked: Vec<Asked>,
    error: Option<SqlError>,
}

impl Values {
    fn take_out(&mut self, expr: &ast::Expr) -> Result<ast::Expr> {
        let mut expr = expr.clone();
        let _ = expr.visit(self);
        match self.error.take() {
            Some(error) => Err(error.at(&expr)),
            None => Ok(expr),
        }
    }

    fn ask(&mut self, asked: Asked) -> ast::Expr {
        let known = self.asked.iter().position(|known| *known == asked);
        let index = known.unwrap_or_else(|| {
            self.asked.push(asked);
            self.asked.len() - 1
        });
        ast::Expr::Identifier(Ident::new(name_of(index)))
    }

    /// What stands for an expression; `None`: its parts are looked at.
    fn value(&mut self, expr: &ast::Expr) -> Result<Option<ast::Expr>> {
        match expr {
            ast::Expr::Identifier(name) if name.value.starts_with('$') => Ok(None),
            ast::Expr::Identifier(_) | ast::Expr::CompoundIdentifier(_) => {
                let (variable, argument) = self.strip(expr)?;
                Ok(Some(self.ask(last(variable, argument))))
            }
            ast::Expr::Function(function) => self.call(function),
            _ => Ok(None),
        }
    }

    fn call(&mut self, function: &ast::Function) -> Result<Option<ast::Expr>> {
        let name = function.name.to_string().to_uppercase();
        let arguments = arguments(function);
        match name.as_str() {
            "FIRST" | "LAST" => {
                let pick = if name == "FIRST" {
                    Pick::First
                } else {
                    Pick::Last
                };
                return self.navigation(pick, &name, &arguments).map(Some);
            }
            "MATCH_ROWTIME" => {
                let time = ast::Expr::Identifier(Ident::with_quote('`', &self.time_column));
                return Ok(Some(self.ask(last(None, time))));
            }
            "MATCH_PROCTIME" => {
                let mut proctime = function.clone();
                proctime.name = ast::ObjectName::from(vec![Ident::new("PROCTIME")]);
                return Ok(Some(ast::Expr::Function(proctime)));
            }
            "PREV" | "NEXT" | "CLASSIFIER" | "MATCH_NUMBER" | "FINAL" | "RUNNING" => {
                let error = SqlError::unsupported(format!("{name} in MATCH_RECOGNIZE"));
                return Err(match name.as_str() {
                    "PREV" => error.hint("LAST(variable.column, n) counts the rows of a variable"),
                    _ => error,
                });
            }
            _ => {}
        }
        let Some(known) = aggregate::find(&name)? else {
            return Ok(None);
        };
        let (variable, argument) = match arguments.as_slice() {
            [] => (None, None),
            [argument] => {
                let (variable, argument) = self.strip(argument)?;
                (variable, Some(argument))
            }
            _ => {
                return Err(SqlError::unsupported(format!(
                    "{known} of several arguments in MATCH_RECOGNIZE"
                )));
            }
        };
        if is_distinct(function) || function.filter.is_some() {
            return Err(SqlError::unsupported(
                "DISTINCT or FILTER in MATCH_RECOGNIZE",
            ));
        }
        Ok(Some(self.ask(Asked {
            variable,
            pick: Pick::Aggregate,
            offset: 0,
            function: known,
            argument,
        })))
    }

    fn navigation(&mut self, pick: Pick, name: &str, arguments: &[ast::Expr]) -> Result<ast::Expr> {
        let (argument, offset) = match arguments {
            [argument] => (argument, 0),
            [argument, offset] => (argument, whole(offset)?),
            _ => {
                return Err(SqlError::new(format!(
                    "{name} takes a column of a pattern variable, and how many rows from there"
                )));
            }
        };
        let (variable, argument) = self.strip(argument)?;
        Ok(self.ask(Asked {
            offset,
            pick,
            ..last(variable, argument)
        }))
    }

    /// The expression without its variable, of which it has one at most.
    fn strip(&self, expr: &ast::Expr) -> Result<(Option<usize>, ast::Expr)> {
        let mut strip = Strip {
            variables: &self.variables,
            found: Vec::new(),
        };
        let mut stripped = expr.clone();
        let _ = stripped.visit(&mut strip);
        let mut found = strip.found.into_iter();
        let variable = found.next().flatten();
        if found.any(|other| other != variable) {
            return Err(SqlError::new(
                "columns of different pattern variables in one argument: one value is of one variable",
            )
            .at(expr));
        }
        Ok((variable, stripped))
    }
}

impl VisitorMut for Values {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut ast::Expr) -> ControlFlow<()> {
        match self.value(expr) {
            Ok(Some(value)) => *expr = value,
            Ok(None) => {}
            Err(error) => {
                self.error = Some(error.at(expr));
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    }
}

/// Takes variables away from in front of columns.
struct Strip<'a> {
    variables: &'a [String],
    /// One a column.
    found: Vec<Option<usize>>,
}

impl VisitorMut for Strip<'_> {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut ast::Expr) -> ControlFlow<()> {
        match expr {
            ast::Expr::CompoundIdentifier(names) => {
                let known = self
                    .variables
                    .iter()
                    .position(|known| names.first().is_some_and(|name| name.value == *known));
                self.found.push(known);
                if known.is_some() {
                    names.remove(0);
                }
                if let [only] = names.as_slice() {
                    *expr = ast::Expr::Identifier(only.clone());
                }
            }
            ast::Expr::Identifier(_) => self.found.push(None),
            _ => {}
        }
        // A compound name that has become a plain one is visited no more: its parts are no expressions.
        ControlFlow::Continue(())
    }
}

fn last(variable: Option<usize>, argument: ast::Expr) -> Asked {
    Asked {
        variable,
        pick: Pick::Last,
        offset: 0,
        function: "",
        argument: Some(argument),
    }
}

fn name_of(value: usize) -> String {
    format!("${value}")
}

fn arguments(function: &ast::Function) -> Vec<ast::Expr> {
    let FunctionArguments::List(list) = &function.args else {
        return Vec::new();
    };
    let given = list.args.iter().filter_map(|argument| match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr.clone()),
        _ => None,
    });
    given.collect()
}

fn is_distinct(function: &ast::Function) -> bool {
    matches!(&function.args, FunctionArguments::List(list)
        if list.duplicate_treatment == Some(ast::DuplicateTreatment::Distinct))
}

fn whole(expr: &ast::Expr) -> Result<u32> {
    let number = match expr {
        ast::Expr::Value(value) => value.value.to_string().parse().ok(),
        _ => None,
    };
    number
        .ok_or_else(|| SqlError::new("an offset is a whole number that is written there").at(expr))
}

type Resolved = (RelRef, Vec<MatchValue>, Vec<Column>);

/// Finds the columns that values are of; what is computed for them becomes a column of the input.
fn resolve(asked: Vec<Asked>, input: RelRef, scope: &Scope, time: usize) -> Result<Resolved> {
    let width = input.columns.len();
    let mut projection: Vec<Expr> = (0..width).map(input_ref).collect();
    let mut columns = input.columns.clone();
    let mut values = Vec::with_capacity(asked.len());
    let mut value_columns = Vec::with_capacity(asked.len());
    for (index, asked) in asked.into_iter().enumerate() {
        let mut of = None;
        if let Some(argument) = &asked.argument {
            let (typed, field) = Analyzer::new(scope, "MATCH_RECOGNIZE")?.typed(argument)?;
            let at = projection.iter().position(|known| *known == typed);
            of = Some(at.unwrap_or_else(|| {
                projection.push(typed);
                columns.push(column(&format!("$argument{index}"), field));
                columns.len() - 1
            }));
        }
        let field = match (asked.pick, of) {
            (Pick::Aggregate, of) => {
                let arguments: Vec<LogicalField> =
                    of.iter().map(|at| columns[*at].field.clone()).collect();
                aggregate::result_type(asked.function, &arguments, true)?
            }
            (_, Some(at)) => LogicalField::nullable(columns[at].field.logical_type.clone()),
            (_, None) => return Err(SqlError::new("a value of no column")),
        };
        let is_time = of == Some(time) && asked.variable.is_none() && asked.offset == 0;
        let mut value_column = column(&name_of(index), field);
        value_column.time = match is_time && asked.pick == Pick::Last {
            true => input.columns[time].time,
            false => None,
        };
        value_columns.push(value_column);
        values.push(MatchValue {
            variable: asked.variable,
            pick: asked.pick,
            offset: asked.offset,
            function: asked.function,
            column: of,
        });
    }
    let input = match columns.len() > width {
        true => Rel::calc(input, None, projection, columns),
        false => input,
    };
    Ok((input, values, value_columns))
}
