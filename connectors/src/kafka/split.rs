//! A partition as a split: which subtask reads it, and its state in a snapshot.

use bytes::Bytes;
use weir_common::key_group::hash_key;
use weir_dataflow::{Error, Result};

/// First byte of a split's state.
const VERSION: u8 = 1;

/// A partition with the offsets between which it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    pub topic: String,
    pub partition: i32,
    /// Of the next record.
    pub next_offset: i64,
    /// Not read any more; `i64::MAX`: no end.
    pub stop_offset: i64,
}

/// Flink's rule: the partitions of a topic are dealt out in turn, beginning at a subtask that depends on the topic.
pub fn owner(topic: &str, partition: i32, parallelism: u32) -> u32 {
    let start = hash_key(topic.as_bytes()) % u64::from(parallelism);
    ((start + partition.unsigned_abs() as u64) % u64::from(parallelism)) as u32
}

impl Split {
    /// All records are read.
    pub fn is_finished(&self) -> bool {
        self.next_offset >= self.stop_offset
    }

    /// One item of the snapshot.
    pub fn encode(&self) -> Bytes {
        let mut bytes = vec![VERSION];
        bytes.extend(self.partition.to_le_bytes());
        bytes.extend(self.next_offset.to_le_bytes());
        bytes.extend(self.stop_offset.to_le_bytes());
        bytes.extend(self.topic.as_bytes());
        bytes.into()
    }

    /// From [`Self::encode`].
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let broken = || Error::Restore("the snapshot has a broken Kafka split".to_owned());
        let (head, topic) = bytes.split_at_checked(21).ok_or_else(broken)?;
        if head.first() != Some(&VERSION) {
            return Err(Error::Restore(format!(
                "a Kafka split of version {:?} is not known to this version",
                head.first()
            )));
        }
        let int = |range: std::ops::Range<usize>| {
            head.get(range)
                .and_then(|bytes| bytes.try_into().ok())
                .ok_or_else(broken)
        };
        let long = |range: std::ops::Range<usize>| {
            head.get(range)
                .and_then(|bytes| bytes.try_into().ok())
                .ok_or_else(broken)
        };
        Ok(Self {
            partition: i32::from_le_bytes(int(1..5)?),
            next_offset: i64::from_le_bytes(long(5..13)?),
            stop_offset: i64::from_le_bytes(long(13..21)?),
            topic: String::from_utf8(topic.to_vec()).map_err(|_| broken())?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_split_survives_the_snapshot() {
        let split = Split {
            topic: "orders".into(),
            partition: 7,
            next_offset: 42,
            stop_offset: i64::MAX,
        };
        assert_eq!(Split::decode(&split.encode()).unwrap(), split);
        assert!(Split::decode(&[1, 2]).is_err());
        assert!(Split::decode(&[9; 30]).is_err());
    }

    #[test]
    fn partitions_of_a_topic_are_spread_evenly() {
        let mut counts = [0; 3];
        for partition in 0..9 {
            counts[owner("t", partition, 3) as usize] += 1;
        }
        assert_eq!(counts, [3, 3, 3]);
    }
}
