//! kill -9 of task managers and of the leading job manager, at random and again and again, changes no result.
//!
//! `WEIR_KILL_SEEDS` (list of seeds), `WEIR_KILLS` and `WEIR_KILL_RECORDS` make it longer. `WEIR_KILL_UNALIGNED=1`: with a slow sink and
//! unaligned checkpoints.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use weir_tests::cluster::{Cluster, ClusterOptions};
use weir_tests::services::Service;
use weir_tests::stream::Stream;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

fn pause(random: &mut StdRng, from_ms: u64, to_ms: u64) {
    std::thread::sleep(Duration::from_millis(random.random_range(from_ms..to_ms)));
}

/// Gives the numbers of job managers and task managers killed.
fn kill_at_random(
    cluster: &mut Cluster,
    kills: u64,
    random: &mut StdRng,
) -> anyhow::Result<(u64, u64)> {
    let (mut job_managers, mut task_managers) = (0, 0);
    for _ in 0..kills {
        pause(random, 1000, 4000);
        if random.random_bool(0.3) {
            let leader = cluster.leader()?;
            cluster.kill_job_manager(leader);
            job_managers += 1;
            pause(random, 300, 1500);
            cluster.start_job_manager(leader)?;
        } else {
            let victim = random.random_range(0..cluster.task_managers.len());
            cluster.kill_task_manager(victim);
            task_managers += 1;
            pause(random, 300, 1500);
            cluster.start_task_manager(victim)?;
        }
    }
    Ok((job_managers, task_managers))
}

fn run(seed: u64) -> anyhow::Result<()> {
    let kills = setting("WEIR_KILLS", 12);
    let kafka = Service::kafka(&format!("kill{seed}"))?;
    let s3 = Service::s3(&format!("kill{seed}"))?;
    let stream = Stream {
        brokers: kafka.address(),
        name: format!("kill{seed}"),
        records: setting("WEIR_KILL_RECORDS", 600_000),
        keys: 500,
        partitions: 4,
    };
    stream.create_topics()?;
    let mut cluster = Cluster::start(ClusterOptions {
        job_managers: 3,
        task_managers: 3,
        slots: 2,
        s3_endpoint: Some(format!("http://{}", s3.address())),
        ..ClusterOptions::default()
    })?;
    let (settings, slow) = match setting("WEIR_KILL_UNALIGNED", 0) {
        0 => ("", ""),
        _ => (
            "SET 'execution.checkpointing.unaligned.enabled' = 'true';",
            ", 'sink.rows-per-second' = '8000'",
        ),
    };
    let checkpoints = format!("s3://weir/kill{seed}");
    let script = stream.script_with(&checkpoints, "2 s", settings, slow);
    let job = cluster.submit(&script, &["--parallelism", "4"])?;
    // The last records come behind the last kill.
    let (release, held) = std::sync::mpsc::channel();
    let producer = {
        let stream = stream.clone();
        std::thread::spawn(move || stream.produce_held(Duration::from_millis(3000 * kills), &held))
    };
    let mut random = StdRng::seed_from_u64(seed);
    let killed = kill_at_random(&mut cluster, kills, &mut random);
    drop(release);
    producer.join().expect("the producer does not panic")?;
    let (job_managers, task_managers) = killed?;
    let outcome = cluster
        .wait_for_state(&job, "FINISHED", Duration::from_secs(300))
        .and_then(|status| stream.check().map(|()| status));
    match outcome {
        Ok(status) => {
            println!(
                "seed {seed}: {} records, {job_managers} job managers and {task_managers} task managers killed, {} restarts",
                stream.records, status["restarts"]
            );
            let restarts = status["restarts"].as_u64().unwrap_or(u64::MAX);
            anyhow::ensure!(
                restarts > 0 || task_managers == 0,
                "no kill was felt: the test is vacuous"
            );
            Ok(())
        }
        Err(error) => {
            let logs = cluster.keep_logs();
            Err(error.context(format!("seed {seed}, logs in {}", logs.display())))
        }
    }
}

#[test]
fn kill_9_changes_no_result() {
    let seeds = std::env::var("WEIR_KILL_SEEDS").unwrap_or_else(|_| "1".to_owned());
    for seed in seeds.split([',', ' ']).filter_map(|seed| seed.parse().ok()) {
        if let Err(error) = run(seed) {
            panic!("{error:#}");
        }
    }
}

/// Three leaders die one after the other; the job does not notice.
#[test]
fn a_killed_leader_restarts_no_job() {
    let kafka = Service::kafka("leader").unwrap();
    let stream = Stream {
        brokers: kafka.address(),
        name: "leader".to_owned(),
        records: 60_000,
        keys: 50,
        partitions: 2,
    };
    stream.create_topics().unwrap();
    let options = ClusterOptions {
        job_managers: 3,
        task_managers: 2,
        slots: 1,
        ..ClusterOptions::default()
    };
    let mut cluster = Cluster::start(options).unwrap();
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
    let producer = {
        let stream = stream.clone();
        std::thread::spawn(move || stream.produce(Duration::from_secs(25)))
    };
    cluster
        .wait_for_state(&job, "RUNNING", Duration::from_secs(60))
        .unwrap();
    // In its stride: the start of a job is another matter.
    cluster
        .wait_for_checkpoint_after_now(&job, Duration::from_secs(30))
        .unwrap();
    for _ in 0..3 {
        let leader = cluster.leader().unwrap();
        cluster.kill_job_manager(leader);
        if let Err(error) = cluster.wait_for_checkpoint_after_now(&job, Duration::from_secs(30)) {
            let status = cluster.status(&job);
            panic!(
                "{error:#}, {status:?}; logs in {}",
                cluster.keep_logs().display()
            );
        }
        cluster.start_job_manager(leader).unwrap();
    }
    producer.join().unwrap().unwrap();
    let status = cluster
        .wait_for_state(&job, "FINISHED", Duration::from_secs(120))
        .unwrap();
    assert_eq!(status["restarts"], 0, "{status}");
    assert_eq!(status["attempt"], 1, "{status}");
    stream.check().unwrap();
}
