//! The subtasks of one attempt, as far as the leader has heard of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use weir_common::ids::{SubtaskId, VertexId};
use weir_proto::v1;
use weir_proto::v1::SubtaskState;

use super::{Context, Input};

/// Words in a row without the attempt before it counts as gone from a task manager: a heartbeat can be older than a deployment.
pub const SILENT_HEARTBEATS: u32 = 3;

/// Statuses of failed subtasks in heartbeats before they count without their report.
const BROKEN_HEARTBEATS: u32 = 20;

/// All subtasks of a graph.
pub fn subtasks_of(graph: &v1::JobGraph) -> BTreeSet<SubtaskId> {
    graph
        .vertices
        .iter()
        .flat_map(|vertex| {
            (0..vertex.parallelism).map(|index| SubtaskId {
                vertex: VertexId(vertex.id),
                index,
            })
        })
        .collect()
}

/// States of all subtasks.
#[derive(Debug, Clone)]
pub struct Execution {
    /// DEPLOYING until something else is heard.
    pub states: Arc<BTreeMap<SubtaskId, SubtaskState>>,
    /// How many run, or are further.
    running: usize,
    /// How many have seen the end of their data.
    ended: usize,
    silent: BTreeMap<String, u32>,
    broken: BTreeMap<String, u32>,
}

/// A subtask that ended the attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// With the subtask's name.
    pub reason: String,
    /// Restarting can't help.
    pub fatal: bool,
    /// A task manager is gone, which is not the job's doing.
    pub lost: bool,
}

impl Execution {
    /// Nothing heard yet.
    pub fn new(graph: &v1::JobGraph) -> Self {
        let states = subtasks_of(graph)
            .into_iter()
            .map(|subtask| (subtask, SubtaskState::Deploying))
            .collect();
        Self {
            states: Arc::new(states),
            running: 0,
            ended: 0,
            silent: BTreeMap::new(),
            broken: BTreeMap::new(),
        }
    }

    /// Takes what subtasks and task managers say of the attempt; any other input changes nothing. `patience`: see `heard`.
    pub fn on(&mut self, context: &Context, input: Input, patience: u32) -> Result<(), Failure> {
        match input {
            Input::Subtask {
                subtask,
                state,
                error,
                fatal,
            } => self.report(&context.graph, subtask, state, &error, fatal),
            Input::Heard {
                task_manager_id,
                address,
                subtasks,
            } => self.heard(context, (&task_manager_id, &address), &subtasks, patience),
            Input::Lost(gone) => match context.uses_any(&gone) {
                Some(id) => Err(Failure {
                    reason: format!("task manager {id} is lost"),
                    fatal: false,
                    lost: true,
                }),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }

    fn report(
        &mut self,
        graph: &v1::JobGraph,
        subtask: SubtaskId,
        state: SubtaskState,
        error: &str,
        fatal: bool,
    ) -> Result<(), Failure> {
        let Some(&known) = self.states.get(&subtask) else {
            return Ok(());
        };
        let name = || vertex_name(graph, subtask);
        match state {
            SubtaskState::Failed => Err(Failure {
                reason: if error.is_empty() {
                    format!("subtask {subtask} ({}) failed", name())
                } else {
                    error.to_owned()
                },
                fatal,
                lost: false,
            }),
            SubtaskState::Canceled => Err(Failure {
                reason: format!(
                    "subtask {subtask} ({}) was cancelled by its task manager",
                    name()
                ),
                fatal: false,
                lost: false,
            }),
            // A heartbeat can be older than a report: states only go forward.
            newer if newer > known => {
                self.advance(subtask, known, newer);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn advance(&mut self, subtask: SubtaskId, from: SubtaskState, to: SubtaskState) {
        let passes = |mark: SubtaskState| usize::from(from < mark && to >= mark);
        self.running += passes(SubtaskState::Running);
        self.ended += passes(SubtaskState::EndOfData);
        Arc::make_mut(&mut self.states).insert(subtask, to);
    }

    /// Takes a registration or heartbeat. A task manager that has nothing of the attempt `patience` times in a row has lost it.
    fn heard(
        &mut self,
        context: &Context,
        (task_manager_id, address): (&str, &str),
        subtasks: &[v1::SubtaskStatus],
        patience: u32,
    ) -> Result<(), Failure> {
        let replaced = context.slots.at(address);
        if let Some(former) = replaced.filter(|former| *former != task_manager_id) {
            return Err(Failure {
                reason: format!("task manager {former} at {address} was replaced by a new process"),
                fatal: false,
                lost: true,
            });
        }
        for status in subtasks {
            let Some(subtask) = status.subtask else {
                continue;
            };
            if matches!(
                status.state(),
                SubtaskState::Failed | SubtaskState::Canceled
            ) {
                // The report with the reason is on its way; only if it got lost does the heartbeat stand for it.
                let broken = self.broken.entry(task_manager_id.to_owned()).or_default();
                *broken += 1;
                if *broken < BROKEN_HEARTBEATS {
                    continue;
                }
            }
            self.report(&context.graph, subtask.into(), status.state(), "", false)?;
        }
        let used = context.slots.uses(task_manager_id);
        if !used || !subtasks.is_empty() {
            self.silent.remove(task_manager_id);
            return Ok(());
        }
        let silent = self.silent.entry(task_manager_id.to_owned()).or_default();
        *silent += 1;
        if *silent < patience {
            return Ok(());
        }
        Err(Failure {
            reason: format!(
                "task manager {task_manager_id} at {address} runs no subtask of the job any more"
            ),
            fatal: false,
            lost: true,
        })
    }

    /// Every subtask has reported that it runs, or is further.
    pub fn all_run(&self) -> bool {
        self.running == self.states.len()
    }

    /// Every subtask has seen the end of its data.
    pub fn all_ended(&self) -> bool {
        self.ended == self.states.len()
    }

    /// Those that have not reported that they run.
    pub fn missing(&self) -> usize {
        self.states.len() - self.running
    }
}

/// The vertex' name, for people.
pub fn vertex_name(graph: &v1::JobGraph, subtask: SubtaskId) -> &str {
    graph
        .vertices
        .iter()
        .find(|vertex| vertex.id == subtask.vertex.0)
        .map_or("?", |vertex| vertex.name.as_str())
}
