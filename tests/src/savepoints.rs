//! Small jobs, one for each kind of operator with state, of which snapshots are kept under `tests/data/savepoints`: a folder for each version
//! of the format, in it one for each job with the snapshot, and with the output that belongs to it. `make-savepoints` takes them.

use std::path::{Path, PathBuf};

/// What the jobs had read when their savepoints were taken.
pub const BEFORE: &str = r#"{"shop":"a","item":"pen","price":5,"paid":true,"ts":"2026-01-01 00:00:01"}
{"shop":"a","item":"ink","price":7,"paid":false,"ts":"2026-01-01 00:00:02"}
{"shop":"b","item":"pen","price":1,"paid":true,"ts":"2026-01-01 00:00:03"}
"#;

/// What they read when they go on.
pub const AFTER: &str = r#"{"shop":"a","item":"pen","price":10,"paid":false,"ts":"2026-01-01 00:00:04"}
{"shop":"c","item":"cup","price":2,"paid":true,"ts":"2026-01-01 00:00:05"}
{"shop":"b","item":"cup","price":4,"paid":false,"ts":"2026-01-01 00:00:15"}
"#;

/// A job.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// Of its folder.
    pub name: &'static str,
    /// Columns of the table that it writes.
    pub columns: &'static str,
    /// Its results change: they are written as a changelog.
    pub updates: bool,
    /// What it writes.
    pub query: &'static str,
}

/// Those of which savepoints are kept.
pub const CASES: &[Case] = &[
    Case {
        name: "sink",
        columns: "shop STRING, item STRING, price INT",
        updates: false,
        query: "SELECT shop, item, price FROM orders",
    },
    Case {
        name: "group-aggregate",
        columns: "shop STRING, orders BIGINT, total INT, largest STRING, items BIGINT",
        updates: true,
        query: "SELECT shop, COUNT(*), SUM(price), MAX(item), COUNT(DISTINCT item) FROM orders GROUP BY shop",
    },
    Case {
        name: "updating-aggregate",
        columns: "n BIGINT, shops BIGINT, best INT",
        updates: true,
        query: "SELECT n, COUNT(*), MAX(total) FROM
            (SELECT shop, COUNT(*) AS n, SUM(price) AS total FROM orders GROUP BY shop) GROUP BY n",
    },
    Case {
        name: "tumbling-window",
        columns: "shop STRING, window_end TIMESTAMP(3), orders BIGINT, total INT",
        updates: false,
        query: "SELECT shop, window_end, COUNT(*), SUM(price)
            FROM TABLE(TUMBLE(TABLE orders, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY shop, window_start, window_end",
    },
    Case {
        name: "hopping-window",
        columns: "shop STRING, window_end TIMESTAMP(3), items BIGINT",
        updates: false,
        query: "SELECT shop, window_end, COUNT(DISTINCT item)
            FROM TABLE(HOP(TABLE orders, DESCRIPTOR(ts), INTERVAL '5' SECOND, INTERVAL '10' SECOND))
            GROUP BY shop, window_start, window_end",
    },
    Case {
        name: "window-join",
        columns: "shop STRING, paid STRING, unpaid STRING",
        updates: false,
        query: "SELECT l.shop, l.item, r.item FROM
            (SELECT * FROM TABLE(TUMBLE(TABLE orders, DESCRIPTOR(ts), INTERVAL '10' SECOND)) WHERE paid) l
            JOIN (SELECT * FROM TABLE(TUMBLE(TABLE orders, DESCRIPTOR(ts), INTERVAL '10' SECOND)) WHERE NOT paid) r
            ON l.shop = r.shop AND l.window_start = r.window_start AND l.window_end = r.window_end",
    },
    Case {
        name: "join",
        columns: "shop STRING, item STRING, unpaid STRING",
        updates: true,
        query: "SELECT l.shop, l.item, r.item FROM (SELECT * FROM orders WHERE paid) l
            LEFT JOIN (SELECT * FROM orders WHERE NOT paid) r ON l.shop = r.shop AND l.price < r.price",
    },
    Case {
        name: "anti-join",
        columns: "shop STRING, item STRING",
        updates: true,
        query: "SELECT shop, item FROM orders WHERE paid
            AND NOT EXISTS (SELECT 1 FROM orders AS o WHERE NOT o.paid AND o.shop = orders.shop)",
    },
    Case {
        name: "over",
        columns: "shop STRING, item STRING, two INT, so_far BIGINT, lately BIGINT, last_item STRING",
        updates: false,
        query: "SELECT shop, item,
              SUM(price) OVER (PARTITION BY shop ORDER BY ts ROWS BETWEEN 1 PRECEDING AND CURRENT ROW),
              COUNT(*) OVER (PARTITION BY shop ORDER BY ts),
              COUNT(*) OVER (PARTITION BY shop ORDER BY ts RANGE BETWEEN INTERVAL '5' SECOND PRECEDING AND CURRENT ROW),
              LAG(item) OVER (PARTITION BY shop ORDER BY ts)
            FROM orders",
    },
    Case {
        name: "first-row",
        columns: "shop STRING, item STRING, price INT",
        updates: false,
        query: "SELECT shop, item, price FROM
            (SELECT *, ROW_NUMBER() OVER (PARTITION BY shop ORDER BY ts) AS n FROM orders) WHERE n = 1",
    },
    Case {
        name: "last-row",
        columns: "shop STRING, item STRING, price INT",
        updates: true,
        query: "SELECT shop, item, price FROM
            (SELECT *, ROW_NUMBER() OVER (PARTITION BY shop ORDER BY ts DESC) AS n FROM orders) WHERE n = 1",
    },
    Case {
        name: "rank",
        columns: "item STRING, price INT, n BIGINT",
        updates: true,
        query: "SELECT item, price, n FROM
            (SELECT *, ROW_NUMBER() OVER (PARTITION BY paid ORDER BY price DESC) AS n FROM orders) WHERE n <= 2",
    },
    Case {
        name: "updating-rank",
        columns: "shop STRING, total INT",
        updates: true,
        query: "SELECT shop, SUM(price) AS total FROM orders GROUP BY shop ORDER BY total DESC LIMIT 2",
    },
    Case {
        name: "sort",
        columns: "shop STRING, item STRING, price INT",
        updates: false,
        query: "SELECT shop, item, price FROM orders ORDER BY ts, price",
    },
    Case {
        name: "window-rank",
        columns: "window_end TIMESTAMP(3), shop STRING, price INT, n BIGINT",
        updates: false,
        query: "SELECT window_end, shop, price, n FROM
            (SELECT *, ROW_NUMBER() OVER (PARTITION BY window_start, window_end ORDER BY price DESC) AS n
             FROM TABLE(TUMBLE(TABLE orders, DESCRIPTOR(ts), INTERVAL '10' SECOND))) WHERE n <= 2",
    },
    Case {
        name: "session",
        columns: "shop STRING, window_start TIMESTAMP(3), window_end TIMESTAMP(3), total INT",
        updates: false,
        query: "SELECT shop, window_start, window_end, SUM(price)
            FROM TABLE(SESSION(TABLE orders PARTITION BY shop, DESCRIPTOR(ts), INTERVAL '4' SECOND))
            GROUP BY shop, window_start, window_end",
    },
    Case {
        name: "match-recognize",
        columns: "shop STRING, first_item STRING, last_item STRING, total INT",
        updates: false,
        query: "SELECT * FROM orders MATCH_RECOGNIZE (PARTITION BY shop ORDER BY ts
            MEASURES FIRST(P.item) AS first_item, U.item AS last_item, SUM(P.price) AS total
            PATTERN (P+ U) DEFINE P AS P.paid, U AS NOT U.paid AND U.price > P.price) AS m",
    },
];

/// The one of which a checkpoint with rows in flight is kept.
pub const IN_FLIGHT: Case = Case {
    name: "in-flight",
    columns: "shop STRING, orders BIGINT, total INT",
    updates: true,
    query: "SELECT shop, COUNT(*), SUM(price) FROM orders GROUP BY shop",
};

/// Input of [`IN_FLIGHT`]: more than its operators and channels hold under backpressure, with so many shops that updates fill the sink.
pub fn many_orders() -> String {
    let order = |n: u32| {
        format!(
            r#"{{"shop":"s{}","item":"pen","price":{},"paid":true,"ts":"2026-01-01 00:00:00"}}"#,
            n / 20 % 500,
            n % 2
        ) + "\n"
    };
    (0..MANY).map(order).collect()
}

const MANY: u32 = 20_000;

/// How a job is run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Run<'a> {
    /// The source waits for more files; else it ends with those that are there.
    pub watching: bool,
    /// SET statements.
    pub settings: &'a str,
    /// More options of the sink, each behind a comma.
    pub sink: &'a str,
}

impl Case {
    /// The script that reads the files of one folder and writes to another one.
    pub fn script(&self, input: &Path, output: &Path, run: Run<'_>) -> String {
        let watch = match run.watching {
            true => ", 'source.monitor-interval' = '100 ms'",
            false => "",
        };
        let format = match self.updates {
            true => "debezium-json",
            false => "json",
        };
        format!(
            "SET 'pipeline.max-parallelism' = '4'; {}
             CREATE TABLE orders (shop STRING, item STRING, price INT, paid BOOLEAN, ts TIMESTAMP(3), WATERMARK FOR ts AS ts)
               WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'json'{watch});
             CREATE TABLE answer ({}) WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = '{format}'{});
             INSERT INTO answer {};",
            run.settings,
            input.display(),
            self.columns,
            output.display(),
            run.sink,
            self.query
        )
    }

    /// Folder of what is kept of it in a version of the format.
    pub fn stored(&self, version: &str) -> PathBuf {
        folder().join(version).join(self.name)
    }
}

/// Of all stored snapshots.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data/savepoints")
}

/// Copies a folder with all that is in it.
pub fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true => copy(&entry.path(), &target)?,
            false => drop(std::fs::copy(entry.path(), target)?),
        }
    }
    Ok(())
}
