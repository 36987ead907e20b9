//! The reader of a Kafka table: takes raw records from the fetcher's thread and decodes them on the slot's.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray,
};
use arrow::datatypes::{Schema, SchemaRef};
use bytes::Bytes;
use weir_common::metric_names;
use weir_dataflow::schema::decode_schema;
use weir_dataflow::types::METADATA_KEY;
use weir_dataflow::{Batch, Error, Result, SourceEvent, SourceReader};
use weir_proto::v1;

use super::decode::RecordDecoder;
use super::fetcher::{Fetched, Fetcher};
use super::options::SourceOptions;
use super::raw_records::RawRecords;
use super::record::RecordFormat;
use super::split::Split;
use crate::context::SourceContext;
use crate::format::Decoded;
use crate::options::OptionReader;

/// Reads the partitions of one subtask.
pub struct KafkaSource {
    table: String,
    schema: SchemaRef,
    decoder: RecordDecoder,
    fetcher: Fetcher,
    /// By the number that events carry; finished ones stay, so that their state is kept.
    splits: Vec<Split>,
    events: VecDeque<SourceEvent>,
    is_discovered: bool,
    no_more_splits: bool,
    commits_offsets: bool,
    /// Offsets as of each snapshot, until its checkpoint is complete.
    snapshots: VecDeque<Vec<Split>>,
    decode_errors: metrics::Counter,
}

/// The columns that are decoded, and the metadata columns with their place in the schema.
pub fn physical(schema: &Schema) -> (Schema, Vec<(usize, String)>) {
    let mut fields = Vec::new();
    let mut metadata = Vec::new();
    for (index, field) in schema.fields().iter().enumerate() {
        match field.metadata().get(METADATA_KEY) {
            Some(key) => metadata.push((index, key.clone())),
            None => fields.push(Arc::clone(field)),
        }
    }
    (Schema::new(fields), metadata)
}

impl KafkaSource {
    /// Starts the fetcher; what the broker says comes by [`SourceReader::poll`].
    pub fn open(spec: &v1::Source, context: SourceContext) -> Result<Self> {
        let reader = OptionReader::new(&spec.connector, &spec.options);
        let options = SourceOptions::read(&reader)?;
        let (stored, _) = physical(&context.schema);
        let table = decode_schema(&spec.table_schema)?;
        let format = RecordFormat::read(&reader, &table, &spec.primary_key)?;
        let decoder = RecordDecoder::new(&format, &Arc::new(stored), &table)?;
        let restored = context
            .restored
            .iter()
            .map(|item| Split::decode(item))
            .collect::<Result<Vec<_>>>()?;
        let commits_offsets = options.group.is_some();
        let decode_errors = metrics::counter!(
            metric_names::DECODE_ERRORS,
            "job" => context.info.job.to_string(), "table" => spec.table.clone(), "subtask" => context.info.subtask.to_string()
        );
        Ok(Self {
            table: spec.table.clone(),
            schema: Arc::clone(&context.schema),
            fetcher: Fetcher::start(options, decoder.reads_keys(), restored, &context)?,
            decoder,
            splits: Vec::new(),
            events: VecDeque::new(),
            is_discovered: false,
            no_more_splits: false,
            commits_offsets,
            snapshots: VecDeque::new(),
            decode_errors,
        })
    }

    fn take(&mut self, fetched: Fetched) -> Result<()> {
        match fetched {
            Fetched::Splits(splits) => {
                self.is_discovered = true;
                self.events.extend(starts(self.splits.len(), &splits));
                self.splits.extend(splits);
            }
            Fetched::NoMoreSplits => self.no_more_splits = true,
            Fetched::Records(records) => self.decode(records)?,
            Fetched::End { split, offset } => {
                if let Some(state) = self.splits.get_mut(split as usize) {
                    state.next_offset = state.next_offset.max(offset);
                    self.events.push_back(SourceEvent::SplitFinished(split));
                }
            }
        }
        Ok(())
    }

    fn decode(&mut self, records: RawRecords) -> Result<()> {
        let Some(split) = self.splits.get(records.split as usize) else {
            return Err(Error::Internal(
                "records of an unknown Kafka split".to_owned(),
            ));
        };
        let decoded = self.decoder.decode(&records).map_err(|error| {
            let offset = records.offsets.get(error.record).copied().unwrap_or(-1);
            error.at(
                &self.table,
                &format!(
                    "topic '{}', partition {}, offset {offset}",
                    split.topic, split.partition
                ),
            )
        })?;
        self.decode_errors.increment(decoded.skipped);
        let batch = self.assemble(split, &records, decoded)?;
        let number = records.split;
        if let Some(state) = self.splits.get_mut(number as usize) {
            state.next_offset = records.next_offset;
        }
        if batch.num_rows() > 0 {
            self.events.push_back(SourceEvent::Batch {
                split: number,
                batch,
            });
        }
        Ok(())
    }

    /// Puts the metadata columns between the decoded ones.
    fn assemble(&self, split: &Split, records: &RawRecords, decoded: Decoded) -> Result<Batch> {
        let rows = decoded.columns.num_rows();
        let record_of = |row: usize| {
            let records = decoded.record_of_row.as_ref();
            let record = records.and_then(|records| records.get(row));
            record.map_or(row, |record| *record as usize)
        };
        let mut physical = decoded.columns.columns().iter();
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.schema.fields().len());
        for field in self.schema.fields() {
            let of_record = |values: &[i64]| {
                (0..rows)
                    .map(|row| values.get(record_of(row)).copied().unwrap_or(0))
                    .collect::<Vec<_>>()
            };
            let column: ArrayRef = match field.metadata().get(METADATA_KEY).map(String::as_str) {
                None => match physical.next() {
                    Some(column) => Arc::clone(column),
                    None => {
                        return Err(Error::Internal(
                            "the decoder gave too few columns".to_owned(),
                        ));
                    }
                },
                Some("topic") => Arc::new(StringArray::from(vec![split.topic.as_str(); rows])),
                Some("partition") => Arc::new(Int32Array::from(vec![split.partition; rows])),
                Some("offset") => Arc::new(Int64Array::from(of_record(&records.offsets))),
                Some("timestamp") => Arc::new(
                    TimestampMillisecondArray::from(of_record(&records.timestamps_ms))
                        .with_timezone("UTC"),
                ),
                Some(other) => {
                    return Err(Error::Config(format!(
                        "connector 'kafka' has no metadata column '{other}'"
                    )));
                }
            };
            columns.push(match column.data_type() == field.data_type() {
                true => column,
                false => arrow::compute::cast(&column, field.data_type())?,
            });
        }
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(rows));
        let data = RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?;
        match decoded.kinds {
            Some(kinds) => Batch::with_kinds(data, kinds),
            None => Ok(Batch::inserts(data)),
        }
    }
}

/// Names the splits with records to read, the first of them having this number. One that a restored state has finished is not started, to be
/// finished at once: before the next one is named the reader would seem to have none, and the watermark would pass the rows of that.
fn starts(first: usize, splits: &[Split]) -> impl Iterator<Item = SourceEvent> {
    let numbered = (first as u32..).zip(splits);
    numbered
        .filter(|(_, split)| !split.is_finished())
        .map(|(number, _)| SourceEvent::SplitStarted(number))
}

impl SourceReader for KafkaSource {
    fn poll(&mut self) -> Result<SourceEvent> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(event);
            }
            if self.no_more_splits && self.splits.iter().all(Split::is_finished) {
                return Ok(SourceEvent::EndOfData);
            }
            match self.fetcher.try_next()? {
                Some(fetched) => self.take(fetched)?,
                None => return Ok(SourceEvent::Pending),
            }
        }
    }

    fn snapshot(&mut self) -> Result<Vec<Bytes>> {
        let mut splits = self.splits.clone();
        // What was restored counts until the brokers have named it again.
        for restored in self.fetcher.restored_own() {
            if !splits
                .iter()
                .any(|split| split.topic == restored.topic && split.partition == restored.partition)
            {
                splits.push(restored);
            }
        }
        if self.commits_offsets {
            self.snapshots.push_back(splits.clone());
        }
        Ok(splits.iter().map(Split::encode).collect())
    }

    fn checkpoint_completed(&mut self, _: u64) -> Result<()> {
        // Only the newest is of interest, and an older one that failed is covered by it.
        if let Some(splits) = self.snapshots.pop_back() {
            self.snapshots.clear();
            self.fetcher.commit(splits);
        }
        Ok(())
    }

    fn is_discovering(&self) -> bool {
        !self.is_discovered
    }

    fn close(&mut self) {
        self.fetcher.stop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_never_seems_to_have_no_split_while_it_names_them() {
        let split = |partition, next_offset| Split {
            topic: "orders".into(),
            partition,
            next_offset,
            stop_offset: 10,
        };
        let splits = [split(0, 10), split(3, 4), split(6, 10), split(9, 0)];
        let named: Vec<_> = starts(2, &splits)
            .map(|event| match event {
                SourceEvent::SplitStarted(number) => number,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(named, [3, 5]);
    }
}
