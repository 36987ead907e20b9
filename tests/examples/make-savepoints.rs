//! Takes the snapshots that are kept under `tests/data/savepoints`, as the present version of Weir writes them. A kept one is worth more the
//! older it is: this is run when the format has changed, with a new name, and its files are added beside the others.
//! `cargo build -p weir && cargo run -p weir-tests --example make-savepoints VERSION [CASE...]`

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use weir_tests::cluster::{Cluster, ClusterOptions};
use weir_tests::eventually::eventually;
use weir_tests::savepoints::{BEFORE, CASES, Case, IN_FLIGHT, Run, copy, many_orders};

const WAIT: Duration = Duration::from_secs(60);

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let version = arguments.next().context("name the version of the format")?;
    let wanted: Vec<String> = arguments.collect();
    let is_wanted = |case: &Case| wanted.is_empty() || wanted.iter().any(|name| name == case.name);
    for case in CASES.iter().filter(|case| is_wanted(case)) {
        keep(case, &version, savepoint)?;
    }
    if is_wanted(&IN_FLIGHT) {
        keep(&IN_FLIGHT, &version, checkpoint_with_rows_in_flight)?;
    }
    Ok(())
}

fn cluster() -> anyhow::Result<Cluster> {
    Cluster::start(ClusterOptions {
        job_managers: 1,
        task_managers: 1,
        slots: 2,
        ..ClusterOptions::default()
    })
}

/// Runs a case in a cluster of its own and keeps the snapshot that `take` names, with the output up to it.
fn keep(
    case: &Case,
    version: &str,
    take: fn(Cluster, &Case, &Path) -> anyhow::Result<PathBuf>,
) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    std::fs::create_dir(folder.path().join("input"))?;
    std::fs::create_dir(folder.path().join("output"))?;
    let snapshot = take(cluster()?, case, folder.path())?;
    let stored = case.stored(version);
    if stored.exists() {
        std::fs::remove_dir_all(&stored)?;
    }
    copy(&snapshot, &stored.join("snapshot"))?;
    copy(&folder.path().join("output"), &stored.join("output"))?;
    println!("{}", stored.display());
    Ok(())
}

fn savepoint(cluster: Cluster, case: &Case, folder: &Path) -> anyhow::Result<PathBuf> {
    let (input, output) = (folder.join("input"), folder.join("output"));
    std::fs::write(input.join("before.json"), BEFORE)?;
    let run = Run {
        watching: true,
        ..Run::default()
    };
    let job = cluster.submit(&case.script(&input, &output, run), &["--parallelism", "2"])?;
    eventually("all rows are read", WAIT, || {
        let status = cluster.status(&job).ok()?;
        let subtasks = status["subtasks"].as_array()?.iter();
        let read = subtasks.filter_map(|subtask| {
            let is_source = subtask["vertex"].as_str()?.starts_with("Source");
            is_source.then(|| subtask["records_in"].as_u64())?
        });
        (read.sum::<u64>() >= BEFORE.lines().count() as u64).then_some(())
    })?;
    let savepoints = folder.join("savepoints").display().to_string();
    let path = cluster.call("stop", &[&job, "--savepoint", &savepoints])?;
    Ok(path.trim_start_matches("file://").into())
}

/// The folder of a job whose newest checkpoint has rows in flight; its process was killed.
fn checkpoint_with_rows_in_flight(
    mut cluster: Cluster,
    case: &Case,
    folder: &Path,
) -> anyhow::Result<PathBuf> {
    let (input, output) = (folder.join("input"), folder.join("output"));
    std::fs::write(input.join("many.json"), many_orders())?;
    let checkpoints = folder.join("checkpoints");
    let settings = format!(
        "SET 'execution.checkpointing.dir' = 'file://{}';
         SET 'execution.checkpointing.interval' = '500 ms';
         SET 'execution.checkpointing.unaligned.enabled' = 'true';",
        checkpoints.display()
    );
    let run = Run {
        settings: &settings,
        sink: ", 'sink.rows-per-second' = '20'",
        ..Run::default()
    };
    let job = cluster.submit(&case.script(&input, &output, run), &["--parallelism", "2"])?;
    eventually("a checkpoint has rows in flight", WAIT, || {
        let status = cluster.status(&job).ok()?;
        let newest = status["checkpoints"]
            .as_array()?
            .iter()
            .max_by_key(|c| c["checkpoint_id"].as_u64())?;
        (newest["in_flight_bytes"].as_u64()? > 0).then_some(())
    })?;
    cluster.kill_task_manager(0);
    cluster.kill_job_manager(0);
    Ok(checkpoints.join(job))
}
