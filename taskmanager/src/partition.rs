//! Which subtask of the next vertex gets a row. Pure.

use arrow::array::UInt32Array;
use arrow::buffer::ScalarBuffer;
use arrow::datatypes::Schema;
use weir_common::key_group::{key_group_of_hash, subtask_of};
use weir_dataflow::key::KeyEncoder;
use weir_dataflow::{Batch, Error, Result};
use weir_proto::v1;
use weir_proto::v1::Partitioning;

/// Splits batches among the channels of one edge.
pub struct Partitioner {
    rule: Rule,
    channels: usize,
}

enum Rule {
    /// There is one channel, or everything goes to the first.
    First,
    Broadcast,
    RoundRobin {
        next: usize,
    },
    Hash(Box<HashRule>),
}

struct HashRule {
    encoder: KeyEncoder,
    max_parallelism: u32,
    parallelism: u32,
    hashes: Vec<u64>,
    targets: Vec<u32>,
    /// Position of the next row of each target while rows are scattered.
    cursors: Vec<usize>,
}

impl Partitioner {
    /// For subtask `source` of an edge, with one channel for each subtask of the target (a single one for FORWARD).
    ///
    /// # Errors
    /// If the edge has no known partitioning, or its key columns can't be keys.
    pub fn new(
        edge: &v1::Edge,
        schema: &Schema,
        source: u32,
        channels: usize,
        max_parallelism: u32,
    ) -> Result<Self> {
        let rule = match edge.partitioning() {
            Partitioning::Unspecified => {
                return Err(Error::Config(format!(
                    "edge {} has a partitioning that this version does not know",
                    edge.id
                )));
            }
            Partitioning::Forward | Partitioning::Global => Rule::First,
            _ if channels == 1 => Rule::First,
            Partitioning::Broadcast => Rule::Broadcast,
            Partitioning::Rebalance => Rule::RoundRobin {
                next: source as usize % channels.max(1),
            },
            Partitioning::Hash => {
                let columns: Vec<usize> = edge.key_columns.iter().map(|c| *c as usize).collect();
                Rule::Hash(Box::new(HashRule {
                    encoder: KeyEncoder::new(schema, &columns)?,
                    max_parallelism,
                    parallelism: u32::try_from(channels).unwrap_or(u32::MAX),
                    hashes: Vec::new(),
                    targets: Vec::new(),
                    cursors: Vec::new(),
                }))
            }
        };
        Ok(Self { rule, channels })
    }

    /// Calls `send` with each channel's share, in the order of the rows.
    pub fn split(
        &mut self,
        batch: Batch,
        send: &mut dyn FnMut(usize, Batch) -> Result<()>,
    ) -> Result<()> {
        match &mut self.rule {
            Rule::First => send(0, batch),
            Rule::Broadcast => {
                (0..self.channels).try_for_each(|channel| send(channel, batch.clone()))
            }
            Rule::RoundRobin { next } => {
                let channel = *next;
                *next = (channel + 1) % self.channels;
                send(channel, batch)
            }
            Rule::Hash(rule) => rule.split(batch, send),
        }
    }
}

impl HashRule {
    fn split(
        &mut self,
        batch: Batch,
        send: &mut dyn FnMut(usize, Batch) -> Result<()>,
    ) -> Result<()> {
        self.encoder.hashes(batch.data(), &mut self.hashes)?;
        self.targets.clear();
        self.cursors.clear();
        self.cursors.resize(self.parallelism as usize, 0);
        for hash in &self.hashes {
            let group = key_group_of_hash(*hash, self.max_parallelism);
            let target = subtask_of(group, self.max_parallelism, self.parallelism);
            self.targets.push(target);
            self.cursors[target as usize] += 1;
        }
        let counts = self.cursors.clone();
        if let Some(only) = counts.iter().position(|count| *count == batch.num_rows()) {
            return send(only, batch);
        }
        // Where each target's rows begin, then every row to its place: one pass, no sort.
        let mut start = 0;
        for cursor in &mut self.cursors {
            start += std::mem::replace(cursor, start);
        }
        let mut order = vec![0u32; batch.num_rows()];
        for (row, target) in (0u32..).zip(&self.targets) {
            let cursor = &mut self.cursors[*target as usize];
            order[*cursor] = row;
            *cursor += 1;
        }
        let order = ScalarBuffer::from(order);
        let mut start = 0;
        for (target, count) in counts.into_iter().enumerate() {
            if count > 0 {
                let rows = UInt32Array::new(order.slice(start, count), None);
                send(target, batch.take(&rows)?)?;
                start += count;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::{DataType, SchemaRef};
    use proptest::prelude::*;
    use std::collections::HashMap;
    use weir_dataflow::testing::{batch, format_rows, schema};

    fn edge(partitioning: Partitioning) -> v1::Edge {
        v1::Edge {
            id: 1,
            partitioning: partitioning.into(),
            key_columns: vec![0],
            ..v1::Edge::default()
        }
    }

    fn two_columns() -> SchemaRef {
        schema(&[("k", DataType::Int64), ("v", DataType::Utf8)])
    }

    fn split(partitioner: &mut Partitioner, batch: Batch) -> Vec<(usize, Vec<String>)> {
        let mut parts = Vec::new();
        partitioner
            .split(batch, &mut |channel, part| {
                parts.push((channel, format_rows(&part).unwrap()));
                Ok(())
            })
            .unwrap();
        parts
    }

    proptest! {
        #[test]
        fn a_key_has_one_subtask_and_no_row_is_lost_or_moved(keys in prop::collection::vec(0i64..20, 1..200), channels in 1usize..9) {
            let schema = two_columns();
            let kinds = ["+I", "-U", "+U", "-D"];
            let lines: Vec<String> = keys.iter().enumerate().map(|(row, key)| format!("{} {key} r{row}", kinds[row % 4])).collect();
            let rows = batch(&schema, &lines.join("\n")).unwrap();
            let mut partitioner = Partitioner::new(&edge(Partitioning::Hash), &schema, 0, channels, 128).unwrap();
            let mut owner: HashMap<String, usize> = HashMap::new();
            let mut all = Vec::new();
            for (channel, part) in split(&mut partitioner, rows) {
                prop_assert!(channel < channels);
                let position = |line: &String| line.rsplit('r').next().unwrap().parse::<usize>().unwrap();
                prop_assert!(part.is_sorted_by_key(position));
                for line in part {
                    let key = line.split(' ').nth(1).unwrap().to_owned();
                    prop_assert_eq!(*owner.entry(key).or_insert(channel), channel);
                    all.push(line);
                }
            }
            all.sort();
            let mut expected = lines;
            expected.sort();
            prop_assert_eq!(all, expected);
        }
    }

    #[test]
    fn the_subtask_is_the_owner_of_the_key_group() {
        let schema = two_columns();
        let rows = batch(&schema, "1 a\n2 b\n3 c\n4 d\n5 e\nnull f").unwrap();
        let encoder = KeyEncoder::new(&schema, &[0]).unwrap();
        let mut hashes = Vec::new();
        encoder.hashes(rows.data(), &mut hashes).unwrap();
        let mut partitioner =
            Partitioner::new(&edge(Partitioning::Hash), &schema, 0, 3, 128).unwrap();
        let lines = format_rows(&rows).unwrap();
        for (channel, part) in split(&mut partitioner, rows) {
            for line in part {
                let row = lines.iter().position(|l| *l == line).unwrap();
                let group = key_group_of_hash(hashes[row], 128);
                assert_eq!(subtask_of(group, 128, 3) as usize, channel);
            }
        }
    }

    #[test]
    fn the_other_rules() {
        let schema = two_columns();
        let rows = || batch(&schema, "1 a\n2 b").unwrap();
        let channels = |partitioning, source| -> Vec<usize> {
            let mut p = Partitioner::new(&edge(partitioning), &schema, source, 3, 128).unwrap();
            let both = [split(&mut p, rows()), split(&mut p, rows())].concat();
            both.into_iter().map(|(channel, _)| channel).collect()
        };
        assert_eq!(channels(Partitioning::Forward, 2), [0, 0]);
        assert_eq!(channels(Partitioning::Global, 2), [0, 0]);
        assert_eq!(channels(Partitioning::Rebalance, 2), [2, 0]);
        assert_eq!(channels(Partitioning::Broadcast, 0), [0, 1, 2, 0, 1, 2]);
        assert!(Partitioner::new(&edge(Partitioning::Unspecified), &schema, 0, 3, 128).is_err());
    }
}
