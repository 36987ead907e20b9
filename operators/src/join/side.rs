//! The rows of one input of a join, in memory: a list for each join key.
//!
//! A row is kept as its encoded bytes ([`KeyEncoder`] over all columns). An input that is updated, and one of which only the number of equal
//! rows matters, has an entry for each different row with its count; an insert-only one has an entry a row, told apart by a sequence
//! number, and no index to look rows up.

use weir_common::key_group::hash_key;
use weir_dataflow::key::{EncodedKeys, KeyEncoder};
use weir_dataflow::{Result, StateTable, StateWrites};

use crate::dirty::DirtySet;
use crate::key_table::{KeyTable, Keys};

/// No slot, no entry, the end of a list.
pub const NONE: u32 = u32::MAX;
/// In `next`: the entry is in no list.
const UNLINKED: u32 = u32::MAX - 1;

/// What an input needs of its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SideSpec {
    /// Equal rows share an entry, which can be taken back.
    pub counted: bool,
    /// The number of matching rows of the other input is kept with each row.
    pub tracks_matches: bool,
    /// An entry that was not touched for this long is gone; 0: never.
    pub ttl_ms: u64,
}

/// The bytes of the entries, by their dense number.
enum Rows {
    Counted(KeyTable),
    Listed(Keys),
}

/// See the module.
pub struct Side {
    pub spec: SideSpec,
    pub(super) table: StateTable,
    pub(super) encoder: KeyEncoder,
    rows: Rows,
    /// Equal rows; 0: the entry is gone.
    counts: Vec<u32>,
    /// Matching rows of the other input, if they are tracked.
    matches: Vec<u32>,
    /// Listed rows only.
    sequences: Vec<u64>,
    /// When the entry was touched last, milliseconds UTC; empty without a TTL.
    touched_ms: Vec<i64>,
    pub(super) slots: Vec<u32>,
    next: Vec<u32>,
    /// The state has something under the entry's key.
    pub(super) stored: Vec<bool>,
    /// By slot of the join key: its newest entry.
    heads: Vec<u32>,
    /// By slot: what the state has of the key is in memory.
    pub(super) loaded: Vec<bool>,
    pub(super) dirty: DirtySet,
    /// Frozen entries that have changed since, as they were.
    pub(super) thawed: StateWrites,
    pub(super) next_sequence: u64,
    /// Of the state's entries those from this sequence number on are in memory.
    pub(super) first_in_memory: u64,
    dead: usize,
}

/// An entry as it stands in the state.
pub struct Entry<'a> {
    pub row: &'a [u8],
    pub sequence: u64,
    pub count: u32,
    pub matches: u32,
    pub touched_ms: i64,
}

impl Side {
    pub fn new(spec: SideSpec, table: StateTable, encoder: KeyEncoder) -> Self {
        Self {
            rows: match spec.counted {
                true => Rows::Counted(KeyTable::default()),
                false => Rows::Listed(Keys::default()),
            },
            spec,
            table,
            encoder,
            counts: Vec::new(),
            matches: Vec::new(),
            sequences: Vec::new(),
            touched_ms: Vec::new(),
            slots: Vec::new(),
            next: Vec::new(),
            stored: Vec::new(),
            heads: Vec::new(),
            loaded: Vec::new(),
            dirty: DirtySet::default(),
            thawed: StateWrites::default(),
            next_sequence: 0,
            first_in_memory: 0,
            dead: 0,
        }
    }

    /// An empty one that goes on with the sequence.
    pub fn emptied(&self) -> Self {
        let mut side = Self::new(self.spec, self.table, self.encoder.clone());
        side.next_sequence = self.next_sequence;
        side.first_in_memory = self.first_in_memory;
        side
    }

    /// Number of entries in memory, gone ones among them.
    pub fn len(&self) -> usize {
        self.counts.len()
    }

    /// Entries in memory that are gone.
    pub fn dead(&self) -> usize {
        self.dead
    }

    /// Makes room for slots of join keys.
    pub fn grow(&mut self, slots: usize) {
        self.heads.resize(slots, NONE);
        self.loaded.resize(slots, false);
    }

    /// The encoded row of an entry.
    #[inline]
    pub fn row(&self, entry: u32) -> &[u8] {
        match &self.rows {
            Rows::Counted(rows) => rows.key(entry),
            Rows::Listed(rows) => rows.at(entry),
        }
    }

    /// How many equal rows an entry stands for.
    #[inline]
    pub fn count(&self, entry: u32) -> u32 {
        self.counts[entry as usize]
    }

    /// How many rows of the other input an entry matches; 0 if nobody asks.
    #[inline]
    pub fn matches(&self, entry: u32) -> u32 {
        self.matches.get(entry as usize).copied().unwrap_or(0)
    }

    /// The sequence number of an entry of an insert-only input.
    pub fn sequence(&self, entry: u32) -> u64 {
        self.sequences.get(entry as usize).copied().unwrap_or(0)
    }

    /// When an entry was touched last; 0 without a TTL.
    pub fn touched_ms(&self, entry: u32) -> i64 {
        self.touched_ms.get(entry as usize).copied().unwrap_or(0)
    }

    /// An entry that was not touched for longer than the TTL.
    #[inline]
    pub fn is_expired(&self, entry: u32, now_ms: i64) -> bool {
        self.spec.ttl_ms > 0 && self.touched_ms(entry) + self.spec.ttl_ms as i64 <= now_ms
    }

    /// Calls `found` for the entries of a join key that are there; gone ones leave the list.
    #[inline]
    pub fn of_key(&mut self, slot: u32, now_ms: i64, mut found: impl FnMut(u32)) {
        let mut before = NONE;
        let mut at = self.heads[slot as usize];
        while at != NONE {
            let next = self.next[at as usize];
            if self.counts[at as usize] == 0 {
                match before {
                    NONE => self.heads[slot as usize] = next,
                    before => self.next[before as usize] = next,
                }
                self.next[at as usize] = UNLINKED;
            } else {
                if !self.is_expired(at, now_ms) {
                    found(at);
                }
                before = at;
            }
            at = next;
        }
    }

    /// The entry for a row that comes, and whether it is new. An old one is to be thawed before [`Self::add`].
    pub fn entry_of(&mut self, slot: u32, row: &[u8]) -> (u32, bool) {
        let known = self.len() as u32;
        let entry = match &mut self.rows {
            Rows::Counted(rows) => rows.slot_of(row, hash_key(row)),
            Rows::Listed(rows) => {
                rows.push(row, known as usize);
                known
            }
        };
        if entry == known {
            let sequence = self.next_sequence;
            self.next_sequence += 1;
            self.push(slot, sequence);
        }
        (entry, entry == known)
    }

    /// One more row of an entry. `matches`: how many rows of the other input it meets.
    pub fn add(&mut self, entry: u32, is_new: bool, matches: u32, now_ms: i64) {
        let index = entry as usize;
        if self.counts[index] > 0 && self.is_expired(entry, now_ms) {
            self.end(entry);
        }
        if self.counts[index] == 0 {
            if !is_new {
                self.dead = self.dead.saturating_sub(1);
            }
            if self.next[index] == UNLINKED {
                self.link(self.slots[index], entry);
            }
            if self.spec.tracks_matches {
                self.matches[index] = matches;
            }
        }
        self.counts[index] = self.counts[index].saturating_add(1);
        self.touch(entry, now_ms);
    }

    /// The entry of a row that is there; to be thawed before [`Self::remove`].
    pub fn find(&self, row: &[u8]) -> Option<u32> {
        let Rows::Counted(rows) = &self.rows else {
            return None;
        };
        let entry = rows.find(row, hash_key(row))?;
        (self.count(entry) > 0).then_some(entry)
    }

    /// One row less of an entry.
    pub fn remove(&mut self, entry: u32, now_ms: i64) {
        self.counts[entry as usize] -= 1;
        if self.counts[entry as usize] == 0 {
            self.dead += 1;
        }
        self.touch(entry, now_ms);
    }

    /// Another number of matching rows. The entry was thawed.
    #[inline]
    pub fn set_matches(&mut self, entry: u32, matches: u32, now_ms: i64) {
        self.matches[entry as usize] = matches;
        self.touch(entry, now_ms);
    }

    /// No row of an entry is there any more. The entry was thawed.
    pub fn end(&mut self, entry: u32) {
        self.counts[entry as usize] = 0;
        self.dead += 1;
        self.dirty.mark(entry);
    }

    /// An entry that the state has. What is in memory is newer, and stays.
    pub fn load(&mut self, slot: u32, entry: &Entry<'_>) {
        let known = self.len() as u32;
        match &mut self.rows {
            Rows::Counted(rows) => {
                if rows.slot_of(entry.row, hash_key(entry.row)) != known {
                    return;
                }
            }
            Rows::Listed(rows) => {
                if entry.sequence >= self.first_in_memory {
                    return;
                }
                rows.push(entry.row, known as usize);
            }
        }
        self.adopt(slot, entry);
        self.stored[known as usize] = true;
    }

    /// An entry of the store before its compaction.
    pub fn take_over(&mut self, slot: u32, entry: &Entry<'_>, stored: bool, changed: bool) {
        let known = self.len();
        match &mut self.rows {
            Rows::Counted(rows) => {
                rows.slot_of(entry.row, hash_key(entry.row));
            }
            Rows::Listed(rows) => rows.push(entry.row, known),
        }
        self.adopt(slot, entry);
        self.stored[known] = stored;
        if changed {
            self.dirty.mark(known as u32);
        }
    }

    /// An entry as it is in memory.
    pub fn entry(&self, entry: u32) -> Entry<'_> {
        Entry {
            row: self.row(entry),
            sequence: self.sequence(entry),
            count: self.count(entry),
            matches: self.matches(entry),
            touched_ms: self.touched_ms(entry),
        }
    }

    fn adopt(&mut self, slot: u32, entry: &Entry<'_>) {
        let index = self.len();
        self.push(slot, entry.sequence);
        self.link(slot, index as u32);
        self.counts[index] = entry.count;
        if self.spec.tracks_matches {
            self.matches[index] = entry.matches;
        }
        if self.spec.ttl_ms > 0 {
            self.touched_ms[index] = entry.touched_ms;
        }
    }

    fn push(&mut self, slot: u32, sequence: u64) {
        self.counts.push(0);
        self.slots.push(slot);
        self.next.push(UNLINKED);
        self.stored.push(false);
        if !self.spec.counted {
            self.sequences.push(sequence);
        }
        if self.spec.tracks_matches {
            self.matches.push(0);
        }
        if self.spec.ttl_ms > 0 {
            self.touched_ms.push(0);
        }
        self.dirty.grow(self.counts.len());
    }

    fn link(&mut self, slot: u32, entry: u32) {
        let head = &mut self.heads[slot as usize];
        self.next[entry as usize] = *head;
        *head = entry;
    }

    fn touch(&mut self, entry: u32, now_ms: i64) {
        if self.spec.ttl_ms > 0 {
            self.touched_ms[entry as usize] = now_ms;
        }
        self.dirty.mark(entry);
    }

    /// Rows of the input, encoded.
    pub fn encode(&self, batch: &arrow::array::RecordBatch, rows: &mut EncodedKeys) -> Result<()> {
        self.encoder.encode_into(batch, rows)
    }

    /// Bytes in memory.
    pub fn memory(&self) -> usize {
        let rows = match &self.rows {
            Rows::Counted(rows) => rows.memory(),
            Rows::Listed(rows) => rows.memory(),
        };
        rows + (self.counts.capacity()
            + self.matches.capacity()
            + self.slots.capacity()
            + self.next.capacity()
            + self.heads.capacity())
            * 4
            + (self.sequences.capacity() + self.touched_ms.capacity()) * 8
            + self.stored.capacity()
            + self.loaded.capacity()
            + self.dirty.memory()
    }

    /// Can't grow much more.
    pub fn is_full(&self) -> bool {
        let rows = match &self.rows {
            Rows::Counted(rows) => rows.is_full(),
            Rows::Listed(rows) => rows.is_full(),
        };
        rows || self.len() > 3 << 30
    }
}
