//! A job manager that only listens, and a world of a source and a sink in memory.

pub mod cluster;
pub mod master;
pub mod world;
