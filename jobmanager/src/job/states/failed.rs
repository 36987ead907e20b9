//! FAILED: the log has the reason; what is left of the attempt is torn down. The retained checkpoints stay, and nothing else.

use weir_proto::v1;

use super::{Action, Context, Input, State};
use crate::meta::command;

/// See the file's head.
#[derive(Debug)]
pub struct Failed {}

impl Failed {
    pub(super) fn enter(context: &mut Context, reason: String) -> State {
        let entry = command::end(&context.job_id, v1::JobState::Failed, &reason);
        context.ask(Action::Record(v1::JobState::Failed, entry));
        context.waiting.clear();
        State::Failed(Self {})
    }

    pub(super) fn on(self, context: &mut Context, input: Input) -> State {
        match input {
            Input::Recorded(v1::JobState::Failed, Ok(())) if context.deployed => {
                context.ask(Action::TearDown);
                State::Failed(self)
            }
            Input::Recorded(v1::JobState::Failed, Ok(())) => end(context),
            Input::Recorded(v1::JobState::Failed, Err(_)) => {
                context.ask(Action::Reload);
                State::Ended
            }
            Input::TornDown(attempt) if attempt == context.attempt => end(context),
            _ => State::Failed(self),
        }
    }
}

fn end(context: &mut Context) -> State {
    context.ask(Action::ReleaseSlots);
    context.ask(Action::Clean);
    context.ask(Action::Done);
    State::Ended
}
