//! Time in milliseconds, ranges of it, and Prometheus' duration text.

use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since the Unix epoch, or a span in milliseconds.
pub type Millis = i64;

/// A closed range of timestamps: both ends belong to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TimeRange {
    /// First timestamp, ms.
    pub min: Millis,
    /// Last timestamp, ms.
    pub max: Millis,
}

impl TimeRange {
    /// All of time.
    pub const ALL: TimeRange = TimeRange {
        min: Millis::MIN,
        max: Millis::MAX,
    };
    /// No time at all.
    pub const EMPTY: TimeRange = TimeRange {
        min: Millis::MAX,
        max: Millis::MIN,
    };

    /// The range from `min` to `max`, both included.
    pub fn new(min: Millis, max: Millis) -> Self {
        Self { min, max }
    }

    /// Whether no timestamp lies in it.
    pub fn is_empty(&self) -> bool {
        self.min > self.max
    }

    /// Whether `ts` lies in it.
    pub fn contains(&self, ts: Millis) -> bool {
        self.min <= ts && ts <= self.max
    }

    /// Whether a timestamp lies in both.
    pub fn overlaps(&self, other: TimeRange) -> bool {
        !self.intersect(other).is_empty()
    }

    /// The timestamps in both.
    pub fn intersect(&self, other: TimeRange) -> TimeRange {
        TimeRange::new(self.min.max(other.min), self.max.min(other.max))
    }

    /// The smallest range that holds both.
    pub fn union(&self, other: TimeRange) -> TimeRange {
        TimeRange::new(self.min.min(other.min), self.max.max(other.max))
    }
}

/// Where "now" comes from, so that tests can turn the clock.
pub trait Clock: Send + Sync {
    /// Milliseconds since the Unix epoch.
    fn now(&self) -> Millis;
}

/// The computer's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct WallClock;

impl Clock for WallClock {
    fn now(&self) -> Millis {
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(d) => d.as_millis() as Millis,
            Err(before) => -(before.duration().as_millis() as Millis),
        }
    }
}

/// A clock that a test sets.
#[derive(Debug, Default)]
pub struct ManualClock(std::sync::atomic::AtomicI64);

impl ManualClock {
    /// Sets the time, in ms since the Unix epoch.
    pub fn set(&self, now: Millis) {
        self.0.store(now, std::sync::atomic::Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Millis {
        self.0.load(std::sync::atomic::Ordering::SeqCst)
    }
}

/// So many ms as a span; negative ones are none.
pub fn span(ms: Millis) -> std::time::Duration {
    std::time::Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}

const UNITS: [(&str, i64); 7] = [
    ("y", 365 * 86_400_000),
    ("w", 7 * 86_400_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// A duration text that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// No text.
    #[error("empty duration string")]
    Empty,
    /// Not a number with a unit, or units out of order.
    #[error("not a valid duration string: {0:?}")]
    Invalid(String),
    /// Letters that are no unit, and the whole text.
    #[error("unknown unit {0:?} in duration {1:?}")]
    UnknownUnit(String, String),
    /// Over 2^63 nanoseconds, which is the longest a duration may be.
    #[error("duration out of range")]
    OutOfRange,
}

/// Reads a Prometheus duration (`1h30m`, `15s`, `0`): whole numbers, units `y w d h m s ms` in
/// that order and each at most once. The answer is in ms.
pub fn parse_duration(text: &str) -> Result<Millis, DurationError> {
    match text {
        "" => return Err(DurationError::Empty),
        "0" => return Ok(0),
        _ => {}
    }
    let invalid = || DurationError::Invalid(text.to_owned());
    let mut rest = text;
    let mut next_unit = 0;
    let mut total: i64 = 0;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let letters = rest[digits..]
            .bytes()
            .take_while(|b| !b.is_ascii_digit())
            .count();
        if digits == 0 || letters == 0 {
            return Err(invalid());
        }
        let unit = &rest[digits..digits + letters];
        let place = UNITS
            .iter()
            .position(|(u, _)| *u == unit)
            .ok_or_else(|| DurationError::UnknownUnit(unit.to_owned(), text.to_owned()))?;
        if place < next_unit {
            return Err(invalid());
        }
        next_unit = place + 1;
        // More digits than 64 bits hold are no number to Go; fewer may still be too long a time.
        let count: u64 = rest[..digits].parse().map_err(|_| invalid())?;
        let count = i64::try_from(count).map_err(|_| DurationError::OutOfRange)?;
        total = count
            .checked_mul(UNITS[place].1)
            .and_then(|ms| total.checked_add(ms))
            // Go keeps durations in nanoseconds of an i64.
            .filter(|ms| *ms <= i64::MAX / 1_000_000)
            .ok_or(DurationError::OutOfRange)?;
        rest = &rest[digits + letters..];
    }
    Ok(total)
}

/// Prints a duration as Prometheus does: the largest exact units (`1h30m`, `1w`, `90d` stays
/// `90d`: weeks and years only where they divide without rest).
pub fn format_duration(ms: Millis) -> String {
    if ms == 0 {
        return "0s".to_owned();
    }
    let mut out = String::new();
    let mut rest = ms.unsigned_abs();
    if ms < 0 {
        out.push('-');
    }
    for (unit, size) in UNITS {
        let size = size as u64;
        let exact_only = unit == "y" || unit == "w";
        if exact_only && !rest.is_multiple_of(size) {
            continue;
        }
        if rest >= size {
            let _ = write!(out, "{}{unit}", rest / size);
            rest %= size;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_both_ways() {
        for (text, ms) in [
            ("0s", 0),
            ("324ms", 324),
            ("3s", 3_000),
            ("5m", 300_000),
            ("1h", 3_600_000),
            ("4d", 345_600_000),
            ("4d1h", 349_200_000),
            ("14d", 14 * 86_400_000),
            ("3w", 21 * 86_400_000),
            ("10y", 3650 * 86_400_000),
            ("1h30m", 5_400_000),
        ] {
            assert_eq!(parse_duration(text), Ok(ms), "{text}");
        }
        assert_eq!(format_duration(14 * 86_400_000), "2w");
        assert_eq!(format_duration(5_400_000), "1h30m");
        assert_eq!(format_duration(8 * 86_400_000), "8d");
        assert_eq!(format_duration(-1_500), "-1s500ms");
        for bad in [
            "",
            "1",
            "1y1m1d",
            "-1w",
            "1.5d",
            "d",
            "294y",
            "200000000000y",
            "1s1s",
            "1x",
        ] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }
}
