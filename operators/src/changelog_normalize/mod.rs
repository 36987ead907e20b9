//! Updates by key become a changelog of whole rows: each row is compared with the one that its key has.
//!
//! Flink's `ProcTimeDeduplicateKeepLastRowFunction` on changelogs. Unlike there, rows that change nothing are left out in any case.

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::interleave;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use weir_common::ids::CheckpointId;
use weir_common::key_group::hash_key;
use weir_dataflow::key::EncodedKeys;
use weir_dataflow::{
    Batch, Context, Error, KeyedState, OpenContext, Operator, Result, RowKind, SnapshotPart,
};
use weir_proto::v1;

use crate::fingerprint;
use crate::row_store::{FROZEN_ROWS, RowCodec, RowId, RowStore, RowsPerKey, rows_of};

/// No row.
const NONE: RowId = RowId::MAX;

/// See [`v1::ChangelogNormalize`].
pub struct ChangelogNormalizeOperator {
    spec: v1::ChangelogNormalize,
    open: Option<Open>,
}

struct Open {
    codec: RowCodec,
    store: RowStore,
    output: SchemaRef,
    fingerprint: String,
    memory_bytes: usize,
    emit_update_before: bool,
    /// By slot: the key's row.
    rows: Vec<RowId>,
    /// By slot: what the key has in the middle of a batch, and that batch.
    now: Vec<(u32, Now)>,
    batch: u32,
    keys: EncodedKeys,
    hashes: Vec<u64>,
    slots: Vec<u32>,
    encoded: EncodedKeys,
}

/// The row that a key has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Now {
    Nothing,
    /// A row that was there before the batch, by its place among those that are decoded.
    Old(u32),
    /// A row of the batch.
    New(u32),
}

/// Output rows: from the old rows (0) or the batch (1), and which.
#[derive(Default)]
struct Changes {
    picks: Vec<(usize, usize)>,
    kinds: Vec<RowKind>,
}

impl Changes {
    fn add(&mut self, row: Now, kind: RowKind) {
        self.picks.push(match row {
            Now::Nothing => return,
            Now::Old(row) => (0, row as usize),
            Now::New(row) => (1, row as usize),
        });
        self.kinds.push(kind);
    }
}

impl ChangelogNormalizeOperator {
    /// # Errors
    /// If the description asks for what is not built.
    pub fn new(spec: &v1::ChangelogNormalize) -> Result<Self> {
        if spec.state_ttl_ms > 0 {
            return Err(Error::Config(
                "table.exec.state.ttl is not supported yet for tables that are read as updates by key: set it to 0".to_owned(),
            ));
        }
        Ok(Self {
            spec: spec.clone(),
            open: None,
        })
    }

    fn opened(&mut self) -> Result<&mut Open> {
        let missing = || Error::Internal("a changelog normalisation was not opened".to_owned());
        self.open.as_mut().ok_or_else(missing)
    }
}

impl Operator for ChangelogNormalizeOperator {
    fn open(&mut self, context: OpenContext, state: &mut dyn KeyedState) -> Result<()> {
        let input = context
            .input_schemas
            .first()
            .ok_or_else(|| Error::Config("a changelog normalisation without input".to_owned()))?;
        let key: Vec<usize> = self.spec.key_columns.iter().map(|c| *c as usize).collect();
        let codec = RowCodec::new(input, &key)?;
        let fingerprint = format!("changelog normalisation, layout 1, {}", codec.fingerprint());
        fingerprint::check(&context, &fingerprint)?;
        let mut open = Open {
            store: RowStore::new(RowsPerKey::One, context.info.max_parallelism),
            codec,
            output: context.output_schema.clone(),
            fingerprint,
            memory_bytes: context.memory_bytes,
            emit_update_before: self.spec.emit_update_before,
            rows: Vec::new(),
            now: Vec::new(),
            batch: 0,
            keys: EncodedKeys::default(),
            hashes: Vec::new(),
            slots: Vec::new(),
            encoded: EncodedKeys::default(),
        };
        let mut loaded = Vec::new();
        open.store
            .restore(open.memory_bytes / 2, state, &mut loaded)?;
        open.loaded(&loaded);
        self.open = Some(open);
        Ok(())
    }

    fn process(&mut self, _: usize, batch: Batch, context: &mut Context<'_>) -> Result<()> {
        let open = self.opened()?;
        if batch.num_rows() == 0 {
            return Ok(());
        }
        open.resolve(batch.data(), context.state)?;
        let (old, old_ids) = open.old_rows()?;
        open.codec.encode(batch.data(), &mut open.encoded)?;
        let changes = open.changes(&batch, &old_ids);
        open.keep();
        if !changes.kinds.is_empty() {
            context.out.emit(open.output(changes, &old, &batch)?)?;
        }
        if open.memory() > open.memory_bytes || open.store.is_full() {
            open.spill(context.state)?;
        }
        Ok(())
    }

    fn snapshot(&mut self, _: CheckpointId, _: &mut Context<'_>) -> Result<SnapshotPart> {
        let open = self.opened()?;
        open.store.freeze();
        let mut part = SnapshotPart::default();
        fingerprint::put(&mut part.states, Bytes::from(open.fingerprint.clone()));
        Ok(part)
    }

    fn write_frozen(&mut self, context: &mut Context<'_>) -> Result<bool> {
        let open = self.opened()?;
        if open.store.write_frozen(FROZEN_ROWS, context.state)? {
            return Ok(true);
        }
        if open.store.is_mostly_empty() {
            open.spill(context.state)?;
        }
        Ok(false)
    }

    fn memory_bytes(&self) -> usize {
        self.open.as_ref().map_or(0, Open::memory)
    }

    fn state_schema(&self) -> String {
        self.open
            .as_ref()
            .map_or_else(String::new, |open| open.fingerprint.clone())
    }
}

impl Open {
    fn memory(&self) -> usize {
        self.store.memory() + self.rows.capacity() * 4 + self.now.capacity() * 12
    }

    /// Writes what changed, and keeps nothing in memory.
    fn spill(&mut self, state: &mut dyn KeyedState) -> Result<()> {
        self.store.spill(state)?;
        (self.rows, self.now) = Default::default();
        Ok(())
    }

    /// Slots of the batch's keys, with the rows that the state has of those that are new.
    fn resolve(&mut self, batch: &RecordBatch, state: &mut dyn KeyedState) -> Result<()> {
        self.codec.key().encode_into(batch, &mut self.keys)?;
        self.hashes.clear();
        self.hashes.extend(self.keys.iter().map(hash_key));
        let mut loaded = Vec::new();
        self.store.resolve(
            &self.keys,
            &self.hashes,
            &mut self.slots,
            state,
            &mut loaded,
        )?;
        self.loaded(&loaded);
        Ok(())
    }

    fn loaded(&mut self, loaded: &[RowId]) {
        let slots = self.store.slots();
        self.rows.resize(slots, NONE);
        self.now.resize(slots, (self.batch, Now::Nothing));
        for row in loaded {
            self.rows[self.store.slot_of(*row) as usize] = *row;
        }
    }

    /// The columns of the rows that the batch's keys have, which are set as what they have now.
    fn old_rows(&mut self) -> Result<(Vec<ArrayRef>, Vec<RowId>)> {
        self.batch = self.batch.wrapping_add(1);
        let mut old = Vec::new();
        for slot in &self.slots {
            let slot = *slot as usize;
            if self.now[slot].0 == self.batch {
                continue;
            }
            let now = match self.rows[slot] {
                NONE => Now::Nothing,
                row => {
                    old.push(row);
                    Now::Old(old.len() as u32 - 1)
                }
            };
            self.now[slot] = (self.batch, now);
        }
        let keys: Vec<&[u8]> = old
            .iter()
            .map(|row| self.store.key(self.store.slot_of(*row)))
            .collect();
        let bytes: Vec<&[u8]> = old.iter().map(|row| self.store.bytes(*row)).collect();
        Ok((self.codec.decode(&keys, &bytes)?, old))
    }

    /// What each row of the batch changes, in turn.
    fn changes(&mut self, batch: &Batch, old: &[RowId]) -> Changes {
        let mut changes = Changes::default();
        for (row, slot) in self.slots.iter().enumerate() {
            let slot = *slot as usize;
            let had = self.now[slot].1;
            let had_bytes = match had {
                Now::Nothing => None,
                Now::Old(index) => Some(self.store.bytes(old[index as usize])),
                Now::New(row) => Some(self.encoded.get(row as usize)),
            };
            self.now[slot].1 = match batch.kind(row) {
                RowKind::UpdateBefore => continue,
                RowKind::Delete => {
                    changes.add(had, RowKind::Delete);
                    Now::Nothing
                }
                RowKind::Insert | RowKind::UpdateAfter => {
                    if had_bytes == Some(self.encoded.get(row)) {
                        continue;
                    }
                    let new = Now::New(row as u32);
                    if had == Now::Nothing {
                        changes.add(new, RowKind::Insert);
                    } else {
                        if self.emit_update_before {
                            changes.add(had, RowKind::UpdateBefore);
                        }
                        changes.add(new, RowKind::UpdateAfter);
                    }
                    new
                }
            };
        }
        changes
    }

    /// What the keys have at the end of the batch.
    fn keep(&mut self) {
        for slot in &self.slots {
            let index = *slot as usize;
            let had = self.rows[index];
            match self.now[index].1 {
                Now::Old(_) => {}
                Now::Nothing if had == NONE => {}
                Now::Nothing => {
                    self.store.remove(had);
                    self.rows[index] = NONE;
                }
                Now::New(row) => {
                    let row = self.encoded.get(row as usize);
                    if had == NONE {
                        self.rows[index] = self.store.insert(*slot, &[], row);
                    } else if self.store.bytes(had) != row {
                        self.store.replace(had, &[], row);
                    }
                }
            }
        }
    }

    fn output(&self, changes: Changes, old: &[ArrayRef], batch: &Batch) -> Result<Batch> {
        let columns = old.iter().zip(batch.data().columns());
        let columns = columns
            .map(|(old, new)| Ok(interleave(&[old.as_ref(), new.as_ref()], &changes.picks)?))
            .collect::<Result<Vec<_>>>()?;
        let data = rows_of(&self.output, columns, changes.kinds.len())?;
        Batch::with_kinds(data, changes.kinds)
    }
}

#[cfg(test)]
mod tests;
