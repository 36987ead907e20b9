//! PRINTF: values put into a text by Java's format specifiers. A specifier that does not fit its value makes the whole result NULL.
//!
//! Values are formatted as Flink keeps them: a DATE is its number of days, a TIME its milliseconds, a DECIMAL only a text.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use datafusion_common::{Result, plan_err};
use weir_dataflow::types::LogicalType;

use super::call::{Call, put, texts};
use super::function::Function;
use super::params::{Argument, Param, Returns};
use crate::cast::{OnError, cast_array};
use crate::coerce::types::STRING;
use crate::value::floating;

use LogicalType as T;

pub(super) fn functions() -> Vec<Function> {
    let params: &[Param] = &[Param::Text, Param::Any];
    vec![
        Function::new("PRINTF", params, Returns::Rule(result), printf)
            .optional(1)
            .variadic(),
    ]
}

fn result(arguments: &[Argument]) -> Result<LogicalType> {
    for argument in &arguments[1..] {
        if let nested @ (T::Array(_) | T::Map(..) | T::Multiset(_) | T::Row(_)) =
            &argument.logical_type
        {
            return plan_err!("PRINTF does not write {nested}; CAST it to STRING");
        }
    }
    Ok(STRING)
}

/// A column of values.
enum Values {
    Integers(ArrayRef),
    Floats(ArrayRef),
    Booleans(ArrayRef),
    Texts(ArrayRef),
    Nulls,
}

/// One of them.
enum Value {
    Null,
    Integer(i64),
    Float(f64),
    Boolean(bool),
    Text(String),
}

impl Values {
    fn new(array: &ArrayRef) -> Result<Self> {
        Ok(match array.data_type() {
            DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => {
                Self::Integers(cast(array, &DataType::Int64)?)
            }
            DataType::Date32 | DataType::Time32(_) => {
                let days = cast(array, &DataType::Int32)?;
                Self::Integers(cast(&days, &DataType::Int64)?)
            }
            DataType::Float32 | DataType::Float64 => Self::Floats(cast(array, &DataType::Float64)?),
            DataType::Boolean => Self::Booleans(array.clone()),
            DataType::Null => Self::Nulls,
            other => {
                let field = arrow::datatypes::Field::new("", other.clone(), true);
                let from = LogicalType::from_field(&field).unwrap_or(STRING);
                let texts = cast_array(array, &from, &STRING, OnError::Fail);
                let texts = texts
                    .map_err(|error| datafusion_common::exec_datafusion_err!("PRINTF: {error}"))?;
                Self::Texts(texts)
            }
        })
    }

    fn get(&self, row: usize) -> Value {
        let null = match self {
            Self::Integers(array)
            | Self::Floats(array)
            | Self::Booleans(array)
            | Self::Texts(array) => array.is_null(row),
            Self::Nulls => true,
        };
        match self {
            _ if null => Value::Null,
            Self::Integers(array) => Value::Integer(array.as_primitive::<Int64Type>().value(row)),
            Self::Floats(array) => Value::Float(array.as_primitive::<Float64Type>().value(row)),
            Self::Booleans(array) => Value::Boolean(array.as_boolean().value(row)),
            Self::Texts(array) => Value::Text(array.as_string::<i32>().value(row).to_owned()),
            Self::Nulls => Value::Null,
        }
    }
}

fn printf(call: &Call) -> Result<ArrayRef> {
    let format = call.text(0)?;
    let values = (1..call.len())
        .map(|index| Values::new(&call.array(index)?))
        .collect::<Result<Vec<_>>>()?;
    texts(call.rows, |row, out| {
        let values: Vec<Value> = values.iter().map(|values| values.get(row)).collect();
        put(out, &formatted(format.get(row)?, &values)?);
        Some(())
    })
}

/// `None` if a specifier is none, or has no value or one that does not fit.
fn formatted(format: &str, values: &[Value]) -> Option<String> {
    let mut out = String::with_capacity(format.len() + 16);
    let mut rest = format;
    let mut next = 0;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        let (specifier, behind) = Specifier::parse(&rest[at + 1..])?;
        rest = behind;
        match specifier.conversion {
            '%' => out.push_str(&specifier.padded("%".to_owned())?),
            'n' => out.push('\n'),
            _ => {
                let index = match specifier.index {
                    Some(index) => index.checked_sub(1)?,
                    None => {
                        next += 1;
                        next - 1
                    }
                };
                out.push_str(&specifier.write(values.get(index)?)?);
            }
        }
    }
    out.push_str(rest);
    Some(out)
}

/// `%[index$][flags][width][.precision]conversion`
struct Specifier {
    index: Option<usize>,
    flags: String,
    width: usize,
    precision: Option<usize>,
    conversion: char,
}

/// Widths and precisions above this are refused: nobody means them.
const WIDEST: usize = 10_000;

impl Specifier {
    fn parse(text: &str) -> Option<(Self, &str)> {
        fn number(text: &str) -> (Option<usize>, &str) {
            let end = text.bytes().take_while(u8::is_ascii_digit).count();
            let (digits, rest) = text.split_at(end);
            (digits.parse().ok().filter(|n| *n <= WIDEST), rest)
        }
        let (index, text) = match number(text) {
            (Some(index), rest) if rest.starts_with('$') => (Some(index), &rest[1..]),
            _ => (None, text),
        };
        let behind = text.trim_start_matches(['-', '#', '+', ' ', '0', ',', '(']);
        let flags = text[..text.len() - behind.len()].to_owned();
        let (width, text) = number(behind);
        let (precision, text) = match text.strip_prefix('.') {
            Some(rest) => {
                let (precision, rest) = number(rest);
                (Some(precision?), rest)
            }
            None => (None, text),
        };
        let conversion = text.chars().next()?;
        let specifier = Self {
            index,
            flags,
            width: width.unwrap_or(0),
            precision,
            conversion,
        };
        Some((specifier, &text[conversion.len_utf8()..]))
    }

    fn has(&self, flag: char) -> bool {
        self.flags.contains(flag)
    }

    /// `-` needs a width.
    fn padded(&self, text: String) -> Option<String> {
        if self.has('-') && self.width == 0 {
            return None;
        }
        let missing = self.width.saturating_sub(text.chars().count());
        let blanks = " ".repeat(missing);
        Some(if self.has('-') {
            text + &blanks
        } else {
            blanks + &text
        })
    }

    fn write(&self, value: &Value) -> Option<String> {
        let lower = self.conversion.to_ascii_lowercase();
        let text = match (lower, value) {
            ('b', Value::Boolean(value)) => self.cut(value.to_string()),
            ('b', value) => self.cut((!matches!(value, Value::Null)).to_string()),
            ('s' | 'd' | 'x' | 'o' | 'f' | 'e' | 'g' | 'c', Value::Null) => {
                self.cut("null".to_owned())
            }
            ('s', Value::Integer(value)) => self.cut(value.to_string()),
            ('s', Value::Float(value)) => {
                let mut text = String::new();
                floating::write_f64(&mut text, *value);
                self.cut(text)
            }
            ('s', Value::Boolean(value)) => self.cut(value.to_string()),
            ('s', Value::Text(value)) => self.cut(value.clone()),
            ('c', Value::Integer(value)) => {
                char::from_u32(u32::try_from(*value).ok()?)?.to_string()
            }
            ('d', Value::Integer(value)) => {
                return self.number(value.unsigned_abs().to_string(), *value < 0);
            }
            ('x', Value::Integer(value)) => return self.bits(*value, format!("{value:x}")),
            ('o', Value::Integer(value)) => return self.bits(*value, format!("{value:o}")),
            ('f', Value::Float(value)) if value.is_finite() => {
                let digits = format!("{:.*}", self.precision.unwrap_or(6), value.abs());
                return self.number(digits, value.is_sign_negative());
            }
            ('e', Value::Float(value)) if value.is_finite() => {
                let plain = format!("{:.*e}", self.precision.unwrap_or(6), value.abs());
                let (digits, exponent) = plain.split_once('e')?;
                let exponent: i32 = exponent.parse().ok()?;
                let sign = if exponent < 0 { '-' } else { '+' };
                let digits = format!("{digits}e{sign}{:02}", exponent.abs());
                return self.number(digits, value.is_sign_negative());
            }
            _ => return None,
        };
        self.cased(self.padded(text)?)
    }

    fn cased(&self, text: String) -> Option<String> {
        Some(if self.conversion.is_ascii_uppercase() {
            text.to_uppercase()
        } else {
            text
        })
    }

    /// The precision of a text is its greatest length.
    fn cut(&self, text: String) -> String {
        match self.precision {
            Some(most) => text.chars().take(most).collect(),
            None => text,
        }
    }

    /// Digits with the sign, grouping and zeros that the flags want.
    fn number(&self, digits: String, negative: bool) -> Option<String> {
        if self.has('-') && self.has('0') || self.has('+') && self.has(' ') {
            return None;
        }
        let digits = if self.has(',') {
            grouped(&digits)
        } else {
            digits
        };
        let (before, behind) = match negative {
            true if self.has('(') => ("(", ")"),
            true => ("-", ""),
            false if self.has('+') => ("+", ""),
            false if self.has(' ') => (" ", ""),
            false => ("", ""),
        };
        let used = before.len() + digits.len() + behind.len();
        let zeros = match self.has('0') {
            true => "0".repeat(self.width.saturating_sub(used)),
            false => String::new(),
        };
        let text = format!("{before}{zeros}{digits}{behind}");
        self.cased(self.padded(text)?)
    }

    /// Negative numbers as the bits of the type that holds them.
    fn bits(&self, value: i64, wide: String) -> Option<String> {
        let text = match i32::try_from(value) {
            Ok(small) if value < 0 && self.conversion.eq_ignore_ascii_case(&'x') => {
                format!("{small:x}")
            }
            Ok(small) if value < 0 => format!("{small:o}"),
            _ => wide,
        };
        let prefix = match (self.has('#'), self.conversion.to_ascii_lowercase()) {
            (true, 'x') => "0x",
            (true, _) => "0",
            (false, _) => "",
        };
        let zeros = match self.has('0') {
            true => "0".repeat(self.width.saturating_sub(prefix.len() + text.len())),
            false => String::new(),
        };
        self.cased(self.padded(format!("{prefix}{zeros}{text}"))?)
    }
}

/// "1234567.8" as "1,234,567.8"
fn grouped(digits: &str) -> String {
    let end = digits.find(['.', 'e']).unwrap_or(digits.len());
    let (whole, rest) = digits.split_at(end);
    let mut out = String::with_capacity(digits.len() + whole.len() / 3);
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use weir_dataflow::types::LogicalType as T;

    use crate::coerce::types::STRING;
    use crate::testing::*;

    #[test]
    fn specifiers() {
        check(vec![
            (
                "PRINTF",
                args!["%05d|%-5s|%x", 42, "ab", 255],
                "00042|ab   |ff",
            ),
            ("PRINTF", args!["%s %s", "a"], "NULL"),
            ("PRINTF", args!["%d", "a"], "NULL"),
            ("PRINTF", args!["%s", null(STRING)], "null"),
            ("PRINTF", args![null(STRING), 1], "NULL"),
            ("PRINTF", args!["%s", date("2020-01-01")], "18262"),
            ("PRINTF", args!["%,d %+d", 1234567, 5], "1,234,567 +5"),
            (
                "PRINTF",
                args!["%f %.1f %e", 1.5, 2.26, 1234.5],
                "1.500000 2.3 1.234500e+03",
            ),
            ("PRINTF", args!["%2$s %1$s", "a", "b"], "b a"),
            ("PRINTF", args!["100%%"], "100%"),
            (
                "PRINTF",
                args!["%S %b %B", "a", true, null(T::Int)],
                "A true FALSE",
            ),
            ("PRINTF", args!["%d", dec("1.5", 3, 1)], "NULL"),
            ("PRINTF", args!["%q", 1], "NULL"),
            ("PRINTF", args!["%", 1], "NULL"),
            ("PRINTF", args!["%x", -1], "ffffffff"),
        ]);
    }
}
