//! Room for recursion. Parser, planner and the trees themselves recurse once for each operator of a chain `a OR b OR c ...`, and the threads
//! that call this crate have stacks of two megabytes.

use crate::error::{Result, SqlError};

/// Of address space; only what is touched becomes memory.
const BYTES: usize = 256 << 20;

/// Runs `work` on a thread of its own with a large stack, and waits for it.
pub(crate) fn with_large<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T> {
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .name("weir-sql".to_owned())
            .stack_size(BYTES)
            .spawn_scoped(scope, work)
            .map_err(|error| SqlError::new(format!("cannot start a thread for planning: {error}")))?
            .join()
            .map_err(|_| SqlError::new("internal error: the planner panicked"))
    })
}
