//! `make bench-nexmark`: Nexmark queries on Weir and on Apache Flink, one after the other, over the same events.
//!
//! Both engines get the same SQL (`examples/nexmark/`), parallelism, state backend and checkpoints. What counts is the process that does the
//! work, the task manager: its CPU seconds during the timed run, after a warm-up with the same query, and its peak memory.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod check;
mod flink;
mod kafka;
mod report;
mod script;
mod weir;

use std::path::PathBuf;

use anyhow::Context;
use clap::{Parser, ValueEnum};
use serde::Serialize;

use report::{Measurement, Outcome};
use script::Input;

/// Subtasks of each operator, and slots of the task manager, on both sides.
const PARALLELISM: u32 = 2;

/// Runs Nexmark queries on Weir and Flink in turn, prints a table and writes the figures as JSON.
#[derive(Debug, Parser)]
#[command(name = "bench-nexmark")]
struct Options {
    /// Names of scripts in examples/nexmark; "gen" is the generator alone.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "gen,q0,q1,q2,q5,q8,q15,q16,q17"
    )]
    queries: Vec<String>,
    #[arg(long, value_enum, value_delimiter = ',', default_value = "weir,flink")]
    engines: Vec<Engine>,
    /// Events of the timed run.
    #[arg(long, default_value_t = 10_000_000)]
    events: u64,
    /// Events of the run before it; 0: none.
    #[arg(long, default_value_t = 1_000_000)]
    warm_up: u64,
    /// Where the events come from.
    #[arg(long, value_enum, default_value_t = Mode::Generator)]
    mode: Mode,
    /// File for the figures; those of other queries, engines and modes in it are kept.
    #[arg(long, default_value = "bench-nexmark.json")]
    output: PathBuf,
    /// The binary `weir`.
    #[arg(long, default_value = "bin/weir")]
    weir: PathBuf,
    /// Folder of the checkout.
    #[arg(long, default_value = ".")]
    root: PathBuf,
    /// Measure nothing; compare so many events as both engines generate them.
    #[arg(long, value_name = "EVENTS")]
    check: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Engine {
    Weir,
    Flink,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mode {
    /// Each engine generates them.
    Generator,
    /// From one topic of a local broker.
    Kafka,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let weir = options
        .weir
        .canonicalize()
        .with_context(|| format!("{} is not built: run `make build`", options.weir.display()))?;
    let flink = options.root.join("bench/flink");
    if let Some(events) = options.check {
        return check::compare(&options.root, &weir, &flink, events);
    }
    let (warm_up, timed) = inputs(&options, &weir)?;
    let mut outcomes = report::read(&options.output)?;
    let mut failures = 0;
    for query in &options.queries {
        let script = script::Script::read(&options.root, query)?;
        for &engine in &options.engines {
            eprintln!("{query} on {engine:?}, {} events", options.events);
            let warm_up = warm_up.as_ref().map(|input| script.statements(input));
            let timed = script.statements(&timed);
            let measured = match engine {
                Engine::Weir => weir::measure(&weir, warm_up.as_deref(), &timed),
                Engine::Flink => flink::measure(&flink, warm_up.as_deref(), &timed),
            };
            match measured {
                Ok(measurement) => record(&options, query, engine, &measurement, &mut outcomes)?,
                Err(error) => {
                    failures += 1;
                    eprintln!("{query} on {engine:?} failed: {error:#}");
                }
            }
        }
    }
    let shown: Vec<Outcome> = outcomes
        .into_iter()
        .filter(|outcome| outcome.mode == options.mode && options.queries.contains(&outcome.query))
        .collect();
    print!("{}", report::table(&shown));
    println!("figures: {}", options.output.display());
    anyhow::ensure!(failures == 0, "{failures} runs failed");
    Ok(())
}

/// What the warm-up and the timed run read.
fn inputs(options: &Options, weir: &std::path::Path) -> anyhow::Result<(Option<Input>, Input)> {
    let input = |events: u64| match options.mode {
        Mode::Generator => Ok(Input::Generator { events }),
        Mode::Kafka => kafka::topic_with_events(&options.root, weir, events),
    };
    let warm_up = (options.warm_up > 0)
        .then(|| input(options.warm_up))
        .transpose()?;
    Ok((warm_up, input(options.events)?))
}

fn record(
    options: &Options,
    query: &str,
    engine: Engine,
    measurement: &Measurement,
    outcomes: &mut Vec<Outcome>,
) -> anyhow::Result<()> {
    let outcome = Outcome::new(query, engine, options.mode, options.events, measurement);
    outcomes.retain(|other| !other.is_of_same_run(&outcome));
    outcomes.push(outcome);
    report::write(&options.output, outcomes)
}
