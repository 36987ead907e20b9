//! What can't be planned, with the words that a user reads.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use weir_sql::{Session, SessionDefaults, parse_script};

const DDL: &str = "
CREATE TABLE t (a INT, b BIGINT NOT NULL, s STRING, d DECIMAL(10, 2),
  ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '1' SECOND) WITH ('connector' = 'datagen');
CREATE TABLE u (a INT, s STRING, ts TIMESTAMP(3)) WITH ('connector' = 'datagen');
CREATE TABLE files (a BIGINT, n BIGINT) WITH ('connector' = 'blackhole');
CREATE TABLE narrow (a INT, s STRING NOT NULL) WITH ('connector' = 'blackhole');
CREATE VIEW v AS SELECT a, s FROM t;
";

fn session() -> Session {
    let mut session = Session::new(SessionDefaults::default()).unwrap();
    for statement in parse_script(DDL).unwrap() {
        session.execute(&statement).unwrap();
    }
    session
}

fn error(sql: &str) -> String {
    let statements = match parse_script(sql) {
        Ok(statements) => statements,
        Err(error) => return error.to_string(),
    };
    let mut session = session();
    for statement in statements {
        if let Err(error) = session.execute(&statement) {
            return error.to_string();
        }
    }
    "nothing is wrong with it".to_owned()
}

#[test]
fn refusals() {
    for sql in [
        "SELECT actoin FROM t",
        "SELECT aa FROM t",
        "SELECT x.a FROM t",
        "SELECT t.q FROM t",
        "SELECT r.z FROM t",
        "SELECT a FROM tt",
        "SELECT a FROM t, u",
        "SELECT t.a FROM t JOIN u ON t.a = u.a",
        "SELECT a FROM t x JOIN t y ON x.a = y.a",
        "SELECT LOWR(s) FROM t",
        "SELECT SUM(s) FROM t",
        "SELECT COUNT(a, b) FROM t",
        "SELECT LISTAGG(s) FROM t",
        "SELECT a FROM t WHERE s = r",
        "SELECT a FROM t WHERE a",
        "SELECT a, COUNT(*) FROM t",
        "SELECT a, s, COUNT(*) FROM t GROUP BY a",
        "SELECT a FROM t WHERE COUNT(*) > 1",
        "SELECT a FROM t GROUP BY a HAVING s > 'x'",
        "SELECT a FROM t HAVING a > 1",
        "SELECT SUM(COUNT(*)) FROM t",
        "SELECT a FROM t ORDER BY a",
        "SELECT a FROM t LIMIT 3",
        "SELECT a FROM t INTERSECT SELECT a FROM u",
        "SELECT a FROM t UNION ALL SELECT a, s FROM u",
        "SELECT r FROM t UNION ALL SELECT a FROM u",
        "SELECT a FROM t WHERE a IN (SELECT a FROM u)",
        "SELECT a FROM t WHERE EXISTS (SELECT a FROM u)",
        "SELECT (SELECT MAX(a) FROM u) FROM t",
        "SELECT ROW_NUMBER() OVER (PARTITION BY a ORDER BY ts) FROM t",
        "SELECT SUM(a) OVER (ORDER BY ts) FROM t",
        "SELECT a FROM t GROUP BY GROUPING SETS ((a), ())",
        "SELECT a FROM t GROUP BY CUBE (a)",
        "SELECT COUNT(*) FROM t GROUP BY TUMBLE(ts, INTERVAL '1' MINUTE)",
        "SELECT * FROM TABLE(TUMBLE(TABLE u, DESCRIPTOR(ts), INTERVAL '1' MINUTE))",
        "SELECT * FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(tz), INTERVAL '1' MINUTE))",
        "SELECT * FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(pt), INTERVAL '1' MINUTE))",
        "SELECT * FROM TABLE(SESSION(TABLE t, DESCRIPTOR(ts), INTERVAL '1' MINUTE))",
        "SELECT * FROM TABLE(CUMULATE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' MINUTE, INTERVAL '1' HOUR))",
        "SELECT * FROM t FOR SYSTEM_TIME AS OF t.pt",
        "SELECT * FROM t, UNNEST(m)",
        "SELECT * FROM t, LATERAL (SELECT * FROM u)",
        "SELECT 1",
        "VALUES (1)",
        "INSERT INTO files SELECT b, COUNT(*) FROM t GROUP BY b",
        "INSERT INTO files SELECT b, s FROM t",
        "INSERT INTO files SELECT b FROM t",
        "INSERT INTO files (a, x) SELECT b, b FROM t",
        "INSERT INTO files (a, a) SELECT b, b FROM t",
        "INSERT INTO narrow (a) SELECT a FROM t",
        "INSERT INTO narrow SELECT b, s FROM t",
        "INSERT INTO v SELECT a, s FROM t",
        "INSERT INTO t SELECT * FROM t",
        "SELECT INTERVAL '1 2' SECOND FROM t",
        "SELECT DATE '2020-13-01' FROM t",
        "SELECT CAST(a AS NOTYPE) FROM t",
        "SELECT CAST(r AS INT) FROM t",
        "SELECT -s FROM t",
        "SELECT a + s FROM t",
        "SELECT CASE WHEN a = 1 THEN r ELSE 1 END FROM t",
        "WITH RECURSIVE x AS (SELECT a FROM t) SELECT * FROM x",
        "SELECT COUNT(DISTINCT *) FROM t",
        "SELECT \"a\" FROM t",
        "SELECT t.* , q.* FROM t",
    ] {
        println!("{sql}\n    {}", error(sql));
    }
}
