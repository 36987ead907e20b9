//! `weir rescale` under load: the rows are exact, and no state is lost on the way up or down.

use std::time::{Duration, Instant};

use weir_tests::cluster::{Cluster, ClusterOptions};
use weir_tests::services::Service;
use weir_tests::stream::Stream;

fn most_subtasks_of_a_vertex(cluster: &Cluster, job: &str) -> usize {
    let status = cluster.status(job).unwrap();
    let subtasks = status["subtasks"].as_array().unwrap();
    let last = subtasks.iter().filter_map(|s| s["subtask"].as_u64()).max();
    last.map_or(0, |last| last as usize + 1)
}

#[test]
fn a_running_job_is_rescaled_up_and_down() {
    let kafka = Service::kafka("rescale").unwrap();
    let stream = Stream {
        brokers: kafka.address(),
        name: "rescale".to_owned(),
        records: 90_000,
        keys: 100,
        partitions: 4,
    };
    stream.create_topics().unwrap();
    let options = ClusterOptions {
        job_managers: 1,
        task_managers: 2,
        slots: 2,
        ..ClusterOptions::default()
    };
    let cluster = Cluster::start(options).unwrap();
    let folder = cluster.dir.path().display().to_string();
    let script = stream.script(&format!("file://{folder}/checkpoints"), "500 ms");
    let (release, held) = std::sync::mpsc::channel();
    let producer = {
        let stream = stream.clone();
        std::thread::spawn(move || stream.produce_held(Duration::from_secs(10), &held))
    };
    let job = cluster.submit(&script, &["--parallelism", "2"]).unwrap();
    cluster
        .wait_for_state(&job, "RUNNING", Duration::from_secs(60))
        .unwrap();
    let refused = cluster
        .try_call("rescale", &[&job, "--parallelism", "5"])
        .unwrap();
    let message = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success());
    assert!(message.contains("5 slots, 4 are there"), "{message}");
    for parallelism in ["4", "1", "3", "3"] {
        cluster
            .wait_for_checkpoint_after_now(&job, Duration::from_secs(60))
            .unwrap();
        let started = Instant::now();
        cluster
            .call("rescale", &[&job, "--parallelism", parallelism])
            .unwrap();
        println!("to {parallelism}: {:?}", started.elapsed());
        let subtasks = most_subtasks_of_a_vertex(&cluster, &job);
        assert_eq!(subtasks.to_string(), parallelism);
    }
    drop(release);
    producer.join().unwrap().unwrap();
    let status = cluster
        .wait_for_state(&job, "FINISHED", Duration::from_secs(120))
        .unwrap();
    assert_eq!(status["restarts"], 0, "{status}");
    assert_eq!(status["attempt"], 4, "{status}");
    if let Err(error) = stream.check() {
        let logs = cluster.keep_logs();
        panic!("logs in {}: {error:#}", logs.display());
    }
}
