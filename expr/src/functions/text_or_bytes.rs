//! Functions that take strings or bytes, but not both at once: STARTSWITH, ENDSWITH, ELT.

use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray};
use arrow::datatypes::{DataType, Int64Type};
use datafusion_common::{Result, plan_err};
use weir_dataflow::types::LogicalType;

use super::call::{Call, booleans, put, texts};
use super::function::Function;
use super::params::{Argument, Param, Returns};
use crate::coerce::types::{BYTES, STRING};

use LogicalType as T;

const TWO: &[Param] = &[Param::TextOrBytes, Param::TextOrBytes];
const ELT: &[Param] = &[Param::BigInt, Param::TextOrBytes];

pub(super) fn functions() -> Vec<Function> {
    vec![
        Function::new("STARTSWITH", TWO, Returns::Rule(affix_result), |call| {
            affix(call, <[u8]>::starts_with)
        })
        .strict(),
        Function::new("ENDSWITH", TWO, Returns::Rule(affix_result), |call| {
            affix(call, <[u8]>::ends_with)
        })
        .strict(),
        Function::new("ELT", ELT, Returns::Rule(elt_result), elt).variadic(),
    ]
}

/// Whether the arguments are bytes; fails if only some of them are. Bare NULLs are either.
fn are_bytes(name: &str, arguments: &[Argument]) -> Result<bool> {
    let is_bytes = |argument: &Argument| {
        let given = &argument.logical_type;
        matches!(given, T::Binary(_) | T::VarBinary(_))
    };
    let is_null = |argument: &Argument| {
        argument
            .literal
            .is_some_and(datafusion_common::ScalarValue::is_null)
    };
    let bytes = arguments.iter().any(is_bytes);
    if bytes && !arguments.iter().all(|arg| is_bytes(arg) || is_null(arg)) {
        return plan_err!("{name} takes strings only or bytes only, not both");
    }
    Ok(bytes)
}

fn affix_result(arguments: &[Argument]) -> Result<LogicalType> {
    are_bytes("STARTSWITH or ENDSWITH", arguments).map(|_| T::Boolean)
}

fn elt_result(arguments: &[Argument]) -> Result<LogicalType> {
    if let Some(place) = arguments[0].integer()
        && place < 0
    {
        return plan_err!("the place in ELT is 0 or more, not {place}");
    }
    let bytes = are_bytes("ELT", &arguments[1..])?;
    Ok(if bytes { BYTES } else { STRING })
}

type ByteReader<'a> = Box<dyn Fn(usize) -> Option<&'a [u8]> + 'a>;

/// The bytes of an argument's rows; a text is compared by its bytes, too.
fn bytes_of(call: &Call, index: usize) -> Result<ByteReader<'_>> {
    Ok(if *call.data_type(index)? == DataType::Binary {
        let bytes = call.bytes(index)?;
        Box::new(move |row| bytes.get(row))
    } else {
        let text = call.text(index)?;
        Box::new(move |row| text.get(row).map(str::as_bytes))
    })
}

fn affix(call: &Call, holds: fn(&[u8], &[u8]) -> bool) -> Result<ArrayRef> {
    let (whole, part) = (bytes_of(call, 0)?, bytes_of(call, 1)?);
    booleans(call.rows, |row| Some(holds(whole(row)?, part(row)?)))
}

/// The argument with that number, NULL if there is none.
fn elt(call: &Call) -> Result<ArrayRef> {
    let index = call.primitive::<Int64Type>(0)?;
    let place = |row: usize| usize::try_from(index.get(row)?.checked_sub(1)?).ok();
    if call.returns == DataType::Binary {
        let parts = (1..call.len())
            .map(|index| bytes_of(call, index))
            .collect::<Result<Vec<_>>>()?;
        let part = |row: usize| parts.get(place(row)?)?(row);
        let found: BinaryArray = (0..call.rows).map(part).collect();
        return Ok(Arc::new(found));
    }
    let parts = (1..call.len())
        .map(|index| call.text(index))
        .collect::<Result<Vec<_>>>()?;
    texts(call.rows, |row, out| {
        put(out, parts.get(place(row)?)?.get(row)?);
        Some(())
    })
}

#[cfg(test)]
mod tests {
    use crate::coerce::types::STRING;
    use crate::testing::*;

    #[test]
    fn strings_or_bytes() {
        check(vec![
            ("STARTSWITH", args!["flink", "fl"], "TRUE"),
            ("ENDSWITH", args!["flink", "fl"], "FALSE"),
            ("STARTSWITH", args!["flink", ""], "TRUE"),
            ("ENDSWITH", args![null(STRING), "x"], "NULL"),
            ("ELT", args![2, "a", "b"], "b"),
            ("ELT", args![3, "a", "b"], "NULL"),
            ("ELT", args![fixed(-1), "a"], "ERROR"),
        ]);
    }
}
