//! Columns to Avro records.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use arrow_avro::schema::{
    AVRO_NAME_METADATA_KEY, AVRO_NAMESPACE_METADATA_KEY, SCHEMA_METADATA_KEY,
};
use arrow_avro::writer::format::AvroBinaryFormat;
use arrow_avro::writer::{Encoder as RowEncoder, WriterBuilder};
use weir_dataflow::{Batch, Error, Result};

use super::super::{EncodedRecords, Encoder};
use super::{TimestampMapping, schema};

/// Writes records with the schema of the table.
pub(super) struct AvroEncoder {
    /// As the library takes it: whole numbers that Avro has, and the Avro schema in its metadata.
    schema: SchemaRef,
    rows: RowEncoder,
}

impl AvroEncoder {
    pub(super) fn new(table: &SchemaRef, mapping: TimestampMapping) -> Result<Self> {
        let avro = schema::of_table(table, mapping)?;
        let schema = encoded_schema(table, avro);
        let rows = WriterBuilder::new(schema.as_ref().clone())
            .build_encoder::<AvroBinaryFormat>()
            .map_err(internal)?;
        Ok(Self { schema, rows })
    }
}

/// The schema in which the library takes rows for records whose Avro schema is `avro`.
fn encoded_schema(table: &SchemaRef, avro: String) -> SchemaRef {
    let metadata = [(SCHEMA_METADATA_KEY.to_owned(), avro)].into();
    Arc::new(Schema::new_with_metadata(widened(table.fields()), metadata))
}

/// The schema in which the library takes rows for files. There it derives the Avro schema itself, so the fields must say everything.
pub(crate) fn file_schema(table: &SchemaRef, mapping: TimestampMapping) -> SchemaRef {
    let (namespace, name) = schema::RECORD
        .rsplit_once('.')
        .unwrap_or(("", schema::RECORD));
    let metadata = [
        (AVRO_NAME_METADATA_KEY.to_owned(), name.to_owned()),
        (AVRO_NAMESPACE_METADATA_KEY.to_owned(), namespace.to_owned()),
    ];
    let mut fields = widened(table.fields());
    if mapping == TimestampMapping::Legacy {
        fields = fields.iter().map(as_instants).collect();
    }
    Arc::new(Schema::new_with_metadata(fields, metadata.into()))
}

/// Rows in a schema in which the library takes them.
pub(crate) fn encodable(rows: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let columns = rows.columns().iter().zip(schema.fields());
    let columns: Vec<ArrayRef> = columns
        .map(|(column, field)| cast(column, field.data_type()).map_err(internal))
        .collect::<Result<_>>()?;
    RecordBatch::try_new(Arc::clone(schema), columns).map_err(internal)
}

/// Avro's smallest whole number is the int.
fn widened(fields: &Fields) -> Fields {
    fields.iter().map(widened_field).collect()
}

fn widened_field(field: &FieldRef) -> FieldRef {
    retyped(field, &widened_field, |of| match of {
        DataType::Int8 | DataType::Int16 => DataType::Int32,
        other => other.clone(),
    })
}

/// TIMESTAMP as an instant in UTC.
fn as_instants(field: &FieldRef) -> FieldRef {
    retyped(field, &as_instants, |of| match of {
        DataType::Timestamp(unit, None) => DataType::Timestamp(*unit, Some("+00:00".into())),
        other => other.clone(),
    })
}

/// The field with another type: `scalar` of it, or `below` of what it is made of.
fn retyped(
    field: &FieldRef,
    below: &dyn Fn(&FieldRef) -> FieldRef,
    scalar: impl Fn(&DataType) -> DataType,
) -> FieldRef {
    let of = match field.data_type() {
        DataType::List(element) => DataType::List(below(element)),
        DataType::Map(entries, sorted) => DataType::Map(below(entries), *sorted),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(below).collect()),
        other => scalar(other),
    };
    Arc::new(Field::new(field.name(), of, field.is_nullable()))
}

fn internal(error: impl std::fmt::Display) -> Error {
    Error::Internal(format!("format 'avro': {error}"))
}

impl Encoder for AvroEncoder {
    fn encode(&mut self, batch: &Batch, out: &mut EncodedRecords) -> Result<()> {
        let rows = encodable(batch.data(), &self.schema)?;
        self.rows.encode(&rows).map_err(internal)?;
        let encoded = self.rows.flush();
        let start = out.bytes.len();
        out.bytes.extend_from_slice(encoded.bytes());
        // The offsets begin with the start of the first record.
        let ends = encoded.offsets().iter().skip(1);
        out.ends.extend(ends.map(|end| start + end));
        Ok(())
    }
}
