//! CREATED: in the log, and nothing else yet.

use super::scheduling::Scheduling;
use super::{Context, State};

pub(super) fn open(context: &mut Context) -> State {
    Scheduling::enter(context)
}
