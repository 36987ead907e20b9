//! A process that was paused for longer than the heartbeat time-out and comes back changes nothing.

use std::time::Duration;

use nix::sys::signal::Signal;
use weir_tests::cluster::{Cluster, ClusterOptions};
use weir_tests::eventually::eventually;
use weir_tests::services::Service;
use weir_tests::stream::Stream;

fn start(name: &str, kafka: &Service) -> (Stream, Cluster, String) {
    let stream = Stream {
        brokers: kafka.address(),
        name: name.to_owned(),
        records: 80_000,
        keys: 50,
        partitions: 2,
    };
    stream.create_topics().unwrap();
    let options = ClusterOptions {
        job_managers: 3,
        task_managers: 3,
        slots: 1,
        heartbeat_timeout_ms: Some(1500),
        ..ClusterOptions::default()
    };
    let cluster = Cluster::start(options).unwrap();
    let checkpoints = format!(
        "file://{}",
        cluster.dir.path().join("checkpoints").display()
    );
    let job = cluster
        .submit(
            &stream.script(&checkpoints, "500 ms"),
            &["--parallelism", "2"],
        )
        .unwrap();
    cluster
        .wait_for_state(&job, "RUNNING", Duration::from_secs(60))
        .unwrap();
    (stream, cluster, job)
}

fn attempt(cluster: &Cluster, job: &str) -> u64 {
    cluster
        .status(job)
        .ok()
        .and_then(|status| status["attempt"].as_u64())
        .unwrap_or(0)
}

#[test]
fn a_paused_task_manager_is_refused_when_it_comes_back() {
    let kafka = Service::kafka("zombie").unwrap();
    let (stream, cluster, job) = start("zombie", &kafka);
    let producer = {
        let stream = stream.clone();
        std::thread::spawn(move || stream.produce(Duration::from_secs(20)))
    };
    cluster
        .wait_for_checkpoint_after_now(&job, Duration::from_secs(60))
        .unwrap();
    let victim = cluster.busy_task_manager(&job).unwrap();
    let before = attempt(&cluster, &job);
    cluster.signal_task_manager(victim, Signal::SIGSTOP);
    eventually(
        "the job runs without the paused one",
        Duration::from_secs(60),
        || {
            let status = cluster.status(&job).ok()?;
            (status["attempt"].as_u64()? > before && status["state"] == "RUNNING").then_some(())
        },
    )
    .unwrap();
    cluster.signal_task_manager(victim, Signal::SIGCONT);
    eventually("the zombie is refused", Duration::from_secs(60), || {
        cluster.logs_contain("refused").then_some(())
    })
    .unwrap();
    producer.join().unwrap().unwrap();
    cluster
        .wait_for_state(&job, "FINISHED", Duration::from_secs(120))
        .unwrap();
    stream.check().unwrap();
}

#[test]
fn a_paused_leader_is_no_leader_when_it_comes_back() {
    let kafka = Service::kafka("oldleader").unwrap();
    let (stream, cluster, job) = start("oldleader", &kafka);
    let producer = {
        let stream = stream.clone();
        std::thread::spawn(move || stream.produce(Duration::from_secs(15)))
    };
    cluster
        .wait_for_checkpoint_after_now(&job, Duration::from_secs(60))
        .unwrap();
    let old = cluster.leader().unwrap();
    cluster.signal_job_manager(old, Signal::SIGSTOP);
    eventually(
        "another leader completes checkpoints",
        Duration::from_secs(60),
        || {
            cluster
                .wait_for_checkpoint_after_now(&job, Duration::from_secs(20))
                .ok()
        },
    )
    .unwrap();
    cluster.signal_job_manager(old, Signal::SIGCONT);
    producer.join().unwrap().unwrap();
    let status = cluster
        .wait_for_state(&job, "FINISHED", Duration::from_secs(120))
        .unwrap();
    assert_eq!(status["attempt"], 1, "{status}");
    stream.check().unwrap();
}
