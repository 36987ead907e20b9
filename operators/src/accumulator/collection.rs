//! Aggregates that keep all values of a group: ARRAY_AGG, COLLECT and what is made of them, FIRST_VALUE and LAST_VALUE of an input that retracts.
//!
//! Each value has a place, a number that grows as values come, and a count: 1 in a list; in a bag how often the value is there. A value that is
//! taken back before it came has a negative count, and is none of the group's. In keyed state each is an entry of its own.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, Int64Array, ListArray, RecordBatch, StructArray, UInt32Array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Int64Type, Schema, SchemaRef};
use weir_dataflow::agg::PrimitiveKind;
use weir_dataflow::key::{EncodedKeys, KeyEncoder};
use weir_dataflow::{Error, Result};

use super::column::{Weights, each, mismatch};
use crate::codec::{Reader, put_signed};

/// What is made of a group's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    First,
    Last,
    List,
    Bag,
}

/// A value; its bytes are a key of one column.
#[derive(Debug, Clone)]
struct Entry {
    bytes: Arc<[u8]>,
    count: i64,
}

#[derive(Debug, Clone, Default)]
struct Group {
    values: BTreeMap<i64, Entry>,
    /// Of a bag: where each value is.
    places: HashMap<Arc<[u8]>, i64>,
    /// Of a list: values that were taken back before they came.
    owed: usize,
}

/// What changes an entry, and what it was at a freeze.
type Change = (u32, i64);

/// Values by slot.
pub struct Collection {
    shape: Shape,
    /// Of the partial results.
    storage: DataType,
    schema: SchemaRef,
    encoder: KeyEncoder,
    groups: Vec<Group>,
    changed: BTreeSet<Change>,
    /// What a snapshot has frozen of `changed`, and is as it was.
    frozen: BTreeSet<Change>,
    /// Frozen entries that have changed since, as they were.
    thawed: Vec<(Change, Option<Entry>)>,
    bytes: usize,
}

impl Collection {
    /// Of a kind that keeps values, or FIRST or LAST. `storage` is the type of its partial results.
    pub fn new(kind: PrimitiveKind, storage: &DataType) -> Result<Self> {
        let (shape, value) = match (kind, storage) {
            (PrimitiveKind::First, value) => (Shape::First, value),
            (PrimitiveKind::Last, value) => (Shape::Last, value),
            (PrimitiveKind::List { .. }, DataType::List(item)) => (Shape::List, item.data_type()),
            (PrimitiveKind::Bag { .. }, DataType::List(item)) => (
                Shape::Bag,
                pair(item)?.first().ok_or_else(mismatch)?.data_type(),
            ),
            _ => return Err(mismatch()),
        };
        let field = Field::new("value", value.clone(), true);
        let schema: SchemaRef = Arc::new(Schema::new(vec![field]));
        Ok(Self {
            shape,
            storage: storage.clone(),
            encoder: KeyEncoder::new(&schema, &[0])?,
            schema,
            groups: Vec::new(),
            changed: BTreeSet::new(),
            frozen: BTreeSet::new(),
            thawed: Vec::new(),
            bytes: 0,
        })
    }

    /// More slots.
    pub fn grow(&mut self, length: usize) {
        self.groups.resize(length, Group::default());
    }

    /// No values.
    pub fn reset(&mut self, slot: usize) {
        let places: Vec<i64> = self.groups[slot].values.keys().copied().collect();
        for place in places {
            self.remove(slot, place);
        }
    }

    /// Rows into their slots.
    pub fn update(&mut self, slots: &[u32], weights: Weights<'_>, values: &ArrayRef) -> Result<()> {
        let keys = self.encode(values)?;
        each(slots, weights, |row, slot, weight| {
            self.add(slot, keys.get(row), i64::from(weight));
        });
        Ok(())
    }

    fn encode(&self, values: &ArrayRef) -> Result<EncodedKeys> {
        // Metadata and nullability of the input's field are not those of a key.
        let batch = RecordBatch::try_new(self.schema.clone(), vec![values.clone()])?;
        self.encoder.encode_batch(&batch)
    }

    fn add(&mut self, slot: usize, bytes: &[u8], times: i64) {
        if self.shape == Shape::Bag {
            let place = self.groups[slot].places.get(bytes).copied();
            self.count(slot, place, bytes, times);
            return;
        }
        for _ in 0..times.abs() {
            // One that was taken back before, or the first one that is there.
            let wanted = -times.signum();
            let group = &self.groups[slot];
            let known = if wanted < 0 && group.owed == 0 {
                None
            } else {
                let same =
                    |(_, entry): &(&i64, &Entry)| entry.count == wanted && *entry.bytes == *bytes;
                group.values.iter().find(same).map(|(place, _)| *place)
            };
            self.count(slot, known, bytes, times.signum());
        }
    }

    /// Adds to the count of the entry at `place`, or of a new one behind all others.
    fn count(&mut self, slot: usize, place: Option<i64>, bytes: &[u8], times: i64) {
        let group = &self.groups[slot];
        let place = place.unwrap_or_else(|| {
            let last = group.values.last_key_value();
            last.map_or(0, |(place, _)| place + 1)
        });
        let before = group.values.get(&place).map_or(0, |entry| entry.count);
        if before + times == 0 {
            self.remove(slot, place);
            return;
        }
        self.touch(slot, place);
        let group = &mut self.groups[slot];
        if let Some(entry) = group.values.get_mut(&place) {
            entry.count += times;
            return;
        }
        self.insert(slot, place, bytes, times);
    }

    fn insert(&mut self, slot: usize, place: i64, bytes: &[u8], count: i64) {
        let bytes: Arc<[u8]> = bytes.into();
        self.bytes += size_of_entry(bytes.len());
        let group = &mut self.groups[slot];
        if self.shape == Shape::Bag {
            group.places.insert(Arc::clone(&bytes), place);
        } else if count < 0 {
            group.owed += 1;
        }
        group.values.insert(place, Entry { bytes, count });
    }

    fn remove(&mut self, slot: usize, place: i64) {
        self.touch(slot, place);
        let group = &mut self.groups[slot];
        if let Some(entry) = group.values.remove(&place) {
            self.bytes -= size_of_entry(entry.bytes.len());
            group.places.remove(&entry.bytes);
            if self.shape != Shape::Bag && entry.count < 0 {
                group.owed -= 1;
            }
        }
    }

    /// An entry is about to change: if it is frozen, what it was is set aside.
    fn touch(&mut self, slot: usize, place: i64) {
        let change = (slot as u32, place);
        if !self.frozen.is_empty() && self.frozen.remove(&change) {
            let entry = self.groups[slot].values.get(&place).cloned();
            self.thawed.push((change, entry));
        }
        self.changed.insert(change);
    }

    /// All values of one slot are those of another, behind its own.
    pub fn absorb(&mut self, from: usize, into: usize) {
        let values: Vec<Entry> = self.groups[from].values.values().cloned().collect();
        for entry in values {
            self.add(into, &entry.bytes, entry.count);
        }
    }

    /// Partial results (see [`Self::gather`]) behind the values of their slots.
    pub fn merge(&mut self, slots: &[u32], partial: &ArrayRef) -> Result<()> {
        let list = partial.as_list_opt::<i32>().ok_or_else(mismatch)?;
        let (values, counts) = match self.shape {
            Shape::List => (list.values().clone(), None),
            Shape::Bag => {
                let entries = list.values().as_struct_opt().ok_or_else(mismatch)?;
                let counts = entries.column(1).as_primitive_opt::<Int64Type>();
                let counts = counts.ok_or_else(mismatch)?.values().clone();
                (entries.column(0).clone(), Some(counts))
            }
            Shape::First | Shape::Last => return Err(mismatch()),
        };
        let keys = self.encode(&values)?;
        for (row, slot) in slots.iter().enumerate() {
            let ends = &list.value_offsets()[row..row + 2];
            for value in ends[0] as usize..ends[1] as usize {
                let times = counts.as_ref().map_or(1, |counts| counts[value]);
                self.add(*slot as usize, keys.get(value), times);
            }
        }
        Ok(())
    }

    /// Partial results: the values of slots, with their counts if this is a bag; NULL where there are none. Of FIRST and LAST the one value.
    pub fn gather(&self, slots: &[u32]) -> Result<ArrayRef> {
        let of = |slot: &u32| {
            let values = self.groups[*slot as usize].values.values();
            values.filter(|entry| entry.count > 0)
        };
        if matches!(self.shape, Shape::First | Shape::Last) {
            let picked = slots.iter().map(|slot| match self.shape {
                Shape::First => of(slot).next(),
                _ => of(slot).next_back(),
            });
            return self.pick(picked.collect());
        }
        let entries: Vec<&Entry> = slots.iter().flat_map(of).collect();
        let lengths: Vec<usize> = slots.iter().map(|slot| of(slot).count()).collect();
        let bytes: Vec<&[u8]> = entries.iter().map(|entry| &*entry.bytes).collect();
        let values = self.decode(&bytes)?;
        let DataType::List(item) = &self.storage else {
            return Err(mismatch());
        };
        let items: ArrayRef = match self.shape {
            Shape::Bag => {
                let counts = entries.iter().map(|entry| entry.count);
                let counts: ArrayRef = Arc::new(Int64Array::from_iter_values(counts));
                Arc::new(StructArray::try_new(
                    pair(item)?.clone(),
                    vec![values, counts],
                    None,
                )?)
            }
            _ => values,
        };
        let nulls: NullBuffer = lengths.iter().map(|length| *length > 0).collect();
        let offsets = OffsetBuffer::from_lengths(lengths);
        let list = ListArray::try_new(Arc::clone(item), offsets, items, Some(nulls))?;
        Ok(Arc::new(list))
    }

    fn pick(&self, picked: Vec<Option<&Entry>>) -> Result<ArrayRef> {
        let mut next = 0;
        let places = picked.iter().map(|entry| {
            entry.map(|_| {
                next += 1;
                next - 1
            })
        });
        let places: UInt32Array = places.collect();
        let bytes: Vec<&[u8]> = picked.iter().flatten().map(|entry| &*entry.bytes).collect();
        Ok(take(&self.decode(&bytes)?, &places, None)?)
    }

    fn decode(&self, values: &[&[u8]]) -> Result<ArrayRef> {
        let mut columns = self.encoder.decode(values)?;
        columns.pop().ok_or_else(mismatch)
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

    /// At most `limit` frozen entries: slot, the entry's name, and its value behind the version at the freeze (`None`: it was gone).
    pub fn take_frozen(&mut self, limit: usize) -> Vec<(u32, Vec<u8>, Option<Vec<u8>>)> {
        let rest = self.thawed.len().saturating_sub(limit);
        let encoded = |(slot, place): Change, entry: Option<&Entry>| {
            let value = entry.map(|entry| {
                let mut value = Vec::with_capacity(entry.bytes.len() + 2);
                put_signed(entry.count, &mut value);
                value.extend_from_slice(&entry.bytes);
                value
            });
            (slot, place.to_le_bytes().to_vec(), value)
        };
        let thawed = self.thawed.drain(rest..);
        let mut taken: Vec<_> = thawed
            .map(|(change, entry)| encoded(change, entry.as_ref()))
            .collect();
        while taken.len() < limit
            && let Some(change) = self.frozen.pop_first()
        {
            let entry = self.groups[change.0 as usize].values.get(&change.1);
            taken.push(encoded(change, entry));
        }
        taken
    }

    /// An entry of keyed state.
    pub fn load(&mut self, slot: u32, name: &[u8], value: &mut Reader<'_>) -> Result<()> {
        let place = name
            .try_into()
            .map_err(|_| Error::State("the name of a collected value is broken".to_owned()))?;
        let (place, slot) = (i64::from_le_bytes(place), slot as usize);
        let count = value.signed()?;
        if !self.groups[slot].values.contains_key(&place) {
            self.insert(slot, place, value.0, count);
        }
        Ok(())
    }

    /// Bytes in memory, roughly.
    pub fn memory(&self) -> usize {
        let changed = self.changed.len() + self.frozen.len() + self.thawed.len();
        self.groups.capacity() * size_of::<Group>() + self.bytes + changed * 24
    }
}

/// Of an entry in memory, roughly.
fn size_of_entry(bytes: usize) -> usize {
    bytes + 72
}

fn pair(item: &FieldRef) -> Result<&Fields> {
    match item.data_type() {
        DataType::Struct(fields) if fields.len() == 2 => Ok(fields),
        _ => Err(mismatch()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Array, StringArray};
    use arrow::datatypes::DataType::{Int64, Utf8};
    use arrow::util::display::array_value_to_string;

    fn storage(kind: PrimitiveKind) -> DataType {
        let primitive = weir_dataflow::agg::Primitive {
            kind,
            argument: Some(0),
            filter: None,
            distinct: false,
        };
        primitive.storage_type(Some(&Utf8)).unwrap()
    }

    fn new(kind: PrimitiveKind) -> Collection {
        let mut collection = Collection::new(kind, &storage(kind)).unwrap();
        collection.grow(2);
        collection
    }

    fn add(collection: &mut Collection, values: &[&str], weight: i8) {
        let array: ArrayRef = Arc::new(StringArray::from(values.to_vec()));
        let weights = vec![weight; values.len()];
        let slots = vec![0; values.len()];
        collection.update(&slots, Some(&weights), &array).unwrap();
    }

    fn shown(collection: &Collection, slot: u32) -> String {
        array_value_to_string(&collection.gather(&[slot]).unwrap(), 0).unwrap()
    }

    #[test]
    fn what_is_taken_back_is_the_first_of_its_like() {
        let mut list = new(PrimitiveKind::List { nulls: true });
        add(&mut list, &["a", "b", "a", "c"], 1);
        add(&mut list, &["a"], -1);
        assert_eq!(shown(&list, 0), "[b, a, c]");
        assert_eq!(shown(&list, 1), "");
        // Taken back before it comes.
        add(&mut list, &["x"], -1);
        assert_eq!(shown(&list, 0), "[b, a, c]");
        add(&mut list, &["x", "y"], 1);
        assert_eq!(shown(&list, 0), "[b, a, c, y]");
    }

    #[test]
    fn a_bag_has_each_value_once_where_it_came_first() {
        let mut bag = new(PrimitiveKind::Bag { nulls: false });
        add(&mut bag, &["a", "b", "a"], 1);
        add(&mut bag, &["b"], -1);
        add(&mut bag, &["c", "b"], 1);
        let partial = bag.gather(&[0]).unwrap();
        let shown_now = shown(&bag, 0);
        assert!(shown_now.contains("value: a, count: 2"), "{shown_now}");
        assert!(shown_now.find('c') < shown_now.find("value: b"));
        bag.merge(&[1], &partial).unwrap();
        bag.merge(&[1], &partial).unwrap();
        assert!(shown(&bag, 1).contains("value: a, count: 4"));
        bag.absorb(1, 0);
        assert!(shown(&bag, 0).contains("value: a, count: 6"));
    }

    #[test]
    fn the_first_and_last_value_follow_retractions() {
        let mut first = new(PrimitiveKind::First);
        let mut last = new(PrimitiveKind::Last);
        for collection in [&mut first, &mut last] {
            add(collection, &["a", "b", "c"], 1);
        }
        assert_eq!(
            (shown(&first, 0), shown(&last, 0)),
            ("a".into(), "c".into())
        );
        add(&mut first, &["a"], -1);
        add(&mut last, &["c"], -1);
        assert_eq!(
            (shown(&first, 0), shown(&last, 0)),
            ("b".into(), "b".into())
        );
        assert_eq!(first.gather(&[0, 1]).unwrap().null_count(), 1);
    }

    #[test]
    fn entries_are_written_as_they_were_at_the_freeze() {
        let mut list = new(PrimitiveKind::List { nulls: false });
        add(&mut list, &["a", "b"], 1);
        list.freeze();
        add(&mut list, &["a"], -1);
        add(&mut list, &["c"], 1);
        let mut entries = list.take_frozen(10);
        entries.sort();
        assert!(entries.iter().all(|(_, _, value)| value.is_some()));
        let mut again = new(PrimitiveKind::List { nulls: false });
        for (slot, name, value) in entries {
            let value = value.unwrap();
            again.load(slot, &name, &mut Reader(&value)).unwrap();
        }
        assert_eq!(shown(&again, 0), "[a, b]");
        list.freeze();
        for (slot, name, value) in list.take_frozen(10) {
            assert_eq!(value.is_none(), name[0] == 0 && slot == 0);
        }
        let before = list.memory();
        list.reset(0);
        assert!(list.memory() < before + 200 && shown(&list, 0).is_empty());
    }

    #[test]
    fn numbers_are_collected_too() {
        let kind = PrimitiveKind::List { nulls: true };
        let primitive = weir_dataflow::agg::Primitive {
            kind,
            argument: Some(0),
            filter: None,
            distinct: false,
        };
        let storage = primitive.storage_type(Some(&Int64)).unwrap();
        let mut list = Collection::new(kind, &storage).unwrap();
        list.grow(1);
        let values: ArrayRef = Arc::new(Int64Array::from(vec![Some(3), None, Some(1)]));
        list.update(&[0, 0, 0], None, &values).unwrap();
        assert_eq!(shown(&list, 0), "[3, , 1]");
    }
}
