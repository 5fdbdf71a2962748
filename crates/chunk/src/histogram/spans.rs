//! Which buckets two histograms have in common.

use model::histogram::Span;

use super::field::Field;

/// The bucket indexes that spans list.
pub(super) fn indexes(spans: &[Span]) -> impl Iterator<Item = i64> + '_ {
    let mut next = 0i64;
    spans.iter().flat_map(move |span| {
        let first = next + i64::from(span.offset);
        next = first + i64::from(span.length);
        first..next
    })
}

/// How many buckets spans list.
pub(super) fn count(spans: &[Span]) -> usize {
    spans.iter().map(|span| span.length as usize).sum()
}

/// How the buckets of a chunk and of a histogram after it differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Difference {
    /// The histogram has buckets that the chunk has not.
    pub(super) forward: bool,
    /// The chunk has buckets that the histogram has not.
    pub(super) backward: bool,
}

/// Compares buckets of a counter histogram. None: there was a reset, because a count has fallen or
/// a bucket that was not empty is gone.
pub(super) fn compare<F: Field>(
    chunk: (&[Span], &[F]),
    row: (&[Span], &[F::Value]),
) -> Option<Difference> {
    let zero = F::Value::default();
    let mut left = zero;
    let mut before = indexes(chunk.0).zip(chunk.1.iter().map(move |field| {
        left = F::absolute(left, field.value());
        left
    }));
    let mut left = zero;
    let mut after = indexes(row.0).zip(row.1.iter().map(move |value| {
        left = F::absolute(left, *value);
        left
    }));
    let mut difference = Difference::default();
    let (mut a, mut b) = (before.next(), after.next());
    loop {
        match (a, b) {
            (Some((i, old)), Some((j, new))) if i == j => {
                if F::fallen(old, new) {
                    return None;
                }
                (a, b) = (before.next(), after.next());
            }
            (Some((i, old)), other) if other.is_none_or(|(j, _)| i < j) => {
                if old != zero {
                    return None;
                }
                difference.backward = true;
                a = before.next();
            }
            (_, Some(_)) => {
                difference.forward = true;
                b = after.next();
            }
            _ => return Some(difference),
        }
    }
}

/// Compares buckets of a gauge histogram.
pub(super) fn compare_layouts(chunk: &[Span], row: &[Span]) -> Difference {
    let mut difference = Difference::default();
    if chunk != row {
        union(indexes(chunk), indexes(row), |_, in_chunk, in_row| {
            difference.forward |= !in_chunk;
            difference.backward |= !in_row;
        });
    }
    difference
}

/// Spans of all buckets of both.
pub(super) fn united(a: &[Span], b: &[Span]) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    let mut next = 0i64;
    union(indexes(a), indexes(b), |index, _, _| {
        match spans.last_mut() {
            Some(span) if index == next => span.length += 1,
            // Indexes come from offsets of 32 bits; where sums of them do not fit the buckets
            // cannot mean anything.
            _ => spans.push(Span {
                offset: (index - next) as i32,
                length: 1,
            }),
        }
        next = index + 1;
    });
    spans
}

fn union(
    mut a: impl Iterator<Item = i64>,
    mut b: impl Iterator<Item = i64>,
    mut bucket: impl FnMut(i64, bool, bool),
) {
    let (mut i, mut j) = (a.next(), b.next());
    loop {
        let (in_a, in_b) = match (i, j) {
            (Some(i), Some(j)) => (i <= j, j <= i),
            (Some(_), None) => (true, false),
            (None, Some(_)) => (false, true),
            (None, None) => return,
        };
        let index = if in_a { i } else { j };
        bucket(index.unwrap_or_default(), in_a, in_b);
        if in_a {
            i = a.next();
        }
        if in_b {
            j = b.next();
        }
    }
}

/// The values of buckets `from`, as buckets `to` (among which they are) have them; the others are
/// empty.
pub(super) fn moved<F: Field>(
    from: &[Span],
    values: impl Iterator<Item = F::Value>,
    to: &[Span],
    out: &mut Vec<F::Value>,
) {
    let zero = F::Value::default();
    let mut left = zero;
    let mut given = indexes(from).zip(values.map(|value| {
        left = F::absolute(left, value);
        left
    }));
    let mut next = given.next();
    let mut left = zero;
    for index in indexes(to) {
        let absolute = match next {
            Some((i, absolute)) if i == index => {
                next = given.next();
                absolute
            }
            _ => zero,
        };
        out.push(F::relative(left, absolute));
        left = absolute;
    }
}
