//! A source of numbers that stops where the test says, and a sink whose rows are seen when they are committed.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Int64Type, SchemaRef};
use bytes::Bytes;
use weir_connectors::{SinkContext, SourceContext};
use weir_dataflow::testing::schema;
use weir_dataflow::{
    Batch, Committer, Deferred, Error, Result, RowKind, SinkWriter, SourceEvent, SourceReader,
};
use weir_proto::v1;
use weir_taskmanager::Connectors;

/// Splits of the source.
pub const SPLITS: i64 = 4;
/// Keys of the rows.
pub const KEYS: i64 = 10;

/// What test and connectors share.
#[derive(Default)]
pub struct World {
    /// Rows of each split that may be read.
    pub allowed: AtomicI64,
    /// Rows of each split; then it ends.
    pub end: AtomicI64,
    /// Rows that were read, by all attempts.
    pub read: AtomicI64,
    /// A row with this number can't be decoded.
    pub poison: AtomicI64,
    /// A row with this number makes the reader panic.
    pub panic_at: AtomicI64,
    /// Sinks take nothing.
    pub is_closed: AtomicBool,
    committed: Mutex<Committed>,
}

#[derive(Default)]
struct Committed {
    seen: HashSet<Bytes>,
    rows: Vec<(RowKind, i64, i64)>,
}

impl World {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            poison: AtomicI64::new(-1),
            panic_at: AtomicI64::new(-1),
            ..Self::default()
        })
    }

    /// Key → count, from the committed changelog.
    pub fn counts(&self) -> BTreeMap<i64, i64> {
        let mut counts = BTreeMap::new();
        for (kind, key, count) in &self.committed.lock().unwrap().rows {
            match kind {
                RowKind::Insert => assert_eq!(counts.insert(*key, *count), None, "key {key} twice"),
                RowKind::UpdateAfter => {
                    assert_eq!(
                        counts.insert(*key, *count),
                        None,
                        "key {key}: +U without -U"
                    );
                }
                RowKind::UpdateBefore | RowKind::Delete => {
                    assert_eq!(
                        counts.remove(key),
                        Some(*count),
                        "key {key}: wrong retraction"
                    );
                }
            }
        }
        counts
    }
}

/// Opens sources and sinks of a world.
pub struct TestConnectors(pub Arc<World>);

impl Connectors for TestConnectors {
    fn open_source(&self, _: &v1::Source, context: SourceContext) -> Result<Box<dyn SourceReader>> {
        let info = &context.info;
        let mine = (0..SPLITS).filter(|split| *split as u32 % info.parallelism == info.subtask);
        let mut positions: BTreeMap<i64, i64> = mine.map(|split| (split, 0)).collect();
        for item in &context.restored {
            let number = |range| item.get(range).and_then(|b: &[u8]| b.try_into().ok());
            let (Some(split), Some(position)) = (number(0..8), number(8..16)) else {
                return Err(Error::Restore("a broken split".to_owned()));
            };
            if let Some(own) = positions.get_mut(&i64::from_le_bytes(split)) {
                *own = i64::from_le_bytes(position);
            }
        }
        Ok(Box::new(Numbers {
            world: Arc::clone(&self.0),
            schema: context.schema,
            positions,
        }))
    }

    fn open_sink(&self, _: &v1::Sink, context: SinkContext) -> Result<Box<dyn SinkWriter>> {
        Ok(Box::new(Collector {
            world: Arc::clone(&self.0),
            name: format!("{}/{}", context.info.attempt, context.info.subtask),
            rows: Vec::new(),
        }))
    }
}

pub fn rows_schema() -> SchemaRef {
    schema(&[("k", DataType::Int64), ("n", DataType::Int64)])
}

struct Numbers {
    world: Arc<World>,
    schema: SchemaRef,
    positions: BTreeMap<i64, i64>,
}

impl SourceReader for Numbers {
    fn poll(&mut self) -> Result<SourceEvent> {
        let end = self.world.end.load(Ordering::SeqCst);
        let allowed = self.world.allowed.load(Ordering::SeqCst).min(end);
        let behind = self
            .positions
            .iter_mut()
            .find(|(_, position)| **position < allowed);
        let Some((split, position)) = behind else {
            let ended = self.positions.values().all(|position| *position >= end);
            return Ok(if ended {
                SourceEvent::EndOfData
            } else {
                SourceEvent::Pending
            });
        };
        let numbers: Vec<i64> = (*position..allowed.min(*position + 7)).collect();
        *position += numbers.len() as i64;
        if numbers.contains(&self.world.poison.load(Ordering::SeqCst)) {
            return Err(Error::Data(format!("split {split}: a poisoned row")));
        }
        assert!(
            !numbers.contains(&self.world.panic_at.load(Ordering::SeqCst)),
            "panic as asked for"
        );
        self.world
            .read
            .fetch_add(numbers.len() as i64, Ordering::SeqCst);
        let keys: ArrayRef = Arc::new(Int64Array::from_iter_values(
            numbers.iter().map(|n| n % KEYS),
        ));
        let numbers: ArrayRef = Arc::new(Int64Array::from(numbers));
        let data = RecordBatch::try_new(Arc::clone(&self.schema), vec![keys, numbers])?;
        Ok(SourceEvent::Batch {
            split: *split as u32,
            batch: Batch::inserts(data),
        })
    }

    fn snapshot(&mut self) -> Result<Vec<Bytes>> {
        let item = |(split, position): (&i64, &i64)| {
            Bytes::from([split.to_le_bytes(), position.to_le_bytes()].concat())
        };
        Ok(self.positions.iter().map(item).collect())
    }
}

struct Collector {
    world: Arc<World>,
    name: String,
    rows: Vec<(RowKind, i64, i64)>,
}

impl SinkWriter for Collector {
    fn ready(&mut self) -> Result<bool> {
        Ok(!self.world.is_closed.load(Ordering::SeqCst))
    }

    fn write(&mut self, batch: &Batch) -> Result<()> {
        let column = |index: usize| {
            batch
                .data()
                .column(index)
                .as_primitive::<Int64Type>()
                .clone()
        };
        let (keys, counts) = (column(0), column(1));
        for row in 0..batch.num_rows() {
            self.rows
                .push((batch.kind(row), keys.value(row), counts.value(row)));
        }
        Ok(())
    }

    fn prepare(&mut self, checkpoint_id: u64) -> Result<Deferred<Vec<Bytes>>> {
        let rows = std::mem::take(&mut self.rows);
        let mut text = format!("{}/{checkpoint_id}", self.name);
        for (kind, key, count) in rows {
            text.push_str(&format!("\n{} {key} {count}", kind as u8));
        }
        Ok(Box::new(move || Ok(vec![Bytes::from(text)])))
    }

    fn committer(&self) -> Option<Arc<dyn Committer>> {
        Some(Arc::new(Commit(Arc::clone(&self.world))))
    }
}

struct Commit(Arc<World>);

impl Committer for Commit {
    fn commit(&self, committables: &[Bytes]) -> Result<()> {
        let mut committed = self.0.committed.lock().unwrap();
        for item in committables {
            if !committed.seen.insert(item.clone()) {
                continue;
            }
            let text = std::str::from_utf8(item).unwrap();
            for line in text.lines().skip(1) {
                let numbers: Vec<i64> = line.split(' ').map(|word| word.parse().unwrap()).collect();
                let kind = RowKind::from_u8(numbers[0] as u8).unwrap();
                committed.rows.push((kind, numbers[1], numbers[2]));
            }
        }
        Ok(())
    }
}
