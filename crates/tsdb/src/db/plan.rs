//! Which local blocks are merged next: Prometheus' levelled plan (`tsdb/compact.go`), as pure
//! arithmetic over what is known of each block.
//!
//! Overlapping blocks come first. Then those that fill one of the longer ranges, or lie in a range
//! that a later block shows to be over. Then a single long block of which much was deleted. The
//! newest block is left alone but for overlaps.

use std::ops::Range;

use model::Millis;

/// What the plan needs to know of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) min: Millis,
    /// Exclusive.
    pub(super) max: Millis,
    /// Merging it failed before.
    pub(super) failed: bool,
    pub(super) class: Class,
    /// Deleted intervals.
    pub(super) tombstones: u64,
    pub(super) series: u64,
}

/// Blocks that were cut from a part of the head's series are only merged with their like: what
/// they say about time holds for that part alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Class {
    #[default]
    Whole,
    Stale,
    Selected,
}

impl Class {
    /// By the hints of a block's meta.
    pub(super) fn of(hints: &[String]) -> Self {
        let has = |hint: &str| hints.iter().any(|h| h == hint);
        match (has("from-stale-series"), has("from-selected-series")) {
            (true, _) => Class::Stale,
            (_, true) => Class::Selected,
            _ => Class::Whole,
        }
    }
}

/// How blocks are merged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules<'a> {
    /// The lengths that blocks may have, ascending, ms.
    pub(super) ranges: &'a [Millis],
    /// Whether overlapping blocks are merged.
    pub(super) overlapping: bool,
}

/// Places of the blocks to merge next; one alone is to be written again without what was deleted.
/// Empty when nothing is to be done.
pub(super) fn plan(pieces: &[Piece], rules: Rules<'_>) -> Vec<usize> {
    for class in [Class::Whole, Class::Stale, Class::Selected] {
        let mut places: Vec<usize> = (0..pieces.len())
            .filter(|&i| pieces[i].class == class)
            .collect();
        places.sort_by_key(|&i| (pieces[i].min, i));
        let of_class: Vec<Piece> = places.iter().map(|&i| pieces[i]).collect();
        let chosen = of_one_class(&of_class, rules);
        if !chosen.is_empty() {
            return chosen.into_iter().map(|i| places[i]).collect();
        }
    }
    Vec::new()
}

fn of_one_class(pieces: &[Piece], rules: Rules<'_>) -> Vec<usize> {
    if rules.overlapping
        && let Some(group) = overlapping(pieces)
    {
        return group;
    }
    let Some((_, older)) = pieces.split_last() else {
        return Vec::new();
    };
    if let Some(run) = by_range(older, rules.ranges) {
        return run.collect();
    }
    much_deleted(older, rules.ranges).into_iter().collect()
}

/// The first run of blocks that overlap, unless merging one of them has failed.
fn overlapping(pieces: &[Piece]) -> Option<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let mut group: Vec<usize> = Vec::new();
    let mut end = Millis::MIN;
    for (i, piece) in pieces.iter().enumerate() {
        if i > 0 && piece.min < end {
            if group.is_empty() {
                group.push(i - 1);
            }
            group.push(i);
        } else if !group.is_empty() {
            groups.push(std::mem::take(&mut group));
        }
        end = end.max(piece.max);
    }
    groups.push(group);
    groups
        .into_iter()
        .find(|g| !g.is_empty() && g.iter().all(|&i| !pieces[i].failed))
}

/// Blocks of one longer range that is full, or will not be filled any more.
fn by_range(pieces: &[Piece], ranges: &[Millis]) -> Option<Range<usize>> {
    let high = pieces.last()?.min;
    for &range in ranges.get(1..)? {
        for group in split(pieces, range) {
            let part = &pieces[group.clone()];
            let (Some(first), Some(last)) = (part.first(), part.last()) else {
                continue;
            };
            let over = last.max.saturating_sub(first.min) == range || last.max <= high;
            if part.len() > 1 && over && part.iter().all(|p| !p.failed) {
                return Some(group);
            }
        }
    }
    None
}

/// Runs of blocks that lie in the same stretch of `range` ms; blocks across a border are left out.
fn split(pieces: &[Piece], range: Millis) -> Vec<Range<usize>> {
    let mut groups = Vec::new();
    let mut i = 0;
    while i < pieces.len() {
        let start = pieces[i].min.div_euclid(range).saturating_mul(range);
        let end = start.saturating_add(range);
        let n = pieces[i..].iter().take_while(|p| p.max <= end).count();
        if n > 0 {
            groups.push(i..i + n);
        }
        i += n.max(1);
    }
    groups
}

/// The newest of the long blocks of which more than a twentieth of the series has something
/// deleted, or any block of which everything may be.
fn much_deleted(pieces: &[Piece], ranges: &[Millis]) -> Option<usize> {
    let long = ranges.get(ranges.len() / 2).copied()?;
    for (i, piece) in pieces.iter().enumerate().rev() {
        if piece.max.saturating_sub(piece.min) < long {
            let whole = piece.tombstones > 0 && piece.tombstones >= piece.series;
            return (whole && !piece.failed).then_some(i);
        }
        if piece.tombstones.saturating_mul(20) > piece.series.saturating_add(1) && !piece.failed {
            return Some(i);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RANGES: [Millis; 5] = [20, 60, 180, 540, 1620];
    const RULES: Rules<'_> = Rules {
        ranges: &RANGES,
        overlapping: true,
    };

    fn piece(&(min, max): &(i64, i64)) -> Piece {
        Piece {
            min,
            max,
            failed: false,
            class: Class::Whole,
            tombstones: 0,
            series: 100,
        }
    }

    fn pieces(list: &[(i64, i64)]) -> Vec<Piece> {
        list.iter().map(piece).collect()
    }

    #[test]
    fn plans_as_prometheus_plans() {
        for (list, want) in [
            (&[(0, 20)][..], &[][..]),
            (&[(0, 20), (20, 40), (40, 60)], &[]),
            (&[(0, 20), (20, 40), (40, 60), (60, 80)], &[0, 1, 2]),
            // A gap, but a later block: the stretch will not be filled any more.
            (&[(0, 20), (20, 40), (60, 80), (80, 100)], &[0, 1]),
            (&[(20, 40), (40, 60), (60, 80)], &[]),
            (&[(0, 60), (60, 120), (120, 180), (180, 200)], &[0, 1, 2]),
            (
                &[
                    (0, 60),
                    (60, 120),
                    (120, 140),
                    (140, 160),
                    (160, 180),
                    (180, 200),
                ],
                &[2, 3, 4],
            ),
            // A block as long as the range stays for the next.
            (&[(0, 60), (60, 80), (80, 100), (100, 120)], &[]),
            (
                &[(0, 60), (60, 80), (80, 100), (100, 120), (120, 140)],
                &[1, 2, 3],
            ),
            // Overlaps come first, the newest included.
            (&[(0, 20), (19, 40), (40, 60)], &[0, 1]),
            (&[(0, 20), (20, 40), (30, 50)], &[1, 2]),
            (
                &[(0, 20), (20, 40), (30, 50), (45, 60), (60, 80)],
                &[1, 2, 3],
            ),
            // One long block over many: all of them.
            (&[(0, 100), (10, 20), (30, 40), (100, 120)], &[0, 1, 2]),
            (&[(10, 20), (0, 100), (100, 120)], &[1, 0]),
            // Only touching is no overlap.
            (&[(0, 20), (20, 40)], &[]),
            (&[(-60, -40), (-40, -20), (-20, 0), (0, 20)], &[0, 1, 2]),
        ] {
            assert_eq!(plan(&pieces(list), RULES), want, "{list:?}");
        }
    }

    #[test]
    fn overlaps_stay_when_they_are_not_allowed_to_merge() {
        let rules = Rules {
            overlapping: false,
            ..RULES
        };
        let list = pieces(&[(0, 20), (10, 40), (40, 60), (60, 80)]);
        assert_eq!(plan(&list, RULES), [0, 1]);
        assert_eq!(plan(&list, rules), [0, 1, 2], "as a full range");
        assert!(plan(&pieces(&[(0, 20), (10, 40)]), rules).is_empty());
    }

    #[test]
    fn what_failed_is_left_alone() {
        let mut list = pieces(&[(0, 20), (20, 40), (40, 60), (60, 80)]);
        list[1].failed = true;
        assert!(plan(&list, RULES).is_empty());
        let mut list = pieces(&[(0, 20), (10, 20), (20, 40), (30, 40), (40, 60)]);
        list[0].failed = true;
        assert_eq!(plan(&list, RULES), [2, 3], "the next overlap");
    }

    #[test]
    fn classes_do_not_mix() {
        let mut list = pieces(&[(0, 20), (0, 20), (20, 40), (0, 20), (10, 40), (40, 60)]);
        for (i, class) in [(1, Class::Stale), (3, Class::Stale), (4, Class::Stale)] {
            list[i].class = class;
        }
        assert_eq!(plan(&list, RULES), [1, 3, 4]);
        list[0].max = 30;
        assert_eq!(plan(&list, RULES), [0, 2], "whole blocks come first");
    }

    #[test]
    fn a_block_of_which_much_is_deleted_is_written_again() {
        let long = [(0, 540), (540, 1080), (1080, 1100)];
        let with = |counts: [u64; 3]| {
            let mut list = pieces(&long);
            for (piece, n) in list.iter_mut().zip(counts) {
                piece.tombstones = n;
            }
            plan(&list, RULES)
        };
        assert!(with([5, 5, 0]).is_empty(), "a twentieth and no more");
        assert_eq!(with([6, 0, 0]), [0]);
        assert_eq!(with([6, 6, 0]), [1], "the newer one first");
        assert!(with([0, 0, 100]).is_empty(), "the newest stays");
        // Short ones wait for their merge, unless nothing is left of them.
        let mut list = pieces(&[(0, 540), (540, 560), (560, 580)]);
        list[0].tombstones = 50;
        list[1].tombstones = 99;
        assert!(plan(&list, RULES).is_empty());
        list[1].tombstones = 100;
        assert_eq!(plan(&list, RULES), [1]);
    }

    proptest! {
        /// Planning and merging goes on for a while, and then ends without overlaps.
        #[test]
        fn it_comes_to_an_end(
            list in prop::collection::vec((-30i64..60, 1i64..8), 0..30),
        ) {
            let mut left: Vec<Piece> =
                list.iter().map(|(a, n)| piece(&(a * 10, (a + n) * 10))).collect();
            for _ in 0..list.len() + 1 {
                let chosen = plan(&left, RULES);
                if chosen.is_empty() {
                    break;
                }
                prop_assert!(chosen.len() > 1);
                let chosen: Vec<Piece> = chosen.iter().map(|&i| left[i]).collect();
                let one = piece(&(
                    chosen.iter().map(|p| p.min).min().unwrap_or(0),
                    chosen.iter().map(|p| p.max).max().unwrap_or(0),
                ));
                left.retain(|p| !chosen.contains(p));
                left.push(one);
            }
            prop_assert!(plan(&left, RULES).is_empty());
            left.sort_by_key(|p| p.min);
            prop_assert!(left.windows(2).all(|w| w[0].max <= w[1].min));
        }
    }
}
