//! The second phase: commits transactions by what the snapshot says of them, whoever wrote them.

use bytes::Bytes;
use weir_common::ids::JobId;
use weir_dataflow::{Committer, Error, Result};

use super::protocol::{Admin, Producer};

/// First byte of a committable.
const VERSION: u8 = 1;

/// A prepared transaction as it stands in the snapshot.
pub fn encode(producer: &Producer) -> Bytes {
    let mut bytes = vec![VERSION];
    bytes.extend(producer.producer_id.to_le_bytes());
    bytes.extend(producer.epoch.to_le_bytes());
    bytes.extend(producer.transactional_id.as_bytes());
    bytes.into()
}

fn decode(bytes: &[u8]) -> Result<Producer> {
    let broken = || Error::Restore("the snapshot has a broken Kafka committable".to_owned());
    let (head, id) = bytes.split_at_checked(11).ok_or_else(broken)?;
    match head {
        [VERSION, p0, p1, p2, p3, p4, p5, p6, p7, e0, e1] => Ok(Producer {
            producer_id: i64::from_le_bytes([*p0, *p1, *p2, *p3, *p4, *p5, *p6, *p7]),
            epoch: i16::from_le_bytes([*e0, *e1]),
            transactional_id: String::from_utf8(id.to_vec()).map_err(|_| broken())?,
        }),
        _ => Err(broken()),
    }
}

/// `PREFIX-JOB-ATTEMPT-SUBTASK-SEQUENCE`: no two attempts ever share an id, so that a zombie can only touch its own transactions.
#[derive(Debug, Clone)]
pub struct TransactionalIds {
    /// `PREFIX-`
    pub prefix: String,
    pub job: String,
    /// The job was started from a snapshot, maybe another job's: what that one left open is ours to clean up, too.
    pub goes_on: bool,
    pub attempt: u64,
    pub subtask: u32,
    pub parallelism: u32,
}

impl TransactionalIds {
    /// Id of a transaction of this subtask.
    pub fn id(&self, sequence: u64) -> String {
        let Self {
            prefix,
            job,
            attempt,
            subtask,
            ..
        } = self;
        format!("{prefix}{job}-{attempt}-{subtask}-{sequence}")
    }

    /// An earlier attempt's that falls to this subtask to clean up.
    fn is_leftover(&self, id: &str) -> bool {
        let parts = id.strip_prefix(&self.prefix).unwrap_or_default();
        let parts: Vec<&str> = parts.split('-').collect();
        let [job, numbers @ ..] = parts.as_slice() else {
            return false;
        };
        let numbers: Vec<u64> = numbers.iter().filter_map(|n| n.parse().ok()).collect();
        match numbers.as_slice() {
            [attempt, subtask, _] if parts.len() == 4 => {
                let is_earlier = match *job == self.job {
                    true => *attempt < self.attempt,
                    // A longer prefix looks like this, too, but for the id of the job.
                    false => self.goes_on && job.parse::<JobId>().is_ok(),
                };
                is_earlier && subtask % u64::from(self.parallelism) == u64::from(self.subtask)
            }
            _ => false,
        }
    }
}

/// See [`Committer`].
pub struct KafkaCommitter {
    pub admin: Admin,
    pub ids: TransactionalIds,
}

impl Committer for KafkaCommitter {
    fn commit(&self, committables: &[Bytes]) -> Result<()> {
        for committable in committables {
            self.admin.commit(&decode(committable)?)?;
        }
        Ok(())
    }

    /// Open transactions of earlier attempts hold what will be written again, and hide everything behind them from readers of
    /// committed records.
    fn abort_leftovers(&self) -> Result<()> {
        for id in self.admin.list_open(&self.ids.prefix)? {
            if self.ids.is_leftover(&id) {
                tracing::info!(
                    transactional_id = id,
                    "aborting a transaction that an earlier attempt left open"
                );
                self.admin.fence(&id)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_committable_survives_the_snapshot() {
        let producer = Producer {
            transactional_id: "p-0-1".into(),
            producer_id: 4711,
            epoch: 3,
        };
        assert_eq!(decode(&encode(&producer)).unwrap(), producer);
        assert!(decode(b"").is_err() && decode(&[7; 20]).is_err());
    }

    #[test]
    fn only_earlier_attempts_are_cleaned_and_each_by_one_subtask() {
        let (own, other) = ("1".repeat(32), "2".repeat(32));
        let ids = |subtask, goes_on| TransactionalIds {
            prefix: "p-".into(),
            job: own.clone(),
            goes_on,
            attempt: 3,
            subtask,
            parallelism: 2,
        };
        for goes_on in [false, true] {
            let left = |id: String| [0, 1].map(|index| ids(index, goes_on).is_leftover(&id));
            assert_eq!(left(format!("p-{own}-2-5-9")), [false, true]);
            assert_eq!(left(format!("p-{own}-3-0-1")), [false, false]);
            // Of the job whose snapshot this one goes on from.
            assert_eq!(left(format!("p-{other}-7-4-1")), [goes_on, false]);
            // Another sink's with a longer prefix.
            assert_eq!(left(format!("p-q-{other}-2-0-1")), [false, false]);
            assert_eq!(left("p-q-2-0-1".to_owned()), [false, false]);
        }
    }
}
