//! Keys of a working set → dense slots, in the order in which they came. Accumulators are columns indexed by slot.

use hashbrown::HashTable;
use weir_common::key_group::{KeyGroup, key_group_of_hash};
use weir_dataflow::key::EncodedKeys;

/// Encoded keys and their slots. Nothing is ever removed but by [`Self::clear`].
#[derive(Debug, Default)]
pub struct KeyTable {
    index: HashTable<u32>,
    hashes: Vec<u64>,
    bytes: Vec<u8>,
    ends: Vec<u32>,
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
            bytes: Vec::with_capacity(keys * 9),
            ends: Vec::with_capacity(keys),
        }
    }

    /// Number of slots.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Key of a slot.
    #[inline]
    pub fn key(&self, slot: u32) -> &[u8] {
        key_at(&self.bytes, &self.ends, slot)
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
        let (bytes, ends, hashes) = (&self.bytes, &self.ends, &self.hashes);
        let entry = self.index.entry(
            spread(hash),
            |slot| hashes[*slot as usize] == hash && key_at(bytes, ends, *slot) == key,
            |slot| spread(hashes[*slot as usize]),
        );
        match entry {
            hashbrown::hash_table::Entry::Occupied(found) => *found.get(),
            hashbrown::hash_table::Entry::Vacant(vacant) => {
                let slot = self.ends.len() as u32;
                vacant.insert(slot);
                self.hashes.push(hash);
                self.bytes.extend_from_slice(key);
                self.ends.push(self.bytes.len() as u32);
                slot
            }
        }
    }

    /// Forgets all keys and gives the memory back.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Bytes in memory.
    pub fn memory(&self) -> usize {
        self.index.capacity() * 6
            + self.hashes.capacity() * 8
            + self.bytes.capacity()
            + self.ends.capacity() * 4
    }

    /// The keys' own bytes are near what 32-bit offsets can say: time to spill.
    pub fn is_full(&self) -> bool {
        self.bytes.len() > 3 << 30 || self.ends.len() > 3 << 30
    }
}

#[inline]
fn key_at<'a>(bytes: &'a [u8], ends: &[u32], slot: u32) -> &'a [u8] {
    let slot = slot as usize;
    let start = if slot == 0 { 0 } else { ends[slot - 1] };
    &bytes[start as usize..ends[slot] as usize]
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
}
