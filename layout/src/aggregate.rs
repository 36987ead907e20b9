//! The tables of aggregations: accumulators by group, distinct values, values that aggregates keep, and how far
//! event time had come. `weir-operators`' aggregate_store.rs and slices.rs write them.

use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use weir_dataflow::agg::{Decomposition, Primitive, PrimitiveKind};
use weir_dataflow::nested::is_nested;
use weir_dataflow::{Error, Result};
use weir_proto::v1::{self, StateEncoding};

use crate::describe::{Placed, constant, field, input_field, schema_of};

/// First byte of every value of an aggregation.
const VALUE_VERSION: u8 = 1;
const GROUPS: u32 = 0;
const DISTINCT: u32 = 1;
const VALUES: u32 = 2;
const PROGRESS: u32 = 3;

/// What must stay the same: how time is cut.
pub(crate) fn window_detail(spec: &v1::WindowAggregate) -> String {
    if spec.window_end_column.is_some() {
        return "windows that come with the rows".to_owned();
    }
    let window = spec.window.unwrap_or_default();
    let kind = window.kind().as_str_name();
    let clock = if window.processing_time {
        ", processing time"
    } else {
        ""
    };
    format!(
        "{}(size {} ms, slide {} ms, offset {} ms{clock})",
        kind.trim_start_matches("WINDOW_KIND_"),
        window.size_ms,
        window.slide_ms,
        window.offset_ms,
    )
}

/// Of an aggregation in windows.
pub(crate) fn window_tables(
    spec: &v1::WindowAggregate,
    placed: &Placed<'_>,
) -> Result<Vec<v1::StateTable>> {
    let window = spec.window.unwrap_or_default();
    if window.kind() == v1::WindowKind::Session {
        return session_tables(spec, placed);
    }
    let one_slice = spec.window_end_column.is_some() || window.kind() == v1::WindowKind::Tumble;
    let name = if one_slice { "window" } else { "slice" };
    let time = |suffix: &str| {
        let data_type = DataType::Timestamp(TimeUnit::Millisecond, None);
        Field::new(format!("{name}_{suffix}"), data_type, false)
    };
    let prefix = Prefix {
        fields: vec![field(StateEncoding::OrderedTime, 1); 2],
        columns: vec![time("end"), time("start")],
    };
    let calls = Calls::new(&spec.aggregates, &spec.key_columns, false, placed)?;
    let mut tables = calls.tables(&prefix)?;
    tables.push(v1::StateTable {
        name: "progress".to_owned(),
        number: PROGRESS,
        schema: schema_of(vec![
            Field::new("key_group", DataType::Int32, false),
            Field::new("progress_ms", DataType::Int64, false),
        ]),
        key: vec![field(StateEncoding::KeyGroup, 1)],
        value: vec![constant(VALUE_VERSION), field(StateEncoding::Varint, 1)],
        key_columns: Vec::new(),
    });
    Ok(tables)
}

/// Of an aggregation in sessions: the session's name stands in front of the key, its first and last time are the last accumulators. Distinct values
/// have no description: they are kept as they are.
fn session_tables(spec: &v1::WindowAggregate, placed: &Placed<'_>) -> Result<Vec<v1::StateTable>> {
    let input = placed
        .inputs
        .first()
        .ok_or_else(|| Error::Config("an aggregation without input".to_owned()))?;
    let mut fields: Vec<Field> = input.fields().iter().map(|f| f.as_ref().clone()).collect();
    fields.push(Field::new("$time", DataType::Int64, false));
    let timed = Schema::new(fields);
    let mut calls = spec.aggregates.clone();
    calls.extend(["MIN", "MAX"].map(|function| v1::AggregateCall {
        function: function.to_owned(),
        arguments: vec![input.fields().len() as u32],
        ..Default::default()
    }));
    let keys = spec.key_columns.iter();
    let calls = Calls {
        parts: Decomposition::of(&calls)?,
        keys: keys
            .map(|key| input_field(input, *key as usize).cloned())
            .collect::<Result<_>>()?,
        input: &timed,
        retracts: false,
    };
    let time = DataType::Timestamp(TimeUnit::Millisecond, None);
    let prefix = Prefix {
        fields: vec![field(StateEncoding::OrderedTime, 1)],
        columns: vec![Field::new("session", time, false)],
    };
    Ok(vec![calls.groups(&prefix)?])
}

/// Of an aggregation without a window.
pub(crate) fn group_tables(
    spec: &v1::GroupAggregate,
    placed: &Placed<'_>,
) -> Result<Vec<v1::StateTable>> {
    let calls = Calls::new(
        &spec.aggregates,
        &spec.key_columns,
        spec.input_retracts,
        placed,
    )?;
    calls.tables(&Prefix::default())
}

/// Of calls with OVER whose frames begin with the partition. Ranks are counts of rows.
pub(crate) fn running_tables(
    spec: &v1::OverAggregate,
    placed: &Placed<'_>,
) -> Result<Vec<v1::StateTable>> {
    let calls = spec.calls.iter().map(|over| {
        let mut call = over.call.clone().unwrap_or_default();
        if matches!(call.function.as_str(), "ROW_NUMBER" | "RANK" | "DENSE_RANK") {
            call.function = "COUNT".to_owned();
        }
        call
    });
    let calls: Vec<v1::AggregateCall> = calls.collect();
    let calls = Calls::new(&calls, &spec.partition_columns, false, placed)?;
    calls.tables(&Prefix::default())
}

/// What stands in front of the group's key.
#[derive(Default)]
struct Prefix {
    fields: Vec<v1::StateField>,
    columns: Vec<Field>,
}

struct Calls<'a> {
    parts: Decomposition,
    keys: Vec<Field>,
    /// What arguments and filters are columns of.
    input: &'a Schema,
    retracts: bool,
}

impl<'a> Calls<'a> {
    fn new(
        calls: &[v1::AggregateCall],
        keys: &[u32],
        retracts: bool,
        placed: &'a Placed<'_>,
    ) -> Result<Self> {
        let input = placed
            .inputs
            .first()
            .ok_or_else(|| Error::Config("an aggregation without input".to_owned()))?;
        let mut parts = Decomposition::of(calls)?;
        if retracts {
            parts.place(Primitive {
                kind: PrimitiveKind::Count,
                argument: None,
                filter: None,
                distinct: false,
            });
        }
        let keys = keys
            .iter()
            .map(|key| input_field(input, *key as usize).cloned())
            .collect::<Result<_>>()?;
        Ok(Self {
            parts,
            keys,
            input: placed.local_input.as_ref().unwrap_or(input),
            retracts,
        })
    }

    fn tables(&self, prefix: &Prefix) -> Result<Vec<v1::StateTable>> {
        let mut tables = vec![self.groups(prefix)?];
        for (number, (argument, filters)) in self.parts.distinct_sets().iter().enumerate() {
            tables.push(self.distinct(prefix, number, *argument, filters)?);
        }
        for (number, primitive) in self.parts.primitives.iter().enumerate() {
            if self.is_multiset(primitive) {
                tables.push(self.multiset(prefix, number, primitive)?);
            } else if self.is_collection(primitive) {
                tables.push(self.collection(prefix, number, primitive)?);
            }
        }
        Ok(tables)
    }

    /// Each value has a place of its own.
    fn is_collection(&self, primitive: &Primitive) -> bool {
        let picks = matches!(primitive.kind, PrimitiveKind::First | PrimitiveKind::Last);
        primitive.kind.keeps_values() || (self.retracts && picks)
    }

    fn is_multiset(&self, primitive: &Primitive) -> bool {
        self.retracts && matches!(primitive.kind, PrimitiveKind::Min | PrimitiveKind::Max)
    }

    fn groups(&self, prefix: &Prefix) -> Result<v1::StateTable> {
        let (mut columns, mut value) = (self.keyed_columns(prefix), vec![constant(VALUE_VERSION)]);
        for primitive in &self.parts.primitives {
            if self.is_multiset(primitive) || self.is_collection(primitive) {
                continue;
            }
            if primitive.kind == PrimitiveKind::SquaredDistances {
                self.squared_distances(primitive, &mut columns, &mut value)?;
                continue;
            }
            let (column, encoding) = self.accumulator(primitive)?;
            columns.push(column);
            value.push(field(encoding, 1));
        }
        let mut key = prefix.fields.clone();
        key.push(field(StateEncoding::RowKey, self.keys.len()));
        Ok(self.table("groups".to_owned(), GROUPS, prefix, (columns, key, value)))
    }

    fn distinct(
        &self,
        prefix: &Prefix,
        number: usize,
        argument: usize,
        filters: &[Option<usize>],
    ) -> Result<v1::StateTable> {
        let argument = input_field(self.input, argument)?;
        let mut columns = self.keyed_columns(prefix);
        let (data_type, encoding, name) = match kept_as(argument.data_type()) {
            Kept::Int => (
                argument.data_type(),
                StateEncoding::Int64,
                argument.name().clone(),
            ),
            Kept::Float => (
                &DataType::Float64,
                StateEncoding::Float64,
                argument.name().clone(),
            ),
            Kept::Wide => (
                argument.data_type(),
                StateEncoding::Int128,
                argument.name().clone(),
            ),
            Kept::Bytes => {
                let name = format!("xxh3_128({})", argument.name());
                (&DataType::Binary, StateEncoding::Hash128, name)
            }
        };
        columns.push(Field::new(name, data_type.clone(), false));
        let mut value = vec![constant(VALUE_VERSION)];
        for filter in filters {
            let name = match filter {
                Some(filter) => format!("FILTER ({})", input_field(self.input, *filter)?.name()),
                None => "all".to_owned(),
            };
            let data_type = if self.retracts {
                DataType::Int64
            } else {
                DataType::Boolean
            };
            columns.push(Field::new(name, data_type, false));
            if self.retracts {
                value.push(field(StateEncoding::Varint, 1));
            }
        }
        if !self.retracts {
            value.push(field(StateEncoding::Bits, filters.len()));
        }
        let mut key = self.entry_key(prefix, number);
        key.push(field(encoding, 1));
        let name = format!("DISTINCT({})", argument.name());
        Ok(self.table(name, DISTINCT, prefix, (columns, key, value)))
    }

    fn multiset(
        &self,
        prefix: &Prefix,
        number: usize,
        primitive: &Primitive,
    ) -> Result<v1::StateTable> {
        let (accumulator, _) = self.accumulator(primitive)?;
        let encoding = match kept_as(accumulator.data_type()) {
            Kept::Int => StateEncoding::Varint,
            Kept::Float => StateEncoding::OrderedFloat,
            Kept::Wide => StateEncoding::Int128,
            Kept::Bytes => StateEncoding::Rest,
        };
        let name = accumulator.name().clone();
        let mut columns = self.keyed_columns(prefix);
        columns.push(accumulator.with_name("value").with_nullable(false));
        columns.push(Field::new("rows", DataType::Int64, false));
        let mut key = self.entry_key(prefix, number);
        key.push(field(encoding, 1));
        let value = vec![constant(VALUE_VERSION), field(StateEncoding::Varint, 1)];
        Ok(self.table(name, VALUES, prefix, (columns, key, value)))
    }

    fn collection(
        &self,
        prefix: &Prefix,
        number: usize,
        primitive: &Primitive,
    ) -> Result<v1::StateTable> {
        let argument = self.argument(primitive)?.ok_or_else(|| {
            Error::Config("an aggregate that keeps values has no argument".to_owned())
        })?;
        let mut columns = self.keyed_columns(prefix);
        columns.push(Field::new("place", DataType::Int64, false));
        columns.push(Field::new("rows", DataType::Int64, false));
        columns.push(argument.clone().with_name("value").with_nullable(true));
        let mut key = self.entry_key(prefix, number);
        key.push(field(StateEncoding::Int64, 1));
        let value = vec![
            constant(VALUE_VERSION),
            field(StateEncoding::Varint, 1),
            field(StateEncoding::RowKey, 1),
        ];
        let name = self.name(primitive, Some(argument))?;
        Ok(self.table(name, VALUES, prefix, (columns, key, value)))
    }

    /// Number of values, their mean, the sum of the squares of their distances from it.
    fn squared_distances(
        &self,
        primitive: &Primitive,
        columns: &mut Vec<Field>,
        value: &mut Vec<v1::StateField>,
    ) -> Result<()> {
        let name = self.name(primitive, self.argument(primitive)?)?;
        let parts = [
            ("count", DataType::Int64, StateEncoding::Varint),
            ("mean", DataType::Float64, StateEncoding::Float64),
            ("squares", DataType::Float64, StateEncoding::Float64),
        ];
        for (part, data_type, encoding) in parts {
            columns.push(Field::new(format!("{name} {part}"), data_type, false));
            value.push(field(encoding, 1));
        }
        Ok(())
    }

    fn argument(&self, primitive: &Primitive) -> Result<Option<&Field>> {
        primitive
            .argument
            .map(|column| input_field(self.input, column))
            .transpose()
    }

    fn table(
        &self,
        name: String,
        number: u32,
        prefix: &Prefix,
        (columns, key, value): (Vec<Field>, Vec<v1::StateField>, Vec<v1::StateField>),
    ) -> v1::StateTable {
        let first = prefix.columns.len() as u32;
        v1::StateTable {
            name,
            number,
            schema: schema_of(columns),
            key,
            value,
            key_columns: (first..first + self.keys.len() as u32).collect(),
        }
    }

    fn keyed_columns(&self, prefix: &Prefix) -> Vec<Field> {
        [prefix.columns.as_slice(), self.keys.as_slice()].concat()
    }

    /// Of an entry that belongs to a group; its own value follows.
    fn entry_key(&self, prefix: &Prefix, number: usize) -> Vec<v1::StateField> {
        let mut key = prefix.fields.clone();
        key.push(field(StateEncoding::SizedRowKey, self.keys.len()));
        key.push(constant(number as u8));
        key
    }

    /// Name, type and encoding of an accumulator.
    fn accumulator(&self, primitive: &Primitive) -> Result<(Field, StateEncoding)> {
        let argument = self.argument(primitive)?;
        let storage = primitive.storage_type(argument.map(Field::data_type))?;
        let picks = !matches!(primitive.kind, PrimitiveKind::Count | PrimitiveKind::Sum);
        let encoding = match (kept_as(&storage), picks) {
            (Kept::Int, false) => StateEncoding::Varint,
            (Kept::Float, false) => StateEncoding::Float64,
            (Kept::Wide, false) => StateEncoding::DecimalSum,
            (Kept::Int, true) => StateEncoding::OptionalVarint,
            (Kept::Float, true) => StateEncoding::OptionalFloat64,
            (Kept::Wide, true) => StateEncoding::OptionalInt128,
            (Kept::Bytes, _) => StateEncoding::OptionalBytes,
        };
        let name = self.name(primitive, argument)?;
        let column = match argument.filter(|_| picks) {
            // Keeps what Arrow does not say: CHAR(3).
            Some(argument) => argument.clone().with_name(name).with_nullable(true),
            None => {
                let nullable = encoding == StateEncoding::DecimalSum;
                Field::new(name, storage, nullable)
            }
        };
        Ok((column, encoding))
    }

    /// As the call is written in SQL; `SUM(x)` and `COUNT(x)` for the parts of `AVG(x)`.
    fn name(&self, primitive: &Primitive, argument: Option<&Field>) -> Result<String> {
        let function = match primitive.kind {
            PrimitiveKind::Count => "COUNT",
            PrimitiveKind::Sum => "SUM",
            PrimitiveKind::Min => "MIN",
            PrimitiveKind::Max => "MAX",
            PrimitiveKind::First => "FIRST_VALUE",
            PrimitiveKind::Last => "LAST_VALUE",
            PrimitiveKind::SquaredDistances => "SQUARED_DISTANCES",
            PrimitiveKind::List { nulls: true } => "ARRAY_AGG",
            PrimitiveKind::List { nulls: false } => "ARRAY_AGG_IGNORE_NULLS",
            PrimitiveKind::Bag { nulls: true } => "COLLECT_WITH_NULLS",
            PrimitiveKind::Bag { nulls: false } => "COLLECT",
        };
        let distinct = if primitive.distinct { "DISTINCT " } else { "" };
        let argument = argument.map_or("*", |field| field.name());
        let filter = match primitive.filter {
            Some(filter) => format!(" FILTER ({})", input_field(self.input, filter)?.name()),
            None => String::new(),
        };
        Ok(format!("{function}({distinct}{argument}){filter}"))
    }
}

/// How aggregates keep values of a type.
enum Kept {
    Int,
    Float,
    Wide,
    Bytes,
}

fn kept_as(data_type: &DataType) -> Kept {
    match data_type {
        DataType::Float32 | DataType::Float64 => Kept::Float,
        DataType::Decimal128(_, _) => Kept::Wide,
        DataType::Utf8 | DataType::Binary => Kept::Bytes,
        nested if is_nested(nested) => Kept::Bytes,
        _ => Kept::Int,
    }
}
