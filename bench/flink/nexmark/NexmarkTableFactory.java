package weir.nexmark;

import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Set;
import org.apache.flink.configuration.ConfigOption;
import org.apache.flink.configuration.ConfigOptions;
import org.apache.flink.configuration.ReadableConfig;
import org.apache.flink.table.api.ValidationException;
import org.apache.flink.table.connector.ChangelogMode;
import org.apache.flink.table.connector.source.DynamicTableSource;
import org.apache.flink.table.connector.source.ScanTableSource;
import org.apache.flink.table.connector.source.SourceProvider;
import org.apache.flink.table.connector.source.abilities.SupportsProjectionPushDown;
import org.apache.flink.table.factories.DynamicTableSourceFactory;
import org.apache.flink.table.factories.FactoryUtil;
import org.apache.flink.table.types.DataType;
import org.apache.flink.table.types.logical.RowType;

/** 'connector' = 'nexmark': the columns event_type, person, auction and bid. Only the fields that the query reads are generated. */
public final class NexmarkTableFactory implements DynamicTableSourceFactory {
    private static final ConfigOption<Long> EVENTS = ConfigOptions.key("events.num").longType().noDefaultValue();
    private static final ConfigOption<Long> RATE = ConfigOptions.key("next-event.rate").longType().defaultValue(10_000L);
    private static final ConfigOption<Long> SEED = ConfigOptions.key("seed").longType().defaultValue(0L);
    private static final List<String> COLUMNS = Arrays.asList("event_type", "person", "auction", "bid");

    @Override
    public String factoryIdentifier() {
        return "nexmark";
    }

    @Override
    public Set<ConfigOption<?>> requiredOptions() {
        return Collections.singleton(EVENTS);
    }

    @Override
    public Set<ConfigOption<?>> optionalOptions() {
        return Set.of(RATE, SEED);
    }

    @Override
    public DynamicTableSource createDynamicTableSource(Context context) {
        FactoryUtil.TableFactoryHelper helper = FactoryUtil.createTableFactoryHelper(this, context);
        helper.validate();
        ReadableConfig options = helper.getOptions();
        int[][] all = paths((RowType) context.getPhysicalRowDataType().getLogicalType());
        return new TableSource(all, all, options.get(EVENTS), options.get(RATE), options.get(SEED));
    }

    /** The generator's path of each column of the table. A row must have all fields, in the order of the generator. */
    private static int[][] paths(RowType table) {
        int[][] paths = new int[table.getFieldCount()][];
        for (int i = 0; i < paths.length; i++) {
            int column = COLUMNS.indexOf(table.getFieldNames().get(i));
            if (column < 0) {
                throw new ValidationException("'nexmark' has the columns " + COLUMNS + ", not " + table.getFieldNames().get(i));
            }
            if (column > 0) {
                List<String> fields = ((RowType) table.getTypeAt(i)).getFieldNames();
                if (!fields.equals(Arrays.asList(Generator.FIELDS[column - 1]))) {
                    throw new ValidationException("the fields of " + COLUMNS.get(column) + " must be "
                            + Arrays.toString(Generator.FIELDS[column - 1]) + ", not " + fields);
                }
            }
            paths[i] = new int[] {column};
        }
        return paths;
    }

    private static final class TableSource implements ScanTableSource, SupportsProjectionPushDown {
        private final int[][] table;
        private final long events;
        private final long rate;
        private final long seed;
        private int[][] wanted;

        TableSource(int[][] table, int[][] wanted, long events, long rate, long seed) {
            this.table = table;
            this.wanted = wanted;
            this.events = events;
            this.rate = rate;
            this.seed = seed;
        }

        @Override
        public ChangelogMode getChangelogMode() {
            return ChangelogMode.insertOnly();
        }

        @Override
        public ScanRuntimeProvider getScanRuntimeProvider(ScanContext context) {
            return SourceProvider.of(new NexmarkSource(wanted, events, rate, seed));
        }

        @Override
        public boolean supportsNestedProjection() {
            return true;
        }

        @Override
        public void applyProjection(int[][] projected, DataType produced) {
            wanted = new int[projected.length][];
            for (int i = 0; i < projected.length; i++) {
                wanted[i] = projected[i].clone();
                wanted[i][0] = table[projected[i][0]][0];
            }
        }

        @Override
        public DynamicTableSource copy() {
            return new TableSource(table, wanted, events, rate, seed);
        }

        @Override
        public String asSummaryString() {
            return "nexmark";
        }
    }
}
