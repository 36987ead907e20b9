//! Time cut into slices, and which windows are made of which slices. Pure arithmetic in milliseconds.
//!
//! A slice is the largest piece of time that no window cuts: a row is counted once in its slice, and a window is the merge of its slices
//! (Flink's slicing windows; Li et al., "No Pane, No Gain", 2005).

use weir_dataflow::{Error, Result};
use weir_proto::v1;

/// `[start, end)`. Ordered by end: windows complete in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// Exclusive.
    pub end: i64,
    /// Inclusive.
    pub start: i64,
}

/// How time is cut.
#[derive(Debug, Clone, Copy)]
pub enum Slicing {
    /// Windows that follow each other.
    Tumble { size: i64, offset: i64 },
    /// Windows of `size` that start every `slide`, which may be no divisor of it.
    Hop {
        size: i64,
        slide: i64,
        slice: i64,
        offset: i64,
    },
    /// Windows that grow by `step` up to `size`.
    Cumulate { size: i64, step: i64, offset: i64 },
    /// The rows bring their window.
    Attached,
}

fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

fn floor(time: i64, offset: i64, size: i64) -> i64 {
    let into = (time.rem_euclid(size) - offset.rem_euclid(size)).rem_euclid(size);
    time.saturating_sub(into)
}

impl Slicing {
    /// Of a window's description.
    ///
    /// # Errors
    /// If it is no such window.
    pub fn new(spec: &v1::WindowSpec) -> Result<Self> {
        let (size, slide, offset) = (spec.size_ms, spec.slide_ms, spec.offset_ms);
        let kind = spec.kind();
        let two = matches!(kind, v1::WindowKind::Hop | v1::WindowKind::Cumulate);
        if size <= 0 || (two && slide <= 0) {
            return Err(Error::Config(format!(
                "a window of {size} ms with a step of {slide} ms is none"
            )));
        }
        match kind {
            v1::WindowKind::Tumble => Ok(Self::Tumble { size, offset }),
            v1::WindowKind::Hop => Ok(Self::Hop {
                size,
                slide,
                slice: gcd(size, slide),
                offset,
            }),
            v1::WindowKind::Cumulate if size % slide == 0 => Ok(Self::Cumulate {
                size,
                step: slide,
                offset,
            }),
            v1::WindowKind::Cumulate => Err(Error::Config(format!(
                "CUMULATE needs a size ({size} ms) that is a multiple of its step ({slide} ms)"
            ))),
            v1::WindowKind::Session => Err(Error::Config(
                "SESSION windows are not supported yet".to_owned(),
            )),
            v1::WindowKind::Unspecified => Err(Error::Config(
                "a window aggregation without a window".to_owned(),
            )),
        }
    }

    /// Length of a slice.
    pub fn slice_size(&self) -> i64 {
        match self {
            Self::Tumble { size, .. } => *size,
            Self::Hop { slice, .. } => *slice,
            Self::Cumulate { step, .. } => *step,
            Self::Attached => 0,
        }
    }

    /// The slice of a time.
    pub fn slice_of(&self, time: i64) -> Span {
        let (slice, offset) = match self {
            Self::Tumble { size, offset } => (*size, *offset),
            Self::Hop { slice, offset, .. } => (*slice, *offset),
            Self::Cumulate { step, size, offset } => {
                // Steps count from the start of the largest window.
                let start = floor(time, *offset, *size);
                (*step, start)
            }
            Self::Attached => (1, 0),
        };
        let start = floor(time, offset, slice);
        Span {
            start,
            end: start.saturating_add(slice),
        }
    }

    /// The slice that ends at a time.
    pub fn slice_ending(&self, end: i64) -> Span {
        Span {
            start: end.saturating_sub(self.slice_size()),
            end,
        }
    }

    /// The first window with this slice in it whose last millisecond is after `progress`. `None`: all of them are complete (or there is none).
    pub fn next_window(&self, slice: Span, progress: i64) -> Option<Span> {
        let first_end = progress.saturating_add(2);
        match self {
            Self::Tumble { .. } | Self::Attached => (slice.end >= first_end).then_some(slice),
            Self::Hop {
                size,
                slide,
                offset,
                ..
            } => {
                let earliest = slice.end.max(first_end).saturating_sub(*size);
                let start = floor(earliest.saturating_add(slide - 1), *offset, *slide);
                let last = floor(slice.start, *offset, *slide);
                (start <= last).then(|| Span {
                    start,
                    end: start.saturating_add(*size),
                })
            }
            Self::Cumulate { size, step, offset } => {
                let start = floor(slice.start, *offset, *size);
                let steps = (slice.end.max(first_end) - start + step - 1) / step;
                (steps <= size / step).then(|| Span {
                    start,
                    end: start + steps * step,
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hop(size: i64, slide: i64) -> Slicing {
        Slicing::Hop {
            size,
            slide,
            slice: gcd(size, slide),
            offset: 0,
        }
    }

    fn windows(slicing: Slicing, time: i64, mut progress: i64) -> Vec<(i64, i64)> {
        let slice = slicing.slice_of(time);
        let mut all = Vec::new();
        while let Some(window) = slicing.next_window(slice, progress) {
            all.push((window.start, window.end));
            progress = window.end - 1;
        }
        all
    }

    #[test]
    fn a_slice_is_in_its_windows() {
        let tumble = Slicing::Tumble {
            size: 10,
            offset: 3,
        };
        assert_eq!(windows(tumble, 2, i64::MIN), [(-7, 3)]);
        assert_eq!(windows(hop(10, 5), 12, i64::MIN), [(5, 15), (10, 20)]);
        assert_eq!(windows(hop(10, 5), 12, 14), [(10, 20)]);
        assert_eq!(
            windows(hop(10, 4), 12, i64::MIN),
            [(4, 14), (8, 18), (12, 22)]
        );
        assert_eq!(windows(hop(4, 10), 12, i64::MIN), [(10, 14)]);
        assert_eq!(windows(hop(4, 10), 15, i64::MIN), []);
        let cumulate = Slicing::Cumulate {
            size: 15,
            step: 5,
            offset: 0,
        };
        assert_eq!(windows(cumulate, 21, i64::MIN), [(15, 25), (15, 30)]);
        assert_eq!(windows(cumulate, 21, 24), [(15, 30)]);
        assert_eq!(windows(cumulate, 21, i64::MAX), []);
    }

    #[test]
    fn nonsense_is_refused() {
        let spec = |kind: v1::WindowKind, size_ms, slide_ms| v1::WindowSpec {
            kind: kind.into(),
            size_ms,
            slide_ms,
            ..Default::default()
        };
        assert!(Slicing::new(&spec(v1::WindowKind::Tumble, 0, 0)).is_err());
        assert!(Slicing::new(&spec(v1::WindowKind::Hop, 10, 0)).is_err());
        assert!(Slicing::new(&spec(v1::WindowKind::Cumulate, 10, 3)).is_err());
        let error = Slicing::new(&spec(v1::WindowKind::Session, 10, 0)).unwrap_err();
        assert!(error.to_string().contains("SESSION"));
    }
}
