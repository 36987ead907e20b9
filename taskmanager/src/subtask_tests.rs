use std::collections::VecDeque;

use arrow::array::{Int64Array, RecordBatch, TimestampMillisecondArray};
use arrow::datatypes::{DataType, TimeUnit};
use bytes::Bytes;
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::Column;
use weir_dataflow::schema::encode_schema;
use weir_dataflow::testing::{open_context, schema};
use weir_dataflow::{Batch, SlotWaker, SourceEvent, SourceReader};
use weir_proto::v1;

use super::*;
use crate::channel::{ChannelReceiver, local};
use crate::exchange_memory::ExchangeMemory;
use crate::output::{ChannelSender, EdgeOutput, Outputs};
use crate::partition::Partitioner;

const IDLE_TIMEOUT_MS: u64 = 1000;

/// Gives what a test put in.
struct Script(VecDeque<SourceEvent>);

impl SourceReader for Script {
    fn poll(&mut self) -> Result<SourceEvent> {
        Ok(self.0.pop_front().unwrap_or(SourceEvent::Pending))
    }

    fn snapshot(&mut self) -> Result<Vec<Bytes>> {
        Ok(Vec::new())
    }
}

/// One row with this event time.
fn row(split: u32, time_ms: i64) -> SourceEvent {
    rows(split, &[time_ms])
}

/// One batch with these event times.
fn rows(split: u32, times_ms: &[i64]) -> SourceEvent {
    let time = DataType::Timestamp(TimeUnit::Millisecond, None);
    let schema = schema(&[("ts", time), ("n", DataType::Int64)]);
    let columns: Vec<arrow::array::ArrayRef> = vec![
        Arc::new(TimestampMillisecondArray::from(times_ms.to_vec())),
        Arc::new(Int64Array::from(times_ms.to_vec())),
    ];
    let batch = Batch::inserts(RecordBatch::try_new(schema, columns).unwrap());
    SourceEvent::Batch { split, batch }
}

/// A source whose splits are idle after [`IDLE_TIMEOUT_MS`], and the other end of its one channel.
fn source(events: Vec<SourceEvent>, clock: &Clock) -> (Subtask, ChannelReceiver) {
    source_that_tells(events, clock, None)
}

fn source_that_tells(
    events: Vec<SourceEvent>,
    clock: &Clock,
    eager_interval_ms: Option<u64>,
) -> (Subtask, ChannelReceiver) {
    let time = DataType::Timestamp(TimeUnit::Millisecond, None);
    let schema = schema(&[("ts", time), ("n", DataType::Int64)]);
    let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new("ts", 0));
    let spec = v1::Source {
        read_schema: encode_schema(&schema),
        watermark: Some(v1::WatermarkSpec {
            time_column: 0,
            expr: Some(v1::Expr {
                physical: weir_expr::codec::encode(&column).unwrap().into(),
                text: "ts".into(),
            }),
            idle_timeout_ms: IDLE_TIMEOUT_MS,
            eager_interval_ms,
        }),
        ..v1::Source::default()
    };
    let mut operator = SourceOperator::new(spec, Box::new(Script(events.into())));
    let context = open_context(Vec::new(), Arc::clone(&schema), 0, 1);
    operator.open(&context).unwrap();
    let edge = v1::Edge {
        partitioning: v1::Partitioning::Forward.into(),
        ..v1::Edge::default()
    };
    let memory = ExchangeMemory::new(u64::MAX);
    let (sender, receiver) = local(SlotWaker::none(), SlotWaker::none(), memory);
    let partitioner = Partitioner::new(&edge, &schema, 0, 1, 128).unwrap();
    let output = EdgeOutput::new(partitioner, vec![ChannelSender::Local(sender)]);
    let id = SubtaskId {
        vertex: weir_common::ids::VertexId(0),
        index: 0,
    };
    let key = AttemptKey {
        job: context.info.job.clone(),
        attempt: context.info.attempt,
    };
    let input = Input::Source {
        info: context.info,
        source: Box::new(operator),
        idle: false,
    };
    let meter = Arc::new(Meter::new(&key.job, "source", id));
    let (events, _) = mpsc::channel(8);
    let chain = Chain::new(Vec::new(), Outputs::new(vec![output]));
    let subtask = Subtask::new(key, id, input, chain, meter, events, clock.clone());
    (subtask, receiver)
}

/// Everything that has come: the time of a row, `w` and a watermark, or `idle`.
fn taken(receiver: &mut ChannelReceiver) -> Vec<String> {
    let mut taken = Vec::new();
    while let Some(element) = receiver.take() {
        taken.push(match element {
            Element::Batch(batch) => {
                receiver.release_batch();
                let rows = weir_dataflow::testing::format_rows(&batch).unwrap();
                let times = rows.iter().filter_map(|row| row.rsplit(' ').next());
                times.collect::<Vec<_>>().join(",")
            }
            Element::Watermark(watermark) => format!("w{watermark}"),
            Element::Idle => "idle".to_owned(),
            other => format!("{other:?}"),
        });
    }
    taken
}

#[test]
fn a_split_without_rows_for_too_long_does_not_hold_the_watermark_back() {
    let clock = Clock::manual(0);
    let mut events = vec![SourceEvent::SplitStarted(0), SourceEvent::SplitStarted(1)];
    events.extend([row(1, 5), row(0, 10), SourceEvent::Pending, row(0, 20)]);
    let (mut subtask, mut receiver) = source(events, &clock);
    assert_eq!(subtask.step().unwrap(), Progress::Busy);
    assert_eq!(taken(&mut receiver), ["5", "10", "w5"]);
    clock.set(IDLE_TIMEOUT_MS as i64);
    assert_eq!(subtask.step().unwrap(), Progress::Busy);
    assert_eq!(taken(&mut receiver), ["20", "w20"]);
}

#[test]
fn a_split_whose_rows_wait_behind_backpressure_is_not_idle() {
    let clock = Clock::manual(0);
    let mut events = vec![SourceEvent::SplitStarted(0), SourceEvent::SplitStarted(1)];
    events.push(row(1, 5));
    events.extend((0..20).map(|n| row(0, 10 + n)));
    events.push(row(1, 6));
    let (mut subtask, mut receiver) = source(events, &clock);
    while subtask.step().unwrap() == Progress::Busy {}
    // Nobody takes anything for longer than a split may be silent.
    for _ in 0..3 {
        clock.set(clock.now_ms() + IDLE_TIMEOUT_MS as i64);
        assert_eq!(subtask.step().unwrap(), Progress::Blocked);
    }
    let mut all = taken(&mut receiver);
    while subtask.step().unwrap() != Progress::Idle {
        all.extend(taken(&mut receiver));
    }
    all.extend(taken(&mut receiver));
    let watermarks: Vec<_> = all.iter().filter(|text| text.starts_with('w')).collect();
    assert_eq!(watermarks, ["w5", "w6"], "{all:?}");
}

#[test]
fn a_row_that_is_late_by_others_of_its_batch_comes_behind_their_watermark() {
    let clock = Clock::manual(0);
    let events = || {
        vec![
            SourceEvent::SplitStarted(0),
            rows(0, &[1000, 3000, 2000, 2500, 5000, 4900, 100]),
        ]
    };
    let (mut subtask, mut receiver) = source_that_tells(events(), &clock, Some(200));
    for _ in 0..3 {
        subtask.step().unwrap();
    }
    assert_eq!(
        taken(&mut receiver),
        ["1000,3000", "w3000", "2000,2500,5000", "w5000", "4900,100"]
    );
    let (mut subtask, mut receiver) = source(events(), &clock);
    for _ in 0..3 {
        subtask.step().unwrap();
    }
    assert_eq!(taken(&mut receiver).last().unwrap(), "w5000");
}
