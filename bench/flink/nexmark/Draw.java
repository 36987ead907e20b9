package weir.nexmark;

/** Random numbers that depend on the seed, the event and the field: the same function as in connectors/src/nexmark/draw.rs. */
final class Draw {
    // The numbers of the fields are part of what a seed means.
    static final int HOT_AUCTION = 1, AUCTION = 2, HOT_BIDDER = 3, BIDDER = 4, PRICE = 5, CHANNEL = 6, BID_EXTRA = 7, HOT_SELLER = 8,
            SELLER = 9, CATEGORY = 10, INITIAL_BID = 11, RESERVE = 12, EXPIRES = 13, ITEM_NAME = 14, DESCRIPTION = 15, AUCTION_EXTRA = 16,
            NAME = 17, EMAIL = 18, HOST = 19, CREDIT_CARD = 20, CITY = 21, STATE = 22, PERSON_EXTRA = 23;
    private static final long A = 0xa0761d6478bd642fL;
    private static final long B = 0xe7037ed1a0b428dbL;
    private static final double UNIT = 1.0 / (1L << 53);

    private final long seed;

    Draw(long seed) {
        this.seed = mix(seed ^ A, B);
    }

    private static long mix(long a, long b) {
        return (a * b) ^ high(a, b);
    }

    /** The upper half of the unsigned product (Math.unsignedMultiplyHigh is in no Java 17). */
    private static long high(long a, long b) {
        return Math.multiplyHigh(a, b) + ((a >> 63) & b) + ((b >> 63) & a);
    }

    /** 64 random bits to a number in 0..bound. */
    static long scale(long bits, long bound) {
        return high(bits, bound);
    }

    long bits(long event, int field) {
        return mix(event * A ^ seed, field * B ^ A ^ event);
    }

    long below(long event, int field, long bound) {
        return scale(bits(event, field), bound);
    }

    double unit(long event, int field) {
        return (bits(event, field) >>> 11) * UNIT;
    }
}
