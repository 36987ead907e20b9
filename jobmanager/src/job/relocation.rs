//! Whether a running job has to move off a task manager that wants to leave. Pure.

use super::Context;

/// What the task managers that drain mean for the job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Relocation {
    /// It runs on none of them, or it is too early to say.
    Stay,
    /// It can go on without this one.
    Leave(String),
    /// It runs on one of them and cannot go on without it: why, behind the job's name.
    Stuck(String),
}

/// For a job whose subtasks all run.
pub fn decide(context: &Context) -> Relocation {
    let Some(leaving) = context.uses_any(&context.resources.draining) else {
        return Relocation::Stay;
    };
    if !context.has_checkpoint_directory() {
        return Relocation::Stuck("takes no checkpoints, from which it could go on".to_owned());
    }
    let (needed, open) = (context.slots_wanted().least, context.resources.open_slots);
    if open >= needed {
        return Relocation::Leave(leaving);
    }
    if !context.knows_all_task_managers() {
        return Relocation::Stay;
    }
    Relocation::Stuck(format!(
        "needs {needed} slots, {open} are there on task managers that stay"
    ))
}
