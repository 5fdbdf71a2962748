//! Samples: a timestamp in ms since the Unix epoch and a float.

use crate::Millis;

/// One float sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// Milliseconds since the Unix epoch.
    pub ts: Millis,
    /// The value; NaN payloads matter (see [`STALE_NAN`]).
    pub value: f64,
}

/// The one NaN that marks the end of a series (`model/value/value.go` of Prometheus).
pub const STALE_NAN: f64 = f64::from_bits(0x7ff0_0000_0000_0002);

/// The NaN that parsers store for an ordinary `NaN`.
pub const NORMAL_NAN: f64 = f64::from_bits(0x7ff8_0000_0000_0001);

/// Whether `value` is the stale marker, by its bits.
#[inline]
pub fn is_stale(value: f64) -> bool {
    value.to_bits() == STALE_NAN.to_bits()
}
