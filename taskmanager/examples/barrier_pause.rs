//! How long a barrier holds an aggregation up, and how much of its state a checkpoint uploads:
//! `cargo run --release -p weir-taskmanager --example barrier_pause [keys] [changed keys a barrier] [barriers]`.
//!
//! One subtask's GROUP BY with COUNT, SUM and MAX, all keys in memory, real RocksDB, a local folder as the object store. The
//! first barrier comes when all keys have changed, the others when as many as asked for have, at random.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{Int64Array, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef};
use weir_common::config::S3Config;
use weir_common::ids::{AttemptId, CheckpointId};
use weir_dataflow::testing::{open_context, schema};
use weir_dataflow::{Batch, Context, Error, KeyedState, Operator, Result, SnapshotTarget};
use weir_operators::group_aggregate::GroupAggregateOperator;
use weir_proto::v1;
use weir_snapshot::Store;
use weir_state::{RocksState, StateMemory, StateOptions, Transfers, Uploader};

const BATCH: usize = 8192;
const STATE_MEMORY: u64 = 256 << 20;
/// As in the subtask's loop.
const WRITING: Duration = Duration::from_millis(8);

struct Bench {
    operator: GroupAggregateOperator,
    state: RocksState,
    input: SchemaRef,
    seed: u64,
    keys: u64,
}

/// What a checkpoint took.
struct Figures {
    pause: Duration,
    /// Longest time from one batch to the next while the frozen entries were written.
    longest_step: Duration,
    written_after: Duration,
}

impl Bench {
    fn open(folder: &std::path::Path, keys: u64) -> Result<Self> {
        let call = |function: &str, arguments: Vec<u32>| v1::AggregateCall {
            function: function.into(),
            arguments,
            ..Default::default()
        };
        let spec = v1::GroupAggregate {
            key_columns: vec![0],
            aggregates: vec![
                call("COUNT", vec![]),
                call("SUM", vec![1]),
                call("MAX", vec![1]),
            ],
            emit_update_before: true,
            ..Default::default()
        };
        let input = schema(&[("k", DataType::Int64), ("v", DataType::Int64)]);
        let output = schema(&["k", "a", "b", "c"].map(|name| (name, DataType::Int64)));
        let mut context = open_context(vec![Arc::clone(&input)], output, 0, 1);
        context.memory_bytes = usize::MAX;
        let mut state = RocksState::open(StateOptions {
            folder: folder.join("state"),
            key_groups: context.info.key_groups(),
            memory: Arc::new(StateMemory::new(STATE_MEMORY, STATE_MEMORY / 8)?),
            copies: None,
        })?;
        let mut operator = GroupAggregateOperator::new(&spec)?;
        operator.open(context, &mut state)?;
        Ok(Self {
            operator,
            state,
            input,
            seed: 42,
            keys,
        })
    }

    fn push(&mut self, keys: impl Iterator<Item = i64>) -> Result<()> {
        let keys = Int64Array::from_iter_values(keys);
        let columns: Vec<arrow::array::ArrayRef> = vec![Arc::new(keys.clone()), Arc::new(keys)];
        let data = RecordBatch::try_new(Arc::clone(&self.input), columns)?;
        let mut out = Vec::new();
        let mut context = Context {
            state: &mut self.state,
            out: &mut out,
            now_ms: 0,
        };
        self.operator.process(0, Batch::inserts(data), &mut context)
    }

    fn push_random(&mut self) -> Result<()> {
        let mut seed = self.seed;
        let keys: Vec<i64> = (0..BATCH)
            .map(|_| {
                seed = seed
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                ((seed >> 33) % self.keys) as i64
            })
            .collect();
        self.seed = seed;
        self.push(keys.into_iter())
    }

    fn write_frozen(&mut self) -> Result<bool> {
        let mut out = Vec::new();
        let mut context = Context {
            state: &mut self.state,
            out: &mut out,
            now_ms: 0,
        };
        let more = self.operator.write_frozen(&mut context)?;
        if !more {
            self.state.seal()?;
        }
        Ok(more)
    }

    fn checkpoint(&mut self, id: u64, uploader: &Uploader) -> Result<(Figures, v1::KeyedState)> {
        let checkpoint = CheckpointId(id);
        let barrier = Instant::now();
        let mut out = Vec::new();
        let mut context = Context {
            state: &mut self.state,
            out: &mut out,
            now_ms: 0,
        };
        self.operator.snapshot(checkpoint, &mut context)?;
        let pending = self
            .state
            .snapshot(checkpoint, &SnapshotTarget::Checkpoint)?;
        let mut more = self.write_frozen()?;
        let pause = barrier.elapsed();
        let upload = {
            let uploader = uploader.clone();
            std::thread::spawn(move || pending.run(&uploader))
        };
        let mut longest_step = Duration::ZERO;
        while more {
            let step = Instant::now();
            // Always the same keys: what the next checkpoint sends is to be that of the changes asked for.
            self.push(0..BATCH as i64)?;
            let written = Instant::now();
            while more && written.elapsed() < WRITING && self.state.has_room() {
                more = self.write_frozen()?;
            }
            longest_step = longest_step.max(step.elapsed());
        }
        let written_after = barrier.elapsed();
        let uploaded = upload
            .join()
            .map_err(|_| Error::Internal("the upload panicked".to_owned()))??;
        self.state.confirm(checkpoint);
        let figures = Figures {
            pause,
            longest_step,
            written_after,
        };
        Ok((figures, uploaded))
    }
}

fn argument(place: usize, default: u64) -> u64 {
    let text = std::env::args().nth(place);
    text.and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn main() -> Result<()> {
    let keys = argument(1, 10_000_000);
    let (changed, barriers) = (argument(2, keys / 100), argument(3, 20));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Error::Internal(error.to_string()))?;
    let folder = tempfile::tempdir().map_err(|error| Error::Internal(error.to_string()))?;
    let store = folder.path().join("store");
    let store = Store::open(&store.to_string_lossy(), &S3Config::default())
        .map_err(|error| Error::Config(error.to_string()))?;
    let transfers = Transfers::new(runtime.handle().clone(), 4);
    let uploader = Uploader::new(store, AttemptId(1), transfers);
    let mut bench = Bench::open(folder.path(), keys)?;
    let filling = Instant::now();
    for first in (0..keys).step_by(BATCH) {
        bench.push((first..(first + BATCH as u64).min(keys)).map(|key| key as i64))?;
    }
    println!("{keys} keys after {:.1?}", filling.elapsed());
    let mut pauses = Vec::new();
    let (mut sent, mut size) = (0, 0);
    for id in 1..=barriers {
        if id > 1 {
            for _ in 0..changed.div_ceil(BATCH as u64) {
                bench.push_random()?;
            }
        }
        let (figures, uploaded) = bench.checkpoint(id, &uploader)?;
        size = uploaded
            .files
            .iter()
            .map(|file| file.size_bytes)
            .sum::<u64>();
        println!(
            "barrier {id}: pause {:.2?}, written after {:.2?} with steps up to {:.2?}; {} KiB of {} KiB in {} files sent",
            figures.pause,
            figures.written_after,
            figures.longest_step,
            uploaded.uploaded_bytes >> 10,
            size >> 10,
            uploaded.files.len(),
        );
        pauses.push(figures.pause);
        if id > 1 {
            sent += uploaded.uploaded_bytes;
        }
    }
    pauses.sort_unstable();
    let at = |quantile: usize| pauses[(pauses.len() * quantile / 100).min(pauses.len() - 1)];
    println!(
        "pause p50 {:.2?}, p99 {:.2?}; a checkpoint behind the first sent {:.1} % of the state",
        at(50),
        at(99),
        100.0 * sent as f64 / (size * (barriers - 1).max(1)) as f64
    );
    Ok(())
}
