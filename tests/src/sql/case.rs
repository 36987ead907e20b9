//! A case as it lies in its file.

use std::path::{Path, PathBuf};

use anyhow::Context;

use super::fold::Kind;

/// One file.
#[derive(Debug, Clone, Default)]
pub struct Case {
    /// Path below `tests/sql`, without the ending: "joins/left".
    pub name: String,
    pub settings: Vec<(String, String)>,
    pub tables: Vec<Table>,
    /// Statements in front of the query; each ends with a semicolon.
    pub statements: String,
    /// The query; in a case with an error, any statements.
    pub sql: String,
    pub expected: Expected,
    /// Why it cannot be stopped and restored in the middle.
    pub no_restore: Option<String>,
    /// Why it is run at parallelism 1 only.
    pub no_parallel: Option<String>,
}

/// What must come out.
#[derive(Debug, Clone)]
pub enum Expected {
    /// The final rows, in any order.
    Rows(Vec<String>),
    /// Lines that the message holds; places count from the first line of `statements` and `sql`.
    Error(Vec<String>),
}

impl Default for Expected {
    fn default() -> Self {
        Self::Rows(Vec::new())
    }
}

/// A table with its rows.
#[derive(Debug, Clone)]
pub struct Table {
    pub name: String,
    /// What stands between the parentheses of CREATE TABLE.
    pub columns: String,
    pub rows: Vec<(Kind, String)>,
    /// Rows in front of the restore, if the case says so.
    pub split: Option<usize>,
}

impl Table {
    /// Some row is no +I: the table is a changelog.
    pub fn is_changelog(&self) -> bool {
        self.rows.iter().any(|(kind, _)| *kind != Kind::Insert)
    }
}

/// The folder of all cases.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("sql")
}

/// All cases below a folder in the order of their names.
pub fn read_all(folder: &Path) -> anyhow::Result<Vec<Case>> {
    let mut paths = Vec::new();
    find(folder, &mut paths)?;
    paths.sort();
    paths.iter().map(|path| read(folder, path)).collect()
}

fn find(folder: &Path, paths: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            find(&path, paths)?;
        } else if path.extension().is_some_and(|ending| ending == "test") {
            paths.push(path);
        }
    }
    Ok(())
}

fn read(folder: &Path, path: &Path) -> anyhow::Result<Case> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let name = path
        .strip_prefix(folder)?
        .with_extension("")
        .display()
        .to_string();
    parse(&name, &text).with_context(|| path.display().to_string())
}

/// Reads the text of a case.
pub fn parse(name: &str, text: &str) -> anyhow::Result<Case> {
    let mut case = Case {
        name: name.to_owned(),
        ..Case::default()
    };
    let mut sections = Sections(text.lines()).collect::<Vec<_>>().into_iter();
    let about = sections.next().unwrap_or_default();
    anyhow::ensure!(
        about.title.is_empty() && !about.body.trim().is_empty(),
        "the first lines say what the case shows"
    );
    let (mut has_sql, mut has_expected) = (false, false);
    for section in sections {
        let words: Vec<&str> = section.title.split_whitespace().collect();
        match words.as_slice() {
            ["set"] => case.settings.extend(settings(&section.body)?),
            ["table", name] => case.tables.push(Table {
                name: (*name).to_owned(),
                columns: section.body.trim_end().to_owned(),
                rows: Vec::new(),
                split: None,
            }),
            ["rows", name] => {
                let table = table_of(&mut case, name)?;
                for line in lines(&section.body) {
                    match line.strip_prefix("-- ") {
                        Some("restore") => table.split = Some(table.rows.len()),
                        Some(_) => {}
                        None => table.rows.push(row(line)?),
                    }
                }
            }
            ["statements"] => case.statements += &section.body,
            ["sql"] => {
                case.sql = section.body.trim_end().trim_end_matches(';').to_owned();
                has_sql = true;
            }
            ["expect"] => {
                case.expected = Expected::Rows(lines(&section.body).map(str::to_owned).collect());
                has_expected = true;
            }
            ["error"] => {
                let parts: Vec<String> = lines(&section.body).map(str::to_owned).collect();
                anyhow::ensure!(!parts.is_empty(), "'== error' says nothing");
                case.expected = Expected::Error(parts);
                has_expected = true;
            }
            ["no", mode @ ("restore" | "parallel")] => {
                let reason = section.body.trim();
                anyhow::ensure!(!reason.is_empty(), "'== no {mode}' gives no reason");
                let reason = Some(reason.to_owned());
                match *mode {
                    "restore" => case.no_restore = reason,
                    _ => case.no_parallel = reason,
                }
            }
            _ => anyhow::bail!("there is no section '== {}'", section.title),
        }
    }
    anyhow::ensure!(has_sql, "there is no '== sql'");
    anyhow::ensure!(has_expected, "there is no '== expect' and no '== error'");
    Ok(case)
}

fn table_of<'a>(case: &'a mut Case, name: &str) -> anyhow::Result<&'a mut Table> {
    case.tables
        .iter_mut()
        .find(|table| table.name == name)
        .with_context(|| format!("rows of '{name}', which is no table"))
}

fn lines(body: &str) -> impl Iterator<Item = &str> {
    body.lines().map(str::trim).filter(|line| !line.is_empty())
}

fn settings(body: &str) -> anyhow::Result<Vec<(String, String)>> {
    lines(body)
        .map(|line| {
            let (key, value) = line
                .split_once('=')
                .with_context(|| format!("'{line}' is not KEY = VALUE"))?;
            Ok((key.trim().to_owned(), value.trim().to_owned()))
        })
        .collect()
}

fn row(line: &str) -> anyhow::Result<(Kind, String)> {
    let expected = || format!("'{line}' is not +I, -U, +U or -D and a JSON object");
    let (kind, json) = line.split_once(' ').with_context(expected)?;
    let kind = Kind::parse(kind).with_context(expected)?;
    let value: serde_json::Value = serde_json::from_str(json).with_context(expected)?;
    anyhow::ensure!(value.is_object(), expected());
    Ok((kind, json.trim().to_owned()))
}

#[derive(Debug, Default)]
struct Section<'a> {
    title: &'a str,
    body: String,
}

/// Pieces between lines that begin with "== "; what is in front of the first one has no title.
struct Sections<'a>(std::str::Lines<'a>);

impl<'a> Iterator for Sections<'a> {
    type Item = Section<'a>;

    fn next(&mut self) -> Option<Section<'a>> {
        let mut section: Option<Section<'a>> = None;
        loop {
            let mut ahead = self.0.clone();
            let Some(line) = ahead.next() else {
                return section;
            };
            match line.strip_prefix("== ") {
                Some(_) if section.is_some() => return section,
                Some(title) => section.get_or_insert_default().title = title.trim(),
                None => {
                    let section = section.get_or_insert_default();
                    section.body.push_str(line);
                    section.body.push('\n');
                }
            }
            self.0 = ahead;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read() {
        let case = parse(
            "a/b",
            "Shows it.\n\n== set\ntable.exec.state.ttl = 1 d\n== table t\na INT,\nb INT\n\n== rows t\n+I {\"a\": 1}\n-- restore\n-D {\"a\": 1}\n\
             == statements\nCREATE VIEW v AS SELECT 1;\n== sql\nSELECT 1;\n== expect\n{\"a\": 1}\n\n== no restore\nit has no end\n",
        )
        .unwrap();
        assert_eq!(
            case.settings,
            [("table.exec.state.ttl".into(), "1 d".into())]
        );
        let table = &case.tables[0];
        assert_eq!(
            (table.name.as_str(), table.columns.as_str()),
            ("t", "a INT,\nb INT")
        );
        assert_eq!(
            table.rows,
            [
                (Kind::Insert, "{\"a\": 1}".into()),
                (Kind::Delete, "{\"a\": 1}".into())
            ]
        );
        assert_eq!((table.split, table.is_changelog()), (Some(1), true));
        assert_eq!(
            (case.statements.as_str(), case.sql.as_str()),
            ("CREATE VIEW v AS SELECT 1;\n", "SELECT 1")
        );
        assert!(matches!(&case.expected, Expected::Rows(rows) if rows == &["{\"a\": 1}"]));
        assert_eq!(case.no_restore.as_deref(), Some("it has no end"));
    }

    #[test]
    fn what_is_not_in_the_format_is_refused() {
        for (text, says) in [
            ("== sql\nSELECT 1\n== expect\n", "what the case shows"),
            ("x\n== sql\nSELECT 1\n", "no '== expect'"),
            ("x\n== expect\n", "no '== sql'"),
            ("x\n== spl\nSELECT 1\n", "no section '== spl'"),
            ("x\n== rows t\n+I {}\n", "no table"),
            ("x\n== table t\na INT\n== rows t\n{}\n", "'{}' is not +I"),
            ("x\n== table t\na INT\n== rows t\n+I 1\n", "is not +I"),
            ("x\n== sql\nSELECT 1\n== error\n", "says nothing"),
            ("x\n== no restore\n", "no reason"),
            ("x\n== set\na b\n", "KEY = VALUE"),
        ] {
            let error = parse("c", text).unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
