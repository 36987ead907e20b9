//! Channels between processes: one gRPC stream for each (producer task manager, consumer task manager, edge).
//!
//! Batches need credit of their channel, which the consumer grants as it takes batches out of the channel's queue: a slow channel stops
//! its own batches and nobody else's. Barriers, watermarks and ends need none. Order and completeness are checked a channel.

pub mod codec;
pub mod receive;
pub mod send;
