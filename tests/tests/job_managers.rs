//! Whatever happens to job managers, no job is restarted: leaders killed under load, a rolling restart, a lost disk, members added and removed.
//!
//! `WEIR_LEADER_KILLS` makes it longer.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use weir_tests::cluster::{Cluster, ClusterOptions};
use weir_tests::eventually::eventually;
use weir_tests::process::{run, weir};
use weir_tests::services::Service;
use weir_tests::stream::Stream;

const WAIT: Duration = Duration::from_secs(60);

/// Looks at the job all the time.
struct Observer {
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<Seen>>,
    thread: std::thread::JoinHandle<()>,
}

#[derive(Default)]
struct Seen {
    /// Of completed checkpoints, in the order in which they were seen.
    ids: Vec<u64>,
    wrong: Vec<String>,
}

impl Observer {
    fn start(addresses: &[String], job: &str) -> Self {
        let (stop, seen) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let (addresses, job) = (addresses.join(","), job.to_owned());
        let (stopped, own): (Arc<AtomicBool>, Arc<Mutex<Seen>>) =
            (Arc::clone(&stop), Arc::clone(&seen));
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Acquire) {
                let mut command = weir();
                command.args([
                    "status",
                    &job,
                    "--format",
                    "json",
                    "--jobmanager",
                    &addresses,
                ]);
                // No answer while nobody leads.
                if let Ok(output) = run(&mut command, WAIT)
                    && let Ok(status) = serde_json::from_slice::<Value>(&output.stdout)
                {
                    own.lock().unwrap().note(&status);
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        Self { stop, seen, thread }
    }

    fn end(self) -> Seen {
        self.stop.store(true, Ordering::Release);
        self.thread.join().unwrap();
        std::mem::take(&mut *self.seen.lock().unwrap())
    }
}

impl Seen {
    fn note(&mut self, status: &Value) {
        if status["restarts"] != 0 || status["attempt"] != 1 {
            self.wrong.push(format!("restarted: {status}"));
        }
        let ids = status["checkpoints"].as_array().into_iter().flatten();
        let ids: Vec<u64> = ids.filter_map(|c| c["checkpoint_id"].as_u64()).collect();
        let last = self.ids.last().copied().unwrap_or(0);
        if ids.last().is_some_and(|newest| *newest < last) {
            self.wrong
                .push(format!("checkpoint {last} is lost: {ids:?}"));
        }
        self.ids.extend(ids.into_iter().filter(|id| *id > last));
    }
}

/// Ids of the completed checkpoints that any of the job managers, of whom many are dead, have told of in their logs.
fn logged(cluster: &Cluster) -> Vec<u64> {
    let logs = (0..cluster.addresses.len()).map(|index| {
        let path = cluster.dir.path().join(format!("jm{index}.log"));
        std::fs::read_to_string(path).unwrap_or_default()
    });
    let id = |line: &str| -> Option<u64> {
        let (_, about) = line.split_once("checkpoint is complete")?;
        let (_, id) = about.split_once(" checkpoint=")?;
        id.split(' ').next()?.parse().ok()
    };
    logs.flat_map(|log| log.lines().filter_map(id).collect::<Vec<_>>())
        .collect()
}

/// Ids are used up in order: an id that is missing between two is a checkpoint that was given up.
fn largest_gap(ids: &BTreeSet<u64>) -> u64 {
    let gaps = ids.iter().zip(ids.iter().skip(1));
    gaps.map(|(one, next)| next - one).max().unwrap_or(0)
}

fn next_checkpoint(cluster: &Cluster, job: &str, after: &str) {
    if let Err(error) = cluster.wait_for_checkpoint_after_now(job, WAIT) {
        panic!("after {after}: {error:#}; {:?}", cluster.status(job));
    }
}

fn change(cluster: &Cluster, arguments: &[&str]) -> (bool, String) {
    let mut command = weir();
    command.arg("jobmanager").args(arguments);
    command.arg("--jobmanager").arg(cluster.addresses.join(","));
    let output = run(&mut command, Duration::from_secs(90)).unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.success(), said)
}

/// The index of one that does not lead.
fn follower(cluster: &Cluster) -> usize {
    let leader = cluster.leader().unwrap();
    (0..3).find(|index| *index != leader).unwrap()
}

fn lose_a_disk(cluster: &mut Cluster, job: &str) {
    let lost = follower(cluster);
    cluster.kill_job_manager(lost);
    std::fs::remove_dir_all(cluster.dir.path().join(format!("jm{lost}"))).unwrap();
    cluster.start_job_manager(lost).unwrap();
    eventually("it is let in and votes again", WAIT, || {
        let log = cluster.job_managers[lost].as_ref()?.log_text();
        let roles = cluster.job_manager_roles().ok()?;
        let votes = matches!(roles.get(&(lost as u64 + 1))?.as_str(), "voter" | "leader");
        // Until it was taken out, the list still has the old one: its own log says when the new one votes.
        let (_, since) = log.split_once("waits to be let in")?;
        (since.contains("ROLE_VOTER") && votes).then_some(())
    })
    .unwrap();
    next_checkpoint(cluster, job, "a lost disk");
    // It counts again: with another one gone, nothing goes without it.
    let other = (0..3).find(|i| *i != lost && *i != cluster.leader().unwrap());
    let other = other.unwrap_or_else(|| follower(cluster));
    if other != lost {
        cluster.kill_job_manager(other);
        next_checkpoint(cluster, job, "a lost disk and a killed one");
        cluster.start_job_manager(other).unwrap();
    }
}

fn add_and_remove(cluster: &mut Cluster, job: &str) {
    let fourth = cluster.start_new_job_manager().unwrap();
    let named = format!("4={}", cluster.addresses[fourth]);
    let (added, said) = change(cluster, &["add", &named]);
    assert!(added, "{said}");
    // Repeated, it changes nothing.
    assert!(change(cluster, &["add", &named]).0);
    let roles = cluster.job_manager_roles().unwrap();
    assert_eq!(roles.keys().copied().collect::<Vec<_>>(), [1, 2, 3, 4]);
    next_checkpoint(cluster, job, "a new member");

    // The leader itself: it hands over, and its process ends.
    let leader = cluster.leader().unwrap();
    let id = (leader + 1).to_string();
    let (removed, said) = change(cluster, &["remove", &id]);
    assert!(removed, "{said}");
    let mut process = cluster.job_managers[leader].take().unwrap();
    eventually("the removed one ends", WAIT, || {
        (!process.is_running()).then_some(())
    })
    .unwrap();
    next_checkpoint(cluster, job, "a removed leader");
    assert_eq!(cluster.job_manager_roles().unwrap().len(), 3);
    // Its folder is worth nothing any more.
    cluster.start_job_manager(leader).unwrap();
    eventually("it does not start again", WAIT, || {
        let process = cluster.job_managers[leader].as_mut()?;
        (!process.is_running()).then_some(())
    })
    .unwrap();
    cluster.job_managers[leader] = None;

    // With one silent, the other two are needed.
    let leader_now = cluster.leader().unwrap();
    let rest: Vec<usize> = (0..4)
        .filter(|i| *i != leader && *i != leader_now)
        .collect();
    cluster.kill_job_manager(rest[0]);
    eventually("it is silent", WAIT, || {
        cluster.job_manager_is_silent(rest[0]).then_some(())
    })
    .unwrap();
    let (removed, said) = change(cluster, &["remove", &(rest[1] + 1).to_string()]);
    assert!(!removed && said.contains("cannot be taken out"), "{said}");
    cluster.start_job_manager(rest[0]).unwrap();
}

fn leader_kills() -> u32 {
    let kills = std::env::var("WEIR_LEADER_KILLS").ok();
    kills.and_then(|text| text.parse().ok()).unwrap_or(3)
}

fn run_all(cluster: &mut Cluster, job: &str) {
    for n in 0..leader_kills() {
        let leader = cluster.leader().unwrap();
        cluster.kill_job_manager(leader);
        next_checkpoint(cluster, job, &format!("kill {n} of a leader"));
        cluster.start_job_manager(leader).unwrap();
    }
    for index in 0..3 {
        cluster.stop_job_manager(index).unwrap();
        next_checkpoint(cluster, job, "the stop of one");
        cluster.start_job_manager(index).unwrap();
        // The next one only when this one takes part again, as an orchestrator does it.
        eventually("it takes part", WAIT, || {
            cluster.job_manager_takes_part(index).then_some(())
        })
        .unwrap();
    }
    lose_a_disk(cluster, job);
    add_and_remove(cluster, job);
}

#[test]
fn job_managers_are_never_the_reason_for_a_restart() {
    let kafka = Service::kafka("jobmanagers").unwrap();
    let stream = Stream {
        brokers: kafka.address(),
        name: "jobmanagers".to_owned(),
        records: 150_000,
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
    let folder = cluster.dir.path().join("checkpoints");
    let script = stream.script(&format!("file://{}", folder.display()), "1 s");
    let job = cluster.submit(&script, &["--parallelism", "2"]).unwrap();
    let producer = {
        let stream = stream.clone();
        // The input has to last until the last change.
        let time = Duration::from_secs(45) + Duration::from_secs(5) * leader_kills();
        std::thread::spawn(move || stream.produce(time))
    };
    cluster.wait_for_state(&job, "RUNNING", WAIT).unwrap();
    let observer = Observer::start(&cluster.addresses, &job);
    // The first one dies before there is any checkpoint.
    let changes = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        run_all(&mut cluster, &job);
    }));
    producer.join().unwrap().unwrap();
    let seen = observer.end();
    if changes.is_err() || !seen.wrong.is_empty() {
        panic!(
            "{:?}; logs in {}",
            seen.wrong,
            cluster.keep_logs().display()
        );
    }
    let end = cluster.wait_for_state(&job, "FINISHED", Duration::from_secs(180));
    let end = end.unwrap();
    assert_eq!(
        (&end["restarts"], &end["attempt"]),
        (&0.into(), &1.into()),
        "{end}"
    );
    // Those that came and went between two looks are in the logs.
    let completed: BTreeSet<u64> = seen.ids.into_iter().chain(logged(&cluster)).collect();
    println!("completed checkpoints: {completed:?}");
    // The one under way may come to nothing; the next one completes.
    assert!(largest_gap(&completed) <= 2, "{completed:?}");
    stream.check().unwrap();
}

/// A caller that did not get its answer repeats its submission, to another job manager after the first one died.
#[test]
fn a_repeated_submission_gives_the_same_job() {
    let mut cluster = Cluster::start(ClusterOptions {
        job_managers: 3,
        task_managers: 1,
        slots: 1,
        ..ClusterOptions::default()
    })
    .unwrap();
    let script =
        "CREATE TABLE numbers (n BIGINT) WITH ('connector' = 'datagen', 'rows-per-second' = '10');
        CREATE TABLE nowhere (n BIGINT) WITH ('connector' = 'blackhole');
        INSERT INTO nowhere SELECT n FROM numbers;";
    let first = cluster
        .submit(script, &["--request-id", "nightly"])
        .unwrap();
    let leader = cluster.leader().unwrap();
    cluster.kill_job_manager(leader);
    let again = cluster
        .submit(script, &["--request-id", "nightly"])
        .unwrap();
    assert_eq!(first, again);
    let other = cluster.submit(script, &["--request-id", "daily"]).unwrap();
    assert_ne!(first, other);
}
