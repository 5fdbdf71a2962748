//! Reading series of the head: labels as symbols of the query, chunks shared or copied.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use bytes::Bytes;
use hashbrown::HashMap;
use model::source::{Aggregate, Ahead};
use model::{
    ChunkRef, Cursor, Reservation, Scope, Select, SeriesBatch, SourceError, Statistics, Stopped,
    Symbol, Symbols,
};
use parking_lot::MutexGuard;

use super::files::{ChunkFile, Place};
use super::index::{Index, PairId};
use super::ooo::Reach;
use super::page::{Inner, PAGE, Page, Seen, SeenBytes};
use super::{Head, Snapshot, place};

/// Label pairs of the head as symbols of a query; each pair is interned once.
#[derive(Default)]
pub(crate) struct PairSymbols {
    known: HashMap<PairId, (Symbol, Symbol), numbers::Fast>,
    removals: u64,
}

mod numbers {
    //! Pair numbers are small and dense: a multiplication spreads them well enough.
    use std::hash::{BuildHasher, Hasher};

    #[derive(Clone, Copy, Default)]
    pub(super) struct Fast;
    pub(super) struct FastHasher(u64);

    impl BuildHasher for Fast {
        type Hasher = FastHasher;
        fn build_hasher(&self) -> FastHasher {
            FastHasher(0)
        }
    }

    impl Hasher for FastHasher {
        fn finish(&self) -> u64 {
            self.0
        }
        fn write(&mut self, bytes: &[u8]) {
            for &b in bytes {
                self.write_u32(b.into());
            }
        }
        fn write_u32(&mut self, n: u32) {
            let mixed = (self.0 ^ u64::from(n)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            self.0 = mixed ^ (mixed >> 32);
        }
    }
}

impl PairSymbols {
    /// Call with the index locked, before the first [`PairSymbols::get`] under that lock: numbers
    /// of pairs that went may have been given to others since.
    pub(crate) fn refresh(&mut self, index: &Index) {
        if self.removals != index.removals() {
            self.removals = index.removals();
            self.known.clear();
        }
    }

    #[inline]
    pub(crate) fn get(
        &mut self,
        pair: PairId,
        index: &Index,
        symbols: &Symbols,
    ) -> (Symbol, Symbol) {
        *self.known.entry(pair).or_insert_with(|| {
            let (name, value) = index.pair(pair);
            (symbols.intern(name), symbols.intern(value))
        })
    }
}

/// Puts chunks of the head into a batch: finished ones shared, the others copied into one buffer.
#[derive(Default)]
pub(crate) struct ChunkWriter {
    copied: Vec<u8>,
    copy_buffer: u32,
    /// Page of `shared`.
    page: usize,
    /// Blobs of that page that are in the batch already, with their buffer.
    shared: Vec<(u16, u32)>,
    /// Files that are in the batch already, with their buffer and how far it reaches.
    files: Vec<(u16, u32, usize)>,
    /// Chunks of other files: read into `copied` once nothing is locked any more.
    unread: Vec<Unread>,
}

/// A chunk that is to be read.
struct Unread {
    file: Option<Arc<ChunkFile>>,
    offset: u32,
    into: std::ops::Range<usize>,
}

impl ChunkWriter {
    /// Begins a batch.
    pub(crate) fn begin(&mut self, batch: &mut SeriesBatch) {
        self.copied.clear();
        self.shared.clear();
        self.files.clear();
        self.unread.clear();
        self.copy_buffer = batch.buffers.len() as u32;
        batch.buffers.push(Bytes::new());
    }

    /// Adds what a query may see of a series; false if that is nothing.
    pub(crate) fn add(
        &mut self,
        batch: &mut SeriesBatch,
        head: &Head,
        (number, page, slot): (usize, &Inner, usize),
        reach: &Reach,
        snapshot: &Snapshot,
        skip_chunks: bool,
    ) -> bool {
        if skip_chunks {
            return page.shows(slot, reach, snapshot);
        }
        if self.page != number {
            self.page = number;
            self.shared.clear();
        }
        let SeriesBatch {
            chunks, buffers, ..
        } = batch;
        let first = chunks.len();
        page.see(slot, reach.ordered, Some(snapshot), |seen| {
            let (buffer, offset, len) = self.place(head, page, &seen, buffers);
            chunks.push(ChunkRef {
                min: seen.min,
                max: seen.max,
                encoding: seen.encoding,
                aggregate: Aggregate::Raw,
                lane: 0,
                buffer,
                offset,
                len,
            });
        });
        if let Some((range, ooo)) = reach.ooo.zip(page.ooo.as_ref()) {
            let ordered = chunks.len();
            ooo.see(slot, range, |seen| {
                let offset = self.copied.len() as u32;
                self.copied.extend_from_slice(seen.bytes);
                chunks.push(ChunkRef {
                    min: seen.min,
                    max: seen.max,
                    encoding: seen.encoding,
                    aggregate: Aggregate::Raw,
                    lane: 0,
                    buffer: self.copy_buffer,
                    offset,
                    len: seen.bytes.len() as u32,
                });
            });
            if chunks.len() > ordered
                && let Some(of_series) = chunks.get_mut(first..)
            {
                of_series.sort_by_key(|c| (c.min, c.max));
            }
        }
        chunks.len() > first
    }

    fn place(
        &mut self,
        head: &Head,
        page: &Inner,
        seen: &Seen<'_>,
        buffers: &mut Vec<Bytes>,
    ) -> (u32, u32, u32) {
        let start = self.copied.len() as u32;
        match seen.bytes {
            SeenBytes::Shared(blob, offset, len) => {
                let known = self.shared.iter().find(|s| s.0 == blob).map(|s| s.1);
                let buffer = known.unwrap_or_else(|| {
                    buffers.push(page.blob(blob));
                    let buffer = (buffers.len() - 1) as u32;
                    self.shared.push((blob, buffer));
                    buffer
                });
                return (buffer, offset, len);
            }
            SeenBytes::InFile(at, len) => match self.file_buffer(head, at, len, buffers) {
                Some(buffer) => return (buffer, at.offset, len),
                None => {
                    let start = self.copied.len();
                    self.copied.resize(start + len as usize, 0);
                    self.unread.push(Unread {
                        file: head.file(at),
                        offset: at.offset,
                        into: start..self.copied.len(),
                    });
                }
            },
            SeenBytes::Copy(bytes) => self.copied.extend_from_slice(bytes),
            SeenBytes::Cut(bytes, count) => {
                self.copied.extend_from_slice(&count);
                self.copied
                    .extend_from_slice(bytes.get(2..).unwrap_or_default());
            }
        }
        (self.copy_buffer, start, self.copied.len() as u32 - start)
    }

    /// The buffer of a file that need not be read.
    fn file_buffer(
        &mut self,
        head: &Head,
        at: Place,
        len: u32,
        buffers: &mut Vec<Bytes>,
    ) -> Option<u32> {
        let end = at.offset as usize + len as usize;
        let known = self.files.iter().find(|f| f.0 == at.file && end <= f.2);
        if let Some(known) = known {
            return Some(known.1);
        }
        let shared = head.file(at)?.shared().filter(|s| end <= s.len())?;
        let buffer = buffers.len() as u32;
        self.files.push((at.file, buffer, shared.len()));
        buffers.push(shared);
        Some(buffer)
    }

    /// Ends a batch: reads what lies in files. How many bytes were copied. Call with nothing locked.
    pub(crate) fn end(&mut self, batch: &mut SeriesBatch) -> Result<usize, SourceError> {
        for unread in self.unread.drain(..) {
            let out = self.copied.get_mut(unread.into).unwrap_or_default();
            let Some(file) = unread.file else {
                let what = "a file of chunks is gone";
                return Err(SourceError::new(model::Kind::Internal, what));
            };
            let read = file.read(unread.offset, out);
            read.map_err(crate::Error::io("reading", file.path()))?;
        }
        let copied = std::mem::take(&mut self.copied);
        let len = copied.len();
        // The next batch will be about as large.
        self.copied = Vec::with_capacity(len);
        if let Some(buffer) = batch.buffers.get_mut(self.copy_buffer as usize) {
            *buffer = copied.into();
        }
        Ok(len)
    }
}

/// What a batch's own vectors hold, in bytes.
pub(crate) fn batch_bytes(batch: &SeriesBatch) -> u64 {
    (batch.series.len() * size_of::<model::SeriesEntry>()
        + batch.labels.len() * size_of::<(Symbol, Symbol)>()
        + batch.chunks.len() * size_of::<ChunkRef>()
        + batch.buffers.len() * size_of::<Bytes>()) as u64
}

/// Sets the memory of a finished batch aside, and counts it.
pub(crate) fn account(
    batch: &mut SeriesBatch,
    scope: &Scope,
    copied: usize,
) -> Result<(), SourceError> {
    let bytes = batch_bytes(batch) + copied as u64;
    let reservation: Reservation = scope.budget.reserve("series", bytes)?;
    batch.reservation = Some(reservation);
    Statistics::add(&scope.statistics.series, batch.len() as u64);
    Ok(())
}

/// The numbers of a select's series, off which its cursors take stretches.
pub(crate) struct Ids {
    all: Vec<u32>,
    /// About how many make a stretch.
    stretch: usize,
    next: AtomicUsize,
    _held: Reservation,
}

impl Ids {
    pub(crate) fn new(all: Vec<u32>, stretch: usize, scope: &Scope) -> Result<Self, SourceError> {
        let held = scope.budget.reserve("postings", all.len() as u64 * 4)?;
        Ok(Self {
            all,
            stretch,
            next: AtomicUsize::new(0),
            _held: held,
        })
    }

    /// Takes the next stretch: where it begins, and its numbers. Where stretches are cut depends on
    /// the numbers alone.
    fn take(&self) -> Option<(usize, &[u32])> {
        let page = |at: usize| self.all.get(at).map(|id| id / PAGE);
        let end = |start: usize| {
            let mut end = (start + self.stretch).min(self.all.len());
            // Series of one page share a lock and buffers: cut between pages.
            while end > 0 && end < self.all.len() && page(end) == page(end - 1) {
                end += 1;
            }
            (end > start).then_some(end)
        };
        let start = self.next.fetch_update(Relaxed, Relaxed, end).ok()?;
        Some((start, self.all.get(start..end(start)?)?))
    }

    fn left(&self) -> usize {
        self.all.len().saturating_sub(self.next.load(Relaxed))
    }
}

/// Series of the head, in the order of their numbers.
pub(crate) struct HeadCursor {
    pub(crate) head: Arc<Head>,
    pub(crate) snapshot: Arc<Snapshot>,
    /// Keeps what the query sees from being dropped.
    pub(crate) pin: Option<Arc<crate::db::Layout>>,
    pub(crate) scope: Arc<Scope>,
    pub(crate) select: Arc<Select>,
    /// The select's range, cut to what the head is asked for.
    pub(crate) reach: Reach,
    pub(crate) ids: Arc<Ids>,
    /// Where the stretch at hand begins.
    pub(crate) number: usize,
    pub(crate) symbols: PairSymbols,
    pub(crate) chunks: ChunkWriter,
}

impl HeadCursor {
    /// Whether a label is shown.
    fn shows(&self, name: &str) -> bool {
        let without = match &self.select.order {
            model::Order::Any => &[][..],
            model::Order::ByLabels { without } => without,
        };
        self.select.hints.projection.keeps(name) && without.iter().all(|w| **w != *name)
    }

    fn fill(&mut self, ids: &[u32], batch: &mut SeriesBatch) {
        let head = Arc::clone(&self.head);
        let index = head.index.read();
        let pages = head.pages.read();
        self.symbols.refresh(&index);
        let everything = matches!(self.select.hints.projection, model::Projection::All)
            && match &self.select.order {
                model::Order::Any => true,
                model::Order::ByLabels { without } => without.is_empty(),
            };
        let mut held: Option<(usize, MutexGuard<'_, Inner>)> = None;
        for &id in ids {
            let (number, slot) = place(id);
            if held.as_ref().is_none_or(|h| h.0 != number) {
                held = None;
                let Some(page) = pages.get(number) else {
                    continue;
                };
                held = Some((number, lock(page)));
            }
            let Some((_, page)) = &held else { continue };
            let Some(series) = page.get(slot) else {
                continue;
            };
            let skip = self.select.skip_chunks;
            let seen = self.chunks.add(
                batch,
                &head,
                (number, page, slot),
                &self.reach,
                &self.snapshot,
                skip,
            );
            if !seen {
                continue;
            }
            for &pair in page.labels(series) {
                if everything || self.shows(index.pair(pair).0) {
                    let symbols = self.symbols.get(pair, &index, &self.scope.symbols);
                    batch.labels.push(symbols);
                }
            }
            batch.finish_series();
        }
    }
}

fn lock(page: &Page) -> MutexGuard<'_, Inner> {
    page.0.lock()
}

impl Cursor for HeadCursor {
    fn next(&mut self) -> Result<Option<SeriesBatch>, SourceError> {
        let ids = Arc::clone(&self.ids);
        let mut batch = SeriesBatch::default();
        self.chunks.begin(&mut batch);
        while batch.is_empty() {
            self.scope.check()?;
            let Some((start, stretch)) = ids.take() else {
                self.pin = None;
                return Ok(None);
            };
            self.number = start;
            self.fill(stretch, &mut batch);
        }
        let copied = self.chunks.end(&mut batch)?;
        account(&mut batch, &self.scope, copied)?;
        Ok(Some(batch))
    }

    fn ahead(&mut self) -> Option<Ahead> {
        // A chunk is about so long, and takes about so many bytes.
        const CHUNK: (i64, usize) = (1_800_000, 256);
        let series = self.ids.left().min(self.ids.stretch);
        let (min, max) = self.reach.ordered;
        let chunks = max.saturating_sub(min).max(0) / CHUNK.0 + 1;
        let chunks = usize::try_from(chunks).unwrap_or(usize::MAX);
        let bytes = series.saturating_mul(chunks.saturating_mul(CHUNK.1).saturating_add(256));
        Some(Ahead { series, bytes })
    }

    fn number(&self) -> Option<u64> {
        Some(self.number as u64)
    }
}

impl Head {
    /// Those of `ids` whose shown labels belong to the shard that is asked for.
    pub(crate) fn keep_shard(&self, ids: &mut Vec<u32>, select: &Select) {
        let Some(shard) = &select.hints.shard else {
            return;
        };
        let without: &[model::Str] = match &select.order {
            model::Order::Any => &[],
            model::Order::ByLabels { without } => without,
        };
        let index = self.index.read();
        let pages = self.pages.read();
        let mut scratch = Vec::new();
        ids.retain(|&id| {
            let (number, slot) = place(id);
            let Some(page) = pages.get(number) else {
                return false;
            };
            let page = page.0.lock();
            page.get(slot).is_some_and(|series| {
                let labels = page.labels(series).iter().map(|&p| index.pair(p));
                let shown = labels.filter(|(n, _)| without.iter().all(|w| **w != **n));
                shard.owns(shown, &mut scratch)
            })
        });
    }

    /// Adds the label names of those of `ids` that have a sample in `reach`, or their values of
    /// label `name`.
    pub(crate) fn names_of(
        &self,
        ids: &[u32],
        reach: &Reach,
        snapshot: &Snapshot,
        name: Option<&str>,
        scope: &Scope,
        found: &mut std::collections::BTreeSet<String>,
    ) -> Result<(), Stopped> {
        let mut seen: std::collections::HashSet<PairId> = Default::default();
        for part in ids.chunks(512) {
            scope.check()?;
            let index = self.index.read();
            let pages = self.pages.read();
            for &id in part {
                let (number, slot) = place(id);
                let Some(page) = pages.get(number) else {
                    continue;
                };
                let page = page.0.lock();
                if !page.shows(slot, reach, snapshot) {
                    continue;
                }
                let Some(series) = page.get(slot) else {
                    continue;
                };
                for &pair in page.labels(series) {
                    let (n, v) = index.pair(pair);
                    let wanted = match name {
                        None => n,
                        Some(name) if name == n => v,
                        Some(_) => continue,
                    };
                    // A pair's number may be used for another pair in the next part.
                    if seen.insert(pair) && !found.contains(wanted) {
                        found.insert(wanted.to_owned());
                    }
                }
            }
            seen.clear();
        }
        Ok(())
    }

    /// Calls `each` with the number and the labels of those of `ids` of which the snapshot sees a
    /// sample in `reach`.
    pub(crate) fn entries(
        &self,
        ids: &[u32],
        reach: &Reach,
        snapshot: &Snapshot,
        symbols: &Symbols,
        cache: &mut PairSymbols,
        mut each: impl FnMut(u32, &[(Symbol, Symbol)]),
    ) {
        let mut labels = Vec::new();
        for part in ids.chunks(512) {
            let index = self.index.read();
            let pages = self.pages.read();
            cache.refresh(&index);
            for &id in part {
                let (number, slot) = place(id);
                let Some(page) = pages.get(number) else {
                    continue;
                };
                let page = page.0.lock();
                let Some(series) = page.get(slot) else {
                    continue;
                };
                if !page.shows(slot, reach, snapshot) {
                    continue;
                }
                labels.clear();
                labels.extend(
                    page.labels(series)
                        .iter()
                        .map(|&p| cache.get(p, &index, symbols)),
                );
                drop(page);
                each(id, &labels);
            }
        }
    }

    /// Adds the chunks of one series to a batch.
    pub(crate) fn add_chunks(
        &self,
        id: u32,
        reach: &Reach,
        snapshot: &Snapshot,
        writer: &mut ChunkWriter,
        batch: &mut SeriesBatch,
    ) {
        let (number, slot) = place(id);
        let page = self.page(number);
        if let Some(page) = page {
            let page = page.0.lock();
            writer.add(batch, self, (number, &page, slot), reach, snapshot, false);
        }
    }
}
