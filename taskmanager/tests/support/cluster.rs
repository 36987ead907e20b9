//! Task managers of this process and the job that runs on them: source → exchange → GROUP BY → exactly-once sink.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::datatypes::{DataType, Field, Schema};
use weir_common::clock::Clock;
use weir_common::config::{S3Config, TaskManagerConfig};
use weir_dataflow::schema::encode_schema;
use weir_proto::v1;
use weir_proto::v1::operator::Kind;
use weir_proto::v1::{Partitioning, SubtaskState};
use weir_taskmanager::{TaskManager, TaskManagerHandle, TaskManagerOptions};

use super::master::{CLUSTER, Master, Worker, fence, until};
use super::world::{KEYS, SPLITS, TestConnectors, World, rows_schema};

/// Task managers of this process and what drives them.
pub struct Cluster {
    pub master: Master,
    pub world: Arc<World>,
    pub handles: Vec<TaskManagerHandle>,
    pub workers: Vec<Worker>,
    pub folder: tempfile::TempDir,
    /// Base of the job's checkpoints.
    pub checkpoints: String,
}

impl Cluster {
    pub async fn start(task_managers: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (master, address) = Master::start().await;
        let world = World::new();
        let mut handles = Vec::new();
        for index in 0..task_managers {
            let config = TaskManagerConfig {
                jobmanagers: vec![address.clone()],
                slots: 2,
                data_dir: folder.path().join(format!("tm-{index}")),
                memory_bytes: 64 << 20,
                ..TaskManagerConfig::default()
            };
            let options = TaskManagerOptions {
                cluster_id: CLUSTER.to_owned(),
                config,
                tls: None,
                s3: S3Config::default(),
                clock: Clock::System,
                connectors: Arc::new(TestConnectors(Arc::clone(&world))),
            };
            handles.push(TaskManager::start_with(options).await.unwrap());
        }
        let workers = handles
            .iter()
            .map(|handle| Worker::new(handle.id(), handle.address()))
            .collect();
        let cluster = Self {
            master,
            world,
            handles,
            workers,
            checkpoints: format!("file://{}/checkpoints", folder.path().display()),
            folder,
        };
        until("registrations", || {
            let registered = cluster.master.heard(|heard| heard.registrations.len());
            (registered >= task_managers).then_some(())
        })
        .await;
        cluster
    }

    pub fn url(&self, name: &str) -> String {
        format!("file://{}", self.folder.path().join(name).display())
    }

    /// Deploys; subtask `i` of each vertex runs on task manager `i % n`, in slot `i / n`.
    pub async fn deploy(&self, attempt: u64, widths: (u32, u32), restore: Option<v1::RestoreFrom>) {
        let count = self.workers.len() as u32;
        let graph = graph(widths);
        let all: Vec<v1::SubtaskId> = graph
            .vertices
            .iter()
            .flat_map(|v| {
                (0..v.parallelism).map(|index| v1::SubtaskId {
                    vertex: v.id,
                    index,
                })
            })
            .collect();
        let task_managers: Vec<_> = self
            .workers
            .iter()
            .map(|worker| v1::TaskManagerLocation {
                task_manager_id: worker.id.clone(),
                address: worker.address.clone(),
            })
            .collect();
        let slots: Vec<u32> = (0..widths.0.max(widths.1)).map(|k| k % count).collect();
        for (number, worker) in (0u32..).zip(&self.workers) {
            let own = all.iter().filter(|id| id.index % count == number);
            let subtasks = own.map(|id| v1::SubtaskDeployment {
                subtask: Some(*id),
                slot: id.index / count,
            });
            let request = v1::DeployRequest {
                fence: Some(fence(attempt, 1)),
                task_manager_id: worker.id.clone(),
                graph: Some(graph.clone()),
                subtasks: subtasks.collect(),
                task_managers: task_managers.clone(),
                slots: slots.clone(),
                restore: restore.clone(),
                checkpoint_base: self.checkpoints.clone(),
            };
            worker.client.clone().deploy(request).await.unwrap();
        }
    }

    pub fn allow(&self, rows: i64, end: i64) {
        self.world.end.store(end, Ordering::SeqCst);
        self.world.allowed.store(rows, Ordering::SeqCst);
    }

    pub async fn read(&self, rows: i64) {
        until(&format!("{rows} rows read"), || {
            (self.world.read.load(Ordering::SeqCst) >= rows).then_some(())
        })
        .await;
    }

    pub async fn trigger(&self, attempt: u64, checkpoint: u64, target: Option<&str>, stop: bool) {
        for worker in &self.workers {
            worker
                .trigger(fence(attempt, 1), checkpoint, target, stop)
                .await
                .unwrap();
        }
    }

    pub async fn complete(&self, attempt: u64, checkpoint: u64) {
        for worker in &self.workers {
            worker
                .notify(fence(attempt, 1), checkpoint, true)
                .await
                .unwrap();
        }
    }

    pub async fn stop(self) {
        for handle in self.handles {
            let folder = handle.id().to_owned();
            handle.shutdown().await;
            assert!(!folder.is_empty());
        }
        // Copies of checkpoints' files are there for the next process.
        let mut left: Vec<_> = walk(&self.folder.path().join("tm-0"));
        left.retain(|path| !path.ends_with("copies"));
        assert!(left.is_empty(), "state was left behind: {left:?}");
    }
}

pub fn walk(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// SELECT k, COUNT(*) FROM numbers GROUP BY k
pub fn graph((sources, aggregates): (u32, u32)) -> v1::JobGraph {
    let input = encode_schema(&rows_schema());
    let output = Schema::new(vec![
        Field::new("k", DataType::Int64, true),
        Field::new("c", DataType::Int64, false),
    ]);
    let output = encode_schema(&output);
    let operator = |uid: &str, schema: &[u8], kind| v1::Operator {
        uid: uid.to_owned(),
        name: uid.to_owned(),
        output_schema: schema.to_vec(),
        kind: Some(kind),
        ..v1::Operator::default()
    };
    let source = v1::Source {
        table: "numbers".to_owned(),
        connector: "test".to_owned(),
        read_schema: input.clone(),
        ..v1::Source::default()
    };
    let aggregate = v1::GroupAggregate {
        key_columns: vec![0],
        aggregates: vec![v1::AggregateCall {
            function: "COUNT".to_owned(),
            name: "c".to_owned(),
            ..v1::AggregateCall::default()
        }],
        emit_update_before: true,
        ..v1::GroupAggregate::default()
    };
    let sink = v1::Sink {
        table: "counts".to_owned(),
        connector: "test".to_owned(),
        schema: output.clone(),
        ..v1::Sink::default()
    };
    let vertex = |id, parallelism, chain| v1::Vertex {
        id,
        name: format!("vertex-{id}"),
        parallelism,
        chain,
        fixed_parallelism: false,
    };
    v1::JobGraph {
        format_version: 1,
        name: "counts".to_owned(),
        max_parallelism: 128,
        vertices: vec![
            vertex(
                1,
                sources,
                vec![operator("src", &input, Kind::Source(source))],
            ),
            vertex(
                2,
                aggregates,
                vec![
                    operator("agg", &output, Kind::GroupAggregate(aggregate)),
                    operator("out", &[], Kind::Sink(sink)),
                ],
            ),
        ],
        edges: vec![v1::Edge {
            id: 1,
            source_vertex: 1,
            target_vertex: 2,
            partitioning: Partitioning::Hash.into(),
            key_columns: vec![0],
            schema: input,
            ..v1::Edge::default()
        }],
        ..v1::JobGraph::default()
    }
}

/// Errors that subtasks of an attempt reported, and whether they are fatal.
pub fn failures(cluster: &Cluster, attempt: u64) -> Vec<(String, bool)> {
    cluster.master.heard(|heard| {
        let of_attempt = |(of, report): &&(u64, v1::SubtaskReport)| {
            *of == attempt && report.state() == SubtaskState::Failed
        };
        let failed = heard.reports.iter().filter(of_attempt);
        failed.map(|(_, r)| (r.error.clone(), r.fatal)).collect()
    })
}

/// Key → count after all splits gave `rows` rows each.
pub fn expected(rows: i64) -> BTreeMap<i64, i64> {
    let mut counts = BTreeMap::new();
    for n in 0..rows {
        *counts.entry(n % KEYS).or_insert(0) += SPLITS;
    }
    counts
}
