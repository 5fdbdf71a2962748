//! Entries of series, read in pieces on several threads, and how they become one list.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use block::index::{ChunkMeta, SymbolTable};
use hashbrown::{DefaultHashBuilder, HashMap, HashTable};
use model::{Kind, Order, Reservation, Select, SourceError, Symbol, Symbols};
use std::hash::BuildHasher as _;

pub(super) type Pair = (Symbol, Symbol);

/// The part that is the head.
pub(super) const HEAD: u16 = u16::MAX;

/// Some series of one part (a block, or the head), in its order.
pub(super) struct Piece {
    /// The place of the block; [`HEAD`] for the head.
    pub(super) part: u16,
    labels: Vec<Pair>,
    chunks: Vec<ChunkMeta>,
    entries: Vec<Entry>,
    held: Reservation,
}

/// Labels and chunks begin where those of the entry before end.
#[derive(Clone, Copy)]
struct Entry {
    labels_end: u32,
    chunks_end: u32,
    id: u32,
}

/// An entry: the number of the piece, and its own in there.
pub(super) type Ref = (u32, u32);

impl Piece {
    pub(super) fn new(part: u16, held: Reservation) -> Self {
        Self {
            part,
            labels: Vec::new(),
            chunks: Vec::new(),
            entries: Vec::new(),
            held,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Makes an entry of the labels, which the caller gives one by one.
    pub(super) fn push(
        &mut self,
        id: u32,
        labels: &[Pair],
        chunks: &[ChunkMeta],
    ) -> Result<(), SourceError> {
        let place = |len: usize| {
            u32::try_from(len)
                .map_err(|_| SourceError::new(Kind::Limit, "the select matches too many series"))
        };
        self.labels.extend_from_slice(labels);
        self.chunks.extend_from_slice(chunks);
        self.entries.push(Entry {
            labels_end: place(self.labels.len())?,
            chunks_end: place(self.chunks.len())?,
            id,
        });
        Ok(())
    }

    /// Counts what it holds.
    pub(super) fn hold(&mut self) -> Result<(), SourceError> {
        let bytes = self.labels.len() * size_of::<Pair>()
            + self.chunks.len() * size_of::<ChunkMeta>()
            // Each has its place in a list, too, and is the end of a series.
            + self.entries.len() * (size_of::<Entry>() + size_of::<Ref>() + 4);
        Ok(self.held.resize("series", bytes as u64)?)
    }

    fn start(&self, i: u32) -> (usize, usize) {
        let before = i.checked_sub(1).and_then(|i| self.entries.get(i as usize));
        before.map_or((0, 0), |e| (e.labels_end as usize, e.chunks_end as usize))
    }

    pub(super) fn id(&self, i: u32) -> u32 {
        self.entries[i as usize].id
    }

    pub(super) fn labels(&self, i: u32) -> &[Pair] {
        &self.labels[self.start(i).0..self.entries[i as usize].labels_end as usize]
    }

    pub(super) fn chunks(&self, i: u32) -> &[ChunkMeta] {
        &self.chunks[self.start(i).1..self.entries[i as usize].chunks_end as usize]
    }
}

/// All entries, those of equal labels side by side.
pub(super) struct Gathered {
    pub(super) pieces: Vec<Piece>,
    order: Vec<Ref>,
    /// Where each series' entries end.
    ends: Vec<u32>,
}

impl Gathered {
    /// Unites pieces that are given in the order of their parts.
    pub(super) fn new(pieces: Vec<Piece>, select: &Select, symbols: &Symbols) -> Self {
        let mut all = Self {
            order: refs(&pieces).collect(),
            ends: Vec::new(),
            pieces,
        };
        match &select.order {
            Order::Any => all.group(),
            Order::ByLabels { without } => {
                all.sort(without, symbols);
                let labels = |e: &Ref| all.pieces[e.0 as usize].labels(e.1);
                let mut end = 0;
                for group in all.order.chunk_by(|a, b| labels(a) == labels(b)) {
                    end += group.len() as u32;
                    all.ends.push(end);
                }
            }
        }
        if select.hints.limit > 0 {
            all.ends.truncate(select.hints.limit);
        }
        all
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The entries of series `i`.
    pub(super) fn series(&self, i: usize) -> &[Ref] {
        let first = match i {
            0 => 0,
            n => self.ends[n - 1] as usize,
        };
        &self.order[first..self.ends[i] as usize]
    }

    /// Brings equal labels together: series in the order of their first entries.
    fn group(&mut self) {
        let hasher = DefaultHashBuilder::default();
        // By series: its first entry, and how many it has.
        let mut firsts: Vec<(Ref, u32)> = Vec::new();
        let mut known: HashTable<u32> = HashTable::with_capacity(self.order.len());
        let labels = |e: &Ref| self.pieces[e.0 as usize].labels(e.1);
        let mut numbers = Vec::with_capacity(self.order.len());
        for e in &self.order {
            let of = labels(e);
            let hash = hasher.hash_one(of);
            let number = match known.find(hash, |&n| labels(&firsts[n as usize].0) == of) {
                Some(&n) => n,
                None => {
                    let n = firsts.len() as u32;
                    firsts.push((*e, 0));
                    known.insert_unique(hash, n, |&n| {
                        hasher.hash_one(labels(&firsts[n as usize].0))
                    });
                    n
                }
            };
            firsts[number as usize].1 += 1;
            numbers.push(number);
        }
        let mut end = 0;
        self.ends.extend(firsts.iter().map(|(_, count)| {
            end += count;
            end
        }));
        if firsts.len() == self.order.len() {
            return;
        }
        let mut next: Vec<u32> = std::iter::once(0)
            .chain(self.ends.iter().copied())
            .collect();
        let before = std::mem::take(&mut self.order);
        self.order.resize(before.len(), (0, 0));
        for (e, number) in before.iter().zip(numbers) {
            let place = &mut next[number as usize];
            self.order[*place as usize] = *e;
            *place += 1;
        }
    }

    /// Sorts by what is left of the labels `without` some, then by all of them.
    fn sort(&mut self, without: &[model::Str], symbols: &Symbols) {
        // Strings are compared once each: then their ranks stand for them.
        let labels = self.pieces.iter().flat_map(|p| &p.labels);
        let mut distinct: Vec<Symbol> = labels.flat_map(|p| [p.0, p.1]).collect();
        distinct.sort_unstable();
        distinct.dedup();
        distinct.sort_unstable_by(|a, b| symbols.get(*a).cmp(symbols.get(*b)));
        let ranks: HashMap<Symbol, u32> = distinct.iter().zip(0..).map(|(s, r)| (*s, r)).collect();
        let rank = |s| ranks.get(&s).copied().unwrap_or(0);
        let ranked: Vec<Vec<(u32, u32)>> = self
            .pieces
            .iter()
            .map(|p| p.labels.iter().map(|p| (rank(p.0), rank(p.1))).collect())
            .collect();
        let removed: Vec<u32> = without
            .iter()
            .filter_map(|w| ranks.get(&symbols.find(w)?).copied())
            .collect();
        let pieces = &self.pieces;
        let of = |e: &Ref| {
            let piece = &pieces[e.0 as usize];
            let end = piece.entries[e.1 as usize].labels_end as usize;
            &ranked[e.0 as usize][piece.start(e.1).0..end]
        };
        let shown = |e: &Ref| of(e).iter().filter(|p| !removed.contains(&p.0));
        // Stable: equal ones stay in the order of their parts.
        self.order.sort_by(|a, b| {
            let by_shown = match removed.is_empty() {
                true => std::cmp::Ordering::Equal,
                false => shown(a).cmp(shown(b)),
            };
            by_shown.then_with(|| of(a).cmp(of(b)))
        });
    }
}

/// All entries of some pieces.
pub(super) fn refs(pieces: &[Piece]) -> impl Iterator<Item = Ref> {
    let numbered = (0u32..).zip(pieces);
    numbered.flat_map(|(n, piece)| (0..piece.len() as u32).map(move |i| (n, i)))
}

/// A block's symbols as the query's, filled as they are met by all threads; memory is only taken
/// around those.
pub(super) struct Ordinals(Box<[OnceLock<Box<[AtomicU32]>>]>);

const PAGE: u32 = 1 << 10;

impl Ordinals {
    pub(super) fn new(table: &SymbolTable) -> Self {
        let pages = table.len().div_ceil(PAGE);
        Self((0..pages).map(|_| OnceLock::new()).collect())
    }

    /// The query's symbol for a block's. One that is not in the table is empty.
    #[inline]
    pub(super) fn get(&self, ordinal: u32, table: &SymbolTable, symbols: &Symbols) -> Symbol {
        let Some(page) = self.0.get((ordinal / PAGE) as usize) else {
            return Symbol::EMPTY;
        };
        let page = page.get_or_init(|| (0..PAGE).map(|_| AtomicU32::new(0)).collect());
        let place = &page[(ordinal % PAGE) as usize];
        // The symbol plus 1; 0 is not known yet.
        match place.load(Relaxed) {
            0 => {
                let symbol = symbols.intern(table.get(ordinal).unwrap_or(""));
                place.store(symbol.0 + 1, Relaxed);
                symbol
            }
            known => Symbol(known - 1),
        }
    }
}
