//! Deleting series, cleaning up after that, snapshots.

use std::future::ready;
use std::path::Path;
use std::sync::Arc;

use block::{Meta, Tombstones};
use model::report::Admin;
use model::{BoxFuture, Matcher, SourceError, TimeRange};
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
                self.head.delete(id, min, max);
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
                *block = mark(&*self.options.fs, block, matchers, part)?;
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
        let list = self.layout().blocks.clone();
        for block in list {
            if !block.block.tombstones().is_empty() {
                self.replace(&[block])?;
            }
        }
        Ok(())
    }

    fn snapshot(&self, skip_head: bool) -> Result<String, Error> {
        let _alone = self.maintenance.lock();
        let name = Ulid::generate().to_string();
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

/// Notes down what is deleted of a block, and opens it anew.
fn mark(
    fs: &dyn Fs,
    block: &Arc<LocalBlock>,
    matchers: &[Matcher],
    range: TimeRange,
) -> Result<Arc<LocalBlock>, Error> {
    let failed = |e| Error::block(block.dir(), e);
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
        return Ok(Arc::clone(block));
    }
    stones.write_on(fs, block.dir()).map_err(failed)?;
    let mut meta: Meta = block.meta().clone();
    meta.stats.num_tombstones = stones.len() as u64;
    meta.write_on(fs, block.dir()).map_err(failed)?;
    Ok(Arc::new(LocalBlock::open(block.dir())?))
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
