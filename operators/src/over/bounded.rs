//! Frames that begin some rows or some time in front of the current row: the rows that they may reach are kept, and each firing slides over them.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::{concat_batches, take, take_arrays};
use arrow::datatypes::{DataType, SchemaRef};
use weir_dataflow::key::{EncodedKeys, KeyEncoder};
use weir_dataflow::{KeyedState, Result, StateTable};
use weir_proto::v1;

use crate::accumulator::{Accumulators, AggregatePlan, PlanInput, results};

use super::Rows;
use super::past::PastRows;

/// How a call's result is found.
enum Found {
    /// The next result of the aggregates.
    Aggregate,
    /// FIRST_VALUE, LAST_VALUE: a row of the frame.
    First(Picked),
    Last(Picked),
    /// LAG: so many rows in front of the last row of the same time, as Flink has it.
    Lag {
        value: usize,
        offset: usize,
        default: Option<usize>,
    },
}

/// A value that is not NULL, where the filter is true.
struct Picked {
    value: usize,
    filter: Option<usize>,
}

/// Bounded frames.
pub struct Bounded {
    pub past: PastRows,
    schema: SchemaRef,
    encoder: KeyEncoder,
    found: Vec<Found>,
    plan: Option<AggregatePlan>,
    rows_frame: bool,
    preceding: i64,
    /// Rows of one time see each other.
    has_peers: bool,
    encoded: EncodedKeys,
}

/// Past and new rows of all partitions of a firing, partition by partition in the order of time, and the new rows' frames in them.
struct Sorted {
    rows: RecordBatch,
    /// For each new row: first and last row of its frame.
    frames: Vec<(u32, u32)>,
    /// For each new row: the first row of its partition, and the last one of its time.
    peers: Vec<(u32, u32)>,
    /// For each partition: the new rows, oldest first.
    partitions: Vec<Vec<u32>>,
}

impl Bounded {
    /// `input` are the columns that the calls read; `outputs` the types of their results.
    pub fn new(
        spec: &v1::OverAggregate,
        calls: &[v1::OverCall],
        input: &SchemaRef,
        outputs: Vec<DataType>,
        table: StateTable,
        max_parallelism: u32,
    ) -> Result<Self> {
        let (mut found, mut aggregates, mut types) = (Vec::new(), Vec::new(), Vec::new());
        for (over, output) in calls.iter().zip(outputs) {
            let call = over.call.clone().unwrap_or_default();
            let argument = |place: usize| call.arguments.get(place).map(|c| *c as usize);
            let picked = || Picked {
                value: argument(0).unwrap_or_default(),
                filter: call.filter.map(|column| column as usize),
            };
            found.push(match call.function.as_str() {
                "FIRST_VALUE" => Found::First(picked()),
                "LAST_VALUE" => Found::Last(picked()),
                "LAG" => Found::Lag {
                    value: argument(0).unwrap_or_default(),
                    offset: usize::try_from(over.offset).unwrap_or_default(),
                    default: argument(1),
                },
                _ => {
                    aggregates.push(call);
                    types.push(output);
                    Found::Aggregate
                }
            });
        }
        let plan = if aggregates.is_empty() {
            None
        } else {
            Some(AggregatePlan::new(PlanInput {
                calls: &aggregates,
                input,
                outputs: types,
                retracts: true,
                global: false,
            })?)
        };
        let all: Vec<usize> = (0..input.fields().len()).collect();
        Ok(Self {
            past: PastRows::new(table, max_parallelism),
            schema: input.clone(),
            encoder: KeyEncoder::new(input, &all)?,
            found,
            plan,
            rows_frame: spec.rows,
            has_peers: !spec.processing_time,
            preceding: spec.preceding.unwrap_or_default(),
            encoded: EncodedKeys::default(),
        })
    }

    /// What is kept of a row, in words.
    pub fn fingerprint(&self) -> String {
        let types: Vec<String> = self
            .encoder
            .types()
            .iter()
            .map(ToString::to_string)
            .collect();
        format!("rows ({})", types.join(", "))
    }

    /// The calls' results for rows in the order of time.
    pub fn process(
        &mut self,
        rows: &Rows<'_>,
        slots: &mut Vec<u32>,
        state: &mut dyn KeyedState,
    ) -> Result<Vec<ArrayRef>> {
        self.past.resolve(rows.keys, rows.hashes, slots, state)?;
        let sorted = self.sort(rows, slots)?;
        let mut aggregates = match &self.plan {
            Some(plan) => slide(plan, &sorted)?.into_iter(),
            None => Vec::new().into_iter(),
        };
        let mut out = Vec::with_capacity(self.found.len());
        for found in &self.found {
            out.push(match found {
                Found::Aggregate => aggregates
                    .next()
                    .ok_or_else(|| super::internal("an aggregate of an OVER has no result"))?,
                Found::First(picked) => sorted.first(picked)?,
                Found::Last(picked) => sorted.last(picked)?,
                Found::Lag {
                    value,
                    offset,
                    default,
                } => {
                    let default = default.map(|column| rows.arguments.column(column));
                    sorted.lag(*value, *offset as u32, default)?
                }
            });
        }
        self.keep(rows, slots, &sorted)?;
        Ok(out)
    }

    fn sort(&self, rows: &Rows<'_>, slots: &[u32]) -> Result<Sorted> {
        let mut order: Vec<u32> = (0..slots.len() as u32).collect();
        order.sort_by_key(|row| slots[*row as usize]);
        let mut bytes: Vec<&[u8]> = Vec::new();
        let partitions: Vec<Vec<u32>> = order
            .chunk_by(|a, b| slots[*a as usize] == slots[*b as usize])
            .map(<[u32]>::to_vec)
            .collect();
        for rows_of in &partitions {
            let past = self.past.rows(slots[rows_of[0] as usize]);
            bytes.extend(past.iter().map(|row| &*row.bytes));
        }
        let total = bytes.len() + slots.len();
        let (mut places, mut times) = (Vec::with_capacity(total), Vec::with_capacity(total));
        let mut frames = vec![(0, 0); slots.len()];
        let mut peers = frames.clone();
        let mut next_past = 0u32;
        for rows_of in &partitions {
            let start = places.len();
            for past in self.past.rows(slots[rows_of[0] as usize]) {
                places.push(next_past);
                times.push(past.time_ms);
                next_past += 1;
            }
            let first_new = places.len();
            for row in rows_of {
                places.push(bytes.len() as u32 + row);
                times.push(rows.times[*row as usize]);
            }
            self.frames(start, first_new, &times, rows_of, &mut frames);
            let mut last = places.len() as u32;
            for (index, row) in rows_of.iter().enumerate().rev() {
                let own = first_new + index;
                let same = self.has_peers && times.get(own + 1) == Some(&times[own]);
                last = if same { last } else { own as u32 };
                peers[*row as usize] = (start as u32, last);
            }
        }
        let past = batch(&self.schema, self.encoder.decode(&bytes)?, bytes.len())?;
        let all = concat_batches(&self.schema, [&past, rows.arguments])?;
        Ok(Sorted {
            rows: take_rows(&all, places)?,
            frames,
            peers,
            partitions,
        })
    }

    /// Frames of a partition's new rows; its rows begin at `start`, the new ones at `first_new`.
    fn frames(
        &self,
        start: usize,
        first_new: usize,
        times: &[i64],
        rows_of: &[u32],
        frames: &mut [(u32, u32)],
    ) {
        let (mut low, mut high) = (start, first_new);
        for (index, row) in rows_of.iter().enumerate() {
            let own = first_new + index;
            if self.rows_frame {
                let reach = usize::try_from(self.preceding).unwrap_or(usize::MAX);
                (low, high) = (own.saturating_sub(reach).max(start), own);
            } else {
                while high + 1 < times.len() && times[high + 1] == times[own] || high < own {
                    high += 1;
                }
                while times[low] < times[own].saturating_sub(self.preceding) {
                    low += 1;
                }
            }
            frames[*row as usize] = (low as u32, high as u32);
        }
    }

    /// Keeps the new rows for frames to come, and forgets what no frame will reach.
    fn keep(&mut self, rows: &Rows<'_>, slots: &[u32], sorted: &Sorted) -> Result<()> {
        self.encoder
            .encode_into(rows.arguments, &mut self.encoded)?;
        // Of the newest row the time is needed: rows in front of it come too late.
        let reach = usize::try_from(self.preceding.max(1)).unwrap_or(usize::MAX);
        for rows_of in &sorted.partitions {
            let slot = slots[rows_of[0] as usize];
            let skipped = if self.rows_frame {
                rows_of.len().saturating_sub(reach)
            } else {
                0
            };
            for row in &rows_of[skipped..] {
                let row = *row as usize;
                self.past.push(slot, rows.times[row], self.encoded.get(row));
            }
            if self.rows_frame {
                self.past.pop_while(slot, |length, _| length > reach);
            } else if let Some(last) = rows_of.last() {
                let oldest = rows.times[*last as usize].saturating_sub(self.preceding);
                self.past.pop_while(slot, |_, time| time < oldest);
            }
        }
        Ok(())
    }

    /// Forgets what no frame of rows behind `watermark_ms` reaches.
    pub fn expire(&mut self, watermark_ms: i64, state: &mut dyn KeyedState) -> Result<()> {
        if self.rows_frame {
            return Ok(());
        }
        let oldest = watermark_ms.saturating_sub(self.preceding);
        for slot in 0..self.past.len() {
            self.past.pop_while(slot, |_, time| time < oldest);
        }
        self.past.sweep(oldest, state)
    }
}

/// Slides over the frames: rows that enter are added, rows that leave are taken back.
fn slide(plan: &AggregatePlan, sorted: &Sorted) -> Result<Vec<ArrayRef>> {
    let (mut rows, mut signs, mut slots) = (Vec::new(), Vec::new(), Vec::new());
    // The last step of each new row's frame.
    let mut ends = vec![0u32; sorted.frames.len()];
    for (slot, rows_of) in sorted.partitions.iter().enumerate() {
        let first = rows_of
            .first()
            .map_or(0, |row| sorted.frames[*row as usize].0);
        // Rows from `low` on and before `next` are in the accumulators.
        let (mut low, mut next) = (first, first);
        for row in rows_of {
            let (start, end) = sorted.frames[*row as usize];
            let leaving = low..start.min(next);
            let entering = next.max(start)..=end;
            signs.resize(signs.len() + leaving.len(), -1);
            rows.extend(leaving);
            rows.extend(entering);
            signs.resize(rows.len(), 1);
            (low, next) = (start, end + 1);
            ends[*row as usize] = rows.len().saturating_sub(1) as u32;
        }
        slots.resize(rows.len(), slot as u32);
    }
    let rows = take_rows(&sorted.rows, rows)?;
    let mut accumulators = Accumulators::new(plan)?;
    accumulators.grow(sorted.partitions.len());
    let prepared = accumulators.prepare(plan, &rows, Some(&signs), &slots)?;
    let partials = accumulators.scan(plan, &rows, &prepared, &slots)?;
    let ends = UInt32Array::from(ends);
    let partials: Vec<ArrayRef> = partials
        .iter()
        .map(|partial| Ok(take(partial, &ends, None)?))
        .collect::<Result<_>>()?;
    results(plan, &partials)
}

/// Rows that may have no columns: COUNT(*) reads none.
fn batch(schema: &SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(
        schema.clone(),
        columns,
        &options,
    )?)
}

fn take_rows(rows: &RecordBatch, places: Vec<u32>) -> Result<RecordBatch> {
    let places = UInt32Array::from(places);
    let columns = take_arrays(rows.columns(), &places, None)?;
    batch(rows.schema_ref(), columns, places.len())
}

impl Sorted {
    fn counts(&self, picked: &Picked) -> impl Fn(usize) -> bool {
        let values = self.rows.column(picked.value).logical_nulls();
        let filter = picked
            .filter
            .map(|column| self.rows.column(column).as_boolean().clone());
        move |row| {
            values.as_ref().is_none_or(|nulls| nulls.is_valid(row))
                && filter
                    .as_ref()
                    .is_none_or(|filter| filter.is_valid(row) && filter.value(row))
        }
    }

    fn first(&self, picked: &Picked) -> Result<ArrayRef> {
        let counts = self.counts(picked);
        // The next row that counts, from each row on.
        let mut next = vec![u32::MAX; self.rows.num_rows() + 1];
        for row in (0..self.rows.num_rows()).rev() {
            next[row] = if counts(row) {
                row as u32
            } else {
                next[row + 1]
            };
        }
        self.pick(picked.value, |(low, high)| {
            Some(next[low as usize]).filter(|row| *row <= high)
        })
    }

    fn last(&self, picked: &Picked) -> Result<ArrayRef> {
        let counts = self.counts(picked);
        let mut last = None;
        let before: Vec<Option<u32>> = (0..self.rows.num_rows())
            .map(|row| {
                if counts(row) {
                    last = Some(row as u32);
                }
                last
            })
            .collect();
        self.pick(picked.value, |(low, high)| {
            before[high as usize].filter(|row| *row >= low)
        })
    }

    fn lag(&self, value: usize, offset: u32, default: Option<&ArrayRef>) -> Result<ArrayRef> {
        let is_there = |(start, last): &(u32, u32)| last - start >= offset;
        let rows: UInt32Array = self
            .peers
            .iter()
            .map(|peers| is_there(peers).then(|| peers.1 - offset))
            .collect();
        let lagged = take(self.rows.column(value), &rows, None)?;
        let Some(default) = default else {
            return Ok(lagged);
        };
        let mask: arrow::array::BooleanArray = self
            .peers
            .iter()
            .map(|peers| Some(is_there(peers)))
            .collect();
        Ok(arrow::compute::kernels::zip::zip(&mask, &lagged, default)?)
    }

    fn pick(&self, column: usize, row_of: impl Fn((u32, u32)) -> Option<u32>) -> Result<ArrayRef> {
        let rows: UInt32Array = self.frames.iter().map(|frame| row_of(*frame)).collect();
        Ok(take(self.rows.column(column), &rows, None)?)
    }
}
