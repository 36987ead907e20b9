//! Jobs that go on from the snapshots that are kept.

use std::path::{Path, PathBuf};

use serde_json::Value;
use weir_proto::v1;

use crate::rows::{fold_debezium, read_lines};
use crate::said::{Said, weir_says};
use crate::savepoints::{AFTER, BEFORE, CASES, Case, Run, copy, folder};

/// The versions of which snapshots of a case are kept.
pub fn versions(case: &Case) -> Vec<String> {
    let entries = std::fs::read_dir(folder()).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|version| case.stored(version).join("snapshot").exists())
        .collect();
    names.sort();
    assert!(!names.is_empty(), "nothing is kept of {}", case.name);
    names
}

/// A case by its name.
pub fn case(name: &str) -> &'static Case {
    CASES.iter().find(|case| case.name == name).unwrap()
}

/// The newest savepoint of a case.
pub fn newest(name: &str) -> PathBuf {
    let case = case(name);
    case.stored(versions(case).last().unwrap()).join("snapshot")
}

/// Input and output of a run, in a temporary folder.
pub struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    /// With these input files.
    pub fn new(files: &[(&str, &str)]) -> Self {
        let place = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        std::fs::create_dir(place.input()).unwrap();
        std::fs::create_dir(place.output()).unwrap();
        for (name, content) in files {
            std::fs::write(place.input().join(name), content).unwrap();
        }
        place
    }

    /// What the job reads.
    pub fn input(&self) -> PathBuf {
        self.folder.path().join("input")
    }

    /// What it writes.
    pub fn output(&self) -> PathBuf {
        self.folder.path().join("output")
    }

    /// Runs a case to the end of its input, from a snapshot or from nothing.
    pub fn run(&self, case: &Case, from: Option<&Path>, parallelism: u32) -> Said {
        let script = case.script(&self.input(), &self.output(), Run::default());
        self.run_script(&script, from, parallelism)
    }

    /// The same with a script.
    pub fn run_script(&self, script: &str, from: Option<&Path>, parallelism: u32) -> Said {
        let from = from.map_or_else(String::new, |path| {
            format!(
                "SET 'execution.state-recovery.path' = '{}'; ",
                path.display()
            )
        });
        let parallelism = format!("SET 'parallelism.default' = '{parallelism}'; ");
        weir_says(&["sql", "-e", &(from + &parallelism + script)])
    }

    /// All that is visible in the output; of a changelog the rows that remain.
    pub fn rows(&self, case: &Case) -> Vec<Value> {
        let lines = read_lines(&self.output()).unwrap();
        let mut rows = match case.updates {
            true => fold_debezium(&lines).unwrap(),
            false => parsed(&lines),
        };
        rows.sort_by_key(Value::to_string);
        rows
    }
}

/// JSON lines, sorted.
pub fn parsed(lines: &[String]) -> Vec<Value> {
    let mut rows: Vec<Value> = lines
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    rows.sort_by_key(Value::to_string);
    rows
}

/// Input files of a job that goes on.
pub const BOTH: &[(&str, &str)] = &[("before.json", BEFORE), ("after.json", AFTER)];

/// What a case gives that never stopped. One reader of one file, so that no row comes late.
pub fn uninterrupted(case: &Case, input: &str) -> Vec<Value> {
    let place = Place::new(&[("all.json", input)]);
    place.run(case, None, 1).fine();
    let rows = place.rows(case);
    assert!(!rows.is_empty());
    rows
}

/// A copy of a kept snapshot elsewhere, so that nothing but what is in it can be read, and its output in the place of a run.
pub fn moved(case: &Case, version: &str, place: &Place) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    copy(&case.stored(version).join("snapshot"), folder.path()).unwrap();
    let output = case.stored(version).join("output");
    // Nothing is kept of a job that had written nothing.
    if output.exists() {
        copy(&output, &place.output()).unwrap();
    }
    let path = manifest_folder(folder.path()).join("_metadata");
    let bytes = std::fs::read(&path).unwrap();
    let mut manifest = weir_snapshot::manifest::decode(&bytes).unwrap();
    if move_output(&mut manifest, &place.output()) {
        std::fs::write(&path, weir_snapshot::manifest::encode(&manifest)).unwrap();
    }
    folder
}

/// What a sink had prepared names the folder that it wrote to.
fn move_output(manifest: &mut v1::Manifest, output: &Path) -> bool {
    let states = manifest.operators.iter_mut().flat_map(|o| &mut o.states);
    let items = states
        .filter(|state| state.name == "committables")
        .flat_map(|state| &mut state.items);
    let mut moved = false;
    for item in items {
        let mut committable: Value = serde_json::from_slice(&item[1..]).unwrap();
        committable["folder"] = format!("file://{}", output.display()).into();
        *item = [&item[..1], committable.to_string().as_bytes()]
            .concat()
            .into();
        moved = true;
    }
    moved
}

/// Of a savepoint, or of the newest of a job's checkpoints.
pub fn manifest_folder(snapshot: &Path) -> PathBuf {
    match snapshot.join("_metadata").exists() {
        true => snapshot.to_owned(),
        false => newest_checkpoint(snapshot),
    }
}
/// Of a job's folder.
pub fn newest_checkpoint(folder: &Path) -> PathBuf {
    let entries = std::fs::read_dir(folder).unwrap();
    let checkpoints = entries.filter_map(|entry| {
        let path = entry.unwrap().path();
        let number: u64 = path
            .file_name()?
            .to_str()?
            .strip_prefix("chk-")?
            .parse()
            .ok()?;
        path.join("_metadata").exists().then_some((number, path))
    });
    checkpoints.max().unwrap().1
}

/// The same of a command's output.
pub fn parsed_text(text: &str) -> Vec<Value> {
    parsed(&text.lines().map(str::to_owned).collect::<Vec<_>>())
}
