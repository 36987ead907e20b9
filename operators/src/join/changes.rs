//! What pairs do to the result: rows that come and go, and those of an outer, semi or anti join that appear when the last partner of a row
//! goes and vanish when the first one comes.

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array, new_null_array};
use arrow::datatypes::SchemaRef;
use weir_dataflow::key::EncodedKeys;
use weir_dataflow::{Batch, Result, RowKind};
use weir_proto::v1::JoinKind;

use super::probe::{Pairs, decode, take_all};
use super::side::{NONE, Side};
use super::store::Store;

/// Rows of the result under way, each made of a row of the batch and of one of the pairs' other ends.
#[derive(Default)]
pub struct Changes {
    kinds: Vec<RowKind>,
    /// Rows of the batch; [`NONE`]: padded.
    rows: Vec<u32>,
    /// Numbers of pairs; [`NONE`]: padded.
    pairs: Vec<u32>,
}

/// Rows of one input that are counted into the store.
pub struct Incoming<'a> {
    pub input: usize,
    pub batch: &'a Batch,
    /// Of the join keys, by row; [`NONE`] for a key that equals nothing.
    pub slots: &'a [u32],
    pub encoded: &'a EncodedKeys,
    pub now_ms: i64,
}

fn sign(comes: bool) -> RowKind {
    match comes {
        true => RowKind::Insert,
        false => RowKind::Delete,
    }
}

/// Whether unmatched rows of an input are in the result.
fn preserves(kind: JoinKind, input: usize) -> bool {
    match input {
        0 => matches!(kind, JoinKind::Left | JoinKind::Full),
        _ => matches!(kind, JoinKind::Right | JoinKind::Full),
    }
}

/// Whether the number of matching rows is kept with each row of an input.
pub fn tracks_matches(kind: JoinKind, input: usize) -> bool {
    preserves(kind, input) || (input == 0 && matches!(kind, JoinKind::Semi | JoinKind::Anti))
}

impl Changes {
    /// Counts the rows `first..end`, whose pairs are `pairs`, and notes what that does to the result.
    pub fn apply(
        &mut self,
        kind: JoinKind,
        incoming: &Incoming<'_>,
        (first, end): (usize, usize),
        pairs: &Pairs,
        store: &mut Store,
    ) {
        let mut at = 0;
        for row in first..end {
            let from = at;
            while pairs.rows.get(at) == Some(&(row as u32)) {
                at += 1;
            }
            let comes = !incoming.batch.kind(row).is_retraction();
            let other = &store.sides[1 - incoming.input];
            let partners = pairs.entries[from..at].iter();
            let matches: u64 = partners.map(|entry| u64::from(other.count(*entry))).sum();
            let matches = u32::try_from(matches).unwrap_or(u32::MAX);
            match (kind, incoming.input) {
                (JoinKind::Semi | JoinKind::Anti, 0) => {
                    if (matches > 0) == (kind == JoinKind::Semi) {
                        self.put(sign(comes), row as u32, NONE);
                    }
                }
                (JoinKind::Semi | JoinKind::Anti, _) => {
                    self.half_joined(kind, comes, from..at, pairs, (store, incoming));
                }
                _ => self.joined(kind, (row, comes), from..at, pairs, (store, incoming)),
            }
            self.keep(row, comes, matches, store, incoming);
        }
    }

    /// The row becomes one of its input's, or ceases to be one.
    fn keep(
        &self,
        row: usize,
        comes: bool,
        matches: u32,
        store: &mut Store,
        incoming: &Incoming<'_>,
    ) {
        let slot = incoming.slots[row];
        if slot == NONE {
            return;
        }
        let encoded = incoming.encoded.get(row);
        match comes {
            true => store.insert(incoming.input, slot, encoded, matches, incoming.now_ms),
            false => store.remove(incoming.input, encoded, incoming.now_ms),
        }
    }

    /// Inner and outer joins.
    fn joined(
        &mut self,
        kind: JoinKind,
        (row, comes): (usize, bool),
        found: std::ops::Range<usize>,
        pairs: &Pairs,
        (store, incoming): (&mut Store, &Incoming<'_>),
    ) {
        let (own, other) = (incoming.input, 1 - incoming.input);
        if found.is_empty() {
            if preserves(kind, own) {
                self.put(sign(comes), row as u32, NONE);
            }
            return;
        }
        let pads_other = preserves(kind, other);
        for pair in found {
            let entry = pairs.entries[pair];
            let count = store.sides[other].count(entry);
            let alone = pads_other && is_turn(store, other, entry, comes, incoming.now_ms);
            if alone && comes {
                self.repeat(count, RowKind::Delete, NONE, pair as u32);
            }
            self.repeat(count, sign(comes), row as u32, pair as u32);
            if alone && !comes {
                self.repeat(count, RowKind::Insert, NONE, pair as u32);
            }
        }
    }

    /// Semi and anti joins, for a row of the right input.
    fn half_joined(
        &mut self,
        kind: JoinKind,
        comes: bool,
        found: std::ops::Range<usize>,
        pairs: &Pairs,
        (store, incoming): (&mut Store, &Incoming<'_>),
    ) {
        for pair in found {
            let entry = pairs.entries[pair];
            if is_turn(store, 0, entry, comes, incoming.now_ms) {
                let count = store.sides[0].count(entry);
                let sign = sign(comes == (kind == JoinKind::Semi));
                self.repeat(count, sign, NONE, pair as u32);
            }
        }
    }

    fn put(&mut self, kind: RowKind, row: u32, pair: u32) {
        self.kinds.push(kind);
        self.rows.push(row);
        self.pairs.push(pair);
    }

    fn repeat(&mut self, count: u32, kind: RowKind, row: u32, pair: u32) {
        for _ in 0..count {
            self.put(kind, row, pair);
        }
    }

    /// The rows as a batch of the result; none are left.
    pub fn take(
        &mut self,
        kind: JoinKind,
        incoming: &Incoming<'_>,
        (pairs, other): (&Pairs, &Side),
        (other_input, output): (&SchemaRef, &SchemaRef),
    ) -> Result<Option<Batch>> {
        if self.kinds.is_empty() {
            return Ok(None);
        }
        let kinds = std::mem::take(&mut self.kinds);
        let half = matches!(kind, JoinKind::Semi | JoinKind::Anti);
        let rows = std::mem::take(&mut self.rows);
        let chosen = std::mem::take(&mut self.pairs);
        let mut columns = Vec::new();
        if !half || incoming.input == 0 {
            columns = own_columns(incoming.batch.data(), &rows)?;
        }
        if !half || incoming.input == 1 {
            let others = other_columns(&chosen, pairs, other, other_input)?;
            match incoming.input {
                0 => columns.extend(others),
                _ => columns.splice(0..0, others).for_each(drop),
            }
        }
        let options = RecordBatchOptions::new().with_row_count(Some(kinds.len()));
        let data = RecordBatch::try_new_with_options(output.clone(), columns, &options)?;
        Batch::with_kinds(data, kinds).map(Some)
    }
}

/// Counts a match of a row of the `other` input; whether it is its first one, or was its last.
fn is_turn(store: &mut Store, other: usize, entry: u32, comes: bool, now_ms: i64) -> bool {
    let matches = store.sides[other].matches(entry);
    let now = match comes {
        true => matches.saturating_add(1),
        false => matches.saturating_sub(1),
    };
    store.set_matches(other, entry, now, now_ms);
    match comes {
        true => matches == 0,
        false => matches == 1,
    }
}

fn indices(rows: &[u32]) -> UInt32Array {
    if rows.contains(&NONE) {
        rows.iter()
            .map(|row| (*row != NONE).then_some(*row))
            .collect()
    } else {
        UInt32Array::from(rows.to_vec())
    }
}

fn own_columns(batch: &RecordBatch, rows: &[u32]) -> Result<Vec<ArrayRef>> {
    let all = rows.len() == batch.num_rows() && rows.iter().copied().eq(0..rows.len() as u32);
    if all {
        return Ok(batch.columns().to_vec());
    }
    take_all(batch.columns(), &indices(rows))
}

fn other_columns(
    chosen: &[u32],
    pairs: &Pairs,
    other: &Side,
    schema: &SchemaRef,
) -> Result<Vec<ArrayRef>> {
    let all =
        chosen.len() == pairs.entries.len() && chosen.iter().copied().eq(0..chosen.len() as u32);
    match &pairs.others {
        Some(others) if all => return Ok(others.clone()),
        Some(others) => return take_all(others, &indices(chosen)),
        None if all => return decode(other, &pairs.entries),
        None => {}
    }
    let real: Vec<u32> = chosen
        .iter()
        .filter(|pair| **pair != NONE)
        .map(|pair| pairs.entries[*pair as usize])
        .collect();
    if real.len() == chosen.len() {
        return decode(other, &real);
    }
    if real.is_empty() {
        let fields = schema.fields().iter();
        let nulls = fields.map(|field| new_null_array(field.data_type(), chosen.len()));
        return Ok(nulls.collect());
    }
    let mut next = 0..;
    let places: UInt32Array = chosen
        .iter()
        .map(|pair| (*pair != NONE).then(|| next.next()).flatten())
        .collect();
    take_all(&decode(other, &real)?, &places)
}
