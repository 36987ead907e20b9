//! Watermarks a split, combined to the one of the source subtask. Pure: time and values come from the caller.

use std::collections::BTreeMap;

#[derive(Debug)]
struct Split {
    /// Largest value of the watermark expression so far.
    watermark_ms: Option<i64>,
    last_active_ms: i64,
}

/// Combines splits: the smallest watermark of those that are not idle. Never goes back.
#[derive(Debug)]
pub struct SplitWatermarks {
    splits: BTreeMap<u32, Split>,
    idle_timeout_ms: i64,
    emitted_ms: Option<i64>,
}

impl SplitWatermarks {
    /// `idle_timeout_ms` 0: a split is never idle.
    pub fn new(idle_timeout_ms: u64) -> Self {
        Self {
            splits: BTreeMap::new(),
            idle_timeout_ms: i64::try_from(idle_timeout_ms).unwrap_or(i64::MAX),
            emitted_ms: None,
        }
    }

    /// A split that holds the watermark back from now on.
    pub fn start(&mut self, split: u32, now_ms: i64) {
        self.splits.entry(split).or_insert(Split {
            watermark_ms: None,
            last_active_ms: now_ms,
        });
    }

    /// Rows of a split came, with this largest watermark among them (`None`: all NULL).
    pub fn advance(&mut self, split: u32, watermark_ms: Option<i64>, now_ms: i64) {
        let entry = self.splits.entry(split).or_insert(Split {
            watermark_ms: None,
            last_active_ms: now_ms,
        });
        entry.watermark_ms = entry.watermark_ms.max(watermark_ms);
        entry.last_active_ms = now_ms;
    }

    /// A split has ended.
    pub fn finish(&mut self, split: u32) {
        self.splits.remove(&split);
    }

    /// No split is active: the subtask does not hold the watermark back.
    pub fn is_idle(&self, now_ms: i64) -> bool {
        !self
            .splits
            .values()
            .any(|split| self.is_active(split, now_ms))
    }

    /// The watermark if it has grown since the last call.
    pub fn take_advance(&mut self, now_ms: i64) -> Option<i64> {
        let active = self
            .splits
            .values()
            .filter(|split| self.is_active(split, now_ms));
        // None (a split without a row so far) is smaller than any value: it holds back.
        let combined = active.map(|split| split.watermark_ms).min().flatten()?;
        if self.emitted_ms.is_some_and(|emitted| combined <= emitted) {
            return None;
        }
        self.emitted_ms = Some(combined);
        Some(combined)
    }

    fn is_active(&self, split: &Split, now_ms: i64) -> bool {
        self.idle_timeout_ms == 0 || now_ms - split.last_active_ms < self.idle_timeout_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_active_split_decides() {
        let mut watermarks = SplitWatermarks::new(1000);
        watermarks.start(0, 0);
        watermarks.start(1, 0);
        watermarks.advance(0, Some(50), 10);
        assert_eq!(watermarks.take_advance(10), None);
        watermarks.advance(1, Some(20), 10);
        assert_eq!(watermarks.take_advance(10), Some(20));
        watermarks.advance(1, Some(15), 20);
        assert_eq!(watermarks.take_advance(20), None);
        watermarks.finish(1);
        assert_eq!(watermarks.take_advance(20), Some(50));
    }

    #[test]
    fn an_idle_split_does_not_hold_back_and_comes_back() {
        let mut watermarks = SplitWatermarks::new(1000);
        watermarks.start(0, 0);
        watermarks.start(1, 0);
        watermarks.advance(0, Some(50), 999);
        assert_eq!(watermarks.take_advance(999), None);
        assert_eq!(watermarks.take_advance(1000), Some(50));
        assert!(!watermarks.is_idle(1000));
        assert!(watermarks.is_idle(1999));
        watermarks.advance(1, Some(10), 2000);
        assert!(!watermarks.is_idle(2000));
        assert_eq!(watermarks.take_advance(2000), None);
    }

    #[test]
    fn without_splits_it_is_idle() {
        assert!(SplitWatermarks::new(0).is_idle(0));
    }
}
