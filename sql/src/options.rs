//! Settings of a session, under Flink's keys.

use std::collections::BTreeMap;

/// What SET has set, on top of the defaults that the session was started with.
#[derive(Debug, Clone, Default)]
pub struct SessionOptions {
    values: BTreeMap<String, String>,
}

impl SessionOptions {
    /// The value as text: set, or default of the session. `None`: Flink's own default holds.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(String::as_str)
    }
}
