//! Rows that are one piece of a value: their columns are carried over by name.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::{Field, Schema, SchemaRef};
use weir_dataflow::Result;
use weir_dataflow::key::KeyEncoder;

use crate::migrate::StreamColumn;

/// Takes a stored row apart and puts it together with other columns.
#[derive(Debug)]
pub(crate) struct RowRewrite {
    from: KeyEncoder,
    to: KeyEncoder,
    schema: SchemaRef,
    columns: Vec<StreamColumn>,
    is_identity: bool,
}

impl RowRewrite {
    /// `columns`: for each of `to` which of `from` it comes from.
    ///
    /// # Errors
    /// If a column's type can't be stored.
    pub fn new(from: Vec<Field>, to: Vec<Field>, columns: Vec<StreamColumn>) -> Result<Self> {
        let all = |fields: &[Field]| (0..fields.len()).collect::<Vec<_>>();
        let kept = columns.iter().copied();
        let is_identity = kept.eq((0..from.len()).map(StreamColumn::Of));
        let encoder = |fields: &[Field]| {
            let schema = Schema::new(fields.to_vec());
            KeyEncoder::new(&schema, &all(fields))
        };
        let (from, to_encoder) = (encoder(&from)?, encoder(&to)?);
        let nullable = to.into_iter().map(|field| field.with_nullable(true));
        Ok(Self {
            from,
            to: to_encoder,
            schema: Arc::new(Schema::new(nullable.collect::<Vec<_>>())),
            columns,
            is_identity,
        })
    }

    /// Rows stay as they are.
    pub fn is_identity(&self) -> bool {
        self.is_identity
    }

    /// The bytes of the row that this one becomes.
    pub fn apply(&self, row: &[u8]) -> Result<Vec<u8>> {
        let old = self.from.decode(&[row])?;
        let fields = self.schema.fields().iter().zip(&self.columns);
        let new = fields.map(|(field, column)| {
            Ok(match column {
                StreamColumn::Null => new_null_array(field.data_type(), 1),
                StreamColumn::Of(at) => Arc::clone(&old[*at]),
                StreamColumn::Cast(at) => cast(&old[*at], field.data_type())?,
            })
        });
        let new: Vec<ArrayRef> = new.collect::<Result<_>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(1));
        let row = RecordBatch::try_new_with_options(Arc::clone(&self.schema), new, &options)?;
        Ok(self.to.encode_batch(&row)?.get(0).to_vec())
    }
}
