//! CAST and TRY_CAST as Flink has them.
//!
//! Invariant: a cast is given both exact types, since precision and length are not in Arrow's types. A number that does not fit into a
//! DECIMAL becomes NULL; everything else that can't be cast is an error ([`OnError::Fail`]) or NULL ([`OnError::Null`], TRY_CAST).

mod from_text;
mod nested;
mod number;
pub(crate) mod temporal;
mod text;

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, BooleanArray, new_null_array};
use arrow::array::{AsArray, PrimitiveBuilder};
use datafusion_common::{Result, exec_err};
use weir_dataflow::types::LogicalType;

use crate::coerce::types::{is_integer, is_numeric, is_temporal, is_text};
use crate::value::zone::Zone;

use LogicalType as T;

/// What a value that can't be cast becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnError {
    /// The job fails.
    Fail,
    /// NULL
    Null,
}

/// How values are cast.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Casting {
    pub on_error: OnError,
    /// Of the session: between TIMESTAMP_LTZ and everything else.
    pub zone: Zone,
}

/// Casts all values between two types, in the session time zone UTC.
///
/// # Errors
/// If a value can't be cast and `on_error` says so, or if there is no cast between the types.
pub fn cast_array(
    array: &ArrayRef,
    from: &LogicalType,
    to: &LogicalType,
    on_error: OnError,
) -> crate::Result<ArrayRef> {
    let casting = Casting {
        on_error,
        zone: Zone::Utc,
    };
    Ok(casting.cast(array, from, to)?)
}

/// Whether there is a cast between the types at all.
pub fn is_castable(from: &LogicalType, to: &LogicalType) -> bool {
    if from == to || *from == T::Null {
        return true;
    }
    match (from, to) {
        (_, T::Char(_) | T::VarChar(_)) => true,
        (_, T::Null) => false,
        (T::Char(_) | T::VarChar(_), _) => {
            is_numeric(to) || is_temporal(to) || matches!(to, T::Boolean) || is_bytes(to)
        }
        (T::Boolean, _) => is_numeric(to),
        (_, T::Boolean) => is_numeric(from),
        (T::Array(a), T::Array(b)) | (T::Multiset(a), T::Multiset(b)) => {
            is_castable(&a.logical_type, &b.logical_type)
        }
        (T::Map(ka, va), T::Map(kb, vb)) => {
            is_castable(&ka.logical_type, &kb.logical_type)
                && is_castable(&va.logical_type, &vb.logical_type)
        }
        (T::Row(a), T::Row(b)) => {
            a.len() == b.len()
                && a.iter()
                    .zip(b)
                    .all(|((_, a), (_, b))| is_castable(&a.logical_type, &b.logical_type))
        }
        (T::Date, T::Time(_)) | (T::Time(_), T::Date) => false,
        _ => {
            (is_numeric(from) && is_numeric(to))
                || (is_temporal(from) && is_temporal(to))
                || (is_bytes(from) && is_bytes(to))
        }
    }
}

fn is_bytes(logical_type: &LogicalType) -> bool {
    matches!(logical_type, T::Binary(_) | T::VarBinary(_))
}

/// Whether DataFusion's own cast (Arrow's kernel) gives Flink's result: numbers that only get wider.
pub(crate) fn is_plain_widening(from: &LogicalType, to: &LogicalType) -> bool {
    match (from, to) {
        (a, b) if a.to_arrow() == b.to_arrow() => is_numeric(a) || is_same_text(a, b),
        (T::Null, _) => true,
        (a, T::Float | T::Double) => is_integer(a) || *a == T::Float,
        (a, b) if is_integer(a) && is_integer(b) => width(a) <= width(b),
        _ => false,
    }
}

/// A string that loses nothing by becoming the other string type.
fn is_same_text(from: &LogicalType, to: &LogicalType) -> bool {
    match (from, to) {
        (T::Char(a) | T::VarChar(a), T::VarChar(b)) => a <= b,
        (T::Char(a), T::Char(b)) => a == b,
        _ => from == to,
    }
}

fn width(integer: &LogicalType) -> u8 {
    match integer {
        T::TinyInt => 1,
        T::SmallInt => 2,
        T::Int => 4,
        _ => 8,
    }
}

impl Casting {
    pub(crate) fn cast(
        &self,
        array: &ArrayRef,
        from: &LogicalType,
        to: &LogicalType,
    ) -> Result<ArrayRef> {
        if *from == T::Null || array.null_count() == array.len() {
            return Ok(new_null_array(&to.to_arrow(), array.len()));
        }
        if from == to && *array.data_type() == to.to_arrow() {
            return Ok(Arc::clone(array));
        }
        match to {
            _ if is_text(to) => text::cast(array, from, to, self.zone),
            _ if is_text(from) => from_text::cast(array, to, self),
            T::Boolean if is_numeric(from) => number::to_boolean(array, from),
            _ if number::is_numeric_layout(from) && number::is_numeric_layout(to) => {
                number::cast(array, from, to)
            }
            _ if is_temporal(from) && is_temporal(to) => temporal::cast(array, from, to, self.zone),
            T::Binary(length) | T::VarBinary(length) if is_bytes(from) => {
                nested::cut_bytes(array, *length, matches!(to, T::Binary(_)))
            }
            T::Array(_) | T::Map(..) | T::Multiset(_) | T::Row(_) => {
                nested::cast(array, from, to, self)
            }
            _ => exec_err!("there is no cast from {from} to {to}"),
        }
    }

    /// Reads each string with `read`; `None` is a string that can't be read.
    fn read<P: ArrowPrimitiveType>(
        &self,
        array: &ArrayRef,
        to: &LogicalType,
        read: impl Fn(&str) -> Option<Option<P::Native>>,
    ) -> Result<ArrayRef> {
        let source = array.as_string::<i32>();
        let mut builder = PrimitiveBuilder::<P>::with_capacity(source.len());
        for value in source {
            let read = match value {
                None => None,
                Some(text) => match read(text.trim()) {
                    Some(value) => value,
                    None => self.unreadable(text, to)?,
                },
            };
            builder.append_option(read);
        }
        let array = builder.finish().with_data_type(to.to_arrow());
        Ok(Arc::new(array))
    }

    fn unreadable<V>(&self, text: &str, to: &LogicalType) -> Result<Option<V>> {
        match self.on_error {
            OnError::Null => Ok(None),
            OnError::Fail => exec_err!("cannot cast '{text}' to {to}; TRY_CAST gives NULL instead"),
        }
    }

    fn read_booleans(&self, array: &ArrayRef) -> Result<ArrayRef> {
        let mut values = Vec::with_capacity(array.len());
        for value in array.as_string::<i32>() {
            let read = match value {
                None => None,
                Some(text) => match from_text::boolean(text.trim()) {
                    Some(value) => Some(value),
                    None => self.unreadable(text, &T::Boolean)?,
                },
            };
            values.push(read);
        }
        Ok(Arc::new(BooleanArray::from(values)))
    }
}
