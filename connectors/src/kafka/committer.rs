//! The second phase: commits transactions by what the snapshot says of them, whoever wrote them.

use bytes::Bytes;
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
    /// `PREFIX-JOB-`
    pub job: String,
    pub attempt: u64,
    pub subtask: u32,
    pub parallelism: u32,
}

impl TransactionalIds {
    /// Id of a transaction of this subtask.
    pub fn id(&self, sequence: u64) -> String {
        format!("{}{}-{}-{sequence}", self.job, self.attempt, self.subtask)
    }

    /// An earlier attempt's that falls to this subtask to clean up.
    fn is_leftover(&self, id: &str) -> bool {
        let Some(rest) = id.strip_prefix(&self.job) else {
            return false;
        };
        let numbers: Vec<u64> = rest
            .split('-')
            .filter_map(|part| part.parse().ok())
            .collect();
        match numbers.as_slice() {
            [attempt, subtask, _] => {
                *attempt < self.attempt
                    && subtask % u64::from(self.parallelism) == u64::from(self.subtask)
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
        for id in self.admin.list_open(&self.ids.job)? {
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
        let ids = |subtask| TransactionalIds {
            job: "p-j-".into(),
            attempt: 3,
            subtask,
            parallelism: 2,
        };
        let left: Vec<_> = [0, 1]
            .map(|subtask| ids(subtask).is_leftover("p-j-2-5-9"))
            .into();
        assert_eq!(left, [false, true]);
        assert!(!ids(0).is_leftover("p-j-3-0-1"));
        assert!(!ids(0).is_leftover("p-other-2-0-1"));
    }
}
