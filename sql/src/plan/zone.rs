//! The session's time zone, while a statement is planned.
//!
//! Every expression of a statement is typed in it, wherever the planner comes upon one, so it stands beside the planner instead of in each
//! call. A statement is planned on a thread of its own (`stack`), which starts without one.

use std::cell::RefCell;

thread_local! {
    static ZONE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Plans with 'table.local-time-zone'; `None` is UTC.
pub(crate) fn with<T>(zone: Option<&str>, plan: impl FnOnce() -> T) -> T {
    let before = ZONE.replace(zone.map(str::to_owned));
    let planned = plan();
    ZONE.set(before);
    planned
}

/// The zone that [`with`] has set.
pub(super) fn of_session() -> Option<String> {
    ZONE.with_borrow(Clone::clone)
}
