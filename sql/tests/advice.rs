//! What a job's graph warns of, and EXPLAIN PLAN_ADVICE.
#![allow(clippy::unwrap_used, clippy::panic)]

use weir_sql::{Session, SessionDefaults, StatementResult, parse_script};

const TABLES: &str = "
    CREATE TABLE clicks (id INT, page STRING, ts TIMESTAMP(3), WATERMARK FOR ts AS ts) WITH ('connector' = 'datagen');
    CREATE TABLE changes (id INT, page STRING) WITH ('connector' = 'kafka', 'topic' = 't', 'properties.bootstrap.servers' = 'b:1', 'scan.startup.mode' = 'earliest-offset',
      'format' = 'debezium-json');
    CREATE TABLE partitions (id INT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts) WITH ('connector' = 'kafka', 'topic' = 't',
      'properties.bootstrap.servers' = 'b:1', 'scan.startup.mode' = 'earliest-offset', 'format' = 'json');
    CREATE TABLE files (id INT, page STRING) WITH ('connector' = 'filesystem', 'path' = '/tmp/files', 'format' = 'json');
    CREATE TABLE by_page (page STRING, n BIGINT, at STRING, PRIMARY KEY (page) NOT ENFORCED) WITH ('connector' = 'upsert-kafka', 'topic' = 't',
      'properties.bootstrap.servers' = 'b:1', 'key.format' = 'json', 'value.format' = 'json');";

/// The warnings of the last statement.
fn warnings(script: &str) -> Vec<String> {
    let mut session = Session::new(SessionDefaults::default()).unwrap();
    let mut last = Vec::new();
    for statement in parse_script(&format!("{TABLES}{script}")).unwrap() {
        last = match session.execute(&statement).unwrap() {
            StatementResult::Job(job) => job.graph.warnings,
            StatementResult::Query(query) => query.graph.warnings,
            _ => Vec::new(),
        };
    }
    last
}

fn one(script: &str) -> String {
    let found = warnings(script);
    assert_eq!(found.len(), 1, "{found:?}");
    found[0].clone()
}

#[test]
fn state_that_only_grows_is_told_with_its_operator() {
    let group = one("SELECT page, COUNT(*) FROM clicks GROUP BY page");
    assert!(
        group.starts_with("GroupAggregate(groupBy=[page]"),
        "{group}"
    );
    assert!(
        group.contains("keeps every group for ever; SET 'table.exec.state.ttl'"),
        "{group}"
    );
    let join = one("SELECT a.id FROM clicks a JOIN clicks b ON a.id = b.id");
    assert!(
        join.contains("keeps all rows of its inputs for ever"),
        "{join}"
    );
    let pattern = one(
        "SELECT * FROM clicks MATCH_RECOGNIZE (PARTITION BY page ORDER BY ts MEASURES A.id AS id PATTERN (A B) DEFINE B AS B.id > 1)",
    );
    assert!(pattern.contains("WITHIN INTERVAL"), "{pattern}");
}

#[test]
fn state_that_is_bounded_is_not_told() {
    for bounded in [
        "SET 'table.exec.state.ttl' = '1 h'; SELECT page, COUNT(*) FROM clicks GROUP BY page",
        "SELECT page, COUNT(*) FROM files GROUP BY page",
        "SELECT COUNT(*) FROM clicks",
        "SELECT page, COUNT(*) FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(ts), INTERVAL '1' HOUR)) GROUP BY page, window_start, window_end",
    ] {
        assert_eq!(warnings(bounded), [""; 0], "{bounded}");
    }
}

#[test]
fn partitions_that_may_be_silent_are_told() {
    let query = "SELECT COUNT(*) FROM TABLE(TUMBLE(TABLE partitions, DESCRIPTOR(ts), INTERVAL '1' HOUR)) GROUP BY window_start, window_end";
    let silent = one(query);
    assert!(
        silent.starts_with("a partition of 'partitions' without rows holds back the watermark"),
        "{silent}"
    );
    assert_eq!(
        warnings(&format!(
            "SET 'table.exec.source.idle-timeout' = '10 s'; {query}"
        )),
        [""; 0]
    );
}

#[test]
fn values_that_change_between_a_row_and_its_retraction_are_told() {
    let told = one("SELECT id, UUID() AS u FROM changes");
    assert!(
        told.starts_with("u = UUID() has another value when a row is taken back"),
        "{told}"
    );
    assert_eq!(warnings("SELECT id, UUID() AS u FROM clicks"), [""; 0]);
    let ttl = "SET 'table.exec.state.ttl' = '1 h';";
    let grouped = "SELECT page, COUNT(*) AS n FROM clicks GROUP BY page";
    // The sink finds the row by its key.
    let by_key = format!("{ttl} INSERT INTO by_page SELECT page, n, UUID() FROM ({grouped})");
    assert_eq!(warnings(&by_key), [""; 0]);
    let deeper = format!(
        "{ttl} SELECT u, COUNT(*) FROM (SELECT UUID() AS u, n FROM ({grouped})) GROUP BY u"
    );
    assert!(one(&deeper).contains("u = UUID()"));
}

#[test]
fn explain_shows_the_advice() {
    let explained = |query: &str| {
        let mut session = Session::new(SessionDefaults::default()).unwrap();
        let mut text = String::new();
        for statement in parse_script(&format!("{TABLES} EXPLAIN PLAN_ADVICE {query}")).unwrap() {
            if let StatementResult::Rows { rows, .. } = session.execute(&statement).unwrap() {
                text = rows[0][0].clone().unwrap();
            }
        }
        text
    };
    let grouped = explained("SELECT page, COUNT(*) FROM clicks GROUP BY page");
    assert!(
        grouped.contains("\nadvice[1]: [WARNING] GroupAggregate("),
        "{grouped}"
    );
    assert!(explained("SELECT page FROM clicks").ends_with("\nNo available advice...\n"));
}
