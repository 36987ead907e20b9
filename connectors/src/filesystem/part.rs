//! Names of part files, and what a committable says.
//!
//! `part-SINK-ATTEMPT-SUBTASK-NUMBER` is visible; with a dot before and `.inprogress` behind it is being written; with `.pending` behind it is
//! complete and waits for its checkpoint. SINK is a hash of job and operator, so that sinks with one folder do not touch each other's files.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use weir_dataflow::{OperatorInfo, Result};
use xxhash_rust::xxh3::xxh3_64;

use crate::split_state;

/// Part file of one attempt of one subtask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PartName {
    pub sink: u64,
    pub attempt: u64,
    pub subtask: u32,
    pub number: u64,
}

/// State of a part file that is not visible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    InProgress,
    Pending,
}

impl PartName {
    pub(super) fn first(info: &OperatorInfo) -> Self {
        Self {
            sink: xxh3_64(format!("{}/{}", info.job, info.uid).as_bytes()),
            attempt: info.attempt.0,
            subtask: info.subtask,
            number: 0,
        }
    }

    pub(super) fn visible(&self) -> String {
        let Self {
            sink,
            attempt,
            subtask,
            number,
        } = self;
        format!("part-{sink:016x}-{attempt}-{subtask}-{number}")
    }

    pub(super) fn hidden(&self, stage: Stage) -> String {
        let suffix = match stage {
            Stage::InProgress => "inprogress",
            Stage::Pending => "pending",
        };
        format!(".{}.{suffix}", self.visible())
    }

    /// From [`Self::hidden`].
    pub(super) fn parse(hidden: &str) -> Option<(Self, Stage)> {
        let (name, suffix) = hidden.strip_prefix(".part-")?.rsplit_once('.')?;
        let stage = match suffix {
            "inprogress" => Stage::InProgress,
            "pending" => Stage::Pending,
            _ => return None,
        };
        let mut parts = name.split('-');
        let part = Self {
            sink: u64::from_str_radix(parts.next()?, 16).ok()?,
            attempt: parts.next()?.parse().ok()?,
            subtask: parts.next()?.parse().ok()?,
            number: parts.next()?.parse().ok()?,
        };
        parts.next().is_none().then_some((part, stage))
    }
}

/// A complete part file: where it waits and what it is to be called.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Committable {
    /// Folder, as URL.
    pub folder: String,
    pub pending: String,
    pub visible: String,
}

impl Committable {
    pub(super) fn encode(&self) -> Result<Bytes> {
        split_state::encode(self)
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self> {
        split_state::decode("filesystem", bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_names_can_be_read_back() {
        let part = PartName {
            sink: 0xab,
            attempt: 7,
            subtask: 3,
            number: 12,
        };
        assert_eq!(part.visible(), "part-00000000000000ab-7-3-12");
        for stage in [Stage::InProgress, Stage::Pending] {
            assert_eq!(
                PartName::parse(&part.hidden(stage)),
                Some((part.clone(), stage))
            );
        }
        for other in [
            ".part-x-1-2-3.pending",
            "part-ab-1-2-3",
            ".hidden",
            ".part-ab-1-2.pending",
        ] {
            assert_eq!(PartName::parse(other), None, "{other}");
        }
    }
}
