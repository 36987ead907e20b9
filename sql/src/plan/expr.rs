//! From the syntax tree of an expression to a typed DataFusion expression over a scope's columns.
//!
//! DataFusion's own `SqlToRel` is not used: its literals, intervals, casts and type rules are not Flink's, and its errors do not say where.
//! What it is good at, typing and compiling an `Expr`, is used after Flink's coercions have been written into the expression.

use std::ops::ControlFlow;

use datafusion_common::{DFSchema, ScalarValue};
use datafusion_expr::{BinaryExpr, Case, Expr, ExprSchemable, Like, Operator, expr::InList};
use sqlparser::ast::{self, AccessExpr, BinaryOperator, Subscript, UnaryOperator, Visit, Visitor};
use weir_dataflow::types::{LogicalField, LogicalType};
use weir_expr::coerce::Coercer;

use super::fold::fold;
use super::over::Overs;
use super::rel::{Column, expr_schema, input_ref};
use super::scope::Scope;
use super::{call, literal, zone};
use crate::error::{Result, SqlError};

/// Turns the expressions of one clause into DataFusion's.
pub(super) struct Analyzer<'a> {
    pub scope: &'a Scope,
    /// Calls of aggregate functions found so far, where the clause may have them. A call stands in the expression as the column
    /// after the scope's columns and the calls before it.
    pub aggregates: Option<&'a mut Vec<AggregateCall>>,
    /// Calls with OVER found so far, where the clause may have them.
    pub overs: Option<&'a mut Overs>,
    /// Name of the clause, for errors: "WHERE".
    pub clause: &'static str,
    schema: DFSchema,
}

/// A call of an aggregate function over expressions on the scope.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct AggregateCall {
    pub function: &'static str,
    pub arguments: Vec<Expr>,
    pub distinct: bool,
    pub filter: Option<Expr>,
    /// Types of the arguments.
    pub argument_types: Vec<LogicalField>,
}

impl<'a> Analyzer<'a> {
    /// For a clause that has no aggregates.
    pub fn new(scope: &'a Scope, clause: &'static str) -> Result<Self> {
        Ok(Self {
            scope,
            aggregates: None,
            overs: None,
            clause,
            schema: expr_schema(&scope.row_in_sight())?,
        })
    }

    /// For a clause whose aggregates are collected.
    pub fn with_aggregates(
        scope: &'a Scope,
        clause: &'static str,
        aggregates: &'a mut Vec<AggregateCall>,
    ) -> Result<Self> {
        let mut analyzer = Self::new(scope, clause)?;
        analyzer.aggregates = Some(aggregates);
        Ok(analyzer)
    }

    /// Collects calls with OVER as well.
    pub fn with_overs(mut self, overs: &'a mut Overs) -> Self {
        self.overs = Some(overs);
        self
    }

    /// The expression with Flink's coercions, and its type.
    pub fn typed(&mut self, expr: &ast::Expr) -> Result<(Expr, LogicalField)> {
        let raw = self.raw(expr)?;
        coerce(raw, &self.schema).map_err(|error| self.locate(expr, error))
    }

    /// A raw expression over the scope with Flink's coercions, and its type.
    pub fn coerced(&self, raw: Expr) -> Result<(Expr, LogicalField)> {
        coerce(raw, &self.schema)
    }

    /// A condition: like [`Self::typed`], and BOOLEAN.
    pub fn condition(&mut self, expr: &ast::Expr) -> Result<Expr> {
        let (typed, field) = self.typed(expr)?;
        check_condition(self.clause, &field).map_err(|error| error.at(expr))?;
        Ok(typed)
    }

    /// Puts the place of the smallest part that can't be typed into an error.
    pub fn locate(&self, expr: &ast::Expr, error: SqlError) -> SqlError {
        struct Innermost<'v> {
            scope: &'v Scope,
            schema: &'v DFSchema,
        }
        impl Visitor for Innermost<'_> {
            type Break = SqlError;
            fn post_visit_expr(&mut self, part: &ast::Expr) -> ControlFlow<SqlError> {
                let (mut ignored, mut overs) = (Vec::new(), Overs::default());
                let failure = Analyzer::with_aggregates(self.scope, "", &mut ignored)
                    .map(|analyzer| analyzer.with_overs(&mut overs))
                    .and_then(|mut analyzer| analyzer.raw(part))
                    .map(|raw| coerce(raw, self.schema));
                match failure {
                    Ok(Err(error)) => ControlFlow::Break(error.at(part)),
                    _ => ControlFlow::Continue(()),
                }
            }
        }
        let mut search = Innermost {
            scope: self.scope,
            schema: &self.schema,
        };
        match expr.visit(&mut search) {
            ControlFlow::Break(found) if found.message == error.message => found,
            _ => error.at(expr),
        }
    }

    /// The expression as written, not yet coerced.
    pub fn raw(&mut self, expr: &ast::Expr) -> Result<Expr> {
        use ast::Expr as E;
        Ok(match expr {
            E::Identifier(name) => self.name(std::slice::from_ref(name), expr)?,
            E::CompoundIdentifier(names) => self.name(names, expr)?,
            E::CompoundFieldAccess { root, access_chain } => self.access(root, access_chain)?,
            E::Nested(inner) => self.raw(inner)?,
            E::Value(value) => literal::plain(&value.value).map_err(|error| error.at(expr))?,
            E::TypedString(typed) => typed_literal(typed, expr)?,
            E::Interval(interval) => {
                literal_expr(literal::interval(interval).map_err(|error| error.at(expr))?)
            }
            E::BinaryOp { left, op, right } => self.binary(left, op, right, expr)?,
            E::UnaryOp { op, expr: operand } => self.unary(op, operand, expr)?,
            E::Case {
                operand,
                conditions,
                else_result,
                ..
            } => self.case(operand.as_deref(), conditions, else_result.as_deref())?,
            E::InList {
                expr: operand,
                list,
                negated,
            } => {
                let list = list
                    .iter()
                    .map(|item| self.raw(item))
                    .collect::<Result<_>>()?;
                Expr::InList(InList::new(Box::new(self.raw(operand)?), list, *negated))
            }
            E::Between {
                expr: operand,
                negated,
                low,
                high,
            } => self.between(operand, *negated, low, high)?,
            E::Cast {
                kind,
                expr: operand,
                data_type,
                ..
            } => self.cast(kind, operand, data_type, expr)?,
            E::Like {
                negated,
                any: false,
                expr: operand,
                pattern,
                escape_char,
            } => Expr::Like(Like::new(
                *negated,
                Box::new(self.raw(operand)?),
                Box::new(self.raw(pattern)?),
                escape(escape_char.as_ref()).map_err(|error| error.at(expr))?,
                false,
            )),
            _ => return self.predicate(expr),
        })
    }

    /// Both ends belong to it.
    fn between(
        &mut self,
        operand: &ast::Expr,
        negated: bool,
        low: &ast::Expr,
        high: &ast::Expr,
    ) -> Result<Expr> {
        let operand = self.raw(operand)?;
        let (low, high) = (self.raw(low)?, self.raw(high)?);
        Ok(if negated {
            operand.clone().lt(low).or(operand.gt(high))
        } else {
            operand.clone().gt_eq(low).and(operand.lt_eq(high))
        })
    }

    /// IS ..., and what has a function behind it.
    fn predicate(&mut self, expr: &ast::Expr) -> Result<Expr> {
        use ast::Expr as E;
        Ok(match expr {
            E::IsNull(operand) => Expr::IsNull(self.boxed(operand)?),
            E::IsNotNull(operand) => Expr::IsNotNull(self.boxed(operand)?),
            E::IsTrue(operand) => Expr::IsTrue(self.boxed(operand)?),
            E::IsNotTrue(operand) => Expr::IsNotTrue(self.boxed(operand)?),
            E::IsFalse(operand) => Expr::IsFalse(self.boxed(operand)?),
            E::IsNotFalse(operand) => Expr::IsNotFalse(self.boxed(operand)?),
            E::IsUnknown(operand) => Expr::IsUnknown(self.boxed(operand)?),
            E::IsNotUnknown(operand) => Expr::IsNotUnknown(self.boxed(operand)?),
            E::IsDistinctFrom(left, right) => {
                binary(self.raw(left)?, Operator::IsDistinctFrom, self.raw(right)?)
            }
            E::IsNotDistinctFrom(left, right) => binary(
                self.raw(left)?,
                Operator::IsNotDistinctFrom,
                self.raw(right)?,
            ),
            E::InSubquery { .. } | E::Exists { .. } | E::Subquery(_)
                if self.scope.subqueries.iter().any(|(known, _)| known == expr) =>
            {
                let mut known = self.scope.subqueries.iter();
                match known.find(|(known, _)| known == expr) {
                    Some((_, value)) => value.clone(),
                    None => return Err(unsupported(expr)),
                }
            }
            E::InSubquery { .. } => return Err(SqlError::unsupported("IN (SELECT ...)").at(expr)),
            E::Exists { .. } => return Err(SqlError::unsupported("EXISTS").at(expr)),
            E::Subquery(_) => {
                return Err(SqlError::unsupported("a subquery as a value").at(expr));
            }
            E::GroupingSets(_) => return Err(SqlError::unsupported("GROUPING SETS").at(expr)),
            E::Cube(_) => return Err(SqlError::unsupported("CUBE").at(expr)),
            E::Rollup(_) => return Err(SqlError::unsupported("ROLLUP").at(expr)),
            _ => return call::special_form(self, expr),
        })
    }

    fn boxed(&mut self, expr: &ast::Expr) -> Result<Box<Expr>> {
        Ok(Box::new(self.raw(expr)?))
    }

    /// A column, a field of a ROW column, or one of the functions that are written like a name (CURRENT_TIMESTAMP).
    fn name(&mut self, names: &[ast::Ident], expr: &ast::Expr) -> Result<Expr> {
        match self.scope.resolve_in_sight(names) {
            Ok((index, fields)) => {
                let mut value = input_ref(index);
                for field in fields {
                    value = self
                        .field(value, &field.value)
                        .map_err(|e| e.at_location(field.span.start))?;
                }
                Ok(value)
            }
            Err(error) => match names {
                [name] if name.quote_style.is_none() => call::nullary(&name.value).ok_or(error),
                _ => Err(error.at(expr)),
            },
        }
    }

    /// `value.field`
    fn field(&self, value: Expr, name: &str) -> Result<Expr> {
        let (_, field) = coerce(value.clone(), &self.schema)?;
        let LogicalType::Row(fields) = &field.logical_type else {
            return Err(SqlError::new(format!(
                "{} has no field '{name}'",
                field.logical_type
            )));
        };
        if !fields.iter().any(|(known, _)| known == name) {
            let known = fields.iter().map(|(known, _)| known.as_str());
            return Err(SqlError::new(format!("unknown field '{name}'")).did_you_mean(name, known));
        }
        call::scalar(FIELD_ACCESS, vec![value, text(name)])
    }

    /// `value[1]`, `value['key']`, `value.field`
    fn access(&mut self, root: &ast::Expr, chain: &[AccessExpr]) -> Result<Expr> {
        let mut value = self.raw(root)?;
        for access in chain {
            value = match access {
                AccessExpr::Dot(ast::Expr::Identifier(name)) => self
                    .field(value, &name.value)
                    .map_err(|e| e.at_location(name.span.start))?,
                AccessExpr::Subscript(Subscript::Index { index }) => {
                    let index = self.raw(index)?;
                    self.item(value, index).map_err(|e| e.at(root))?
                }
                other => {
                    return Err(SqlError::unsupported(format!("the access {other}")).at(root));
                }
            };
        }
        Ok(value)
    }

    /// An element of an array, the value of a map's key, or a field of a row by its name.
    fn item(&self, value: Expr, index: Expr) -> Result<Expr> {
        let (_, field) = coerce(value.clone(), &self.schema)?;
        match (&field.logical_type, &index) {
            (LogicalType::Row(_), Expr::Literal(ScalarValue::Utf8(Some(name)), _)) => {
                self.field(value, name)
            }
            (LogicalType::Row(fields), Expr::Literal(ScalarValue::Int32(Some(place)), _)) => {
                let place = usize::try_from(place - 1).ok();
                match place.and_then(|place| fields.get(place)) {
                    Some((name, _)) => self.field(value, name),
                    None => Err(SqlError::new(format!(
                        "the row has {} fields, counted from 1",
                        fields.len()
                    ))),
                }
            }
            _ => call::scalar("ITEM", vec![value, index]),
        }
    }

    /// `(a, b) OVERLAPS (c, d)`: the second of a pair is its other end, or how far that is.
    fn overlaps(&mut self, left: &ast::Expr, right: &ast::Expr, whole: &ast::Expr) -> Result<Expr> {
        let (first_low, first_high) = self.period(left, whole)?;
        let (second_low, second_high) = self.period(right, whole)?;
        let reaches = binary(first_high, Operator::GtEq, second_low);
        let starts = binary(second_high, Operator::GtEq, first_low);
        Ok(binary(reaches, Operator::And, starts))
    }

    fn period(&mut self, pair: &ast::Expr, whole: &ast::Expr) -> Result<(Expr, Expr)> {
        let ast::Expr::Tuple(ends) = pair else {
            return Err(unsupported(whole));
        };
        let [start, end] = ends.as_slice() else {
            return Err(SqlError::new("OVERLAPS takes pairs (start, end)").at(pair));
        };
        let (start, mut end) = (self.raw(start)?, self.raw(end)?);
        let (_, field) = coerce(end.clone(), &self.schema).map_err(|error| error.at(pair))?;
        let interval = [LogicalType::IntervalDayTime, LogicalType::IntervalYearMonth];
        if interval.contains(&field.logical_type) {
            end = binary(start.clone(), Operator::Plus, end);
        }
        let low = call::scalar("LEAST", vec![start.clone(), end.clone()])?;
        Ok((low, call::scalar("GREATEST", vec![start, end])?))
    }

    fn binary(
        &mut self,
        left: &ast::Expr,
        op: &BinaryOperator,
        right: &ast::Expr,
        whole: &ast::Expr,
    ) -> Result<Expr> {
        if *op == BinaryOperator::Overlaps {
            return self.overlaps(left, right, whole);
        }
        let op = match op {
            BinaryOperator::Plus => Operator::Plus,
            BinaryOperator::Minus => Operator::Minus,
            BinaryOperator::Multiply => Operator::Multiply,
            BinaryOperator::Divide => Operator::Divide,
            BinaryOperator::Modulo => Operator::Modulo,
            BinaryOperator::StringConcat => Operator::StringConcat,
            BinaryOperator::Gt => Operator::Gt,
            BinaryOperator::Lt => Operator::Lt,
            BinaryOperator::GtEq => Operator::GtEq,
            BinaryOperator::LtEq => Operator::LtEq,
            BinaryOperator::Eq => Operator::Eq,
            BinaryOperator::NotEq => Operator::NotEq,
            BinaryOperator::And => Operator::And,
            BinaryOperator::Or => Operator::Or,
            other => {
                return Err(SqlError::unsupported(format!("the operator {other}")).at(whole));
            }
        };
        Ok(binary(self.raw(left)?, op, self.raw(right)?))
    }

    fn unary(
        &mut self,
        op: &UnaryOperator,
        operand: &ast::Expr,
        whole: &ast::Expr,
    ) -> Result<Expr> {
        match op {
            UnaryOperator::Plus => self.raw(operand),
            UnaryOperator::Not => Ok(Expr::Not(self.boxed(operand)?)),
            UnaryOperator::Minus => {
                // -2147483648 is an INT although 2147483648 is none.
                if let ast::Expr::Value(value) = operand
                    && let ast::Value::Number(digits, long) = &value.value
                {
                    let negative = ast::Value::Number(format!("-{digits}"), *long);
                    if let Ok(value) = literal::value(&negative) {
                        return Ok(literal_expr(value));
                    }
                }
                let value = self.raw(operand)?;
                if let Ok((_, field)) = coerce(value.clone(), &self.schema)
                    && matches!(
                        field.logical_type,
                        LogicalType::Boolean | LogicalType::Char(_) | LogicalType::VarChar(_)
                    )
                {
                    let given = &field.logical_type;
                    return Err(SqlError::new(format!("'-' does not take {given}")).at(whole));
                }
                Ok(Expr::Negative(Box::new(value)))
            }
            other => Err(SqlError::unsupported(format!("the operator {other}")).at(whole)),
        }
    }

    /// `CASE x WHEN a` is `CASE WHEN x = a`.
    fn case(
        &mut self,
        operand: Option<&ast::Expr>,
        conditions: &[ast::CaseWhen],
        else_result: Option<&ast::Expr>,
    ) -> Result<Expr> {
        let mut branches = Vec::with_capacity(conditions.len());
        for branch in conditions {
            let mut condition = self.raw(&branch.condition)?;
            if let Some(operand) = operand {
                condition = self.raw(operand)?.eq(condition);
            }
            branches.push((Box::new(condition), self.boxed(&branch.result)?));
        }
        let otherwise = else_result.map(|result| self.boxed(result)).transpose()?;
        Ok(Expr::Case(Case::new(None, branches, otherwise)))
    }

    fn cast(
        &mut self,
        kind: &ast::CastKind,
        operand: &ast::Expr,
        data_type: &ast::DataType,
        whole: &ast::Expr,
    ) -> Result<Expr> {
        let target = crate::types::from_ast(data_type).map_err(|error| error.at(whole))?;
        let value = self.boxed(operand)?;
        let field = std::sync::Arc::new(LogicalField::nullable(target).to_field("cast"));
        Ok(match kind {
            ast::CastKind::Cast => Expr::Cast(datafusion_expr::Cast::new_from_field(value, field)),
            ast::CastKind::TryCast => {
                Expr::TryCast(datafusion_expr::TryCast::new_from_field(value, field))
            }
            _ => {
                return Err(SqlError::new("Flink's SQL has no such cast")
                    .at(whole)
                    .hint("write CAST(value AS TYPE)"));
            }
        })
    }
}

/// The function behind `row.field`.
pub(super) const FIELD_ACCESS: &str = "__field";

/// DATE '2020-01-31'
fn typed_literal(typed: &ast::TypedString, expr: &ast::Expr) -> Result<Expr> {
    let ast::Value::SingleQuotedString(text) = &typed.value.value else {
        return Err(unsupported(expr));
    };
    crate::types::from_ast(&typed.data_type)
        .and_then(|data_type| literal::typed(&data_type, text))
        .map_err(|error| error.at(expr))
}

/// An error that names a form of expression which is not built.
pub(super) fn unsupported(expr: &ast::Expr) -> SqlError {
    SqlError::unsupported(format!("the expression {expr}")).at(expr)
}

pub(super) fn binary(left: Expr, op: Operator, right: Expr) -> Expr {
    Expr::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right)))
}

pub(super) fn literal_expr(value: ScalarValue) -> Expr {
    Expr::Literal(value, None)
}

/// A text literal.
pub(super) fn text(value: &str) -> Expr {
    literal_expr(ScalarValue::Utf8(Some(value.to_owned())))
}

pub(super) fn escape(escape: Option<&ast::ValueWithSpan>) -> Result<Option<char>> {
    let Some(value) = escape else { return Ok(None) };
    match &value.value {
        ast::Value::SingleQuotedString(text) if text.chars().count() == 1 => {
            Ok(text.chars().next())
        }
        other => Err(SqlError::new(format!(
            "ESCAPE takes one character, not {other}"
        ))),
    }
}

/// Writes Flink's implicit casts into an expression over the columns of `schema`; with the type of the result.
pub(super) fn coerce(expr: Expr, schema: &DFSchema) -> Result<(Expr, LogicalField)> {
    let coercer = Coercer {
        time_zone: zone::of_session(),
    };
    let coerced = coercer
        .expr(expr, schema)
        .map_err(|error| SqlError::new(error.to_string()))?;
    let field = type_of(&coerced, schema)?;
    Ok((fold(coerced, schema), field))
}

/// The type of a coerced expression.
pub(super) fn type_of(expr: &Expr, schema: &DFSchema) -> Result<LogicalField> {
    let (_, field) = expr
        .to_field(schema)
        .map_err(|error| super::error::translate(&error))?;
    LogicalField::from_field(&field).ok_or_else(|| {
        SqlError::new(format!(
            "an expression has the type {}, which SQL does not have",
            field.data_type()
        ))
    })
}

/// WHERE, HAVING, ON and FILTER take a BOOLEAN.
pub(super) fn check_condition(clause: &str, field: &LogicalField) -> Result<()> {
    match field.logical_type {
        LogicalType::Boolean | LogicalType::Null => Ok(()),
        _ => Err(SqlError::new(format!(
            "{clause} takes a BOOLEAN, not {}",
            field.logical_type
        ))),
    }
}

/// Columns of a projection: names and types.
pub(super) fn column(name: &str, field: LogicalField) -> Column {
    Column {
        name: name.to_owned(),
        field,
        time: None,
    }
}
