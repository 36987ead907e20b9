//! What each task manager is told of an attempt. Pure.
//!
//! One message a task manager: what it says of all others must stay small, and it is made without a look at what others have.

use std::collections::BTreeMap;

use weir_common::key_group::KeyGroupRange;
use weir_proto::v1;
use weir_snapshot::reduce::{Needed, Reducer};

/// An attempt's deployment.
pub struct Deployment {
    /// Without a snapshot.
    common: v1::DeployRequest,
    /// Folder and content of the snapshot.
    restore: Option<(String, Reducer)>,
    /// The job's slots on each task manager: number in the job, number there.
    slots: BTreeMap<String, Vec<(u32, u32)>>,
}

impl Deployment {
    /// `common`: what is the same for all, with the graph and the whole snapshot. Slot k has subtask k of every vertex.
    pub fn new(mut common: v1::DeployRequest, slots: &[v1::SlotPlace]) -> Self {
        let mut own: BTreeMap<String, Vec<(u32, u32)>> = BTreeMap::new();
        let mut known: BTreeMap<&str, u32> = BTreeMap::new();
        for (number, place) in (0..).zip(slots) {
            let next = known.len() as u32;
            let index = *known.entry(&place.task_manager_id).or_insert_with(|| {
                common.task_managers.push(v1::TaskManagerLocation {
                    task_manager_id: place.task_manager_id.clone(),
                    address: place.address.clone(),
                });
                next
            });
            common.slots.push(index);
            own.entry(place.task_manager_id.clone())
                .or_default()
                .push((number, place.slot));
        }
        Self {
            restore: common
                .restore
                .take()
                .map(|from| (from.base, Reducer::new(from.manifest.unwrap_or_default()))),
            common,
            slots: own,
        }
    }

    /// The message to one of them.
    pub fn for_task_manager(&self, id: &str) -> v1::DeployRequest {
        v1::DeployRequest {
            task_manager_id: id.to_owned(),
            subtasks: self.subtasks(id),
            restore: self.restore_of(id),
            ..self.common.clone()
        }
    }

    fn subtasks(&self, id: &str) -> Vec<v1::SubtaskDeployment> {
        let (Some(graph), Some(slots)) = (&self.common.graph, self.slots.get(id)) else {
            return Vec::new();
        };
        let mut subtasks = Vec::new();
        for vertex in &graph.vertices {
            for (index, slot) in slots
                .iter()
                .filter(|(index, _)| *index < vertex.parallelism)
            {
                subtasks.push(v1::SubtaskDeployment {
                    subtask: Some(v1::SubtaskId {
                        vertex: vertex.id,
                        index: *index,
                    }),
                    slot: *slot,
                });
            }
        }
        subtasks
    }

    /// Of the snapshot, what the subtasks there need.
    pub fn restore_of(&self, id: &str) -> Option<v1::RestoreFrom> {
        let (base, reducer) = self.restore.as_ref()?;
        let (graph, slots) = (self.common.graph.as_ref()?, self.slots.get(id)?);
        let mut needed = Needed::new();
        for vertex in &graph.vertices {
            let own = slots
                .iter()
                .filter(|(index, _)| *index < vertex.parallelism);
            let ranges: Vec<KeyGroupRange> = own
                .map(|(index, _)| {
                    KeyGroupRange::of_subtask(*index, graph.max_parallelism, vertex.parallelism)
                })
                .collect();
            for operator in &vertex.chain {
                needed.insert(&operator.uid, ranges.clone());
            }
        }
        Some(v1::RestoreFrom {
            base: base.clone(),
            manifest: Some(reducer.reduced(&needed)),
        })
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    fn deployment(widths: &[u32], slots: &[(&str, u32)]) -> Deployment {
        let vertex = |(id, parallelism)| v1::Vertex {
            id,
            parallelism,
            ..Default::default()
        };
        let common = v1::DeployRequest {
            graph: Some(v1::JobGraph {
                vertices: (1..).zip(widths.iter().copied()).map(vertex).collect(),
                ..Default::default()
            }),
            ..Default::default()
        };
        let place = |(id, slot): &(&str, u32)| v1::SlotPlace {
            task_manager_id: (*id).to_owned(),
            address: format!("{id}:1"),
            slot: *slot,
        };
        Deployment::new(common, &slots.iter().map(place).collect::<Vec<_>>())
    }

    #[test]
    fn each_gets_its_subtasks_and_learns_where_all_others_are() {
        let deployment = deployment(&[3, 1], &[("b", 4), ("a", 0), ("b", 5)]);
        let own = |id: &str| -> Vec<(u32, u32, u32)> {
            let request = deployment.for_task_manager(id);
            assert_eq!(request.task_manager_id, id);
            let names: Vec<_> = request
                .task_managers
                .iter()
                .map(|t| t.address.as_str())
                .collect();
            assert_eq!((names, request.slots), (vec!["b:1", "a:1"], vec![0, 1, 0]));
            let subtask = |d: &v1::SubtaskDeployment| {
                let id = d.subtask.unwrap();
                (id.vertex, id.index, d.slot)
            };
            request.subtasks.iter().map(subtask).collect()
        };
        assert_eq!(own("b"), [(1, 0, 4), (1, 2, 5), (2, 0, 4)]);
        assert_eq!(own("a"), [(1, 1, 0)]);
        assert_eq!(own("c"), []);
    }

    #[test]
    fn a_message_grows_with_the_slots_not_with_the_subtasks() {
        let ids: Vec<String> = (0..100).map(|id| format!("{id:05}")).collect();
        let slots: Vec<(&str, u32)> = ids.iter().map(|id| (id.as_str(), 0)).collect();
        let bytes = |vertices: usize| {
            let deployment = deployment(&vec![100; vertices], &slots);
            deployment.for_task_manager("00007").encoded_len()
        };
        let (one, ten) = (bytes(1), bytes(10));
        assert!(one < 100 * 32, "{one}");
        assert!(ten - one < 9 * 32, "{one} {ten}");
    }
}
