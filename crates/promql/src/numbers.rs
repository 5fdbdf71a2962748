//! Floating point as Prometheus does it: compensated sums, Go's `Max`, `Min` and number texts.

/// Adds `inc` to the compensated sum `(sum, c)` (Kahan's summation as improved by Neumaier). The
/// compensation is dropped once the sum overflows.
#[inline(always)]
pub(crate) fn kahan_inc(inc: f64, sum: f64, c: f64) -> (f64, f64) {
    let t = sum + inc;
    // The error of an addition is exact whichever term is larger, so no branch is needed (Knuth).
    let part = t - sum;
    let error = (sum - (t - part)) + (inc - part);
    if t.abs() > f64::MAX {
        (t, 0.0)
    } else {
        (t, c + error)
    }
}

/// Go's `math.Max`: NaN if either is.
pub(crate) fn go_max(a: f64, b: f64) -> f64 {
    if a == f64::INFINITY || b == f64::INFINITY {
        f64::INFINITY
    } else if a.is_nan() || b.is_nan() {
        f64::NAN
    } else if a == 0.0 && a == b {
        if a.is_sign_negative() { b } else { a }
    } else if a > b {
        a
    } else {
        b
    }
}

/// Go's `math.Min`: NaN if either is.
pub(crate) fn go_min(a: f64, b: f64) -> f64 {
    -go_max(-a, -b)
}

/// Go's `strconv.FormatFloat(v, 'f', -1, 64)`: the shortest digits that read back, no exponent.
pub(crate) fn format_f(v: f64) -> String {
    if v.is_nan() {
        "NaN".to_owned()
    } else if v.is_infinite() {
        if v > 0.0 { "+Inf" } else { "-Inf" }.to_owned()
    } else {
        format!("{v}")
    }
}

/// Go's `%g` (and `%v` of a float): the shortest digits, an exponent below 1e-4 and from 1e21 on.
pub(crate) fn format_g(v: f64) -> String {
    let magnitude = v.abs();
    if !v.is_finite() || v == 0.0 || (1e-4..1e21).contains(&magnitude) {
        return format_f(v);
    }
    let text = format!("{v:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, power) = match exponent.strip_prefix('-') {
        Some(power) => ('-', power),
        None => ('+', exponent),
    };
    format!("{digits}e{sign}{power:0>2}")
}

/// Go's `strconv.ParseFloat(s, 64)`, as far as bucket bounds use it: decimal and hexadecimal
/// numbers, `inf`, `infinity` and `nan` in any case. Underscores are refused.
pub(crate) fn parse_float(s: &str) -> Option<f64> {
    let unsigned = s.strip_prefix(['+', '-']).unwrap_or(s);
    let sign = if s.starts_with('-') { -1.0 } else { 1.0 };
    if unsigned.starts_with(['+', '-']) {
        return None;
    }
    if let Some(hex) = unsigned
        .strip_prefix("0x")
        .or_else(|| unsigned.strip_prefix("0X"))
    {
        return parse_hex(hex).map(|v| sign * v);
    }
    unsigned.parse::<f64>().ok().map(|v| sign * v)
}

/// `1f.8p3`: Go wants the exponent in hexadecimal floats.
fn parse_hex(s: &str) -> Option<f64> {
    let (mantissa, exponent) = s.split_once(['p', 'P'])?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let mut value = 0.0;
    for c in whole.chars().chain(fraction.chars()) {
        value = value * 16.0 + f64::from(c.to_digit(16)?);
    }
    let power: i32 = exponent.parse().ok()?;
    Some(value * 2f64.powi(power.saturating_sub(4 * fraction.len() as i32)))
}

/// Prometheus' `quantile`: linear between ranks over values that are already sorted, NaN first.
pub(crate) fn quantile_of_sorted(q: f64, sorted: &[f64]) -> f64 {
    if sorted.is_empty() || q.is_nan() {
        return f64::NAN;
    }
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    let last = sorted.len() - 1;
    let rank = q * last as f64;
    // rank lies in [0, last], so both indexes are in bounds.
    let lower = rank.floor() as usize;
    let upper = (lower + 1).min(last);
    let weight = rank - rank.floor();
    sorted[lower] * (1.0 - weight) + sorted[upper] * weight
}

/// The order in which quantiles sort: NaN first, then by value.
pub(crate) fn nan_first(a: &f64, b: &f64) -> std::cmp::Ordering {
    match (a.is_nan(), b.is_nan()) {
        (true, true) => std::cmp::Ordering::Equal,
        (true, false) => std::cmp::Ordering::Less,
        (false, true) => std::cmp::Ordering::Greater,
        (false, false) => a.total_cmp(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_keep_small_terms() {
        let (mut s, mut c) = (0.0, 0.0);
        for v in [1e100, 1.0, -1e100] {
            (s, c) = kahan_inc(v, s, c);
        }
        assert_eq!(s + c, 1.0);
        assert_eq!(kahan_inc(f64::INFINITY, 1.0, 0.5), (f64::INFINITY, 0.0));
        let (s, _) = kahan_inc(-0.0, -0.0, 0.0);
        assert!(s == 0.0 && s.is_sign_negative());
    }

    #[test]
    fn numbers_look_as_in_go() {
        for (v, f, g) in [
            (1.5, "1.5", "1.5"),
            (1e21, "1000000000000000000000", "1e+21"),
            (1e-5, "0.00001", "1e-05"),
            (f64::INFINITY, "+Inf", "+Inf"),
            (-0.0, "-0", "-0"),
            (1.25e-7, "0.000000125", "1.25e-07"),
        ] {
            assert_eq!((format_f(v).as_str(), format_g(v).as_str()), (f, g));
        }
        assert_eq!(format_g(f64::NAN), "NaN");
        assert_eq!(parse_float("+Inf"), Some(f64::INFINITY));
        assert_eq!(parse_float("0x1p-2"), Some(0.25));
        assert_eq!(parse_float("1e3"), Some(1000.0));
        assert_eq!(parse_float(""), None);
        assert_eq!(parse_float("1_0"), None);
        assert!(go_max(f64::NAN, 1.0).is_nan());
        assert_eq!(go_min(3.0, f64::NEG_INFINITY), f64::NEG_INFINITY);
    }

    #[test]
    fn quantiles_are_linear_between_ranks() {
        let v = [0.0, 1.0, 2.0, 3.0];
        assert_eq!(quantile_of_sorted(0.5, &v), 1.5);
        assert_eq!(quantile_of_sorted(1.0, &v), 3.0);
        assert_eq!(quantile_of_sorted(-0.1, &v), f64::NEG_INFINITY);
        assert!(quantile_of_sorted(0.5, &[]).is_nan());
    }
}
