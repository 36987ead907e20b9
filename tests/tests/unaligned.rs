//! Under full backpressure unaligned checkpoints complete at once, and what they hold is restored exactly, at any parallelism.

use std::path::{Path, PathBuf};
use std::time::Duration;

use weir_tests::cluster::{Cluster, ClusterOptions};
use weir_tests::eventually::eventually;
use weir_tests::services::Service;
use weir_tests::stream::Stream;

/// Rows a second that the slow sink takes: a tenth of what the job does without it, or less.
const SLOW: &str = ", 'sink.rows-per-second' = '5000'";
/// How long an unaligned checkpoint may take, whatever the backpressure.
const LIMIT_MS: u64 = 2000;

fn settings(unaligned: bool, timeout: &str) -> String {
    format!(
        "SET 'execution.checkpointing.unaligned.enabled' = '{unaligned}';
         SET 'execution.checkpointing.aligned-checkpoint-timeout' = '{timeout}';"
    )
}

fn cluster() -> anyhow::Result<Cluster> {
    Cluster::start(ClusterOptions {
        job_managers: 1,
        task_managers: 2,
        slots: 2,
        ..ClusterOptions::default()
    })
}

/// Durations (milliseconds) and bytes in flight of the next checkpoints that are complete.
fn next_checkpoints(cluster: &Cluster, job: &str, count: usize) -> anyhow::Result<Vec<(u64, u64)>> {
    let mut seen = Vec::new();
    while seen.len() < count {
        let id = cluster.wait_for_checkpoint_after_now(job, Duration::from_secs(300))?;
        let status = cluster.status(job)?;
        let checkpoints = status["checkpoints"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        // It may have been followed by a newer one already.
        if let Some(own) = checkpoints.iter().find(|c| c["checkpoint_id"] == id) {
            let number = |name: &str| own[name].as_u64().unwrap_or(u64::MAX);
            seen.push((number("duration_ms"), number("in_flight_bytes")));
        }
    }
    Ok(seen)
}

/// All of them in time, and rows in flight in some.
fn check(what: &str, checkpoints: &[(u64, u64)]) {
    println!("{what}: (took ms, bytes in flight) {checkpoints:?}");
    let slow = checkpoints.iter().find(|(took_ms, _)| *took_ms > LIMIT_MS);
    assert!(slow.is_none(), "{what}: {checkpoints:?}");
    assert!(
        checkpoints.iter().any(|(_, bytes)| *bytes > 0),
        "{what}: nothing is in flight"
    );
}

/// Folder of the newest complete checkpoint.
fn newest(folder: &Path, job: &str) -> anyhow::Result<PathBuf> {
    let number = |path: &Path| -> Option<u64> {
        let name = path.file_name()?.to_str()?;
        path.join("_metadata").exists().then_some(())?;
        name.strip_prefix("chk-")?.parse().ok()
    };
    let found = std::fs::read_dir(folder.join(job))?
        .flatten()
        .filter_map(|entry| Some((number(&entry.path())?, entry.path())))
        .max();
    Ok(found
        .ok_or_else(|| anyhow::anyhow!("no checkpoint of {job}"))?
        .1)
}

fn wait_until_running(cluster: &Cluster, job: &str) -> anyhow::Result<()> {
    cluster
        .wait_for_state(job, "RUNNING", Duration::from_secs(60))
        .map(drop)
}

/// Every process is killed.
fn kill_all(mut cluster: Cluster) {
    for index in 0..cluster.task_managers.len() {
        cluster.kill_task_manager(index);
    }
    cluster.kill_job_manager(0);
}

fn stream(kafka: &Service, name: &str, records: u64) -> anyhow::Result<Stream> {
    let stream = Stream {
        brokers: kafka.address(),
        name: name.to_owned(),
        records,
        keys: 50_000,
        partitions: 4,
    };
    stream.create_topics()?;
    stream.produce(Duration::ZERO)?;
    Ok(stream)
}

/// How long aligned checkpoints take under the same pressure; for the record, nothing depends on it.
fn aligned_for_comparison(kafka: &Service, folder: &Path) -> anyhow::Result<()> {
    let stream = stream(kafka, "aligned", 150_000)?;
    let cluster = cluster()?;
    let checkpoints = format!("file://{}", folder.display());
    let script = stream.script_with(&checkpoints, "1 s", &settings(false, "0"), SLOW);
    let job = cluster.submit(&script, &["--parallelism", "2"])?;
    wait_until_running(&cluster, &job)?;
    println!(
        "aligned: (took ms, bytes in flight) {:?}",
        next_checkpoints(&cluster, &job, 1)?
    );
    kill_all(cluster);
    Ok(())
}

fn killed_and_restored(kafka: &Service, folder: &Path) -> anyhow::Result<()> {
    let stream = stream(kafka, "unaligned", 300_000)?;
    let checkpoints = format!("file://{}", folder.display());
    let script =
        |timeout, sink| stream.script_with(&checkpoints, "1 s", &settings(true, timeout), sink);
    // At once; then a task manager is killed, and the job goes on by itself at the same parallelism.
    let mut first = cluster()?;
    let job = first.submit(&script("0", SLOW), &["--parallelism", "2"])?;
    wait_until_running(&first, &job)?;
    check("at once", &next_checkpoints(&first, &job, 4)?);
    first.kill_task_manager(1);
    first.start_task_manager(1)?;
    eventually("the job restarts", Duration::from_secs(60), || {
        let status = first.status(&job).ok()?;
        let again = status["attempt"].as_u64() > Some(1) && status["state"] == "RUNNING";
        again.then_some(())
    })?;
    check("after a restart", &next_checkpoints(&first, &job, 3)?);
    kill_all(first);
    // At another parallelism, with some patience before barriers go ahead.
    let from = newest(folder, &job)?.display().to_string();
    let second = cluster()?;
    let arguments = ["--parallelism", "3", "--from-savepoint", &from];
    let job = second.submit(&script("300 ms", SLOW), &arguments)?;
    wait_until_running(&second, &job)?;
    check("after 300 ms", &next_checkpoints(&second, &job, 3)?);
    kill_all(second);
    // And at yet another, with a sink as fast as it can be, to the end.
    let from = newest(folder, &job)?.display().to_string();
    let third = cluster()?;
    let arguments = ["--parallelism", "1", "--from-savepoint", &from];
    let job = third.submit(&script("0", ""), &arguments)?;
    third.wait_for_state(&job, "FINISHED", Duration::from_secs(300))?;
    stream.check().map_err(|error| {
        let logs = third.keep_logs();
        anyhow::anyhow!("logs in {}: {error:#}", logs.display())
    })
}

#[test]
fn unaligned_checkpoints_complete_under_backpressure_and_are_exact_at_any_parallelism() {
    let kafka = Service::kafka("unaligned").unwrap();
    let folder = tempfile::tempdir().unwrap();
    aligned_for_comparison(&kafka, &folder.path().join("aligned")).unwrap();
    killed_and_restored(&kafka, &folder.path().join("unaligned")).unwrap();
}
