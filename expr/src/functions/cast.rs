//! `__cast(value, from, to[, zone])` and `__try_cast`: the types stand as SQL text, since an expression that travels loses what Arrow
//! does not know of a type.

use arrow::array::ArrayRef;
use datafusion_common::{Result, internal_datafusion_err, plan_err};
use weir_dataflow::types::LogicalType;

use super::call::Call;
use super::function::Function;
use super::params::{Argument, Param, Returns};
use crate::cast::{Casting, OnError};
use crate::type_text;
use crate::value::zone::Zone;

const PARAMS: &[Param] = &[Param::Any, Param::Text, Param::Text, Param::Text];

pub(super) fn functions() -> Vec<Function> {
    vec![
        Function::new("__cast", PARAMS, Returns::Rule(target), |call| {
            cast(call, OnError::Fail)
        })
        .optional(1),
        Function::new("__try_cast", PARAMS, Returns::Rule(target), |call| {
            cast(call, OnError::Null)
        })
        .optional(1),
    ]
}

fn target(arguments: &[Argument]) -> Result<LogicalType> {
    match arguments[2].text().and_then(type_text::parse) {
        Some(target) => Ok(target),
        None => plan_err!("__cast wants a type's text as its third argument"),
    }
}

fn cast(call: &Call, on_error: OnError) -> Result<ArrayRef> {
    let parse = |index: usize| {
        let text = call.literal(index)?;
        type_text::parse(text).ok_or_else(|| internal_datafusion_err!("'{text}' is no type"))
    };
    let (from, to) = (parse(1)?, parse(2)?);
    let zone = match call.len() {
        4.. => zone(call.literal(3)?)?,
        _ => Zone::Utc,
    };
    let casting = Casting { on_error, zone };
    casting.cast(&call.array(0)?, &from, &to)
}

/// A time zone by its name.
pub(super) fn zone(name: &str) -> Result<Zone> {
    match Zone::parse(name) {
        Some(zone) => Ok(zone),
        None => plan_err!("'{name}' is no time zone"),
    }
}
