//! Which sessions are open, and which one a row belongs to. Pure: times in milliseconds, keys as bytes.
//!
//! A row opens a session from its time to its time plus the gap. Sessions of a key that touch become one.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use ahash::RandomState;
use hashbrown::HashMap;

/// An open session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Session {
    /// Inclusive.
    pub start: i64,
    /// Exclusive: the last row's time plus the gap.
    pub end: i64,
    /// Its name in the state: the start that it had first. No other open session of its key has it.
    pub id: i64,
}

/// What a row did.
#[derive(Debug, PartialEq, Eq)]
pub enum Placed {
    /// Its session had ended.
    Late,
    /// It is in this session, with which others have become one.
    In { id: i64, merged: Vec<i64> },
}

/// An end that a session had at some time, with its key and name; the earliest is the largest.
type End = Reverse<(i64, Box<[u8]>, i64)>;

/// The open sessions of all keys.
pub struct Sessions {
    gap_ms: i64,
    by_key: HashMap<Box<[u8]>, Vec<Session>, RandomState>,
    ends: BinaryHeap<End>,
}

impl Sessions {
    /// None yet.
    pub fn new(gap_ms: i64) -> Self {
        Self {
            gap_ms,
            by_key: HashMap::default(),
            ends: BinaryHeap::new(),
        }
    }

    /// A session that a snapshot had.
    pub fn restore(&mut self, key: &[u8], session: Session) {
        self.by_key.entry_ref(key).or_default().push(session);
        self.ends
            .push(Reverse((session.end, key.into(), session.id)));
    }

    /// Puts a row into its session.
    pub fn place(&mut self, key: &[u8], time: i64, watermark_ms: i64) -> Placed {
        let end = time.saturating_add(self.gap_ms);
        if let Some(open) = self.by_key.get_mut(key)
            && let [only] = open.as_mut_slice()
            && only.start <= time
            && time <= only.end
        {
            only.end = only.end.max(end);
            return Placed::In {
                id: only.id,
                merged: Vec::new(),
            };
        }
        let open = self.by_key.get(key).map_or(&[][..], Vec::as_slice);
        let touches = |session: &Session| session.start <= end && time <= session.end;
        let mut touched: Vec<Session> = open.iter().filter(|s| touches(s)).copied().collect();
        touched.sort_unstable_by_key(|session| session.start);
        let last_end = touched.iter().map(|session| session.end).max();
        if last_end.unwrap_or(end).max(end).saturating_sub(1) <= watermark_ms {
            return Placed::Late;
        }
        let open = self.by_key.entry_ref(key).or_default();
        let Some((first, others)) = touched.split_first() else {
            open.push(Session {
                start: time,
                end,
                id: time,
            });
            self.ends.push(Reverse((end, key.into(), time)));
            return Placed::In {
                id: time,
                merged: Vec::new(),
            };
        };
        open.retain(|session| !others.contains(session));
        for session in open.iter_mut().filter(|session| session.id == first.id) {
            session.start = session.start.min(time);
            session.end = session.end.max(end).max(last_end.unwrap_or(end));
        }
        Placed::In {
            id: first.id,
            merged: others.iter().map(|session| session.id).collect(),
        }
    }

    /// Takes out the sessions that a watermark ends, the earliest first.
    pub fn take_ended(&mut self, watermark_ms: i64) -> Vec<(Box<[u8]>, Session)> {
        let mut ended = Vec::new();
        while let Some(Reverse((end, ..))) = self.ends.peek()
            && end.saturating_sub(1) <= watermark_ms
            && let Some(Reverse((_, key, id))) = self.ends.pop()
        {
            let Some(open) = self.by_key.get_mut(&key) else {
                continue;
            };
            let Some(place) = open.iter().position(|session| session.id == id) else {
                continue;
            };
            let session = open[place];
            if session.end.saturating_sub(1) > watermark_ms {
                // It has grown.
                self.ends.push(Reverse((session.end, key, id)));
                continue;
            }
            open.swap_remove(place);
            if open.is_empty() {
                self.by_key.remove(&key);
            }
            ended.push((key, session));
        }
        ended
    }

    /// Bytes in memory, roughly.
    pub fn memory(&self) -> usize {
        (self.by_key.capacity() + self.ends.capacity()) * 80
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(placed: Placed) -> (i64, Vec<i64>) {
        match placed {
            Placed::In { id, merged } => (id, merged),
            Placed::Late => panic!("late"),
        }
    }

    #[test]
    fn sessions_grow_and_become_one() {
        let mut sessions = Sessions::new(10);
        assert_eq!(id(sessions.place(b"a", 100, 0)), (100, vec![]));
        assert_eq!(
            id(sessions.place(b"a", 110, 0)),
            (100, vec![]),
            "it touches"
        );
        assert_eq!(id(sessions.place(b"a", 140, 0)), (140, vec![]));
        assert_eq!(id(sessions.place(b"a", 130, 0)), (140, vec![]));
        assert_eq!(id(sessions.place(b"a", 125, 0)), (140, vec![]));
        assert_eq!(id(sessions.place(b"a", 118, 0)), (100, vec![140]));
        assert!(sessions.take_ended(148).is_empty());
        let whole = Session {
            start: 100,
            end: 150,
            id: 100,
        };
        assert_eq!(sessions.take_ended(149), [(b"a"[..].into(), whole)]);
    }

    #[test]
    fn a_row_is_late_if_its_session_has_ended() {
        let mut sessions = Sessions::new(10);
        assert_eq!(sessions.place(b"a", 90, 99), Placed::Late);
        assert_eq!(id(sessions.place(b"a", 95, 99)), (95, vec![]));
        // With an open session it goes on.
        assert_eq!(id(sessions.place(b"a", 86, 99)), (95, vec![]));
        assert_eq!(sessions.place(b"b", 86, 99), Placed::Late);
    }
}
