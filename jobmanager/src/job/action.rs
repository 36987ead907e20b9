//! What a job is told, and what it asks for.

use weir_common::ids::SubtaskId;
use weir_proto::v1;
use weir_proto::v1::meta_command::Command;
use weir_snapshot::recovery::Verify;

use crate::checkpoint::coordinator::{self, Ticket};
use crate::checkpoint::storage::Restore;
use crate::members::{Resources, Wanted};
use crate::scheduler::place::Shortage;

/// What has happened.
#[derive(Debug, Clone)]
pub enum Input {
    /// Time has passed.
    Tick,
    /// Answer to [`Action::AllocateSlots`].
    Slots(Result<Vec<v1::SlotPlace>, Shortage>),
    /// Answer to [`Action::ChooseRestore`]. The error says whether another try may help.
    RestoreChosen(Result<Choice, (String, bool)>),
    /// Answer to [`Action::StartAttempt`].
    AttemptStarted(Result<(), String>),
    /// Answer to [`Action::Record`].
    Recorded(v1::JobState, Result<(), String>),
    /// Answer to [`Action::Deploy`]. The error says whether another try may help.
    Deployed(u64, Result<(), (String, bool)>),
    /// Answer to [`Action::TearDown`].
    TornDown(u64),
    /// Answer to [`Action::Prepare`] of an attempt, however it went.
    Prepared(u64),
    /// Answer to [`Action::Finish`], with the subtasks' last figures.
    Finished(u64, Result<Vec<v1::SubtaskStatus>, String>),
    /// About the snapshots of an attempt.
    Checkpoint(u64, coordinator::Event),
    /// A subtask of the current attempt has changed.
    Subtask {
        /// Which one.
        subtask: SubtaskId,
        /// What it is now.
        state: v1::SubtaskState,
        /// For FAILED.
        error: String,
        /// Restarting can't help.
        fatal: bool,
    },
    /// A task manager has said what it runs of the current attempt.
    Heard {
        /// Which one.
        task_manager_id: String,
        /// Where it is.
        address: String,
        /// Its subtasks.
        subtasks: Vec<v1::SubtaskStatus>,
    },
    /// These are gone.
    Lost(Vec<String>),
    /// What there is for the job has changed.
    Resources(Resources),
    /// A user wants the job to end.
    Cancel,
    /// A user wants a savepoint in this folder.
    Savepoint(Ticket, String),
    /// A user wants the job to run at this parallelism.
    Rescale(u32),
    /// A user wants the job to end behind a savepoint.
    Stop {
        /// The savepoint's own folder.
        base: String,
        /// The user's request.
        request_id: String,
    },
}

/// What an attempt starts from, and the newest restore point at the time of choosing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Choice {
    /// What it starts from.
    pub restore: Restore,
    /// 0 if there was none.
    pub newest_checkpoint_id: u64,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Find slots; answered at once.
    AllocateSlots(Wanted),
    /// Give the job's slots back.
    ReleaseSlots,
    /// Read the log and the object store.
    ChooseRestore(Verify),
    /// Enter the attempt into the log.
    StartAttempt {
        /// The next one.
        attempt: u64,
        /// Where.
        slots: Vec<v1::SlotPlace>,
        /// From what.
        choice: Choice,
        /// Of every vertex that may be scaled; 0: as it is.
        parallelism: u32,
    },
    /// Enter a change of state into the log.
    Record(v1::JobState, Command),
    /// Deploy the current attempt.
    Deploy(Restore),
    /// Cancel the current attempt on its task managers.
    TearDown,
    /// Bring the state to where subtasks will be at this parallelism, as far as it is known yet.
    Prepare(u32),
    /// Let the subtasks of the current attempt end.
    Finish,
    /// What the coordinator wants.
    Checkpoint(coordinator::Request),
    /// Tell who waits.
    Answer(Output),
    /// What the job leaves on the object store without a use is to be deleted.
    Clean,
    /// The log has the job otherwise than this leader thought: read it again.
    Reload,
    /// Nothing more will come.
    Done,
}

/// What a waiting user is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// A savepoint's folder.
    Savepoint(Ticket, Result<String, String>),
    /// The folder of the savepoint that the job stopped at.
    Stopped(Result<String, String>),
    /// The job runs at the parallelism that was asked for.
    Rescaled(Result<(), String>),
}
