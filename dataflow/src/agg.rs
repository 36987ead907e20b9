//! What aggregate calls are made of: their results' types, and the partial columns that travel from a LOCAL to a GLOBAL aggregation.
//!
//! A call is computed from [`Primitive`]s (AVG is a sum and a count), which calls share: `SUM(x), AVG(x), COUNT(x)` keep one sum and one count.
//! Both phases derive the same primitives from the same calls. A LOCAL one emits a column a primitive, named by [`Primitive::label`]:
//!
//! * window: the key columns, `$slice_end` (TIMESTAMP(3) NOT NULL), the primitives;
//! * group: the key columns, the primitives.
//!
//! In the GLOBAL operator's description `key_columns` are `0..k` of that schema, and the calls stand unchanged (their arguments and filters are
//! columns of the LOCAL one's input; only their labels matter then), as does the window (its `time_column` is not looked at).

use std::sync::Arc;

use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType, Field, Fields, Schema, TimeUnit};
use weir_proto::v1;

use crate::error::{Error, Result};
use crate::nested::is_nested;
use crate::types::{LogicalField, LogicalType};

/// Name of the column between the phases that says which slice of time a partial result belongs to: its exclusive end.
pub const SLICE_END: &str = "$slice_end";

/// The function that the planner makes variances and standard deviations of: DOUBLE.
pub const SQUARED_DISTANCES: &str = "$SQUARED_DISTANCES";

/// ARRAY_AGG without NULLs.
pub const ARRAY_AGG_IGNORE_NULLS: &str = "$ARRAY_AGG_IGNORE_NULLS";

/// What one accumulator computes. All of them pass over NULLs, if they do not say otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PrimitiveKind {
    /// Rows, or values that are not NULL.
    Count,
    /// Integers wrap in 64 bits; floats in 64 bits; decimals in 38 digits.
    Sum,
    /// Smallest value.
    Min,
    /// Largest value.
    Max,
    /// First value to come.
    First,
    /// Last value to come.
    Last,
    /// The sum of the squares of the distances from the mean, by Welford's algorithm in 64-bit floats: what variances are made of.
    SquaredDistances,
    /// All values, in the order in which they came.
    List {
        /// NULLs, too.
        nulls: bool,
    },
    /// Each value once, with how often it is there, in the order in which they came first.
    Bag {
        /// NULLs, too.
        nulls: bool,
    },
}

impl PrimitiveKind {
    /// A NULL counts as a value.
    pub fn counts_nulls(self) -> bool {
        matches!(self, Self::List { nulls: true } | Self::Bag { nulls: true })
    }

    /// All values of a group are kept, each as an entry of its own in the state.
    pub fn keeps_values(self) -> bool {
        matches!(self, Self::List { .. } | Self::Bag { .. })
    }
}

/// One accumulator.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Primitive {
    /// What it computes.
    pub kind: PrimitiveKind,
    /// Of which column; `None`: of rows.
    pub argument: Option<usize>,
    /// Only rows where this BOOLEAN column is true.
    pub filter: Option<usize>,
    /// Each value once.
    pub distinct: bool,
}

/// How a call's result comes from primitives, by their place in [`Decomposition::primitives`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallPlan {
    /// The primitive itself: COUNT, MIN, MAX, FIRST_VALUE, LAST_VALUE.
    Value(usize),
    /// NULL if nothing was counted.
    Sum {
        /// The sum.
        sum: usize,
        /// Of how many values.
        count: usize,
    },
    /// Sum / count; integers are cut off, decimals rounded half up; NULL if nothing was counted.
    Avg {
        /// The sum.
        sum: usize,
        /// Of how many values.
        count: usize,
    },
    /// The values of a [`PrimitiveKind::List`]; NULL if there are none.
    List(usize),
    /// The values of a [`PrimitiveKind::Bag`], each once; NULL if there are none.
    Values(usize),
    /// A [`PrimitiveKind::Bag`] as a MULTISET.
    Multiset {
        /// The bag.
        bag: usize,
        /// Each value is there once.
        distinct: bool,
    },
    /// [`PrimitiveKind::SquaredDistances`]; NULL if nothing was counted.
    SquaredDistances(usize),
}

/// The calls of an aggregation, taken apart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decomposition {
    /// Each one once.
    pub primitives: Vec<Primitive>,
    /// One a call.
    pub calls: Vec<CallPlan>,
}

impl Primitive {
    /// `count`, `sum:3`, `max:3?5` (filtered by column 5), `count:distinct:2`, with a `$` in front.
    pub fn label(&self) -> String {
        let kind = match self.kind {
            PrimitiveKind::Count => "count",
            PrimitiveKind::Sum => "sum",
            PrimitiveKind::Min => "min",
            PrimitiveKind::Max => "max",
            PrimitiveKind::First => "first",
            PrimitiveKind::Last => "last",
            PrimitiveKind::SquaredDistances => "squared_distances",
            PrimitiveKind::List { nulls: false } => "list",
            PrimitiveKind::List { nulls: true } => "list_with_nulls",
            PrimitiveKind::Bag { nulls: false } => "bag",
            PrimitiveKind::Bag { nulls: true } => "bag_with_nulls",
        };
        let distinct = if self.distinct { ":distinct" } else { "" };
        let argument = self.argument.map_or(String::new(), |c| format!(":{c}"));
        let filter = self.filter.map_or(String::new(), |c| format!("?{c}"));
        format!("${kind}{distinct}{argument}{filter}")
    }

    /// Type of the accumulator for this type of argument (any, for a count without one).
    ///
    /// # Errors
    /// If there is no such sum, or no order of these values.
    pub fn storage_type(&self, argument: Option<&DataType>) -> Result<DataType> {
        let Some(argument) = argument.filter(|_| self.kind != PrimitiveKind::Count) else {
            return Ok(DataType::Int64);
        };
        let supported = match (self.kind, argument) {
            (PrimitiveKind::Sum, integer) if integer.is_signed_integer() => Some(DataType::Int64),
            (PrimitiveKind::Sum, DataType::Float32 | DataType::Float64) => Some(DataType::Float64),
            (PrimitiveKind::Sum, DataType::Decimal128(_, scale)) => {
                Some(DataType::Decimal128(DECIMAL128_MAX_PRECISION, *scale))
            }
            (PrimitiveKind::SquaredDistances, DataType::Decimal128(_, _)) => {
                Some(squared_distances_type())
            }
            (PrimitiveKind::SquaredDistances, number) if number.is_numeric() => {
                Some(squared_distances_type())
            }
            (PrimitiveKind::Sum | PrimitiveKind::SquaredDistances, _) => None,
            (PrimitiveKind::List { .. }, _) => Some(list_of(argument.clone())),
            (PrimitiveKind::Bag { .. }, _) => Some(bag_of(argument.clone())),
            (PrimitiveKind::First | PrimitiveKind::Last, nested) if is_nested(nested) => {
                Some(nested.clone())
            }
            _ => is_scalar(argument).then(|| argument.clone()),
        };
        supported.ok_or_else(|| {
            let sql_type = LogicalType::from_field(&Field::new("", argument.clone(), true))
                .map_or_else(|| argument.to_string(), |t| t.to_string());
            let name = format!("{:?}", self.kind).to_uppercase();
            Error::Config(format!("{name} of {sql_type} is not supported yet"))
        })
    }
}

/// Number of values, their mean, the sum of the squares of their distances from it.
fn squared_distances_type() -> DataType {
    DataType::Struct(Fields::from(vec![
        Field::new("count", DataType::Int64, false),
        Field::new("mean", DataType::Float64, false),
        Field::new("squared_distances", DataType::Float64, false),
    ]))
}

fn list_of(item: DataType) -> DataType {
    DataType::List(Arc::new(Field::new("item", item, true)))
}

fn bag_of(value: DataType) -> DataType {
    list_of(DataType::Struct(Fields::from(vec![
        Field::new("value", value, true),
        Field::new("count", DataType::Int64, false),
    ])))
}

fn is_scalar(data_type: &DataType) -> bool {
    data_type.is_signed_integer()
        || matches!(
            data_type,
            DataType::Boolean
                | DataType::Float32
                | DataType::Float64
                | DataType::Decimal128(_, _)
                | DataType::Utf8
                | DataType::Binary
                | DataType::Date32
                | DataType::Time32(TimeUnit::Millisecond)
                | DataType::Timestamp(_, _)
                | DataType::Interval(_)
                | DataType::Duration(_)
        )
}

impl Decomposition {
    /// Takes calls apart.
    ///
    /// # Errors
    /// On a function that is not built, and on a wrong number of arguments.
    pub fn of(calls: &[v1::AggregateCall]) -> Result<Self> {
        let mut this = Self::default();
        for call in calls {
            let plan = this.plan(call)?;
            this.calls.push(plan);
        }
        Ok(this)
    }

    /// Place of a primitive, which is added if it is not there yet.
    pub fn place(&mut self, primitive: Primitive) -> usize {
        match self.primitives.iter().position(|p| *p == primitive) {
            Some(place) => place,
            None => {
                self.primitives.push(primitive);
                self.primitives.len() - 1
            }
        }
    }

    fn plan(&mut self, call: &v1::AggregateCall) -> Result<CallPlan> {
        let function = call.function.to_ascii_uppercase();
        let argument = match call.arguments.as_slice() {
            [] if function == "COUNT" && !call.distinct => None,
            [column] => Some(*column as usize),
            others => {
                return Err(Error::Config(format!(
                    "{function} with {} arguments is not supported yet",
                    others.len()
                )));
            }
        };
        let filter = call.filter.map(|column| column as usize);
        let mut add = |kind, distinct| {
            self.place(Primitive {
                kind,
                argument,
                filter,
                distinct,
            })
        };
        Ok(match function.as_str() {
            "COUNT" => CallPlan::Value(add(PrimitiveKind::Count, call.distinct)),
            "SUM" => CallPlan::Sum {
                sum: add(PrimitiveKind::Sum, call.distinct),
                count: add(PrimitiveKind::Count, call.distinct),
            },
            "AVG" => CallPlan::Avg {
                sum: add(PrimitiveKind::Sum, call.distinct),
                count: add(PrimitiveKind::Count, call.distinct),
            },
            // Each value once or many times is the same to these.
            "MIN" => CallPlan::Value(add(PrimitiveKind::Min, false)),
            "MAX" => CallPlan::Value(add(PrimitiveKind::Max, false)),
            "FIRST_VALUE" => CallPlan::Value(add(PrimitiveKind::First, false)),
            "LAST_VALUE" => CallPlan::Value(add(PrimitiveKind::Last, false)),
            SQUARED_DISTANCES => {
                CallPlan::SquaredDistances(add(PrimitiveKind::SquaredDistances, call.distinct))
            }
            "ARRAY_AGG" | ARRAY_AGG_IGNORE_NULLS => {
                let nulls = function == "ARRAY_AGG";
                match call.distinct {
                    true => CallPlan::Values(add(PrimitiveKind::Bag { nulls }, false)),
                    false => CallPlan::List(add(PrimitiveKind::List { nulls }, false)),
                }
            }
            "COLLECT" => CallPlan::Multiset {
                bag: add(PrimitiveKind::Bag { nulls: false }, false),
                distinct: call.distinct,
            },
            _ => {
                return Err(Error::Config(format!(
                    "the aggregate function {function} is not supported yet"
                )));
            }
        })
    }

    /// The sets of distinct values that the primitives share: the argument of each, and the filters under which a value may be in it.
    pub fn distinct_sets(&self) -> Vec<(usize, Vec<Option<usize>>)> {
        let mut sets: Vec<(usize, Vec<Option<usize>>)> = Vec::new();
        let distinct = self
            .primitives
            .iter()
            .filter(|primitive| primitive.distinct);
        for (argument, filter) in distinct.filter_map(|p| Some((p.argument?, p.filter))) {
            match sets.iter_mut().find(|(known, _)| *known == argument) {
                Some((_, filters)) if filters.contains(&filter) => {}
                Some((_, filters)) => filters.push(filter),
                None => sets.push((argument, vec![filter])),
            }
        }
        sets
    }

    /// Whether a call wants each value once; such an aggregation has no LOCAL phase.
    pub fn has_distinct(&self) -> bool {
        self.primitives.iter().any(|primitive| primitive.distinct)
    }
}

/// Type of a call's result for this type of argument (`None` for `COUNT(*)`). COUNT is not nullable, all others are.
/// As in Flink, SUM and AVG keep the argument's type, except for decimals.
///
/// # Errors
/// As [`Decomposition::of`] and [`Primitive::storage_type`].
pub fn result_type(function: &str, argument: Option<&LogicalType>) -> Result<LogicalField> {
    let call = v1::AggregateCall {
        function: function.to_owned(),
        arguments: argument.map(|_| 0).into_iter().collect(),
        ..Default::default()
    };
    let parts = Decomposition::of(std::slice::from_ref(&call))?;
    let arrow = argument.map(LogicalType::to_arrow);
    for primitive in &parts.primitives {
        primitive.storage_type(arrow.as_ref())?;
    }
    let result = match (parts.calls.first(), argument) {
        (Some(CallPlan::Sum { .. }), Some(LogicalType::Decimal(_, scale))) => {
            LogicalType::Decimal(DECIMAL128_MAX_PRECISION, *scale)
        }
        (Some(CallPlan::Avg { .. }), Some(LogicalType::Decimal(_, scale))) => {
            LogicalType::Decimal(DECIMAL128_MAX_PRECISION, (*scale).max(6))
        }
        (Some(CallPlan::SquaredDistances(_)), _) => LogicalType::Double,
        (Some(CallPlan::List(_) | CallPlan::Values(_)), Some(argument)) => {
            LogicalType::Array(Box::new(LogicalField::nullable(argument.clone())))
        }
        (Some(CallPlan::Multiset { .. }), Some(argument)) => {
            let element = Box::new(LogicalField::nullable(argument.clone()));
            return Ok(LogicalField {
                logical_type: LogicalType::Multiset(element),
                nullable: false,
            });
        }
        (_, Some(argument)) if !function.eq_ignore_ascii_case("COUNT") => argument.clone(),
        _ => {
            return Ok(LogicalField {
                logical_type: LogicalType::BigInt,
                nullable: false,
            });
        }
    };
    Ok(LogicalField::nullable(result))
}

/// The columns that a LOCAL phase emits for these calls over this input.
///
/// # Errors
/// If there is a call that can't be computed in two phases (DISTINCT), or not at all.
pub fn partial_fields(calls: &[v1::AggregateCall], input: &Schema) -> Result<Vec<Field>> {
    let parts = Decomposition::of(calls)?;
    if parts.has_distinct() {
        return Err(Error::Config(
            "an aggregate with DISTINCT can't be computed in a LOCAL and a GLOBAL phase".into(),
        ));
    }
    parts
        .primitives
        .iter()
        .map(|primitive| {
            let argument = primitive.argument.map(|c| field(input, c)).transpose()?;
            let storage = primitive.storage_type(argument.map(Field::data_type))?;
            let nullable = primitive.kind != PrimitiveKind::Count;
            Ok(Field::new(primitive.label(), storage, nullable))
        })
        .collect()
}

fn field(schema: &Schema, column: usize) -> Result<&Field> {
    schema.fields().get(column).map(Arc::as_ref).ok_or_else(|| {
        Error::Config(format!(
            "an aggregate reads column {column} of {} columns",
            schema.fields().len()
        ))
    })
}

fn key_fields(keys: &[u32], input: &Schema) -> Result<Vec<Field>> {
    keys.iter()
        .map(|column| field(input, *column as usize).cloned())
        .collect()
}

/// What a window aggregation with phase LOCAL emits.
///
/// # Errors
/// As [`partial_fields`]; and for windows that have no slices known beforehand: SESSION, processing time, windows that come with the rows.
pub fn local_output_schema(aggregate: &v1::WindowAggregate, input: &Schema) -> Result<Schema> {
    let window = aggregate.window.unwrap_or_default();
    let sliced = matches!(
        window.kind(),
        v1::WindowKind::Tumble | v1::WindowKind::Hop | v1::WindowKind::Cumulate
    );
    if !sliced || window.processing_time || aggregate.window_end_column.is_some() {
        return Err(Error::Config(
            "this window aggregation can't be computed in a LOCAL and a GLOBAL phase".into(),
        ));
    }
    let mut fields = key_fields(&aggregate.key_columns, input)?;
    let end = DataType::Timestamp(TimeUnit::Millisecond, None);
    fields.push(Field::new(SLICE_END, end, false));
    fields.extend(partial_fields(&aggregate.aggregates, input)?);
    Ok(Schema::new(fields))
}

/// What a group aggregation with phase LOCAL emits.
///
/// # Errors
/// As [`partial_fields`]; and if the input retracts.
pub fn group_local_output_schema(aggregate: &v1::GroupAggregate, input: &Schema) -> Result<Schema> {
    if aggregate.input_retracts {
        return Err(Error::Config(
            "an aggregation of an updating input can't be computed in a LOCAL and a GLOBAL phase"
                .into(),
        ));
    }
    let mut fields = key_fields(&aggregate.key_columns, input)?;
    fields.extend(partial_fields(&aggregate.aggregates, input)?);
    Ok(Schema::new(fields))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::schema;

    fn call(function: &str, argument: Option<u32>) -> v1::AggregateCall {
        v1::AggregateCall {
            function: function.into(),
            arguments: argument.into_iter().collect(),
            ..Default::default()
        }
    }

    #[test]
    fn calls_share_their_parts() {
        let calls = [
            call("SUM", Some(1)),
            call("AVG", Some(1)),
            call("COUNT", Some(1)),
            call("COUNT", None),
        ];
        let parts = Decomposition::of(&calls).unwrap();
        let labels: Vec<_> = parts.primitives.iter().map(Primitive::label).collect();
        assert_eq!(labels, ["$sum:1", "$count:1", "$count"]);
        assert_eq!(parts.calls[1], CallPlan::Avg { sum: 0, count: 1 });
        assert_eq!(parts.calls[2], CallPlan::Value(1));
    }

    #[test]
    fn results_have_the_types_of_flink() {
        let of = |function, argument: LogicalType| {
            result_type(function, Some(&argument)).unwrap().to_string()
        };
        assert_eq!(of("SUM", LogicalType::Int), "INT");
        assert_eq!(of("AVG", LogicalType::BigInt), "BIGINT");
        assert_eq!(of("SUM", LogicalType::Decimal(10, 2)), "DECIMAL(38, 2)");
        assert_eq!(of("AVG", LogicalType::Decimal(10, 2)), "DECIMAL(38, 6)");
        assert_eq!(of("MAX", LogicalType::Timestamp(3)), "TIMESTAMP(3)");
        assert_eq!(of("COUNT", LogicalType::Char(3)), "BIGINT NOT NULL");
        assert_eq!(
            result_type("COUNT", None).unwrap().to_string(),
            "BIGINT NOT NULL"
        );
        assert!(result_type("SUM", Some(&LogicalType::Boolean)).is_err());
        assert_eq!(of("COLLECT", LogicalType::Int), "MULTISET<INT> NOT NULL");
        assert_eq!(of("ARRAY_AGG", LogicalType::Int), "ARRAY<INT>");
        assert_eq!(of(SQUARED_DISTANCES, LogicalType::Int), "DOUBLE");
        assert!(result_type("MEDIAN", Some(&LogicalType::Int)).is_err());
    }

    #[test]
    fn a_local_window_emits_keys_slice_and_parts() {
        let input = schema(&[
            ("k", DataType::Utf8),
            ("t", DataType::Timestamp(TimeUnit::Millisecond, None)),
            ("v", DataType::Int32),
        ]);
        let mut aggregate = v1::WindowAggregate {
            window: Some(v1::WindowSpec {
                kind: v1::WindowKind::Tumble.into(),
                size_ms: 1000,
                time_column: 1,
                ..Default::default()
            }),
            key_columns: vec![0],
            aggregates: vec![call("AVG", Some(2)), call("MAX", Some(2))],
            ..Default::default()
        };
        let output = local_output_schema(&aggregate, &input).unwrap();
        let columns: Vec<_> = output
            .fields()
            .iter()
            .map(|field| format!("{} {}", field.name(), field.data_type()))
            .collect();
        let expected = [
            "k Utf8",
            "$slice_end Timestamp(ms)",
            "$sum:2 Int64",
            "$count:2 Int64",
            "$max:2 Int32",
        ];
        assert_eq!(columns, expected);
        aggregate.aggregates[0].distinct = true;
        assert!(local_output_schema(&aggregate, &input).is_err());
    }
}
