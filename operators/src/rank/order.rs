//! ORDER BY as bytes: rows are compared as their keys are.

use arrow::array::ArrayRef;
use arrow::compute::SortOptions;
use arrow::datatypes::Schema;
use arrow::row::{RowConverter, Rows, SortField};
use weir_dataflow::{Error, Result};
use weir_proto::v1;

/// Makes keys whose order is that of the rows.
pub struct SortOrder {
    columns: Vec<usize>,
    /// None without columns: all rows are the same.
    converter: Option<RowConverter>,
}

/// The keys of a batch's rows. They live in memory only: their encoding may be another one in another version.
pub struct SortKeys(Option<Rows>);

impl SortOrder {
    /// For rows of `schema`.
    ///
    /// # Errors
    /// If a column is not there, or of a type that has no order.
    pub fn new(schema: &Schema, order: &[v1::SortColumn]) -> Result<Self> {
        let columns: Vec<usize> = order.iter().map(|key| key.column as usize).collect();
        let mut fields = Vec::with_capacity(order.len());
        for key in order {
            let field = schema.fields().get(key.column as usize).ok_or_else(|| {
                Error::Config(format!("there is no column {} to sort by", key.column))
            })?;
            let options = SortOptions::new(key.descending, key.nulls_first);
            let field = SortField::new_with_options(field.data_type().clone(), options);
            fields.push(field);
        }
        Ok(Self {
            columns,
            converter: match fields.is_empty() {
                true => None,
                false => Some(RowConverter::new(fields)?),
            },
        })
    }

    /// Keys of rows.
    pub fn keys(&self, columns: &[ArrayRef]) -> Result<SortKeys> {
        let Some(converter) = &self.converter else {
            return Ok(SortKeys(None));
        };
        let sorted: Vec<ArrayRef> = self
            .columns
            .iter()
            .filter_map(|column| columns.get(*column).cloned())
            .collect();
        Ok(SortKeys(Some(converter.convert_columns(&sorted)?)))
    }
}

impl SortKeys {
    /// Key of a row of the batch.
    #[inline]
    pub fn get(&self, row: usize) -> &[u8] {
        match &self.0 {
            Some(rows) => rows.row(row).data(),
            None => &[],
        }
    }
}
