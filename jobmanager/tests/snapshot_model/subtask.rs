//! A task manager with its one subtask: tables of keyed state, a sink, and snapshots of both that are uploaded beside the stream.
//!
//! Real: which files a snapshot names again (`SharedFiles`), what it holds of the sink (`Committables`), which commands are taken (`Fences`).

use std::collections::BTreeSet;
use std::hash::{Hash, Hasher};

use bytes::Bytes;
use weir_common::ids::{AttemptId, CheckpointId, LeaderTerm};
use weir_operators::committables::Committables;
use weir_operators::sink::COMMITTABLES;
use weir_proto::v1;
use weir_snapshot::SharedFiles;
use weir_snapshot::shared::may_be_shared;
use weir_taskmanager::fence::Fences;

use crate::outside::{Store, Transactions, encoded};
use crate::part::{Print, hashed, printed};

/// How a restored checkpoint is called among those of the attempt, as in weir-state.
const RESTORED: CheckpointId = CheckpointId(0);
const POSITION: &str = "position";

/// What happened to the tables since the last cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Change {
    Nothing,
    /// A new table beside the others.
    Flush,
    /// One new table in place of all.
    Compaction,
}

/// Where a snapshot goes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Target {
    pub checkpoint: u64,
    /// A savepoint's own folder.
    pub savepoint_base: String,
}

/// A process.
#[derive(Debug, Clone)]
pub struct TaskManager {
    pub fences: Fences,
    pub subtask: Option<Subtask>,
}

impl Hash for TaskManager {
    fn hash<H: Hasher>(&self, state: &mut H) {
        printed(&self.fences).hash(state);
        self.subtask.hash(state);
    }
}

impl Print for TaskManager {
    fn print(&self) -> u64 {
        hashed(self)
    }
}

impl TaskManager {
    pub fn new(cluster: &str, term: u64) -> Self {
        let mut fences = Fences::new(cluster.to_owned());
        fences.observe_term(LeaderTerm(term));
        Self {
            fences,
            subtask: None,
        }
    }
}

#[derive(Debug, Clone, Hash)]
pub struct Subtask {
    pub attempt: u64,
    pub index: u32,
    /// Rows it has written; the next one has this number.
    position: u8,
    tables: BTreeSet<u8>,
    next_table: u8,
    last_cut: u64,
    unchanged_since: Option<CheckpointId>,
    shared: SharedFiles,
    pub ledger: Committables,
    /// Worked off in this order.
    pub cuts: Vec<Cut>,
}

/// A snapshot on its way to the store.
#[derive(Debug, Clone, Hash)]
pub struct Cut {
    pub target: Target,
    position: u8,
    stage: Stage,
}

#[derive(Debug, Clone, Hash)]
enum Stage {
    /// Tables of a local snapshot.
    Local(Vec<u8>),
    /// Nothing changed since a snapshot with these files.
    Stored(Vec<v1::FileRef>),
    /// All its files, and URLs of those that are being sent.
    Sending(Vec<v1::FileRef>, Vec<String>),
}

/// An acknowledgement.
#[derive(Debug, Clone)]
pub struct Done {
    pub checkpoint: u64,
    pub operators: Vec<v1::OperatorSnapshot>,
}

impl Subtask {
    /// With one table.
    pub fn new(attempt: u64, index: u32) -> Self {
        Self {
            attempt,
            index,
            position: 0,
            tables: BTreeSet::from([1]),
            next_table: 2,
            last_cut: 0,
            unchanged_since: None,
            shared: SharedFiles::default(),
            ledger: Committables::default(),
            cuts: Vec::new(),
        }
    }

    /// From a snapshot at `from`; the attempt's checkpoints go to `own`.
    pub fn restored(
        attempt: u64,
        index: u32,
        from: &str,
        manifest: &v1::Manifest,
        own: &str,
    ) -> Self {
        let mut subtask = Self::new(attempt, index);
        let mut parts = manifest.operators.iter();
        let Some(part) = parts.find(|part| part.subtask == index) else {
            return subtask;
        };
        let positions = part.states.iter().find(|state| state.name == POSITION);
        subtask.position = positions.map_or(0, |state| state.items[0][0]);
        let files = part.keyed.as_ref().map_or(&[][..], |keyed| &keyed.files);
        subtask.tables = files
            .iter()
            .filter_map(|file| number(&file.local_name))
            .collect();
        subtask.next_table = subtask.tables.last().map_or(2, |last| last + 1);
        if may_be_shared(manifest, from, Some(own)) {
            subtask.shared = SharedFiles::restored(RESTORED, files);
            subtask.unchanged_since = Some(RESTORED);
        }
        subtask
    }

    /// Only the first subtask has keyed state, and sends its files step by step.
    fn has_tables(&self) -> bool {
        self.index == 0
    }

    /// The barrier: a row goes to the sink in front of it. One that is older than another is passed over.
    pub fn cut(&mut self, target: Target, change: Change, outside: &mut Transactions) {
        if target.checkpoint <= self.last_cut {
            return;
        }
        self.last_cut = target.checkpoint;
        let checkpoint = CheckpointId(target.checkpoint);
        outside.write((self.attempt, self.index, checkpoint.0), self.position);
        self.position += 1;
        self.ledger.begin(checkpoint.0);
        if change != Change::Nothing {
            if change == Change::Compaction {
                self.tables.clear();
            }
            self.tables.insert(self.next_table);
            self.next_table += 1;
            self.unchanged_since = None;
        }
        let savepoint = !target.savepoint_base.is_empty();
        if !savepoint {
            self.shared.begin(checkpoint);
        }
        let local = || Stage::Local(self.tables.iter().copied().collect());
        let stage = match (savepoint, savepoint || self.unchanged_since.is_none()) {
            (_, true) => local(),
            (_, false) => {
                let last = self.unchanged_since.unwrap_or(RESTORED);
                let repeated = self.shared.repeat(last, checkpoint);
                repeated.map_or_else(local, Stage::Stored)
            }
        };
        if !savepoint {
            self.unchanged_since = Some(checkpoint);
        }
        self.cuts.push(Cut {
            target,
            position: self.position,
            stage,
        });
    }

    /// Begins to send the files of the first cut.
    pub fn plan(&mut self, checkpoints: &str) {
        let cut = &mut self.cuts[0];
        let checkpoint = CheckpointId(cut.target.checkpoint);
        let transaction = (self.attempt, self.index, checkpoint.0);
        self.ledger
            .prepared(checkpoint.0, vec![encoded(transaction)]);
        let stage = std::mem::replace(&mut cut.stage, Stage::Stored(Vec::new()));
        let tables = match stage {
            Stage::Stored(files) => {
                cut.stage = Stage::Sending(files, Vec::new());
                return;
            }
            Stage::Local(tables) => tables,
            Stage::Sending(..) => unreachable!("planned once"),
        };
        let base = &cut.target.savepoint_base;
        let savepoint = !base.is_empty();
        let (mut reused, mut new) = (Vec::new(), Vec::new());
        for table in tables {
            let name = format!("{table}.sst");
            let found = (!savepoint).then(|| self.shared.find(checkpoint, &name, 1));
            match found.flatten() {
                Some(file) => reused.push(file),
                None => new.push(file(self.attempt, checkpoint, savepoint, name)),
            }
        }
        let manifest = format!("MANIFEST-{}", self.next_table);
        new.push(file(self.attempt, checkpoint, savepoint, manifest));
        if !savepoint {
            let names = new.iter().map(|file| (&*file.local_name, &*file.path));
            self.shared.plan(checkpoint, &reused, names);
        }
        let base = if savepoint {
            base.as_str()
        } else {
            checkpoints
        };
        let sent = new
            .iter()
            .map(|file| format!("{base}/{}", file.path))
            .collect();
        reused.extend(new);
        cut.stage = Stage::Sending(reused, sent);
    }

    /// All files of the first cut are there.
    pub fn sent(&mut self, store: &mut Store) -> Done {
        let cut = self.cuts.remove(0);
        let Stage::Sending(files, sent) = cut.stage else {
            unreachable!("it was planned")
        };
        sent.iter()
            .for_each(|url| store.put(url, Bytes::from_static(b"x")));
        let checkpoint = cut.target.checkpoint;
        if cut.target.savepoint_base.is_empty() {
            self.shared.uploaded(CheckpointId(checkpoint), &files);
        }
        self.done(checkpoint, cut.position, files)
    }

    fn done(&self, checkpoint: u64, position: u8, files: Vec<v1::FileRef>) -> Done {
        let list = |name: &str, items| v1::OperatorState {
            name: name.to_owned(),
            items,
            ..Default::default()
        };
        let held = self.ledger.in_snapshot(checkpoint).unwrap();
        let operator = v1::OperatorSnapshot {
            subtask: self.index,
            keyed: self.has_tables().then_some(v1::KeyedState {
                files,
                ..Default::default()
            }),
            states: vec![
                list(POSITION, vec![Bytes::copy_from_slice(&[position])]),
                list(COMMITTABLES, held),
            ],
            ..Default::default()
        };
        Done {
            checkpoint,
            operators: vec![operator],
        }
    }

    /// The whole snapshot at once, of a subtask without keyed state.
    pub fn snapshot(&mut self, target: Target, outside: &mut Transactions) -> Option<Done> {
        let checkpoint = target.checkpoint;
        self.cut(target, Change::Nothing, outside);
        let cut = self.cuts.pop()?;
        let transaction = (self.attempt, self.index, checkpoint);
        self.ledger.prepared(checkpoint, vec![encoded(transaction)]);
        Some(self.done(checkpoint, cut.position, Vec::new()))
    }

    pub fn confirm(&mut self, checkpoint: u64) {
        self.shared.confirm(CheckpointId(checkpoint));
    }

    pub fn abort(&mut self, checkpoint: u64) {
        self.shared.abort(CheckpointId(checkpoint));
    }

    /// Files that are on their way to the store.
    pub fn on_their_way(&self) -> Vec<String> {
        match self.cuts.first().map(|cut| &cut.stage) {
            Some(Stage::Sending(_, sent)) => sent.clone(),
            _ => Vec::new(),
        }
    }

    /// The next step of the first cut is to plan what is sent.
    pub fn is_to_plan(&self) -> bool {
        let first = self.cuts.first();
        first.is_some_and(|cut| !matches!(cut.stage, Stage::Sending(..)))
    }
}

/// Rows that a snapshot has of each subtask.
pub fn positions(manifest: &v1::Manifest) -> [u8; 2] {
    let mut positions = [0; 2];
    for part in &manifest.operators {
        let state = part.states.iter().find(|state| state.name == POSITION);
        positions[part.subtask as usize] = state.map_or(0, |state| state.items[0][0]);
    }
    positions
}

/// What a snapshot has prepared for commit.
pub fn committables(manifest: &v1::Manifest) -> Vec<Bytes> {
    let states = manifest.operators.iter().flat_map(|part| &part.states);
    let lists = states.filter(|state| state.name == COMMITTABLES);
    lists.flat_map(|state| state.items.clone()).collect()
}

/// A file under a name as `weir_snapshot::paths` makes them, but for the UUID: the same ways must lead to the same states.
fn file(attempt: u64, checkpoint: CheckpointId, savepoint: bool, name: String) -> v1::FileRef {
    let attempt = AttemptId(attempt);
    let path = match (savepoint, name.ends_with(".sst")) {
        (true, _) => format!("files/{checkpoint}-{name}"),
        (_, true) => format!("shared/{attempt}-{checkpoint}-u-{name}"),
        (_, false) => format!("chk-{checkpoint}/{attempt}-u-{name}"),
    };
    v1::FileRef {
        path,
        size_bytes: 1,
        local_name: name,
        ..Default::default()
    }
}

fn number(local_name: &str) -> Option<u8> {
    local_name.strip_suffix(".sst")?.parse().ok()
}
