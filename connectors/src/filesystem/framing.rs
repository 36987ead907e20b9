//! Bytes of a file to records: lines, without their ends. A line's end between quotes belongs to the record, if the format has such quotes.

use memchr::{memchr, memchr2};

use crate::format::Framing;

/// A file without a line's end for so long is none of lines.
const MAX_RECORD_BYTES: usize = 64 << 20;

/// Cuts what is read into records.
pub(super) struct Framer {
    framing: Framing,
    buffer: Vec<u8>,
    /// Start of the first record that was not taken yet.
    start: usize,
    /// Where to look on for its end.
    scan: usize,
    in_quotes: bool,
    /// Byte of the file at `buffer[0]`.
    base: u64,
    ended: bool,
}

/// Records that are complete, as ranges of the buffer.
#[derive(Default)]
pub(super) struct Frames {
    pub ranges: Vec<(usize, usize)>,
}

/// A record is too long.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLong;

impl Framer {
    /// `offset` is where reading starts in the file: the start of a record.
    pub(super) fn new(framing: Framing, offset: u64) -> Self {
        Self {
            framing,
            buffer: Vec::new(),
            start: 0,
            scan: 0,
            in_quotes: false,
            base: offset,
            ended: false,
        }
    }

    /// Adds what was read.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.base += self.start as u64;
            self.scan -= self.start;
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The file has ended: what is left is a record.
    pub(super) fn end(&mut self) {
        self.ended = true;
    }

    /// Byte of the file behind the last record that was taken.
    pub(super) fn position(&self) -> u64 {
        self.base + self.start as u64
    }

    /// Byte of the file at a place of the buffer.
    pub(super) fn position_of(&self, place: usize) -> u64 {
        self.base + place as u64
    }

    pub(super) fn bytes(&self, (start, end): (usize, usize)) -> &[u8] {
        &self.buffer[start..end]
    }

    /// Takes up to `limit` complete records into `frames` (emptied before).
    pub(super) fn take(&mut self, limit: usize, frames: &mut Frames) -> Result<(), TooLong> {
        frames.ranges.clear();
        while frames.ranges.len() < limit {
            let Some(end) = self.find_end() else {
                if self.ended && self.start < self.buffer.len() {
                    frames.ranges.push((self.start, self.buffer.len()));
                    self.start = self.buffer.len();
                    self.scan = self.start;
                }
                break;
            };
            let has_return = end > self.start && self.buffer[end - 1] == b'\r';
            frames
                .ranges
                .push((self.start, end - usize::from(has_return)));
            self.start = end + 1;
            self.scan = self.start;
        }
        if self.buffer.len() - self.start > MAX_RECORD_BYTES && frames.ranges.is_empty() {
            return Err(TooLong);
        }
        Ok(())
    }

    /// Place of the next line's end.
    fn find_end(&mut self) -> Option<usize> {
        loop {
            let rest = &self.buffer[self.scan..];
            let found = match self.framing {
                Framing::Lines => memchr(b'\n', rest),
                Framing::QuotedLines(quote) if self.in_quotes => memchr(quote, rest),
                Framing::QuotedLines(quote) => memchr2(b'\n', quote, rest),
            };
            let Some(found) = found else {
                self.scan = self.buffer.len();
                return None;
            };
            let place = self.scan + found;
            if self.buffer[place] == b'\n' && !self.in_quotes {
                return Some(place);
            }
            self.in_quotes = !self.in_quotes;
            self.scan = place + 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn records(framing: Framing, pieces: &[&[u8]]) -> Vec<String> {
        let mut framer = Framer::new(framing, 0);
        let mut frames = Frames::default();
        let mut found = Vec::new();
        let mut take = |framer: &mut Framer| {
            loop {
                framer.take(2, &mut frames).unwrap();
                if frames.ranges.is_empty() {
                    break;
                }
                let texts = frames.ranges.iter().map(|range| framer.bytes(*range));
                found.extend(texts.map(|text| String::from_utf8(text.to_vec()).unwrap()));
            }
        };
        for piece in pieces {
            framer.push(piece);
            take(&mut framer);
        }
        framer.end();
        take(&mut framer);
        let length: usize = pieces.iter().map(|piece| piece.len()).sum();
        assert_eq!(framer.position(), length as u64);
        found
    }

    #[test]
    fn lines_end_at_line_feeds_and_the_last_at_the_end() {
        let pieces: [&[u8]; 3] = [b"a\nb", b"b\r\n\nc", b"c"];
        assert_eq!(records(Framing::Lines, &pieces), ["a", "bb", "", "cc"]);
    }

    #[test]
    fn line_feeds_between_quotes_belong_to_the_record() {
        let pieces: [&[u8]; 2] = [b"1,\"a\nb\"\"c", b"\n\",2\n3,x"];
        let found = records(Framing::QuotedLines(b'"'), &pieces);
        assert_eq!(found, ["1,\"a\nb\"\"c\n\",2", "3,x"]);
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(text in "[a\n\"\r]{0,40}", cut in 0usize..40) {
            let cut = cut.min(text.len());
            let (left, right) = text.as_bytes().split_at(cut);
            for framing in [Framing::Lines, Framing::QuotedLines(b'"')] {
                prop_assert_eq!(records(framing, &[left, right]), records(framing, &[text.as_bytes()]));
            }
        }
    }
}
