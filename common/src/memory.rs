//! How a task manager's memory for data is divided among those who hold it.

/// Shares of `taskmanager.memory_bytes`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryBudget {
    /// RocksDB: cached blocks with their indexes and filters, and memtables.
    pub rocksdb_bytes: u64,
    /// Working sets of operators; what is beyond it is in RocksDB only.
    pub working_set_bytes: u64,
    /// Changes on their way from working sets to RocksDB.
    pub writes_bytes: u64,
    /// Batches that wait in channels.
    pub exchange_bytes: u64,
}

impl MemoryBudget {
    /// Most belongs to state, half of it to each of its two homes: the working set saves the way to RocksDB, whose cache saves the
    /// way to the disk.
    pub fn of(memory_bytes: u64) -> Self {
        let exchange_bytes = memory_bytes / 8;
        let writes_bytes = memory_bytes / 16;
        let state = memory_bytes - exchange_bytes - writes_bytes;
        Self {
            rocksdb_bytes: state / 2,
            working_set_bytes: state - state / 2,
            writes_bytes,
            exchange_bytes,
        }
    }

    /// Each holder's share, under the name it has in metrics.
    pub fn holders(&self) -> [(&'static str, u64); 4] {
        [
            ("rocksdb", self.rocksdb_bytes),
            ("working_sets", self.working_set_bytes),
            ("writes", self.writes_bytes),
            ("exchange", self.exchange_bytes),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shares_are_the_whole() {
        for memory_bytes in [0, 1, 17, 64 << 20, 671_088_640, u64::MAX] {
            let shares = MemoryBudget::of(memory_bytes).holders();
            let sum: u128 = shares.iter().map(|(_, bytes)| u128::from(*bytes)).sum();
            assert_eq!(sum, u128::from(memory_bytes));
        }
    }
}
