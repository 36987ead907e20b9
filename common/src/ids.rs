//! Identifiers. No raw integer crosses a function as an id.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use weir_proto::v1;

/// A job, for its whole life: 32 hexadecimal digits (a UUID without dashes).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct JobId(String);

/// The text is not 32 lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a job id: expected 32 hexadecimal digits")]
pub struct InvalidJobId(pub String);

impl JobId {
    /// A new one, ordered by time of creation.
    pub fn random() -> Self {
        Self(uuid::Uuid::now_v7().simple().to_string())
    }

    /// As it stands in paths, logs and messages.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for JobId {
    type Err = InvalidJobId;

    /// Refuses anything but hexadecimal digits: an id becomes part of paths.
    fn from_str(text: &str) -> Result<Self, InvalidJobId> {
        let valid =
            text.len() == 32 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if valid {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidJobId(text.to_owned()))
        }
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number_id!(
    /// Execution attempt of a job; grows by one with each (re)start. 1 is the first.
    AttemptId(u64)
);
number_id!(
    /// Checkpoint or savepoint of a job; grows for the life of the job, over restarts. 1 is the first.
    CheckpointId(u64)
);
number_id!(
    /// Raft term of a leading job manager.
    LeaderTerm(u64)
);
number_id!(
    /// Vertex of a job graph.
    VertexId(u32)
);

/// A parallel instance of a vertex.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SubtaskId {
    /// The vertex.
    pub vertex: VertexId,
    /// 0-based, below the vertex' parallelism.
    pub index: u32,
}

impl fmt::Display for SubtaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.vertex, self.index)
    }
}

impl From<v1::SubtaskId> for SubtaskId {
    fn from(id: v1::SubtaskId) -> Self {
        Self {
            vertex: VertexId(id.vertex),
            index: id.index,
        }
    }
}

impl From<SubtaskId> for v1::SubtaskId {
    fn from(id: SubtaskId) -> Self {
        Self {
            vertex: id.vertex.0,
            index: id.index,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_id_is_hexadecimal_and_nothing_else() {
        let id = JobId::random();
        assert_eq!(id.as_str().parse(), Ok(id.clone()));
        for bad in [
            "",
            "../../etc/passwd",
            "0123456789abcdef0123456789ABCDEF",
            "0123",
        ] {
            assert!(bad.parse::<JobId>().is_err(), "{bad}");
        }
    }
}
