//! Unaligned checkpoints of jobs whose sink takes nothing: they complete, and hold every row once.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use weir_proto::v1;
use weir_proto::v1::{SnapshotKind, SubtaskState};

use support::cluster::{Cluster, expected, failures};
use support::master::{fence, until};
use support::world::SPLITS;

const ROWS: i64 = 1000;

/// A job at parallelism 2 that can go no further: its sinks are closed and all channels are full.
async fn full_of_rows() -> Cluster {
    let cluster = Cluster::start(2).await;
    cluster.world.is_closed.store(true, Ordering::SeqCst);
    cluster.allow(ROWS, ROWS);
    cluster.deploy(1, (2, 2), None).await;
    cluster.master.all_report(1, SubtaskState::Running, 4).await;
    cluster.read(1).await;
    // A source that has filled its channels reads no more.
    let mut before = (0, Instant::now());
    until("backpressure", || {
        let read = cluster.world.read.load(Ordering::SeqCst);
        if read != before.0 {
            before = (read, Instant::now());
        }
        (before.1.elapsed() > Duration::from_millis(300)).then_some(())
    })
    .await;
    assert!(cluster.world.read.load(Ordering::SeqCst) < ROWS * SPLITS);
    cluster
}

async fn trigger(cluster: &Cluster, checkpoint: u64, unaligned_after_ms: u64) {
    for worker in &cluster.workers {
        worker
            .trigger_unaligned(
                fence(1, 1),
                checkpoint,
                None,
                false,
                Some(unaligned_after_ms),
            )
            .await
            .unwrap();
    }
}

/// Kills the attempt, goes on from the snapshot with open sinks, and lets the job end.
async fn goes_on_exactly(
    cluster: Cluster,
    manifest: v1::Manifest,
    checkpoint: u64,
    widths: (u32, u32),
) {
    for worker in &cluster.workers {
        worker.cancel(fence(1, 1)).await.unwrap();
    }
    cluster.world.is_closed.store(false, Ordering::SeqCst);
    let restore = v1::RestoreFrom {
        base: cluster.url("checkpoints"),
        manifest: Some(manifest),
    };
    cluster.deploy(2, widths, Some(restore)).await;
    let count = (widths.0 + widths.1) as usize;
    cluster
        .master
        .all_report(2, SubtaskState::EndOfData, count)
        .await;
    cluster.trigger(2, checkpoint + 1, None, true).await;
    cluster
        .master
        .manifest(checkpoint + 1, count, SnapshotKind::Checkpoint)
        .await;
    cluster.complete(2, checkpoint + 1).await;
    assert_eq!(cluster.world.counts(), expected(ROWS));
    let failed = failures(&cluster, 2);
    assert!(failed.is_empty(), "{failed:?}");
    for worker in &cluster.workers {
        worker.finish(fence(2, 1)).await.unwrap();
    }
    cluster.stop().await;
}

fn in_flight_rows(manifest: &v1::Manifest) -> u64 {
    let parts = manifest
        .operators
        .iter()
        .filter_map(|o| o.in_flight.as_ref());
    parts.map(|in_flight| in_flight.rows).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_in_flight_are_restored_once_at_any_parallelism() {
    for widths in [(2, 2), (1, 1), (3, 4)] {
        let cluster = full_of_rows().await;
        trigger(&cluster, 1, 0).await;
        let manifest = cluster
            .master
            .manifest(1, 4, SnapshotKind::Checkpoint)
            .await;
        // Nothing came through, so every row that was read is in flight.
        let read = cluster.world.read.load(Ordering::SeqCst);
        assert_eq!(in_flight_rows(&manifest), read as u64);
        goes_on_exactly(cluster, manifest, 1, widths).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkpoint_that_is_aligned_for_too_long_goes_on_unaligned() {
    let cluster = full_of_rows().await;
    let patience = Duration::from_millis(700);
    let started = Instant::now();
    trigger(&cluster, 1, patience.as_millis() as u64).await;
    let manifest = cluster
        .master
        .manifest(1, 4, SnapshotKind::Checkpoint)
        .await;
    assert!(started.elapsed() >= patience - Duration::from_millis(50));
    assert!(in_flight_rows(&manifest) > 0);
    goes_on_exactly(cluster, manifest, 1, (2, 3)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_in_flight_again_at_the_next_checkpoint_are_in_it_again() {
    let cluster = full_of_rows().await;
    for checkpoint in 1..=20 {
        trigger(&cluster, checkpoint, 0).await;
        let manifest = cluster
            .master
            .manifest(checkpoint, 4, SnapshotKind::Checkpoint)
            .await;
        // What goes ahead has to be paid back: however many checkpoints there are, no more is read.
        let read = cluster.world.read.load(Ordering::SeqCst);
        assert_eq!(in_flight_rows(&manifest), read as u64);
        cluster.complete(1, checkpoint).await;
        if checkpoint == 20 {
            assert!(read < 1000, "{read} rows in flight");
            return goes_on_exactly(cluster, manifest, 20, (2, 2)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_aborted_unaligned_checkpoint_leaves_its_rows_in_line() {
    let cluster = full_of_rows().await;
    // Only one of the sources begins it: the cuts are made and wait for the other's barrier.
    cluster.workers[0]
        .trigger_unaligned(fence(1, 1), 1, None, false, Some(0))
        .await
        .unwrap();
    until("the source's acknowledgement", || {
        cluster
            .master
            .heard(|heard| (!heard.acknowledgements.is_empty()).then_some(()))
    })
    .await;
    for worker in &cluster.workers {
        worker.notify(fence(1, 1), 1, false).await.unwrap();
    }
    trigger(&cluster, 2, 0).await;
    let manifest = cluster
        .master
        .manifest(2, 4, SnapshotKind::Checkpoint)
        .await;
    let heard: BTreeMap<u64, usize> = cluster.master.heard(|heard| {
        let mut counts = BTreeMap::new();
        for acknowledgement in &heard.acknowledgements {
            *counts.entry(acknowledgement.checkpoint_id).or_default() += 1;
        }
        counts
    });
    assert_eq!(heard, [(1, 1), (2, 4)].into());
    cluster.complete(1, 2).await;
    goes_on_exactly(cluster, manifest, 2, (2, 1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_or_missing_file_of_rows_is_found_before_anything_runs() {
    let cluster = full_of_rows().await;
    trigger(&cluster, 1, 0).await;
    let mut manifest = cluster
        .master
        .manifest(1, 4, SnapshotKind::Checkpoint)
        .await;
    let file = weir_snapshot::manifest::files(&manifest)
        .find(|file| file.local_name == "in-flight")
        .cloned()
        .unwrap();
    let path = cluster.folder.path().join("checkpoints").join(&file.path);
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    for worker in &cluster.workers {
        worker.cancel(fence(1, 1)).await.unwrap();
    }
    manifest.job_name = "again".to_owned();
    let restore = v1::RestoreFrom {
        base: cluster.url("checkpoints"),
        manifest: Some(manifest),
    };
    cluster.world.is_closed.store(false, Ordering::SeqCst);
    cluster.deploy(2, (2, 2), Some(restore)).await;
    until("a failure", || {
        let failed = failures(&cluster, 2);
        failed
            .iter()
            .any(|(error, _)| error.contains("checksum"))
            .then_some(())
    })
    .await;
    assert!(cluster.world.counts().is_empty());
    for worker in &cluster.workers {
        worker.cancel(fence(2, 1)).await.unwrap();
    }
    cluster.stop().await;
}
