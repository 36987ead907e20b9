//! Writes part files, one at a time in each partition. Lines are encoded on the slot's thread; a thread of the writer's own writes them, and
//! makes the blocks of a container. Each barrier, and the rolling policy, closes files; closed ones wait, hidden, for the commit of their checkpoint.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use crossbeam_channel::{Sender, bounded};
use tempfile::NamedTempFile;
use tokio::runtime::Handle;
use weir_common::clock::Clock;
use weir_dataflow::{Batch, Committer, Deferred, Error, Result, SinkWriter};
use weir_snapshot::Store;

use super::commit::FileCommitter;
use super::content::{Content, Portion, Portions};
use super::external;
use super::options::SinkOptions;
use super::part::{Committable, PartName, Stage};
use super::partition::Partitioner;
use crate::context::SinkContext;
use crate::format::container::Container;
use crate::io_thread::{Work, Worker, answer};

/// Encoded batches that wait for the thread.
const QUEUE: usize = 8;
/// Part files that a subtask has open; the one that was written to least lately is closed for another partition's.
const OPEN_PARTS: usize = 64;

/// The writer of one subtask.
pub(super) struct FileWriter {
    partitioner: Partitioner,
    portions: Portions,
    worker: Worker<Command>,
    committer: Arc<FileCommitter>,
}

enum Command {
    /// Into the part files of these folders.
    Write(Vec<(Arc<str>, Portion)>),
    /// Close what is open, and give the committables of everything that was closed since the last barrier.
    Barrier(Sender<Result<Vec<Bytes>>>),
}

impl FileWriter {
    pub(super) fn open(options: SinkOptions, context: SinkContext) -> Result<Self> {
        let partitioner = Partitioner::new(&context.schema, options.default_partition);
        let portions = Portions::new(&options.format, partitioner.schema())?;
        let store = Store::open(&options.path, &context.s3).map_err(external)?;
        let committer = FileCommitter::new(store.clone(), options.success_file, &context);
        let parts = Parts {
            next: PartName::first(&context.info),
            container: options.format.container(),
            schema: Arc::clone(partitioner.schema()),
            store,
            runtime: context.runtime.clone(),
            clock: context.clock.clone(),
            roll_bytes: options.roll_bytes,
            roll_after: options.roll_after,
            inactive_after: options.inactive_after,
            open: BTreeMap::new(),
            closed: Vec::new(),
        };
        Ok(Self {
            partitioner,
            portions,
            worker: Worker::spawn("weir-files", QUEUE, context.waker, parts)?,
            committer: Arc::new(committer),
        })
    }
}

impl SinkWriter for FileWriter {
    fn ready(&mut self) -> Result<bool> {
        self.worker.ready()
    }

    fn write(&mut self, batch: &Batch) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let parts = self.partitioner.split(batch)?.into_iter();
        let portions = parts.map(|(folder, rows)| Ok((folder, self.portions.portion(&rows)?)));
        self.worker
            .submit(Command::Write(portions.collect::<Result<_>>()?))
    }

    fn prepare(&mut self, _: u64) -> Result<Deferred<Vec<Bytes>>> {
        let (sender, closed) = bounded(1);
        self.worker.submit(Command::Barrier(sender))?;
        Ok(Box::new(move || answer("filesystem", &closed)))
    }

    fn committer(&self) -> Option<Arc<dyn Committer>> {
        Some(Arc::clone(&self.committer) as Arc<dyn Committer>)
    }

    fn close(&mut self) {
        self.worker.close();
    }
}

/// A part file that is being written: in the folder itself under a hidden name, or for S3 in a temporary file.
enum Staging {
    Local(File, PathBuf),
    Upload(NamedTempFile),
}

impl Staging {
    /// Another handle of the file.
    fn handle(&self) -> std::io::Result<File> {
        match self {
            Self::Local(file, _) => file.try_clone(),
            Self::Upload(file) => file.as_file().try_clone(),
        }
    }
}

struct OpenPart {
    name: PartName,
    staging: Staging,
    content: Content,
    opened_ms: i64,
    written_ms: i64,
}

/// The work of the thread.
struct Parts {
    store: Store,
    runtime: Handle,
    clock: Clock,
    roll_bytes: u64,
    roll_after: Duration,
    inactive_after: Duration,
    container: Option<Container>,
    schema: SchemaRef,
    next: PartName,
    /// By the folder of their partition, `""` in a table without.
    open: BTreeMap<Arc<str>, OpenPart>,
    closed: Vec<Committable>,
}

impl Work<Command> for Parts {
    fn run(&mut self, command: Command) -> Result<()> {
        match command {
            Command::Write(portions) => {
                for (folder, portion) in &portions {
                    self.write(folder, portion)?;
                }
                self.roll()
            }
            Command::Barrier(reply) => {
                let closed = self.barrier();
                // A closed reply means that the barrier was given up; what it named is aborted by the next attempt.
                let _ = reply.send(closed);
                Ok(())
            }
        }
    }

    fn idle(&mut self) -> Result<()> {
        self.roll()
    }
}

impl Parts {
    fn write(&mut self, folder: &Arc<str>, portion: &Portion) -> Result<()> {
        let mut part = match self.open.remove(folder) {
            Some(part) => part,
            None => {
                if self.open.len() == OPEN_PARTS {
                    self.close_least_lately_written()?;
                }
                self.start(folder)?
            }
        };
        let written = part.content.write(portion);
        written.map_err(|error| self.about(&part.name, error))?;
        part.written_ms = self.clock.now_ms();
        self.open.insert(Arc::clone(folder), part);
        Ok(())
    }

    fn close_least_lately_written(&mut self) -> Result<()> {
        let oldest = self.open.iter().min_by_key(|(_, part)| part.written_ms);
        match oldest.map(|(folder, _)| Arc::clone(folder)) {
            Some(folder) => self.close(&folder),
            None => Ok(()),
        }
    }

    /// An error in writing a part, with the part's name.
    fn about(&self, name: &PartName, error: Error) -> Error {
        Error::External {
            system: "filesystem",
            message: format!(
                "cannot write {}: {error}",
                self.store.url_of(&name.visible())
            ),
        }
    }

    fn start(&mut self, folder: &str) -> Result<OpenPart> {
        let name = self.next.clone();
        self.next.number += 1;
        let staging = match self.store.local_folder() {
            Some(root) => {
                let folder = root.join(folder);
                let path = folder.join(name.hidden(Stage::InProgress));
                let failed = |error| Error::io(format!("cannot create {}", path.display()), error);
                std::fs::create_dir_all(&folder).map_err(failed)?;
                let file = File::create(&path).map_err(failed)?;
                Staging::Local(file, path)
            }
            None => Staging::Upload(
                NamedTempFile::with_prefix("weir-part-")
                    .map_err(|error| Error::io("cannot create a temporary file", error))?,
            ),
        };
        let handle = staging.handle();
        let handle = handle.map_err(|error| Error::io("cannot open a part file", error))?;
        let content = Content::begin(handle, self.container.as_ref(), &self.schema)
            .map_err(|error| self.about(&name, error))?;
        let now_ms = self.clock.now_ms();
        Ok(OpenPart {
            name,
            staging,
            content,
            opened_ms: now_ms,
            written_ms: now_ms,
        })
    }

    /// Closes the parts that are large, old or silent enough.
    fn roll(&mut self) -> Result<()> {
        let now = self.clock.now_ms();
        let ms = |limit: Duration| i64::try_from(limit.as_millis()).unwrap_or(i64::MAX);
        let (old, silent) = (ms(self.roll_after), ms(self.inactive_after));
        let due = self.open.iter().filter(|(_, part)| {
            part.content.bytes() >= self.roll_bytes
                || now - part.opened_ms >= old
                || now - part.written_ms >= silent
        });
        let due: Vec<Arc<str>> = due.map(|(folder, _)| Arc::clone(folder)).collect();
        due.iter().try_for_each(|folder| self.close(folder))
    }

    /// Makes the open part of a folder durable under its pending name.
    fn close(&mut self, folder: &Arc<str>) -> Result<()> {
        let Some(part) = self.open.remove(folder) else {
            return Ok(());
        };
        let finished = part.content.finish();
        finished.map_err(|error| self.about(&part.name, error))?;
        let hidden = part.name.hidden(Stage::Pending);
        let pending = in_folder(folder, &hidden);
        match part.staging {
            Staging::Local(file, path) => {
                let to = path.with_file_name(&hidden);
                file.sync_all()
                    .and_then(|()| std::fs::rename(&path, &to))
                    .and_then(|()| sync_parent(&to))
                    .map_err(|error| {
                        Error::io(format!("cannot close {}", path.display()), error)
                    })?;
            }
            Staging::Upload(file) => {
                let upload = self.store.put_file(&pending, file.path());
                self.runtime.block_on(upload).map_err(external)?;
            }
        }
        self.closed.push(Committable {
            folder: self.store.url().to_owned(),
            pending,
            visible: in_folder(folder, &part.name.visible()),
        });
        Ok(())
    }

    fn barrier(&mut self) -> Result<Vec<Bytes>> {
        while let Some(folder) = self.open.keys().next().cloned() {
            self.close(&folder)?;
        }
        let closed = std::mem::take(&mut self.closed);
        closed.iter().map(Committable::encode).collect()
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        // What is open belongs to no checkpoint. A file that can't be removed here is removed by the next attempt.
        for part in std::mem::take(&mut self.open).into_values() {
            if let Staging::Local(_, path) = part.staging {
                let _ = std::fs::remove_file(path);
            }
        }
    }
}

fn in_folder(folder: &str, name: &str) -> String {
    match folder {
        "" => name.to_owned(),
        folder => format!("{folder}/{name}"),
    }
}

/// Makes a rename durable.
pub(super) fn sync_parent(path: &std::path::Path) -> std::io::Result<()> {
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}
