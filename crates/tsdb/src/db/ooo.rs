//! Out-of-order samples as the database keeps them: their log, their blocks, their deletion.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use block::meta::FROM_OUT_OF_ORDER;
use block::{Meta, Writer};
use model::{Matcher, Millis, TimeRange};
use ulid::Ulid;

use super::local::LocalBlock;
use super::maintain::Pending;
use super::{Db, Inner, Round};
use crate::head::Head;
use crate::replay::Replayed;
use crate::wal::{self, Records, SegmentReader, Wal, record};
use crate::{Error, Options};

/// The folder of the log.
pub(super) const DIR: &str = "wbl";
/// So many deletions are logged in one record.
const STONES: usize = 4096;

impl Db {
    /// From now on samples up to `window` ms behind the newest sample of all are taken, even if
    /// their series has newer ones; 0 takes none. What was taken stays.
    pub fn set_out_of_order_window(&self, window: Millis) -> Result<(), Error> {
        self.inner.set_ooo_window(window)
    }

    /// From when on this database has whatever it was given: the oldest sample that came in order.
    /// There may be older ones that came out of order.
    pub fn ordered_from(&self) -> Option<Millis> {
        let layout = self.inner.layout();
        let blocks = layout.blocks.iter().map(|b| b.meta());
        let blocks = blocks.filter(|m| m.compaction.in_order());
        let oldest = blocks.map(|m| m.min_time).min();
        let head = self.inner.head.range().map(|r| r.min);
        match (oldest, head) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }
}

/// Reads the log of out-of-order samples back, if there is one, and opens it for writing.
pub(super) fn open(
    dir: &Path,
    head: &Head,
    options: &Options,
    replayed: &mut Replayed,
) -> Result<(), Error> {
    let dir = dir.join(DIR);
    let segments = wal::segments(&dir)?;
    let last = segments.last().map(|s| s.0);
    for (number, path) in &segments {
        let mut reader = SegmentReader::open_on(&*options.fs, path)?;
        let torn_is_fine = Some(*number) == last;
        loop {
            match reader.read() {
                Ok(Some(bytes)) => match head.replay_ooo(bytes, &replayed.renamed) {
                    Ok((samples, unknown)) => {
                        replayed.out_of_order += samples;
                        replayed.out_of_order_unknown += unknown;
                    }
                    Err(_) => {
                        let what = format!("{}: a malformed record was left out", path.display());
                        tracing::warn!("{what}");
                        replayed.damaged.push(what);
                    }
                },
                Ok(None) => break,
                Err(error) => {
                    let good = reader.good_offset();
                    let (fs, damaged) = (&*options.fs, &mut replayed.damaged);
                    wal::give_up(fs, path, good, error, torn_is_fine, damaged)?;
                    break;
                }
            }
        }
    }
    let stats = &options.stats;
    stats.wbl_unknown_refs.add(replayed.out_of_order_unknown);
    head.set_ooo_window(options.out_of_order_window);
    if options.out_of_order_window > 0 || !segments.is_empty() {
        open_log(&dir, head, options)?;
    }
    Ok(())
}

fn open_log(dir: &Path, head: &Head, options: &Options) -> Result<(), Error> {
    let log = Wal::open(
        dir,
        options.wal.clone(),
        Arc::clone(&options.fs),
        Arc::clone(&options.stats.wbl),
    )?;
    head.set_ooo_log(Arc::new(log));
    Ok(())
}

impl Inner {
    fn set_ooo_window(&self, window: Millis) -> Result<(), Error> {
        if window < 0 {
            return Err(Error::Invalid(
                "the out-of-order window must not be negative".into(),
            ));
        }
        // One at a time, and not while a cut goes on.
        let _alone = self.maintenance.lock();
        if window > 0 && self.head.ooo_log().is_none() {
            open_log(&self.dir.join(DIR), &self.head, &self.options)?;
        }
        self.head.set_ooo_window(window);
        Ok(())
    }

    /// Makes the log of out-of-order samples power-safe.
    pub(super) fn sync_ooo(&self) -> Result<(), Error> {
        self.head.ooo_log().map_or(Ok(()), |log| log.sync())
    }

    /// Bytes of the log of out-of-order samples.
    pub(super) fn ooo_log_size(&self) -> Result<u64, Error> {
        self.head
            .ooo_log()
            .map_or(Ok(0), |log| super::local::size(log.dir()))
    }

    /// Writes all out-of-order samples into blocks, one for each stretch of the block length, and
    /// truncates their log.
    pub(super) fn cut_ooo(&self, pending: &mut Pending, round: &mut Round) -> Result<(), Error> {
        if !self.drop_ooo(pending) || !pending.out_of_order_due {
            return Ok(());
        }
        if self.head.ooo_range().is_none() {
            pending.out_of_order_due = false;
            return Ok(());
        }
        let started = Instant::now();
        let (epoch, ended) = self.head.end_ooo_epoch(|| match self.head.ooo_log() {
            Some(log) => log.rotate().map(Some),
            None => Ok(None),
        })?;
        // What comes later is of the new epoch, and of no interest here.
        let mut new = Vec::new();
        for meta in self.write_all_ooo(&self.dir, epoch)? {
            let path = self.dir.join(meta.ulid.to_string());
            new.push(Arc::new(LocalBlock::open(&*self.options.fs, &path)?));
        }
        if !new.is_empty() {
            let layout = self.layout();
            let mut list = layout.blocks.clone();
            round.cut.extend(new.iter().map(|b| b.ulid()));
            list.append(&mut new);
            list.sort_by_key(|b| (b.meta().min_time, b.meta().max_time, b.ulid()));
            let floor = layout.floor;
            drop(layout);
            self.publish(list, floor);
            self.stats.storage.compactions.inc();
            self.stats
                .storage
                .compaction_seconds
                .observe_duration(started.elapsed());
        }
        pending.out_of_order = Some(epoch);
        pending.out_of_order_due = false;
        if let (Some(log), Some(ended)) = (self.head.ooo_log(), ended) {
            let stats = &self.stats.wbl;
            stats.truncations.inc();
            log.delete_segments(ended)
                .inspect_err(|_| stats.truncations_failed.inc())?;
        }
        self.drop_ooo(pending);
        Ok(())
    }

    /// Drops from memory what lies in blocks by now. False if queries still read it.
    fn drop_ooo(&self, pending: &mut Pending) -> bool {
        let Some(epoch) = pending.out_of_order else {
            return true;
        };
        if !self.settle() {
            return false;
        }
        self.head.drop_ooo(epoch);
        pending.out_of_order = None;
        true
    }

    /// Writes the out-of-order samples that are older than `epoch` as blocks, one for each stretch
    /// of the block length.
    fn write_all_ooo(&self, dir: &Path, epoch: u32) -> Result<Vec<Meta>, Error> {
        let length = self.options.min_block;
        let mut metas: Vec<Meta> = Vec::new();
        let mut next = self.head.ooo_next(epoch, Millis::MIN);
        while let Some(ts) = next {
            let min = ts.div_euclid(length).saturating_mul(length);
            let max = min.saturating_add(length);
            match self.write_ooo(dir, epoch, (min, max)) {
                Ok(Some(meta)) => {
                    tracing::info!(block = %meta.ulid, min, max, "cut a block of out-of-order samples");
                    metas.push(meta);
                }
                Ok(None) => {}
                Err(e) => {
                    // All of them come again: those that were written would only be in the way.
                    for meta in metas {
                        let path = dir.join(meta.ulid.to_string());
                        let _ = super::blocks::delete(&*self.options.fs, &path);
                    }
                    return Err(e);
                }
            }
            // Not one stretch after the other: the next sample may be far away.
            next = self.head.ooo_next(epoch, max).filter(|_| max < Millis::MAX);
        }
        Ok(metas)
    }

    /// Writes the out-of-order samples in `min..max` that are older than `epoch` as a block.
    fn write_ooo(
        &self,
        dir: &Path,
        epoch: u32,
        (min, max): (Millis, Millis),
    ) -> Result<Option<Meta>, Error> {
        let failed = |e| Error::block(dir, e);
        let mut export = self.head.ooo_export(epoch, (min, max - 1));
        if export.is_empty() {
            return Ok(None);
        }
        let mut meta = Meta::new(Ulid::generate(), TimeRange::new(min, max - 1));
        meta.compaction.hints.push(FROM_OUT_OF_ORDER.to_owned());
        let fs = Arc::clone(&self.options.fs);
        let mut writer = Writer::create_on(fs, dir, meta, export.take_symbols()).map_err(failed)?;
        self.head.write_ooo(&export, &mut writer).map_err(failed)?;
        writer.finish().map_err(failed)
    }

    /// Writes what came out of order and lies in no block yet into blocks in another folder.
    pub(super) fn snapshot_ooo(&self, dir: &Path) -> Result<(), Error> {
        self.write_all_ooo(dir, u32::MAX).map(drop)
    }

    /// Deletes out-of-order samples, in the log and in memory.
    pub(super) fn delete_ooo(&self, matchers: &[Matcher], range: TimeRange) -> Result<(), Error> {
        if self.head.ooo_range().is_none_or(|r| !r.overlaps(range)) {
            return Ok(());
        }
        let mut stones = Vec::new();
        for id in self.head.matching(matchers) {
            if let Some((first, last)) = self.head.ooo_span(id) {
                let part = range.intersect(TimeRange::new(first, last));
                if !part.is_empty() {
                    stones.push((u64::from(id), part.min, part.max));
                }
            }
        }
        let mut ticket_of = None;
        if let Some(log) = self.head.ooo_log() {
            let mut records = Records::new(self.options.wal.compression);
            for part in stones.chunks(STONES) {
                record::put_tombstones(records.out(), part);
                records.end();
            }
            let ticket = log.append(&mut records)?;
            ticket_of = Some((log, ticket));
        }
        for (id, min, max) in stones {
            if let Ok(id) = u32::try_from(id) {
                self.head.delete_ooo(id, min, max);
            }
        }
        match ticket_of {
            Some((log, ticket)) => log.settle(ticket),
            None => Ok(()),
        }
    }
}
