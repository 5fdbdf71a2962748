//! Which blocks are in the bucket.
//!
//! A [`Catalog`] lists the bucket, reads each `meta.json` once in its life (a folder on the local
//! disk remembers them over restarts), and tells which blocks are to be served: whole ones, of the
//! wanted time and labels, old enough to be consistent, not marked for deletion for too long, and
//! not covered by a block that was compacted from them. A restart costs one listing and what is
//! new.

mod disk;
mod filter;
mod find;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::time::{Duration, Instant};

use block::Meta;
use bytes::Bytes;
use metrics::{Counter, Family, Gauge, Histogram, Registry};
use model::time::Clock;
use model::{Cancel, Labels, Millis, TimeRange};
use parking_lot::Mutex;
use tokio::sync::watch;
use ulid::Ulid;

use crate::marks::{DeletionMark, NoCompactMark, NoDownsampleMark};
use crate::{Bucket, Error};

pub use filter::relabel_filter;

/// How the bucket is listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strategy {
    /// One flat listing of everything: a request for each 1000 objects, and marks are seen for
    /// nothing.
    #[default]
    Recursive,
    /// The same, unless that takes more requests than the top folders and then a few requests for each
    /// block, many at once: so it is where there are thousands of other objects in each block.
    Concurrent,
}

/// A moment, fixed or moving with the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// ms since the Unix epoch.
    At(Millis),
    /// So many ms before now (after, if negative).
    Ago(Millis),
}

impl Bound {
    fn at(self, now: Millis) -> Millis {
        match self {
            Bound::At(ms) => ms,
            Bound::Ago(ms) => now.saturating_sub(ms),
        }
    }
}

/// Whether blocks with these external labels are wanted.
pub type LabelFilter = Arc<dyn Fn(Ulid, &Labels) -> bool + Send + Sync>;

/// Is told, while a listing is read, how many of its blocks have been read, and of how many.
pub type OnRead = Arc<dyn Fn(usize, usize) + Send + Sync>;

/// What a [`Catalog`] looks for.
#[derive(Clone)]
pub struct CatalogOptions {
    /// How the bucket is listed.
    pub strategy: Strategy,
    /// Where meta.json files are remembered over restarts.
    pub cache_dir: Option<PathBuf>,
    /// Requests at once.
    pub concurrency: usize,
    /// Blocks must overlap these bounds.
    pub time: (Bound, Bound),
    /// Blocks must have such external labels.
    pub labels: Option<LabelFilter>,
    /// Blocks younger than this are left out, unless a compactor made them.
    pub consistency_delay: Duration,
    /// Blocks that were marked for deletion longer ago than this are left out. None: all stay.
    pub ignore_deletion_marks_delay: Option<Duration>,
    /// Leave out blocks whose sources are all in another block of the same resolution.
    pub deduplicate: bool,
    /// Read the marks that a compactor obeys, too.
    pub compaction_marks: bool,
    /// Time between two looks, in [`Catalog::run`].
    pub interval: Duration,
    /// Told how far a look is.
    pub on_read: Option<OnRead>,
    /// Where "now" comes from.
    pub clock: Arc<dyn Clock>,
}

impl Default for CatalogOptions {
    /// What a store serves: everything, marks obeyed after 24 h, a look every 15 minutes.
    fn default() -> Self {
        Self {
            strategy: Strategy::default(),
            cache_dir: None,
            concurrency: 32,
            time: (Bound::At(Millis::MIN), Bound::At(Millis::MAX)),
            labels: None,
            consistency_delay: Duration::ZERO,
            ignore_deletion_marks_delay: Some(Duration::from_secs(24 * 3600)),
            deduplicate: true,
            compaction_marks: false,
            interval: Duration::from_secs(15 * 60),
            on_read: None,
            clock: Arc::new(model::time::WallClock),
        }
    }
}

/// A block in the bucket.
#[derive(Debug, PartialEq)]
pub struct CatalogBlock {
    /// Its meta.json.
    pub meta: Meta,
    /// Its external labels.
    pub labels: Labels,
    /// Its marks, as far as they were looked for.
    pub marks: Marks,
}

impl CatalogBlock {
    /// Its name.
    pub fn ulid(&self) -> Ulid {
        self.meta.ulid
    }

    /// The timestamps that can be in it.
    pub fn range(&self) -> TimeRange {
        self.meta.range()
    }

    /// The size of one of its files, bytes, if the meta.json says it.
    pub fn file_size(&self, rel_path: &str) -> Option<u64> {
        let files = &self.meta.thanos.as_ref()?.files;
        let file = files.iter().find(|f| f.rel_path == rel_path)?;
        Some(file.size_bytes).filter(|&n| n > 0)
    }
}

/// The marks of a block.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// It will be deleted.
    pub deletion: Option<DeletionMark>,
    /// It must not be compacted.
    pub no_compact: Option<NoCompactMark>,
    /// It must not be downsampled.
    pub no_downsample: Option<NoDownsampleMark>,
}

/// A folder that looks like a block without meta.json: being uploaded or deleted, or left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partial {
    /// Its name.
    pub ulid: Ulid,
    /// When its newest object was written, ms; none if the strategy does not tell.
    pub modified: Option<Millis>,
}

/// What the last look found.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The blocks to be served, by time.
    pub blocks: Vec<Arc<CatalogBlock>>,
    /// Blocks that may hold data but whose meta.json or marks cannot be read, and why. Whoever
    /// answers from here has to say that they are missing.
    pub unreadable: Vec<(Ulid, String)>,
    /// Why one of them could not be read this time, though it may be whole.
    pub incomplete: Option<String>,
    /// Folders without meta.json.
    pub partial: Vec<Partial>,
    /// When it was taken, ms; none before the first look.
    pub taken: Option<Millis>,
}

/// What a look changed.
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// Blocks that are served from now on.
    pub added: Vec<Arc<CatalogBlock>>,
    /// Blocks that are not served any more. A block whose marks changed is in both lists.
    pub removed: Vec<Arc<CatalogBlock>>,
}

/// Every mark that was read, by block and name of its file: its entity tag and its bytes.
type KnownMarks = HashMap<(Ulid, &'static str), (String, Bytes)>;

/// Knows the blocks of a bucket.
pub struct Catalog {
    bucket: Arc<Bucket>,
    options: CatalogOptions,
    /// Every meta.json that was read, of blocks that are still there. They never change.
    metas: Mutex<BTreeMap<Ulid, Arc<Meta>>>,
    marks: Mutex<KnownMarks>,
    /// Whether everything is listed, and not only the top folders.
    flat: AtomicBool,
    /// How many objects the last listing of everything had,
    listed: AtomicUsize,
    /// and how many bytes the indexes among them.
    indexes: Mutex<HashMap<Ulid, u64>>,
    current: watch::Sender<Arc<Snapshot>>,
    turn: tokio::sync::Mutex<()>,
    meters: Meters,
}

struct Meters {
    syncs: Counter,
    failures: Counter,
    duration: Histogram,
    synced: Family<Gauge, 1>,
}

impl Catalog {
    /// A catalog that has not looked yet.
    pub fn new(
        bucket: Arc<Bucket>,
        options: CatalogOptions,
        registry: &Registry,
    ) -> Result<Self, Error> {
        let meters = Meters {
            syncs: registry.counter(
                "thanos_blocks_meta_syncs_total",
                "Total blocks metadata synchronization attempts.",
            )?,
            failures: registry.counter(
                "thanos_blocks_meta_sync_failures_total",
                "Total blocks metadata synchronization failures.",
            )?,
            duration: registry.histogram(
                "thanos_blocks_meta_sync_duration_seconds",
                "Duration of the blocks metadata synchronization in seconds.",
                &[0.01, 1.0, 10.0, 100.0, 300.0, 600.0, 1000.0],
            )?,
            synced: registry.gauges(
                "thanos_blocks_meta_synced",
                "Number of block metadata synced, by what became of them.",
                ["state"],
            )?,
        };
        Ok(Self {
            bucket,
            options,
            metas: Mutex::default(),
            marks: Mutex::default(),
            flat: AtomicBool::new(true),
            listed: AtomicUsize::new(0),
            indexes: Mutex::default(),
            current: watch::Sender::new(Arc::default()),
            turn: tokio::sync::Mutex::new(()),
            meters,
        })
    }

    /// The bucket.
    pub fn bucket(&self) -> &Arc<Bucket> {
        &self.bucket
    }

    /// How many bytes the index of a block has, if its meta.json or a listing said it.
    pub fn index_size(&self, block: &CatalogBlock) -> Option<u64> {
        let said = block.file_size(block::index::FILE);
        said.or_else(|| self.indexes.lock().get(&block.ulid()).copied())
    }

    /// What the last look found.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.current.borrow())
    }

    /// Told of every look that changed something.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.current.subscribe()
    }

    /// Looks once. If the listing itself fails, everything stays as it was.
    pub async fn sync(&self) -> Result<Change, Error> {
        let _turn = self.turn.lock().await;
        let start = Instant::now();
        self.meters.syncs.inc();
        let looked = self.look().await;
        self.meters.duration.observe_duration(start.elapsed());
        if looked.is_err() || !self.snapshot().unreadable.is_empty() {
            self.meters.failures.inc();
        }
        looked
    }

    /// Before the first look: the blocks that an earlier process knew, from the local disk. The snapshot says
    /// that nobody has looked yet, and marks are not known. Gives how many blocks these are.
    pub async fn recall(&self) -> usize {
        let Some(dir) = self.options.cache_dir.clone() else {
            return 0;
        };
        // If the task dies, nothing is known.
        let loaded = tokio::task::spawn_blocking(move || disk::load_all(&dir)).await;
        let metas = loaded.unwrap_or_default().into_iter().map(Arc::new);
        let found = find::Found {
            blocks: metas.map(|meta| (meta, Marks::default())).collect(),
            ..find::Found::default()
        };
        let (known, _) = self.choose(found, self.options.clock.now());
        let (count, known) = (known.blocks.len(), Arc::new(known));
        let before_a_look = |current: &mut Arc<Snapshot>| {
            let first = current.taken.is_none();
            if first {
                *current = known;
            }
            first
        };
        match self.current.send_if_modified(before_a_look) {
            true => count,
            false => 0,
        }
    }

    /// Looks again and again until `stop` is cancelled; after a failure sooner.
    pub async fn run(&self, stop: Cancel) {
        let mut pause = Duration::from_secs(1);
        while !stop.is_cancelled() {
            let wait = match self.sync().await {
                Ok(change) => {
                    pause = Duration::from_secs(1);
                    let (added, removed) = (change.added.len(), change.removed.len());
                    if added + removed > 0 {
                        tracing::info!(added, removed, "blocks in the bucket changed");
                    }
                    self.options.interval
                }
                Err(e) => {
                    tracing::error!("listing the bucket: {e}");
                    pause = (pause * 2).min(Duration::from_secs(60));
                    pause.min(self.options.interval)
                }
            };
            let _ = tokio::time::timeout(wait, stop.cancelled()).await;
        }
    }

    async fn look(&self) -> Result<Change, Error> {
        let now = self.options.clock.now();
        let found = self.find().await?;
        let (mut next, counts) = self.choose(found, now);
        next.taken = Some(now);
        for (state, count) in counts {
            self.meters.synced.with(&[state]).set(count as i64);
        }
        let before = self.snapshot();
        let change = difference(&before, &mut next);
        self.current.send_replace(Arc::new(next));
        Ok(change)
    }
}

/// What is new and what is gone; blocks that stayed the same are taken over, so that they keep
/// their identity.
fn difference(before: &Snapshot, next: &mut Snapshot) -> Change {
    let mut old: BTreeMap<Ulid, &Arc<CatalogBlock>> =
        before.blocks.iter().map(|b| (b.ulid(), b)).collect();
    let mut change = Change::default();
    for block in &mut next.blocks {
        match old.remove(&block.ulid()) {
            Some(same) if **same == **block => *block = Arc::clone(same),
            Some(other) => {
                change.removed.push(Arc::clone(other));
                change.added.push(Arc::clone(block));
            }
            None => change.added.push(Arc::clone(block)),
        }
    }
    change.removed.extend(old.into_values().cloned());
    change
}
