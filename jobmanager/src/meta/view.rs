//! The state that the log adds up to, and how it is read.

use std::collections::BTreeMap;
use std::sync::Arc;

use prost::Message as _;
use weir_proto::v1;

/// Version of [`v1::MetaSnapshot`]'s meaning.
const SNAPSHOT_FORMAT: u32 = 1;

/// What a command gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing but its effect.
    Done,
    /// The ids of the submission's jobs.
    Jobs(Vec<String>),
    /// The allocated checkpoint id.
    CheckpointId(u64),
}

/// A command that does not fit the state any more (another attempt, an ended job). It changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refusal(pub String);

/// All jobs that are known: those that have not ended, and the newest that have. And who the job managers are.
#[derive(Debug, Default, Clone)]
pub struct MetaState {
    /// Job managers by id; changed by Raft's own entries, not by commands.
    pub members: BTreeMap<u64, v1::JobManagerMember>,
    pub(super) jobs: BTreeMap<String, Arc<v1::JobRecord>>,
}

/// Whether a job in this state will never run again.
pub fn has_ended(state: v1::JobState) -> bool {
    matches!(
        state,
        v1::JobState::Finished | v1::JobState::Canceled | v1::JobState::Failed
    )
}

impl MetaState {
    /// Of a new cluster.
    pub fn of_members(members: BTreeMap<u64, v1::JobManagerMember>) -> Self {
        Self {
            members,
            jobs: BTreeMap::new(),
        }
    }

    /// A job by its id.
    pub fn job(&self, job_id: &str) -> Option<Arc<v1::JobRecord>> {
        self.jobs.get(job_id).cloned()
    }

    /// All jobs, oldest first (ids are ordered by time).
    pub fn jobs(&self) -> impl Iterator<Item = &Arc<v1::JobRecord>> {
        self.jobs.values()
    }

    /// The jobs that a submission made.
    pub fn jobs_of_request(&self, request_id: &str) -> Vec<String> {
        self.jobs
            .values()
            .filter(|job| job.request_id == request_id)
            .map(|job| job.job_id.clone())
            .collect()
    }

    /// As the content of a Raft snapshot.
    pub fn encode(&self) -> Vec<u8> {
        v1::MetaSnapshot {
            format_version: SNAPSHOT_FORMAT,
            jobs: self.jobs.values().map(|job| (**job).clone()).collect(),
            members: self.members.values().cloned().collect(),
        }
        .encode_to_vec()
    }

    /// From the content of a Raft snapshot; empty bytes are the empty state.
    pub fn decode(bytes: &[u8]) -> Result<Self, Refusal> {
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        let snapshot = v1::MetaSnapshot::decode(bytes)
            .map_err(|error| Refusal(format!("the state's snapshot cannot be read: {error}")))?;
        if snapshot.format_version != SNAPSHOT_FORMAT {
            return Err(Refusal(format!(
                "the state's snapshot has format {}, this version of Weir reads {SNAPSHOT_FORMAT}",
                snapshot.format_version
            )));
        }
        Ok(Self {
            members: snapshot
                .members
                .into_iter()
                .map(|member| (member.id, member))
                .collect(),
            jobs: snapshot
                .jobs
                .into_iter()
                .map(|job| (job.job_id.clone(), Arc::new(job)))
                .collect(),
        })
    }

    /// The job, to be changed; refused if it is unknown or has ended.
    pub(super) fn active(&mut self, job_id: &str) -> Result<&mut v1::JobRecord, Refusal> {
        let job = self
            .jobs
            .get_mut(job_id)
            .ok_or_else(|| Refusal(format!("job {job_id} is unknown")))?;
        if has_ended(job.state()) {
            return Err(Refusal(format!(
                "job {job_id} has ended ({})",
                state_name(job.state())
            )));
        }
        Ok(Arc::make_mut(job))
    }
}

/// As users see it: "RUNNING".
pub fn state_name(state: v1::JobState) -> &'static str {
    state
        .as_str_name()
        .strip_prefix("JOB_STATE_")
        .unwrap_or("UNKNOWN")
}

/// The newest restore point, 0 if there is none.
pub fn newest_checkpoint_id(job: &v1::JobRecord) -> u64 {
    job.checkpoints
        .last()
        .map_or(0, |checkpoint| checkpoint.checkpoint_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_gives_the_same_state() {
        let mut state = MetaState::default();
        let job = v1::JobRecord {
            job_id: "a".to_owned(),
            attempt: 3,
            ..Default::default()
        };
        state.jobs.insert("a".to_owned(), Arc::new(job.clone()));
        let member = v1::JobManagerMember {
            id: 4,
            address: "h:1".to_owned(),
            ..Default::default()
        };
        state.members.insert(4, member);
        let copy = MetaState::decode(&state.encode()).unwrap();
        assert_eq!(*copy.job("a").unwrap(), job);
        assert_eq!(copy.members, state.members);
        assert!(MetaState::decode(b"\xff\xff").is_err());
    }
}
