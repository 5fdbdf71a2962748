//! Selecting from several parts at once, or in the order of labels.
//!
//! A single block has its series in the order of labels: cursors take stretches of it. Else the
//! *entries* of all parts are gathered first: labels as symbols, and where the chunks are. Cursors
//! gather them together, piece by piece; entries of equal labels become one series. Then they take
//! batches of series off the list and read their chunks.

mod pieces;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use block::source::threads;
use hashbrown::HashMap;
use model::source::{Aggregate, Ahead};
use model::{
    ChunkRef, Cursor, Encoding, Order, Scope, Select, SeriesBatch, SourceError, Statistics, Str,
    Symbol, TimeRange,
};
use parking_lot::{Condvar, Mutex};

use self::pieces::{Gathered, HEAD, Ordinals, Pair, Piece, Ref, refs};
use super::local::{self, LocalBlock, Wanted};
use super::view::Pin;
use crate::head::{ChunkWriter, PairSymbols, Reach, account};

/// Series of a piece.
const PIECE: usize = 1024;

pub(super) struct Shared {
    pin: Pin,
    scope: Arc<Scope>,
    select: Select,
    blocks: Vec<Arc<LocalBlock>>,
    symbols: Vec<Ordinals>,
    head: Option<Reach>,
    batch_series: usize,
    found: OnceLock<Result<Found, SourceError>>,
    gathered: Mutex<Option<Result<Arc<Gathered>, SourceError>>>,
    all_read: Condvar,
    /// The next series (or id, if there is a single block) that no cursor has taken.
    next: AtomicUsize,
}

/// The ids that match.
struct Found {
    blocks: Vec<Vec<u32>>,
    head: Vec<u32>,
    /// Part and place of the first id of each piece.
    pieces: Vec<(u16, usize)>,
    read: Vec<Mutex<Option<Result<Piece, SourceError>>>>,
    /// The next piece that no cursor reads.
    next: AtomicUsize,
    /// How many are not read yet.
    left: AtomicUsize,
}

impl Found {
    fn new(blocks: Vec<Vec<u32>>, head: Vec<u32>) -> Self {
        let of = |part: u16, ids: &[u32]| (0..ids.len()).step_by(PIECE).map(move |at| (part, at));
        let of_blocks = (0u16..).zip(&blocks).flat_map(|(part, ids)| of(part, ids));
        let pieces: Vec<_> = of_blocks.chain(of(HEAD, &head)).collect();
        Self {
            read: pieces.iter().map(|_| Mutex::new(None)).collect(),
            next: AtomicUsize::new(0),
            left: AtomicUsize::new(pieces.len()),
            pieces,
            blocks,
            head,
        }
    }
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
        let tables = blocks.iter().map(|b| b.index().symbols());
        Arc::new(Self {
            pin,
            scope,
            select,
            symbols: tables.map(Ordinals::new).collect(),
            blocks,
            head,
            batch_series,
            found: OnceLock::new(),
            gathered: Mutex::new(None),
            all_read: Condvar::new(),
            next: AtomicUsize::new(0),
        })
    }

    fn without(&self) -> &[Str] {
        match &self.select.order {
            Order::Any => &[],
            Order::ByLabels { without } => without,
        }
    }

    /// Whether one block has all that is wanted, in the order that is wanted.
    fn is_alone(&self) -> bool {
        self.blocks.len() == 1 && self.head.is_none() && self.without().is_empty()
    }

    fn found(&self) -> Result<&Found, SourceError> {
        let find = || {
            let mut blocks = Vec::with_capacity(self.blocks.len());
            for block in &self.blocks {
                self.scope.check()?;
                blocks.push(block.matching_for(&self.scope, &self.select.matchers)?);
            }
            Ok(Found::new(blocks, self.found_in_head()?))
        };
        let found = self.found.get_or_init(find);
        found.as_ref().map_err(Clone::clone)
    }

    fn found_in_head(&self) -> Result<Vec<u32>, SourceError> {
        let head = &self.pin.inner.head;
        Ok(match &self.head {
            Some(_) => head.matching_for(&self.scope, &self.select.matchers)?,
            None => Vec::new(),
        })
    }

    /// The same if it takes little, or was done before.
    fn found_at_once(&self) -> Option<&Found> {
        if self.found.get().is_none() {
            let mut blocks = Vec::with_capacity(self.blocks.len());
            for block in &self.blocks {
                blocks.push(block.matching_at_once(&self.select.matchers)?);
            }
            let tries_values =
                |m: &model::Matcher| m.regex().is_some_and(|r| r.literals().is_none());
            if self.head.is_some() && self.select.matchers.iter().any(tries_values) {
                return None;
            }
            let found = Found::new(blocks, self.found_in_head().ok()?);
            // Another cursor may have been first: it has found the same.
            let _ = self.found.set(Ok(found));
        }
        self.found.get()?.as_ref().ok()
    }

    /// Reads pieces as long as there are any, waits for those that others read, and unites them.
    fn gathered(&self) -> Result<Arc<Gathered>, SourceError> {
        let found = self.found()?;
        loop {
            let n = found.next.fetch_add(1, Ordering::Relaxed);
            let Some(&(part, at)) = found.pieces.get(n) else {
                break;
            };
            let reading = Reading(self, found);
            let piece = self.piece(found, part, at..at + PIECE);
            *found.read[n].lock() = Some(piece);
            drop(reading);
        }
        let mut gathered = self.gathered.lock();
        if gathered.is_none() {
            // On the CPU pool, too, but never for more than one piece.
            while found.left.load(Ordering::Acquire) > 0 {
                self.all_read.wait(&mut gathered);
            }
        }
        let unite = || {
            self.scope.check()?;
            let mut pieces = Vec::with_capacity(found.read.len());
            for read in &found.read {
                match read.lock().take() {
                    Some(piece) => pieces.push(piece?),
                    None => {
                        return Err(SourceError::new(model::Kind::Internal, "entries were lost"));
                    }
                }
            }
            let united = Gathered::new(pieces, &self.select, &self.scope.symbols);
            Ok(Arc::new(united))
        };
        gathered.get_or_insert_with(unite).clone()
    }

    /// The entries of some ids of one part.
    fn piece(
        &self,
        found: &Found,
        part: u16,
        range: std::ops::Range<usize>,
    ) -> Result<Piece, SourceError> {
        self.scope.check()?;
        let mut piece = Piece::new(part, self.scope.budget.reserve("series", 0)?);
        let ids = match part {
            HEAD => &found.head,
            part => &found.blocks[usize::from(part)],
        };
        let range = range.start.min(ids.len())..range.end.min(ids.len());
        match (part, &self.head) {
            (HEAD, Some(reach)) => self.of_head(&ids[range], reach, &mut piece)?,
            (HEAD, None) => {}
            _ => self.of_block(ids, range, &mut piece)?,
        }
        piece.hold()?;
        Ok(piece)
    }

    /// Whether a series belongs to the shard that is asked for.
    fn owns(&self, labels: &[Pair], scratch: &mut Vec<u8>) -> bool {
        let Some(shard) = &self.select.hints.shard else {
            return true;
        };
        let symbols = &self.scope.symbols;
        let without = self.without();
        let shown = labels
            .iter()
            .map(|&(n, v)| (symbols.get(n), symbols.get(v)))
            .filter(|(n, _)| without.iter().all(|w| **w != **n));
        shard.owns(shown, scratch)
    }

    fn of_block(
        &self,
        ids: &[u32],
        range: std::ops::Range<usize>,
        piece: &mut Piece,
    ) -> Result<(), SourceError> {
        let part = usize::from(piece.part);
        let (block, ordinals) = (&self.blocks[part], &self.symbols[part]);
        let mut labels = Vec::new();
        let mut scratch = Vec::new();
        let (table, symbols) = (block.index().symbols(), &self.scope.symbols);
        let mut stopped = None;
        let read = block.entries(&ids[range], self.select.range, |id, pairs, chunks| {
            labels.clear();
            let symbol = |ordinal| ordinals.get(ordinal, table, symbols);
            labels.extend(pairs.iter().map(|p| (symbol(p.0), symbol(p.1))));
            if !self.owns(&labels, &mut scratch) {
                return Ok(());
            }
            let chunks = match self.select.skip_chunks {
                true => &[],
                false => chunks,
            };
            piece.push(id, &labels, chunks).map_err(|e| {
                stopped = Some(e);
                block::BlockError::Invalid(String::new())
            })
        });
        match (stopped, read) {
            (Some(e), _) => Err(e),
            (None, read) => Ok(read?),
        }
    }

    fn of_head(&self, ids: &[u32], reach: &Reach, piece: &mut Piece) -> Result<(), SourceError> {
        let head = &self.pin.inner.head;
        let mut cache = PairSymbols::default();
        let mut scratch = Vec::new();
        let mut result = Ok(());
        let (snapshot, symbols) = (&self.pin.snapshot, &self.scope.symbols);
        head.entries(ids, reach, snapshot, symbols, &mut cache, |id, labels| {
            if result.is_ok() && self.owns(labels, &mut scratch) {
                result = piece.push(id, labels, &[]);
            }
        });
        result
    }
}

/// A piece that is being read; tells those who wait, whatever happens.
struct Reading<'a>(&'a Shared, &'a Found);

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        if self.1.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            // Whoever has seen that some are left waits by now.
            drop(self.0.gathered.lock());
            self.0.all_read.notify_all();
        }
    }
}

/// The cursors of a select.
pub(super) fn cursors(shared: Arc<Shared>) -> Vec<Box<dyn Cursor>> {
    let limit = shared.select.hints.limit;
    let count = match shared.select.order {
        Order::Any if limit == 0 => threads(),
        // One after the other.
        _ => 1,
    };
    (0..count)
        .map(|_| {
            Box::new(MergedCursor {
                shared: Arc::clone(&shared),
                gathered: None,
                number: 0,
                left: if limit == 0 { usize::MAX } else { limit },
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
    /// Where the batch at hand begins.
    number: usize,
    /// Series that the limit still allows.
    left: usize,
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
        let shared = Arc::clone(&self.shared);
        shared.scope.check()?;
        let size = shared.batch_series;
        if shared.is_alone() {
            return self.next_alone(&shared);
        }
        let gathered = match &self.gathered {
            Some(g) => Arc::clone(g),
            None => Arc::clone(self.gathered.insert(shared.gathered()?)),
        };
        let start = shared.next.fetch_add(size, Ordering::Relaxed);
        if start >= gathered.len() {
            return Ok(None);
        }
        self.number = start;
        let end = (start + size).min(gathered.len());
        let series = (start..end).map(|i| gathered.series(i));
        self.batch(&gathered.pieces, series).map(Some)
    }

    fn ahead(&mut self) -> Option<Ahead> {
        let shared = &self.shared;
        let taken = shared.next.load(Ordering::Relaxed);
        let alone = shared.is_alone();
        let found = shared.found_at_once()?;
        let in_blocks = |bytes_of: fn(&LocalBlock, TimeRange) -> usize| {
            let both = shared.blocks.iter().zip(&found.blocks);
            both.map(|(block, ids)| {
                let left = if alone {
                    ids.len().saturating_sub(taken)
                } else {
                    ids.len()
                };
                left.saturating_mul(bytes_of(block, shared.select.range))
            })
            .sum::<usize>()
        };
        if !alone && taken > 0 {
            // The rest is known to those who have gathered it only; mostly there is none.
            let all = self.gathered.as_ref().map_or(0, |g| g.len());
            let series = all.saturating_sub(taken);
            let bytes = in_blocks(LocalBlock::bytes_of_series);
            return Some(Ahead {
                series,
                bytes: if series == 0 { 0 } else { bytes },
            });
        }
        let of_head = found.head.len();
        Some(Ahead {
            series: in_blocks(|_, _| 1).saturating_add(of_head),
            bytes: in_blocks(LocalBlock::bytes_of_series).saturating_add(of_head * 512),
        })
    }

    fn number(&self) -> Option<u64> {
        Some(self.number as u64)
    }
}

impl MergedCursor {
    /// The next series of a single block.
    fn next_alone(&mut self, shared: &Shared) -> Result<Option<SeriesBatch>, SourceError> {
        let found = shared.found()?;
        let ids = found.blocks.first().map_or(0, Vec::len);
        while self.left > 0 {
            let size = shared.batch_series;
            let start = shared.next.fetch_add(size, Ordering::Relaxed);
            if start >= ids {
                break;
            }
            self.number = start;
            let pieces = [shared.piece(found, 0, start..start + size)?];
            let refs: Vec<Ref> = refs(&pieces).take(self.left).collect();
            self.left -= refs.len();
            if !refs.is_empty() {
                return self.batch(&pieces, refs.chunks(1)).map(Some);
            }
        }
        Ok(None)
    }

    fn batch<'a>(
        &mut self,
        pieces: &[Piece],
        all: impl Iterator<Item = &'a [Ref]>,
    ) -> Result<SeriesBatch, SourceError> {
        let shared = Arc::clone(&self.shared);
        let mut batch = SeriesBatch::default();
        self.chunks.begin(&mut batch);
        self.wanted.clear();
        self.wanted.resize_with(shared.blocks.len(), Vec::new);
        for entries in all {
            self.series(pieces, entries, &mut batch);
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

    fn series(&mut self, pieces: &[Piece], entries: &[Ref], batch: &mut SeriesBatch) {
        let shared = &self.shared;
        self.of_series.clear();
        for &(piece, i) in entries {
            let piece = &pieces[piece as usize];
            let id = piece.id(i);
            if piece.part == HEAD {
                let Some(reach) = shared.head.filter(|_| !shared.select.skip_chunks) else {
                    continue;
                };
                let before = batch.chunks.len();
                let head = &shared.pin.inner.head;
                head.add_chunks(id, &reach, &shared.pin.snapshot, &mut self.chunks, batch);
                let added = batch.chunks.drain(before..);
                self.of_series.extend(added.map(|c| (c, None)));
                continue;
            }
            self.of_series.extend(piece.chunks(i).iter().map(|c| {
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
                (chunk, Some((piece.part, c.reference, id)))
            }));
        }
        if !self.of_series.is_sorted_by_key(|(c, _)| (c.min, c.max)) {
            self.of_series.sort_by_key(|(c, _)| (c.min, c.max));
        }
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
        let Some(&(piece, first)) = entries.first() else {
            return;
        };
        let symbols = &shared.scope.symbols;
        let projection = &shared.select.hints.projection;
        let without = shared.without();
        for &pair in pieces[piece as usize].labels(first) {
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
