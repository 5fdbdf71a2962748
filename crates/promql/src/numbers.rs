//! Floating point as Prometheus does it: compensated sums, Go's `Max` and `Min`.

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
    fn extremes_are_as_in_go() {
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
