//! Runs an aggregation as several subtasks, which a test can restart at another parallelism, and its calls in short.

use arrow::array::UInt32Array;
use arrow::datatypes::SchemaRef;
use weir_common::key_group::{key_group_of_hash, subtask_of};
use weir_dataflow::key::KeyEncoder;
use weir_dataflow::testing::{Harness, HarnessSnapshot, open_context};
use weir_dataflow::{Batch, Operator, OperatorStates};
use weir_proto::v1;

/// `FUNCTION [DISTINCT] [column] [?filter column]`.
pub fn call(text: &str) -> v1::AggregateCall {
    let mut call = v1::AggregateCall::default();
    for (place, word) in text.split_whitespace().enumerate() {
        match (place, word) {
            (0, function) => call.function = function.into(),
            (_, "DISTINCT") => call.distinct = true,
            (_, word) => match word.strip_prefix('?') {
                Some(filter) => call.filter = Some(filter.parse().unwrap()),
                None => call.arguments.push(word.parse().unwrap()),
            },
        }
    }
    call
}

pub fn calls(texts: &[&str]) -> Vec<v1::AggregateCall> {
    texts.iter().map(|text| call(text)).collect()
}

/// What a test does to an operator.
pub type Step<'a> = Box<dyn Fn(&mut Harness) + 'a>;

/// Rows on an input.
pub fn rows_in<'a>(input: usize, batch: Batch) -> Step<'a> {
    Box::new(move |harness| harness.push(input, batch.clone()).unwrap())
}

/// A watermark.
pub fn time<'a>(watermark_ms: i64) -> Step<'a> {
    Box::new(move |harness| {
        harness.watermark(watermark_ms).unwrap();
    })
}

/// Checks that a snapshot which is written while the stream goes on is the one of the barrier, that the stream does not notice,
/// and that nothing of what changed meanwhile is missing in the next snapshot.
pub fn assert_frozen(open: &dyn Fn() -> Harness, before: &[Step<'_>], behind: &[Step<'_>]) {
    let (mut waiting, mut going_on) = (open(), open());
    for step in before {
        step(&mut waiting);
        step(&mut going_on);
    }
    let expected = waiting.snapshot().unwrap();
    going_on.begin_snapshot().unwrap();
    for step in behind {
        step(&mut waiting);
        step(&mut going_on);
        going_on.write_frozen().unwrap();
    }
    assert_eq!(going_on.finish_snapshot().unwrap(), expected);
    assert_eq!(going_on.rows().unwrap(), waiting.rows().unwrap());
    assert_eq!(going_on.snapshot().unwrap(), waiting.snapshot().unwrap());
}

/// All subtasks of one operator.
pub struct Cluster<'a> {
    pub input: SchemaRef,
    pub output: SchemaRef,
    pub keys: Vec<usize>,
    pub memory_bytes: usize,
    pub create: &'a dyn Fn() -> Box<dyn Operator>,
    pub subtasks: Vec<Harness>,
}

impl Cluster<'_> {
    /// Starts, afresh or from a snapshot.
    pub fn start(&mut self, parallelism: u32, snapshot: Option<&HarnessSnapshot>) {
        self.subtasks = (0..parallelism)
            .map(|subtask| {
                let (inputs, output) = (vec![self.input.clone()], self.output.clone());
                let mut context = open_context(inputs, output, subtask, parallelism);
                context.memory_bytes = self.memory_bytes;
                let operator = (self.create)();
                match snapshot {
                    Some(snapshot) => Harness::restore(operator, context, snapshot).unwrap(),
                    None => Harness::open_with(operator, context).unwrap(),
                }
            })
            .collect();
    }

    /// Stops with a snapshot and goes on from it.
    pub fn restart(&mut self, parallelism: u32) {
        let mut all = HarnessSnapshot {
            keyed: Vec::new(),
            states: OperatorStates::default(),
        };
        for subtask in &mut self.subtasks {
            let snapshot = subtask.snapshot().unwrap();
            all.keyed.extend(snapshot.keyed);
            all.states.extend(snapshot.states);
        }
        self.start(parallelism, Some(&all));
    }

    /// Rows to the subtasks of their keys.
    pub fn push(&mut self, batch: &Batch) {
        let encoder = KeyEncoder::new(&self.input, &self.keys).unwrap();
        let mut hashes = Vec::new();
        encoder.hashes(batch.data(), &mut hashes).unwrap();
        let parallelism = self.subtasks.len() as u32;
        for (index, subtask) in self.subtasks.iter_mut().enumerate() {
            let is_here = |hash: &u64| {
                subtask_of(key_group_of_hash(*hash, 128), 128, parallelism) == index as u32
            };
            let rows = hashes.iter().enumerate().filter(|(_, hash)| is_here(hash));
            let rows = UInt32Array::from_iter_values(rows.map(|(row, _)| row as u32));
            subtask.push(0, batch.take(&rows).unwrap()).unwrap();
        }
    }

    /// A watermark on all subtasks.
    pub fn watermark(&mut self, watermark: i64) {
        for subtask in &mut self.subtasks {
            subtask.watermark(watermark).unwrap();
        }
    }

    /// What all of them emitted since the last call.
    pub fn rows(&mut self) -> Vec<String> {
        self.subtasks
            .iter_mut()
            .flat_map(|subtask| subtask.rows().unwrap())
            .collect()
    }
}
