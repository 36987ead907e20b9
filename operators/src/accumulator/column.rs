//! One primitive's accumulators, a slot each.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Int64Type};
use weir_dataflow::agg::PrimitiveKind;
use weir_dataflow::{Error, Result};

use super::collection::Collection;
use super::distances::{self, Distances};
use super::multiset::Multiset;
use super::values::{
    Layout, Values, bytes_at, from_bytes, from_floats, from_ints, from_wide, some_nulls,
};
use crate::codec::{Reader, put_bytes, put_signed};

/// A decimal sum that left 38 digits: it stays NULL.
pub(super) const OVERFLOW: i128 = i128::MAX;
const DECIMAL_BOUND: i128 = 10i128.pow(38);

/// Accumulators of one primitive.
pub enum Column {
    Count(Vec<i64>),
    SumInt(Vec<i64>),
    SumFloat(Vec<f64>),
    SumWide(Vec<i128>, DataType),
    Pick(Pick),
    /// MIN or MAX over an input that retracts.
    Multiset(Multiset),
    SquaredDistances(Vec<Distances>, DataType),
    Collection(Collection),
}

/// A changed entry of a column that keeps values: slot, the entry's name, and what is behind the version of its value (`None`: it is gone).
pub type FrozenEntry = (u32, Vec<u8>, Option<Vec<u8>>);

/// MIN, MAX, FIRST or LAST: keeps one of the values.
pub struct Pick {
    rule: PrimitiveKind,
    data_type: DataType,
    store: Store,
    seen: Vec<bool>,
}

enum Store {
    Int(Vec<i64>),
    Float(Vec<f64>),
    Wide(Vec<i128>),
    Bytes(Vec<Box<[u8]>>),
}

/// Weight of a row: how often it counts (-1: it is taken back; 0: not at all). `None`: 1 for all.
pub type Weights<'a> = Option<&'a [i8]>;

#[inline]
pub(super) fn each(slots: &[u32], weights: Weights<'_>, mut visit: impl FnMut(usize, usize, i8)) {
    match weights {
        None => {
            for (row, slot) in slots.iter().enumerate() {
                visit(row, *slot as usize, 1);
            }
        }
        Some(weights) => {
            for (row, (slot, weight)) in slots.iter().zip(weights).enumerate() {
                if *weight != 0 {
                    visit(row, *slot as usize, *weight);
                }
            }
        }
    }
}

pub(super) fn add_wide(sum: &mut i128, value: i128) {
    if *sum != OVERFLOW {
        *sum = sum
            .checked_add(value)
            .filter(|sum| sum.abs() < DECIMAL_BOUND)
            .unwrap_or(OVERFLOW);
    }
}

pub(super) fn mismatch() -> Error {
    Error::Internal("an accumulator got values of another type".to_owned())
}

impl Column {
    /// Empty. `storage` is [`weir_dataflow::agg::Primitive::storage_type`]; `retracts`: rows may be taken back.
    ///
    /// # Errors
    /// If values of this type can't be kept.
    pub fn new(kind: PrimitiveKind, storage: &DataType, retracts: bool) -> Result<Self> {
        Ok(match (kind, Layout::of(storage)) {
            (PrimitiveKind::Count, _) => Self::Count(Vec::new()),
            (PrimitiveKind::Sum, Layout::Int) => Self::SumInt(Vec::new()),
            (PrimitiveKind::Sum, Layout::Float) => Self::SumFloat(Vec::new()),
            (PrimitiveKind::Sum, _) => Self::SumWide(Vec::new(), storage.clone()),
            (PrimitiveKind::Min | PrimitiveKind::Max, _) if retracts => {
                Self::Multiset(Multiset::new(kind == PrimitiveKind::Max, storage.clone()))
            }
            (PrimitiveKind::SquaredDistances, _) => {
                Self::SquaredDistances(Vec::new(), storage.clone())
            }
            (kind, _) if retracts || kind.keeps_values() => {
                Self::Collection(Collection::new(kind, storage)?)
            }
            (_, layout) => Self::Pick(Pick {
                rule: kind,
                data_type: storage.clone(),
                store: match layout {
                    Layout::Int => Store::Int(Vec::new()),
                    Layout::Float => Store::Float(Vec::new()),
                    Layout::Wide => Store::Wide(Vec::new()),
                    Layout::Bytes => Store::Bytes(Vec::new()),
                },
                seen: Vec::new(),
            }),
        })
    }

    /// Makes slots up to `length`, of nothing.
    pub fn grow(&mut self, length: usize) {
        match self {
            Self::Count(v) | Self::SumInt(v) => v.resize(length, 0),
            Self::SumFloat(v) => v.resize(length, 0.0),
            Self::SumWide(v, _) => v.resize(length, 0),
            Self::Pick(pick) => pick.grow(length),
            Self::Multiset(multiset) => multiset.grow(length),
            Self::SquaredDistances(v, _) => v.resize(length, Distances::default()),
            Self::Collection(collection) => collection.grow(length),
        }
    }

    /// Back to nothing.
    pub fn reset(&mut self, slot: usize) {
        match self {
            Self::Count(v) | Self::SumInt(v) => v[slot] = 0,
            Self::SumFloat(v) => v[slot] = 0.0,
            Self::SumWide(v, _) => v[slot] = 0,
            Self::Pick(pick) => pick.seen[slot] = false,
            Self::Multiset(multiset) => multiset.reset(slot),
            Self::SquaredDistances(v, _) => v[slot] = Distances::default(),
            Self::Collection(collection) => collection.reset(slot),
        }
    }

    /// Rows into their slots. `argument` is there for all but counts; its NULLs have weight 0, if they are no values.
    pub fn update(
        &mut self,
        slots: &[u32],
        weights: Weights<'_>,
        argument: Option<&ArrayRef>,
    ) -> Result<()> {
        if let Self::Count(counts) = self {
            each(slots, weights, |_, slot, weight| {
                counts[slot] += i64::from(weight)
            });
            return Ok(());
        }
        let argument = argument.ok_or_else(mismatch)?;
        match self {
            Self::Collection(collection) => collection.update(slots, weights, argument),
            Self::SquaredDistances(groups, _) => {
                let values = distances::floats(argument)?;
                each(slots, weights, |row, slot, weight| match weight {
                    1.. => groups[slot].add(values.value(row)),
                    _ => groups[slot].take(values.value(row)),
                });
                Ok(())
            }
            _ => self.update_values(slots, weights, &Values::of(argument)?),
        }
    }

    fn update_values(
        &mut self,
        slots: &[u32],
        weights: Weights<'_>,
        values: &Values<'_>,
    ) -> Result<()> {
        match (self, values) {
            (Self::SumInt(sums), Values::Int(values)) => {
                each(slots, weights, |row, slot, weight| {
                    sums[slot] =
                        sums[slot].wrapping_add(values[row].wrapping_mul(i64::from(weight)));
                })
            }
            (Self::SumFloat(sums), Values::Float(values)) => {
                each(slots, weights, |row, slot, weight| {
                    sums[slot] += values[row] * f64::from(weight);
                })
            }
            (Self::SumWide(sums, _), Values::Wide(values)) => {
                each(slots, weights, |row, slot, weight| {
                    add_wide(&mut sums[slot], values[row] * i128::from(weight));
                })
            }
            (Self::Pick(pick), values) => return pick.update(slots, weights, values),
            (Self::Multiset(multiset), values) => {
                each(slots, weights, |row, slot, weight| {
                    multiset.add(slot, values, row, i64::from(weight))
                });
            }
            _ => return Err(mismatch()),
        }
        Ok(())
    }

    /// Partial results (see [`Self::gather`]) into their slots, in the order of time.
    pub fn merge(&mut self, slots: &[u32], partial: &ArrayRef) -> Result<()> {
        match self {
            Self::Count(counts) => {
                let values = partial
                    .as_primitive_opt::<Int64Type>()
                    .ok_or_else(mismatch)?
                    .values();
                each(slots, None, |row, slot, _| counts[slot] += values[row]);
                Ok(())
            }
            Self::Collection(collection) => collection.merge(slots, partial),
            Self::SquaredDistances(groups, _) => {
                let others = distances::scatter(partial)?;
                each(slots, None, |row, slot, _| groups[slot].merge(others[row]));
                Ok(())
            }
            Self::SumWide(sums, _) if partial.null_count() > 0 => {
                let Values::Wide(values) = Values::of(partial)? else {
                    return Err(mismatch());
                };
                each(slots, None, |row, slot, _| match partial.is_null(row) {
                    true => sums[slot] = OVERFLOW,
                    false => add_wide(&mut sums[slot], values[row]),
                });
                Ok(())
            }
            _ => {
                let weights = partial
                    .nulls()
                    .filter(|nulls| nulls.null_count() > 0)
                    .map(present_weights);
                self.update_values(slots, weights.as_deref(), &Values::of(partial)?)
            }
        }
    }

    /// What one slot has counted is another's, behind what that one has.
    pub fn absorb(&mut self, from: u32, into: u32) -> Result<()> {
        match self {
            Self::Collection(collection) => collection.absorb(from as usize, into as usize),
            Self::Multiset(multiset) => multiset.absorb(from as usize, into as usize),
            _ => {
                let partial = self.gather(&[from])?;
                self.merge(&[into], &partial)?;
            }
        }
        Ok(())
    }

    /// Accumulators of slots as a column of the storage type. NULL is what has not seen a value, and a decimal sum that overflowed.
    pub fn gather(&self, slots: &[u32]) -> Result<ArrayRef> {
        let at = slots.iter().map(|slot| *slot as usize);
        match self {
            Self::Count(v) | Self::SumInt(v) => {
                from_ints(at.map(|slot| v[slot]).collect(), None, &DataType::Int64)
            }
            Self::SumFloat(v) => {
                from_floats(at.map(|slot| v[slot]).collect(), None, &DataType::Float64)
            }
            Self::SumWide(v, data_type) => {
                let nulls = some_nulls(at.clone().map(|slot| v[slot] != OVERFLOW));
                let values = at.map(|slot| if v[slot] == OVERFLOW { 0 } else { v[slot] });
                from_wide(values.collect(), nulls, data_type)
            }
            Self::Pick(pick) => pick.gather(slots),
            Self::Multiset(multiset) => multiset.gather(slots),
            Self::SquaredDistances(v, data_type) => {
                distances::gather(at.map(|slot| v[slot]), data_type)
            }
            Self::Collection(collection) => collection.gather(slots),
        }
    }

    /// A slot's bytes in a value of keyed state.
    pub fn encode(&self, slot: usize, out: &mut Vec<u8>) {
        match self {
            Self::Count(v) | Self::SumInt(v) => put_signed(v[slot], out),
            Self::SumFloat(v) => out.extend_from_slice(&v[slot].to_le_bytes()),
            Self::SumWide(v, _) => out.extend_from_slice(&v[slot].to_le_bytes()),
            Self::Pick(pick) => pick.encode(slot, out),
            Self::SquaredDistances(v, _) => v[slot].encode(out),
            Self::Multiset(_) | Self::Collection(_) => {}
        }
    }

    /// From [`Self::encode`].
    pub fn decode(&mut self, slot: usize, reader: &mut Reader<'_>) -> Result<()> {
        match self {
            Self::Count(v) | Self::SumInt(v) => v[slot] = reader.signed()?,
            Self::SumFloat(v) => v[slot] = f64::from_le_bytes(reader.array()?),
            Self::SumWide(v, _) => v[slot] = i128::from_le_bytes(reader.array()?),
            Self::Pick(pick) => pick.decode(slot, reader)?,
            Self::SquaredDistances(v, _) => v[slot] = Distances::decode(reader)?,
            Self::Multiset(_) | Self::Collection(_) => {}
        }
        Ok(())
    }

    /// Bytes in memory.
    pub fn memory(&self) -> usize {
        match self {
            Self::Count(v) | Self::SumInt(v) => v.capacity() * 8,
            Self::SumFloat(v) => v.capacity() * 8,
            Self::SumWide(v, _) => v.capacity() * 16,
            Self::Pick(pick) => pick.memory(),
            Self::Multiset(multiset) => multiset.memory(),
            Self::SquaredDistances(v, _) => v.capacity() * size_of::<Distances>(),
            Self::Collection(collection) => collection.memory(),
        }
    }

    /// Values are entries of their own in the state.
    pub fn has_entries(&self) -> bool {
        matches!(self, Self::Multiset(_) | Self::Collection(_))
    }

    /// Freezes the entries that changed. What was frozen before must be written.
    pub fn freeze(&mut self) {
        match self {
            Self::Multiset(multiset) => multiset.freeze(),
            Self::Collection(collection) => collection.freeze(),
            _ => {}
        }
    }

    /// A frozen entry is left.
    pub fn is_frozen(&self) -> bool {
        match self {
            Self::Multiset(multiset) => multiset.is_frozen(),
            Self::Collection(collection) => collection.is_frozen(),
            _ => false,
        }
    }

    /// At most `limit` frozen entries, as they were at the freeze.
    pub fn take_frozen(&mut self, limit: usize) -> Vec<FrozenEntry> {
        match self {
            Self::Multiset(multiset) => {
                let taken = multiset.take_frozen(limit).into_iter();
                let encoded = taken.map(|(slot, item, count)| {
                    let mut value = Vec::new();
                    put_signed(count, &mut value);
                    (slot, item, (count != 0).then_some(value))
                });
                encoded.collect()
            }
            Self::Collection(collection) => collection.take_frozen(limit),
            _ => Vec::new(),
        }
    }

    /// An entry of keyed state; `value` is behind the version. What is in memory is newer, and stays.
    pub fn load_entry(&mut self, slot: u32, name: &[u8], value: &mut Reader<'_>) -> Result<()> {
        match self {
            Self::Multiset(multiset) => multiset.load(slot, name, value.signed()?),
            Self::Collection(collection) => collection.load(slot, name, value),
            _ => Ok(()),
        }
    }
}

fn present_weights(nulls: &NullBuffer) -> Vec<i8> {
    nulls.iter().map(i8::from).collect()
}

fn pick_values<T: Copy>(
    store: &mut [T],
    seen: &mut [bool],
    slots: &[u32],
    weights: Weights<'_>,
    values: &[T],
    takes: impl Fn(T, T) -> bool,
) {
    each(slots, weights, |row, slot, _| {
        if !seen[slot] || takes(values[row], store[slot]) {
            store[slot] = values[row];
            seen[slot] = true;
        }
    });
}

macro_rules! pick_by_rule {
    ($rule:expr, $store:expr, $seen:expr, $slots:expr, $weights:expr, $values:expr) => {
        match $rule {
            PrimitiveKind::Min => {
                pick_values($store, $seen, $slots, $weights, $values, |new, old| {
                    new < old
                })
            }
            PrimitiveKind::Max => {
                pick_values($store, $seen, $slots, $weights, $values, |new, old| {
                    new > old
                })
            }
            PrimitiveKind::Last => {
                pick_values($store, $seen, $slots, $weights, $values, |_, _| true)
            }
            _ => pick_values($store, $seen, $slots, $weights, $values, |_, _| false),
        }
    };
}

impl Pick {
    fn grow(&mut self, length: usize) {
        self.seen.resize(length, false);
        match &mut self.store {
            Store::Int(v) => v.resize(length, 0),
            Store::Float(v) => v.resize(length, 0.0),
            Store::Wide(v) => v.resize(length, 0),
            Store::Bytes(v) => v.resize(length, Box::default()),
        }
    }

    fn update(&mut self, slots: &[u32], weights: Weights<'_>, values: &Values<'_>) -> Result<()> {
        let seen = self.seen.as_mut_slice();
        match (&mut self.store, values) {
            (Store::Int(store), Values::Int(values)) => {
                pick_by_rule!(self.rule, store, seen, slots, weights, values);
            }
            (Store::Float(store), Values::Float(values)) => {
                pick_by_rule!(self.rule, store, seen, slots, weights, values);
            }
            (Store::Wide(store), Values::Wide(values)) => {
                pick_by_rule!(self.rule, store, seen, slots, weights, values);
            }
            (Store::Bytes(store), Values::Bytes { offsets, bytes }) => {
                each(slots, weights, |row, slot, _| {
                    let new = bytes_at(offsets, bytes, row);
                    let takes = !seen[slot]
                        || match self.rule {
                            PrimitiveKind::Min => new < &*store[slot],
                            PrimitiveKind::Max => new > &*store[slot],
                            PrimitiveKind::Last => true,
                            _ => false,
                        };
                    if takes {
                        store[slot] = new.into();
                        seen[slot] = true;
                    }
                })
            }
            _ => return Err(mismatch()),
        }
        Ok(())
    }

    fn gather(&self, slots: &[u32]) -> Result<ArrayRef> {
        let at = slots.iter().map(|slot| *slot as usize);
        let nulls = some_nulls(at.clone().map(|slot| self.seen[slot]));
        match &self.store {
            Store::Int(v) => from_ints(at.map(|slot| v[slot]).collect(), nulls, &self.data_type),
            Store::Float(v) => {
                from_floats(at.map(|slot| v[slot]).collect(), nulls, &self.data_type)
            }
            Store::Wide(v) => from_wide(at.map(|slot| v[slot]).collect(), nulls, &self.data_type),
            Store::Bytes(v) => from_bytes(
                at.map(|slot| self.seen[slot].then_some(&*v[slot])),
                &self.data_type,
            ),
        }
    }

    fn encode(&self, slot: usize, out: &mut Vec<u8>) {
        out.push(u8::from(self.seen[slot]));
        if !self.seen[slot] {
            return;
        }
        match &self.store {
            Store::Int(v) => put_signed(v[slot], out),
            Store::Float(v) => out.extend_from_slice(&v[slot].to_le_bytes()),
            Store::Wide(v) => out.extend_from_slice(&v[slot].to_le_bytes()),
            Store::Bytes(v) => put_bytes(&v[slot], out),
        }
    }

    fn decode(&mut self, slot: usize, reader: &mut Reader<'_>) -> Result<()> {
        self.seen[slot] = reader.byte()? == 1;
        if !self.seen[slot] {
            return Ok(());
        }
        match &mut self.store {
            Store::Int(v) => v[slot] = reader.signed()?,
            Store::Float(v) => v[slot] = f64::from_le_bytes(reader.array()?),
            Store::Wide(v) => v[slot] = i128::from_le_bytes(reader.array()?),
            Store::Bytes(v) => v[slot] = reader.bytes()?.into(),
        }
        Ok(())
    }

    fn memory(&self) -> usize {
        // A short text is taken to cost 32 bytes of the allocator beside its fat pointer.
        self.seen.capacity()
            + match &self.store {
                Store::Int(v) => v.capacity() * 8,
                Store::Float(v) => v.capacity() * 8,
                Store::Wide(v) => v.capacity() * 16,
                Store::Bytes(v) => v.capacity() * 48,
            }
    }
}
