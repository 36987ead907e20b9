//! The rows of a case as files that the 'filesystem' connector reads: one file, or one in front of the restore and one behind it.

use std::path::{Path, PathBuf};

use super::case::Table;
use super::fold::Kind;

/// Which files of a table are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Portion {
    /// One file with all rows.
    All,
    /// The file in front of the restore; the source waits for more.
    First,
    /// Both files.
    Both,
}

/// A table's folder below the case's one.
pub fn folder_of(base: &Path, table: &Table) -> PathBuf {
    base.join(table.name.trim_matches('`'))
}

/// Writes a table's files, and gives how many rows there are.
pub fn write(base: &Path, table: &Table, portion: Portion) -> anyhow::Result<u64> {
    let folder = folder_of(base, table);
    std::fs::create_dir_all(&folder)?;
    let middle = match portion {
        Portion::All => table.rows.len(),
        Portion::First | Portion::Both => split(table),
    };
    let (first, second) = table.rows.split_at(middle);
    std::fs::write(folder.join("1.json"), records(table, first))?;
    if portion == Portion::Both {
        std::fs::write(folder.join("2.json"), records(table, second))?;
    }
    Ok(first.len() as u64)
}

/// The statement that makes the table.
pub fn create_table(base: &Path, table: &Table, portion: Portion) -> String {
    let format = match table.is_changelog() {
        true => "debezium-json",
        false => "json",
    };
    let watch = match portion {
        Portion::First => ", 'source.monitor-interval' = '1 h'",
        Portion::All | Portion::Both => "",
    };
    format!(
        "CREATE TABLE {} ({}) WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = '{format}'{watch});\n",
        table.name,
        table.columns,
        folder_of(base, table).display()
    )
}

/// Rows as the table's format has them. A -U with its +U is one record of debezium.
fn records(table: &Table, rows: &[(Kind, String)]) -> String {
    let mut text = String::new();
    if !table.is_changelog() {
        for (_, row) in rows {
            text += row;
            text.push('\n');
        }
        return text;
    }
    let mut before = None;
    for (kind, row) in rows {
        let (before, after, op) = match kind {
            Kind::Insert => ("null", row.as_str(), "c"),
            Kind::Delete => (row.as_str(), "null", "d"),
            Kind::UpdateBefore => {
                before = Some(row.as_str());
                continue;
            }
            Kind::UpdateAfter => match before.take() {
                Some(before) => (before, row.as_str(), "u"),
                None => ("null", row.as_str(), "c"),
            },
        };
        text += &format!("{{\"before\":{before},\"after\":{after},\"op\":\"{op}\"}}\n");
    }
    text
}

/// How many rows come in front of the restore: about half, so that no row behind it is late by the watermark of those in front, and
/// that no update is torn apart.
fn split(table: &Table) -> usize {
    if let Some(split) = table.split {
        return split;
    }
    let half = table.rows.len().div_ceil(2);
    let watermark = Watermark::of(&table.columns);
    let fits = |at: &usize| {
        let torn = table
            .rows
            .get(at.wrapping_sub(1))
            .is_some_and(|(kind, _)| *kind == Kind::UpdateBefore);
        let late = watermark
            .as_ref()
            .is_some_and(|watermark| watermark.makes_late(table, *at));
        !torn && !late
    };
    let nearest = (0..=table.rows.len())
        .filter(fits)
        .min_by_key(|at| at.abs_diff(half));
    nearest.unwrap_or(half)
}

/// `WATERMARK FOR column AS column - INTERVAL 'n' UNIT`
struct Watermark {
    column: String,
    delay_ms: i64,
}

impl Watermark {
    fn of(columns: &str) -> Option<Self> {
        let rest = columns.split_once("WATERMARK FOR ")?.1;
        let (column, expr) = rest.split_once(" AS ")?;
        let delay_ms = match expr.split_once("INTERVAL '") {
            None => 0,
            Some((_, interval)) => {
                let (number, unit) = interval.split_once('\'')?;
                let number: f64 = number.trim().parse().ok()?;
                let unit = unit.trim_start().to_uppercase();
                let unit_ms = [
                    ("SECOND", 1e3),
                    ("MINUTE", 6e4),
                    ("HOUR", 3.6e6),
                    ("DAY", 8.64e7),
                ]
                .into_iter()
                .find(|(name, _)| unit.starts_with(name))?;
                (number * unit_ms.1) as i64
            }
        };
        Some(Self {
            column: column.trim().trim_matches('`').to_owned(),
            delay_ms,
        })
    }

    /// A row from `at` on is older than the watermark of the rows in front of it.
    fn makes_late(&self, table: &Table, at: usize) -> bool {
        let time = |(_, row): &(Kind, String)| -> Option<i64> {
            let row: serde_json::Value = serde_json::from_str(row).ok()?;
            millis(row.get(&self.column)?.as_str()?)
        };
        let (first, second) = table.rows.split_at(at);
        let newest = first.iter().filter_map(time).max();
        let oldest = second.iter().filter_map(time).min();
        newest
            .zip(oldest)
            .is_some_and(|(newest, oldest)| oldest < newest - self.delay_ms)
    }
}

/// "2024-01-01 00:00:01.5" or with T and Z, as a number that grows with it by 1 a millisecond within 28 days of each month.
fn millis(text: &str) -> Option<i64> {
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<i64>().ok();
    let days = (number(0, 4)? * 12 + number(5, 7)?) * 31 + number(8, 10)?;
    let seconds = ((days * 24 + number(11, 13)?) * 60 + number(14, 16)?) * 60 + number(17, 19)?;
    let fraction: String = text
        .get(20..)
        .unwrap_or("")
        .chars()
        .take_while(char::is_ascii_digit)
        .chain("000".chars())
        .take(3)
        .collect();
    Some(seconds * 1000 + fraction.parse::<i64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(columns: &str, rows: &[(Kind, &str)]) -> Table {
        Table {
            name: "t".into(),
            columns: columns.into(),
            rows: rows
                .iter()
                .map(|(kind, row)| (*kind, (*row).to_owned()))
                .collect(),
            split: None,
        }
    }

    #[test]
    fn no_row_is_late_by_the_restore() {
        let rows = ["00:00:01", "00:00:09", "00:00:05.5", "00:00:03", "00:00:11"]
            .map(|time| format!("{{\"ts\": \"2024-01-01 {time}\"}}"));
        let rows: Vec<(Kind, &str)> = rows
            .iter()
            .map(|row| (Kind::Insert, row.as_str()))
            .collect();
        assert_eq!(split(&table("ts TIMESTAMP(3)", &rows)), 3);
        assert_eq!(
            split(&table("ts TIMESTAMP(3), WATERMARK FOR ts AS ts", &rows)),
            4
        );
        let delayed = "ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '6' SECOND";
        assert_eq!(split(&table(delayed, &rows)), 3);
    }

    #[test]
    fn updates_stay_together_and_are_one_record() {
        let rows = [
            (Kind::Insert, "1"),
            (Kind::UpdateBefore, "1"),
            (Kind::UpdateAfter, "2"),
            (Kind::Delete, "2"),
        ];
        let table = table("a INT", &rows);
        assert_ne!(split(&table), 2);
        assert_eq!(
            records(&table, &table.rows),
            "{\"before\":null,\"after\":1,\"op\":\"c\"}\n{\"before\":1,\"after\":2,\"op\":\"u\"}\n{\"before\":2,\"after\":null,\"op\":\"d\"}\n"
        );
    }

    #[test]
    fn times_are_in_order() {
        let at = |text| millis(text).unwrap();
        assert!(at("2024-01-31 23:59:59.999") < at("2024-02-01 00:00:00"));
        assert_eq!(
            at("2024-01-01T00:00:01.5Z") - at("2024-01-01T00:00:01Z"),
            500
        );
        assert_eq!(millis("soon"), None);
    }
}
