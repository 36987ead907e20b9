//! `bench-scaling`: how the job managers' work grows with the number of task managers.
//!
//! Three real job managers and many task managers that run nothing, in one process, over loopback sockets. Each job manager has a runtime
//! of its own, so that one can be made to vanish. What is measured is the control plane's own time: nothing is computed or uploaded.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod cpu;
mod figures;
mod group;
mod seen;
mod task_manager;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use clap::Parser;
use tokio_util::sync::CancellationToken;
use weir_proto::v1;

use cpu::Cpu;
use figures::Figures;
use group::Group;
use seen::{Checkpoint, Seen};
use task_manager::FakeTaskManager;

/// Name of the cluster.
const CLUSTER: &str = "scaling";
/// Vertices of the job; each has a subtask on every task manager.
const VERTICES: u32 = 10;
/// Vertex of the source.
const SOURCE: u32 = 1;
/// Of the job.
const KEY_GROUPS: u32 = 4096;
const CHECKPOINT_INTERVAL_MS: u64 = 5000;
const CHECKPOINTS: usize = 4;
/// How long heartbeats are looked at; shorter than the time to the first checkpoint.
const HEARTBEATS: Duration = Duration::from_secs(4);
/// They share the machine with the job managers.
const SIMULATION_THREADS: usize = 2;
const PATIENCE: Duration = Duration::from_secs(180);

/// Measures a job-manager group with task managers that run nothing; prints a table with a column a size.
#[derive(Debug, Parser)]
#[command(name = "bench-scaling")]
struct Options {
    /// Numbers of task managers.
    #[arg(long, value_delimiter = ',', default_value = "10,100,300,1000")]
    task_managers: Vec<usize>,
    /// What is logged, as in WEIR_LOG.
    #[arg(long, default_value = "error")]
    log: String,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    weir_common::telemetry::init(weir_common::telemetry::LogFormat::Text, &options.log);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(SIMULATION_THREADS)
        .thread_name(cpu::SIMULATION)
        .enable_all()
        .build()?;
    let mut sizes = Vec::new();
    for count in options.task_managers {
        let figures = runtime.block_on(measure(count))?;
        eprintln!("{figures:?}");
        sizes.push(figures);
    }
    println!("{}", figures::table(&sizes));
    runtime.shutdown_background();
    Ok(())
}

async fn measure(count: usize) -> anyhow::Result<Figures> {
    let folder = tempfile::tempdir()?;
    let mut figures = Figures {
        task_managers: count,
        subtasks: count * VERTICES as usize,
        ..Figures::default()
    };
    let mut group = Group::start(folder.path()).await?;
    let seen = Arc::new(Seen::default());
    let stop = CancellationToken::new();
    let (started, cpu) = (Instant::now(), Cpu::now());
    let start = async |index: usize, stop: &CancellationToken| {
        let (job_managers, seen) = (group.addresses(), Arc::clone(&seen));
        FakeTaskManager::start(index, job_managers, seen, stop.child_token()).await
    };
    let first = stop.child_token();
    start(0, &first).await?;
    for index in 1..count {
        start(index, &stop).await?;
    }
    all_registered(&seen, count).await?;
    figures.registered = ms(started.elapsed());

    let job = place(&mut figures, &group, &seen, folder.path()).await?;
    heartbeats(&mut figures, &seen).await;
    checkpoints(&mut figures, &seen).await?;
    not_restarted(&group, &job, 0).await?;

    seen.deployments.store(0, Ordering::Relaxed);
    let lost = Instant::now();
    first.cancel();
    start(count, &stop).await?;
    recover(&mut figures, &group, &seen, (&job, lost)).await?;
    lose_the_leader(&mut figures, &mut group, &seen).await?;
    not_restarted(&group, &job, 1).await?;

    let cpu = Cpu::now().since(cpu);
    let all = cpu.simulation + cpu.job_managers;
    figures.simulation_share = 100.0 * cpu.simulation.as_secs_f64() / all.as_secs_f64();
    stop.cancel();
    Ok(figures)
}

async fn all_registered(seen: &Seen, count: usize) -> anyhow::Result<()> {
    until("all task managers register", async || {
        (Seen::count(&seen.registrations) >= count as u64).then_some(())
    })
    .await
}

/// Placement of a job of which every task manager gets ten subtasks.
async fn place(
    figures: &mut Figures,
    group: &Group,
    seen: &Seen,
    folder: &Path,
) -> anyhow::Result<String> {
    let count = figures.task_managers as u64;
    let graph = graph(count as u32, &folder.join("checkpoints"));
    let (started, cpu) = (Instant::now(), Cpu::now());
    let job = group.submit(graph).await?;
    figures.submitted = ms(started.elapsed());
    until("all task managers have their subtasks", async || {
        (Seen::count(&seen.deployments) >= count).then_some(())
    })
    .await?;
    figures.deployed = ms(started.elapsed());
    until("the job runs", async || {
        let state = group.summary(&job).await.ok()?.state();
        (state == v1::JobState::Running).then_some(())
    })
    .await?;
    figures.running = ms(started.elapsed());
    figures.placement_cpu = ms(Cpu::now().since(cpu).job_managers);
    figures.deployment_bytes = Seen::count(&seen.deployment_bytes);
    Ok(job)
}

/// What a round costs in which every task manager reports once, before the first checkpoint.
async fn heartbeats(figures: &mut Figures, seen: &Seen) {
    seen.take_heartbeats();
    let cpu = Cpu::now();
    tokio::time::sleep(HEARTBEATS).await;
    let used = Cpu::now().since(cpu).job_managers;
    let times = seen.take_heartbeats();
    let at = |share: f64| {
        let index = (times.len().saturating_sub(1) as f64 * share) as usize;
        ms(times.get(index).copied().unwrap_or_default())
    };
    (figures.heartbeat_median, figures.heartbeat_p99) = (at(0.5), at(0.99));
    figures.heartbeat_cpu = ms(used) / rounds(figures, times.len());
}

fn rounds(figures: &Figures, heartbeats: usize) -> f64 {
    (heartbeats as f64 / figures.task_managers as f64).max(1.0)
}

/// From the trigger on, with an acknowledgement of every subtask.
async fn checkpoints(figures: &mut Figures, seen: &Seen) -> anyhow::Result<()> {
    let count = figures.task_managers as u64;
    let newest = seen.newest(count);
    seen.take_heartbeats();
    let cpu = Cpu::now();
    let complete = until("checkpoints", async || {
        let complete = seen.complete_after(newest, count);
        (complete.len() >= CHECKPOINTS).then_some(complete)
    })
    .await?;
    let used = ms(Cpu::now().since(cpu).job_managers);
    let beside = rounds(figures, seen.take_heartbeats().len()) * figures.heartbeat_cpu;
    figures.checkpoint_cpu = (used - beside).max(0.0) / complete.len() as f64;
    let subtasks = figures.subtasks as u64;
    let lacks = complete
        .iter()
        .find(|(_, c)| c.acknowledgements() < subtasks);
    anyhow::ensure!(lacks.is_none(), "complete without all: {lacks:?}");
    let median = |time: fn(&Checkpoint) -> Duration| {
        let mut times: Vec<Duration> = complete.iter().map(|(_, c)| time(c)).collect();
        times.sort_unstable();
        ms(times.get(times.len() / 2).copied().unwrap_or_default())
    };
    figures.acknowledged = median(Checkpoint::until_acknowledged);
    figures.complete = median(Checkpoint::until_complete);
    Ok(())
}

/// A task manager has been lost and another one has come: the job goes on from its newest checkpoint, everywhere.
async fn recover(
    figures: &mut Figures,
    group: &Group,
    seen: &Seen,
    (job, lost): (&str, Instant),
) -> anyhow::Result<()> {
    let count = figures.task_managers as u64;
    until("all task managers have their subtasks again", async || {
        (Seen::count(&seen.deployments) >= count).then_some(())
    })
    .await?;
    figures.deployed_again = ms(lost.elapsed());
    until("the job runs again", async || {
        let summary = group.summary(job).await.ok()?;
        let runs = summary.state() == v1::JobState::Running && summary.restarts > 0;
        runs.then_some(())
    })
    .await?;
    figures.running_again = ms(lost.elapsed());
    figures.restore_bytes = Seen::count(&seen.deployment_bytes);
    Ok(())
}

async fn not_restarted(group: &Group, job: &str, wanted: u32) -> anyhow::Result<()> {
    let restarts = group.summary(job).await?.restarts;
    anyhow::ensure!(
        restarts == wanted,
        "the job was restarted {restarts} times instead of {wanted}"
    );
    Ok(())
}

/// The leader vanishes. All times count from then.
async fn lose_the_leader(
    figures: &mut Figures,
    group: &mut Group,
    seen: &Seen,
) -> anyhow::Result<()> {
    let count = figures.task_managers;
    let before = seen.newest(count as u64);
    seen.registrations.store(0, Ordering::Relaxed);
    let started = Instant::now();
    group.kill_leader()?;
    until("another leader", async || group.has_leader().then_some(())).await?;
    figures.elected = ms(started.elapsed());
    all_registered(seen, count).await?;
    figures.adopted = ms(started.elapsed());
    until("a checkpoint under the new leader", async || {
        (seen.newest(count as u64) > before).then_some(())
    })
    .await?;
    figures.next_checkpoint = ms(started.elapsed());
    Ok(())
}

/// A source, eight operators and a sink, all keyed to all.
fn graph(parallelism: u32, checkpoints: &Path) -> v1::JobGraph {
    let kind = |id| match id {
        SOURCE => v1::operator::Kind::Source(v1::Source::default()),
        _ => v1::operator::Kind::Sink(v1::Sink::default()),
    };
    let vertex = |id: u32| v1::Vertex {
        id,
        name: format!("vertex {id}"),
        parallelism,
        chain: vec![v1::Operator {
            uid: format!("uid-{id}"),
            name: format!("operator {id}"),
            kind: Some(kind(id)),
            ..Default::default()
        }],
        fixed_parallelism: false,
    };
    let edge = |id: u32| v1::Edge {
        id,
        source_vertex: id,
        target_vertex: id + 1,
        partitioning: v1::Partitioning::Rebalance.into(),
        ..Default::default()
    };
    v1::JobGraph {
        format_version: 1,
        name: "scaling".to_owned(),
        max_parallelism: KEY_GROUPS,
        vertices: (1..=VERTICES).map(vertex).collect(),
        edges: (1..VERTICES).map(edge).collect(),
        checkpoint: Some(v1::CheckpointConfig {
            interval_ms: CHECKPOINT_INTERVAL_MS,
            directory: checkpoints.display().to_string(),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// Asks until there is an answer.
async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> anyhow::Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask().await {
            return Ok(answer);
        }
        anyhow::ensure!(Instant::now() < deadline, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
