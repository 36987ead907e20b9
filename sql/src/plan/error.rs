//! DataFusion's errors in words that a user of Flink's SQL knows.

use datafusion_common::DataFusionError;

use crate::error::SqlError;

/// Without prefixes ("Error during planning: ") and back traces.
pub(super) fn translate(error: &DataFusionError) -> SqlError {
    let message = match error.find_root() {
        DataFusionError::Plan(text)
        | DataFusionError::Execution(text)
        | DataFusionError::NotImplemented(text)
        | DataFusionError::Configuration(text) => text.clone(),
        DataFusionError::ArrowError(source, _) => source.to_string(),
        DataFusionError::External(source) => source.to_string(),
        DataFusionError::SchemaError(source, _) => source.to_string(),
        other => other.strip_backtrace(),
    };
    SqlError::new(message.trim().to_owned())
}
