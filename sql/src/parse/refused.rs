//! Statements of Flink that are refused, each by its name.

use sqlparser::parser::{Parser, ParserError};

use super::errors;
use super::words::are_words;
use crate::error::SqlError;

/// Why a statement is refused.
#[derive(Debug, Clone, Copy)]
enum Why {
    /// It is not built; with what can be done instead, if there is something.
    Yet(&'static str),
    /// It is for batch jobs, and Flink refuses it in streaming mode.
    Batch,
}

use Why::{Batch, Yet};

/// First words, and what the statement is called.
const REFUSED: &[(&str, &str, Why)] = &[
    (
        "ALTER MATERIALIZED TABLE",
        "ALTER MATERIALIZED TABLE",
        Yet(""),
    ),
    (
        "ALTER FUNCTION",
        "ALTER FUNCTION",
        Yet("functions in Java and Python cannot be loaded"),
    ),
    (
        "ALTER TEMPORARY",
        "ALTER FUNCTION",
        Yet("functions in Java and Python cannot be loaded"),
    ),
    ("ALTER CATALOG", "ALTER CATALOG", Yet("")),
    ("ALTER MODEL", "ALTER MODEL", Yet("")),
    ("CREATE OR ALTER", "CREATE OR ALTER", Yet("")),
    (
        "CREATE MATERIALIZED TABLE",
        "CREATE MATERIALIZED TABLE",
        Yet(""),
    ),
    (
        "CREATE FUNCTION",
        "CREATE FUNCTION",
        Yet("functions in Java and Python cannot be loaded"),
    ),
    (
        "CREATE TEMPORARY FUNCTION",
        "CREATE FUNCTION",
        Yet("functions in Java and Python cannot be loaded"),
    ),
    (
        "CREATE TEMPORARY SYSTEM FUNCTION",
        "CREATE FUNCTION",
        Yet("functions in Java and Python cannot be loaded"),
    ),
    ("CREATE MODEL", "CREATE MODEL", Yet("")),
    ("CREATE TEMPORARY MODEL", "CREATE MODEL", Yet("")),
    ("CREATE CONNECTION", "CREATE CONNECTION", Yet("")),
    (
        "DROP MATERIALIZED TABLE",
        "DROP MATERIALIZED TABLE",
        Yet(""),
    ),
    (
        "DROP FUNCTION",
        "DROP FUNCTION",
        Yet("functions in Java and Python cannot be loaded"),
    ),
    (
        "DROP TEMPORARY FUNCTION",
        "DROP FUNCTION",
        Yet("functions in Java and Python cannot be loaded"),
    ),
    (
        "DROP TEMPORARY SYSTEM FUNCTION",
        "DROP FUNCTION",
        Yet("functions in Java and Python cannot be loaded"),
    ),
    ("DROP MODEL", "DROP MODEL", Yet("")),
    (
        "SHOW PROCEDURES",
        "SHOW PROCEDURES",
        Yet("no catalog here has procedures"),
    ),
    (
        "SHOW MATERIALIZED TABLES",
        "SHOW MATERIALIZED TABLES",
        Yet(""),
    ),
    (
        "SHOW CREATE MATERIALIZED TABLE",
        "SHOW CREATE MATERIALIZED TABLE",
        Yet(""),
    ),
    ("DESCRIBE DATABASE", "DESCRIBE DATABASE", Yet("")),
    ("DESC DATABASE", "DESCRIBE DATABASE", Yet("")),
    ("DESCRIBE FUNCTION", "DESCRIBE FUNCTION", Yet("")),
    ("DESC FUNCTION", "DESCRIBE FUNCTION", Yet("")),
    ("DESCRIBE MODEL", "DESCRIBE MODEL", Yet("")),
    ("INSERT OVERWRITE", "INSERT OVERWRITE", Batch),
    ("EXECUTE PLAN", "EXECUTE PLAN", Yet("")),
    ("COMPILE PLAN", "COMPILE PLAN", Yet("")),
    (
        "COMPILE AND EXECUTE PLAN",
        "COMPILE AND EXECUTE PLAN",
        Yet(""),
    ),
    (
        "USE MODULES",
        "USE MODULES",
        Yet("there is the module 'core' only"),
    ),
    (
        "ADD JAR",
        "ADD JAR",
        Yet(
            "nothing of Java is loaded: what a JAR of Flink brings, connectors and formats, is built in",
        ),
    ),
    (
        "REMOVE JAR",
        "REMOVE JAR",
        Yet(
            "nothing of Java is loaded: what a JAR of Flink brings, connectors and formats, is built in",
        ),
    ),
    (
        "ADD CUSTOM",
        "ADD",
        Yet(
            "nothing of Java is loaded: what a JAR of Flink brings, connectors and formats, is built in",
        ),
    ),
    (
        "LOAD MODULE",
        "LOAD MODULE",
        Yet("there is the module 'core' only"),
    ),
    (
        "UNLOAD MODULE",
        "UNLOAD MODULE",
        Yet("there is the module 'core' only"),
    ),
    ("ANALYZE TABLE", "ANALYZE TABLE", Batch),
    ("TRUNCATE TABLE", "TRUNCATE TABLE", Batch),
    ("CALL", "CALL", Yet("no catalog here has procedures")),
    ("UPDATE", "UPDATE", Batch),
    ("DELETE FROM", "DELETE", Batch),
    ("MERGE INTO", "MERGE INTO", Batch),
    ("HELP", "HELP", Yet("")),
    ("CLEAR", "CLEAR", Yet("")),
    ("SOURCE", "SOURCE", Yet("")),
    ("QUIT", "QUIT inside of a script", Yet("")),
    ("EXIT", "EXIT inside of a script", Yet("")),
];

/// Fails if one of them begins here.
pub(crate) fn check(parser: &Parser) -> Result<(), ParserError> {
    for (first_words, name, why) in REFUSED {
        let first_words: Vec<&str> = first_words.split(' ').collect();
        if are_words(parser, &first_words) {
            let place = parser.peek_token_ref().span.start;
            let error = match why {
                Yet("") => SqlError::unsupported(name),
                Yet(instead) => SqlError::unsupported(name).hint(*instead),
                Batch => SqlError::new(format!("{name} is not supported in streaming mode"))
                    .hint("it is for batch jobs, in Flink as well"),
            };
            return errors::refuse(error.at_location(place));
        }
    }
    Ok(())
}
