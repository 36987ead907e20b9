//! Connectors: how tables are read from and written to systems outside, and the formats of their records.
//!
//! Owns: the registry ([`open_source`], [`open_sink`], [`describe_source`], [`describe_sink`]), the validation of every option, one module a
//! connector, [`format`](mod@format). Must never know: operators, the planner, the keyed state of running jobs. The `describe_*` half does no I/O and is what the
//! planner calls; the `open_*` half is what a task manager calls.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod blackhole;
mod collect;
mod context;
mod datagen;
mod filesystem;
pub mod format;
mod io_thread;
mod kafka;
mod layout;
mod nexmark;
mod options;
mod pace;
mod print;
mod registry;
mod savepoint;
mod split_state;
#[cfg(test)]
mod test_util;
mod throttle;

pub use context::{SinkContext, SourceContext};
pub use layout::{Layout, PARTITION_KEY};
pub use options::OptionReader;
pub use registry::{
    Accepts, SinkDescription, SourceDescription, describe_sink, describe_source, open_sink,
    open_source,
};
