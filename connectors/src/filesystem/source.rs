//! Reads files, one after another, on a thread that also decodes them. A file belongs to the subtask that the hash of its path gives.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, ArrayRef, Int64Array, StringArray, TimestampMillisecondArray};
use arrow::datatypes::{Field, SchemaRef};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use weir_common::limits::BATCH_ROWS;
use weir_common::metric_names::DECODE_ERRORS;
use weir_dataflow::schema::decode_schema;
use weir_dataflow::{Batch, Error, Result, SourceEvent, SourceReader};
use weir_proto::v1;
use weir_snapshot::Listed;
use xxhash_rust::xxh3::xxh3_64;

use super::framing::{Framer, Frames};
use super::options::SourceOptions;
use super::partition;
use super::reader::Files;
use crate::context::SourceContext;
use crate::format::container::{Container, Rows};
use crate::format::{Decoded, Decoder, Format};
use crate::io_thread::{Closed, Outlet, Produced, Producer};
use crate::layout::{Layout, partition_place};
use crate::split_state;

/// Decoded batches that wait for the slot.
const QUEUE: usize = 4;

/// One item of the state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum FileState {
    /// A file that is read, and the byte behind the last record; in a container, the rows that were read.
    Reading { path: String, offset: u64 },
    /// Files that were read to their end.
    Finished { paths: BTreeSet<String> },
}

/// What the thread hands over.
enum Event {
    Started(u32, String),
    Batch {
        split: u32,
        batch: Batch,
        /// As in [`FileState::Reading`].
        offset: u64,
    },
    Finished(u32),
    /// All files that were there are read; others may appear.
    CaughtUp,
}

/// The reader of one subtask.
pub(super) struct FileReader {
    producer: Producer<Event>,
    /// File and offset of each split that is open.
    open: BTreeMap<u32, (String, u64)>,
    /// Files that a restored state has begun and that the thread has not come to yet.
    begun: BTreeMap<String, u64>,
    finished: BTreeSet<String>,
    /// Files that are there may not have been begun.
    discovering: bool,
}

impl FileReader {
    pub(super) fn open(
        options: SourceOptions,
        spec: &v1::Source,
        context: SourceContext,
    ) -> Result<Self> {
        let layout = Layout::new(&context.schema);
        let table = table_schema(spec, &layout)?;
        let (begun, finished) = restored(&context.restored)?;
        let info = &context.info;
        let owner = Owner {
            subtask: info.subtask,
            parallelism: info.parallelism.max(1),
        };
        let is_own = |path: &String| owner.owns(path);
        let own_finished: BTreeSet<String> = finished.into_iter().filter(is_own).collect();
        let own_begun: BTreeMap<String, u64> =
            begun.into_iter().filter(|(path, _)| is_own(path)).collect();
        let reading = match options.format.container() {
            Some(container) => Reading::Rows(container),
            None => Reading::Records(options.format.decoder(layout.physical(), &table)?),
        };
        let decoding = Decoding {
            reading,
            layout,
            table: spec.table.clone(),
            default_partition: options.default_partition,
            errors: metrics::counter!(
                DECODE_ERRORS,
                "job" => info.job.to_string(),
                "vertex" => info.name.to_string(),
                "subtask" => info.subtask.to_string()
            ),
        };
        let (thread_begun, thread_done) = (own_begun.clone(), own_finished.clone());
        let (path, s3, runtime) = (options.path, context.s3, context.runtime);
        let scan = move |files| Scan {
            files,
            owner,
            format: options.format,
            monitor_interval: options.monitor_interval,
            done: thread_done,
            begun: thread_begun,
            decoding,
            next_split: 0,
        };
        let waker = context.waker;
        let work =
            move |outlet: &Outlet<Event>| scan(Files::open(&path, &s3, runtime)?).run(outlet);
        Ok(Self {
            producer: Producer::spawn("weir-files", QUEUE, waker, work)?,
            open: BTreeMap::new(),
            begun: own_begun,
            finished: own_finished,
            discovering: true,
        })
    }
}

fn table_schema(spec: &v1::Source, layout: &Layout) -> Result<SchemaRef> {
    if spec.table_schema.is_empty() {
        return Ok(Arc::clone(layout.physical()));
    }
    decode_schema(&spec.table_schema)
}

fn restored(items: &[Bytes]) -> Result<(BTreeMap<String, u64>, BTreeSet<String>)> {
    let mut begun = BTreeMap::new();
    let mut finished = BTreeSet::new();
    for item in items {
        match split_state::decode("filesystem", item)? {
            FileState::Reading { path, offset } => {
                begun.insert(path, offset);
            }
            FileState::Finished { paths } => finished.extend(paths),
        }
    }
    Ok((begun, finished))
}

impl SourceReader for FileReader {
    fn poll(&mut self) -> Result<SourceEvent> {
        Ok(match self.producer.poll()? {
            Produced::Nothing => SourceEvent::Pending,
            Produced::End => {
                self.discovering = false;
                SourceEvent::EndOfData
            }
            Produced::Item(Event::CaughtUp) => {
                self.discovering = false;
                SourceEvent::Pending
            }
            Produced::Item(Event::Started(split, path)) => {
                self.discovering = true;
                let offset = self.begun.remove(&path).unwrap_or(0);
                self.open.insert(split, (path, offset));
                SourceEvent::SplitStarted(split)
            }
            Produced::Item(Event::Batch {
                split,
                batch,
                offset,
            }) => {
                if let Some((_, position)) = self.open.get_mut(&split) {
                    *position = offset;
                }
                SourceEvent::Batch { split, batch }
            }
            Produced::Item(Event::Finished(split)) => {
                if let Some((path, _)) = self.open.remove(&split) {
                    self.finished.insert(path);
                }
                SourceEvent::SplitFinished(split)
            }
        })
    }

    fn snapshot(&mut self) -> Result<Vec<Bytes>> {
        let open = self.open.values().map(|(path, offset)| (path, offset));
        let mut items = open
            .chain(&self.begun)
            .map(|(path, offset)| {
                split_state::encode(&FileState::Reading {
                    path: path.clone(),
                    offset: *offset,
                })
            })
            .collect::<Result<Vec<_>>>()?;
        if !self.finished.is_empty() {
            items.push(split_state::encode(&FileState::Finished {
                paths: self.finished.clone(),
            })?);
        }
        Ok(items)
    }

    fn is_discovering(&self) -> bool {
        self.discovering
    }

    fn close(&mut self) {
        self.producer.close();
    }
}

/// The rule by which files are dealt out.
#[derive(Debug, Clone, Copy)]
struct Owner {
    subtask: u32,
    parallelism: u32,
}

impl Owner {
    fn owns(self, path: &str) -> bool {
        xxh3_64(path.as_bytes()) % u64::from(self.parallelism) == u64::from(self.subtask)
    }
}

/// What the thread works with.
struct Scan {
    files: Files,
    owner: Owner,
    format: Format,
    monitor_interval: Option<Duration>,
    /// Files that were read or are being read.
    done: BTreeSet<String>,
    begun: BTreeMap<String, u64>,
    decoding: Decoding,
    next_split: u32,
}

/// The reader was closed, or reading has failed.
enum Stop {
    Closed,
    Failed(Error),
}

impl From<Closed> for Stop {
    fn from(_: Closed) -> Self {
        Self::Closed
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl Scan {
    fn run(mut self, outlet: &Outlet<Event>) -> Result<()> {
        match self.read_all(outlet) {
            Ok(()) | Err(Stop::Closed) => Ok(()),
            Err(Stop::Failed(error)) => Err(error),
        }
    }

    fn read_all(&mut self, outlet: &Outlet<Event>) -> std::result::Result<(), Stop> {
        let mut caught_up = false;
        loop {
            let files = match self.monitor_interval {
                Some(_) => self.files.list()?,
                None => self.files.list_existing()?,
            };
            for file in files {
                if self.owner.owns(&file.path) && self.done.insert(file.path.clone()) {
                    self.read_file(&file, outlet)?;
                    caught_up = false;
                }
            }
            let Some(interval) = self.monitor_interval else {
                return Ok(());
            };
            if !caught_up {
                outlet.send(Event::CaughtUp)?;
                caught_up = true;
            }
            outlet.sleep(interval)?;
        }
    }

    fn read_file(
        &mut self,
        file: &Listed,
        outlet: &Outlet<Event>,
    ) -> std::result::Result<(), Stop> {
        let split = self.next_split;
        self.next_split += 1;
        let offset = self.begun.remove(&file.path).unwrap_or(0);
        outlet.send(Event::Started(split, file.path.clone()))?;
        let source = SourceFile {
            url: self.files.url_of(&file.path),
            file,
        };
        match &self.decoding.reading {
            Reading::Rows(container) => {
                let rows = self.files.whole(&file.path).and_then(|whole| {
                    let opened = container.open(whole, self.decoding.layout.physical(), offset);
                    opened.map_err(|reason| self.decoding.refused(&source, &reason))
                })?;
                self.read_rows(split, offset, rows, &source, outlet)?;
            }
            Reading::Records(_) => self.read_records(split, offset, &source, outlet)?,
        }
        outlet.send(Event::Finished(split))?;
        Ok(())
    }

    fn read_rows(
        &self,
        split: u32,
        mut offset: u64,
        rows: Rows,
        source: &SourceFile<'_>,
        outlet: &Outlet<Event>,
    ) -> std::result::Result<(), Stop> {
        for columns in rows {
            let columns = columns.map_err(|reason| self.decoding.refused(source, &reason))?;
            offset += columns.num_rows() as u64;
            let batch = self.decoding.assemble(Decoded::inserts(columns), source)?;
            outlet.send(Event::Batch {
                split,
                batch,
                offset,
            })?;
            if outlet.is_closed() {
                return Err(Stop::Closed);
            }
        }
        Ok(())
    }

    fn read_records(
        &mut self,
        split: u32,
        offset: u64,
        source: &SourceFile<'_>,
        outlet: &Outlet<Event>,
    ) -> std::result::Result<(), Stop> {
        let file = source.file;
        let mut pieces = self.files.read(&file.path, offset)?;
        let mut framer = Framer::new(self.format.framing(), offset);
        let mut frames = Frames::default();
        loop {
            let more = pieces.next(|piece| framer.push(piece))?;
            if !more {
                framer.end();
            }
            loop {
                self.take(&mut framer, &mut frames, source)?;
                if frames.ranges.is_empty() {
                    break;
                }
                let batch = self.decoding.decode(&framer, &frames, source)?;
                if batch.num_rows() > 0 {
                    let offset = framer.position();
                    outlet.send(Event::Batch {
                        split,
                        batch,
                        offset,
                    })?;
                }
                if outlet.is_closed() {
                    return Err(Stop::Closed);
                }
            }
            if !more {
                return Ok(());
            }
        }
    }

    fn take(
        &self,
        framer: &mut Framer,
        frames: &mut Frames,
        source: &SourceFile<'_>,
    ) -> Result<()> {
        framer.take(BATCH_ROWS, frames).map_err(|_| {
            Error::Data(format!(
                "table '{}', file {}, byte {}: a record of more than 64 MiB",
                self.decoding.table,
                source.url,
                framer.position()
            ))
        })
    }
}

/// The file that is read.
struct SourceFile<'a> {
    url: String,
    file: &'a Listed,
}

impl SourceFile<'_> {
    /// A metadata column: the same value in all rows.
    fn column(&self, key: &str, field: &Field, rows: usize) -> Result<ArrayRef> {
        let name = self.url.rsplit('/').next().unwrap_or(&self.url);
        Ok(match key {
            "file.path" => Arc::new(StringArray::from(vec![self.url.as_str(); rows])),
            "file.name" => Arc::new(StringArray::from(vec![name; rows])),
            "file.size" => Arc::new(Int64Array::from(vec![self.file.size_bytes as i64; rows])),
            "file.modification-time" => {
                let times = TimestampMillisecondArray::from(vec![self.file.modified_ms; rows]);
                let times: &dyn Array = &times.with_timezone("UTC");
                arrow::compute::cast(times, field.data_type())?
            }
            _ => {
                return Err(Error::Config(format!(
                    "connector 'filesystem' has no metadata '{key}'"
                )));
            }
        })
    }
}

/// How a file's rows are got at.
enum Reading {
    Records(Box<dyn Decoder>),
    Rows(Container),
}

/// Records, or rows, to batches.
struct Decoding {
    reading: Reading,
    layout: Layout,
    table: String,
    /// In the name of a folder: NULL.
    default_partition: String,
    errors: metrics::Counter,
}

impl Decoding {
    fn decode(
        &mut self,
        framer: &Framer,
        frames: &Frames,
        source: &SourceFile<'_>,
    ) -> Result<Batch> {
        let records: Vec<&[u8]> = frames
            .ranges
            .iter()
            .map(|range| framer.bytes(*range))
            .collect();
        let Reading::Records(decoder) = &mut self.reading else {
            return Err(Error::Internal("rows have no frames".to_owned()));
        };
        let decoded = decoder.decode(&records).map_err(|error| {
            let place = frames.ranges.get(error.record).map_or(0, |range| range.0);
            let byte = framer.position_of(place);
            error.at(
                &self.table,
                &format!("file {}, record at byte {byte}", source.url),
            )
        })?;
        if decoded.skipped > 0 {
            self.errors.increment(decoded.skipped);
        }
        self.assemble(decoded, source)
    }

    /// An error that fails the job: the file is broken.
    fn refused(&self, source: &SourceFile<'_>, reason: &str) -> Error {
        Error::Data(format!(
            "table '{}': cannot read file {}: {reason}",
            self.table, source.url
        ))
    }

    fn assemble(&self, decoded: Decoded, source: &SourceFile<'_>) -> Result<Batch> {
        let rows = decoded.columns.num_rows();
        self.layout
            .assemble(decoded, |key, field| match partition_place(field) {
                Some(_) => partition::column(&source.url, field, &self.default_partition, rows),
                None => source.column(key, field, rows),
            })
    }
}
