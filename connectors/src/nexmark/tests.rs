use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{
    DataType, Field, Int32Type, Int64Type, Schema, SchemaRef, TimeUnit, TimestampMillisecondType,
};
use weir_dataflow::testing::format_rows;
use weir_dataflow::{Batch, SourceEvent, SourceReader};

use crate::test_util::{options, source, source_context};
use crate::{describe_source, open_source};

fn row(fields: &[&str]) -> DataType {
    DataType::Struct(
        fields
            .iter()
            .map(|name| {
                let data_type = match *name {
                    "dateTime" | "expires" => DataType::Timestamp(TimeUnit::Millisecond, None),
                    "id" | "initialBid" | "reserve" | "seller" | "category" | "auction"
                    | "bidder" | "price" => DataType::Int64,
                    _ => DataType::Utf8,
                };
                Field::new(*name, data_type, true)
            })
            .collect(),
    )
}

fn full_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("event_type", DataType::Int32, true),
        Field::new("person", row(super::columns::PERSON_FIELDS), true),
        Field::new("auction", row(super::columns::AUCTION_FIELDS), true),
        Field::new("bid", row(super::columns::BID_FIELDS), true),
    ]))
}

fn open(pairs: &[(&str, &str)], subtask: u32, parallelism: u32) -> Box<dyn SourceReader> {
    let context = source_context(full_schema(), subtask, parallelism, &[]);
    open_source(&source("nexmark", pairs), context).unwrap()
}

fn drain(reader: &mut dyn SourceReader, limit: usize) -> Vec<Batch> {
    let mut batches = Vec::new();
    while batches.len() < limit {
        match reader.poll().unwrap() {
            SourceEvent::Batch { batch, .. } => batches.push(batch),
            SourceEvent::EndOfData => break,
            SourceEvent::Pending => panic!("a generator at full speed is never out of events"),
            _ => {}
        }
    }
    batches
}

fn rows(batches: &[Batch]) -> Vec<String> {
    let mut rows: Vec<_> = batches
        .iter()
        .flat_map(|batch| format_rows(batch).unwrap())
        .collect();
    rows.sort();
    rows
}

#[test]
fn any_parallelism_gives_the_same_events() {
    let options = [("events.num", "70001"), ("splits", "6")];
    let alone = rows(&drain(&mut *open(&options, 0, 1), usize::MAX));
    assert_eq!(alone.len(), 70001);
    let mut together = Vec::new();
    for subtask in 0..4 {
        together.extend(drain(&mut *open(&options, subtask, 4), usize::MAX));
    }
    assert!(rows(&together) == alone);
    let other_seed = [("events.num", "70001"), ("splits", "6"), ("seed", "1")];
    assert!(rows(&drain(&mut *open(&other_seed, 0, 1), usize::MAX)) != alone);
}

#[test]
fn a_restored_reader_goes_on_where_the_snapshot_was_at_another_parallelism() {
    let options = [("events.num", "200000")];
    let all = rows(&drain(&mut *open(&options, 0, 1), usize::MAX));
    let mut got = Vec::new();
    let mut states = Vec::new();
    for subtask in 0..2 {
        let mut reader = open(&options, subtask, 2);
        got.extend(drain(&mut *reader, 3 + subtask as usize));
        states.extend(reader.snapshot().unwrap());
    }
    for subtask in 0..3 {
        let context = source_context(full_schema(), subtask, 3, &states);
        let mut reader = open_source(&source("nexmark", &options), context).unwrap();
        got.extend(drain(&mut *reader, usize::MAX));
    }
    assert!(rows(&got) == all);
}

fn structs(batches: &[Batch], name: &str) -> Vec<RecordBatch> {
    batches
        .iter()
        .map(|batch| {
            let column = batch.data().column_by_name(name).unwrap();
            let mask = arrow::compute::is_not_null(column).unwrap();
            let present = arrow::compute::filter(column, &mask).unwrap();
            RecordBatch::from(present.as_struct())
        })
        .collect()
}

fn longs(batches: &[RecordBatch], name: &str) -> Vec<i64> {
    batches
        .iter()
        .flat_map(|batch| {
            let column = batch.column_by_name(name).unwrap();
            assert_eq!(column.null_count(), 0);
            column.as_primitive::<Int64Type>().values().to_vec()
        })
        .collect()
}

fn average_length(batches: &[RecordBatch], name: &str) -> f64 {
    let lengths: Vec<usize> = batches
        .iter()
        .flat_map(|batch| {
            let column = batch.column_by_name(name).unwrap().as_string::<i32>();
            column
                .iter()
                .map(|text| text.unwrap().len())
                .collect::<Vec<_>>()
        })
        .collect();
    lengths.iter().sum::<usize>() as f64 / lengths.len() as f64
}

/// Expectations are those of the public suite's generator.
#[test]
fn proportions_and_distributions_are_the_suites() {
    let batches = drain(&mut *open(&[("events.num", "200000")], 0, 1), usize::MAX);
    let mut kinds = BTreeMap::new();
    for batch in &batches {
        let types = batch.data().column(0).as_primitive::<Int32Type>();
        types
            .values()
            .iter()
            .for_each(|kind| *kinds.entry(*kind).or_insert(0) += 1);
    }
    assert_eq!(
        kinds,
        BTreeMap::from([(0, 4000), (1, 12_000), (2, 184_000)])
    );

    let (persons, auctions, bids) = (
        structs(&batches, "person"),
        structs(&batches, "auction"),
        structs(&batches, "bid"),
    );
    assert_eq!(longs(&persons, "id"), (1000..5000).collect::<Vec<_>>());
    assert_eq!(longs(&auctions, "id"), (1000..13_000).collect::<Vec<_>>());
    let share = |values: &[i64], of: &dyn Fn(i64) -> bool| {
        values.iter().filter(|value| of(**value)).count() as f64 / values.len() as f64
    };
    let near = |value: f64, expected: f64| (value - expected).abs() < 0.02 * expected.max(1.0);
    let bid_auctions = longs(&bids, "auction");
    assert!(near(
        share(&bid_auctions, &|id| id % 100 == 0),
        0.5 + 0.5 / 111.0
    ));
    let bidders = longs(&bids, "bidder");
    assert!(near(
        share(&bidders, &|id| id % 100 == 1),
        0.75 + 0.25 / 100.0
    ));
    assert!(bidders.iter().all(|id| (2000..2000 + 4010).contains(id)));
    assert!(near(
        share(&longs(&auctions, "seller"), &|id| id % 100 == 0),
        0.75
    ));
    let categories = longs(&auctions, "category");
    assert!((10..15).all(|category| near(share(&categories, &|c| c == category), 0.2)));
    let prices = longs(&bids, "price");
    assert!(
        prices
            .iter()
            .all(|price| (100..=100_000_000).contains(price))
    );
    assert!(near(share(&prices, &|price| price < 10_000), 1.0 / 3.0));
    assert!(near(average_length(&bids, "extra"), 67.5));
    assert!(near(average_length(&persons, "extra") / 200.0, 0.7));
}

#[test]
fn times_follow_the_rate_and_prices_their_sum() {
    let options = [
        ("events.num", "10000"),
        ("next-event.rate", "3000"),
        ("base-time", "1000"),
    ];
    let batches = drain(&mut *open(&options, 0, 1), usize::MAX);
    let bids = structs(&batches, "bid");
    let times: Vec<i64> = bids
        .iter()
        .flat_map(|batch| {
            let column = batch.column_by_name("dateTime").unwrap();
            column
                .as_primitive::<TimestampMillisecondType>()
                .values()
                .to_vec()
        })
        .collect();
    let expected: Vec<i64> = (0..10_000)
        .filter(|event| event % 50 >= 4)
        .map(|event| 1000 + event / 3)
        .collect();
    assert_eq!(times, expected);
    let auctions = structs(&batches, "auction");
    let (initial, reserve) = (longs(&auctions, "initialBid"), longs(&auctions, "reserve"));
    assert!(
        initial
            .iter()
            .zip(&reserve)
            .all(|(low, high)| high - low >= 100)
    );
}

#[test]
fn only_what_is_read_is_made() {
    let schema = Arc::new(Schema::new(vec![Field::new("bid", row(&["price"]), true)]));
    let context = source_context(schema, 0, 1, &[]);
    let mut reader = open_source(&source("nexmark", &[("events.num", "100")]), context).unwrap();
    let some = drain(&mut *reader, 1);
    let whole = drain(&mut *open(&[("events.num", "100")], 0, 1), 1);
    assert_eq!(
        longs(&structs(&some, "bid"), "price"),
        longs(&structs(&whole, "bid"), "price")
    );
}

#[test]
fn what_the_generator_does_not_have_is_refused() {
    let pairs = options(&[("connector", "nexmark")]);
    let unknown = Schema::new(vec![Field::new("bids", row(&["price"]), true)]);
    let error = describe_source("nexmark", &pairs, &unknown, &[]).unwrap_err();
    assert!(error.to_string().contains("no column 'bids'"), "{error}");
    let field = Schema::new(vec![Field::new("bid", row(&["name"]), true)]);
    assert!(describe_source("nexmark", &pairs, &field, &[]).is_err());
    let endless = describe_source("nexmark", &pairs, &full_schema(), &[]).unwrap();
    assert!(!endless.bounded);
    let shape = options(&[("connector", "nexmark"), ("rate.shape", "SINE")]);
    let error = describe_source("nexmark", &shape, &full_schema(), &[]).unwrap_err();
    assert!(error.to_string().contains("'rate.shape'"), "{error}");
}
