//! The queries: scripts of `examples/nexmark`, with the source replaced. The same statements go to both engines.

use std::path::Path;

use anyhow::Context;

/// A script, split into its statements. The last one is the INSERT.
pub(crate) struct Script(Vec<String>);

/// Where the table `events` comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Input {
    Generator { events: u64 },
    Kafka { broker: String, topic: String },
}

impl Input {
    fn options(&self) -> String {
        match self {
            Self::Generator { events } => format!(
                "'connector' = 'nexmark', 'events.num' = '{events}', 'next-event.rate' = '100000'"
            ),
            Self::Kafka { broker, topic } => format!(
                "'connector' = 'kafka', 'topic' = '{topic}', 'properties.bootstrap.servers' = '{broker}', \
                 'scan.startup.mode' = 'earliest-offset', 'scan.bounded.mode' = 'latest-offset', 'format' = 'json'"
            ),
        }
    }
}

impl Script {
    /// `examples/nexmark/NAME.sql`
    pub(crate) fn read(root: &Path, name: &str) -> anyhow::Result<Self> {
        let path = root.join(format!("examples/nexmark/{name}.sql"));
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("no query '{name}': cannot read {}", path.display()))?;
        let statements = split(&text);
        anyhow::ensure!(
            statements
                .first()
                .is_some_and(|first| first.starts_with("CREATE TABLE events")),
            "{} must begin with CREATE TABLE events",
            path.display()
        );
        Ok(Self(statements))
    }

    /// CREATE TABLE of the input.
    pub(crate) fn source(&self, input: &Input) -> String {
        self.statements(input).swap_remove(0)
    }

    /// CREATE TABLE of a table for whole events: the columns that the source has itself.
    pub(crate) fn copy_of_events(&self, name: &str, options: &str) -> anyhow::Result<String> {
        let source = self.0.first().context("the script is empty")?;
        let (columns, _) = source
            .split_once("`dateTime` AS")
            .context("the table 'events' has no computed column")?;
        let columns = columns.trim_end().trim_end_matches(',');
        let table = columns.replacen("TABLE events", &format!("TABLE {name}"), 1);
        Ok(format!("{table}) WITH ({options})"))
    }

    /// The statements over another input.
    pub(crate) fn statements(&self, input: &Input) -> Vec<String> {
        let replaced = |statement: &String| match statement.starts_with("CREATE TABLE events") {
            true => with_options(statement, &input.options()),
            false => statement.clone(),
        };
        self.0.iter().map(replaced).collect()
    }
}

/// Statements without comment lines; the scripts have no semicolon within a text.
fn split(text: &str) -> Vec<String> {
    let code: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("--"))
        .collect();
    code.join("\n")
        .split(';')
        .map(|statement| statement.trim().to_owned())
        .filter(|statement| !statement.is_empty())
        .collect()
}

/// A CREATE TABLE with other options.
fn with_options(statement: &str, options: &str) -> String {
    let table = statement
        .rsplit_once(" WITH (")
        .map_or(statement, |(table, _)| table);
    format!("{table} WITH ({options})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_query_reads_the_replaced_input() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let input = Input::Generator { events: 77 };
        for name in [
            "gen", "q0", "q1", "q2", "q5", "q8", "q10", "q14", "q15", "q16", "q17", "q21", "q22",
        ] {
            let statements = Script::read(&root, name).unwrap().statements(&input);
            let of_77 = |statement: &&String| statement.contains("'events.num' = '77'");
            assert_eq!(statements.iter().filter(of_77).count(), 1, "{name}");
            assert!(statements.last().unwrap().starts_with("INSERT"), "{name}");
            assert!(statements.iter().any(|s| s.contains("'blackhole'")));
        }
    }

    #[test]
    fn options_follow_the_columns() {
        let statement = "CREATE TABLE t (a INT) WITH ('connector' = 'x', 'k' = 'v')";
        assert_eq!(
            with_options(statement, "'connector' = 'y'"),
            "CREATE TABLE t (a INT) WITH ('connector' = 'y')"
        );
    }
}
