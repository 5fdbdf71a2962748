//! A histogram as `count_values` writes it.

use std::fmt::Write as _;

use model::text::format_g;

use super::Histogram;

/// `{count:3, sum:4.5, [-0.001,0.001]:1, (0.5,1]:2}`: populated buckets, ascending.
pub(crate) fn text(h: &Histogram) -> String {
    let s = &h.scalars;
    let mut out = format!("{{count:{}, sum:{}", format_g(s.count), format_g(s.sum));
    let view = h.view();
    // Bounds as they are, not cut by the zero bucket.
    let negative = view.negative.descending();
    let negative = negative.map(|(i, count)| view.negative_bucket(i, count));
    let zero = (s.zero_count != 0.0).then(|| view.zero_bucket());
    let positive = view.positive.ascending();
    let positive = positive.map(|(i, count)| view.positive_bucket(i, count));
    for b in negative.chain(zero).chain(positive) {
        if b.count == 0.0 {
            continue;
        }
        let open = if b.lower_inclusive { '[' } else { '(' };
        let close = if b.upper_inclusive { ']' } else { ')' };
        let (lower, upper) = (format_g(b.lower), format_g(b.upper));
        // Writing to a String cannot fail.
        let _ = write!(out, ", {open}{lower},{upper}{close}:{}", format_g(b.count));
    }
    out.push('}');
    out
}
