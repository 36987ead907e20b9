//! SCHEDULING: slots are found, the restore point is chosen, the attempt is entered into the log; only then is anything deployed.

use std::sync::Arc;

use weir_proto::v1;

use super::deploying::Deploying;
use super::{Action, Context, Failure, Input, State, fail};
use crate::checkpoint::storage::Restore;
use crate::job::placement::Placement;

/// Times that the log may refuse the attempt because a checkpoint completed meanwhile.
const REFUSALS_MAX: u32 = 5;

/// See the file's head.
#[derive(Debug)]
pub struct Scheduling {
    phase: Phase,
    since_ms: i64,
    refusals: u32,
}

#[derive(Debug)]
enum Phase {
    Slots,
    Choosing(Vec<v1::SlotPlace>),
    Starting(Vec<v1::SlotPlace>, Restore),
}

impl Scheduling {
    pub(super) fn enter(context: &mut Context) -> State {
        context.deployed = false;
        context.ask(Action::AllocateSlots(context.slots_needed()));
        State::Scheduling(Self {
            phase: Phase::Slots,
            since_ms: context.now_ms,
            refusals: 0,
        })
    }

    /// The slots are looked for anew; the choice that is under way comes to nothing.
    fn anew(context: &mut Context) -> State {
        context.ask(Action::ReleaseSlots);
        Self::enter(context)
    }

    pub(super) fn on(mut self, context: &mut Context, input: Input) -> State {
        self.phase = match (self.phase, input) {
            (Phase::Slots, Input::Slots(Ok(slots))) => {
                context.waiting.clear();
                context.ask(Action::ChooseRestore(context.verify));
                Phase::Choosing(slots)
            }
            (Phase::Slots, Input::Slots(Err(shortage))) => {
                context.waiting = format!("the job {shortage}");
                if context.now_ms - self.since_ms >= context.limits.slot_timeout_ms {
                    let reason = format!(
                        "the job {shortage}; waited {} s for task managers",
                        context.limits.slot_timeout_ms / 1000
                    );
                    return fail(
                        context,
                        Failure {
                            reason,
                            fatal: false,
                        },
                    );
                }
                Phase::Slots
            }
            (Phase::Slots, Input::Tick) => {
                context.ask(Action::AllocateSlots(context.slots_needed()));
                Phase::Slots
            }
            (Phase::Choosing(slots), Input::RestoreChosen(Ok(choice))) => {
                let restore = choice.restore.clone();
                context.ask(Action::StartAttempt {
                    attempt: context.attempt + 1,
                    slots: slots.clone(),
                    choice,
                });
                Phase::Starting(slots, restore)
            }
            (Phase::Choosing(_), Input::RestoreChosen(Err((reason, passing)))) => {
                let fatal = !passing;
                return fail(context, Failure { reason, fatal });
            }
            (Phase::Starting(slots, restore), Input::AttemptStarted(Ok(()))) => {
                context.attempt += 1;
                context.slots = Arc::new(Placement::new(slots));
                return Deploying::enter(context, restore);
            }
            (Phase::Starting(slots, _), Input::AttemptStarted(Err(reason))) => {
                self.refusals += 1;
                if self.refusals > REFUSALS_MAX {
                    return fail(
                        context,
                        Failure {
                            reason,
                            fatal: false,
                        },
                    );
                }
                context.ask(Action::ChooseRestore(context.verify));
                Phase::Choosing(slots)
            }
            (Phase::Choosing(slots), Input::Lost(gone)) if uses(&slots, &gone) => {
                return Self::anew(context);
            }
            (Phase::Choosing(slots), Input::Resources(there)) if uses(&slots, &there.draining) => {
                return Self::anew(context);
            }
            (phase, _) => phase,
        };
        State::Scheduling(self)
    }
}

fn uses<'a>(slots: &[v1::SlotPlace], task_managers: impl IntoIterator<Item = &'a String>) -> bool {
    let on = |id: &String| slots.iter().any(|slot| slot.task_manager_id == *id);
    task_managers.into_iter().any(on)
}
