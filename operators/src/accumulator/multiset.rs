//! MIN and MAX over an input that retracts: all values of a group with how often they occur.
//!
//! In keyed state each value is an entry of its own, so that a change writes one value and not all of the group's.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use weir_dataflow::Result;

use super::values::{
    Layout, Values, bytes_at, from_bytes, from_floats, from_ints, from_wide, some_nulls,
};
use crate::codec::{Reader, put_signed};

/// One value; those of a column are all of one variant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Item {
    /// Integers, and floats in an order-keeping form.
    Int(i64),
    Wide(i128),
    Bytes(Box<[u8]>),
}

/// Values by slot.
pub struct Multiset {
    largest: bool,
    data_type: DataType,
    groups: Vec<BTreeMap<Item, i64>>,
    changed: BTreeSet<(u32, Item)>,
    /// What a snapshot has frozen of `changed`, and is as it was.
    frozen: BTreeSet<(u32, Item)>,
    /// Frozen values that have changed since, with the counts that they had.
    thawed: Vec<(u32, Item, i64)>,
    items: usize,
}

/// The IEEE total order as an order of integers; its own inverse on the bits.
fn ordered(bits: i64) -> i64 {
    bits ^ (((bits >> 63) as u64) >> 1) as i64
}

impl Multiset {
    /// Of MAX (`largest`) or MIN.
    pub fn new(largest: bool, data_type: DataType) -> Self {
        Self {
            largest,
            data_type,
            groups: Vec::new(),
            changed: BTreeSet::new(),
            frozen: BTreeSet::new(),
            thawed: Vec::new(),
            items: 0,
        }
    }

    /// More slots.
    pub fn grow(&mut self, length: usize) {
        self.groups.resize(length, BTreeMap::new());
    }

    /// No values.
    pub fn reset(&mut self, slot: usize) {
        let values = std::mem::take(&mut self.groups[slot]);
        self.items -= values.len();
        for (item, count) in values {
            let entry = (slot as u32, item);
            self.thaw(&entry, count);
            self.changed.insert(entry);
        }
    }

    /// All values of one slot are those of another, too.
    pub fn absorb(&mut self, from: usize, into: usize) {
        for (item, count) in self.groups[from].clone() {
            self.add_item(into, item, count);
        }
    }

    /// Adds a row's value `times` times (takes it away if negative).
    pub fn add(&mut self, slot: usize, values: &Values<'_>, row: usize, times: i64) {
        let item = match values {
            Values::Int(values) => Item::Int(values[row]),
            Values::Float(values) => Item::Int(ordered(values[row].to_bits() as i64)),
            Values::Wide(values) => Item::Wide(values[row]),
            Values::Bytes { offsets, bytes } => Item::Bytes(bytes_at(offsets, bytes, row).into()),
        };
        self.add_item(slot, item, times);
    }

    fn add_item(&mut self, slot: usize, item: Item, times: i64) {
        let entry = (slot as u32, item);
        let count = self.groups[slot].get(&entry.1).copied();
        self.thaw(&entry, count.unwrap_or_default());
        let item = entry.1.clone();
        self.changed.insert(entry);
        let group = &mut self.groups[slot];
        let before = group.len();
        let count = group.entry(item.clone()).or_default();
        *count += times;
        if *count == 0 {
            group.remove(&item);
        }
        self.items = self.items + group.len() - before;
    }

    /// The smallest or largest value of each slot.
    pub fn gather(&self, slots: &[u32]) -> Result<ArrayRef> {
        let extremes: Vec<Option<&Item>> = slots
            .iter()
            .map(|slot| self.extreme(*slot as usize))
            .collect();
        let nulls = some_nulls(extremes.iter().map(Option::is_some));
        let ints = || {
            extremes
                .iter()
                .map(|item| if let Some(Item::Int(v)) = item { *v } else { 0 })
        };
        match Layout::of(&self.data_type) {
            Layout::Int => from_ints(ints().collect(), nulls, &self.data_type),
            Layout::Float => {
                let floats = ints().map(|v| f64::from_bits(ordered(v) as u64));
                from_floats(floats.collect(), nulls, &self.data_type)
            }
            Layout::Wide => {
                let wide = extremes.iter().map(|item| {
                    if let Some(Item::Wide(v)) = item {
                        *v
                    } else {
                        0
                    }
                });
                from_wide(wide.collect(), nulls, &self.data_type)
            }
            Layout::Bytes => {
                let bytes = extremes.iter().map(|item| match item {
                    Some(Item::Bytes(bytes)) => Some(&**bytes),
                    _ => None,
                });
                from_bytes(bytes, &self.data_type)
            }
        }
    }

    /// A value that was taken away before it came has a negative count, and is none of the group's.
    fn extreme(&self, slot: usize) -> Option<&Item> {
        let mut items = self.groups[slot]
            .iter()
            .filter(|(_, count)| **count > 0)
            .map(|(item, _)| item);
        if self.largest {
            items.next_back()
        } else {
            items.next()
        }
    }

    /// A value is about to change: if it is frozen, what it was is set aside.
    fn thaw(&mut self, entry: &(u32, Item), count: i64) {
        if !self.frozen.is_empty() && self.frozen.remove(entry) {
            self.thawed.push((entry.0, entry.1.clone(), count));
        }
    }

    /// Freezes what changed. What was frozen before must be written.
    pub fn freeze(&mut self) {
        debug_assert!(!self.is_frozen(), "frozen twice");
        self.frozen = std::mem::take(&mut self.changed);
    }

    /// Something frozen is left.
    pub fn is_frozen(&self) -> bool {
        !self.frozen.is_empty() || !self.thawed.is_empty()
    }

    /// At most `limit` frozen values: slot, the value's bytes, and its count at the freeze (0: it was gone).
    pub fn take_frozen(&mut self, limit: usize) -> Vec<(u32, Vec<u8>, i64)> {
        let rest = self.thawed.len().saturating_sub(limit);
        let thawed = self.thawed.drain(rest..);
        let mut taken: Vec<_> = thawed
            .map(|(slot, item, count)| (slot, item.to_bytes(), count))
            .collect();
        while taken.len() < limit
            && let Some((slot, item)) = self.frozen.pop_first()
        {
            let count = self.groups[slot as usize].get(&item).copied();
            taken.push((slot, item.to_bytes(), count.unwrap_or_default()));
        }
        taken
    }

    /// An entry of keyed state. What is in memory is newer, and stays.
    pub fn load(&mut self, slot: u32, item: &[u8], count: i64) -> Result<()> {
        let item = Item::from_bytes(Layout::of(&self.data_type), item)?;
        if let Entry::Vacant(new) = self.groups[slot as usize].entry(item) {
            new.insert(count);
            self.items += 1;
        }
        Ok(())
    }

    /// Bytes in memory, roughly.
    pub fn memory(&self) -> usize {
        let changed = self.changed.len() + self.frozen.len() + self.thawed.len();
        self.groups.capacity() * 24 + (self.items + changed) * 64
    }
}

impl Item {
    fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Int(value) => {
                let mut out = Vec::with_capacity(9);
                put_signed(*value, &mut out);
                out
            }
            Self::Wide(value) => value.to_le_bytes().to_vec(),
            Self::Bytes(bytes) => bytes.to_vec(),
        }
    }

    fn from_bytes(layout: Layout, bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader(bytes);
        Ok(match layout {
            Layout::Int | Layout::Float => Self::Int(reader.signed()?),
            Layout::Wide => Self::Wide(i128::from_le_bytes(reader.array()?)),
            Layout::Bytes => Self::Bytes(bytes.into()),
        })
    }
}
