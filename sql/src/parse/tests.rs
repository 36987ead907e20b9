use sqlparser::ast::{Expr, SelectItem, SetExpr, Spanned as _, TableFactor, visit_expressions};
use weir_proto::v1::WindowKind;

use super::types::{cast_type, parse_type_text};
use super::{is_complete, parse_script};
use crate::statement::{Spanned, Statement};
use crate::tvf::{TvfInput, WindowTvf, window_tvf};

fn parse(text: &str) -> Result<Vec<Spanned>, String> {
    parse_script(text).map_err(|error| error.to_string())
}

fn one(text: &str) -> Statement {
    let mut statements = parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    assert_eq!(statements.len(), 1, "{text}");
    statements.remove(0).statement
}

fn error(text: &str) -> String {
    match parse(text) {
        Ok(_) => panic!("{text} is taken"),
        Err(error) => error,
    }
}

/// What is read without complaint, whether it has a plan or not.
const TAKEN: &[&str] = &[
    "SELECT 1",
    "(SELECT 1) UNION ALL (SELECT 2)",
    "VALUES (1, 'a'), (2, 'b')",
    "WITH x AS (SELECT a FROM t) SELECT * FROM x",
    "SELECT DISTINCT a, b AS c, t.* FROM t WHERE a > 1 AND NOT (b <> 2 OR c IS NULL) ORDER BY a DESC LIMIT 10",
    "SELECT a FROM t UNION SELECT b FROM u EXCEPT SELECT c FROM v INTERSECT SELECT d FROM w",
    "SELECT a.b.c, a.b['k'], a.b[1].c FROM t",
    "SELECT `select`, `a``b` FROM `from`",
    "SELECT person.`dateTime`, auction.id FROM events",
    "SELECT COUNT(*) FILTER (WHERE price < 10), COUNT(DISTINCT a) FILTER (WHERE b) FROM t GROUP BY c HAVING COUNT(*) > 1",
    "SELECT a, SUM(b) FROM t GROUP BY GROUPING SETS ((a), ())",
    "SELECT a, SUM(b) FROM t GROUP BY CUBE (a, b), ROLLUP (c)",
    "SELECT CASE WHEN a = 1 THEN 'x' WHEN a = 2 THEN 'y' ELSE NULL END, CASE a WHEN 1 THEN 2 END FROM t",
    "SELECT CAST(a AS ROW<x INT, y ARRAY<STRING>>), CAST(b AS MAP<STRING, ARRAY<INT>>) FROM t",
    "SELECT TRY_CAST(a AS DECIMAL(10, 2)), CAST(b AS TIMESTAMP(3)), CAST(c AS TIMESTAMP_LTZ(3)), CAST(d AS STRING) FROM t",
    "SELECT TIMESTAMPDIFF(DAY, a, b), TIMESTAMPADD(HOUR, 1, a), EXTRACT(YEAR FROM a), FLOOR(a TO HOUR), CEIL(a TO DAY) FROM t",
    "SELECT FLOOR(a), CEIL(b), POSITION('a' IN b), TRIM(BOTH ' ' FROM a), SUBSTRING(a FROM 2 FOR 3), OVERLAY(a PLACING 'x' FROM 1) FROM t",
    "SELECT ARRAY[1, 2], MAP['a', 1, 'b', 2], ROW(1, 'a') FROM t",
    "SELECT DATE '2020-01-01', TIME '10:00:00', TIMESTAMP '2020-01-01 10:00:00.123', INTERVAL '10' SECOND, INTERVAL '1 10:00' DAY TO MINUTE",
    "SELECT CURRENT_TIMESTAMP, LOCALTIMESTAMP, CURRENT_DATE, NOW(), PROCTIME()",
    "SELECT a || b, a LIKE 'x%' ESCAPE '\\', a NOT LIKE 'b', a BETWEEN 1 AND 2, a IN (1, 2), a IS DISTINCT FROM b, a SIMILAR TO 'x' FROM t",
    "SELECT a % 2, -a, +b, a <> b, a != c FROM t -- comment\n /* another */",
    "SELECT EXISTS (SELECT 1 FROM u), a IN (SELECT b FROM u) FROM t",
    "SELECT ROW_NUMBER() OVER (PARTITION BY a ORDER BY b DESC) AS rn, SUM(x) OVER w FROM t WINDOW w AS (PARTITION BY a ORDER BY ts RANGE BETWEEN INTERVAL '1' HOUR PRECEDING AND CURRENT ROW)",
    "SELECT * FROM a JOIN b ON a.x = b.x LEFT JOIN c USING (x) CROSS JOIN d, e",
    "SELECT * FROM a FULL OUTER JOIN b ON a.x = b.x RIGHT JOIN c ON b.y = c.y",
    "SELECT * FROM t CROSS JOIN UNNEST(tags) AS u (tag)",
    "SELECT * FROM t, LATERAL TABLE(f(a)) AS u (x)",
    "SELECT * FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '2' SECOND))",
    "SELECT * FROM (SELECT a FROM (SELECT a FROM t) GROUP BY a)",
    "SELECT MAX(x) AS final FROM t",
    "INSERT INTO t SELECT * FROM u",
    "INSERT INTO default_catalog.default_database.t (a, `b`) SELECT a, b FROM u",
    "INSERT INTO t VALUES (1, 'a', TRUE, NULL), (2, 'b', FALSE, X'00ff')",
    "INSERT INTO t (SELECT a FROM u)",
    "INSERT INTO t WITH x AS (SELECT 1) SELECT * FROM x",
    "EXECUTE INSERT INTO t SELECT 1",
    "EXECUTE STATEMENT SET BEGIN INSERT INTO a SELECT 1; INSERT INTO b SELECT 2; END",
    "BEGIN STATEMENT SET; INSERT INTO a SELECT 1; INSERT INTO b SELECT 2; END;",
    "CREATE TABLE t (a INT) WITH ('connector' = 'print')",
    "create temporary table if not exists c.d.t (a int) with ('a.b' = 'it''s')",
    "CREATE TABLE t (a INT, `b` AS a + 1, p AS PROCTIME()) WITH ('connector' = 'x')",
    "CREATE TABLE t (a INT METADATA, b STRING METADATA FROM 'key' VIRTUAL, c BIGINT METADATA VIRTUAL COMMENT 'c')",
    "CREATE TABLE t (ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '5' SECOND)",
    "CREATE TABLE t (a INT PRIMARY KEY NOT ENFORCED, b STRING NOT NULL COMMENT 'b')",
    "CREATE TABLE t (a INT, b INT, CONSTRAINT pk PRIMARY KEY (a, b) NOT ENFORCED) COMMENT 'x' PARTITIONED BY (a) WITH ('k' = 'v')",
    "CREATE TABLE t LIKE u",
    "CREATE TABLE t (x AS a + 1) WITH ('k' = 'v') LIKE u (EXCLUDING ALL INCLUDING GENERATED OVERWRITING OPTIONS)",
    "CREATE TABLE t (watermark INT, primary_key INT, `watermark for` INT)",
    "CREATE VIEW v AS SELECT 1",
    "CREATE TEMPORARY VIEW IF NOT EXISTS v (a, b) COMMENT 'c' AS SELECT 1, 2",
    "DROP TABLE t",
    "DROP TEMPORARY TABLE IF EXISTS t",
    "DROP VIEW v",
    "DROP TEMPORARY VIEW IF EXISTS v",
    "SHOW TABLES",
    "SHOW TABLES FROM default_database NOT LIKE 'a%'",
    "SHOW VIEWS",
    "SHOW CREATE TABLE t",
    "SHOW CREATE VIEW v",
    "SHOW COLUMNS IN t LIKE 'a%'",
    "SHOW FUNCTIONS",
    "SHOW USER FUNCTIONS",
    "SHOW CATALOGS",
    "SHOW DATABASES",
    "ALTER TABLE IF EXISTS c.d.t RENAME TO u",
    "ALTER TABLE t RENAME a TO b",
    "ALTER TABLE t SET ('a' = 'b', 'c' = 'd')",
    "ALTER TABLE t RESET ('a', 'b')",
    "ALTER TABLE t ADD a INT COMMENT 'x' FIRST",
    "ALTER TABLE t ADD (a INT NOT NULL AFTER b, `c` AS a + 1, m INT METADATA FROM 'k' VIRTUAL, PRIMARY KEY (a) NOT ENFORCED, WATERMARK FOR ts AS ts)",
    "ALTER TABLE t MODIFY (a BIGINT AFTER b, CONSTRAINT k PRIMARY KEY (a) NOT ENFORCED)",
    "ALTER TABLE t MODIFY WATERMARK FOR ts AS ts - INTERVAL '1' SECOND",
    "ALTER TABLE t DROP a",
    "ALTER TABLE t DROP (a, b)",
    "ALTER TABLE t DROP PRIMARY KEY",
    "ALTER TABLE t DROP CONSTRAINT k",
    "ALTER TABLE t DROP WATERMARK",
    "ALTER VIEW v RENAME TO w",
    "ALTER VIEW v AS SELECT 1",
    "ALTER DATABASE c.d SET ('a' = 'b')",
    "CREATE CATALOG IF NOT EXISTS c COMMENT 'x' WITH ('type' = 'generic_in_memory')",
    "CREATE DATABASE IF NOT EXISTS c.d COMMENT 'x' WITH ('a' = 'b')",
    "DROP CATALOG IF EXISTS c",
    "DROP DATABASE IF EXISTS c.d CASCADE",
    "DROP DATABASE d RESTRICT",
    "CREATE TABLE t WITH ('a' = 'b') AS SELECT 1 AS a",
    "CREATE TABLE IF NOT EXISTS t (b, a) WITH ('a' = 'b') AS SELECT 1 AS a, 2 AS b",
    "CREATE TABLE t (x INT, PRIMARY KEY (a) NOT ENFORCED) WITH ('a' = 'b') AS SELECT 1 AS a",
    "CREATE OR REPLACE TABLE t WITH ('a' = 'b') AS SELECT 1 AS a",
    "REPLACE TABLE t WITH ('a' = 'b') AS SELECT 1 AS a",
    "SHOW TABLES FROM c.d NOT ILIKE 'x%'",
    "SHOW DATABASES IN c LIKE 'x'",
    "SHOW CATALOGS LIKE 'x'",
    "SHOW FUNCTIONS LIKE 'x'",
    "SHOW PARTITIONS t",
    "SHOW CREATE CATALOG c",
    "SHOW FULL MODULES",
    "SHOW JARS",
    "DESCRIBE CATALOG EXTENDED c",
    "EXPLAIN JSON_EXECUTION_PLAN, CHANGELOG_MODE SELECT 1",
    "USE c.d",
    "SHOW CURRENT CATALOG",
    "SHOW CURRENT DATABASE",
    "DESCRIBE t",
    "DESC default_database.t",
    "EXPLAIN SELECT 1",
    "EXPLAIN PLAN FOR INSERT INTO t SELECT 1",
    "EXPLAIN CHANGELOG_MODE SELECT 1",
    "EXPLAIN STATEMENT SET BEGIN INSERT INTO t SELECT 1; END",
    "SET",
    "SET 'parallelism.default' = '2'",
    "RESET",
    "RESET 'parallelism.default'",
    "USE CATALOG default_catalog",
    "USE default_database",
    "USE default_catalog.default_database",
];

#[test]
fn takes_flinks_statements() {
    for text in TAKEN {
        if let Err(error) = parse(text) {
            panic!("{text}\n{error}");
        }
    }
}

/// Flink's, but not built: the name that the error has to have.
const REFUSED: &[(&str, &str)] = &[
    (
        "CREATE FUNCTION f AS 'x.Y' LANGUAGE JAVA USING JAR 'a.jar'",
        "CREATE FUNCTION",
    ),
    (
        "CREATE TEMPORARY SYSTEM FUNCTION f AS 'x.Y'",
        "CREATE FUNCTION",
    ),
    (
        "CREATE MATERIALIZED TABLE t AS SELECT 1",
        "CREATE MATERIALIZED TABLE",
    ),
    (
        "CREATE TABLE t (a TIMESTAMP(3) WITH TIME ZONE)",
        "TIMESTAMP WITH TIME ZONE",
    ),
    ("CREATE TABLE t (a RAW('x', 'y'))", "the type RAW"),
    ("CREATE TABLE t (a INT, UNIQUE (a))", "UNIQUE"),
    (
        "CREATE TABLE t (a INT) DISTRIBUTED BY (a) INTO 3 BUCKETS",
        "DISTRIBUTED BY",
    ),
    (
        "CREATE TABLE t (a ROW<b TIMESTAMP(3)>, WATERMARK FOR a.b AS a.b)",
        "a watermark on a field of a ROW",
    ),
    ("CALL p(1)", "CALL"),
    ("UPDATE t SET a = 1", "UPDATE"),
    ("DELETE FROM t", "DELETE"),
    ("TRUNCATE TABLE t", "TRUNCATE TABLE"),
    (
        "MERGE INTO t USING u ON a = b WHEN MATCHED THEN DELETE",
        "MERGE INTO",
    ),
    ("ADD JAR 'x.jar'", "ADD JAR"),
    ("REMOVE JAR 'x.jar'", "REMOVE JAR"),
    (
        "STOP JOB 'x' WITH SAVEPOINT WITH DRAIN",
        "STOP JOB ... WITH DRAIN",
    ),
    ("LOAD MODULE hive", "LOAD MODULE"),
    ("ANALYZE TABLE t COMPUTE STATISTICS", "ANALYZE TABLE"),
    ("INSERT OVERWRITE t SELECT 1", "INSERT OVERWRITE"),
    (
        "EXPLAIN ESTIMATED_COST, CHANGELOG_MODE SELECT 1",
        "EXPLAIN ESTIMATED_COST",
    ),
    (
        "COMPILE PLAN 'x' FOR INSERT INTO t SELECT 1",
        "COMPILE PLAN",
    ),
    ("DROP FUNCTION f", "DROP FUNCTION"),
    (
        "WITH RECURSIVE x AS (SELECT 1) SELECT * FROM x",
        "WITH RECURSIVE",
    ),
    (
        "SELECT * FROM o JOIN r FOR SYSTEM_TIME AS OF o.ts AS r ON o.a = r.a",
        "FOR SYSTEM_TIME AS OF",
    ),
    ("SELECT * FROM t TABLESAMPLE BERNOULLI (10)", "TABLESAMPLE"),
];

#[test]
fn refuses_by_name_what_is_not_built() {
    for (text, name) in REFUSED {
        let message = error(text);
        assert!(
            message.contains(name)
                && (message.contains("is not supported yet")
                    || message.contains("is not supported in streaming mode")),
            "{text}\n{message}"
        );
    }
}

#[test]
fn refuses_what_other_databases_have() {
    for text in [
        "SELECT a::INT FROM t",
        "SELECT 'a' 'b' FROM t",
        "SELECT a AS 'b' FROM t",
        "SELECT * FROM t FOR UPDATE",
        "SELECT TOP 3 a FROM t",
        "SELECT * FROM t WHERE a == 1",
        "SELECT * INTO u FROM t",
        "SELECT * EXCEPT (a) FROM t",
        "SELECT DISTINCT ON (a) b FROM t",
        "SELECT * FROM t WHERE a = ?",
        "SELECT \"a\" FROM t",
    ] {
        error(text);
    }
}

#[test]
fn errors_have_the_place_in_the_script() {
    for (text, message) in [
        (
            "SELECT 1;\nSELECT a FROM t WHERE;\n",
            "line 2, column 22: syntax error: expected an expression, found ';'",
        ),
        (
            "SELECT 1;\n  SELEKT 2;",
            "line 2, column 3: syntax error: no statement begins with 'SELEKT'; did you mean 'SELECT'?",
        ),
        (
            "SELECT * FROM (SELECT a, FROM t) x",
            "line 1, column 31: syntax error: expected an expression, found 'FROM'",
        ),
        (
            "CREATE TABLE t (\n a INTT\n)",
            "line 2, column 4: unknown type 'INTT'; did you mean 'INT'?",
        ),
        (
            "CREATE TABLE t (a INT,)",
            "line 1, column 23: syntax error: expected a name, found ')'",
        ),
        (
            "CREATE TABLE t (a INT) WITH ('a' = 'b', 'a' = 'c')",
            "line 1, column 41: the option 'a' is given twice",
        ),
        (
            "SELECT 'abc",
            "line 1, column 8: unterminated string literal",
        ),
        (
            "SELECT a FROM t SELECT 2",
            "line 1, column 17: syntax error: expected ';' or the end of the statement, found 'SELECT'",
        ),
        (
            "INSERT INTO t",
            "line 1, column 14: syntax error: expected SELECT, VALUES, or a subquery in the query body, found the end of the statement",
        ),
        (
            "CREATE TABLE t (a INT PRIMARY KEY ENFORCED)",
            "line 1, column 35: a PRIMARY KEY cannot be enforced: the data lie in another system; write PRIMARY KEY (...) NOT ENFORCED",
        ),
        (
            "SELECT \"a\" FROM t",
            "line 1, column 8: \"a\" in double quotes; a text is written 'a', a name `a`",
        ),
        (
            "EXECUTE STATEMENT SET BEGIN END",
            "line 1, column 29: the statement set has no INSERT",
        ),
        (
            "SELECT CAST(a AS ROW<x INT, x INT>) FROM t",
            "line 1, column 29: the field 'x' is in the ROW twice",
        ),
        (
            "SELECT a << 2 FROM t",
            "line 1, column 10: syntax error: this is no operator of Flink SQL",
        ),
        (
            "USE",
            "line 1, column 4: syntax error: expected a name, found the end of the statement",
        ),
    ] {
        assert_eq!(error(text), message, "{text}");
    }
}

#[test]
fn a_script_is_split_by_its_semicolons() {
    let script = "-- first; not a statement\nSET 'a;b' = 'c';;\n/* x; */ SELECT ';', `;` FROM t ;\n\
        EXECUTE STATEMENT SET\nBEGIN\n  INSERT INTO a SELECT 1;\n  INSERT INTO b SELECT 'ü';\nEND;\nSHOW TABLES";
    let statements = parse(script).unwrap();
    let texts: Vec<&str> = statements
        .iter()
        .map(|statement| statement.text.as_str())
        .collect();
    assert_eq!(
        texts,
        [
            "SET 'a;b' = 'c'",
            "SELECT ';', `;` FROM t",
            "EXECUTE STATEMENT SET\nBEGIN\n  INSERT INTO a SELECT 1;\n  INSERT INTO b SELECT 'ü';\nEND",
            "SHOW TABLES",
        ]
    );
    let lines: Vec<u64> = statements
        .iter()
        .map(|statement| statement.start.line)
        .collect();
    assert_eq!(lines, [2, 3, 4, 9]);
    assert!(parse(" -- nothing\n").unwrap().is_empty());
}

#[test]
fn a_prompt_knows_when_a_statement_is_complete() {
    assert!(is_complete("SELECT 1;"));
    assert!(is_complete("SELECT ';' ;  -- done"));
    assert!(!is_complete("SELECT 1"));
    assert!(!is_complete("SELECT ';"));
    assert!(!is_complete("SELECT `;"));
    assert!(!is_complete("SELECT 1 /* ;"));
    assert!(!is_complete(
        "EXECUTE STATEMENT SET BEGIN INSERT INTO t SELECT 1;"
    ));
    assert!(is_complete(
        "EXECUTE STATEMENT SET BEGIN INSERT INTO t SELECT 1; END;"
    ));
    assert!(!is_complete("BEGIN STATEMENT SET;"));
}

#[test]
fn views_keep_their_text() {
    let Statement::CreateView(view) = one("CREATE VIEW v (x) AS\n  SELECT a -- c\n  FROM t ;")
    else {
        panic!();
    };
    assert_eq!(view.text, "SELECT a -- c\n  FROM t");
    assert_eq!(view.columns[0].value, "x");
}

#[test]
fn types_are_flinks() {
    for (text, shown) in [
        ("INTEGER", "INT"),
        ("dec", "DECIMAL(10, 0)"),
        ("NUMERIC(7)", "DECIMAL(7, 0)"),
        ("decimal(38,38)", "DECIMAL(38, 38)"),
        ("CHAR", "CHAR(1)"),
        ("CHARACTER VARYING(7)", "VARCHAR(7)"),
        ("VARCHAR(2147483647)", "STRING"),
        ("BINARY VARYING(3)", "VARBINARY(3)"),
        ("VARBINARY(2147483647)", "BYTES"),
        ("DOUBLE PRECISION NOT NULL", "DOUBLE NOT NULL"),
        ("TIME", "TIME(0)"),
        ("TIME(3) WITHOUT TIME ZONE", "TIME(3)"),
        ("TIMESTAMP", "TIMESTAMP(6)"),
        ("TIMESTAMP(3) WITHOUT TIME ZONE", "TIMESTAMP(3)"),
        ("TIMESTAMP(9) WITH LOCAL TIME ZONE", "TIMESTAMP_LTZ(9)"),
        ("TIMESTAMP_LTZ", "TIMESTAMP_LTZ(6)"),
        ("INTERVAL DAY(2) TO SECOND(3)", "INTERVAL DAY TO SECOND"),
        ("INTERVAL YEAR", "INTERVAL YEAR TO MONTH"),
        (
            "INT NOT NULL ARRAY NOT NULL",
            "ARRAY<INT NOT NULL> NOT NULL",
        ),
        ("ROW(a INT) ARRAY", "ARRAY<ROW<`a` INT>>"),
        ("MULTISET<STRING>", "MULTISET<STRING>"),
        (
            "MAP<STRING NOT NULL, MAP<INT, ROW<a INT>>> NOT NULL",
            "MAP<STRING NOT NULL, MAP<INT, ROW<`a` INT>>> NOT NULL",
        ),
        (
            "ROW<a ARRAY<ARRAY<INT>>, `b c` STRING NOT NULL 'comment'>",
            "ROW<`a` ARRAY<ARRAY<INT>>, `b c` STRING NOT NULL>",
        ),
    ] {
        let field = parse_type_text(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(field.to_string(), shown);
        assert_eq!(parse_type_text(shown).unwrap(), field, "{shown}");
    }
    for text in [
        "",
        "INT INT",
        "DECIMAL(39)",
        "DECIMAL(2, 3)",
        "TIMESTAMP(10)",
        "CHAR(0)",
        "ARRAY<INT>>",
        "ARRAY<INT",
        "MAP<INT>",
        "ROW<a>",
        "INTERVAL DAY TO YEAR",
        "TEXT",
    ] {
        assert!(parse_type_text(text).is_err(), "{text}");
    }
}

fn expressions(text: &str) -> Vec<Expr> {
    let Statement::Query(query) = one(text) else {
        panic!();
    };
    let mut found = Vec::new();
    let _ = visit_expressions(&*query, |expr| {
        found.push(expr.clone());
        std::ops::ControlFlow::<()>::Continue(())
    });
    found
}

#[test]
fn casts_carry_their_types() {
    let found = expressions(
        "SELECT CAST(a AS ROW<`x``y` MAP<STRING, INT>>), TRY_CAST(a AS VARCHAR(3) NOT NULL)",
    );
    let types: Vec<String> = found
        .iter()
        .filter_map(|expr| match expr {
            Expr::Cast { data_type, .. } => Some(cast_type(data_type).unwrap().to_string()),
            _ => None,
        })
        .collect();
    assert_eq!(
        types,
        ["ROW<`x``y` MAP<STRING, INT>>", "VARCHAR(3) NOT NULL"]
    );
}

fn window(from: &str) -> Result<WindowTvf, String> {
    let Statement::Query(query) = one(&format!("SELECT * FROM {from}")) else {
        panic!();
    };
    let SetExpr::Select(select) = *query.body else {
        panic!();
    };
    let tvf = window_tvf(&select.from[0].relation).unwrap_or_else(|| panic!("{from} is no window"));
    tvf.map_err(|error| error.to_string())
}

#[test]
fn windowing_functions_are_taken_apart() {
    for (from, kind, slide, size, offset) in [
        (
            "TABLE(TUMBLE(TABLE bid, DESCRIPTOR(`dateTime`), INTERVAL '2' SECOND))",
            WindowKind::Tumble,
            0,
            2000,
            0,
        ),
        (
            "TUMBLE(TABLE bid, DESCRIPTOR(`dateTime`), INTERVAL '2' MINUTE, INTERVAL '5' SECOND)",
            WindowKind::Tumble,
            0,
            120_000,
            5000,
        ),
        (
            "TABLE(tumble(DATA => TABLE bid, TIMECOL => DESCRIPTOR(`dateTime`), SIZE => INTERVAL '2' DAY))",
            WindowKind::Tumble,
            0,
            172_800_000,
            0,
        ),
        (
            "TABLE(TUMBLE(SIZE => INTERVAL '2' HOUR, `OFFSET` => INTERVAL '-1' SECOND, TIMECOL => DESCRIPTOR(`dateTime`), DATA => TABLE bid))",
            WindowKind::Tumble,
            0,
            7_200_000,
            -1000,
        ),
        (
            "TABLE(HOP(TABLE bid, DESCRIPTOR(`dateTime`), INTERVAL '2' SECOND, INTERVAL '10' SECOND))",
            WindowKind::Hop,
            2000,
            10_000,
            0,
        ),
        (
            "TABLE(CUMULATE(TABLE bid, DESCRIPTOR(`dateTime`), INTERVAL '2' SECOND, INTERVAL '10' SECOND))",
            WindowKind::Cumulate,
            2000,
            10_000,
            0,
        ),
        (
            "TABLE(SESSION(TABLE bid PARTITION BY bidder, DESCRIPTOR(`dateTime`), INTERVAL '10' SECOND))",
            WindowKind::Session,
            0,
            10_000,
            0,
        ),
        (
            "TABLE(SESSION(DATA => TABLE bid PARTITION BY (bidder), TIMECOL => DESCRIPTOR(`dateTime`), GAP => INTERVAL '10' SECOND))",
            WindowKind::Session,
            0,
            10_000,
            0,
        ),
    ] {
        let tvf = window(from).unwrap_or_else(|error| panic!("{from}: {error}"));
        assert_eq!(
            (tvf.kind, tvf.slide_ms, tvf.size_ms, tvf.offset_ms),
            (kind, slide, size, offset),
            "{from}"
        );
        assert_eq!(tvf.time_column.value, "dateTime");
        let TvfInput::Table(table) = &tvf.input else {
            panic!("{from}");
        };
        assert_eq!(table.to_string(), "bid");
        assert!(table.span().start.line > 0);
        assert_eq!(
            tvf.partition_by.len(),
            usize::from(kind == WindowKind::Session)
        );
    }
    let tvf =
        window("TABLE(TUMBLE((SELECT * FROM bid), DESCRIPTOR(ts), INTERVAL '2' SECOND)) AS w")
            .unwrap();
    assert!(matches!(tvf.input, TvfInput::Query(_)));
    assert_eq!(tvf.alias.unwrap().name.value, "w");
}

#[test]
fn windowing_functions_say_what_they_miss() {
    for (from, message) in [
        (
            "TUMBLE(TABLE bid, DESCRIPTOR(ts))",
            "line 1, column 15: TUMBLE lacks SIZE; write TUMBLE(TABLE t, DESCRIPTOR(timecol), SIZE [, OFFSET])",
        ),
        (
            "TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '1' MONTH)",
            "line 1, column 58: INTERVAL '1' MONTH is not a length of time; months and years differ in length",
        ),
        (
            "HOP(TABLE bid, DESCRIPTOR(ts), INTERVAL '0' SECOND, INTERVAL '1' SECOND)",
            "line 1, column 55: SLIDE of HOP is to be above 0",
        ),
        (
            "TUMBLE(TABLE bid, ts, INTERVAL '1' SECOND)",
            "line 1, column 33: TIMECOL of TUMBLE is to be DESCRIPTOR(column), not 'ts'; write TUMBLE(TABLE t, DESCRIPTOR(timecol), SIZE [, OFFSET])",
        ),
        (
            "TUMBLE(TABLE bid, DESCRIPTOR(ts), SIZ => INTERVAL '1' SECOND)",
            "line 1, column 49: TUMBLE has no parameter 'SIZ'; did you mean 'SIZE'?",
        ),
        (
            "CUMULATE(TABLE bid, DESCRIPTOR(ts), INTERVAL '3' SECOND, INTERVAL '10' SECOND)",
            "line 1, column 15: SIZE of CUMULATE is to be a multiple of its STEP",
        ),
    ] {
        assert_eq!(window(from).unwrap_err(), message);
    }
}

#[test]
fn other_tables_are_no_windows() {
    for from in ["t", "TABLE(f(1))", "(SELECT 1)", "UNNEST(a)"] {
        let Statement::Query(query) = one(&format!("SELECT * FROM {from}")) else {
            panic!();
        };
        let SetExpr::Select(select) = *query.body else {
            panic!();
        };
        assert!(window_tvf(&select.from[0].relation).is_none(), "{from}");
    }
}

#[test]
fn nested_fields_are_compound_names() {
    let Statement::Query(query) = one("SELECT a.b.`c d` FROM t") else {
        panic!();
    };
    let SetExpr::Select(select) = *query.body else {
        panic!();
    };
    let SelectItem::UnnamedExpr(Expr::CompoundIdentifier(parts)) = &select.projection[0] else {
        panic!("{:?}", select.projection[0]);
    };
    assert_eq!(parts[2].value, "c d");
    assert!(matches!(select.from[0].relation, TableFactor::Table { .. }));
}

#[test]
fn deep_nesting_and_long_chains_are_errors_and_no_crash() {
    let deep = format!("SELECT {}1{}", "(".repeat(5000), ")".repeat(5000));
    assert!(error(&deep).contains("nested too deeply"));
    let long = format!("SELECT {}1", "1 + ".repeat(5000));
    assert!(error(&long).contains("more than 1000 operators"));
    one(&format!("SELECT {}1", "1 + ".repeat(900)));
    let rows = format!("INSERT INTO t VALUES {}(1 + 1)", "(1 + 1), ".repeat(5000));
    one(&rows);
    let types = format!(
        "CREATE TABLE t (a {}INT{})",
        "ARRAY<".repeat(500),
        ">".repeat(500)
    );
    assert!(error(&types).contains("nested less deeply"));
}

proptest::proptest! {
    /// Whatever is typed: an answer, and never a panic (which would come out as an internal error).
    #[test]
    fn no_text_breaks_the_parser(words in proptest::collection::vec(proptest::sample::select(PIECES), 0..25)) {
        if let Err(error) = parse_script(&words.join(" ")) {
            proptest::prop_assert!(!error.message.contains("internal"), "{}", error);
        }
    }

    #[test]
    fn no_character_breaks_the_tokenizer(text in "\\PC{0,40}") {
        if let Err(error) = parse_script(&text) {
            proptest::prop_assert!(!error.message.contains("internal"), "{}", error);
        }
    }
}

const PIECES: &[&str] = &[
    "SELECT",
    "FROM",
    "WHERE",
    "GROUP BY",
    "CREATE TABLE",
    "CREATE VIEW v AS",
    "INSERT INTO",
    "t",
    "`a`",
    "(",
    ")",
    ",",
    ";",
    "1",
    "'x'",
    "*",
    "+",
    "-",
    "AS",
    "ROW<",
    "ARRAY<",
    ">",
    ">>",
    "INT",
    "NOT NULL",
    "INTERVAL '1'",
    "DAY",
    "SECOND",
    "TO",
    "TABLE",
    "TUMBLE(",
    "DESCRIPTOR(",
    "=>",
    "CAST(",
    "TIMESTAMP",
    "DATE",
    "CASE",
    "WHEN",
    "END",
    "BEGIN",
    "EXECUTE STATEMENT SET",
    "WATERMARK FOR",
    "PRIMARY KEY",
    "NOT ENFORCED",
    "METADATA",
    "WITH",
    "JOIN",
    "ON",
    "MAP[",
    "]",
    "[",
    ".",
    "IN",
    "BETWEEN",
    "AND",
    "LIKE",
    "SET",
    "EXTRACT(",
    "FLOOR(",
    "POSITION(",
    "OVER",
    "FILTER",
    "UNION ALL",
    "VALUES",
    "EXPLAIN",
    "NULL",
    "--",
    "/*",
    "*/",
    "\n",
];

#[test]
fn hints_come_into_the_tree() {
    let text = "SELECT /*+ STATE_TTL('a' = '1 d', b = '2h'), lookup('table'='c', 'async'='true'), BROADCAST(a, b) */ x
                FROM t /*+ OPTIONS('k'='v') */ AS a /* no hint */";
    let Statement::Query(query) = one(text) else {
        panic!("a query");
    };
    let sqlparser::ast::SetExpr::Select(select) = query.body.as_ref() else {
        panic!("a SELECT");
    };
    let hints = super::hints::of_select(select).unwrap();
    assert_eq!(
        hints.state_ttl_ms,
        [("a".to_owned(), 86_400_000), ("b".to_owned(), 7_200_000)]
    );
    assert_eq!(hints.lookup[0]["table"], "c");
    let sqlparser::ast::TableFactor::Table { with_hints, .. } = &select.from[0].relation else {
        panic!("a table");
    };
    assert_eq!(
        super::hints::table_options(with_hints),
        [("k".to_owned(), "v".to_owned())]
    );
    let Statement::Insert(insert) = one("INSERT INTO c.d.t /*+ OPTIONS('k'='v') */ SELECT 1")
    else {
        panic!("an INSERT");
    };
    assert_eq!(insert.options, [("k".to_owned(), "v".to_owned())]);
}

#[test]
fn hints_that_there_are_not_are_refused_at_their_place() {
    for (text, message) in [
        (
            "SELECT /*+ STATE_TLL('a'='1d') */ 1",
            "line 1, column 8: there is no hint 'STATE_TLL'; did you mean 'STATE_TTL'?",
        ),
        (
            "SELECT 1 FROM t /*+ OPTION('a'='b') */",
            "line 1, column 17: there is no hint 'OPTION' of a table; did you mean 'OPTIONS'?",
        ),
        (
            "SELECT 1 FROM t AS a /*+ OPTIONS('a'='b') */",
            "line 1, column 22: the hint /*+ OPTIONS('a'='b') */ is neither behind the name of a table nor behind SELECT",
        ),
        (
            "SELECT 1 FROM t /*+ OPTIONS('a') */",
            "'a' in the hint OPTIONS has no value",
        ),
        ("SELECT 1 FROM t /*+ OPTIONS('a' */", "syntax error"),
        (
            "SELECT /*+ STATE_TTL('a'='soon') */ 1",
            "'soon' in STATE_TTL",
        ),
    ] {
        let error = super::parse_script(text).unwrap_err().to_string();
        assert!(error.contains(message), "{text}: {error}");
    }
}

#[test]
fn a_dollar_is_a_letter() {
    let Statement::Query(query) = one("SELECT $a, b$c, '$' AS `$x` FROM $$T") else {
        panic!("a query");
    };
    assert_eq!(query.to_string(), "SELECT $a, b$c, '$' AS `$x` FROM $$T");
}

#[test]
fn settings_may_stand_without_quotes() {
    for text in [
        "SET 'a.b-c' = '10 s'",
        "SET a.b-c = 10 s",
        "SET a.b-c='10 s'; ",
    ] {
        let Statement::Set { key, value, .. } = one(text) else {
            panic!("{text}");
        };
        assert_eq!((key.as_str(), value.as_str()), ("a.b-c", "10 s"), "{text}");
    }
    let Statement::Reset(Some((key, _))) = one("RESET a.b-c") else {
        panic!("a RESET");
    };
    assert_eq!(key, "a.b-c");
    assert_eq!(
        error("SET a.b ="),
        "line 1, column 10: syntax error: expected the value as 'text', found the end of the statement"
    );
}
