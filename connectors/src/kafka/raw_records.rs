//! Records as the brokers have them, collected into one buffer a part.

use rdkafka::message::Message;

/// Records of one partition, in order.
pub struct RawRecords {
    /// Number of the split, as the fetcher numbers them.
    pub split: u32,
    bytes: Vec<u8>,
    /// End of each payload in `bytes`; `None`: the record has no value.
    ends: Vec<(usize, bool)>,
    keys: Option<Keys>,
    pub offsets: Vec<i64>,
    pub timestamps_ms: Vec<i64>,
    /// After the last record.
    pub next_offset: i64,
}

impl RawRecords {
    /// No records. `with_keys`: of those that come the key is kept.
    pub fn new(split: u32, with_keys: bool) -> Self {
        Self {
            split,
            keys: with_keys.then(Keys::default),
            bytes: Vec::new(),
            ends: Vec::new(),
            offsets: Vec::new(),
            timestamps_ms: Vec::new(),
            next_offset: 0,
        }
    }

    pub fn len(&self) -> usize {
        self.offsets.len()
    }

    /// Of all values together.
    pub fn payload_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The value of a record; `None`: it has none.
    pub fn payload(&self, index: usize) -> Option<&[u8]> {
        piece(&self.bytes, &self.ends, index)
    }

    /// The key of a record; `None`: it has none, or keys are not fetched.
    pub fn key(&self, index: usize) -> Option<&[u8]> {
        let keys = self.keys.as_ref()?;
        piece(&keys.bytes, &keys.ends, index)
    }

    /// Adds a message.
    pub fn push(&mut self, message: &impl Message) {
        let timestamp_ms = message.timestamp().to_millis().unwrap_or(0);
        self.append(
            message.key(),
            message.payload(),
            message.offset(),
            timestamp_ms,
        );
    }

    /// Adds a record.
    pub fn append(
        &mut self,
        key: Option<&[u8]>,
        payload: Option<&[u8]>,
        offset: i64,
        timestamp_ms: i64,
    ) {
        self.bytes.extend_from_slice(payload.unwrap_or_default());
        self.ends.push((self.bytes.len(), payload.is_some()));
        if let Some(keys) = &mut self.keys {
            keys.bytes.extend_from_slice(key.unwrap_or_default());
            keys.ends.push((keys.bytes.len(), key.is_some()));
        }
        self.offsets.push(offset);
        self.timestamps_ms.push(timestamp_ms);
        self.next_offset = offset + 1;
    }
}

/// The keys of records.
#[derive(Default)]
struct Keys {
    bytes: Vec<u8>,
    /// As of the payloads.
    ends: Vec<(usize, bool)>,
}

/// A part's bytes among those of all.
fn piece<'a>(bytes: &'a [u8], ends: &[(usize, bool)], index: usize) -> Option<&'a [u8]> {
    let before = index.checked_sub(1).and_then(|before| ends.get(before));
    let start = before.map_or(0, |(end, _)| *end);
    match ends.get(index) {
        Some((end, true)) => bytes.get(start..*end),
        _ => None,
    }
}
