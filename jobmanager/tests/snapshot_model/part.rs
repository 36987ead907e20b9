//! A part of the world that is shared between states until it changes, with its fingerprint.

use std::fmt::Debug;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;

/// See the file's head. Equal parts have equal fingerprints; the reverse is taken for granted.
#[derive(Debug)]
pub struct Part<T> {
    value: Arc<T>,
    print: u64,
}

impl<T> Clone for Part<T> {
    fn clone(&self) -> Self {
        Self {
            value: Arc::clone(&self.value),
            print: self.print,
        }
    }
}

impl<T> Deref for Part<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> Hash for Part<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.print);
    }
}

/// What a part's fingerprint is made of: not all of the real structures can be hashed, but all can be printed.
pub trait Print {
    fn print(&self) -> u64;
}

pub fn printed(value: &impl Debug) -> u64 {
    hashed(&format!("{value:?}"))
}

pub fn hashed(value: &(impl Hash + ?Sized)) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

impl<T: Print + Clone> Part<T> {
    pub fn new(value: T) -> Self {
        Self {
            print: value.print(),
            value: Arc::new(value),
        }
    }

    pub fn change<R>(&mut self, change: impl FnOnce(&mut T) -> R) -> R {
        let result = change(Arc::make_mut(&mut self.value));
        self.print = self.value.print();
        result
    }

    pub fn fingerprint(&self) -> u64 {
        self.print
    }
}
