//! Merging local blocks into longer ones, by Prometheus' levelled plan (`tsdb/compact.go`).

use std::sync::Arc;
use std::time::Instant;

use block::merge::{merge_on, meta_of};
use block::{Block, Meta};
use model::Millis;
use ulid::Ulid;

use super::local::LocalBlock;
use super::{Inner, Round, blocks};
use crate::Error;

/// What the plan needs to know of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Piece {
    min: Millis,
    /// Exclusive.
    max: Millis,
    failed: bool,
    stays: bool,
}

/// The blocks (ascending by time) to merge next, as places in `pieces`: overlapping ones, else
/// those that fill one of the longer `ranges`. The newest block is left alone.
fn plan(pieces: &[Piece], ranges: &[Millis]) -> Vec<usize> {
    let overlapping = overlapping(pieces);
    if !overlapping.is_empty() {
        return overlapping;
    }
    let Some((newest, older)) = pieces.split_last() else {
        return Vec::new();
    };
    let Some(high) = older.last().map(|p| p.min) else {
        return Vec::new();
    };
    debug_assert!(newest.min >= high);
    for &range in ranges.get(1..).unwrap_or_default() {
        for group in split(older, range) {
            let part = &older[group.clone()];
            let (Some(first), Some(last)) = (part.first(), part.last()) else {
                continue;
            };
            let full = last.max - first.min == range || last.max <= high;
            if part.len() > 1 && full && part.iter().all(|p| !p.failed && !p.stays) {
                return group.collect();
            }
        }
    }
    Vec::new()
}

fn overlapping(pieces: &[Piece]) -> Vec<usize> {
    let mut group: Vec<usize> = Vec::new();
    let mut end = Millis::MIN;
    for (i, piece) in pieces.iter().enumerate() {
        if piece.min < end && i > 0 {
            if group.is_empty() {
                group.push(i - 1);
            }
            group.push(i);
        } else if !group.is_empty() {
            break;
        }
        end = end.max(piece.max);
    }
    match group.iter().any(|&i| pieces[i].stays) {
        true => Vec::new(),
        false => group,
    }
}

/// Runs of blocks that lie in the same stretch of `range` ms; blocks across a border are left out.
fn split(pieces: &[Piece], range: Millis) -> Vec<std::ops::Range<usize>> {
    let mut groups = Vec::new();
    let mut i = 0;
    while i < pieces.len() {
        let start = pieces[i].min.div_euclid(range) * range;
        let fits = |p: &Piece| p.min >= start && p.max <= start.saturating_add(range);
        if !fits(&pieces[i]) {
            i += 1;
            continue;
        }
        let n = pieces[i..].iter().take_while(|p| fits(p)).count();
        groups.push(i..i + n);
        i += n;
    }
    groups
}

impl Inner {
    pub(super) fn merge_all(&self, round: &mut Round) -> Result<(), Error> {
        let ranges = self.options.ranges();
        if ranges.len() < 2 {
            return Ok(());
        }
        // A plan always leaves fewer blocks.
        while !self.is_closed() {
            let layout = self.layout();
            let (list, floor) = (layout.blocks.clone(), layout.floor);
            drop(layout);
            // A block that lost its hint would pass for the end of the ordered data.
            let ahead = |m: &Meta| !m.compaction.in_order() && m.max_time > floor;
            let pieces: Vec<Piece> = list
                .iter()
                .map(|b| Piece {
                    min: b.meta().min_time,
                    max: b.meta().max_time,
                    failed: b.meta().compaction.failed,
                    stays: self.must_stay(b) || ahead(b.meta()),
                })
                .collect();
            let chosen = plan(&pieces, &ranges);
            if chosen.is_empty() {
                break;
            }
            let inputs: Vec<Arc<LocalBlock>> =
                chosen.iter().map(|&i| Arc::clone(&list[i])).collect();
            drop(list);
            self.stats.compactions_triggered.inc();
            let started = Instant::now();
            let merged = self.replace(&inputs).inspect_err(|_| {
                self.stats.compactions_failed.inc();
            })?;
            self.stats.compactions.inc();
            self.stats
                .compaction_seconds
                .observe_duration(started.elapsed());
            round.merged.extend(merged);
        }
        Ok(())
    }

    /// Writes one block that takes the place of some. None if no sample is left in them.
    pub(super) fn replace(&self, inputs: &[Arc<LocalBlock>]) -> Result<Option<Ulid>, Error> {
        let metas: Vec<&Meta> = inputs.iter().map(|b| b.meta()).collect();
        let blocks: Vec<Arc<Block>> = inputs.iter().map(|b| Arc::clone(&b.block)).collect();
        let meta = meta_of(Ulid::generate(), &metas);
        let merged = merge_on(
            Arc::clone(&self.options.fs),
            &blocks,
            &self.dir,
            meta,
            &self.cancel,
        )
        .map_err(|e| Error::block(&self.dir, e))?;
        let ulid = merged.map(|m| m.ulid);
        let gone: Vec<Ulid> = inputs.iter().map(|b| b.ulid()).collect();
        let layout = self.layout();
        let mut list: Vec<Arc<LocalBlock>> = layout
            .blocks
            .iter()
            .filter(|b| !gone.contains(&b.ulid()))
            .cloned()
            .collect();
        if let Some(ulid) = ulid {
            let path = self.dir.join(ulid.to_string());
            list.push(Arc::new(LocalBlock::open(&path)?));
            list.sort_by_key(|b| (b.meta().min_time, b.meta().max_time, b.ulid()));
            tracing::info!(block = %ulid, of = inputs.len(), "merged blocks");
        }
        self.publish(list, layout.floor);
        for block in inputs {
            blocks::delete(&*self.options.fs, block.dir())?;
        }
        Ok(ulid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(list: &[(i64, i64)]) -> Vec<Piece> {
        list.iter()
            .map(|&(min, max)| Piece {
                min,
                max,
                failed: false,
                stays: false,
            })
            .collect()
    }

    /// Cases of `TestLeveledCompactor_plan`, ranges 20, 60, 180, 540, 1620.
    #[test]
    fn plans_as_prometheus_plans() {
        let ranges = [20, 60, 180, 540, 1620];
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
            // Overlaps come first, the newest included.
            (&[(0, 20), (19, 40), (40, 60)], &[0, 1]),
            (
                &[(0, 20), (20, 40), (30, 50), (45, 60), (60, 80)],
                &[1, 2, 3],
            ),
            (&[(-60, -40), (-40, -20), (-20, 0), (0, 20)], &[0, 1, 2]),
        ] {
            assert_eq!(plan(&pieces(list), &ranges), want, "{list:?}");
        }
        let mut held = pieces(&[(0, 20), (20, 40), (40, 60), (60, 80)]);
        held[1].stays = true;
        assert!(plan(&held, &ranges).is_empty());
    }
}
