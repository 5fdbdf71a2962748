//! The blocks in the data folder: found, opened, deleted.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use model::Millis;
use model::source::Kind;
use ulid::Ulid;

use super::local::{self, LocalBlock};
use super::{Inner, Layout};
use crate::Error;
use crate::fs::{Fs, FsExt as _};

/// What the name of a folder ends with while it is being deleted.
const DELETING: &str = ".tmp-for-deletion";

/// Opens the blocks of a data folder. Those that `open` has are taken from there. A damaged one is
/// set aside as `<ulid>.corrupt`; those from which another was made are deleted.
pub(super) fn load(
    fs: &dyn Fs,
    dir: &Path,
    open: &[Arc<LocalBlock>],
    damaged: &mut Vec<String>,
) -> Result<Vec<Arc<LocalBlock>>, Error> {
    let known: HashMap<Ulid, &Arc<LocalBlock>> = open.iter().map(|b| (b.ulid(), b)).collect();
    let mut blocks: Vec<Arc<LocalBlock>> = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(Error::io("listing", dir))? {
        let path = entry.map_err(Error::io("listing", dir))?.path();
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or("");
        let Ok(ulid) = Ulid::from_string(name) else {
            continue;
        };
        if !path.is_dir() {
            continue;
        }
        if let Some(&block) = known.get(&ulid) {
            blocks.push(Arc::clone(block));
            continue;
        }
        match LocalBlock::open(&path) {
            Ok(block) => blocks.push(Arc::new(block)),
            Err(e) if matches!(e.kind(), Kind::Corrupt | Kind::NotFound) => {
                let aside = path.with_extension("corrupt");
                tracing::error!(error = %e, aside = %aside.display(), "a damaged block is set aside");
                fs.rename(&path, &aside)
                    .map_err(Error::io("renaming", &path))?;
                damaged.push(e.to_string());
            }
            Err(e) => return Err(e),
        }
    }
    // A crash between writing a merged block and deleting what it was made of.
    let parents: HashSet<Ulid> = blocks
        .iter()
        .flat_map(|b| &b.meta().compaction.parents)
        .map(|p| p.ulid)
        .collect();
    let (gone, mut left): (Vec<_>, Vec<_>) = blocks
        .into_iter()
        .partition(|b| parents.contains(&b.ulid()));
    for block in gone {
        delete(fs, block.dir())?;
    }
    left.sort_by_key(|b| (b.meta().min_time, b.meta().max_time, b.ulid()));
    Ok(left)
}

/// Deletes a block's folder: first out of sight, then from the disk.
pub(super) fn delete(fs: &dyn Fs, dir: &Path) -> Result<(), Error> {
    let mut name = dir.file_name().unwrap_or_default().to_owned();
    name.push(DELETING);
    let going = dir.with_file_name(name);
    fs.rename(dir, &going).map_err(Error::io("renaming", dir))?;
    if let Some(parent) = dir.parent() {
        fs.sync_dir(parent).map_err(Error::io("syncing", parent))?;
    }
    fs.remove_dir_all(&going)
        .map_err(Error::io("removing", &going))
}

/// Where the newest block that was cut in order ends: the head answers from there.
pub(super) fn end(blocks: &[Arc<LocalBlock>]) -> Millis {
    let in_order = blocks.iter().filter(|b| b.meta().compaction.in_order());
    let ends = in_order.map(|b| b.meta().max_time);
    ends.max().unwrap_or(Millis::MIN)
}

impl Inner {
    /// Puts another list of blocks into place for all views that begin from now on.
    pub(super) fn publish(&self, blocks: Vec<Arc<LocalBlock>>, floor: Millis) {
        self.stats.blocks.set(blocks.len() as i64);
        self.stats
            .blocks_bytes
            .set(blocks.iter().map(|b| b.bytes as i64).sum());
        let lowest = blocks.first().map(|b| b.meta().min_time);
        if let Some(lowest) = lowest.or(self.head.range().map(|r| r.min)) {
            self.stats.lowest.set(lowest);
        }
        let new = Arc::new(Layout { blocks, floor });
        let old = std::mem::replace(&mut *self.layout.write(), new);
        let mut retired = self.retired.lock();
        retired.retain(|layout| layout.strong_count() > 0);
        retired.push(Arc::downgrade(&old));
    }

    /// Waits until no query reads by an older list of blocks. False if that takes too long.
    pub(super) fn settle(&self) -> bool {
        let deadline = std::time::Instant::now() + self.options.patience;
        loop {
            let mut retired = self.retired.lock();
            retired.retain(|layout| layout.strong_count() > 0);
            if retired.is_empty() {
                return true;
            }
            drop(retired);
            if std::time::Instant::now() >= deadline || self.is_closed() {
                return false;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    pub(super) fn layout(&self) -> Arc<Layout> {
        Arc::clone(&self.layout.read())
    }

    fn held(&self, ulid: Ulid) -> bool {
        self.hold.read().as_ref().is_some_and(|hold| hold(ulid))
    }

    /// Whether a block must stay as it is for now.
    pub(super) fn must_stay(&self, block: &LocalBlock) -> bool {
        self.held(block.ulid())
    }

    /// Deletes what is too old or too much; the names of what went.
    pub(super) fn retain(&self) -> Result<Vec<Ulid>, Error> {
        let layout = self.layout();
        let mut gone: Vec<Arc<LocalBlock>> = Vec::new();
        let limit = self.options.retention_time;
        if limit > 0 {
            let newest = end(&layout.blocks).max(self.head.believed_max().unwrap_or(Millis::MIN));
            for block in &layout.blocks {
                if newest.saturating_sub(block.meta().max_time) >= limit && !self.must_stay(block) {
                    self.stats.time_retentions.inc();
                    gone.push(Arc::clone(block));
                }
            }
        }
        if self.options.retention_bytes > 0 {
            let mut newest_first = layout.blocks.clone();
            newest_first.sort_by_key(|b| std::cmp::Reverse(b.meta().max_time));
            let mut sum = local::size(self.wal.dir())?.saturating_add(self.ooo_log_size()?);
            for block in newest_first {
                sum = sum.saturating_add(block.bytes);
                if sum > self.options.retention_bytes
                    && !gone.iter().any(|g| g.ulid() == block.ulid())
                {
                    if self.must_stay(&block) {
                        tracing::error!(block = %block.ulid(), "deleted for want of space before it was shipped");
                    }
                    self.stats.size_retentions.inc();
                    gone.push(block);
                }
            }
        }
        if gone.is_empty() {
            return Ok(Vec::new());
        }
        let ulids: Vec<Ulid> = gone.iter().map(|b| b.ulid()).collect();
        let left = layout.blocks.iter().filter(|b| !ulids.contains(&b.ulid()));
        self.publish(left.cloned().collect(), layout.floor);
        // Whoever still reads them has their files open.
        for block in gone {
            delete(&*self.options.fs, block.dir())?;
        }
        Ok(ulids)
    }
}
