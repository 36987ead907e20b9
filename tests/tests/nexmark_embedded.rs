//! Nexmark's queries on the fixed events in the embedded cluster give Flink's rows, at every parallelism.

use std::time::Duration;

use serde_json::Value;
use weir_tests::nexmark::{manifest, prelude, unpack_events};
use weir_tests::process::{run, weir};

fn check(parallelism: u32) {
    let folder = tempfile::tempdir().unwrap();
    let events = unpack_events(folder.path()).unwrap();
    let mut failures = Vec::new();
    for (name, query) in &manifest().queries {
        let script = format!(
            "{}{}SELECT * FROM answer;",
            prelude(&events),
            query.view("answer")
        );
        let mut command = weir();
        command.args([
            "sql",
            "--quiet",
            "--format",
            "json",
            "--parallelism",
            &parallelism.to_string(),
            "-e",
            &script,
        ]);
        let output = run(&mut command, Duration::from_secs(180)).unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        if !output.status.success() {
            failures.push(format!("{name}: {error}"));
            continue;
        }
        let rows: Vec<Value> = String::from_utf8(output.stdout)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        if let Err(error) = query.check(&rows) {
            failures.push(format!("{name}: {error}"));
        }
    }
    assert!(
        failures.is_empty(),
        "at parallelism {parallelism}:\n{}",
        failures.join("\n")
    );
}

#[test]
fn parallelism_1_gives_flinks_rows() {
    check(1);
}

#[test]
fn parallelism_2_gives_flinks_rows() {
    check(2);
}

#[test]
fn parallelism_4_gives_flinks_rows() {
    check(4);
}
