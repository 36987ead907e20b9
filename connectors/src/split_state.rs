//! How readers write the state of a split: a version byte, then JSON. Small, readable in a snapshot, and extensible by fields with defaults.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use weir_dataflow::{Error, Result};

const VERSION: u8 = 1;

/// For [`weir_dataflow::SourceReader::snapshot`].
pub(crate) fn encode<T: Serialize>(state: &T) -> Result<Bytes> {
    let mut bytes = vec![VERSION];
    serde_json::to_writer(&mut bytes, state)
        .map_err(|error| Error::Internal(format!("split state: {error}")))?;
    Ok(bytes.into())
}

/// From [`encode`] of this or an earlier version of Weir.
pub(crate) fn decode<T: DeserializeOwned>(connector: &str, bytes: &[u8]) -> Result<T> {
    let broken = |what: String| {
        Error::Restore(format!(
            "a split state of connector '{connector}' {what}; was the table's connector changed since the snapshot?"
        ))
    };
    match bytes.split_first() {
        Some((&VERSION, json)) => serde_json::from_slice(json)
            .map_err(|error| broken(format!("is not readable: {error}"))),
        Some((version, _)) => Err(broken(format!("has the unknown version {version}"))),
        None => Err(broken("is empty".to_owned())),
    }
}
