//! The database: head, log and local blocks as one sink and one source.

mod admin;
mod blocks;
mod entries;
mod local;
mod maintain;
mod merge;
mod ooo;
#[cfg(test)]
mod ooo_tests;
mod plan;
mod quarantine;
mod read_only;
mod report;
mod retention;
mod sink;
#[cfg(test)]
mod tests;
mod view;

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use model::report::LostBlock;
use model::{Appended, Batch, Cancel, Labels, Millis, SeriesRef, SinkError, TimeRange};
use parking_lot::{Mutex, RwLock};

use crate::fs::{Fs, FsExt as _};
use crate::head::{Head, HeadOptions};
use crate::keeper::Keepers;
use crate::lock::Lock;
use crate::options::{Hold, Readers};
use crate::replay::{self, Replayed};
use crate::wal::{SyncMode, Wal};
use crate::{Error, Options, Stats};
use local::LocalBlock;
use maintain::Pending;
pub use maintain::Round;
pub use read_only::ReadOnly;
pub use retention::{Retention, Space};

/// A data folder of Prometheus' layout, opened for writing by this process alone.
///
/// Dropping it stops its threads and makes the log power-safe. Views and rows that are still held
/// stay valid.
pub struct Db {
    // Dropped in this order: threads end first, the lock goes last.
    _keepers: Keepers,
    inner: Arc<Inner>,
    replayed: Replayed,
    _lock: Option<Lock>,
}

/// The blocks, and from when on the head answers. Replaced as a whole; views hold the one they
/// began with.
#[derive(Default)]
pub(crate) struct Layout {
    /// Ascending by time.
    blocks: Vec<Arc<LocalBlock>>,
    /// What is older is in blocks.
    floor: Millis,
}

pub(crate) struct Inner {
    dir: PathBuf,
    layout: RwLock<Arc<Layout>>,
    options: Options,
    head: Arc<Head>,
    wal: Wal,
    stats: Arc<Stats>,
    hold: RwLock<Option<Hold>>,
    readers: RwLock<Option<Arc<dyn Readers>>>,
    retention: Mutex<Retention>,
    /// Blocks of which it was said that they are kept though they are beyond the retention.
    told: Mutex<BTreeSet<ulid::Ulid>>,
    /// Blocks that a full disk took before they were shipped, newest last.
    lost: Mutex<Vec<LostBlock>>,
    /// One round of maintenance at a time.
    maintenance: Mutex<Pending>,
    /// Lists of blocks that were replaced; queries may still read by them.
    retired: Mutex<Vec<Weak<Layout>>>,
    /// References that are no series of the head any more, but may stand in the log up to a
    /// segment: their labels stay in checkpoints until that segment goes.
    expiry: Mutex<HashMap<u64, u64>>,
    renamed: Renamed,
    closed: AtomicBool,
    /// Why nothing is taken for now.
    refusal: RwLock<Option<String>>,
    /// Ends a merge that is running when the database is closed.
    cancel: Cancel,
}

/// References of the log that stand for series of other numbers: those were made anew under it before
/// the last start.
struct Renamed {
    to: HashMap<u64, u32>,
    /// No sample under such a reference is newer, but for what came out of order.
    newest: Millis,
}

impl Renamed {
    /// Whether what the log has under this reference is still needed: the head has no series of that
    /// number, but it has the samples.
    fn is_needed(&self, reference: u64, min: Millis, head: &Head) -> bool {
        self.to.get(&reference).is_some_and(|&id| {
            (min <= self.newest || head.ooo_range().is_some()) && head.has(id.into())
        })
    }
}

impl Db {
    /// Opens the data folder `dir`, creating it if need be: takes the lock, clears up what a crash
    /// left half done, replays the log.
    pub fn open(dir: impl Into<PathBuf>, options: Options) -> Result<Self, Error> {
        let dir = dir.into();
        options.check()?;
        let fs = Arc::clone(&options.fs);
        fs.create_dir_all(&dir)
            .map_err(Error::io("creating", &dir))?;
        let stats = Arc::clone(&options.stats);
        let lock = options.lock.then(|| Lock::take(&fs, &dir)).transpose()?;
        stats.clean_start.set(match &lock {
            None => -1,
            Some(lock) if lock.replaced => 0,
            Some(_) => 1,
        });
        remove_leftovers(&*fs, &dir)?;
        let head = Arc::new(Head::new(
            HeadOptions {
                chunk_range: options.min_block,
                future_limit: options.future_limit,
                clock: Arc::clone(&options.clock),
                compression: options.wal.compression,
                starts: options.starts,
                xor2: options.xor2,
                exemplars: options.max_exemplars,
                max_series: options.max_series,
            },
            Arc::clone(&stats),
        ));
        let found = blocks::load(&*fs, &dir, &[], blocks::When::Opening)?;
        let newest = blocks::end(&found.blocks);
        head.raise_min_valid(newest);
        let chunks_dir = dir.join("chunks_head");
        let mut damaged_files = Vec::new();
        let filed = head.open_files(&chunks_dir, Arc::clone(&fs), newest, &mut damaged_files)?;
        let wal_dir = dir.join("wal");
        let progress = options.progress.clone();
        let mut replayed = replay::replay(&*fs, &wal_dir, &head, filed, newest, &|p| {
            if let Some(progress) = &progress {
                progress(p);
            }
        })?;
        ooo::open(&dir, &head, &options, &mut replayed)?;
        replayed.damaged.extend(found.damaged);
        replayed.damaged.append(&mut damaged_files);
        let wal = Wal::open(
            &wal_dir,
            options.wal.clone(),
            Arc::clone(&fs),
            Arc::clone(&stats.wal),
        )?;
        retire_snapshots(&*fs, &dir, &replayed)?;
        let renamed = Renamed {
            to: replayed.renamed.clone(),
            newest: head.range().map_or(Millis::MIN, |r| r.max),
        };
        let inner = Arc::new(Inner {
            dir,
            layout: RwLock::default(),
            retired: Mutex::default(),
            expiry: Mutex::default(),
            renamed,
            head,
            wal,
            stats,
            hold: RwLock::new(options.hold.clone()),
            readers: RwLock::default(),
            retention: Mutex::default(),
            told: Mutex::default(),
            lost: Mutex::default(),
            maintenance: Mutex::default(),
            closed: AtomicBool::new(false),
            refusal: RwLock::default(),
            cancel: Cancel::default(),
            options,
        });
        inner.publish(found.blocks, newest);
        inner.set_retention(inner.options.retention);
        quarantine::count(&inner)?;
        Ok(Self {
            _keepers: keepers(&inner),
            inner,
            replayed,
            _lock: lock,
        })
    }

    /// The data folder.
    pub fn dir(&self) -> &Path {
        &self.inner.dir
    }

    /// What the replay found when the database was opened.
    pub fn replayed(&self) -> &Replayed {
        &self.replayed
    }

    /// What it counts.
    pub fn stats(&self) -> &Arc<Stats> {
        &self.inner.stats
    }

    /// From the oldest to the newest sample of the head.
    pub fn head_range(&self) -> Option<TimeRange> {
        self.inner.head.range()
    }

    /// Bytes of memory that the head holds, roughly.
    pub fn head_bytes(&self) -> usize {
        self.inner.head.bytes()
    }

    /// Takes neither samples nor new series from now on, and says why: they are refused before the
    /// log is written. None: they are taken again.
    pub fn refuse(&self, why: Option<String>) {
        *self.inner.refusal.write() = why;
    }

    /// Which blocks must stay from now on.
    pub fn set_hold(&self, hold: Option<Hold>) {
        *self.inner.hold.write() = hold;
    }

    /// Who reads the log on: what they still need stays for a while.
    pub fn set_readers(&self, readers: Arc<dyn Readers>) {
        *self.inner.readers.write() = Some(readers);
    }

    /// How long and how much is kept from now on.
    pub fn set_retention(&self, retention: Retention) {
        self.inner.set_retention(retention);
    }

    /// How long and how much is kept.
    pub fn retention(&self) -> Retention {
        *self.inner.retention.lock()
    }

    /// The references of these series, in order; new ones are made.
    pub fn resolve_now(&self, labels: &[Labels]) -> Result<Vec<SeriesRef>, SinkError> {
        self.inner.resolve(labels)
    }

    /// Appends a batch.
    pub fn append_now(&self, batch: Batch) -> Result<Appended, SinkError> {
        self.inner.append(batch)
    }

    /// Appends samples of any series as one batch: for tests and scripts.
    pub fn append_samples(&self, samples: &[(Labels, Millis, f64)]) -> Result<Appended, SinkError> {
        let labels: Vec<Labels> = samples.iter().map(|s| s.0.clone()).collect();
        let refs = self.resolve_now(&labels)?;
        let mut batch = Batch::default();
        for (r, s) in refs.into_iter().zip(samples) {
            batch.push(r, s.1, s.2);
        }
        self.append_now(batch)
    }

    /// Makes everything appended so far power-safe.
    pub fn sync(&self) -> Result<(), Error> {
        self.inner.wal.sync()?;
        self.inner.sync_ooo()
    }

    /// How many exemplars are kept from now on.
    pub fn set_max_exemplars(&self, max: usize) {
        self.inner.head.exemplars.resize(max);
    }

    /// Refuses appends from now on, writes finished chunks to files and makes the log power-safe.
    pub fn close(&self) -> Result<(), Error> {
        self.inner.closed.store(true, Ordering::Release);
        self.inner.cancel.cancel();
        {
            let _alone = self.inner.maintenance.lock();
            self.inner.save_chunks();
        }
        self.inner.wal.sync()?;
        self.inner.sync_ooo()
    }
}

impl Drop for Db {
    fn drop(&mut self) {
        if let Err(e) = self.close() {
            tracing::error!(error = %e, "the log could not be synced");
        }
    }
}

impl Inner {
    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    fn open(&self) -> Result<(), SinkError> {
        if self.is_closed() {
            return Err(Error::Closed.into());
        }
        match &*self.refusal.read() {
            None => Ok(()),
            Some(why) => {
                self.stats.appends_refused.inc();
                Err(Error::Limit(why.clone()).into())
            }
        }
    }

    fn set_retention(&self, retention: Retention) {
        let (seconds, bytes, percent) = &self.stats.storage.limits;
        seconds.set(retention.time / 1000);
        bytes.set(i64::try_from(retention.bytes).unwrap_or(i64::MAX));
        percent.set(retention.percent);
        *self.retention.lock() = retention;
    }

    fn resolve(&self, labels: &[Labels]) -> Result<Vec<SeriesRef>, SinkError> {
        self.open()?;
        Ok(self.head.resolve(labels, Some(&self.wal))?)
    }

    fn append(&self, batch: Batch) -> Result<Appended, SinkError> {
        self.open()?;
        self.head.append(batch, Some(&self.wal))
    }

    fn sync_interval(&self) -> Option<std::time::Duration> {
        match self.options.wal.sync {
            SyncMode::Interval(every) => Some(every),
            // Series that were resolved and got no sample yet are worth a sync now and then.
            SyncMode::Always => Some(std::time::Duration::from_secs(1)),
        }
    }
}

/// One thread makes the log power-safe, one does the maintenance.
fn keepers(inner: &Arc<Inner>) -> Keepers {
    let mut keepers = Keepers::default();
    if let Some(every) = inner.sync_interval() {
        keepers.spawn("wal-sync", inner, every, |inner| {
            if let Err(e) = inner.wal.sync().and_then(|()| inner.sync_ooo()) {
                tracing::error!(error = %e, "the log could not be made power-safe");
            }
        });
    }
    if let Some(every) = inner.options.maintain_every {
        keepers.spawn("tsdb-maintain", inner, every, |inner| {
            if let Err(e) = inner.maintain() {
                tracing::error!(error = %e, "maintenance failed and will be tried again");
            }
        });
    }
    keepers
}

/// Removes folders that a crash left half written or half deleted.
fn remove_leftovers(fs: &dyn Fs, dir: &Path) -> Result<(), Error> {
    for entry in std::fs::read_dir(dir).map_err(Error::io("listing", dir))? {
        let path = entry.map_err(Error::io("listing", dir))?.path();
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or("");
        let half = [".tmp-for-creation", ".tmp-for-deletion", ".tmp"]
            .iter()
            .any(|suffix| name.ends_with(suffix));
        if half && path.is_dir() {
            tracing::info!(folder = %path.display(), "removing what an interrupted run left behind");
            fs.remove_dir_all(&path)
                .map_err(Error::io("removing", &path))?;
        }
    }
    Ok(())
}

/// Snapshots of the head that a Prometheus left hold nothing that its log does not hold; once the log
/// is read and written on they are stale. After damage they are set aside, not removed.
fn retire_snapshots(fs: &dyn Fs, dir: &Path, replayed: &Replayed) -> Result<(), Error> {
    for entry in std::fs::read_dir(dir).map_err(Error::io("listing", dir))? {
        let path = entry.map_err(Error::io("listing", dir))?.path();
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or("");
        let aside = name.contains(".bad");
        if !name.starts_with("chunk_snapshot.") || aside || !path.is_dir() {
            continue;
        }
        let empty = std::fs::read_dir(&path)
            .map_err(Error::io("listing", &path))?
            .next()
            .is_none();
        if empty {
            continue;
        }
        if replayed.damaged.is_empty() {
            fs.remove_dir_all(&path)
                .map_err(Error::io("removing", &path))?;
        } else {
            let mut aside = path.with_file_name(format!("{name}.bad"));
            let mut n = 0;
            while aside.exists() {
                n += 1;
                aside = path.with_file_name(format!("{name}.bad.{n}"));
            }
            fs.rename(&path, &aside)
                .map_err(Error::io("renaming", &path))?;
        }
    }
    Ok(())
}
