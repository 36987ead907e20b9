//! Aggregate functions that are made of others: variances of sums and counts, texts and JSON of collected values. A call of one becomes calls of
//! functions that operators have, and an expression over their results.

use datafusion_common::ScalarValue;
use datafusion_expr::{Case, Cast, Expr, Operator, binary_expr};
use sqlparser::ast::{
    self, Function, FunctionArg, FunctionArgExpr, FunctionArgumentClause, FunctionArguments,
    JsonNullClause, NullTreatment,
};
use weir_dataflow::agg::{ARRAY_AGG_IGNORE_NULLS, SQUARED_DISTANCES};
use weir_dataflow::types::{LogicalField, LogicalType};

use super::call::scalar;
use super::expr::{AggregateCall, literal_expr, text};
use crate::error::{Result, SqlError};

/// Functions that are made of others, or have clauses of their own.
pub(super) const COMPOSITE: [&str; 12] = [
    "STDDEV_POP",
    "STDDEV_SAMP",
    "STDDEV",
    "VAR_POP",
    "VAR_SAMP",
    "VARIANCE",
    "LISTAGG",
    "ARRAY_AGG",
    "JSON_OBJECTAGG",
    "JSON_ARRAYAGG",
    "PERCENTILE",
    "COLLECT",
];

/// What is written between the parentheses of a call, but for DISTINCT.
pub(super) struct Arguments<'a> {
    pub expressions: Vec<&'a ast::Expr>,
    /// ARRAY_AGG: `IGNORE NULLS`, JSON_ARRAYAGG and JSON_OBJECTAGG: `ABSENT ON NULL`.
    pub ignores_nulls: bool,
}

/// Where the rows of a call come from decides how variances are computed: Flink sums squares with OVER, and distances from the mean elsewhere.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Grouped,
    Over,
}

/// One of the calls that a call is made of.
pub(super) struct Part {
    pub function: &'static str,
    pub argument: Expr,
}

/// Makes the result of a call of those of its parts.
type Combine = dyn Fn(&[Expr]) -> Result<Expr>;

/// A call, taken apart. `result` makes it of the results of the parts.
pub(super) struct Composite {
    pub parts: Vec<Part>,
    pub result: Box<Combine>,
}

/// Reads the arguments of a function of [`COMPOSITE`].
pub(super) fn arguments<'a>(name: &str, function: &'a Function) -> Result<Arguments<'a>> {
    let unsupported = || SqlError::unsupported(format!("{function}"));
    let FunctionArguments::List(list) = &function.args else {
        return Err(unsupported());
    };
    let mut arguments = Arguments {
        expressions: Vec::new(),
        ignores_nulls: name == "JSON_ARRAYAGG",
    };
    for argument in &list.args {
        match argument {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => arguments.expressions.push(expr),
            FunctionArg::ExprNamed {
                name: key,
                arg: FunctionArgExpr::Expr(value),
                ..
            } => arguments.expressions.extend([key, value]),
            _ => return Err(unsupported()),
        }
    }
    let mut nulls = function.null_treatment;
    for clause in &list.clauses {
        match clause {
            FunctionArgumentClause::IgnoreOrRespectNulls(written) => nulls = Some(*written),
            FunctionArgumentClause::JsonNullClause(written) => {
                arguments.ignores_nulls = *written == JsonNullClause::AbsentOnNull;
            }
            FunctionArgumentClause::OrderBy(_) => {
                return Err(SqlError::unsupported(format!("ORDER BY in {name}")));
            }
            _ => return Err(unsupported()),
        }
    }
    match nulls {
        Some(_) if name != "ARRAY_AGG" => Err(SqlError::new(format!(
            "{name} takes no IGNORE NULLS or RESPECT NULLS"
        ))),
        Some(NullTreatment::IgnoreNulls) => {
            arguments.ignores_nulls = true;
            Ok(arguments)
        }
        _ => Ok(arguments),
    }
}

/// Takes a call apart. `arguments` with their types, coerced; `ignores_nulls`: see [`Arguments`].
pub(super) fn compose(
    name: &'static str,
    arguments: Vec<(Expr, LogicalField)>,
    ignores_nulls: bool,
    place: Place,
) -> Result<Composite> {
    match name {
        "LISTAGG" => listagg(arguments),
        "ARRAY_AGG" | "COLLECT" => {
            let [(argument, _)] = one(name, arguments)?;
            let function = match (name, ignores_nulls) {
                ("COLLECT", _) => "COLLECT",
                (_, true) => ARRAY_AGG_IGNORE_NULLS,
                (_, false) => "ARRAY_AGG",
            };
            Ok(Composite {
                parts: vec![Part { function, argument }],
                result: Box::new(|parts| Ok(parts[0].clone())),
            })
        }
        "JSON_ARRAYAGG" => {
            let [(argument, _)] = one(name, arguments)?;
            let function = match ignores_nulls {
                true => ARRAY_AGG_IGNORE_NULLS,
                false => "ARRAY_AGG",
            };
            let argument = scalar("JSON_STRING", vec![argument])?;
            Ok(Composite {
                parts: vec![Part { function, argument }],
                result: Box::new(|parts| scalar("__json_arrayagg", parts.to_vec())),
            })
        }
        "JSON_OBJECTAGG" => json_object(arguments, ignores_nulls),
        "PERCENTILE" => percentile(arguments),
        _ => variance(name, arguments, place),
    }
}

fn one<const N: usize>(
    name: &str,
    arguments: Vec<(Expr, LogicalField)>,
) -> Result<[(Expr, LogicalField); N]> {
    let given = arguments.len();
    arguments
        .try_into()
        .map_err(|_| SqlError::new(format!("{name} takes {N} argument(s), not {given}")))
}

fn is_text(field: &LogicalField) -> bool {
    matches!(
        field.logical_type,
        LogicalType::Char(_) | LogicalType::VarChar(_) | LogicalType::Null
    )
}

fn is_numeric(field: &LogicalField) -> bool {
    use LogicalType as T;
    matches!(
        field.logical_type,
        T::TinyInt
            | T::SmallInt
            | T::Int
            | T::BigInt
            | T::Float
            | T::Double
            | T::Decimal(..)
            | T::Null
    )
}

fn listagg(mut arguments: Vec<(Expr, LogicalField)>) -> Result<Composite> {
    let separator = match arguments.len() {
        2 => match arguments.pop() {
            Some((Expr::Literal(value, _), field)) if is_text(&field) => literal_expr(value),
            _ => {
                return Err(SqlError::new(
                    "the separator of LISTAGG is a text in quotes",
                ));
            }
        },
        _ => text(","),
    };
    let [(argument, field)] = one("LISTAGG", arguments)?;
    if !is_text(&field) {
        return Err(SqlError::new(format!(
            "LISTAGG does not take {}; it takes a text",
            field.logical_type
        ))
        .hint("CAST it to STRING"));
    }
    Ok(Composite {
        parts: vec![Part {
            function: ARRAY_AGG_IGNORE_NULLS,
            argument: cast(argument, LogicalType::VarChar(u32::MAX)),
        }],
        result: Box::new(move |parts| {
            scalar("ARRAY_JOIN", vec![parts[0].clone(), separator.clone()])
        }),
    })
}

fn json_object(arguments: Vec<(Expr, LogicalField)>, ignores_nulls: bool) -> Result<Composite> {
    if arguments.len() != 2 {
        return Err(SqlError::new(
            "JSON_OBJECTAGG takes one key and one value: JSON_OBJECTAGG(KEY k VALUE v)",
        ));
    }
    let [(key, key_field), (value, _)] = one("JSON_OBJECTAGG", arguments)?;
    if !is_text(&key_field) {
        return Err(SqlError::new(format!(
            "a key of JSON_OBJECTAGG is a text, not {}",
            key_field.logical_type
        )));
    }
    let key = cast(key, LogicalType::VarChar(u32::MAX));
    let value = scalar("JSON_STRING", vec![value])?;
    let on_null = if ignores_nulls { "ABSENT" } else { "NULL" };
    Ok(Composite {
        parts: vec![Part {
            function: "ARRAY_AGG",
            argument: scalar("ROW", vec![key, value])?,
        }],
        result: Box::new(move |parts| {
            scalar("__json_objectagg", vec![parts[0].clone(), text(on_null)])
        }),
    })
}

/// PERCENTILE(value, share [, how often the value counts]).
fn percentile(mut arguments: Vec<(Expr, LogicalField)>) -> Result<Composite> {
    let frequency = match arguments.len() {
        3 => arguments.pop(),
        _ => None,
    };
    let [(value, field), (share, share_field)] = one("PERCENTILE", arguments)?;
    let share_is_number = match &share_field.logical_type {
        LogicalType::Array(element) => is_numeric(element),
        _ => is_numeric(&share_field),
    };
    let counts = frequency.as_ref().is_none_or(|(_, field)| {
        use LogicalType as T;
        matches!(
            field.logical_type,
            T::TinyInt | T::SmallInt | T::Int | T::BigInt | T::Null
        )
    });
    if !is_numeric(&field) || !share_is_number || !counts {
        return Err(SqlError::new(
            "PERCENTILE takes a number, a share of 0.0 to 1.0 or an array of them, and an integer that says how often the number counts",
        ));
    }
    let mut columns = std::collections::BTreeSet::new();
    super::rel::collect_inputs(&share, &mut columns);
    if !columns.is_empty() {
        return Err(SqlError::new(
            "the share of a PERCENTILE is the same for all rows: a literal",
        ));
    }
    let value = cast(value, LogicalType::Double);
    let argument = match frequency {
        Some((frequency, _)) => scalar("ROW", vec![value, cast(frequency, LogicalType::BigInt)])?,
        None => value,
    };
    Ok(Composite {
        parts: vec![Part {
            function: "COLLECT",
            argument,
        }],
        result: Box::new(move |parts| {
            scalar("__percentile", vec![parts[0].clone(), share.clone()])
        }),
    })
}

fn variance(
    name: &'static str,
    arguments: Vec<(Expr, LogicalField)>,
    place: Place,
) -> Result<Composite> {
    let [(argument, field)] = one(name, arguments)?;
    if !is_numeric(&field) {
        return Err(SqlError::new(format!(
            "{name} does not take {}; it takes a number",
            field.logical_type
        )));
    }
    let result_type = type_of_variance(&field);
    let sample = !name.ends_with("_POP");
    let root = name.starts_with("STDDEV");
    let finish = move |divided: Expr| {
        let result = match root {
            true => scalar(
                "POWER",
                vec![divided, literal_expr(ScalarValue::Float64(Some(0.5)))],
            )?,
            false => divided,
        };
        Ok(cast(result, result_type.clone()))
    };
    if place == Place::Grouped {
        return Ok(Composite {
            parts: vec![
                Part {
                    function: SQUARED_DISTANCES,
                    argument: argument.clone(),
                },
                Part {
                    function: "COUNT",
                    argument,
                },
            ],
            result: Box::new(move |parts| {
                let count = divisor(parts[1].clone(), sample);
                finish(binary_expr(parts[0].clone(), Operator::Divide, count))
            }),
        });
    }
    let squared = binary_expr(argument.clone(), Operator::Multiply, argument.clone());
    let part = |function, argument| Part { function, argument };
    let count_type = type_of_variance(&field);
    Ok(Composite {
        parts: vec![
            part("SUM", squared),
            part("SUM", argument.clone()),
            part("COUNT", argument),
        ],
        result: Box::new(move |parts| {
            let count = cast(parts[2].clone(), count_type.clone());
            let square = binary_expr(parts[1].clone(), Operator::Multiply, parts[1].clone());
            let mean = binary_expr(square, Operator::Divide, count.clone());
            let distances = binary_expr(parts[0].clone(), Operator::Minus, mean);
            let divisor = match sample {
                true => divisor(parts[2].clone(), true),
                false => count,
            };
            finish(binary_expr(distances, Operator::Divide, divisor))
        }),
    })
}

/// The type of the result, to which Flink also casts the count before it divides the square of a sum by it.
fn type_of_variance(field: &LogicalField) -> LogicalType {
    match field.logical_type {
        LogicalType::Decimal(_, scale) => LogicalType::Decimal(38, scale.max(6)),
        LogicalType::Null => LogicalType::Double,
        ref other => other.clone(),
    }
}

/// The count, or one less: NULL for one value of a sample.
fn divisor(count: Expr, sample: bool) -> Expr {
    if !sample {
        return count;
    }
    let one = literal_expr(ScalarValue::Int64(Some(1)));
    let is_one = binary_expr(count.clone(), Operator::Eq, one.clone());
    let less = binary_expr(count, Operator::Minus, one);
    Expr::Case(Case {
        expr: None,
        when_then_expr: vec![(
            Box::new(is_one),
            Box::new(literal_expr(ScalarValue::Int64(None))),
        )],
        else_expr: Some(Box::new(less)),
    })
}

fn cast(expr: Expr, to: LogicalType) -> Expr {
    let field = LogicalField::nullable(to).to_field("cast");
    Expr::Cast(Cast::new_from_field(
        Box::new(expr),
        std::sync::Arc::new(field),
    ))
}

/// A part as a call of a grouping.
pub(super) fn grouped_call(
    part: &Part,
    field: LogicalField,
    distinct: bool,
    filter: Option<&Expr>,
) -> AggregateCall {
    // COUNT of what is never NULL counts rows.
    let counts_rows = part.function == "COUNT" && !distinct && !field.nullable;
    let (arguments, argument_types) = match counts_rows {
        true => (Vec::new(), Vec::new()),
        false => (vec![part.argument.clone()], vec![field]),
    };
    AggregateCall {
        function: part.function,
        arguments,
        distinct,
        filter: filter.cloned(),
        argument_types,
    }
}
