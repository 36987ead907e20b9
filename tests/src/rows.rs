//! Rows as other systems see them: JSON lines of files and topics, changelogs folded.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;
use serde_json::Value;

/// All lines of the visible files below a folder. Hidden and underscore names are not part of a table.
pub fn read_lines(folder: &Path) -> anyhow::Result<Vec<String>> {
    let mut lines = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if name.starts_with(['.', '_']) {
            continue;
        }
        if path.is_dir() {
            lines.extend(read_lines(&path)?);
        } else {
            lines.extend(std::fs::read_to_string(&path)?.lines().map(str::to_owned));
        }
    }
    Ok(lines)
}

/// Rows that remain of a debezium-json changelog, each as often as it is there.
pub fn fold_debezium(lines: &[String]) -> anyhow::Result<Vec<Value>> {
    let mut counts: BTreeMap<String, i64> = BTreeMap::new();
    for line in lines {
        let change: Value = serde_json::from_str(line).with_context(|| line.clone())?;
        let mut add = |row: &Value, by: i64| {
            if !row.is_null() {
                *counts.entry(row.to_string()).or_default() += by;
            }
        };
        add(&change["before"], -1);
        add(&change["after"], 1);
    }
    let mut rows = Vec::new();
    for (row, count) in counts {
        anyhow::ensure!(
            count >= 0,
            "a row was taken away that was never there: {row}"
        );
        for _ in 0..count {
            rows.push(serde_json::from_str(&row)?);
        }
    }
    Ok(rows)
}
