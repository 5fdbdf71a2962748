//! Reading ranges for a query: from the cache, else from the bucket, counted and bounded.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use bytes::Bytes;
use futures_util::future::try_join_all;
use model::{Kind, Reservation, Scope, SourceError, Statistics, Stopped};

use super::cache::File;
use super::header::Kept;
use super::meters::Sizes;
use super::ranges::{self, Fetch};
use super::{Inner, Item, unavailable};

/// A query at the gateway.
#[derive(Clone)]
pub(super) struct Query {
    pub inner: Arc<Inner>,
    pub scope: Arc<Scope>,
    pub work: Arc<Work>,
}

/// What a question took so far; told when it ends.
pub(super) struct Work {
    inner: Arc<Inner>,
    begun: Instant,
    /// By what is in them.
    touched: [Sum; 3],
    fetched: [Sum; 3],
}

/// Ranges and their bytes.
#[derive(Default)]
struct Sum {
    count: AtomicU64,
    bytes: AtomicU64,
}

impl Sum {
    fn add(&self, count: usize, bytes: u64) {
        self.count.fetch_add(count as u64, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn tell(&self, sizes: &Sizes) {
        let count = self.count.load(Ordering::Relaxed);
        sizes.count.observe(count as f64);
        sizes
            .bytes
            .observe(self.bytes.load(Ordering::Relaxed) as f64);
    }
}

impl Work {
    pub(super) fn new(inner: Arc<Inner>) -> Self {
        Self {
            inner,
            begun: Instant::now(),
            touched: Default::default(),
            fetched: Default::default(),
        }
    }

    /// These ranges are of use, wherever their bytes come from.
    fn touch(&self, item: Item, wanted: &[Range<u64>]) -> Result<(), SourceError> {
        let bytes = wanted.iter().map(|r| r.end - r.start).sum();
        self.touched[item as usize].add(wanted.len(), bytes);
        let limit = self.inner.options.touched_limit;
        let bytes = self
            .touched
            .iter()
            .map(|sum| sum.bytes.load(Ordering::Relaxed));
        let all: u64 = bytes.sum();
        if limit > 0 && all > limit {
            let message = format!(
                "exceeded bytes limit: limit {limit} violated (got {all}); see --store.grpc.downloaded-bytes-limit"
            );
            return Err(SourceError::new(Kind::Limit, message));
        }
        Ok(())
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        let meters = &self.inner.meters;
        for (sum, sizes) in self.touched.iter().zip(&meters.touched) {
            sum.tell(sizes);
        }
        for (sum, sizes) in self.fetched.iter().zip(&meters.fetched) {
            sum.tell(sizes);
        }
        meters.all_seconds.observe_duration(self.begun.elapsed());
    }
}

/// The bytes of wanted ranges.
#[derive(Debug, Default)]
pub(super) struct Fetched {
    pub buffers: Vec<Bytes>,
    /// For each wanted range its buffer, and where in it the range begins. The buffer may end
    /// before the range does, where the file does.
    pub places: Vec<(u32, usize)>,
}

impl Fetched {
    /// What there is of wanted range `i`, to the end of its buffer.
    pub(super) fn from(&self, i: usize) -> &[u8] {
        self.places
            .get(i)
            .and_then(|&(buffer, at)| self.buffers.get(buffer as usize)?.get(at..))
            .unwrap_or_default()
    }
}

/// Bytes that give their memory back to the query when the last of them goes.
struct Held {
    bytes: Bytes,
    _reservation: Reservation,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Bytes that share a reservation.
struct Shared {
    bytes: Bytes,
    _reservation: Arc<Reservation>,
}

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Bytes that hold a reservation together with others.
pub(super) fn shared(bytes: Bytes, reservation: Arc<Reservation>) -> Bytes {
    Bytes::from_owner(Shared {
        bytes,
        _reservation: reservation,
    })
}

impl Query {
    /// Waits for something, but no longer than the query lives.
    pub(super) async fn wait<T>(
        &self,
        what: impl Future<Output = Result<T, SourceError>>,
    ) -> Result<T, SourceError> {
        self.scope.check()?;
        let late = async {
            match self.scope.deadline {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            result = what => result,
            () = self.scope.cancel.cancelled() => Err(Stopped::Cancelled.into()),
            () = late => Err(Stopped::Deadline.into()),
        }
    }

    /// Runs something that takes the processor for more than a moment.
    pub(super) async fn compute<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, SourceError> {
        match wire::aside(work).await {
            Ok(result) => Ok(result),
            Err(e) => Err(SourceError::new(Kind::Internal, e.to_string())),
        }
    }

    /// Fetches ranges of a file, which ascend by start; what is `kept` of it is not asked for. Every buffer is
    /// reserved in the query's budget for as long as it lives. What is read between them may grow with what is
    /// `expected` to be of use to the question besides, bytes.
    pub(super) async fn fetch(
        &self,
        file: File,
        item: Item,
        wanted: &[Range<u64>],
        kept: &Kept,
        expected: u64,
    ) -> Result<Fetched, SourceError> {
        self.work.touch(item, wanted)?;
        let (requests, hits) = &self.inner.meters.items[item as usize];
        requests.add(wanted.len() as u64);
        let cache = &self.inner.cache;
        let mut fetched = Fetched {
            buffers: Vec::new(),
            places: vec![(0, 0); wanted.len()],
        };
        let mut missing = Vec::new();
        let mut missing_at = Vec::new();
        // The header's own memory, as the first buffer if it is one at all.
        let mut found = 0;
        for (place, range) in fetched.places.iter_mut().zip(wanted) {
            if let Some(at) = kept.place(range) {
                *place = (0, at);
                found += 1;
            }
        }
        if found > 0 {
            fetched.buffers.push(kept.bytes.clone());
            self.inner.meters.hits.add(found);
            hits.add(found);
        }
        for (i, range) in wanted.iter().enumerate() {
            if found > 0 && kept.place(range).is_some() {
                continue;
            }
            match cache.get(file, range) {
                Some(bytes) => {
                    self.inner.meters.hits.inc();
                    hits.inc();
                    fetched.places[i] = (fetched.buffers.len() as u32, 0);
                    fetched.buffers.push(self.hold(bytes)?);
                }
                None => {
                    missing.push(range.clone());
                    missing_at.push(i);
                }
            }
        }
        if missing.is_empty() {
            return Ok(fetched);
        }
        if let Some(tier) = self.inner.tier(file) {
            // The memory remembers what was put together, so that it is put together once.
            for ((i, range), bytes) in missing_at
                .iter()
                .zip(&missing)
                .zip(self.paged(tier, file, item, &missing).await?)
            {
                if bytes.is_empty() {
                    let what = format!("{}: nothing at {range:?}", file.key());
                    return Err(SourceError::new(Kind::Corrupt, what));
                }
                cache.put(file, range.start, bytes.clone());
                fetched.places[*i] = (fetched.buffers.len() as u32, 0);
                fetched.buffers.push(bytes);
            }
            return Ok(fetched);
        }
        self.inner.meters.misses.add(missing.len() as u64);
        let plan = ranges::plan(&missing, expected);
        let bodies = try_join_all(plan.iter().map(|part| self.one(file, item, part)));
        let bodies = self.wait(bodies).await?;
        for (part, bytes) in plan.iter().zip(bodies) {
            let buffer = fetched.buffers.len() as u32;
            fetched.buffers.push(bytes);
            for k in part.wanted.clone() {
                let at = (missing[k].start - part.range.start) as usize;
                fetched.places[missing_at[k]] = (buffer, at);
            }
        }
        Ok(fetched)
    }

    async fn one(&self, file: File, item: Item, part: &Fetch) -> Result<Bytes, SourceError> {
        let len = part.range.end - part.range.start;
        // Set aside before it is asked for: what comes is at most that long.
        let reservation = self.scope.budget.reserve("ranges of blocks", len)?;
        let bytes = self.body(file, item, part.range.clone()).await?;
        self.inner.cache.put(file, part.range.start, bytes.clone());
        Ok(Bytes::from_owner(Held {
            bytes,
            _reservation: reservation,
        }))
    }

    /// One request to the bucket.
    pub(super) async fn body(
        &self,
        file: File,
        item: Item,
        range: Range<u64>,
    ) -> Result<Bytes, SourceError> {
        let len = range.end - range.start;
        let inner = &self.inner;
        let _permit = inner.requests.acquire().await;
        let key = file.key();
        let bytes = inner.catalog.bucket().get_range(&key, range);
        let bytes = bytes.await.map_err(unavailable)?;
        if bytes.is_empty() || bytes.len() as u64 > len {
            let what = format!("{key}: {} bytes where {len} were asked for", bytes.len());
            return Err(SourceError::new(Kind::Corrupt, what));
        }
        Statistics::add(&self.scope.statistics.bytes, bytes.len() as u64);
        self.work.fetched[item as usize].add(1, bytes.len() as u64);
        inner.meters.fetched_bytes.add(bytes.len() as u64);
        inner.meters.fetches.inc();
        Ok(bytes)
    }

    fn hold(&self, bytes: Bytes) -> Result<Bytes, SourceError> {
        let len = bytes.len() as u64;
        let reservation = self.scope.budget.reserve("ranges of blocks", len)?;
        Ok(Bytes::from_owner(Held {
            bytes,
            _reservation: reservation,
        }))
    }
}
