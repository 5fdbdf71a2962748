//! Answers from the blocks in a bucket, by ranges of their files.
//!
//! Of each block only an index-header is held (see [`header`]). A query reads the postings lists
//! that its matchers need (one round of requests), the entries of the series that are left (a
//! second), and their chunks (a third), in windows of bounded size, each read a little ahead; the
//! blocks' answers, which come in the order of labels, are merged into one. Of small indexes postings and
//! series are held, too, on the local disk, so that one round or two are left.

mod blocks;
mod cache;
mod chunks;
mod entries;
mod fetch;
mod header;
mod meters;
mod names;
mod pages;
mod postings;
mod ranges;
mod resolution;

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bucket::{Catalog, CatalogBlock, Snapshot};
use futures_util::stream;
use metrics::Registry;
use model::scope::PartialResponse;
use model::source::Projection;
use model::{
    Answer, BoxFuture, Capabilities, Extent, Kind, LabelSelect, Labels, Matcher, Millis, Order,
    Rows, Scope, Select, SeriesBatch, Source, SourceError, Str, TimeRange, View,
};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tracing::Instrument as _;

use crate::merge::{Merge, Shape, Unite};
use crate::tier::Tier;
use blocks::{Ask, BlockInput, Part};
use cache::Cache;
use fetch::{Query, Work};
use header::Headers;
use meters::Meters;
use names::Question;
use resolution::Candidate;

/// What becomes of blocks' external labels.
#[derive(Clone)]
pub enum ExternalLabels {
    /// All blocks are served, and their external labels are laid on top of their series'.
    Overlay,
    /// Only blocks whose external labels equal these are served, and their series come without
    /// them: they continue the series of the local database.
    Own(Arc<dyn Fn() -> Labels + Send + Sync>),
}

impl ExternalLabels {
    /// [`ExternalLabels::Own`] of labels that never change.
    pub fn own(labels: Labels) -> Self {
        ExternalLabels::Own(Arc::new(move || labels.clone()))
    }
}

/// How a [`Gateway`] answers.
#[derive(Clone)]
pub struct GatewayOptions {
    /// Where index-headers are kept over restarts; none: they are fetched again.
    pub data_dir: Option<PathBuf>,
    /// What becomes of external labels.
    pub labels: ExternalLabels,
    /// Only samples strictly before this are of interest (ms); asked at each `open`. Somebody else
    /// has the rest.
    pub before: Option<Arc<dyn Fn() -> Option<Millis> + Send + Sync>>,
    /// A question that reaches no further than this before `before`, ms, can do without a bucket that could
    /// not be listed yet: somebody else has all of it but for the lookback of its first step. It is answered
    /// with a warning even where no part may be missing.
    pub lookback: Millis,
    /// Index-headers in memory, bytes.
    pub header_bytes: u64,
    /// Of an index whose series and postings, or whose postings alone, take at most so many bytes these are kept
    /// with its header in `data_dir`, unless the bucket is a local directory: fetched once, in a moment, they spare every query one round of requests or
    /// two.
    pub kept_bytes: u64,
    /// Ranges of files in memory, bytes.
    pub cache_bytes: u64,
    /// A shared cache behind the memory for pages of index files.
    pub index_tier: Option<Tier>,
    /// The same for chunk files.
    pub chunk_tier: Option<Tier>,
    /// Requests to the bucket at once, over all queries.
    pub requests_at_once: usize,
    /// Bytes of chunks that one query reads ahead, about.
    pub window_bytes: u64,
    /// Most bytes of blocks that one question may touch, cached or not; 0: any number
    /// (`--store.grpc.downloaded-bytes-limit`).
    pub touched_limit: u64,
    /// An index-header that was not used for so long is let go of; none: only for others.
    pub header_idle: Option<Duration>,
}

impl Default for GatewayOptions {
    fn default() -> Self {
        Self {
            data_dir: None,
            labels: ExternalLabels::Overlay,
            before: None,
            lookback: 0,
            header_bytes: 256 << 20,
            kept_bytes: 2 << 20,
            cache_bytes: 250 << 20,
            index_tier: None,
            chunk_tier: None,
            requests_at_once: 128,
            window_bytes: 32 << 20,
            touched_limit: 0,
            header_idle: None,
        }
    }
}

/// A source over the blocks of a catalog.
pub struct Gateway {
    inner: Arc<Inner>,
}

struct Inner {
    catalog: Arc<Catalog>,
    options: GatewayOptions,
    runtime: Handle,
    headers: Headers,
    cache: Cache,
    requests: Semaphore,
    meters: Meters,
    /// The snapshot whose blocks the headers were last compared with.
    swept: Mutex<Arc<Snapshot>>,
}

impl Gateway {
    /// A gateway over `catalog`, whose tasks run on `runtime`.
    pub fn new(
        catalog: Arc<Catalog>,
        options: GatewayOptions,
        runtime: Handle,
        registry: &Registry,
    ) -> Result<Self, metrics::Error> {
        let meters = Meters::new(options.cache_bytes, registry)?;
        let headers_dir = options
            .data_dir
            .as_ref()
            .map(|dir| dir.join("index-headers"));
        // What lies in a local directory is not worth a second place.
        let kept = match catalog.bucket().is_local() {
            true => 0,
            false => options.kept_bytes,
        };
        let inner = Arc::new(Inner {
            headers: Headers::new(headers_dir, options.header_bytes, kept),
            cache: Cache::new(options.cache_bytes),
            requests: Semaphore::new(options.requests_at_once.clamp(1, Semaphore::MAX_PERMITS)),
            swept: Mutex::default(),
            catalog,
            options,
            runtime,
            meters,
        });
        inner.export(registry)?;
        if let Some(idle) = inner.options.header_idle.filter(|idle| !idle.is_zero()) {
            let weak = Arc::downgrade(&inner);
            inner.runtime.spawn(async move {
                loop {
                    tokio::time::sleep((idle / 10).max(Duration::from_millis(100))).await;
                    let Some(inner) = weak.upgrade() else {
                        return;
                    };
                    inner.headers.let_go_idle(idle);
                }
            });
        }
        Ok(Self { inner })
    }
}

/// What lies in ranges of blocks.
#[derive(Clone, Copy, Debug)]
enum Item {
    Postings,
    Series,
    Chunks,
}

impl Inner {
    /// Forgets the index-headers of blocks that are gone, if the catalog has changed.
    fn sweep(self: &Arc<Self>, snapshot: &Arc<Snapshot>) {
        {
            let mut swept = self.swept.lock();
            if Arc::ptr_eq(&swept, snapshot) {
                return;
            }
            *swept = Arc::clone(snapshot);
        }
        let (inner, snapshot) = (Arc::clone(self), Arc::clone(snapshot));
        self.runtime.spawn_blocking(move || {
            // Blocks that are only hidden for now are not worth a special case.
            let there: HashSet<_> = snapshot.blocks.iter().map(|b| b.ulid()).collect();
            inner.headers.retain(&there);
        });
    }

    /// The shared cache for a file, if there is one.
    fn tier(&self, file: cache::File) -> Option<&Tier> {
        match file {
            cache::File::Index(_) => self.options.index_tier.as_ref(),
            cache::File::Chunks(..) => self.options.chunk_tier.as_ref(),
        }
    }

    fn before(&self) -> Option<Millis> {
        self.options.before.as_ref().and_then(|before| before())
    }
}

/// A bucket's failure as a query sees it. That the bucket was too slow does not mean that the
/// query is too late.
fn unavailable(e: bucket::Error) -> SourceError {
    let kind = match e.kind() {
        Kind::Timeout | Kind::Invalid => Kind::Unavailable,
        other => other,
    };
    SourceError::new(kind, e.to_string())
}

fn cut(range: TimeRange, before: Option<Millis>) -> TimeRange {
    let max = before.map_or(Millis::MAX, |b| b.saturating_sub(1));
    TimeRange::new(range.min, range.max.min(max))
}

impl Source for Gateway {
    fn open(&self, scope: Arc<Scope>) -> Result<Box<dyn View>, SourceError> {
        scope.check()?;
        let snapshot = self.inner.catalog.snapshot();
        self.inner.sweep(&snapshot);
        let own = match &self.inner.options.labels {
            ExternalLabels::Own(labels) => Some(labels()),
            ExternalLabels::Overlay => None,
        };
        Ok(Box::new(GatewayView {
            inner: Arc::clone(&self.inner),
            scope,
            snapshot,
            before: self.inner.before(),
            own,
        }))
    }

    fn extent(&self) -> Arc<Extent> {
        let snapshot = self.inner.catalog.snapshot();
        let mut parts: BTreeMap<Labels, TimeRange> = BTreeMap::new();
        let before = self.inner.before();
        let own = match &self.inner.options.labels {
            ExternalLabels::Own(labels) => Some(labels()),
            ExternalLabels::Overlay => None,
        };
        for block in &snapshot.blocks {
            let key = match &own {
                Some(own) if *own != block.labels => continue,
                Some(_) => Labels::default(),
                None => block.labels.clone(),
            };
            let range = cut(block.range(), before);
            if range.is_empty() {
                continue;
            }
            let sum = parts.entry(key).or_insert(TimeRange::EMPTY);
            *sum = sum.union(range);
        }
        if parts.is_empty() {
            parts.insert(Labels::default(), TimeRange::EMPTY);
        }
        // What cannot be read may hold anything, so that nothing may be pruned.
        if snapshot.taken.is_none() || !snapshot.unreadable.is_empty() {
            parts.clear();
        }
        Arc::new(Extent {
            parts: parts.into_iter().collect(),
            capabilities: Capabilities {
                sharding: true,
                without_labels: true,
                projection: true,
            },
        })
    }
}

/// A gateway as one query sees it: its blocks are pinned.
struct GatewayView {
    inner: Arc<Inner>,
    scope: Arc<Scope>,
    snapshot: Arc<Snapshot>,
    before: Option<Millis>,
    own: Option<Labels>,
}

impl GatewayView {
    fn query(&self) -> Query {
        Query {
            inner: Arc::clone(&self.inner),
            scope: Arc::clone(&self.scope),
            work: Arc::new(Work::new(Arc::clone(&self.inner))),
        }
    }

    /// The blocks that a question concerns, and what has to be said about missing ones. Samples may be
    /// as coarse as `resolution` ms.
    fn parts(
        &self,
        range: TimeRange,
        matchers: &[Matcher],
        resolution: Millis,
    ) -> Result<(Vec<Part>, Vec<Str>), SourceError> {
        self.scope.check()?;
        let asked = range;
        let range = cut(asked, self.before);
        let mut parts = Vec::new();
        if range.is_empty() {
            return Ok((parts, Vec::new()));
        }
        let all: Arc<[Matcher]> = matchers.into();
        let mut damaged = Vec::new();
        for (block, range) in self.chosen(range, resolution) {
            let (external, matchers) = match &self.own {
                Some(own) if *own == block.labels => (Labels::default(), Arc::clone(&all)),
                Some(_) => continue,
                None => {
                    let labels = &block.labels;
                    let satisfied =
                        |m: &Matcher| labels.get(&m.name).is_none_or(|value| m.matches(value));
                    if !matchers.iter().all(satisfied) {
                        continue;
                    }
                    let inside = matchers.iter().filter(|m| labels.get(&m.name).is_none());
                    (labels.clone(), inside.cloned().collect())
                }
            };
            if let Some(reason) = self.inner.headers.aside_because(block.ulid()) {
                damaged.push(format!("block {}: {reason}", block.ulid()));
                continue;
            }
            parts.push(Part {
                block: Arc::clone(block),
                external,
                matchers,
                range,
            });
        }
        let reaches = range.max.saturating_sub(range.min).saturating_add(1);
        let hardly = range.max < asked.max && reaches <= self.inner.options.lookback;
        Ok((parts, self.missing(damaged, hardly)?))
    }

    /// The blocks that answer a range, each with the part that it answers for.
    fn chosen(
        &self,
        range: TimeRange,
        resolution: Millis,
    ) -> impl Iterator<Item = (&Arc<CatalogBlock>, TimeRange)> {
        let blocks = &self.snapshot.blocks;
        let mut groups: BTreeMap<&Labels, Vec<Candidate>> = BTreeMap::new();
        for (number, block) in blocks.iter().enumerate() {
            if block.range().overlaps(range) {
                groups.entry(&block.labels).or_default().push(Candidate {
                    block: number,
                    range: block.range(),
                    resolution: block.meta.resolution(),
                });
            }
        }
        let chosen = groups
            .into_values()
            .flat_map(move |group| resolution::choose(group, range, resolution));
        chosen.filter_map(|(number, range)| Some((blocks.get(number)?, range)))
    }

    /// What is missing: this, and what is so whatever is asked. Where the question is `hardly` ours, that
    /// the bucket is not known yet is only said.
    fn missing(&self, mut missing: Vec<String>, hardly: bool) -> Result<Vec<Str>, SourceError> {
        let mut said = Vec::new();
        if self.snapshot.taken.is_none() {
            let name = self.inner.catalog.bucket().name();
            let text = format!("bucket {name}: its blocks are not known yet");
            match hardly {
                true => said.push(text.into()),
                false => missing.push(text),
            }
        }
        for (ulid, reason) in &self.snapshot.unreadable {
            missing.push(format!("block {ulid}: {reason}"));
        }
        match (self.scope.partial_response, missing.first()) {
            (PartialResponse::Abort, Some(first)) => {
                Err(SourceError::new(Kind::Unavailable, first.clone()))
            }
            _ => {
                said.extend(missing.into_iter().map(Str::from));
                Ok(said)
            }
        }
    }

    fn shape(&self, select: &Select) -> Shape {
        // An instant query looks at one moment of many series.
        let instant = select.hints.step == 0 && select.hints.range <= 5 * 60_000;
        Shape {
            unite: Unite::Same,
            projection: select.hints.projection.clone(),
            limit: select.hints.limit,
            series: if instant { 2048 } else { 256 },
            // A few of them are on their way, too.
            bytes: (self.inner.options.window_bytes / 16).clamp(64 << 10, 1 << 20),
        }
    }
}

impl View for GatewayView {
    fn select(&self, select: Select) -> Rows {
        let (parts, warnings) =
            match self.parts(select.range, &select.matchers, select.max_resolution) {
                Ok(parts) => parts,
                Err(e) => return Rows::Stream(Box::pin(stream::iter([Err(e)]))),
            };
        if parts.is_empty() && warnings.is_empty() {
            return Rows::empty();
        }
        self.inner.meters.blocks_queried.observe(parts.len() as f64);
        let shape = self.shape(&select);
        let without = match select.order {
            Order::Any => Vec::new(),
            Order::ByLabels { without } => without,
        };
        // Each block has up to four windows on their way.
        let share = self.inner.options.window_bytes / (4 * parts.len().max(1) as u64);
        let ask = Ask {
            range: cut(select.range, self.before),
            without,
            shard: select.hints.shard,
            skip_chunks: select.skip_chunks,
            limit: select.hints.limit,
            aggregates: select.aggregates,
            window: share.clamp(64 << 10, 8 << 20),
        };
        let query = self.query();
        crate::stream_of(&self.inner.runtime, move |send| async move {
            let span = tracing::info_span!("bucket_store_series", blocks = parts.len());
            let merging = merge(query, parts, ask, shape, warnings, &send);
            merging.instrument(span).await
        })
    }

    fn label_names(
        &self,
        select: LabelSelect,
    ) -> BoxFuture<'static, Result<Answer<Vec<Str>>, SourceError>> {
        self.names(Question::Names, select)
    }

    fn label_values(
        &self,
        name: Str,
        select: LabelSelect,
    ) -> BoxFuture<'static, Result<Answer<Vec<Str>>, SourceError>> {
        self.names(Question::Values(name), select)
    }
}

/// Runs the blocks and merges what they give. When it returns, nothing of the query is left.
async fn merge(
    query: Query,
    parts: Vec<Part>,
    ask: Ask,
    shape: Shape,
    warnings: Vec<Str>,
    send: &mpsc::Sender<Result<SeriesBatch, SourceError>>,
) -> Result<(), SourceError> {
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    let inputs: Vec<BlockInput> = parts
        .into_iter()
        .map(|part| BlockInput::spawn(&mut tasks, query.clone(), part, ask.clone()))
        .collect();
    let plain = shape.projection == Projection::All && shape.limit == 0;
    let scope = Arc::clone(&query.scope);
    let ended = match <[BlockInput; 1]>::try_from(inputs) {
        Ok([only]) if plain && warnings.is_empty() => pass_on(&query, only, send).await,
        Ok(one) => run(Merge::new(Vec::from(one), scope, shape, warnings), send).await,
        Err(many) => run(Merge::new(many, scope, shape, warnings), send).await,
    };
    tasks.shutdown().await;
    let meters = &query.inner.meters;
    meters.merge_seconds.observe_duration(begun.elapsed());
    ended
}

async fn run(
    mut merge: Merge<BlockInput>,
    send: &mpsc::Sender<Result<SeriesBatch, SourceError>>,
) -> Result<(), SourceError> {
    while let Some(batch) = merge.next().await? {
        if send.send(Ok(batch)).await.is_err() {
            break;
        }
    }
    Ok(())
}

/// One block needs no merging.
async fn pass_on(
    query: &Query,
    mut only: BlockInput,
    send: &mpsc::Sender<Result<SeriesBatch, SourceError>>,
) -> Result<(), SourceError> {
    use crate::merge::Input as _;
    loop {
        query.scope.check()?;
        match only.next().await {
            Ok(Some(keyed)) if keyed.batch.is_empty() => {}
            Ok(Some(keyed)) => {
                if send.send(Ok(keyed.batch)).await.is_err() {
                    return Ok(());
                }
            }
            Ok(None) => return Ok(()),
            Err(e) => {
                let warning = crate::failure::tolerate(&query.scope, only.name(), e)?;
                let batch = SeriesBatch {
                    warnings: vec![warning],
                    ..SeriesBatch::default()
                };
                let _ = send.send(Ok(batch)).await;
                return Ok(());
            }
        }
    }
}
