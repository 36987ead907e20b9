//! `make bench-recovery`: how long the output of a job stands still when one of its task managers is killed, on Weir and on Apache Flink.
//! `make bench-rescale`: the same when its parallelism is changed.
//!
//! Both run the same SQL on the same number of task managers, with local copies of the state, and the killed process is replaced at once, as
//! a supervisor would. Outside of the cluster, records with the time of their sending go into a Kafka topic, and what comes out of the
//! job for them is watched in another one: all that is measured is seen there.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod cluster;
mod flink;
mod job;
mod probe;
mod report;
mod weir;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::{Parser, ValueEnum};
use serde::{Deserialize, Serialize};
use weir_bench::broker;

use cluster::{Checkpoint, Cluster, now_us, wait_until};
use job::{Job, Shape};
use probe::Probes;
use report::{Kill, Outcome, Rescale};

/// Task managers of which one is killed.
const TASK_MANAGERS: u32 = 3;
/// What a job that is rescaled begins with.
const PARALLELISM: u32 = 2;
/// Behind a rescale, until its longest gap is over and seen.
const AFTER_RESCALE: Duration = Duration::from_secs(5);
/// Until all rows are in the state and a checkpoint has them.
const FILL_TIMEOUT: Duration = Duration::from_secs(3600);
/// Until a checkpoint of the restarted job is complete.
const RECOVERY_TIMEOUT: Duration = Duration::from_secs(900);
/// From a checkpoint's completion to the kill.
const BEFORE_KILL: Duration = Duration::from_secs(2);

/// Kills task managers of Weir and of Flink in turn, prints how long their output stood still and writes the figures as JSON.
#[derive(Debug, Parser)]
#[command(name = "bench-recovery")]
struct Options {
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "weir,flink,flink-tuned"
    )]
    engines: Vec<Engine>,
    /// Keyed state of each task manager in MB.
    #[arg(long, default_value_t = 200)]
    state_mb: u64,
    /// Task managers that are killed, one after the other.
    #[arg(long, default_value_t = 2)]
    kills: u32,
    /// Nothing is killed; the job, which begins with 2, is brought to these parallelisms, on as many task managers as the greatest.
    #[arg(long, value_delimiter = ',')]
    rescale: Vec<u32>,
    #[arg(long, default_value = "bench-recovery.json")]
    output: PathBuf,
    /// The binary `weir`.
    #[arg(long, default_value = "bin/weir")]
    weir: PathBuf,
    /// Folder of the checkout.
    #[arg(long, default_value = ".")]
    root: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Engine {
    Weir,
    /// With its default heartbeats.
    Flink,
    /// With Weir's heartbeats.
    FlinkTuned,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    broker::start(&options.root)?;
    let mut outcomes = Vec::new();
    for &engine in &options.engines {
        let measured = measure(&options, engine).with_context(|| format!("{engine:?}"))?;
        outcomes.push(measured);
        let text = serde_json::to_string_pretty(&outcomes)? + "\n";
        std::fs::write(&options.output, text)
            .with_context(|| format!("cannot write {}", options.output.display()))?;
    }
    match options.rescale.is_empty() {
        true => print!("{}", report::table(&outcomes)),
        false => print!("{}", report::rescale_table(&outcomes)),
    }
    println!("figures: {}", options.output.display());
    Ok(())
}

fn start(options: &Options, engine: Engine, job: &Job) -> anyhow::Result<Box<dyn Cluster>> {
    Ok(match engine {
        Engine::Weir => {
            let binary = options.weir.canonicalize().with_context(|| {
                format!("{} is not built: run `make build`", options.weir.display())
            })?;
            Box::new(weir::WeirCluster::start(&binary, job)?)
        }
        Engine::Flink | Engine::FlinkTuned => {
            let folder = options.root.join("bench/flink");
            let tuned = engine == Engine::FlinkTuned;
            Box::new(flink::FlinkCluster::start(&folder, job, tuned)?)
        }
    })
}

fn measure(options: &Options, engine: Engine) -> anyhow::Result<Outcome> {
    let shape = shape(options);
    let job = Job::new(shape, options.state_mb << 20);
    for topic in job.topics() {
        broker::recreate(topic, shape.task_managers)?;
    }
    let mut cluster = start(options, engine, &job)?;
    let probes = Probes::start(&job)?;
    eprintln!("{engine:?}: {} rows of state are made", job.rows());
    let checkpoint = filled(&job, cluster.as_mut(), &probes)?;
    let state_bytes = checkpoint.state_bytes;
    let (mut kills, mut rescales) = (Vec::new(), Vec::new());
    if options.rescale.is_empty() {
        kills = kill(options.kills, engine, cluster.as_mut(), &probes, checkpoint)?;
    } else {
        rescales = rescale(
            &options.rescale,
            engine,
            cluster.as_mut(),
            &probes,
            checkpoint,
        )?;
    }
    probes.stop()?;
    drop(cluster);
    for topic in job.topics() {
        broker::delete(topic)?;
    }
    Ok(Outcome {
        engine,
        state_mb: state_bytes as f64 / f64::from(shape.parallelism) / f64::from(1 << 20),
        kills,
        rescales,
    })
}

fn shape(options: &Options) -> Shape {
    match options.rescale.iter().max() {
        Some(&most) => Shape {
            task_managers: most.max(PARALLELISM),
            parallelism: PARALLELISM,
            windows: true,
        },
        None => Shape {
            task_managers: TASK_MANAGERS,
            parallelism: TASK_MANAGERS,
            windows: false,
        },
    }
}

fn kill(
    kills: u32,
    engine: Engine,
    cluster: &mut dyn Cluster,
    probes: &Probes,
    mut checkpoint: Checkpoint,
) -> anyhow::Result<Vec<Kill>> {
    let mut seen = Vec::new();
    for number in 0..kills {
        std::thread::sleep(BEFORE_KILL);
        probes.forget_arrivals();
        let killed_us = cluster.kill((number % TASK_MANAGERS) as usize)?;
        checkpoint = next_checkpoint(cluster, checkpoint, RECOVERY_TIMEOUT)?;
        let kill = probes.outage(killed_us)?;
        eprintln!(
            "{engine:?}: output again after {:.2} s, all of it after {:.2} s",
            kill.first_s, kill.all_s
        );
        seen.push(kill);
    }
    Ok(seen)
}

fn rescale(
    parallelisms: &[u32],
    engine: Engine,
    cluster: &mut dyn Cluster,
    probes: &Probes,
    mut checkpoint: Checkpoint,
) -> anyhow::Result<Vec<Rescale>> {
    let mut seen = Vec::new();
    for &parallelism in parallelisms {
        std::thread::sleep(BEFORE_KILL);
        probes.forget_arrivals();
        let asked_us = now_us();
        cluster.rescale(parallelism)?;
        std::thread::sleep(AFTER_RESCALE);
        checkpoint = next_checkpoint(cluster, checkpoint, RECOVERY_TIMEOUT)?;
        let gap_s = probes.longest_gap_s(asked_us)?;
        eprintln!("{engine:?}: a key stood still for {gap_s:.2} s on the way to {parallelism}");
        seen.push(Rescale { parallelism, gap_s });
    }
    Ok(seen)
}

/// Waits until all rows are in the state, and in a checkpoint that is no smaller than the one before.
fn filled(job: &Job, cluster: &mut dyn Cluster, probes: &Probes) -> anyhow::Result<Checkpoint> {
    wait_until("the state to be filled", FILL_TIMEOUT, || {
        probes.check()?;
        Ok(probes.all_filled().then_some(()))
    })?;
    let mut checkpoint = Checkpoint::default();
    loop {
        let next = next_checkpoint(cluster, checkpoint, RECOVERY_TIMEOUT)?;
        let settled = next.state_bytes.abs_diff(checkpoint.state_bytes) < next.state_bytes / 100;
        if settled && next.state_bytes > job.state_bytes() / 2 {
            return Ok(next);
        }
        checkpoint = next;
    }
}

fn next_checkpoint(
    cluster: &mut dyn Cluster,
    last: Checkpoint,
    timeout: Duration,
) -> anyhow::Result<Checkpoint> {
    wait_until("a checkpoint", timeout, || {
        let newest = cluster.newest_checkpoint()?;
        Ok(newest.filter(|newest| newest.id > last.id))
    })
}
