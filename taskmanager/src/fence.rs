//! Which commands count: those of the newest leader, for the newest attempt of a job. Pure.

use std::collections::HashMap;

use weir_common::ids::{AttemptId, JobId, LeaderTerm};
use weir_proto::v1;

/// Why a command was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The sender belongs to another cluster.
    #[error("refused: this is cluster '{own}', the call is for cluster '{other}'")]
    Cluster {
        /// This process' cluster.
        own: String,
        /// What the call carried.
        other: String,
    },
    /// A newer leader was seen.
    #[error("refused: leader term {got} is older than {newest}")]
    Term {
        /// The term of the call.
        got: LeaderTerm,
        /// The newest seen.
        newest: LeaderTerm,
    },
    /// A newer attempt was seen, or this one was already ended here.
    #[error("refused: attempt {got} of job {job} is over, the newest is {newest}")]
    Attempt {
        /// The job.
        job: JobId,
        /// The attempt of the call.
        got: AttemptId,
        /// The newest seen.
        newest: AttemptId,
    },
    /// The message is broken.
    #[error("refused: {0}")]
    Malformed(String),
}

/// The newest of everything that was seen.
#[derive(Debug, Clone)]
pub struct Fences {
    cluster_id: String,
    term: LeaderTerm,
    attempts: HashMap<JobId, AttemptId>,
}

impl Fences {
    /// Nothing seen yet.
    pub fn new(cluster_id: String) -> Self {
        Self {
            cluster_id,
            term: LeaderTerm(0),
            attempts: HashMap::new(),
        }
    }

    /// Newest leader term seen.
    pub fn term(&self) -> LeaderTerm {
        self.term
    }

    /// A leader answered with this term.
    pub fn observe_term(&mut self, term: LeaderTerm) {
        self.term = self.term.max(term);
    }

    /// A command of the job manager; what it carries becomes the newest.
    pub fn command(&mut self, fence: Option<&v1::Fence>) -> Result<(JobId, AttemptId), Refusal> {
        let fence = fence.ok_or_else(|| Refusal::Malformed("no fence".to_owned()))?;
        let term = LeaderTerm(fence.leader_term);
        if fence.cluster_id == self.cluster_id && term < self.term {
            return Err(Refusal::Term {
                got: term,
                newest: self.term,
            });
        }
        let (job, attempt) = self.check(fence)?;
        self.observe_term(term);
        self.attempts.insert(job.clone(), attempt);
        Ok((job, attempt))
    }

    /// A stream of another task manager: it does not always know the newest leader, so only cluster and attempt count.
    pub fn peer(&self, fence: Option<&v1::Fence>) -> Result<(JobId, AttemptId), Refusal> {
        self.check(fence.ok_or_else(|| Refusal::Malformed("no fence".to_owned()))?)
    }

    fn check(&self, fence: &v1::Fence) -> Result<(JobId, AttemptId), Refusal> {
        if fence.cluster_id != self.cluster_id {
            return Err(Refusal::Cluster {
                own: self.cluster_id.clone(),
                other: fence.cluster_id.clone(),
            });
        }
        let job: JobId =
            fence
                .job_id
                .parse()
                .map_err(|error: weir_common::ids::InvalidJobId| {
                    Refusal::Malformed(error.to_string())
                })?;
        let attempt = AttemptId(fence.attempt);
        match self.attempts.get(&job) {
            Some(newest) if *newest > attempt => Err(Refusal::Attempt {
                job,
                got: attempt,
                newest: *newest,
            }),
            _ => Ok((job, attempt)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JOB: &str = "0123456789abcdef0123456789abcdef";

    fn fence(cluster: &str, attempt: u64, term: u64) -> v1::Fence {
        v1::Fence {
            cluster_id: cluster.to_owned(),
            job_id: JOB.to_owned(),
            attempt,
            leader_term: term,
        }
    }

    #[test]
    fn what_is_older_than_the_newest_is_refused() {
        let mut fences = Fences::new("c".to_owned());
        assert!(fences.command(Some(&fence("c", 2, 7))).is_ok());
        assert!(matches!(
            fences.command(Some(&fence("c", 2, 6))),
            Err(Refusal::Term { .. })
        ));
        assert!(matches!(
            fences.command(Some(&fence("c", 1, 8))),
            Err(Refusal::Attempt { .. })
        ));
        assert!(matches!(
            fences.command(Some(&fence("d", 3, 9))),
            Err(Refusal::Cluster { .. })
        ));
        assert!(matches!(fences.command(None), Err(Refusal::Malformed(_))));
        assert!(fences.command(Some(&fence("c", 3, 7))).is_ok());
    }

    #[test]
    fn a_refused_command_leaves_no_trace() {
        let mut fences = Fences::new("c".to_owned());
        fences.command(Some(&fence("c", 2, 7))).unwrap();
        assert!(fences.command(Some(&fence("c", 1, 9))).is_err());
        assert_eq!(fences.term(), LeaderTerm(7));
    }

    #[test]
    fn a_peer_with_an_old_term_may_send_but_not_one_of_an_old_attempt() {
        let mut fences = Fences::new("c".to_owned());
        fences.command(Some(&fence("c", 2, 7))).unwrap();
        assert!(fences.peer(Some(&fence("c", 2, 3))).is_ok());
        assert!(fences.peer(Some(&fence("c", 1, 9))).is_err());
    }
}
