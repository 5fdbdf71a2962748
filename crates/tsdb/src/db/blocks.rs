//! The blocks in the data folder: found, opened, deleted.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use model::Millis;
use model::source::Kind;
use ulid::Ulid;

use super::local::LocalBlock;
use super::{Inner, Layout, quarantine};
use crate::Error;
use crate::fs::{Fs, FsExt as _};

/// What the name of a folder ends with while it is being deleted.
const DELETING: &str = ".tmp-for-deletion";

/// A block that cannot be read is still being copied here while its files are younger.
const ARRIVING: Duration = Duration::from_secs(300);

/// Whether blocks may be arriving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    /// The database is being opened: what is broken now stays broken.
    Opening,
    /// Somebody may be copying a block into the folder.
    Running,
}

/// The blocks of a data folder.
pub(super) struct Found {
    /// Ascending by time.
    pub(super) blocks: Vec<Arc<LocalBlock>>,
    /// What is wrong with those that were set aside.
    pub(super) damaged: Vec<String>,
}

/// Opens the blocks of a data folder. Those that `open` has are taken from there. One that cannot
/// be read is set aside; those from which another was made are deleted, as are those that say of
/// themselves that they may go.
pub(super) fn load(
    fs: &dyn Fs,
    dir: &Path,
    open: &[Arc<LocalBlock>],
    when: When,
) -> Result<Found, Error> {
    let known: HashMap<Ulid, &Arc<LocalBlock>> = open.iter().map(|b| (b.ulid(), b)).collect();
    let mut blocks: Vec<Arc<LocalBlock>> = Vec::new();
    let mut broken = Vec::new();
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
        match LocalBlock::open(fs, &path) {
            Ok(block) if block.ulid() == ulid => blocks.push(Arc::new(block)),
            Ok(block) => {
                let reason = format!("its meta.json names another block, {}", block.ulid());
                let error = Error::block(&path, block::BlockError::Corrupt(reason));
                broken.push((path, ulid, error));
            }
            Err(e) if matches!(e.kind(), Kind::Corrupt | Kind::NotFound) => {
                broken.push((path, ulid, e));
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
        .partition(|b| parents.contains(&b.ulid()) || b.meta().compaction.deletable);
    for block in gone {
        tracing::info!(block = %block.ulid(), "deleting a block that another has taken the place of");
        delete(fs, block.dir())?;
    }
    let mut damaged = Vec::new();
    for (path, ulid, error) in broken {
        if parents.contains(&ulid) {
            delete(fs, &path)?;
        } else if when == When::Opening || !is_arriving(&path) {
            quarantine::set_aside(fs, &path, ulid, &error)?;
            damaged.push(error.to_string());
        }
    }
    left.sort_by_key(|b| (b.meta().min_time, b.meta().max_time, b.ulid()));
    Ok(Found {
        blocks: left,
        damaged,
    })
}

/// Whether a file of the folder was written a short while ago.
fn is_arriving(dir: &Path) -> bool {
    fn newest(dir: &Path) -> Option<SystemTime> {
        let own = std::fs::metadata(dir).and_then(|m| m.modified()).ok();
        let entries = std::fs::read_dir(dir).ok()?.flatten();
        let files = entries.filter_map(|e| {
            let meta = e.metadata().ok()?;
            match meta.is_dir() {
                true => newest(&e.path()),
                false => meta.modified().ok(),
            }
        });
        files.chain(own).max()
    }
    // A time in the future is no age.
    newest(dir).is_some_and(|t| t.elapsed().unwrap_or_default() < ARRIVING)
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

/// Where the newest block that was cut in order ends, of all series: the head answers from there.
pub(super) fn end(blocks: &[Arc<LocalBlock>]) -> Millis {
    let in_order = blocks.iter().filter(|b| b.meta().compaction.in_order());
    let ends = in_order.map(|b| b.meta().max_time);
    ends.max().unwrap_or(Millis::MIN)
}

impl Inner {
    /// Puts another list of blocks into place for all views that begin from now on.
    pub(super) fn publish(&self, blocks: Vec<Arc<LocalBlock>>, floor: Millis) {
        let stats = &self.stats.storage;
        stats.blocks.set(blocks.len() as i64);
        stats.bytes.set(blocks.iter().map(|b| b.bytes as i64).sum());
        let symbols = blocks.iter().map(|b| b.block.memory() as i64);
        stats.symbols.set(symbols.sum());
        let lowest = blocks.first().map(|b| b.meta().min_time);
        if let Some(lowest) = lowest.or(self.head.range().map(|r| r.min)) {
            stats.lowest.0.set(lowest);
            stats.lowest.1.set(lowest.div_euclid(1000));
        }
        let new = Arc::new(Layout { blocks, floor });
        let old = std::mem::replace(&mut *self.layout.write(), new);
        let mut retired = self.retired.lock();
        retired.retain(|layout| layout.strong_count() > 0);
        retired.push(Arc::downgrade(&old));
    }

    /// Looks which blocks are in the folder now: some may have been put there, or taken away.
    pub(super) fn reload(&self) -> Result<(), Error> {
        self.stats.storage.reloads.inc();
        let reload = || {
            let layout = self.layout();
            let found = load(&*self.options.fs, &self.dir, &layout.blocks, When::Running)?;
            let same = found.blocks.len() == layout.blocks.len()
                && found
                    .blocks
                    .iter()
                    .zip(&layout.blocks)
                    .all(|(a, b)| Arc::ptr_eq(a, b));
            if !same {
                let count = found.blocks.len();
                tracing::info!(blocks = count, "the blocks in the folder have changed");
                self.publish(found.blocks, layout.floor);
            }
            quarantine::count(self)
        };
        reload().inspect_err(|_| self.stats.storage.reloads_failed.inc())
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
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub(super) fn layout(&self) -> Arc<Layout> {
        Arc::clone(&self.layout.read())
    }

    /// Whether a block is still to be shipped.
    pub(super) fn is_held(&self, ulid: Ulid) -> bool {
        self.hold.read().as_ref().is_some_and(|hold| hold(ulid))
    }

    /// Whether a block must not be merged yet.
    pub(super) fn must_wait(&self, block: &LocalBlock) -> bool {
        let delayed = |ulid| self.options.delay.as_ref().is_some_and(|delay| delay(ulid));
        block.meta().compaction.level <= 1 && (self.is_held(block.ulid()) || delayed(block.ulid()))
    }

    /// Counts what is still to be shipped.
    pub(super) fn count_unshipped(&self) {
        let layout = self.layout();
        let unshipped = layout.blocks.iter().filter(|b| self.is_held(b.ulid()));
        let (mut count, mut oldest) = (0, u64::MAX);
        for block in unshipped {
            count += 1;
            oldest = oldest.min(block.ulid().timestamp_ms());
        }
        let now = u64::try_from(self.options.clock.now()).unwrap_or(0);
        let age = match count {
            0 => 0.0,
            _ => now.saturating_sub(oldest) as f64 / 1000.0,
        };
        self.stats.storage.unshipped.set(count);
        self.stats.storage.unshipped_age.set(age);
    }
}
