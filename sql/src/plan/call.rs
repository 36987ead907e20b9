//! Calls: scalar and aggregate functions, and the special syntax that stands for functions (EXTRACT, SUBSTRING ... FROM).

use datafusion_common::ScalarValue;
use datafusion_expr::Expr;
use sqlparser::ast::{
    self, CeilFloorKind, DuplicateTreatment, Function, FunctionArg, FunctionArgExpr,
    FunctionArguments, TrimWhereField,
};

use super::composite::{self, Composite, Part, Place};
use super::expr::{
    AggregateCall, Analyzer, check_condition, coerce, escape, literal_expr, text, unsupported,
};
use super::rel::input_ref;
use super::{aggregate, json, over};
use crate::error::{Result, SqlError};
use crate::statement::DATABASE;

/// Functions that may be written without parentheses.
const NULLARY: [&str; 7] = [
    "CURRENT_DATE",
    "CURRENT_TIME",
    "CURRENT_TIMESTAMP",
    "CURRENT_ROW_TIMESTAMP",
    "LOCALTIME",
    "LOCALTIMESTAMP",
    "PI",
];

/// Functions of Flink that are not built.
const UNBUILT: [&str; 15] = [
    "BITMAP_AND",
    "BITMAP_ANDNOT",
    "BITMAP_BUILD",
    "BITMAP_CARDINALITY",
    "BITMAP_FROM_BYTES",
    "BITMAP_OR",
    "BITMAP_TO_ARRAY",
    "BITMAP_TO_BYTES",
    "BITMAP_TO_STRING",
    "BITMAP_XOR",
    "CURRENT_WATERMARK",
    "OBJECT_OF",
    "OBJECT_UPDATE",
    "PARSE_JSON",
    "TRY_PARSE_JSON",
];

/// A name that is a function without parentheses.
pub(super) fn nullary(name: &str) -> Option<Expr> {
    let known = NULLARY
        .iter()
        .find(|known| known.eq_ignore_ascii_case(name))?;
    scalar(known, Vec::new()).ok()
}

/// A call of a scalar function; its arguments are checked when the expression is coerced.
pub(super) fn scalar(name: &str, arguments: Vec<Expr>) -> Result<Expr> {
    let unbuilt = UNBUILT
        .iter()
        .find(|unbuilt| unbuilt.eq_ignore_ascii_case(name));
    if let Some(unbuilt) = unbuilt {
        return Err(SqlError::unsupported(*unbuilt));
    }
    let Some(function) = weir_expr::functions::lookup(name) else {
        let all = weir_expr::functions::all();
        let known: Vec<String> = all
            .iter()
            .map(|function| function.name().to_uppercase())
            .chain(aggregate::names().map(str::to_owned))
            .collect();
        return Err(SqlError::new(format!("unknown function '{name}'"))
            .did_you_mean(name, known.iter().map(String::as_str)));
    };
    Ok(function.call(arguments))
}

/// Syntax that stands for a function.
pub(super) fn special_form(analyzer: &mut Analyzer<'_>, expr: &ast::Expr) -> Result<Expr> {
    use ast::Expr as E;
    let (name, arguments) = match expr {
        E::Function(function) => return call(analyzer, function, expr),
        E::SimilarTo {
            negated,
            expr: operand,
            pattern,
            escape_char,
        } => {
            let mut arguments = raws(analyzer, [operand, pattern])?;
            let escape = escape(escape_char.as_ref()).map_err(|error| error.at(expr))?;
            arguments.extend(escape.map(|escape| text(&escape.to_string())));
            let similar = scalar("SIMILAR", arguments).map_err(|_| unsupported(expr))?;
            return Ok(if *negated {
                Expr::Not(Box::new(similar))
            } else {
                similar
            });
        }
        E::Extract {
            field,
            expr: operand,
            ..
        } => (
            "EXTRACT",
            vec![text(&field.to_string()), analyzer.raw(operand)?],
        ),
        E::Position { expr: part, r#in } => ("POSITION", raws(analyzer, [part, r#in])?),
        E::Substring { .. } | E::Overlay { .. } | E::Trim { .. } => text_form(analyzer, expr)?,
        E::Ceil {
            expr: operand,
            field,
        } => ("CEIL", round(analyzer, operand, field)?),
        E::Floor {
            expr: operand,
            field,
        } => ("FLOOR", round(analyzer, operand, field)?),
        E::Array(array) => ("ARRAY", raws(analyzer, &array.elem)?),
        E::Tuple(items) => ("ROW", raws(analyzer, items)?),
        other => return Err(unsupported(other)),
    };
    scalar(name, arguments).map_err(|_| unsupported(expr))
}

/// SUBSTRING(x FROM 1 FOR 2), OVERLAY(x PLACING y FROM 1), TRIM(LEADING 'a' FROM x)
fn text_form(analyzer: &mut Analyzer<'_>, expr: &ast::Expr) -> Result<(&'static str, Vec<Expr>)> {
    use ast::Expr as E;
    match expr {
        E::Substring {
            expr: operand,
            substring_from,
            substring_for,
            ..
        } => {
            let operands = [operand]
                .into_iter()
                .chain(substring_from)
                .chain(substring_for);
            Ok(("SUBSTRING", raws(analyzer, operands)?))
        }
        E::Overlay {
            expr: operand,
            overlay_what,
            overlay_from,
            overlay_for,
        } => {
            let operands = [operand, overlay_what, overlay_from].into_iter();
            Ok(("OVERLAY", raws(analyzer, operands.chain(overlay_for))?))
        }
        E::Trim {
            trim_where,
            trim_what,
            expr: operand,
            ..
        } => {
            let name = match trim_where {
                None | Some(TrimWhereField::Both) => "BTRIM",
                Some(TrimWhereField::Leading) => "LTRIM",
                Some(TrimWhereField::Trailing) => "RTRIM",
            };
            Ok((
                name,
                raws(analyzer, [operand].into_iter().chain(trim_what))?,
            ))
        }
        other => Err(unsupported(other)),
    }
}

/// Several expressions in order.
fn raws<'e, E: std::borrow::Borrow<ast::Expr> + 'e>(
    analyzer: &mut Analyzer<'_>,
    exprs: impl IntoIterator<Item = &'e E>,
) -> Result<Vec<Expr>> {
    exprs
        .into_iter()
        .map(|expr| analyzer.raw(expr.borrow()))
        .collect()
}

/// CEIL(x), CEIL(x TO HOUR)
fn round(
    analyzer: &mut Analyzer<'_>,
    operand: &ast::Expr,
    field: &CeilFloorKind,
) -> Result<Vec<Expr>> {
    let mut arguments = vec![analyzer.raw(operand)?];
    match field {
        CeilFloorKind::DateTimeField(ast::DateTimeField::NoDateTime) => {}
        CeilFloorKind::DateTimeField(unit) => arguments.push(text(&unit.to_string())),
        CeilFloorKind::Scale(_) => return Err(unsupported(operand)),
    }
    Ok(arguments)
}

fn call(analyzer: &mut Analyzer<'_>, function: &Function, whole: &ast::Expr) -> Result<Expr> {
    let name = function.name.to_string().replace('`', "");
    if let Some(window) = &function.over {
        return over::collect(analyzer, &name, function, window).map_err(|error| error.at(whole));
    }
    if !function.within_group.is_empty() {
        return Err(SqlError::unsupported("WITHIN GROUP").at(whole));
    }
    if function.null_treatment.is_some() && !name.eq_ignore_ascii_case("ARRAY_AGG") {
        return Err(SqlError::unsupported("IGNORE NULLS").at(whole));
    }
    if over::needs_over(&name) {
        return Err(SqlError::new(format!("{name} needs an OVER (...)")).at(whole));
    }
    if let Some(known) = aggregate::find(&name).map_err(|error| error.at(whole))? {
        return aggregate_call(analyzer, known, function, whole);
    }
    if function.filter.is_some() {
        return Err(SqlError::new(format!("{name} is no aggregate: it takes no FILTER")).at(whole));
    }
    let arguments = match &function.args {
        FunctionArguments::None => Vec::new(),
        FunctionArguments::Subquery(_) => return Err(unsupported(whole)),
        FunctionArguments::List(list) => {
            if list.duplicate_treatment.is_some() {
                return Err(unsupported(whole));
            }
            if name.eq_ignore_ascii_case("CURRENT_DATABASE") && list.args.is_empty() {
                return Ok(text(DATABASE));
            }
            if let Some(call) = json::call(analyzer, &name, list, whole)? {
                return Ok(call);
            }
            let arguments = list.args.iter().enumerate();
            let arguments = arguments.map(|(index, argument)| match argument {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(ast::Expr::Identifier(unit)))
                    if index == 0 && takes_unit(&name) =>
                {
                    Ok(text(&unit.value))
                }
                FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => analyzer.raw(expr),
                _ => Err(unsupported(whole)),
            });
            arguments.collect::<Result<_>>()?
        }
    };
    scalar(&name, arguments).map_err(|error| error.at(whole))
}

/// TIMESTAMPDIFF(SECOND, a, b): the unit is a word, no column.
fn takes_unit(function: &str) -> bool {
    ["TIMESTAMPADD", "TIMESTAMPDIFF"]
        .iter()
        .any(|known| known.eq_ignore_ascii_case(function))
}

fn aggregate_call(
    analyzer: &mut Analyzer<'_>,
    name: &'static str,
    function: &Function,
    whole: &ast::Expr,
) -> Result<Expr> {
    let Some(aggregates) = analyzer.aggregates.take() else {
        return Err(SqlError::new(format!(
            "{} cannot have the aggregate {name}",
            analyzer.clause
        ))
        .at(whole));
    };
    // Arguments and filter can't hold an aggregate: the collector is out of the way while they are read.
    let clause = std::mem::replace(&mut analyzer.clause, "an aggregate");
    let read = match composite::COMPOSITE.contains(&name) {
        true => read_composite(analyzer, name, function, whole),
        false => read_aggregate(analyzer, name, function, whole).map(|call| (vec![call], None)),
    };
    analyzer.clause = clause;
    let read = read.map(|(calls, result)| {
        let places = calls.into_iter().map(|call| {
            let known = aggregates.iter().position(|other| *other == call);
            known.unwrap_or_else(|| {
                aggregates.push(call);
                aggregates.len() - 1
            })
        });
        (places.collect::<Vec<_>>(), result)
    });
    analyzer.aggregates = Some(aggregates);
    let (places, result) = read?;
    let width = analyzer.scope.columns.len();
    let mut results: Vec<Expr> = places.iter().map(|call| input_ref(width + call)).collect();
    match result {
        Some(composite) => (composite.result)(&results).map_err(|error| error.at(whole)),
        None => Ok(results.swap_remove(0)),
    }
}

/// A call of a function that is made of others.
fn read_composite(
    analyzer: &mut Analyzer<'_>,
    name: &'static str,
    function: &Function,
    whole: &ast::Expr,
) -> Result<(Vec<AggregateCall>, Option<Composite>)> {
    let arguments = composite::arguments(name, function).map_err(|error| error.at(whole))?;
    let typed = arguments
        .expressions
        .iter()
        .map(|expr| analyzer.typed(expr));
    let typed = typed.collect::<Result<Vec<_>>>()?;
    let filter = read_filter(analyzer, function)?;
    let composite = composite::compose(name, typed, arguments.ignores_nulls, Place::Grouped)
        .map_err(|error| error.at(whole))?;
    let mut calls = Vec::with_capacity(composite.parts.len());
    for part in &composite.parts {
        let (argument, field) = analyzer
            .coerced(part.argument.clone())
            .map_err(|error| error.at(whole))?;
        let part = Part {
            function: part.function,
            argument,
        };
        let call = composite::grouped_call(&part, field, is_distinct(function), filter.as_ref());
        aggregate::result_type(call.function, &call.argument_types, false)
            .map_err(|error| error.at(whole))?;
        calls.push(call);
    }
    Ok((calls, Some(composite)))
}

fn is_distinct(function: &Function) -> bool {
    matches!(&function.args, FunctionArguments::List(list)
        if list.duplicate_treatment == Some(DuplicateTreatment::Distinct))
}

fn read_filter(analyzer: &mut Analyzer<'_>, function: &Function) -> Result<Option<Expr>> {
    let Some(filter) = &function.filter else {
        return Ok(None);
    };
    let (typed, field) = analyzer.typed(filter)?;
    check_condition("FILTER", &field).map_err(|error| error.at(filter.as_ref()))?;
    Ok(Some(typed))
}

fn read_aggregate(
    analyzer: &mut Analyzer<'_>,
    name: &'static str,
    function: &Function,
    whole: &ast::Expr,
) -> Result<AggregateCall> {
    let FunctionArguments::List(list) = &function.args else {
        return Err(unsupported(whole));
    };
    if !list.clauses.is_empty() {
        return Err(unsupported(whole));
    }
    let distinct = is_distinct(function);
    let mut arguments = Vec::new();
    let mut argument_types = Vec::new();
    for argument in &list.args {
        match argument {
            FunctionArg::Unnamed(FunctionArgExpr::Wildcard)
                if name == "COUNT" && !distinct && list.args.len() == 1 => {}
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => {
                let (typed, field) = analyzer.typed(expr)?;
                arguments.push(typed);
                argument_types.push(field);
            }
            _ => return Err(unsupported(whole)),
        }
    }
    aggregate::result_type(name, &argument_types, false).map_err(|error| error.at(whole))?;
    // COUNT of what is never NULL counts rows.
    if name == "COUNT" && !distinct && argument_types.iter().all(|field| !field.nullable) {
        arguments.clear();
        argument_types.clear();
    }
    let filter = read_filter(analyzer, function)?;
    Ok(AggregateCall {
        function: name,
        arguments,
        // MIN and MAX do not care, and need no set of the values then.
        distinct: distinct && !matches!(name, "MIN" | "MAX"),
        filter,
        argument_types,
    })
}

/// PROCTIME() as a whole expression: a processing-time attribute.
pub(super) fn is_proctime(expr: &ast::Expr) -> bool {
    matches!(expr, ast::Expr::Function(function)
        if function.name.to_string().eq_ignore_ascii_case("PROCTIME"))
}

/// TRUE, folded where possible.
pub(super) fn is_true(expr: &Expr) -> bool {
    *expr == literal_expr(ScalarValue::Boolean(Some(true)))
}

/// A cast that Flink does by itself when a value goes into a column of another type.
pub(super) fn implicit_cast(
    expr: Expr,
    target: &weir_dataflow::types::LogicalField,
    schema: &datafusion_common::DFSchema,
) -> Result<Expr> {
    let field = std::sync::Arc::new(target.to_field("cast"));
    let cast = Expr::Cast(datafusion_expr::Cast::new_from_field(Box::new(expr), field));
    coerce(cast, schema).map(|(expr, _)| expr)
}
