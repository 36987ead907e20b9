package weir.nexmark;

import org.apache.flink.table.data.GenericRowData;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.data.StringData;
import org.apache.flink.table.data.TimestampData;
import org.apache.flink.table.data.binary.BinaryStringData;

/** Event n as a row of the wanted columns: the formulas of connectors/src/nexmark/model.rs and columns.rs with their default options. */
final class Generator {
    static final int PERSON = 0, AUCTION = 1, BID = 2;
    /** Fields of person, auction and bid in the order of the table's columns. */
    static final String[][] FIELDS = {
        {"id", "name", "emailAddress", "creditCard", "city", "state", "dateTime", "extra"},
        {"id", "itemName", "description", "initialBid", "reserve", "dateTime", "expires", "seller", "category", "extra"},
        {"auction", "bidder", "price", "channel", "url", "dateTime", "extra"},
    };

    private static final int PERSONS = 1, AUCTIONS = 3, TOTAL = 50;
    private static final long PERSON_BYTES = 200, AUCTION_BYTES = 500, BID_BYTES = 100;
    private static final long FIRST_ID = 1000, HOT_GROUP = 100, ID_LEAD = 10, AUCTIONS_IN_FLIGHT = 100, ACTIVE_PERSONS = 1000;
    private static final long AUCTION_HORIZON = AUCTIONS_IN_FLIGHT * TOTAL / AUCTIONS;
    private static final long BASE_TIME_MS = 1_767_225_600_000L;
    private static final double LN_10 = 2.302585092994046;

    private final int[][] paths;
    private final long rate;
    private final Draw draw;
    private final Texts texts = Texts.SHARED;

    // The event at hand, and the newest person and auction with it.
    private long event;
    private long lastPerson;
    private long lastAuction;

    /** `paths`: {0} is event_type, {1 + kind} a whole row, {1 + kind, field} one field of it. */
    Generator(int[][] paths, long rate, long seed) {
        this.paths = paths;
        this.rate = rate;
        this.draw = new Draw(seed);
    }

    RowData generate(long number) {
        event = number;
        long epoch = number / TOTAL;
        int index = (int) (number % TOTAL);
        int kind = index < PERSONS ? PERSON : index < PERSONS + AUCTIONS ? AUCTION : BID;
        lastPerson = epoch * PERSONS + (kind == PERSON ? index : PERSONS - 1);
        lastAuction = epoch * AUCTIONS + (kind == AUCTION ? index - PERSONS : AUCTIONS - 1);
        GenericRowData row = new GenericRowData(paths.length);
        for (int i = 0; i < paths.length; i++) {
            int[] path = paths[i];
            if (path[0] == 0) {
                row.setField(i, kind);
            } else if (path[0] == kind + 1) {
                row.setField(i, path.length == 1 ? whole(kind) : field(kind, path[1]));
            }
        }
        return row;
    }

    private GenericRowData whole(int kind) {
        GenericRowData row = new GenericRowData(FIELDS[kind].length);
        for (int i = 0; i < row.getArity(); i++) {
            row.setField(i, field(kind, i));
        }
        return row;
    }

    private Object field(int kind, int field) {
        switch (kind) {
            case PERSON:
                return personField(field);
            case AUCTION:
                return auctionField(field);
            default:
                return bidField(field);
        }
    }

    private Object personField(int field) {
        switch (field) {
            case 0:
                return lastPerson + FIRST_ID;
            case 1:
                return Texts.text(Texts.name(bits(Draw.NAME)));
            case 2:
                return Texts.text(email());
            case 3:
                return Texts.text(Texts.creditCard(bits(Draw.CREDIT_CARD)));
            case 4:
                return Texts.text(Texts.city(bits(Draw.CITY)));
            case 5:
                return Texts.text(Texts.state(bits(Draw.STATE)));
            case 6:
                return TimestampData.fromEpochMillis(timeMs(event));
            default:
                long current = 8 + Texts.name(bits(Draw.NAME)).length() + email().length() + 19
                        + Texts.city(bits(Draw.CITY)).length() + Texts.state(bits(Draw.STATE)).length();
                return padding(Draw.PERSON_EXTRA, current, PERSON_BYTES);
        }
    }

    private String email() {
        return texts.words(bits(Draw.EMAIL), 7) + "@" + texts.words(bits(Draw.HOST), 5) + ".com";
    }

    private Object auctionField(int field) {
        switch (field) {
            case 0:
                return lastAuction + FIRST_ID;
            case 1:
                return item();
            case 2:
                return description();
            case 3:
                return price(Draw.INITIAL_BID);
            case 4:
                return price(Draw.INITIAL_BID) + price(Draw.RESERVE);
            case 5:
                return TimestampData.fromEpochMillis(timeMs(event));
            case 6:
                return TimestampData.fromEpochMillis(expiresMs());
            case 7:
                boolean hot = draw.below(event, Draw.HOT_SELLER, 4) > 0;
                return (hot ? lastPerson / HOT_GROUP * HOT_GROUP : anyPerson(Draw.SELLER)) + FIRST_ID;
            case 8:
                return 10 + draw.below(event, Draw.CATEGORY, 5);
            default:
                return padding(Draw.AUCTION_EXTRA, 48 + item().getSizeInBytes() + description().getSizeInBytes(), AUCTION_BYTES);
        }
    }

    private BinaryStringData item() {
        return texts.words(bits(Draw.ITEM_NAME), 20);
    }

    private BinaryStringData description() {
        return texts.words(bits(Draw.DESCRIPTION), 100);
    }

    private Object bidField(int field) {
        switch (field) {
            case 0:
                return bidAuction();
            case 1:
                boolean hot = draw.below(event, Draw.HOT_BIDDER, 4) > 0;
                return (hot ? lastPerson / HOT_GROUP * HOT_GROUP + 1 : anyPerson(Draw.BIDDER)) + 2 * FIRST_ID;
            case 2:
                return price(Draw.PRICE);
            case 3:
                return texts.channel(bits(Draw.CHANNEL));
            case 4:
                return texts.url(bits(Draw.CHANNEL));
            case 5:
                return TimestampData.fromEpochMillis(timeMs(event));
            default:
                return padding(Draw.BID_EXTRA, 32, BID_BYTES);
        }
    }

    private long bits(int field) {
        return draw.bits(event, field);
    }

    private StringData padding(int field, long current, long average) {
        long bits = bits(field);
        return texts.padding(bits, Texts.paddingLength(bits, current, average));
    }

    private long timeMs(long number) {
        return BASE_TIME_MS + number * 1000 / rate;
    }

    private long expiresMs() {
        long time = timeMs(event);
        long longest = Math.max((timeMs(event + AUCTION_HORIZON) - time) * 2, 1);
        return time + 1 + draw.below(event, Draw.EXPIRES, longest);
    }

    private long anyPerson(int field) {
        long persons = lastPerson + 1;
        long active = Math.min(persons, ACTIVE_PERSONS);
        return persons - active + draw.below(event, field, active + ID_LEAD);
    }

    private long bidAuction() {
        if (draw.below(event, Draw.HOT_AUCTION, 2) > 0) {
            return lastAuction / HOT_GROUP * HOT_GROUP + FIRST_ID;
        }
        long first = Math.max(lastAuction - AUCTIONS_IN_FLIGHT, 0);
        return first + draw.below(event, Draw.AUCTION, lastAuction - first + 1 + ID_LEAD) + FIRST_ID;
    }

    private long price(int field) {
        return (long) (Math.exp(draw.unit(event, field) * (6.0 * LN_10)) * 100.0 + 0.5);
    }

}
