//! Selecting from several parts at once, or in the order of labels.
//!
//! First the *entries* of all parts are gathered: labels as symbols, and where the chunks are.
//! They are sorted as the select wants it, and entries of equal labels become one series. Then
//! cursors take batches of series off the list and read their chunks. Whichever cursor is asked
//! first gathers; the others wait for it on the CPU pool, where it is running.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use block::index::ChunkMeta;
use hashbrown::HashMap;
use model::source::Aggregate;
use model::{
    ChunkRef, Cursor, Encoding, Order, Reservation, Scope, Select, SeriesBatch, SourceError,
    Statistics, Str, Symbol, TimeRange,
};
use parking_lot::Mutex;

use super::local::{self, LocalBlock, Wanted};
use super::view::{Pin, threads};
use crate::head::{ChunkWriter, PairSymbols, Reach, account};

/// Between checks whether the query still goes on.
const CHECK: usize = 1024;

type Pair = (Symbol, Symbol);

/// One series of one part.
#[derive(Clone, Copy)]
struct Entry {
    labels: (u32, u32),
    chunks: (u32, u32),
    /// The place of its block; `HEAD` for the head.
    part: u16,
    id: u32,
}

const HEAD: u16 = u16::MAX;

struct Gathered {
    labels: Vec<Pair>,
    chunks: Vec<ChunkMeta>,
    entries: Vec<Entry>,
    /// Where each series' entries end.
    ends: Vec<u32>,
    _held: Reservation,
}

impl Gathered {
    fn labels(&self, e: &Entry) -> &[Pair] {
        &self.labels[e.labels.0 as usize..e.labels.1 as usize]
    }

    fn chunks(&self, e: &Entry) -> &[ChunkMeta] {
        &self.chunks[e.chunks.0 as usize..e.chunks.1 as usize]
    }

    fn bytes(&self) -> u64 {
        (self.labels.len() * size_of::<Pair>()
            + self.chunks.len() * size_of::<ChunkMeta>()
            + self.entries.len() * (size_of::<Entry>() + 4)) as u64
    }
}

pub(super) struct Shared {
    pin: Pin,
    scope: Arc<Scope>,
    select: Select,
    blocks: Vec<Arc<LocalBlock>>,
    head: Option<Reach>,
    batch_series: usize,
    gathered: Mutex<Option<Result<Arc<Gathered>, SourceError>>>,
    next: AtomicUsize,
}

impl Shared {
    pub(super) fn new(
        pin: Pin,
        scope: Arc<Scope>,
        select: Select,
        blocks: Vec<Arc<LocalBlock>>,
        head: Option<Reach>,
        batch_series: usize,
    ) -> Arc<Self> {
        Arc::new(Self {
            pin,
            scope,
            select,
            blocks,
            head,
            batch_series,
            gathered: Mutex::new(None),
            next: AtomicUsize::new(0),
        })
    }

    fn without(&self) -> &[Str] {
        match &self.select.order {
            Order::Any => &[],
            Order::ByLabels { without } => without,
        }
    }

    fn gathered(&self) -> Result<Arc<Gathered>, SourceError> {
        let mut gathered = self.gathered.lock();
        gathered
            .get_or_insert_with(|| self.gather().map(Arc::new))
            .clone()
    }

    fn gather(&self) -> Result<Gathered, SourceError> {
        let mut all = Gathered {
            labels: Vec::new(),
            chunks: Vec::new(),
            entries: Vec::new(),
            ends: Vec::new(),
            _held: self.scope.budget.reserve("series", 0)?,
        };
        for part in 0..self.blocks.len() {
            self.of_block(part, &mut all)?;
        }
        if let Some(reach) = &self.head {
            self.of_head(reach, &mut all)?;
        }
        self.sort(&mut all);
        let Gathered {
            labels,
            entries,
            ends,
            ..
        } = &mut all;
        let of = |e: &Entry| &labels[e.labels.0 as usize..e.labels.1 as usize];
        let mut end = 0;
        for group in entries.chunk_by(|a, b| of(a) == of(b)) {
            end += group.len() as u32;
            ends.push(end);
        }
        if self.select.hints.limit > 0 {
            ends.truncate(self.select.hints.limit);
        }
        Ok(all)
    }

    fn push(
        &self,
        all: &mut Gathered,
        (part, id): (u16, u32),
        labels: &[Pair],
        chunks: &[ChunkMeta],
        scratch: &mut Vec<u8>,
    ) -> Result<(), SourceError> {
        let symbols = &self.scope.symbols;
        if let Some(shard) = &self.select.hints.shard {
            let without = self.without();
            let shown = labels
                .iter()
                .map(|&(n, v)| (symbols.get(n), symbols.get(v)))
                .filter(|(n, _)| without.iter().all(|w| **w != **n));
            if !shard.owns(shown, scratch) {
                return Ok(());
            }
        }
        let place = |len: usize| {
            u32::try_from(len).map_err(|_| {
                SourceError::new(model::Kind::Limit, "the select matches too many series")
            })
        };
        let starts = (place(all.labels.len())?, place(all.chunks.len())?);
        all.labels.extend_from_slice(labels);
        all.chunks.extend_from_slice(chunks);
        all.entries.push(Entry {
            labels: (starts.0, place(all.labels.len())?),
            chunks: (starts.1, place(all.chunks.len())?),
            part,
            id,
        });
        if all.entries.len().is_multiple_of(CHECK) {
            self.scope.check()?;
            let bytes = all.bytes();
            all._held.resize("series", bytes)?;
        }
        Ok(())
    }

    fn of_block(&self, part: usize, all: &mut Gathered) -> Result<(), SourceError> {
        self.scope.check()?;
        let block = &self.blocks[part];
        let ids = block.matching(&self.select.matchers)?;
        let mut interned: HashMap<u32, Symbol> = HashMap::new();
        let mut labels = Vec::new();
        let mut scratch = Vec::new();
        let symbols = &self.scope.symbols;
        let mut stopped = None;
        let read = block.entries(&ids, self.select.range, |id, pairs, chunks| {
            let mut symbol = |ordinal: u32| {
                *interned.entry(ordinal).or_insert_with(|| {
                    symbols.intern(block.index().symbols().get(ordinal).unwrap_or(""))
                })
            };
            labels.clear();
            labels.extend(pairs.iter().map(|p| (symbol(p.0), symbol(p.1))));
            let chunks = match self.select.skip_chunks {
                true => &[],
                false => chunks,
            };
            self.push(all, (part as u16, id), &labels, chunks, &mut scratch)
                .map_err(|e| {
                    stopped = Some(e);
                    block::BlockError::Invalid(String::new())
                })
        });
        match (stopped, read) {
            (Some(e), _) => Err(e),
            (None, read) => Ok(read?),
        }?;
        let bytes = all.bytes();
        all._held.resize("series", bytes)?;
        Ok(())
    }

    fn of_head(&self, reach: &Reach, all: &mut Gathered) -> Result<(), SourceError> {
        self.scope.check()?;
        let head = &self.pin.inner.head;
        let ids = head.matching(&self.select.matchers);
        let mut cache = PairSymbols::default();
        let mut scratch = Vec::new();
        let mut result = Ok(());
        let (snapshot, symbols) = (&self.pin.snapshot, &self.scope.symbols);
        head.entries(&ids, reach, snapshot, symbols, &mut cache, |id, labels| {
            if result.is_ok() {
                result = self.push(all, (HEAD, id), labels, &[], &mut scratch);
            }
        });
        result?;
        let bytes = all.bytes();
        all._held.resize("series", bytes)?;
        Ok(())
    }

    fn sort(&self, all: &mut Gathered) {
        let Gathered {
            labels, entries, ..
        } = all;
        let of = |e: &Entry| &labels[e.labels.0 as usize..e.labels.1 as usize];
        let symbols = &self.scope.symbols;
        let Order::ByLabels { without } = &self.select.order else {
            // Any order that brings equal labels together; one part needs none.
            if entries.first().map(|e| e.part) != entries.last().map(|e| e.part) {
                entries.sort_unstable_by(|a, b| of(a).cmp(of(b)).then(a.part.cmp(&b.part)));
            }
            return;
        };
        // Strings are compared once each: then their ranks stand for them.
        let mut distinct: Vec<Symbol> = labels.iter().flat_map(|p| [p.0, p.1]).collect();
        distinct.sort_unstable();
        distinct.dedup();
        let mut by_text = distinct.clone();
        by_text.sort_unstable_by(|a, b| symbols.get(*a).cmp(symbols.get(*b)));
        let ranks: HashMap<Symbol, u32> = by_text.iter().zip(0..).map(|(s, r)| (*s, r)).collect();
        let ranked: Vec<(u32, u32)> = labels
            .iter()
            .map(|p| {
                let rank = |s| ranks.get(&s).copied().unwrap_or(0);
                (rank(p.0), rank(p.1))
            })
            .collect();
        let removed: Vec<u32> = without
            .iter()
            .filter_map(|w| ranks.get(&symbols.find(w)?).copied())
            .collect();
        let of = |e: &Entry| &ranked[e.labels.0 as usize..e.labels.1 as usize];
        let shown = |e: &Entry| of(e).iter().filter(|p| !removed.contains(&p.0));
        entries.sort_by(|a, b| {
            let by_shown = match removed.is_empty() {
                true => std::cmp::Ordering::Equal,
                false => shown(a).cmp(shown(b)),
            };
            by_shown
                .then_with(|| of(a).cmp(of(b)))
                .then(a.part.cmp(&b.part))
        });
    }
}

/// The cursors of a select.
pub(super) fn cursors(shared: Arc<Shared>) -> Vec<Box<dyn Cursor>> {
    let count = match shared.select.order {
        Order::Any => threads(),
        // One after the other.
        Order::ByLabels { .. } => 1,
    };
    (0..count)
        .map(|_| {
            Box::new(MergedCursor {
                shared: Arc::clone(&shared),
                gathered: None,
                chunks: ChunkWriter::default(),
                wanted: Vec::new(),
                of_series: Vec::new(),
                shows: HashMap::new(),
            }) as Box<dyn Cursor>
        })
        .collect()
}

/// Where a chunk lies: the block's place, the reference, the series' number.
type InBlock = (u16, u64, u32);

struct MergedCursor {
    shared: Arc<Shared>,
    gathered: Option<Arc<Gathered>>,
    chunks: ChunkWriter,
    /// By block.
    wanted: Vec<Vec<Wanted>>,
    /// Chunks of the series at hand.
    of_series: Vec<(ChunkRef, Option<InBlock>)>,
    /// Whether labels of a name are shown.
    shows: HashMap<Symbol, bool>,
}

impl Cursor for MergedCursor {
    fn next(&mut self) -> Result<Option<SeriesBatch>, SourceError> {
        self.shared.scope.check()?;
        let gathered = match &self.gathered {
            Some(g) => Arc::clone(g),
            None => Arc::clone(self.gathered.insert(self.shared.gathered()?)),
        };
        let size = self.shared.batch_series;
        let start = self.shared.next.fetch_add(size, Ordering::Relaxed);
        if start >= gathered.ends.len() {
            return Ok(None);
        }
        let end = (start + size).min(gathered.ends.len());
        self.batch(&gathered, start, end).map(Some)
    }
}

impl MergedCursor {
    fn batch(
        &mut self,
        gathered: &Gathered,
        start: usize,
        end: usize,
    ) -> Result<SeriesBatch, SourceError> {
        let shared = Arc::clone(&self.shared);
        let mut batch = SeriesBatch::default();
        self.chunks.begin(&mut batch);
        self.wanted.clear();
        self.wanted.resize_with(shared.blocks.len(), Vec::new);
        for series in start..end {
            let first = match series {
                0 => 0,
                n => gathered.ends[n - 1] as usize,
            };
            let entries = &gathered.entries[first..gathered.ends[series] as usize];
            self.series(gathered, entries, &mut batch);
        }
        let mut read = 0;
        let mut more = Vec::new();
        for (block, wanted) in shared.blocks.iter().zip(&mut self.wanted) {
            read += block.read(wanted, &mut batch, &mut more)?;
        }
        local::insert(more, &mut batch);
        Statistics::add(&shared.scope.statistics.bytes, read);
        let copied = self.chunks.end(&mut batch)?;
        account(&mut batch, &shared.scope, copied + read as usize)?;
        Ok(batch)
    }

    fn series(&mut self, gathered: &Gathered, entries: &[Entry], batch: &mut SeriesBatch) {
        let shared = &self.shared;
        self.of_series.clear();
        for e in entries {
            if e.part == HEAD {
                let Some(reach) = shared.head.filter(|_| !shared.select.skip_chunks) else {
                    continue;
                };
                let before = batch.chunks.len();
                let head = &shared.pin.inner.head;
                head.add_chunks(e.id, &reach, &shared.pin.snapshot, &mut self.chunks, batch);
                let added = batch.chunks.drain(before..);
                self.of_series.extend(added.map(|c| (c, None)));
                continue;
            }
            self.of_series.extend(gathered.chunks(e).iter().map(|c| {
                let chunk = ChunkRef {
                    min: c.min,
                    max: c.max,
                    encoding: Encoding::XOR,
                    aggregate: Aggregate::Raw,
                    lane: 0,
                    buffer: 0,
                    offset: 0,
                    len: 0,
                };
                (chunk, Some((e.part, c.reference, e.id)))
            }));
        }
        self.of_series.sort_by_key(|(c, _)| (c.min, c.max));
        for (chunk, place) in self.of_series.drain(..) {
            if let Some((part, reference, id)) = place {
                let range = TimeRange::new(chunk.min, chunk.max);
                let stoned = shared.blocks[usize::from(part)].is_stoned(id, range);
                self.wanted[usize::from(part)].push(Wanted {
                    reference,
                    chunk: batch.chunks.len() as u32,
                    stoned: stoned.then_some(id),
                });
            }
            batch.chunks.push(chunk);
        }
        let Some(first) = entries.first() else { return };
        let symbols = &shared.scope.symbols;
        let projection = &shared.select.hints.projection;
        let without = shared.without();
        for &pair in gathered.labels(first) {
            let shows = *self.shows.entry(pair.0).or_insert_with(|| {
                let name = symbols.get(pair.0);
                projection.keeps(name) && without.iter().all(|w| **w != *name)
            });
            if shows {
                batch.labels.push(pair);
            }
        }
        batch.finish_series();
    }
}
