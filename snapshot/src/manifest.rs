//! How a manifest lies on the store: `WEIRSNAP`, format version (u32), length (u64), the protobuf message, xxh3-64 of all
//! before it. Numbers are big-endian.

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message as _;
use weir_proto::v1;
use xxhash_rust::xxh3::xxh3_64;

/// Newest that this version reads; it reads all before it, too. 2: rows in flight. 3: files in the manifest.
pub const FORMAT_VERSION: u32 = 3;

/// The oldest that has everything in the manifest, so that an older Weir refuses what it would leave out, and nothing else.
fn version_of(manifest: &v1::Manifest) -> u32 {
    let operators = &manifest.operators;
    let is_inlined = |file: &v1::FileRef| file.path.is_empty();
    if operators.iter().flat_map(keyed_files).any(is_inlined) {
        3
    } else if operators.iter().any(|o| o.in_flight.is_some()) {
        2
    } else {
        1
    }
}

const MAGIC: &[u8; 8] = b"WEIRSNAP";
const HEAD_BYTES: usize = 8 + 4 + 8;
const CHECKSUM_BYTES: usize = 8;

/// Why bytes are not a manifest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// It does not begin like one.
    #[error("this is not a Weir snapshot manifest")]
    NotAManifest,
    /// It ends too early, or too late.
    #[error("the manifest is truncated or has trailing bytes: {found} bytes instead of {expected}")]
    Length {
        /// By its head.
        expected: u64,
        /// There are.
        found: u64,
    },
    /// A later version of Weir wrote it.
    #[error(
        "the snapshot was written by a newer Weir (format {found}, this one reads up to {FORMAT_VERSION}); upgrade Weir to restore it"
    )]
    NewerVersion {
        /// Its format version.
        found: u32,
    },
    /// Some byte of it has changed.
    #[error("the manifest's checksum does not match: it is damaged")]
    Checksum,
    /// The checksum is right but the message can't be decoded.
    #[error("the manifest can't be decoded: {0}")]
    Message(String),
}

/// The bytes of `_metadata`. Equal manifests give equal bytes.
pub fn encode(manifest: &v1::Manifest) -> Bytes {
    let length = manifest.encoded_len();
    let mut bytes = BytesMut::with_capacity(HEAD_BYTES + length + CHECKSUM_BYTES);
    bytes.put_slice(MAGIC);
    bytes.put_u32(version_of(manifest));
    bytes.put_u64(length as u64);
    bytes.put_slice(&manifest.encode_to_vec());
    let checksum = xxh3_64(&bytes);
    bytes.put_u64(checksum);
    bytes.freeze()
}

/// Reads what [`encode`] wrote. Any bytes may be given.
pub fn decode(bytes: &[u8]) -> Result<v1::Manifest, ManifestError> {
    let Some((magic, rest)) = bytes.split_first_chunk::<8>() else {
        return Err(ManifestError::NotAManifest);
    };
    if magic != MAGIC {
        return Err(ManifestError::NotAManifest);
    }
    let found = bytes.len() as u64;
    let too_short = ManifestError::Length {
        expected: (HEAD_BYTES + CHECKSUM_BYTES) as u64,
        found,
    };
    let (version, rest) = rest.split_first_chunk::<4>().ok_or(too_short.clone())?;
    let version = u32::from_be_bytes(*version);
    if version > FORMAT_VERSION {
        return Err(ManifestError::NewerVersion { found: version });
    }
    let (length, rest) = rest.split_first_chunk::<8>().ok_or(too_short.clone())?;
    let (payload, checksum) = rest.split_last_chunk::<8>().ok_or(too_short)?;
    let expected = u64::from_be_bytes(*length);
    if payload.len() as u64 != expected {
        return Err(ManifestError::Length {
            expected: expected.saturating_add((HEAD_BYTES + CHECKSUM_BYTES) as u64),
            found,
        });
    }
    let checked = &bytes[..bytes.len() - CHECKSUM_BYTES];
    if xxh3_64(checked) != u64::from_be_bytes(*checksum) {
        return Err(ManifestError::Checksum);
    }
    v1::Manifest::decode(payload).map_err(|error| ManifestError::Message(error.to_string()))
}

/// All objects that a manifest names; one that several subtasks share comes several times. Files that lie in the manifest itself
/// are no objects.
pub fn files(manifest: &v1::Manifest) -> impl Iterator<Item = &v1::FileRef> {
    let named = manifest
        .operators
        .iter()
        .flat_map(|operator| keyed_files(operator).chain(in_flight_file(operator)));
    named.filter(|file| !file.path.is_empty())
}

fn keyed_files(operator: &v1::OperatorSnapshot) -> impl Iterator<Item = &v1::FileRef> {
    operator.keyed.iter().flat_map(|keyed| &keyed.files)
}

fn in_flight_file(operator: &v1::OperatorSnapshot) -> Option<&v1::FileRef> {
    match operator.in_flight.as_ref()?.content.as_ref()? {
        v1::in_flight::Content::File(file) => Some(file),
        v1::in_flight::Content::Inlined(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn manifest() -> v1::Manifest {
        v1::Manifest {
            job_id: "j".repeat(32),
            checkpoint_id: 7,
            operators: vec![v1::OperatorSnapshot {
                operator_uid: "agg".to_owned(),
                ..v1::OperatorSnapshot::default()
            }],
            ..v1::Manifest::default()
        }
    }

    #[test]
    fn it_reads_what_it_wrote() {
        assert_eq!(decode(&encode(&manifest())), Ok(manifest()));
    }

    #[test]
    fn an_older_version_does_not_read_what_it_would_leave_out() {
        let mut manifest = manifest();
        assert_eq!(encode(&manifest)[8..12], 1u32.to_be_bytes());
        manifest.operators[0].in_flight = Some(v1::InFlight::default());
        let bytes = encode(&manifest);
        assert_eq!(bytes[8..12], 2u32.to_be_bytes());
        assert_eq!(decode(&bytes).as_ref(), Ok(&manifest));
        manifest.operators[0].keyed = Some(v1::KeyedState {
            files: vec![v1::FileRef::default()],
            ..v1::KeyedState::default()
        });
        let bytes = encode(&manifest);
        assert_eq!(bytes[8..12], 3u32.to_be_bytes());
        assert_eq!(decode(&bytes), Ok(manifest));
    }

    #[test]
    fn a_newer_version_is_named() {
        let mut bytes = encode(&manifest()).to_vec();
        bytes[8..12].copy_from_slice(&9u32.to_be_bytes());
        let error = decode(&bytes).unwrap_err();
        assert_eq!(error, ManifestError::NewerVersion { found: 9 });
        assert!(error.to_string().contains("newer Weir"));
    }

    #[test]
    fn something_else_is_not_a_manifest() {
        for bytes in [&b""[..], b"{}", b"WEIRSNA", b"PK\x03\x04........."] {
            assert_eq!(decode(bytes), Err(ManifestError::NotAManifest));
        }
    }

    proptest! {
        #[test]
        fn any_flipped_bit_is_found(bit in 0usize..8, place: prop::sample::Index) {
            let mut bytes = encode(&manifest()).to_vec();
            let at = place.index(bytes.len());
            bytes[at] ^= 1 << bit;
            prop_assert!(decode(&bytes).is_err());
        }

        #[test]
        fn any_truncation_is_found(place: prop::sample::Index) {
            let bytes = encode(&manifest());
            prop_assert!(decode(&bytes[..place.index(bytes.len())]).is_err());
        }

        #[test]
        fn any_bytes_may_come(tail in prop::collection::vec(any::<u8>(), 0..64)) {
            let mut bytes = MAGIC.to_vec();
            bytes.extend(tail);
            prop_assert!(decode(&bytes).is_err());
        }
    }
}
