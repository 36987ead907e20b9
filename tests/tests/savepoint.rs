//! Stop with savepoint at one parallelism, start from it at others: the rows are exact.

use std::time::Duration;

use weir_tests::cluster::{Cluster, ClusterOptions};
use weir_tests::services::Service;
use weir_tests::stream::Stream;

#[test]
fn a_job_goes_on_from_its_savepoint_at_other_parallelisms() {
    let kafka = Service::kafka("savepoint").unwrap();
    let stream = Stream {
        brokers: kafka.address(),
        name: "savepoint".to_owned(),
        records: 90_000,
        keys: 100,
        partitions: 4,
    };
    stream.create_topics().unwrap();
    let options = ClusterOptions {
        job_managers: 1,
        task_managers: 3,
        slots: 1,
        ..ClusterOptions::default()
    };
    let cluster = Cluster::start(options).unwrap();
    let folder = cluster.dir.path().display().to_string();
    let script = stream.script(&format!("file://{folder}/checkpoints"), "500 ms");
    let producer = {
        let stream = stream.clone();
        std::thread::spawn(move || stream.produce(Duration::from_secs(18)))
    };
    let mut from: Option<String> = None;
    for parallelism in ["2", "3", "1"] {
        let mut arguments = vec!["--parallelism", parallelism];
        if let Some(path) = &from {
            arguments.extend(["--from-savepoint", path]);
        }
        let job = cluster.submit(&script, &arguments).unwrap();
        cluster
            .wait_for_state(&job, "RUNNING", Duration::from_secs(60))
            .unwrap();
        if parallelism == "1" {
            cluster
                .wait_for_state(&job, "FINISHED", Duration::from_secs(120))
                .unwrap();
            break;
        }
        cluster
            .wait_for_checkpoint_after_now(&job, Duration::from_secs(60))
            .unwrap();
        let path = cluster
            .call(
                "stop",
                &[&job, "--savepoint", &format!("{folder}/savepoints")],
            )
            .unwrap();
        cluster
            .wait_for_state(&job, "FINISHED", Duration::from_secs(60))
            .unwrap();
        from = Some(path);
    }
    producer.join().unwrap().unwrap();
    if let Err(error) = stream.check() {
        let logs = cluster.keep_logs();
        panic!("logs in {}: {error:#}", logs.display());
    }
}
