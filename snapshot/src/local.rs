//! Durable writes and deletes in a local folder. `object_store`'s own never call fsync, so a completed checkpoint could be
//! gone after a power cut; reading and listing are left to it.
//!
//! A file appears under its name only when all of it is on disk. Unfinished ones are named `NAME#NUMBER`, which
//! `object_store` does not list.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::FileInfo;
use xxhash_rust::xxh3::Xxh3;

const COPY_BUFFER: usize = 256 << 10;

/// Whether an existing file is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Replace,
    CreateNew,
}

/// Writes everything that `from` gives; returns its size and checksum. With [`Mode::CreateNew`], an existing file is the error
/// `AlreadyExists`.
pub(crate) fn write(to: &Path, from: &mut dyn Read, mode: Mode) -> io::Result<(u64, u64)> {
    let folder = parent(to)?;
    // A folder that a concurrent delete has just found empty and removed is made again.
    let mut tries = 0;
    let (mut file, staged) = loop {
        create_folder(folder)?;
        match create_staged(to) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && tries < 10 => tries += 1,
            other => break other?,
        }
    };
    let written = copy(from, &mut file)
        .and_then(|sums| file.sync_all().map(|()| sums))
        .and_then(|sums| settle(&staged, to, mode).map(|()| sums));
    match written {
        Ok(sums) => {
            sync_folder(folder)?;
            Ok(sums)
        }
        Err(error) => {
            // The first error is the one to tell; what is left of the file is swept up later.
            let _ = fs::remove_file(&staged);
            Err(error)
        }
    }
}

fn settle(staged: &Path, to: &Path, mode: Mode) -> io::Result<()> {
    match mode {
        Mode::Replace => fs::rename(staged, to),
        Mode::CreateNew => {
            fs::hard_link(staged, to)?;
            fs::remove_file(staged)
        }
    }
}

fn create_staged(to: &Path) -> io::Result<(File, PathBuf)> {
    let mut name = to.as_os_str().to_owned();
    name.push(format!("#{}", rand::random::<u64>()));
    let staged = PathBuf::from(name);
    let file = File::options().write(true).create_new(true).open(&staged)?;
    Ok((file, staged))
}

/// Copies to the end; returns size and xxh3-64.
pub(crate) fn copy(from: &mut dyn Read, to: &mut dyn Write) -> io::Result<(u64, u64)> {
    let mut buffer = vec![0; COPY_BUFFER];
    let mut hasher = Xxh3::new();
    let mut size = 0;
    loop {
        let read = match from.read(&mut buffer) {
            Ok(0) => return Ok((size, hasher.digest())),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        to.write_all(&buffer[..read])?;
        hasher.update(&buffer[..read]);
        size += read as u64;
    }
}

/// Size and checksum of a file of this machine. Blocks.
///
/// # Errors
/// If it can't be read.
pub fn file_info(path: &Path) -> io::Result<FileInfo> {
    let (size_bytes, checksum) = copy(&mut File::open(path)?, &mut io::sink())?;
    Ok(FileInfo {
        size_bytes,
        checksum,
    })
}

/// Removes a file, and the folders up to `root` that are empty then. No file there is no error.
pub(crate) fn delete(root: &Path, file: &Path) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut folder = file.parent();
    while let Some(path) = folder {
        if path == root || !path.starts_with(root) || fs::remove_dir(path).is_err() {
            break;
        }
        folder = path.parent();
    }
    Ok(())
}

/// Removes unfinished files below `folder` that were not touched for `age`: their writers have died.
pub(crate) fn sweep_staged(folder: &Path, age: Duration) -> io::Result<usize> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        entries => entries?,
    };
    let mut swept = 0;
    for entry in entries {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            swept += sweep_staged(&path, age)?;
            continue;
        }
        let name = entry.file_name();
        let staged = name
            .to_string_lossy()
            .rsplit_once('#')
            .is_some_and(|(_, n)| !n.is_empty() && n.bytes().all(|byte| byte.is_ascii_digit()));
        let old = || {
            let modified = entry.metadata().and_then(|meta| meta.modified()).ok()?;
            SystemTime::now().duration_since(modified).ok()
        };
        if staged && old().is_some_and(|elapsed| elapsed >= age) {
            fs::remove_file(&path)?;
            swept += 1;
        }
    }
    Ok(swept)
}

/// Makes a folder and those above it; each new entry is on disk when this returns.
fn create_folder(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let above = parent(folder)?;
    create_folder(above)?;
    match fs::create_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => sync_folder(above),
    }
}

fn parent(path: &Path) -> io::Result<&Path> {
    path.parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "a path without a folder"))
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    match File::open(folder).and_then(|folder| folder.sync_all()) {
        // Some network file systems can't sync folders; a folder that is removed meanwhile needs none.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported | io::ErrorKind::NotFound
            ) =>
        {
            Ok(())
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_create_leaves_the_first_file_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let to = dir.path().join("a/b/file");
        let first = write(&to, &mut &b"one"[..], Mode::CreateNew).unwrap();
        assert_eq!(first, (3, xxhash_rust::xxh3::xxh3_64(b"one")));
        let error = write(&to, &mut &b"two"[..], Mode::CreateNew).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&to).unwrap(), b"one");
        assert_eq!(fs::read_dir(to.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn empty_folders_go_with_their_last_file() {
        let dir = tempfile::tempdir().unwrap();
        let to = dir.path().join("a/b/file");
        write(&to, &mut &b"one"[..], Mode::Replace).unwrap();
        delete(dir.path(), &to).unwrap();
        delete(dir.path(), &to).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn only_unfinished_files_are_swept() {
        let dir = tempfile::tempdir().unwrap();
        let unfinished = dir.path().join("sub/file#17");
        fs::create_dir_all(unfinished.parent().unwrap()).unwrap();
        for path in [
            &unfinished,
            &dir.path().join("file#a"),
            &dir.path().join("x"),
        ] {
            fs::write(path, b"x").unwrap();
        }
        assert_eq!(
            sweep_staged(dir.path(), Duration::from_secs(60)).unwrap(),
            0
        );
        assert_eq!(sweep_staged(dir.path(), Duration::ZERO).unwrap(), 1);
        assert!(!unfinished.exists() && dir.path().join("file#a").exists());
    }
}
