//! Frames from a partition's first row on: accumulators a partition, and the result behind each row.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, Schema};
use weir_dataflow::{Error, KeyedState, Result};
use weir_proto::v1;

use crate::accumulator::{AggregatePlan, PlanInput, results};
use crate::aggregate_store::AggregateStore;

use super::Rows;

/// How a call's result comes from that of an aggregate.
#[derive(Clone, Copy, PartialEq)]
enum Taken {
    /// That of the row, or with RANGE of the last row of its time.
    Own,
    /// RANK: that of the first row of its time.
    FirstPeer,
}

/// Unbounded frames.
pub struct Running {
    pub store: AggregateStore,
    taken: Vec<Taken>,
    rows_frame: bool,
    has_peers: bool,
    /// Place of a column that says which rows are the first of their time, for DENSE_RANK.
    first_peers: Option<usize>,
}

impl Running {
    /// `input` are the columns that the calls read; `outputs` the types of their results.
    pub fn new(
        spec: &v1::OverAggregate,
        calls: &[v1::OverCall],
        input: &Schema,
        outputs: Vec<DataType>,
        max_parallelism: u32,
    ) -> Result<Self> {
        let mut fields: Vec<Field> = input.fields().iter().map(|f| f.as_ref().clone()).collect();
        let mut first_peers = None;
        let mut taken = Vec::with_capacity(calls.len());
        let mut aggregates = Vec::with_capacity(calls.len());
        for call in calls {
            let mut call = call.call.clone().unwrap_or_default();
            taken.push(match call.function.as_str() {
                "RANK" => Taken::FirstPeer,
                _ => Taken::Own,
            });
            if call.function == "DENSE_RANK" {
                let place = *first_peers.get_or_insert(fields.len());
                if place == fields.len() {
                    fields.push(Field::new("$first", DataType::Boolean, false));
                }
                call.filter = u32::try_from(place).ok();
            }
            if matches!(call.function.as_str(), "ROW_NUMBER" | "RANK" | "DENSE_RANK") {
                call.function = "COUNT".to_owned();
            }
            aggregates.push(call);
        }
        let plan = AggregatePlan::new(PlanInput {
            calls: &aggregates,
            input: &Schema::new(fields),
            outputs,
            retracts: false,
            global: false,
        })?;
        Ok(Self {
            store: AggregateStore::new(Arc::new(plan), max_parallelism, Vec::new())?,
            taken,
            rows_frame: spec.rows || spec.processing_time,
            has_peers: !spec.processing_time,
            first_peers,
        })
    }

    /// The calls' results for rows in the order of time.
    pub fn process(
        &mut self,
        rows: &Rows<'_>,
        slots: &mut Vec<u32>,
        state: &mut dyn KeyedState,
    ) -> Result<Vec<ArrayRef>> {
        self.store.resolve(rows.keys, rows.hashes, slots, state)?;
        let peers = self.has_peers.then(|| Peers::of(slots, rows.times));
        let mut arguments = rows.arguments.clone();
        if let Some(place) = self.first_peers {
            arguments = with_first_peers(&arguments, place, peers.as_ref())?;
        }
        let partials = self.store.scan(&arguments, slots, state)?;
        let all = results(self.store.plan(), &partials)?;
        let taken = all.into_iter().zip(&self.taken);
        taken
            .map(|(result, taken)| match (&peers, taken) {
                (Some(peers), Taken::FirstPeer) => Ok(take(&result, &peers.first, None)?),
                (Some(peers), Taken::Own) if !self.rows_frame => {
                    Ok(take(&result, &peers.last, None)?)
                }
                _ => Ok(result),
            })
            .collect()
    }
}

/// For each row the first and the last row of its partition and time.
struct Peers {
    first: UInt32Array,
    last: UInt32Array,
}

impl Peers {
    fn of(slots: &[u32], times: &[i64]) -> Self {
        let partitions = slots.iter().max().map_or(0, |slot| *slot as usize + 1);
        let mut seen: Vec<(i64, u32)> = vec![(0, u32::MAX); partitions];
        let mut meet = |row: usize| {
            let seen = &mut seen[slots[row] as usize];
            if seen.1 == u32::MAX || seen.0 != times[row] {
                *seen = (times[row], row as u32);
            }
            seen.1
        };
        let first: Vec<u32> = (0..slots.len()).map(&mut meet).collect();
        let mut seen: Vec<(i64, u32)> = vec![(0, u32::MAX); partitions];
        let mut last = vec![0; slots.len()];
        for row in (0..slots.len()).rev() {
            let seen = &mut seen[slots[row] as usize];
            if seen.1 == u32::MAX || seen.0 != times[row] {
                *seen = (times[row], row as u32);
            }
            last[row] = seen.1;
        }
        Self {
            first: first.into(),
            last: last.into(),
        }
    }
}

fn with_first_peers(
    arguments: &RecordBatch,
    place: usize,
    peers: Option<&Peers>,
) -> Result<RecordBatch> {
    let is_first: BooleanArray = match peers {
        Some(peers) => {
            let rows = peers.first.values().iter().enumerate();
            rows.map(|(row, first)| Some(row == *first as usize))
                .collect()
        }
        None => vec![true; arguments.num_rows()].into(),
    };
    let mut fields: Vec<_> = arguments.schema().fields().to_vec();
    let mut columns = arguments.columns().to_vec();
    if place != columns.len() {
        return Err(Error::Internal(
            "DENSE_RANK reads a column of another place".to_owned(),
        ));
    }
    fields.push(Arc::new(Field::new("$first", DataType::Boolean, false)));
    columns.push(Arc::new(is_first));
    Ok(RecordBatch::try_new(
        Arc::new(Schema::new(fields)),
        columns,
    )?)
}
