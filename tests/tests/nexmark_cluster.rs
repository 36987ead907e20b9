//! Nexmark's queries on three job managers and two task managers give Flink's rows, at every parallelism.

use std::fmt::Write as _;
use std::time::Duration;

use weir_tests::cluster::{Cluster, ClusterOptions};
use weir_tests::nexmark::{manifest, prelude, unpack_events};
use weir_tests::rows::{fold_debezium, read_lines};

/// Each query is a job of its own; all of them are submitted in one script and share the cluster's slots in turn.
#[test]
fn three_job_managers_and_two_task_managers_give_flinks_rows() {
    let options = ClusterOptions {
        job_managers: 3,
        task_managers: 2,
        slots: 4,
        ..ClusterOptions::default()
    };
    let cluster = Cluster::start(options).unwrap();
    let events = unpack_events(cluster.dir.path()).unwrap();
    let mut failures = Vec::new();
    for parallelism in [1, 2, 4] {
        for (name, query) in &manifest().queries {
            let folder = cluster.dir.path().join(format!("{name}-{parallelism}"));
            let mut script = String::new();
            let checkpoints = cluster.dir.path().join("checkpoints");
            writeln!(
                script,
                "SET 'execution.checkpointing.dir' = 'file://{}';",
                checkpoints.display()
            )
            .unwrap();
            script.push_str(&prelude(&events));
            script.push_str(&query.view("answer"));
            let sink = format!(
                "'connector' = 'filesystem', 'path' = '{}', 'format' = 'debezium-json'",
                folder.display()
            );
            script.push_str(&query.table("result", &sink));
            script.push_str("INSERT INTO result SELECT * FROM answer;");
            let outcome = cluster
                .submit(&script, &["--parallelism", &parallelism.to_string()])
                .and_then(|job| {
                    cluster.wait_for_state(&job, "FINISHED", Duration::from_secs(180))?;
                    query.check(&fold_debezium(&read_lines(&folder)?)?)
                });
            if let Err(error) = outcome {
                failures.push(format!("{name} at parallelism {parallelism}: {error:#}"));
            }
        }
    }
    if !failures.is_empty() {
        let logs = cluster.keep_logs();
        panic!("logs in {}:\n{}", logs.display(), failures.join("\n"));
    }
}
