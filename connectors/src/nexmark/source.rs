//! Splits of the generator: event block b belongs to split b % splits, so that all splits go through event time side by side. A subtask owns
//! the splits s with s % parallelism = its number. The number of splits and the size of a block are fixed at the first start and kept in
//! the state of each split.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use weir_common::limits::BATCH_ROWS;
use weir_dataflow::{Batch, Error, Result, SourceEvent, SourceReader};

use super::columns::{Generator, Plan};
use super::options::NexmarkOptions;
use crate::context::SourceContext;
use crate::pace::Pacer;
use crate::split_state;

/// Base time of a source with an end, so that its events are the same in every run: 2026-01-01 00:00:00 UTC.
const FIXED_BASE_TIME_MS: i64 = 1_767_225_600_000;
/// More splits than subtasks leave room for a higher parallelism later.
const LEAST_SPLITS: u32 = 8;
/// Paced, each split gets a turn so many times a second.
const TURNS_PER_SECOND: u64 = 10;

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct SplitState {
    split: u32,
    splits: u32,
    block: u64,
    base_time_ms: i64,
    /// Number of the next event of this split.
    next: u64,
}

impl SplitState {
    /// Moves `next` behind `rows` events, which lie in one block.
    fn advance(&mut self, rows: u64) {
        self.next += rows;
        if self.next.is_multiple_of(self.block) {
            self.next += self.block * u64::from(self.splits - 1);
        }
    }

    fn block_end(&self) -> u64 {
        (self.next / self.block + 1) * self.block
    }
}

pub(super) struct NexmarkReader {
    generator: Generator,
    end: u64,
    splits: Vec<SplitState>,
    /// Splits that are still to be announced, then those that have ended.
    announced: usize,
    finished: Vec<u32>,
    pacer: Option<(Pacer, u64)>,
}

impl NexmarkReader {
    pub(super) fn open(options: NexmarkOptions, context: SourceContext) -> Result<Self> {
        let plan = Plan::new(&context.schema)?;
        let all = if context.restored.is_empty() {
            first_states(&options, &context)
        } else {
            restored_states(&context.restored)?
        };
        let base_time_ms = all.first().map_or(0, |split| split.base_time_ms);
        // Pacing counts from the same event in all subtasks.
        let start = all.iter().map(|split| split.next).min().unwrap_or(0);
        let pacer = options.paced.then(|| {
            let (clock, waker) = (context.clock.clone(), context.waker.clone());
            let pacer = Pacer::new(options.rate, clock, waker, context.runtime.clone());
            (pacer, start)
        });
        let info = &context.info;
        let splits = all
            .into_iter()
            .filter(|state| state.split % info.parallelism == info.subtask)
            .collect();
        Ok(Self {
            generator: Generator::new(plan, &options, base_time_ms),
            end: options.events.unwrap_or(u64::MAX / 4),
            splits,
            announced: 0,
            finished: Vec::new(),
            pacer,
        })
    }
}

fn first_states(options: &NexmarkOptions, context: &SourceContext) -> Vec<SplitState> {
    let parallelism = context.info.parallelism.max(1);
    let splits = options.splits.unwrap_or_else(|| {
        LEAST_SPLITS
            .max(2 * parallelism)
            .next_multiple_of(parallelism)
    });
    let block = if options.paced {
        (options.rate / TURNS_PER_SECOND / u64::from(splits)).clamp(1, BATCH_ROWS as u64)
    } else {
        BATCH_ROWS as u64
    };
    let base_time_ms = options.base_time_ms.unwrap_or_else(|| {
        if options.events.is_some() {
            FIXED_BASE_TIME_MS
        } else {
            submission_time_ms(context)
        }
    });
    let state = |split| SplitState {
        split,
        splits,
        block,
        base_time_ms,
        next: u64::from(split) * block,
    };
    (0..splits).map(state).collect()
}

/// The same in all subtasks: a job id begins with the time at which it was made. For ids of another kind, the clock to the minute.
fn submission_time_ms(context: &SourceContext) -> i64 {
    let id = context.info.job.as_str();
    let made = id
        .get(..12)
        .filter(|_| id.as_bytes().get(12) == Some(&b'7'))
        .and_then(|digits| i64::from_str_radix(digits, 16).ok());
    made.unwrap_or_else(|| context.clock.now_ms() / 60_000 * 60_000)
}

fn restored_states(items: &[Bytes]) -> Result<Vec<SplitState>> {
    let states = items
        .iter()
        .map(|item| split_state::decode::<SplitState>("nexmark", item))
        .collect::<Result<Vec<_>>>()?;
    let Some(first) = states.first().copied() else {
        return Ok(states);
    };
    let complete = states.len() == first.splits as usize && first.block > 0;
    if !complete || states.iter().any(|state| state.splits != first.splits) {
        return Err(Error::Restore(format!(
            "connector 'nexmark': the snapshot has {} of {} splits",
            states.len(),
            first.splits
        )));
    }
    Ok(states)
}

impl SourceReader for NexmarkReader {
    fn poll(&mut self) -> Result<SourceEvent> {
        if let Some(state) = self.splits.get(self.announced) {
            self.announced += 1;
            return Ok(SourceEvent::SplitStarted(state.split));
        }
        let active = self.splits.iter().filter(|state| state.next < self.end);
        let Some(next) = active.map(|state| (state.next, state.split)).min() else {
            return Ok(self.finish());
        };
        let Some(state) = self.splits.iter_mut().find(|state| state.split == next.1) else {
            return Ok(SourceEvent::EndOfData);
        };
        let mut stop = state.block_end().min(self.end);
        if let Some((pacer, start)) = &mut self.pacer {
            stop = stop.min(start.saturating_add(pacer.allowed()));
            if stop <= state.next {
                pacer.wake_later();
                return Ok(SourceEvent::Pending);
            }
        }
        let rows = stop - state.next;
        let data = self.generator.generate(state.next, rows as usize)?;
        state.advance(rows);
        Ok(SourceEvent::Batch {
            split: state.split,
            batch: Batch::inserts(data),
        })
    }

    fn snapshot(&mut self) -> Result<Vec<Bytes>> {
        self.splits.iter().map(split_state::encode).collect()
    }
}

impl NexmarkReader {
    fn finish(&mut self) -> SourceEvent {
        let ended = self
            .splits
            .iter()
            .map(|state| state.split)
            .find(|split| !self.finished.contains(split));
        match ended {
            Some(split) => {
                self.finished.push(split);
                SourceEvent::SplitFinished(split)
            }
            None => SourceEvent::EndOfData,
        }
    }
}
