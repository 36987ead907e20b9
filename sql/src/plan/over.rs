//! Calls with OVER in a SELECT list or QUALIFY: they are collected while expressions are read, and become relations with appended columns.
//!
//! A call stands in its expression as the column `$over0`, `$over1` ..., until [`Overs::append`] has said where its result is.

use std::sync::Arc;

use datafusion_common::Column as DfColumn;
use datafusion_common::ScalarValue;
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_expr::Expr;
use sqlparser::ast::{
    self, DuplicateTreatment, Function, FunctionArg, FunctionArgExpr, FunctionArguments,
    NamedWindowDefinition, NamedWindowExpr, Spanned, WindowFrameBound, WindowFrameUnits,
    WindowSpec, WindowType,
};
use sqlparser::tokenizer::Location;
use weir_dataflow::types::{LogicalField, LogicalType};
use weir_proto::v1;

use super::composite::{self, COMPOSITE, Composite, Place};
use super::expr::{Analyzer, column};
use super::lower_rank::sort_columns;
use super::rel::{
    Aggregate, Column, Frame, FrameBound, FrameUnits, Over, OverCall, Rel, RelOp, RelRef, SortKey,
    as_input_ref, input_ref, is_updating,
};
use super::{TimeAttribute, aggregate, encode};
use crate::error::{Result, SqlError};

/// Named windows of a SELECT, and its calls with OVER.
#[derive(Default)]
pub(super) struct Overs {
    named: Vec<NamedWindowDefinition>,
    calls: Vec<(Call, Location)>,
}

/// A call, its parts as they are written: not yet coerced, and over whatever the SELECT's expressions are over.
#[derive(PartialEq)]
struct Call {
    function: &'static str,
    arguments: Vec<Expr>,
    offset: i64,
    distinct: bool,
    window: Window,
}

#[derive(Clone, PartialEq)]
struct Window {
    partition: Vec<Expr>,
    order: Vec<(Expr, Direction)>,
    frame: Frame,
}

/// How ORDER BY sorts by one expression.
#[derive(Clone, Copy, PartialEq)]
pub(super) struct Direction {
    pub descending: bool,
    pub nulls_first: bool,
}

impl Direction {
    /// NULL is below everything if nothing else is said, as in Flink.
    pub fn of(options: &ast::OrderByOptions) -> Self {
        let descending = options.asc == Some(false);
        Self {
            descending,
            nulls_first: options.nulls_first.unwrap_or(!descending),
        }
    }
}

/// Functions that there are with OVER only.
const OVER_ONLY: [&str; 5] = ["ROW_NUMBER", "RANK", "DENSE_RANK", "LAG", "LEAD"];

/// Those that Flink has for bounded input only.
const BATCH_ONLY: [&str; 3] = ["NTILE", "PERCENT_RANK", "CUME_DIST"];

/// The first rows of a partition up to this one.
const UP_TO_CURRENT_ROW: Frame = Frame {
    units: FrameUnits::Rows,
    start: FrameBound::UnboundedPreceding,
    end: FrameBound::CurrentRow,
};

/// Names that a query can write.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    OVER_ONLY.into_iter()
}

/// Whether a call of this function needs an OVER.
pub(super) fn needs_over(name: &str) -> bool {
    let mut known = OVER_ONLY.iter().chain(&BATCH_ONLY);
    known.any(|known| known.eq_ignore_ascii_case(name))
}

/// Reads a call with OVER; it stands in the expression as a column that [`Overs::replace`] knows.
pub(super) fn collect(
    analyzer: &mut Analyzer<'_>,
    name: &str,
    function: &Function,
    window: &WindowType,
) -> Result<Expr> {
    let Some(overs) = analyzer.overs.take() else {
        return Err(SqlError::new(format!(
            "{} cannot have a call with OVER",
            analyzer.clause
        )));
    };
    // The collector is out of the way meanwhile: a call with OVER holds no other.
    let clause = std::mem::replace(&mut analyzer.clause, "a call with OVER");
    let read = resolve(window, &overs.named)
        .and_then(|spec| read(analyzer, name, function, &spec))
        .map(|(calls, composite)| {
            let places = calls.into_iter().map(|call| {
                let known = overs.calls.iter().position(|(known, _)| *known == call);
                known.unwrap_or_else(|| {
                    overs.calls.push((call, function.span().start));
                    overs.calls.len() - 1
                })
            });
            (places.collect::<Vec<_>>(), composite)
        });
    analyzer.clause = clause;
    analyzer.overs = Some(overs);
    let (places, composite) = read?;
    let columns = places
        .into_iter()
        .map(|call| Expr::Column(DfColumn::new_unqualified(placeholder(call))));
    let mut results: Vec<Expr> = columns.collect();
    match composite {
        Some(composite) => (composite.result)(&results),
        None => Ok(results.swap_remove(0)),
    }
}

fn placeholder(call: usize) -> String {
    format!("$over{call}")
}

/// The window with what the named window that it may stand on says.
fn resolve(window: &WindowType, named: &[NamedWindowDefinition]) -> Result<WindowSpec> {
    let find = |name: &ast::Ident| {
        let mut known = named.iter().enumerate();
        let found = known.find(|(_, NamedWindowDefinition(known, _))| known.value == name.value);
        // A window stands on earlier ones only, so there is no circle.
        found.ok_or_else(|| {
            let known = named.iter().map(|known| known.0.value.as_str());
            SqlError::unknown("window", name, known)
        })
    };
    let mut spec = match window {
        WindowType::NamedWindow(name) => {
            let (index, NamedWindowDefinition(_, definition)) = find(name)?;
            return match definition {
                NamedWindowExpr::NamedWindow(other) => {
                    let other = WindowType::NamedWindow(other.clone());
                    resolve(&other, &named[..index])
                }
                NamedWindowExpr::WindowSpec(spec) => {
                    resolve(&WindowType::WindowSpec(spec.clone()), &named[..index])
                }
            };
        }
        WindowType::WindowSpec(spec) => spec.clone(),
    };
    let Some(name) = spec.window_name.take() else {
        return Ok(spec);
    };
    let base = resolve(&WindowType::NamedWindow(name.clone()), named)?;
    let twice = (!base.order_by.is_empty() && !spec.order_by.is_empty())
        || !spec.partition_by.is_empty()
        || base.window_frame.is_some();
    if twice {
        return Err(SqlError::new(format!(
            "OVER ({name} ...) says again what window '{name}' says"
        ))
        .at_location(name.span.start));
    }
    spec.partition_by = base.partition_by;
    if spec.order_by.is_empty() {
        spec.order_by = base.order_by;
    }
    Ok(spec)
}

fn read(
    analyzer: &mut Analyzer<'_>,
    name: &str,
    function: &Function,
    spec: &WindowSpec,
) -> Result<(Vec<Call>, Option<Composite>)> {
    let only = |names: &[&'static str]| {
        let mut names = names.iter();
        names
            .find(|known| known.eq_ignore_ascii_case(name))
            .copied()
    };
    if let Some(name) = only(&BATCH_ONLY) {
        return Err(SqlError::unsupported(name).hint("Flink has it for bounded input only"));
    }
    let function_name = match only(&OVER_ONLY) {
        Some(name) => name,
        None => aggregate::find(name)?
            .ok_or_else(|| SqlError::new(format!("{name} is no aggregate: it takes no OVER")))?,
    };
    if let Some(filter) = &function.filter {
        return Err(SqlError::new("a call with OVER takes no FILTER")
            .at(filter.as_ref())
            .hint("use CASE in its argument"));
    }
    if let Some(name) = COMPOSITE.iter().find(|name| **name == function_name) {
        return read_composite(analyzer, name, function, spec);
    }
    if function.null_treatment.is_some() || !function.within_group.is_empty() {
        return Err(SqlError::unsupported(format!("{function}")));
    }
    let FunctionArguments::List(list) = &function.args else {
        return Err(SqlError::new(format!("{name} has no argument list")));
    };
    if !list.clauses.is_empty() {
        return Err(SqlError::unsupported(format!("{function}")));
    }
    let mut arguments = Vec::with_capacity(list.args.len());
    for argument in &list.args {
        match argument {
            FunctionArg::Unnamed(FunctionArgExpr::Wildcard) if function_name == "COUNT" => {}
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => {
                arguments.push(analyzer.raw(expr)?);
            }
            _ => return Err(SqlError::unsupported(format!("{function}"))),
        }
    }
    let offset = match function_name {
        "LAG" | "LEAD" => take_offset(function_name, &mut arguments)?,
        _ => 0,
    };
    let call = Call {
        function: function_name,
        arguments,
        offset,
        distinct: list.duplicate_treatment == Some(DuplicateTreatment::Distinct)
            && !matches!(function_name, "MIN" | "MAX"),
        window: read_window(analyzer, function_name, offset, spec)?,
    };
    Ok((vec![call], None))
}

/// A call of a function that is made of others.
fn read_composite(
    analyzer: &mut Analyzer<'_>,
    name: &'static str,
    function: &Function,
    spec: &WindowSpec,
) -> Result<(Vec<Call>, Option<Composite>)> {
    let arguments = composite::arguments(name, function)?;
    let typed = arguments
        .expressions
        .iter()
        .map(|expr| analyzer.typed(expr));
    let typed = typed.collect::<Result<Vec<_>>>()?;
    let composite = composite::compose(name, typed, arguments.ignores_nulls, Place::Over)?;
    let window = read_window(analyzer, name, 0, spec)?;
    let distinct = matches!(&function.args, FunctionArguments::List(list)
        if list.duplicate_treatment == Some(DuplicateTreatment::Distinct));
    let calls = composite.parts.iter().map(|part| Call {
        function: part.function,
        arguments: vec![part.argument.clone()],
        offset: 0,
        distinct,
        window: window.clone(),
    });
    Ok((calls.collect(), Some(composite)))
}

/// LAG(value [, offset [, default]]): the offset is not computed for each row.
fn take_offset(function: &str, arguments: &mut Vec<Expr>) -> Result<i64> {
    if !(1..=3).contains(&arguments.len()) {
        return Err(SqlError::new(format!(
            "{function} takes a value, an offset and a default, not {} arguments",
            arguments.len()
        )));
    }
    if arguments.len() == 1 {
        return Ok(1);
    }
    match arguments.remove(1) {
        Expr::Literal(ScalarValue::Int32(Some(offset)), _) if offset >= 0 => Ok(offset.into()),
        Expr::Literal(ScalarValue::Int64(Some(offset)), _) if offset >= 0 => Ok(offset),
        _ => Err(SqlError::new(format!(
            "the offset of {function} is a number of rows, 0 or more"
        ))),
    }
}

/// `offset`: how many rows LAG looks back.
fn read_window(
    analyzer: &mut Analyzer<'_>,
    function: &'static str,
    offset: i64,
    spec: &WindowSpec,
) -> Result<Window> {
    // Arguments may be aggregates of the SELECT's groups, and so may these.
    let partition = spec.partition_by.iter().map(|expr| analyzer.raw(expr));
    let partition = partition.collect::<Result<_>>()?;
    let mut order = Vec::with_capacity(spec.order_by.len());
    for key in &spec.order_by {
        order.push((analyzer.raw(&key.expr)?, Direction::of(&key.options)));
    }
    let frame = match (&spec.window_frame, function) {
        (Some(_), "ROW_NUMBER" | "RANK" | "DENSE_RANK" | "LAG" | "LEAD") => {
            return Err(SqlError::new(format!(
                "{function} takes no ROWS or RANGE: its frame is fixed"
            )));
        }
        (None, "LAG") => Frame {
            start: FrameBound::Preceding(offset),
            ..UP_TO_CURRENT_ROW
        },
        (None, "RANK" | "DENSE_RANK") => Frame {
            units: FrameUnits::Range,
            ..UP_TO_CURRENT_ROW
        },
        (None, "ROW_NUMBER" | "LEAD") => UP_TO_CURRENT_ROW,
        (Some(frame), _) => read_frame(analyzer, frame)?,
        (None, _) => Frame {
            units: FrameUnits::Range,
            start: FrameBound::UnboundedPreceding,
            end: if order.is_empty() {
                FrameBound::UnboundedFollowing
            } else {
                FrameBound::CurrentRow
            },
        },
    };
    Ok(Window {
        partition,
        order,
        frame,
    })
}

fn read_frame(analyzer: &mut Analyzer<'_>, frame: &ast::WindowFrame) -> Result<Frame> {
    let units = match frame.units {
        WindowFrameUnits::Rows => FrameUnits::Rows,
        WindowFrameUnits::Range => FrameUnits::Range,
        WindowFrameUnits::Groups => return Err(SqlError::new("Flink's SQL has no GROUPS frame")),
    };
    let mut bound = |bound: &WindowFrameBound| {
        Ok(match bound {
            WindowFrameBound::CurrentRow => FrameBound::CurrentRow,
            WindowFrameBound::Preceding(None) => FrameBound::UnboundedPreceding,
            WindowFrameBound::Following(None) => FrameBound::UnboundedFollowing,
            WindowFrameBound::Preceding(Some(expr)) => {
                FrameBound::Preceding(distance(analyzer, expr, units)?)
            }
            WindowFrameBound::Following(Some(expr)) => {
                FrameBound::Following(distance(analyzer, expr, units)?)
            }
        })
    };
    let end = frame.end_bound.as_ref();
    Ok(Frame {
        units,
        start: bound(&frame.start_bound)?,
        end: end.map_or(Ok(FrameBound::CurrentRow), bound)?,
    })
}

/// Rows, milliseconds, or what the number of a RANGE counts.
fn distance(analyzer: &mut Analyzer<'_>, expr: &ast::Expr, units: FrameUnits) -> Result<i64> {
    let (value, _) = analyzer.typed(expr)?;
    let Expr::Literal(value, _) = value else {
        return Err(SqlError::new("a frame's bound is a literal").at(expr));
    };
    match (value, units) {
        (ScalarValue::Int32(Some(rows)), _) if rows >= 0 => Ok(rows.into()),
        (ScalarValue::Int64(Some(rows)), _) if rows >= 0 => Ok(rows),
        (ScalarValue::DurationMillisecond(Some(ms)), FrameUnits::Range) if ms >= 0 => Ok(ms),
        (_, FrameUnits::Rows) => {
            Err(SqlError::new("ROWS takes a number of rows, 0 or more").at(expr))
        }
        (_, FrameUnits::Range) => Err(SqlError::new(
            "RANGE takes an interval of days, hours, minutes and seconds",
        )
        .at(expr)),
    }
}

/// The operator for calls in the order of time. What Flink refuses on a stream is refused.
///
/// # Errors
/// If the order is not an ascending time attribute, or the frame does not end with the current row.
pub(super) fn time_spec(over: &Over, out: &[Column]) -> Result<v1::OverAggregate> {
    let columns = &over.input.columns;
    let first = over
        .calls
        .first()
        .map_or("OVER", |call| &call.call.function);
    let [order] = over.order.as_slice() else {
        return Err(SqlError::new(format!(
            "{first} with OVER needs an ORDER BY one time attribute"
        )));
    };
    let Some(time) = columns[order.column].time else {
        return sorted_spec(over, order, out);
    };
    if order.descending {
        return Err(SqlError::new(
            "OVER windows are ordered by time in ascending order only",
        ));
    }
    if over.input.updating {
        return Err(SqlError::new(format!(
            "{first} with OVER in the order of time doesn't support consuming updates and deletions"
        )));
    }
    if over.frame.end != FrameBound::CurrentRow {
        return Err(SqlError::new(
            "an OVER window on a stream ends with CURRENT ROW",
        ));
    }
    if let Some(lead) = over.calls.iter().find(|call| call.call.function == "LEAD") {
        return Err(SqlError::new(format!(
            "{} looks at rows that have not come yet: Flink does not have it on a stream",
            lead.call.function
        )));
    }
    let preceding = match over.frame.start {
        FrameBound::UnboundedPreceding => None,
        FrameBound::Preceding(distance) => Some(distance),
        FrameBound::CurrentRow => Some(0),
        FrameBound::Following(_) | FrameBound::UnboundedFollowing => {
            return Err(SqlError::new(
                "an OVER window on a stream begins with or before CURRENT ROW",
            ));
        }
    };
    Ok(v1::OverAggregate {
        partition_columns: encode::indexes(&over.partition),
        time_column: encode::index(order.column),
        processing_time: time == TimeAttribute::Proctime,
        rows: over.frame.units == FrameUnits::Rows,
        preceding,
        calls: encoded_calls(over, out),
        ..Default::default()
    })
}

/// Rows are in the order of time, so none comes in front of another.
pub(super) fn is_by_time(over: &Over) -> bool {
    match over.order.as_slice() {
        [order] => over.input.columns[order.column].time.is_some(),
        // No operator is made of these.
        _ => true,
    }
}

/// Calls in the order of a column that is no time attribute.
fn sorted_spec(over: &Over, order: &SortKey, out: &[Column]) -> Result<v1::OverAggregate> {
    let name = &over.input.columns[order.column].name;
    let shifted = over.calls.iter().map(|call| call.call.function.as_str());
    if let Some(call) = shifted
        .into_iter()
        .find(|call| matches!(*call, "LAG" | "LEAD"))
    {
        return Err(SqlError::unsupported(format!(
            "{call} with OVER (ORDER BY {name}), which is no time attribute,"
        )));
    }
    if order.descending {
        return Err(SqlError::new(
            "OVER windows are ordered in ascending order only",
        ));
    }
    if over.frame.start != FrameBound::UnboundedPreceding
        || over.frame.end != FrameBound::CurrentRow
    {
        return Err(SqlError::new(format!(
            "OVER (ORDER BY {name}) goes from UNBOUNDED PRECEDING to CURRENT ROW: '{name}' is no time attribute"
        )));
    }
    Ok(v1::OverAggregate {
        partition_columns: encode::indexes(&over.partition),
        rows: over.frame.units == FrameUnits::Rows,
        calls: encoded_calls(over, out),
        order: sort_columns(std::slice::from_ref(order)).pop(),
        input_retracts: over.input.updating,
        emit_update_before: true,
        ..Default::default()
    })
}

fn encoded_calls(over: &Over, out: &[Column]) -> Vec<v1::OverCall> {
    let results = &out[over.input.columns.len().min(out.len())..];
    let calls = over.calls.iter().zip(results);
    calls
        .map(|(call, column)| v1::OverCall {
            call: Some(v1::AggregateCall {
                function: call.call.function.clone(),
                arguments: encode::indexes(&call.call.arguments),
                distinct: call.call.distinct,
                filter: call.call.filter.map(encode::index),
                name: column.name.clone(),
            }),
            offset: call.offset,
        })
        .collect()
}

/// Types a raw expression over a relation's columns.
pub(super) type Typed<'t> = dyn Fn(&Expr) -> Result<(Expr, LogicalField)> + 't;

impl Overs {
    /// For a SELECT with this WINDOW clause.
    pub fn new(named: &[NamedWindowDefinition]) -> Self {
        Self {
            named: named.to_vec(),
            calls: Vec::new(),
        }
    }

    /// No call was found.
    pub fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// `rel` with columns for the results of all calls, and where they are. Its own columns stay where they are.
    pub fn append(&self, rel: RelRef, typed: &Typed<'_>) -> Result<(RelRef, Vec<usize>)> {
        let mut places = vec![usize::MAX; self.calls.len()];
        let mut rel = rel;
        for first in 0..self.calls.len() {
            if places[first] != usize::MAX {
                continue;
            }
            let window = &self.calls[first].0.window;
            let same: Vec<usize> = (first..self.calls.len())
                .filter(|call| self.calls[*call].0.window == *window)
                .collect();
            rel = self.append_window(rel, &same, typed)?;
            let start = rel.columns.len() - same.len();
            for (offset, call) in same.into_iter().enumerate() {
                places[call] = start + offset;
            }
        }
        Ok((rel, places))
    }

    /// One relation for calls over the same window.
    fn append_window(&self, rel: RelRef, calls: &[usize], typed: &Typed<'_>) -> Result<RelRef> {
        let Some((first, place)) = calls.first().map(|call| &self.calls[*call]) else {
            return Ok(rel);
        };
        let mut before = Before {
            rel,
            added: Vec::new(),
        };
        let located = |error: SqlError| error.at_location(*place);
        let window = &first.window;
        let mut partition = Vec::with_capacity(window.partition.len());
        for expr in &window.partition {
            let at = before.add(typed(expr).map_err(located)?);
            if !partition.contains(&at) {
                partition.push(at);
            }
        }
        let mut order = Vec::with_capacity(window.order.len());
        for (expr, direction) in &window.order {
            order.push(SortKey {
                column: before.add(typed(expr).map_err(located)?),
                descending: direction.descending,
                nulls_first: direction.nulls_first,
            });
        }
        let mut over_calls = Vec::with_capacity(calls.len());
        let mut results = Vec::with_capacity(calls.len());
        for call in calls {
            let (call, place) = &self.calls[*call];
            let (call, result) =
                type_call(call, &mut before, typed).map_err(|error| error.at_location(*place))?;
            over_calls.push(call);
            results.push(result);
        }
        let input = before.relation();
        let mut columns = input.columns.clone();
        columns.extend(results);
        let (window_columns, updating) = (input.window, input.updating);
        let op = RelOp::Over(Over {
            partition,
            order,
            frame: window.frame,
            calls: over_calls,
            place: *place,
            input,
        });
        Ok(Arc::new(Rel {
            columns,
            window: window_columns,
            updating: is_updating(&op, updating),
            op,
        }))
    }

    /// An expression with the calls' columns in it.
    pub fn replace(expr: Expr, places: &[usize]) -> Expr {
        if places.is_empty() {
            return expr;
        }
        let place_of = |node: &Expr| match node {
            Expr::Column(column) if column.relation.is_none() => {
                let call: usize = column.name.strip_prefix("$over")?.parse().ok()?;
                places.get(call)
            }
            _ => None,
        };
        let replaced = expr.clone().transform_up(|node| {
            Ok(match place_of(&node) {
                Some(place) => Transformed::yes(input_ref(*place)),
                None => Transformed::no(node),
            })
        });
        // The closure never fails, so neither does the walk.
        replaced.map_or(expr, |replaced| replaced.data)
    }
}

fn type_call(call: &Call, before: &mut Before, typed: &Typed<'_>) -> Result<(OverCall, Column)> {
    let mut arguments = Vec::with_capacity(call.arguments.len());
    let mut types = Vec::with_capacity(call.arguments.len());
    for argument in &call.arguments {
        let (expr, field) = typed(argument)?;
        types.push(field.clone());
        arguments.push(before.add((expr, field)));
    }
    let field = result_type(call, &types)?;
    // COUNT of what is never NULL counts rows.
    if call.function == "COUNT" && !call.distinct && types.iter().all(|field| !field.nullable) {
        arguments.clear();
    }
    let result = column(&format!("{} OVER", call.function), field);
    let call = OverCall {
        call: Aggregate {
            function: call.function.to_owned(),
            arguments,
            distinct: call.distinct,
            filter: None,
        },
        offset: call.offset,
    };
    Ok((call, result))
}

fn result_type(call: &Call, arguments: &[LogicalField]) -> Result<LogicalField> {
    match call.function {
        "ROW_NUMBER" | "RANK" | "DENSE_RANK" => {
            if !arguments.is_empty() {
                return Err(SqlError::new(format!(
                    "{} takes no arguments",
                    call.function
                )));
            }
            Ok(LogicalField {
                logical_type: LogicalType::BigInt,
                nullable: false,
            })
        }
        "LAG" | "LEAD" => match arguments {
            [value] => Ok(LogicalField::nullable(value.logical_type.clone())),
            [value, default] if value.logical_type == default.logical_type => Ok(LogicalField {
                logical_type: value.logical_type.clone(),
                nullable: value.nullable || default.nullable,
            }),
            [value, default, ..] => Err(SqlError::new(format!(
                "the default of {} is {}, its value {}",
                call.function, default.logical_type, value.logical_type
            ))
            .hint("CAST the default")),
            [] => Err(SqlError::new(format!("{} takes a value", call.function))),
        },
        function => aggregate::result_type(function, arguments, false),
    }
}

/// What stands in front of a call with OVER: the relation's columns, and those that it reads besides.
struct Before {
    rel: RelRef,
    added: Vec<(Expr, Column)>,
}

impl Before {
    fn add(&mut self, (expr, field): (Expr, LogicalField)) -> usize {
        if let Some(index) = as_input_ref(&expr) {
            return index;
        }
        let width = self.rel.columns.len();
        if let Some(known) = self.added.iter().position(|(known, _)| *known == expr) {
            return width + known;
        }
        let name = super::text::expr(&expr, &self.rel.columns);
        self.added.push((expr, column(&name, field)));
        width + self.added.len() - 1
    }

    fn relation(self) -> RelRef {
        if self.added.is_empty() {
            return self.rel;
        }
        let mut projection: Vec<Expr> = (0..self.rel.columns.len()).map(input_ref).collect();
        let mut columns = self.rel.columns.clone();
        for (expr, column) in self.added {
            projection.push(expr);
            columns.push(column);
        }
        Rel::calc(self.rel, None, projection, columns)
    }
}
