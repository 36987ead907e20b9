//! `weir state`: what a savepoint or checkpoint holds, without a cluster and without the job that wrote it.

mod export;
mod list;
mod show;

use anyhow::Context;
use weir_common::config::Config;
use weir_state::{SnapshotReader, Transfers};

use crate::args::{StateAction, StateCommand};

/// Files that are downloaded at once.
const DOWNLOADS: usize = 8;

/// A reader with the folder that it works in.
struct Opened {
    // Before the folder, which goes away with this.
    reader: SnapshotReader,
    _folder: tempfile::TempDir,
}

fn open(config: &Config, path: &str) -> anyhow::Result<Opened> {
    let folder = tempfile::Builder::new()
        .prefix("weir-state-")
        .tempdir()
        .context("cannot make a temporary folder")?;
    let transfers = Transfers::new(tokio::runtime::Handle::current(), DOWNLOADS);
    let reader = SnapshotReader::open(path, &config.s3, folder.path().to_owned(), transfers)?;
    Ok(Opened {
        reader,
        _folder: folder,
    })
}

pub async fn run(config: Config, command: StateCommand) -> anyhow::Result<()> {
    let work = move || match command.action {
        StateAction::Ls(command) => list::run(&config, &command),
        StateAction::Show(command) => show::run(&config, &command),
        StateAction::Export(command) => export::run(&config, &command),
    };
    // Databases are read on a thread that may block.
    tokio::task::spawn_blocking(work)
        .await
        .context("reading the snapshot failed")?
}
