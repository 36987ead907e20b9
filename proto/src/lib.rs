//! Everything that goes over a wire or into a manifest, generated from `weir/v1/*.proto`.
//!
//! Owns: the message and service definitions. Must never know: any other crate of Weir, or what a message means.

/// Package `weir.v1`.
#[allow(missing_docs, clippy::all)]
pub mod v1 {
    tonic::include_proto!("weir.v1");
}

pub mod transport;

/// Encoded `FileDescriptorSet` of the package, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
