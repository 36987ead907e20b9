//! What is in a part file: lines, or rows in the blocks of a container.

use std::fs::File;
use std::io::Write;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use weir_dataflow::{Batch, Error, Result};

use crate::format::container::{Container, ContainerWriter};
use crate::format::{EncodedRecords, Encoder, Format};

/// Part of what goes into a file, made on the slot's thread.
pub(super) enum Portion {
    /// Records with their ends of line.
    Lines(Vec<u8>),
    Rows(RecordBatch),
}

/// Makes portions of batches.
pub(super) enum Portions {
    Lines {
        encoder: Box<dyn Encoder>,
        records: EncodedRecords,
    },
    Rows,
}

impl Portions {
    pub(super) fn new(format: &Format, schema: &SchemaRef) -> Result<Self> {
        if let Some(container) = format.container() {
            container.check(schema)?;
            return Ok(Self::Rows);
        }
        Ok(Self::Lines {
            encoder: format.encoder(schema)?,
            records: EncodedRecords::default(),
        })
    }

    pub(super) fn portion(&mut self, batch: &Batch) -> Result<Portion> {
        let Self::Lines { encoder, records } = self else {
            return Ok(Portion::Rows(batch.data().clone()));
        };
        records.clear();
        encoder.encode(batch, records)?;
        let mut lines = Vec::with_capacity(records.bytes.len() + records.ends.len());
        for record in records.iter() {
            lines.extend_from_slice(record);
            lines.push(b'\n');
        }
        Ok(Portion::Lines(lines))
    }
}

/// A file's content as it is written.
pub(super) enum Content {
    Lines { file: File, bytes: u64 },
    Rows(ContainerWriter),
}

impl Content {
    pub(super) fn begin(
        file: File,
        container: Option<&Container>,
        schema: &SchemaRef,
    ) -> Result<Self> {
        Ok(match container {
            Some(container) => Self::Rows(container.create(file, schema)?),
            None => Self::Lines { file, bytes: 0 },
        })
    }

    pub(super) fn write(&mut self, portion: &Portion) -> Result<()> {
        match (self, portion) {
            (Self::Lines { file, bytes }, Portion::Lines(lines)) => {
                *bytes += lines.len() as u64;
                file.write_all(lines)
                    .map_err(|error| Error::io("cannot write the lines", error))
            }
            (Self::Rows(writer), Portion::Rows(rows)) => writer.write(rows),
            _ => Err(Error::Internal(
                "lines and rows cannot be in one file".to_owned(),
            )),
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        match self {
            Self::Lines { bytes, .. } => *bytes,
            Self::Rows(writer) => writer.bytes(),
        }
    }

    /// Completes the file.
    pub(super) fn finish(self) -> Result<()> {
        match self {
            Self::Lines { .. } => Ok(()),
            Self::Rows(writer) => writer.finish(),
        }
    }
}
