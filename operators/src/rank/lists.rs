//! The rows of each partition in their order, and how a batch has changed the first of them.

use weir_dataflow::RowKind;

use crate::row_store::{RowId, RowStore};

/// Rows by slot of their partition. A row's note in the store is its sort key.
#[derive(Default)]
pub struct RankLists {
    lists: Vec<Vec<RowId>>,
    ids: usize,
}

impl RankLists {
    /// More partitions.
    pub fn grow(&mut self, slots: usize) {
        self.lists.resize_with(slots, Vec::new);
    }

    /// Rows of a partition.
    pub fn get(&self, slot: u32) -> &[RowId] {
        &self.lists[slot as usize]
    }

    /// Puts a row behind all that sort before it or the same, and came before it.
    pub fn insert(&mut self, id: RowId, store: &RowStore) {
        let list = &mut self.lists[store.slot_of(id) as usize];
        let (key, number) = (store.note(id), store.number(id));
        let is_before = |other: &RowId| (store.note(*other), store.number(*other)) < (key, number);
        let at = list.partition_point(is_before);
        list.insert(at, id);
        self.ids += 1;
    }

    /// Takes the last row out.
    pub fn pop(&mut self, slot: u32) -> Option<RowId> {
        let last = self.lists[slot as usize].pop()?;
        self.ids -= 1;
        Some(last)
    }

    /// Takes out the row that came first of those that are the same.
    pub fn take(&mut self, slot: u32, key: &[u8], row: &[u8], store: &RowStore) -> Option<RowId> {
        let list = &mut self.lists[slot as usize];
        let from = list.partition_point(|id| store.note(*id) < key);
        let mut same = list[from..].iter().take_while(|id| store.note(**id) == key);
        let at = from + same.position(|id| store.bytes(*id) == row)?;
        self.ids -= 1;
        Some(list.remove(at))
    }

    /// Bytes in memory, roughly.
    pub fn memory(&self) -> usize {
        self.lists.capacity() * size_of::<Vec<RowId>>() + self.ids * size_of::<RowId>() * 2
    }
}

/// Which of a partition's rows are emitted, and how.
#[derive(Debug, Clone, Copy)]
pub struct Emission {
    /// 1 is the first.
    pub start: u64,
    /// Rows have their number, or there is one row only: it is updated in its place. Else a row comes and goes.
    pub in_place: bool,
    pub update_before: bool,
}

/// A change of the result: the row, and its number.
pub type Change = (RowKind, RowId, i64);

impl Emission {
    /// The part of a list that is emitted.
    fn shown(self, list: &[RowId], end: u64) -> &[RowId] {
        let end = usize::try_from(end).unwrap_or(usize::MAX).min(list.len());
        let start = usize::try_from(self.start - 1).unwrap_or(usize::MAX);
        list.get(start..end).unwrap_or_default()
    }

    /// What leads from the rows of a partition `before` to those that there are now.
    pub fn changes(
        self,
        before: &[RowId],
        now: &[RowId],
        end: u64,
        store: &RowStore,
        changes: &mut Vec<Change>,
    ) {
        let (before, now) = (self.shown(before, end), self.shown(now, end));
        if self.in_place {
            self.updates(before, now, store, changes);
        } else {
            differences(before, now, store, changes);
        }
    }

    fn updates(self, before: &[RowId], now: &[RowId], store: &RowStore, changes: &mut Vec<Change>) {
        for at in 0..before.len().max(now.len()) {
            let number = (self.start as i64).saturating_add(at as i64);
            match (before.get(at), now.get(at)) {
                (Some(old), Some(new)) => {
                    if old == new || store.bytes(*old) == store.bytes(*new) {
                        continue;
                    }
                    if self.update_before {
                        changes.push((RowKind::UpdateBefore, *old, number));
                    }
                    changes.push((RowKind::UpdateAfter, *new, number));
                }
                (None, Some(new)) => changes.push((RowKind::Insert, *new, number)),
                (Some(old), None) => changes.push((RowKind::Delete, *old, number)),
                (None, None) => {}
            }
        }
    }
}

/// Both lists are in the same order. What goes stands in front of what comes.
fn differences(before: &[RowId], now: &[RowId], store: &RowStore, changes: &mut Vec<Change>) {
    let place = |id: RowId| (store.note(id), store.number(id));
    let (mut old, mut new) = (before.iter().peekable(), now.iter().peekable());
    let mut come = Vec::new();
    loop {
        match (old.peek(), new.peek()) {
            (Some(a), Some(b)) if a == b => {
                old.next();
                new.next();
            }
            (Some(a), b) if b.is_none_or(|b| place(**a) < place(**b)) => {
                changes.push((RowKind::Delete, **a, 0));
                old.next();
            }
            (_, Some(b)) => {
                come.push((RowKind::Insert, **b, 0));
                new.next();
            }
            (Some(_), None) | (None, None) => break,
        }
    }
    changes.append(&mut come);
}
