//! Which blocks of a group are compacted next: Prometheus' choice with Thanos' exceptions
//! (`pkg/compact/planner.go`).
//!
//! Overlapping blocks come first. Else the newest block is left alone, and of the others those are
//! taken that fill, or nearly fill, an aligned range. Blocks marked as not to be compacted stay where they
//! are, and a plan never reaches across one. Blocks at which somebody works already are busy: whatever
//! range they lie in waits for them.

#[cfg(test)]
mod tests;

use std::collections::HashSet;

use block::Meta;
use model::Millis;
use ulid::Ulid;

const HOUR: Millis = 3_600_000;

/// The ranges that blocks grow through: 1 h, 2 h, 8 h, 2 d, 14 d.
pub const RANGES: [Millis; 5] = [HOUR, 2 * HOUR, 8 * HOUR, 48 * HOUR, 14 * 24 * HOUR];

/// Of the largest index that is allowed, so much may be planned: the rest is for what merging adds.
const HEADROOM: f64 = 0.85;

/// From this share of series with tombstones on, a large block is written again.
const MANY_TOMBSTONES: f64 = 0.05;

/// Why a block is marked as not to be compacted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exclusion {
    /// The index of what it would become part of would be too large.
    IndexSize,
    /// It is downsampled and overlaps another one.
    DownsampledOverlap,
}

impl Exclusion {
    /// The reason in the mark.
    pub fn reason(self) -> &'static str {
        match self {
            Self::IndexSize => "index-size-exceeding",
            Self::DownsampledOverlap => "downsample-vertical-compaction",
        }
    }
}

/// What is to be done in a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// The blocks to compact, by time; none if there is nothing to do.
    pub plan: Vec<Ulid>,
    /// Blocks to be marked, because they were in the way.
    pub exclude: Vec<(Ulid, Exclusion)>,
}

/// Chooses what to compact.
#[derive(Clone, Debug)]
pub struct Planner {
    /// Ascending ranges, ms.
    pub ranges: Vec<Millis>,
    /// Bytes that the indexes of a plan may have together, before headroom.
    pub max_index_size: u64,
}

/// Blocks that a plan has to leave alone.
#[derive(Clone, Debug, Default)]
pub struct Apart {
    /// Marked as not to be compacted.
    pub excluded: HashSet<Ulid>,
    /// Somebody works at them.
    pub busy: HashSet<Ulid>,
}

impl Planner {
    /// Decides for `blocks`, which ascend by their first time. `index_size` tells the bytes of an index.
    pub fn decide(
        &self,
        blocks: &[&Meta],
        apart: &Apart,
        index_size: impl Fn(&Meta) -> u64,
    ) -> Decision {
        let mut apart = apart.clone();
        let mut exclude = Vec::new();
        loop {
            let plan = self.plan(blocks, &apart);
            let mut more: Vec<(Ulid, Exclusion)> = Vec::new();
            if let Some(largest) = self.too_large(&plan, &index_size) {
                more.push((largest, Exclusion::IndexSize));
            } else if !overlapping(&plan, &HashSet::new()).is_empty() {
                let downsampled = plan.iter().filter(|m| m.resolution() != 0);
                more.extend(downsampled.map(|m| (m.ulid, Exclusion::DownsampledOverlap)));
            }
            if more.is_empty() {
                let plan = plan.iter().map(|m| m.ulid).collect();
                return Decision { plan, exclude };
            }
            apart.excluded.extend(more.iter().map(|(ulid, _)| *ulid));
            exclude.extend(more);
        }
    }

    /// The block with the largest index among those with which the sum becomes too large.
    fn too_large(&self, plan: &[&Meta], index_size: impl Fn(&Meta) -> u64) -> Option<Ulid> {
        let limit = (self.max_index_size as f64 * HEADROOM) as u64;
        let mut sum = 0u64;
        let mut largest: Option<(u64, Ulid)> = None;
        for meta in plan {
            let size = index_size(meta);
            if largest.is_none_or(|(most, _)| size > most) {
                largest = Some((size, meta.ulid));
            }
            sum = sum.saturating_add(size);
            if sum >= limit {
                return largest.map(|(_, ulid)| ulid);
            }
        }
        None
    }

    fn plan<'a>(&self, blocks: &[&'a Meta], apart: &Apart) -> Vec<&'a Meta> {
        let is_excluded = |m: &Meta| apart.excluded.contains(&m.ulid);
        let mut free: Vec<&Meta> = blocks.iter().copied().filter(|m| !is_excluded(m)).collect();
        let overlaps = overlapping(&free, &apart.busy);
        if !overlaps.is_empty() {
            return overlaps;
        }
        let Some((fresh, settled)) = blocks.split_last() else {
            return Vec::new();
        };
        if !is_excluded(fresh) {
            free.pop();
        }
        let in_range = self.select(settled, apart);
        if !in_range.is_empty() {
            return in_range;
        }
        let large = self.ranges.get(self.ranges.len() / 2).copied();
        for meta in free.iter().rev() {
            if large.is_none_or(|large| meta.max_time.saturating_sub(meta.min_time) < large) {
                break;
            }
            let stats = &meta.stats;
            let share = stats.num_tombstones as f64 / (stats.num_series + 1) as f64;
            if share > MANY_TOMBSTONES && !apart.busy.contains(&meta.ulid) {
                return vec![meta];
            }
        }
        Vec::new()
    }

    fn select<'a>(&self, blocks: &[&'a Meta], apart: &Apart) -> Vec<&'a Meta> {
        let Some(newest) = blocks.last().map(|m| m.min_time) else {
            return Vec::new();
        };
        for &range in self.ranges.iter().skip(1) {
            for part in split(blocks, range) {
                let waits = |m: &&Meta| m.compaction.failed || apart.busy.contains(&m.ulid);
                let (Some(first), Some(last)) = (part.first(), part.last()) else {
                    continue;
                };
                if part.len() < 2 || part.iter().any(waits) {
                    continue;
                }
                // The range is full, or nothing can come into it any more.
                if last.max_time.saturating_sub(first.min_time) != range && last.max_time > newest {
                    continue;
                }
                let runs = part.split(|m| apart.excluded.contains(&m.ulid));
                if let Some(run) = runs.into_iter().find(|run| run.len() > 1) {
                    return run.to_vec();
                }
            }
        }
        Vec::new()
    }
}

/// The first blocks that overlap, one with the next, none of them busy.
fn overlapping<'a>(blocks: &[&'a Meta], busy: &HashSet<Ulid>) -> Vec<&'a Meta> {
    let mut run: Vec<&Meta> = Vec::new();
    let mut end = Millis::MIN;
    let done = |run: &[&Meta]| run.len() > 1 && !run.iter().any(|m| busy.contains(&m.ulid));
    for meta in blocks {
        if meta.min_time >= end {
            if done(&run) {
                return run;
            }
            run.clear();
        }
        run.push(meta);
        end = end.max(meta.max_time);
    }
    match done(&run) {
        true => run,
        false => Vec::new(),
    }
}

/// Blocks by the aligned range that they lie in. Those that fit into none are left out.
fn split<'a, 'b>(blocks: &'b [&'a Meta], range: Millis) -> Vec<&'b [&'a Meta]> {
    let mut parts = Vec::new();
    let mut rest = blocks;
    while let Some(first) = rest.first() {
        // A file may claim any time.
        let begin = first
            .min_time
            .saturating_sub(first.min_time.rem_euclid(range));
        let end = begin.saturating_add(range);
        let fit = rest.iter().take_while(|m| m.max_time <= end).count();
        let (part, behind) = rest.split_at(fit.max(1));
        if fit > 0 {
            parts.push(part);
        }
        rest = behind;
    }
    parts
}
