//! The figures as a table.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

use crate::Engine;

/// What one kill led to, in seconds since it.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Kill {
    /// The first new output behind the outage.
    pub first_s: f64,
    /// All keys have new output.
    pub all_s: f64,
}

/// A change of the parallelism.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Rescale {
    /// The new one.
    pub parallelism: u32,
    /// The longest time any key was without new output.
    pub gap_s: f64,
}

/// One engine's kills, or its rescales.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub engine: Engine,
    /// Of each task manager, by the checkpoint before the first kill.
    pub state_mb: f64,
    pub kills: Vec<Kill>,
    pub rescales: Vec<Rescale>,
}

impl Outcome {
    /// The median and the longest of one figure.
    fn summary(&self, figure: impl Fn(&Kill) -> f64) -> (f64, f64) {
        let mut all: Vec<f64> = self.kills.iter().map(figure).collect();
        all.sort_by(f64::total_cmp);
        let middle = all.get(all.len() / 2).copied();
        (
            middle.unwrap_or(f64::NAN),
            all.last().copied().unwrap_or(f64::NAN),
        )
    }
}

/// A line a change of the parallelism of an engine's job.
pub(crate) fn rescale_table(outcomes: &[Outcome]) -> String {
    let mut text = String::from("engine       state MB  parallelism  longest gap of a key s\n");
    for one in outcomes {
        for rescale in &one.rescales {
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "{:<12} {:>8.0} {:>12} {:>23.2}",
                name(one.engine),
                one.state_mb,
                rescale.parallelism,
                rescale.gap_s
            );
        }
    }
    text
}

fn name(engine: Engine) -> &'static str {
    match engine {
        Engine::Weir => "weir",
        Engine::Flink => "flink",
        Engine::FlinkTuned => "flink-tuned",
    }
}

/// A line an engine; the ratios are those of the medians to Weir's.
pub(crate) fn table(outcomes: &[Outcome]) -> String {
    let mut text = String::from(
        "engine       state MB  kills  first output s (longest)  all output s (longest)   ratio\n",
    );
    let weir = outcomes.iter().find(|one| one.engine == Engine::Weir);
    for one in outcomes {
        let name = name(one.engine);
        let first = one.summary(|kill| kill.first_s);
        let all = one.summary(|kill| kill.all_s);
        let ratio = match weir {
            Some(weir) if one.engine != Engine::Weir => {
                let ours = (
                    weir.summary(|kill| kill.first_s),
                    weir.summary(|kill| kill.all_s),
                );
                format!("{:.1}x {:.1}x", first.0 / ours.0.0, all.0 / ours.1.0)
            }
            _ => String::new(),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{name:<12} {:>8.0} {:>6} {:>25} {:>23} {ratio:>12}",
            one.state_mb,
            one.kills.len(),
            format!("{:.2} ({:.2})", first.0, first.1),
            format!("{:.2} ({:.2})", all.0, all.1),
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_of_the_medians() {
        let outcome = |engine, first: &[f64]| Outcome {
            engine,
            state_mb: 10.0,
            rescales: Vec::new(),
            kills: first
                .iter()
                .map(|&first_s| Kill {
                    first_s,
                    all_s: first_s * 2.0,
                })
                .collect(),
        };
        let table = table(&[
            outcome(Engine::Flink, &[10.0, 90.0, 12.0]),
            outcome(Engine::Weir, &[1.0, 3.0, 2.0]),
        ]);
        let lines: Vec<&str> = table.lines().collect();
        assert!(lines[1].contains("12.00 (90.00)"), "{table}");
        assert!(lines[1].ends_with("6.0x 6.0x"), "{table}");
        assert!(lines[2].contains("4.00 (6.00)"), "{table}");
    }
}
