//! Restore at any parallelism. One old part becomes the database as it is, with the key groups of others cut off by range
//! deletes; the groups that come from further parts are copied into it as sorted files. Every file's checksum is verified
//! before RocksDB sees it.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use rocksdb::{DB, IngestExternalFileOptions, Options, ReadOptions, SstFileWriter, WriteBatch};
use weir_common::ids::CheckpointId;
use weir_common::key_group::KeyGroupRange;
use weir_proto::v1;
use weir_snapshot::rescale::{overlapping, range_from_proto};
use weir_snapshot::{FileInfo, SharedFiles, Store};

use crate::db::Db;
use crate::local_copies::Kept;
use crate::state::clear;
use crate::upload::is_table;
use crate::{Result, RocksState, StateError, StateOptions, Transfers, key};

/// Copied groups are cut into files of about this size.
const COPY_FILE_BYTES: u64 = 32 << 20;
/// What the restored checkpoint is called among those of this attempt, which begin with 1: its own number may be higher than
/// theirs if it was taken by another job.
const RESTORED: CheckpointId = CheckpointId(0);

/// Where a snapshot's files are.
#[derive(Debug, Clone)]
pub struct RestoreSource {
    /// What `FileRef.path` is relative to.
    pub base: Store,
    /// The next checkpoints of this attempt go to the same folder, so they may name files of this snapshot again. False for
    /// savepoints and for checkpoints of another job.
    pub share_files: bool,
}

impl RocksState {
    /// Makes the state of `options.key_groups` from the old parts of its operator; those that have none of these groups are
    /// passed over. Downloads, so it blocks: not for a slot's thread nor one that drives async tasks.
    pub fn restore(
        options: StateOptions,
        parts: &[v1::KeyedState],
        source: &RestoreSource,
        transfers: &Transfers,
    ) -> Result<Self> {
        let parts = needed(parts, options.key_groups)?;
        let Some((first, others)) = parts.split_first() else {
            return Self::open(options);
        };
        clear(&options)?;
        let folder = options.database();
        let kept = Kept::new(options.copies.clone());
        let from = Origin {
            base: &source.base,
            transfers,
            kept: &kept,
        };
        download(first.files, &folder, &from)?;
        let opening = Instant::now();
        let db = Db::open(&folder, &options.memory)?;
        tracing::debug!(
            took_ms = opening.elapsed().as_millis() as u64,
            "the state is open"
        );
        if first.groups != first.range {
            cut_to(&db, first.groups)?;
        }
        for (index, part) in others.iter().enumerate() {
            let work = options.folder.join(format!("restore-{index}"));
            let part_folder = work.join("db");
            download(part.files, &part_folder, &from)?;
            copy_groups(
                &db,
                &part_folder,
                &work,
                part.groups,
                &options.memory.options(),
            )?;
            std::fs::remove_dir_all(&work)
                .map_err(|e| StateError::local(format!("cannot remove {}", work.display()), &e))?;
        }
        if !source.share_files {
            return Self::with_database(options, db, (SharedFiles::default(), kept), None);
        }
        let shared = SharedFiles::restored(RESTORED, first.files);
        let whole = others.is_empty() && first.range == options.key_groups;
        let unchanged_since = whole.then_some(RESTORED);
        Self::with_database(options, db, (shared, kept), unchanged_since)
    }
}

/// An old part of which some groups are wanted.
struct Part<'a> {
    files: &'a [v1::FileRef],
    /// All that it has.
    range: KeyGroupRange,
    /// What is wanted of it.
    groups: KeyGroupRange,
}

/// The parts that have wanted groups, the one with most bytes in them first: it is not copied.
fn needed(parts: &[v1::KeyedState], wanted: KeyGroupRange) -> Result<Vec<Part<'_>>> {
    let with_files: Vec<_> = parts.iter().filter(|part| !part.files.is_empty()).collect();
    let ranges: Option<Vec<_>> = with_files
        .iter()
        .map(|part| part.key_groups.as_ref().and_then(range_from_proto))
        .collect();
    let Some(ranges) = ranges else {
        return Err(bad("a part of the state has no valid range of key groups"));
    };
    let mut needed: Vec<_> = overlapping(&ranges, wanted)
        .into_iter()
        .map(|(index, groups)| Part {
            files: &with_files[index].files,
            range: ranges[index],
            groups,
        })
        .collect();
    let groups = |range: KeyGroupRange| u64::from(range.last - range.first) + 1;
    let wanted_bytes = |part: &Part<'_>| {
        let all: u64 = part.files.iter().map(|file| file.size_bytes).sum();
        all * groups(part.groups) / groups(part.range)
    };
    needed.sort_by_key(|part| std::cmp::Reverse(wanted_bytes(part)));
    Ok(needed)
}

fn bad(reason: impl Into<String>) -> StateError {
    StateError::BadSnapshot(reason.into())
}

/// Where files come from.
struct Origin<'a> {
    base: &'a Store,
    transfers: &'a Transfers,
    kept: &'a Kept,
}

/// Brings a database's files into a folder, verified.
fn download(files: &[v1::FileRef], folder: &Path, from: &Origin<'_>) -> Result<()> {
    let manifest = current(files)?;
    std::fs::create_dir_all(folder)
        .map_err(|e| StateError::local(format!("cannot create {}", folder.display()), &e))?;
    let (stored, small): (Vec<_>, Vec<_>) = files.iter().partition(|file| !file.path.is_empty());
    for file in small {
        unpack(file, folder)?;
    }
    let started = Instant::now();
    let all = bytes(&stored);
    let missing = without_copy(&stored, folder, from);
    let (copied, downloaded) = (started.elapsed(), bytes(&missing));
    let base = from.base;
    from.transfers
        .run(missing, |file: &v1::FileRef| async move {
            let to = folder.join(&file.local_name);
            let found = base.get_to_file(&file.path, &to).await?;
            found.expect(file, || base.url_of(&file.path))?;
            if is_table(&file.local_name) {
                from.kept.keep(file, folder);
            }
            Ok(())
        })?;
    tracing::debug!(
        local_bytes = all - downloaded,
        local_ms = copied.as_millis() as u64,
        downloaded_bytes = downloaded,
        download_ms = (started.elapsed() - copied).as_millis() as u64,
        "files of the state are there"
    );
    let path = folder.join("CURRENT");
    std::fs::write(&path, format!("{manifest}\n"))
        .map_err(|e| StateError::local(format!("cannot write {}", path.display()), &e))
}

/// Puts local copies in place, and gives the files of which there is none. Several threads read them.
fn without_copy<'a>(
    files: &[&'a v1::FileRef],
    folder: &Path,
    from: &Origin<'_>,
) -> Vec<&'a v1::FileRef> {
    let (next, missing) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        while let Some(file) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
            if !from.kept.take(file, &folder.join(&file.local_name)) {
                missing.lock().push(*file);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..from.transfers.limit().min(files.len()) {
            let helper = std::thread::Builder::new().name("copies".to_owned());
            // Without helpers this thread does it alone.
            let _ = helper.spawn_scoped(scope, work);
        }
        work();
    });
    missing.into_inner()
}

/// A file that lies in the manifest.
fn unpack(file: &v1::FileRef, folder: &Path) -> Result<()> {
    let found = FileInfo::of(&file.content);
    found.expect(file, || format!("{} in the manifest", file.local_name))?;
    let to = folder.join(&file.local_name);
    std::fs::write(&to, &file.content)
        .map_err(|e| StateError::local(format!("cannot write {}", to.display()), &e))
}

fn bytes(files: &[&v1::FileRef]) -> u64 {
    files.iter().map(|file| file.size_bytes).sum()
}

/// The name of the one RocksDB manifest. Names become paths, so nothing but plain ones is let through.
fn current(files: &[v1::FileRef]) -> Result<&str> {
    let plain = |name: &str| {
        !name.is_empty()
            && !name.starts_with('.')
            && name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
    };
    if let Some(file) = files.iter().find(|file| !plain(&file.local_name)) {
        return Err(bad(format!("'{}' is no file name", file.local_name)));
    }
    let mut manifests = files
        .iter()
        .map(|file| file.local_name.as_str())
        .filter(|name| name.starts_with("MANIFEST-"));
    match (manifests.next(), manifests.next()) {
        (Some(manifest), None) => Ok(manifest),
        _ => Err(bad("a part of the state has not exactly one MANIFEST")),
    }
}

/// Deletes all that is outside of `groups`: whole files at once, the rest by range.
fn cut_to(db: &Db, groups: KeyGroupRange) -> Result<()> {
    let below = (Vec::new(), key::group_start(groups.first).to_vec());
    let above = (key::group_end(groups.last).to_vec(), key::END.to_vec());
    let mut batch = WriteBatch::default();
    for (from, to) in [below, above] {
        db.rocks()
            .delete_file_in_range(&from, &to)
            .map_err(|error| db.error("rescale", &error))?;
        batch.delete_range(from, to);
    }
    db.apply(batch)
}

/// Copies key groups of the database in `from` into `db`, which has nothing in them.
fn copy_groups(
    db: &Db,
    from: &Path,
    work: &Path,
    groups: KeyGroupRange,
    options: &Options,
) -> Result<()> {
    let failed = |error: &rocksdb::Error| StateError::rocks("rescale", from, error);
    let old = DB::open_for_read_only(options, from, false).map_err(|e| failed(&e))?;
    let mut read = ReadOptions::default();
    read.set_iterate_lower_bound(key::group_start(groups.first));
    read.set_iterate_upper_bound(key::group_end(groups.last));
    read.fill_cache(false);
    let mut entries = old.raw_iterator_opt(read);
    entries.seek_to_first();
    let mut files: Vec<PathBuf> = Vec::new();
    while entries.valid() {
        let path = work.join(format!("copy-{}.sst", files.len()));
        let mut file = SstFileWriter::create(options);
        file.open(&path).map_err(|e| failed(&e))?;
        while let Some((key, value)) = entries.item() {
            file.put(key, value).map_err(|e| failed(&e))?;
            entries.next();
            if file.file_size() >= COPY_FILE_BYTES {
                break;
            }
        }
        file.finish().map_err(|e| failed(&e))?;
        files.push(path);
    }
    entries.status().map_err(|e| failed(&e))?;
    if files.is_empty() {
        return Ok(());
    }
    let mut ingest = IngestExternalFileOptions::default();
    ingest.set_move_files(true);
    db.rocks()
        .ingest_external_file_opts(&ingest, files)
        .map_err(|error| db.error("rescale", &error))
}
