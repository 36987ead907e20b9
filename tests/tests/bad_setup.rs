//! Bad configuration, bad calls and a broken environment: clear messages, bounded times, and what runs goes on.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use weir_tests::cluster::{Cluster, ClusterOptions, free_port};
use weir_tests::eventually::eventually;
use weir_tests::process::{Process, weir};
use weir_tests::said::{Said, said, weir_says};

const WAIT: Duration = Duration::from_secs(60);

/// An endless job with keyed state.
const COUNTING: &str = "CREATE TABLE t (a INT) WITH ('connector' = 'datagen', 'rows-per-second' = '200', 'fields.a.min' = '1', 'fields.a.max' = '50');
    CREATE TABLE o (a INT, n BIGINT, PRIMARY KEY (a) NOT ENFORCED) WITH ('connector' = 'blackhole');
    INSERT INTO o SELECT a, COUNT(*) FROM t GROUP BY a;";

fn small_cluster() -> Cluster {
    let options = ClusterOptions {
        job_managers: 1,
        task_managers: 1,
        slots: 2,
        ..ClusterOptions::default()
    };
    Cluster::start(options).unwrap()
}

fn call(cluster: &Cluster, name: &str, arguments: &[&str]) -> Said {
    said(cluster.command(name).args(arguments))
}

fn with_checkpoints(folder: &Path, statements: &str) -> String {
    format!(
        "SET 'execution.checkpointing.interval' = '300 ms';
         SET 'execution.checkpointing.dir' = 'file://{}';
         {statements}",
        folder.display()
    )
}

/// `weir ROLE --conf KEY=VALUE ...`
fn role(name: &str, conf: &[&str]) -> Command {
    let mut command = weir();
    command.arg(name);
    for item in conf {
        command.args(["--conf", item]);
    }
    command
}

#[test]
fn an_unknown_configuration_key_is_refused_with_the_nearest() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("weir.yaml");
    std::fs::write(&file, "taskmanager:\n  slot: 3\n").unwrap();
    let file = file.display().to_string();
    weir_says(&["taskmanager", "--config", &file]).refuses(&[
        "'taskmanager.slot'",
        "weir.yaml",
        "did you mean 'taskmanager.slots'?",
    ]);
    said(&mut role("jobmanager", &["jobmanager.data_dri=/tmp"])).refuses(&[
        "'jobmanager.data_dri'",
        "--conf",
        "did you mean 'jobmanager.data_dir'?",
    ]);
    said(&mut role("taskmanager", &["taskmanager.slots=many"]))
        .refuses(&["taskmanager.slots", "many"]);
    weir_says(&["jobmanager", "--config", "/no/such/weir.yaml"]).refuses(&["/no/such/weir.yaml"]);
}

#[test]
fn a_port_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().display();
    for name in ["jobmanager", "taskmanager"] {
        let data_dir = format!("{name}.data_dir={data}");
        let bind = format!("{name}.bind=\"{address}\"");
        said(&mut role(name, &[&data_dir, &bind])).refuses(&[&address, "in use"]);
    }
    let metrics = format!("metrics_address=\"{address}\"");
    said(&mut role("jobmanager", &[&metrics])).refuses(&["metrics_address", &address, "in use"]);
}

#[test]
fn a_data_folder_that_cannot_be_written_is_named() {
    for name in ["jobmanager", "taskmanager"] {
        let data_dir = format!("{name}.data_dir=/proc/weir");
        let bind = format!("{name}.bind=\"127.0.0.1:0\"");
        said(&mut role(name, &[&data_dir, &bind])).refuses(&["/proc/weir"]);
    }
}

#[test]
fn a_job_manager_that_is_not_there_is_given_up_in_time() {
    let address = format!("127.0.0.1:{}", free_port());
    let started = Instant::now();
    weir_says(&["list", "--jobmanager", &address]).refuses(&["no job manager", &address]);
    assert!(started.elapsed() < Duration::from_secs(40));
    weir_says(&["list", "--jobmanager", "localhost"]).refuses(&["localhost", "HOST:PORT"]);
}

#[test]
fn wrong_calls_to_a_cluster_are_refused() {
    let cluster = small_cluster();
    let unknown = "01a2093120000000000000000000abcd";
    for name in ["status", "cancel", "savepoint", "stop"] {
        call(&cluster, name, &[unknown]).refuses(&[unknown]);
        call(&cluster, name, &["not-an-id"]).refuses(&["not-an-id"]);
    }
    call(&cluster, "run", &["/no/such/script.sql"]).refuses(&["/no/such/script.sql"]);
    let script = cluster.dir.path().join("bad.sql");
    std::fs::write(&script, "SELECT 1;\nINSERT INTO nowhere SELECT 1;").unwrap();
    call(&cluster, "run", &[&script.display().to_string()]).refuses(&["line"]);
}

#[test]
fn savepoints_that_do_not_fit_are_refused_by_name() {
    let cluster = small_cluster();
    let folder = cluster.dir.path().to_owned();
    let script = |name: &str, statements: &str| {
        let path = folder.join(name);
        std::fs::write(
            &path,
            with_checkpoints(&folder.join("checkpoints"), statements),
        )
        .unwrap();
        path.display().to_string()
    };
    let counting = script("counting.sql", COUNTING);
    let from = |path: &str, script: &str| {
        let said = call(
            &cluster,
            "run",
            &[script, "--from-savepoint", path, "--wait"],
        );
        assert_eq!(said.code, Some(1), "{said:?}");
        said
    };
    let nowhere = folder.join("nothing-here").display().to_string();
    from(&nowhere, &counting).refuses(&["cannot start from", "nothing-here"]);

    let job = cluster
        .submit(
            &with_checkpoints(&folder.join("checkpoints"), COUNTING),
            &[],
        )
        .unwrap();
    cluster.wait_for_state(&job, "RUNNING", WAIT).unwrap();
    cluster.wait_for_checkpoint_after_now(&job, WAIT).unwrap();
    let target = folder.join("savepoints").display().to_string();
    let savepoint = cluster
        .call("stop", &[&job, "--savepoint", &target])
        .unwrap();
    let other = script(
        "other.sql",
        "CREATE TABLE t (a INT) WITH ('connector' = 'datagen', 'number-of-rows' = '5');
         CREATE TABLE o (a INT) WITH ('connector' = 'blackhole');
         INSERT INTO o SELECT a FROM t;",
    );
    from(&savepoint, &other).refuses(&["GroupAggregate", "--allow-non-restored-state"]);
}

#[test]
fn a_job_that_finds_no_slots_says_so() {
    let cluster = small_cluster();
    let job = cluster.submit(COUNTING, &["--parallelism", "8"]).unwrap();
    let reason = eventually("the status says what is missing", WAIT, || {
        let status = cluster.status(&job).ok()?;
        let error = status["error"].as_str()?.to_owned();
        error.contains("slots").then_some(error)
    })
    .unwrap();
    assert!(reason.contains('8') && reason.contains('2'), "{reason}");
    cluster.call("cancel", &[&job]).unwrap();
    cluster.wait_for_state(&job, "CANCELED", WAIT).unwrap();
}

#[test]
fn a_data_folder_of_another_cluster_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data").display().to_string();
    let of_cluster = |cluster: &str| {
        let (id, data_dir) = (
            format!("cluster_id={cluster}"),
            format!("jobmanager.data_dir={data}"),
        );
        role(
            "jobmanager",
            &[&id, &data_dir, "jobmanager.bind=\"127.0.0.1:0\""],
        )
    };
    let mut process = Process::start(&mut of_cluster("blue"), &folder.path().join("log")).unwrap();
    eventually("it leads", WAIT, || {
        process.log_text().contains("leads").then_some(())
    })
    .unwrap();
    process.kill_9();
    said(&mut of_cluster("green")).refuses(&["blue", "green", &data]);
}

#[test]
fn a_job_manager_of_another_cluster_is_kept_out() {
    let addresses: Vec<String> = (0..3)
        .map(|_| format!("127.0.0.1:{}", free_port()))
        .collect();
    let peers: Vec<String> = addresses.iter().map(|a| format!("\"{a}\"")).collect();
    let folder = tempfile::tempdir().unwrap();
    let start = |index: usize, cluster: &str| {
        let conf = [
            format!("cluster_id={cluster}"),
            format!("jobmanager.id={}", index + 1),
            format!("jobmanager.bind={}", peers[index]),
            format!("jobmanager.peers=[{}]", peers.join(",")),
            format!(
                "jobmanager.data_dir={}",
                folder.path().join(index.to_string()).display()
            ),
        ];
        let conf: Vec<&str> = conf.iter().map(String::as_str).collect();
        let log = folder.path().join(format!("{index}.log"));
        Process::start(&mut role("jobmanager", &conf), &log).unwrap()
    };
    let own = [start(0, "blue"), start(1, "blue")];
    let stranger = start(2, "green");
    let refused = "refused a job manager of cluster 'green': this is cluster 'blue'";
    eventually("the stranger is refused", WAIT, || {
        own.iter()
            .any(|process| process.log_text().contains(refused))
            .then_some(())
    })
    .unwrap();
    eventually("the stranger says why", WAIT, || {
        stranger.log_text().contains("cluster 'blue'").then_some(())
    })
    .unwrap();
    eventually("the cluster works without it", WAIT, || {
        let list = said(weir().args(["list", "--jobmanager", &addresses[..2].join(",")]));
        (list.code == Some(0)).then_some(())
    })
    .unwrap();
    let log = stranger.log_text();
    assert!(
        !log.contains("this job manager leads") && !log.contains("panicked"),
        "{log}"
    );
}

/// A small disk; unmounted when it is dropped.
struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    /// `None` where this process may not mount.
    fn mount(path: PathBuf) -> Option<Self> {
        std::fs::create_dir_all(&path).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"])
            .arg(&path)
            .output()
            .is_ok_and(|output| output.status.success());
        mounted.then_some(Self { path })
    }

    fn fill(&self) -> PathBuf {
        let ballast = self.path.join("ballast");
        let mut file = std::fs::File::create(&ballast).unwrap();
        let block = [0u8; 4096];
        while std::io::Write::write_all(&mut file, &block).is_ok() {}
        ballast
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        Command::new("umount")
            .arg("-l")
            .arg(&self.path)
            .output()
            .ok();
    }
}

#[test]
fn a_full_disk_fails_checkpoints_and_not_the_job() {
    let cluster = small_cluster();
    let Some(disk) = SmallDisk::mount(cluster.dir.path().join("disk")) else {
        println!("skipped: mounting a small file system needs root");
        return;
    };
    let script = with_checkpoints(&disk.path.join("checkpoints"), COUNTING);
    let job = cluster.submit(&script, &[]).unwrap();
    cluster.wait_for_checkpoint_after_now(&job, WAIT).unwrap();
    let ballast = disk.fill();
    let status = eventually("the status shows failed checkpoints", WAIT, || {
        let status = cluster.status(&job).ok()?;
        (status["failed_checkpoints"].as_u64()? >= 2).then_some(status)
    })
    .unwrap();
    let reason = status["last_checkpoint_failure"].as_str().unwrap();
    assert!(reason.contains("no space left on device"), "{reason}");
    assert!(reason.contains("checkpoints"), "no path in: {reason}");
    assert_eq!(status["state"], "RUNNING", "{status}");
    assert_eq!(status["restarts"], 0, "{status}");
    let text = cluster.call("status", &[&job]).unwrap();
    assert!(text.contains("no space left on device"), "{text}");
    std::fs::remove_file(ballast).unwrap();
    cluster.wait_for_checkpoint_after_now(&job, WAIT).unwrap();
    assert!(!cluster.logs_contain("panicked"));
    cluster.call("cancel", &[&job]).unwrap();
}
