//! Bad SQL and bad records: each gets a message that says what, where and how to mend it, and no panic.

use std::time::{Duration, Instant};

use weir_tests::kafka::{create_topic, produce};
use weir_tests::said::{Said, sql, weir_says};
use weir_tests::services::Service;

const TABLE: &str = "CREATE TABLE t (a INT, b STRING, ts TIMESTAMP(3)) \
                     WITH ('connector' = 'datagen', 'number-of-rows' = '5');\n";

/// Runs statements on a table of integers, texts and times.
fn on_table(statements: &str) -> Said {
    sql(&format!("{TABLE}{statements}"))
}

#[test]
fn a_syntax_error_names_its_place() {
    on_table("SELECT a FROM t WHERE;").refuses(&["line 2, column 22", "syntax error", "';'"]);
    on_table("SELEC a FROM t;").refuses(&["line 2, column 1", "SELEC"]);
    on_table("SELECT 'a FROM t;").refuses(&["line 2"]);
}

#[test]
fn nothing_runs_if_a_later_statement_cannot_be_parsed() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let said = on_table(&format!(
        "CREATE TABLE o (a INT) WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'json');
         INSERT INTO o SELECT a FROM t;
         SELECT FROM;",
        out.display()
    ));
    said.refuses(&["line 4", "syntax error"]);
    assert!(!out.exists());
}

#[test]
fn unknown_names_are_named() {
    on_table("SELECT nope FROM t;").refuses(&["line 2, column 8", "unknown column 'nope'"]);
    on_table("SELECT a FROM nowhere;").refuses(&["line 2, column 15", "unknown table 'nowhere'"]);
    on_table("SELECT NO_SUCH_FUNCTION(a) FROM t;").refuses(&["NO_SUCH_FUNCTION"]);
    on_table("INSERT INTO nowhere SELECT a FROM t;").refuses(&["nowhere"]);
    on_table("SET 'no.such.setting' = '1';").refuses(&["no.such.setting"]);
}

#[test]
fn types_that_do_not_fit_are_named() {
    on_table("SELECT a + b FROM t;").refuses(&["line 2, column 8", "INT", "STRING"]);
    on_table("SELECT a FROM t WHERE b;").refuses(&["WHERE", "BOOLEAN", "STRING"]);
    let sink = "CREATE TABLE o (x TIMESTAMP(3)) WITH ('connector' = 'blackhole');";
    on_table(&format!("{sink} INSERT INTO o SELECT a FROM t;")).refuses(&["TIMESTAMP(3)", "INT"]);
    on_table(&format!("{sink} INSERT INTO o SELECT ts, a FROM t;")).refuses(&["o"]);
}

#[test]
fn unknown_options_are_refused_with_the_nearest() {
    let table = |options: &str| {
        sql(&format!(
            "CREATE TABLE t (a INT) WITH ({options}); SELECT a FROM t;"
        ))
    };
    table("'connector' = 'datagen', 'number-of-row' = '1'").refuses(&[
        "table 't'",
        "'number-of-row'",
        "did you mean 'number-of-rows'?",
    ]);
    table("'connector' = 'datagen', 'number-of-rows' = 'many'").refuses(&[
        "'number-of-rows'",
        "'many'",
        "whole number",
    ]);
    table("'connector' = 'kafkaa'").refuses(&["'kafkaa'", "did you mean 'kafka'?"]);
    table("'connector' = 'filesystem', 'format' = 'json'").refuses(&["'path'"]);
    table("'connector' = 'filesystem', 'path' = '/tmp', 'format' = 'jsn'")
        .refuses(&["'jsn'", "json"]);
}

#[test]
fn what_is_not_built_is_refused_by_name() {
    for (statement, name) in [
        ("CREATE FUNCTION f AS 'com.example.F';", "CREATE FUNCTION"),
        (
            "SELECT * FROM t FOR SYSTEM_TIME AS OF PROCTIME();",
            "FOR SYSTEM_TIME AS OF",
        ),
        ("SELECT * FROM t TABLESAMPLE SYSTEM (10);", "TABLESAMPLE"),
    ] {
        on_table(statement).refuses(&[name, "not supported yet"]);
    }
}

#[test]
fn updates_into_a_sink_that_only_appends_are_refused() {
    let said = on_table(
        "CREATE TABLE o (b STRING, n BIGINT) WITH ('connector' = 'filesystem', 'path' = '/tmp/never', 'format' = 'json');
         INSERT INTO o SELECT b, COUNT(*) FROM t GROUP BY b;",
    );
    said.refuses(&[
        "doesn't support consuming update changes",
        "GroupAggregate",
        "debezium-json",
    ]);
}

#[test]
fn a_null_in_a_not_null_column_fails_the_job() {
    let sink = "CREATE TABLE o (a INT NOT NULL) WITH ('connector' = 'blackhole');";
    let insert = "INSERT INTO o SELECT NULLIF(a, a) FROM t;";
    on_table(&format!("{sink}{insert}"))
        .refuses(&["column 'a' of table 'o' is NOT NULL", "filter such rows"]);
    on_table(&format!(
        "SET 'table.exec.sink.not-null-enforcer' = 'DROP'; {sink}{insert}"
    ))
    .fine();
}

#[test]
fn a_broken_record_of_a_file_is_named_and_not_shown() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("input.json");
    std::fs::write(&path, "{\"a\":1}\n{\"a\":\"hush-hush\n{\"a\":3}\n").unwrap();
    let script = |more: &str| {
        format!(
            "CREATE TABLE r (a INT) WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'json'{more});
             SELECT a FROM r;",
            path.display()
        )
    };
    let said = sql(&script(""));
    said.refuses(&[
        "table 'r'",
        "input.json",
        "byte 8",
        "cannot decode",
        "field 'a'",
    ]);
    assert!(!said.err.contains("hush-hush"), "{said:?}");
    let skipping = script(", 'json.ignore-parse-errors' = 'true'");
    let rows = weir_says(&["sql", "--format", "json", "-e", &skipping]);
    let mut lines: Vec<_> = rows.fine().lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["{\"a\":1}", "{\"a\":3}"]);
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let said = sql("CREATE TABLE r (a INT) WITH ('connector' = 'filesystem', 'path' = '/no/such/file', 'format' = 'json');
                    SELECT a FROM r;");
    said.refuses(&["filesystem", "/no/such/file"]);
}

fn kafka_table(brokers: &str, topic: &str, more: &str) -> String {
    format!(
        "CREATE TABLE k (a INT) WITH ('connector' = 'kafka', 'topic' = '{topic}', 'properties.bootstrap.servers' = '{brokers}',
           'format' = 'json', 'scan.startup.mode' = 'earliest-offset', 'scan.bounded.mode' = 'latest-offset'{more});
         SELECT a FROM k;"
    )
}

#[test]
fn an_unreachable_broker_fails_the_job_in_time() {
    let port = weir_tests::cluster::free_port();
    let brokers = format!("127.0.0.1:{port}");
    let started = Instant::now();
    sql(&kafka_table(&brokers, "events", "")).refuses(&[
        "kafka",
        &brokers,
        "properties.bootstrap.servers",
    ]);
    assert!(
        started.elapsed() < Duration::from_secs(60),
        "{:?}",
        started.elapsed()
    );
}

#[test]
fn kafkas_missing_topics_and_broken_records_are_named() {
    let kafka = Service::kafka("badinput").unwrap();
    let brokers = kafka.address();
    sql(&kafka_table(&brokers, "no-such-topic", "")).refuses(&["kafka", "no-such-topic"]);

    create_topic(&brokers, "broken", 1).unwrap();
    let records = [
        "{\"a\":1}",
        "{\"a\":2}",
        "{\"a\":\"hush-hush\"",
        "{\"a\":4}",
    ];
    produce(
        &brokers,
        "broken",
        1,
        records.into_iter().map(str::to_owned),
    )
    .unwrap();
    let said = sql(&kafka_table(&brokers, "broken", ""));
    said.refuses(&["'broken'", "partition 0", "offset 2", "cannot decode"]);
    assert!(!said.err.contains("hush-hush"), "{said:?}");

    let skipping = kafka_table(&brokers, "broken", ", 'json.ignore-parse-errors' = 'true'");
    let rows = weir_says(&["sql", "--format", "json", "-e", &skipping]);
    assert_eq!(
        rows.fine().lines().collect::<Vec<_>>(),
        ["{\"a\":1}", "{\"a\":2}", "{\"a\":4}"]
    );
}

#[test]
fn a_script_that_is_not_there_or_not_text_is_refused() {
    weir_says(&["sql", "/no/such/script.sql"]).refuses(&["/no/such/script.sql", "No such file"]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("binary.sql");
    std::fs::write(&path, [0xff, 0xfe, 0x00, 0x01]).unwrap();
    weir_says(&["sql", &path.display().to_string()]).refuses(&["binary.sql", "UTF-8"]);
}

#[test]
fn deep_nesting_is_no_crash() {
    let mut text = String::from("SELECT ");
    for _ in 0..20_000 {
        text.push('(');
    }
    text.push('1');
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep.sql");
    std::fs::write(&path, text).unwrap();
    weir_says(&["sql", &path.display().to_string()]).refuses(&["line 1"]);
}
