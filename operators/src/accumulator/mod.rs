//! Accumulators in columns: a slot a group, a column a primitive. Batches are applied column by column; nothing is done row by row
//! but in tight loops over one type.

mod collected;
mod collection;
mod column;
mod distances;
mod distinct;
mod multiset;
mod plan;
mod result;
mod scan;
mod values;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use weir_dataflow::{Error, Result};

pub use column::{Column, Weights};
pub use distinct::{DistinctSet, NO_ENTRY};
pub use plan::{AggregatePlan, PlanInput};
pub use result::results;

use crate::codec::Reader;
use distinct::Raw;
use plan::{Selection, Weighing};
use values::Values;

/// All accumulators of a working set.
pub struct Accumulators {
    columns: Vec<Column>,
    sets: Vec<DistinctSet>,
    length: usize,
}

/// A batch on its way into the accumulators: what stands between finding its distinct entries and counting them.
pub struct Prepared {
    weights: Vec<Option<Vec<i8>>>,
    entries: Vec<Vec<u32>>,
    /// First entry of each distinct set that this batch made: from it on, stored marks are to be loaded.
    pub first_new: Vec<u32>,
}

impl Prepared {
    /// Entry of each row in each distinct set, [`NO_ENTRY`] where the row does not count.
    pub fn entries(&self) -> &[Vec<u32>] {
        &self.entries
    }
}

impl Accumulators {
    /// Without slots.
    pub fn new(plan: &AggregatePlan) -> Result<Self> {
        Ok(Self {
            columns: plan.columns()?,
            sets: plan.distinct_sets(),
            length: 0,
        })
    }

    /// Number of slots.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Makes slots up to `length`, of nothing.
    pub fn grow(&mut self, length: usize) {
        if length > self.length {
            self.columns
                .iter_mut()
                .for_each(|column| column.grow(length));
            self.length = length;
        }
    }

    /// Finds the distinct entries of rows. `signs`: +1, -1 or 0 a row; `None`: all +1.
    pub fn prepare(
        &mut self,
        plan: &AggregatePlan,
        batch: &RecordBatch,
        signs: Option<&[i8]>,
        slots: &[u32],
    ) -> Result<Prepared> {
        let weights = plan
            .selections
            .iter()
            .map(|selection| weigh(batch, *selection, signs));
        let weights = weights.collect::<Result<Vec<_>>>()?;
        let (mut entries, mut first_new) = (Vec::new(), Vec::new());
        for (set, spec) in self.sets.iter_mut().zip(&plan.sets) {
            let raw = Raw::of(&Values::of(column(batch, spec.argument)?)?);
            let variants: Vec<Weights<'_>> = spec
                .selections
                .iter()
                .map(|s| weights[*s].as_deref())
                .collect();
            let mut ids = Vec::with_capacity(slots.len());
            first_new.push(set.resolve(slots, &raw, &variants, &mut ids)?);
            entries.push(ids);
        }
        Ok(Prepared {
            weights,
            entries,
            first_new,
        })
    }

    /// Counts the rows of a prepared batch into their slots.
    pub fn apply(
        &mut self,
        plan: &AggregatePlan,
        batch: &RecordBatch,
        prepared: &Prepared,
        slots: &[u32],
    ) -> Result<()> {
        self.each_column(plan, batch, prepared, |column, weights, argument| {
            column.update(slots, weights, argument)
        })
    }

    /// As [`Self::apply`]; gives the partial results (see [`Self::partials`]) of each row's slot behind that row.
    pub fn scan(
        &mut self,
        plan: &AggregatePlan,
        batch: &RecordBatch,
        prepared: &Prepared,
        slots: &[u32],
    ) -> Result<Vec<ArrayRef>> {
        let mut partials = Vec::with_capacity(self.columns.len());
        self.each_column(plan, batch, prepared, |column, weights, argument| {
            partials.push(column.scan(slots, weights, argument)?);
            Ok(())
        })?;
        Ok(partials)
    }

    /// Hands each column the weights and the argument of a prepared batch's rows.
    fn each_column(
        &mut self,
        plan: &AggregatePlan,
        batch: &RecordBatch,
        prepared: &Prepared,
        mut visit: impl FnMut(&mut Column, Weights<'_>, Option<&ArrayRef>) -> Result<()>,
    ) -> Result<()> {
        let mut deltas = Vec::with_capacity(self.sets.len());
        for ((set, spec), ids) in self.sets.iter_mut().zip(&plan.sets).zip(&prepared.entries) {
            let variants: Vec<Weights<'_>> = spec
                .selections
                .iter()
                .map(|s| prepared.weights[*s].as_deref())
                .collect();
            deltas.push(set.apply(ids, &variants));
        }
        for (index, accumulators) in self.columns.iter_mut().enumerate() {
            let weights = match plan.weighings[index] {
                Weighing::Selection(selection) => prepared.weights[selection].as_deref(),
                Weighing::Distinct { set, variant } => Some(deltas[set][variant].as_slice()),
            };
            let argument = plan.parts.primitives[index]
                .argument
                .map(|c| column(batch, c))
                .transpose()?;
            visit(accumulators, weights, argument)?;
        }
        Ok(())
    }

    /// Partial results into their slots, one array a primitive (see [`Self::partials`]).
    pub fn merge(&mut self, slots: &[u32], partials: &[ArrayRef]) -> Result<()> {
        for (accumulators, partial) in self.columns.iter_mut().zip(partials) {
            accumulators.merge(slots, partial)?;
        }
        Ok(())
    }

    /// All of another's accumulators into these; `slots[i]` is where the other's slot `i` goes.
    pub fn merge_from(&mut self, plan: &AggregatePlan, other: &Self, slots: &[u32]) -> Result<()> {
        let mut deltas = Vec::with_capacity(self.sets.len());
        for (set, from) in self.sets.iter_mut().zip(&other.sets) {
            let (groups, raw, variants) = from.entries();
            let groups: Vec<u32> = groups.iter().map(|group| slots[*group as usize]).collect();
            let variants: Vec<Weights<'_>> = variants.iter().map(|v| Some(v.as_slice())).collect();
            let mut ids = Vec::new();
            set.resolve(&groups, raw, &variants, &mut ids)?;
            deltas.push((groups, raw, set.apply(&ids, &variants)));
        }
        let all: Vec<u32> = (0..other.length as u32).collect();
        for (index, accumulators) in self.columns.iter_mut().enumerate() {
            match plan.weighings.get(index) {
                Some(Weighing::Distinct { set, variant }) => {
                    let (groups, raw, deltas) = &deltas[*set];
                    let argument = raw.to_array(&plan.sets[*set].data_type)?;
                    accumulators.update(groups, Some(&deltas[*variant]), Some(&argument))?;
                }
                _ => accumulators.merge(slots, &other.columns[index].gather(&all)?)?,
            }
        }
        Ok(())
    }

    /// The rows of slot `from` become rows of slot `into`.
    pub fn merge_slots(&mut self, plan: &AggregatePlan, from: u32, into: u32) -> Result<()> {
        let mut deltas = Vec::with_capacity(self.sets.len());
        for set in &mut self.sets {
            let (groups, raw, variants) = set.entries();
            let ids: Vec<u32> = (0..groups.len() as u32)
                .filter(|id| groups[*id as usize] == from)
                .collect();
            let raw = raw.take(&ids);
            let variants: Vec<Vec<i8>> = variants
                .iter()
                .map(|marks| ids.iter().map(|id| marks[*id as usize]).collect())
                .collect();
            let slots = vec![into; ids.len()];
            let weights: Vec<Weights<'_>> = variants.iter().map(|v| Some(v.as_slice())).collect();
            let mut ids = Vec::new();
            set.resolve(&slots, &raw, &weights, &mut ids)?;
            deltas.push((slots, raw, set.apply(&ids, &weights)));
        }
        for (index, accumulators) in self.columns.iter_mut().enumerate() {
            match plan.weighings.get(index) {
                Some(Weighing::Distinct { set, variant }) => {
                    let (slots, raw, deltas) = &deltas[*set];
                    let argument = raw.to_array(&plan.sets[*set].data_type)?;
                    accumulators.update(slots, Some(&deltas[*variant]), Some(&argument))?;
                }
                _ => accumulators.absorb(from, into)?,
            }
        }
        Ok(())
    }

    /// Partial results of slots, one array a primitive.
    pub fn partials(&self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        self.columns
            .iter()
            .map(|column| column.gather(slots))
            .collect()
    }

    /// Number of all rows of a slot; `column` is [`AggregatePlan::row_count`].
    pub fn count(&self, column: usize, slot: u32) -> i64 {
        match self.columns.get(column) {
            Some(Column::Count(counts)) => counts[slot as usize],
            _ => 0,
        }
    }

    /// Back to nothing (distinct entries stay: they have counted themselves down).
    pub fn reset(&mut self, slot: u32) {
        self.columns
            .iter_mut()
            .for_each(|column| column.reset(slot as usize));
    }

    /// A slot's bytes in a value of keyed state, behind the version.
    pub fn encode(&self, slot: u32, out: &mut Vec<u8>) {
        self.columns
            .iter()
            .for_each(|column| column.encode(slot as usize, out));
    }

    /// From [`Self::encode`].
    pub fn decode(&mut self, slot: u32, reader: &mut Reader<'_>) -> Result<()> {
        self.columns
            .iter_mut()
            .try_for_each(|column| column.decode(slot as usize, reader))
    }

    /// The columns, by primitive.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// The columns, by primitive.
    pub fn columns_mut(&mut self) -> &mut [Column] {
        &mut self.columns
    }

    /// The distinct sets.
    pub fn sets(&self) -> &[DistinctSet] {
        &self.sets
    }

    /// The distinct sets.
    pub fn sets_mut(&mut self) -> &mut [DistinctSet] {
        &mut self.sets
    }

    /// Bytes in memory.
    pub fn memory(&self) -> usize {
        let columns: usize = self.columns.iter().map(Column::memory).sum();
        columns + self.sets.iter().map(DistinctSet::memory).sum::<usize>()
    }
}

fn column(batch: &RecordBatch, index: usize) -> Result<&ArrayRef> {
    batch
        .columns()
        .get(index)
        .ok_or_else(|| Error::Internal(format!("an aggregate misses column {index} of its input")))
}

/// Weight of each row under a selection; `None`: 1 for all.
fn weigh(
    batch: &RecordBatch,
    selection: Selection,
    signs: Option<&[i8]>,
) -> Result<Option<Vec<i8>>> {
    let mut weights = signs.map(<[i8]>::to_vec);
    let all = || vec![1i8; batch.num_rows()];
    if let Some(filter) = selection.filter {
        let filter = column(batch, filter)?;
        let mask = filter
            .as_boolean_opt()
            .ok_or_else(|| Error::Internal("a FILTER is not BOOLEAN".to_owned()))?;
        let weights = weights.get_or_insert_with(all);
        for (weight, keep) in weights.iter_mut().zip(mask.values()) {
            *weight *= i8::from(keep);
        }
        mask_nulls(weights, filter);
    }
    if let Some(argument) = selection.argument {
        let argument = column(batch, argument)?;
        if argument.logical_null_count() > 0 {
            mask_nulls(weights.get_or_insert_with(all), argument);
        }
    }
    Ok(weights)
}

fn mask_nulls(weights: &mut [i8], array: &ArrayRef) {
    // A column of the type NULL has no bitmap.
    if let Some(nulls) = array.logical_nulls().filter(|nulls| nulls.null_count() > 0) {
        for (weight, present) in weights.iter_mut().zip(nulls.iter()) {
            *weight *= i8::from(present);
        }
    }
}

/// A column of TIMESTAMP with one value in all rows, in the type's unit.
pub fn constant_time(
    value: i64,
    rows: usize,
    data_type: &arrow::datatypes::DataType,
) -> Result<ArrayRef> {
    values::from_ints(vec![value; rows], None, data_type)
}

/// A column of TIMESTAMP, from values in the type's unit.
pub fn times(values: Vec<i64>, data_type: &arrow::datatypes::DataType) -> Result<ArrayRef> {
    values::from_ints(values, None, data_type)
}
