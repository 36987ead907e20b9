//! `print`: rows on the standard output, in the text of Flink's print sink: `+I[1, abc]`.

use std::io::Write as _;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, TimeUnit};
use arrow::temporal_conversions::{
    timestamp_ms_to_datetime, timestamp_ns_to_datetime, timestamp_us_to_datetime,
};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use bytes::Bytes;
use weir_dataflow::{Batch, Deferred, Result, SinkWriter};

use crate::context::SinkContext;
use crate::options::OptionReader;
use crate::registry::{Accepts, SinkDescription};

struct PrintOptions {
    identifier: Option<String>,
    standard_error: bool,
}

fn read(options: OptionReader<'_>) -> Result<PrintOptions> {
    let identifier = options
        .text("print-identifier")
        .filter(|text| !text.is_empty())
        .map(str::to_owned);
    let standard_error = options.boolean("standard-error")?.unwrap_or(false);
    options.refuse("sink.parallelism", "use 'parallelism.default'")?;
    options.finish()?;
    Ok(PrintOptions {
        identifier,
        standard_error,
    })
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
    let info = &context.info;
    let number = (info.parallelism > 1).then(|| (info.subtask + 1).to_string());
    let prefix = match (options.identifier, number) {
        (Some(identifier), Some(number)) => format!("{identifier}:{number}> "),
        (Some(identifier), None) => format!("{identifier}> "),
        (None, Some(number)) => format!("{number}> "),
        (None, None) => String::new(),
    };
    Ok(Box::new(Print {
        prefix,
        standard_error: options.standard_error,
        text: String::new(),
    }))
}

struct Print {
    prefix: String,
    standard_error: bool,
    text: String,
}

impl SinkWriter for Print {
    fn ready(&mut self) -> Result<bool> {
        Ok(true)
    }

    /// Writes from the slot's thread: what reads a terminal or a pipe is as fast as printing may be.
    fn write(&mut self, batch: &Batch) -> Result<()> {
        self.text.clear();
        for row in 0..batch.num_rows() {
            self.text.push_str(&self.prefix);
            self.text.push_str(batch.kind(row).short());
            write_fields(&mut self.text, batch.data().columns(), row)?;
            self.text.push('\n');
        }
        let written = match self.standard_error {
            true => std::io::stderr().lock().write_all(self.text.as_bytes()),
            false => {
                let mut out = std::io::stdout().lock();
                out.write_all(self.text.as_bytes())
                    .and_then(|()| out.flush())
            }
        };
        written.map_err(|error| weir_dataflow::Error::io("cannot print", error))
    }

    fn prepare(&mut self, _: u64) -> Result<Deferred<Vec<Bytes>>> {
        Ok(Box::new(|| Ok(Vec::new())))
    }
}

fn write_fields(text: &mut String, columns: &[ArrayRef], row: usize) -> Result<()> {
    text.push('[');
    for (index, column) in columns.iter().enumerate() {
        if index > 0 {
            text.push_str(", ");
        }
        write_value(text, column, row)?;
    }
    text.push(']');
    Ok(())
}

/// As Java's `toString` gives it.
fn write_value(text: &mut String, column: &ArrayRef, row: usize) -> Result<()> {
    if column.is_null(row) {
        text.push_str("null");
        return Ok(());
    }
    match column.data_type() {
        DataType::Utf8 => text.push_str(column.as_string::<i32>().value(row)),
        DataType::Timestamp(unit, zone) => {
            write_timestamp(text, column, *unit, zone.is_some(), row)
        }
        DataType::Struct(_) => {
            text.push_str("+I");
            write_fields(text, column.as_struct().columns(), row)?;
        }
        DataType::List(_) => {
            let items = column.as_list::<i32>().value(row);
            text.push('[');
            for index in 0..items.len() {
                text.push_str(if index > 0 { ", " } else { "" });
                write_value(text, &items, index)?;
            }
            text.push(']');
        }
        DataType::Map(_, _) => {
            let entries = column.as_map().value(row);
            text.push('{');
            for index in 0..entries.len() {
                text.push_str(if index > 0 { ", " } else { "" });
                write_value(text, entries.column(0), index)?;
                text.push('=');
                write_value(text, entries.column(1), index)?;
            }
            text.push('}');
        }
        DataType::Binary => {
            let bytes = column.as_binary::<i32>().value(row);
            let signed: Vec<String> = bytes.iter().map(|byte| (*byte as i8).to_string()).collect();
            text.push_str(&format!("[{}]", signed.join(", ")));
        }
        _ => {
            let options = FormatOptions::default();
            text.push_str(
                &ArrayFormatter::try_new(column.as_ref(), &options)?
                    .value(row)
                    .to_string(),
            );
        }
    }
    Ok(())
}

/// `LocalDateTime.toString`: seconds and fraction only as far as they are there; a `Z` at an instant.
fn write_timestamp(
    text: &mut String,
    column: &ArrayRef,
    unit: TimeUnit,
    is_instant: bool,
    row: usize,
) {
    use arrow::datatypes::{
        TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    };
    let time = match unit {
        TimeUnit::Microsecond => {
            timestamp_us_to_datetime(column.as_primitive::<TimestampMicrosecondType>().value(row))
        }
        TimeUnit::Nanosecond => {
            timestamp_ns_to_datetime(column.as_primitive::<TimestampNanosecondType>().value(row))
        }
        _ => column
            .as_primitive_opt::<TimestampMillisecondType>()
            .and_then(|c| timestamp_ms_to_datetime(c.value(row))),
    };
    let Some(time) = time else {
        text.push_str("out of range");
        return;
    };
    let nanos = time.and_utc().timestamp_subsec_nanos();
    let seconds = time.and_utc().timestamp().rem_euclid(60);
    let format = match (nanos, seconds) {
        (0, 0) if !is_instant => "%Y-%m-%dT%H:%M",
        (0, _) => "%Y-%m-%dT%H:%M:%S",
        (nanos, _) if nanos % 1_000_000 == 0 => "%Y-%m-%dT%H:%M:%S%.3f",
        (nanos, _) if nanos % 1_000 == 0 => "%Y-%m-%dT%H:%M:%S%.6f",
        _ => "%Y-%m-%dT%H:%M:%S%.9f",
    };
    text.push_str(&time.format(format).to_string());
    text.push_str(if is_instant { "Z" } else { "" });
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int64Array, StringArray, TimestampMillisecondArray};
    use std::sync::Arc;

    #[test]
    fn rows_look_as_flink_prints_them() {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(vec![Some(1), None])),
            Arc::new(StringArray::from(vec!["abc", "x"])),
            Arc::new(TimestampMillisecondArray::from(vec![60_000, 1_500])),
        ];
        let mut text = String::new();
        write_fields(&mut text, &columns, 0).unwrap();
        write_fields(&mut text, &columns, 1).unwrap();
        assert_eq!(
            text,
            "[1, abc, 1970-01-01T00:01][null, x, 1970-01-01T00:00:01.500]"
        );
    }
}
