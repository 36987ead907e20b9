//! Which columns a source delivers: physical ones, which a format decodes, and metadata columns, which the connector adds.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Field, FieldRef, Schema, SchemaRef};
use weir_dataflow::types::{LogicalField, LogicalType, METADATA_KEY};
use weir_dataflow::{Batch, Error, Result};

use crate::format::Decoded;

/// In front of the place in PARTITIONED BY: the metadata key by which the planner marks a column of it.
pub const PARTITION_KEY: &str = "partition.";

/// The column's place in PARTITIONED BY, if it is in it.
pub(crate) fn partition_place(field: &Field) -> Option<usize> {
    let key = field.metadata().get(METADATA_KEY)?;
    key.strip_prefix(PARTITION_KEY)?.parse().ok()
}

/// Refuses PARTITIONED BY for a connector that has no partitions.
pub(crate) fn refuse_partitions(connector: &str, schema: &Schema) -> Result<()> {
    let mut fields = schema.fields().iter();
    match fields.find(|field| partition_place(field).is_some()) {
        None => Ok(()),
        Some(field) => Err(Error::Config(format!(
            "connector '{connector}' does not take PARTITIONED BY ({}); 'filesystem' does",
            field.name()
        ))),
    }
}

enum Origin {
    Physical(usize),
    Metadata(String),
}

/// The columns of a `read_schema` by where they come from.
pub struct Layout {
    schema: SchemaRef,
    physical: SchemaRef,
    origins: Vec<Origin>,
}

impl Layout {
    /// Of a `read_schema`, whose metadata columns are marked.
    pub fn new(schema: &SchemaRef) -> Self {
        let mut physical: Vec<FieldRef> = Vec::new();
        let mut origins = Vec::new();
        for field in schema.fields() {
            match field.metadata().get(METADATA_KEY) {
                Some(key) => origins.push(Origin::Metadata(key.clone())),
                None => {
                    origins.push(Origin::Physical(physical.len()));
                    physical.push(Arc::clone(field));
                }
            }
        }
        Self {
            schema: Arc::clone(schema),
            physical: Arc::new(Schema::new(physical)),
            origins,
        }
    }

    /// The columns that are decoded.
    pub fn physical(&self) -> &SchemaRef {
        &self.physical
    }

    /// Puts decoded and metadata columns together. `metadata` gives a column for a key, with one value a row of `decoded`.
    ///
    /// # Errors
    /// If a column does not fit the schema.
    pub fn assemble(
        &self,
        decoded: Decoded,
        mut metadata: impl FnMut(&str, &Field) -> Result<ArrayRef>,
    ) -> Result<Batch> {
        let rows = decoded.columns.num_rows();
        let columns = self.origins.iter().zip(self.schema.fields());
        let columns = columns.map(|(origin, field)| match origin {
            Origin::Physical(index) => Ok(Arc::clone(decoded.columns.column(*index))),
            Origin::Metadata(key) => metadata(key, field),
        });
        let columns = columns.collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let schema = Arc::clone(&self.schema);
        let data = RecordBatch::try_new_with_options(schema, columns, &options)?;
        match decoded.kinds {
            Some(kinds) => Batch::with_kinds(data, kinds),
            None => Ok(Batch::inserts(data)),
        }
    }
}

/// Refuses metadata columns that a connector does not have, or that have another type than it gives.
pub(crate) fn check_metadata(
    connector: &str,
    schema: &Schema,
    known: &[(String, LogicalType)],
) -> Result<()> {
    for field in schema.fields() {
        let Some(key) = field.metadata().get(METADATA_KEY) else {
            continue;
        };
        if partition_place(field).is_some() {
            continue;
        }
        let Some((_, logical)) = known.iter().find(|(name, _)| name == key) else {
            let names = crate::options::quoted(known.iter().map(|(name, _)| name.as_str()));
            return Err(Error::Config(format!(
                "connector '{connector}' has no metadata '{key}' for column '{}'; it has {}",
                field.name(),
                if names.is_empty() { "none" } else { &names }
            )));
        };
        let given = LogicalField::from_field(field).map(|field| field.logical_type.to_arrow());
        if given != Some(logical.to_arrow()) {
            return Err(Error::Config(format!(
                "metadata '{key}' of connector '{connector}' is {logical}: declare column '{}' so, and cast where it is used",
                field.name()
            )));
        }
    }
    Ok(())
}
