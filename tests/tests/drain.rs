//! Task managers that are asked to leave: their jobs move first, and no result changes.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use weir_tests::cluster::{Cluster, ClusterOptions};
use weir_tests::eventually::eventually;
use weir_tests::services::Service;
use weir_tests::stream::Stream;

fn ends(cluster: &mut Cluster, index: usize, within: Duration) -> Duration {
    let started = Instant::now();
    let mut process = cluster.task_managers[index].take().unwrap();
    eventually("the task manager ends", within, || {
        (!process.is_running()).then_some(())
    })
    .unwrap();
    started.elapsed()
}

fn task_manager_log(cluster: &Cluster, index: usize) -> String {
    let log = cluster.dir.path().join(format!("tm{index}.log"));
    std::fs::read_to_string(log).unwrap()
}

/// Task manager after task manager is stopped by SIGTERM and started again, under load.
#[test]
fn a_rolling_restart_of_all_task_managers_loses_nothing_and_counts_no_restart() {
    let kafka = Service::kafka("drain").unwrap();
    let stream = Stream {
        brokers: kafka.address(),
        name: "drain".to_owned(),
        records: 120_000,
        keys: 100,
        partitions: 4,
    };
    stream.create_topics().unwrap();
    let options = ClusterOptions {
        job_managers: 3,
        task_managers: 3,
        slots: 2,
        ..ClusterOptions::default()
    };
    let mut cluster = Cluster::start(options).unwrap();
    let folder = cluster.dir.path().display().to_string();
    let script = stream.script(&format!("file://{folder}/checkpoints"), "500 ms");
    let (release, held) = std::sync::mpsc::channel();
    let producer = {
        let stream = stream.clone();
        std::thread::spawn(move || stream.produce_held(Duration::from_secs(20), &held))
    };
    let job = cluster.submit(&script, &["--parallelism", "4"]).unwrap();
    cluster
        .wait_for_state(&job, "RUNNING", Duration::from_secs(60))
        .unwrap();
    for index in 0..3 {
        cluster
            .wait_for_checkpoint_after_now(&job, Duration::from_secs(60))
            .unwrap();
        cluster.signal_task_manager(index, Signal::SIGTERM);
        let took = ends(&mut cluster, index, Duration::from_secs(30));
        println!("task manager {index} left after {took:?}");
        let log = task_manager_log(&cluster, index);
        assert!(log.contains("nothing runs here any more"), "{log}");
        cluster.start_task_manager(index).unwrap();
        eventually("it registers", Duration::from_secs(30), || {
            task_manager_log(&cluster, index)
                .rsplit("task manager started")
                .next()?
                .contains("registered")
                .then_some(())
        })
        .unwrap();
    }
    drop(release);
    producer.join().unwrap().unwrap();
    let status = cluster
        .wait_for_state(&job, "FINISHED", Duration::from_secs(120))
        .unwrap();
    assert_eq!(status["restarts"], 0, "{status}");
    let attempts = status["attempt"].as_u64().unwrap();
    assert!((3..=4).contains(&attempts), "{status}");
    if let Err(error) = stream.check() {
        let logs = cluster.keep_logs();
        panic!("logs in {}: {error:#}", logs.display());
    }
}

/// Without slots elsewhere there is nothing to wait for, and without patience neither.
#[test]
fn who_cannot_move_is_not_waited_for() {
    let options = ClusterOptions {
        job_managers: 1,
        task_managers: 2,
        slots: 1,
        ..ClusterOptions::default()
    };
    let mut cluster = Cluster::start(options).unwrap();
    let checkpoints = cluster.dir.path().join("checkpoints");
    let script = format!(
        "SET 'execution.checkpointing.interval' = '1 h';
         SET 'execution.checkpointing.dir' = 'file://{}';
         CREATE TABLE numbers (n BIGINT) WITH ('connector' = 'datagen', 'rows-per-second' = '100');
         CREATE TABLE nowhere (n BIGINT) WITH ('connector' = 'blackhole');
         INSERT INTO nowhere SELECT n FROM numbers;",
        checkpoints.display()
    );
    let job = cluster.submit(&script, &["--parallelism", "2"]).unwrap();
    cluster
        .wait_for_state(&job, "RUNNING", Duration::from_secs(60))
        .unwrap();
    cluster.signal_task_manager(0, Signal::SIGTERM);
    ends(&mut cluster, 0, Duration::from_secs(20));
    let log = task_manager_log(&cluster, 0);
    let why = format!("job {job} needs 2 slots, 1 are there on task managers that stay");
    assert!(log.contains(&why), "{log}");
    cluster
        .wait_for_state(&job, "RESTARTING", Duration::from_secs(20))
        .unwrap();
}
