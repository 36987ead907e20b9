//! MATCH_RECOGNIZE: finds a pattern in the rows of each partition, in the order of time, and gives one row a match.
//!
//! In event time rows wait until the watermark has passed them and are sorted; late ones are dropped and counted. In processing time each row is
//! taken as it comes. Output: the partition's columns, then the measures.

mod partitions;
mod pattern;
mod values;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::{
    SortColumn, SortOptions, concat_batches, filter_record_batch, lexsort_to_indices,
    take_record_batch,
};
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use std::collections::BTreeSet;
use std::sync::Arc;
use weir_common::ids::CheckpointId;
use weir_common::key_group::hash_key;
use weir_common::metric_names::LATE_RECORDS;
use weir_dataflow::key::{EncodedKeys, KeyEncoder};
use weir_dataflow::{
    Batch, Context, Error, KeyedState, OpenContext, Operator, Result, SnapshotPart, StateTable,
};
use weir_expr::eval::Projector;
use weir_proto::v1;
use weir_proto::v1::match_recognize::Skip as SkipKind;

use crate::calc::{decode_projection, expression_error};
use crate::fingerprint;
use crate::time_buffer::TimeBuffer;
use crate::window::millis;
use partitions::Partitions;
use pattern::{Pattern, Run, Skip, Variable};
use values::{Condition, Values};

/// Rows and runs, by partition.
const RUNS: StateTable = StateTable(0);
/// Rows that wait for the watermark.
const PENDING: StateTable = StateTable(1);
/// Partitions are not searched for runs that are too long more often than this.
const EXPIRY_MS: i64 = 10_000;

/// See [`v1::MatchRecognize`].
pub struct MatchOperator {
    spec: v1::MatchRecognize,
    watermark_ms: i64,
    open: Option<Open>,
}

struct Open {
    input: SchemaRef,
    output: SchemaRef,
    encoder: KeyEncoder,
    pattern: Pattern,
    conditions: Vec<Option<Condition>>,
    values: Values,
    measures: Projector,
    partitions: Partitions,
    /// Partitions with matches that wait for an earlier run.
    waiting: BTreeSet<u32>,
    /// In event time.
    pending: Option<TimeBuffer>,
    order: Vec<v1::SortColumn>,
    next_expiry_ms: i64,
    fingerprint: String,
    memory_bytes: usize,
    late: metrics::Counter,
    keys: EncodedKeys,
    rows: EncodedKeys,
    hashes: Vec<u64>,
    slots: Vec<u32>,
    /// Matches that were found: partition, and values.
    found: Vec<(u32, RecordBatch)>,
}

impl MatchOperator {
    /// # Errors
    /// If the description asks for what is not built.
    pub fn new(spec: &v1::MatchRecognize) -> Result<Self> {
        let is_broken = spec
            .pattern
            .iter()
            .any(|v| v.max.is_some_and(|max| max < v.min.max(1)));
        if spec.pattern.is_empty() || is_broken {
            return Err(Error::Config(
                "the job graph has a broken pattern".to_owned(),
            ));
        }
        Ok(Self {
            spec: spec.clone(),
            watermark_ms: i64::MIN,
            open: None,
        })
    }

    fn opened(&mut self) -> Result<&mut Open> {
        self.open
            .as_mut()
            .ok_or_else(|| Error::Internal("a MATCH_RECOGNIZE was not opened".to_owned()))
    }

    fn pattern(&self) -> Result<Pattern> {
        let variables = self.spec.pattern.iter().map(|variable| Variable {
            name: variable.name.clone(),
            min: variable.min,
            max: variable.max,
            greedy: variable.greedy,
        });
        let to = self.spec.skip_variable as usize;
        if to >= self.spec.pattern.len() {
            return Err(Error::Config("a skip to an unknown variable".to_owned()));
        }
        Ok(Pattern {
            variables: variables.collect(),
            skip: match self.spec.skip() {
                SkipKind::PastLastRow => Skip::PastLastRow,
                SkipKind::ToNextRow => Skip::ToNextRow,
                SkipKind::ToFirst => Skip::ToFirst(to),
                SkipKind::ToLast => Skip::ToLast(to),
                SkipKind::Unspecified => {
                    return Err(Error::Config("an unknown AFTER MATCH".to_owned()));
                }
            },
            within_ms: self.spec.within_ms,
        })
    }
}

impl Operator for MatchOperator {
    fn open(&mut self, context: OpenContext, state: &mut dyn KeyedState) -> Result<()> {
        let input = context
            .input_schemas
            .first()
            .ok_or_else(|| Error::Config("a MATCH_RECOGNIZE without input".to_owned()))?;
        let partition: Vec<usize> = self
            .spec
            .partition_columns
            .iter()
            .map(|column| *column as usize)
            .collect();
        let max_parallelism = context.info.max_parallelism;
        let encoder = KeyEncoder::new(input, &partition)?;
        let values = Values::new(&self.spec, input)?;
        let variables = self.spec.pattern.iter().enumerate();
        let conditions = variables.map(|(index, variable)| {
            let condition = variable.condition.as_ref();
            condition
                .map(|expr| values.condition(expr, index))
                .transpose()
        });
        let conditions = conditions.collect::<Result<Vec<_>>>()?;
        let output = &context.output_schema;
        let measured: Vec<usize> = (partition.len()..output.fields().len()).collect();
        let measures = decode_projection(
            &self.spec.measures,
            &values.schema,
            &output.project(&measured)?,
        )?;
        let fingerprint = format!(
            "MATCH_RECOGNIZE, layout 1, keys ({}), rows ({})",
            encoder
                .types()
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(", "),
            values.fingerprint()
        );
        fingerprint::check(&context, &fingerprint)?;
        let mut partitions = Partitions::new(RUNS, max_parallelism);
        let waiting = partitions.restore(context.memory_bytes / 4, state)?;
        let pending = if self.spec.processing_time {
            None
        } else {
            let time = self.spec.time_column as usize;
            let mut pending = TimeBuffer::new(input, time, &partition, max_parallelism, PENDING)?;
            pending.restore(context.memory_bytes / 4, state)?;
            Some(pending)
        };
        self.open = Some(Open {
            input: input.clone(),
            output: output.clone(),
            encoder,
            pattern: self.pattern()?,
            conditions,
            values,
            measures,
            partitions,
            waiting: waiting.into_iter().collect(),
            pending,
            order: self.spec.order.clone(),
            next_expiry_ms: i64::MIN,
            fingerprint,
            memory_bytes: context.memory_bytes,
            late: metrics::counter!(
                LATE_RECORDS,
                "job" => context.info.job.to_string(),
                "operator" => context.info.name.to_string(),
                "subtask" => context.info.subtask.to_string()
            ),
            keys: EncodedKeys::default(),
            rows: EncodedKeys::default(),
            hashes: Vec::new(),
            slots: Vec::new(),
            found: Vec::new(),
        });
        Ok(())
    }

    fn process(&mut self, _: usize, batch: Batch, context: &mut Context<'_>) -> Result<()> {
        if batch.kinds().is_some() {
            return Err(Error::Config(
                "a MATCH_RECOGNIZE planned for an insert-only input got an updating one".to_owned(),
            ));
        }
        let (watermark, time) = (self.watermark_ms, self.spec.time_column as usize);
        let open = self.opened()?;
        if open.pending.is_none() {
            let times = vec![context.now_ms; batch.num_rows()];
            open.take_rows(batch.data(), &times, context)?;
            open.expire(context.now_ms, context)?;
            open.emit(context)?;
        } else {
            open.wait(batch.data(), time, watermark)?;
        }
        open.keep_in_budget(context.state)
    }

    fn watermark(&mut self, watermark_ms: i64, context: &mut Context<'_>) -> Result<i64> {
        self.watermark_ms = self.watermark_ms.max(watermark_ms);
        let time = self.spec.time_column as usize;
        let open = self.opened()?;
        if let Some(pending) = &mut open.pending {
            let taken = pending.take_until(watermark_ms, context.state)?;
            if !taken.is_empty() {
                let rows = open.in_order(concat_batches(&open.input, &taken)?, time)?;
                let times = millis(rows.column(time))?;
                open.take_rows(&rows, times.values(), context)?;
            }
            open.expire(watermark_ms, context)?;
            open.emit(context)?;
            open.keep_in_budget(context.state)?;
        }
        Ok(watermark_ms)
    }

    fn snapshot(&mut self, _: CheckpointId, context: &mut Context<'_>) -> Result<SnapshotPart> {
        let open = self.opened()?;
        if let Some(pending) = &mut open.pending {
            pending.freeze(context.state)?;
        }
        open.partitions.freeze();
        let mut part = SnapshotPart::default();
        fingerprint::put(&mut part.states, Bytes::from(open.fingerprint.clone()));
        Ok(part)
    }

    fn write_frozen(&mut self, context: &mut Context<'_>) -> Result<bool> {
        self.opened()?.write_frozen(context.state)
    }

    fn memory_bytes(&self) -> usize {
        self.open.as_ref().map_or(0, Open::memory)
    }

    fn state_schema(&self) -> String {
        let open = self.open.as_ref();
        open.map_or_else(String::new, |open| open.fingerprint.clone())
    }
}

impl Open {
    /// Event time: rows wait for the watermark, unless it has passed them.
    fn wait(&mut self, rows: &RecordBatch, time: usize, watermark_ms: i64) -> Result<()> {
        let Some(pending) = &mut self.pending else {
            return Ok(());
        };
        let times = millis(rows.column(time))?;
        let times = times.values();
        if times.iter().all(|time| *time > watermark_ms) {
            return pending.add(rows, times);
        }
        let in_time: BooleanArray = times
            .iter()
            .map(|time| Some(*time > watermark_ms))
            .collect();
        self.late.increment(in_time.false_count() as u64);
        let rows = filter_record_batch(rows, &in_time)?;
        pending.add(&rows, millis(rows.column(time))?.values())
    }

    /// Rows sorted by time and by what else ORDER BY says; equal ones as they came.
    fn in_order(&self, rows: RecordBatch, time: usize) -> Result<RecordBatch> {
        let mut columns = vec![SortColumn {
            values: rows.column(time).clone(),
            options: None,
        }];
        columns.extend(self.order.iter().map(|key| SortColumn {
            values: rows.column(key.column as usize).clone(),
            options: Some(SortOptions {
                descending: key.descending,
                nulls_first: key.nulls_first,
            }),
        }));
        let came: ArrayRef = Arc::new(UInt32Array::from_iter_values(0..rows.num_rows() as u32));
        columns.push(SortColumn {
            values: came,
            options: None,
        });
        let order = lexsort_to_indices(&columns, None)?;
        Ok(take_record_batch(&rows, &order)?)
    }

    /// Steps the runs of the rows' partitions.
    fn take_rows(
        &mut self,
        rows: &RecordBatch,
        times: &[i64],
        context: &mut Context<'_>,
    ) -> Result<()> {
        self.encoder.encode_into(rows, &mut self.keys)?;
        self.hashes.clear();
        self.hashes.extend(self.keys.iter().map(hash_key));
        self.partitions
            .resolve(&self.keys, &self.hashes, &mut self.slots, context.state)?;
        let narrow = self.values.narrow(rows)?;
        self.values.encoder().encode_into(&narrow, &mut self.rows)?;
        let local = self
            .conditions
            .iter()
            .map(|condition| match condition {
                Some(condition) if condition.is_local => {
                    self.values.test_rows(condition, &narrow).map(Some)
                }
                _ => Ok(None),
            })
            .collect::<Result<Vec<_>>>()?;
        for (row, time_ms) in times.iter().enumerate() {
            let slot = self.slots[row];
            let mut partition = self.partitions.take(slot, context.state)?;
            let number = partition.next_row();
            partition.rows.push_back(self.rows.get(row).into());
            let mut runs = std::mem::take(&mut partition.runs);
            let (conditions, values) = (&self.conditions, &self.values);
            let mut test =
                |variable: usize, run: &Run| match (&local[variable], &conditions[variable]) {
                    (Some(known), _) => Ok(known.value(row)),
                    (None, Some(condition)) => values.test(condition, &partition, run),
                    (None, None) => Ok(true),
                };
            let matches = self.pattern.step(&mut runs, number, *time_ms, &mut test)?;
            for run in &matches {
                self.found
                    .push((slot, self.values.of_match(&partition, run)?));
            }
            match runs.complete.is_empty() {
                true => self.waiting.remove(&slot),
                false => self.waiting.insert(slot),
            };
            partition.runs = runs;
            partition.forget();
            self.partitions.put(slot, partition);
        }
        Ok(())
    }

    /// Gives up runs that are too long: at once where a match waits for one, now and then elsewhere.
    fn expire(&mut self, now_ms: i64, context: &mut Context<'_>) -> Result<()> {
        if self.pattern.within_ms == 0 || now_ms == i64::MAX {
            return Ok(());
        }
        let slots: Vec<u32> = if now_ms < self.next_expiry_ms {
            self.waiting.iter().copied().collect()
        } else {
            self.next_expiry_ms = now_ms.saturating_add(EXPIRY_MS);
            let all = 0..self.partitions.len();
            all.filter(|slot| !self.partitions.get(*slot).rows.is_empty())
                .collect()
        };
        for slot in slots {
            let mut partition = self.partitions.take(slot, context.state)?;
            for run in self.pattern.advance(&mut partition.runs, now_ms)? {
                self.found
                    .push((slot, self.values.of_match(&partition, &run)?));
            }
            if partition.runs.complete.is_empty() {
                self.waiting.remove(&slot);
            }
            partition.forget();
            self.partitions.put(slot, partition);
        }
        Ok(())
    }

    /// The matches that were found, as rows.
    fn emit(&mut self, context: &mut Context<'_>) -> Result<()> {
        if self.found.is_empty() {
            return Ok(());
        }
        let found = std::mem::take(&mut self.found);
        let keys: Vec<&[u8]> = found
            .iter()
            .map(|(slot, _)| self.partitions.keys.key(*slot))
            .collect();
        let mut columns = self.encoder.decode(&keys)?;
        let values = concat_batches(&self.values.schema, found.iter().map(|(_, values)| values))?;
        let measured = self.measures.apply(&values).map_err(expression_error)?;
        columns.extend(measured.columns().iter().cloned());
        let options = RecordBatchOptions::new().with_row_count(Some(found.len()));
        let data = RecordBatch::try_new_with_options(self.output.clone(), columns, &options)?;
        context.out.emit(Batch::inserts(data))
    }

    fn write_frozen(&mut self, state: &mut dyn KeyedState) -> Result<bool> {
        if let Some(pending) = &mut self.pending
            && pending.write_frozen(state)?
        {
            return Ok(true);
        }
        self.partitions.write_frozen(state)
    }

    fn memory(&self) -> usize {
        self.partitions.memory() + self.pending.as_ref().map_or(0, TimeBuffer::memory)
    }

    /// Under memory pressure everything goes to the state, but for partitions in which a match waits.
    fn keep_in_budget(&mut self, state: &mut dyn KeyedState) -> Result<()> {
        if self.memory() <= self.memory_bytes {
            return Ok(());
        }
        while self.write_frozen(state)? {}
        state.seal()?;
        if let Some(pending) = &mut self.pending {
            pending.spill(state)?;
        }
        let kept: Vec<u32> = self.waiting.iter().copied().collect();
        self.waiting = self.partitions.spill(&kept, state)?.into_iter().collect();
        Ok(())
    }
}

#[cfg(test)]
mod tests;
