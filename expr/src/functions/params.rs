//! What arguments a function takes, and of which type its result is.

use datafusion_common::{Result, ScalarValue, plan_err};
use weir_dataflow::types::LogicalType;

use super::function::Function;
use crate::coerce::types::{STRING, common_type, is_interval, is_numeric};

/// An argument as far as planning knows it.
#[derive(Debug, Clone)]
pub(crate) struct Argument<'a> {
    pub logical_type: LogicalType,
    pub nullable: bool,
    /// Its value, if it is a literal.
    pub literal: Option<&'a ScalarValue>,
}

impl Argument<'_> {
    /// The text of a string literal.
    pub fn text(&self) -> Option<&str> {
        self.literal.and_then(|value| value.try_as_str().flatten())
    }

    /// The value of an integer literal.
    pub fn integer(&self) -> Option<i64> {
        match self.literal? {
            ScalarValue::Int8(value) => value.map(i64::from),
            ScalarValue::Int16(value) => value.map(i64::from),
            ScalarValue::Int32(value) => value.map(i64::from),
            ScalarValue::Int64(value) => *value,
            _ => None,
        }
    }
}

/// What a parameter accepts, and what it makes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Param {
    /// A string.
    Text,
    Boolean,
    /// A number of any exact type, brought to INT.
    Int,
    /// A number of any exact type, brought to BIGINT.
    BigInt,
    /// A number of any type, brought to DOUBLE.
    Double,
    /// A number, as it is.
    Numeric,
    /// TINYINT, SMALLINT, INT or BIGINT, as it is.
    Integer,
    /// BYTES; also made of a string.
    Bytes,
    /// A string or BYTES, as it is.
    TextOrBytes,
    /// A string or a number, as it is.
    TextOrNumeric,
    /// DATE, TIME, TIMESTAMP or TIMESTAMP_LTZ, as it is; a string becomes a TIMESTAMP(3).
    Temporal,
    /// As `Temporal`, or an interval as it is.
    TemporalOrInterval,
    Array,
    Map,
    /// ARRAY, MAP or MULTISET.
    Collection,
    /// Anything, as it is.
    Any,
    /// Anything, brought to the common type of all arguments in such places.
    Common,
    /// Anything, brought to the type of the elements of the array in the first place.
    Element,
    /// What `collection[...]` takes: the index of an array, the key of a map.
    Place,
    /// Keys and values in turn, each brought to their common type.
    Alternating,
}

/// The result's type.
#[derive(Debug, Clone)]
pub(crate) enum Returns {
    Type(LogicalType),
    /// As this argument's.
    Argument(usize),
    /// The common type of the `Common` arguments.
    Common,
    /// By a rule over the arguments, already brought to the parameters' types.
    Rule(fn(&[Argument]) -> Result<LogicalType>),
}

impl From<LogicalType> for Returns {
    fn from(logical_type: LogicalType) -> Self {
        Self::Type(logical_type)
    }
}

impl From<fn(&[Argument]) -> Result<LogicalType>> for Returns {
    fn from(rule: fn(&[Argument]) -> Result<LogicalType>) -> Self {
        Self::Rule(rule)
    }
}

impl Param {
    /// The type that an argument is brought to, or `None` if it does not fit.
    fn accept(self, index: usize, given: &LogicalType, context: &Context) -> Option<LogicalType> {
        use LogicalType as T;
        let null = *given == T::Null;
        let text = matches!(given, T::Char(_) | T::VarChar(_));
        let exact = matches!(given, T::TinyInt | T::SmallInt | T::Int | T::BigInt);
        let approximate = matches!(given, T::Float | T::Double);
        let decimal = matches!(given, T::Decimal(..));
        let same_or = |fits: bool, for_null: LogicalType| {
            if null {
                Some(for_null)
            } else {
                fits.then(|| given.clone())
            }
        };
        match self {
            Self::Text => same_or(text, STRING),
            Self::Boolean => (null || *given == T::Boolean).then_some(T::Boolean),
            Self::Int => (null || exact || decimal).then_some(T::Int),
            Self::BigInt => (null || exact || decimal).then_some(T::BigInt),
            Self::Double => (null || is_numeric(given)).then_some(T::Double),
            Self::Numeric => same_or(is_numeric(given), T::Int),
            Self::Integer => same_or(exact, T::Int),
            Self::Bytes => match given {
                T::Binary(_) | T::VarBinary(_) => Some(given.clone()),
                _ => (null || text).then_some(T::VarBinary(u32::MAX)),
            },
            Self::TextOrBytes => same_or(
                text || matches!(given, T::Binary(_) | T::VarBinary(_)),
                STRING,
            ),
            Self::TextOrNumeric => same_or(text || exact || approximate || decimal, STRING),
            Self::Temporal => match given {
                T::Date | T::Time(_) | T::Timestamp(_) | T::TimestampLtz(_) => Some(given.clone()),
                _ => (null || text).then_some(T::Timestamp(3)),
            },
            Self::TemporalOrInterval if is_interval(given) => Some(given.clone()),
            Self::TemporalOrInterval => Self::Temporal.accept(index, given, context),
            Self::Array => same_or(matches!(given, T::Array(_)), T::Null),
            Self::Map => same_or(matches!(given, T::Map(..) | T::Multiset(_)), T::Null),
            Self::Collection => same_or(
                matches!(given, T::Array(_) | T::Map(..) | T::Multiset(_)),
                T::Null,
            ),
            Self::Any => Some(given.clone()),
            Self::Common => context.common.clone(),
            Self::Element => context.element.clone(),
            Self::Place => match &context.key {
                Some(key) => Some(key.clone()),
                None => (null || exact || decimal).then_some(T::Int),
            },
            Self::Alternating => context.alternating[index % 2].clone(),
        }
    }

    fn wants(self) -> &'static str {
        match self {
            Self::Text => "a STRING",
            Self::Boolean => "a BOOLEAN",
            Self::Int | Self::BigInt | Self::Integer => "an integer",
            Self::Double | Self::Numeric => "a number",
            Self::Bytes => "BYTES",
            Self::TextOrBytes => "a STRING or BYTES",
            Self::TextOrNumeric => "a STRING or a number",
            Self::Temporal => "a DATE, TIME or TIMESTAMP",
            Self::TemporalOrInterval => "a DATE, TIME, TIMESTAMP or INTERVAL",
            Self::Array => "an ARRAY",
            Self::Map => "a MAP",
            Self::Collection => "an ARRAY or a MAP",
            Self::Any => "anything",
            Self::Common => "a type in common with the other arguments",
            Self::Element => "a type that fits the array's elements",
            Self::Place => "an index or a key of the collection",
            Self::Alternating => "a type in common with the other keys or values",
        }
    }
}

/// What parameters refer to beside their own argument.
struct Context {
    common: Option<LogicalType>,
    element: Option<LogicalType>,
    key: Option<LogicalType>,
    alternating: [Option<LogicalType>; 2],
}

impl Function {
    fn param(&self, index: usize) -> Option<Param> {
        match self.params.get(index) {
            Some(param) => Some(*param),
            None if self.variadic => self.params.last().copied(),
            None => None,
        }
    }

    fn check_count(&self, count: usize) -> Result<()> {
        let least = self.required;
        let most = self.params.len();
        if count >= least && (self.variadic || count <= most) {
            return Ok(());
        }
        let plural = |n: usize| if n == 1 { "argument" } else { "arguments" };
        if self.variadic {
            plan_err!("{} takes {least} or more arguments, not {count}", self.name)
        } else if least == most {
            plan_err!("{} takes {most} {}, not {count}", self.name, plural(most))
        } else {
            plan_err!(
                "{} takes {least} to {most} arguments, not {count}",
                self.name
            )
        }
    }
}

pub(super) fn resolve_params(
    function: &Function,
    arguments: &[Argument],
) -> Result<Vec<LogicalType>> {
    function.check_count(arguments.len())?;
    let context = context(function, arguments)?;
    let mut params = Vec::with_capacity(arguments.len());
    for (index, argument) in arguments.iter().enumerate() {
        let Some(param) = function.param(index) else {
            return plan_err!("{} takes no argument {}", function.name, index + 1);
        };
        match param.accept(index, &argument.logical_type, &context) {
            Some(accepted) => params.push(accepted),
            None => {
                return plan_err!(
                    "argument {} of {} must be {}, not {}",
                    index + 1,
                    function.name,
                    param.wants(),
                    argument.logical_type
                );
            }
        }
    }
    Ok(params)
}

fn context(function: &Function, arguments: &[Argument]) -> Result<Context> {
    let mut common = Vec::new();
    for (index, argument) in arguments.iter().enumerate() {
        if function.param(index) == Some(Param::Common) {
            common.push(argument.logical_type.clone());
        }
    }
    let first = arguments.first().map(|argument| &argument.logical_type);
    let every_second = |start: usize| {
        let types = arguments.iter().skip(start).step_by(2);
        let types: Vec<LogicalType> = types
            .map(|argument| argument.logical_type.clone())
            .collect();
        common_type(&types)
    };
    Ok(Context {
        common: if common.is_empty() {
            None
        } else {
            common_type(&common)
        },
        element: match first {
            Some(LogicalType::Array(element)) => Some(element.logical_type.clone()),
            _ => Some(LogicalType::Null),
        },
        key: match first {
            Some(LogicalType::Map(key, _) | LogicalType::Multiset(key)) => {
                Some(key.logical_type.clone())
            }
            _ => None,
        },
        alternating: [every_second(0), every_second(1)],
    })
}

pub(super) fn resolve(
    function: &Function,
    arguments: &[Argument],
) -> Result<(Vec<LogicalType>, LogicalType)> {
    let params = resolve_params(function, arguments)?;
    let returns = match &function.returns {
        Returns::Type(logical_type) => logical_type.clone(),
        Returns::Argument(index) => params.get(*index).cloned().unwrap_or(LogicalType::Null),
        Returns::Common => {
            let place = (0..params.len()).find(|i| function.param(*i) == Some(Param::Common));
            place.map_or(LogicalType::Null, |index| params[index].clone())
        }
        Returns::Rule(rule) => {
            let typed: Vec<Argument> = arguments
                .iter()
                .zip(&params)
                .map(|(argument, param)| Argument {
                    logical_type: param.clone(),
                    nullable: argument.nullable,
                    literal: argument.literal,
                })
                .collect();
            rule(&typed)?
        }
    };
    Ok((params, returns))
}
