//! Expressions as people write them, for EXPLAIN, errors and the identity of operators.

use arrow::util::display::array_value_to_string;
use datafusion_common::ScalarValue;
use datafusion_expr::{BinaryExpr, Expr, Operator};
use weir_dataflow::types::{LogicalField, LogicalType};

use super::expr::FIELD_ACCESS;
use super::rel::{Aggregate, Column, as_input_ref};

/// The expression with the names of the columns it reads.
pub(super) fn expr(expr: &Expr, columns: &[Column]) -> String {
    Printer { columns }.print(expr)
}

/// Columns by name.
pub(super) fn names(indexes: &[usize], columns: &[Column]) -> String {
    let names = indexes.iter().map(|index| name(*index, columns));
    names.collect::<Vec<_>>().join(", ")
}

/// Columns by name, ROWs with the names of their fields.
pub(super) fn shapes(columns: &[Column]) -> String {
    let shape = |column: &Column| match &column.field.logical_type {
        LogicalType::Row(fields) => {
            let fields: Vec<_> = fields.iter().map(|(name, _)| name.as_str()).collect();
            format!("{}({})", column.name, fields.join(", "))
        }
        _ => column.name.clone(),
    };
    columns.iter().map(shape).collect::<Vec<_>>().join(", ")
}

fn name(index: usize, columns: &[Column]) -> String {
    columns
        .get(index)
        .map_or_else(|| format!("#{index}"), |column| column.name.clone())
}

/// A call of an aggregate function over these columns.
pub(super) fn aggregate(call: &Aggregate, columns: &[Column]) -> String {
    let distinct = if call.distinct { "DISTINCT " } else { "" };
    let arguments = match call.arguments.as_slice() {
        [] => "*".to_owned(),
        arguments => names(arguments, columns),
    };
    let filter = call.filter.map_or(String::new(), |at| {
        format!(" FILTER (WHERE {})", name(at, columns))
    });
    format!("{}({distinct}{arguments}){filter}", call.function)
}

struct Printer<'a> {
    columns: &'a [Column],
}

impl Printer<'_> {
    fn print(&self, expr: &Expr) -> String {
        if let Some(index) = as_input_ref(expr) {
            return name(index, self.columns);
        }
        let p = |inner: &Expr| self.operand(inner);
        match expr {
            Expr::Literal(value, _) => literal(value),
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
                let op = match op {
                    Operator::NotEq => "<>".to_owned(),
                    other => other.to_string(),
                };
                format!("{} {op} {}", p(left), p(right))
            }
            Expr::Not(inner) => format!("NOT {}", p(inner)),
            Expr::Negative(inner) => format!("-{}", p(inner)),
            Expr::IsNull(inner) => format!("{} IS NULL", p(inner)),
            Expr::IsNotNull(inner) => format!("{} IS NOT NULL", p(inner)),
            Expr::IsTrue(inner) => format!("{} IS TRUE", p(inner)),
            Expr::IsNotTrue(inner) => format!("{} IS NOT TRUE", p(inner)),
            Expr::IsFalse(inner) => format!("{} IS FALSE", p(inner)),
            Expr::IsNotFalse(inner) => format!("{} IS NOT FALSE", p(inner)),
            Expr::IsUnknown(inner) => format!("{} IS UNKNOWN", p(inner)),
            Expr::IsNotUnknown(inner) => format!("{} IS NOT UNKNOWN", p(inner)),
            Expr::Like(like) => format!(
                "{}{} LIKE {}",
                p(&like.expr),
                if like.negated { " NOT" } else { "" },
                p(&like.pattern)
            ),
            Expr::InList(list) => format!(
                "{}{} IN ({})",
                p(&list.expr),
                if list.negated { " NOT" } else { "" },
                self.list(&list.list)
            ),
            Expr::Cast(cast) => format!(
                "CAST({} AS {})",
                self.print(&cast.expr),
                sql_type(&cast.field)
            ),
            Expr::TryCast(cast) => {
                format!(
                    "TRY_CAST({} AS {})",
                    self.print(&cast.expr),
                    sql_type(&cast.field)
                )
            }
            Expr::Case(case) => self.case(case),
            Expr::ScalarFunction(call) => self.call(call.func.name(), &call.args),
            other => other.to_string(),
        }
    }

    /// In parentheses where it needs some inside another expression.
    fn operand(&self, expr: &Expr) -> String {
        let text = self.print(expr);
        let bare = matches!(
            expr,
            Expr::Column(_) | Expr::Literal(..) | Expr::Cast(_) | Expr::TryCast(_) | Expr::Case(_)
        ) || matches!(expr, Expr::ScalarFunction(call) if operator(call.func.name()).is_none());
        if bare { text } else { format!("({text})") }
    }

    fn list(&self, exprs: &[Expr]) -> String {
        let items: Vec<_> = exprs.iter().map(|item| self.print(item)).collect();
        items.join(", ")
    }

    fn case(&self, case: &datafusion_expr::Case) -> String {
        let mut text = "CASE".to_owned();
        for (when, then) in &case.when_then_expr {
            text.push_str(&format!(
                " WHEN {} THEN {}",
                self.print(when),
                self.print(then)
            ));
        }
        if let Some(otherwise) = &case.else_expr {
            text.push_str(&format!(" ELSE {}", self.print(otherwise)));
        }
        text + " END"
    }

    fn call(&self, function: &str, arguments: &[Expr]) -> String {
        if function == FIELD_ACCESS
            && let [value, fields @ ..] = arguments
        {
            let mut text = self.operand(value);
            for field in fields {
                if let Expr::Literal(ScalarValue::Utf8(Some(field)), _) = field {
                    text.push_str(&format!(".{field}"));
                }
            }
            return text;
        }
        if let (
            "__cast" | "__try_cast",
            [value, _, Expr::Literal(ScalarValue::Utf8(Some(to)), _), ..],
        ) = (function, arguments)
        {
            let name = function.trim_start_matches('_').to_uppercase();
            return format!("{name}({} AS {to})", self.print(value));
        }
        match (operator(function), arguments) {
            (Some(operator), [left, right]) => {
                format!("{} {operator} {}", self.operand(left), self.operand(right))
            }
            _ => format!("{}({})", function.to_uppercase(), self.list(arguments)),
        }
    }
}

/// The operator that a function of ours stands for.
fn operator(function: &str) -> Option<&'static str> {
    Some(match function {
        "__plus" => "+",
        "__minus" => "-",
        "__times" => "*",
        "__divide" => "/",
        "__concat" => "||",
        "__like" => "LIKE",
        _ => return None,
    })
}

fn sql_type(field: &arrow::datatypes::Field) -> String {
    LogicalField::from_field(field).map_or_else(
        || field.data_type().to_string(),
        |field| field.logical_type.to_string(),
    )
}

fn literal(value: &ScalarValue) -> String {
    match value {
        ScalarValue::Utf8(Some(text)) => format!("'{}'", text.replace('\'', "''")),
        ScalarValue::Boolean(Some(value)) => value.to_string().to_uppercase(),
        ScalarValue::DurationMillisecond(Some(millis)) => {
            format!("INTERVAL '{}' SECOND", seconds(*millis))
        }
        ScalarValue::IntervalYearMonth(Some(months)) => format!("INTERVAL '{months}' MONTH"),
        ScalarValue::Decimal128(Some(unscaled), _, scale) => decimal(*unscaled, *scale),
        ScalarValue::Float64(Some(value)) => format!("{value:?}"),
        ScalarValue::TimestampMillisecond(Some(_), _)
        | ScalarValue::TimestampMicrosecond(Some(_), _)
        | ScalarValue::TimestampNanosecond(Some(_), _) => {
            format!("TIMESTAMP '{}'", shown(value).replace('T', " "))
        }
        ScalarValue::Date32(Some(_)) => format!("DATE '{}'", shown(value)),
        other => other.to_string(),
    }
}

fn shown(value: &ScalarValue) -> String {
    let array = value.to_array().ok();
    let text = array.and_then(|array| array_value_to_string(&array, 0).ok());
    text.unwrap_or_else(|| value.to_string())
}

fn seconds(millis: i64) -> String {
    if millis % 1000 == 0 {
        return (millis / 1000).to_string();
    }
    decimal(i128::from(millis), 3)
}

fn decimal(unscaled: i128, scale: i8) -> String {
    let scale = usize::from(scale.unsigned_abs());
    let digits = format!("{:0>width$}", unscaled.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    let sign = if unscaled < 0 { "-" } else { "" };
    if fraction.is_empty() {
        format!("{sign}{whole}")
    } else {
        format!("{sign}{whole}.{fraction}")
    }
}
