//! One folder of an object store: `s3://bucket/prefix`, `file:///path` or a plain path.
//!
//! Paths are relative to the folder, with `/`. No key may be another key's folder (`a` and `a/b`): S3 would allow it, file
//! systems and gateways over them do not. Every call has a time limit; S3 calls are retried with jitter.

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use object_store::local::LocalFileSystem;
use object_store::path::Path as Key;
use object_store::{
    GetOptions, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutPayload,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use weir_common::backoff::Backoff;
use weir_common::config::S3Config;
use weir_proto::v1;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::local::{self, Mode};
use crate::{Result, SnapshotError, s3};

/// Above this a file is uploaded in parts of this size.
pub const PART_BYTES: usize = 8 << 20;
/// One call with all its retries.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(90);
/// One whole file from or to a local folder.
const LOCAL_TIMEOUT: Duration = Duration::from_secs(600);
const CREATE_ATTEMPTS: u32 = 8;
const PARALLEL_DELETES: usize = 16;

/// A folder on an object store. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    url: Arc<str>,
    root: Key,
    objects: Arc<dyn ObjectStore>,
    /// The folder, if it is one of this machine.
    folder: Option<Arc<Path>>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Store({})", self.url)
    }
}

/// Outcome of a conditional create.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    /// The object is new and has our content.
    Created,
    /// There was one before; it is untouched.
    AlreadyExists,
}

/// Size and xxh3-64 of a whole file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileInfo {
    /// Bytes.
    pub size_bytes: u64,
    /// xxh3-64.
    pub checksum: u64,
}

impl FileInfo {
    /// Of a file with this content.
    pub fn of(content: &[u8]) -> Self {
        Self {
            size_bytes: content.len() as u64,
            checksum: xxh3_64(content),
        }
    }

    /// Compares with what a manifest says; `url` names the file in the error.
    pub fn expect(self, file: &v1::FileRef, url: impl FnOnce() -> String) -> Result<()> {
        let reason = if self.size_bytes != file.size_bytes {
            let (found, expected) = (self.size_bytes, file.size_bytes);
            format!("it has {found} bytes instead of {expected}")
        } else if self.checksum != file.checksum {
            let (found, expected) = (self.checksum, file.checksum);
            format!("its checksum is {found:016x} instead of {expected:016x}")
        } else {
            return Ok(());
        };
        Err(SnapshotError::Damaged { url: url(), reason })
    }
}

/// One object of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Relative to the store's folder.
    pub path: String,
    /// Bytes.
    pub size_bytes: u64,
    /// Milliseconds UTC.
    pub modified_ms: i64,
}

impl Store {
    /// Opens a folder; nothing is written or asked yet. S3 credentials come from `s3`, else from AWS' environment
    /// variables, a web identity or the instance's role.
    pub fn open(url: &str, s3: &S3Config) -> Result<Self> {
        let trimmed = url.trim_end_matches('/');
        match trimmed.split_once("://") {
            Some(("s3" | "s3a", rest)) => Self::open_s3(trimmed, rest, s3),
            Some(("file", path)) => Self::open_local(url, path),
            Some((scheme, _)) => Err(bad_url(
                url,
                format!("the scheme '{scheme}' is not supported; use s3://, file:// or a path"),
            )),
            None if url.starts_with("file:") => Self::open_local(url, &url["file:".len()..]),
            None if url.is_empty() => Err(bad_url(url, "it is empty")),
            None => Self::open_local(url, url),
        }
    }

    fn open_local(url: &str, path: &str) -> Result<Self> {
        let path = if path.is_empty() { "/" } else { path };
        let absolute = std::path::absolute(path).map_err(|e| bad_url(url, e.to_string()))?;
        let folder = normalise(&absolute);
        let root = Key::from_absolute_path(&folder).map_err(|e| bad_url(url, e.to_string()))?;
        Ok(Self {
            url: format!("file://{}", folder.display()).into(),
            root,
            objects: Arc::new(LocalFileSystem::new()),
            folder: Some(folder.into()),
        })
    }

    fn open_s3(url: &str, rest: &str, s3: &S3Config) -> Result<Self> {
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.is_empty() {
            return Err(bad_url(url, "it names no bucket; use s3://BUCKET/FOLDER"));
        }
        let root = Key::parse(prefix).map_err(|e| bad_url(url, e.to_string()))?;
        let objects = s3::client(bucket, s3).map_err(|e| bad_url(url, e.to_string()))?;
        Ok(Self {
            url: format!("s3://{rest}").into(),
            root,
            objects,
            folder: None,
        })
    }

    /// Without a slash at the end.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// URL of an object of this folder.
    pub fn url_of(&self, path: &str) -> String {
        if path.is_empty() {
            return self.url.to_string();
        }
        format!("{}/{path}", self.url.trim_end_matches('/'))
    }

    /// The folder on this machine, if it is one.
    pub fn local_folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// A folder inside of this one.
    pub fn child(&self, path: &str) -> Result<Self> {
        let root = self.key(path)?;
        Ok(Self {
            url: self.url_of(path).into(),
            root,
            objects: Arc::clone(&self.objects),
            folder: self.folder.as_ref().map(|folder| folder.join(path).into()),
        })
    }

    /// Writes an object, over an existing one. On return it is durable.
    pub async fn put(&self, path: &str, content: Bytes) -> Result<FileInfo> {
        let info = FileInfo::of(&content);
        if self.folder.is_some() {
            let url = self.url_of(path);
            return self
                .write_local(path, Mode::Replace, move || Ok(io::Cursor::new(content)))
                .await?
                .map_err(|error| SnapshotError::io("write", &url, error));
        }
        let key = self.key(path)?;
        let call = self.objects.put(&key, PutPayload::from_bytes(content));
        self.call("write", path, call).await?;
        Ok(info)
    }

    /// Uploads a file of this machine, in parts if it is large; returns its size and checksum.
    pub async fn put_file(&self, path: &str, from: &Path) -> Result<FileInfo> {
        let source = from.to_owned();
        if self.folder.is_some() {
            let url = self.url_of(path);
            return self
                .write_local(path, Mode::Replace, move || fs::File::open(source))
                .await?
                .map_err(|error| SnapshotError::io("write", &url, error));
        }
        let context = || format!("cannot read {}", from.display());
        let mut file = tokio::fs::File::open(from)
            .await
            .map_err(|error| local_error(context(), error))?;
        let first = read_part(&mut file)
            .await
            .map_err(|error| local_error(context(), error))?;
        if first.len() < PART_BYTES {
            return self.put(path, first).await;
        }
        self.put_parts(path, &mut file, first, &context).await
    }

    async fn put_parts(
        &self,
        path: &str,
        file: &mut tokio::fs::File,
        first: Bytes,
        context: &(dyn Fn() -> String + Sync),
    ) -> Result<FileInfo> {
        let key = self.key(path)?;
        let start = self.objects.put_multipart(&key);
        let mut upload = self.call("write", path, start).await?;
        let mut hasher = Xxh3::new();
        let mut size_bytes = 0;
        let mut part = first;
        let outcome = loop {
            hasher.update(&part);
            size_bytes += part.len() as u64;
            let last = part.len() < PART_BYTES;
            if !part.is_empty() {
                let call = upload.put_part(PutPayload::from_bytes(part));
                if let Err(error) = self.call("write", path, call).await {
                    break Err(error);
                }
            }
            if last {
                break self
                    .call("write", path, upload.complete())
                    .await
                    .map(|_| ());
            }
            part = match read_part(file).await {
                Ok(part) => part,
                Err(error) => break Err(local_error(context(), error)),
            };
        };
        if let Err(error) = outcome {
            // The store bills for parts of unfinished uploads; whether this succeeds changes nothing about the error.
            let _ = self.call("write", path, upload.abort()).await;
            return Err(error);
        }
        Ok(FileInfo {
            size_bytes,
            checksum: hasher.digest(),
        })
    }

    /// Creates an object only if there is none of that name. Of several callers exactly one gets [`Created::Created`]; after a
    /// lost answer even that one may get [`Created::AlreadyExists`], so the content tells whose it is.
    pub async fn create_new(&self, path: &str, content: Bytes) -> Result<Created> {
        if self.folder.is_some() {
            let url = self.url_of(path);
            let written = self
                .write_local(path, Mode::CreateNew, move || Ok(io::Cursor::new(content)))
                .await?;
            return match written {
                Ok(_) => Ok(Created::Created),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    Ok(Created::AlreadyExists)
                }
                Err(error) => Err(SnapshotError::io("write", &url, error)),
            };
        }
        let key = self.key(path)?;
        let mut attempt = 1;
        loop {
            let payload = PutPayload::from_bytes(content.clone());
            let put = self.objects.put_opts(&key, payload, PutMode::Create.into());
            let call = async {
                match put.await {
                    Err(object_store::Error::AlreadyExists { .. }) => Ok(Created::AlreadyExists),
                    other => other.map(|_| Created::Created),
                }
            };
            if self.call("write", path, call).await? == Created::Created {
                return Ok(Created::Created);
            }
            // S3 says 409 also when another conditional write is only under way, and that one may yet fail.
            if self.head(path).await?.is_some() {
                return Ok(Created::AlreadyExists);
            }
            if attempt == CREATE_ATTEMPTS {
                return Err(SnapshotError::Store {
                    action: "write",
                    url: self.url_of(path),
                    message: "conflicts with other writers do not end".to_owned(),
                });
            }
            tokio::time::sleep(Backoff::CALLS.delay_jittered(attempt)).await;
            attempt += 1;
        }
    }

    /// Copies an object inside of this folder, over an existing one. On S3 the bytes do not pass through this process.
    pub async fn copy(&self, from: &str, to: &str) -> Result<()> {
        let (source, target) = (self.key(from)?, self.key(to)?);
        self.call("copy", from, self.objects.copy(&source, &target))
            .await
    }

    /// Reads a whole object.
    pub async fn get(&self, path: &str) -> Result<Bytes> {
        let key = self.key(path)?;
        let call = async { self.objects.get(&key).await?.bytes().await };
        self.call("read", path, call).await
    }

    /// Reads an object in pieces, from a byte on.
    pub async fn read_from(
        &self,
        path: &str,
        offset: u64,
    ) -> Result<BoxStream<'static, Result<Bytes>>> {
        let key = self.key(path)?;
        let options = GetOptions {
            range: (offset > 0).then_some(GetRange::Offset(offset)),
            ..GetOptions::default()
        };
        let call = self.objects.get_opts(&key, options);
        let pieces = self.call("read", path, call).await?.into_stream();
        let url = self.url_of(path);
        let limited = stream::unfold(Some((pieces, url)), |state| async {
            let (mut pieces, url) = state?;
            match limited("read", &url, pieces.next()).await {
                Ok(None) => None,
                Ok(Some(Ok(piece))) => Some((Ok(piece), Some((pieces, url)))),
                Ok(Some(Err(error))) => {
                    Some((Err(SnapshotError::store("read", &url, error)), None))
                }
                Err(error) => Some((Err(error), None)),
            }
        });
        Ok(limited.boxed())
    }

    /// Downloads an object into a file (created or replaced); returns its size and checksum.
    pub async fn get_to_file(&self, path: &str, to: &Path) -> Result<FileInfo> {
        if self.folder.is_some() {
            let to = to.to_owned();
            return self.copy_local(path, move || fs::File::create(to)).await;
        }
        let context = || format!("cannot write {}", to.display());
        let mut pieces = self.read_from(path, 0).await?;
        let mut file = tokio::fs::File::create(to)
            .await
            .map_err(|error| local_error(context(), error))?;
        let mut hasher = Xxh3::new();
        let mut size_bytes = 0;
        while let Some(piece) = pieces.try_next().await? {
            hasher.update(&piece);
            size_bytes += piece.len() as u64;
            file.write_all(&piece)
                .await
                .map_err(|error| local_error(context(), error))?;
        }
        file.flush()
            .await
            .map_err(|error| local_error(context(), error))?;
        Ok(FileInfo {
            size_bytes,
            checksum: hasher.digest(),
        })
    }

    /// Size and checksum of an object, by reading all of it.
    pub async fn checksum(&self, path: &str) -> Result<FileInfo> {
        if self.folder.is_some() {
            return self.copy_local(path, || Ok(io::sink())).await;
        }
        let mut pieces = self.read_from(path, 0).await?;
        let mut hasher = Xxh3::new();
        let mut size_bytes = 0;
        while let Some(piece) = pieces.try_next().await? {
            hasher.update(&piece);
            size_bytes += piece.len() as u64;
        }
        Ok(FileInfo {
            size_bytes,
            checksum: hasher.digest(),
        })
    }

    /// What is known of an object without reading it; `None` if there is none.
    pub async fn head(&self, path: &str) -> Result<Option<Listed>> {
        let key = self.key(path)?;
        match self.call("read", path, self.objects.head(&key)).await {
            Ok(meta) => Ok(Some(self.listed(path.to_owned(), &meta))),
            Err(SnapshotError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether there is an object of that name.
    pub async fn exists(&self, path: &str) -> Result<bool> {
        Ok(self.head(path).await?.is_some())
    }

    /// All objects below a folder of this store ("" for all of it), in order of path. An absent folder is an empty one.
    pub async fn list(&self, folder: &str) -> Result<Vec<Listed>> {
        let prefix = if folder.is_empty() {
            self.root.clone()
        } else {
            self.key(folder)?
        };
        let objects: Vec<ObjectMeta> = self
            .call(
                "list",
                folder,
                self.objects.list(Some(&prefix)).try_collect(),
            )
            .await?;
        let mut listed: Vec<_> = objects
            .iter()
            .filter_map(|meta| Some(self.listed(self.relative(&meta.location)?, meta)))
            .collect();
        listed.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(listed)
    }

    /// Deletes objects; those that are not there are passed over. Tries all, and gives the first error.
    pub async fn delete(&self, paths: &[String]) -> Result<()> {
        // The futures are made first: made inside of the stream, they would keep callers from being spawned.
        let deletions: Vec<_> = paths.iter().map(|path| self.delete_one(path)).collect();
        let outcomes: Vec<Result<()>> = stream::iter(deletions)
            .buffer_unordered(PARALLEL_DELETES)
            .collect()
            .await;
        outcomes.into_iter().collect()
    }

    async fn delete_one(&self, path: &str) -> Result<()> {
        let key = self.key(path)?;
        if let Some(folder) = self.folder.clone() {
            let file = folder.join(path);
            let call = blocking(move || local::delete(&folder, &file));
            return limited("delete", &self.url_of(path), call)
                .await?
                .map_err(|error| SnapshotError::io("delete", &self.url_of(path), error));
        }
        match self.call("delete", path, self.objects.delete(&key)).await {
            Err(SnapshotError::NotFound { .. }) => Ok(()),
            other => other,
        }
    }

    /// Removes what writers that died left unfinished for longer than `age`; returns how many files. Only a local folder has
    /// such files; for S3 use a bucket rule that aborts incomplete multipart uploads.
    pub async fn sweep_unfinished(&self, age: Duration) -> Result<usize> {
        let Some(folder) = self.folder.clone() else {
            return Ok(0);
        };
        blocking(move || local::sweep_staged(&folder, age))
            .await
            .map_err(|error| SnapshotError::io("sweep", &self.url, error))
    }

    async fn write_local<R: Read>(
        &self,
        path: &str,
        mode: Mode,
        open: impl FnOnce() -> io::Result<R> + Send + 'static,
    ) -> Result<io::Result<FileInfo>> {
        self.key(path)?;
        let to = self.local_path(path);
        let write = blocking(move || {
            let (size_bytes, checksum) = local::write(&to, &mut open()?, mode)?;
            Ok(FileInfo {
                size_bytes,
                checksum,
            })
        });
        within(LOCAL_TIMEOUT, "write", &self.url_of(path), write).await
    }

    /// In large pieces: `object_store` reads local files in small ones.
    async fn copy_local<W: Write>(
        &self,
        path: &str,
        create: impl FnOnce() -> io::Result<W> + Send + 'static,
    ) -> Result<FileInfo> {
        self.key(path)?;
        let from = self.local_path(path);
        let url = self.url_of(path);
        let copy = blocking(move || {
            let opened = fs::File::open(from).map_err(|e| SnapshotError::io("read", &url, e));
            Ok(opened.and_then(|mut file| {
                let copied = create().and_then(|mut to| local::copy(&mut file, &mut to));
                let (size_bytes, checksum) =
                    copied.map_err(|error| local_error(format!("cannot copy {url}"), error))?;
                Ok(FileInfo {
                    size_bytes,
                    checksum,
                })
            }))
        });
        let url = self.url_of(path);
        within(LOCAL_TIMEOUT, "read", &url, copy)
            .await?
            .map_err(|error| SnapshotError::io("read", &url, error))?
    }

    fn local_path(&self, path: &str) -> PathBuf {
        self.folder.as_deref().unwrap_or(Path::new("/")).join(path)
    }

    async fn call<T>(
        &self,
        action: &'static str,
        path: &str,
        call: impl Future<Output = object_store::Result<T>>,
    ) -> Result<T> {
        let url = self.url_of(path);
        limited(action, &url, call)
            .await?
            .map_err(|error| SnapshotError::store(action, &url, error))
    }

    fn key(&self, path: &str) -> Result<Key> {
        let key = Key::parse(path).map_err(|e| bad_url(&self.url_of(path), e.to_string()))?;
        if key.as_ref().is_empty() {
            return Err(bad_url(&self.url_of(path), "a file name is missing"));
        }
        Ok(self.root.parts().chain(key.parts()).collect())
    }

    fn relative(&self, key: &Key) -> Option<String> {
        let parts: Vec<_> = key.prefix_match(&self.root)?.collect();
        let parts: Vec<&str> = parts.iter().map(AsRef::as_ref).collect();
        Some(parts.join("/"))
    }

    fn listed(&self, path: String, meta: &ObjectMeta) -> Listed {
        Listed {
            path,
            size_bytes: meta.size,
            modified_ms: meta.last_modified.timestamp_millis(),
        }
    }
}

fn bad_url(url: &str, reason: impl Into<String>) -> SnapshotError {
    SnapshotError::Url {
        url: url.to_owned(),
        reason: reason.into(),
    }
}

fn local_error(context: String, source: io::Error) -> SnapshotError {
    SnapshotError::Local { context, source }
}

async fn limited<T>(action: &'static str, url: &str, call: impl Future<Output = T>) -> Result<T> {
    within(CALL_TIMEOUT, action, url, call).await
}

async fn within<T>(
    limit: Duration,
    action: &'static str,
    url: &str,
    call: impl Future<Output = T>,
) -> Result<T> {
    tokio::time::timeout(limit, call)
        .await
        .map_err(|_| SnapshotError::Timeout {
            action,
            url: url.to_owned(),
            seconds: limit.as_secs(),
        })
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(error) => Err(io::Error::other(error)),
    }
}

/// Fills a part unless the file ends before.
async fn read_part(file: &mut tokio::fs::File) -> io::Result<Bytes> {
    let mut part = Vec::new();
    file.take(PART_BYTES as u64).read_to_end(&mut part).await?;
    Ok(part.into())
}

/// Takes `.` and `..` out without asking the disk: the folder may not exist yet.
fn normalise(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                normal.pop();
            }
            other => normal.push(other),
        }
    }
    normal
}

#[cfg(test)]
mod tests;
