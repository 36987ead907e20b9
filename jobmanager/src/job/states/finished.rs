//! FINISHED: all data has ended and everything is committed; the subtasks end, then the log says so.

use weir_common::ids::SubtaskId;
use weir_proto::v1;

use super::{Action, Context, Failure, Input, Output, State, fail};
use crate::job::execution::vertex_name;
use crate::meta::command;

/// See the file's head.
#[derive(Debug)]
pub struct Finished {
    /// The folder of the savepoint that the job was stopped at.
    savepoint: Option<String>,
    /// A snapshot behind the last record is complete and committed.
    settled: bool,
}

impl Finished {
    pub(super) fn enter(context: &mut Context, savepoint: Option<String>, settled: bool) -> State {
        context.waiting.clear();
        context.ask(Action::Finish);
        State::Finished(Self { savepoint, settled })
    }

    pub(super) fn on(self, context: &mut Context, input: Input) -> State {
        match input {
            Input::Finished(attempt, Err(reason))
                if attempt == context.attempt && !self.settled =>
            {
                fail(
                    context,
                    Failure {
                        reason: format!("the subtasks could not be ended: {reason}"),
                        fatal: false,
                        lost: false,
                    },
                )
            }
            // With everything committed it does not matter how the subtasks ended.
            Input::Finished(attempt, ended) if attempt == context.attempt => {
                let subtasks = subtasks_info(context, ended.unwrap_or_default());
                let entry = command::finished(&context.job_id, subtasks);
                context.ask(Action::Record(v1::JobState::Finished, entry));
                State::Finished(self)
            }
            Input::Recorded(v1::JobState::Finished, Ok(())) => {
                if let Some(path) = self.savepoint {
                    context.ask(Action::Answer(Output::Stopped(Ok(path))));
                }
                context.ask(Action::ReleaseSlots);
                context.ask(Action::Clean);
                context.ask(Action::Done);
                State::Ended
            }
            Input::Recorded(v1::JobState::Finished, Err(_)) => {
                context.ask(Action::Reload);
                State::Ended
            }
            _ => State::Finished(self),
        }
    }
}

/// What is remembered of the subtasks; it outlives the graph and the slots.
fn subtasks_info(context: &Context, ended: Vec<v1::SubtaskStatus>) -> Vec<v1::SubtaskInfo> {
    let mut infos: Vec<_> = ended
        .into_iter()
        .filter_map(|status| {
            let subtask = SubtaskId::from(status.subtask?);
            let slot = context.slots.get(subtask.index as usize);
            let info = v1::SubtaskInfo {
                status: Some(status),
                vertex_name: vertex_name(&context.graph, subtask).to_owned(),
                task_manager_id: slot.map(|s| s.task_manager_id.clone()).unwrap_or_default(),
                address: slot.map(|s| s.address.clone()).unwrap_or_default(),
            };
            Some((subtask, info))
        })
        .collect();
    infos.sort_by_key(|(subtask, _)| *subtask);
    infos.into_iter().map(|(_, info)| info).collect()
}
