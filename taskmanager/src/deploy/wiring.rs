//! The channels of a deployment: which subtask is joined to which, inside this process or through a stream.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use weir_common::ids::{AttemptId, JobId, SubtaskId, VertexId};
use weir_dataflow::schema::decode_schema;
use weir_dataflow::{Error, Result, SlotWaker};
use weir_proto::v1;
use weir_proto::v1::Partitioning;

use crate::channel::{self, LocalSender};
use crate::exchange::receive::{ExpectedStream, StreamKey};
use crate::exchange_memory::ExchangeMemory;
use crate::input::{ChannelId, InputChannel};

/// Where a subtask runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// Id of the task manager.
    pub task_manager: String,
    /// HOST:PORT.
    pub address: String,
}

/// Where all subtasks of a job run.
#[derive(Debug, Default)]
pub struct Places {
    /// All that the attempt runs on.
    pub task_managers: Vec<Location>,
    /// Slot k has subtask k of every vertex; the index of its task manager.
    pub slots: Vec<u32>,
}

impl Places {
    /// Where a subtask runs, if the deployment says so.
    pub fn of(&self, subtask: SubtaskId) -> Option<&Location> {
        let task_manager = self.slots.get(subtask.index as usize)?;
        self.task_managers.get(*task_manager as usize)
    }
}

/// A stream that this process opens.
#[derive(Debug)]
pub struct OutgoingStream {
    /// Id of the edge.
    pub edge: u32,
    /// Where to.
    pub to: Location,
    /// Each with its producer and the producer's waker.
    pub channels: Vec<(v1::Channel, SubtaskId, SlotWaker)>,
}

/// A channel between two subtasks: (edge, source index, target index).
pub type ChannelKey = (u32, u32, u32);

/// See the module's head.
pub struct Wiring {
    /// The input channels of each consumer here.
    pub receivers: BTreeMap<SubtaskId, Vec<InputChannel>>,
    /// Producers' ends of channels inside the process.
    pub local: HashMap<ChannelKey, LocalSender>,
    /// Streams that others open.
    pub expected: HashMap<StreamKey, ExpectedStream>,
    /// Streams that this process opens.
    pub outgoing: Vec<OutgoingStream>,
}

/// What the wiring is made from.
pub struct WiringInput<'a> {
    /// The job.
    pub job: &'a JobId,
    /// Its attempt.
    pub attempt: AttemptId,
    /// The graph.
    pub graph: &'a v1::JobGraph,
    /// Id of this task manager.
    pub own_id: &'a str,
    /// Of all subtasks of the job.
    pub places: &'a Places,
    /// For batches in channels.
    pub memory: &'a Arc<ExchangeMemory>,
    /// The subtasks here with the wakers of their slots.
    pub wakers: &'a BTreeMap<SubtaskId, SlotWaker>,
}

impl WiringInput<'_> {
    /// The subtasks of a vertex that run in this process.
    fn indices_here(&self, vertex: u32) -> Vec<u32> {
        let all = subtask(vertex, 0)..=subtask(vertex, u32::MAX);
        self.wakers.range(all).map(|(id, _)| id.index).collect()
    }
}

fn subtask(vertex: u32, index: u32) -> SubtaskId {
    SubtaskId {
        vertex: VertexId(vertex),
        index,
    }
}

/// The vertex of this number.
///
/// # Errors
/// If the graph has none.
pub fn vertex(graph: &v1::JobGraph, id: u32) -> Result<&v1::Vertex> {
    graph
        .vertices
        .iter()
        .find(|vertex| vertex.id == id)
        .ok_or_else(|| Error::Config(format!("the job graph has no vertex {id}")))
}

/// Target subtasks that a source subtask of an edge has channels to, in order.
pub fn targets_of(graph: &v1::JobGraph, edge: &v1::Edge, source: u32) -> Result<Range<u32>> {
    let target = vertex(graph, edge.target_vertex)?;
    if edge.partitioning() == Partitioning::Forward {
        let from = vertex(graph, edge.source_vertex)?;
        if from.parallelism != target.parallelism {
            return Err(Error::Config(format!(
                "edge {} is FORWARD between parallelism {} and {}",
                edge.id, from.parallelism, target.parallelism
            )));
        }
        return Ok(source..source + 1);
    }
    Ok(0..target.parallelism)
}

impl Wiring {
    /// Makes all channels with an end in this process.
    ///
    /// # Errors
    /// If the graph or the locations are incomplete.
    pub fn new(input: &WiringInput<'_>) -> Result<Self> {
        let mut wiring = Self {
            receivers: BTreeMap::new(),
            local: HashMap::new(),
            expected: HashMap::new(),
            outgoing: Vec::new(),
        };
        for edge in &input.graph.edges {
            let schema = decode_schema(&edge.schema)?;
            let from = vertex(input.graph, edge.source_vertex)?;
            let consumers = input.indices_here(edge.target_vertex);
            for source in 0..from.parallelism {
                let targets = targets_of(input.graph, edge, source)?;
                let producer = subtask(edge.source_vertex, source);
                if input.wakers.contains_key(&producer) {
                    for target in targets {
                        wiring.join(input, edge, &schema, source, target)?;
                    }
                } else {
                    // Most of its channels end in other processes: those are not even looked at.
                    for target in consumers.iter().filter(|index| targets.contains(index)) {
                        wiring.join(input, edge, &schema, source, *target)?;
                    }
                }
            }
        }
        Ok(wiring)
    }

    fn join(
        &mut self,
        input: &WiringInput<'_>,
        edge: &v1::Edge,
        schema: &SchemaRef,
        source: u32,
        target: u32,
    ) -> Result<()> {
        let producer = subtask(edge.source_vertex, source);
        let consumer = subtask(edge.target_vertex, target);
        let channel = v1::Channel { source, target };
        let receiver = match (input.wakers.get(&producer), input.wakers.get(&consumer)) {
            (None, None) => return Ok(()),
            (Some(from), Some(to)) => {
                let (sender, receiver) =
                    channel::local(from.clone(), to.clone(), Arc::clone(input.memory));
                self.local.insert((edge.id, source, target), sender);
                receiver
            }
            (None, Some(to)) => {
                let key = StreamKey {
                    job: input.job.clone(),
                    attempt: input.attempt,
                    edge: edge.id,
                    producer: locate(input, producer)?.task_manager.clone(),
                };
                self.expected
                    .entry(key)
                    .or_insert_with(|| {
                        ExpectedStream::new(schema.clone(), Arc::clone(input.memory))
                    })
                    .add(channel, consumer, to.clone())
            }
            (Some(from), None) => {
                let to = locate(input, consumer)?;
                let waker = from.clone();
                self.leave(edge.id, to, (channel, producer, waker));
                return Ok(());
            }
        };
        let id = ChannelId {
            input: edge.target_input as usize,
            edge: edge.id,
            source,
        };
        self.receivers
            .entry(consumer)
            .or_default()
            .push(InputChannel { id, receiver });
        Ok(())
    }

    fn leave(&mut self, edge: u32, to: &Location, channel: (v1::Channel, SubtaskId, SlotWaker)) {
        let known = self
            .outgoing
            .iter_mut()
            .find(|stream| stream.edge == edge && stream.to.task_manager == to.task_manager);
        match known {
            Some(stream) => stream.channels.push(channel),
            None => self.outgoing.push(OutgoingStream {
                edge,
                to: to.clone(),
                channels: vec![channel],
            }),
        }
    }
}

fn locate<'a>(input: &'a WiringInput<'_>, subtask: SubtaskId) -> Result<&'a Location> {
    let location = input.places.of(subtask).ok_or_else(|| {
        Error::Config(format!(
            "the deployment does not say where subtask {subtask} runs"
        ))
    })?;
    if location.task_manager == input.own_id {
        return Err(Error::Config(format!(
            "subtask {subtask} is said to run here, but is not deployed here"
        )));
    }
    Ok(location)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::DataType;
    use weir_dataflow::schema::encode_schema;
    use weir_dataflow::testing::schema;

    fn graph(partitioning: Partitioning, from: u32, to: u32) -> v1::JobGraph {
        let vertex = |id, parallelism| v1::Vertex {
            id,
            parallelism,
            ..v1::Vertex::default()
        };
        v1::JobGraph {
            vertices: vec![vertex(1, from), vertex(2, to)],
            edges: vec![v1::Edge {
                id: 7,
                source_vertex: 1,
                target_vertex: 2,
                target_input: 1,
                partitioning: partitioning.into(),
                schema: encode_schema(&schema(&[("a", DataType::Int64)])),
                ..v1::Edge::default()
            }],
            ..v1::JobGraph::default()
        }
    }

    /// Wires task manager "a"; each slot is on the task manager of this name.
    fn wire(graph: &v1::JobGraph, slots: &[&str]) -> Result<Wiring> {
        let places = Places {
            task_managers: slots
                .iter()
                .map(|tm| Location {
                    task_manager: (*tm).to_owned(),
                    address: format!("{tm}:1"),
                })
                .collect(),
            slots: (0..).take(slots.len()).collect(),
        };
        let all = graph
            .vertices
            .iter()
            .flat_map(|vertex| (0..vertex.parallelism).map(|index| subtask(vertex.id, index)));
        let here = all.filter(|id| slots.get(id.index as usize) == Some(&"a"));
        Wiring::new(&WiringInput {
            job: &"0123456789abcdef0123456789abcdef".parse().unwrap(),
            attempt: AttemptId(1),
            graph,
            own_id: "a",
            places: &places,
            memory: &ExchangeMemory::new(u64::MAX),
            wakers: &here.map(|id| (id, SlotWaker::none())).collect(),
        })
    }

    #[test]
    fn one_stream_for_each_edge_and_peer() {
        let graph = graph(Partitioning::Hash, 2, 3);
        let wiring = wire(&graph, &["a", "b", "b"]).unwrap();
        assert_eq!(wiring.local.len(), 1);
        assert_eq!(wiring.receivers[&subtask(2, 0)].len(), 2);
        assert!(
            wiring.receivers[&subtask(2, 0)]
                .iter()
                .all(|channel| channel.id.input == 1 && channel.id.edge == 7)
        );
        assert_eq!(wiring.expected.len(), 1);
        assert_eq!(wiring.outgoing.len(), 1);
        assert_eq!(wiring.outgoing[0].channels.len(), 2);
    }

    #[test]
    fn forward_joins_equals_only() {
        let wiring = wire(&graph(Partitioning::Forward, 2, 2), &["a", "a"]).unwrap();
        let mut channels: Vec<_> = wiring.local.into_keys().collect();
        channels.sort_unstable();
        assert_eq!(channels, [(7, 0, 0), (7, 1, 1)]);
        assert!(wire(&graph(Partitioning::Forward, 2, 1), &["a", "a"]).is_err());
    }

    #[test]
    fn a_missing_location_is_an_error() {
        let graph = graph(Partitioning::Hash, 1, 2);
        assert!(wire(&graph, &["a"]).is_err());
    }
}
