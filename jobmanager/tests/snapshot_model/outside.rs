//! What lies outside of Weir: an object store with conditional create, and a system with transactions that a sink writes to.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use weir_snapshot::manifest;
use weir_snapshot::recovery::missing_or_cut;
use weir_snapshot::{Created, Listed};

use crate::part::{Print, hashed};
use crate::world::Violation;

/// Objects by URL.
#[derive(Debug, Clone, Default, Hash)]
pub struct Store {
    objects: BTreeMap<String, Bytes>,
}

impl Print for Store {
    fn print(&self) -> u64 {
        hashed(self)
    }
}

impl Store {
    pub fn put(&mut self, url: &str, content: Bytes) {
        self.objects.insert(url.to_owned(), content);
    }

    pub fn create_new(&mut self, url: &str, content: &Bytes) -> Created {
        if self.objects.contains_key(url) {
            return Created::AlreadyExists;
        }
        self.objects.insert(url.to_owned(), content.clone());
        Created::Created
    }

    pub fn get(&self, url: &str) -> Option<&Bytes> {
        self.objects.get(url)
    }

    pub fn delete(&mut self, url: &str) {
        self.objects.remove(url);
    }

    /// All objects below a folder, named from there.
    pub fn list(&self, base: &str) -> Vec<Listed> {
        let below = format!("{base}/");
        let objects = self.objects.range(below.clone()..);
        let objects = objects.take_while(|(url, _)| url.starts_with(&below));
        let listed = objects.map(|(url, content)| Listed {
            path: url[below.len()..].to_owned(),
            size_bytes: content.len() as u64,
            modified_ms: 0,
        });
        listed.collect()
    }

    /// The manifest of a snapshot, if that is whole.
    pub fn whole(&self, base: &str, path: &str) -> Result<weir_proto::v1::Manifest, String> {
        let url = format!("{base}/{path}");
        let bytes = self.get(&url).ok_or(format!("{url} does not exist"))?;
        let manifest = manifest::decode(bytes).map_err(|error| format!("{url}: {error}"))?;
        match missing_or_cut(&manifest, &self.list(base)) {
            Some(damage) => Err(format!("{url}: {damage:?}")),
            None => Ok(manifest),
        }
    }
}

/// A transaction: of which attempt, subtask and checkpoint.
pub type Transaction = (u64, u32, u64);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Fate {
    Open,
    Committed,
    Aborted,
}

/// Transactions, each with one row: a subtask's rows are numbered.
#[derive(Debug, Clone, Default, Hash)]
pub struct Transactions {
    all: BTreeMap<Transaction, (u8, Fate)>,
}

impl Print for Transactions {
    fn print(&self) -> u64 {
        hashed(self)
    }
}

pub fn encoded((attempt, subtask, checkpoint): Transaction) -> Bytes {
    Bytes::from(format!("{attempt}-{subtask}-{checkpoint}"))
}

fn decoded(item: &Bytes) -> Transaction {
    let text = String::from_utf8_lossy(item);
    let mut numbers = text.split('-').map(|number| number.parse().unwrap());
    let mut next = || numbers.next().unwrap();
    (next(), next() as u32, next())
}

impl Transactions {
    pub fn write(&mut self, transaction: Transaction, row: u8) {
        self.all.insert(transaction, (row, Fate::Open));
    }

    /// `complete` are the rows of each subtask that lie in front of the newest complete checkpoint.
    /// After a fall back to an older checkpoint rows come again, which is not `strict`.
    pub fn commit(
        &mut self,
        item: &Bytes,
        complete: [u8; 2],
        strict: bool,
    ) -> Result<(), Violation> {
        let transaction = decoded(item);
        let subtask = transaction.1;
        let (row, fate) = self.all[&transaction];
        if fate == Fate::Aborted {
            return Err(Violation(format!(
                "row {row} of subtask {subtask} is lost: {transaction:?} was aborted before its commit"
            )));
        }
        if strict && row >= complete[subtask as usize] {
            return Err(Violation(format!(
                "row {row} of subtask {subtask} is committed, but in no complete checkpoint"
            )));
        }
        let again = strict && fate == Fate::Open && self.committed(subtask).contains(&row);
        if again {
            return Err(Violation(format!(
                "row {row} of subtask {subtask} is committed twice"
            )));
        }
        self.all.insert(transaction, (row, Fate::Committed));
        Ok(())
    }

    /// What earlier attempts left open.
    pub fn abort_before(&mut self, attempt: u64, subtask: u32) {
        for ((made_by, index, _), (_, fate)) in &mut self.all {
            if *made_by < attempt && *index == subtask && *fate == Fate::Open {
                *fate = Fate::Aborted;
            }
        }
    }

    pub fn committed(&self, subtask: u32) -> BTreeSet<u8> {
        let all = self.all.iter();
        let committed =
            all.filter(|((_, index, _), (_, fate))| *index == subtask && *fate == Fate::Committed);
        committed.map(|(_, (row, _))| *row).collect()
    }
}
