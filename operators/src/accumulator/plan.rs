//! What an aggregation keeps and how rows reach it, worked out once from its calls and schemas.

use arrow::datatypes::{DataType, Schema};
use weir_dataflow::agg::{Decomposition, Primitive, PrimitiveKind};
use weir_dataflow::{Error, Result};
use weir_proto::v1;

use super::column::Column;
use super::distinct::DistinctSet;

/// Which rows count: those with a value in a column, and where a BOOLEAN column is true.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Selection {
    pub argument: Option<usize>,
    pub filter: Option<usize>,
}

/// Whence a primitive's rows get their weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weighing {
    /// By its place in [`AggregatePlan::selections`].
    Selection(usize),
    /// The changes of a distinct set.
    Distinct { set: usize, variant: usize },
}

/// A set that DISTINCT aggregates over one argument share.
#[derive(Debug, Clone)]
pub struct DistinctSpec {
    pub argument: usize,
    pub data_type: DataType,
    /// One a variant, by its place in [`AggregatePlan::selections`].
    pub selections: Vec<usize>,
}

/// The layout of an aggregation.
#[derive(Debug, Clone)]
pub struct AggregatePlan {
    pub parts: Decomposition,
    /// Storage type of each primitive.
    pub storages: Vec<DataType>,
    pub weighings: Vec<Weighing>,
    pub selections: Vec<Selection>,
    pub sets: Vec<DistinctSpec>,
    /// Type of each call's result.
    pub outputs: Vec<DataType>,
    /// The input may take rows back.
    pub retracts: bool,
    /// The primitive that counts all rows; there if rows may be taken back.
    pub row_count: Option<usize>,
    /// Columns of partial results in the input, a primitive each; there in the phase GLOBAL.
    pub partials: Option<Vec<usize>>,
    has_entries: bool,
}

/// What a plan is made of.
pub struct PlanInput<'a> {
    pub calls: &'a [v1::AggregateCall],
    pub input: &'a Schema,
    /// Types of the results, one a call; none in the phase LOCAL.
    pub outputs: Vec<DataType>,
    pub retracts: bool,
    /// The input holds partial results.
    pub global: bool,
}

impl AggregatePlan {
    /// # Errors
    /// If a call can't be computed, or the input has not the columns for it.
    pub fn new(from: PlanInput<'_>) -> Result<Self> {
        let mut parts = Decomposition::of(from.calls)?;
        let row_count = from.retracts.then(|| {
            parts.place(Primitive {
                kind: PrimitiveKind::Count,
                argument: None,
                filter: None,
                distinct: false,
            })
        });
        let mut plan = Self {
            parts,
            storages: Vec::new(),
            weighings: Vec::new(),
            selections: Vec::new(),
            sets: Vec::new(),
            outputs: from.outputs,
            retracts: from.retracts,
            row_count,
            partials: None,
            has_entries: false,
        };
        if from.global {
            plan.read_partials(from.input)?;
        } else {
            plan.read_rows(from.input)?;
        }
        for (primitive, storage) in plan.parts.primitives.iter().zip(&plan.storages) {
            plan.has_entries |= Column::new(primitive.kind, storage, plan.retracts)?.has_entries();
        }
        Ok(plan)
    }

    fn read_partials(&mut self, input: &Schema) -> Result<()> {
        if self.parts.has_distinct() {
            return Err(Error::Config(
                "an aggregate with DISTINCT has no GLOBAL phase".to_owned(),
            ));
        }
        let mut columns = Vec::new();
        for primitive in &self.parts.primitives {
            let label = primitive.label();
            let (column, field) = input.column_with_name(&label).ok_or_else(|| {
                Error::Config(format!(
                    "a GLOBAL aggregation misses the partial column {label} in its input"
                ))
            })?;
            columns.push(column);
            self.storages.push(field.data_type().clone());
        }
        self.partials = Some(columns);
        Ok(())
    }

    fn read_rows(&mut self, input: &Schema) -> Result<()> {
        for primitive in self.parts.primitives.clone() {
            let argument = primitive
                .argument
                .map(|column| field_type(input, column))
                .transpose()?;
            self.storages.push(primitive.storage_type(argument)?);
            if let Some(filter) = primitive.filter
                && *field_type(input, filter)? != DataType::Boolean
            {
                return Err(Error::Config(format!(
                    "the FILTER column {filter} of an aggregate is not BOOLEAN"
                )));
            }
            let skips_nulls = !primitive.kind.counts_nulls();
            let selection = self.selection(Selection {
                argument: primitive.argument.filter(|_| skips_nulls),
                filter: primitive.filter,
            });
            let weighing = match (primitive.distinct, primitive.argument, argument) {
                (true, Some(column), Some(data_type)) => self.variant(column, data_type, selection),
                _ => Weighing::Selection(selection),
            };
            self.weighings.push(weighing);
        }
        Ok(())
    }

    fn selection(&mut self, selection: Selection) -> usize {
        match self.selections.iter().position(|s| *s == selection) {
            Some(place) => place,
            None => {
                self.selections.push(selection);
                self.selections.len() - 1
            }
        }
    }

    fn variant(&mut self, argument: usize, data_type: &DataType, selection: usize) -> Weighing {
        let set = match self.sets.iter().position(|set| set.argument == argument) {
            Some(set) => set,
            None => {
                self.sets.push(DistinctSpec {
                    argument,
                    data_type: data_type.clone(),
                    selections: Vec::new(),
                });
                self.sets.len() - 1
            }
        };
        let selections = &mut self.sets[set].selections;
        let variant = match selections.iter().position(|s| *s == selection) {
            Some(variant) => variant,
            None => {
                selections.push(selection);
                selections.len() - 1
            }
        };
        Weighing::Distinct { set, variant }
    }

    /// Accumulators of nothing.
    pub fn columns(&self) -> Result<Vec<Column>> {
        let primitives = self.parts.primitives.iter().zip(&self.storages);
        primitives
            .map(|(primitive, storage)| Column::new(primitive.kind, storage, self.retracts))
            .collect()
    }

    /// Some accumulators keep values as entries of their own.
    pub fn has_entries(&self) -> bool {
        self.has_entries
    }

    /// Empty distinct sets.
    pub fn distinct_sets(&self) -> Vec<DistinctSet> {
        let new = |set: &DistinctSpec| {
            DistinctSet::new(&set.data_type, set.selections.len(), self.retracts)
        };
        self.sets.iter().map(new).collect()
    }

    /// The layout in words: kinds and types, with arguments and filters numbered as they first appear, since a column's place in the input is no
    /// part of the state.
    pub fn fingerprint(&self) -> String {
        let mut seen: Vec<usize> = Vec::new();
        let mut number = |column: Option<usize>| match column {
            None => "*".to_owned(),
            Some(column) => {
                let place = seen.iter().position(|c| *c == column).unwrap_or_else(|| {
                    seen.push(column);
                    seen.len() - 1
                });
                place.to_string()
            }
        };
        let primitives = self
            .parts
            .primitives
            .iter()
            .zip(&self.storages)
            .map(|(p, storage)| {
                let distinct = if p.distinct { " distinct" } else { "" };
                format!(
                    "{:?}{distinct} {} filter {}: {storage}",
                    p.kind,
                    number(p.argument),
                    number(p.filter)
                )
            });
        let primitives = primitives.collect::<Vec<_>>().join("; ");
        format!(
            "{primitives}{}",
            if self.retracts { "; retracting" } else { "" }
        )
    }
}

fn field_type(schema: &Schema, column: usize) -> Result<&DataType> {
    schema
        .fields()
        .get(column)
        .map(|field| field.data_type())
        .ok_or_else(|| {
            Error::Config(format!(
                "an aggregate reads column {column} of {} columns",
                schema.fields().len()
            ))
        })
}
