//! What an attempt starts from: the newest restore point that is whole, then the next older one. Pure: who asks looks at the store.

use weir_proto::v1;

/// What is to be done next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next<'a> {
    /// Look whether this checkpoint or savepoint is whole, and start from it if it is.
    LookAt(&'a v1::CheckpointInfo),
    /// Start from the snapshot that the job was submitted with (its path).
    Submitted(&'a str),
    /// Start empty: the job never had any state.
    Empty,
    /// Do not start: there was state and none of it is usable.
    Refuse(String),
}

/// The search of one attempt. What is not known to be damaged is never passed over: a store that does not answer ends the search.
#[derive(Debug, Clone)]
pub struct FallBack<'a> {
    job: &'a v1::JobRecord,
    damaged: Vec<String>,
}

impl<'a> FallBack<'a> {
    /// Nothing looked at yet.
    pub fn of(job: &'a v1::JobRecord) -> Self {
        Self {
            job,
            damaged: Vec::new(),
        }
    }

    /// The one to look at was not there, or not as its manifest says.
    pub fn damaged(&mut self, why: String) {
        self.damaged.push(why);
    }

    /// See [`Next`].
    pub fn next(&self) -> Next<'a> {
        let mut newest_first = self.job.checkpoints.iter().rev();
        if let Some(point) = newest_first.nth(self.damaged.len()) {
            return Next::LookAt(point);
        }
        if !self.damaged.is_empty() {
            return Next::Refuse(format!(
                "none of the {} retained checkpoints is usable: {}",
                self.damaged.len(),
                self.damaged.join("; ")
            ));
        }
        match self.job.from_savepoint.as_str() {
            "" => Next::Empty,
            path => Next::Submitted(path),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(checkpoints: &[u64], from_savepoint: &str) -> v1::JobRecord {
        let info = |id: &u64| v1::CheckpointInfo {
            checkpoint_id: *id,
            ..Default::default()
        };
        v1::JobRecord {
            checkpoints: checkpoints.iter().map(info).collect(),
            from_savepoint: from_savepoint.to_owned(),
            ..Default::default()
        }
    }

    #[test]
    fn damage_leads_to_the_older_ones_and_never_to_an_empty_start() {
        let job = job(&[3, 5], "/s");
        let mut search = FallBack::of(&job);
        for id in [5, 3] {
            assert!(matches!(search.next(), Next::LookAt(point) if point.checkpoint_id == id));
            search.damaged(format!("{id} is gone"));
        }
        let words = "none of the 2 retained checkpoints is usable: 5 is gone; 3 is gone";
        assert_eq!(search.next(), Next::Refuse(words.to_owned()));
    }

    #[test]
    fn without_own_checkpoints_it_is_what_the_job_was_submitted_with() {
        assert_eq!(FallBack::of(&job(&[], "/s")).next(), Next::Submitted("/s"));
        assert_eq!(FallBack::of(&job(&[], "")).next(), Next::Empty);
    }
}
