//! Whole jobs on task managers of this process, driven as a job manager would: source → exchange → GROUP BY → exactly-once sink.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::sync::atomic::Ordering;

use tonic::Code;
use weir_proto::v1;
use weir_proto::v1::{SnapshotKind, SubtaskState};

use support::cluster::{Cluster, expected, failures};
use support::master::{Heard, Master, fence, until};
use support::world::SPLITS;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_is_restored_at_another_parallelism_and_every_row_counts_once() {
    let cluster = Cluster::start(2).await;
    cluster.allow(500, 1000);
    cluster.deploy(1, (2, 2), None).await;
    cluster.master.all_report(1, SubtaskState::Running, 4).await;
    cluster.read(500 * SPLITS).await;
    cluster.trigger(1, 1, None, false).await;
    let first = cluster
        .master
        .manifest(1, 4, SnapshotKind::Checkpoint)
        .await;
    cluster.complete(1, 1).await;
    assert_eq!(cluster.world.counts(), expected(500));
    // What is read behind the checkpoint is never committed, and read again.
    cluster.allow(700, 1000);
    cluster.read(700 * SPLITS).await;
    for worker in &cluster.workers {
        worker.cancel(fence(1, 1)).await.unwrap();
    }
    let restore = v1::RestoreFrom {
        base: cluster.url("checkpoints"),
        manifest: Some(first),
    };
    cluster.allow(1000, 1000);
    cluster.deploy(2, (4, 3), Some(restore)).await;
    cluster
        .master
        .all_report(2, SubtaskState::EndOfData, 7)
        .await;
    assert_eq!(cluster.world.counts(), expected(500));
    cluster.trigger(2, 2, None, true).await;
    cluster
        .master
        .manifest(2, 7, SnapshotKind::Checkpoint)
        .await;
    cluster.complete(2, 2).await;
    for worker in &cluster.workers {
        worker.finish(fence(2, 1)).await.unwrap();
    }
    assert_eq!(cluster.world.counts(), expected(1000));
    let failed = failures(&cluster, 2);
    assert!(failed.is_empty(), "{failed:?}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_savepoint_can_stop_the_sources_and_is_restored_from_its_own_folder() {
    let cluster = Cluster::start(1).await;
    cluster.allow(300, 1000);
    cluster.deploy(1, (2, 2), None).await;
    cluster.master.all_report(1, SubtaskState::Running, 4).await;
    cluster.read(300 * SPLITS).await;
    let target = cluster.url("savepoint-1");
    cluster.trigger(1, 1, Some(&target), true).await;
    let savepoint = cluster.master.manifest(1, 4, SnapshotKind::Savepoint).await;
    cluster
        .master
        .all_report(1, SubtaskState::EndOfData, 4)
        .await;
    // Nothing is read any more, whatever there is.
    cluster.allow(1000, 1000);
    cluster.complete(1, 1).await;
    cluster.workers[0].finish(fence(1, 1)).await.unwrap();
    assert_eq!(cluster.world.counts(), expected(300));
    let restore = v1::RestoreFrom {
        base: target,
        manifest: Some(savepoint),
    };
    cluster.deploy(2, (1, 1), Some(restore)).await;
    cluster
        .master
        .all_report(2, SubtaskState::EndOfData, 2)
        .await;
    cluster.trigger(2, 2, None, true).await;
    cluster
        .master
        .manifest(2, 2, SnapshotKind::Checkpoint)
        .await;
    cluster.complete(2, 2).await;
    assert_eq!(cluster.world.counts(), expected(1000));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn older_attempts_and_terms_are_refused() {
    let cluster = Cluster::start(1).await;
    let worker = &cluster.workers[0];
    cluster.allow(10, 1000);
    cluster.deploy(2, (1, 1), None).await;
    cluster.master.all_report(2, SubtaskState::Running, 2).await;
    let refused = |result: Result<(), tonic::Status>| {
        let status = result.unwrap_err();
        assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
        assert!(status.message().contains("refused"), "{status}");
    };
    refused(worker.trigger(fence(1, 1), 7, None, false).await);
    refused(worker.trigger(fence(2, 0), 7, None, false).await);
    refused(worker.notify(fence(1, 1), 7, true).await);
    refused(worker.cancel(fence(1, 1)).await);
    refused(worker.finish(fence(1, 1)).await);
    let mut foreign = fence(2, 1);
    foreign.cluster_id = "other".to_owned();
    refused(worker.trigger(foreign, 7, None, false).await);
    // The attempt that counts goes on, and a newer term is obeyed from then on.
    worker.trigger(fence(2, 5), 8, None, false).await.unwrap();
    refused(worker.trigger(fence(2, 4), 9, None, false).await);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stale_attempt_is_torn_down_and_its_checkpoints_end() {
    let cluster = Cluster::start(1).await;
    cluster.allow(10, 1000);
    cluster.deploy(1, (1, 1), None).await;
    let attempts =
        |heard: &mut Heard| -> usize { heard.heartbeats.values().map(|h| h.running.len()).sum() };
    until("a heartbeat with the attempt", || {
        (cluster.master.heard(attempts) == 1).then_some(())
    })
    .await;
    cluster.master.heard(|heard| {
        heard.stale.push(v1::RunningAttempt {
            job_id: support::master::JOB.to_owned(),
            attempt: 1,
            subtasks: Vec::new(),
        });
    });
    until("nothing running", || {
        (cluster.master.heard(attempts) == 0).then_some(())
    })
    .await;
    let gone = cluster.workers[0]
        .trigger(fence(1, 1), 1, None, false)
        .await;
    assert_eq!(gone.unwrap_err().code(), Code::NotFound);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_name_their_cause_and_say_whether_a_restart_helps() {
    let cluster = Cluster::start(2).await;
    let failure = async |attempt: u64| {
        cluster
            .master
            .all_report(attempt, SubtaskState::Failed, 1)
            .await;
        failures(&cluster, attempt)
    };
    cluster.allow(100, 100);
    cluster.world.poison.store(50, Ordering::SeqCst);
    cluster.deploy(1, (2, 2), None).await;
    let errors = failure(1).await;
    assert!(
        errors[0].0.contains("a poisoned row") && errors[0].1,
        "{errors:?}"
    );
    cluster.world.poison.store(-1, Ordering::SeqCst);
    cluster.world.panic_at.store(50, Ordering::SeqCst);
    cluster.deploy(2, (2, 2), None).await;
    let errors = failure(2).await;
    assert!(
        errors[0].0.contains("panic as asked for") && !errors[0].1,
        "{errors:?}"
    );
    // The process has survived: the next attempt runs.
    cluster.world.panic_at.store(-1, Ordering::SeqCst);
    cluster.deploy(3, (2, 2), None).await;
    cluster
        .master
        .all_report(3, SubtaskState::EndOfData, 4)
        .await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_loss_of_a_task_manager_fails_the_subtasks_that_are_joined_to_it() {
    let mut cluster = Cluster::start(2).await;
    cluster.allow(10, 1000);
    cluster.deploy(1, (2, 2), None).await;
    cluster.master.all_report(1, SubtaskState::Running, 4).await;
    let lost = cluster.handles.pop().unwrap();
    lost.shutdown().await;
    cluster.workers.pop();
    cluster.master.all_report(1, SubtaskState::Failed, 2).await;
    let errors = failures(&cluster, 1);
    assert!(
        errors
            .iter()
            .all(|(error, fatal)| error.contains("exchange") && !fatal),
        "{errors:?}"
    );
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_leader_is_found_and_the_job_does_not_notice() {
    let cluster = Cluster::start(1).await;
    cluster.allow(100, 1000);
    cluster.deploy(1, (2, 2), None).await;
    cluster.master.all_report(1, SubtaskState::Running, 4).await;
    let (next, address) = Master::start().await;
    next.heard(|heard| heard.term = 2);
    cluster
        .master
        .heard(|heard| heard.follows = Some(address.clone()));
    let registered = until("a registration with the new leader", || {
        next.heard(|heard| heard.registrations.first().cloned())
    })
    .await;
    assert_eq!(registered.running.len(), 1);
    assert_eq!(registered.running[0].subtasks.len(), 4);
    // The new leader coordinates the next checkpoint, the deposed one none.
    let worker = &cluster.workers[0];
    worker.trigger(fence(1, 2), 5, None, false).await.unwrap();
    let old = worker.trigger(fence(1, 1), 6, None, false).await;
    assert_eq!(old.unwrap_err().code(), Code::FailedPrecondition);
    next.manifest(5, 4, SnapshotKind::Checkpoint).await;
    let terms = next.heard(|heard| heard.acknowledged_terms.clone());
    assert_eq!(terms, [2; 4]);
    assert!(failures(&cluster, 1).is_empty());
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_given_up_checkpoint_holds_nothing_up() {
    let cluster = Cluster::start(2).await;
    cluster.allow(100, 1000);
    cluster.deploy(1, (2, 2), None).await;
    cluster.master.all_report(1, SubtaskState::Running, 4).await;
    // The barrier comes from one of two sources only: both aggregations wait for the other.
    let first = &cluster.workers[0];
    first.trigger(fence(1, 1), 1, None, false).await.unwrap();
    until("the source's acknowledgement", || {
        let count = cluster.master.heard(|heard| heard.acknowledgements.len());
        (count == 1).then_some(())
    })
    .await;
    for worker in &cluster.workers {
        worker.notify(fence(1, 1), 1, false).await.unwrap();
    }
    cluster.allow(1000, 1000);
    cluster
        .master
        .all_report(1, SubtaskState::EndOfData, 4)
        .await;
    cluster.trigger(1, 2, None, true).await;
    cluster
        .master
        .manifest(2, 4, SnapshotKind::Checkpoint)
        .await;
    cluster.complete(1, 2).await;
    assert_eq!(cluster.world.counts(), expected(1000));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_barrier_that_overtakes_another_declines_the_older_checkpoint() {
    let cluster = Cluster::start(2).await;
    cluster.allow(100, 1000);
    cluster.deploy(1, (2, 2), None).await;
    cluster.master.all_report(1, SubtaskState::Running, 4).await;
    let (first, second) = (&cluster.workers[0], &cluster.workers[1]);
    first.trigger(fence(1, 1), 1, None, false).await.unwrap();
    second.trigger(fence(1, 1), 2, None, false).await.unwrap();
    until("both aggregations decline", || {
        let declined = cluster.master.heard(|heard| heard.declines.len());
        (declined == 2).then_some(())
    })
    .await;
    first.trigger(fence(1, 1), 2, None, false).await.unwrap();
    until("all acknowledge the newer one", || {
        cluster.master.heard(|heard| {
            let newer = heard
                .acknowledgements
                .iter()
                .filter(|a| a.checkpoint_id == 2);
            (newer.count() == 4).then_some(())
        })
    })
    .await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_without_checkpoints_commits_when_it_finishes() {
    let mut cluster = Cluster::start(2).await;
    cluster.checkpoints = String::new();
    cluster.allow(200, 200);
    cluster.deploy(1, (2, 2), None).await;
    cluster
        .master
        .all_report(1, SubtaskState::EndOfData, 4)
        .await;
    assert!(cluster.world.counts().is_empty());
    for worker in &cluster.workers {
        worker.finish(fence(1, 1)).await.unwrap();
    }
    assert_eq!(cluster.world.counts(), expected(200));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_acknowledgement_is_repeated_and_ends_with_its_attempt() {
    let cluster = Cluster::start(1).await;
    cluster.allow(10, 1000);
    cluster.deploy(1, (1, 1), None).await;
    cluster.master.all_report(1, SubtaskState::Running, 2).await;
    cluster.master.heard(|heard| heard.oldest_attempt = 2);
    let worker = &cluster.workers[0];
    worker.trigger(fence(1, 1), 1, None, false).await.unwrap();
    until("refusals", || {
        (cluster.master.heard(|heard| heard.refused) >= 2).then_some(())
    })
    .await;
    assert!(
        cluster
            .master
            .heard(|heard| heard.acknowledgements.is_empty())
    );
    // The leader knows this task manager again: what it refused before, it takes now.
    cluster.master.heard(|heard| heard.oldest_attempt = 1);
    cluster
        .master
        .manifest(1, 2, SnapshotKind::Checkpoint)
        .await;
    cluster.stop().await;
}
