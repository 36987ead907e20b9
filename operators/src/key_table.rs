//! Keys of a working set → dense slots, in the order in which they came. Accumulators are columns indexed by slot.

use hashbrown::HashTable;
use weir_common::key_group::{KeyGroup, key_group_of_hash};
use weir_dataflow::key::EncodedKeys;

/// Encoded keys and their slots. Nothing is ever removed but by [`Self::clear`].
#[derive(Debug, Default)]
pub struct KeyTable {
    index: HashTable<u32>,
    hashes: Vec<u64>,
    keys: Keys,
}

/// The keys' bytes, one after the other. As long as all have one width, which most keys do for ever, where one begins is computed and not looked
/// up: with many keys, each look-up is a cache miss.
#[derive(Debug, Default)]
pub struct Keys {
    bytes: Vec<u8>,
    width: usize,
    /// Empty as long as all are `width` long.
    ends: Vec<u32>,
}

impl Keys {
    /// Bytes of a slot.
    #[inline]
    pub fn at(&self, slot: u32) -> &[u8] {
        let slot = slot as usize;
        if self.ends.is_empty() {
            return &self.bytes[slot * self.width..][..self.width];
        }
        let start = if slot == 0 { 0 } else { self.ends[slot - 1] };
        &self.bytes[start as usize..self.ends[slot] as usize]
    }

    /// Adds a key behind the `count` that there are.
    pub fn push(&mut self, key: &[u8], count: usize) {
        if count == 0 {
            self.width = key.len();
        } else if self.ends.is_empty() && key.len() != self.width {
            self.ends
                .extend((1..=count).map(|i| (i * self.width) as u32));
        }
        self.bytes.extend_from_slice(key);
        if !self.ends.is_empty() {
            self.ends.push(self.bytes.len() as u32);
        }
    }

    /// Bytes in memory.
    pub fn memory(&self) -> usize {
        self.bytes.capacity() + self.ends.capacity() * 4
    }

    /// Near what 32-bit offsets can say.
    pub fn is_full(&self) -> bool {
        self.bytes.len() > 3 << 30
    }
}

/// As `==`, without a call for the lengths that most keys have.
#[inline]
fn same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() || !(8..=16).contains(&a.len()) {
        return a == b;
    }
    let ends = |key: &[u8]| Some((*key.first_chunk::<8>()?, *key.last_chunk::<8>()?));
    match (ends(a), ends(b)) {
        (Some((a, c)), Some((b, d))) => {
            let differs = (u64::from_ne_bytes(a) ^ u64::from_ne_bytes(b))
                | (u64::from_ne_bytes(c) ^ u64::from_ne_bytes(d));
            differs == 0
        }
        _ => false,
    }
}

/// Key groups are made of a hash's upper bits, and a subtask has few of them: the table's tags, which are upper bits too, need the lower ones.
#[inline]
fn spread(hash: u64) -> u64 {
    hash ^ (hash << 32)
}

impl KeyTable {
    /// With room for as many keys, of which the bytes are not known.
    pub fn with_capacity(keys: usize) -> Self {
        Self {
            index: HashTable::with_capacity(keys),
            hashes: Vec::with_capacity(keys),
            keys: Keys {
                bytes: Vec::with_capacity(keys * 9),
                ..Keys::default()
            },
        }
    }

    /// Number of slots.
    pub fn len(&self) -> usize {
        self.hashes.len()
    }

    /// Key of a slot.
    #[inline]
    pub fn key(&self, slot: u32) -> &[u8] {
        self.keys.at(slot)
    }

    /// Hash of a slot's key.
    #[inline]
    pub fn hash(&self, slot: u32) -> u64 {
        self.hashes[slot as usize]
    }

    /// Key group of a slot.
    #[inline]
    pub fn key_group(&self, slot: u32, max_parallelism: u32) -> KeyGroup {
        key_group_of_hash(self.hash(slot), max_parallelism)
    }

    /// Slot of each key into `slots` (emptied first); new keys get the next ones. Gives the first new slot: all from it on are new.
    pub fn resolve(&mut self, keys: &EncodedKeys, hashes: &[u64], slots: &mut Vec<u32>) -> u32 {
        let first_new = self.len() as u32;
        slots.clear();
        slots.extend(
            keys.iter()
                .zip(hashes)
                .map(|(key, hash)| self.slot_of(key, *hash)),
        );
        first_new
    }

    /// Slot of a key, the next one if it is new.
    #[inline]
    pub fn slot_of(&mut self, key: &[u8], hash: u64) -> u32 {
        let (keys, hashes) = (&self.keys, &self.hashes);
        // The table's tags rule nearly all others out: to compare hashes first would be one more cache miss.
        let entry = self.index.entry(
            spread(hash),
            |slot| same(keys.at(*slot), key),
            |slot| spread(hashes[*slot as usize]),
        );
        match entry {
            hashbrown::hash_table::Entry::Occupied(found) => *found.get(),
            hashbrown::hash_table::Entry::Vacant(vacant) => {
                let slot = self.hashes.len();
                vacant.insert(slot as u32);
                self.keys.push(key, slot);
                self.hashes.push(hash);
                slot as u32
            }
        }
    }

    /// Slot of a key that is there.
    #[inline]
    pub fn find(&self, key: &[u8], hash: u64) -> Option<u32> {
        let found = self
            .index
            .find(spread(hash), |slot| same(self.keys.at(*slot), key));
        found.copied()
    }

    /// Forgets all keys and gives the memory back.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Bytes in memory.
    pub fn memory(&self) -> usize {
        self.index.capacity() * 6 + self.hashes.capacity() * 8 + self.keys.memory()
    }

    /// The keys' own bytes are near what 32-bit offsets can say: time to spill.
    pub fn is_full(&self) -> bool {
        self.keys.is_full() || self.hashes.len() > 3 << 30
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_common::key_group::hash_key;

    #[test]
    fn a_key_keeps_its_slot() {
        let mut table = KeyTable::default();
        let keys: Vec<Vec<u8>> = (0..5000u32)
            .map(|i| i.to_le_bytes()[..].repeat(1 + i as usize % 3))
            .collect();
        let all = |table: &mut KeyTable| -> Vec<u32> {
            keys.iter()
                .map(|key| table.slot_of(key, hash_key(key)))
                .collect()
        };
        let slots = all(&mut table);
        assert_eq!(slots, all(&mut table));
        assert_eq!(table.len(), 5000);
        for (key, slot) in keys.iter().zip(slots) {
            assert_eq!(table.key(slot), key);
        }
        // Two keys of one hash are two keys.
        assert_ne!(table.slot_of(b"x", 7), table.slot_of(b"y", 7));
    }

    #[test]
    fn keys_of_one_width_may_be_followed_by_others() {
        let mut table = KeyTable::default();
        for key in [&b"ab"[..], b"cd", b"ef", b"", b"g"] {
            table.slot_of(key, hash_key(key));
        }
        let keys: Vec<&[u8]> = (0..5).map(|slot| table.key(slot)).collect();
        assert_eq!(keys, [&b"ab"[..], b"cd", b"ef", b"", b"g"]);
        let mut table = KeyTable::default();
        assert_eq!((table.slot_of(b"", 1), table.slot_of(b"", 1)), (0, 0));
    }

    #[test]
    fn keys_are_the_same_only_byte_for_byte() {
        for length in 0..40 {
            let key: Vec<u8> = (0..length).collect();
            assert!(same(&key, &key.clone()));
            assert!(!same(&key, &key[..key.len().saturating_sub(1)]) || length == 0);
            for place in 0..key.len() {
                let mut other = key.clone();
                other[place] ^= 1;
                assert!(!same(&key, &other), "{length} {place}");
            }
        }
    }
}
