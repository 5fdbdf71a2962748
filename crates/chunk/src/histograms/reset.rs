//! Whether a counter was reset between two histograms.

use model::histogram::{CUSTOM_SCHEMA, CounterReset, Side, upper_bound};

use super::HistogramRef;

/// Whether there was a reset between `prev` and `cur`: known from the hint, or because a count of
/// observations fell or a populated bucket is gone.
pub fn is_reset(cur: HistogramRef<'_>, prev: HistogramRef<'_>) -> bool {
    match cur.scalars.counter_reset {
        CounterReset::Reset => return true,
        CounterReset::NotReset => return false,
        CounterReset::Unknown | CounterReset::Gauge => {}
    }
    let (a, b) = (cur.layout, prev.layout);
    if cur.scalars.count < prev.scalars.count {
        return true;
    }
    if std::sync::Arc::ptr_eq(a, b) || **a == **b {
        return cur.scalars.zero_count < prev.scalars.zero_count
            || cur.counts.iter().zip(prev.counts).any(|(c, p)| c < p);
    }
    let (custom, was_custom) = (a.schema == CUSTOM_SCHEMA, b.schema == CUSTOM_SCHEMA);
    if custom && !was_custom {
        return true;
    }
    if custom && a.custom_values != b.custom_values {
        return fell_between_bounds(cur, prev);
    }
    // Higher resolution or a smaller zero bucket only come with a reset.
    if a.schema > b.schema || a.zero_threshold < b.zero_threshold {
        return true;
    }
    let (x, y) = (cur.view(), prev.view());
    let mut zero = prev.scalars.zero_count;
    if a.zero_threshold > b.zero_threshold {
        let all = || y.positive.ascending().chain(y.negative.ascending());
        if wider(b.schema, a.zero_threshold, all) != a.zero_threshold {
            return true;
        }
        zero += all()
            .filter(|(i, _)| upper_bound(b.schema, i.saturating_sub(1)) < a.zero_threshold)
            .map(|(_, count)| count)
            .sum::<f64>();
    }
    if cur.scalars.zero_count < zero {
        return true;
    }
    let shift = if custom {
        0
    } else {
        b.schema.abs_diff(a.schema).min(31)
    };
    let outside = |index: i32| custom || upper_bound(a.schema, index) > a.zero_threshold;
    fell(x.positive, y.positive, shift, outside) || fell(x.negative, y.negative, shift, outside)
}

/// Whether a bucket of `prev` is missing or larger than in `cur`; only buckets `outside` the zero
/// bucket count.
fn fell(cur: Side<'_>, prev: Side<'_>, shift: u32, outside: impl Fn(i32) -> bool) -> bool {
    let mut cur = cur.ascending().filter(|(i, _)| outside(*i)).peekable();
    let lowered = |index: i32| {
        if shift == 0 {
            index
        } else {
            (index.saturating_sub(1) >> shift) + 1
        }
    };
    let mut prev = prev
        .ascending()
        .map(|(i, count)| (lowered(i), count))
        .filter(|(i, _)| outside(*i))
        .peekable();
    while let Some((index, mut count)) = prev.next() {
        while let Some((_, more)) = prev.next_if(|(i, _)| *i == index) {
            count += more;
        }
        while cur.next_if(|(i, _)| *i < index).is_some() {}
        let gone = match cur.peek() {
            Some((i, present)) if *i == index => *present < count,
            _ => count != 0.0,
        };
        if gone {
            return true;
        }
    }
    false
}

/// Whether, between bounds that both have, fewer observations are left.
fn fell_between_bounds(cur: HistogramRef<'_>, prev: HistogramRef<'_>) -> bool {
    let (a, b) = (&cur.layout.custom_values, &prev.layout.custom_values);
    let up_to = |h: HistogramRef<'_>, from: f64, to: f64| -> f64 {
        h.view()
            .positive
            .ascending()
            .map(|(i, count)| {
                let bounds = &h.layout.custom_values;
                let upper = usize::try_from(i).ok().and_then(|i| bounds.get(i));
                (upper.copied().unwrap_or(f64::INFINITY), count)
            })
            .filter(|(upper, _)| *upper > from && *upper <= to)
            .map(|(_, count)| count)
            .sum()
    };
    let mut from = f64::NEG_INFINITY;
    let common = a.iter().copied().filter(|bound| b.contains(bound));
    for to in common.chain([f64::INFINITY]) {
        if up_to(cur, from, to) < up_to(prev, from, to) {
            return true;
        }
        from = to;
    }
    false
}

/// The least threshold from `threshold` on that cuts no populated bucket of either sign.
pub fn wider<I: Iterator<Item = (i32, f64)>>(
    schema: i32,
    mut threshold: f64,
    buckets: impl Fn() -> I,
) -> f64 {
    loop {
        // A bucket moves the threshold to its end, which can cut a bucket of the other sign.
        let cut = buckets()
            .filter(|(_, count)| *count != 0.0)
            .filter(|(index, _)| {
                upper_bound(schema, index.saturating_sub(1)) < threshold
                    && upper_bound(schema, *index) > threshold
            })
            .map(|(index, _)| upper_bound(schema, index))
            .fold(threshold, f64::max);
        if cut <= threshold || cut.is_nan() {
            return threshold;
        }
        threshold = cut;
    }
}
