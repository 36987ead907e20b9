//! `print`: writes each row as Flink prints a Row, `+I[1, abc]`, to standard output or error. For looking at results; no guarantee.

use std::io::Write;

use arrow::datatypes::TimeUnit;
use bytes::Bytes;
use weir_dataflow::{Batch, Deferred, Error, Result, SinkWriter};

use crate::context::SinkContext;
use crate::format::cells::{Cells, Column, entries};
use crate::format::json::columns_of;
use crate::format::print;
use crate::options::OptionReader;
use crate::registry::{Accepts, SinkDescription};

struct PrintOptions {
    identifier: String,
    standard_error: bool,
}

fn read(options: OptionReader<'_>) -> Result<PrintOptions> {
    let read = PrintOptions {
        identifier: options.text("print-identifier").unwrap_or("").to_owned(),
        standard_error: options.boolean("standard-error")?.unwrap_or(false),
    };
    options.refuse("sink.parallelism", "set 'parallelism.default'")?;
    options.finish()?;
    Ok(read)
}

pub(crate) fn describe(options: OptionReader<'_>) -> Result<SinkDescription> {
    read(options)?;
    Ok(SinkDescription {
        accepts: Accepts::All,
        transactional: false,
    })
}

pub(crate) fn open(
    options: OptionReader<'_>,
    context: &SinkContext,
) -> Result<Box<dyn SinkWriter>> {
    let options = read(options)?;
    let number = context.info.subtask + 1;
    let prefix = match (options.identifier.as_str(), context.info.parallelism > 1) {
        ("", false) => String::new(),
        ("", true) => format!("{number}> "),
        (identifier, false) => format!("{identifier}> "),
        (identifier, true) => format!("{identifier}:{number}> "),
    };
    Ok(Box::new(Printer {
        prefix,
        standard_error: options.standard_error,
        lines: Vec::new(),
    }))
}

struct Printer {
    prefix: String,
    standard_error: bool,
    lines: Vec<u8>,
}

impl SinkWriter for Printer {
    fn ready(&mut self) -> Result<bool> {
        Ok(true)
    }

    fn write(&mut self, batch: &Batch) -> Result<()> {
        self.lines.clear();
        format_batch(&mut self.lines, &self.prefix, batch)?;
        let written = if self.standard_error {
            std::io::stderr().lock().write_all(&self.lines)
        } else {
            let mut out = std::io::stdout().lock();
            out.write_all(&self.lines).and_then(|()| out.flush())
        };
        written.map_err(|error| Error::io("cannot print", error))
    }

    fn prepare(&mut self, _: u64) -> Result<Deferred<Vec<Bytes>>> {
        Ok(Box::new(|| Ok(Vec::new())))
    }
}

/// One line a row.
fn format_batch(out: &mut Vec<u8>, prefix: &str, batch: &Batch) -> Result<()> {
    let columns = columns_of(batch)?;
    for row in 0..batch.num_rows() {
        out.extend_from_slice(prefix.as_bytes());
        format_row(out, batch.kind(row).short(), &columns, row);
        out.push(b'\n');
    }
    Ok(())
}

fn format_row(out: &mut Vec<u8>, kind: &str, columns: &[Column<'_>], row: usize) {
    out.extend_from_slice(kind.as_bytes());
    out.push(b'[');
    for (index, column) in columns.iter().enumerate() {
        if index > 0 {
            out.extend_from_slice(b", ");
        }
        format_cell(out, column, row);
    }
    out.push(b']');
}

/// As `toString` of the class that Flink hands to the print sink.
fn format_cell(out: &mut Vec<u8>, column: &Column<'_>, row: usize) {
    if column.is_null(row) {
        out.extend_from_slice(b"null");
        return;
    }
    match &column.cells {
        Cells::Null => out.extend_from_slice(b"null"),
        Cells::Exact(values) => values.write(out, row),
        Cells::Float32(values) => print::float(out, values.value(row)),
        Cells::Float64(values) => print::double(out, values.value(row)),
        Cells::Decimal(values, scale) => print::decimal_plain(out, values.value(row), *scale),
        Cells::Text(values) => out.extend_from_slice(values.value(row).as_bytes()),
        Cells::Binary(values) => {
            out.push(b'[');
            for (index, byte) in values.value(row).iter().enumerate() {
                if index > 0 {
                    out.extend_from_slice(b", ");
                }
                print::integer(out, *byte as i8);
            }
            out.push(b']');
        }
        Cells::Date(values) => print::date(out, i64::from(values.value(row))),
        Cells::Time(values) => {
            print::java_time(
                out,
                i64::from(values.value(row)),
                TimeUnit::Millisecond,
                false,
            );
        }
        Cells::Timestamp(values, unit, zoned) => {
            print::java_timestamp(out, values[row], *unit, *zoned);
        }
        Cells::List(list, element) => {
            out.push(b'[');
            for (index, entry) in entries(list.value_offsets(), row).enumerate() {
                if index > 0 {
                    out.extend_from_slice(b", ");
                }
                format_cell(out, element, entry);
            }
            out.push(b']');
        }
        Cells::Map(map, keys, values) => {
            out.push(b'{');
            for (index, entry) in entries(map.value_offsets(), row).enumerate() {
                if index > 0 {
                    out.extend_from_slice(b", ");
                }
                format_cell(out, keys, entry);
                out.push(b'=');
                format_cell(out, values, entry);
            }
            out.push(b'}');
        }
        Cells::Row(columns) => format_row(out, "+I", columns, row),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_util::{sink, sink_context};
    use arrow::datatypes::DataType;
    use weir_dataflow::testing::{batch, schema};

    #[test]
    fn rows_are_printed_as_flink_does() {
        let timestamp =
            |zone: Option<&str>| DataType::Timestamp(TimeUnit::Millisecond, zone.map(Into::into));
        let schema = schema(&[
            ("a", DataType::Int32),
            ("b", DataType::Utf8),
            ("c", timestamp(None)),
            ("d", timestamp(Some("UTC"))),
            ("e", DataType::Float64),
        ]);
        let rows = "
            1 abc 2026-03-31T18:40:00 2026-03-31T18:40:00Z 1e10
            -U 2 null 2026-03-31T18:40:01.300 2026-03-31T18:40:01.300Z 0.5
            -D null x 2026-03-31T18:40:01 null null";
        let mut out = Vec::new();
        format_batch(&mut out, "2> ", &batch(&schema, rows).unwrap()).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "2> +I[1, abc, 2026-03-31T18:40, 2026-03-31T18:40:00Z, 1.0E10]\n\
             2> -U[2, null, 2026-03-31T18:40:01.300, 2026-03-31T18:40:01.300Z, 0.5]\n\
             2> -D[null, x, 2026-03-31T18:40:01, null, null]\n"
        );
    }

    #[test]
    fn an_option_with_a_slip_is_refused() {
        let context = sink_context(schema(&[("a", DataType::Int32)]), 0, 1);
        let spec = sink("print", &[("print-identifer", "x")]);
        let error = crate::open_sink(&spec, context).err().unwrap().to_string();
        assert!(
            error.contains("did you mean 'print-identifier'?"),
            "{error}"
        );
    }
}
