//! The join of two sets of rows that are complete: hash on the keys, then the rest of the condition over the pairs.

use std::sync::Arc;

use ahash::AHashMap;
use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, UInt32Array, new_null_array};
use arrow::compute::take;
use arrow::datatypes::SchemaRef;
use datafusion_physical_expr::PhysicalExpr;
use weir_dataflow::key::KeyEncoder;
use weir_dataflow::{Batch, Output, Result};
use weir_proto::v1::JoinKind;

use crate::calc::expression_error;

/// Pairs that are tested and emitted at once.
const PAIRS: usize = 8192;

/// Joins two batches.
pub struct PairJoiner {
    kind: JoinKind,
    encoders: [KeyEncoder; 2],
    keys: [Vec<usize>; 2],
    condition: Option<Arc<dyn PhysicalExpr>>,
    inputs: [SchemaRef; 2],
    joined: SchemaRef,
    output: SchemaRef,
}

/// One join under way.
struct Run<'a> {
    left: &'a RecordBatch,
    right: &'a RecordBatch,
    left_matched: Vec<bool>,
    right_matched: Vec<bool>,
    left_rows: Vec<u32>,
    right_rows: Vec<u32>,
}

impl PairJoiner {
    /// `joined` has the left columns, then the right ones: what `condition` is over.
    pub fn new(
        kind: JoinKind,
        inputs: [SchemaRef; 2],
        keys: [Vec<usize>; 2],
        condition: Option<Arc<dyn PhysicalExpr>>,
        joined: SchemaRef,
        output: SchemaRef,
    ) -> Result<Self> {
        let encoders = [
            KeyEncoder::new(&inputs[0], &keys[0])?,
            KeyEncoder::new(&inputs[1], &keys[1])?,
        ];
        Ok(Self {
            kind,
            encoders,
            keys,
            condition,
            inputs,
            joined,
            output,
        })
    }

    /// Emits the result, in batches of bounded size.
    pub fn join(
        &self,
        left: &RecordBatch,
        right: &RecordBatch,
        out: &mut dyn Output,
    ) -> Result<()> {
        let mut run = Run {
            left,
            right,
            left_matched: vec![false; left.num_rows()],
            right_matched: vec![false; right.num_rows()],
            left_rows: Vec::with_capacity(PAIRS),
            right_rows: Vec::with_capacity(PAIRS),
        };
        self.find_pairs(&mut run, out)?;
        self.emit_pairs(&mut run, out)?;
        self.emit_unmatched(&run, out)
    }

    fn find_pairs(&self, run: &mut Run<'_>, out: &mut dyn Output) -> Result<()> {
        if run.left.num_rows() == 0 || run.right.num_rows() == 0 {
            return Ok(());
        }
        let left_keys = self.encoders[0].encode_batch(run.left)?;
        let right_keys = self.encoders[1].encode_batch(run.right)?;
        let left_null = null_rows(run.left, &self.keys[0]);
        let right_null = null_rows(run.right, &self.keys[1]);
        let mut table: AHashMap<&[u8], Vec<u32>> = AHashMap::with_capacity(run.right.num_rows());
        for row in (0..run.right.num_rows()).filter(|row| !right_null(*row)) {
            table
                .entry(right_keys.get(row))
                .or_default()
                .push(row as u32);
        }
        for row in (0..run.left.num_rows()).filter(|row| !left_null(*row)) {
            for other in table.get(left_keys.get(row)).map_or(&[][..], Vec::as_slice) {
                run.left_rows.push(row as u32);
                run.right_rows.push(*other);
                if run.left_rows.len() == PAIRS {
                    self.emit_pairs(run, out)?;
                }
            }
        }
        Ok(())
    }

    /// Tests the pairs collected so far, marks both ends of those that match, emits them unless only one side is asked for.
    fn emit_pairs(&self, run: &mut Run<'_>, out: &mut dyn Output) -> Result<()> {
        if run.left_rows.is_empty() {
            return Ok(());
        }
        let left_rows = UInt32Array::from(std::mem::take(&mut run.left_rows));
        let right_rows = UInt32Array::from(std::mem::take(&mut run.right_rows));
        let mut columns = take_all(run.left, &left_rows)?;
        columns.extend(take_all(run.right, &right_rows)?);
        let pairs = RecordBatch::try_new(Arc::clone(&self.joined), columns)?;
        let mask = match &self.condition {
            Some(condition) => weir_expr::eval::evaluate_predicate(condition.as_ref(), &pairs)
                .map_err(expression_error)?,
            None => BooleanArray::from(vec![true; pairs.num_rows()]),
        };
        for row in (0..mask.len()).filter(|row| mask.is_valid(*row) && mask.value(*row)) {
            mark(&mut run.left_matched, left_rows.value(row));
            mark(&mut run.right_matched, right_rows.value(row));
        }
        if matches!(self.kind, JoinKind::Semi | JoinKind::Anti) {
            return Ok(());
        }
        let kept = arrow::compute::filter_record_batch(&pairs, &mask)?;
        out.emit(Batch::inserts(RecordBatch::try_new(
            Arc::clone(&self.output),
            kept.columns().to_vec(),
        )?))
    }

    fn emit_unmatched(&self, run: &Run<'_>, out: &mut dyn Output) -> Result<()> {
        let rows = |matched: &[bool], wanted: bool| -> UInt32Array {
            (0..matched.len() as u32)
                .filter(|row| matched.get(*row as usize) == Some(&wanted))
                .collect::<Vec<_>>()
                .into()
        };
        if matches!(self.kind, JoinKind::Semi | JoinKind::Anti) {
            let left = take_all(
                run.left,
                &rows(&run.left_matched, self.kind == JoinKind::Semi),
            )?;
            return out.emit(Batch::inserts(RecordBatch::try_new(
                Arc::clone(&self.output),
                left,
            )?));
        }
        if matches!(self.kind, JoinKind::Left | JoinKind::Full) {
            let unmatched = rows(&run.left_matched, false);
            let mut columns = take_all(run.left, &unmatched)?;
            columns.extend(nulls(&self.inputs[1], unmatched.len()));
            out.emit(Batch::inserts(RecordBatch::try_new(
                Arc::clone(&self.output),
                columns,
            )?))?;
        }
        if matches!(self.kind, JoinKind::Right | JoinKind::Full) {
            let unmatched = rows(&run.right_matched, false);
            let mut columns = nulls(&self.inputs[0], unmatched.len());
            columns.extend(take_all(run.right, &unmatched)?);
            out.emit(Batch::inserts(RecordBatch::try_new(
                Arc::clone(&self.output),
                columns,
            )?))?;
        }
        Ok(())
    }
}

fn mark(matched: &mut [bool], row: u32) {
    if let Some(entry) = matched.get_mut(row as usize) {
        *entry = true;
    }
}

/// NULL equals nothing: rows with one in a key column have no partner.
fn null_rows<'a>(batch: &'a RecordBatch, keys: &[usize]) -> impl Fn(usize) -> bool + use<'a> {
    let nullable: Vec<&'a ArrayRef> = keys
        .iter()
        .filter_map(|key| batch.columns().get(*key))
        .filter(|column| column.null_count() > 0)
        .collect();
    move |row| nullable.iter().any(|column| column.is_null(row))
}

fn take_all(batch: &RecordBatch, rows: &UInt32Array) -> Result<Vec<ArrayRef>> {
    batch
        .columns()
        .iter()
        .map(|column| Ok(take(column, rows, None)?))
        .collect()
}

fn nulls(schema: &SchemaRef, rows: usize) -> Vec<ArrayRef> {
    schema
        .fields()
        .iter()
        .map(|field| new_null_array(field.data_type(), rows))
        .collect()
}
