//! The types that sqlparser's tree names, as Flink's.

use sqlparser::ast::DataType;
use weir_dataflow::types::LogicalType;

use crate::error::Result;
use crate::parse::types::cast_type;

/// The type in a CAST or in front of a literal.
///
/// # Errors
/// A type that Flink does not have.
pub fn from_ast(data_type: &DataType) -> Result<LogicalType> {
    cast_type(data_type).map(|field| field.logical_type)
}
