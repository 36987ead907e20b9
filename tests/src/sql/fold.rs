//! Final rows of a changelog, compared as a multiset.

use std::collections::BTreeMap;

use anyhow::Context;

/// Kind of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Insert,
    UpdateBefore,
    UpdateAfter,
    Delete,
}

impl Kind {
    /// "+I", "-U", "+U", "-D"
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "+I" => Self::Insert,
            "-U" => Self::UpdateBefore,
            "+U" => Self::UpdateAfter,
            "-D" => Self::Delete,
            _ => return None,
        })
    }

    /// The row is taken away.
    pub fn is_retraction(self) -> bool {
        matches!(self, Self::UpdateBefore | Self::Delete)
    }
}

/// How often each row is there; negative: it was taken away more often than it came.
#[derive(Debug, Default)]
pub struct Rows(BTreeMap<String, i64>);

impl Rows {
    /// Rows as they are, one JSON object each.
    pub fn of(rows: &[String]) -> Self {
        let mut all = Self::default();
        for row in rows {
            all.add(row, 1);
        }
        all
    }

    fn add(&mut self, row: &str, by: i64) {
        let row = without_blanks(row);
        let count = self.0.entry(row.clone()).or_default();
        *count += by;
        if *count == 0 {
            self.0.remove(&row);
        }
    }

    /// A line of `weir sql --format json --result changelog`: a change, or a row that SHOW and its like print.
    pub fn change(&mut self, line: &str) -> anyhow::Result<()> {
        if line.starts_with('{') && !line.starts_with("{\"op\":\"") {
            self.add(line, 1);
            return Ok(());
        }
        let parsed = line
            .strip_prefix("{\"op\":\"")
            .and_then(|rest| rest.strip_suffix('}')?.split_once("\",\"row\":"))
            .and_then(|(kind, row)| Some((Kind::parse(kind)?, row)));
        let (kind, row) = parsed.with_context(|| format!("'{line}' is no change"))?;
        self.add(row, if kind.is_retraction() { -1 } else { 1 });
        Ok(())
    }

    /// What differs from the rows that must be there; empty if nothing does.
    pub fn difference(&self, expected: &Self) -> String {
        let mut text = String::new();
        let mut names: Vec<&String> = self.0.keys().chain(expected.0.keys()).collect();
        names.sort();
        names.dedup();
        for row in names {
            let count = |of: &Self| of.0.get(row).copied().unwrap_or(0);
            let (found, wanted) = (count(self), count(expected));
            if found < 0 {
                text += &format!("  taken away without being there: {row}\n");
            } else if found < wanted {
                text += &format!("  missing {}: {row}\n", wanted - found);
            } else if found > wanted {
                text += &format!("  not expected {}: {row}\n", found - wanted);
            }
        }
        text
    }
}

/// JSON without blanks between its tokens. Numbers stay as they are written: 1.0 is not 1.
fn without_blanks(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    let (mut inside, mut escaped) = (false, false);
    for letter in json.chars() {
        if !inside && letter.is_whitespace() {
            continue;
        }
        if letter == '"' && !escaped {
            inside = !inside;
        }
        escaped = inside && letter == '\\' && !escaped;
        text.push(letter);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folded(lines: &[&str]) -> Rows {
        let mut rows = Rows::default();
        for line in lines {
            rows.change(line).unwrap();
        }
        rows
    }

    #[test]
    fn changes_fold_to_final_rows() {
        let rows = folded(&[
            r#"{"op":"+I","row":{"a":"x \" y","b":1.0}}"#,
            r#"{"op":"-U","row":{"a":"x \" y","b":1.0}}"#,
            r#"{"op":"+U","row":{"a":"x \" y","b":2.0}}"#,
            r#"{"op":"+I","row":{"a":"z","b":null}}"#,
            r#"{"op":"-D","row":{"a":"z","b":null}}"#,
        ]);
        let expected = |row: &str| Rows::of(&[row.to_owned()]);
        assert_eq!(
            rows.difference(&expected(r#"{"a": "x \" y", "b": 2.0}"#)),
            ""
        );
        let other = rows.difference(&expected(r#"{"a": "x \" y", "b": 2}"#));
        assert!(
            other.contains("missing 1") && other.contains("not expected 1"),
            "{other}"
        );
    }

    #[test]
    fn a_retraction_of_nothing_is_told() {
        let rows = folded(&[r#"{"op":"-D","row":{"a":1}}"#]);
        assert!(
            rows.difference(&Rows::default())
                .contains("without being there")
        );
        assert!(Rows::default().change("hello").is_err());
    }
}
