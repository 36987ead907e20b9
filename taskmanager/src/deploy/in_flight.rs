//! Rows that a restored snapshot holds in flight, dealt out to the subtasks of now.
//!
//! At the same parallelism each subtask gets its own. At another one, rows on a HASH edge go to the owners of their key groups, by the
//! partitioner that new rows go through, too; what old subtask `i` had on another edge goes to subtask `i` modulo the new parallelism.

use bytes::Bytes;
use prost::Message as _;
use weir_common::key_group::KeyGroupRange;
use weir_dataflow::schema::decode_schema;
use weir_dataflow::{Batch, Error, Result};
use weir_proto::v1;
use weir_proto::v1::Partitioning;
use weir_proto::v1::in_flight::Content;

use super::open::{Restore, Site};
use crate::exchange::codec::decode_batch;
use crate::partition::Partitioner;

/// Who takes rows out of a snapshot.
struct Taker<'a> {
    graph: &'a v1::JobGraph,
    vertex: &'a v1::Vertex,
    index: u32,
}

impl Site {
    /// The rows of one subtask, each batch with its input, in the order in which they are to be processed. Blocks.
    ///
    /// # Errors
    /// [`Error::Restore`] if the snapshot does not fit the graph; the store's.
    pub fn restored_in_flight(
        &self,
        vertex: &v1::Vertex,
        index: u32,
    ) -> Result<Vec<(usize, Batch)>> {
        let Some(from) = &self.restore else {
            return Ok(Vec::new());
        };
        let taker = Taker {
            graph: &self.graph,
            vertex,
            index,
        };
        taker.check_chain(&from.manifest)?;
        let mut taken = Vec::new();
        for (part, content) in taker.parts(&from.manifest) {
            let bytes = self.in_flight_content(from, content)?;
            let data = v1::InFlightData::decode(bytes).map_err(|error| taker.broken(&error))?;
            for channel in data.channels {
                taker.take(part, channel, &mut taken)?;
            }
        }
        Ok(taken)
    }

    fn in_flight_content(&self, from: &Restore, content: &Content) -> Result<Bytes> {
        match content {
            Content::Inlined(bytes) => Ok(bytes.clone()),
            Content::File(file) => {
                let transfers = &self.targets.transfers;
                let mut read = transfers.read(&from.source.base, vec![file.clone()])?;
                Ok(read.pop().unwrap_or_default())
            }
        }
    }
}

impl<'a> Taker<'a> {
    fn head(&self) -> Option<&'a v1::Operator> {
        self.vertex.chain.first()
    }

    fn name(&self) -> &str {
        self.head().map_or("", |head| head.name.as_str())
    }

    fn broken(&self, why: &dyn std::fmt::Display) -> Error {
        Error::Restore(format!(
            "the rows in flight to operator '{}' cannot be read from the snapshot: {why}",
            self.name()
        ))
    }

    /// Rows in flight are for the head of a chain. An operator that has moved behind another one since could not be given them.
    fn check_chain(&self, manifest: &v1::Manifest) -> Result<()> {
        let parallelism = 1..=self.graph.max_parallelism;
        let mut parts = manifest
            .operators
            .iter()
            .filter(|part| part.in_flight.is_some());
        if parts.any(|p| p.subtask >= p.parallelism || !parallelism.contains(&p.parallelism)) {
            return Err(self.broken(&"a part of it has no valid subtask"));
        }
        let moved = self.vertex.chain.iter().skip(1).find(|operator| {
            let mut parts = manifest.operators.iter();
            parts.any(|part| part.operator_uid == operator.uid && part.in_flight.is_some())
        });
        match moved {
            None => Ok(()),
            Some(operator) => Err(Error::Restore(format!(
                "the snapshot has rows in flight to operator '{}', which now runs in one chain behind another operator: start with the \
                 query that took the snapshot, and stop it with a savepoint, which has none",
                operator.name
            ))),
        }
    }

    /// The old subtasks of which something may be wanted.
    fn parts(&self, manifest: &'a v1::Manifest) -> Vec<(&'a v1::OperatorSnapshot, &'a Content)> {
        let uid = self.head().map(|head| head.uid.as_str());
        let own = manifest
            .operators
            .iter()
            .filter(|part| Some(part.operator_uid.as_str()) == uid);
        let mut parts: Vec<_> = own
            .filter_map(|part| Some((part, part.in_flight.as_ref()?.content.as_ref()?)))
            .filter(|(part, _)| self.may_want(part))
            .collect();
        parts.sort_by_key(|(part, _)| part.subtask);
        parts
    }

    fn may_want(&self, part: &v1::OperatorSnapshot) -> bool {
        if part.parallelism == self.vertex.parallelism {
            return part.subtask == self.index;
        }
        let edges = self.graph.edges.iter();
        let mut own = edges.filter(|edge| edge.target_vertex == self.vertex.id);
        own.any(|edge| match edge.partitioning() {
            Partitioning::Hash => {
                let range = |index, parallelism| {
                    KeyGroupRange::of_subtask(index, self.graph.max_parallelism, parallelism)
                };
                let mine = range(self.index, self.vertex.parallelism);
                range(part.subtask, part.parallelism)
                    .intersect(mine)
                    .is_some()
            }
            other => self.is_heir(other, part),
        })
    }

    /// Whether all that an old subtask had on an edge without keys is this subtask's.
    fn is_heir(&self, partitioning: Partitioning, part: &v1::OperatorSnapshot) -> bool {
        match partitioning {
            // Each old subtask had a copy of everything.
            Partitioning::Broadcast => self.index % part.parallelism.max(1) == part.subtask,
            _ => part.subtask % self.vertex.parallelism.max(1) == self.index,
        }
    }

    fn take(
        &self,
        part: &v1::OperatorSnapshot,
        channel: v1::InFlightChannel,
        taken: &mut Vec<(usize, Batch)>,
    ) -> Result<()> {
        let input = channel.input as usize;
        let edge = self.edge(&channel)?;
        let schema = decode_schema(&edge.schema)?;
        let mut push = |batch| taken.push((input, batch));
        let same = part.parallelism == self.vertex.parallelism;
        let mut partitioner = match edge.partitioning() {
            Partitioning::Hash if !same => {
                let width = self.vertex.parallelism as usize;
                let groups = self.graph.max_parallelism;
                Some(Partitioner::new(edge, &schema, 0, width, groups)?)
            }
            _ => None,
        };
        for data in channel.batches {
            let batch = decode_batch(data, &schema).map_err(|error| self.broken(&error))?;
            match &mut partitioner {
                Some(partitioner) => partitioner.split(batch, &mut |target, rows| {
                    if target == self.index as usize {
                        push(rows);
                    }
                    Ok(())
                })?,
                None if same => push(batch),
                None => {
                    self.check_order(edge, part, &batch)?;
                    if self.is_heir(edge.partitioning(), part) {
                        push(batch);
                    }
                }
            }
        }
        Ok(())
    }

    /// The edge of now that feeds the same input, with the same columns.
    fn edge(&self, channel: &v1::InFlightChannel) -> Result<&'a v1::Edge> {
        let mut edges = self.graph.edges.iter();
        let edge = edges.find(|edge| {
            edge.target_vertex == self.vertex.id && edge.target_input == channel.input
        });
        let edge =
            edge.ok_or_else(|| self.broken(&format!("it has no input {}", channel.input)))?;
        let (old, new) = (
            decode_schema(&channel.schema)?,
            decode_schema(&edge.schema)?,
        );
        let types = |schema: &arrow::datatypes::Schema| {
            let types = schema
                .fields()
                .iter()
                .map(|field| field.data_type().to_string());
            types.collect::<Vec<_>>().join(", ")
        };
        if types(&old) != types(&new) {
            return Err(self.broken(&format!(
                "they have the columns [{}], the job needs [{}]; start with the query that took the snapshot",
                types(&old),
                types(&new)
            )));
        }
        Ok(edge)
    }

    /// Changes of one row stay in order because they go the same way. Where that way is not found by the row's key, it ends with the
    /// parallelism.
    fn check_order(
        &self,
        edge: &v1::Edge,
        part: &v1::OperatorSnapshot,
        batch: &Batch,
    ) -> Result<()> {
        if edge.partitioning() != Partitioning::Forward || batch.kinds().is_none() {
            return Ok(());
        }
        Err(Error::Restore(format!(
            "the snapshot has updates in flight to operator '{}', which are not sent by key and would lose their order at another \
             parallelism: start it at parallelism {}, and rescale with a savepoint, which has none",
            self.name(),
            part.parallelism
        )))
    }
}

#[cfg(test)]
#[path = "in_flight_tests.rs"]
mod tests;
