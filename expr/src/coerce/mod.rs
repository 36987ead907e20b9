//! Makes a logical expression one whose evaluation by DataFusion gives Flink's result: operands get the casts that Flink puts in, and what
//! DataFusion computes otherwise becomes a call of one of our functions.
//!
//! Invariant: coercing twice changes nothing more. An integer literal that fits is INT (the parser makes them all BIGINT); a BIGINT of that
//! size is written as a cast.

mod node;
#[cfg(test)]
mod tests;
pub mod types;

use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{DFSchema, ScalarValue};
use datafusion_expr::expr::{Cast, ScalarFunction};
use datafusion_expr::{BinaryExpr, Expr, ExprSchemable, Operator};
use std::sync::Arc;
use weir_dataflow::types::{LogicalField, LogicalType};

use crate::cast::{is_castable, is_plain_widening};
use crate::error::{ExprError, Result};
use crate::functions;
use crate::functions::is_native;
use types::{Arithmetic, arithmetic_result, comparison_type};

pub use types::common_type;

/// Coerces a whole expression, bottom-up, in the session time zone UTC.
///
/// # Errors
/// If operands do not fit their operator or function.
pub fn coerce_expr(expr: Expr, schema: &DFSchema) -> Result<Expr> {
    Coercer::default().expr(expr, schema)
}

/// Coerces `left op right`, whose operands are coerced already.
///
/// # Errors
/// If the operands do not fit the operator.
pub fn coerce_binary(left: Expr, op: Operator, right: Expr, schema: &DFSchema) -> Result<Expr> {
    Coercer::default().binary(left, op, right, schema)
}

/// Casts as Flink does it implicitly; an expression that has the type already stays as it is.
///
/// # Errors
/// If there is no cast.
pub fn cast_to(expr: Expr, target: &LogicalType, schema: &DFSchema) -> Result<Expr> {
    Coercer::default().cast_to(expr, target, schema)
}

/// The exact type of a coerced expression.
///
/// # Errors
/// If the expression is not well typed, or of a type that SQL does not have.
pub fn type_of(expr: &Expr, schema: &DFSchema) -> Result<LogicalField> {
    let (_, field) = expr.to_field(schema)?;
    LogicalField::from_field(&field).ok_or_else(|| {
        ExprError::Type(format!(
            "'{}' has the type {}, which SQL does not have",
            expr.human_display(),
            field.data_type()
        ))
    })
}

/// The rules, with what they depend on of the session.
#[derive(Debug, Clone, Default)]
pub struct Coercer {
    /// `table.local-time-zone`; `None` is UTC.
    pub time_zone: Option<String>,
}

impl Coercer {
    /// As [`coerce_expr`].
    ///
    /// # Errors
    /// If operands do not fit their operator or function.
    pub fn expr(&self, expr: Expr, schema: &DFSchema) -> Result<Expr> {
        let coerced = expr.transform_up(|node| Ok(Transformed::yes(self.node(node, schema)?)))?;
        Ok(coerced.data)
    }

    /// As [`coerce_binary`].
    ///
    /// # Errors
    /// If the operands do not fit the operator.
    pub fn binary(&self, left: Expr, op: Operator, right: Expr, schema: &DFSchema) -> Result<Expr> {
        let (left, right) = (literal(left)?, literal(right)?);
        if let Some(arithmetic) = arithmetic(op) {
            return self.arithmetic(left, arithmetic, op, right, schema);
        }
        match op {
            Operator::And | Operator::Or => {
                let left = self.boolean(left, schema)?;
                let right = self.boolean(right, schema)?;
                Ok(binary(left, op, right))
            }
            Operator::StringConcat => self.call("__concat", vec![left, right], schema),
            Operator::LikeMatch => self.call("__like", vec![left, right], schema),
            Operator::NotLikeMatch => {
                let like = self.call("__like", vec![left, right], schema)?;
                Ok(Expr::Not(Box::new(like)))
            }
            Operator::Eq
            | Operator::NotEq
            | Operator::Lt
            | Operator::LtEq
            | Operator::Gt
            | Operator::GtEq
            | Operator::IsDistinctFrom
            | Operator::IsNotDistinctFrom => self.comparison(left, op, right, schema),
            _ => Err(ExprError::Type(format!(
                "the operator {op} is not supported"
            ))),
        }
    }

    fn arithmetic(
        &self,
        left: Expr,
        arithmetic: Arithmetic,
        op: Operator,
        right: Expr,
        schema: &DFSchema,
    ) -> Result<Expr> {
        let left_type = type_of(&left, schema)?.logical_type;
        let right_type = type_of(&right, schema)?.logical_type;
        if !is_native(arithmetic, &left_type, &right_type) {
            let function = match arithmetic {
                Arithmetic::Plus => "__plus",
                Arithmetic::Minus => "__minus",
                Arithmetic::Times => "__times",
                Arithmetic::Divide => "__divide",
                Arithmetic::Modulo => "MOD",
            };
            return self.call(function, vec![left, right], schema);
        }
        match arithmetic_result(arithmetic, &left_type, &right_type) {
            Some(common) => Ok(binary(
                self.cast_to(left, &common, schema)?,
                op,
                self.cast_to(right, &common, schema)?,
            )),
            None => Err(ExprError::Type(format!(
                "there is no {left_type} {op} {right_type}"
            ))),
        }
    }

    fn comparison(&self, left: Expr, op: Operator, right: Expr, schema: &DFSchema) -> Result<Expr> {
        let left_type = type_of(&left, schema)?.logical_type;
        let right_type = type_of(&right, schema)?.logical_type;
        match comparison_type(&left_type, &right_type) {
            Some(common) => Ok(binary(
                self.cast_to(left, &common, schema)?,
                op,
                self.cast_to(right, &common, schema)?,
            )),
            None => Err(ExprError::Type(format!(
                "cannot compare {left_type} with {right_type} ({op}); CAST one of them"
            ))),
        }
    }

    /// As [`cast_to`].
    ///
    /// # Errors
    /// If there is no cast.
    pub fn cast_to(&self, expr: Expr, target: &LogicalType, schema: &DFSchema) -> Result<Expr> {
        let from = type_of(&expr, schema)?.logical_type;
        if from == *target {
            return Ok(expr);
        }
        let arrow = target.to_arrow();
        if let Expr::Literal(value, _) = &expr
            && value.is_null()
        {
            let null = ScalarValue::try_new_null(&arrow)?;
            return Ok(Expr::Literal(null, None));
        }
        if is_plain_widening(&from, target) {
            if from.to_arrow() == arrow {
                return Ok(expr);
            }
            return Ok(plain_cast(expr, target));
        }
        self.own_cast("__cast", expr, &from, target)
    }

    /// A cast by our function, even where the types are alike.
    fn own_cast(
        &self,
        function: &str,
        expr: Expr,
        from: &LogicalType,
        target: &LogicalType,
    ) -> Result<Expr> {
        if !is_castable(from, target) {
            return Err(ExprError::Type(format!(
                "there is no cast from {from} to {target}"
            )));
        }
        let text = |text: String| Expr::Literal(ScalarValue::Utf8(Some(text)), None);
        let mut args = vec![expr, text(from.to_string()), text(target.to_string())];
        if let Some(zone) = &self.time_zone {
            args.push(text(zone.clone()));
        }
        function_call(function, args)
    }

    /// A call of one of our functions, its arguments cast to what it takes.
    fn call(&self, function: &str, args: Vec<Expr>, schema: &DFSchema) -> Result<Expr> {
        self.node(function_call(function, args)?, schema)
    }

    fn boolean(&self, expr: Expr, schema: &DFSchema) -> Result<Expr> {
        match type_of(&expr, schema)?.logical_type {
            LogicalType::Boolean => Ok(expr),
            LogicalType::Null => self.cast_to(expr, &LogicalType::Boolean, schema),
            other => Err(ExprError::Type(format!(
                "a condition must be BOOLEAN, but '{}' is {other}",
                expr.human_display()
            ))),
        }
    }
}

fn function_call(name: &str, args: Vec<Expr>) -> Result<Expr> {
    match functions::lookup(name) {
        Some(func) => Ok(Expr::ScalarFunction(ScalarFunction { func, args })),
        None => Err(ExprError::Type(format!("there is no function {name}"))),
    }
}

/// DataFusion's cast. The field's name makes DataFusion take the type's metadata from here instead of from the operand.
fn plain_cast(expr: Expr, target: &LogicalType) -> Expr {
    let field = Arc::new(LogicalField::nullable(target.clone()).to_field("cast"));
    Expr::Cast(Cast {
        expr: Box::new(expr),
        field,
    })
}

fn binary(left: Expr, op: Operator, right: Expr) -> Expr {
    Expr::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right)))
}

fn arithmetic(op: Operator) -> Option<Arithmetic> {
    Some(match op {
        Operator::Plus => Arithmetic::Plus,
        Operator::Minus => Arithmetic::Minus,
        Operator::Multiply => Arithmetic::Times,
        Operator::Divide => Arithmetic::Divide,
        Operator::Modulo => Arithmetic::Modulo,
        _ => return None,
    })
}

/// Literals as Flink types them.
fn literal(expr: Expr) -> Result<Expr> {
    let Expr::Literal(value, metadata) = expr else {
        return Ok(expr);
    };
    let value = match value {
        ScalarValue::Int64(Some(number)) => match i32::try_from(number) {
            Ok(small) => ScalarValue::Int32(Some(small)),
            Err(_) => value,
        },
        ScalarValue::UInt64(Some(number)) => {
            ScalarValue::Decimal128(Some(i128::from(number)), 20, 0)
        }
        ScalarValue::Utf8View(text) | ScalarValue::LargeUtf8(text) => ScalarValue::Utf8(text),
        ScalarValue::BinaryView(bytes) | ScalarValue::LargeBinary(bytes) => {
            ScalarValue::Binary(bytes)
        }
        ScalarValue::IntervalMonthDayNano(Some(interval)) => {
            let day_time = interval.days != 0 || interval.nanoseconds != 0;
            if interval.months != 0 && day_time {
                return Err(ExprError::Type(
                    "an INTERVAL has either months or days and times, not both".to_owned(),
                ));
            }
            if interval.months != 0 {
                ScalarValue::IntervalYearMonth(Some(interval.months))
            } else {
                let days = i64::from(interval.days) * 86_400_000;
                let millis = days + interval.nanoseconds / 1_000_000;
                ScalarValue::DurationMillisecond(Some(millis))
            }
        }
        ScalarValue::IntervalDayTime(Some(interval)) => {
            let days = i64::from(interval.days) * 86_400_000;
            ScalarValue::DurationMillisecond(Some(days + i64::from(interval.milliseconds)))
        }
        other => other,
    };
    Ok(Expr::Literal(value, metadata))
}
