//! Flink's statements: those that work and those that are refused by name. docs/sql.md shows this table, and the tests walk it.

/// A form of a statement.
#[derive(Debug, Clone, Copy)]
pub struct Form {
    /// As documented.
    pub syntax: &'static str,
    /// One of its kind, on a table `t (a INT, b STRING, ts TIMESTAMP(3))`, a sink `s` of the same columns and a view `v` of `t`.
    pub example: &'static str,
    /// What the refusal says; `None`: it works.
    pub refused: Option<&'static str>,
}

const fn works(syntax: &'static str, example: &'static str) -> Form {
    Form {
        syntax,
        example,
        refused: None,
    }
}

const fn not_yet(syntax: &'static str, example: &'static str) -> Form {
    Form {
        syntax,
        example,
        refused: Some("is not supported yet"),
    }
}

/// Flink refuses these as well when a job streams.
const fn batch(syntax: &'static str, example: &'static str) -> Form {
    Form {
        syntax,
        example,
        refused: Some("is not supported in streaming mode"),
    }
}

/// All of them, in the order of Flink's documentation.
pub const FORMS: &[Form] = &[
    works(
        "SELECT, WITH, VALUES",
        "WITH x AS (SELECT a FROM t) SELECT * FROM x",
    ),
    works(
        "CREATE [TEMPORARY] TABLE",
        "CREATE TEMPORARY TABLE n (a INT) WITH ('connector' = 'datagen')",
    ),
    works("CREATE TABLE ... LIKE", "CREATE TABLE n LIKE t"),
    works(
        "CREATE TABLE ... AS",
        "CREATE TABLE n WITH ('connector' = 'blackhole') AS SELECT a FROM t",
    ),
    works(
        "[CREATE OR] REPLACE TABLE ... AS",
        "CREATE OR REPLACE TABLE t WITH ('connector' = 'blackhole') AS SELECT 1 AS a",
    ),
    works(
        "CREATE [TEMPORARY] VIEW",
        "CREATE TEMPORARY VIEW n (x) COMMENT 'c' AS SELECT a FROM t",
    ),
    works(
        "CREATE CATALOG (of the type `generic_in_memory`)",
        "CREATE CATALOG c WITH ('type' = 'generic_in_memory')",
    ),
    works(
        "CREATE DATABASE",
        "CREATE DATABASE IF NOT EXISTS d COMMENT 'c' WITH ('k' = 'v')",
    ),
    not_yet(
        "CREATE FUNCTION",
        "CREATE TEMPORARY SYSTEM FUNCTION f AS 'x.Y'",
    ),
    not_yet(
        "CREATE MATERIALIZED TABLE",
        "CREATE MATERIALIZED TABLE n AS SELECT a FROM t",
    ),
    not_yet(
        "CREATE MODEL, CREATE CONNECTION",
        "CREATE MODEL m INPUT (a INT) OUTPUT (b INT) WITH ('provider' = 'x')",
    ),
    works("DROP [TEMPORARY] TABLE", "DROP TABLE IF EXISTS s"),
    works("DROP [TEMPORARY] VIEW", "DROP VIEW v"),
    works("DROP CATALOG", "DROP CATALOG IF EXISTS c"),
    works(
        "DROP DATABASE [RESTRICT | CASCADE]",
        "DROP DATABASE IF EXISTS d CASCADE",
    ),
    not_yet("DROP FUNCTION", "DROP FUNCTION f"),
    not_yet("DROP MATERIALIZED TABLE, DROP MODEL", "DROP MODEL m"),
    works("ALTER TABLE RENAME TO", "ALTER TABLE s RENAME TO s2"),
    works("ALTER TABLE RENAME column", "ALTER TABLE t RENAME a TO x"),
    works(
        "ALTER TABLE SET, RESET",
        "ALTER TABLE t SET ('rows-per-second' = '5')",
    ),
    works(
        "ALTER TABLE ADD column, key, watermark",
        "ALTER TABLE t ADD (x BIGINT FIRST, y AS x + 1, PRIMARY KEY (a) NOT ENFORCED, WATERMARK FOR ts AS ts)",
    ),
    works(
        "ALTER TABLE MODIFY",
        "ALTER TABLE t MODIFY a BIGINT COMMENT 'c' AFTER b",
    ),
    works(
        "ALTER TABLE DROP column, key, watermark",
        "ALTER TABLE t DROP (a, b)",
    ),
    not_yet(
        "ALTER TABLE ADD, DROP PARTITION",
        "ALTER TABLE t ADD PARTITION (b = 'x')",
    ),
    not_yet(
        "ALTER TABLE ADD, MODIFY, DROP DISTRIBUTION",
        "ALTER TABLE t ADD DISTRIBUTION BY (a)",
    ),
    works(
        "ALTER VIEW RENAME TO, AS",
        "ALTER VIEW v AS SELECT b FROM t",
    ),
    works(
        "ALTER DATABASE SET",
        "ALTER DATABASE default_database SET ('k' = 'v')",
    ),
    not_yet(
        "ALTER CATALOG",
        "ALTER CATALOG default_catalog SET ('k' = 'v')",
    ),
    not_yet("ALTER FUNCTION", "ALTER FUNCTION f AS 'x.Y'"),
    not_yet(
        "ALTER MATERIALIZED TABLE, ALTER MODEL",
        "ALTER MATERIALIZED TABLE n SUSPEND",
    ),
    works("INSERT INTO", "INSERT INTO s (b, a) SELECT b, a FROM t"),
    works(
        "INSERT INTO ... PARTITION",
        "INSERT INTO p PARTITION (b = 'x') SELECT a FROM t",
    ),
    batch("INSERT OVERWRITE", "INSERT OVERWRITE s SELECT * FROM t"),
    works(
        "EXECUTE STATEMENT SET",
        "EXECUTE STATEMENT SET BEGIN INSERT INTO s SELECT * FROM t; INSERT INTO s SELECT * FROM t; END",
    ),
    works(
        "BEGIN STATEMENT SET; ... END",
        "BEGIN STATEMENT SET; INSERT INTO s SELECT * FROM t; END",
    ),
    batch("UPDATE", "UPDATE t SET a = 1"),
    batch("DELETE", "DELETE FROM t WHERE a = 1"),
    batch("TRUNCATE TABLE", "TRUNCATE TABLE t"),
    batch("ANALYZE TABLE", "ANALYZE TABLE t COMPUTE STATISTICS"),
    not_yet("CALL", "CALL p(1)"),
    works("DESCRIBE, DESC", "DESCRIBE t"),
    works(
        "DESCRIBE CATALOG [EXTENDED]",
        "DESC CATALOG EXTENDED default_catalog",
    ),
    works("DESCRIBE JOB", "DESCRIBE JOB 'x'"),
    not_yet("DESCRIBE FUNCTION, MODEL", "DESCRIBE FUNCTION f"),
    works("EXPLAIN [PLAN FOR]", "EXPLAIN PLAN FOR SELECT a FROM t"),
    works(
        "EXPLAIN CHANGELOG_MODE, JSON_EXECUTION_PLAN, PLAN_ADVICE",
        "EXPLAIN CHANGELOG_MODE, JSON_EXECUTION_PLAN, PLAN_ADVICE SELECT a FROM t",
    ),
    not_yet(
        "EXPLAIN ESTIMATED_COST",
        "EXPLAIN ESTIMATED_COST SELECT a FROM t",
    ),
    works("USE, USE CATALOG", "USE default_catalog.default_database"),
    not_yet(
        "USE MODULES, LOAD MODULE, UNLOAD MODULE",
        "LOAD MODULE hive",
    ),
    works(
        "SHOW CATALOGS, DATABASES, CURRENT CATALOG, CURRENT DATABASE",
        "SHOW DATABASES IN default_catalog LIKE 'd%'",
    ),
    works(
        "SHOW TABLES, VIEWS",
        "SHOW VIEWS FROM default_database NOT LIKE 'x%'",
    ),
    works("SHOW COLUMNS, PARTITIONS", "SHOW COLUMNS FROM t LIKE 'a%'"),
    works("SHOW CREATE TABLE, VIEW, CATALOG", "SHOW CREATE VIEW v"),
    works("SHOW [USER] FUNCTIONS", "SHOW FUNCTIONS LIKE 'u%'"),
    works("SHOW [FULL] MODULES, JARS, MODELS", "SHOW FULL MODULES"),
    works("SHOW JOBS", "SHOW JOBS"),
    not_yet("SHOW PROCEDURES, MATERIALIZED TABLES", "SHOW PROCEDURES"),
    works("STOP JOB [WITH SAVEPOINT]", "STOP JOB 'x' WITH SAVEPOINT"),
    not_yet("STOP JOB WITH DRAIN", "STOP JOB 'x' WITH DRAIN"),
    works("SET, RESET", "SET 'parallelism.default' = '2'"),
    not_yet("ADD JAR, REMOVE JAR", "ADD JAR 'x.jar'"),
    not_yet(
        "COMPILE PLAN, EXECUTE PLAN",
        "COMPILE PLAN 'x.json' FOR INSERT INTO s SELECT * FROM t",
    ),
    works(
        "the hint OPTIONS",
        "SELECT * FROM t /*+ OPTIONS('rows-per-second' = '1') */",
    ),
];

/// The table of docs/sql.md.
pub fn markdown() -> String {
    let mut text = String::from("| statement | |\n| --- | --- |\n");
    for form in FORMS {
        let verdict = match form.refused {
            None => "works",
            Some(message) => message.trim_start_matches("is "),
        };
        text.push_str(&format!(
            "| {} | {verdict} |\n",
            form.syntax.replace('|', "\\|")
        ));
    }
    text
}
