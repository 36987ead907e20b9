//! Flink's type rules: the common type of several, and the result type of arithmetic. No expressions here.

use weir_dataflow::types::{LogicalField, LogicalType};

use LogicalType as T;

/// STRING
pub const STRING: LogicalType = LogicalType::VarChar(u32::MAX);
/// BYTES
pub const BYTES: LogicalType = LogicalType::VarBinary(u32::MAX);

const MAX_PRECISION: i32 = 38;

/// TINYINT to DECIMAL.
pub fn is_numeric(logical_type: &LogicalType) -> bool {
    is_exact(logical_type) || matches!(logical_type, T::Float | T::Double)
}

/// A number that is not approximate.
pub fn is_exact(logical_type: &LogicalType) -> bool {
    is_integer(logical_type) || matches!(logical_type, T::Decimal(..))
}

/// TINYINT, SMALLINT, INT, BIGINT.
pub fn is_integer(logical_type: &LogicalType) -> bool {
    matches!(logical_type, T::TinyInt | T::SmallInt | T::Int | T::BigInt)
}

/// CHAR, VARCHAR, STRING.
pub fn is_text(logical_type: &LogicalType) -> bool {
    matches!(logical_type, T::Char(_) | T::VarChar(_))
}

/// DATE, TIME and the timestamps.
pub fn is_temporal(logical_type: &LogicalType) -> bool {
    matches!(
        logical_type,
        T::Date | T::Time(_) | T::Timestamp(_) | T::TimestampLtz(_)
    )
}

/// INTERVAL of either kind.
pub fn is_interval(logical_type: &LogicalType) -> bool {
    matches!(logical_type, T::IntervalDayTime | T::IntervalYearMonth)
}

/// Precision and scale of an exact number, seen as a DECIMAL.
pub fn as_decimal(logical_type: &LogicalType) -> Option<(u8, i8)> {
    Some(match logical_type {
        T::TinyInt => (3, 0),
        T::SmallInt => (5, 0),
        T::Int => (10, 0),
        T::BigInt => (19, 0),
        T::Decimal(precision, scale) => (*precision, *scale),
        _ => return None,
    })
}

/// The type that all of `types` can be brought to, for CASE, COALESCE, UNION, IN and the like. Bare NULLs have no say.
/// `None` if there is none.
pub fn common_type(types: &[LogicalType]) -> Option<LogicalType> {
    let mut result: Option<LogicalType> = None;
    for logical_type in types.iter().filter(|t| **t != T::Null) {
        result = Some(match result {
            None => logical_type.clone(),
            Some(so_far) => common_of_two(&so_far, logical_type)?,
        });
    }
    Some(result.unwrap_or(T::Null))
}

fn common_of_two(left: &LogicalType, right: &LogicalType) -> Option<LogicalType> {
    if left == right {
        return Some(left.clone());
    }
    if is_numeric(left) && is_numeric(right) {
        return Some(common_number(left, right));
    }
    Some(match (left, right) {
        (T::Char(a), T::Char(b)) | (T::VarChar(a) | T::Char(a), T::VarChar(b) | T::Char(b)) => {
            T::VarChar(*a.max(b))
        }
        (T::Binary(a) | T::VarBinary(a), T::Binary(b) | T::VarBinary(b)) => T::VarBinary(*a.max(b)),
        (T::Time(a), T::Time(b)) => T::Time(*a.max(b)),
        (T::Timestamp(a), T::Timestamp(b)) => T::Timestamp(*a.max(b)),
        (T::Timestamp(a) | T::TimestampLtz(a), T::Timestamp(b) | T::TimestampLtz(b)) => {
            T::TimestampLtz(*a.max(b))
        }
        (T::Date, other @ (T::Timestamp(_) | T::TimestampLtz(_)))
        | (other @ (T::Timestamp(_) | T::TimestampLtz(_)), T::Date) => other.clone(),
        (T::Array(a), T::Array(b)) => T::Array(Box::new(common_field(a, b)?)),
        (T::Multiset(a), T::Multiset(b)) => T::Multiset(Box::new(common_field(a, b)?)),
        (T::Map(ka, va), T::Map(kb, vb)) => T::Map(
            Box::new(common_field(ka, kb)?),
            Box::new(common_field(va, vb)?),
        ),
        (T::Row(a), T::Row(b)) if a.len() == b.len() => T::Row(
            a.iter()
                .zip(b)
                .map(|((name, a), (_, b))| Some((name.clone(), common_field(a, b)?)))
                .collect::<Option<_>>()?,
        ),
        _ => return None,
    })
}

fn common_field(left: &LogicalField, right: &LogicalField) -> Option<LogicalField> {
    let pair = [left.logical_type.clone(), right.logical_type.clone()];
    Some(LogicalField {
        logical_type: common_type(&pair)?,
        nullable: left.nullable || right.nullable,
    })
}

/// Both are numeric.
fn common_number(left: &LogicalType, right: &LogicalType) -> LogicalType {
    let decimal = |t: &LogicalType| matches!(t, T::Decimal(..));
    if *left == T::Double || *right == T::Double {
        return T::Double;
    }
    match (left, right) {
        (T::Float, other) | (other, T::Float) => {
            return if decimal(other) { T::Double } else { T::Float };
        }
        _ => {}
    }
    let ((p1, s1), (p2, s2)) = match (as_decimal(left), as_decimal(right)) {
        (Some(left), Some(right)) => (left, right),
        _ => return T::Double,
    };
    if !decimal(left) && !decimal(right) {
        return if p1 >= p2 {
            left.clone()
        } else {
            right.clone()
        };
    }
    let whole = (i32::from(p1) - i32::from(s1)).max(i32::from(p2) - i32::from(s2));
    let whole = whole.min(MAX_PRECISION);
    let scale = i32::from(s1.max(s2)).min(MAX_PRECISION - whole);
    T::Decimal((whole + scale) as u8, scale as i8)
}

/// The arithmetic operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Arithmetic {
    /// +
    Plus,
    /// -
    Minus,
    /// *
    Times,
    /// /
    Divide,
    /// % and MOD
    Modulo,
}

impl Arithmetic {
    /// As in SQL.
    pub fn symbol(self) -> &'static str {
        match self {
            Self::Plus => "+",
            Self::Minus => "-",
            Self::Times => "*",
            Self::Divide => "/",
            Self::Modulo => "%",
        }
    }
}

/// The type of `left op right` over numbers and intervals; `None` if the operator is not defined for them. Dates and times are
/// [`temporal_result`]'s.
pub fn arithmetic_result(
    op: Arithmetic,
    left: &LogicalType,
    right: &LogicalType,
) -> Option<LogicalType> {
    match (left, right) {
        (T::Null, T::Null) => return Some(T::Int),
        (T::Null, other) | (other, T::Null) if is_numeric(other) => return Some(other.clone()),
        _ => {}
    }
    if !is_numeric(left) || !is_numeric(right) {
        return interval_result(op, left, right);
    }
    let any_decimal = matches!(left, T::Decimal(..)) || matches!(right, T::Decimal(..));
    match (as_decimal(left), as_decimal(right)) {
        (Some((p1, s1)), Some((p2, s2))) if any_decimal => {
            Some(decimal_result(op, (p1, s1), (p2, s2)))
        }
        _ => Some(common_number(left, right)),
    }
}

fn interval_result(op: Arithmetic, left: &LogicalType, right: &LogicalType) -> Option<LogicalType> {
    match op {
        Arithmetic::Plus | Arithmetic::Minus if is_interval(left) && left == right => {
            Some(left.clone())
        }
        Arithmetic::Times if is_interval(left) && is_numeric(right) => Some(left.clone()),
        Arithmetic::Times if is_numeric(left) && is_interval(right) => Some(right.clone()),
        Arithmetic::Divide if is_interval(left) && is_numeric(right) => Some(left.clone()),
        _ => None,
    }
}

/// The type of a date or time plus or minus an interval.
pub fn temporal_result(left: &LogicalType, right: &LogicalType) -> Option<LogicalType> {
    let (point, interval) = if is_interval(right) {
        (left, right)
    } else {
        (right, left)
    };
    if !is_interval(interval) {
        return None;
    }
    Some(match point {
        T::Date | T::Time(_) | T::Timestamp(_) | T::TimestampLtz(_) => point.clone(),
        _ => return None,
    })
}

/// Precision and scale of decimal arithmetic, as SQL Server has them; over 38 digits the fraction gives way first.
pub fn decimal_result(op: Arithmetic, left: (u8, i8), right: (u8, i8)) -> LogicalType {
    let (p1, s1) = (i32::from(left.0), i32::from(left.1));
    let (p2, s2) = (i32::from(right.0), i32::from(right.1));
    let (precision, scale) = match op {
        Arithmetic::Plus | Arithmetic::Minus => {
            let scale = s1.max(s2);
            ((p1 - s1).max(p2 - s2) + scale + 1, scale)
        }
        Arithmetic::Times => (p1 + p2 + 1, s1 + s2),
        Arithmetic::Divide => {
            let scale = 6.max(s1 + p2 + 1);
            (p1 - s1 + s2 + scale, scale)
        }
        Arithmetic::Modulo => {
            let scale = s1.max(s2);
            ((p1 - s1).min(p2 - s2) + scale, scale)
        }
    };
    if precision <= MAX_PRECISION {
        return T::Decimal(precision.max(1) as u8, scale as i8);
    }
    let scale = (MAX_PRECISION - (precision - scale)).max(scale.min(6));
    T::Decimal(MAX_PRECISION as u8, scale as i8)
}

/// ROUND of a DECIMAL to `digits` places.
pub fn round_result(precision: u8, scale: i8, digits: i64) -> LogicalType {
    let (p, s) = (i64::from(precision), i64::from(scale));
    if digits >= s {
        return T::Decimal(precision, scale);
    }
    if digits < 0 {
        return T::Decimal((1 + p - s).clamp(1, 38) as u8, 0);
    }
    T::Decimal((1 + p - s + digits) as u8, digits as i8)
}

/// The type in which two operands are compared: the common one; a string against a time or BOOLEAN is read as the other's type. A string
/// and a number are not compared, nor are a DATE and a TIMESTAMP: Flink wants a CAST there.
pub fn comparison_type(left: &LogicalType, right: &LogicalType) -> Option<LogicalType> {
    if (*left == T::Date) != (*right == T::Date) && is_temporal(left) && is_temporal(right) {
        return None;
    }
    let pair = [left.clone(), right.clone()];
    if let Some(common) = common_type(&pair) {
        return Some(common);
    }
    let readable = |t: &LogicalType| is_temporal(t) || *t == T::Boolean;
    match (left, right) {
        (text, other) | (other, text) if is_text(text) && readable(other) => Some(other.clone()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Arithmetic::*;

    #[test]
    fn decimals_as_in_flink() {
        let cases = [
            (Times, T::Decimal(3, 3), T::BigInt, T::Decimal(23, 3)),
            (
                Times,
                T::Decimal(10, 2),
                T::Decimal(10, 2),
                T::Decimal(21, 4),
            ),
            (
                Times,
                T::Decimal(38, 18),
                T::Decimal(38, 18),
                T::Decimal(38, 6),
            ),
            (Plus, T::Decimal(10, 2), T::Decimal(5, 4), T::Decimal(13, 4)),
            (
                Plus,
                T::Decimal(38, 8),
                T::Decimal(32, 8),
                T::Decimal(38, 7),
            ),
            (Minus, T::Int, T::Decimal(2, 1), T::Decimal(12, 1)),
            (
                Divide,
                T::Decimal(10, 2),
                T::Decimal(10, 2),
                T::Decimal(23, 13),
            ),
            (Divide, T::Int, T::Decimal(10, 2), T::Decimal(23, 11)),
            (
                Modulo,
                T::Decimal(10, 2),
                T::Decimal(5, 1),
                T::Decimal(6, 2),
            ),
            (Plus, T::Int, T::BigInt, T::BigInt),
            (Plus, T::TinyInt, T::SmallInt, T::SmallInt),
            (Divide, T::Int, T::Int, T::Int),
            (Times, T::Float, T::BigInt, T::Float),
            (Times, T::Float, T::Decimal(5, 2), T::Double),
            (Plus, T::Decimal(5, 2), T::Double, T::Double),
            (Times, T::IntervalDayTime, T::Int, T::IntervalDayTime),
        ];
        for (op, left, right, expected) in cases {
            let found = arithmetic_result(op, &left, &right);
            assert_eq!(found, Some(expected), "{left} {} {right}", op.symbol());
        }
        assert_eq!(arithmetic_result(Plus, &STRING, &T::Int), None);
        assert_eq!(arithmetic_result(Plus, &T::Boolean, &T::Int), None);
    }

    #[test]
    fn common_types_as_in_flink() {
        let cases: &[(&[LogicalType], Option<LogicalType>)] = &[
            (
                &[T::Int, T::BigInt, T::Decimal(2, 2)],
                Some(T::Decimal(21, 2)),
            ),
            (&[T::Null, T::Char(3), T::Char(5)], Some(T::VarChar(5))),
            (&[T::Char(3), STRING], Some(STRING)),
            (&[T::Float, T::Int], Some(T::Float)),
            (&[T::Float, T::Decimal(4, 2)], Some(T::Double)),
            (&[T::Timestamp(3), T::Timestamp(6)], Some(T::Timestamp(6))),
            (
                &[T::Timestamp(3), T::TimestampLtz(0)],
                Some(T::TimestampLtz(3)),
            ),
            (&[T::Date, T::Timestamp(3)], Some(T::Timestamp(3))),
            (&[T::Int, STRING], None),
            (&[T::Null], Some(T::Null)),
        ];
        for (types, expected) in cases {
            assert_eq!(common_type(types), *expected, "{types:?}");
        }
        assert_eq!(comparison_type(&STRING, &T::Int), None);
        assert_eq!(comparison_type(&T::Date, &T::Timestamp(3)), None);
        assert_eq!(comparison_type(&T::Date, &STRING), Some(T::Date));
    }
}
