//! Compares what both engines' generators make: all columns of some events, written as JSON by either.

use std::path::Path;

use anyhow::Context;
use serde_json::Value;

use crate::script::{Input, Script};
use crate::{flink, weir};

/// An error with the first difference.
pub(crate) fn compare(
    root: &Path,
    binary: &Path,
    flink_folder: &Path,
    events: u64,
) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let statements = |engine: &str| -> anyhow::Result<Vec<String>> {
        let script = Script::read(root, "q0")?;
        let path = folder.path().join(engine);
        let sink = format!(
            "'connector' = 'filesystem', 'path' = 'file://{}', 'format' = 'json'",
            path.display()
        );
        Ok(vec![
            script.source(&Input::Generator { events }),
            script.copy_of_events("dump", &sink)?,
            "INSERT INTO dump SELECT event_type, person, auction, bid FROM events".to_owned(),
        ])
    };
    weir::measure(binary, None, &statements("weir")?).context("Weir")?;
    flink::measure(flink_folder, None, &statements("flink")?).context("Flink")?;
    let (ours, theirs) = (
        rows(&folder.path().join("weir"))?,
        rows(&folder.path().join("flink"))?,
    );
    anyhow::ensure!(
        ours.len() == theirs.len() && ours.len() as u64 == events,
        "Weir made {} events, Flink {}",
        ours.len(),
        theirs.len()
    );
    if let Some((ours, theirs)) = ours.iter().zip(&theirs).find(|(a, b)| a != b) {
        anyhow::bail!("an event differs:\n  Weir  {ours}\n  Flink {theirs}");
    }
    println!("{events} events are the same in Weir and in Flink");
    Ok(())
}

/// The rows of all part files, sorted. Flink's unfinished parts begin with a dot.
fn rows(folder: &Path) -> anyhow::Result<Vec<String>> {
    let mut rows = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(['.', '_']) {
            continue;
        }
        for line in std::fs::read_to_string(entry.path())?.lines() {
            let value: Value = serde_json::from_str(line)?;
            rows.push(without_nulls(value).to_string());
        }
    }
    rows.sort();
    Ok(rows)
}

/// A missing column and a NULL are the same.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(key, value)| (key, without_nulls(value)))
            .collect(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_column_equals_null() {
        let value = serde_json::json!({"a": {"b": null, "c": 1}, "d": null});
        assert_eq!(without_nulls(value).to_string(), r#"{"a":{"c":1}}"#);
    }
}
