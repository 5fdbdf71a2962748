//! Deleting series, cleaning up after that, snapshots.

use std::future::ready;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use block::merge::meta_of;
use block::{Meta, Tombstones};
use model::report::Admin;
use model::{BoxFuture, Matcher, Millis, SourceError, TimeRange};
use ulid::Ulid;

use super::local::LocalBlock;
use super::{Db, Inner};
use crate::Error;
use crate::fs::{Fs, FsExt as _};
use crate::wal::{Records, record};

/// So many deletions are logged in one record.
const STONES: usize = 4096;

impl Admin for Db {
    fn delete_series(
        &self,
        matchers: Vec<Matcher>,
        range: TimeRange,
    ) -> BoxFuture<'static, Result<(), SourceError>> {
        Box::pin(ready(
            self.inner.delete(&matchers, range).map_err(Into::into),
        ))
    }

    fn clean_tombstones(&self) -> BoxFuture<'static, Result<(), SourceError>> {
        Box::pin(ready(self.inner.clean().map_err(Into::into)))
    }

    fn snapshot(&self, skip_head: bool) -> BoxFuture<'static, Result<String, SourceError>> {
        Box::pin(ready(self.inner.snapshot(skip_head).map_err(Into::into)))
    }
}

impl Inner {
    fn delete(&self, matchers: &[Matcher], range: TimeRange) -> Result<(), Error> {
        let _alone = self.maintenance.lock();
        // A block that was written and could not be published is not forgotten.
        self.reload()?;
        // What was there when it was asked for, and nothing that comes later.
        let mut stones = Vec::new();
        for id in self.head.matching(matchers) {
            if let Some((first, last)) = self.head.span(id) {
                let part = range.intersect(TimeRange::new(first, last));
                if !part.is_empty() {
                    stones.push((u64::from(id), part.min, part.max));
                }
            }
        }
        let mut records = Records::new(self.options.wal.compression);
        for part in stones.chunks(STONES) {
            record::put_tombstones(records.out(), part);
            records.end();
        }
        let ticket = self.wal.append(&mut records)?;
        for (id, min, max) in stones {
            if let Ok(id) = u32::try_from(id) {
                self.head.delete(id, min, max)?;
            }
        }
        self.delete_ooo(matchers, range)?;
        self.wal.settle(ticket)?;
        let layout = self.layout();
        let mut list = layout.blocks.clone();
        // What is noted down of some blocks holds, even if a later one cannot be marked.
        let marked = list.iter_mut().try_for_each(|block| {
            let part = range.intersect(block.meta().range());
            if !part.is_empty() {
                mark(&*self.options.fs, block, matchers, part)?;
            }
            Ok(())
        });
        let floor = layout.floor;
        drop(layout);
        self.publish(list, floor);
        marked
    }

    fn clean(&self) -> Result<(), Error> {
        let _alone = self.maintenance.lock();
        let started = Instant::now();
        let list = self.layout().blocks.clone();
        let mut dirty = list
            .into_iter()
            .filter(|b| !b.block.tombstones().is_empty());
        let cleaned = dirty.try_for_each(|block| self.clean_one(&block));
        let seconds = &self.stats.storage.cleanup_seconds;
        seconds.observe_duration(started.elapsed());
        cleaned
    }

    fn clean_one(&self, block: &Arc<LocalBlock>) -> Result<(), Error> {
        let old = block.meta();
        let mut meta = meta_of(Ulid::generate(), &[old]);
        // It takes the old one's place and is as new as that: one that was to be shipped still
        // is, and one that was shipped is not shipped twice.
        let shipped = self.hold.read().is_some() && !self.is_held(block.ulid());
        if !shipped {
            meta.compaction.level = 1;
            meta.compaction.sources = vec![meta.ulid];
        }
        self.replace_by(std::slice::from_ref(block), meta)?;
        Ok(())
    }

    fn snapshot(&self, skip_head: bool) -> Result<String, Error> {
        let _alone = self.maintenance.lock();
        // A part of a fresh name's random half.
        let random = Ulid::generate().random() as u64 >> 1;
        let name = snapshot_name(self.options.clock.now(), random);
        let dir = self.dir.join("snapshots").join(&name);
        let fs = &*self.options.fs;
        fs.create_dir_all(&dir)
            .map_err(Error::io("creating", &dir))?;
        let layout = self.layout();
        for block in &layout.blocks {
            let to = dir.join(block.ulid().to_string());
            link(fs, block.dir(), &to)?;
        }
        if !skip_head {
            let seen = self.head.snapshot();
            if let Some(range) = self.head.range() {
                let range = (range.min.max(layout.floor), range.max.saturating_add(1));
                self.write_head(&dir, range, Some(&seen))?;
            }
            self.snapshot_ooo(&dir)?;
        }
        fs.sync_dir(&dir).map_err(Error::io("syncing", &dir))?;
        Ok(name)
    }
}

/// The time in UTC, as people read it, and 16 random hexadecimal digits: as Prometheus names them.
fn snapshot_name(now: Millis, random: u64) -> String {
    let seconds = now.div_euclid(1000);
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Years that begin in March end with the odd day, in eras of 400 years from 0000-03-01.
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    let (h, m, s) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}{month:02}{day:02}T{h:02}{m:02}{s:02}Z-{random:016x}")
}

/// Notes down what is deleted of a block, and opens it anew.
fn mark(
    fs: &dyn Fs,
    block: &mut Arc<LocalBlock>,
    matchers: &[Matcher],
    range: TimeRange,
) -> Result<(), Error> {
    let dir = block.dir().to_owned();
    let failed = |e| Error::block(&dir, e);
    let ids = block.matching(matchers).map_err(failed)?;
    let mut stones: Tombstones = block.block.tombstones().clone();
    let mut any = false;
    block
        .entries(&ids, range, |id, _, chunks| {
            if let (Some(first), Some(last)) = (chunks.first(), chunks.last()) {
                let part = range.intersect(TimeRange::new(first.min, last.max));
                stones.add(id.into(), part);
                any = true;
            }
            Ok(())
        })
        .map_err(failed)?;
    if !any {
        return Ok(());
    }
    let mut meta: Meta = block.meta().clone();
    meta.stats.num_tombstones = stones.len() as u64;
    let written = stones
        .write_on(fs, &dir)
        .and_then(|()| meta.write_on(fs, &dir));
    // Even what failed may be there: what is on the disk counts.
    *block = Arc::new(LocalBlock::open(fs, &dir)?);
    written.map_err(failed)
}

/// Links all files of a block's folder into another folder.
fn link(fs: &dyn Fs, from: &Path, to: &Path) -> Result<(), Error> {
    fs.create_dir_all(to).map_err(Error::io("creating", to))?;
    for entry in std::fs::read_dir(from).map_err(Error::io("listing", from))? {
        let path = entry.map_err(Error::io("listing", from))?.path();
        let Some(name) = path.file_name() else {
            continue;
        };
        match path.is_dir() {
            true => link(fs, &path, &to.join(name))?,
            false => fs
                .link(&path, &to.join(name))
                .map_err(Error::io("linking", &path))?,
        }
    }
    fs.sync_dir(to).map_err(Error::io("syncing", to))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshots_are_named_by_time() {
        for (now, want) in [
            (0, "19700101T000000Z-0000000000000007"),
            (951_782_399_999, "20000228T235959Z-0000000000000007"),
            (951_782_400_000, "20000229T000000Z-0000000000000007"),
            (1_709_251_199_000, "20240229T235959Z-0000000000000007"),
            (1_709_251_200_000, "20240301T000000Z-0000000000000007"),
            (4_107_542_400_000, "21000301T000000Z-0000000000000007"),
            (-1, "19691231T235959Z-0000000000000007"),
        ] {
            assert_eq!(snapshot_name(now, 7), want);
        }
    }
}
