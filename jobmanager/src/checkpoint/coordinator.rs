//! When a snapshot is taken, who has acknowledged it, when it is complete. Pure: one attempt of one job, one snapshot at a time.
//!
//! The way of a snapshot: an id from the log (ids never repeat) → triggered → acknowledged by every subtask → manifest published by
//! conditional create → recorded in the log → committed by the sinks. Only what is in the log is ever announced, so an old leader,
//! whose entries are refused, commits nothing. What fails before the log is forgotten: its id does not come back.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use weir_common::ids::SubtaskId;
use weir_proto::v1;

use super::storage::totals;

/// Whom to tell how a requested savepoint ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ticket(pub u64);

/// Why a snapshot is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Purpose {
    /// The interval has passed.
    Periodic,
    /// All data has ended.
    Final,
    /// The job goes on from it at another parallelism.
    Rescale,
    /// The job goes on from it on other task managers.
    Relocate,
    /// A user wants one, in this folder (URL).
    Savepoint {
        /// Whom to tell.
        ticket: Ticket,
        /// The savepoint's own folder.
        base: String,
    },
    /// A user wants the job to end behind one.
    Stop {
        /// The savepoint's own folder.
        base: String,
    },
}

impl Purpose {
    fn savepoint_base(&self) -> &str {
        match self {
            Self::Savepoint { base, .. } | Self::Stop { base } => base,
            Self::Periodic | Self::Final | Self::Rescale | Self::Relocate => "",
        }
    }

    /// What it is on the object store.
    pub fn kind(&self) -> v1::SnapshotKind {
        match self {
            Self::Savepoint { .. } | Self::Stop { .. } => v1::SnapshotKind::Savepoint,
            Self::Periodic | Self::Final | Self::Rescale | Self::Relocate => {
                v1::SnapshotKind::Checkpoint
            }
        }
    }

    fn stops_sources(&self) -> bool {
        matches!(self, Self::Final | Self::Stop { .. })
    }
}

/// What has happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// Time has passed.
    Tick,
    /// A snapshot is wanted besides the periodic ones.
    Wanted(Purpose),
    /// The log has allocated an id, or could not.
    Allocated(Result<u64, String>),
    /// A subtask's part is on the object store.
    Acknowledged {
        /// Of the checkpoint.
        id: u64,
        /// Who.
        subtask: SubtaskId,
        /// What its operators have in it.
        operators: Vec<v1::OperatorSnapshot>,
    },
    /// A subtask can't.
    Declined {
        /// Of the checkpoint.
        id: u64,
        /// Who and why.
        reason: String,
    },
    /// The manifest is on the object store (its folder's URL), or is not.
    Published {
        /// Of the checkpoint.
        id: u64,
        /// The snapshot's folder.
        result: Result<String, String>,
    },
    /// It is in the log, or was refused.
    Recorded {
        /// Of the checkpoint.
        id: u64,
        /// Why not.
        result: Result<(), String>,
    },
    /// All task managers have answered the notification.
    Committed {
        /// Of the checkpoint.
        id: u64,
        /// Why not.
        result: Result<(), String>,
    },
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    /// Allocate an id in the log.
    Allocate,
    /// Tell the task managers.
    Trigger {
        /// Of the checkpoint.
        id: u64,
        /// Checkpoint or savepoint.
        kind: v1::SnapshotKind,
        /// The savepoint's own folder.
        savepoint_base: String,
        /// The sources stop behind it.
        stop_sources: bool,
        /// Its barriers overtake rows when it is older than this; `None`: never.
        unaligned_after_ms: Option<u64>,
    },
    /// Write the manifest.
    Publish {
        /// Of the checkpoint.
        id: u64,
        /// Checkpoint or savepoint.
        kind: v1::SnapshotKind,
        /// The savepoint's own folder.
        savepoint_base: String,
        /// Of all subtasks.
        operators: Vec<v1::OperatorSnapshot>,
    },
    /// Enter it into the log.
    Record(v1::CheckpointInfo),
    /// Tell the task managers that it is complete, or never will be.
    Notify {
        /// Of the checkpoint.
        id: u64,
        /// Sinks commit.
        completed: bool,
    },
    /// A savepoint has ended: its folder.
    Answer(Ticket, Result<String, String>),
    /// The final checkpoint, that of a rescale or relocation, or the savepoint to stop at (its folder), is complete and committed.
    Settled(String),
    /// The checkpoint of a rescale or relocation failed: the job stays as it is.
    NotMoved(String),
    /// The attempt is to be given up.
    FailOver(String),
}

/// Numbers from the graph.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// 0: no periodic ones.
    pub interval_ms: i64,
    /// From trigger to the manifest.
    pub timeout_ms: i64,
    /// From the end of one to the next.
    pub min_pause_ms: i64,
    /// Failed ones in a row that fail the attempt; 0: never.
    pub tolerable_failures: u32,
    /// When barriers of periodic ones begin to overtake rows. Savepoints, and what stops the sources, stay aligned.
    pub unaligned_after_ms: Option<u64>,
    /// So do those of a checkpoint to rescale from: all rows in flight find their way at another parallelism.
    pub rescales_unaligned: bool,
}

const DEFAULT_TIMEOUT_MS: i64 = 600_000;
/// Tries of a final checkpoint before the attempt is given up.
const FINAL_TRIES: u32 = 3;

impl Settings {
    /// Of a job.
    pub fn of(graph: &v1::JobGraph) -> Self {
        let config = graph.checkpoint.clone().unwrap_or_default();
        let ms = |value: u64| i64::try_from(value).unwrap_or(i64::MAX / 4);
        // Updates on a FORWARD edge have no key by which they would find their way.
        let rescales_unaligned = graph
            .edges
            .iter()
            .all(|edge| edge.partitioning() != v1::Partitioning::Forward);
        // An adaptive job may have to go on from any of them at another parallelism.
        let unaligned = config.unaligned && (rescales_unaligned || graph.adaptive.is_none());
        Self {
            interval_ms: if config.directory.is_empty() {
                0
            } else {
                ms(config.interval_ms)
            },
            timeout_ms: match ms(config.timeout_ms) {
                0 => DEFAULT_TIMEOUT_MS,
                timeout => timeout,
            },
            min_pause_ms: ms(config.min_pause_ms),
            tolerable_failures: config.tolerable_failures,
            unaligned_after_ms: unaligned.then_some(config.aligned_timeout_ms),
            rescales_unaligned,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Allocating,
    Collecting,
    Publishing,
    Recording,
    Committing,
}

#[derive(Debug, Clone)]
struct Pending {
    purpose: Purpose,
    phase: Phase,
    /// 0 while it is being allocated.
    id: u64,
    started_ms: i64,
    acknowledged: BTreeMap<SubtaskId, Vec<v1::OperatorSnapshot>>,
    info: v1::CheckpointInfo,
}

/// See the file's head.
#[derive(Debug, Clone)]
pub struct Coordinator {
    settings: Settings,
    subtasks: BTreeSet<SubtaskId>,
    pending: Option<Pending>,
    wanted: VecDeque<Purpose>,
    /// When the next periodic one is due.
    due_ms: Option<i64>,
    failures_in_row: u32,
    final_failures: u32,
    /// Failed ones of this attempt.
    pub failed: u64,
    /// Why the last one failed.
    pub last_failure: String,
}

impl Coordinator {
    /// For an attempt whose subtasks all run since `now_ms`.
    pub fn new(settings: Settings, subtasks: BTreeSet<SubtaskId>, now_ms: i64) -> Self {
        Self {
            due_ms: (settings.interval_ms > 0).then(|| now_ms + settings.interval_ms),
            settings,
            subtasks,
            pending: None,
            wanted: VecDeque::new(),
            failures_in_row: 0,
            final_failures: 0,
            failed: 0,
            last_failure: String::new(),
        }
    }

    /// No periodic ones from here on: the job is about to end.
    pub fn stop_periodic(&mut self) {
        self.due_ms = None;
    }

    /// Tickets of all savepoints that will not come any more, because the attempt ends.
    pub fn abandon(&mut self) -> Vec<Ticket> {
        let current = self.pending.take().map(|pending| pending.purpose);
        current
            .into_iter()
            .chain(self.wanted.drain(..))
            .filter_map(|purpose| match purpose {
                Purpose::Savepoint { ticket, .. } => Some(ticket),
                _ => None,
            })
            .collect()
    }

    /// Takes one event and gives what is to be done.
    pub fn step(&mut self, now_ms: i64, event: Event) -> Vec<Request> {
        let mut out = Vec::new();
        match event {
            Event::Tick => self.check_timeout(now_ms, &mut out),
            Event::Wanted(purpose) => self.wanted.push_back(purpose),
            Event::Allocated(result) => self.allocated(now_ms, result, &mut out),
            Event::Acknowledged {
                id,
                subtask,
                operators,
            } => self.acknowledged(id, subtask, operators, &mut out),
            Event::Declined { id, reason } => {
                if self.is(id, &[Phase::Collecting]) {
                    self.fail(now_ms, reason, &mut out);
                }
            }
            Event::Published { id, result } => self.published(now_ms, id, result, &mut out),
            Event::Recorded { id, result } => self.recorded(now_ms, id, result, &mut out),
            Event::Committed { id, result } => self.committed(now_ms, id, result, &mut out),
        }
        self.begin_next(now_ms, &mut out);
        out
    }

    fn is(&self, id: u64, phases: &[Phase]) -> bool {
        self.pending
            .as_ref()
            .is_some_and(|pending| pending.id == id && phases.contains(&pending.phase))
    }

    fn begin_next(&mut self, now_ms: i64, out: &mut Vec<Request>) {
        if self.pending.is_some() {
            return;
        }
        let purpose = match self.wanted.pop_front() {
            Some(purpose) => purpose,
            None if self.due_ms.is_some_and(|due| due <= now_ms) => Purpose::Periodic,
            None => return,
        };
        self.pending = Some(Pending {
            purpose,
            phase: Phase::Allocating,
            id: 0,
            started_ms: now_ms,
            acknowledged: BTreeMap::new(),
            info: v1::CheckpointInfo::default(),
        });
        out.push(Request::Allocate);
    }

    fn allocated(&mut self, now_ms: i64, result: Result<u64, String>, out: &mut Vec<Request>) {
        let Some(pending) = self
            .pending
            .as_mut()
            .filter(|pending| pending.phase == Phase::Allocating)
        else {
            return;
        };
        match result {
            Ok(id) => {
                pending.id = id;
                pending.started_ms = now_ms;
                pending.phase = Phase::Collecting;
                let may_overtake = match pending.purpose {
                    Purpose::Periodic | Purpose::Relocate => true,
                    Purpose::Rescale => self.settings.rescales_unaligned,
                    Purpose::Final | Purpose::Savepoint { .. } | Purpose::Stop { .. } => false,
                };
                out.push(Request::Trigger {
                    id,
                    kind: pending.purpose.kind(),
                    savepoint_base: pending.purpose.savepoint_base().to_owned(),
                    stop_sources: pending.purpose.stops_sources(),
                    unaligned_after_ms: self.settings.unaligned_after_ms.filter(|_| may_overtake),
                });
            }
            Err(reason) => self.fail(now_ms, reason, out),
        }
    }

    fn acknowledged(
        &mut self,
        id: u64,
        subtask: SubtaskId,
        operators: Vec<v1::OperatorSnapshot>,
        out: &mut Vec<Request>,
    ) {
        if !self.is(id, &[Phase::Collecting]) || !self.subtasks.contains(&subtask) {
            return;
        }
        let Some(pending) = self.pending.as_mut() else {
            return;
        };
        pending.acknowledged.insert(subtask, operators);
        if pending.acknowledged.len() < self.subtasks.len() {
            return;
        }
        pending.phase = Phase::Publishing;
        let operators: Vec<v1::OperatorSnapshot> = std::mem::take(&mut pending.acknowledged)
            .into_values()
            .flatten()
            .collect();
        let totals = totals(&operators);
        pending.info.state_bytes = totals.state_bytes;
        pending.info.uploaded_bytes = totals.uploaded_bytes;
        pending.info.in_flight_bytes = totals.in_flight_bytes;
        out.push(Request::Publish {
            id,
            kind: pending.purpose.kind(),
            savepoint_base: pending.purpose.savepoint_base().to_owned(),
            operators,
        });
    }

    fn published(
        &mut self,
        now_ms: i64,
        id: u64,
        result: Result<String, String>,
        out: &mut Vec<Request>,
    ) {
        if !self.is(id, &[Phase::Publishing]) {
            return;
        }
        match (result, self.pending.as_mut()) {
            (Ok(path), Some(pending)) => {
                pending.phase = Phase::Recording;
                pending.info.checkpoint_id = id;
                pending.info.path = path;
                pending.info.savepoint = pending.purpose.kind() == v1::SnapshotKind::Savepoint;
                pending.info.duration_ms =
                    u64::try_from(now_ms - pending.started_ms).unwrap_or_default();
                out.push(Request::Record(pending.info.clone()));
            }
            (Err(reason), _) => self.fail(now_ms, reason, out),
            (Ok(_), None) => {}
        }
    }

    fn recorded(
        &mut self,
        now_ms: i64,
        id: u64,
        result: Result<(), String>,
        out: &mut Vec<Request>,
    ) {
        if !self.is(id, &[Phase::Recording]) {
            return;
        }
        match (result, self.pending.as_mut()) {
            (Ok(()), Some(pending)) => {
                pending.phase = Phase::Committing;
                self.failures_in_row = 0;
                out.push(Request::Notify {
                    id,
                    completed: true,
                });
            }
            (Err(reason), _) => self.fail(now_ms, reason, out),
            (Ok(()), None) => {}
        }
    }

    fn committed(
        &mut self,
        now_ms: i64,
        id: u64,
        result: Result<(), String>,
        out: &mut Vec<Request>,
    ) {
        if !self.is(id, &[Phase::Committing]) {
            // The last word of an earlier leader, repeated by this one.
            if let Err(reason) = result {
                out.push(Request::FailOver(not_committed(id, &reason)));
            }
            return;
        }
        let Some(pending) = self.pending.take() else {
            return;
        };
        self.schedule(now_ms, pending.started_ms);
        // The snapshot stands, also if a commit failed: the restart restores it and commits again.
        match pending.purpose {
            Purpose::Savepoint { ticket, .. } => {
                out.push(Request::Answer(ticket, Ok(pending.info.path)));
            }
            Purpose::Final | Purpose::Stop { .. } | Purpose::Rescale | Purpose::Relocate
                if result.is_ok() =>
            {
                out.push(Request::Settled(pending.info.path));
            }
            _ => {}
        }
        if let Err(reason) = result {
            out.push(Request::FailOver(not_committed(id, &reason)));
        }
    }

    fn check_timeout(&mut self, now_ms: i64, out: &mut Vec<Request>) {
        let Some(pending) = &self.pending else {
            return;
        };
        let waits = matches!(pending.phase, Phase::Collecting | Phase::Publishing);
        if !waits || now_ms - pending.started_ms < self.settings.timeout_ms {
            return;
        }
        let missing: Vec<String> = self
            .subtasks
            .iter()
            .filter(|subtask| !pending.acknowledged.contains_key(subtask))
            .take(5)
            .map(SubtaskId::to_string)
            .collect();
        let reason = if pending.phase == Phase::Publishing {
            format!(
                "its manifest was not written within {} ms",
                self.settings.timeout_ms
            )
        } else {
            format!(
                "not acknowledged within {} ms by subtasks {} ({} of {} did)",
                self.settings.timeout_ms,
                missing.join(", "),
                pending.acknowledged.len(),
                self.subtasks.len()
            )
        };
        self.fail(now_ms, reason, out);
    }

    fn fail(&mut self, now_ms: i64, reason: String, out: &mut Vec<Request>) {
        let Some(pending) = self.pending.take() else {
            return;
        };
        self.schedule(now_ms, pending.started_ms);
        self.failed += 1;
        self.failures_in_row += 1;
        self.last_failure.clone_from(&reason);
        if pending.id != 0 {
            out.push(Request::Notify {
                id: pending.id,
                completed: false,
            });
        }
        match pending.purpose {
            Purpose::Savepoint { ticket, .. } => out.push(Request::Answer(ticket, Err(reason))),
            Purpose::Stop { .. } => {
                out.push(Request::FailOver(format!(
                    "the savepoint to stop at failed: {reason}"
                )));
            }
            Purpose::Rescale | Purpose::Relocate => out.push(Request::NotMoved(reason)),
            Purpose::Final => {
                self.final_failures += 1;
                if self.final_failures < FINAL_TRIES {
                    self.wanted.push_back(Purpose::Final);
                } else {
                    out.push(Request::FailOver(format!(
                        "the final checkpoint failed: {reason}"
                    )));
                }
            }
            Purpose::Periodic => {
                let limit = self.settings.tolerable_failures;
                if limit > 0 && self.failures_in_row >= limit {
                    out.push(Request::FailOver(format!(
                        "{} checkpoints failed in a row, the last one: {reason}",
                        self.failures_in_row
                    )));
                }
            }
        }
    }

    fn schedule(&mut self, now_ms: i64, started_ms: i64) {
        if let Some(due) = &mut self.due_ms {
            *due =
                (started_ms + self.settings.interval_ms).max(now_ms + self.settings.min_pause_ms);
        }
    }
}

fn not_committed(id: u64, reason: &str) -> String {
    format!("checkpoint {id} was completed, but not committed: {reason}")
}

#[cfg(test)]
mod tests;
