//! From a TSDB's directory into the bucket.
//!
//! The [`Shipper`] looks for finished blocks, oldest first, and uploads each: chunks, then index,
//! then `meta.json`, whose presence makes it a block. Whatever breaks off is picked up at the next
//! [`Shipper::sync`]: what is in the bucket already is not sent again, and a block that was
//! uploaded is known by `thanos.shipper.json`, which Thanos' sidecar reads and writes too.

mod local;
mod overlap;
mod state;

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use block::Meta;
use block::fs::{Fs, FsExt as _};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use metrics::{Counter, Gauge, Registry};
use model::time::Clock;
use model::{Cancel, Labels};
use parking_lot::RwLock;
use ulid::Ulid;

use crate::{Bucket, Error, Put, marks};
use local::Local;

/// Files of one block that are on their way at once.
const FILES_AT_ONCE: usize = 4;

/// Is told of each block that is in the bucket now, or that could not be brought there.
pub type OnSettled = Arc<dyn Fn(Ulid) + Send + Sync>;

/// How a [`Shipper`] works.
#[derive(Clone)]
pub struct ShipperOptions {
    /// The TSDB's directory.
    pub dir: PathBuf,
    /// The external labels as they are now; they may change with the configuration.
    pub labels: Arc<dyn Fn() -> Labels + Send + Sync>,
    /// Ship blocks of higher levels, too.
    pub upload_compacted: bool,
    /// Who ships: `sidecar`, `receive`, `ruler`.
    pub source: String,
    /// The name of the file that tells what was shipped.
    pub state_file: String,
    /// Time between two looks, in [`Shipper::run`].
    pub interval: Duration,
    /// Told how far a look is.
    pub on_settled: Option<OnSettled>,
    /// Where "now" comes from.
    pub clock: Arc<dyn Clock>,
    /// The files of the directory that it writes.
    pub fs: Arc<dyn Fs>,
}

impl ShipperOptions {
    /// What `server` and `sidecar` use: blocks of level 1 of `dir`, every 30 s.
    pub fn new(dir: impl Into<PathBuf>, labels: Labels) -> Self {
        Self {
            dir: dir.into(),
            labels: Arc::new(move || labels.clone()),
            upload_compacted: false,
            source: "sidecar".to_owned(),
            state_file: "thanos.shipper.json".to_owned(),
            interval: Duration::from_secs(30),
            on_settled: None,
            clock: Arc::new(model::time::WallClock),
            fs: block::fs::os(),
        }
    }
}

/// What one look brought.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Blocks that were uploaded now.
    pub uploaded: Vec<Ulid>,
    /// Blocks that are in the bucket from before.
    pub present: usize,
    /// Blocks that are not to be shipped: compacted or empty ones.
    pub skipped: usize,
    /// Blocks that could not be shipped, and why; they are tried again at the next look.
    pub failed: Vec<(String, String)>,
}

/// Uploads the blocks of a directory.
pub struct Shipper {
    bucket: Arc<Bucket>,
    options: ShipperOptions,
    /// What is known to be in the bucket.
    shipped: RwLock<BTreeSet<Ulid>>,
    /// One look at a time.
    turn: tokio::sync::Mutex<()>,
    meters: Meters,
}

struct Meters {
    syncs: Counter,
    sync_failures: Counter,
    uploads: Counter,
    upload_failures: Counter,
    corrupted: Counter,
    compacted_done: Gauge,
}

impl Meters {
    fn new(registry: &Registry) -> Result<Self, Error> {
        let count = |name: &str, help: &str| registry.counter(name, help);
        Ok(Self {
            syncs: count(
                "thanos_shipper_dir_syncs_total",
                "Total number of dir syncs.",
            )?,
            sync_failures: count(
                "thanos_shipper_dir_sync_failures_total",
                "Total number of failed dir syncs.",
            )?,
            uploads: count(
                "thanos_shipper_uploads_total",
                "Total number of uploaded blocks.",
            )?,
            upload_failures: count(
                "thanos_shipper_upload_failures_total",
                "Total number of block upload failures.",
            )?,
            corrupted: count(
                "thanos_shipper_corrupted_blocks_total",
                "Total number of times the shipper found a block that cannot be read.",
            )?,
            compacted_done: registry.gauge(
                "thanos_shipper_upload_compacted_done",
                "1 if shipper uploaded all compacted blocks from the filesystem.",
            )?,
        })
    }
}

impl Shipper {
    /// A shipper into `bucket`; reads what was shipped before.
    pub fn new(
        bucket: Arc<Bucket>,
        options: ShipperOptions,
        registry: &Registry,
    ) -> Result<Self, Error> {
        let shipped = match state::load(&options.dir.join(&options.state_file)) {
            Ok(shipped) => shipped,
            Err(e) => {
                // Nothing is lost: each block's meta.json is looked for in the bucket.
                tracing::warn!("{e}; what was shipped is asked of the bucket");
                BTreeSet::new()
            }
        };
        Ok(Self {
            bucket,
            options,
            shipped: RwLock::new(shipped),
            turn: tokio::sync::Mutex::new(()),
            meters: Meters::new(registry)?,
        })
    }

    /// Whether the local block `ulid` must be kept because it is still to be shipped.
    pub fn holds(&self, ulid: Ulid) -> bool {
        if self.shipped.read().contains(&ulid) {
            return false;
        }
        match Meta::read(&self.options.dir.join(ulid.to_string())) {
            Ok(meta) => self.wants(&meta),
            // A block that cannot be read is not deleted behind our back.
            Err(_) => true,
        }
    }

    /// The blocks that the next look would bring to the bucket, oldest first, and their bytes; 0 where these cannot
    /// be told.
    pub fn waiting(&self) -> Result<Vec<(Ulid, u64)>, Error> {
        let found = local::find(&self.options.dir)?;
        let shipped = self.shipped.read();
        let left = found.blocks.iter();
        let left = left.filter(|b| self.wants(&b.meta) && !shipped.contains(&b.ulid()));
        let sized = left.map(|b| (b.ulid(), b.bytes().unwrap_or(0)));
        Ok(sized.collect())
    }

    fn wants(&self, meta: &Meta) -> bool {
        (meta.compaction.level <= 1 || self.options.upload_compacted) && meta.stats.num_samples > 0
    }

    /// Looks once and uploads what is new. An error is one of the whole look: no labels, no
    /// directory; single blocks that fail are in the report.
    pub async fn sync(&self) -> Result<Report, Error> {
        let _turn = self.turn.lock().await;
        self.meters.syncs.inc();
        let report = self.look().await;
        if report.as_ref().map_or(true, |r| !r.failed.is_empty()) {
            self.meters.sync_failures.inc();
        }
        report
    }

    /// Looks again and again until `stop` is cancelled, and then once more.
    pub async fn run(&self, stop: Cancel) {
        loop {
            let last = stop.is_cancelled();
            match self.sync().await {
                Ok(report) => {
                    for ulid in &report.uploaded {
                        tracing::info!(block = %ulid, bucket = self.bucket.name(), "block shipped");
                    }
                    for (block, reason) in &report.failed {
                        tracing::error!(block, "block not shipped: {reason}");
                    }
                }
                Err(e) => tracing::error!("shipping: {e}"),
            }
            if last {
                return;
            }
            let _ = tokio::time::timeout(self.options.interval, stop.cancelled()).await;
        }
    }

    async fn look(&self) -> Result<Report, Error> {
        let labels = (self.options.labels)();
        if labels.is_empty() {
            return Err(Error::Refused(
                "no external labels: blocks cannot be shipped without, because nothing would tell \
                 them from those of others; set global.external_labels"
                    .to_owned(),
            ));
        }
        let mut report = Report::default();
        let found = local::find(&self.options.dir)?;
        for (name, reason) in found.broken {
            self.meters.corrupted.inc();
            report.failed.push((name, reason));
        }
        let (mut compacted_left, mut away) = (0, false);
        let mut overlaps = overlap::Overlaps::default();
        for block in &found.blocks {
            if self.shipped.read().contains(&block.ulid()) {
                report.present += 1;
                continue;
            }
            if !self.wants(&block.meta) {
                report.skipped += 1;
                continue;
            }
            let settled = self.ship(block, &labels, &mut overlaps).await;
            if let Some(told) = &self.options.on_settled {
                told(block.ulid());
            }
            match settled {
                Ok(true) => report.uploaded.push(block.ulid()),
                Ok(false) => report.present += 1,
                Err(e) => {
                    if matches!(e, Error::Corrupt { .. }) {
                        self.meters.corrupted.inc();
                    }
                    self.meters.upload_failures.inc();
                    compacted_left += usize::from(block.meta.compaction.level > 1);
                    away = matches!(
                        e,
                        Error::Unavailable { .. } | Error::Denied { .. } | Error::Timeout { .. }
                    );
                    report
                        .failed
                        .push((block.ulid().to_string(), e.to_string()));
                    // It would not take the next one either; and blocks arrive in the order of
                    // their time.
                    if away {
                        break;
                    }
                    continue;
                }
            }
            self.shipped.write().insert(block.ulid());
            self.save(&found.names)?;
        }
        if self.options.upload_compacted {
            self.meters
                .compacted_done
                .set(i64::from(compacted_left == 0 && !away));
        }
        self.save(&found.names)?;
        Ok(report)
    }

    /// Remembers what was shipped and still lies here; what is gone here is of no interest.
    fn save(&self, present: &BTreeSet<Ulid>) -> Result<(), Error> {
        let mut shipped = self.shipped.write();
        shipped.retain(|ulid| present.contains(ulid));
        let path = self.options.dir.join(&self.options.state_file);
        state::save(&*self.options.fs, &path, &shipped)
    }

    /// Uploads a block; false if it is in the bucket already.
    async fn ship(
        &self,
        block: &Local,
        labels: &Labels,
        overlaps: &mut overlap::Overlaps,
    ) -> Result<bool, Error> {
        let ulid = block.ulid();
        let meta_key = marks::key(ulid, block::meta::FILE);
        if self.bucket.exists(&meta_key).await? {
            return Ok(false);
        }
        if block.meta.compaction.level > 1 {
            overlaps.check(&self.bucket, labels, &block.meta).await?;
        }
        // Hard links keep the files while they are read, whatever the TSDB deletes meanwhile.
        let staging = self.options.dir.join("thanos").join("upload");
        let staged = Staged::make(&self.options.fs, block, &staging.join(ulid.to_string()))?;
        let (dir, options) = (staged.dir.clone(), &self.options);
        let prepared = local::Prepare {
            dir,
            labels: labels.clone(),
            source: options.source.clone(),
            now: options.clock.now(),
        };
        // The index is read through, which takes more than a moment.
        let meta = match tokio::task::spawn_blocking(move || prepared.meta()).await {
            Ok(meta) => meta?,
            Err(e) => return Err(Error::corrupt(ulid.to_string(), e)),
        };
        let mut there = HashMap::new();
        self.bucket
            .list(&ulid.to_string(), |object| {
                there.insert(object.key, object.size);
            })
            .await?;
        // Chunks first, then the index: the order of the list.
        let mut uploads = Vec::new();
        for file in meta.thanos.iter().flat_map(|t| &t.files) {
            if file.rel_path == block::meta::FILE {
                continue;
            }
            let key = marks::key(ulid, &file.rel_path);
            // Files of a block never change, and objects are whole.
            if there.get(&key) == Some(&file.size_bytes) {
                continue;
            }
            let path = staged.dir.join(&file.rel_path);
            uploads.push(async move { self.bucket.upload_file(&key, &path).await });
        }
        let sent: u64 = stream::iter(uploads)
            .buffered(FILES_AT_ONCE)
            .try_fold(0, |sum, n| async move { Ok(sum + n) })
            .await?;
        self.bucket
            .put(&meta_key, meta.to_json().into(), Put::Overwrite)
            .await?;
        self.meters.uploads.inc();
        overlaps.add(&meta);
        tracing::debug!(block = %ulid, bytes = sent, "uploaded");
        Ok(true)
    }
}

/// A directory of hard links that is removed when dropped.
struct Staged {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
}

impl Staged {
    fn make(fs: &Arc<dyn Fs>, block: &Local, dir: &Path) -> Result<Self, Error> {
        let staged = Self {
            fs: Arc::clone(fs),
            dir: dir.to_owned(),
        };
        fs.remove_dir_all(dir).map_err(|e| Error::local(dir, e))?;
        for file in block.files()? {
            let (from, to) = (block.dir.join(&file), dir.join(&file));
            let parent = to.parent().unwrap_or(dir);
            fs.create_dir_all(parent)
                .map_err(|e| Error::local(parent, e))?;
            fs.link(&from, &to).map_err(|e| Error::local(&from, e))?;
        }
        Ok(staged)
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if let Err(e) = self.fs.remove_dir_all(&self.dir) {
            tracing::debug!(dir = %self.dir.display(), "hard links stay behind: {e}");
        }
    }
}
