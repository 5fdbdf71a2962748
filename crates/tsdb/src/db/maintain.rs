//! One round of maintenance: cut the head, truncate the log, merge blocks, delete old ones.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use block::{Meta, Writer};
use model::{Millis, TimeRange};
use ulid::Ulid;

use super::local::LocalBlock;
use super::{Db, Inner};
use crate::Error;
use crate::agent::last_to_go;
use crate::head::{Snapshot, range_end};
use crate::wal::{self, checkpoint};

/// So long the log keeps what remote write has not sent yet, ms: as an agent does.
const UNSENT_AT_MOST: Millis = 4 * 3_600_000;

/// What a round did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Round {
    /// Blocks cut from the head.
    pub cut: Vec<Ulid>,
    /// Blocks merged from others.
    pub merged: Vec<Ulid>,
    /// Blocks deleted because of their age or size.
    pub deleted: Vec<Ulid>,
}

/// What one round leaves to the next.
#[derive(Default)]
pub(crate) struct Pending {
    /// The head may drop what is older, once no query reads it any more.
    collect: Option<Millis>,
    /// The head was cut since out-of-order samples were.
    pub(super) out_of_order_due: bool,
    /// Out-of-order samples of older epochs may go, once no query reads them any more.
    pub(super) out_of_order: Option<u32>,
}

impl Db {
    /// Does one round of maintenance now: cuts blocks from the head while it spans more than one
    /// and a half of their length, truncates the log, merges local blocks, deletes old ones.
    pub fn maintain(&self) -> Result<Round, Error> {
        self.inner.maintain()
    }

    /// Cuts everything that is in the head into blocks, the last of them shorter than the others:
    /// for tests, and for handing everything over before a stop.
    pub fn flush_all(&self) -> Result<Vec<Ulid>, Error> {
        let mut pending = self.inner.maintenance.lock();
        let mut round = Round::default();
        self.inner.cut_all(&mut pending, &mut round, true)?;
        pending.out_of_order_due = true;
        self.inner.cut_ooo(&mut pending, &mut round)?;
        Ok(round.cut)
    }

    /// Gives back as much memory as there is to give: cuts everything into blocks and lets go of
    /// every series that then has no sample, however young it is.
    pub fn relieve(&self) -> Result<Vec<Ulid>, Error> {
        let cut = self.flush_all()?;
        let mut pending = self.inner.maintenance.lock();
        // The first time a series is only warned.
        pending.collect.get_or_insert(self.inner.head.min_valid());
        self.inner.collect_pending(&mut pending)?;
        Ok(cut)
    }
}

impl Inner {
    pub(super) fn maintain(&self) -> Result<Round, Error> {
        let mut pending = self.maintenance.lock();
        let mut round = Round::default();
        self.save_chunks();
        // Each part has its turn, whatever became of the others: a cut that fails for want of
        // space needs retention more than ever.
        let parts = [
            self.cut_all(&mut pending, &mut round, false),
            self.cut_late(&mut pending, &mut round),
            self.reload(),
            self.merge_all(&mut round),
            self.retain().map(|deleted| round.deleted = deleted),
            super::local::size(self.wal.dir()).map(|n| self.stats.wal.bytes.set(n as i64)),
            self.ooo_log_size()
                .map(|n| self.stats.wbl.bytes.set(n as i64)),
        ];
        self.count_unshipped();
        let mut errors = parts.into_iter().filter_map(Result::err);
        let Some(first) = errors.next() else {
            return Ok(round);
        };
        for error in errors {
            tracing::error!(%error, "another part of the maintenance failed");
        }
        Err(first)
    }

    fn cut_late(&self, pending: &mut Pending, round: &mut Round) -> Result<(), Error> {
        match pending.out_of_order_due || pending.out_of_order.is_some() {
            true => self.cut_ooo(pending, round),
            false => Ok(()),
        }
    }

    /// Whether the head is to be cut.
    pub(super) fn is_cut_due(&self) -> bool {
        let (Some(range), Some(now)) = (self.head.range(), self.head.believed_max()) else {
            return false;
        };
        now.saturating_sub(range.min) > self.options.min_block / 2 * 3
    }

    /// Moves finished chunks of the head to files. That this fails is no reason to stop: they stay in
    /// memory, and in the log.
    pub(super) fn save_chunks(&self) {
        if let Err(e) = self.head.save_chunks() {
            tracing::warn!(error = %e, "finished chunks stay in memory");
        }
        self.head.tell();
    }

    fn cut_all(&self, pending: &mut Pending, round: &mut Round, all: bool) -> Result<(), Error> {
        if !self.collect_pending(pending)? {
            return Ok(());
        }
        let length = self.options.min_block;
        let mut dropped = false;
        while let Some(range) = self.head.range() {
            if self.is_closed() || !(all || self.is_cut_due()) {
                break;
            }
            // Batches under way have ended then, and whatever comes later lies behind the block.
            let max = self.head.seal(range_end(range.min, length), all);
            if max <= range.min {
                // A sample at the end of all time lies before nothing.
                break;
            }
            self.stats.storage.compactions_triggered.inc();
            let started = Instant::now();
            match self.cut((range.min, max)) {
                Ok(cut) => round.cut.extend(cut),
                Err(e) => {
                    self.stats.storage.compactions_failed.inc();
                    self.stats.head_truncations_failed.inc();
                    return Err(e);
                }
            }
            self.stats.storage.compactions.inc();
            self.stats
                .storage
                .compaction_seconds
                .observe_duration(started.elapsed());
            dropped = true;
            pending.out_of_order_due = true;
            pending.collect = Some(max);
            if !self.collect_pending(pending)? {
                return Ok(());
            }
        }
        if dropped {
            self.truncate_log()?;
        }

        Ok(())
    }

    /// Writes `min..max` of the head as a block, if there is anything, and lets the head answer
    /// from `max` on.
    fn cut(&self, (min, max): (Millis, Millis)) -> Result<Option<Ulid>, Error> {
        let meta = self.write_head(&self.dir, (min, max), None)?;
        let layout = self.layout();
        let mut list = layout.blocks.clone();
        let ulid = meta.map(|m| m.ulid);
        if let Some(ulid) = ulid {
            let block = LocalBlock::open(&*self.options.fs, &self.dir.join(ulid.to_string()))?;
            list.push(Arc::new(block));
            tracing::info!(block = %ulid, min, max, "cut a block from the head");
        }
        drop(layout);
        self.publish(list, max);
        Ok(ulid)
    }

    /// Writes `min..max` of the head as a block into `dir`.
    pub(super) fn write_head(
        &self,
        dir: &Path,
        (min, max): (Millis, Millis),
        snapshot: Option<&Snapshot>,
    ) -> Result<Option<Meta>, Error> {
        let failed = |e| Error::block(dir, e);
        let _writing = self.writing();
        let mut export = self.head.export((min, max), snapshot);
        let meta = Meta::new(Ulid::generate(), TimeRange::new(min, max - 1));
        let fs = Arc::clone(&self.options.fs);
        let symbols = export.take_symbols();
        let mut writer = Writer::create_on(fs, dir, meta, symbols).map_err(failed)?;
        self.head
            .write(
                &export,
                (min, max),
                snapshot,
                &self.stats.storage.chunks,
                &mut writer,
            )
            .map_err(failed)?;
        writer.finish().map_err(failed)
    }

    /// Drops from the head what lies in blocks. False if queries still read it.
    fn collect_pending(&self, pending: &mut Pending) -> Result<bool, Error> {
        let Some(before) = pending.collect else {
            return Ok(true);
        };
        if !self.settle() {
            return Ok(false);
        }
        self.stats.head_truncations.inc();
        let collected = self.head.collect(before);
        self.head.truncate_files(before)?;
        // Their samples may be in segments that are kept.
        let segment = self.wal.segment();
        let mut expiry = self.expiry.lock();
        expiry.extend(collected.series.iter().map(|&id| (u64::from(id), segment)));
        pending.collect = None;
        Ok(true)
    }

    /// Replaces the older two thirds of the log's segments by a checkpoint.
    fn truncate_log(&self) -> Result<(), Error> {
        let started = Instant::now();
        self.stats.wal.truncations.inc();
        let result = self.checkpoint();
        if result.is_err() {
            self.stats.wal.truncations_failed.inc();
        }
        self.stats.wal_truncate.observe_duration(started.elapsed());
        result
    }

    fn checkpoint(&self) -> Result<(), Error> {
        let ended = self.wal.rotate()?;
        // What the checkpoint is made of must not be lost with it.
        self.wal.sync()?;
        let Some(&(first, _)) = wal::segments(self.wal.dir())?.first() else {
            return Ok(());
        };
        if first > ended {
            return Ok(());
        }
        let last = first + (ended - first) * 2 / 3;
        // Prometheus does not ask how far remote write is; what it has not read is lost there.
        let readers = self.readers.read().clone();
        let needed = readers.and_then(|r| r.segment()).unwrap_or(u64::MAX);
        let range = (first, last, needed);
        let Some(last) = last_to_go(&self.wal, range, UNSENT_AT_MOST, &self.stats.unsent) else {
            return Ok(());
        };
        self.stats.checkpoints.inc();
        let expiry = self.expiry.lock().clone();
        let min = self.head.min_valid();
        let keep = |series: u64| {
            self.head.has(series)
                || expiry.get(&series).is_some_and(|&until| until > last)
                || self.renamed.is_needed(series, min, &self.head)
        };
        let options = self.wal.options();
        checkpoint::write(self.wal.dir(), last, min, &keep, options, &self.options.fs)
            .inspect_err(|_| self.stats.checkpoints_failed.inc())?;
        self.wal.delete_segments(last)?;
        self.stats.checkpoint_deletions.inc();
        checkpoint::delete_older(&*self.options.fs, self.wal.dir())
            .inspect_err(|_| self.stats.checkpoint_deletions_failed.inc())?;
        self.expiry.lock().retain(|_, until| *until > last);
        Ok(())
    }
}
