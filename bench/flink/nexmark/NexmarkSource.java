package weir.nexmark;

import java.io.Serializable;
import java.nio.ByteBuffer;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.function.Function;
import org.apache.flink.api.connector.source.Boundedness;
import org.apache.flink.api.connector.source.ReaderOutput;
import org.apache.flink.api.connector.source.Source;
import org.apache.flink.api.connector.source.SourceReader;
import org.apache.flink.api.connector.source.SourceReaderContext;
import org.apache.flink.api.connector.source.SourceSplit;
import org.apache.flink.api.connector.source.SplitEnumerator;
import org.apache.flink.api.connector.source.SplitEnumeratorContext;
import org.apache.flink.core.io.InputStatus;
import org.apache.flink.core.io.SimpleVersionedSerializer;
import org.apache.flink.table.data.RowData;

/** Events 0..events, dealt out in blocks as Weir does: of p subtasks, number i generates the blocks b with b mod p = i. */
final class NexmarkSource implements Source<RowData, NexmarkSource.Split, Long> {
    /** Events of a block, as weir_common::limits::BATCH_ROWS. */
    private static final long BLOCK = 8192;

    private final int[][] paths;
    private final long events;
    private final long rate;
    private final long seed;

    NexmarkSource(int[][] paths, long events, long rate, long seed) {
        this.paths = paths;
        this.events = events;
        this.rate = rate;
        this.seed = seed;
    }

    /** One subtask's part; `next` is the number of its next event. */
    static final class Split implements SourceSplit, Serializable {
        final int index;
        final int splits;
        long next;

        Split(int index, int splits, long next) {
            this.index = index;
            this.splits = splits;
            this.next = next;
        }

        @Override
        public String splitId() {
            return Integer.toString(index);
        }

        void advance() {
            next++;
            if (next % BLOCK == 0) {
                next += BLOCK * (splits - 1);
            }
        }
    }

    @Override
    public Boundedness getBoundedness() {
        return Boundedness.BOUNDED;
    }

    @Override
    public SourceReader<RowData, Split> createReader(SourceReaderContext context) {
        return new Reader(new Generator(paths, rate, seed), events, context);
    }

    private static final class Reader implements SourceReader<RowData, Split> {
        private final Generator generator;
        private final long events;
        private final SourceReaderContext context;
        private final ArrayDeque<Split> splits = new ArrayDeque<>();
        private final CompletableFuture<Void> assigned = new CompletableFuture<>();
        private boolean noMore;

        Reader(Generator generator, long events, SourceReaderContext context) {
            this.generator = generator;
            this.events = events;
            this.context = context;
        }

        @Override
        public void start() {
            if (splits.isEmpty()) {
                context.sendSplitRequest();
            }
        }

        @Override
        public InputStatus pollNext(ReaderOutput<RowData> output) {
            Split split = splits.peek();
            if (split == null) {
                return noMore ? InputStatus.END_OF_INPUT : InputStatus.NOTHING_AVAILABLE;
            }
            if (split.next >= events) {
                splits.poll();
                return InputStatus.MORE_AVAILABLE;
            }
            output.collect(generator.generate(split.next));
            split.advance();
            return InputStatus.MORE_AVAILABLE;
        }

        @Override
        public List<Split> snapshotState(long checkpoint) {
            List<Split> state = new ArrayList<>();
            splits.forEach(split -> state.add(new Split(split.index, split.splits, split.next)));
            return state;
        }

        @Override
        public CompletableFuture<Void> isAvailable() {
            return splits.isEmpty() ? assigned : CompletableFuture.completedFuture(null);
        }

        @Override
        public void addSplits(List<Split> added) {
            splits.addAll(added);
        }

        @Override
        public void notifyNoMoreSplits() {
            noMore = true;
            assigned.complete(null);
        }

        @Override
        public void close() {}
    }

    @Override
    public SplitEnumerator<Split, Long> createEnumerator(SplitEnumeratorContext<Split> context) {
        return new Enumerator(context, 0);
    }

    @Override
    public SplitEnumerator<Split, Long> restoreEnumerator(SplitEnumeratorContext<Split> context, Long dealt) {
        return new Enumerator(context, dealt);
    }

    /** Gives subtask i the split i once, then says that there are no more. `dealt` is a set of bits. */
    private static final class Enumerator implements SplitEnumerator<Split, Long> {
        private final SplitEnumeratorContext<Split> context;
        private final List<Split> returned = new ArrayList<>();
        private long dealt;

        Enumerator(SplitEnumeratorContext<Split> context, long dealt) {
            this.context = context;
            this.dealt = dealt;
        }

        @Override
        public void start() {}

        @Override
        public void handleSplitRequest(int subtask, String host) {
            returned.forEach(split -> context.assignSplit(split, subtask));
            returned.clear();
            if ((dealt & 1L << subtask) == 0) {
                dealt |= 1L << subtask;
                context.assignSplit(new Split(subtask, context.currentParallelism(), subtask * BLOCK), subtask);
            }
            context.signalNoMoreSplits(subtask);
        }

        @Override
        public void addSplitsBack(List<Split> splits, int subtask) {
            returned.addAll(splits);
        }

        @Override
        public void addReader(int subtask) {}

        @Override
        public Long snapshotState(long checkpoint) {
            return dealt;
        }

        @Override
        public void close() {}
    }

    @Override
    public SimpleVersionedSerializer<Split> getSplitSerializer() {
        return new Longs<>(
                split -> new long[] {split.index, split.splits, split.next},
                values -> new Split((int) values[0], (int) values[1], values[2]));
    }

    @Override
    public SimpleVersionedSerializer<Long> getEnumeratorCheckpointSerializer() {
        return new Longs<>(dealt -> new long[] {dealt}, values -> values[0]);
    }

    /** What can be written as a few longs. */
    private static final class Longs<T> implements SimpleVersionedSerializer<T> {
        private final Function<T, long[]> write;
        private final Function<long[], T> read;

        Longs(Function<T, long[]> write, Function<long[], T> read) {
            this.write = write;
            this.read = read;
        }

        @Override
        public int getVersion() {
            return 1;
        }

        @Override
        public byte[] serialize(T value) {
            long[] values = write.apply(value);
            ByteBuffer buffer = ByteBuffer.allocate(values.length * 8);
            buffer.asLongBuffer().put(values);
            return buffer.array();
        }

        @Override
        public T deserialize(int version, byte[] bytes) {
            long[] values = new long[bytes.length / 8];
            ByteBuffer.wrap(bytes).asLongBuffer().get(values);
            return read.apply(values);
        }
    }
}
