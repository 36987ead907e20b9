//! Frames from a partition's first row on: accumulators a partition, and the result behind each row.

use std::sync::Arc;

use arrow::array::{ArrayRef, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Schema};
use weir_dataflow::{KeyedState, Result};
use weir_proto::v1;

use crate::accumulator::{AggregatePlan, PlanInput, results};
use crate::aggregate_store::AggregateStore;

use super::Rows;

/// How a call's result comes from that of an aggregate.
#[derive(Clone, Copy, PartialEq)]
enum Taken {
    /// That of the row, or with RANGE of the last row of its time.
    Own,
    /// RANK and DENSE_RANK: that of the last row of its time. Flink counts all rows of a time before it gives any of them its rank.
    LastPeer,
}

/// Unbounded frames.
pub struct Running {
    pub store: AggregateStore,
    taken: Vec<Taken>,
    rows_frame: bool,
    has_peers: bool,
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
        let mut taken = Vec::with_capacity(calls.len());
        let mut aggregates = Vec::with_capacity(calls.len());
        for call in calls {
            let mut call = call.call.clone().unwrap_or_default();
            taken.push(match call.function.as_str() {
                "RANK" | "DENSE_RANK" => Taken::LastPeer,
                _ => Taken::Own,
            });
            if matches!(call.function.as_str(), "ROW_NUMBER" | "RANK" | "DENSE_RANK") {
                call.function = "COUNT".to_owned();
            }
            aggregates.push(call);
        }
        let plan = AggregatePlan::new(PlanInput {
            calls: &aggregates,
            input,
            outputs,
            retracts: false,
            global: false,
        })?;
        Ok(Self {
            store: AggregateStore::new(Arc::new(plan), max_parallelism, Vec::new())?,
            taken,
            rows_frame: spec.rows || spec.processing_time,
            has_peers: !spec.processing_time,
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
        let last_peers = self.has_peers.then(|| last_peers(slots, rows.times));
        let partials = self.store.scan(rows.arguments, slots, state)?;
        let all = results(self.store.plan(), &partials)?;
        let taken = all.into_iter().zip(&self.taken);
        taken
            .map(|(result, taken)| match &last_peers {
                Some(last) if !self.rows_frame || *taken == Taken::LastPeer => {
                    Ok(take(&result, last, None)?)
                }
                _ => Ok(result),
            })
            .collect()
    }
}

/// For each row the last row of its partition and time.
fn last_peers(slots: &[u32], times: &[i64]) -> UInt32Array {
    let partitions = slots.iter().max().map_or(0, |slot| *slot as usize + 1);
    let mut seen: Vec<(i64, u32)> = vec![(0, u32::MAX); partitions];
    let mut last = vec![0; slots.len()];
    for row in (0..slots.len()).rev() {
        let seen = &mut seen[slots[row] as usize];
        if seen.1 == u32::MAX || seen.0 != times[row] {
            *seen = (times[row], row as u32);
        }
        last[row] = seen.1;
    }
    last.into()
}
