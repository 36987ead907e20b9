//! Which event is what, and which ids and times it carries: the formulas of the public suite.

use super::draw::{Draw, Field};
use super::options::NexmarkOptions;

const FIRST_PERSON: u64 = 1000;
const FIRST_AUCTION: u64 = 1000;
const FIRST_CATEGORY: u64 = 10;
const CATEGORIES: u64 = 5;
/// The first of so many auctions (persons) in a row is the hot one.
const HOT_GROUP: u64 = 100;
/// Bids and auctions may name ids that are so much ahead.
const ID_LEAD: u64 = 10;
const AUCTIONS_IN_FLIGHT: u64 = 100;
const ACTIVE_PERSONS: u64 = 1000;

/// What an event is; the discriminant is the column `event_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    Person = 0,
    Auction = 1,
    Bid = 2,
}

/// The formulas with their parameters.
#[derive(Debug, Clone)]
pub(super) struct Model {
    proportions: [u64; 3],
    total: u64,
    rate: u64,
    base_time_ms: i64,
    hot_auctions: u64,
    hot_bidders: u64,
    hot_sellers: u64,
    auction_horizon: u64,
    draw: Draw,
}

impl Model {
    pub(super) fn new(options: &NexmarkOptions, base_time_ms: i64) -> Self {
        let total = options.proportions.iter().sum();
        Self {
            proportions: options.proportions,
            total,
            rate: options.rate,
            base_time_ms,
            hot_auctions: options.hot_auctions,
            hot_bidders: options.hot_bidders,
            hot_sellers: options.hot_sellers,
            auction_horizon: AUCTIONS_IN_FLIGHT * total / options.proportions[1],
            draw: Draw::new(options.seed),
        }
    }

    pub(super) fn draw(&self) -> Draw {
        self.draw
    }

    /// Calls `each` with (row, position) for the events of one kind among the `rows` events from `first` on, in order.
    #[inline]
    pub(super) fn walk(
        &self,
        kind: Kind,
        first: u64,
        rows: usize,
        mut each: impl FnMut(usize, Position),
    ) {
        let [persons, auctions, bids] = self.proportions;
        let (skip, count) = match kind {
            Kind::Person => (0, persons),
            Kind::Auction => (persons, auctions),
            Kind::Bid => (persons + auctions, bids),
        };
        let end = first + rows as u64;
        let mut epoch = first / self.total;
        while epoch * self.total + skip < end {
            let run = epoch * self.total + skip;
            for event in run.max(first)..(run + count).min(end) {
                let index = event - run;
                let position = Position {
                    event,
                    last_person: epoch * persons
                        + if kind == Kind::Person {
                            index
                        } else {
                            persons - 1
                        },
                    last_auction: epoch * auctions
                        + if kind == Kind::Auction {
                            index
                        } else {
                            auctions - 1
                        },
                };
                each((event - first) as usize, position);
            }
            epoch += 1;
        }
    }

    /// Event times of `rows` events from `first` on.
    pub(super) fn times_ms(&self, first: u64, rows: usize) -> Vec<i64> {
        let mut time = self.time_ms(first);
        let mut rest = first * 1000 % self.rate;
        let (step, step_rest) = ((1000 / self.rate) as i64, 1000 % self.rate);
        let mut times = Vec::with_capacity(rows);
        for _ in 0..rows {
            times.push(time);
            time += step;
            rest += step_rest;
            if rest >= self.rate {
                rest -= self.rate;
                time += 1;
            }
        }
        times
    }

    /// Event time in milliseconds.
    #[inline]
    pub(super) fn time_ms(&self, event: u64) -> i64 {
        self.base_time_ms + (event * 1000 / self.rate) as i64
    }

    pub(super) fn person_id(&self, at: &Position) -> i64 {
        (at.last_person + FIRST_PERSON) as i64
    }

    pub(super) fn auction_id(&self, at: &Position) -> i64 {
        (at.last_auction + FIRST_AUCTION) as i64
    }

    fn any_person(&self, at: &Position, field: Field) -> u64 {
        let persons = at.last_person + 1;
        let active = persons.min(ACTIVE_PERSONS);
        persons - active + self.draw.below(at.event, field, active + ID_LEAD)
    }

    pub(super) fn seller(&self, at: &Position) -> i64 {
        let hot = self
            .draw
            .below(at.event, Field::HotSeller, self.hot_sellers)
            > 0;
        let person = if hot {
            at.last_person / HOT_GROUP * HOT_GROUP
        } else {
            self.any_person(at, Field::Seller)
        };
        (person + FIRST_PERSON) as i64
    }

    pub(super) fn category(&self, at: &Position) -> i64 {
        (FIRST_CATEGORY + self.draw.below(at.event, Field::Category, CATEGORIES)) as i64
    }

    pub(super) fn expires_ms(&self, at: &Position) -> i64 {
        let time = self.time_ms(at.event);
        let horizon = self.time_ms(at.event + self.auction_horizon) - time;
        let longest = (horizon * 2).max(1) as u64;
        time + 1 + self.draw.below(at.event, Field::Expires, longest) as i64
    }

    #[inline]
    pub(super) fn bid_auction(&self, at: &Position) -> i64 {
        let hot = self
            .draw
            .below(at.event, Field::HotAuction, self.hot_auctions)
            > 0;
        let auction = if hot {
            at.last_auction / HOT_GROUP * HOT_GROUP
        } else {
            let first = at.last_auction.saturating_sub(AUCTIONS_IN_FLIGHT);
            let choices = at.last_auction - first + 1 + ID_LEAD;
            first + self.draw.below(at.event, Field::Auction, choices)
        };
        (auction + FIRST_AUCTION) as i64
    }

    /// As in the public suite, the first person's id is added once too often: bidders are persons who appear about 50,000 events later.
    #[inline]
    pub(super) fn bidder(&self, at: &Position) -> i64 {
        let hot = self
            .draw
            .below(at.event, Field::HotBidder, self.hot_bidders)
            > 0;
        let person = if hot {
            at.last_person / HOT_GROUP * HOT_GROUP + 1
        } else {
            self.any_person(at, Field::Bidder)
        };
        (person + 2 * FIRST_PERSON) as i64
    }

    /// 10^(6u) * 100 for a uniform u.
    #[inline]
    pub(super) fn price(&self, at: &Position, field: Field) -> i64 {
        let exponent = self.draw.unit(at.event, field) * (6.0 * std::f64::consts::LN_10);
        (exponent.exp() * 100.0 + 0.5) as i64
    }
}

/// Where an event stands in the stream.
#[derive(Debug, Clone, Copy)]
pub(super) struct Position {
    /// Its number, from 0.
    pub event: u64,
    /// Number of the newest person, this event included.
    pub last_person: u64,
    /// Number of the newest auction, this event included; of no meaning for a person.
    pub last_auction: u64,
}
