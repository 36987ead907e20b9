//! Arrow schemas on the wire.

use arrow::datatypes::{Schema, SchemaRef};
use arrow::ipc::convert::try_schema_from_flatbuffer_bytes;
use arrow::ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteOptions};
use std::sync::Arc;

use crate::error::{Error, Result};

/// As it stands in `output_schema`, `read_schema` and `schema` fields of a job graph: an IPC schema message.
pub fn encode_schema(schema: &Schema) -> Vec<u8> {
    let mut tracker = DictionaryTracker::new(false);
    IpcDataGenerator {}
        .schema_to_bytes_with_dictionary_tracker(schema, &mut tracker, &IpcWriteOptions::default())
        .ipc_message
}

/// From [`encode_schema`].
///
/// # Errors
/// If the bytes are not an IPC schema message.
pub fn decode_schema(bytes: &[u8]) -> Result<SchemaRef> {
    try_schema_from_flatbuffer_bytes(bytes)
        .map(Arc::new)
        .map_err(|error| Error::Config(format!("the job graph has a broken schema: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::{DataType, Field};

    #[test]
    fn a_schema_survives_the_wire_with_its_metadata() {
        let field = Field::new("a", DataType::Decimal128(23, 3), true)
            .with_metadata([("weir.type".to_owned(), "DECIMAL(23, 3)".to_owned())].into());
        let schema = Schema::new(vec![field, Field::new("b", DataType::Utf8, false)]);
        assert_eq!(*decode_schema(&encode_schema(&schema)).unwrap(), schema);
        assert!(decode_schema(b"nonsense").is_err());
    }
}
