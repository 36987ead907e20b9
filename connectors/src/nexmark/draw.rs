//! Random numbers that depend on a key and nothing else: event n's field f is the same wherever and whenever it is generated, and a field
//! that nobody reads costs nothing. A generator with a state (rand's) would have to be run through all fields of all events in order.

/// The fields that random numbers are drawn for. The discriminants are part of what a seed means.
#[derive(Debug, Clone, Copy)]
#[repr(u64)]
pub(super) enum Field {
    HotAuction = 1,
    Auction,
    HotBidder,
    Bidder,
    Price,
    Channel,
    BidExtra,
    HotSeller,
    Seller,
    Category,
    InitialBid,
    Reserve,
    Expires,
    ItemName,
    Description,
    AuctionExtra,
    Name,
    Email,
    Host,
    CreditCard,
    City,
    State,
    PersonExtra,
}

const A: u64 = 0xa076_1d64_78bd_642f;
const B: u64 = 0xe703_7ed1_a0b4_28db;

fn mix(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ ((product >> 64) as u64)
}

/// Random numbers of one seed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Draw {
    seed: u64,
}

impl Draw {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            seed: mix(seed ^ A, B),
        }
    }

    /// 64 random bits for a field of an event.
    #[inline]
    pub(super) fn bits(self, event: u64, field: Field) -> u64 {
        mix(
            event.wrapping_mul(A) ^ self.seed,
            (field as u64).wrapping_mul(B) ^ A ^ event,
        )
    }

    /// Uniform in `0..bound`; `bound` is small against 2^64, so that the bias of the multiplication is none.
    #[inline]
    pub(super) fn below(self, event: u64, field: Field, bound: u64) -> u64 {
        scale(self.bits(event, field), bound)
    }

    /// Uniform in `0.0..1.0`.
    #[inline]
    pub(super) fn unit(self, event: u64, field: Field) -> f64 {
        (self.bits(event, field) >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }
}

/// 64 random bits to a number in `0..bound`.
#[inline]
pub(super) fn scale(bits: u64, bound: u64) -> u64 {
    ((u128::from(bits) * u128::from(bound)) >> 64) as u64
}
