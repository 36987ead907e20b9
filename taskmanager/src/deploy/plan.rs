//! What a deploy command asks of this process: checked, with the subtasks' slots and their share of the memory.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use weir_common::ids::{JobId, SubtaskId, VertexId};
use weir_common::limits::PARALLELISM_MAX;
use weir_common::memory::MemoryBudget;
use weir_dataflow::{Error, Result, SlotWaker};
use weir_proto::v1;
use weir_proto::v1::operator::Kind;

use super::open::is_stateful;
use super::wiring::{Location, Places, vertex};
use crate::attempt::Member;
use crate::meter::Meter;
use crate::node::Node;

/// A deploy command, checked.
pub struct Plan {
    /// The whole job.
    pub graph: v1::JobGraph,
    /// The subtasks here, and the slot of each.
    pub slots: BTreeMap<SubtaskId, usize>,
    /// Of their slots.
    pub wakers: BTreeMap<SubtaskId, SlotWaker>,
    /// Of all subtasks of the job.
    pub places: Places,
    /// The snapshot to begin with.
    pub restore: Option<v1::RestoreFrom>,
}

impl Plan {
    /// # Errors
    /// If the command contradicts itself, or is for another task manager.
    pub fn read(node: &Node, request: v1::DeployRequest) -> Result<Self> {
        let refuse = |what: String| Error::Config(format!("the deployment is wrong: {what}"));
        if request.task_manager_id != node.id {
            return Err(refuse(format!(
                "it is for task manager {}, this is {}",
                request.task_manager_id, node.id
            )));
        }
        let graph = request.graph.ok_or_else(|| refuse("no graph".to_owned()))?;
        let too_wide = |vertex: &&v1::Vertex| !(1..=PARALLELISM_MAX).contains(&vertex.parallelism);
        if let Some(vertex) = graph.vertices.iter().find(too_wide) {
            return Err(refuse(format!(
                "vertex {} has parallelism {}",
                vertex.id, vertex.parallelism
            )));
        }
        let mut plan = Self {
            slots: BTreeMap::new(),
            wakers: BTreeMap::new(),
            places: places(request.task_managers, request.slots),
            restore: request.restore,
            graph,
        };
        for deployment in request.subtasks {
            let id = subtask_id(deployment.subtask);
            let vertex = vertex(&plan.graph, id.vertex.0)?;
            let slot = deployment.slot as usize;
            if id.index >= vertex.parallelism || slot >= node.slots.len() {
                return Err(refuse(format!(
                    "there is no subtask {id} or no slot {slot}"
                )));
            }
            if let Some(own) = node.slots.get(slot) {
                plan.wakers.insert(id, own.waker());
            }
            plan.slots.insert(id, slot);
        }
        Ok(plan)
    }

    /// The subtasks here as members of the attempt.
    ///
    /// # Errors
    /// If the graph lacks a vertex.
    pub fn members(
        &self,
        job: &JobId,
        graph: &v1::JobGraph,
    ) -> Result<BTreeMap<SubtaskId, Member>> {
        let member = |(id, slot): (&SubtaskId, &usize)| {
            let vertex = vertex(graph, id.vertex.0)?;
            let head = vertex.chain.first().and_then(|head| head.kind.as_ref());
            let member = Member {
                slot: *slot,
                meter: Arc::new(Meter::new(job, &vertex.name, *id)),
                is_source: matches!(head, Some(Kind::Source(_))),
            };
            Ok((*id, member))
        };
        self.slots.iter().map(member).collect()
    }

    /// Bytes for the working set of an operator: equal shares a slot, divided among the slot's stateful operators.
    /// Of many slots on a small machine (an embedded cluster), only as many count as can be busy.
    pub fn operator_bytes(&self, node: &Node) -> usize {
        let mut stateful: HashMap<usize, u64> = HashMap::new();
        for (id, slot) in &self.slots {
            if let Ok(vertex) = vertex(&self.graph, id.vertex.0) {
                let count = vertex.chain.iter().filter(|op| is_stateful(op)).count() as u64;
                *stateful.entry(*slot).or_default() += count;
            }
        }
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let busy = stateful.len().max(2 * cores).min(node.slots.len()).max(1);
        let most = stateful.into_values().max().unwrap_or(0).max(1);
        let budget = MemoryBudget::of(node.options.config.memory_bytes);
        let slot = budget.working_set_bytes / busy as u64;
        usize::try_from(slot / most).unwrap_or(usize::MAX)
    }
}

fn places(task_managers: Vec<v1::TaskManagerLocation>, slots: Vec<u32>) -> Places {
    let location = |own: v1::TaskManagerLocation| Location {
        task_manager: own.task_manager_id,
        address: own.address,
    };
    Places {
        task_managers: task_managers.into_iter().map(location).collect(),
        slots,
    }
}

fn subtask_id(id: Option<v1::SubtaskId>) -> SubtaskId {
    id.map_or(
        SubtaskId {
            vertex: VertexId(0),
            index: 0,
        },
        SubtaskId::from,
    )
}
