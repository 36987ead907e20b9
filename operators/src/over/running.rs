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

/// Unbounded frames.
pub struct Running {
    pub store: AggregateStore,
    /// Rows of one time have the result of the last of them.
    shares_results: bool,
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
        let plan = AggregatePlan::new(PlanInput {
            calls: &counted_calls(calls),
            input,
            outputs,
            retracts: false,
            global: false,
        })?;
        Ok(Self {
            store: AggregateStore::new(Arc::new(plan), max_parallelism, Vec::new())?,
            shares_results: !spec.rows && !spec.processing_time,
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
        let partials = self.store.scan(rows.arguments, slots, state)?;
        let own = results(self.store.plan(), &partials)?;
        if !self.shares_results {
            return Ok(own);
        }
        let last = last_peers(slots, rows.times);
        own.iter()
            .map(|result| Ok(take(result, &last, None)?))
            .collect()
    }
}

/// The calls as aggregates. Ranks are counts: rows that sort the same share the count of the last of them, in Flink, too.
pub fn counted_calls(calls: &[v1::OverCall]) -> Vec<v1::AggregateCall> {
    let calls = calls.iter().map(|over| {
        let mut call = over.call.clone().unwrap_or_default();
        if matches!(call.function.as_str(), "ROW_NUMBER" | "RANK" | "DENSE_RANK") {
            call.function = "COUNT".to_owned();
        }
        call
    });
    calls.collect()
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
