//! SCHEDULING: slots are found, the restore point is chosen, the attempt is entered into the log; only then is anything deployed.

use std::sync::Arc;

use weir_proto::v1;

use super::deploying::Deploying;
use super::{Action, Context, Failure, Input, State, fail};
use crate::checkpoint::storage::Restore;
use crate::job::adaptive::milliseconds;
use crate::job::placement::Placement;
use crate::members::Wanted;
use crate::scheduler::place::Shortage;
use crate::validate::set_parallelism;

/// Times that the log may refuse the attempt because a checkpoint completed meanwhile.
const REFUSALS_MAX: u32 = 5;

/// See the file's head.
#[derive(Debug)]
pub struct Scheduling {
    phase: Phase,
    since_ms: i64,
    /// Since when there are slots enough, though not all that are wanted.
    enough_since_ms: Option<i64>,
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
        let wanted = Wanted::exactly(context.slots_wanted().most);
        context.ask(Action::AllocateSlots(wanted));
        State::Scheduling(Self {
            phase: Phase::Slots,
            since_ms: context.now_ms,
            enough_since_ms: None,
            refusals: 0,
        })
    }

    /// All slots that are wanted, or fewer if more have not come for a while.
    fn wanted(&self, context: &Context) -> Wanted {
        let wanted = context.slots_wanted();
        let wait_ms = context.graph.adaptive.map_or(0, |scheduler| {
            milliseconds(scheduler.submission_stabilization_ms)
        });
        let waited = |since_ms: i64| context.now_ms - since_ms >= wait_ms;
        if context.knows_all_task_managers() && self.enough_since_ms.is_some_and(waited) {
            return wanted;
        }
        Wanted::exactly(wanted.most)
    }

    /// There are not all slots that are wanted.
    fn observe(&mut self, context: &mut Context, free: usize) -> Shortage {
        let wanted = context.slots_wanted();
        let needed = wanted.least;
        let shortage = Shortage { needed, free };
        if free < needed {
            self.enough_since_ms = None;
            context.waiting = format!("the job {shortage}");
        } else {
            self.enough_since_ms.get_or_insert(context.now_ms);
            context.waiting = format!(
                "the job waits a while for {} slots before it starts with {free}",
                wanted.most
            );
        }
        shortage
    }

    /// The slots are looked for anew; the choice that is under way comes to nothing.
    fn anew(context: &mut Context) -> State {
        context.ask(Action::ReleaseSlots);
        Self::enter(context)
    }

    pub(super) fn on(mut self, context: &mut Context, input: Input) -> State {
        let phase = std::mem::replace(&mut self.phase, Phase::Slots);
        self.phase = match (phase, input) {
            (Phase::Slots, Input::Slots(Ok(slots))) => {
                context.waiting.clear();
                context.ask(Action::ChooseRestore(context.verify));
                Phase::Choosing(slots)
            }
            (Phase::Slots, Input::Slots(Err(shortage))) => {
                let shortage = self.observe(context, shortage.free);
                let waited_ms = context.now_ms - self.since_ms;
                if self.enough_since_ms.is_none() && waited_ms >= context.limits.slot_timeout_ms {
                    let reason = format!(
                        "the job {shortage}; waited {} s for task managers",
                        context.limits.slot_timeout_ms / 1000
                    );
                    return fail(
                        context,
                        Failure {
                            reason,
                            fatal: false,
                            lost: false,
                        },
                    );
                }
                Phase::Slots
            }
            (Phase::Slots, Input::Tick) => {
                context.ask(Action::AllocateSlots(self.wanted(context)));
                Phase::Slots
            }
            (Phase::Choosing(slots), Input::RestoreChosen(Ok(choice))) => {
                let restore = choice.restore.clone();
                context.ask(Action::StartAttempt {
                    attempt: context.attempt + 1,
                    parallelism: parallelism_with(context, slots.len()),
                    slots: slots.clone(),
                    choice,
                });
                Phase::Starting(slots, restore)
            }
            (Phase::Choosing(_), Input::RestoreChosen(Err((reason, passing)))) => {
                let fatal = !passing;
                return fail(
                    context,
                    Failure {
                        reason,
                        fatal,
                        lost: false,
                    },
                );
            }
            (Phase::Starting(slots, restore), Input::AttemptStarted(Ok(()))) => {
                context.attempt += 1;
                let parallelism = parallelism_with(context, slots.len());
                if parallelism > 0 {
                    set_parallelism(Arc::make_mut(&mut context.graph), parallelism);
                }
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
                            lost: false,
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

/// The parallelism of an attempt with so many slots; 0: as the graph says.
fn parallelism_with(context: &Context, slots: usize) -> u32 {
    let Some(scheduler) = &context.graph.adaptive else {
        return 0;
    };
    u32::try_from(slots).map_or(scheduler.upper_bound, |slots| {
        slots.min(scheduler.upper_bound)
    })
}

fn uses<'a>(slots: &[v1::SlotPlace], task_managers: impl IntoIterator<Item = &'a String>) -> bool {
    let on = |id: &String| slots.iter().any(|slot| slot.task_manager_id == *id);
    task_managers.into_iter().any(on)
}
