//! Whose a snapshot is that a job was started from: the user's, who may delete it after the first checkpoint, or the job's, which does.

use std::path::{Path, PathBuf};
use std::time::Duration;

use weir_tests::cluster::{Cluster, ClusterOptions};
use weir_tests::eventually::eventually;
use weir_tests::rows::{fold_debezium, read_lines};
use weir_tests::savepoints::{AFTER, BEFORE, CASES, Case, Run};

const WAIT: Duration = Duration::from_secs(60);

fn case() -> &'static Case {
    let mut cases = CASES.iter();
    cases.find(|case| case.name == "group-aggregate").unwrap()
}

/// A job that waits for more input, and a savepoint of it.
struct Started {
    job: String,
    savepoint: PathBuf,
    input: PathBuf,
    output: PathBuf,
}

/// Takes a savepoint of a job that has read `BEFORE`, and starts it again from there.
fn start(cluster: &Cluster, name: &str, claim_mode: &[&str]) -> Started {
    let folder = cluster.dir.path().join(name);
    let (input, output) = (folder.join("input"), folder.join("output"));
    std::fs::create_dir_all(&input).unwrap();
    std::fs::write(input.join("before.json"), BEFORE).unwrap();
    let settings = format!(
        "SET 'execution.checkpointing.dir' = 'file://{}/checkpoints'; SET 'execution.checkpointing.interval' = '200 ms';",
        folder.display()
    );
    let run = Run {
        watching: true,
        settings: &settings,
        ..Run::default()
    };
    let script = case().script(&input, &output, run);
    let job = cluster.submit(&script, &[]).unwrap();
    wait_for(&output, &[("a", 12), ("b", 1)]);
    let target = folder.join("savepoints").display().to_string();
    let savepoint = cluster
        .call("stop", &[&job, "--savepoint", &target])
        .unwrap();
    cluster.wait_for_state(&job, "FINISHED", WAIT).unwrap();
    let arguments = [&["--from-savepoint", &savepoint][..], claim_mode].concat();
    let job = cluster.submit(&script, &arguments).unwrap();
    cluster.wait_for_state(&job, "RUNNING", WAIT).unwrap();
    Started {
        job,
        savepoint: savepoint.trim_start_matches("file://").into(),
        input,
        output,
    }
}

/// Waits until this is what remains of the changelog: shops and their totals.
fn wait_for(output: &Path, totals: &[(&str, u64)]) {
    eventually(&format!("{totals:?}"), WAIT, || {
        let rows = fold_debezium(&read_lines(output).ok()?).ok()?;
        let mut found: Vec<(&str, u64)> = rows
            .iter()
            .filter_map(|row| Some((row["shop"].as_str()?, row["total"].as_u64()?)))
            .collect();
        found.sort_unstable();
        (found == totals).then_some(())
    })
    .unwrap();
}

/// Reads the rest.
fn goes_on(started: &Started) {
    std::fs::write(started.input.join("after.json"), AFTER).unwrap();
    wait_for(&started.output, &[("a", 22), ("b", 5), ("c", 2)]);
}

fn files(folder: &Path) -> usize {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return 0;
    };
    let entries = entries.map(|entry| entry.unwrap().path());
    entries
        .map(|path| if path.is_dir() { files(&path) } else { 1 })
        .sum()
}

#[test]
fn a_savepoint_is_the_users_or_the_jobs() {
    let mut cluster = Cluster::start(ClusterOptions {
        job_managers: 1,
        task_managers: 1,
        slots: 2,
        ..ClusterOptions::default()
    })
    .unwrap();

    let claimed = start(&cluster, "claimed", &["--claim-mode", "claim"]);
    eventually("the claimed savepoint is deleted", WAIT, || {
        (files(&claimed.savepoint) == 0).then_some(())
    })
    .unwrap();
    goes_on(&claimed);
    cluster.call("cancel", &[&claimed.job]).unwrap();
    cluster
        .wait_for_state(&claimed.job, "CANCELED", WAIT)
        .unwrap();

    let kept = start(&cluster, "kept", &[]);
    let before = files(&kept.savepoint);
    assert!(before > 0);
    for _ in 0..3 {
        cluster
            .wait_for_checkpoint_after_now(&kept.job, WAIT)
            .unwrap();
    }
    assert_eq!(files(&kept.savepoint), before);
    // From its first checkpoint on the job needs nothing of it.
    std::fs::remove_dir_all(&kept.savepoint).unwrap();
    cluster.kill_task_manager(0);
    cluster.start_task_manager(0).unwrap();
    goes_on(&kept);
}
