//! Columns of rows, and what each row does to the result.

use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch, UInt32Array};
use arrow::datatypes::SchemaRef;

use crate::error::{Error, Result};

/// What a row means in a changelog (Flink's `RowKind`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum RowKind {
    /// `+I`: a new row.
    Insert = 0,
    /// `-U`: the old content of a row that an `UpdateAfter` replaces.
    UpdateBefore = 1,
    /// `+U`: the new content of a row.
    UpdateAfter = 2,
    /// `-D`: the row is gone.
    Delete = 3,
}

impl RowKind {
    /// From its number on the wire.
    pub fn from_u8(value: u8) -> Option<Self> {
        match value {
            0 => Some(Self::Insert),
            1 => Some(Self::UpdateBefore),
            2 => Some(Self::UpdateAfter),
            3 => Some(Self::Delete),
            _ => None,
        }
    }

    /// `+I`, `-U`, `+U` or `-D`.
    pub fn short(self) -> &'static str {
        match self {
            Self::Insert => "+I",
            Self::UpdateBefore => "-U",
            Self::UpdateAfter => "+U",
            Self::Delete => "-D",
        }
    }

    /// `-U` and `-D`: the row leaves the result.
    pub fn is_retraction(self) -> bool {
        matches!(self, Self::UpdateBefore | Self::Delete)
    }
}

/// Rows in columns with their kinds. Cheap to clone: the columns are shared.
#[derive(Debug, Clone)]
pub struct Batch {
    data: RecordBatch,
    kinds: Option<Arc<[RowKind]>>,
}

impl Batch {
    /// Rows that are all `+I`.
    pub fn inserts(data: RecordBatch) -> Self {
        Self { data, kinds: None }
    }

    /// One kind a row. Kinds that are all `+I` are not kept.
    ///
    /// # Errors
    /// If the number of kinds is not the number of rows.
    pub fn with_kinds(data: RecordBatch, kinds: Vec<RowKind>) -> Result<Self> {
        if kinds.len() != data.num_rows() {
            return Err(Error::Internal(format!(
                "{} row kinds for {} rows",
                kinds.len(),
                data.num_rows()
            )));
        }
        let all_inserts = kinds.iter().all(|kind| *kind == RowKind::Insert);
        Ok(Self {
            data,
            kinds: (!all_inserts).then(|| kinds.into()),
        })
    }

    /// Other columns, same rows in the same order: keeps the kinds.
    ///
    /// # Errors
    /// If the number of rows differs.
    pub fn with_data(&self, data: RecordBatch) -> Result<Self> {
        if data.num_rows() != self.num_rows() {
            return Err(Error::Internal(format!(
                "{} rows became {}",
                self.num_rows(),
                data.num_rows()
            )));
        }
        Ok(Self {
            data,
            kinds: self.kinds.clone(),
        })
    }

    /// The columns.
    pub fn data(&self) -> &RecordBatch {
        &self.data
    }

    /// One a row; `None`: all `+I`.
    pub fn kinds(&self) -> Option<&[RowKind]> {
        self.kinds.as_deref()
    }

    /// Kind of a row; `row` is below [`Self::num_rows`].
    pub fn kind(&self, row: usize) -> RowKind {
        self.kinds
            .as_ref()
            .and_then(|kinds| kinds.get(row).copied())
            .unwrap_or(RowKind::Insert)
    }

    /// Number of rows.
    pub fn num_rows(&self) -> usize {
        self.data.num_rows()
    }

    /// Schema of the columns.
    pub fn schema(&self) -> SchemaRef {
        self.data.schema()
    }

    /// Bytes that the columns hold in memory (buffers that slices share are counted whole).
    pub fn memory_bytes(&self) -> usize {
        self.data.get_array_memory_size()
    }

    /// Bytes of the rows themselves: of a slice its part only, of strings in views only the views.
    pub fn data_bytes(&self) -> usize {
        let columns = self.data.columns().iter();
        let bytes = columns.map(|column| column.to_data().get_slice_memory_size().unwrap_or(0));
        bytes.sum()
    }

    /// Rows `offset..offset + length`, without a copy.
    pub fn slice(&self, offset: usize, length: usize) -> Self {
        let kinds = self
            .kinds
            .as_ref()
            .and_then(|kinds| kinds.get(offset..offset + length))
            .map(Arc::from);
        Self {
            data: self.data.slice(offset, length),
            kinds,
        }
    }

    /// The rows at `indices`, in that order.
    pub fn take(&self, indices: &UInt32Array) -> Result<Self> {
        let data = arrow::compute::take_record_batch(&self.data, indices)?;
        let kinds = self.kinds.as_ref().map(|_| {
            indices
                .values()
                .iter()
                .map(|row| self.kind(*row as usize))
                .collect()
        });
        Ok(Self { data, kinds })
    }

    /// The rows where `mask` is true (NULL counts as false).
    pub fn filter(&self, mask: &BooleanArray) -> Result<Self> {
        let data = arrow::compute::filter_record_batch(&self.data, mask)?;
        let kinds = self.kinds.as_ref().map(|kinds| {
            let kept = kinds
                .iter()
                .zip(mask)
                .filter(|(_, keep)| *keep == Some(true));
            kept.map(|(kind, _)| *kind).collect()
        });
        Ok(Self { data, kinds })
    }

    /// The kinds as bytes for a wire; empty if all `+I`.
    pub fn kinds_to_bytes(&self) -> Vec<u8> {
        self.kinds()
            .map(|kinds| kinds.iter().map(|kind| *kind as u8).collect())
            .unwrap_or_default()
    }

    /// From [`Self::kinds_to_bytes`].
    ///
    /// # Errors
    /// On an unknown kind or a wrong number of them.
    pub fn from_wire(data: RecordBatch, kinds: &[u8]) -> Result<Self> {
        if kinds.is_empty() {
            return Ok(Self::inserts(data));
        }
        let kinds = kinds
            .iter()
            .map(|byte| {
                RowKind::from_u8(*byte)
                    .ok_or_else(|| Error::Data(format!("unknown row kind {byte}")))
            })
            .collect::<Result<Vec<_>>>()?;
        Self::with_kinds(data, kinds)
    }
}
