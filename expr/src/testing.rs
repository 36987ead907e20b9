//! Cases in one line: a function or operator, its arguments, the result as a text. Each case runs with literals and with columns, and
//! travels through the codec on its way.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, Schema};
use datafusion_common::metadata::FieldMetadata;
use datafusion_common::{DFSchema, ScalarValue};
use datafusion_expr::execution_props::ExecutionProps;
use datafusion_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion_expr::{Expr, col};
use datafusion_physical_expr::create_physical_expr;
use weir_dataflow::types::{LogicalField, LogicalType};

use crate::cast::{OnError, cast_array};
use crate::coerce::types::STRING;
use crate::coerce::{coerce_expr, type_of};
use crate::{codec, eval, functions};

use LogicalType as T;

/// An argument: its value and exact type.
#[derive(Debug, Clone)]
pub struct Arg {
    pub value: ScalarValue,
    pub logical_type: LogicalType,
    /// Must stay a literal (a unit, a type).
    pub fixed: bool,
}

impl Arg {
    fn new(value: ScalarValue, logical_type: LogicalType) -> Self {
        Self {
            value,
            logical_type,
            fixed: false,
        }
    }
}

impl From<&str> for Arg {
    fn from(text: &str) -> Self {
        Self::new(ScalarValue::from(text), STRING)
    }
}

impl From<i32> for Arg {
    fn from(value: i32) -> Self {
        Self::new(ScalarValue::Int32(Some(value)), T::Int)
    }
}

impl From<i64> for Arg {
    fn from(value: i64) -> Self {
        Self::new(ScalarValue::Int64(Some(value)), T::BigInt)
    }
}

impl From<f64> for Arg {
    fn from(value: f64) -> Self {
        Self::new(ScalarValue::Float64(Some(value)), T::Double)
    }
}

impl From<bool> for Arg {
    fn from(value: bool) -> Self {
        Self::new(ScalarValue::Boolean(Some(value)), T::Boolean)
    }
}

impl From<&[u8]> for Arg {
    fn from(value: &[u8]) -> Self {
        Self::new(
            ScalarValue::Binary(Some(value.to_vec())),
            T::VarBinary(u32::MAX),
        )
    }
}

/// Arguments of different types in a list.
macro_rules! args {
    ($($arg:expr),* $(,)?) => { vec![$($crate::testing::Arg::from($arg)),*] };
}
pub(crate) use args;

/// A value read from its text: `of("1.23", T::Decimal(3, 2))`.
pub fn of(text: &str, logical_type: LogicalType) -> Arg {
    let strings = ScalarValue::from(text).to_array().unwrap();
    let array = cast_array(&strings, &STRING, &logical_type, OnError::Fail).unwrap();
    Arg::new(
        ScalarValue::try_from_array(&array, 0).unwrap(),
        logical_type,
    )
}

pub fn ts(text: &str) -> Arg {
    of(text, T::Timestamp(3))
}

pub fn date(text: &str) -> Arg {
    of(text, T::Date)
}

pub fn dec(text: &str, precision: u8, scale: i8) -> Arg {
    of(text, T::Decimal(precision, scale))
}

pub fn null(logical_type: LogicalType) -> Arg {
    let value = ScalarValue::try_new_null(&logical_type.to_arrow()).unwrap();
    Arg::new(value, logical_type)
}

/// A text that must be a literal.
pub fn lit(text: &str) -> Arg {
    Arg {
        fixed: true,
        ..Arg::from(text)
    }
}

/// A number that must be a literal.
pub fn fixed(value: i32) -> Arg {
    Arg {
        fixed: true,
        ..Arg::from(value)
    }
}

pub fn day_time(millis: i64) -> Arg {
    Arg::new(
        ScalarValue::DurationMillisecond(Some(millis)),
        T::IntervalDayTime,
    )
}

pub fn months(months: i32) -> Arg {
    Arg::new(
        ScalarValue::IntervalYearMonth(Some(months)),
        T::IntervalYearMonth,
    )
}

/// An array of strings; "NULL" is a NULL.
pub fn texts(items: &[&str]) -> Arg {
    list(items, STRING)
}

/// An array of INTs.
pub fn ints(items: &[&str]) -> Arg {
    list(items, T::Int)
}

fn list(items: &[&str], element: LogicalType) -> Arg {
    let values: Vec<ScalarValue> = items
        .iter()
        .map(|item| match *item {
            "NULL" => null(element.clone()).value,
            text => of(text, element.clone()).value,
        })
        .collect();
    let list = ScalarValue::new_list_nullable(&values, &element.to_arrow());
    let logical_type = T::Array(Box::new(LogicalField::nullable(element)));
    Arg::new(ScalarValue::List(list), logical_type)
}

/// The column that stands for argument `index`, or its literal.
pub fn operand(args: &[Arg], index: usize, columns: bool) -> Expr {
    let arg = &args[index];
    if columns && !arg.fixed {
        return col(format!("c{index}"));
    }
    match &arg.value {
        // A literal of that type is written as a cast.
        ScalarValue::Int64(Some(value)) if i32::try_from(*value).is_ok() => {
            Expr::Cast(datafusion_expr::expr::Cast::new(
                Box::new(Expr::Literal(arg.value.clone(), None)),
                DataType::Int64,
            ))
        }
        value => {
            let field = LogicalField::nullable(arg.logical_type.clone()).to_field("");
            let metadata = FieldMetadata::new_from_field(&field);
            Expr::Literal(value.clone(), Some(metadata).filter(|m| !m.is_empty()))
        }
    }
}

/// A batch of one row with the arguments as columns.
pub fn batch(args: &[Arg]) -> RecordBatch {
    let fields: Vec<Field> = args
        .iter()
        .enumerate()
        .map(|(index, arg)| {
            LogicalField::nullable(arg.logical_type.clone()).to_field(&format!("c{index}"))
        })
        .collect();
    let columns = args
        .iter()
        .zip(&fields)
        .map(|(arg, field)| {
            let array = arg.value.to_array().unwrap();
            eval::conform(array, field).unwrap()
        })
        .collect();
    RecordBatch::try_new_with_options(
        Arc::new(Schema::new(fields)),
        columns,
        &RecordBatchOptions::new().with_row_count(Some(1)),
    )
    .unwrap()
}

/// Coerces, compiles, encodes, decodes and evaluates; the result as CAST(... AS STRING) gives it, and its type.
pub fn run(expr: Expr, args: &[Arg]) -> Result<(String, LogicalType), String> {
    let batch = batch(args);
    let schema = DFSchema::try_from(batch.schema().as_ref().clone()).unwrap();
    let expr = coerce_expr(expr, &schema).map_err(|error| error.to_string())?;
    let again = coerce_expr(expr.clone(), &schema).map_err(|error| error.to_string())?;
    assert_eq!(expr, again, "coercing twice changes the expression");
    let found = type_of(&expr, &schema).map_err(|error| error.to_string())?;
    let physical = create_physical_expr(
        &expr,
        &schema,
        &ExecutionProps::new(),
        &PhysicalPlanningContext::default(),
    )
    .map_err(|error| error.to_string())?;
    let bytes = codec::encode(&physical).map_err(|error| error.to_string())?;
    let physical = codec::decode(&bytes, batch.schema_ref()).map_err(|error| error.to_string())?;
    let array = eval::evaluate(physical.as_ref(), &batch).map_err(|error| error.to_string())?;
    assert_eq!(
        array.data_type(),
        &found.logical_type.to_arrow(),
        "type of {expr}"
    );
    assert!(
        found.nullable || array.null_count() == 0,
        "{expr} is NOT NULL"
    );
    let strings = cast_array(&array, &found.logical_type, &STRING, OnError::Fail)
        .map_err(|error| error.to_string())?;
    let strings = strings.as_string::<i32>();
    let text = if strings.is_null(0) {
        "NULL"
    } else {
        strings.value(0)
    };
    Ok((text.to_owned(), found.logical_type))
}

/// A call with literals and with columns; both must agree.
pub fn call(name: &str, args: &[Arg]) -> Result<(String, LogicalType), String> {
    let function = functions::lookup(name).ok_or(format!("no function {name}"))?;
    let expr = |columns: bool| {
        let operands = (0..args.len()).map(|index| operand(args, index, columns));
        function.call(operands.collect())
    };
    let literal = run(expr(false), args);
    let column = run(expr(true), args);
    match (&literal, &column) {
        (Ok((left, _)), Ok((right, _))) => {
            assert_eq!(left, right, "{name}{args:?} with literals and with columns");
        }
        (Ok(_), Err(error)) | (Err(error), Ok(_)) => {
            panic!("{name}{args:?}: literals and columns differ: {error}")
        }
        (Err(_), Err(_)) => {}
    }
    literal
}

/// All cases of a table; `ERROR` wants any error.
pub fn check(cases: Vec<(&str, Vec<Arg>, &str)>) {
    let mut failures = Vec::new();
    for (name, args, expected) in cases {
        let shown: Vec<String> = args.iter().map(|arg| arg.value.to_string()).collect();
        let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| call(name, &args)));
        let found = match outcome {
            Ok(Ok((text, _))) => text,
            Ok(Err(error)) if expected == "ERROR" => {
                let _ = error;
                "ERROR".to_owned()
            }
            Ok(Err(error)) => format!("error: {error}"),
            Err(panic) => format!("panic: {:?}", panic.downcast_ref::<String>()),
        };
        if found != expected {
            failures.push(format!(
                "{name}({}): {found}, not {expected}",
                shown.join(", ")
            ));
        }
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}
