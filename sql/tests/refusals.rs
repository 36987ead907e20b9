//! What can't be planned, with the words that a user reads. `WEIR_BLESS=1` writes them anew.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;

use weir_sql::{Session, SessionDefaults, parse_script};

const DDL: &str = "
CREATE TABLE t (a INT, b BIGINT NOT NULL, s STRING, d DECIMAL(10, 2), r ROW<x INT, y STRING>, m MAP<STRING, INT>,
  ts TIMESTAMP(3), pt AS PROCTIME(), WATERMARK FOR ts AS ts - INTERVAL '1' SECOND)
  WITH ('connector' = 'filesystem', 'path' = '/tmp/t', 'format' = 'json');
CREATE TABLE u (a INT, s STRING, ts TIMESTAMP(3)) WITH ('connector' = 'datagen');
CREATE TABLE files (a BIGINT, n BIGINT) WITH ('connector' = 'filesystem', 'path' = '/tmp/x', 'format' = 'json');
CREATE TABLE narrow (a INT, s STRING NOT NULL) WITH ('connector' = 'blackhole');
CREATE TABLE broken (a INT) WITH ('connector' = 'datagen', 'rows-per-secnd' = '3');
CREATE VIEW v AS SELECT a, s FROM t;
CREATE VIEW counts AS SELECT a, MAX(ts) AS ts FROM t GROUP BY a;
";

fn error(session: &Session, sql: &str) -> String {
    let statements = match parse_script(sql) {
        Ok(statements) => statements,
        Err(error) => return error.to_string(),
    };
    let mut session = session.clone();
    for statement in statements {
        if let Err(error) = session.execute(&statement) {
            return error.to_string();
        }
    }
    "nothing is wrong with it".to_owned()
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let mut session = Session::new(SessionDefaults::default()).unwrap();
    for statement in parse_script(DDL).unwrap() {
        session.execute(&statement).unwrap();
    }
    let mut text = String::new();
    for sql in include_str!("refusals.sql").lines() {
        let error = error(&session, sql).replace('\n', "\n    ");
        text.push_str(&format!("{sql}\n    {error}\n"));
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plans/refusals.txt");
    if std::env::var_os("WEIR_BLESS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(expected, text, "WEIR_BLESS=1 accepts it");
}
