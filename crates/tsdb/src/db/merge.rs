//! Merging local blocks into longer ones, as [`plan`](super::plan) says.

use std::sync::Arc;
use std::time::Instant;

use block::merge::{merge_on, meta_of};
use block::{Block, Meta};
use model::source::Kind;
use ulid::Ulid;

use super::local::LocalBlock;
use super::plan::{Class, Piece, Rules, plan};
use super::{Inner, Round, blocks};
use crate::Error;

impl Inner {
    /// Merges until there is nothing left to merge, or the head is due.
    pub(super) fn merge_all(&self, round: &mut Round) -> Result<(), Error> {
        let ranges = self.options.ranges();
        let rules = Rules {
            ranges: &ranges,
            overlapping: self.options.merge_overlapping,
        };
        // A plan leaves fewer blocks, or fewer tombstones; a failure marks one that is left alone.
        while !self.is_closed() && !self.is_cut_due() {
            let inputs = self.next_merge(rules);
            if inputs.is_empty() {
                break;
            }
            let stats = &self.stats.storage;
            stats.compactions_triggered.inc();
            let started = Instant::now();
            match self.replace(&inputs) {
                Ok(merged) => round.merged.extend(merged),
                Err(_) if self.is_closed() => break,
                Err(e) => {
                    stats.compactions_failed.inc();
                    self.mark_failed(&inputs, &e);
                    return Err(e);
                }
            }
            stats.compactions.inc();
            let metas = inputs.iter().map(|b| b.meta());
            if overlap(metas.map(|m| (m.min_time, m.max_time)).collect()) {
                stats.vertical.inc();
            }
            stats.compaction_seconds.observe_duration(started.elapsed());
        }
        Ok(())
    }

    fn next_merge(&self, rules: Rules<'_>) -> Vec<Arc<LocalBlock>> {
        let layout = self.layout();
        let (mut list, floor) = (layout.blocks.clone(), layout.floor);
        drop(layout);
        // Behind a block that has to wait nothing is merged, or it would stay alone between long
        // ones: uploads go from the oldest to the newest too.
        list.sort_by_key(|b| b.ulid());
        let free = list.iter().take_while(|b| !self.must_wait(b)).count();
        list.truncate(free);
        // A block that lost its hint would pass for the end of the ordered data.
        list.retain(|b| b.meta().compaction.in_order() || b.meta().max_time <= floor);
        list.sort_by_key(|b| (b.meta().min_time, b.meta().max_time, b.ulid()));
        let pieces: Vec<Piece> = list
            .iter()
            .map(|b| {
                let meta = b.meta();
                Piece {
                    min: meta.min_time,
                    max: meta.max_time,
                    failed: b.has_failed(),
                    class: Class::of(&meta.compaction.hints),
                    tombstones: meta.stats.num_tombstones,
                    series: meta.stats.num_series,
                }
            })
            .collect();
        let chosen = plan(&pieces, rules);
        chosen.into_iter().map(|i| Arc::clone(&list[i])).collect()
    }

    /// Notes down in the blocks that merging them fails, so that it is not tried again for ever.
    /// What another try can mend (a full disk) is not noted.
    fn mark_failed(&self, inputs: &[Arc<LocalBlock>], error: &Error) {
        let names: Vec<String> = inputs.iter().map(|b| b.ulid().to_string()).collect();
        let lasting = !matches!(error.kind(), Kind::Unavailable | Kind::Cancelled);
        tracing::error!(%error, blocks = names.join(" "), lasting, "blocks could not be merged; they go on answering");
        if !lasting {
            return;
        }
        for block in inputs {
            block.set_failed();
            let mut meta: Meta = block.meta().clone();
            meta.compaction.failed = true;
            if let Err(error) = meta.write_on(&*self.options.fs, block.dir()) {
                tracing::error!(%error, block = %block.ulid(), "the failed merge could not be noted down");
            }
        }
    }

    /// Writes one block that takes the place of some. None if no sample is left in them.
    pub(super) fn replace(&self, inputs: &[Arc<LocalBlock>]) -> Result<Option<Ulid>, Error> {
        let metas: Vec<&Meta> = inputs.iter().map(|b| b.meta()).collect();
        self.replace_by(inputs, meta_of(Ulid::generate(), &metas))
    }

    /// Writes one block, described by `meta`, that takes the place of some; these are deleted once
    /// it is on disk.
    pub(super) fn replace_by(
        &self,
        inputs: &[Arc<LocalBlock>],
        meta: Meta,
    ) -> Result<Option<Ulid>, Error> {
        let blocks: Vec<Arc<Block>> = inputs.iter().map(|b| Arc::clone(&b.block)).collect();
        let merged = {
            let _writing = self.writing();
            merge_on(
                Arc::clone(&self.options.fs),
                &blocks,
                &self.dir,
                meta,
                &self.cancel,
            )
            .map_err(|e| Error::block(&self.dir, e))?
        };
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
            list.push(Arc::new(LocalBlock::open(&*self.options.fs, &path)?));
            list.sort_by_key(|b| (b.meta().min_time, b.meta().max_time, b.ulid()));
            tracing::info!(block = %ulid, of = inputs.len(), "merged blocks");
        } else {
            tracing::info!(of = inputs.len(), "nothing is left of merged blocks");
        }
        self.publish(list, layout.floor);
        drop(layout);
        for block in inputs {
            blocks::delete(&*self.options.fs, block.dir())?;
        }
        Ok(ulid)
    }

    /// Says that a block is being written, until it is dropped.
    pub(super) fn writing(&self) -> impl Drop + '_ {
        struct Writing<'a>(&'a Inner);
        impl Drop for Writing<'_> {
            fn drop(&mut self) {
                self.0.stats.storage.populating.set(0);
            }
        }
        self.stats.storage.populating.set(1);
        Writing(self)
    }
}

/// Whether any of these half-open ranges overlap.
fn overlap(mut ranges: Vec<(i64, i64)>) -> bool {
    ranges.sort_unstable();
    let mut end = i64::MIN;
    ranges.into_iter().enumerate().any(|(i, (min, max))| {
        let overlaps = i > 0 && min < end;
        end = end.max(max);
        overlaps
    })
}
