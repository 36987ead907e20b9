//! What a cluster shows of itself: Prometheus' pages, probes, gRPC's health and reflection.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use weir_common::metric_names as names;
use weir_proto::transport::connect;
use weir_tests::cluster::{Cluster, ClusterOptions, free_port};
use weir_tests::eventually::eventually;

const WAIT: Duration = Duration::from_secs(60);

const SCRIPT: &str = "CREATE TABLE t (a INT, ts AS LOCALTIMESTAMP, WATERMARK FOR ts AS ts)
      WITH ('connector' = 'datagen', 'rows-per-second' = '200', 'fields.a.min' = '1', 'fields.a.max' = '5');
    CREATE TABLE o (a INT, n BIGINT, PRIMARY KEY (a) NOT ENFORCED) WITH ('connector' = 'blackhole');
    INSERT INTO o SELECT a, COUNT(*) FROM t GROUP BY a;";

/// GET; status line and body.
fn get(address: &str, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_owned(), body.to_owned())
}

/// Values of all series of a metric.
fn values(page: &str, name: &str) -> Vec<f64> {
    page.lines()
        .filter(|line| {
            line.strip_prefix(name)
                .is_some_and(|rest| rest.starts_with(['{', ' ', '_']))
        })
        .filter_map(|line| line.rsplit(' ').next()?.parse().ok())
        .collect()
}

fn assert_has(page: &str, metrics: &[&str], positive: &[&str]) {
    for name in metrics {
        assert!(!values(page, name).is_empty(), "{name} is not in:\n{page}");
    }
    for name in positive {
        assert!(
            values(page, name).iter().any(|value| *value > 0.0),
            "{name} is 0 in:\n{page}"
        );
    }
}

#[test]
fn the_pages_have_the_documented_metrics() {
    let (managers, workers) = (
        format!("127.0.0.1:{}", free_port()),
        format!("127.0.0.1:{}", free_port()),
    );
    let conf = |address: &str| vec![("metrics_address".to_owned(), format!("\"{address}\""))];
    let options = ClusterOptions {
        job_managers: 1,
        task_managers: 1,
        slots: 2,
        job_manager_conf: conf(&managers),
        task_manager_conf: conf(&workers),
        ..ClusterOptions::default()
    };
    let cluster = Cluster::start(options).unwrap();
    for address in [&managers, &workers] {
        let (status, body) = get(address, "/healthz");
        assert!(status.contains("200"), "{status}");
        assert_eq!(body.trim(), "ok");
    }
    let checkpoints = cluster.dir.path().join("checkpoints");
    let script = format!(
        "SET 'execution.checkpointing.interval' = '300 ms'; SET 'execution.checkpointing.dir' = 'file://{}'; {SCRIPT}",
        checkpoints.display()
    );
    let job = cluster.submit(&script, &["--parallelism", "2"]).unwrap();
    cluster.wait_for_checkpoint_after_now(&job, WAIT).unwrap();
    cluster.wait_for_checkpoint_after_now(&job, WAIT).unwrap();

    let (status, page) = get(&managers, "/metrics");
    assert!(status.contains("200"), "{status}");
    let positive = [
        names::CHECKPOINT_DURATION,
        names::CHECKPOINT_SIZE,
        names::CHECKPOINTS_COMPLETED,
        names::JOBS,
        names::TASK_MANAGERS,
        names::RAFT_LEADER,
        names::RAFT_TERM,
        names::RPC_LATENCY,
    ];
    assert_has(
        &page,
        &[
            names::CHECKPOINT_UPLOADED,
            names::CHECKPOINTS_FAILED,
            names::JOB_RESTARTS,
        ],
        &positive,
    );
    assert!(page.contains(&job), "no label of the job in:\n{page}");

    let (status, page) = get(&workers, "/metrics");
    assert!(status.contains("200"), "{status}");
    let positive = [
        names::RECORDS_IN,
        names::RECORDS_OUT,
        names::BYTES_IN,
        names::BYTES_OUT,
        names::BUSY,
        names::IDLE,
        names::STATE_BYTES,
        names::RPC_LATENCY,
    ];
    assert_has(
        &page,
        &[names::BACKPRESSURED, names::WATERMARK_LAG],
        &positive,
    );

    // A restart counts.
    let mut cluster = cluster;
    cluster.kill_task_manager(0);
    cluster.start_task_manager(0).unwrap();
    eventually("the restart is counted", WAIT, || {
        values(&get(&managers, "/metrics").1, names::JOB_RESTARTS)
            .iter()
            .any(|count| *count >= 1.0)
            .then_some(())
    })
    .unwrap();
    cluster.call("cancel", &[&job]).unwrap();
}

#[tokio::test]
async fn the_ports_answer_health_checks_and_describe_their_services() {
    let options = ClusterOptions {
        job_managers: 1,
        task_managers: 1,
        slots: 1,
        ..ClusterOptions::default()
    };
    let cluster = tokio::task::spawn_blocking(move || Cluster::start(options).unwrap())
        .await
        .unwrap();
    let channel = connect(&cluster.addresses[0], None).unwrap();
    let mut health = HealthClient::new(channel.clone());
    let answer = health
        .check(HealthCheckRequest {
            service: String::new(),
        })
        .await
        .unwrap();
    assert_eq!(answer.into_inner().status(), ServingStatus::Serving);

    let services = reflect(channel.clone(), MessageRequest::ListServices(String::new())).await;
    let MessageResponse::ListServicesResponse(services) = services else {
        panic!("not a list: {services:?}");
    };
    let found: Vec<_> = services
        .service
        .iter()
        .map(|service| service.name.as_str())
        .collect();
    for name in [
        "weir.v1.JobService",
        "weir.v1.JobManagerControl",
        "grpc.health.v1.Health",
    ] {
        assert!(found.contains(&name), "no {name} in {found:?}");
    }
    let symbol = MessageRequest::FileContainingSymbol("weir.v1.JobService.SubmitJob".to_owned());
    let file = reflect(channel, symbol).await;
    assert!(
        matches!(file, MessageResponse::FileDescriptorResponse(_)),
        "{file:?}"
    );
    tokio::task::spawn_blocking(move || drop(cluster))
        .await
        .unwrap();
}

async fn reflect(channel: tonic::transport::Channel, question: MessageRequest) -> MessageResponse {
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(question),
    };
    let mut client = ServerReflectionClient::new(channel);
    let answers = client
        .server_reflection_info(futures::stream::iter([request]))
        .await
        .unwrap();
    let answer = answers.into_inner().message().await.unwrap().unwrap();
    answer.message_response.unwrap()
}
