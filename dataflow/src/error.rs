//! What can go wrong on the way of a record, and what the job does about it.

/// Result of everything in the data path.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of an operator, source, sink or state backend. It fails the subtask; [`Error::is_fatal`] decides whether the job is
/// restarted or fails at once.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An option or a graph that can't work: a restart won't help.
    #[error("{0}")]
    Config(String),
    /// A record that can't be decoded or computed with. Names the split, the offset and the reason. A restart meets it again.
    #[error("{0}")]
    Data(String),
    /// A system outside failed or can't be reached: worth another try.
    #[error("{system}: {message}")]
    External {
        /// "kafka", "s3", "filesystem" ...
        system: &'static str,
        /// With what was attempted and the system's own words.
        message: String,
    },
    /// The keyed state can't be read or written.
    #[error("state: {0}")]
    State(String),
    /// A snapshot can't be restored into this operator: a restart won't help.
    #[error("restore: {0}")]
    Restore(String),
    /// Local files.
    #[error("{context}: {source}")]
    Io {
        /// What was attempted, with the path.
        context: String,
        /// The system's error.
        source: std::io::Error,
    },
    /// Arrow refused: a bug, or data outside of a type's range.
    #[error(transparent)]
    Arrow(#[from] arrow::error::ArrowError),
    /// An expression failed on a row (overflow, bad cast): a restart meets it again.
    #[error("{0}")]
    Expression(String),
    /// A broken invariant of Weir itself.
    #[error("internal error: {0}")]
    Internal(String),
}

impl Error {
    /// With a path or name to an I/O error.
    pub fn io(context: impl Into<String>, source: std::io::Error) -> Self {
        Self::Io {
            context: context.into(),
            source,
        }
    }

    /// Restarting the job can't help.
    pub fn is_fatal(&self) -> bool {
        matches!(
            self,
            Self::Config(_)
                | Self::Data(_)
                | Self::Restore(_)
                | Self::Arrow(_)
                | Self::Expression(_)
        )
    }
}
