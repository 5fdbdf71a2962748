//! Times in answers, as Go's JSON writes them.

use model::Millis;
use serde::{Serialize, Serializer};

/// A time in ms, written as RFC 3339 in UTC; 0 is Go's zero time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Time(pub(crate) Millis);

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        const ZERO: &str = "0001-01-01T00:00:00Z";
        if self.0 == 0 {
            return to.serialize_str(ZERO);
        }
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(time) => to.collect_str(&time),
            Err(_) => to.serialize_str(ZERO),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_go_writes_them() {
        let text = |ms| serde_json::to_value(Time(ms)).unwrap();
        assert_eq!(text(0), "0001-01-01T00:00:00Z");
        assert_eq!(text(1_435_781_451_000), "2015-07-01T20:10:51Z");
        assert_eq!(text(1_435_781_451_780), "2015-07-01T20:10:51.78Z");
        assert_eq!(text(i64::MAX), "0001-01-01T00:00:00Z");
    }
}
