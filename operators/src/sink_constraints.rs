//! What a table's declaration says about its rows, enforced in front of its sink: NOT NULL, and the lengths of texts and bytes.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, BooleanArray, RecordBatch, StringArray};
use arrow::compute::{and, is_not_null};
use arrow::datatypes::SchemaRef;
use weir_dataflow::types::LogicalType;
use weir_dataflow::{Batch, Error, Result};
use weir_proto::v1;
use weir_proto::v1::sink::LengthEnforcer;

/// The rules of one sink.
pub(crate) struct Constraints {
    table: String,
    schema: SchemaRef,
    /// Columns that are NOT NULL.
    not_null: Vec<usize>,
    /// Rows with a NULL there are left out; else they fail the job.
    drops_null: bool,
    lengths: Vec<(usize, LogicalType)>,
    /// Values of another length fail the job; else they are cut and padded.
    length_fails: bool,
}

impl Constraints {
    /// As the sink's description says; `schema` has the table's types.
    pub(crate) fn new(spec: &v1::Sink, schema: &SchemaRef) -> Self {
        let enforcer = spec.length_enforcer();
        let enforced = |logical_type: &LogicalType| match logical_type {
            LogicalType::VarChar(u32::MAX) | LogicalType::VarBinary(u32::MAX) => false,
            LogicalType::Char(_)
            | LogicalType::VarChar(_)
            | LogicalType::Binary(_)
            | LogicalType::VarBinary(_) => enforcer != LengthEnforcer::Ignore,
            _ => false,
        };
        let types = schema.fields().iter().enumerate();
        Self {
            table: spec.table.clone(),
            schema: Arc::clone(schema),
            not_null: spec.not_null.iter().map(|index| *index as usize).collect(),
            drops_null: spec.drop_null_rows,
            lengths: types
                .filter_map(|(index, field)| Some((index, LogicalType::from_field(field)?)))
                .filter(|(_, logical_type)| enforced(logical_type))
                .collect(),
            length_fails: enforcer == LengthEnforcer::Error,
        }
    }

    /// The rows as they are written, under the table's names.
    ///
    /// # Errors
    /// A row breaks a rule that is not to be mended.
    pub(crate) fn apply(&self, batch: Batch) -> Result<Batch> {
        let batch = self.without_nulls(batch)?;
        let mut columns = batch.data().columns().to_vec();
        for (index, logical_type) in &self.lengths {
            if let Some(column) = columns.get_mut(*index) {
                *column = self.fitted(*index, column, logical_type)?;
            }
        }
        batch.with_data(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }

    fn without_nulls(&self, batch: Batch) -> Result<Batch> {
        let mut kept: Option<BooleanArray> = None;
        for index in &self.not_null {
            let Some(column) = batch.data().columns().get(*index) else {
                continue;
            };
            if column.null_count() == 0 {
                continue;
            }
            if !self.drops_null {
                return Err(Error::Data(format!(
                    "column '{}' of table '{}' is NOT NULL, but a NULL was written to it; filter such rows with WHERE, or set 'table.exec.sink.not-null-enforcer' to DROP",
                    self.name(*index),
                    self.table
                )));
            }
            let valid = is_not_null(column)?;
            kept = Some(match kept {
                Some(kept) => and(&kept, &valid)?,
                None => valid,
            });
        }
        match kept {
            Some(kept) => batch.filter(&kept),
            None => Ok(batch),
        }
    }

    fn name(&self, index: usize) -> &str {
        let field = self.schema.fields().get(index);
        field.map_or("?", |field| field.name())
    }

    fn fitted(
        &self,
        index: usize,
        column: &ArrayRef,
        logical_type: &LogicalType,
    ) -> Result<ArrayRef> {
        let (length, fixed) = match logical_type {
            LogicalType::Char(length) | LogicalType::Binary(length) => (*length as usize, true),
            LogicalType::VarChar(length) | LogicalType::VarBinary(length) => {
                (*length as usize, false)
            }
            _ => return Ok(Arc::clone(column)),
        };
        let fits = |size: usize| size == length || (size < length && !fixed);
        let wrong = |size: usize| {
            Error::Data(format!(
                "column '{}' of table '{}' is {logical_type}, but a value of the length {size} was written to it ('table.exec.sink.type-length-enforcer' is ERROR)",
                self.name(index),
                self.table
            ))
        };
        if let Some(texts) = column.as_string_opt::<i32>() {
            let size = |text: &str| text.chars().count();
            if let Some(text) = texts.iter().flatten().find(|text| !fits(size(text))) {
                if self.length_fails {
                    return Err(wrong(size(text)));
                }
                let fit = |text: &str| fit_text(text, length, fixed);
                let fitted = texts.iter().map(|text| text.map(fit));
                return Ok(Arc::new(fitted.collect::<StringArray>()));
            }
        }
        if let Some(values) = column.as_binary_opt::<i32>()
            && let Some(bytes) = values.iter().flatten().find(|bytes| !fits(bytes.len()))
        {
            if self.length_fails {
                return Err(wrong(bytes.len()));
            }
            let fit = |bytes: &[u8]| fit_bytes(bytes, length, fixed);
            let fitted = values.iter().map(|bytes| bytes.map(fit));
            return Ok(Arc::new(fitted.collect::<BinaryArray>()));
        }
        Ok(Arc::clone(column))
    }
}

fn fit_text(text: &str, length: usize, fixed: bool) -> String {
    let mut fitted: String = text.chars().take(length).collect();
    let missing = length.saturating_sub(fitted.chars().count());
    if fixed {
        fitted.extend(std::iter::repeat_n(' ', missing));
    }
    fitted
}

fn fit_bytes(bytes: &[u8], length: usize, fixed: bool) -> Vec<u8> {
    let mut fitted = bytes[..bytes.len().min(length)].to_vec();
    if fixed {
        fitted.resize(length, 0);
    }
    fitted
}

#[cfg(test)]
mod tests {
    use weir_dataflow::types::LogicalField;

    use super::*;

    fn constraints(enforcer: LengthEnforcer, drop_null_rows: bool) -> Constraints {
        let fields = [
            ("c", LogicalType::Char(3)),
            ("v", LogicalType::VarChar(3)),
            ("b", LogicalType::Binary(2)),
        ]
        .map(|(name, logical_type)| LogicalField::nullable(logical_type).to_field(name));
        let spec = v1::Sink {
            table: "t".into(),
            not_null: vec![0],
            drop_null_rows,
            length_enforcer: enforcer.into(),
            ..v1::Sink::default()
        };
        Constraints::new(
            &spec,
            &Arc::new(arrow::datatypes::Schema::new(fields.to_vec())),
        )
    }

    fn apply(rules: &Constraints, texts: [Option<&str>; 2]) -> Result<Batch> {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from(texts.to_vec())),
            Arc::new(StringArray::from(vec!["übers", "x"])),
            Arc::new(BinaryArray::from(vec![Some(&b"abc"[..]), Some(b"a")])),
        ];
        let data = RecordBatch::try_new(Arc::clone(&rules.schema), columns)?;
        rules.apply(Batch::inserts(data))
    }

    #[test]
    fn values_are_cut_and_padded() {
        let rules = constraints(LengthEnforcer::TrimPad, false);
        let batch = apply(&rules, [Some("abcd"), Some("a")]).unwrap();
        let text = |column: usize, row: usize| {
            batch
                .data()
                .column(column)
                .as_string::<i32>()
                .value(row)
                .to_owned()
        };
        assert_eq!([text(0, 0), text(0, 1)], ["abc", "a  "]);
        assert_eq!([text(1, 0), text(1, 1)], ["übe", "x"]);
        let bytes = batch.data().column(2).as_binary::<i32>();
        assert_eq!([bytes.value(0), bytes.value(1)], [&b"ab"[..], &b"a\0"[..]]);
    }

    #[test]
    fn a_wrong_length_is_told_or_ignored() {
        let rules = constraints(LengthEnforcer::Error, false);
        let error = apply(&rules, [Some("ab"), Some("abc")])
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("column 'c' of table 't' is CHAR(3), but a value of the length 2"),
            "{error}"
        );
        let rules = constraints(LengthEnforcer::Ignore, false);
        assert_eq!(
            apply(&rules, [Some("ab"), Some("abcd")])
                .unwrap()
                .num_rows(),
            2
        );
    }

    #[test]
    fn rows_with_a_null_are_left_out() {
        let rules = constraints(LengthEnforcer::Ignore, true);
        assert_eq!(apply(&rules, [None, Some("a")]).unwrap().num_rows(), 1);
    }
}
