//! The rules node by node; the children are coerced already.

use std::sync::Arc;

use datafusion_common::{DFSchema, ScalarValue};
use datafusion_expr::expr::{Between, Case, InList, Like, ScalarFunction};
use datafusion_expr::{Expr, Operator};
use weir_dataflow::types::{LogicalField, LogicalType};

use super::types::{common_type, comparison_type, is_temporal, is_text};
use super::{Coercer, binary, function_call, literal, plain_cast, type_of};
use crate::cast::is_plain_widening;
use crate::error::{ExprError, Result};
use crate::functions::{Argument, Function};
use datafusion_expr::ScalarUDFImpl;

impl Coercer {
    pub(super) fn node(&self, expr: Expr, schema: &DFSchema) -> Result<Expr> {
        match expr {
            Expr::Literal(..) => literal(expr),
            Expr::BinaryExpr(node) => self.binary(*node.left, node.op, *node.right, schema),
            Expr::Not(inner) => Ok(Expr::Not(Box::new(self.boolean(*inner, schema)?))),
            Expr::IsTrue(inner) => Ok(Expr::IsTrue(Box::new(self.boolean(*inner, schema)?))),
            Expr::IsFalse(inner) => Ok(Expr::IsFalse(Box::new(self.boolean(*inner, schema)?))),
            Expr::IsUnknown(inner) => Ok(Expr::IsUnknown(Box::new(self.boolean(*inner, schema)?))),
            Expr::IsNotTrue(inner) => Ok(Expr::IsNotTrue(Box::new(self.boolean(*inner, schema)?))),
            Expr::IsNotFalse(inner) => {
                Ok(Expr::IsNotFalse(Box::new(self.boolean(*inner, schema)?)))
            }
            Expr::IsNotUnknown(inner) => {
                Ok(Expr::IsNotUnknown(Box::new(self.boolean(*inner, schema)?)))
            }
            Expr::Negative(inner) => negative(*inner),
            Expr::Like(like) => self.like("__like", like, schema),
            Expr::SimilarTo(like) => self.like("__similar", like, schema),
            Expr::Between(between) => self.between(between, schema),
            Expr::InList(list) => self.in_list(list, schema),
            Expr::Case(case) => self.case(case, schema),
            Expr::Cast(cast) => self.explicit_cast("__cast", *cast.expr, &cast.field, schema),
            Expr::TryCast(cast) => {
                self.explicit_cast("__try_cast", *cast.expr, &cast.field, schema)
            }
            Expr::ScalarFunction(call) => self.function(call, schema),
            other => Ok(other),
        }
    }

    fn explicit_cast(
        &self,
        function: &str,
        expr: Expr,
        field: &arrow::datatypes::Field,
        schema: &DFSchema,
    ) -> Result<Expr> {
        let Some(target) = LogicalType::from_field(field) else {
            return Err(ExprError::Type(format!(
                "cannot cast to {}, which SQL does not have",
                field.data_type()
            )));
        };
        let expr = self.cast_to_same_layout(expr, &target, schema)?;
        let from = type_of(&expr, schema)?.logical_type;
        // What a failing cast does is the only difference between the two.
        if function == "__cast" || from == target {
            if from == target && !matches!(expr, Expr::Literal(..)) {
                return Ok(expr);
            }
            // A cast that only names a type stays, too: a literal's type is told by it, and VARCHAR(10) becomes STRING.
            if from == target || is_plain_widening(&from, &target) {
                return Ok(plain_cast(expr, &target));
            }
        }
        self.own_cast(function, expr, &from, &target)
    }

    /// A NULL needs no cast.
    fn cast_to_same_layout(
        &self,
        expr: Expr,
        target: &LogicalType,
        schema: &DFSchema,
    ) -> Result<Expr> {
        match &expr {
            Expr::Literal(value, _) if value.is_null() => self.cast_to(expr, target, schema),
            _ => Ok(expr),
        }
    }

    fn function(&self, call: ScalarFunction, schema: &DFSchema) -> Result<Expr> {
        let func = Arc::clone(&call.func);
        let Some(function) = func.inner().downcast_ref::<Function>() else {
            return Ok(Expr::ScalarFunction(call));
        };
        let args = call
            .args
            .into_iter()
            .map(literal)
            .collect::<Result<Vec<_>>>()?;
        let arguments = args
            .iter()
            .map(|arg| {
                let field = type_of(arg, schema)?;
                Ok(Argument {
                    logical_type: field.logical_type,
                    nullable: field.nullable,
                    literal: match arg {
                        Expr::Literal(value, _) => Some(value),
                        _ => None,
                    },
                })
            })
            .collect::<Result<Vec<_>>>()?;
        let name = function.name();
        if name == "TYPEOF" {
            return self.type_text(&args, schema);
        }
        let (params, returns) = function.resolve(&arguments)?;
        let args = args
            .into_iter()
            .zip(&params)
            .map(|(arg, param)| match param {
                LogicalType::Null => Ok(arg),
                // A text that is no timestamp has no format: Flink gives NULL.
                LogicalType::Timestamp(_) if name == "DATE_FORMAT" => {
                    self.timestamp_of_text(arg, param, schema)
                }
                _ => self.cast_to(arg, param, schema),
            })
            .map(|arg| self.local(name, arg?, schema))
            .collect::<Result<Vec<_>>>()?;
        match name {
            "COALESCE" | "IFNULL" if !args.iter().skip(1).all(is_at_hand) => {
                Ok(exactly(coalesce(args), &returns))
            }
            "IF" => Ok(exactly(if_else(args), &returns)),
            "NULLIF" => self.null_if(args, schema),
            _ => Ok(Expr::ScalarFunction(ScalarFunction {
                func: call.func,
                args: self.with_zone(name, args),
            })),
        }
    }

    fn timestamp_of_text(
        &self,
        arg: Expr,
        target: &LogicalType,
        schema: &DFSchema,
    ) -> Result<Expr> {
        if !is_text(&type_of(&arg, schema)?.logical_type) {
            return self.cast_to(arg, target, schema);
        }
        let pattern = ScalarValue::Utf8(Some("yyyy-MM-dd HH:mm:ss".to_owned()));
        let pattern = Expr::Literal(pattern, None);
        self.function_of("__read_timestamp", vec![arg, pattern], schema)
    }

    /// TYPEOF is known as soon as the expression is, with its NOT NULL.
    fn type_text(&self, args: &[Expr], schema: &DFSchema) -> Result<Expr> {
        let [value] = args else {
            return Err(ExprError::Type("TYPEOF takes one argument".to_owned()));
        };
        let text = type_of(value, schema)?.to_string();
        Ok(Expr::Literal(ScalarValue::Utf8(Some(text)), None))
    }

    /// Fields of a TIMESTAMP_LTZ are those of the session's local time.
    fn local(&self, function: &str, arg: Expr, schema: &DFSchema) -> Result<Expr> {
        const OF_LOCAL_TIME: [&str; 12] = [
            "YEAR",
            "QUARTER",
            "MONTH",
            "WEEK",
            "DAYOFYEAR",
            "DAYOFMONTH",
            "DAYOFWEEK",
            "HOUR",
            "MINUTE",
            "SECOND",
            "EXTRACT",
            "DATE_FORMAT",
        ];
        if self.time_zone.is_none() || !OF_LOCAL_TIME.contains(&function) {
            return Ok(arg);
        }
        match type_of(&arg, schema)?.logical_type {
            LogicalType::TimestampLtz(precision) => {
                self.cast_to(arg, &LogicalType::Timestamp(precision), schema)
            }
            _ => Ok(arg),
        }
    }

    /// Functions whose last argument is the session time zone.
    fn with_zone(&self, function: &str, mut args: Vec<Expr>) -> Vec<Expr> {
        let Some(zone) = &self.time_zone else {
            return args;
        };
        let text = |text: &str| Expr::Literal(ScalarValue::Utf8(Some(text.to_owned())), None);
        match (function, args.len()) {
            ("LOCALTIMESTAMP" | "LOCALTIME" | "CURRENT_TIME" | "CURRENT_DATE", 0) => {
                args.push(text(zone))
            }
            ("FROM_UNIXTIME" | "UNIX_TIMESTAMP", 1) => {
                args.push(text("yyyy-MM-dd HH:mm:ss"));
                args.push(text(zone));
            }
            ("FROM_UNIXTIME" | "UNIX_TIMESTAMP" | "FLOOR" | "CEIL", 2) => args.push(text(zone)),
            _ => {}
        }
        args
    }

    fn null_if(&self, mut args: Vec<Expr>, schema: &DFSchema) -> Result<Expr> {
        let (Some(other), Some(value)) = (args.pop(), args.pop()) else {
            return Err(ExprError::Type("NULLIF takes two arguments".to_owned()));
        };
        let target = type_of(&value, schema)?.logical_type;
        let equal = self.binary(value.clone(), Operator::Eq, other, schema)?;
        let null = self.cast_to(Expr::Literal(ScalarValue::Null, None), &target, schema)?;
        Ok(exactly(case_of(vec![(equal, null)], Some(value)), &target))
    }

    fn like(&self, function: &str, like: Like, schema: &DFSchema) -> Result<Expr> {
        if like.case_insensitive {
            return Err(ExprError::Type(
                "ILIKE is not supported; LOWER() both sides".to_owned(),
            ));
        }
        let mut args = vec![*like.expr, *like.pattern];
        if let Some(escape) = like.escape_char {
            let escape = ScalarValue::Utf8(Some(escape.to_string()));
            args.push(Expr::Literal(escape, None));
        }
        let found = self.function_of(function, args, schema)?;
        Ok(if like.negated {
            Expr::Not(Box::new(found))
        } else {
            found
        })
    }

    fn function_of(&self, name: &str, args: Vec<Expr>, schema: &DFSchema) -> Result<Expr> {
        self.node(function_call(name, args)?, schema)
    }

    fn between(&self, between: Between, schema: &DFSchema) -> Result<Expr> {
        let (value, low, high) = (*between.expr, *between.low, *between.high);
        let above = self.binary(value.clone(), Operator::GtEq, low, schema)?;
        let below = self.binary(value, Operator::LtEq, high, schema)?;
        let both = binary(above, Operator::And, below);
        Ok(if between.negated {
            Expr::Not(Box::new(both))
        } else {
            both
        })
    }

    fn in_list(&self, list: InList, schema: &DFSchema) -> Result<Expr> {
        let mut common = type_of(&list.expr, schema)?.logical_type;
        for item in &list.list {
            let item_type = type_of(item, schema)?.logical_type;
            common = comparison_type(&common, &item_type).ok_or_else(|| {
                ExprError::Type(format!("IN cannot compare {common} with {item_type}"))
            })?;
        }
        let expr = Box::new(self.cast_to(*list.expr, &common, schema)?);
        let items = list
            .list
            .into_iter()
            .map(|item| self.cast_to(item, &common, schema))
            .collect::<Result<Vec<_>>>()?;
        Ok(Expr::InList(InList {
            expr,
            list: items,
            negated: list.negated,
        }))
    }

    fn case(&self, case: Case, schema: &DFSchema) -> Result<Expr> {
        let mut types = Vec::new();
        for (_, then) in &case.when_then_expr {
            types.push(type_of(then, schema)?.logical_type);
        }
        if let Some(otherwise) = &case.else_expr {
            types.push(type_of(otherwise, schema)?.logical_type);
        }
        let Some(result) = common_type(&types) else {
            let names: Vec<String> = types.iter().map(ToString::to_string).collect();
            return Err(ExprError::Type(format!(
                "the results of CASE have no common type: {}",
                names.join(", ")
            )));
        };
        let mut branches = Vec::with_capacity(case.when_then_expr.len());
        for (when, then) in case.when_then_expr {
            let when = match &case.expr {
                Some(base) => self.binary(base.as_ref().clone(), Operator::Eq, *when, schema)?,
                None => self.boolean(*when, schema)?,
            };
            let then = self.cast_to(*then, &result, schema)?;
            branches.push((Box::new(when), Box::new(then)));
        }
        let else_expr = match case.else_expr {
            Some(otherwise) => Some(Box::new(self.cast_to(*otherwise, &result, schema)?)),
            None => None,
        };
        let case = Expr::Case(Case {
            expr: None,
            when_then_expr: branches,
            else_expr,
        });
        Ok(exactly(case, &result))
    }
}

/// DataFusion gives a CASE the Arrow type of its branches; where that does not tell how a time is written, a cast that changes no value does.
fn exactly(case: Expr, logical_type: &LogicalType) -> Expr {
    let field = LogicalField::nullable(logical_type.clone()).to_field("");
    let told = field.metadata().is_empty() || !is_temporal(logical_type);
    if told || !matches!(case, Expr::Case(_)) {
        return case;
    }
    plain_cast(case, logical_type)
}

fn case_of(branches: Vec<(Expr, Expr)>, otherwise: Option<Expr>) -> Expr {
    let boxed = |(when, then)| (Box::new(when), Box::new(then));
    Expr::Case(Case {
        expr: None,
        when_then_expr: branches.into_iter().map(boxed).collect(),
        else_expr: otherwise.map(Box::new),
    })
}

/// Costs nothing and can't fail.
fn is_at_hand(expr: &Expr) -> bool {
    matches!(expr, Expr::Column(_) | Expr::Literal(..))
}

/// The first that is not NULL; those behind it are not evaluated.
fn coalesce(mut args: Vec<Expr>) -> Expr {
    let Some(last) = args.pop() else {
        return Expr::Literal(ScalarValue::Null, None);
    };
    if args.is_empty() {
        return last;
    }
    let branch = |arg: Expr| (Expr::IsNotNull(Box::new(arg.clone())), arg);
    case_of(args.into_iter().map(branch).collect(), Some(last))
}

fn if_else(mut args: Vec<Expr>) -> Expr {
    let otherwise = args.pop();
    match (args.pop(), args.pop()) {
        (Some(then), Some(when)) => case_of(vec![(when, then)], otherwise),
        _ => Expr::Literal(ScalarValue::Null, None),
    }
}

/// A negative number is a literal, too.
fn negative(inner: Expr) -> Result<Expr> {
    let Expr::Literal(value, metadata) = &inner else {
        return Ok(Expr::Negative(Box::new(inner)));
    };
    let negated = match value {
        ScalarValue::Int32(Some(value)) => ScalarValue::Int64(Some(-i64::from(*value))),
        ScalarValue::Int64(Some(value)) => match value.checked_neg() {
            Some(value) => ScalarValue::Int64(Some(value)),
            None => return Ok(Expr::Negative(Box::new(inner))),
        },
        ScalarValue::Float64(Some(value)) => ScalarValue::Float64(Some(-value)),
        ScalarValue::Decimal128(Some(value), precision, scale) => {
            ScalarValue::Decimal128(Some(-value), *precision, *scale)
        }
        ScalarValue::DurationMillisecond(Some(value)) => {
            ScalarValue::DurationMillisecond(Some(-value))
        }
        ScalarValue::IntervalYearMonth(Some(value)) => ScalarValue::IntervalYearMonth(Some(-value)),
        _ => return Ok(Expr::Negative(Box::new(inner))),
    };
    literal(Expr::Literal(negated, metadata.clone()))
}
