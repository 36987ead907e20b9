//! The JSON functions' clauses (see [`crate::parse::forms`]) as arguments of the functions that compute them.

use datafusion_expr::Expr;
use sqlparser::ast::{
    self, FunctionArg, FunctionArgExpr, FunctionArgumentClause, FunctionArgumentList,
    JsonNullClause,
};

use super::call::scalar;
use super::expr::{Analyzer, literal_expr, text, unsupported};
use crate::error::{Result, SqlError};
use datafusion_common::ScalarValue;

/// A call of a function that has clauses; `None` if it is none of these.
pub(super) fn call(
    analyzer: &mut Analyzer<'_>,
    name: &str,
    list: &FunctionArgumentList,
    whole: &ast::Expr,
) -> Result<Option<Expr>> {
    let arguments = match name.to_ascii_uppercase().as_str() {
        "JSON_VALUE" => {
            let texts = [
                ("RETURNING", "STRING"),
                ("ON_EMPTY", "NULL"),
                ("ON_ERROR", "NULL"),
            ];
            let mut arguments = over_text(analyzer, list, &texts, whole)?;
            for default in ["DEFAULT_ON_EMPTY", "DEFAULT_ON_ERROR"] {
                arguments.push(match clause(list, default) {
                    Some(value) => analyzer.raw(value)?,
                    None => literal_expr(ScalarValue::Null),
                });
            }
            arguments
        }
        "JSON_QUERY" => {
            let texts = [
                ("RETURNING", "STRING"),
                ("WRAPPER", "WITHOUT"),
                ("ON_EMPTY", "NULL"),
                ("ON_ERROR", "NULL"),
            ];
            over_text(analyzer, list, &texts, whole)?
        }
        "JSON_EXISTS" => over_text(analyzer, list, &[("ON_ERROR", "FALSE")], whole)?,
        "JSON_OBJECT" => object(analyzer, list, whole)?,
        "JSON_ARRAY" => array(analyzer, list, whole)?,
        "JSON" => {
            return Err(SqlError::new(
                "JSON() stands only as a value of JSON_OBJECT or JSON_ARRAY",
            )
            .at(whole));
        }
        _ => return Ok(None),
    };
    check_returning(name, list).map_err(|error| error.at(whole))?;
    scalar(name, arguments)
        .map(Some)
        .map_err(|error| error.at(whole))
}

/// The types that Flink's functions return.
fn check_returning(name: &str, list: &FunctionArgumentList) -> Result<()> {
    let Some(written) = clause(list, "RETURNING").and_then(literal) else {
        return Ok(());
    };
    let is_text =
        written == "STRING" || written.starts_with("VARCHAR") || written.starts_with("CHAR");
    let others: &[&str] = if name.eq_ignore_ascii_case("JSON_VALUE") {
        &["BOOLEAN", "INT", "DOUBLE"]
    } else {
        &["ARRAY<STRING>"]
    };
    if is_text || others.contains(&written) {
        return Ok(());
    }
    Err(SqlError::new(format!("{name} does not return {written}"))
        .hint(format!("it returns STRING, {}", others.join(", "))))
}

/// The text and the path, then each clause's text or what holds without it.
fn over_text(
    analyzer: &mut Analyzer<'_>,
    list: &FunctionArgumentList,
    clauses: &[(&str, &str)],
    whole: &ast::Expr,
) -> Result<Vec<Expr>> {
    let mut arguments = Vec::new();
    for argument in &list.args {
        match argument {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => {
                arguments.push(analyzer.raw(expr)?)
            }
            FunctionArg::Named { .. } => {}
            _ => return Err(unsupported(whole)),
        }
    }
    for (name, default) in clauses {
        let written = clause(list, name).and_then(literal);
        arguments.push(text(written.unwrap_or(default)));
    }
    Ok(arguments)
}

fn clause<'l>(list: &'l FunctionArgumentList, wanted: &str) -> Option<&'l ast::Expr> {
    list.args.iter().find_map(|argument| match argument {
        FunctionArg::Named {
            name,
            arg: FunctionArgExpr::Expr(value),
            ..
        } if name.value == wanted => Some(value),
        _ => None,
    })
}

fn literal(expr: &ast::Expr) -> Option<&str> {
    match expr {
        ast::Expr::Value(value) => match &value.value {
            ast::Value::SingleQuotedString(text) => Some(text),
            _ => None,
        },
        _ => None,
    }
}

fn object(
    analyzer: &mut Analyzer<'_>,
    list: &FunctionArgumentList,
    whole: &ast::Expr,
) -> Result<Vec<Expr>> {
    let mut spec = on_null(list, "NULL");
    let mut arguments = Vec::new();
    for argument in &list.args {
        let FunctionArg::ExprNamed {
            name: key,
            arg: FunctionArgExpr::Expr(value),
            ..
        } = argument
        else {
            return Err(unsupported(whole));
        };
        arguments.push(analyzer.raw(key)?);
        arguments.push(part(analyzer, value, &mut spec)?);
    }
    arguments.insert(0, text(&spec));
    Ok(arguments)
}

fn array(
    analyzer: &mut Analyzer<'_>,
    list: &FunctionArgumentList,
    whole: &ast::Expr,
) -> Result<Vec<Expr>> {
    let mut spec = on_null(list, "ABSENT");
    let mut arguments = Vec::new();
    for argument in &list.args {
        let FunctionArg::Unnamed(FunctionArgExpr::Expr(value)) = argument else {
            return Err(unsupported(whole));
        };
        arguments.push(part(analyzer, value, &mut spec)?);
    }
    arguments.insert(0, text(&spec));
    Ok(arguments)
}

fn on_null(list: &FunctionArgumentList, default: &str) -> String {
    let written = list.clauses.iter().find_map(|clause| match clause {
        FunctionArgumentClause::JsonNullClause(JsonNullClause::NullOnNull) => Some("NULL"),
        FunctionArgumentClause::JsonNullClause(JsonNullClause::AbsentOnNull) => Some("ABSENT"),
        _ => None,
    });
    format!("{} ", written.unwrap_or(default))
}

/// A value; the text of a nested JSON function is JSON already, any other text is a string.
fn part(analyzer: &mut Analyzer<'_>, value: &ast::Expr, spec: &mut String) -> Result<Expr> {
    let function = match value {
        ast::Expr::Function(function) => Some(function),
        _ => None,
    };
    let name = function.map(|function| function.name.to_string().to_ascii_uppercase());
    match (name.as_deref(), function.map(|function| &function.args)) {
        (Some("JSON_OBJECT" | "JSON_ARRAY"), _) => {
            spec.push('j');
            analyzer.raw(value)
        }
        (Some("JSON"), Some(ast::FunctionArguments::List(list))) => {
            let [FunctionArg::Unnamed(FunctionArgExpr::Expr(inner))] = list.args.as_slice() else {
                return Err(SqlError::new("JSON() takes one text").at(value));
            };
            spec.push('j');
            analyzer.raw(inner)
        }
        _ => {
            spec.push('v');
            analyzer.raw(value)
        }
    }
}
