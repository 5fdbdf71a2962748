//! The compactor: looks at the bucket, compacts, downsamples, retains and cleans, again and again.

mod clean;
mod downsampling;
mod halting;
mod outdating;
mod progress;
mod retaining;
mod rounds;

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use block::merge::Overlap;
use bucket::marks::{self, DeletionMark, NoCompactMark};
use bucket::{Bucket, Catalog, CatalogBlock, Snapshot};
use model::time::Clock;
use model::{Cancel, Millis, TimeRange};
use parking_lot::Mutex;
use ulid::Ulid;

use crate::claims::Claims;
use crate::job::{Workshop, replaces};
use crate::meters::Meters;
use crate::output::HashFunc;
use crate::plan::{Planner, RANGES};
use crate::retention::Retention;
use crate::{Error, garbage, group};

use halting::Halt;
pub use progress::{OnStep, Progress, Step};

/// What our deletion marks end with: another of us knows by it that no stranger set them.
pub const SIGNATURE: &str = "(epimetheus)";

/// For so long a look at the bucket is as good as another one.
const FRESH: Duration = Duration::from_secs(30);

/// What a compactor does.
#[derive(Clone)]
pub struct Options {
    /// Chooses what to compact.
    pub planner: Planner,
    /// External labels by which replicas differ.
    pub replica_labels: Vec<String>,
    /// What becomes of overlapping chunks.
    pub overlap: Overlap,
    /// Whether overlapping blocks are compacted; else they halt their group.
    pub vertical: bool,
    /// Set blocks with chunks out of order aside instead of putting them in order.
    pub skip_out_of_order: bool,
    /// Whether blocks are downsampled.
    pub downsampling: bool,
    /// Compactions at once.
    pub concurrency: usize,
    /// Downsamplings at once.
    pub downsample_concurrency: usize,
    /// How long blocks are kept.
    pub retention: Retention,
    /// So long after its mark a block is deleted.
    pub delete_delay: Duration,
    /// A folder without `meta.json` is removed when nothing was written to it for so long.
    pub partial_age: Duration,
    /// Whether files get a hash.
    pub hash: HashFunc,
    /// Where indexes lie until they are whole.
    pub data_dir: PathBuf,
    /// Told how far it is with downsampling, retention and cleaning.
    pub on_step: Option<OnStep>,
    /// Where "now" comes from.
    pub clock: Arc<dyn Clock>,
}

impl Options {
    /// As Thanos' compactor does it when nothing is said, keeping everything for ever; indexes lie in
    /// `data_dir` until they are whole.
    pub fn new(data_dir: PathBuf, clock: Arc<dyn Clock>) -> Self {
        let two_days = Duration::from_secs(48 * 3600);
        Self {
            planner: Planner {
                ranges: RANGES.to_vec(),
                max_index_size: 64 << 30,
            },
            replica_labels: Vec::new(),
            overlap: Overlap::Unite,
            vertical: false,
            skip_out_of_order: false,
            downsampling: true,
            concurrency: 1,
            downsample_concurrency: 1,
            retention: Retention::default(),
            delete_delay: two_days,
            partial_age: two_days,
            hash: HashFunc::None,
            data_dir,
            on_step: None,
            clock,
        }
    }
}

/// Compacts a bucket.
pub struct Compactor {
    catalog: Arc<Catalog>,
    claims: Arc<Claims>,
    options: Options,
    meters: Meters,
    stop: Cancel,
    /// Groups that are set aside, and why.
    halted: Mutex<BTreeMap<String, Halt>>,
    /// When the bucket was last looked at, unless it was changed since.
    looked: Mutex<Option<Instant>>,
    progress: Arc<Progress>,
}

/// Which blocks a compactor looks at. They are all that are whole: what is garbage or marked is told
/// apart later.
pub fn catalog_options(base: bucket::CatalogOptions) -> bucket::CatalogOptions {
    bucket::CatalogOptions {
        ignore_deletion_marks_delay: None,
        deduplicate: false,
        compaction_marks: true,
        ..base
    }
}

/// The blocks as the compactor sees them.
struct Sight {
    snapshot: Arc<Snapshot>,
    /// Without garbage, and without those that were marked a while ago.
    groups: Vec<group::Group>,
    /// Blocks of which all is in another block, and that are not marked yet.
    garbage: Vec<Arc<CatalogBlock>>,
}

impl Compactor {
    /// A compactor over the blocks of `catalog`, whose options must be [`catalog_options`].
    pub fn new(
        catalog: Arc<Catalog>,
        claims: Arc<Claims>,
        options: Options,
        stop: Cancel,
        registry: &metrics::Registry,
    ) -> Result<Self, metrics::Error> {
        let meters = Meters::new(registry)?;
        meters.delete_delay.set(options.delete_delay.as_secs_f64());
        Ok(Self {
            catalog,
            claims,
            options,
            meters,
            stop,
            halted: Mutex::default(),
            looked: Mutex::default(),
            progress: Arc::default(),
        })
    }

    /// The blocks that it looks at.
    pub fn catalog(&self) -> &Arc<Catalog> {
        &self.catalog
    }

    fn bucket(&self) -> &Arc<Bucket> {
        self.catalog.bucket()
    }

    fn now(&self) -> Millis {
        self.options.clock.now()
    }

    fn workshop(&self) -> Workshop {
        let (progress, read) = (Arc::clone(&self.progress), self.meters.read_bytes.clone());
        Workshop {
            bucket: Arc::clone(self.bucket()),
            dir: self.options.data_dir.clone(),
            hash: self.options.hash,
            stop: self.stop.clone(),
            progress: Arc::new(move |_, bytes| {
                read.add(bytes);
                progress.read(bytes);
            }),
        }
    }

    fn check(&self) -> Result<(), Error> {
        match self.stop.is_cancelled() {
            true => Err(Error::Stopped),
            false => Ok(()),
        }
    }

    /// Looks at the bucket.
    async fn look(&self) -> Result<Sight, Error> {
        let now = Instant::now();
        self.catalog.sync().await?;
        let sight = self.sight();
        if let Some(why) = &sight.snapshot.incomplete {
            // Plans must not have gaps.
            return Err(Error::Refused(format!(
                "not all blocks of the bucket can be read: {why}"
            )));
        }
        *self.looked.lock() = Some(now);
        Ok(sight)
    }

    /// Looks at the bucket, unless that was done just now and nothing was changed since. Claims keep what
    /// others did meanwhile from harm.
    async fn look_again(&self) -> Result<Sight, Error> {
        let looked = *self.looked.lock();
        match looked.is_some_and(|at| at.elapsed() < FRESH) {
            true => Ok(self.sight()),
            false => self.look().await,
        }
    }

    /// The bucket is not any more what the last look has shown.
    fn changed(&self) {
        *self.looked.lock() = None;
    }

    /// What the last look has shown.
    fn sight(&self) -> Sight {
        let snapshot = self.catalog.snapshot();
        let (now, delay) = (self.now(), self.options.delete_delay.as_millis() as Millis);
        // A block that was marked just now may have no successor yet, and plans must not have gaps.
        let current = |b: &&Arc<CatalogBlock>| {
            let mark = b.marks.deletion.as_ref();
            mark.is_none_or(|mark| now.saturating_sub(mark.set_at()) <= delay / 2)
        };
        let blocks = snapshot.blocks.iter().filter(current).map(Arc::clone);
        let mut groups = group::groups(blocks, &self.options.replica_labels);
        let mut garbage = Vec::new();
        for group in &mut groups {
            // What was written again without some series has the sources of what it replaces.
            let whole = group.blocks.iter().filter(|b| b.marks.deletion.is_none());
            let mut covered: HashSet<Ulid> = whole.filter_map(|b| replaces(&b.meta)).collect();
            let others = group.blocks.iter().map(|b| &b.meta);
            covered.extend(garbage::covered(
                others.filter(|m| !covered.contains(&m.ulid)),
            ));
            group.blocks.retain(|b| {
                let gone = covered.contains(&b.ulid());
                if gone && b.marks.deletion.is_none() {
                    garbage.push(Arc::clone(b));
                }
                !gone
            });
            // What was marked and has a successor (a rewritten block) is no overlap.
            let unmarked = group.blocks.iter().filter(|b| b.marks.deletion.is_none());
            let ranges: Vec<TimeRange> = unmarked.map(|b| b.range()).collect();
            group.blocks.retain(|b| {
                let range = b.range();
                b.marks.deletion.is_none() || !ranges.iter().any(|r| r.overlaps(range))
            });
        }
        Sight {
            snapshot,
            groups,
            garbage,
        }
    }

    /// One iteration: compacts until nothing is left to compact, downsamples, retains and cleans.
    pub async fn iterate(&self) -> Result<(), Error> {
        let mut failed: Vec<String> = Vec::new();
        self.compact(&mut failed).await?;
        if self.options.downsampling {
            // What the first pass makes of 5 minutes may be long enough for the second one.
            for pass in ["first", "second"] {
                tracing::info!("start {pass} pass of downsampling");
                self.downsample(&mut failed).await?;
            }
        } else {
            tracing::info!("downsampling was explicitly disabled");
        }
        self.retain().await?;
        self.outdate(&mut failed).await?;
        self.clean_up().await?;
        if let [first, ..] = failed.as_slice() {
            self.meters.retries.inc();
            return Err(Error::Refused(format!(
                "{} of the jobs failed and will be tried again; the first: {first}",
                failed.len()
            )));
        }
        self.meters.iterations.inc();
        Ok(())
    }

    /// Two passes of downsampling and nothing else.
    pub async fn downsample_all(&self) -> Result<(), Error> {
        self.changed();
        let mut failed = Vec::new();
        for _ in 0..2 {
            self.downsample(&mut failed).await?;
        }
        self.verdict(&failed)
    }

    /// Marks what has been kept long enough, takes series out that have been, and nothing else.
    pub async fn retain_all(&self) -> Result<(), Error> {
        self.changed();
        let mut failed = Vec::new();
        self.retain().await?;
        self.outdate(&mut failed).await?;
        self.verdict(&failed)
    }

    /// Whether all went well where `failed` names what can be tried again.
    fn verdict(&self, failed: &[String]) -> Result<(), Error> {
        match (failed.first(), self.halted().iter().next()) {
            (Some(first), _) => Err(Error::Refused(first.clone())),
            (None, Some((group, why))) => Err(Error::Halt(format!("group {group}: {why}"))),
            (None, None) => Ok(()),
        }
    }

    /// Lets another compactor begin at once where only one can work.
    pub async fn end(&self) {
        self.claims.end().await;
    }

    /// Marks a block for deletion.
    async fn mark_for_deletion(&self, block: Ulid, why: &str) -> Result<bool, Error> {
        let mark = DeletionMark::new(block, format!("{why} {SIGNATURE}"), self.now());
        let written = self.write_mark(block, &mark).await?;
        if written {
            self.meters.marked.with(&["deletion-mark.json", ""]).inc();
            tracing::info!(%block, why, "block has been marked for deletion");
        }
        Ok(written)
    }

    async fn mark_no_compact(&self, block: Ulid, reason: &str, why: &str) -> Result<(), Error> {
        let mark = NoCompactMark::new(block, reason, why, self.now());
        if self.write_mark(block, &mark).await? {
            self.meters
                .marked
                .with(&["no-compact-mark.json", reason])
                .inc();
            tracing::info!(%block, reason, "block has been marked as not to be compacted");
        }
        Ok(())
    }

    async fn write_mark<M: marks::Mark>(&self, block: Ulid, mark: &M) -> Result<bool, Error> {
        self.changed();
        Ok(marks::write(self.bucket(), block, mark).await?)
    }
}
