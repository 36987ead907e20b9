//! Avro object container files (Avro 1.11.1, «Object Container Files»). Rows are skipped by reading over them: blocks name no row numbers.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow_avro::reader::ReaderBuilder;
use arrow_avro::schema::{AvroSchema, SCHEMA_METADATA_KEY};
use arrow_avro::writer::format::AvroOcfFormat;
use arrow_avro::writer::{Writer as RowWriter, WriterBuilder};
use weir_common::limits::BATCH_ROWS;
use weir_dataflow::{Error, Result};

use super::super::avro::{AvroOptions, encodable, file_schema, with_names_of};
use super::{Rows, conform, failed};

/// The options `avro.*` as far as they are about files.
#[derive(Debug, Clone)]
pub(crate) struct AvroFiles(pub(crate) AvroOptions);

impl AvroFiles {
    pub(super) fn check(&self, schema: &SchemaRef) -> Result<()> {
        self.0.schema_of(schema).map(|_| ())
    }

    pub(super) fn open(
        &self,
        file: File,
        read: &SchemaRef,
        skip: u64,
    ) -> std::result::Result<Rows, String> {
        let asked = self.0.schema_of(read).map_err(|error| error.to_string())?;
        let written = schema_of_file(&file)?;
        let schema = with_names_of(&asked, &written).map_err(|error| error.to_string())?;
        let reader = ReaderBuilder::new()
            .with_reader_schema(AvroSchema::new(schema))
            .with_batch_size(BATCH_ROWS)
            .build(BufReader::with_capacity(1 << 20, file))
            .map_err(|error| error.to_string())?;
        let read = read.clone();
        let mut skip = usize::try_from(skip).unwrap_or(usize::MAX);
        let rows = reader.filter_map(move |batch| match batch {
            Ok(batch) => {
                let over = skip.min(batch.num_rows());
                skip -= over;
                let left = batch.slice(over, batch.num_rows() - over);
                (left.num_rows() > 0).then(|| conform(&left, &read))
            }
            Err(error) => Some(Err(error.to_string())),
        });
        Ok(Box::new(rows))
    }

    pub(super) fn create(&self, file: File, schema: &SchemaRef) -> Result<Box<Writer>> {
        self.check(schema)?;
        let schema = file_schema(schema, self.0.mapping);
        let bytes = Arc::new(AtomicU64::new(0));
        let out = Counted {
            file: BufWriter::with_capacity(1 << 20, file),
            bytes: Arc::clone(&bytes),
        };
        let rows = WriterBuilder::new(schema.as_ref().clone())
            .with_compression(self.0.codec)
            .build::<_, AvroOcfFormat>(out)
            .map_err(|error| failed("avro", error))?;
        Ok(Box::new(Writer {
            schema,
            rows,
            bytes,
        }))
    }
}

/// The schema in the file's header, as JSON, if the file is complete: the library takes a block that is cut off for the end. The file is
/// at its beginning afterwards.
fn schema_of_file(mut file: &File) -> std::result::Result<String, String> {
    let text = |error: std::io::Error| error.to_string();
    let reader = ReaderBuilder::new().build(BufReader::new(file));
    let reader = reader.map_err(|error| error.to_string())?;
    let header = reader.avro_header();
    let mut end = [0; 16];
    file.seek(SeekFrom::End(-16)).map_err(text)?;
    file.read_exact(&mut end).map_err(text)?;
    if end != header.sync() {
        return Err("it is cut off: it does not end with its sync marker".to_owned());
    }
    let schema = header.get(SCHEMA_METADATA_KEY);
    let schema = schema.ok_or("its header has no schema")?.to_vec();
    file.rewind().map_err(text)?;
    String::from_utf8(schema).map_err(|error| error.to_string())
}

pub(crate) struct Writer {
    schema: SchemaRef,
    rows: RowWriter<Counted, AvroOcfFormat>,
    /// Of `rows`, which lets nobody look at what it writes to.
    bytes: Arc<AtomicU64>,
}

impl Writer {
    pub(super) fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        let rows = encodable(rows, &self.schema)?;
        self.rows
            .write(&rows)
            .map_err(|error| failed("avro", error))
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(super) fn finish(mut self) -> Result<()> {
        self.rows.finish().map_err(|error| failed("avro", error))?;
        let mut out = self.rows.into_inner();
        out.flush()
            .map_err(|error| Error::io("cannot write a file of format 'avro'", error))
    }
}

/// A file that knows how much was written.
struct Counted {
    file: BufWriter<File>,
    bytes: Arc<AtomicU64>,
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.bytes.fetch_add(written as u64, Ordering::Relaxed);
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}
