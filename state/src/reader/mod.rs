//! Reads what a snapshot holds, as rows, without the job that wrote it: the manifest describes every operator's state.

mod contents;

use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::RecordBatch;
use weir_common::config::S3Config;
use weir_common::limits::BATCH_ROWS;
use weir_dataflow::{Error, KeyedState as _, Result, StateTable};
use weir_layout::{RowReader, lists};
use weir_proto::v1;
use weir_snapshot::rescale::{self, range_from_proto};
use weir_snapshot::{Located, locate};

pub use contents::{Contents, OperatorContents, Place, TableContents};

use crate::{RestoreSource, RocksState, StateMemory, StateOptions, Transfers};

/// Memory for reading one database.
const READER_MEMORY_BYTES: u64 = 64 << 20;
/// Writes that wait: a reader has none.
const READER_QUEUE_BYTES: u64 = 1 << 20;

/// A snapshot that is open for reading. Databases are brought to a local folder one at a time.
#[derive(Debug)]
pub struct SnapshotReader {
    located: Located,
    contents: Contents,
    folder: PathBuf,
    memory: Arc<StateMemory>,
    transfers: Transfers,
}

impl SnapshotReader {
    /// Reads the manifest of the snapshot at `path`. `folder` is this reader's own; its owner removes it. Blocks.
    ///
    /// # Errors
    /// If there is no snapshot, or it is damaged.
    pub fn open(path: &str, s3: &S3Config, folder: PathBuf, transfers: Transfers) -> Result<Self> {
        let located = transfers
            .wait(locate(path, s3))
            .map_err(|error| Error::Config(error.to_string()))?;
        Ok(Self {
            contents: Contents::of(&located.manifest)?,
            located,
            folder,
            memory: Arc::new(StateMemory::new(READER_MEMORY_BYTES, READER_QUEUE_BYTES)?),
            transfers,
        })
    }

    /// Who wrote it, and when.
    pub fn manifest(&self) -> &v1::Manifest {
        &self.located.manifest
    }

    /// Its operators and their tables.
    pub fn contents(&self) -> &Contents {
        &self.contents
    }

    /// How many parts of a table can be read one by one.
    pub fn parts(&self, operator: &OperatorContents, table: &TableContents) -> usize {
        match table.place {
            Place::Keyed(_) => self.keyed(&operator.uid).count(),
            Place::List(_) => 1,
        }
    }

    /// Gives the rows of one part of a table to `visit`, always in the same order, until it says `false`. Blocks.
    ///
    /// # Errors
    /// If a file is missing or damaged, an entry is not as described, or `visit` fails.
    pub fn read(
        &self,
        operator: &OperatorContents,
        table: &TableContents,
        part: usize,
        visit: &mut dyn FnMut(RecordBatch) -> Result<bool>,
    ) -> Result<()> {
        let description = match &table.place {
            Place::List(name) => {
                let rows = self.list(&operator.uid, name)?;
                return match rows.num_rows() {
                    0 => Ok(()),
                    _ => visit(rows).map(drop),
                };
            }
            Place::Keyed(description) => description,
        };
        let Some(keyed) = self.keyed(&operator.uid).nth(part) else {
            return Ok(());
        };
        let mut state = self.restore(keyed, part)?;
        let mut rows = RowReader::new(description)?;
        let mut wanted = true;
        state.scan(StateTable(rows.number()), &mut |group, key, value| {
            rows.add(group, key, value)?;
            if rows.len() >= BATCH_ROWS {
                wanted = visit(rows.finish()?)?;
            }
            Ok(wanted)
        })?;
        if wanted && !rows.is_empty() {
            visit(rows.finish()?)?;
        }
        Ok(())
    }

    fn list(&self, uid: &str, name: &str) -> Result<RecordBatch> {
        let parts = rescale::parts(&self.located.manifest, uid);
        lists::rows(&contents::lists(&parts, name))
    }

    fn keyed(&self, uid: &str) -> impl Iterator<Item = &v1::KeyedState> {
        contents::keyed(&self.located.manifest, uid)
    }

    fn restore(&self, keyed: &v1::KeyedState, part: usize) -> Result<RocksState> {
        let range = keyed.key_groups.as_ref().and_then(range_from_proto);
        let options = StateOptions {
            folder: self.folder.join(format!("part-{part}")),
            key_groups: range.ok_or_else(|| {
                Error::Restore("a part of the state has no range of key groups".to_owned())
            })?,
            memory: Arc::clone(&self.memory),
            copies: None,
        };
        let source = RestoreSource {
            base: self.located.base.clone(),
            share_files: false,
        };
        let parts = std::slice::from_ref(keyed);
        Ok(RocksState::restore(
            options,
            parts,
            &source,
            &self.transfers,
        )?)
    }
}
