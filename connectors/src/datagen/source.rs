//! Splits of the generator: block b of rows belongs to split b % splits, the split to subtask split % parallelism.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use weir_common::clock::Clock;
use weir_common::key_group::hash_key;
use weir_dataflow::{Batch, Error, Result, SourceEvent, SourceReader};

use super::columns::Generator;
use super::options::DatagenOptions;
use crate::context::SourceContext;
use crate::pace::Pacer;
use crate::split_state;

/// More splits than subtasks leave room for a higher parallelism later.
const LEAST_SPLITS: u32 = 8;
/// Rows of a block at most.
const BLOCK: u64 = 1024;
/// Each split gets a turn so many times a second.
const TURNS_PER_SECOND: u64 = 20;

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct SplitState {
    split: u32,
    splits: u32,
    block: u64,
    /// Number of the next row of this split.
    next: u64,
}

impl SplitState {
    fn block_end(&self) -> u64 {
        (self.next / self.block + 1) * self.block
    }

    /// Moves `next` behind `rows` rows, which lie in one block.
    fn advance(&mut self, rows: u64) {
        self.next += rows;
        if self.next.is_multiple_of(self.block) {
            self.next += self.block * u64::from(self.splits - 1);
        }
    }
}

pub(super) struct DatagenSource {
    generator: Generator,
    end: u64,
    splits: Vec<SplitState>,
    announced: usize,
    finished: Vec<u32>,
    pacer: Pacer,
    /// Row from which on the pacer counts.
    start: u64,
    clock: Clock,
}

impl DatagenSource {
    pub fn open(options: DatagenOptions, context: SourceContext) -> Result<Self> {
        let info = &context.info;
        let all = match context.restored.is_empty() {
            true => first_states(&options, info.parallelism.max(1)),
            false => restored_states(&context.restored)?,
        };
        let start = all.iter().map(|state| state.next).min().unwrap_or(0);
        let pacer = Pacer::new(
            options.rows_per_second,
            context.clock.clone(),
            context.waker.clone(),
            context.runtime.clone(),
        );
        Ok(Self {
            generator: Generator {
                schema: context.schema.clone(),
                rules: options.columns,
                seed: hash_key(info.job.as_str().as_bytes()),
            },
            end: options.rows.unwrap_or(u64::MAX / 4),
            splits: all
                .into_iter()
                .filter(|state| state.split % info.parallelism == info.subtask)
                .collect(),
            announced: 0,
            finished: Vec::new(),
            pacer,
            start,
            clock: context.clock,
        })
    }

    /// The split whose turn it is: the one that is furthest behind.
    fn next_split(&self) -> Option<usize> {
        let open = self
            .splits
            .iter()
            .enumerate()
            .filter(|(_, state)| state.next < self.end);
        open.min_by_key(|(_, state)| state.next)
            .map(|(index, _)| index)
    }
}

fn first_states(options: &DatagenOptions, parallelism: u32) -> Vec<SplitState> {
    let splits = LEAST_SPLITS
        .max(2 * parallelism)
        .next_multiple_of(parallelism);
    let block = (options.rows_per_second / TURNS_PER_SECOND / u64::from(splits)).clamp(1, BLOCK);
    (0..splits)
        .map(|split| SplitState {
            split,
            splits,
            block,
            next: u64::from(split) * block,
        })
        .collect()
}

fn restored_states(items: &[Bytes]) -> Result<Vec<SplitState>> {
    let states = items
        .iter()
        .map(|item| split_state::decode::<SplitState>("datagen", item))
        .collect::<Result<Vec<_>>>()?;
    let broken = states
        .iter()
        .any(|state| state.block == 0 || state.splits as usize != states.len());
    if broken {
        return Err(Error::Restore(format!(
            "connector 'datagen': the snapshot has {} splits, not all of them",
            states.len()
        )));
    }
    Ok(states)
}

impl SourceReader for DatagenSource {
    fn poll(&mut self) -> Result<SourceEvent> {
        if let Some(state) = self.splits.get(self.announced) {
            self.announced += 1;
            return Ok(SourceEvent::SplitStarted(state.split));
        }
        if let Some(split) = self.finished.pop() {
            return Ok(SourceEvent::SplitFinished(split));
        }
        let Some(index) = self.next_split() else {
            return Ok(SourceEvent::EndOfData);
        };
        let allowed = self
            .start
            .saturating_add(self.pacer.allowed())
            .min(self.end);
        let Some(state) = self.splits.get_mut(index) else {
            return Ok(SourceEvent::EndOfData);
        };
        let until = state.block_end().min(allowed);
        if until <= state.next {
            self.pacer.wake_later();
            return Ok(SourceEvent::Pending);
        }
        let (split, rows) = (state.split, until - state.next);
        let data = self
            .generator
            .batch(state.next, rows as usize, self.clock.now_ms())?;
        state.advance(rows);
        if state.next >= self.end {
            self.finished.push(split);
        }
        Ok(SourceEvent::Batch {
            split,
            batch: Batch::inserts(data),
        })
    }

    fn snapshot(&mut self) -> Result<Vec<Bytes>> {
        self.splits.iter().map(split_state::encode).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_util::{source, source_context};
    use arrow::array::AsArray;
    use arrow::datatypes::{DataType, Int64Type};
    use std::collections::BTreeSet;
    use weir_dataflow::testing::schema;

    fn numbers(reader: &mut dyn SourceReader, until: usize) -> Vec<i64> {
        let mut numbers = Vec::new();
        while numbers.len() < until {
            match reader.poll().unwrap() {
                SourceEvent::Batch { batch, .. } => {
                    numbers.extend(
                        batch
                            .data()
                            .column(0)
                            .as_primitive::<Int64Type>()
                            .values()
                            .iter()
                            .copied(),
                    );
                }
                SourceEvent::EndOfData => break,
                _ => {}
            }
        }
        numbers
    }

    fn spec() -> weir_proto::v1::Source {
        source(
            "datagen",
            &[
                ("rows-per-second", "10000000"),
                ("fields.id.kind", "sequence"),
                ("fields.id.start", "1"),
                ("fields.id.end", "5000"),
                ("fields.name.length", "8"),
            ],
        )
    }

    #[test]
    fn a_sequence_is_whole_over_a_restore_at_another_parallelism() {
        let schema = schema(&[("id", DataType::Int64), ("name", DataType::Utf8)]);
        let mut states = Vec::new();
        let mut seen = Vec::new();
        for subtask in 0..2 {
            let mut reader =
                super::super::open(&spec(), source_context(schema.clone(), subtask, 2, &[]))
                    .unwrap();
            seen.extend(numbers(reader.as_mut(), 1000));
            states.extend(reader.snapshot().unwrap());
        }
        for subtask in 0..3 {
            let mut reader =
                super::super::open(&spec(), source_context(schema.clone(), subtask, 3, &states))
                    .unwrap();
            seen.extend(numbers(reader.as_mut(), usize::MAX));
        }
        assert_eq!(seen.len(), 5000);
        assert_eq!(
            seen.into_iter().collect::<BTreeSet<_>>(),
            (1..=5000).collect()
        );
    }

    #[test]
    fn a_sequence_that_is_not_read_ends_the_source_too() {
        let table = schema(&[("id", DataType::Int64), ("name", DataType::Utf8)]);
        let mut spec = spec();
        spec.table_schema = weir_dataflow::schema::encode_schema(&table);
        let read = schema(&[("name", DataType::Utf8)]);
        let mut reader = super::super::open(&spec, source_context(read, 0, 1, &[])).unwrap();
        let mut rows = 0;
        loop {
            match reader.poll().unwrap() {
                SourceEvent::Batch { batch, .. } => rows += batch.num_rows(),
                SourceEvent::EndOfData => break,
                _ => {}
            }
        }
        assert_eq!(rows, 5000);
    }

    #[test]
    fn an_option_of_no_column_is_refused() {
        let options = crate::test_util::options(&[("row-per-second", "1")]);
        let error =
            super::super::describe(crate::OptionReader::new("datagen", &options), &schema(&[]));
        assert!(error.unwrap_err().to_string().contains("rows-per-second"));
    }
}
