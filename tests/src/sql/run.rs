//! Runs cases through the real client on one cluster that lives as long as all of them.

use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::Value;

use super::case::{Case, Expected};
use super::feed::{self, Portion};
use super::fold::Rows;
use crate::cluster::{Cluster, ClusterOptions};
use crate::eventually::eventually;

/// No case works for longer, also on a machine that does much else.
const TIMEOUT: Duration = Duration::from_secs(60);
/// More than all cases that run at once take, and than what hanging ones hold.
const SLOTS: u32 = 256;

/// How a case is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// From the first row to the last at a parallelism.
    Plain(u32),
    /// Stopped with a savepoint about half way, and started from it at another parallelism.
    Restored(u32, u32),
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(parallelism) => write!(f, "parallelism {parallelism}"),
            Self::Restored(before, after) => {
                write!(f, "restored, parallelism {before} and then {after}")
            }
        }
    }
}

/// The modes that a case is run in. The parallelisms of the restore are given by its name, so that all pairs come up among many cases.
pub fn modes(case: &Case) -> Vec<Mode> {
    if matches!(case.expected, Expected::Error(_)) {
        return vec![Mode::Plain(1)];
    }
    let mut modes: Vec<Mode> = match case.no_parallel {
        Some(_) => vec![Mode::Plain(1)],
        None => [1, 2, 4].map(Mode::Plain).into(),
    };
    if case.no_restore.is_none() && !case.tables.is_empty() {
        let sum: usize = case.name.bytes().map(usize::from).sum();
        let (before, after) = match case.no_parallel {
            Some(_) => (1, 1),
            None => [(1, 2), (2, 3), (3, 1)][sum % 3],
        };
        modes.push(Mode::Restored(before, after));
    }
    modes
}

/// The cluster that cases run on.
pub struct Runner {
    cluster: Cluster,
}

/// What the client said.
struct Answer {
    succeeded: bool,
    out: String,
    err: String,
}

impl Runner {
    /// Starts the cluster.
    pub fn start() -> anyhow::Result<Self> {
        let options = ClusterOptions {
            job_managers: 1,
            task_managers: 1,
            slots: SLOTS,
            // A task manager tells with it how many rows were read.
            job_manager_conf: vec![("jobmanager.heartbeat_interval_ms".into(), "20".into())],
            ..ClusterOptions::default()
        };
        Ok(Self {
            cluster: Cluster::start(options)?,
        })
    }

    /// Whether a thread of the cluster has panicked.
    pub fn has_panicked(&self) -> bool {
        self.cluster.logs_contain("panicked")
    }

    /// Runs a case in a mode; says what is not as it must be.
    pub fn check(&self, case: &Case, mode: Mode) -> Result<(), String> {
        let run = || -> anyhow::Result<String> {
            let folder = tempfile::Builder::new().prefix("weir-sql-").tempdir()?;
            let place = Place {
                case,
                folder: folder.path(),
            };
            match (&case.expected, mode) {
                (Expected::Error(parts), _) => self.fails(&place, parts),
                (Expected::Rows(rows), Mode::Plain(parallelism)) => {
                    let out = self.plain(&place, parallelism)?;
                    difference(&out, rows)
                }
                (Expected::Rows(rows), Mode::Restored(before, after)) => {
                    let out = self.restored(&place, before, after)?;
                    difference(&out, rows)
                }
            }
        };
        match run() {
            Ok(difference) if difference.is_empty() => Ok(()),
            Ok(difference) => Err(format!("{} ({mode}):\n{difference}", case.name)),
            Err(error) => Err(format!("{} ({mode}): {error:#}\n", case.name)),
        }
    }

    fn plain(&self, place: &Place<'_>, parallelism: u32) -> anyhow::Result<String> {
        place.write(Portion::All)?;
        let script = place.script(Portion::All, "");
        let answer = self.client(place, &script.text, parallelism)?.end()?;
        rows_of(answer)
    }

    fn fails(&self, place: &Place<'_>, parts: &[String]) -> anyhow::Result<String> {
        place.write(Portion::All)?;
        let script = place.script(Portion::All, "");
        let answer = self.client(place, &script.text, 1)?.end()?;
        anyhow::ensure!(!answer.succeeded, "it succeeds, with\n{}", answer.out);
        let message = with_lines_from(&answer.err, script.header_lines);
        let missing = parts.iter().find(|part| !message.contains(part.as_str()));
        Ok(missing.map_or_else(String::new, |part| {
            format!("  not in the message: {part}\n  the message: {message}\n")
        }))
    }

    fn restored(&self, place: &Place<'_>, before: u32, after: u32) -> anyhow::Result<String> {
        let job = format!("case {}", place.case.name);
        let rows = place.write(Portion::First)?;
        let settings = format!("SET 'pipeline.name' = '{job}';\n");
        let script = place.script(Portion::First, &settings);
        let mut client = self.client(place, &script.text, before)?;
        let Some(id) = self.wait_until_read(&mut client, &job, &rows)? else {
            // A plan that reads nothing.
            return rows_of(client.end()?);
        };
        let savepoints = place.folder.join("savepoints").display().to_string();
        let savepoint = self
            .cluster
            .call("stop", &[&id, "--savepoint", &savepoints])?;
        let first = rows_of(client.end()?)?;
        place.write(Portion::Both)?;
        let settings = format!("SET 'execution.state-recovery.path' = '{savepoint}';\n");
        let script = place.script(Portion::Both, &settings);
        let second = rows_of(self.client(place, &script.text, after)?.end()?)?;
        Ok(first + &second)
    }

    /// Waits until the sources of the client's job have read all rows there are; its id. `None`: the client has ended.
    fn wait_until_read(
        &self,
        client: &mut Client,
        job: &str,
        rows: &[(String, u64)],
    ) -> anyhow::Result<Option<String>> {
        let mut id = None;
        eventually("all rows are read", TIMEOUT, || {
            if client.has_ended() {
                return Some(None);
            }
            id = id.clone().or_else(|| self.running(job));
            let status = self.cluster.status(id.as_deref()?).ok()?;
            has_read(&status, rows).then(|| Some(id.clone()))?
        })
        .map(|id: Option<String>| id)
    }

    /// Id of the job of this name that runs.
    fn running(&self, name: &str) -> Option<String> {
        let jobs = self.cluster.call("list", &["--format", "json"]).ok()?;
        jobs.lines().find_map(|line| {
            let job: Value = serde_json::from_str(line).ok()?;
            let is_it = job["name"] == name && job["state"] == "RUNNING";
            is_it.then(|| job["job_id"].as_str().map(str::to_owned))?
        })
    }

    fn client(&self, place: &Place<'_>, script: &str, parallelism: u32) -> anyhow::Result<Client> {
        let number = std::fs::read_dir(place.folder)?.count();
        let file = |ending: &str| place.folder.join(format!("{number}.{ending}"));
        std::fs::write(file("sql"), script)?;
        let mut command = self.cluster.command("sql");
        command
            .args(["--quiet", "--format", "json", "--result", "changelog"])
            .args(["--parallelism", &parallelism.to_string()])
            .arg(file("sql"))
            .stdin(Stdio::null())
            .stdout(File::create(file("out"))?)
            .stderr(File::create(file("err"))?);
        Ok(Client {
            child: command.spawn().context("cannot start the client")?,
            out: file("out"),
            err: file("err"),
        })
    }
}

/// Whether each scan of each table has read the rows of the table.
fn has_read(status: &Value, rows: &[(String, u64)]) -> bool {
    let subtasks = status["subtasks"].as_array().map_or(&[][..], Vec::as_slice);
    let mut sources = 0;
    for (table, rows) in rows {
        let source = format!("Source: {table}");
        let of_it: Vec<&Value> = subtasks
            .iter()
            .filter(|subtask| {
                let name = subtask["vertex"].as_str().unwrap_or_default();
                let rest = name.strip_prefix(&source);
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
            })
            .collect();
        let scans = of_it
            .iter()
            .filter(|subtask| subtask["subtask"] == 0)
            .count() as u64;
        let read: u64 = of_it
            .iter()
            .filter_map(|subtask| subtask["records_in"].as_u64())
            .sum();
        if read != scans * rows {
            return false;
        }
        sources += scans;
    }
    sources > 0 && subtasks.iter().all(|subtask| subtask["state"] == "RUNNING")
}

fn rows_of(answer: Answer) -> anyhow::Result<String> {
    anyhow::ensure!(answer.succeeded, "{}", answer.err.trim());
    Ok(answer.out)
}

fn difference(out: &str, expected: &[String]) -> anyhow::Result<String> {
    let mut rows = Rows::default();
    for line in out.lines() {
        rows.change(line)?;
    }
    Ok(rows.difference(&Rows::of(expected)))
}

/// A message whose "line N" counts from behind `header` lines.
fn with_lines_from(message: &str, header: usize) -> String {
    let mut pieces = message.split("line ");
    let mut text = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let digits = piece.chars().take_while(char::is_ascii_digit).count();
        let (number, rest) = piece.split_at(digits);
        text += "line ";
        match number.parse::<usize>() {
            Ok(line) if line > header => text += &(line - header).to_string(),
            _ => text += number,
        }
        text += rest;
    }
    text
}

/// Files of one run of a case.
struct Place<'a> {
    case: &'a Case,
    folder: &'a Path,
}

struct Script {
    text: String,
    /// In front of what the case itself has written.
    header_lines: usize,
}

impl Place<'_> {
    /// Writes the tables' files; how many rows the first file of each table has.
    fn write(&self, portion: Portion) -> anyhow::Result<Vec<(String, u64)>> {
        let tables = self.case.tables.iter();
        tables
            .map(|table| {
                Ok((
                    table.name.clone(),
                    feed::write(self.folder, table, portion)?,
                ))
            })
            .collect()
    }

    fn script(&self, portion: Portion, settings: &str) -> Script {
        let mut text = settings.to_owned();
        for (key, value) in &self.case.settings {
            text += &format!("SET '{key}' = '{value}';\n");
        }
        for table in &self.case.tables {
            text += &feed::create_table(self.folder, table, portion);
        }
        let header_lines = text.lines().count();
        text += &self.case.statements;
        text += &self.case.sql;
        text += ";\n";
        Script { text, header_lines }
    }
}

/// A running client; killed when it is dropped.
struct Client {
    child: Child,
    out: PathBuf,
    err: PathBuf,
}

impl Client {
    fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for its end.
    fn end(mut self) -> anyhow::Result<Answer> {
        let deadline = Instant::now() + TIMEOUT;
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            if Instant::now() > deadline {
                anyhow::bail!("the query has not ended within {TIMEOUT:?}");
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        Ok(Answer {
            succeeded: status.success(),
            out: std::fs::read_to_string(&self.out)?,
            err: std::fs::read_to_string(&self.err)?,
        })
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lines_count_from_behind_the_header() {
        let message = with_lines_from("error: line 12, column 3: no; see line 2 or a line", 10);
        assert_eq!(message, "error: line 2, column 3: no; see line 2 or a line");
    }

    #[test]
    fn all_scans_of_all_tables_must_have_read_their_rows() {
        let subtask = |vertex: &str, subtask: u32, rows: u32| json!({"vertex": vertex, "subtask": subtask, "records_in": rows, "state": "RUNNING"});
        let status = |rows: u32| {
            json!({"subtasks": [
                subtask("Source: a -> Calc", 0, 2), subtask("Source: a -> Calc", 1, rows),
                subtask("Source: a", 0, 0), subtask("Source: a", 1, 5),
                subtask("Source: ab", 0, 1), subtask("Join", 0, 9)
            ]})
        };
        let rows = [("a".to_owned(), 5), ("ab".to_owned(), 1)];
        assert!(!has_read(&status(2), &rows));
        assert!(has_read(&status(3), &rows));
        assert!(!has_read(&json!({"subtasks": []}), &rows));
    }
}
