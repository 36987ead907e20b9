//! Job managers over real sockets and logs, with task managers that run nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod fake_task_manager;
mod tls;

use std::future::Future;
use std::path::Path;
use std::time::{Duration, Instant};

use fake_task_manager::FakeTaskManager;
use tonic::Code;
use tonic::transport::Channel;
use weir_common::config::Config;
use weir_jobmanager::{JobManager, JobManagerHandle, LEADER_KEY};
use weir_proto::transport::connect;
use weir_proto::v1;
use weir_proto::v1::job_manager_control_client::JobManagerControlClient;
use weir_proto::v1::job_service_client::JobServiceClient;
use weir_proto::v1::raft_transport_client::RaftTransportClient;

const PATIENCE: Duration = Duration::from_secs(30);

fn config(folder: &Path, id: u64, peers: &[String]) -> Config {
    let mut config = Config {
        cluster_id: "test".to_owned(),
        ..Config::default()
    };
    config.jobmanager.id = id;
    config.jobmanager.data_dir = folder.join(format!("jm-{id}"));
    config.jobmanager.peers = peers.to_vec();
    config.jobmanager.bind = match peers.get(id as usize - 1) {
        Some(own) => own.parse().unwrap(),
        None => "127.0.0.1:0".parse().unwrap(),
    };
    config.jobmanager.heartbeat_timeout_ms = 500;
    config
}

/// Free ports; nothing else takes them in the moment until they are bound.
fn addresses(count: usize) -> Vec<String> {
    let sockets: Vec<_> = (0..count)
        .map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap())
        .collect();
    sockets
        .iter()
        .map(|socket| socket.local_addr().unwrap().to_string())
        .collect()
}

fn jobs(address: &str) -> JobServiceClient<Channel> {
    JobServiceClient::new(connect(address, None).unwrap())
}

/// Asks until there is an answer.
async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn graph(checkpoints: &Path, interval_ms: u64) -> v1::JobGraph {
    let vertex = |id: u32, kind: v1::operator::Kind| v1::Vertex {
        id,
        name: format!("vertex {id}"),
        parallelism: 2,
        chain: vec![v1::Operator {
            uid: format!("uid-{id}"),
            name: format!("operator {id}"),
            kind: Some(kind),
            ..Default::default()
        }],
        fixed_parallelism: false,
    };
    v1::JobGraph {
        format_version: 1,
        name: "test".to_owned(),
        max_parallelism: 128,
        vertices: vec![
            vertex(1, v1::operator::Kind::Source(v1::Source::default())),
            vertex(2, v1::operator::Kind::Sink(v1::Sink::default())),
        ],
        edges: vec![v1::Edge {
            id: 1,
            source_vertex: 1,
            target_vertex: 2,
            partitioning: v1::Partitioning::Rebalance.into(),
            ..Default::default()
        }],
        checkpoint: Some(v1::CheckpointConfig {
            interval_ms,
            timeout_ms: 5000,
            directory: checkpoints.display().to_string(),
            savepoint_directory: checkpoints.join("savepoints").display().to_string(),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn submission(request_id: &str, graph: v1::JobGraph) -> v1::SubmitJobRequest {
    v1::SubmitJobRequest {
        request_id: request_id.to_owned(),
        program: Some(v1::submit_job_request::Program::Graph(graph)),
        ..Default::default()
    }
}

async fn submit(address: &str, request: &v1::SubmitJobRequest) -> String {
    let ids = eventually("a leader that takes the job", || async {
        jobs(address).submit_job(request.clone()).await.ok()
    })
    .await
    .into_inner()
    .job_ids;
    assert_eq!(ids.len(), 1);
    ids[0].clone()
}

async fn job(address: &str, job_id: &str) -> Option<v1::GetJobResponse> {
    let request = v1::GetJobRequest {
        job_id: job_id.to_owned(),
    };
    let answer = jobs(address).get_job(request).await.ok()?;
    Some(answer.into_inner())
}

/// The job, once it is in this state with at least so many checkpoints.
async fn in_state(
    address: &str,
    job_id: &str,
    state: v1::JobState,
    checkpoints: usize,
) -> v1::GetJobResponse {
    eventually(state.as_str_name(), || async {
        let found = job(address, job_id).await?;
        let there = found.job.as_ref()?.state() == state && found.checkpoints.len() >= checkpoints;
        there.then_some(found)
    })
    .await
}

struct Single {
    folder: tempfile::TempDir,
    handle: JobManagerHandle,
    address: String,
}

async fn single() -> Single {
    let folder = tempfile::tempdir().unwrap();
    let handle = JobManager::start(config(folder.path(), 1, &[]))
        .await
        .unwrap();
    assert!(handle.wait_for_leader(PATIENCE).await);
    let address = handle.address().to_string();
    Single {
        folder,
        handle,
        address,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_lives_through_a_lost_task_manager_and_a_corrupt_checkpoint() {
    let cluster = single().await;
    let job_managers = [cluster.address.clone()];
    let first = FakeTaskManager::start("tm-1", &job_managers).await;
    let checkpoints = cluster.folder.path().join("checkpoints");
    let request = submission("r1", graph(&checkpoints, 50));
    let job_id = submit(&cluster.address, &request).await;
    assert_eq!(submit(&cluster.address, &request).await, job_id);
    let before = in_state(&cluster.address, &job_id, v1::JobState::Running, 3).await;
    assert_eq!(before.job.unwrap().attempt, 1);
    assert_eq!(before.subtasks.len(), 4);

    // Its process dies; the newest checkpoint is damaged meanwhile.
    first.kill();
    let newest = eventually("the failure", || async {
        let found = job(&cluster.address, &job_id).await?;
        let summary = found.job?;
        (summary.restarts > 0).then_some(found.checkpoints.last()?.clone())
    })
    .await;
    let manifest = Path::new(newest.path.trim_start_matches("file://")).join("_metadata");
    std::fs::write(&manifest, b"garbage").unwrap();
    let second = FakeTaskManager::start("tm-2", &job_managers).await;
    let after = in_state(&cluster.address, &job_id, v1::JobState::Running, 1).await;
    let summary = after.job.unwrap();
    // Its lease may have outlived it: then an attempt more was needed.
    assert_eq!(summary.attempt, u64::from(summary.restarts) + 1);
    assert_eq!(second.seen.lock().restored, [newest.checkpoint_id - 1]);
    assert!(
        after
            .checkpoints
            .iter()
            .all(|c| c.checkpoint_id != newest.checkpoint_id)
    );

    // The dead one comes back and is refused.
    let fence = first.seen.lock().fence.clone();
    let zombie = v1::AcknowledgeCheckpointRequest {
        fence: Some(fence.clone()),
        task_manager_id: "tm-1".to_owned(),
        subtasks: vec![v1::SubtaskAcknowledgement {
            checkpoint_id: newest.checkpoint_id,
            subtask: Some(v1::SubtaskId {
                vertex: 1,
                index: 0,
            }),
            ..Default::default()
        }],
    };
    let mut control = JobManagerControlClient::new(connect(&cluster.address, None).unwrap());
    let refusal = control
        .acknowledge_checkpoint(zombie.clone())
        .await
        .unwrap_err();
    assert_eq!(refusal.code(), Code::FailedPrecondition, "{refusal}");
    // Also when a registered one speaks for the old attempt.
    let old_attempt = v1::AcknowledgeCheckpointRequest {
        task_manager_id: "tm-2".to_owned(),
        ..zombie
    };
    let refusal = control
        .acknowledge_checkpoint(old_attempt)
        .await
        .unwrap_err();
    assert!(refusal.message().contains("is over"), "{refusal}");

    let cancel = v1::CancelJobRequest {
        job_id: job_id.clone(),
    };
    jobs(&cluster.address).cancel_job(cancel).await.unwrap();
    in_state(&cluster.address, &job_id, v1::JobState::Canceled, 0).await;
    eventually("the checkpoints to be deleted", || async {
        let left = walk(&checkpoints.join(&job_id));
        (left == 0).then_some(())
    })
    .await;
    cluster.handle.shutdown().await;
}

/// Manifests below a folder.
fn walk(folder: &Path) -> usize {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return 0;
    };
    entries
        .filter_map(Result::ok)
        .map(|entry| {
            if entry.path().is_dir() {
                walk(&entry.path())
            } else {
                usize::from(entry.file_name() == "_metadata")
            }
        })
        .sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_goes_restarts_no_job() {
    let folder = tempfile::tempdir().unwrap();
    let peers = addresses(3);
    let mut managers = Vec::new();
    for id in 1..=3 {
        managers.push(
            JobManager::start(config(folder.path(), id, &peers))
                .await
                .unwrap(),
        );
    }
    let leader = eventually("a leader", || async {
        managers.iter().position(JobManagerHandle::is_leader)
    })
    .await;
    let task_managers = [
        FakeTaskManager::start("tm-1", &peers).await,
        FakeTaskManager::start("tm-2", &peers).await,
    ];
    eventually("both task managers", || async {
        let cluster = jobs(&peers[leader])
            .get_cluster(v1::GetClusterRequest {})
            .await;
        (cluster.ok()?.into_inner().task_managers.len() == 2).then_some(())
    })
    .await;
    let checkpoints = folder.path().join("checkpoints");
    let job_id = submit(&peers[leader], &submission("r", graph(&checkpoints, 50))).await;
    let before = in_state(&peers[leader], &job_id, v1::JobState::Running, 2).await;

    // A follower names the leader.
    let follower = (leader + 1) % 3;
    let refusal = jobs(&peers[follower])
        .list_jobs(v1::ListJobsRequest {})
        .await
        .unwrap_err();
    assert_eq!(refusal.code(), Code::Unavailable);
    let named = refusal
        .metadata()
        .get(LEADER_KEY)
        .unwrap()
        .to_str()
        .unwrap();
    assert_eq!(named, peers[leader]);

    managers.remove(leader).shutdown().await;
    let successor = eventually("another leader", || async {
        managers.iter().find(|manager| manager.is_leader())
    })
    .await;
    let address = successor.advertised().to_owned();
    let newest = before.checkpoints.last().unwrap().checkpoint_id;
    let after = eventually("a checkpoint under the new leader", || async {
        let found = job(&address, &job_id).await?;
        (found.checkpoints.last()?.checkpoint_id > newest + 3).then_some(found)
    })
    .await;
    let summary = after.job.unwrap();
    assert_eq!((summary.attempt, summary.restarts), (1, 0));
    for task_manager in &task_managers {
        let seen = task_manager.seen.lock();
        assert_eq!(
            seen.restored,
            [0],
            "{} at {}",
            task_manager.id,
            task_manager.address
        );
        assert!(seen.committed.windows(2).all(|pair| pair[0] <= pair[1]));
    }
    // The submission is known to the new leader, too.
    let again = submit(&address, &submission("r", graph(&checkpoints, 50))).await;
    assert_eq!(again, job_id);
    for manager in managers {
        manager.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_stops_at_a_savepoint_and_another_starts_from_it() {
    let cluster = single().await;
    let task_manager = FakeTaskManager::start("tm-1", std::slice::from_ref(&cluster.address)).await;
    let checkpoints = cluster.folder.path().join("checkpoints");
    let job_id = submit(&cluster.address, &submission("r", graph(&checkpoints, 0))).await;
    in_state(&cluster.address, &job_id, v1::JobState::Running, 0).await;
    let savepoint = v1::TriggerSavepointRequest {
        job_id: job_id.clone(),
        ..Default::default()
    };
    let taken = jobs(&cluster.address)
        .trigger_savepoint(savepoint)
        .await
        .unwrap();
    let stop = v1::StopJobRequest {
        job_id: job_id.clone(),
        request_id: "stop".to_owned(),
        ..Default::default()
    };
    let stopped = jobs(&cluster.address).stop_job(stop.clone()).await.unwrap();
    let path = stopped.into_inner().savepoint_path;
    assert_ne!(path, taken.into_inner().path);
    in_state(&cluster.address, &job_id, v1::JobState::Finished, 2).await;
    let again = jobs(&cluster.address).stop_job(stop).await.unwrap();
    assert_eq!(again.into_inner().savepoint_path, path);
    assert_eq!(task_manager.seen.lock().committed, [1, 2]);

    let mut from = submission("r2", graph(&checkpoints, 0));
    from.from_savepoint.clone_from(&path);
    from.parallelism = 1;
    let next = submit(&cluster.address, &from).await;
    let running = in_state(&cluster.address, &next, v1::JobState::Running, 0).await;
    assert_eq!(running.subtasks.len(), 2);
    assert_eq!(task_manager.seen.lock().restored, [0, 2]);

    let mut other = graph(&checkpoints, 0);
    other.vertices[1].chain[0].uid = "another".to_owned();
    let mut misfit = submission("r3", other);
    misfit.from_savepoint.clone_from(&path);
    let refusal = jobs(&cluster.address)
        .submit_job(misfit.clone())
        .await
        .unwrap_err();
    assert!(refusal.message().contains("'operator 2'"), "{refusal}");
    misfit.from_savepoint = "/does/not/exist".to_owned();
    let refusal = jobs(&cluster.address).submit_job(misfit).await.unwrap_err();
    assert_eq!(refusal.code(), Code::InvalidArgument, "{refusal}");
    cluster.handle.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_moves_off_a_task_manager_that_drains() {
    let cluster = single().await;
    let job_managers = std::slice::from_ref(&cluster.address);
    let leaving = FakeTaskManager::start("tm-1", job_managers).await;
    let staying = FakeTaskManager::start("tm-2", job_managers).await;
    let checkpoints = cluster.folder.path().join("checkpoints");
    eventually("both task managers", || async {
        let mut client = jobs(&cluster.address);
        let answer = client.get_cluster(v1::GetClusterRequest {}).await.ok()?;
        let managers = answer.into_inner().task_managers;
        (managers.len() == 2).then_some(())
    })
    .await;
    let job_id = submit(&cluster.address, &submission("r", graph(&checkpoints, 0))).await;
    in_state(&cluster.address, &job_id, v1::JobState::Running, 0).await;
    assert_eq!(leaving.seen.lock().running.len(), 1);
    leaving.seen.lock().draining = true;
    eventually("that it may go", || async {
        leaving.seen.lock().answer.drained.then_some(())
    })
    .await;
    let moved = in_state(&cluster.address, &job_id, v1::JobState::Running, 1).await;
    let summary = moved.job.unwrap();
    assert_eq!((summary.attempt, summary.restarts), (2, 0));
    assert!(leaving.seen.lock().running.is_empty());
    assert_eq!(staying.seen.lock().restored, [0, 1]);
    // Nobody is left to go to.
    staying.seen.lock().draining = true;
    let why = eventually("that it cannot move", || async {
        let why = staying.seen.lock().answer.cannot_drain.clone();
        (!why.is_empty()).then_some(why)
    })
    .await;
    let expected = "needs 2 slots, 0 are there on task managers that stay";
    assert_eq!(why, format!("job {job_id} {expected}"));
    cluster.handle.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_the_log_survives_a_restart_of_the_process() {
    let cluster = single().await;
    let checkpoints = cluster.folder.path().join("checkpoints");
    let job_id = submit(&cluster.address, &submission("r", graph(&checkpoints, 50))).await;
    let waiting = eventually("the reason", || async {
        let summary = job(&cluster.address, &job_id).await?.job?;
        (!summary.error.is_empty()).then_some(summary.error)
    })
    .await;
    assert_eq!(waiting, "the job needs 2 slots, 0 are free");
    cluster.handle.shutdown().await;

    let mut again = config(cluster.folder.path(), 1, &[]);
    let handle = JobManager::start(again.clone()).await.unwrap();
    let address = handle.address().to_string();
    let _task_manager = FakeTaskManager::start("tm-1", std::slice::from_ref(&address)).await;
    in_state(&address, &job_id, v1::JobState::Running, 1).await;
    handle.shutdown().await;

    again.cluster_id = "other".to_owned();
    let error = JobManager::start(again).await.err().unwrap().to_string();
    assert!(
        error.contains("belongs to cluster 'test', this process is configured for 'other'"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_of_another_cluster_are_refused() {
    let cluster = single().await;
    let step = v1::RaftStepRequest {
        cluster_id: "other".to_owned(),
        from: 1,
        to: 1,
        ..Default::default()
    };
    let mut raft = RaftTransportClient::new(connect(&cluster.address, None).unwrap());
    let refusal = raft.step(step).await.unwrap_err();
    assert_eq!(refusal.code(), Code::FailedPrecondition);
    let register = v1::RegisterTaskManagerRequest {
        cluster_id: "other".to_owned(),
        task_manager_id: "tm".to_owned(),
        address: "127.0.0.1:1".to_owned(),
        slots: 1,
        ..Default::default()
    };
    let mut control = JobManagerControlClient::new(connect(&cluster.address, None).unwrap());
    let refusal = control.register_task_manager(register).await.unwrap_err();
    assert!(
        refusal.message().contains("'other'") && refusal.message().contains("'test'"),
        "{refusal}"
    );
    cluster.handle.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_submissions_are_refused_with_the_reason() {
    let cluster = single().await;
    let checkpoints = cluster.folder.path().join("checkpoints");
    let mut hostile = graph(&checkpoints, 0);
    hostile.edges[0].target_vertex = 99;
    let mut script = submission("r2", v1::JobGraph::default());
    let sql = "SELEC 1".to_owned();
    script.program = Some(v1::submit_job_request::Program::SqlScript(sql));
    for request in [
        submission("r1", hostile),
        script,
        v1::SubmitJobRequest::default(),
    ] {
        let refusal = jobs(&cluster.address)
            .submit_job(request)
            .await
            .unwrap_err();
        assert_eq!(refusal.code(), Code::InvalidArgument, "{refusal}");
    }
    let listed = jobs(&cluster.address)
        .list_jobs(v1::ListJobsRequest {})
        .await
        .unwrap();
    assert!(listed.into_inner().jobs.is_empty());
    cluster.handle.shutdown().await;
}
