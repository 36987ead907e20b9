//! A leader of one job's snapshots: what it knows, what it does beside, and what follows from the coordinator's requests.
//!
//! Real: the coordinator, the log's commands, what a new leader announces, what an attempt starts from, whose a manifest is, which objects go.
//! What the driver and the task managers' services do around these is told here in short.

use bytes::Bytes;
use weir_common::ids::{CheckpointId, SubtaskId, VertexId};
use weir_jobmanager::checkpoint::coordinator::{Coordinator, Event, Purpose, Request, Ticket};
use weir_jobmanager::checkpoint::storage::place_of;
use weir_jobmanager::meta::Outcome;
use weir_proto::v1;
use weir_proto::v1::meta_command::Command;
use weir_snapshot::{gc, manifest};

use crate::part::{Part, Print, printed};
use crate::subtask::{Change, Target};
use crate::world::{CLUSTER, JOB, TIMEOUT_MS, Violation, World};

#[derive(Debug, Clone, Hash)]
pub struct Leader {
    pub term: u64,
    pub stage: Stage,
    pub coordinator: Option<Part<Coordinator>>,
    /// The checkpoint that is under way; 0: its id is not known yet.
    pub under_way: Option<u64>,
    /// What it does beside, and hears the answer of.
    pub ops: Vec<Op>,
}

impl Print for Coordinator {
    fn print(&self) -> u64 {
        printed(self)
    }
}

#[derive(Debug, Clone, Hash)]
pub enum Stage {
    /// It waits for the task managers of a job that it did not start.
    Attaching,
    Running(u64),
    Choosing,
    Starting(Part<Choice>),
    Deploying(u64, Part<Choice>),
    Ended,
}

/// What an attempt starts from.
#[derive(Debug, Clone)]
pub struct Choice {
    pub newest: u64,
    pub restored: u64,
    pub from: Option<(String, v1::Manifest)>,
}

impl Print for Choice {
    fn print(&self) -> u64 {
        printed(self)
    }
}

#[derive(Debug, Clone, Hash, PartialEq)]
pub enum Message {
    Trigger(Target),
    Notify { checkpoint: u64, completed: bool },
}

#[derive(Debug, Clone, Hash, PartialEq)]
pub enum Op {
    Tell {
        subtask: u32,
        attempt: u64,
        term: u64,
        message: Message,
    },
    Publish {
        id: u64,
        attempt: u64,
        base: String,
        path: String,
        bytes: Bytes,
    },
    Record(u64, v1::CheckpointInfo),
    Collect {
        dropped: Vec<CheckpointId>,
        retained: Vec<CheckpointId>,
    },
    Sweep {
        kept: Vec<CheckpointId>,
        running: Option<gc::Running>,
        /// After the end of the job a second one follows, when all writes that were under way have taken effect or never will.
        again: bool,
    },
    DeleteClaimed(String),
    /// URLs, one group after the other, then this goes into the log.
    Delete(Vec<Vec<String>>, Option<Then>),
}

#[derive(Debug, Clone, Hash, PartialEq)]
pub enum Then {
    SweepAgain,
    Cleaned,
    Deleted(String),
}

impl Op {
    pub fn changes(&self, one: bool) -> &'static [Change] {
        match self {
            Self::Tell {
                subtask: 0,
                message: Message::Trigger(_),
                ..
            } if one => &[Change::Flush],
            Self::Tell {
                subtask: 0,
                message: Message::Trigger(_),
                ..
            } => &[Change::Nothing, Change::Flush, Change::Compaction],
            _ => &[Change::Nothing],
        }
    }

    pub fn can_be_lost(&self) -> bool {
        !matches!(self, Self::Delete(..))
    }

    /// One that the job's driver waits for; the others go on without it.
    pub fn is_call(&self) -> bool {
        matches!(
            self,
            Self::Tell { .. } | Self::Publish { .. } | Self::Record(..)
        )
    }
}

pub fn subtask_id(index: u32) -> SubtaskId {
    SubtaskId {
        vertex: VertexId(1),
        index,
    }
}

impl Leader {
    pub fn new(term: u64, stage: Stage) -> Self {
        Self {
            term,
            stage,
            coordinator: None,
            under_way: None,
            ops: Vec::new(),
        }
    }

    /// Unless it is at it.
    pub fn delete_subsumed(&mut self, job: &v1::JobRecord) {
        let path = &job.subsumed_savepoint;
        let deletes = |op: &Op| match op {
            Op::DeleteClaimed(of) | Op::Delete(_, Some(Then::Deleted(of))) => of == path,
            _ => false,
        };
        if !path.is_empty() && !self.ops.iter().any(deletes) {
            self.ops.push(Op::DeleteClaimed(path.clone()));
        }
    }

    pub fn runs(&self, attempt: u64) -> bool {
        matches!(self.stage, Stage::Running(own) if own == attempt)
    }
}

impl World {
    pub fn want(&mut self, savepoint: bool) -> Result<(), Violation> {
        let purpose = if savepoint {
            self.budget.savepoints -= 1;
            Purpose::Savepoint {
                ticket: Ticket(1),
                base: format!("s3://b/savepoint-{}", self.budget.savepoints),
            }
        } else {
            self.budget.checkpoints -= 1;
            Purpose::Periodic
        };
        let leader = self.leaders.len() - 1;
        self.leaders[leader].under_way = Some(0);
        self.coordinate(leader, 0, Event::Wanted(purpose))
    }

    pub fn time_out(&mut self, leader: usize) -> Result<(), Violation> {
        self.coordinate(leader, TIMEOUT_MS, Event::Tick)
    }

    /// Gives the coordinator an event and does what it asks for.
    pub fn coordinate(
        &mut self,
        leader: usize,
        now_ms: i64,
        event: Event,
    ) -> Result<(), Violation> {
        let Some(coordinator) = &mut self.leaders[leader].coordinator else {
            return Ok(());
        };
        let requests = coordinator.change(|coordinator| coordinator.step(now_ms, event));
        let term = self.leaders[leader].term;
        for request in requests {
            self.request(leader, request)?;
            if self.leaders.get(leader).is_none_or(|of| of.term != term) {
                // It leads no more.
                break;
            }
        }
        Ok(())
    }

    pub fn request(&mut self, leader: usize, request: Request) -> Result<(), Violation> {
        let term = self.leaders[leader].term;
        let Stage::Running(attempt) = self.leaders[leader].stage else {
            return Ok(());
        };
        match request {
            Request::Allocate => {
                let begin = v1::BeginCheckpointCommand {
                    job_id: JOB.to_owned(),
                    attempt,
                };
                let Some(outcome) = self.propose(term, Command::BeginCheckpoint(begin)) else {
                    self.retire(leader);
                    return Ok(());
                };
                let id = outcome.map(|outcome| match outcome {
                    Outcome::CheckpointId(id) => id,
                    other => panic!("{other:?}"),
                });
                return self.coordinate(leader, 0, Event::Allocated(id));
            }
            Request::Trigger {
                id, savepoint_base, ..
            } => {
                self.leaders[leader].under_way = Some(id);
                let target = Target {
                    checkpoint: id,
                    savepoint_base,
                };
                self.tell_all(leader, attempt, &Message::Trigger(target));
            }
            Request::Publish {
                id,
                kind,
                savepoint_base,
                operators,
            } => {
                let place = place_of(&self.base, &savepoint_base, id);
                let manifest = v1::Manifest {
                    checkpoint_id: id,
                    kind: kind.into(),
                    attempt,
                    leader_term: term,
                    operators,
                    ..Default::default()
                };
                self.leaders[leader].ops.push(Op::Publish {
                    id,
                    attempt,
                    base: place.base,
                    path: place.manifest,
                    bytes: manifest::encode(&manifest),
                });
            }
            Request::Record(info) => self.leaders[leader].ops.push(Op::Record(attempt, info)),
            Request::Notify { id, completed } => {
                if !completed {
                    self.known.untidy = true;
                    self.leaders[leader].under_way = None;
                }
                let checkpoint = id;
                let message = Message::Notify {
                    checkpoint,
                    completed,
                };
                self.tell_all(leader, attempt, &message);
            }
            Request::Answer(_, Ok(folder)) => self.known.savepoints.push(folder),
            Request::FailOver(_) => self.fail_over(leader),
            Request::Answer(_, Err(_)) | Request::Settled(_) | Request::NotMoved(_) => {}
        }
        Ok(())
    }

    pub fn tell_all(&mut self, leader: usize, attempt: u64, message: &Message) {
        let of = &mut self.leaders[leader];
        let term = of.term;
        of.ops.extend((0..2).map(|subtask| Op::Tell {
            subtask,
            attempt,
            term,
            message: message.clone(),
        }));
    }

    /// It has found out that another leads: what it had sent is on its way, nothing else is done.
    pub fn retire(&mut self, leader: usize) {
        let old = self.leaders.remove(leader);
        self.set_adrift(old.ops);
    }

    pub fn set_adrift(&mut self, ops: Vec<Op>) {
        for op in ops {
            match op {
                Op::Tell { .. } | Op::Publish { .. } => self.adrift.push(op),
                Op::Delete(groups, _) => {
                    self.known.untidy = true;
                    let sent = groups.into_iter().take(1).collect();
                    self.adrift.push(Op::Delete(sent, None));
                }
                Op::Record(..) | Op::Collect { .. } | Op::Sweep { .. } | Op::DeleteClaimed(_) => {
                    self.known.untidy = true;
                }
            }
        }
    }

    pub fn fail_over(&mut self, leader: usize) {
        if self.leaders[leader].term == self.log.term {
            self.fail(None);
        } else {
            // It enters the restart into the log first, which refuses it.
            self.retire(leader);
        }
    }
}

pub fn fence(attempt: u64, leader_term: u64) -> v1::Fence {
    v1::Fence {
        cluster_id: CLUSTER.to_owned(),
        job_id: JOB.to_owned(),
        attempt,
        leader_term,
    }
}
