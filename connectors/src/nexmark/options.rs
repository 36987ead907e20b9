//! The options of the generator: names and defaults of the public suite, and a few of our own (`seed`, `base-time`, `splits`).

use chrono::NaiveDateTime;
use weir_dataflow::Result;

use crate::options::OptionReader;

/// What the events depend on.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct NexmarkOptions {
    /// Number of events; `None`: without end.
    pub events: Option<u64>,
    /// Events a second of event time, and of wall time if `paced`.
    pub rate: u64,
    /// Emit at `rate` in wall time.
    pub paced: bool,
    /// Time of event 0, milliseconds UTC; `None`: a fixed time if there is an end, else when the job was submitted.
    pub base_time_ms: Option<i64>,
    /// Another seed gives other events of the same distribution.
    pub seed: u64,
    /// Splits at the first start; `None`: by the parallelism.
    pub splits: Option<u32>,
    /// Persons, auctions, bids among as many events in a row as they sum up to.
    pub proportions: [u64; 3],
    /// Average bytes of a person, auction, bid.
    pub sizes: [u64; 3],
    /// 1 of so many bids is for another than the hot auction.
    pub hot_auctions: u64,
    /// 1 of so many bids is by another than the hot bidder.
    pub hot_bidders: u64,
    /// 1 of so many auctions is by another than the hot seller.
    pub hot_sellers: u64,
}

impl NexmarkOptions {
    pub(super) fn read(options: OptionReader<'_>) -> Result<Self> {
        let positive = |key: &str, default: u64| -> Result<u64> {
            Ok(options
                .integer(key, 1..=1_000_000_000)?
                .map_or(default, |value| value as u64))
        };
        let size = |key: &str, default: u64| -> Result<u64> {
            match options.memory(key)? {
                Some(bytes) if bytes > 1 << 20 => {
                    Err(options.invalid(key, &bytes.to_string(), "at most 1 MB"))
                }
                bytes => Ok(bytes.unwrap_or(default)),
            }
        };
        let events = options
            .integer("events.num", 0..=i64::MAX / 2)?
            .filter(|number| *number > 0)
            .map(|number| number as u64);
        let limited = options.boolean("rate.limited")?;
        let full_speed = options.boolean("max-emit-speed")?;
        let read = Self {
            events,
            rate: read_rate(&options)?,
            paced: limited
                .or(full_speed.map(|full| !full))
                .unwrap_or(events.is_none()),
            base_time_ms: read_base_time(&options)?,
            seed: options.integer("seed", 0..=i64::MAX)?.unwrap_or(0) as u64,
            splits: options.integer("splits", 1..=65_536)?.map(|n| n as u32),
            proportions: [
                positive("person.proportion", 1)?,
                positive("auction.proportion", 3)?,
                positive("bid.proportion", 46)?,
            ],
            sizes: [
                size("person.avg-size", 200)?,
                size("auction.avg-size", 500)?,
                size("bid.avg-size", 100)?,
            ],
            hot_auctions: positive("bid.hot-ratio.auctions", 2)?,
            hot_bidders: positive("bid.hot-ratio.bidders", 4)?,
            hot_sellers: positive("auction.hot-ratio.sellers", 4)?,
        };
        for key in ["rate.shape", "rate.period"] {
            options.refuse(key, "the rate is constant; set 'next-event.rate'")?;
        }
        for key in ["keep-alive", "stop-at"] {
            options.refuse(
                key,
                "set 'events.num', or leave it out for a source without end",
            )?;
        }
        options.finish()?;
        Ok(read)
    }
}

fn read_rate(options: &OptionReader<'_>) -> Result<u64> {
    let first = options.integer("first-event.rate", 1..=1_000_000_000)?;
    let next = options.integer("next-event.rate", 1..=1_000_000_000)?;
    match (first, next) {
        (Some(first), Some(next)) if first != next => Err(options.invalid(
            "next-event.rate",
            &next.to_string(),
            "the same as 'first-event.rate' (a changing rate is not supported yet)",
        )),
        (first, next) => Ok(next.or(first).unwrap_or(10_000) as u64),
    }
}

fn read_base_time(options: &OptionReader<'_>) -> Result<Option<i64>> {
    let Some(text) = options.text("base-time") else {
        return Ok(None);
    };
    if let Ok(milliseconds) = text.parse() {
        return Ok(Some(milliseconds));
    }
    NaiveDateTime::parse_from_str(&text.replace('T', " "), "%Y-%m-%d %H:%M:%S%.f")
        .map(|time| Some(time.and_utc().timestamp_millis()))
        .map_err(|_| {
            options.invalid(
                "base-time",
                text,
                "'yyyy-MM-dd HH:mm:ss' in UTC, or milliseconds since 1970",
            )
        })
}
