//! SCHEDULING, second half: the attempt is in the log; task managers create the subtasks and restore their state.

use weir_snapshot::recovery::Verify;

use super::restarting::Restarting;
use super::running::Running;
use super::{Action, Context, Execution, Failure, Input, State, fail};
use crate::checkpoint::storage::Restore;
use crate::job::execution::SILENT_HEARTBEATS;

/// Restoring a large state takes time; an attempt that does not get there at all is given up.
const TIMEOUT_MS: i64 = 600_000;

/// See the file's head.
#[derive(Debug)]
pub struct Deploying {
    pub(super) execution: Execution,
    accepted: bool,
    since_ms: i64,
}

impl Deploying {
    pub(super) fn enter(context: &mut Context, restore: Restore) -> State {
        context.deployed = true;
        context.ask(Action::Deploy(restore));
        State::Deploying(Self {
            execution: Execution::new(&context.graph),
            accepted: false,
            since_ms: context.now_ms,
        })
    }

    pub(super) fn on(mut self, context: &mut Context, input: Input) -> State {
        let by_subtask = matches!(input, Input::Subtask { .. });
        let result = match input {
            Input::Deployed(attempt, result) if attempt == context.attempt => {
                self.accepted = true;
                result.map_err(|(reason, passing)| Failure {
                    reason,
                    fatal: !passing,
                    lost: false,
                })
            }
            // Until all task managers have taken the deployment, not to have it is no loss.
            Input::Heard { .. } if !self.accepted => Ok(()),
            Input::Tick if context.now_ms - self.since_ms > TIMEOUT_MS => Err(Failure {
                reason: format!(
                    "{} subtasks did not start within {} s",
                    self.execution.missing(),
                    TIMEOUT_MS / 1000
                ),
                fatal: false,
                lost: false,
            }),
            input => self.execution.on(context, input, SILENT_HEARTBEATS),
        };
        match result {
            Err(failure) if by_subtask && !failure.fatal && context.verify == Verify::Sizes => {
                // It may have met damage: the next choice finds out, and nothing has run yet that could count as failed.
                context.verify = Verify::Checksums;
                return Restarting::start_over(context, &failure.reason);
            }
            Err(failure) => return fail(context, failure),
            Ok(()) => {}
        }
        if self.accepted && self.execution.all_run() {
            return Running::enter(context, self.execution);
        }
        State::Deploying(self)
    }
}
