//! What can go wrong with an expression, at planning time or on a row.

use datafusion_common::DataFusionError;

/// Result of this crate's public functions.
pub type Result<T, E = ExprError> = std::result::Result<T, E>;

/// An expression that can't be typed, moved or computed.
#[derive(Debug, thiserror::Error)]
pub enum ExprError {
    /// The operands do not fit the operator or function; says which types were given and what is wanted.
    #[error("{0}")]
    Type(String),
    /// The bytes are no expression, or one of another version.
    #[error("cannot read an expression of the job graph: {0}")]
    Decode(String),
    /// The expression has a part that does not travel.
    #[error("cannot write an expression into the job graph: {0}")]
    Encode(String),
    /// A row on which the expression fails (a broken cast, a division by zero), or an error of planning from DataFusion.
    #[error("{}", message(.0))]
    Evaluate(#[source] DataFusionError),
}

/// DataFusion's errors with neither the prefix ("Execution error: ") nor the back trace that mean nothing to a user.
fn message(error: &DataFusionError) -> String {
    match error.find_root() {
        DataFusionError::Execution(text) | DataFusionError::Plan(text) => text.clone(),
        DataFusionError::ArrowError(source, _) => source.to_string(),
        DataFusionError::External(source) => source.to_string(),
        other => other.strip_backtrace(),
    }
}

impl From<DataFusionError> for ExprError {
    fn from(error: DataFusionError) -> Self {
        match error {
            DataFusionError::External(source) => match source.downcast::<Self>() {
                Ok(own) => *own,
                Err(source) => Self::Evaluate(DataFusionError::External(source)),
            },
            other => Self::Evaluate(other),
        }
    }
}

impl From<arrow::error::ArrowError> for ExprError {
    fn from(error: arrow::error::ArrowError) -> Self {
        Self::Evaluate(error.into())
    }
}

impl From<ExprError> for DataFusionError {
    fn from(error: ExprError) -> Self {
        match error {
            ExprError::Evaluate(inner) => inner,
            other => Self::External(Box::new(other)),
        }
    }
}

impl From<ExprError> for weir_dataflow::Error {
    fn from(error: ExprError) -> Self {
        match error {
            ExprError::Decode(_) | ExprError::Encode(_) => Self::Config(error.to_string()),
            ExprError::Type(_) | ExprError::Evaluate(_) => Self::Expression(error.to_string()),
        }
    }
}
