//! Channels between processes: one gRPC stream for each (producer task manager, consumer task manager, edge).
//!
//! Batches need credit of their channel, which the consumer grants as it processes the channel's batches: a slow channel stops
//! its own batches and nobody else's. Barriers, watermarks and ends need none. What stands in front of a barrier that overtakes is sent
//! ahead of its credit, marked as such, and paid for by later credits. Order and completeness are checked a channel.

pub mod codec;
pub mod receive;
pub mod send;
