//! What a person at the command line gets: exit codes, outputs, the prompt, the client commands.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use weir_tests::cluster::{Cluster, ClusterOptions};
use weir_tests::eventually::eventually;
use weir_tests::process::{weir, weir_binary};
use weir_tests::said::{said, sql, weir_says, weir_says_to};
use weir_tests::terminal::Terminal;

const WAIT: Duration = Duration::from_secs(60);

/// Numbers 1 to 10 in order.
const NUMBERS: &str =
    "CREATE TABLE numbers (n INT) WITH ('connector' = 'datagen', 'number-of-rows' = '10',
    'fields.n.kind' = 'sequence', 'fields.n.start' = '1', 'fields.n.end' = '10');\n";

const ENDLESS: &str =
    "CREATE TABLE endless (n INT) WITH ('connector' = 'datagen', 'rows-per-second' = '50');\n";

fn rows(flags: &[&str], query: &str) -> Vec<String> {
    let script = format!("{NUMBERS}{query}");
    let arguments = [&["sql", "--quiet"], flags, &["-e", &script]].concat();
    let said = weir_says(&arguments);
    assert_eq!(said.err, "", "--quiet");
    said.fine().lines().map(str::to_owned).collect()
}

#[test]
fn the_exit_code_is_0_only_if_everything_succeeded() {
    assert_eq!(
        sql(&format!("{NUMBERS} SELECT n FROM numbers;")).code,
        Some(0)
    );
    assert_eq!(sql("").code, Some(0));
    assert_eq!(
        sql(&format!(
            "{NUMBERS} SELECT n FROM numbers; SELECT m FROM numbers;"
        ))
        .code,
        Some(1)
    );
    let division = format!("{NUMBERS} SELECT 1 / (n - n) FROM numbers;");
    assert_eq!(sql(&division).code, Some(1), "a job that fails");
    assert_eq!(weir_says(&["sql", "--no-such-flag"]).code, Some(2));
}

#[test]
fn several_inserts_run_one_after_the_other() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().display();
    let said = sql(&format!(
        "{NUMBERS}
         CREATE TABLE first (n INT) WITH ('connector' = 'filesystem', 'path' = '{path}/first', 'format' = 'csv');
         CREATE TABLE second (n INT) WITH ('connector' = 'filesystem', 'path' = '{path}/second', 'format' = 'csv');
         INSERT INTO first SELECT n FROM numbers;
         INSERT INTO second SELECT n * 10 FROM first;"
    ));
    said.fine();
    let lines = weir_tests::rows::read_lines(&folder.path().join("second")).unwrap();
    let mut numbers: Vec<u32> = lines.iter().map(|line| line.parse().unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(
        numbers,
        (1..=10).map(|n| n * 10).collect::<Vec<_>>(),
        "{said:?}"
    );
}

#[test]
fn the_end_of_a_job_is_summed_up() {
    let said = sql(&format!("{NUMBERS} SELECT n FROM numbers WHERE n > 7;"));
    said.fine();
    let summary = said.err.lines().last().unwrap_or_default();
    assert!(summary.starts_with("10 records read in "), "{said:?}");
    assert!(summary.ends_with(" records/s"), "{said:?}");
}

#[test]
fn results_come_as_tables_and_changelogs_in_text_and_json() {
    let sum = "SELECT n / 9 AS k, COUNT(*) AS c FROM numbers GROUP BY n / 9;";
    let mut json = rows(&["--format", "json"], sum);
    json.sort_unstable();
    assert_eq!(json, ["{\"k\":0,\"c\":8}", "{\"k\":1,\"c\":2}"]);

    let table = rows(&[], sum).join("\n");
    for part in ["| k ", "| c ", "| 0 ", "| 8 ", "2 rows"] {
        assert!(table.contains(part), "no '{part}' in\n{table}");
    }

    let changes = rows(&["--result", "changelog", "--format", "json"], sum);
    let mut count = [0i64; 2];
    for line in &changes {
        let change: Value = serde_json::from_str(line).unwrap();
        let sign = match change["op"].as_str().unwrap() {
            "+I" | "+U" => 1,
            "-U" | "-D" => -1,
            other => panic!("no kind of row: {other}"),
        };
        let (k, c) = (
            change["row"]["k"].as_u64().unwrap(),
            change["row"]["c"].as_i64().unwrap(),
        );
        count[k as usize] += sign * c;
    }
    assert_eq!(count, [8, 2], "{changes:?}");

    let text = rows(
        &["--result", "changelog"],
        "SELECT n, CAST(NULL AS STRING) AS x FROM numbers WHERE n = 3;",
    );
    assert_eq!(text, ["op\tn\tx", "+I\t3\tNULL"]);
}

#[test]
fn rows_may_be_written_in_the_statement() {
    let shown = |query: &str| rows(&["--result", "changelog"], query).split_off(1);
    assert_eq!(shown("SELECT 1 + 1, 'a' || 'b'"), ["+I\t2\tab"]);
    let mut values = shown(
        "SELECT x * 2, y FROM (VALUES (1, 'a'), (2, CAST(NULL AS STRING)), (3, 'c')) AS t (x, y) WHERE x > 1",
    );
    values.sort();
    assert_eq!(values, ["+I\t4\tNULL", "+I\t6\tc"]);
}

#[test]
fn a_script_may_come_on_the_standard_input() {
    let said = weir_says_to(
        &["sql", "--format", "json"],
        &format!("{NUMBERS} SELECT n FROM numbers WHERE n = 5;"),
    );
    assert_eq!(said.fine().trim(), "{\"n\":5}");
}

#[test]
fn statements_about_tables_and_settings_print_what_they_know() {
    let said = sql(&format!(
        "{NUMBERS}
         SET 'parallelism.default' = '2';
         CREATE VIEW big AS SELECT n FROM numbers WHERE n > 5;
         SHOW TABLES;
         DESCRIBE numbers;
         EXPLAIN SELECT n, COUNT(*) FROM big GROUP BY n;
         SET;"
    ));
    let out = said.fine();
    for part in [
        "numbers",
        "big",
        "INT",
        "GroupAggregate",
        "parallelism.default",
    ] {
        assert!(out.contains(part), "no '{part}' in\n{out}");
    }
}

#[test]
fn ctrl_c_ends_everything_quickly_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = weir()
        .args(["sql", "--result", "changelog", "-e"])
        .arg(format!("{ENDLESS} SELECT n FROM endless;"))
        .env("TMPDIR", folder.path())
        .stdout(std::fs::File::create(folder.path().join("out")).unwrap())
        .stderr(std::fs::File::create(folder.path().join("err")).unwrap())
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    eventually("rows come", WAIT, || {
        (read("out").lines().count() > 3).then_some(())
    })
    .unwrap();
    let started = Instant::now();
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
    let status = eventually("it ends", WAIT, || child.try_wait().unwrap()).unwrap();
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "{:?}",
        started.elapsed()
    );
    assert_eq!(status.code(), Some(1), "{}", read("err"));
    assert!(read("err").contains("interrupted"), "{}", read("err"));
    assert!(!read("err").contains("panicked"), "{}", read("err"));
    let left: Vec<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("weir-"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_reader_that_goes_away_ends_the_query() {
    let mut child = weir()
        .args(["sql", "--result", "changelog", "-e"])
        .arg(format!("{ENDLESS} SELECT n FROM endless;"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    eventually("it ends", WAIT, || child.try_wait().unwrap()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!text.contains("panicked"), "{text}");
}

#[test]
fn the_prompt_takes_statements_of_several_lines() {
    let home = tempfile::tempdir().unwrap();
    let command = format!("{} sql", weir_binary().display());
    let mut terminal = Terminal::start(&command, home.path()).unwrap();
    terminal.shows("A statement ends with ';'", WAIT);
    terminal.shows("weir", WAIT);
    terminal.types("SELECT nope\r");
    terminal.types("FROM nowhere;\r");
    terminal.shows("error: line 2, column 6: unknown table 'nowhere'", WAIT);
    terminal.types("CREATE TABLE d (n INT)\r");
    terminal.types("WITH ('connector' = 'datagen', 'number-of-rows' = '3', 'fields.n.kind' = 'sequence', 'fields.n.start' = '41', 'fields.n.end' = '43');\r");
    terminal.types("SELECT n + 1000 AS m FROM d;\r");
    terminal.shows("1043", WAIT);
    terminal.shows("3 rows", WAIT);
    terminal.types("quit;\r");
    assert_eq!(terminal.ends(WAIT), Some(0));
    assert!(!terminal.screen().contains("panicked"));
}

#[test]
fn clusters_are_worked_by_the_client_commands() {
    let options = ClusterOptions {
        job_managers: 1,
        task_managers: 1,
        slots: 4,
        ..ClusterOptions::default()
    };
    let cluster = Cluster::start(options).unwrap();
    let call = |name: &str, arguments: &[&str]| said(cluster.command(name).args(arguments));
    let script = |name: &str, text: &str| {
        let path = cluster.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let sink = "CREATE TABLE o (n INT) WITH ('connector' = 'blackhole');\n";
    let bounded = script(
        "bounded.sql",
        &format!("{NUMBERS}{sink} INSERT INTO o SELECT n FROM numbers;"),
    );
    let failing = script(
        "failing.sql",
        &format!("{NUMBERS}{sink} INSERT INTO o SELECT 1 / (n - n) FROM numbers;"),
    );
    let endless = script(
        "endless.sql",
        &format!("{ENDLESS}{sink} INSERT INTO o SELECT n FROM endless;"),
    );

    let finished = call("run", &[&bounded, "--wait"]).fine().trim().to_owned();
    let status = cluster.status(&finished).unwrap();
    assert_eq!(status["state"], "FINISHED");
    let read: u64 = status["subtasks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| s["records_in"].as_u64().unwrap())
        .sum();
    assert!(read >= 10, "a finished job keeps its figures: {status}");
    call("run", &[&failing, "--wait"]).refuses(&["FAILED", "zero"]);

    let answer = call(
        "run",
        &[&endless, "--name", "on and on", "--format", "json"],
    );
    let job: Value = serde_json::from_str(answer.fine()).unwrap();
    let job = job["job_id"].as_str().unwrap();
    cluster.wait_for_state(job, "RUNNING", WAIT).unwrap();
    let listed = call("list", &["--format", "json"]);
    let jobs: Vec<Value> = listed
        .fine()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let mut states: Vec<_> = jobs
        .iter()
        .map(|job| job["state"].as_str().unwrap())
        .collect();
    states.sort_unstable();
    assert_eq!(states, ["FAILED", "FINISHED", "RUNNING"]);
    let table = call("list", &[]);
    for part in ["JOB", "STATE", job, "RUNNING", "on and on"] {
        assert!(table.fine().contains(part), "no '{part}' in {table:?}");
    }
    let text = call("status", &[job]);
    for part in ["on and on", "RUNNING", "SUBTASK", "RECORDS IN"] {
        assert!(text.fine().contains(part), "no '{part}' in {text:?}");
    }
    call("cancel", &[job]).fine();
    assert_eq!(cluster.status(job).unwrap()["state"], "CANCELED");
    // A request that is repeated after a lost answer is no failure.
    call("cancel", &[job]).fine();

    let query = said(
        Command::new(weir_binary())
            .args([
                "sql",
                "--quiet",
                "--format",
                "json",
                "--jobmanager",
                &cluster.addresses[0],
                "-e",
            ])
            .arg(format!("{NUMBERS} SELECT n FROM numbers WHERE n = 2;")),
    );
    assert_eq!(query.fine().trim(), "{\"n\":2}");
}

#[test]
fn a_session_shows_and_stops_the_jobs_of_its_cluster() {
    let options = ClusterOptions {
        job_managers: 1,
        task_managers: 1,
        slots: 2,
        ..ClusterOptions::default()
    };
    let cluster = Cluster::start(options).unwrap();
    let ask = |statements: &str| {
        let arguments = ["--quiet", "--format", "json", "-e", statements];
        said(cluster.command("sql").args(arguments))
    };
    let rows = |statements: &str| -> Vec<Value> {
        let said = ask(statements);
        let lines = said.fine().lines();
        lines
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    };
    assert!(rows("SHOW JOBS").is_empty());
    let endless = format!(
        "{ENDLESS} SET 'pipeline.name' = 'on and on'; CREATE TABLE o (n INT, c BIGINT) WITH ('connector' = 'blackhole');
         INSERT INTO o SELECT n, COUNT(*) FROM endless GROUP BY n;"
    );
    let path = cluster.dir.path().join("endless.sql");
    std::fs::write(&path, &endless).unwrap();
    let submitted = said(cluster.command("run").arg(&path));
    assert!(
        submitted
            .err
            .contains("warning: GroupAggregate(groupBy=[n]"),
        "{submitted:?}"
    );
    let job = submitted.fine().trim().to_owned();
    cluster.wait_for_state(&job, "RUNNING", WAIT).unwrap();
    let shown = rows("SHOW JOBS");
    assert_eq!(shown, rows(&format!("DESCRIBE JOB '{job}'")));
    assert_eq!(shown.len(), 1);
    assert_eq!(
        (
            &shown[0]["job id"],
            &shown[0]["job name"],
            &shown[0]["status"]
        ),
        (&job.as_str().into(), &"on and on".into(), &"RUNNING".into())
    );
    let savepoints = cluster.dir.path().join("kept").display().to_string();
    let stopped = rows(&format!(
        "SET 'execution.checkpointing.savepoint-dir' = '{savepoints}'; STOP JOB '{job}' WITH SAVEPOINT"
    ));
    let path = stopped[0]["savepoint path"].as_str().unwrap();
    let path = path.trim_start_matches("file://");
    assert!(path.starts_with(&savepoints), "{path}");
    assert!(std::path::Path::new(path).join("_metadata").exists());
    assert_eq!(cluster.status(&job).unwrap()["state"], "FINISHED");
    let again = cluster.submit(&endless, &[]).unwrap();
    cluster.wait_for_state(&again, "RUNNING", WAIT).unwrap();
    assert_eq!(rows(&format!("STOP JOB '{again}'"))[0]["result"], "OK");
    assert_eq!(cluster.status(&again).unwrap()["state"], "CANCELED");
    ask("DESCRIBE JOB 'no-such'").refuses(&["no-such"]);
    let path = cluster.dir.path().join("stop.sql");
    std::fs::write(&path, "STOP JOB 'x';").unwrap();
    said(cluster.command("run").arg(&path)).refuses(&["line 1, column 1", "weir sql --jobmanager"]);
}
