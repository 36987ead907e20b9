//! CPU time of this process, split between the job managers and what only pretends to be task managers.

use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;

/// Name of the simulation's threads, besides the process' first one.
pub const SIMULATION: &str = "simulation";

/// Used since the process started.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cpu {
    /// By all threads but the simulation's.
    pub job_managers: Duration,
    /// By the simulation's threads: they live as long as the process.
    pub simulation: Duration,
}

impl Cpu {
    /// Up to now.
    pub fn now() -> Self {
        let simulation = simulation().unwrap_or_default();
        Self {
            job_managers: whole_process().saturating_sub(simulation),
            simulation,
        }
    }

    /// Between `earlier` and `self`.
    pub fn since(self, earlier: Self) -> Self {
        Self {
            job_managers: self.job_managers.saturating_sub(earlier.job_managers),
            simulation: self.simulation.saturating_sub(earlier.simulation),
        }
    }
}

fn whole_process() -> Duration {
    let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else {
        return Duration::ZERO;
    };
    let us = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Duration::from_micros(u64::try_from(us).unwrap_or_default())
}

/// The first number of a thread's `schedstat` is its time on a CPU in nanoseconds.
fn simulation() -> std::io::Result<Duration> {
    let main_thread = std::process::id().to_string();
    let mut total = 0;
    for task in std::fs::read_dir("/proc/self/task")? {
        let folder = task?.path();
        let name = std::fs::read_to_string(folder.join("comm")).unwrap_or_default();
        if name.trim_end() == SIMULATION || folder.ends_with(&main_thread) {
            let times = std::fs::read_to_string(folder.join("schedstat")).unwrap_or_default();
            let on_cpu = times
                .split(' ')
                .next()
                .and_then(|ns| ns.parse::<u64>().ok());
            total += on_cpu.unwrap_or_default();
        }
    }
    Ok(Duration::from_nanos(total))
}
