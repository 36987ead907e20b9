//! How many rows a second of CPU the aggregations take, alone: `cargo run --release -p weir-operators --example aggregate_speed [rows]`.
//!
//! Bids as in Nexmark: auctions and bidders of whom some are hot, one bid a millisecond tenth, and the shapes of its queries 5, 15, 16 and 17.

use std::sync::Arc;
use std::time::Instant;

use arrow::array::{
    ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use weir_dataflow::testing::Harness;
use weir_dataflow::types::LogicalType;
use weir_dataflow::{Batch, Operator, Result};
use weir_operators::group_aggregate::GroupAggregateOperator;
use weir_operators::window_aggregate::WindowAggregateOperator;
use weir_proto::v1;

const BATCH: usize = 8192;

/// A linear congruential generator: the same rows each time.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

fn input() -> SchemaRef {
    let time = DataType::Timestamp(TimeUnit::Millisecond, None);
    let fields = [
        ("auction", DataType::Int64),
        ("bidder", DataType::Int64),
        ("price", DataType::Int64),
        ("channel", DataType::Utf8),
        ("day", DataType::Utf8),
        ("time", time),
        ("small", DataType::Boolean),
        ("medium", DataType::Boolean),
        ("large", DataType::Boolean),
    ];
    Arc::new(Schema::new(
        fields
            .map(|(name, data_type)| Field::new(name, data_type, true))
            .to_vec(),
    ))
}

fn batch(schema: &SchemaRef, first: usize, random: &mut Random) -> Result<Batch> {
    let rows = first..first + BATCH;
    // As the generator does: a third of the bids on the newest hundred auctions, bidders likewise, of a number that grows.
    let mut near = |row: usize, ratio: usize| {
        let newest = (row / ratio) as u64 + 1000;
        let back = if random.below(2) == 0 {
            random.below(100)
        } else {
            random.below(newest.min(20_000))
        };
        (newest - back.min(newest)) as i64
    };
    let auctions: Int64Array = rows.clone().map(|row| near(row, 15)).collect();
    let bidders: Int64Array = rows.clone().map(|row| near(row, 10)).collect();
    let prices: Vec<i64> = rows
        .clone()
        .map(|_| random.below(2_000_000) as i64)
        .collect();
    let channels = rows
        .clone()
        .map(|_| format!("channel-{}", random.below(10_000)));
    let flag = |low: i64, high: i64| -> ArrayRef {
        Arc::new(BooleanArray::from_iter(
            prices.iter().map(|p| Some((low..high).contains(p))),
        ))
    };
    let columns: Vec<ArrayRef> = vec![
        Arc::new(auctions),
        Arc::new(bidders),
        Arc::new(Int64Array::from(prices.clone())),
        Arc::new(StringArray::from_iter_values(channels)),
        Arc::new(StringArray::from_iter_values(
            rows.clone().map(|_| "2026-01-01"),
        )),
        Arc::new(TimestampMillisecondArray::from_iter_values(
            rows.map(|row| row as i64 / 10),
        )),
        flag(0, 10_000),
        flag(10_000, 1_000_000),
        flag(1_000_000, i64::MAX),
    ];
    Ok(Batch::inserts(RecordBatch::try_new(
        Arc::clone(schema),
        columns,
    )?))
}

fn call(
    function: &str,
    argument: Option<u32>,
    distinct: bool,
    filter: Option<u32>,
) -> v1::AggregateCall {
    v1::AggregateCall {
        function: function.into(),
        arguments: argument.into_iter().collect(),
        distinct,
        filter,
        ..Default::default()
    }
}

/// The call over all rows, then over each price range.
fn ranged(function: &str, argument: Option<u32>, distinct: bool) -> Vec<v1::AggregateCall> {
    [None, Some(6), Some(7), Some(8)]
        .map(|filter| call(function, argument, distinct, filter))
        .to_vec()
}

fn output(keys: &[u32], calls: &[v1::AggregateCall], times: usize) -> Result<SchemaRef> {
    let input = input();
    let mut fields: Vec<Field> = keys
        .iter()
        .map(|key| input.field(*key as usize).clone())
        .collect();
    for call in calls {
        let argument = call
            .arguments
            .first()
            .and_then(|c| LogicalType::from_field(input.field(*c as usize)));
        fields.push(
            weir_dataflow::agg::result_type(&call.function, argument.as_ref())?.to_field("a"),
        );
    }
    let time = DataType::Timestamp(TimeUnit::Millisecond, None);
    fields.extend((0..times).map(|_| Field::new("w", time.clone(), true)));
    Ok(Arc::new(Schema::new(fields)))
}

fn group(name: &str, batches: &[Batch], keys: &[u32], calls: Vec<v1::AggregateCall>) -> Result<()> {
    let spec = v1::GroupAggregate {
        key_columns: keys.to_vec(),
        aggregates: calls,
        emit_update_before: true,
        ..Default::default()
    };
    let output = output(keys, &spec.aggregates, 0)?;
    measure(
        name,
        batches,
        Box::new(GroupAggregateOperator::new(&spec)?),
        output,
    )
}

fn window(name: &str, batches: &[Batch], size_ms: i64, slide_ms: i64) -> Result<()> {
    let spec = v1::WindowAggregate {
        window: Some(v1::WindowSpec {
            kind: v1::WindowKind::Hop.into(),
            size_ms,
            slide_ms,
            time_column: 5,
            ..Default::default()
        }),
        key_columns: vec![0],
        aggregates: vec![call("COUNT", None, false, None)],
        window_properties: vec!["window_start".into(), "window_end".into()],
        ..Default::default()
    };
    let output = output(&[0], &spec.aggregates, 2)?;
    measure(
        name,
        batches,
        Box::new(WindowAggregateOperator::new(&spec)?),
        output,
    )
}

fn measure(
    name: &str,
    batches: &[Batch],
    operator: Box<dyn Operator>,
    output: SchemaRef,
) -> Result<()> {
    let mut context = weir_dataflow::testing::open_context(vec![input()], output, 0, 1);
    context.memory_bytes = 1 << 30;
    let mut harness = Harness::open_with(operator, context)?;
    let mut emitted = 0;
    let start = Instant::now();
    for (number, batch) in batches.iter().enumerate() {
        harness.push(0, batch.clone())?;
        harness.watermark(((number + 1) * BATCH) as i64 / 10 - 1000)?;
        emitted += harness.take().iter().map(Batch::num_rows).sum::<usize>();
    }
    let seconds = start.elapsed().as_secs_f64();
    let rows = batches.len() * BATCH;
    let before = Instant::now();
    harness.snapshot()?;
    println!(
        "{name}: {:.3} s a million rows, {emitted} rows out; snapshot of {} entries {:.2} s",
        seconds * 1e6 / rows as f64,
        harness.state_entries(),
        before.elapsed().as_secs_f64()
    );
    Ok(())
}

fn main() -> Result<()> {
    let rows: usize = std::env::args()
        .nth(1)
        .and_then(|text| text.parse().ok())
        .unwrap_or(2_000_000);
    let (schema, mut random) = (input(), Random(42));
    let batches = (0..rows / BATCH).map(|number| batch(&schema, number * BATCH, &mut random));
    let batches = batches.collect::<Result<Vec<_>>>()?;
    let ranges = || {
        let counts = ranged("COUNT", None, false).into_iter();
        let bidders = ranged("COUNT", Some(1), true).into_iter();
        counts
            .chain(bidders)
            .chain(ranged("COUNT", Some(0), true))
            .collect::<Vec<_>>()
    };
    let prices = ["MIN", "MAX", "AVG", "SUM"].map(|function| call(function, Some(2), false, None));
    window("q5 (HOP 10 s, 2 s by auction)", &batches, 10_000, 2_000)?;
    group(
        "q15 (by day, 12 counts, 8 of them distinct)",
        &batches,
        &[4],
        ranges(),
    )?;
    group(
        "q16 (by channel and day, 12 counts, 8 of them distinct)",
        &batches,
        &[3, 4],
        ranges(),
    )?;
    let calls = ranged("COUNT", None, false)
        .into_iter()
        .chain(prices)
        .collect();
    group(
        "q17 (by auction and day, 4 counts, 4 of the price)",
        &batches,
        &[0, 4],
        calls,
    )
}
