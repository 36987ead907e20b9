//! Which values a group has seen, for aggregates with DISTINCT. All aggregates over one argument share a set, each with its FILTER as a variant:
//! an entry is (group, value) → a bit a variant, or a counter a variant if the input retracts. About 20 bytes an entry.
//!
//! Numbers are kept as they are. Texts are kept as their 128-bit hash (xxh3): only counts are taken over them, and two of a billion texts
//! share a hash with a probability of 10⁻²¹.

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use hashbrown::HashTable;
use weir_common::key_group::KeyGroup;
use weir_dataflow::{Error, Result};

use super::column::Weights;
use super::values::{Layout, Values, bytes_at, from_floats, from_ints, from_wide};
use crate::codec::{Reader, put_signed};
use crate::dirty::DirtySet;

/// No entry: the row does not count for any variant.
pub const NO_ENTRY: u32 = u32::MAX;

/// Values of rows or entries in their compact form.
#[derive(Debug, Clone)]
pub enum Raw {
    Narrow(Vec<u64>),
    Wide(Vec<u128>),
}

#[derive(Debug)]
enum Marks {
    /// Append-only: bit of variant `v` is in byte `v / 8`.
    Bits { stride: usize, bits: Vec<u8> },
    /// How often the value is there.
    Counts { stride: usize, counts: Vec<i32> },
}

/// The set of one argument.
#[derive(Debug)]
pub struct DistinctSet {
    variants: usize,
    index: HashTable<u32>,
    groups: Vec<u32>,
    values: Raw,
    marks: Marks,
    /// Entries that are not in the state as they are here.
    dirty: DirtySet,
}

impl Raw {
    fn empty(data_type: &DataType) -> Self {
        match Layout::of(data_type) {
            Layout::Int | Layout::Float => Self::Narrow(Vec::new()),
            Layout::Wide | Layout::Bytes => Self::Wide(Vec::new()),
        }
    }

    /// Compact form of a column; what stands at NULLs is meaningless.
    pub fn of(values: &Values<'_>) -> Self {
        match values {
            Values::Int(values) => Self::Narrow(values.iter().map(|v| *v as u64).collect()),
            Values::Float(values) => {
                let normal = |v: &f64| if v.is_nan() { f64::NAN } else { *v + 0.0 };
                Self::Narrow(values.iter().map(|v| normal(v).to_bits()).collect())
            }
            Values::Wide(values) => Self::Wide(values.iter().map(|v| *v as u128).collect()),
            Values::Bytes { offsets, bytes } => {
                let rows = 0..offsets.len().saturating_sub(1);
                let hash = |row| xxhash_rust::xxh3::xxh3_128(bytes_at(offsets, bytes, row));
                Self::Wide(rows.map(hash).collect())
            }
        }
    }

    /// Some of them.
    pub fn take(&self, places: &[u32]) -> Self {
        let places = places.iter().map(|place| *place as usize);
        match self {
            Self::Narrow(values) => Self::Narrow(places.map(|place| values[place]).collect()),
            Self::Wide(values) => Self::Wide(places.map(|place| values[place]).collect()),
        }
    }

    /// The column again; of a text only its length in rows is right.
    pub fn to_array(&self, data_type: &DataType) -> Result<ArrayRef> {
        match (self, Layout::of(data_type)) {
            (Self::Narrow(values), Layout::Float) => {
                let floats = values.iter().map(|v| f64::from_bits(*v)).collect();
                from_floats(floats, None, data_type)
            }
            (Self::Narrow(values), _) => {
                from_ints(values.iter().map(|v| *v as i64).collect(), None, data_type)
            }
            (Self::Wide(values), Layout::Wide) => {
                from_wide(values.iter().map(|v| *v as i128).collect(), None, data_type)
            }
            (Self::Wide(values), _) => from_ints(vec![0; values.len()], None, &DataType::Int64),
        }
    }
}

#[inline]
fn mix(group: u32, low: u64, high: u64) -> u64 {
    let seed = u64::from(group).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ high;
    let product = u128::from(low ^ seed) * 0xa076_1d64_78bd_642f;
    (product as u64) ^ ((product >> 64) as u64)
}

fn resolve_in<T: Copy + Eq>(
    index: &mut HashTable<u32>,
    groups: &mut Vec<u32>,
    values: &mut Vec<T>,
    hash: impl Fn(u32, T) -> u64,
    rows: impl Iterator<Item = Option<(u32, T)>>,
    ids: &mut Vec<u32>,
) {
    ids.extend(rows.map(|row| {
        let Some((group, value)) = row else {
            return NO_ENTRY;
        };
        let entry = index.entry(
            hash(group, value),
            |id| values[*id as usize] == value && groups[*id as usize] == group,
            |id| hash(groups[*id as usize], values[*id as usize]),
        );
        match entry {
            hashbrown::hash_table::Entry::Occupied(found) => *found.get(),
            hashbrown::hash_table::Entry::Vacant(vacant) => {
                let id = groups.len() as u32;
                vacant.insert(id);
                groups.push(group);
                values.push(value);
                id
            }
        }
    }));
}

impl DistinctSet {
    /// For values of a type; `counted`: the input retracts.
    pub fn new(data_type: &DataType, variants: usize, counted: bool) -> Self {
        let marks = if counted {
            Marks::Counts {
                stride: variants,
                counts: Vec::new(),
            }
        } else {
            Marks::Bits {
                stride: variants.div_ceil(8),
                bits: Vec::new(),
            }
        };
        Self {
            variants,
            index: HashTable::new(),
            groups: Vec::new(),
            values: Raw::empty(data_type),
            marks,
            dirty: DirtySet::default(),
        }
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.groups.len()
    }

    /// Entry of each row, [`NO_ENTRY`] where no variant's weight is other than 0. Gives the first new entry: all from it on are new.
    pub fn resolve(
        &mut self,
        slots: &[u32],
        raw: &Raw,
        weights: &[Weights<'_>],
        ids: &mut Vec<u32>,
    ) -> Result<u32> {
        let first_new = self.len() as u32;
        ids.clear();
        let all = weights.iter().any(Option::is_none);
        let wanted = |row: usize| all || weights.iter().flatten().any(|weights| weights[row] != 0);
        let (index, groups) = (&mut self.index, &mut self.groups);
        match (&mut self.values, raw) {
            (Raw::Narrow(values), Raw::Narrow(raw)) => {
                let rows = slots.iter().zip(raw).enumerate();
                let rows = rows.map(|(row, (slot, value))| wanted(row).then_some((*slot, *value)));
                resolve_in(
                    index,
                    groups,
                    values,
                    |group, v| mix(group, v, 0),
                    rows,
                    ids,
                );
            }
            (Raw::Wide(values), Raw::Wide(raw)) => {
                let rows = slots.iter().zip(raw).enumerate();
                let rows = rows.map(|(row, (slot, value))| wanted(row).then_some((*slot, *value)));
                let hash = |group, v: u128| mix(group, v as u64, (v >> 64) as u64);
                resolve_in(index, groups, values, hash, rows, ids);
            }
            _ => {
                return Err(Error::Internal(
                    "a distinct set got values of another type".to_owned(),
                ));
            }
        }
        let length = self.groups.len();
        self.dirty.grow(length);
        match &mut self.marks {
            Marks::Bits { stride, bits } => bits.resize(length * *stride, 0),
            Marks::Counts { stride, counts } => counts.resize(length * *stride, 0),
        }
        Ok(first_new)
    }

    /// Counts rows, with the entries that [`Self::resolve`] gave. For each variant: +1 at a row that brings the value into the variant,
    /// -1 at one that takes the last away, else 0.
    pub fn apply(&mut self, ids: &[u32], weights: &[Weights<'_>]) -> Vec<Vec<i8>> {
        let mut deltas = vec![vec![0i8; ids.len()]; self.variants];
        for (variant, (delta, weights)) in deltas.iter_mut().zip(weights).enumerate() {
            for (row, (id, delta)) in ids.iter().zip(delta).enumerate() {
                let weight = weights.map_or(1, |weights| weights[row]);
                if weight == 0 || *id == NO_ENTRY {
                    continue;
                }
                let (change, dirty) = self.marks.add(*id as usize, variant, weight);
                *delta = change;
                if dirty {
                    self.dirty.mark(*id);
                }
            }
        }
        deltas
    }

    /// The group of an entry.
    pub fn group(&self, id: u32) -> u32 {
        self.groups[id as usize]
    }

    /// Bytes of an entry's value.
    pub fn put_value(&self, id: u32, out: &mut Vec<u8>) {
        match &self.values {
            Raw::Narrow(values) => out.extend_from_slice(&values[id as usize].to_le_bytes()),
            Raw::Wide(values) => out.extend_from_slice(&values[id as usize].to_le_bytes()),
        }
    }

    /// What an entry has seen; `false` if it is nothing (any more).
    pub fn encode(&self, id: u32, out: &mut Vec<u8>) -> bool {
        let id = id as usize;
        match &self.marks {
            Marks::Bits { stride, bits } => {
                let bits = &bits[id * stride..(id + 1) * stride];
                out.extend_from_slice(bits);
                bits.iter().any(|bits| *bits != 0)
            }
            Marks::Counts { stride, counts } => {
                let counts = &counts[id * stride..(id + 1) * stride];
                counts
                    .iter()
                    .for_each(|count| put_signed(i64::from(*count), out));
                counts.iter().any(|count| *count != 0)
            }
        }
    }

    /// From [`Self::encode`].
    pub fn decode(&mut self, id: u32, reader: &mut Reader<'_>) -> Result<()> {
        let id = id as usize;
        match &mut self.marks {
            Marks::Bits { stride, bits } => {
                bits[id * *stride..(id + 1) * *stride].copy_from_slice(reader.take(*stride)?);
            }
            Marks::Counts { stride, counts } => {
                for count in &mut counts[id * *stride..(id + 1) * *stride] {
                    *count = reader.signed()? as i32;
                }
            }
        }
        Ok(())
    }

    /// A stored entry of a group. What is in memory is newer, and stays.
    pub fn load(&mut self, slot: u32, value: &[u8], marks: &mut Reader<'_>) -> Result<()> {
        let mut reader = Reader(value);
        let raw = match &self.values {
            Raw::Narrow(_) => Raw::Narrow(vec![u64::from_le_bytes(reader.array()?)]),
            Raw::Wide(_) => Raw::Wide(vec![u128::from_le_bytes(reader.array()?)]),
        };
        let mut ids = Vec::with_capacity(1);
        let first_new = self.resolve(&[slot], &raw, &[None], &mut ids)?;
        match ids.first() {
            Some(id) if *id >= first_new => self.decode(*id, marks),
            _ => Ok(()),
        }
    }

    /// Freezes what changed. What was frozen before must be written.
    pub fn freeze(&mut self) {
        self.dirty.freeze();
    }

    /// Something frozen is left.
    pub fn is_frozen(&self) -> bool {
        self.dirty.is_frozen()
    }

    /// As [`DirtySet::thaw`].
    pub fn thaw(&mut self, id: u32) -> bool {
        self.dirty.thaw(id)
    }

    /// As [`DirtySet::take_frozen`]; `group_of` knows the key group of a slot.
    pub fn take_frozen(&mut self, limit: usize, group_of: impl Fn(u32) -> KeyGroup) -> Vec<u32> {
        let groups = &self.groups;
        self.dirty
            .take_frozen(limit, |id| group_of(groups[id as usize]))
    }

    /// All entries: groups, values, and for each variant whether the value is in it.
    pub fn entries(&self) -> (&[u32], &Raw, Vec<Vec<i8>>) {
        let in_variant =
            |variant| (0..self.len()).map(move |id| i8::from(self.marks.has(id, variant)));
        let variants = (0..self.variants).map(|variant| in_variant(variant).collect());
        (&self.groups, &self.values, variants.collect())
    }

    /// Bytes in memory.
    pub fn memory(&self) -> usize {
        let values = match &self.values {
            Raw::Narrow(values) => values.capacity() * 8,
            Raw::Wide(values) => values.capacity() * 16,
        };
        let marks = match &self.marks {
            Marks::Bits { bits, .. } => bits.capacity(),
            Marks::Counts { counts, .. } => counts.capacity() * 4,
        };
        values
            + marks
            + self.groups.capacity() * 4
            + self.index.capacity() * 6
            + self.dirty.memory()
    }
}

impl Marks {
    /// The change of the variant's set (-1, 0, 1), and whether the entry is to be written.
    #[inline]
    fn add(&mut self, id: usize, variant: usize, weight: i8) -> (i8, bool) {
        match self {
            Self::Bits { stride, bits } => {
                let byte = &mut bits[id * *stride + variant / 8];
                let bit = 1 << (variant % 8);
                let new = *byte & bit == 0;
                *byte |= bit;
                (i8::from(new), new)
            }
            Self::Counts { stride, counts } => {
                let count = &mut counts[id * *stride + variant];
                let before = *count > 0;
                *count = count.saturating_add(i32::from(weight));
                (i8::from(*count > 0) - i8::from(before), true)
            }
        }
    }

    fn has(&self, id: usize, variant: usize) -> bool {
        match self {
            Self::Bits { stride, bits } => {
                bits[id * stride + variant / 8] & (1 << (variant % 8)) != 0
            }
            Self::Counts { stride, counts } => counts[id * stride + variant] > 0,
        }
    }
}
