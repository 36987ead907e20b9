//! The job: an aggregation by key with a wide value, filled by a generator and asked through Kafka. The same SQL goes to both engines.
//!
//! Where it is rescaled, it also counts what is asked in windows of a second, and joins two such counts: their state and timers move, too.

use weir_bench::broker::BROKER;

/// Digits of a row's text; random, so that no engine gets it smaller by compression.
pub(crate) const TEXT: u64 = 1000;
/// What a row takes beside its text, about.
const ROW_BYTES: u64 = 40;
/// Flink's generator lets no checkpoint through while it makes a second's rows, so a second must be enough for them.
const ROWS_PER_SECOND: u64 = 100_000;

/// How many do it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    /// Each with one slot; and partitions of the topics.
    pub(crate) task_managers: u32,
    /// Of the job when it starts.
    pub(crate) parallelism: u32,
    /// Whether it has windows and a join besides.
    pub(crate) windows: bool,
}

/// See the file's head.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) shape: Shape,
    rows: u64,
    topics: [String; 2],
}

impl Job {
    /// With about so much state on each task manager.
    pub(crate) fn new(shape: Shape, bytes_a_task_manager: u64) -> Self {
        let bytes = bytes_a_task_manager * u64::from(shape.task_managers);
        let name = |what: &str| format!("recovery-{what}-{}", std::process::id());
        Self {
            shape,
            rows: (bytes / (TEXT + ROW_BYTES)).max(1),
            topics: [name("probes"), name("results")],
        }
    }

    /// Keys are 0 to this.
    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    pub(crate) fn state_bytes(&self) -> u64 {
        self.rows * TEXT
    }

    pub(crate) fn topics(&self) -> &[String] {
        &self.topics
    }

    /// What is sent: a key, and when.
    pub(crate) fn probes(&self) -> &str {
        &self.topics[0]
    }

    /// What comes out.
    pub(crate) fn results(&self) -> &str {
        &self.topics[1]
    }

    /// The last one starts the job. A key's `filled` is the length of its text as soon as the generator's row is in, and `t` the newest
    /// time that was sent for it.
    pub(crate) fn statements(&self) -> Vec<String> {
        let kafka = format!("'connector' = 'kafka', 'properties.bootstrap.servers' = '{BROKER}'");
        let last = self.rows.saturating_sub(1);
        let asked = "INSERT INTO results SELECT k, n, CHAR_LENGTH(v), t FROM (\
             SELECT k, COUNT(*) AS n, MAX(v) AS v, MAX(t) AS t FROM (\
             SELECT k, v, CAST(0 AS BIGINT) AS t FROM fill UNION ALL SELECT k, v, t FROM probes) GROUP BY k) WHERE t > 0";
        let counted = "SELECT k, window_start, window_end, COUNT(*) AS n FROM TABLE(\
             TUMBLE(TABLE probes, DESCRIPTOR(ts), INTERVAL '1' SECOND)) GROUP BY k, window_start, window_end";
        let started = match self.shape.windows {
            false => asked.to_owned(),
            true => format!(
                "EXECUTE STATEMENT SET BEGIN {asked}; INSERT INTO windows SELECT a.k, a.n, b.n FROM ({counted}) a JOIN ({counted}) b \
                 ON a.k = b.k AND a.window_start = b.window_start AND a.window_end = b.window_end; END"
            ),
        };
        vec![
            format!(
                "CREATE TABLE fill (k BIGINT, v STRING) WITH ('connector' = 'datagen', 'rows-per-second' = '{ROWS_PER_SECOND}', \
                 'fields.k.kind' = 'sequence', 'fields.k.start' = '0', 'fields.k.end' = '{last}', 'fields.v.length' = '{TEXT}')"
            ),
            format!(
                "CREATE TABLE probes (k BIGINT, v STRING, t BIGINT, ts AS TO_TIMESTAMP_LTZ(t / 1000, 3), \
                 WATERMARK FOR ts AS ts - INTERVAL '1' SECOND) WITH ({kafka}, 'topic' = '{}', \
                 'scan.startup.mode' = 'earliest-offset', 'format' = 'json')",
                self.probes()
            ),
            format!(
                "CREATE TABLE results (k BIGINT, n BIGINT, filled INT, t BIGINT) WITH ({kafka}, 'topic' = '{}', \
                 'format' = 'debezium-json')",
                self.results()
            ),
            "CREATE TABLE windows (k BIGINT, a BIGINT, b BIGINT) WITH ('connector' = 'blackhole')"
                .to_owned(),
            started,
        ]
    }
}
