use crate::{
    Result, Session, SessionDefaults, SqlError, StatementResult, parse_script, plan_script,
};

fn session() -> Session {
    Session::new(SessionDefaults::default()).unwrap()
}

/// Executes a script; the result of its last statement.
fn run(session: &mut Session, script: &str) -> Result<StatementResult> {
    let mut last = Err(SqlError::new("no statement"));
    for statement in parse_script(script)? {
        last = Ok(session.execute(&statement)?);
    }
    last
}

fn rows(session: &mut Session, script: &str) -> Vec<String> {
    match run(session, script).unwrap_or_else(|error| panic!("{script}: {error}")) {
        StatementResult::Rows { rows, .. } => rows
            .into_iter()
            .map(|row| {
                let cells = row.into_iter().map(Option::unwrap_or_default);
                cells.collect::<Vec<_>>().join(" | ")
            })
            .collect(),
        other => panic!("{script} gives {other:?}"),
    }
}

fn error(script: &str) -> String {
    match run(&mut session(), script) {
        Err(error) => error.to_string(),
        Ok(result) => panic!("{script} gives {result:?}"),
    }
}

/// The events of Nexmark as one table of rows, and the views over it.
const NEXMARK: &str = "CREATE TABLE events (event_type INT,
 person ROW<id BIGINT, name STRING, emailAddress STRING, creditCard STRING, city STRING, state STRING,
   `dateTime` TIMESTAMP(3), extra STRING>,
 auction ROW<id BIGINT, itemName STRING, description STRING, initialBid BIGINT, reserve BIGINT,
   `dateTime` TIMESTAMP(3), expires TIMESTAMP(3), seller BIGINT, category BIGINT, extra STRING>,
 bid ROW<auction BIGINT, bidder BIGINT, price BIGINT, channel STRING, url STRING,
   `dateTime` TIMESTAMP(3), extra STRING>,
 `dateTime` AS CASE WHEN event_type = 0 THEN person.`dateTime` WHEN event_type = 1 THEN auction.`dateTime`
   ELSE bid.`dateTime` END,
 WATERMARK FOR `dateTime` AS `dateTime` - INTERVAL '4' SECOND)
 WITH ('connector'='nexmark', 'events.num' = '100');
CREATE VIEW person AS SELECT person.id, person.name, person.emailAddress, person.creditCard, person.city, person.state, `dateTime`, person.extra FROM events WHERE event_type = 0;
CREATE VIEW auction AS SELECT auction.id, auction.itemName, auction.description, auction.initialBid, auction.reserve, `dateTime`, auction.expires, auction.seller, auction.category, auction.extra FROM events WHERE event_type = 1;
CREATE VIEW bid AS SELECT bid.auction, bid.bidder, bid.price, bid.channel, bid.url, `dateTime`, bid.extra FROM events WHERE event_type = 2;
";

/// Queries of Nexmark, as far as their syntax is concerned.
const NEXMARK_QUERIES: &[&str] = &[
    "SELECT auction, bidder, 0.908 * price, `dateTime`, extra FROM bid",
    "SELECT auction, price FROM bid WHERE MOD(auction, 123) = 0",
    "SELECT p.name, p.city, p.state, a.id FROM auction a JOIN person p ON a.seller = p.id WHERE a.category = 10 AND p.state IN ('OR', 'ID', 'CA')",
    "SELECT category, AVG(final) FROM (SELECT MAX(b.price) AS final, a.category FROM auction a, bid b WHERE a.id = b.auction AND b.`dateTime` BETWEEN a.`dateTime` AND a.expires GROUP BY a.id, a.category) GROUP BY category",
    "SELECT x.auction, x.num FROM (SELECT auction, COUNT(*) AS num, window_start AS ws, window_end AS we FROM TABLE(HOP(TABLE bid, DESCRIPTOR(`dateTime`), INTERVAL '2' SECOND, INTERVAL '10' SECOND)) GROUP BY auction, window_start, window_end) x JOIN (SELECT MAX(num) AS maxn, ws, we FROM (SELECT COUNT(*) AS num, window_start AS ws, window_end AS we FROM TABLE(HOP(TABLE bid, DESCRIPTOR(`dateTime`), INTERVAL '2' SECOND, INTERVAL '10' SECOND)) GROUP BY auction, window_start, window_end) GROUP BY ws, we) m ON x.ws = m.ws AND x.we = m.we AND x.num >= m.maxn",
    "SELECT seller, AVG(price) OVER (PARTITION BY seller ORDER BY bt ROWS BETWEEN 10 PRECEDING AND CURRENT ROW) FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY id, seller ORDER BY price DESC) AS rn FROM (SELECT a.id, a.seller, b.price, b.`dateTime` AS bt FROM auction a, bid b WHERE a.id = b.auction AND b.`dateTime` BETWEEN a.`dateTime` AND a.expires)) WHERE rn <= 1",
    "SELECT b.auction, b.price, b.bidder, b.`dateTime`, b.extra FROM bid b JOIN (SELECT MAX(price) AS mp, window_end AS we FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(`dateTime`), INTERVAL '10' SECOND)) GROUP BY window_start, window_end) m ON b.price = m.mp WHERE b.`dateTime` BETWEEN m.we - INTERVAL '10' SECOND AND m.we",
    "SELECT p.id, p.name, p.ws FROM (SELECT id, name, window_start AS ws, window_end AS we FROM TABLE(TUMBLE(TABLE person, DESCRIPTOR(`dateTime`), INTERVAL '10' SECOND)) GROUP BY id, name, window_start, window_end) p JOIN (SELECT seller, window_start AS ws, window_end AS we FROM TABLE(TUMBLE(TABLE auction, DESCRIPTOR(`dateTime`), INTERVAL '10' SECOND)) GROUP BY seller, window_start, window_end) a ON p.id = a.seller AND p.ws = a.ws AND p.we = a.we",
    "SELECT auction, bidder, price, `dateTime`, extra, DATE_FORMAT(`dateTime`, 'yyyy-MM-dd'), DATE_FORMAT(`dateTime`, 'HH:mm') FROM bid",
    "SELECT bidder, COUNT(*), SESSION_START(`dateTime`, INTERVAL '10' SECOND), SESSION_END(`dateTime`, INTERVAL '10' SECOND) FROM bid GROUP BY bidder, SESSION(`dateTime`, INTERVAL '10' SECOND)",
    "SELECT auction, CASE WHEN HOUR(`dateTime`) >= 8 AND HOUR(`dateTime`) <= 18 THEN 'dayTime' ELSE 'otherTime' END, count_char(extra, 'c') FROM bid WHERE 0.908 * price > 1000000",
    "SELECT channel, DATE_FORMAT(`dateTime`, 'yyyy-MM-dd'), MAX(DATE_FORMAT(`dateTime`, 'HH:mm')), COUNT(*) AS total_bids, COUNT(*) FILTER (WHERE price < 10000) AS rank1_bids, COUNT(DISTINCT bidder) FILTER (WHERE price >= 1000000) AS rank3_bidders FROM bid GROUP BY channel, DATE_FORMAT(`dateTime`, 'yyyy-MM-dd')",
    "SELECT auction, bidder, price, channel, url, `dateTime`, extra FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY bidder, auction ORDER BY `dateTime` DESC) AS rn FROM bid) WHERE rn <= 1",
    "SELECT auction, bidder, price, channel, CASE WHEN LOWER(channel) = 'apple' THEN '0' ELSE REGEXP_EXTRACT(url, '(&|^)channel_id=([^&]*)', 2) END FROM bid WHERE REGEXP_EXTRACT(url, '(&|^)channel_id=([^&]*)', 2) IS NOT NULL OR LOWER(channel) IN ('apple', 'google', 'facebook', 'baidu')",
    "SELECT auction, bidder, price, channel, SPLIT_INDEX(url, '/', 3) FROM bid",
];

#[test]
fn nexmark_parses_and_its_tables_are_made() {
    for query in NEXMARK_QUERIES {
        parse_script(query).unwrap_or_else(|error| panic!("{query}\n{error}"));
    }
    let mut session = session();
    run(&mut session, NEXMARK).unwrap();
    assert_eq!(
        rows(&mut session, "SHOW TABLES"),
        ["auction", "bid", "events", "person"]
    );
    assert_eq!(rows(&mut session, "SHOW VIEWS LIKE '%d'"), ["bid"]);
    assert_eq!(
        rows(&mut session, "DESCRIBE bid")[5],
        "dateTime | TIMESTAMP(3) *ROWTIME* | TRUE |  |  | "
    );
}

const ORDERS: &str = "CREATE TEMPORARY TABLE orders (
  id BIGINT COMMENT 'the number',
  price DECIMAL(10, 2),
  cents AS CAST(price * 100 AS BIGINT),
  ts TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL,
  `offset` BIGINT METADATA,
  tags MAP<STRING, ARRAY<STRING>> NOT NULL,
  pt AS PROCTIME(),
  WATERMARK FOR ts AS ts - INTERVAL '5' SECOND,
  PRIMARY KEY (id) NOT ENFORCED
) COMMENT 'it''s' PARTITIONED BY (id) WITH ('connector' = 'kafka', 'properties.sasl.password' = 'x')";

#[test]
fn show_create_table_makes_the_table_again() {
    let mut first = session();
    run(&mut first, ORDERS).unwrap();
    let text = rows(&mut first, "SHOW CREATE TABLE orders");
    assert!(
        text[0].contains("'properties.sasl.password' = '******'"),
        "{}",
        text[0]
    );
    let mut second = session();
    run(&mut second, &text[0]).unwrap();
    assert_eq!(rows(&mut second, "SHOW CREATE TABLE orders"), text);
    assert_eq!(
        rows(&mut first, "DESC orders"),
        rows(&mut second, "DESC orders")
    );
}

#[test]
fn describe_shows_types_keys_and_time() {
    let mut session = session();
    run(&mut session, ORDERS).unwrap();
    assert_eq!(
        rows(
            &mut session,
            "DESCRIBE default_catalog.default_database.orders"
        ),
        [
            "id | BIGINT | FALSE | PRI(id) |  |  | the number",
            "price | DECIMAL(10, 2) | TRUE |  |  |  | ",
            "cents | BIGINT | TRUE |  | AS CAST(price * 100 AS BIGINT) |  | ",
            "ts | TIMESTAMP_LTZ(3) *ROWTIME* | TRUE |  | METADATA FROM 'timestamp' VIRTUAL | ts - INTERVAL '5' SECOND | ",
            "offset | BIGINT | TRUE |  | METADATA |  | ",
            "tags | MAP<STRING, ARRAY<STRING>> | FALSE |  |  |  | ",
            "pt | TIMESTAMP_LTZ(3) *PROCTIME* | FALSE |  | AS PROCTIME() |  | ",
        ]
    );
}

#[test]
fn tables_are_checked_when_they_are_made() {
    for (text, message) in [
        (
            "CREATE TABLE t (a INT,\n a STRING) WITH ('connector' = 'x')",
            "line 2, column 2: the column 'a' is there twice",
        ),
        (
            "CREATE TABLE t (a INT)",
            "line 1, column 14: the table 't' has no option 'connector'; write WITH ('connector' = '...')",
        ),
        (
            "CREATE TABLE t WITH ('connector' = 'x')",
            "line 1, column 14: the table 't' has no columns",
        ),
        (
            "CREATE TABLE t (price INT, PRIMARY KEY (prise) NOT ENFORCED) WITH ('connector' = 'x')",
            "line 1, column 41: unknown column 'prise'; did you mean 'price'?",
        ),
        (
            "CREATE TABLE t (a INT, b AS a, PRIMARY KEY (b) NOT ENFORCED) WITH ('connector' = 'x')",
            "line 1, column 45: 'b' cannot be in the PRIMARY KEY: only physical columns can",
        ),
        (
            "CREATE TABLE t (a INT, PRIMARY KEY (a, a) NOT ENFORCED) WITH ('connector' = 'x')",
            "line 1, column 40: 'a' is in the PRIMARY KEY twice",
        ),
        (
            "CREATE TABLE t (ts TIMESTAMP(3), WATERMARK FOR tz AS ts) WITH ('connector' = 'x')",
            "line 1, column 48: unknown column 'tz'; did you mean 'ts'?",
        ),
        (
            "CREATE TABLE t (ts TIMESTAMP, WATERMARK FOR ts AS ts) WITH ('connector' = 'x')",
            "line 1, column 45: the watermark's column 'ts' is of type TIMESTAMP(6); it is to be TIMESTAMP(p) or TIMESTAMP_LTZ(p) with p from 0 to 3",
        ),
        (
            "CREATE TABLE t (ts STRING, WATERMARK FOR ts AS ts) WITH ('connector' = 'x')",
            "line 1, column 42: the watermark's column 'ts' is of type STRING; it is to be TIMESTAMP(p) or TIMESTAMP_LTZ(p) with p from 0 to 3",
        ),
        (
            "CREATE TABLE t (a INT) PARTITIONED BY (b) WITH ('connector' = 'x')",
            "line 1, column 40: unknown column 'b'; did you mean 'a'?",
        ),
        (
            "CREATE TABLE hive.d.t (a INT) WITH ('connector' = 'x')",
            "line 1, column 14: unknown catalog 'hive'",
        ),
    ] {
        assert_eq!(error(text), message, "{text}");
    }
}

#[test]
fn names_are_taken_once_and_dropped_by_what_they_are() {
    let make = "CREATE TABLE t (a INT) WITH ('connector' = 'datagen');\nCREATE TEMPORARY VIEW v AS SELECT a FROM t;\n";
    for (more, message) in [
        (
            "CREATE TABLE t (b INT) WITH ('connector' = 'x')",
            "line 3, column 14: a table 't' exists already",
        ),
        (
            "CREATE TEMPORARY VIEW v AS SELECT 1",
            "line 3, column 23: a temporary view 'v' exists already",
        ),
        (
            "DROP VIEW t",
            "line 3, column 11: 't' is a table; write DROP TABLE t",
        ),
        (
            "DROP TABLE IF EXISTS v",
            "line 3, column 22: 'v' is a temporary view; write DROP TEMPORARY VIEW v",
        ),
        (
            "DROP TABLE u",
            "line 3, column 12: unknown table 'u'; did you mean 't'?",
        ),
        (
            "DESCRIBE T",
            "line 3, column 10: unknown table 'T'; did you mean 't'?",
        ),
        (
            "SHOW CREATE VIEW t",
            "line 3, column 18: 't' is a table; write SHOW CREATE TABLE t",
        ),
    ] {
        assert_eq!(error(&format!("{make}{more}")), message, "{more}");
    }
    let mut session = session();
    run(&mut session, make).unwrap();
    run(&mut session, "CREATE TABLE IF NOT EXISTS t (b INT) WITH ('connector' = 'y'); DROP TABLE IF EXISTS nothing").unwrap();
    assert_eq!(
        rows(&mut session, "SHOW COLUMNS FROM t"),
        ["a | INT | TRUE |  |  | "]
    );
    run(&mut session, "DROP TEMPORARY VIEW v; DROP TABLE t").unwrap();
    assert!(rows(&mut session, "SHOW TABLES").is_empty());
}

#[test]
fn a_statement_that_fails_changes_nothing() {
    let mut session = session();
    let script = "SET 'pipeline.name' = 'x'; SET 'pipeline.nam' = 'y'";
    let message = run(&mut session, script).unwrap_err().to_string();
    assert_eq!(
        message,
        "line 1, column 32: unknown option 'pipeline.nam'; did you mean 'pipeline.name'?"
    );
    assert_eq!(rows(&mut session, "SET"), ["pipeline.name | x"]);
    run(&mut session, "RESET 'pipeline.name'").unwrap();
    assert!(rows(&mut session, "SET").is_empty());
}

#[test]
fn like_copies_by_its_rules() {
    let mut session = session();
    run(&mut session, ORDERS).unwrap();
    let script = "CREATE TABLE copy (more INT) WITH ('connector' = 'print', 'properties.sasl.password' = 'y') \
        LIKE orders (EXCLUDING METADATA EXCLUDING WATERMARKS EXCLUDING PARTITIONS); SHOW COLUMNS FROM copy NOT LIKE 'more'";
    let names: Vec<String> = rows(&mut session, script)
        .iter()
        .map(|row| row.split(" | ").take(4).collect::<Vec<_>>().join(" "))
        .collect();
    assert_eq!(
        names,
        [
            "id BIGINT FALSE PRI(id)",
            "price DECIMAL(10, 2) TRUE ",
            "cents BIGINT TRUE ",
            "tags MAP<STRING, ARRAY<STRING>> FALSE ",
            "pt TIMESTAMP_LTZ(3) *PROCTIME* FALSE ",
        ]
    );
    let text = rows(&mut session, "SHOW CREATE TABLE copy");
    assert!(text[0].contains("'connector' = 'print'"), "{}", text[0]);
    let clash = run(
        &mut session,
        "CREATE TABLE c2 (x INT PRIMARY KEY NOT ENFORCED) LIKE orders",
    )
    .unwrap_err();
    assert_eq!(
        clash.to_string(),
        "line 1, column 14: both tables of LIKE have a PRIMARY KEY; write LIKE t (EXCLUDING CONSTRAINTS)"
    );
}

#[test]
fn functions_are_listed() {
    let mut session = session();
    let names = rows(&mut session, "SHOW FUNCTIONS");
    assert!(
        names.contains(&"count".to_owned()) && names.is_sorted(),
        "{names:?}"
    );
    assert!(rows(&mut session, "SHOW USER FUNCTIONS").is_empty());
}

#[test]
fn there_is_one_catalog_at_first() {
    let mut session = session();
    run(
        &mut session,
        "USE CATALOG default_catalog; USE default_database; USE default_catalog.default_database",
    )
    .unwrap();
    assert_eq!(rows(&mut session, "SHOW CATALOGS"), ["default_catalog"]);
    assert_eq!(
        rows(&mut session, "SHOW CURRENT DATABASE"),
        ["default_database"]
    );
    assert_eq!(
        error("USE CATALOG default_catalogue"),
        "line 1, column 13: unknown catalog 'default_catalogue'; did you mean 'default_catalog'?"
    );
}

#[test]
fn scripts_for_a_cluster_have_inserts_only() {
    let defaults = SessionDefaults::default();
    let message = |script: &str| {
        plan_script(script, defaults.clone())
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        message("SET 'pipeline.name' = 'x';\nSELECT 1"),
        "line 2, column 1: a bare query gives its rows to nobody here; write INSERT INTO a table, or run it with `weir sql`"
    );
    assert_eq!(
        message("SHOW TABLES"),
        "the script has no INSERT and no STATEMENT SET"
    );
}

/// Code blocks of docs/sql.md behind this fence.
fn documented(fence: &str) -> Vec<&'static str> {
    include_str!("../../docs/sql.md")
        .split(&format!("```{fence}\n"))
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .collect()
}

#[test]
fn what_the_documentation_shows_works() {
    for block in documented("sql") {
        run(&mut session(), block).unwrap_or_else(|error| panic!("{block}\n{error}"));
    }
}

#[test]
fn what_the_documentation_calls_missing_is_refused_by_name() {
    let tables = "CREATE TABLE bid (auction BIGINT, price BIGINT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts) WITH ('connector' = 'datagen');\n\
        CREATE TABLE sink (auction BIGINT, price BIGINT, ts TIMESTAMP(3)) WITH ('connector' = 'blackhole');\n";
    for block in documented("sql refused") {
        for statement in block.lines() {
            let message = error(&format!("{tables}{statement}"));
            assert!(
                message.contains("not supported yet") || message.contains("in streaming mode"),
                "{statement}\n{message}"
            );
        }
    }
}

#[test]
fn catalogs_and_databases_hold_tables_of_their_own() {
    let mut session = session();
    run(
        &mut session,
        "CREATE CATALOG c WITH ('type' = 'generic_in_memory', 'default-database' = 'd');
         CREATE TABLE c.d.t (x INT) WITH ('connector' = 'datagen');
         CREATE DATABASE c.e; USE CATALOG c;
         CREATE VIEW e.v AS SELECT x FROM t; USE default_catalog.default_database;",
    )
    .unwrap();
    assert_eq!(rows(&mut session, "SHOW TABLES FROM c.d"), ["t"]);
    assert_eq!(rows(&mut session, "SHOW DATABASES IN c"), ["d", "e"]);
    // The names of a view are those of where it was made.
    run(&mut session, "EXPLAIN SELECT c.e.v.x, x FROM c.e.v").unwrap();
    assert_eq!(
        run(&mut session, "SELECT x FROM t")
            .unwrap_err()
            .to_string(),
        "line 1, column 15: unknown table 't'"
    );
    for (statement, message) in [
        ("USE CATALOG d", "unknown catalog 'd'"),
        ("USE c.f", "unknown database 'f'"),
        (
            "DROP DATABASE c.d",
            "the database 'c.d' is not empty; write DROP DATABASE ... CASCADE",
        ),
        (
            "DROP CATALOG default_catalog",
            "the catalog 'default_catalog' is in use",
        ),
        (
            "CREATE CATALOG c WITH ('type' = 'generic_in_memory')",
            "a catalog 'c' exists already",
        ),
        (
            "CREATE CATALOG e WITH ('type' = 'hive')",
            "a catalog of the type 'hive' is not supported yet",
        ),
        (
            "CREATE CATALOG e WITH ('type' = 'generic_in_memry')",
            "did you mean 'generic_in_memory'?",
        ),
        ("CREATE CATALOG e", "has no option 'type'"),
        ("SELECT * FROM c.d.u", "unknown table 'u'"),
        ("SELECT * FROM c.g.t", "unknown database 'g'"),
    ] {
        let error = run(&mut session, statement).unwrap_err().to_string();
        assert!(error.contains(message), "{statement}: {error}");
    }
    run(
        &mut session,
        "DROP DATABASE c.d CASCADE; DROP CATALOG c; DROP CATALOG IF EXISTS c",
    )
    .unwrap();
    assert_eq!(rows(&mut session, "SHOW CATALOGS"), ["default_catalog"]);
}

#[test]
fn a_temporary_table_hides_another_one() {
    let mut session = session();
    run(
        &mut session,
        "CREATE TABLE t (a INT) WITH ('connector' = 'datagen');
         CREATE TEMPORARY TABLE t (z INT) WITH ('connector' = 'datagen');",
    )
    .unwrap();
    assert_eq!(
        rows(&mut session, "DESCRIBE t"),
        ["z | INT | TRUE |  |  | "]
    );
    let error = run(&mut session, "DROP TABLE t").unwrap_err().to_string();
    assert!(
        error.contains("'t' is a temporary table; write DROP TEMPORARY TABLE t"),
        "{error}"
    );
    run(&mut session, "DROP TEMPORARY TABLE t").unwrap();
    assert_eq!(
        rows(&mut session, "DESCRIBE t"),
        ["a | INT | TRUE |  |  | "]
    );
}

#[test]
fn a_table_is_altered() {
    let mut session = session();
    run(
        &mut session,
        "CREATE TABLE t (a INT NOT NULL COMMENT 'the a', b STRING, ts TIMESTAMP(3), c AS a + 1, CONSTRAINT pk PRIMARY KEY (a) NOT ENFORCED,
           WATERMARK FOR ts AS ts - INTERVAL '1' SECOND) COMMENT 'tbl' WITH ('connector' = 'datagen');
         ALTER TABLE t RENAME b TO bb; ALTER TABLE t ADD d BIGINT AFTER a; ALTER TABLE t ADD (e INT FIRST, f AS a + 2);
         ALTER TABLE t MODIFY bb BIGINT COMMENT 'n' FIRST; ALTER TABLE t DROP c; ALTER TABLE t DROP (f, e);
         ALTER TABLE t DROP CONSTRAINT pk; ALTER TABLE t ADD PRIMARY KEY (a) NOT ENFORCED;
         ALTER TABLE t DROP WATERMARK; ALTER TABLE t ADD WATERMARK FOR ts AS ts;
         ALTER TABLE t MODIFY WATERMARK FOR ts AS ts - INTERVAL '2' SECOND;
         ALTER TABLE t SET ('rows-per-second' = '1'); ALTER TABLE t RESET ('rows-per-second')",
    )
    .unwrap();
    // What Flink shows after the same statements, but for the spelling of types.
    let shown = "CREATE TABLE `default_catalog`.`default_database`.`t` (\n  `bb` BIGINT COMMENT 'n',\n  `a` INT NOT NULL COMMENT 'the a',\n  \
        `d` BIGINT,\n  `ts` TIMESTAMP(3),\n  WATERMARK FOR `ts` AS ts - INTERVAL '2' SECOND,\n  CONSTRAINT `PK_a` PRIMARY KEY (`a`) NOT ENFORCED\n)\n\
        COMMENT 'tbl'\nWITH (\n  'connector' = 'datagen'\n)\n";
    assert_eq!(rows(&mut session, "SHOW CREATE TABLE t"), [shown]);
    for (statement, message) in [
        (
            "ALTER TABLE t DROP ts",
            "line 1, column 20: the column 'ts' is used by the watermark",
        ),
        (
            "ALTER TABLE t DROP a",
            "the column 'a' is used by the PRIMARY KEY",
        ),
        (
            "ALTER TABLE t DROP dd",
            "unknown column 'dd'; did you mean 'd'?",
        ),
        (
            "ALTER TABLE t ADD a INT",
            "line 1, column 19: the column 'a' is there already",
        ),
        ("ALTER TABLE t MODIFY x INT", "unknown column 'x'"),
        (
            "ALTER TABLE t RENAME ts TO t2",
            "the column 'ts' is used by the watermark",
        ),
        (
            "ALTER TABLE t RESET ('connector')",
            "line 1, column 22: the option 'connector' cannot be reset",
        ),
        (
            "ALTER TABLE t ADD WATERMARK FOR ts AS ts",
            "has a watermark already; write ALTER TABLE ... MODIFY",
        ),
        ("ALTER TABLE t ADD c AS nope + 1", "nope"),
        (
            "ALTER TABLE t DROP CONSTRAINT pk",
            "line 1, column 31: unknown constraint 'pk'",
        ),
        (
            "ALTER TABLE tt RENAME TO u",
            "unknown table 'tt'; did you mean 't'?",
        ),
        (
            "ALTER TABLE t ADD PARTITION (a = 1)",
            "ALTER TABLE ... ADD PARTITION is not supported yet",
        ),
    ] {
        let error = run(&mut session, statement).unwrap_err().to_string();
        assert!(error.contains(message), "{statement}: {error}");
    }
    run(&mut session, "CREATE VIEW v AS SELECT a FROM t; ALTER TABLE IF EXISTS nope RENAME TO x; ALTER TABLE t RENAME TO u; ALTER VIEW v AS SELECT d FROM u; ALTER VIEW v RENAME TO w").unwrap();
    assert_eq!(rows(&mut session, "SHOW TABLES"), ["u", "w"]);
    assert_eq!(
        rows(&mut session, "DESCRIBE w"),
        ["d | BIGINT | TRUE |  |  | "]
    );
}

#[test]
fn a_table_is_made_of_a_query() {
    let mut session = session();
    let shown = |session: &mut Session| -> Vec<String> {
        let columns = rows(session, "SHOW COLUMNS FROM c");
        let first = |row: &String| row.split(" |").next().unwrap_or_default().to_owned();
        columns.iter().map(first).collect()
    };
    let with = "WITH ('connector' = 'blackhole') AS SELECT a, b FROM (VALUES (1, 'x')) AS t (a, b)";
    let result = run(&mut session, &format!("CREATE TABLE c {with}")).unwrap();
    assert!(matches!(result, StatementResult::Job(_)));
    assert_eq!(shown(&mut session), ["a", "b"]);
    run(
        &mut session,
        &format!("CREATE OR REPLACE TABLE c (b, a) {with}"),
    )
    .unwrap();
    assert_eq!(shown(&mut session), ["b", "a"]);
    run(
        &mut session,
        &format!("REPLACE TABLE c (x BIGINT, PRIMARY KEY (a) NOT ENFORCED) {with}"),
    )
    .unwrap();
    assert_eq!(shown(&mut session), ["x", "a", "b"]);
    for (statement, message) in [
        (
            format!("CREATE TABLE c {with}"),
            "a table 'c' exists already",
        ),
        (
            format!("REPLACE TABLE d {with}"),
            "there is no table 'default_catalog.default_database.d' to replace",
        ),
        (
            format!("CREATE TABLE d (b, aa) {with}"),
            "unknown column of the query 'aa'; did you mean 'a'?",
        ),
        (
            "CREATE OR REPLACE TABLE d (a INT) WITH ('connector' = 'blackhole')".to_owned(),
            "expected AS and a query",
        ),
    ] {
        let error = run(&mut session, &statement).unwrap_err().to_string();
        assert!(error.contains(message), "{statement}: {error}");
    }
}

#[test]
fn each_of_flinks_statements_works_or_is_refused_by_name() {
    for form in crate::statements::FORMS {
        let mut session = session();
        run(
            &mut session,
            "CREATE TABLE t (a INT NOT NULL, b STRING, ts TIMESTAMP(3)) WITH ('connector' = 'datagen');
             CREATE TABLE s (a INT NOT NULL, b STRING, ts TIMESTAMP(3)) WITH ('connector' = 'blackhole');
             CREATE TABLE p (a INT, b STRING) PARTITIONED BY (b) WITH ('connector' = 'filesystem', 'path' = '/tmp/p', 'format' = 'csv');
             CREATE VIEW v AS SELECT a FROM t;",
        )
        .unwrap();
        match (run(&mut session, form.example), form.refused) {
            (Ok(_), None) => {}
            (Ok(_), Some(_)) => panic!("{} works", form.example),
            (Err(error), None) => panic!("{}: {error}", form.example),
            (Err(error), Some(message)) => {
                // By name: the words that the statement begins with, or those of the form.
                let text = error.to_string();
                let first = form.example.split(' ').next().unwrap_or_default();
                assert!(
                    text.contains(message) && text.contains(first),
                    "{}: {text}",
                    form.example
                );
            }
        }
    }
}

#[test]
fn the_documentation_has_the_table_of_statements() {
    let table = crate::statements::markdown();
    assert!(
        include_str!("../../docs/sql.md").contains(&table),
        "docs/sql.md is to have:\n{table}"
    );
}
