//! The pairs that a batch of one input makes with the rows of the other: found by join key, tested by the rest of the condition.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::SchemaRef;
use datafusion_physical_expr::PhysicalExpr;
use weir_dataflow::Result;

use super::side::{NONE, Side};
use crate::calc::expression_error;

/// Rows are taken together until they have about as many pairs.
const PAIRS: usize = 8192;

/// Pairs of some rows of a batch, in the order of the rows.
#[derive(Default)]
pub struct Pairs {
    /// Rows of the batch.
    pub rows: Vec<u32>,
    /// Entries of the other input.
    pub entries: Vec<u32>,
    /// Rows of the other input, if the condition needed them.
    pub others: Option<Vec<ArrayRef>>,
}

/// What is left of the join condition, over the left row and the right row.
pub struct Condition {
    pub expr: Arc<dyn PhysicalExpr>,
    pub joined: SchemaRef,
}

impl Pairs {
    /// Pairs of rows from `first` on; gives the first row that was left out. All pairs of a row are found together.
    pub fn find(&mut self, slots: &[u32], first: usize, other: &mut Side, now_ms: i64) -> usize {
        self.rows.clear();
        self.entries.clear();
        self.others = None;
        let mut row = first;
        while row < slots.len() && self.rows.len() < PAIRS {
            if slots[row] != NONE {
                other.of_key(slots[row], now_ms, |entry| self.entries.push(entry));
                self.rows.resize(self.entries.len(), row as u32);
            }
            row += 1;
        }
        row
    }

    /// Keeps the pairs that fulfil the condition. `input` is the batch's.
    pub fn test(
        &mut self,
        condition: &Condition,
        input: usize,
        batch: &RecordBatch,
        other: &Side,
    ) -> Result<()> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let others = decode(other, &self.entries)?;
        let rows = UInt32Array::from(std::mem::take(&mut self.rows));
        let mut columns = take_all(batch.columns(), &rows)?;
        match input {
            0 => columns.extend(others.iter().cloned()),
            _ => columns.splice(0..0, others.iter().cloned()).for_each(drop),
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        let joined =
            RecordBatch::try_new_with_options(Arc::clone(&condition.joined), columns, &options)?;
        let mask = weir_expr::eval::evaluate_predicate(condition.expr.as_ref(), &joined)
            .map_err(expression_error)?;
        let keep = |index: usize| mask.is_valid(index) && mask.value(index);
        self.keep(rows.values(), others, &mask, keep)
    }

    fn keep(
        &mut self,
        rows: &[u32],
        others: Vec<ArrayRef>,
        mask: &BooleanArray,
        keep: impl Fn(usize) -> bool,
    ) -> Result<()> {
        let kept = others
            .iter()
            .map(|column| arrow::compute::filter(column, mask));
        self.others = Some(kept.collect::<std::result::Result<_, _>>()?);
        let entries = std::mem::take(&mut self.entries);
        for (index, (row, entry)) in rows.iter().zip(entries).enumerate() {
            if keep(index) {
                self.rows.push(*row);
                self.entries.push(entry);
            }
        }
        Ok(())
    }
}

/// The rows of entries as columns.
pub fn decode(side: &Side, entries: &[u32]) -> Result<Vec<ArrayRef>> {
    let rows: Vec<&[u8]> = entries.iter().map(|entry| side.row(*entry)).collect();
    side.encoder.decode(&rows)
}

/// Rows of columns; NULL where `rows` is.
pub fn take_all(columns: &[ArrayRef], rows: &UInt32Array) -> Result<Vec<ArrayRef>> {
    let taken = columns.iter().map(|column| Ok(take(column, rows, None)?));
    taken.collect()
}
