//! `debezium-json`: changelogs as Debezium writes them, `{"before":…,"after":…,"op":"c"|"r"|"u"|"d"}`.
//!
//! Reading: c and r are `+I`, u is `-U` and `+U`, d is `-D`. Writing, as Flink does: `+I` and `+U` are c, `-U` and `-D` are d.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt32Array};
use arrow::compute::{concat, take};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use weir_dataflow::{Batch, Error, Result, RowKind};

use super::json::{JsonDecoder, JsonEncoder, JsonOptions, columns_of, write_row};
use super::{DecodeError, Decoded, Decoder, EncodedRecords, Encoder};
use crate::options::OptionReader;

/// The options `debezium-json.*`.
#[derive(Debug, Clone)]
pub(crate) struct DebeziumOptions {
    json: JsonOptions,
    schema_include: bool,
}

impl DebeziumOptions {
    pub(crate) fn read(options: &OptionReader<'_>, prefix: &str) -> Result<Self> {
        let schema_include = options.boolean(&format!("{prefix}schema-include"))?;
        Ok(Self {
            json: JsonOptions::read_common(options, prefix)?,
            schema_include: schema_include.unwrap_or(false),
        })
    }
}

/// Reads change events. The envelope is read as JSON rows, then each is turned into the rows that it stands for.
pub(crate) struct DebeziumDecoder {
    schema: SchemaRef,
    envelopes: JsonDecoder,
    schema_include: bool,
    ignore_errors: bool,
}

/// A row of the result: from `before` or `after` of an envelope.
struct Picks {
    /// Row of `before` ++ `after`.
    rows: Vec<u32>,
    kinds: Vec<RowKind>,
    records: Vec<u32>,
}

impl DebeziumDecoder {
    pub(crate) fn new(schema: SchemaRef, options: &DebeziumOptions) -> Result<Self> {
        // In the envelope a side is absent as a whole; what the table says of its columns is checked when a row is taken from it.
        let columns = schema.fields().iter().map(|field| {
            let field = field.as_ref().clone();
            Arc::new(field.with_nullable(true))
        });
        let row = DataType::Struct(columns.collect());
        let envelope = vec![
            Field::new("before", row.clone(), true),
            Field::new("after", row, true),
            Field::new("op", DataType::Utf8, true),
        ];
        let fields = if options.schema_include {
            let payload = DataType::Struct(envelope.into());
            vec![Field::new("payload", payload, true)]
        } else {
            envelope
        };
        let outer = Arc::new(Schema::new(fields));
        Ok(Self {
            schema,
            envelopes: JsonDecoder::new(outer, &options.json)?,
            schema_include: options.schema_include,
            ignore_errors: options.json.ignore_parse_errors,
        })
    }

    /// `before`, `after` and `op`.
    fn sides(&self, columns: &RecordBatch) -> [ArrayRef; 3] {
        let from = |columns: &[ArrayRef]| {
            [
                Arc::clone(&columns[0]),
                Arc::clone(&columns[1]),
                Arc::clone(&columns[2]),
            ]
        };
        if self.schema_include {
            from(columns.column(0).as_struct().columns())
        } else {
            from(columns.columns())
        }
    }

    fn pick(
        &self,
        [before, after, op]: &[ArrayRef; 3],
        record_of: &dyn Fn(usize) -> usize,
        skipped: &mut u64,
    ) -> std::result::Result<Picks, DecodeError> {
        let ops = op.as_string::<i32>();
        let mut picks = Picks {
            rows: Vec::with_capacity(ops.len()),
            kinds: Vec::with_capacity(ops.len()),
            records: Vec::with_capacity(ops.len()),
        };
        for row in 0..ops.len() {
            let operation = if ops.is_null(row) { "" } else { ops.value(row) };
            let wanted: &[(&ArrayRef, RowKind)] = match operation {
                "c" | "r" => &[(after, RowKind::Insert)],
                "u" => &[
                    (before, RowKind::UpdateBefore),
                    (after, RowKind::UpdateAfter),
                ],
                "d" => &[(before, RowKind::Delete)],
                _ => &[],
            };
            if wanted.is_empty() || wanted.iter().any(|(side, _)| side.is_null(row)) {
                if self.ignore_errors {
                    *skipped += 1;
                    continue;
                }
                return Err(DecodeError {
                    record: record_of(row),
                    reason: refusal(operation),
                });
            }
            for (side, kind) in wanted {
                let offset = if Arc::ptr_eq(side, before) {
                    0
                } else {
                    ops.len()
                };
                picks.rows.push((row + offset) as u32);
                picks.kinds.push(*kind);
                picks.records.push(record_of(row) as u32);
            }
        }
        Ok(picks)
    }
}

fn refusal(operation: &str) -> String {
    match operation {
        "u" | "d" => "the event has no 'before' row; for PostgreSQL, set REPLICA IDENTITY of the table to FULL".to_owned(),
        "c" | "r" => "the event has no 'after' row".to_owned(),
        "" => "the event has no 'op'".to_owned(),
        _ => "the event's 'op' is none of c, r, u and d".to_owned(),
    }
}

impl Decoder for DebeziumDecoder {
    fn decode(&mut self, records: &[&[u8]]) -> std::result::Result<Decoded, DecodeError> {
        let envelopes = self.envelopes.decode(records)?;
        let origins = envelopes.record_of_row;
        let record_of = |row: usize| {
            let record = origins.as_ref().and_then(|origins| origins.get(row));
            record.map_or(row, |record| *record as usize)
        };
        let sides = self.sides(&envelopes.columns);
        let mut skipped = envelopes.skipped;
        let picks = self.pick(&sides, &record_of, &mut skipped)?;
        let failed = |error: String| DecodeError {
            record: 0,
            reason: error,
        };
        let rows = concat(&[sides[0].as_ref(), sides[1].as_ref()])
            .and_then(|both| take(&both, &UInt32Array::from(picks.rows), None))
            .map_err(|error| failed(error.to_string()))?;
        let arrays = rows.as_struct().columns().to_vec();
        let decoded = super::decoded(&self.schema, arrays, picks.kinds.len())?;
        Ok(Decoded {
            kinds: Some(picks.kinds),
            record_of_row: Some(picks.records),
            skipped,
            ..decoded
        })
    }
}

/// Writes change events.
pub(crate) struct DebeziumEncoder {
    json: JsonEncoder,
}

impl DebeziumEncoder {
    pub(crate) fn new(schema: SchemaRef, options: &DebeziumOptions) -> Result<Self> {
        if options.schema_include {
            return Err(Error::Config(
                "option 'debezium-json.schema-include' cannot be true for a table that is written to"
                    .to_owned(),
            ));
        }
        Ok(Self {
            json: JsonEncoder::new(schema, options.json.clone())?,
        })
    }
}

impl Encoder for DebeziumEncoder {
    fn encode(&mut self, batch: &Batch, out: &mut EncodedRecords) -> Result<()> {
        let columns = columns_of(batch)?;
        let (names, options) = (self.json.names(), self.json.options());
        for row in 0..batch.num_rows() {
            let bytes = &mut out.bytes;
            if batch.kind(row).is_retraction() {
                bytes.extend_from_slice(b"{\"before\":");
                write_row(bytes, &columns, names, row, options)?;
                bytes.extend_from_slice(b",\"after\":null,\"op\":\"d\"}");
            } else {
                bytes.extend_from_slice(b"{\"before\":null,\"after\":");
                write_row(bytes, &columns, names, row, options)?;
                bytes.extend_from_slice(b",\"op\":\"c\"}");
            }
            out.ends.push(out.bytes.len());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Format;
    use crate::test_util::options;
    use weir_dataflow::testing::{batch, format_rows, schema};

    fn format(pairs: &[(&str, &str)]) -> Format {
        let options = options(&[&[("format", "debezium-json")], pairs].concat());
        let reader = OptionReader::new("test", &options);
        let format = Format::required(&reader, "").unwrap();
        reader.finish().unwrap();
        format
    }

    fn table() -> SchemaRef {
        schema(&[("a", DataType::Int32), ("b", DataType::Utf8)])
    }

    fn decode(
        pairs: &[(&str, &str)],
        records: &[&str],
    ) -> std::result::Result<Decoded, DecodeError> {
        let records: Vec<&[u8]> = records.iter().map(|record| record.as_bytes()).collect();
        format(pairs)
            .decoder(&table(), &table())
            .unwrap()
            .decode(&records)
    }

    fn rows(decoded: Decoded) -> Vec<String> {
        let batch = Batch::with_kinds(decoded.columns, decoded.kinds.unwrap()).unwrap();
        format_rows(&batch).unwrap()
    }

    const EVENTS: [&str; 4] = [
        r#"{"before":null,"after":{"a":1,"b":"x"},"source":{"db":"d"},"op":"c","ts_ms":1}"#,
        r#"{"before":{"a":1,"b":"x"},"after":{"a":1,"b":"y"},"op":"u"}"#,
        "",
        r#"{"before":{"a":1,"b":"y"},"after":null,"op":"d"}"#,
    ];

    #[test]
    fn events_become_a_changelog() {
        let decoded = decode(&[], &EVENTS).unwrap();
        assert_eq!(decoded.record_of_row, Some(vec![0, 1, 1, 3]));
        assert_eq!(rows(decoded), ["+I 1 x", "-U 1 x", "+U 1 y", "-D 1 y"]);
        let snapshot = r#"{"schema":{},"payload":{"before":null,"after":{"a":7},"op":"r"}}"#;
        let wrapped = decode(&[("debezium-json.schema-include", "true")], &[snapshot]);
        assert_eq!(rows(wrapped.unwrap()), ["+I 7 null"]);
    }

    #[test]
    fn incomplete_events_are_refused_or_skipped() {
        let broken = [
            (
                r#"{"before":null,"after":{"a":1},"op":"u"}"#,
                "REPLICA IDENTITY",
            ),
            (r#"{"after":{"a":1},"op":"x"}"#, "none of c, r, u and d"),
            (r#"{"after":{"a":1}}"#, "no 'op'"),
            (r#"{"op":"c"}"#, "no 'after' row"),
        ];
        for (record, expected) in broken {
            let error = decode(&[], &[EVENTS[0], record]).map(rows).unwrap_err();
            assert_eq!(error.record, 1);
            assert!(error.reason.contains(expected), "{error:?}");
        }
        let ignore = [("debezium-json.ignore-parse-errors", "true")];
        let records = ["nonsense", broken[0].0, EVENTS[0]];
        let decoded = decode(&ignore, &records).unwrap();
        assert_eq!(
            (decoded.skipped, decoded.record_of_row.clone()),
            (2, Some(vec![2]))
        );
        assert_eq!(rows(decoded), ["+I 1 x"]);
    }

    #[test]
    fn updates_are_written_as_delete_and_create() {
        let changes = batch(&table(), "1 x\n-U 1 x\n+U 1 null\n-D 1 null").unwrap();
        let mut out = EncodedRecords::default();
        let mut encoder = format(&[]).encoder(&table()).unwrap();
        encoder.encode(&changes, &mut out).unwrap();
        let records: Vec<_> = out
            .iter()
            .map(|record| std::str::from_utf8(record).unwrap())
            .collect();
        assert_eq!(
            records,
            [
                r#"{"before":null,"after":{"a":1,"b":"x"},"op":"c"}"#,
                r#"{"before":{"a":1,"b":"x"},"after":null,"op":"d"}"#,
                r#"{"before":null,"after":{"a":1,"b":null},"op":"c"}"#,
                r#"{"before":{"a":1,"b":null},"after":null,"op":"d"}"#,
            ]
        );
    }
}
