//! Rows on the standard output.

use std::collections::HashMap;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use anyhow::Context;
use arrow::array::{ArrayRef, AsArray};
use arrow::datatypes::{Field, SchemaRef};
use comfy_table::{Table, presets};
use weir_connectors::OptionReader;
use weir_connectors::format::{EncodedRecords, Encoder, Format};
use weir_dataflow::types::LogicalType;
use weir_dataflow::{Batch, RowKind};
use weir_expr::cast::{OnError, cast_array};

use super::results::ResultRows;
use crate::args::{OutputFormat, ResultMode};

/// A live table is drawn again at most this often.
const REFRESH: Duration = Duration::from_millis(200);

/// Prints what a statement like SHOW gives.
pub fn print_rows(format: OutputFormat, columns: &[String], rows: &[Vec<Option<String>>]) {
    let mut out = std::io::stdout().lock();
    let printed = match format {
        OutputFormat::Json => rows.iter().try_for_each(|row| {
            let object: serde_json::Map<_, _> = columns
                .iter()
                .cloned()
                .zip(row.iter().map(|cell| serde_json::json!(cell)))
                .collect();
            writeln!(out, "{}", serde_json::Value::Object(object))
        }),
        OutputFormat::Text => {
            let mut table = text_table(columns);
            for row in rows {
                table.add_row(row.iter().map(|cell| cell.as_deref().unwrap_or("NULL")));
            }
            writeln!(out, "{table}")
        }
    };
    // A closed pipe is the reader's wish to see no more.
    drop(printed);
}

fn text_table(columns: &[String]) -> Table {
    let mut table = Table::new();
    table
        .load_preset(presets::ASCII_FULL_CONDENSED)
        .set_header(columns);
    table
}

/// Shows the rows of one query.
pub struct Renderer {
    columns: Vec<String>,
    mode: ResultMode,
    format: OutputFormat,
    encoder: RowEncoder,
    /// Rows print as they come: every change, or the rows of a result that only grows.
    streaming: bool,
    table: FinalRows,
    live: Option<LiveTable>,
    header_printed: bool,
}

impl Renderer {
    /// `changelog`: the result is not insert-only.
    pub fn new(
        schema: &SchemaRef,
        mode: ResultMode,
        format: OutputFormat,
        changelog: bool,
    ) -> anyhow::Result<Self> {
        let live = mode == ResultMode::Table
            && format == OutputFormat::Text
            && std::io::stdout().is_terminal();
        Ok(Self {
            columns: schema
                .fields()
                .iter()
                .map(|field| field.name().clone())
                .collect(),
            mode,
            format,
            encoder: RowEncoder::new(schema, format)?,
            streaming: mode == ResultMode::Changelog
                || (format == OutputFormat::Json && !changelog),
            table: FinalRows::default(),
            live: live.then(LiveTable::default),
            header_printed: false,
        })
    }

    /// New rows.
    pub fn add(&mut self, part: &ResultRows) -> anyhow::Result<()> {
        for batch in &part.batches {
            let rows = self.encoder.encode(batch)?;
            if self.streaming {
                self.print(batch, &rows)?;
            } else {
                for (index, row) in rows.into_iter().enumerate() {
                    self.table.apply(batch.kind(index), row);
                }
            }
        }
        Ok(())
    }

    fn print(&mut self, batch: &Batch, rows: &[Vec<String>]) -> anyhow::Result<()> {
        let mut out = std::io::stdout().lock();
        if self.format == OutputFormat::Text && !self.header_printed {
            writeln!(out, "op\t{}", self.columns.join("\t"))?;
            self.header_printed = true;
        }
        for (index, row) in rows.iter().enumerate() {
            let op = batch.kind(index).short();
            match (self.format, self.mode) {
                (OutputFormat::Text, _) => writeln!(out, "{op}\t{}", row.join("\t"))?,
                (OutputFormat::Json, ResultMode::Changelog) => {
                    writeln!(out, "{{\"op\":\"{op}\",\"row\":{}}}", row.concat())?
                }
                (OutputFormat::Json, ResultMode::Table) => writeln!(out, "{}", row.concat())?,
            }
        }
        Ok(out.flush()?)
    }

    /// Draws a live table again if it has changed.
    pub fn refresh(&mut self) -> anyhow::Result<()> {
        match &mut self.live {
            Some(live) => live.draw(&self.columns, &self.table),
            None => Ok(()),
        }
    }

    /// No row has come, or none is left.
    pub fn is_empty(&self) -> bool {
        self.table.rows().next().is_none()
    }

    /// The final rows.
    pub fn finish(&mut self) -> anyhow::Result<()> {
        if let Some(live) = &mut self.live {
            live.clear()?;
        }
        if self.streaming {
            return Ok(());
        }
        let mut out = std::io::stdout().lock();
        match self.format {
            OutputFormat::Json => {
                for row in self.table.rows() {
                    writeln!(out, "{}", row.concat())?;
                }
            }
            OutputFormat::Text => {
                let mut table = text_table(&self.columns);
                let mut count = 0;
                for row in self.table.rows() {
                    table.add_row(row);
                    count += 1;
                }
                writeln!(
                    out,
                    "{table}\n{count} {}",
                    if count == 1 { "row" } else { "rows" }
                )?;
            }
        }
        Ok(out.flush()?)
    }
}

/// Cells as text, or a row as one JSON object (a single cell).
enum RowEncoder {
    Text,
    Json(Box<dyn Encoder>),
}

impl RowEncoder {
    fn new(schema: &SchemaRef, format: OutputFormat) -> anyhow::Result<Self> {
        if format == OutputFormat::Text {
            return Ok(Self::Text);
        }
        let options = [("format".to_owned(), "json".to_owned())].into();
        let json = Format::required(&OptionReader::new("collect", &options), "")?;
        Ok(Self::Json(json.encoder(schema)?))
    }

    fn encode(&mut self, batch: &Batch) -> anyhow::Result<Vec<Vec<String>>> {
        match self {
            Self::Json(encoder) => {
                let mut records = EncodedRecords::default();
                encoder.encode(batch, &mut records)?;
                let text = |record: &[u8]| Ok(vec![String::from_utf8(record.to_vec())?]);
                records.iter().map(text).collect()
            }
            Self::Text => encode_text(batch),
        }
    }
}

/// As Flink's client shows them: each value cast to STRING, bytes in hexadecimal.
fn encode_text(batch: &Batch) -> anyhow::Result<Vec<Vec<String>>> {
    let data = batch.data();
    let mut rows = vec![Vec::with_capacity(data.num_columns()); data.num_rows()];
    for (field, column) in data.schema_ref().fields().iter().zip(data.columns()) {
        let texts = column_texts(field, column)?;
        for (row, text) in rows.iter_mut().zip(texts) {
            row.push(text);
        }
    }
    Ok(rows)
}

fn column_texts(field: &Field, column: &ArrayRef) -> anyhow::Result<Vec<String>> {
    if let Some(bytes) = column.as_binary_opt::<i32>() {
        let literal = |bytes: Option<&[u8]>| match bytes {
            Some(bytes) => format!("x'{}'", hex::encode(bytes)),
            None => "NULL".to_owned(),
        };
        return Ok(bytes.iter().map(literal).collect());
    }
    let from = LogicalType::from_field(field)
        .with_context(|| format!("column '{}' is of no SQL type", field.name()))?;
    let string = LogicalType::VarChar(u32::MAX);
    let texts = cast_array(column, &from, &string, OnError::Fail)?;
    let text_of = |value: Option<&str>| value.unwrap_or("NULL").to_owned();
    Ok(texts.as_string::<i32>().iter().map(text_of).collect())
}

/// A changelog folded: the rows that remain, in the order in which they came.
#[derive(Default)]
struct FinalRows {
    /// Positions in `slots` of equal rows.
    index: HashMap<Vec<String>, Vec<usize>>,
    slots: Vec<Option<Vec<String>>>,
    changes: u64,
}

impl FinalRows {
    fn apply(&mut self, kind: RowKind, row: Vec<String>) {
        self.changes += 1;
        if !kind.is_retraction() {
            self.index
                .entry(row.clone())
                .or_default()
                .push(self.slots.len());
            self.slots.push(Some(row));
            return;
        }
        let Some(positions) = self.index.get_mut(&row) else {
            return;
        };
        if let Some(slot) = positions
            .pop()
            .and_then(|position| self.slots.get_mut(position))
        {
            *slot = None;
        }
        if positions.is_empty() {
            self.index.remove(&row);
        }
        self.compact();
    }

    /// Drops empty slots once they are most of all: a counter that is updated for ever keeps one row.
    fn compact(&mut self) {
        let live: usize = self.index.values().map(Vec::len).sum::<usize>();
        if self.slots.len() < 1024 || self.slots.len() < live * 4 {
            return;
        }
        self.slots.retain(Option::is_some);
        self.index.clear();
        for (position, row) in self.slots.iter().enumerate() {
            if let Some(row) = row {
                self.index.entry(row.clone()).or_default().push(position);
            }
        }
    }

    fn rows(&self) -> impl DoubleEndedIterator<Item = &Vec<String>> {
        self.slots.iter().flatten()
    }
}

/// The newest rows, drawn over the last drawing.
#[derive(Default)]
struct LiveTable {
    drawn_lines: usize,
    drawn_changes: u64,
    drawn_at: Option<Instant>,
}

impl LiveTable {
    /// Rows shown while the query runs.
    const ROWS: usize = 15;

    fn draw(&mut self, columns: &[String], rows: &FinalRows) -> anyhow::Result<()> {
        let recent = self.drawn_at.is_some_and(|at| at.elapsed() < REFRESH);
        if recent || rows.changes == self.drawn_changes {
            return Ok(());
        }
        self.clear()?;
        let mut table = text_table(columns);
        let mut newest: Vec<_> = rows.rows().rev().take(Self::ROWS).collect();
        newest.reverse();
        for row in newest {
            table.add_row(row);
        }
        let text = table.to_string();
        self.drawn_lines = text.lines().count();
        self.drawn_changes = rows.changes;
        self.drawn_at = Some(Instant::now());
        let mut out = std::io::stdout().lock();
        writeln!(out, "{text}")?;
        Ok(out.flush()?)
    }

    fn clear(&mut self) -> anyhow::Result<()> {
        if self.drawn_lines > 0 {
            print!("\x1b[{}A\x1b[J", self.drawn_lines);
            self.drawn_lines = 0;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(text: &str) -> Vec<String> {
        vec![text.to_owned()]
    }

    #[test]
    fn a_changelog_folds_to_its_final_rows() {
        let mut rows = FinalRows::default();
        rows.apply(RowKind::Insert, row("a"));
        rows.apply(RowKind::Insert, row("a"));
        for n in 0..5000 {
            rows.apply(RowKind::UpdateAfter, row(&format!("n{n}")));
            rows.apply(RowKind::UpdateBefore, row(&format!("n{n}")));
        }
        rows.apply(RowKind::Delete, row("a"));
        assert_eq!(rows.rows().cloned().collect::<Vec<_>>(), [row("a")]);
        assert!(rows.slots.len() < 2048);
    }
}
