package weir.nexmark;

import static weir.nexmark.Draw.scale;

import java.nio.charset.StandardCharsets;
import org.apache.flink.table.data.StringData;
import org.apache.flink.table.data.binary.BinaryStringData;

/** The texts of events: the same tables as in connectors/src/nexmark/text.rs. A long text is a view of a table, not a copy. */
final class Texts {
    private static final int TEXT_BYTES = 1 << 20;
    private static final int CHANNELS = 10_000;
    private static final String[] HOT_CHANNELS = {"Google", "Facebook", "Baidu", "Apple"};
    private static final String[] FIRST_NAMES = {
        "Peter", "Paul", "Luke", "John", "Saul", "Vicky", "Kate", "Julie", "Sarah", "Deiter", "Walter"
    };
    private static final String[] LAST_NAMES = {"Shultz", "Abrams", "Spencer", "White", "Bartels", "Walton", "Smith", "Jones", "Noris"};
    private static final String[] CITIES = {
        "Phoenix", "Los Angeles", "San Francisco", "Boise", "Portland", "Bend", "Redmond", "Seattle", "Kent", "Cheyenne"
    };
    private static final String[] STATES = {"AZ", "CA", "ID", "OR", "WA", "WY"};
    // Made after the tables above, which it reads.
    static final Texts SHARED = new Texts();

    private final byte[] padding = new byte[TEXT_BYTES];
    private final byte[] words = new byte[TEXT_BYTES];
    private final StringData[] channels = new StringData[CHANNELS];
    private final StringData[] urls = new StringData[CHANNELS];
    private final StringData[] hotChannels = new StringData[4];
    private final StringData[] hotUrls = new StringData[4];
    private long sequence = 0x6e65786d61726b00L;

    private Texts() {
        for (int i = 0; i < TEXT_BYTES; i++) {
            padding[i] = (byte) ('a' - 25 + next(51));
        }
        for (int i = 0; i < TEXT_BYTES; i++) {
            words[i] = next(13) == 0 ? (byte) ' ' : (byte) ('a' + next(26));
        }
        for (int i = 0; i < 4; i++) {
            hotChannels[i] = text(HOT_CHANNELS[i]);
            hotUrls[i] = text(url());
        }
        for (int i = 0; i < CHANNELS; i++) {
            String url = url();
            if (next(10) > 0) {
                url += "&channel_id=" + Math.abs((long) Integer.reverse(i));
            }
            channels[i] = text("channel-" + i);
            urls[i] = text(url);
        }
    }

    /** SplitMix64. */
    private long next(long bound) {
        sequence += 0x9e3779b97f4a7c15L;
        long bits = sequence;
        bits = (bits ^ (bits >>> 30)) * 0xbf58476d1ce4e5b9L;
        bits = (bits ^ (bits >>> 27)) * 0x94d049bb133111ebL;
        return scale(bits ^ (bits >>> 31), bound);
    }

    private String segment() {
        long length = 3 + next(2);
        StringBuilder text = new StringBuilder();
        for (long i = 0; i < length; i++) {
            text.append(next(13) == 0 ? '_' : (char) ('a' + next(26)));
        }
        return text.toString();
    }

    private String url() {
        return "https://www.nexmark.com/" + segment() + "/" + segment() + "/" + segment() + "/item.htm?query=1";
    }

    static StringData text(String text) {
        return StringData.fromBytes(text.getBytes(StandardCharsets.UTF_8));
    }

    StringData channel(long bits) {
        int index = (int) scale(bits << 1, CHANNELS * 4L);
        return bits < 0 ? hotChannels[index % 4] : channels[index / 4];
    }

    StringData url(long bits) {
        int index = (int) scale(bits << 1, CHANNELS * 4L);
        return bits < 0 ? hotUrls[index % 4] : urls[index / 4];
    }

    StringData padding(long bits, int length) {
        return BinaryStringData.fromBytes(padding, (int) scale(bits, TEXT_BYTES - length), length);
    }

    BinaryStringData words(long bits, long longest) {
        int length = 3 + (int) scale(bits << 32, longest - 3);
        int from = (int) scale(bits, TEXT_BYTES - length);
        int to = from + length;
        while (from < to && words[from] == ' ') {
            from++;
        }
        while (from < to && words[to - 1] == ' ') {
            to--;
        }
        return BinaryStringData.fromBytes(words, from, to - from);
    }

    static String name(long bits) {
        return pick(FIRST_NAMES, bits) + " " + pick(LAST_NAMES, bits << 32);
    }

    static String city(long bits) {
        return pick(CITIES, bits);
    }

    static String state(long bits) {
        return pick(STATES, bits);
    }

    private static String pick(String[] choices, long bits) {
        return choices[(int) scale(bits, choices.length)];
    }

    static String creditCard(long bits) {
        char[] text = new char[19];
        for (int group = 0; group < 4; group++) {
            if (group > 0) {
                text[group * 5 - 1] = ' ';
            }
            long number = scale(bits << (16 * group), 10_000);
            for (int digit = 3; digit >= 0; digit--) {
                text[group * 5 + digit] = (char) ('0' + number % 10);
                number /= 10;
            }
        }
        return new String(text);
    }

    /** Length of the padding that brings a record of `current` bytes to `average` on average. */
    static int paddingLength(long bits, long current, long average) {
        long missing = average - current;
        if (missing < 0) {
            return 0;
        }
        long delta = (missing + 2) / 5;
        return (int) (missing - delta + scale(bits << 32, Math.max(2 * delta, 1)));
    }
}
