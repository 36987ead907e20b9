//! What a batch changed, as rows: for each group that it touched the old result against the new one.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::kernels::cmp::not_distinct;
use arrow::compute::{and, interleave, take};
use arrow::datatypes::SchemaRef;
use weir_dataflow::{Batch, Result, RowKind, nested};

/// The groups of a batch, in the order of their first rows.
pub struct Touched {
    /// First row of each group.
    pub rows: UInt32Array,
    /// Whether it existed before and does now.
    pub existence: Vec<(bool, bool)>,
    /// Results before and after, a row a group.
    pub before: Vec<ArrayRef>,
    pub after: Vec<ArrayRef>,
}

impl Touched {
    /// The changelog; `keys` are the key columns of the batch.
    pub fn changelog(
        &self,
        keys: &[ArrayRef],
        schema: &SchemaRef,
        update_before: bool,
    ) -> Result<Batch> {
        let same = self.unchanged()?;
        let (mut kinds, mut picks) = (Vec::new(), Vec::new());
        for (group, existence) in self.existence.iter().enumerate() {
            let mut put = |kind, side| {
                kinds.push(kind);
                picks.push((side, group));
            };
            match existence {
                (false, true) => put(RowKind::Insert, 1),
                (true, false) => put(RowKind::Delete, 0),
                (true, true) if !same.as_ref().is_none_or(|same| same.value(group)) => {
                    if update_before {
                        put(RowKind::UpdateBefore, 0);
                    }
                    put(RowKind::UpdateAfter, 1);
                }
                _ => {}
            }
        }
        let rows =
            UInt32Array::from_iter_values(picks.iter().map(|(_, group)| self.rows.value(*group)));
        let keys = keys.iter().map(|key| Ok(take(key, &rows, None)?));
        let mut columns = keys.collect::<Result<Vec<_>>>()?;
        for (before, after) in self.before.iter().zip(&self.after) {
            columns.push(interleave(&[before.as_ref(), after.as_ref()], &picks)?);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(kinds.len()));
        let data = RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?;
        Batch::with_kinds(data, kinds)
    }

    /// Groups whose results are all the same as before; `None` if there are no results.
    fn unchanged(&self) -> Result<Option<BooleanArray>> {
        let mut all: Option<BooleanArray> = None;
        for (before, after) in self.before.iter().zip(&self.after) {
            let same = same_values(before, after)?;
            all = Some(match all {
                None => same,
                Some(all) => and(&all, &same)?,
            });
        }
        Ok(all)
    }
}

/// Row by row: the values are the same, or both are NULL.
fn same_values(before: &ArrayRef, after: &ArrayRef) -> Result<BooleanArray> {
    if !nested::is_nested(before.data_type()) {
        return Ok(not_distinct(before, after)?);
    }
    let (before_ends, before_bytes) = nested::encode(before)?;
    let (after_ends, after_bytes) = nested::encode(after)?;
    let value = |ends: &[i32], row: usize| ends[row] as usize..ends[row + 1] as usize;
    let same = |row: usize| {
        before.is_valid(row) == after.is_valid(row)
            && before_bytes[value(&before_ends, row)] == after_bytes[value(&after_ends, row)]
    };
    Ok((0..before.len()).map(|row| Some(same(row))).collect())
}
