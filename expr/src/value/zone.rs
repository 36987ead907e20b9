//! Time zones by the names that Flink's `table.local-time-zone` and CONVERT_TZ take.

use chrono::{DateTime, FixedOffset, MappedLocalTime, NaiveDateTime, Offset, TimeZone};
use chrono_tz::Tz;

use super::calendar::Point;

/// A zone; UTC costs nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Zone {
    Utc,
    Fixed(FixedOffset),
    Named(Tz),
}

impl Zone {
    /// "UTC", "Z", "GMT+8", "+08:00", "America/Los_Angeles".
    pub fn parse(name: &str) -> Option<Self> {
        if matches!(name, "UTC" | "Z" | "GMT" | "Etc/UTC") {
            return Some(Self::Utc);
        }
        let bare = name
            .strip_prefix("UTC")
            .or_else(|| name.strip_prefix("GMT"))
            .unwrap_or(name);
        if let Some(seconds) = offset_seconds(bare) {
            return FixedOffset::east_opt(seconds).map(Self::Fixed);
        }
        name.parse().ok().map(Self::Named)
    }

    /// What local clocks are ahead of UTC at that instant, in milliseconds.
    pub fn offset_at(self, utc_ms: i64) -> i64 {
        let seconds = match self {
            Self::Utc => 0,
            Self::Fixed(offset) => offset.local_minus_utc(),
            Self::Named(zone) => match DateTime::from_timestamp_millis(utc_ms) {
                Some(instant) => zone
                    .offset_from_utc_datetime(&instant.naive_utc())
                    .fix()
                    .local_minus_utc(),
                None => 0,
            },
        };
        i64::from(seconds) * 1000
    }

    /// The local point of an instant.
    pub fn local(self, utc: Point) -> Point {
        if self == Self::Utc {
            return utc;
        }
        let offset = self.offset_at(utc.millis());
        utc.minus(-offset)
    }

    /// The instant of a local point. Of two (clocks set back) the earlier, in a gap (clocks set forward) with the offset before it.
    pub fn instant(self, local: Point) -> Point {
        let seconds = match self {
            Self::Utc => 0,
            Self::Fixed(offset) => offset.local_minus_utc(),
            Self::Named(zone) => named_offset(zone, local),
        };
        local.minus(i64::from(seconds) * 1000)
    }
}

fn named_offset(zone: Tz, local: Point) -> i32 {
    let Some(naive) = DateTime::from_timestamp_millis(local.millis()).map(|t| t.naive_utc()) else {
        return 0;
    };
    let fixed = |at: &NaiveDateTime| zone.offset_from_local_datetime(at);
    match fixed(&naive) {
        MappedLocalTime::Single(offset) | MappedLocalTime::Ambiguous(offset, _) => {
            offset.fix().local_minus_utc()
        }
        MappedLocalTime::None => {
            let before = naive - chrono::Duration::hours(3);
            match fixed(&before) {
                MappedLocalTime::Single(offset) | MappedLocalTime::Ambiguous(offset, _) => {
                    offset.fix().local_minus_utc()
                }
                MappedLocalTime::None => 0,
            }
        }
    }
}

/// "+8", "-03:30", "+0530" in seconds.
fn offset_seconds(text: &str) -> Option<i32> {
    let (sign, digits) = match text.as_bytes().first()? {
        b'+' => (1, &text[1..]),
        b'-' => (-1, &text[1..]),
        _ => return None,
    };
    let (hours, minutes) = match digits.split_once(':') {
        Some(parts) => parts,
        None if digits.len() == 4 => digits.split_at(2),
        None => (digits, "0"),
    };
    let (hours, minutes): (i32, i32) = (hours.parse().ok()?, minutes.parse().ok()?);
    (hours <= 18 && minutes < 60).then_some(sign * (hours * 3600 + minutes * 60))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::calendar::parse_timestamp;

    #[test]
    fn there_and_back() {
        for name in [
            "UTC",
            "Asia/Shanghai",
            "GMT+08:00",
            "-03:30",
            "America/Los_Angeles",
        ] {
            let zone = Zone::parse(name).unwrap();
            let utc = parse_timestamp("2024-07-01 23:30:00").unwrap();
            assert_eq!(zone.instant(zone.local(utc)), utc, "{name}");
        }
        let shanghai = Zone::parse("Asia/Shanghai").unwrap();
        let local = shanghai.local(parse_timestamp("1970-01-01 20:00:00").unwrap());
        assert_eq!(local, parse_timestamp("1970-01-02 04:00:00").unwrap());
        assert_eq!(Zone::parse("Mars/Base"), None);
    }
}
