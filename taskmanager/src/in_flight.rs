//! Rows that an unaligned checkpoint has overtaken, on their way into the snapshot.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;
use weir_dataflow::schema::encode_schema;
use weir_dataflow::{Barrier, Batch, Result};
use weir_proto::v1;
use weir_proto::v1::in_flight::Content;

use crate::backend::SnapshotTargets;
use crate::exchange::codec::Encoder;
use crate::gate::InFlight;
use crate::input::ChannelId;

/// Up to this many bytes lie in the manifest itself.
const INLINE_BYTES: usize = 4 << 10;
/// What the file is called, behind attempt and UUID.
const FILE_NAME: &str = "in-flight";

/// What the cut of one subtask has overtaken.
pub struct Recorded {
    /// Of the checkpoint.
    pub barrier: Barrier,
    /// From the first arrival of the barrier to the last.
    pub alignment_ms: u64,
    /// In the order of the channels.
    pub ids: Arc<[ChannelId]>,
    /// The rows.
    pub in_flight: InFlight,
}

impl Recorded {
    /// Encodes and uploads the rows. Blocks. `None`: there are none.
    ///
    /// # Errors
    /// If the object store can't be written.
    pub fn upload(&self, targets: &SnapshotTargets) -> Result<Option<v1::InFlight>> {
        let data = self.encode()?;
        if data.channels.is_empty() {
            return Ok(None);
        }
        let bytes = Bytes::from(data.encode_to_vec());
        let (checkpoint, target) = (self.barrier.checkpoint, &self.barrier.target);
        let content = match targets.uploader(target)? {
            Some(uploader) if bytes.len() > INLINE_BYTES => {
                Content::File(uploader.put(checkpoint, target, FILE_NAME, bytes)?)
            }
            _ => Content::Inlined(bytes),
        };
        Ok(Some(v1::InFlight {
            content: Some(content),
            memory_bytes: self.batches().map(|b| b.memory_bytes() as u64).sum(),
            rows: self.batches().map(|b| b.num_rows() as u64).sum(),
        }))
    }

    fn batches(&self) -> impl Iterator<Item = &Batch> {
        let restored = self.in_flight.restored.iter().map(|(_, batch)| batch);
        restored.chain(self.in_flight.channels.iter().flatten())
    }

    /// Channels without rows are left out.
    pub fn encode(&self) -> Result<v1::InFlightData> {
        let mut encoder = Encoder::new(true)?;
        let mut channels = Vec::new();
        for (input, batch) in &self.in_flight.restored {
            // One entry a batch: batches of different inputs may come in any order.
            let batches = std::slice::from_ref(batch);
            channels.push(encode_channel(&mut encoder, *input, None, batches)?);
        }
        for (id, batches) in self.ids.iter().zip(&self.in_flight.channels) {
            if !batches.is_empty() {
                channels.push(encode_channel(&mut encoder, id.input, Some(id), batches)?);
            }
        }
        Ok(v1::InFlightData { channels })
    }
}

fn encode_channel(
    encoder: &mut Encoder,
    input: usize,
    id: Option<&ChannelId>,
    batches: &[Batch],
) -> Result<v1::InFlightChannel> {
    let encoded: Result<_> = batches.iter().map(|b| encoder.encode_batch(b)).collect();
    let schema = batches.first().map(Batch::schema);
    Ok(v1::InFlightChannel {
        input: u32::try_from(input).unwrap_or(u32::MAX),
        edge: id.map_or(0, |id| id.edge),
        source: id.map(|id| id.source),
        schema: schema.map_or_else(Vec::new, |schema| encode_schema(&schema)),
        batches: encoded?,
    })
}
