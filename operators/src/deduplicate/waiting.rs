//! First rows by rowtime that wait for the watermark.

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use weir_dataflow::key::EncodedKeys;
use weir_dataflow::{KeyedState, Result};

use crate::codec::Reader;
use crate::row_store::{ROWS, RowCodec, RowStore};

/// Slots by the time of their rows. A slot stays under a time that its row has no longer; such places are passed over.
pub struct Waiting {
    slots: BTreeMap<i64, Vec<u32>>,
    /// What is kept of a row that was emitted: NULL in all columns but the key's.
    emitted: Vec<u8>,
}

impl Waiting {
    /// For rows of `schema` with this key.
    pub fn new(schema: &Schema, key: &[usize]) -> Result<Self> {
        let nullable: Vec<_> = schema
            .fields()
            .iter()
            .map(|field| field.as_ref().clone().with_nullable(true))
            .collect();
        let schema = std::sync::Arc::new(Schema::new(nullable));
        let columns = schema.fields().iter();
        let nulls = columns.map(|field| arrow::array::new_null_array(field.data_type(), 1));
        let row = RecordBatch::try_new(schema.clone(), nulls.collect())?;
        let mut encoded = EncodedKeys::default();
        RowCodec::new(&schema, key)?.encode(&row, &mut encoded)?;
        Ok(Self {
            slots: BTreeMap::new(),
            emitted: encoded.get(0).to_vec(),
        })
    }

    /// The bytes of a row that was emitted.
    pub fn emitted(&self) -> &[u8] {
        &self.emitted
    }

    /// The slot's row is to be emitted at this time.
    pub fn add(&mut self, time_ms: i64, slot: u32) {
        self.slots.entry(time_ms).or_default().push(slot);
    }

    /// Takes the slots out whose time has come, in its order. `times`: of the slots' rows.
    pub fn due(&mut self, watermark_ms: i64, times: &[i64]) -> Vec<u32> {
        let mut due = Vec::new();
        while let Some(entry) = self.slots.first_entry()
            && *entry.key() <= watermark_ms
        {
            let (time, slots) = entry.remove_entry();
            due.extend(
                slots
                    .into_iter()
                    .filter(|slot| times[*slot as usize] == time),
            );
        }
        due
    }

    /// Takes all out, and gives their keys.
    pub fn keys(&mut self, store: &RowStore, times: &[i64]) -> EncodedKeys {
        let due = self.due(i64::MAX, times);
        due.into_iter().map(|slot| store.key(slot)).collect()
    }

    /// Keys in the state whose rows were not emitted.
    pub fn stored_keys(&self, state: &mut dyn KeyedState) -> Result<EncodedKeys> {
        let mut keys: Vec<Vec<u8>> = Vec::new();
        state.scan(ROWS, &mut |_, key, value| {
            if Reader::new(value)?.0 != self.emitted {
                keys.push(key.to_vec());
            }
            Ok(true)
        })?;
        Ok(keys.iter().map(Vec::as_slice).collect())
    }
}
