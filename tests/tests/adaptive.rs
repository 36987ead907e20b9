//! A job whose parallelism follows the slots there are: task managers come, die and come back, and the rows are exact.

use std::time::{Duration, Instant};

use serde_json::Value;
use weir_tests::cluster::{Cluster, ClusterOptions};
use weir_tests::eventually::eventually;
use weir_tests::services::Service;
use weir_tests::stream::Stream;

const PATIENCE: Duration = Duration::from_secs(60);

/// Highest number of subtasks of a vertex, if all of them run.
fn parallelism(status: &Value) -> Option<u64> {
    let subtasks = status["subtasks"].as_array()?;
    let all_run = status["state"] == "RUNNING" && subtasks.iter().all(|s| s["state"] == "RUNNING");
    let last = subtasks.iter().filter_map(|s| s["subtask"].as_u64()).max();
    last.filter(|_| all_run).map(|last| last + 1)
}

fn runs_at(cluster: &Cluster, job: &str, wanted: u64) -> Value {
    let started = Instant::now();
    let status = eventually(&format!("parallelism {wanted}"), PATIENCE, || {
        let status = cluster.status(job).ok()?;
        (parallelism(&status) == Some(wanted)).then_some(status)
    })
    .unwrap_or_else(|error| panic!("{error:#}: {:?}", cluster.status(job)));
    println!("parallelism {wanted} after {:?}", started.elapsed());
    status
}

fn stream(kafka: &Service, name: &str, records: u64) -> Stream {
    let stream = Stream {
        brokers: kafka.address(),
        name: name.to_owned(),
        records,
        keys: 100,
        partitions: 6,
    };
    stream.create_topics().unwrap();
    stream
}

fn cluster() -> Cluster {
    let options = ClusterOptions {
        job_managers: 1,
        task_managers: 2,
        slots: 2,
        ..ClusterOptions::default()
    };
    Cluster::start(options).unwrap()
}

fn submit(cluster: &Cluster, stream: &Stream, settings: &str) -> String {
    let checkpoints = cluster.dir.path().join("checkpoints");
    let checkpoints = format!("file://{}", checkpoints.display());
    let script = stream.script_with(&checkpoints, "500 ms", settings, "");
    cluster.submit(&script, &["--parallelism", "4"]).unwrap()
}

fn check(cluster: Cluster, stream: &Stream) {
    if let Err(error) = stream.check() {
        let logs = cluster.keep_logs();
        panic!("logs in {}: {error:#}", logs.display());
    }
}

#[test]
fn a_reactive_job_follows_the_task_managers_that_come_and_die() {
    let kafka = Service::kafka("reactive").unwrap();
    let stream = stream(&kafka, "reactive", 90_000);
    let mut cluster = cluster();
    let (release, held) = std::sync::mpsc::channel();
    let producer = {
        let stream = stream.clone();
        std::thread::spawn(move || stream.produce_held(Duration::from_secs(10), &held))
    };
    let settings = "SET 'scheduler-mode' = 'reactive';
        SET 'jobmanager.adaptive-scheduler.executing.cooldown-after-rescaling' = '1 s';
        SET 'jobmanager.adaptive-scheduler.executing.resource-stabilization-timeout' = '500 ms';";
    let job = submit(&cluster, &stream, settings);
    runs_at(&cluster, &job, 4);
    cluster
        .wait_for_checkpoint_after_now(&job, PATIENCE)
        .unwrap();
    cluster.task_managers.push(None);
    cluster.start_task_manager(2).unwrap();
    let status = runs_at(&cluster, &job, 6);
    assert_eq!(
        (&status["attempt"], &status["restarts"]),
        (&2.into(), &0.into())
    );
    cluster
        .wait_for_checkpoint_after_now(&job, PATIENCE)
        .unwrap();
    cluster.kill_task_manager(0);
    let status = runs_at(&cluster, &job, 4);
    assert_eq!(
        (&status["attempt"], &status["restarts"]),
        (&3.into(), &1.into())
    );
    let refused = cluster.try_call("rescale", &[&job, "--parallelism", "2"]);
    let message = String::from_utf8_lossy(&refused.unwrap().stderr).into_owned();
    assert!(message.contains("follows the slots there are"), "{message}");
    drop(release);
    producer.join().unwrap().unwrap();
    cluster.wait_for_state(&job, "FINISHED", PATIENCE).unwrap();
    check(cluster, &stream);
}

#[test]
fn a_task_manager_that_comes_back_in_time_changes_no_parallelism() {
    let kafka = Service::kafka("adaptive").unwrap();
    let stream = stream(&kafka, "adaptive", 60_000);
    let mut cluster = cluster();
    let (release, held) = std::sync::mpsc::channel();
    let producer = {
        let stream = stream.clone();
        std::thread::spawn(move || stream.produce_held(Duration::from_secs(6), &held))
    };
    let settings = "SET 'jobmanager.scheduler' = 'adaptive';
        SET 'jobmanager.adaptive-scheduler.submission.resource-stabilization-timeout' = '20 s';";
    let job = submit(&cluster, &stream, settings);
    runs_at(&cluster, &job, 4);
    cluster
        .wait_for_checkpoint_after_now(&job, PATIENCE)
        .unwrap();
    cluster.kill_task_manager(1);
    cluster.start_task_manager(1).unwrap();
    let status = eventually("the next attempt", PATIENCE, || {
        let status = cluster.status(&job).ok()?;
        (status["attempt"] == 2).then_some(status)
    });
    assert!(status.is_ok());
    let status = runs_at(&cluster, &job, 4);
    assert_eq!(
        (&status["attempt"], &status["restarts"]),
        (&2.into(), &1.into())
    );
    drop(release);
    producer.join().unwrap().unwrap();
    let status = cluster.wait_for_state(&job, "FINISHED", PATIENCE).unwrap();
    assert_eq!(status["attempt"], 2, "{status}");
    check(cluster, &stream);
}
