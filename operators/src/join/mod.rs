//! A regular join: every row of one input meets every row of the other with its key, however far apart they come, and both inputs may be
//! updated.
//!
//! While a batch of one input is joined, the rows of the other are constant: pairs are found and tested for many rows at once. Only what an
//! outer, semi or anti join has to know, how many partners a row has, goes row by row. NULL keys equal nothing (unless the join is null-safe),
//! so rows with one are not kept. The result is a changelog of `+I` and `-D`, as in Flink.

mod changes;
mod probe;
mod side;
mod store;

use std::sync::Arc;

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::{Schema, SchemaRef};
use bytes::Bytes;
use weir_common::ids::CheckpointId;
use weir_dataflow::key::{EncodedKeys, KeyEncoder};
use weir_dataflow::{
    Batch, Context, Error, KeyedState, OpenContext, Operator, Result, SnapshotPart,
};
use weir_proto::v1;
use weir_proto::v1::JoinKind;
use weir_proto::v1::operator_state::Redistribution;

use crate::calc::decode;
use changes::{Changes, Incoming, tracks_matches};
use probe::{Condition, Pairs};
use side::{NONE, SideSpec};
use store::{FROZEN_ENTRIES, Store};

/// A list in the snapshot: the sequence number of the next row of each input, as 8 bytes big-endian each.
const SEQUENCES: &str = "sequences";

/// See the module.
pub struct JoinOperator {
    spec: v1::Join,
    opened: Option<Opened>,
}

struct Opened {
    kind: JoinKind,
    store: Store,
    key_encoders: [KeyEncoder; 2],
    /// One a key: NULL equals NULL.
    null_safe: Vec<bool>,
    condition: Option<Condition>,
    inputs: [SchemaRef; 2],
    output: SchemaRef,
    memory_bytes: usize,
    keys: EncodedKeys,
    rows: EncodedKeys,
    slots: Vec<u32>,
    pairs: Pairs,
    changes: Changes,
}

impl JoinOperator {
    /// # Errors
    /// If the description is not consistent.
    pub fn new(spec: v1::Join) -> Result<Self> {
        let keys = spec.left_keys.len();
        let same = keys == spec.right_keys.len() && keys == spec.null_safe.len();
        if spec.kind() == JoinKind::Unspecified || !same {
            return Err(Error::Config("the job graph has a broken join".to_owned()));
        }
        Ok(Self { spec, opened: None })
    }

    fn opened(&mut self) -> Result<&mut Opened> {
        self.opened
            .as_mut()
            .ok_or_else(|| Error::Internal("the join was not opened".to_owned()))
    }
}

/// What each input keeps.
fn side_specs(spec: &v1::Join) -> [SideSpec; 2] {
    let half = matches!(spec.kind(), JoinKind::Semi | JoinKind::Anti);
    [
        SideSpec {
            counted: spec.left_retracts,
            tracks_matches: tracks_matches(spec.kind(), 0),
            ttl_ms: spec.left_ttl_ms,
        },
        SideSpec {
            // Of equal right rows a semi join only needs to know how many there are.
            counted: spec.right_retracts || half,
            tracks_matches: tracks_matches(spec.kind(), 1),
            ttl_ms: spec.right_ttl_ms,
        },
    ]
}

impl Operator for JoinOperator {
    fn open(&mut self, context: OpenContext, state: &mut dyn KeyedState) -> Result<()> {
        let [left, right] = context.input_schemas.as_slice() else {
            return Err(Error::Internal("a join has two inputs".to_owned()));
        };
        let inputs = [Arc::clone(left), Arc::clone(right)];
        let joined = Arc::new(Schema::new(
            [left.fields().to_vec(), right.fields().to_vec()].concat(),
        ));
        let condition = match &self.spec.condition {
            Some(expr) => Some(Condition {
                expr: decode(expr, &joined)?,
                joined: Arc::clone(&joined),
            }),
            None => None,
        };
        let columns = |keys: &[u32]| keys.iter().map(|key| *key as usize).collect::<Vec<_>>();
        let all = |schema: &Schema| (0..schema.fields().len()).collect::<Vec<_>>();
        let rows = [
            KeyEncoder::new(left, &all(left))?,
            KeyEncoder::new(right, &all(right))?,
        ];
        let max_parallelism = context.info.max_parallelism;
        let mut store = Store::new(side_specs(&self.spec), rows, max_parallelism);
        restore_sequences(&mut store, &context)?;
        store.restore(context.memory_bytes / 2, state)?;
        self.opened = Some(Opened {
            kind: self.spec.kind(),
            store,
            key_encoders: [
                KeyEncoder::new(left, &columns(&self.spec.left_keys))?,
                KeyEncoder::new(right, &columns(&self.spec.right_keys))?,
            ],
            null_safe: self.spec.null_safe.clone(),
            condition,
            inputs,
            output: Arc::clone(&context.output_schema),
            memory_bytes: context.memory_bytes,
            keys: EncodedKeys::default(),
            rows: EncodedKeys::default(),
            slots: Vec::new(),
            pairs: Pairs::default(),
            changes: Changes::default(),
        });
        Ok(())
    }

    fn process(&mut self, input: usize, batch: Batch, context: &mut Context<'_>) -> Result<()> {
        let opened = self.opened()?;
        if input > 1 {
            return Err(Error::Internal(format!("a join has no input {input}")));
        }
        if batch.num_rows() == 0 {
            return Ok(());
        }
        opened.join(input, &batch, context)?;
        opened.store.bound_thawed(context.state)?;
        if opened.store.memory() > opened.memory_bytes || opened.store.is_full() {
            opened.store.spill(context.state)?;
        } else if opened.store.is_mostly_dead() {
            opened.store.compact(context.state)?;
        }
        Ok(())
    }

    fn tick(&mut self, context: &mut Context<'_>) -> Result<()> {
        let now_ms = context.now_ms;
        self.opened()?.store.expire(now_ms, context.state)
    }

    fn snapshot(&mut self, _: CheckpointId, _: &mut Context<'_>) -> Result<SnapshotPart> {
        let opened = self.opened()?;
        opened.store.freeze();
        let mut part = SnapshotPart::default();
        let next = opened
            .store
            .sides
            .iter()
            .flat_map(|s| s.next_sequence.to_be_bytes());
        let next = Bytes::from_iter(next);
        part.states
            .put(SEQUENCES, Redistribution::Union, vec![next]);
        Ok(part)
    }

    fn write_frozen(&mut self, context: &mut Context<'_>) -> Result<bool> {
        self.opened()?
            .store
            .write_frozen(FROZEN_ENTRIES, context.state)
    }

    fn memory_bytes(&self) -> usize {
        self.opened
            .as_ref()
            .map_or(0, |opened| opened.store.memory())
    }

    fn state_schema(&self) -> String {
        let shape = |schema: &SchemaRef| {
            let fields = schema
                .fields()
                .iter()
                .map(|field| field.data_type().to_string());
            fields.collect::<Vec<_>>().join(", ")
        };
        match &self.opened {
            Some(opened) => format!(
                "join v1 {} keys {:?}={:?} left ({}) right ({})",
                opened.kind.as_str_name(),
                self.spec.left_keys,
                self.spec.right_keys,
                shape(&opened.inputs[0]),
                shape(&opened.inputs[1])
            ),
            None => String::new(),
        }
    }
}

/// A subtask goes on behind all numbers that any has given: a key's next row may come to another subtask.
fn restore_sequences(store: &mut Store, context: &OpenContext) -> Result<()> {
    for item in context.restored.get(SEQUENCES) {
        let (numbers, rest) = item.as_chunks::<8>();
        if numbers.len() != 2 || !rest.is_empty() {
            return Err(Error::Restore(
                "a join's sequence numbers are broken".to_owned(),
            ));
        }
        for (side, number) in store.sides.iter_mut().zip(numbers) {
            side.next_sequence = side.next_sequence.max(u64::from_be_bytes(*number));
            side.first_in_memory = side.next_sequence;
        }
    }
    Ok(())
}

impl Opened {
    fn join(&mut self, input: usize, batch: &Batch, context: &mut Context<'_>) -> Result<()> {
        self.find_slots(input, batch.data())?;
        self.store.prepare(input, &self.slots, context.state)?;
        self.store.sides[input].encode(batch.data(), &mut self.rows)?;
        let incoming = Incoming {
            input,
            batch,
            slots: &self.slots,
            encoded: &self.rows,
            now_ms: context.now_ms,
        };
        let other = 1 - input;
        let mut first = 0;
        while first < batch.num_rows() {
            let side = &mut self.store.sides[other];
            let end = self.pairs.find(&self.slots, first, side, context.now_ms);
            if let Some(condition) = &self.condition {
                self.pairs.test(condition, input, batch.data(), side)?;
            }
            let range = (first, end);
            self.changes
                .apply(self.kind, &incoming, range, &self.pairs, &mut self.store);
            let result = self.changes.take(
                self.kind,
                &incoming,
                (&self.pairs, &self.store.sides[other]),
                (&self.inputs[other], &self.output),
            )?;
            if let Some(result) = result {
                context.out.emit(result)?;
            }
            first = end;
        }
        Ok(())
    }

    /// The slot of each row's join key.
    fn find_slots(&mut self, input: usize, batch: &RecordBatch) -> Result<()> {
        let encoder = &self.key_encoders[input];
        encoder.encode_into(batch, &mut self.keys)?;
        let matter = encoder.columns().iter().zip(&self.null_safe);
        let nullable: Vec<_> = matter
            .filter(|(_, null_safe)| !**null_safe)
            .filter_map(|(column, _)| batch.columns().get(*column))
            .filter(|column| column.null_count() > 0)
            .collect();
        self.slots.clear();
        for (row, key) in self.keys.iter().enumerate() {
            let is_null = nullable.iter().any(|column| column.is_null(row));
            self.slots.push(match is_null {
                true => NONE,
                false => self.store.slot_of(key),
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
