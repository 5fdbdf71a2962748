//! Series entries: labels, and where the chunks are.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use block::BlockError;
use block::index::series::{self, Entry};
use block::index::{ChunkMeta, Version};
use model::source::Shard;
use model::{Labels, Matcher, Millis, Reservation, SourceError, Str, Symbol, Symbols, TimeRange};
use ulid::Ulid;

use super::Item;
use super::cache::File;
use super::fetch::{Fetched, Query};
use super::header::Header;

type Pair = (Symbol, Symbol);

/// The shortest and the longest first read of an entry whose length is not known, bytes.
const GUESS: Range<u64> = 128..64 << 10;

/// A chunk of a series, and how long it is if its neighbour tells.
#[derive(Clone, Copy, Debug)]
pub(super) struct ChunkAt {
    pub min: Millis,
    pub max: Millis,
    pub reference: u64,
    /// Bytes of its frame, exactly (0 if not known).
    pub len: u32,
}

/// One series of [`Entries`]: where its parts end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    labels: u32,
    removed: u32,
    chunks: u32,
}

/// Series of a block, as columns.
#[derive(Debug, Default)]
pub(super) struct Entries {
    rows: Vec<Row>,
    labels: Vec<Pair>,
    removed: Vec<Pair>,
    chunks: Vec<ChunkAt>,
    /// The order of the rows, where it is not that in which they came.
    order: Vec<u32>,
    reservation: Option<Reservation>,
}

impl Entries {
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// The row that stands at place `i` of the order.
    fn row(&self, i: usize) -> (Row, Row) {
        let i = self.order.get(i).map_or(i, |o| *o as usize);
        let zero = Row {
            labels: 0,
            removed: 0,
            chunks: 0,
        };
        let before = i.checked_sub(1).and_then(|b| self.rows.get(b)).copied();
        let row = self.rows.get(i).copied();
        let before = before.unwrap_or(zero);
        (before, row.unwrap_or(before))
    }

    pub(super) fn labels(&self, i: usize) -> &[Pair] {
        let (from, to) = self.row(i);
        &self.labels[from.labels as usize..to.labels as usize]
    }

    pub(super) fn removed(&self, i: usize) -> &[Pair] {
        let (from, to) = self.row(i);
        &self.removed[from.removed as usize..to.removed as usize]
    }

    pub(super) fn chunks(&self, i: usize) -> &[ChunkAt] {
        let (from, to) = self.row(i);
        &self.chunks[from.chunks as usize..to.chunks as usize]
    }

    fn bytes(&self) -> u64 {
        let bytes = self.rows.len() * size_of::<Row>()
            + (self.labels.len() + self.removed.len()) * size_of::<Pair>()
            + self.chunks.len() * size_of::<ChunkAt>()
            + self.order.len() * size_of::<u32>();
        bytes as u64
    }

    /// Adds the rows of `other`, which come after those that are here.
    pub(super) fn append(&mut self, other: &Entries) -> Result<(), SourceError> {
        let (l, r, c) = (self.labels.len(), self.removed.len(), self.chunks.len());
        self.rows.extend(other.rows.iter().map(|row| Row {
            labels: row.labels + l as u32,
            removed: row.removed + r as u32,
            chunks: row.chunks + c as u32,
        }));
        self.labels.extend_from_slice(&other.labels);
        self.removed.extend_from_slice(&other.removed);
        self.chunks.extend_from_slice(&other.chunks);
        let bytes = self.bytes();
        if let Some(reservation) = &mut self.reservation {
            reservation.resize("series", bytes)?;
        }
        Ok(())
    }

    /// An empty list whose memory is counted.
    pub(super) fn counted(query: &Query) -> Result<Self, SourceError> {
        Ok(Self {
            reservation: Some(query.scope.budget.reserve("series", 0)?),
            ..Self::default()
        })
    }

    /// Brings the rows into the order of (labels, removed labels).
    pub(super) fn sort(&mut self, symbols: &Symbols) {
        let mut order: Vec<u32> = (0..self.rows.len() as u32).collect();
        let key = |i: &u32| (self.labels(*i as usize), self.removed(*i as usize));
        let by_key = |a: &u32, b: &u32| -> Ordering {
            let ((al, ar), (bl, br)) = (key(a), key(b));
            symbols
                .compare(al, bl)
                .then_with(|| symbols.compare(ar, br))
        };
        order.sort_by(by_key);
        self.order = order;
    }
}

/// What is wanted of the series of one block.
#[derive(Debug)]
pub(super) struct Wanted {
    /// Chunks that overlap this; series without any are left out.
    pub range: TimeRange,
    /// Matchers that the postings did not answer.
    pub rest: Vec<Matcher>,
    /// External labels that are laid on top.
    pub external: Labels,
    /// Labels that are removed.
    pub without: Vec<Str>,
    /// Only these series.
    pub shard: Option<Shard>,
}

/// The symbols of a block that a query has met, as symbols of the query's table.
#[derive(Debug, Default)]
pub(super) struct SymbolMap(HashMap<u32, Symbol>);

impl SymbolMap {
    fn get(&mut self, reference: u32, header: &Header, symbols: &Symbols) -> Option<Symbol> {
        if let Some(&symbol) = self.0.get(&reference) {
            return Some(symbol);
        }
        let ordinal = header.symbols.ordinal(reference)?;
        let symbol = symbols.intern(header.symbols.get(ordinal)?);
        self.0.insert(reference, symbol);
        Some(symbol)
    }
}

/// How the series of a block are read.
#[derive(Debug)]
pub(super) struct SeriesReader {
    pub ulid: Ulid,
    pub header: Arc<Header>,
    pub wanted: Arc<Wanted>,
    /// First read of an entry, bytes.
    pub guess: u64,
    /// Bytes of chunks that a series will be asked for, about.
    pub chunks: u64,
}

impl SeriesReader {
    /// A first read that is nearly always enough: the longest entry, if that is known and not out
    /// of proportion, else a few times the mean.
    pub(super) fn guess(header: &Header, series: u64, longest: u64) -> u64 {
        let all = header.series_end().saturating_sub(header.toc.series);
        let mean = all / series.max(1);
        let often_enough = (mean * 3).clamp(GUESS.start, GUESS.end);
        match longest {
            0 => often_enough,
            n => (n + 16).min(often_enough),
        }
    }

    fn span(&self, id: u32, len: u64) -> Range<u64> {
        let at = self.header.version.series_offset(id);
        let end = self.header.series_end().max(at);
        at..at.saturating_add(len).min(end)
    }

    /// Reads the entries of `ids`, which ascend; gives them with the symbols met.
    pub(super) async fn read(
        self: &Arc<Self>,
        query: &Query,
        ids: Vec<u32>,
        map: SymbolMap,
    ) -> Result<(Entries, SymbolMap), SourceError> {
        let spans: Vec<Range<u64>> = ids.iter().map(|&id| self.span(id, self.guess)).collect();
        if let Some(bad) = spans.iter().position(|span| span.is_empty()) {
            let id = ids.get(bad).copied().unwrap_or(0);
            let what = format!("block {}: series {id} lies outside the index", self.ulid);
            return Err(BlockError::Corrupt(what).into());
        }
        let file = File::Index(self.ulid);
        let kept = &self.header.kept;
        let expected = self.chunks.saturating_mul(ids.len() as u64);
        let fetched = query
            .fetch(file, Item::Series, &spans, kept, expected)
            .await?;
        let mut all = Bodies {
            first: fetched,
            again: Vec::new(),
        };
        let mut short = all.short(ids.len())?;
        // At most twice: once to learn the length, once to have all of it.
        for _ in 0..2 {
            if short.is_empty() {
                break;
            }
            let spans: Vec<Range<u64>> = short
                .iter()
                .map(|&(i, need)| self.span(ids[i], need as u64))
                .collect();
            let fetched = query.fetch(file, Item::Series, &spans, kept, 0).await?;
            let places = short.iter().map(|&(i, _)| i).collect();
            all.again.push((places, fetched));
            short = all.short_of_last()?;
        }
        if let Some((i, _)) = short.first() {
            let id = ids.get(*i).copied().unwrap_or(0);
            let what = format!("block {}: series {id} is truncated", self.ulid);
            return Err(BlockError::Corrupt(what).into());
        }
        let (reader, symbols) = (Arc::clone(self), Arc::clone(&query.scope.symbols));
        let (mut entries, map) = query
            .compute(move || reader.decode(&ids, &all, map, &symbols))
            .await??;
        let reservation = query.scope.budget.reserve("series", entries.bytes())?;
        entries.reservation = Some(reservation);
        Ok((entries, map))
    }

    fn decode(
        &self,
        ids: &[u32],
        bodies: &Bodies,
        mut map: SymbolMap,
        symbols: &Symbols,
    ) -> Result<(Entries, SymbolMap), BlockError> {
        let wanted = &*self.wanted;
        let external: Vec<Pair> = wanted
            .external
            .iter()
            .map(|(n, v)| (symbols.intern(n), symbols.intern(v)))
            .collect();
        let mut entries = Entries::default();
        let (mut refs, mut chunks, mut pairs) = (Vec::new(), Vec::new(), Vec::new());
        let mut scratch = Vec::new();
        let again = bodies.latest();
        for i in 0..ids.len() {
            let bytes = again
                .get(&i)
                .copied()
                .unwrap_or_else(|| bodies.first.from(i));
            let Entry::Complete(body, _) = series::entry(bytes)? else {
                return Err(BlockError::Corrupt("index: a series is truncated".into()));
            };
            refs.clear();
            chunks.clear();
            series::decode(body, TimeRange::ALL, &mut refs, &mut chunks)?;
            if !chunks
                .iter()
                .any(|c: &ChunkMeta| c.range().overlaps(wanted.range))
            {
                continue;
            }
            pairs.clear();
            for &(name, value) in &refs {
                let name = map.get(name, &self.header, symbols);
                let value = map.get(value, &self.header, symbols);
                let (Some(name), Some(value)) = (name, value) else {
                    let what = "index: a series has an unknown symbol";
                    return Err(BlockError::Corrupt(what.into()));
                };
                pairs.push((name, value));
            }
            if !wanted.rest.is_empty() && !satisfies(&pairs, &wanted.rest, symbols) {
                continue;
            }
            overlay(&mut pairs, &external, symbols);
            let (from, removed_from) = (entries.labels.len(), entries.removed.len());
            for &(name, value) in &pairs {
                let text = symbols.get(name);
                let list = match wanted.without.iter().any(|w| **w == *text) {
                    true => &mut entries.removed,
                    false => &mut entries.labels,
                };
                list.push((name, value));
            }
            let shown = entries.labels[from..].iter();
            let shown = shown.map(|&(n, v)| (symbols.get(n), symbols.get(v)));
            if wanted
                .shard
                .as_ref()
                .is_some_and(|s| !s.owns(shown, &mut scratch))
            {
                entries.labels.truncate(from);
                entries.removed.truncate(removed_from);
                continue;
            }
            for (k, chunk) in chunks.iter().enumerate() {
                if chunk.range().overlaps(wanted.range) {
                    entries.chunks.push(ChunkAt {
                        min: chunk.min,
                        max: chunk.max,
                        reference: chunk.reference,
                        len: len_by_next(chunk, chunks.get(k + 1)),
                    });
                }
            }
            entries.rows.push(Row {
                labels: entries.labels.len() as u32,
                removed: entries.removed.len() as u32,
                chunks: entries.chunks.len() as u32,
            });
        }
        Ok((entries, map))
    }
}

/// Chunks of a series are written one behind the other, so the next one tells where one ends.
fn len_by_next(chunk: &ChunkMeta, next: Option<&ChunkMeta>) -> u32 {
    let Some(next) = next else {
        return 0;
    };
    let same_segment = next.reference >> 32 == chunk.reference >> 32;
    match next.reference.checked_sub(chunk.reference) {
        Some(len) if same_segment && len <= 1 << 20 => len as u32,
        _ => 0,
    }
}

fn satisfies(pairs: &[Pair], matchers: &[Matcher], symbols: &Symbols) -> bool {
    matchers.iter().all(|matcher| {
        let found = pairs
            .iter()
            .find(|(n, _)| symbols.get(*n) == &*matcher.name);
        matcher.matches(found.map_or("", |(_, v)| symbols.get(*v)))
    })
}

/// Lays external labels on top; both are sorted by name, and so is what comes out.
fn overlay(pairs: &mut Vec<Pair>, external: &[Pair], symbols: &Symbols) {
    for &(name, value) in external {
        let text = symbols.get(name);
        match pairs.binary_search_by(|(n, _)| symbols.get(*n).cmp(text)) {
            Ok(at) => pairs[at].1 = value,
            Err(at) => pairs.insert(at, (name, value)),
        }
    }
}

/// The bytes in which entries begin: as first read, and again where that was too short.
struct Bodies {
    first: Fetched,
    again: Vec<(Vec<usize>, Fetched)>,
}

impl Bodies {
    /// Which entries are not complete after the first read, and how many bytes they need.
    fn short(&self, count: usize) -> Result<Vec<(usize, usize)>, BlockError> {
        let mut short = Vec::new();
        for i in 0..count {
            if let Entry::Needs(n) = series::entry(self.first.from(i))? {
                short.push((i, n));
            }
        }
        Ok(short)
    }

    fn short_of_last(&self) -> Result<Vec<(usize, usize)>, BlockError> {
        let mut short = Vec::new();
        if let Some((places, fetched)) = self.again.last() {
            for (k, &i) in places.iter().enumerate() {
                if let Entry::Needs(n) = series::entry(fetched.from(k))? {
                    short.push((i, n));
                }
            }
        }
        Ok(short)
    }

    fn latest(&self) -> HashMap<usize, &[u8]> {
        let mut latest = HashMap::new();
        for (places, fetched) in &self.again {
            for (k, &i) in places.iter().enumerate() {
                latest.insert(i, fetched.from(k));
            }
        }
        latest
    }
}

/// Whether laying `external` on top and removing `without` can change the order of a block's
/// series.
///
/// Labels that come before all others change nothing. One that comes after a name may stand where
/// another set ends, which turns the order of the two round; so may one that is taken away.
pub(super) fn keeps_order(header: &Header, external: &Labels, without: &[Str]) -> bool {
    let names = &header.table;
    let removed_inside = names.names().any(|n| without.iter().any(|w| **w == *n));
    let first = names.names().next();
    let laid_on = |name: &str| without.iter().all(|w| **w != *name);
    let external_first = external
        .iter()
        .filter(|(name, _)| laid_on(name))
        .all(|(name, _)| first.is_none_or(|first| name < first));
    header.version == Version::V2 && !removed_inside && external_first
}
