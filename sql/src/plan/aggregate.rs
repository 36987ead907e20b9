//! Aggregate functions: which there are, what they take, and the types of their results as Flink has them.

use weir_dataflow::agg::ARRAY_AGG_IGNORE_NULLS;
use weir_dataflow::types::{LogicalField, LogicalType};

use super::composite;
use crate::error::{Result, SqlError};

/// Those that operators implement. Others are made of them and more: see [`composite`].
const KNOWN: [&str; 7] = [
    "COUNT",
    "SUM",
    "MIN",
    "MAX",
    "AVG",
    "FIRST_VALUE",
    "LAST_VALUE",
];

/// Those that Flink has besides: for bounded input only, or over the type BITMAP.
const NOT_YET: [&str; 9] = [
    "APPROX_COUNT_DISTINCT",
    "BITMAP_BUILD_AGG",
    "BITMAP_BUILD_CARDINALITY_AGG",
    "BITMAP_AND_AGG",
    "BITMAP_AND_CARDINALITY_AGG",
    "BITMAP_OR_AGG",
    "BITMAP_OR_CARDINALITY_AGG",
    "BITMAP_XOR_AGG",
    "BITMAP_XOR_CARDINALITY_AGG",
];

/// The function's name in capitals, if it is an aggregate function.
pub(super) fn find(name: &str) -> Result<Option<&'static str>> {
    let same = |known: &&&str| known.eq_ignore_ascii_case(name);
    if let Some(known) = NOT_YET.iter().find(same) {
        return Err(SqlError::unsupported(format!("the aggregate {known}")));
    }
    if ["GROUPING", "GROUPING_ID"]
        .iter()
        .any(|known| known.eq_ignore_ascii_case(name))
    {
        return Ok(Some("GROUPING"));
    }
    Ok(KNOWN
        .iter()
        .chain(&composite::COMPOSITE)
        .find(same)
        .copied())
}

/// The names that a misspelt function may mean.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    KNOWN.into_iter().chain(composite::COMPOSITE)
}

/// The type of a call's result. `may_be_empty`: there may be no row (no GROUP BY, or a FILTER), so that the result is NULL.
pub(super) fn result_type(
    function: &str,
    arguments: &[LogicalField],
    may_be_empty: bool,
) -> Result<LogicalField> {
    if function == "GROUPING" {
        return Ok(LogicalField {
            logical_type: LogicalType::BigInt,
            nullable: false,
        });
    }
    if function == "COUNT" {
        return match arguments.len() {
            0 | 1 => Ok(LogicalField {
                logical_type: LogicalType::BigInt,
                nullable: false,
            }),
            _ => Err(SqlError::unsupported("COUNT of several columns")),
        };
    }
    let [argument] = arguments else {
        return Err(SqlError::new(format!(
            "{function} takes one argument, not {}",
            arguments.len()
        )));
    };
    let refuse = |wanted: &str| {
        Err(SqlError::new(format!(
            "{function} does not take {}; it takes {wanted}",
            argument.logical_type
        )))
    };
    use LogicalType as T;
    let numeric = matches!(
        argument.logical_type,
        T::TinyInt
            | T::SmallInt
            | T::Int
            | T::BigInt
            | T::Float
            | T::Double
            | T::Decimal(..)
            | T::Null
    );
    match (function, &argument.logical_type) {
        ("SUM" | "AVG", _) if !numeric => return refuse("a number"),
        ("MIN" | "MAX", T::Row(_) | T::Array(_) | T::Map(..) | T::Multiset(_)) => {
            return refuse("a type that has an order");
        }
        _ => {}
    }
    let element = || Box::new(argument.clone());
    match function {
        "COLLECT" => {
            return Ok(LogicalField {
                logical_type: T::Multiset(element()),
                nullable: false,
            });
        }
        "ARRAY_AGG" | ARRAY_AGG_IGNORE_NULLS => {
            return Ok(LogicalField {
                logical_type: T::Array(element()),
                nullable: argument.nullable || may_be_empty,
            });
        }
        _ => {}
    }
    let result = weir_dataflow::agg::result_type(function, Some(&argument.logical_type))
        .map_err(|error| SqlError::new(error.to_string()))?;
    Ok(LogicalField {
        logical_type: result.logical_type,
        nullable: argument.nullable || may_be_empty,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(function: &str, argument: LogicalType) -> String {
        match result_type(function, &[LogicalField::nullable(argument)], false) {
            Ok(field) => field.to_string(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn results_have_flinks_types() {
        assert_eq!(typed("SUM", LogicalType::Int), "INT");
        assert_eq!(typed("SUM", LogicalType::Decimal(10, 2)), "DECIMAL(38, 2)");
        assert_eq!(typed("AVG", LogicalType::Decimal(10, 2)), "DECIMAL(38, 6)");
        assert_eq!(typed("AVG", LogicalType::BigInt), "BIGINT");
        assert_eq!(typed("COUNT", LogicalType::Boolean), "BIGINT NOT NULL");
        assert_eq!(
            typed("SUM", LogicalType::VarChar(u32::MAX)),
            "SUM does not take STRING; it takes a number"
        );
    }

    #[test]
    fn without_rows_there_is_no_result() {
        let argument = LogicalField {
            logical_type: LogicalType::Int,
            nullable: false,
        };
        assert!(
            !result_type("MAX", std::slice::from_ref(&argument), false)
                .unwrap()
                .nullable
        );
        assert!(result_type("MAX", &[argument], true).unwrap().nullable);
    }

    #[test]
    fn what_flink_has_and_we_do_not_is_refused_by_name() {
        assert_eq!(find("count").unwrap(), Some("COUNT"));
        assert_eq!(find("lower").unwrap(), None);
        assert!(
            find("APPROX_COUNT_DISTINCT")
                .unwrap_err()
                .to_string()
                .contains("APPROX_COUNT_DISTINCT is not supported yet")
        );
    }
}
