//! Native histograms as Prometheus prints them, and the bars of `analyze --extended`.

use std::fmt::Write as _;

use model::histogram::{Buckets, CUSTOM_SCHEMA, FloatHistogram, upper_bound};
use model::text::format_g;

/// `{count:5, sum:18.4, [-0.001,0.001]:2, (0.5,1]:3}`; counts of integer histograms are printed as
/// integers.
pub fn text(h: &FloatHistogram, integers: bool) -> String {
    let count = |n: f64| match integers {
        true => format!("{n:.0}"),
        false => format_g(n),
    };
    let mut out = format!("{{count:{}, sum:{}", count(h.count), format_g(h.sum));
    let mut negative: Vec<(i32, f64)> = filled(&h.negative).collect();
    negative.reverse();
    for (i, n) in negative {
        let (lower, upper) = bounds(h, i);
        bucket(&mut out, (-upper, -lower), count(n), (true, false));
    }
    if h.zero_count != 0.0 {
        let t = h.zero_threshold;
        bucket(&mut out, (-t, t), count(h.zero_count), (true, true));
    }
    for (i, n) in filled(&h.positive) {
        let (lower, upper) = bounds(h, i);
        let closed = match h.schema {
            CUSTOM_SCHEMA => (i == 0, true),
            _ => (lower < 0.0, upper > 0.0),
        };
        bucket(&mut out, (lower, upper), count(n), closed);
    }
    out.push('}');
    out
}

fn filled(buckets: &Buckets) -> impl Iterator<Item = (i32, f64)> {
    buckets.iter().filter(|(_, n)| *n != 0.0)
}

fn bounds(h: &FloatHistogram, i: i32) -> (f64, f64) {
    if h.schema != CUSTOM_SCHEMA {
        return (
            upper_bound(h.schema, i.saturating_sub(1)),
            upper_bound(h.schema, i),
        );
    }
    let at = |i: i32| {
        usize::try_from(i)
            .ok()
            .and_then(|i| h.custom_values.get(i).copied())
    };
    (
        at(i - 1).unwrap_or(f64::NEG_INFINITY),
        at(i).unwrap_or(f64::INFINITY),
    )
}

fn bucket(out: &mut String, (lower, upper): (f64, f64), count: String, closed: (bool, bool)) {
    let _ = write!(
        out,
        ", {}{},{}{}:{count}",
        if closed.0 { '[' } else { '(' },
        format_g(lower),
        format_g(upper),
        if closed.1 { ']' } else { ')' },
    );
}

/// How often which number occurs, as bars.
pub fn bars(what: &str, mut data: Vec<usize>, total: usize) -> String {
    data.sort_unstable();
    let (Some(&min), Some(&max)) = (data.first(), data.last()) else {
        return format!("{what}: N/A\n\n");
    };
    let mut step = 10;
    while step < (max - min) / 10 && step <= 10_000 {
        step *= 10;
    }
    let (start, end) = (min - min % step, max - max % step + step);
    let mut buckets = vec![0usize; (end - start) / step + 1];
    let mut sum = 0;
    for n in &data {
        sum += n;
        if let Some(bucket) = buckets.get_mut((n - start) / step) {
            *bucket += 1;
        }
    }
    let mut out = format!("{what} (min/avg/max): {min}/{}/{max}\n", sum / data.len());
    let digits = |n: usize| n.to_string().len();
    let most = buckets.iter().copied().max().unwrap_or(0);
    let (left, right, wide) = (digits(end), digits(end + step), digits(most));
    for (i, &count) in buckets.iter().enumerate() {
        let from = i * step + start + 1;
        let to = (i + 1) * step + start;
        let share = 100 * count / total.max(1);
        let bar = "#".repeat(share);
        let _ = writeln!(out, "[{from:left$}, {to:right$}]: {count:wide$} {bar}");
    }
    out.push('\n');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histograms_read_as_in_prometheus() {
        let h = FloatHistogram {
            schema: 0,
            zero_threshold: 0.001,
            zero_count: 2.0,
            count: 12.0,
            sum: 18.4,
            positive: Buckets::from_pairs([(0, 1.0), (1, 0.0), (2, 3.0)]),
            negative: Buckets::from_pairs([(0, 4.0), (1, 2.0)]),
            ..FloatHistogram::default()
        };
        assert_eq!(
            text(&h, true),
            "{count:12, sum:18.4, [-2,-1):2, [-1,-0.5):4, [-0.001,0.001]:2, (0.5,1]:1, (2,4]:3}"
        );
        let h = FloatHistogram {
            schema: CUSTOM_SCHEMA,
            count: 1e6,
            sum: 2.0,
            custom_values: [1.0, 5.0][..].into(),
            positive: Buckets::from_pairs([(0, 1.0), (1, 2.0), (2, 3.5)]),
            ..FloatHistogram::default()
        };
        assert_eq!(
            text(&h, false),
            "{count:1e+06, sum:2, [-Inf,1]:1, (1,5]:2, (5,+Inf]:3.5}"
        );
    }
}
