//! Reads one file from a byte on, on the I/O thread. Local files go through std: object_store reads them in small pieces, each on a thread of its own.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};

use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::runtime::Handle;
use weir_dataflow::{Error, Result};
use weir_snapshot::{Listed, Store};

use super::external;

const PIECE_BYTES: usize = 1 << 20;
const COMPRESSED: &[&str] = &[
    "gz", "gzip", "bz2", "deflate", "xz", "zst", "zstd", "snappy",
];

/// Where the files are.
pub(super) struct Files {
    store: Store,
    /// Set if the path is that of one file of `store`.
    only: Option<String>,
    runtime: Handle,
}

impl Files {
    /// Asks whether `path` is a file or a folder.
    pub(super) fn open(
        path: &str,
        s3: &weir_common::config::S3Config,
        runtime: Handle,
    ) -> Result<Self> {
        let trimmed = path.trim_end_matches('/');
        if let Some((parent, name)) = trimmed.rsplit_once('/')
            && !parent.ends_with(':')
            && !parent.ends_with('/')
            && !name.is_empty()
        {
            let parent = if parent.is_empty() { "/" } else { parent };
            let store = Store::open(parent, s3).map_err(external)?;
            let is_file = match store.local_folder() {
                Some(folder) => folder.join(name).is_file(),
                None => runtime
                    .block_on(store.head(name))
                    .map_err(external)?
                    .is_some(),
            };
            if is_file {
                return Ok(Self {
                    store,
                    only: Some(name.to_owned()),
                    runtime,
                });
            }
        }
        Ok(Self {
            store: Store::open(path, s3).map_err(external)?,
            only: None,
            runtime,
        })
    }

    /// All files that are not hidden, in order of path.
    pub(super) fn list(&self) -> Result<Vec<Listed>> {
        if let Some(name) = &self.only {
            let found = self
                .runtime
                .block_on(self.store.head(name))
                .map_err(external)?;
            return Ok(found.into_iter().collect());
        }
        let all = self
            .runtime
            .block_on(self.store.list(""))
            .map_err(external)?;
        Ok(all
            .into_iter()
            .filter(|file| !is_hidden(&file.path))
            .collect())
    }

    /// The files of a table that is read once: there must be a folder, or objects below the prefix.
    pub(super) fn list_existing(&self) -> Result<Vec<Listed>> {
        let files = self.list()?;
        let is_there = match self.store.local_folder() {
            Some(folder) => self.only.is_some() || folder.is_dir(),
            None => !files.is_empty(),
        };
        if is_there {
            return Ok(files);
        }
        Err(Error::External {
            system: "filesystem",
            message: format!("there is no file or folder {}", self.store.url()),
        })
    }

    pub(super) fn url_of(&self, path: &str) -> String {
        self.store.url_of(path)
    }

    /// The whole file, with random access; an object of S3 is copied into a temporary file.
    pub(super) fn whole(&self, path: &str) -> Result<File> {
        if let Some(folder) = self.store.local_folder() {
            let file = folder.join(path);
            return File::open(&file)
                .map_err(|error| Error::io(format!("cannot read {}", file.display()), error));
        }
        let failed = |error| Error::io("cannot write a temporary file", error);
        let mut copy = tempfile::tempfile().map_err(failed)?;
        let stream = self.runtime.block_on(self.store.read_from(path, 0));
        let mut stream = stream.map_err(external)?;
        while let Some(piece) = self.runtime.block_on(stream.next()) {
            copy.write_all(&piece.map_err(external)?).map_err(failed)?;
        }
        copy.rewind().map_err(failed)?;
        Ok(copy)
    }

    /// Opens a file at a byte.
    pub(super) fn read(&self, path: &str, offset: u64) -> Result<Pieces> {
        let extension = path.rsplit_once('.').map_or("", |(_, extension)| extension);
        if COMPRESSED.contains(&extension) {
            return Err(Error::Config(format!(
                "connector 'filesystem': {} is compressed, and reading compressed files is not supported yet",
                self.url_of(path)
            )));
        }
        let Some(folder) = self.store.local_folder() else {
            let stream = self.runtime.block_on(self.store.read_from(path, offset));
            return Ok(Pieces::Remote(
                stream.map_err(external)?,
                self.runtime.clone(),
            ));
        };
        let file = folder.join(path);
        let context = || format!("cannot read {}", file.display());
        let mut opened = File::open(&file).map_err(|error| Error::io(context(), error))?;
        opened
            .seek(SeekFrom::Start(offset))
            .map_err(|error| Error::io(context(), error))?;
        Ok(Pieces::Local(opened, context(), vec![0; PIECE_BYTES]))
    }
}

/// A file's bytes in pieces.
pub(super) enum Pieces {
    /// File, context of its errors, buffer.
    Local(File, String, Vec<u8>),
    Remote(
        BoxStream<'static, weir_snapshot::Result<bytes::Bytes>>,
        Handle,
    ),
}

impl Pieces {
    /// Hands the next piece to `take`; false at the end of the file.
    pub(super) fn next(&mut self, take: impl FnOnce(&[u8])) -> Result<bool> {
        match self {
            Self::Local(file, context, buffer) => {
                let read = loop {
                    match file.read(buffer) {
                        Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                        other => {
                            break other.map_err(|error| Error::io(context.as_str(), error))?;
                        }
                    }
                };
                take(&buffer[..read]);
                Ok(read > 0)
            }
            Self::Remote(stream, runtime) => match runtime.block_on(stream.next()) {
                Some(piece) => {
                    take(&piece.map_err(external)?);
                    Ok(true)
                }
                None => Ok(false),
            },
        }
    }
}

/// Files and folders whose name begins with a dot or an underscore are not data, as in Flink.
fn is_hidden(path: &str) -> bool {
    path.split('/').any(|part| part.starts_with(['.', '_']))
}
