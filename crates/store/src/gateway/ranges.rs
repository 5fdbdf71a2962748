//! Which ranges of a file are fetched together.

use std::ops::Range;

/// Ranges at most this far apart may be fetched as one, bytes.
const MAX_GAP: u64 = 512 << 10;
/// Nothing longer than this is fetched at once, unless it is wanted as a whole, bytes.
const MAX_LEN: u64 = 16 << 20;
/// This much may always be fetched for nothing, bytes.
const FREE_WASTE: u64 = 256 << 10;
/// Above so many requests for one question, time is worth more than bytes.
const MANY: usize = 16;

/// A range to fetch, and which of the wanted ones lie in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fetch {
    pub range: Range<u64>,
    pub wanted: Range<usize>,
}

/// Joins wanted ranges, which ascend by start, into few fetches.
///
/// The smallest gaps are closed first, as long as what is fetched for nothing stays within a
/// quarter of what is wanted, and of what is `expected` to be wanted elsewhere because of it; beyond that only
/// while there are very many requests.
pub(super) fn plan(wanted: &[Range<u64>], expected: u64) -> Vec<Fetch> {
    let mut parts: Vec<Fetch> = Vec::new();
    for (i, range) in wanted.iter().enumerate() {
        match parts.last_mut() {
            Some(last) if range.start <= last.range.end => {
                last.range.end = last.range.end.max(range.end);
                last.wanted.end = i + 1;
            }
            _ => parts.push(Fetch {
                range: range.clone(),
                wanted: i..i + 1,
            }),
        }
    }
    let useful: u64 = parts.iter().map(|p| p.range.end - p.range.start).sum();
    let mut gaps: Vec<(u64, usize)> = parts
        .windows(2)
        .enumerate()
        .map(|(i, pair)| (pair[1].range.start - pair[0].range.end, i))
        .filter(|(gap, _)| *gap <= MAX_GAP)
        .collect();
    gaps.sort_unstable();
    let allowance = FREE_WASTE.max(useful.saturating_add(expected) / 4);
    let mut waste = 0;
    let mut left = parts.len();
    let mut close = vec![false; parts.len()];
    for (gap, i) in gaps {
        if waste + gap > allowance && left <= MANY {
            break;
        }
        waste += gap;
        left -= 1;
        close[i] = true;
    }
    let mut fetches: Vec<Fetch> = Vec::with_capacity(left);
    let mut joined = false;
    for (part, close) in parts.into_iter().zip(close) {
        match fetches.last_mut() {
            Some(last) if joined && part.range.end - last.range.start <= MAX_LEN => {
                last.range.end = part.range.end;
                last.wanted.end = part.wanted.end;
            }
            _ => fetches.push(part),
        }
        joined = close;
    }
    fetches
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(from: u64, to: u64) -> Vec<Range<u64>> {
        std::iter::once(from..to).collect()
    }

    fn planned(wanted: &[Range<u64>]) -> Vec<Range<u64>> {
        let fetches = plan(wanted, 0);
        let mut next = 0;
        for fetch in &fetches {
            assert_eq!(fetch.wanted.start, next, "each is fetched once");
            next = fetch.wanted.end;
            for range in &wanted[fetch.wanted.clone()] {
                assert!(fetch.range.start <= range.start && range.end <= fetch.range.end);
            }
        }
        assert_eq!(next, wanted.len());
        fetches.into_iter().map(|f| f.range).collect()
    }

    #[test]
    fn neighbours_are_fetched_together() {
        assert_eq!(planned(&[]), []);
        assert_eq!(planned(&[1..2, 3..5, 7..10]), one(1, 10));
        assert_eq!(planned(&[1..15, 1..20, 5..9]), one(1, 20));
        let far = 1 << 30;
        assert_eq!(planned(&[1..2, far..far + 5]), [1..2, far..far + 5]);
        let big = 1 << 20;
        let (a, b) = (0..big, big + (200 << 10)..2 * big);
        assert_eq!(
            planned(&[a.clone(), b.clone()]),
            one(0, 2 * big),
            "a fifth for nothing"
        );
        let c = 3 * big..3 * big + 10;
        assert_eq!(planned(&[a, b, c.clone()]), [0..2 * big, c]);
    }

    #[test]
    fn waste_is_bounded_unless_requests_are_many() {
        let few: Vec<_> = (0..12).map(|i| i * 300_000..i * 300_000 + 1000).collect();
        assert_eq!(planned(&few).len(), 12);
        // Every third of a file's series: large enough that the quarter decides.
        let third: Vec<_> = (0..3000).map(|i| i * 3000..i * 3000 + 1000).collect();
        assert!(planned(&third).len() <= MANY);
        let most: Vec<_> = (0..3000).map(|i| i * 10_000..i * 10_000 + 9000).collect();
        let fetched: u64 = planned(&most).iter().map(|r| r.end - r.start).sum();
        assert!(fetched <= 3000 * 9000 * 5 / 4, "{fetched}");
        let many: Vec<_> = (0..2000).map(|i| i * 100_000..i * 100_000 + 1000).collect();
        let fetched = planned(&many);
        assert!(fetched.len() <= 48, "{}", fetched.len());
        assert!(fetched.iter().all(|r| r.end - r.start <= MAX_LEN));
    }

    #[test]
    fn what_is_huge_stays_whole() {
        let huge = 0..100 << 20;
        assert_eq!(
            planned(&[huge.clone(), (100 << 20) + 5..(100 << 20) + 9]).len(),
            2
        );
        assert_eq!(planned(std::slice::from_ref(&huge)), [huge]);
    }
}
