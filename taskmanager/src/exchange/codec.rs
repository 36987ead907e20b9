//! Elements as messages of the exchange. Batches are Arrow IPC messages without the schema, which both ends have from the job graph.

use std::collections::HashMap;

use arrow::buffer::Buffer;
use arrow::datatypes::SchemaRef;
use arrow_ipc::CompressionType;
use arrow_ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteContext, IpcWriteOptions};
use weir_common::ids::CheckpointId;
use weir_dataflow::{Barrier, Batch, Element, Error, Result, SnapshotTarget};
use weir_proto::v1;
use weir_proto::v1::exchange_data::Element as Wire;

/// Encodes the batches of one producer subtask. Keeps its buffers.
pub struct Encoder {
    generator: IpcDataGenerator,
    options: IpcWriteOptions,
    context: IpcWriteContext,
}

impl Encoder {
    /// `lz4`: compress the columns.
    pub fn new(lz4: bool) -> Result<Self> {
        let compression = lz4.then_some(CompressionType::LZ4_FRAME);
        Ok(Self {
            generator: IpcDataGenerator::default(),
            options: IpcWriteOptions::default().try_with_compression(compression)?,
            context: IpcWriteContext::default(),
        })
    }

    /// The element as it travels.
    pub fn encode(&mut self, element: &Element) -> Result<Wire> {
        Ok(match element {
            Element::Batch(batch) => Wire::Batch(self.encode_batch(batch)?),
            Element::Watermark(watermark) => Wire::WatermarkMs(*watermark),
            Element::Idle => Wire::Idle(true),
            Element::EndOfData => Wire::EndOfData(true),
            Element::Barrier(barrier) => Wire::Barrier(encode_barrier(barrier)),
        })
    }

    /// A batch as it travels, and as it lies in a snapshot.
    pub fn encode_batch(&mut self, batch: &Batch) -> Result<v1::BatchData> {
        let mut dictionaries = DictionaryTracker::new(false);
        let (dictionary_batches, data) = self.generator.encode(
            batch.data(),
            &mut dictionaries,
            &self.options,
            &mut self.context,
        )?;
        if !dictionary_batches.is_empty() {
            return Err(Error::Internal(
                "a dictionary-encoded column reached an exchange".to_owned(),
            ));
        }
        Ok(v1::BatchData {
            ipc_header: data.ipc_message.into(),
            ipc_body: data.arrow_data.into(),
            row_kinds: batch.kinds_to_bytes().into(),
        })
    }
}

/// From the wire; `schema` is the edge's.
///
/// # Errors
/// If the bytes are not what an [`Encoder`] makes for this schema.
pub fn decode(wire: Wire, schema: &SchemaRef) -> Result<Element> {
    Ok(match wire {
        Wire::Batch(data) => Element::Batch(decode_batch(data, schema)?),
        Wire::WatermarkMs(watermark) => Element::Watermark(watermark),
        Wire::Idle(_) => Element::Idle,
        Wire::EndOfData(_) => Element::EndOfData,
        Wire::Barrier(barrier) => Element::Barrier(decode_barrier(barrier)),
    })
}

/// What [`Encoder::encode_batch`] made; `schema` is the edge's.
pub fn decode_batch(data: v1::BatchData, schema: &SchemaRef) -> Result<Batch> {
    let broken = |what: String| Error::External {
        system: "exchange",
        message: format!("a batch cannot be decoded: {what}"),
    };
    let message =
        arrow_ipc::root_as_message(&data.ipc_header).map_err(|error| broken(error.to_string()))?;
    let header = message
        .header_as_record_batch()
        .ok_or_else(|| broken("no record batch in it".to_owned()))?;
    let body = Buffer::from(data.ipc_body);
    let columns = arrow_ipc::reader::read_record_batch(
        &body,
        header,
        schema.clone(),
        &HashMap::new(),
        None,
        &message.version(),
    )?;
    Batch::from_wire(columns, &data.row_kinds)
}

fn encode_barrier(barrier: &Barrier) -> v1::BarrierData {
    let savepoint_base = match &barrier.target {
        SnapshotTarget::Checkpoint => None,
        SnapshotTarget::Savepoint(base) => Some(base.to_string()),
    };
    v1::BarrierData {
        checkpoint_id: barrier.checkpoint.0,
        timestamp_ms: barrier.timestamp_ms,
        savepoint: savepoint_base.is_some(),
        savepoint_base: savepoint_base.unwrap_or_default(),
        stop_sources: barrier.stop_sources,
        overtakes_from_ms: barrier.overtakes_from_ms,
    }
}

fn decode_barrier(barrier: v1::BarrierData) -> Barrier {
    let target = if barrier.savepoint {
        SnapshotTarget::Savepoint(barrier.savepoint_base.into())
    } else {
        SnapshotTarget::Checkpoint
    };
    Barrier {
        checkpoint: CheckpointId(barrier.checkpoint_id),
        timestamp_ms: barrier.timestamp_ms,
        target,
        stop_sources: barrier.stop_sources,
        overtakes_from_ms: barrier.overtakes_from_ms,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::{DataType, TimeUnit};
    use weir_dataflow::testing::{batch, format_rows, schema};

    #[test]
    fn batches_survive_with_kinds_nulls_and_slices() {
        let schema = schema(&[
            ("a", DataType::Int64),
            ("b", DataType::Utf8),
            ("c", DataType::Decimal128(10, 2)),
            ("t", DataType::Timestamp(TimeUnit::Millisecond, None)),
        ]);
        let text =
            "1 x 1.25 2020-01-01T00:00:00\n-D 2 null null null\n+U 3 long-text-here 7.00 null";
        let sent = batch(&schema, text).unwrap();
        for lz4 in [false, true] {
            let mut encoder = Encoder::new(lz4).unwrap();
            for part in [sent.clone(), sent.slice(1, 2), sent.slice(2, 1)] {
                let wire = encoder.encode(&Element::Batch(part.clone())).unwrap();
                let Element::Batch(got) = decode(wire, &schema).unwrap() else {
                    panic!("not a batch")
                };
                assert_eq!(format_rows(&got).unwrap(), format_rows(&part).unwrap());
            }
        }
    }

    #[test]
    fn barriers_survive() {
        let mut encoder = Encoder::new(false).unwrap();
        let empty = schema(&[]);
        for target in [
            SnapshotTarget::Checkpoint,
            SnapshotTarget::Savepoint("s3://b/p".into()),
        ] {
            let barrier = Barrier {
                checkpoint: CheckpointId(7),
                timestamp_ms: 99,
                target,
                stop_sources: true,
                overtakes_from_ms: Some(-3),
            };
            let wire = encoder.encode(&Element::Barrier(barrier.clone())).unwrap();
            assert!(matches!(decode(wire, &empty).unwrap(), Element::Barrier(b) if b == barrier));
        }
    }

    #[test]
    fn garbage_is_an_error_and_no_panic() {
        let schema = schema(&[("a", DataType::Int64)]);
        for header in [&b""[..], b"garbage that is no flatbuffer at all"] {
            let data = v1::BatchData {
                ipc_header: header.to_vec().into(),
                ipc_body: vec![1, 2, 3].into(),
                row_kinds: Vec::new().into(),
            };
            assert!(decode(Wire::Batch(data), &schema).is_err());
        }
    }
}
