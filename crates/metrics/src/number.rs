//! Numbers as text.

use std::io::Write as _;

/// Writes a sample value: whole numbers plainly, others with the fewest digits that read back.
pub(crate) fn write_value(out: &mut Vec<u8>, value: f64) {
    // 2^53: up to here every whole number is exact.
    if value.fract() == 0.0 && value.abs() <= 9_007_199_254_740_992.0 {
        let mut buffer = itoa::Buffer::new();
        out.extend_from_slice(buffer.format(value as i64).as_bytes());
    } else if value.is_finite() {
        let mut buffer = zmij::Buffer::new();
        out.extend_from_slice(buffer.format_finite(value).as_bytes());
    } else {
        out.extend_from_slice(special(value).as_bytes());
    }
}

/// Writes a bucket bound or quantile as Go's `%g` does, because it becomes a label value that
/// joins compare as text: `0.005`, `1`, `1e+06`, `+Inf`. OpenMetrics wants `1.0` for `1`.
pub(crate) fn write_bound(out: &mut Vec<u8>, value: f64, openmetrics: bool) {
    if !value.is_finite() {
        out.extend_from_slice(special(value).as_bytes());
        return;
    }
    // Rust's `{:e}` gives the shortest digits: `d.ddde-7`. Writing to a vector cannot fail.
    let shortest = format!("{value:e}");
    let (mantissa, exponent) = shortest.split_once('e').unwrap_or((&shortest, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    // With shortest digits Go decides as if six were asked for.
    if (-4..6).contains(&exponent) {
        let start = out.len();
        let _ = write!(out, "{value}");
        if openmetrics && !out[start..].contains(&b'.') {
            out.extend_from_slice(b".0");
        }
    } else {
        let sign = if exponent < 0 { '-' } else { '+' };
        let _ = write!(out, "{mantissa}e{sign}{:02}", exponent.unsigned_abs());
    }
}

fn special(value: f64) -> &'static str {
    match value {
        v if v.is_nan() => "NaN",
        v if v > 0.0 => "+Inf",
        _ => "-Inf",
    }
}
