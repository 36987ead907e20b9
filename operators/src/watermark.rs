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

/// Finds the rows of a batch that are late by rows in front of them. As Flink's operator that assigns watermarks: a watermark counts when
/// it has grown by more than the interval, and begins at 0.
#[derive(Debug)]
pub struct EagerWatermarks {
    interval_ms: i64,
    /// Largest so far.
    current_ms: i64,
    /// The last one that counted.
    counted_ms: i64,
    /// The last one that [`Self::next_cut`] gave.
    told_ms: i64,
}

impl EagerWatermarks {
    /// At the beginning.
    pub fn new(interval_ms: u64) -> Self {
        Self {
            interval_ms: i64::try_from(interval_ms).unwrap_or(i64::MAX),
            current_ms: 0,
            counted_ms: 0,
            told_ms: 0,
        }
    }

    /// Goes on at row `from`, to the first row that a new watermark makes late: that row and the watermark. `None` at the end of the batch.
    /// Both iterators are over all rows of the batch: event time and watermark expression.
    pub fn next_cut(
        &mut self,
        from: usize,
        times_ms: impl Iterator<Item = Option<i64>>,
        watermarks_ms: impl Iterator<Item = Option<i64>>,
    ) -> Option<(usize, i64)> {
        for (row, (time, watermark)) in times_ms.zip(watermarks_ms).enumerate().skip(from) {
            let is_late = time.is_some_and(|time| time <= self.counted_ms);
            if is_late && self.counted_ms > self.told_ms {
                self.told_ms = self.counted_ms;
                return Some((row, self.counted_ms));
            }
            self.current_ms = self.current_ms.max(watermark.unwrap_or(0));
            if self.current_ms - self.counted_ms > self.interval_ms {
                self.counted_ms = self.current_ms;
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_cut_in_front_of_a_late_row_once_a_watermark() {
        let mut eager = EagerWatermarks::new(200);
        let times = [1000, 5000, 3500, 3000, 5100, 3900, 9000, 100, 4100];
        let rows = || times.iter().map(|time| Some(*time));
        let delayed = || times.iter().map(|time| Some(*time - 1000));
        let mut cuts = Vec::new();
        let mut from = 0;
        while let Some((row, watermark)) = eager.next_cut(from, rows(), delayed()) {
            cuts.push((row, watermark));
            from = row;
        }
        // 4100 has not grown by more than 200 and does not count.
        assert_eq!(cuts, [(2, 4000), (7, 8000)]);
    }

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
