//! The fixed Nexmark events, the queries, and the rows that Apache Flink 2.3 gives for them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::Context;
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// `tests/data/nexmark/manifest.json`
#[derive(Debug, Deserialize)]
pub struct Manifest {
    pub ddl: String,
    pub views: Vec<String>,
    pub queries: BTreeMap<String, Query>,
}

#[derive(Debug, Deserialize)]
pub struct Query {
    /// Name and type.
    pub columns: Vec<(String, String)>,
    pub rows: usize,
    /// Of the canonical text.
    pub sha256: String,
    pub sql: String,
    pub first20: Vec<String>,
}

fn data() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("data/nexmark")
}

/// The queries with their answers.
pub fn manifest() -> &'static Manifest {
    static MANIFEST: OnceLock<Manifest> = OnceLock::new();
    MANIFEST.get_or_init(|| {
        let text = std::fs::read_to_string(data().join("manifest.json"))
            .expect("the data set is part of the checkout");
        serde_json::from_str(&text).expect("the manifest is JSON")
    })
}

/// Unpacks the events into a folder; the file.
pub fn unpack_events(folder: &Path) -> anyhow::Result<PathBuf> {
    let path = folder.join("events.ndjson");
    let packed = std::fs::File::open(data().join("events.ndjson.zst"))?;
    zstd::stream::copy_decode(packed, std::fs::File::create(&path)?)?;
    Ok(path)
}

/// Table and views over the events at `path`.
pub fn prelude(path: &Path) -> String {
    let ddl = manifest()
        .ddl
        .replace("'PATH'", &format!("'{}'", path.display()));
    std::iter::once(&ddl)
        .chain(&manifest().views)
        .map(|statement| format!("{statement};\n"))
        .collect()
}

impl Query {
    /// The query as a view with the answer's column names.
    pub fn view(&self, name: &str) -> String {
        let columns: Vec<String> = self
            .columns
            .iter()
            .map(|(column, _)| format!("`{column}`"))
            .collect();
        format!(
            "CREATE VIEW {name} ({}) AS {};\n",
            columns.join(", "),
            self.sql
        )
    }

    /// A table for the answer.
    pub fn table(&self, name: &str, options: &str) -> String {
        let columns: Vec<String> = self
            .columns
            .iter()
            .map(|(column, sql_type)| format!("`{column}` {sql_type}"))
            .collect();
        format!(
            "CREATE TABLE {name} ({}) WITH ({options});\n",
            columns.join(", ")
        )
    }

    /// Compares rows (JSON objects) with Flink's.
    pub fn check(&self, rows: &[Value]) -> anyhow::Result<()> {
        let mut lines = rows
            .iter()
            .map(|row| self.canonical(row))
            .collect::<anyhow::Result<Vec<_>>>()?;
        lines.sort();
        anyhow::ensure!(
            lines.len() == self.rows,
            "{} rows instead of {}; first: {:?}",
            lines.len(),
            self.rows,
            lines.first()
        );
        let mut hash = Sha256::new();
        for line in &lines {
            hash.update(line.as_bytes());
            hash.update(b"\n");
        }
        let hash = hex::encode(hash.finalize());
        let expected: Vec<&str> = self.first20.iter().map(String::as_str).collect();
        anyhow::ensure!(
            hash == self.sha256,
            "other rows than Flink's; the first ones are\n{}\ninstead of\n{}",
            lines
                .iter()
                .take(expected.len())
                .map(String::as_str)
                .collect::<Vec<_>>()
                .join("\n"),
            expected.join("\n")
        );
        Ok(())
    }

    /// Columns in order, joined by TAB.
    fn canonical(&self, row: &Value) -> anyhow::Result<String> {
        let cells = row
            .as_object()
            .with_context(|| format!("not an object: {row}"))?;
        anyhow::ensure!(
            cells.len() == self.columns.len(),
            "{} columns instead of {}: {row}",
            cells.len(),
            self.columns.len()
        );
        let texts = self.columns.iter().map(|(name, sql_type)| {
            let value = cells
                .get(name)
                .with_context(|| format!("no column {name}: {row}"))?;
            Ok(canonical_cell(value, sql_type))
        });
        Ok(texts.collect::<anyhow::Result<Vec<_>>>()?.join("\t"))
    }
}

fn canonical_cell(value: &Value, sql_type: &str) -> String {
    match value {
        Value::Null => "\\N".to_owned(),
        Value::Number(number) if sql_type.starts_with("DECIMAL") => {
            format!("{:.3}", number.as_f64().unwrap_or(f64::NAN))
        }
        Value::String(text) if sql_type.starts_with("TIMESTAMP") => {
            let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
            format!("{seconds}.{fraction:0<3}")
        }
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
