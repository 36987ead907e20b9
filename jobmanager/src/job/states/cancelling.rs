//! CANCELLING: the wish is in the log; the attempt is torn down, the end is entered, the checkpoints are deleted.

use weir_proto::v1;

use super::{Action, Context, Input, State};
use crate::meta::command;

/// See the file's head.
#[derive(Debug)]
pub struct Cancelling {
    recorded: bool,
}

impl Cancelling {
    pub(super) fn enter(context: &mut Context) -> State {
        let entry = command::set_state(&context.job_id, v1::JobState::Cancelling);
        context.ask(Action::Record(v1::JobState::Cancelling, entry));
        context.waiting.clear();
        State::Cancelling(Self { recorded: false })
    }

    /// An earlier leader was here.
    pub(super) fn resume(context: &mut Context) -> State {
        Self { recorded: true }.tear_down(context)
    }

    fn tear_down(self, context: &mut Context) -> State {
        if context.deployed {
            context.ask(Action::TearDown);
            return State::Cancelling(self);
        }
        self.end(context)
    }

    fn end(self, context: &mut Context) -> State {
        context.ask(Action::ReleaseSlots);
        let entry = command::end(&context.job_id, v1::JobState::Canceled, "");
        context.ask(Action::Record(v1::JobState::Canceled, entry));
        State::Cancelling(self)
    }

    pub(super) fn on(mut self, context: &mut Context, input: Input) -> State {
        match input {
            Input::Recorded(v1::JobState::Cancelling, Ok(())) if !self.recorded => {
                self.recorded = true;
                self.tear_down(context)
            }
            Input::TornDown(attempt) if attempt == context.attempt => self.end(context),
            Input::Recorded(v1::JobState::Canceled, Ok(())) => {
                context.ask(Action::Clean);
                context.ask(Action::Done);
                State::Ended
            }
            Input::Recorded(_, Err(_)) => {
                context.ask(Action::Reload);
                State::Ended
            }
            _ => State::Cancelling(self),
        }
    }
}
