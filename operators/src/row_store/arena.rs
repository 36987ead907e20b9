//! Bytes of rows, one after the other in large pieces; what was removed is given back when it is most of what there is.

/// Bytes of a piece, if no row is larger.
const PIECE: usize = 1 << 20;
/// With less than this there is nothing to give back.
const SMALL: usize = 1 << 16;
/// In front of each row: its length and that of its note.
const HEAD: usize = 8;

/// Where a row's bytes are: number of the piece, then offset in it.
pub type Place = u64;

/// Rows' bytes, each with a note in front that whoever put it there needs.
#[derive(Debug, Default)]
pub struct Arena {
    pieces: Vec<Vec<u8>>,
    used: usize,
    removed: usize,
}

impl Arena {
    /// Adds a row.
    pub fn add(&mut self, note: &[u8], row: &[u8]) -> Place {
        let length = HEAD + note.len() + row.len();
        let has_room = |piece: &Vec<u8>| piece.capacity() - piece.len() >= length;
        if !self.pieces.last().is_some_and(has_room) {
            let size = match self.pieces.len() {
                // A small working set takes little.
                0 => SMALL,
                _ => PIECE,
            };
            self.pieces.push(Vec::with_capacity(size.max(length)));
        }
        let number = self.pieces.len() - 1;
        let piece = &mut self.pieces[number];
        let offset = piece.len();
        piece.extend_from_slice(&(row.len() as u32).to_le_bytes());
        piece.extend_from_slice(&(note.len() as u32).to_le_bytes());
        piece.extend_from_slice(note);
        piece.extend_from_slice(row);
        self.used += length;
        (number as u64) << 32 | offset as u64
    }

    /// Note and row.
    #[inline]
    pub fn get(&self, place: Place) -> (&[u8], &[u8]) {
        let bytes = &self.pieces[(place >> 32) as usize][place as u32 as usize..];
        let number = |at: usize| {
            bytes[at..at + 4]
                .iter()
                .rev()
                .fold(0usize, |number, byte| number << 8 | usize::from(*byte))
        };
        let (row, note) = (number(0), number(4));
        let behind = &bytes[HEAD..];
        (&behind[..note], &behind[note..note + row])
    }

    /// A row is not needed any more.
    pub fn remove(&mut self, place: Place) {
        let (note, row) = self.get(place);
        self.removed += HEAD + note.len() + row.len();
    }

    /// Most of it was removed: the caller moves what is left into a new one.
    pub fn is_mostly_removed(&self) -> bool {
        self.removed > SMALL && self.removed * 2 > self.used
    }

    /// Bytes in memory.
    pub fn memory(&self) -> usize {
        self.pieces.iter().map(Vec::capacity).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_keep_their_places_and_may_be_larger_than_a_piece() {
        let mut arena = Arena::default();
        let large = vec![7; PIECE + 1];
        let rows: Vec<Vec<u8>> = (0..2000u32)
            .map(|i| vec![i as u8; i as usize % 300])
            .chain([large, Vec::new()])
            .collect();
        let places: Vec<Place> = rows.iter().map(|row| arena.add(b"ab", row)).collect();
        for (row, place) in rows.iter().zip(&places) {
            assert_eq!(arena.get(*place), (&b"ab"[..], row.as_slice()));
        }
        assert!(arena.memory() > PIECE);
        assert!(!arena.is_mostly_removed());
        places.iter().for_each(|place| arena.remove(*place));
        assert!(arena.is_mostly_removed());
    }
}
