//! The figures: derived from a measurement, kept in a JSON file, shown as a table.

use std::fmt::Write;
use std::path::Path;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::{Engine, Mode};

/// One timed run as it was measured.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Measurement {
    /// From the job's start to its end.
    pub seconds: f64,
    /// Of the task manager.
    pub cpu_s: f64,
    pub job_manager_cpu_s: f64,
    /// Of the task manager, the warm-up included.
    pub peak_rss_mb: f64,
    /// Of the largest checkpoint.
    pub state_mb: f64,
    pub checkpoints: usize,
}

/// One line of the JSON file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub query: String,
    pub engine: Engine,
    pub mode: Mode,
    pub events: u64,
    pub seconds: f64,
    pub events_per_s: f64,
    pub cpu_s_per_million: f64,
    /// Shown apart: it is in no other figure.
    pub job_manager_cpu_s_per_million: f64,
    pub peak_rss_mb: f64,
    pub state_mb: f64,
    pub checkpoints: usize,
}

impl Outcome {
    pub(crate) fn new(
        query: &str,
        engine: Engine,
        mode: Mode,
        events: u64,
        measured: &Measurement,
    ) -> Self {
        let millions = events as f64 / 1e6;
        Self {
            query: query.to_owned(),
            engine,
            mode,
            events,
            seconds: measured.seconds,
            events_per_s: (events as f64 / measured.seconds.max(0.001)).round(),
            cpu_s_per_million: measured.cpu_s / millions,
            job_manager_cpu_s_per_million: measured.job_manager_cpu_s / millions,
            peak_rss_mb: measured.peak_rss_mb,
            state_mb: measured.state_mb,
            checkpoints: measured.checkpoints,
        }
    }

    pub(crate) fn is_of_same_run(&self, other: &Self) -> bool {
        (&self.query, self.engine, self.mode) == (&other.query, other.engine, other.mode)
    }
}

/// The figures of earlier calls.
pub(crate) fn read(path: &Path) -> anyhow::Result<Vec<Outcome>> {
    match std::fs::read_to_string(path) {
        Ok(text) => serde_json::from_str(&text)
            .with_context(|| format!("{} holds no figures; delete it", path.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

pub(crate) fn write(path: &Path, outcomes: &[Outcome]) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(outcomes)? + "\n";
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// A line a run; below each pair of engines how many times better Weir is.
pub(crate) fn table(outcomes: &[Outcome]) -> String {
    let mut text = String::from(
        "query  engine    M events   events/s  CPU s/M (job manager)  peak MB  state MB\n",
    );
    let mut queries: Vec<&str> = outcomes.iter().map(|one| one.query.as_str()).collect();
    queries.sort_by_key(|query| (query.len(), *query));
    queries.dedup();
    for query in queries {
        let of = |engine| {
            outcomes
                .iter()
                .find(|one| one.query == query && one.engine == engine)
        };
        let (weir, flink) = (of(Engine::Weir), of(Engine::Flink));
        for one in [weir, flink].into_iter().flatten() {
            line(&mut text, one);
        }
        if let (Some(weir), Some(flink)) = (weir, flink) {
            ratios(&mut text, weir, flink);
        }
    }
    text
}

fn line(text: &mut String, one: &Outcome) {
    let engine = match one.engine {
        Engine::Weir => "weir",
        Engine::Flink => "flink",
    };
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "{:<6} {engine:<8} {:>9.1} {:>10.0} {:>8.3} {:>13} {:>8.0} {:>9.1}",
        one.query,
        one.events as f64 / 1e6,
        one.events_per_s,
        one.cpu_s_per_million,
        format!("({:.3})", one.job_manager_cpu_s_per_million),
        one.peak_rss_mb,
        one.state_mb,
    );
}

fn ratios(text: &mut String, weir: &Outcome, flink: &Outcome) {
    let _ = writeln!(
        text,
        "{:<6} {:<8} {:>9} {:>9.1}x {:>7.1}x {:>13} {:>7.1}x",
        "",
        "ratio",
        "",
        weir.events_per_s / flink.events_per_s,
        flink.cpu_s_per_million / weir.cpu_s_per_million.max(1e-6),
        "",
        flink.peak_rss_mb / weir.peak_rss_mb,
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(query: &str, engine: Engine, cpu_s: f64) -> Outcome {
        let measured = Measurement {
            seconds: 4.0,
            cpu_s,
            job_manager_cpu_s: 0.5,
            peak_rss_mb: cpu_s * 100.0,
            state_mb: 1.0,
            checkpoints: 1,
        };
        Outcome::new(query, engine, Mode::Generator, 2_000_000, &measured)
    }

    #[test]
    fn figures_are_per_million_and_the_ratio_says_how_much_better_weir_is() {
        let weir = outcome("q2", Engine::Weir, 1.0);
        assert_eq!(weir.events_per_s, 500_000.0);
        assert_eq!(weir.cpu_s_per_million, 0.5);
        let table = table(&[
            outcome("q10", Engine::Weir, 1.0),
            outcome("q2", Engine::Flink, 6.0),
            weir,
        ]);
        let lines: Vec<&str> = table.lines().collect();
        assert!(
            lines[3].contains("1.0x") && lines[3].contains("6.0x"),
            "{table}"
        );
        assert!(lines[4].starts_with("q10"), "{table}");
        assert_eq!(lines.len(), 5);
    }

    #[test]
    fn figures_survive_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("figures.json");
        assert!(read(&path).unwrap().is_empty());
        write(&path, &[outcome("q1", Engine::Flink, 3.0)]).unwrap();
        let again = read(&path).unwrap();
        assert!(again[0].is_of_same_run(&outcome("q1", Engine::Flink, 9.0)));
        std::fs::write(&path, "no JSON").unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("delete it"));
    }
}
