//! raft-rs logs to slog: its lines go to tracing.

use std::fmt::Write as _;

use slog::{Drain, KV as _, Key, Level, Logger, Never, OwnedKVList, Record, o};

struct Tracing;

struct Fields(String);

impl slog::Serializer for Fields {
    fn emit_arguments(&mut self, key: Key, value: &std::fmt::Arguments<'_>) -> slog::Result {
        write!(self.0, " {key}={value}").map_err(|_| slog::Error::Other)
    }
}

impl Drain for Tracing {
    type Ok = ();
    type Err = Never;

    fn log(&self, record: &Record<'_>, _values: &OwnedKVList) -> Result<(), Never> {
        let mut fields = Fields(String::new());
        // A field that does not print is left out of the line.
        let _ = record.kv().serialize(record, &mut fields);
        let (message, fields) = (record.msg(), fields.0);
        match record.level() {
            Level::Critical | Level::Error => tracing::error!(target: "raft", "{message}{fields}"),
            Level::Warning => tracing::warn!(target: "raft", "{message}{fields}"),
            // Raft's own information is about every message; it is for those who look into Raft.
            Level::Info | Level::Debug => tracing::debug!(target: "raft", "{message}{fields}"),
            Level::Trace => tracing::trace!(target: "raft", "{message}{fields}"),
        }
        Ok(())
    }
}

/// The logger that raft-rs is given.
pub(super) fn logger() -> Logger {
    Logger::root(Tracing.fuse(), o!())
}
