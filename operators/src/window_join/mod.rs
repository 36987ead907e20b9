//! Joins the rows of two windowed inputs that fall into the same window, when the watermark passes its end.
//!
//! Both inputs are insert-only. Rows wait in memory by window; behind a barrier those that came since the last one go to the keyed
//! state, so a restore finds all of them. A fired window is forgotten, rows that come for it later are dropped and counted.

mod pairs;
pub(crate) mod rows;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{RecordBatch, UInt32Array};
use arrow::datatypes::{Schema, SchemaRef};
use weir_common::ids::CheckpointId;
use weir_common::metric_names;
use weir_dataflow::{
    Batch, Context, Error, KeyedState, OpenContext, Operator, Result, SnapshotPart, StateTable,
    StateWrites,
};
use weir_proto::v1;

use crate::calc::decode;
use crate::window::{is_complete, millis};
use pairs::PairJoiner;
use rows::SideRows;

/// (window_end, window_start) in milliseconds: ordered by the time at which windows fire.
pub(crate) type WindowKey = (i64, i64);

/// See the module.
pub struct WindowJoinOperator {
    spec: v1::WindowJoin,
    watermark_ms: i64,
    windows: BTreeMap<WindowKey, [SideRows; 2]>,
    /// Windows with rows that the snapshot has and the state not yet.
    frozen: Vec<WindowKey>,
    memory_bytes: usize,
    /// Rows of windows that fired, to be deleted from the state: not before the snapshot that has them is written.
    done: StateWrites,
    opened: Option<Opened>,
    late: metrics::Counter,
}

struct Opened {
    inputs: [SchemaRef; 2],
    joiner: PairJoiner,
    codecs: [rows::RowsCodec; 2],
}

impl WindowJoinOperator {
    /// # Errors
    /// If the kind of join is not known.
    pub fn new(spec: v1::WindowJoin) -> Result<Self> {
        if spec.kind() == v1::JoinKind::Unspecified || spec.left_keys.len() != spec.right_keys.len()
        {
            return Err(Error::Config(
                "the job graph has a broken window join".to_owned(),
            ));
        }
        Ok(Self {
            spec,
            watermark_ms: i64::MIN,
            windows: BTreeMap::new(),
            frozen: Vec::new(),
            memory_bytes: usize::MAX,
            done: StateWrites::default(),
            opened: None,
            late: metrics::Counter::noop(),
        })
    }

    fn window_columns(&self, input: usize) -> (usize, usize) {
        let spec = &self.spec;
        let (start, end) = if input == 0 {
            (spec.left_window_start, spec.left_window_end)
        } else {
            (spec.right_window_start, spec.right_window_end)
        };
        (start as usize, end as usize)
    }

    /// The columns that decide the key group, as the planner's exchange has them: the join keys or, without any, the window.
    fn partition_columns(&self, input: usize) -> Vec<usize> {
        let keys = if input == 0 {
            &self.spec.left_keys
        } else {
            &self.spec.right_keys
        };
        if keys.is_empty() {
            let (start, end) = self.window_columns(input);
            return vec![start, end];
        }
        keys.iter().map(|column| *column as usize).collect()
    }

    /// Rows of each window in a batch; the whole batch if it is of one window.
    fn split_by_window(
        &self,
        input: usize,
        data: &RecordBatch,
    ) -> Result<Vec<(WindowKey, RecordBatch)>> {
        let (start, end) = self.window_columns(input);
        let column = |index: usize| {
            data.columns().get(index).ok_or_else(|| {
                Error::Config("a window column of the join does not exist".to_owned())
            })
        };
        let (starts, ends) = (millis(column(start)?)?, millis(column(end)?)?);
        let mut groups: BTreeMap<WindowKey, Vec<u32>> = BTreeMap::new();
        for row in 0..data.num_rows() {
            groups
                .entry((ends.value(row), starts.value(row)))
                .or_default()
                .push(row as u32);
        }
        if let (1, Some(key)) = (groups.len(), groups.keys().next()) {
            return Ok(vec![(*key, data.clone())]);
        }
        groups
            .into_iter()
            .map(|(key, rows)| {
                Ok((
                    key,
                    arrow::compute::take_record_batch(data, &UInt32Array::from(rows))?,
                ))
            })
            .collect()
    }

    fn fire(&mut self, key: WindowKey, context: &mut Context<'_>) -> Result<()> {
        let Some(mut sides) = self.windows.remove(&key) else {
            return Ok(());
        };
        let Some(opened) = &self.opened else {
            return Err(not_opened());
        };
        let mut rows = |input: usize| {
            let (table, side) = (StateTable(input as u8), &sides[input]);
            let stored = opened.codecs[input].load(table, key, side, context.state)?;
            side.concat(&opened.inputs[input], stored)
        };
        let (left, right) = (rows(0)?, rows(1)?);
        opened.joiner.join(&left, &right, context.out)?;
        let mut writes = StateWrites::default();
        for (input, (side, codec)) in sides.iter_mut().zip(&opened.codecs).enumerate() {
            while side.is_frozen() {
                codec.save(StateTable(input as u8), key, side, &mut writes)?;
            }
            side.forget(StateTable(input as u8), key, &mut self.done);
        }
        context.state.write_behind(writes)
    }
}

impl WindowJoinOperator {
    /// Brings all rows into the state, and keeps none in memory.
    fn spill(&mut self, state: &mut dyn KeyedState) -> Result<()> {
        self.write_all_frozen(state)?;
        state.seal()?;
        for side in self.windows.values_mut().flatten() {
            side.freeze();
        }
        self.write_all_frozen(state)?;
        self.windows
            .values_mut()
            .flatten()
            .for_each(SideRows::spill);
        // From now on reads have to see that.
        state.write(std::mem::take(&mut self.done))
    }

    fn write_all_frozen(&mut self, state: &mut dyn KeyedState) -> Result<()> {
        self.frozen.clear();
        let opened = self.opened.as_ref().ok_or_else(not_opened)?;
        for (key, sides) in &mut self.windows {
            for (input, (side, codec)) in sides.iter_mut().zip(&opened.codecs).enumerate() {
                while side.is_frozen() {
                    let mut writes = StateWrites::default();
                    codec.save(StateTable(input as u8), *key, side, &mut writes)?;
                    state.write_behind(writes)?;
                }
            }
        }
        Ok(())
    }
}

fn not_opened() -> Error {
    Error::Internal("the window join was not opened".to_owned())
}

impl Operator for WindowJoinOperator {
    fn open(&mut self, context: OpenContext, state: &mut dyn KeyedState) -> Result<()> {
        let [left, right] = context.input_schemas.as_slice() else {
            return Err(Error::Internal("a join has two inputs".to_owned()));
        };
        let joined = Schema::new([left.fields().to_vec(), right.fields().to_vec()].concat());
        let condition = self
            .spec
            .condition
            .as_ref()
            .map(|expr| decode(expr, &joined))
            .transpose()?;
        let keys = [&self.spec.left_keys, &self.spec.right_keys]
            .map(|keys| keys.iter().map(|k| *k as usize).collect());
        let joiner = PairJoiner::new(
            self.spec.kind(),
            [Arc::clone(left), Arc::clone(right)],
            keys,
            condition,
            Arc::new(joined),
            Arc::clone(&context.output_schema),
        )?;
        let max_parallelism = context.info.max_parallelism;
        let codecs = [
            rows::RowsCodec::new(left, &self.partition_columns(0), max_parallelism)?,
            rows::RowsCodec::new(right, &self.partition_columns(1), max_parallelism)?,
        ];
        for (input, codec) in codecs.iter().enumerate() {
            let mut bytes = 0;
            codec.restore(StateTable(input as u8), state, |key, group, batch| {
                bytes += batch.get_array_memory_size();
                self.windows.entry(key).or_default()[input].add_restored(group, batch);
                if bytes > context.memory_bytes / 2 {
                    bytes = 0;
                    self.windows
                        .values_mut()
                        .flatten()
                        .for_each(SideRows::spill);
                }
            })?;
        }
        self.memory_bytes = context.memory_bytes;
        self.late = metrics::counter!(
            metric_names::LATE_RECORDS,
            "job" => context.info.job.to_string(),
            "operator" => context.info.name.to_string(),
            "subtask" => context.info.subtask.to_string()
        );
        self.opened = Some(Opened {
            inputs: [Arc::clone(left), Arc::clone(right)],
            joiner,
            codecs,
        });
        Ok(())
    }

    fn process(&mut self, input: usize, batch: Batch, context: &mut Context<'_>) -> Result<()> {
        for (key, rows) in self.split_by_window(input, batch.data())? {
            if is_complete(key.0, self.watermark_ms) {
                self.late.increment(rows.num_rows() as u64);
                continue;
            }
            let sides = self.windows.entry(key).or_default();
            match sides.get_mut(input) {
                Some(side) => side.add(rows),
                None => return Err(Error::Internal(format!("a join has no input {input}"))),
            }
        }
        if self.memory_bytes() > self.memory_bytes {
            self.spill(context.state)?;
        }
        Ok(())
    }

    fn memory_bytes(&self) -> usize {
        let sides = self.windows.values().flatten();
        sides.map(SideRows::memory).sum()
    }

    fn watermark(&mut self, watermark_ms: i64, context: &mut Context<'_>) -> Result<i64> {
        self.watermark_ms = self.watermark_ms.max(watermark_ms);
        while let Some((&key, _)) = self.windows.first_key_value() {
            if !is_complete(key.0, self.watermark_ms) {
                break;
            }
            self.fire(key, context)?;
        }
        Ok(watermark_ms)
    }

    fn snapshot(&mut self, _: CheckpointId, context: &mut Context<'_>) -> Result<SnapshotPart> {
        for (key, sides) in &mut self.windows {
            let frozen = sides.iter_mut().map(SideRows::freeze);
            if frozen.fold(false, |any, frozen| any | frozen) {
                self.frozen.push(*key);
            }
        }
        context.state.write_behind(std::mem::take(&mut self.done))?;
        Ok(SnapshotPart::default())
    }

    fn write_frozen(&mut self, context: &mut Context<'_>) -> Result<bool> {
        let Some(key) = self.frozen.last() else {
            return Ok(false);
        };
        let (Some(sides), Some(opened)) = (self.windows.get_mut(key), &self.opened) else {
            // A window that fired was written then.
            self.frozen.pop();
            return Ok(true);
        };
        let Some(input) = sides.iter().position(SideRows::is_frozen) else {
            self.frozen.pop();
            return Ok(true);
        };
        let mut writes = StateWrites::default();
        let table = StateTable(input as u8);
        opened.codecs[input].save(table, *key, &mut sides[input], &mut writes)?;
        context.state.write_behind(writes)?;
        Ok(true)
    }

    fn state_schema(&self) -> String {
        let shape = |schema: &SchemaRef| {
            let fields = schema
                .fields()
                .iter()
                .map(|field| format!("{} {}", field.name(), field.data_type()));
            fields.collect::<Vec<_>>().join(", ")
        };
        match &self.opened {
            Some(opened) => format!(
                "window join v1 keys {:?}={:?} left ({}) right ({})",
                self.spec.left_keys,
                self.spec.right_keys,
                shape(&opened.inputs[0]),
                shape(&opened.inputs[1])
            ),
            None => String::new(),
        }
    }
}

#[cfg(test)]
mod tests;
