//! The progress line of a running job, and the summary at its end, on the standard error.

use std::collections::HashSet;
use std::io::IsTerminal;
use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};
use weir_proto::v1;

use super::job::end_vertices;

/// Of one job.
pub struct Progress {
    sources: HashSet<u32>,
    sinks: HashSet<u32>,
    bar: Option<ProgressBar>,
    quiet: bool,
    started: Instant,
    last: Sample,
}

#[derive(Clone, Copy)]
struct Sample {
    at: Instant,
    records_in: u64,
    records_out: u64,
}

impl Progress {
    /// A line only on a terminal; `quiet`: nothing at all.
    pub fn new(graph: &v1::JobGraph, quiet: bool) -> Self {
        let bar = (!quiet && std::io::stderr().is_terminal()).then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
                bar.set_style(style);
            }
            bar
        });
        let started = Instant::now();
        let (sources, sinks) = end_vertices(graph);
        Self {
            sources,
            sinks,
            bar,
            quiet,
            started,
            last: Sample {
                at: started,
                records_in: 0,
                records_out: 0,
            },
        }
    }

    /// From the job's newest figures.
    pub fn update(&mut self, answer: &v1::GetJobResponse) {
        let Some(bar) = &self.bar else { return };
        let (records_in, records_out, watermark) = self.totals(answer);
        let now = Instant::now();
        let seconds = now.duration_since(self.last.at).as_secs_f64();
        if seconds < 0.2 {
            return;
        }
        let rate = |new: u64, old: u64| (new.saturating_sub(old) as f64 / seconds) as u64;
        let lag = watermark.map_or_else(
            || "-".to_owned(),
            |ms| {
                format!(
                    "{:.1} s",
                    (weir_common::clock::Clock::System.now_ms() - ms) as f64 / 1000.0
                )
            },
        );
        let checkpoint = answer
            .checkpoints
            .iter()
            .map(|checkpoint| checkpoint.checkpoint_id)
            .max()
            .map_or_else(|| "none".to_owned(), |id| id.to_string());
        bar.set_message(format!(
            "{}/s in, {}/s out, watermark lag {lag}, last checkpoint {checkpoint}",
            grouped(rate(records_in, self.last.records_in)),
            grouped(rate(records_out, self.last.records_out)),
        ));
        bar.tick();
        self.last = Sample {
            at: now,
            records_in,
            records_out,
        };
    }

    /// Records read, records that the sinks took, smallest watermark that is neither the first nor the last.
    fn totals(&self, answer: &v1::GetJobResponse) -> (u64, u64, Option<i64>) {
        let (mut read, mut written, mut watermark) = (0, 0, None);
        for status in answer.subtasks.iter().filter_map(|info| info.status) {
            let metrics = status.metrics.unwrap_or_default();
            let vertex = status.subtask.unwrap_or_default().vertex;
            if self.sources.contains(&vertex) {
                read += metrics.records_in;
            }
            if self.sinks.contains(&vertex) {
                written += metrics.records_out;
            }
            if metrics.watermark_ms > i64::MIN && metrics.watermark_ms < i64::MAX {
                watermark = Some(watermark.map_or(metrics.watermark_ms, |old: i64| {
                    old.min(metrics.watermark_ms)
                }));
            }
        }
        (read, written, watermark)
    }

    /// Runs something that prints, with the line out of the way.
    pub fn suspend<T>(&self, print: impl FnOnce() -> T) -> T {
        match &self.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    /// Clears the line and sums up.
    pub fn finish(&mut self, answer: &v1::GetJobResponse) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        if self.quiet {
            return;
        }
        let (read, _, _) = self.totals(answer);
        let seconds = self.started.elapsed().as_secs_f64();
        if read > 0 {
            eprintln!(
                "{} records read in {seconds:.1} s: {} records/s",
                grouped(read),
                grouped((read as f64 / seconds.max(0.001)) as u64)
            );
        }
    }
}

/// "1,234,567"
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn thousands_are_grouped() {
        assert_eq!(super::grouped(7), "7");
        assert_eq!(super::grouped(1_234_567), "1,234,567");
        assert_eq!(super::grouped(123_456), "123,456");
    }
}
