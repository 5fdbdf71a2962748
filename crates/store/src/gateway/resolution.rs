//! Which of several resolutions of the same data answers which part of a range.
//!
//! As Thanos' store does it (`bucketBlockSet.getFor`): the coarsest resolution that is allowed, and
//! where it has no block, the next finer one, and so on.

use model::{Millis, TimeRange};

/// Resolutions that downsampling makes, ms, coarse ones first.
const LEVELS: [Millis; 3] = [3_600_000, 300_000, 0];

/// What must be known of a block to choose it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    /// Its number in the caller's list.
    pub block: usize,
    /// Which samples it may hold; both ends inclusive.
    pub range: TimeRange,
    /// Its resolution, ms.
    pub resolution: Millis,
}

/// The blocks that answer `range` with samples no coarser than `most` ms, each with the part that it
/// answers for. All `candidates` belong to one group (equal external labels).
pub(super) fn choose(
    mut candidates: Vec<Candidate>,
    range: TimeRange,
    most: Millis,
) -> Vec<(usize, TimeRange)> {
    let mut chosen = Vec::new();
    candidates.retain(|c| c.resolution <= most.max(0) && c.range.overlaps(range));
    if candidates.iter().all(|c| c.resolution == 0) {
        // The usual case: nothing stands for anything else, so blocks that overlap are all read.
        chosen.extend(candidates.iter().map(|c| (c.block, range)));
        return chosen;
    }
    candidates.sort_by_key(|c| (c.range.min, c.range.max));
    let start = LEVELS.iter().position(|level| *level <= most).unwrap_or(2);
    fill(&candidates, &LEVELS[start..], range, &mut chosen);
    chosen
}

fn fill(
    candidates: &[Candidate],
    levels: &[Millis],
    range: TimeRange,
    chosen: &mut Vec<(usize, TimeRange)>,
) {
    let Some((&level, finer)) = levels.split_first() else {
        return;
    };
    if range.is_empty() {
        return;
    }
    // Whatever is not one of the levels counts as the next coarser one.
    let of_level = |c: &&Candidate| {
        c.resolution <= level && finer.first().is_none_or(|next| c.resolution > *next)
    };
    let mut start = range.min;
    for c in candidates.iter().filter(of_level) {
        if !c.range.overlaps(range) {
            continue;
        }
        if c.range.min > start {
            let gap = TimeRange::new(start, c.range.min - 1);
            fill(candidates, finer, gap, chosen);
        }
        chosen.push((c.block, range));
        start = start.max(c.range.max.saturating_add(1));
    }
    if start <= range.max {
        fill(candidates, finer, TimeRange::new(start, range.max), chosen);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(
        blocks: &[(Millis, Millis, Millis)],
        range: (Millis, Millis),
        most: Millis,
    ) -> Vec<(usize, Millis, Millis)> {
        let candidates = blocks.iter().enumerate();
        let candidates = candidates.map(|(block, &(min, max, resolution))| Candidate {
            block,
            range: TimeRange::new(min, max),
            resolution,
        });
        let range = TimeRange::new(range.0, range.1);
        let found = choose(candidates.collect(), range, most);
        let clip = |(n, r): (usize, TimeRange)| (n, r.min, r.max);
        found.into_iter().map(clip).collect()
    }

    const M5: Millis = 300_000;
    const H1: Millis = 3_600_000;

    #[test]
    fn the_coarsest_that_is_allowed_comes_first_and_gaps_are_filled() {
        let blocks = [
            (0, 99, 0),
            (100, 199, 0),
            (200, 299, 0),
            (0, 99, M5),
            (100, 199, M5),
            (0, 99, H1),
        ];
        let all = (0, 1000);
        assert_eq!(
            chosen(&blocks, all, 0),
            [(0, 0, 1000), (1, 0, 1000), (2, 0, 1000)]
        );
        assert_eq!(
            chosen(&blocks, all, M5),
            [(3, 0, 1000), (4, 0, 1000), (2, 200, 1000)]
        );
        assert_eq!(
            chosen(&blocks, all, H1),
            [(5, 0, 1000), (4, 100, 1000), (2, 200, 1000)]
        );
        assert_eq!(
            chosen(&blocks, all, H1 - 1),
            chosen(&blocks, all, M5),
            "a window between two levels means the finer one"
        );
        assert_eq!(chosen(&blocks, (250, 260), H1), [(2, 250, 260)]);
    }

    #[test]
    fn a_gap_in_the_middle_is_filled_with_no_more_than_the_gap() {
        let blocks = [(0, 999, 0), (0, 299, M5), (500, 999, M5)];
        assert_eq!(
            chosen(&blocks, (0, 999), M5),
            [(1, 0, 999), (0, 300, 499), (2, 0, 999)]
        );
        // Replaced blocks that overlap are both read.
        let blocks = [(0, 299, M5), (100, 399, M5), (0, 499, 0)];
        assert_eq!(
            chosen(&blocks, (0, 499), M5),
            [(0, 0, 499), (1, 0, 499), (2, 400, 499)]
        );
    }

    #[test]
    fn ranges_at_the_ends_of_time_do_not_overflow() {
        let blocks = [(Millis::MIN, Millis::MAX, M5), (0, 5, 0)];
        let found = chosen(&blocks, (Millis::MIN, Millis::MAX), H1);
        assert_eq!(found, [(0, Millis::MIN, Millis::MAX)]);
    }
}
