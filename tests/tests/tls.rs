//! Mutual TLS on every link: with certificates everything works, without or with a stranger's nothing does.

use std::path::Path;
use std::time::Duration;

use weir_tests::cluster::{Cluster, ClusterOptions};
use weir_tests::eventually::eventually;
use weir_tests::process::{Process, weir};
use weir_tests::said::{Said, said};
use weir_tests::tls::{settings, write_certificates};

const WAIT: Duration = Duration::from_secs(60);

/// A job that exchanges rows between task managers.
const SCRIPT: &str = "CREATE TABLE t (a INT) WITH ('connector' = 'datagen', 'number-of-rows' = '1000', 'fields.a.min' = '1', 'fields.a.max' = '5');
    CREATE TABLE o (a INT, n BIGINT, PRIMARY KEY (a) NOT ENFORCED) WITH ('connector' = 'blackhole');
    INSERT INTO o SELECT a, COUNT(*) FROM t GROUP BY a;";

fn list(address: &str, certificates: Option<&Path>) -> Said {
    let mut command = weir();
    if let Some(folder) = certificates {
        for (key, value) in settings(folder) {
            command.arg("--conf").arg(format!("{key}={value}"));
        }
    }
    said(command.args(["list", "--jobmanager", address]))
}

#[test]
fn only_processes_with_certificates_of_the_authority_take_part() {
    let folder = tempfile::tempdir().unwrap();
    let (own, strange) = (folder.path().join("own"), folder.path().join("strange"));
    write_certificates(&own).unwrap();
    write_certificates(&strange).unwrap();
    let options = ClusterOptions {
        job_managers: 1,
        task_managers: 2,
        slots: 1,
        tls: Some(own.clone()),
        ..ClusterOptions::default()
    };
    let cluster = Cluster::start(options).unwrap();
    let job = cluster.submit(SCRIPT, &["--parallelism", "2"]).unwrap();
    cluster.wait_for_state(&job, "FINISHED", WAIT).unwrap();

    let address = &cluster.addresses[0];
    list(address, Some(&own)).fine();
    list(address, None).refuses(&["error"]);
    list(address, Some(&strange)).refuses(&["error"]);
    // Its own certificate, but the server's authority is not known to it.
    list(address, Some(&folder.path().join("nothing"))).refuses(&["nothing/ca.pem"]);

    let mut plain = weir();
    plain.arg("taskmanager");
    let data = folder.path().join("data").display().to_string();
    for conf in [
        format!("taskmanager.data_dir={data}"),
        format!("taskmanager.jobmanagers=[\"{address}\"]"),
    ] {
        plain.arg("--conf").arg(conf);
    }
    let stranger = Process::start(&mut plain, &folder.path().join("log")).unwrap();
    eventually(
        "a task manager without certificates is left alone",
        WAIT,
        || {
            stranger
                .log_text()
                .contains("no leading job manager found")
                .then_some(())
        },
    )
    .unwrap();
    let registered = cluster.job_managers[0]
        .as_ref()
        .unwrap()
        .log_text()
        .matches("task manager registered")
        .count();
    assert_eq!(registered, 2);
    assert!(!cluster.logs_contain("panicked"));
}
