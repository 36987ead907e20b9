//! Where an attempt runs: slot k has subtask k of every vertex. Indexed, because every heartbeat asks whether it concerns the job.

use std::collections::{BTreeMap, BTreeSet};

use weir_proto::v1;

/// See the file's head.
#[derive(Debug, Clone, Default)]
pub struct Placement {
    slots: Vec<v1::SlotPlace>,
    task_managers: BTreeSet<String>,
    by_address: BTreeMap<String, String>,
}

impl Placement {
    /// Of these slots.
    pub fn new(slots: Vec<v1::SlotPlace>) -> Self {
        let task_managers = slots.iter().map(|s| s.task_manager_id.clone()).collect();
        let by_address = slots
            .iter()
            .map(|s| (s.address.clone(), s.task_manager_id.clone()))
            .collect();
        Self {
            slots,
            task_managers,
            by_address,
        }
    }

    /// Whether it runs there.
    pub fn uses(&self, task_manager_id: &str) -> bool {
        self.task_managers.contains(task_manager_id)
    }

    /// The task manager at this address.
    pub fn at(&self, address: &str) -> Option<&str> {
        self.by_address.get(address).map(String::as_str)
    }
}

impl std::ops::Deref for Placement {
    type Target = [v1::SlotPlace];

    fn deref(&self) -> &[v1::SlotPlace] {
        &self.slots
    }
}
