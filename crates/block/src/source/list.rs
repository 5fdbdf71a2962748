use std::cmp::Ordering;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use model::source::Projection;
use model::{Order, Reservation, Scope, Select, SourceError, Str, Symbol, TimeRange};

use super::found::{Found, Place, Shown};
use crate::index::ChunkMeta;
use crate::postings::{Until, resolve};
use crate::tombstones::{Touch, touch};
use crate::{Block, BlockError};

/// The blocks of one query, and what was learned of them for it.
pub(super) struct Pinned {
    pub(super) scope: Arc<Scope>,
    blocks: Vec<PinnedBlock>,
}

struct PinnedBlock {
    block: Arc<Block>,
    symbols: OnceLock<Result<SymbolMap, SourceError>>,
}

/// From ordinals of a block's symbols to the query's: filled as symbols are met.
pub(super) struct SymbolMap {
    /// The query's symbol plus 1; 0 if it is not known yet.
    known: Vec<AtomicU32>,
    _reservation: Reservation,
}

impl Pinned {
    pub(super) fn new(blocks: Vec<Arc<Block>>, scope: Arc<Scope>) -> Self {
        Self {
            scope,
            blocks: blocks
                .into_iter()
                .map(|block| PinnedBlock {
                    block,
                    symbols: OnceLock::new(),
                })
                .collect(),
        }
    }

    /// The numbers of the blocks that can have samples in `range`.
    pub(super) fn overlapping(&self, range: TimeRange) -> Vec<usize> {
        (0..self.blocks.len())
            .filter(|&i| self.block(i).range().overlaps(range))
            .collect()
    }

    pub(super) fn block(&self, i: usize) -> &Arc<Block> {
        &self.blocks[i].block
    }

    fn symbols(&self, i: usize) -> Result<&SymbolMap, SourceError> {
        let pinned = &self.blocks[i];
        pinned
            .symbols
            .get_or_init(|| {
                let count = pinned.block.index().symbols().len() as usize;
                let reservation = self.scope.budget.reserve("symbols", count as u64 * 4)?;
                let mut known = Vec::new();
                known.resize_with(count, AtomicU32::default);
                Ok(SymbolMap {
                    known,
                    _reservation: reservation,
                })
            })
            .as_ref()
            .map_err(Clone::clone)
    }

    /// The query's symbol for an ordinal of a block's.
    #[inline]
    fn symbol(&self, map: &SymbolMap, block: usize, ordinal: u32) -> Result<Symbol, BlockError> {
        match map.known.get(ordinal as usize).map(|k| k.load(Relaxed)) {
            Some(0) => {}
            Some(known) => return Ok(Symbol(known - 1)),
            None => return Err(BlockError::corrupt("index: a series has an unknown symbol")),
        }
        let text = self.block(block).index().symbols().get(ordinal);
        let text = text.ok_or_else(|| BlockError::corrupt("index: a symbol cannot be read"))?;
        let symbol = self.scope.symbols.intern(text);
        map.known[ordinal as usize].store(symbol.0 + 1, Relaxed);
        Ok(symbol)
    }
}

/// One select and what its cursors share.
pub(super) struct Shared {
    pub(super) pinned: Arc<Pinned>,
    /// The numbers of the blocks it looks at.
    pub(super) blocks: Vec<usize>,
    pub(super) select: Select,
    /// How many cursors there are.
    pub(super) parts: usize,
    pub(super) listing: OnceLock<Result<Listing, SourceError>>,
}

/// The ids that match, and which cursor has which of them.
pub(super) struct Listing {
    /// For each block, ascending.
    ids: Vec<Vec<u32>>,
    /// For each part where it begins in each block; one more for the end.
    cuts: Vec<Vec<usize>>,
    _reservation: Reservation,
}

/// A part has so many series at least.
const MIN_PART: usize = 512;

impl Shared {
    /// Resolves the matchers, once for all cursors.
    fn listing(&self) -> Result<&Listing, SourceError> {
        self.listing
            .get_or_init(|| self.list())
            .as_ref()
            .map_err(Clone::clone)
    }

    fn list(&self) -> Result<Listing, SourceError> {
        let scope = &self.pinned.scope;
        let mut reservation = scope.budget.reserve("postings", 0)?;
        let mut ids = Vec::with_capacity(self.blocks.len());
        for &b in &self.blocks {
            scope.check()?;
            let index = self.pinned.block(b).index();
            let of_block = resolve(&Until { index, scope }, &self.select.matchers)?;
            scope.check()?;
            reservation.grow("postings", of_block.len() as u64 * 4)?;
            ids.push(of_block);
        }
        let most = ids.iter().map(Vec::len).max().unwrap_or(0);
        let parts = (most / MIN_PART).clamp(1, self.parts);
        let mut cuts = vec![vec![0; ids.len()]];
        for part in 1..parts {
            cuts.push(self.cut(&ids, part, parts)?);
        }
        // Parts that are not needed begin where everything ends.
        cuts.resize(self.parts + 1, ids.iter().map(Vec::len).collect());
        Ok(Listing {
            ids,
            cuts,
            _reservation: reservation,
        })
    }

    /// Where part number `part` begins in every block: at the labels of one series of the block
    /// that has most.
    fn cut(&self, ids: &[Vec<u32>], part: usize, parts: usize) -> Result<Vec<usize>, BlockError> {
        let Some((largest, of_largest)) = ids.iter().enumerate().max_by_key(|(_, l)| l.len())
        else {
            return Ok(Vec::new());
        };
        let at = of_largest.len() * part / parts;
        let mut cut = vec![at; ids.len()];
        if ids.len() == 1 {
            return Ok(cut);
        }
        let labels = |b: usize, id: u32| -> Result<Vec<(String, String)>, BlockError> {
            let index = self.pinned.block(self.blocks[b]).index();
            let mut ordinals = Vec::new();
            index.series().labels(id, &[], &mut ordinals)?;
            let text = |o| index.symbols().get(o).unwrap_or_default().to_owned();
            Ok(ordinals
                .into_iter()
                .map(|(n, v)| (text(n), text(v)))
                .collect())
        };
        let pivot = labels(largest, of_largest[at])?;
        for (b, list) in ids.iter().enumerate() {
            if b == largest {
                continue;
            }
            let (mut low, mut high) = (0, list.len());
            while low < high {
                let mid = (low + high) / 2;
                if labels(b, list[mid])? < pivot {
                    low = mid + 1;
                } else {
                    high = mid;
                }
            }
            cut[b] = low;
        }
        Ok(cut)
    }

    fn without(&self) -> &[Str] {
        match &self.select.order {
            Order::Any => &[],
            Order::ByLabels { without } => without,
        }
    }

    /// What labels to show in the end.
    pub(super) fn shown(&self) -> Shown {
        Shown::new(self.without(), &self.select.hints.projection)
    }

    /// What labels decide about order and shard: projections come after that.
    pub(super) fn compared(&self) -> Shown {
        Shown::new(self.without(), &Projection::All)
    }
}

/// Lists the series of one part, in the order of their labels (before any were removed).
pub(super) struct Lister {
    pub(super) shared: Arc<Shared>,
    part: usize,
    heads: Option<Vec<Head>>,
    /// Series that the limit still allows.
    left: usize,
    shown: Shown,
    compared: Shown,
    scratch: Vec<u8>,
}

/// Where a block's listing stands, and the entries that were read ahead.
struct Head {
    /// Which of the select's blocks.
    block: usize,
    pos: usize,
    end: usize,
    ahead: Found,
    /// The next of `ahead`.
    next: usize,
    ordinals: Vec<(u32, u32)>,
    chunks: Vec<ChunkMeta>,
}

/// So many entries of a block are read ahead where several blocks are merged.
const AHEAD: usize = 256;

impl Lister {
    pub(super) fn new(shared: Arc<Shared>, part: usize) -> Self {
        Self {
            left: match shared.select.hints.limit {
                0 => usize::MAX,
                limit => limit,
            },
            shown: shared.shown(),
            compared: shared.compared(),
            shared,
            part,
            heads: None,
            scratch: Vec::new(),
        }
    }

    /// Adds series to `found` until it has `series` series or `chunks` chunks, or nothing is left;
    /// then it is false. With `project` the labels are cut down to what is shown.
    pub(super) fn fill(
        &mut self,
        found: &mut Found,
        series: usize,
        chunks: usize,
        project: bool,
    ) -> Result<bool, SourceError> {
        let shared = Arc::clone(&self.shared);
        let listing = shared.listing()?;
        let heads = self.heads.get_or_insert_with(|| {
            (0..shared.blocks.len())
                .map(|block| Head {
                    block,
                    pos: listing.cuts[self.part][block],
                    end: listing.cuts[self.part + 1][block],
                    ahead: Found::default(),
                    next: 0,
                    ordinals: Vec::new(),
                    chunks: Vec::new(),
                })
                .collect()
        });
        let more = match heads.as_mut_slice() {
            [one] => {
                let room = (series - found.len()).min(self.left);
                let before = found.len();
                let shard = Sharding {
                    shared: &shared,
                    compared: &mut self.compared,
                    scratch: &mut self.scratch,
                };
                let shown = project.then_some(&self.shown);
                let more = one.read(&shared, listing, found, room, chunks, shown, Some(shard))?;
                self.left -= found.len() - before;
                more
            }
            heads => {
                let mut more = true;
                while more && found.len() < series && found.chunks.len() < chunks && self.left > 0 {
                    let before = found.len();
                    let shard = Sharding {
                        shared: &shared,
                        compared: &mut self.compared,
                        scratch: &mut self.scratch,
                    };
                    let shown = project.then_some(&mut self.shown);
                    more = merge_one(heads, &shared, listing, found, shown, shard)?;
                    self.left -= found.len() - before;
                }
                more
            }
        };
        Ok(more && self.left > 0)
    }
}

/// Whether a series belongs to the shard that is asked for.
struct Sharding<'a> {
    shared: &'a Shared,
    compared: &'a mut Shown,
    scratch: &'a mut Vec<u8>,
}

impl Sharding<'_> {
    fn owns<'a>(&mut self, labels: impl Iterator<Item = (&'a str, &'a str)>) -> bool {
        match &self.shared.select.hints.shard {
            None => true,
            Some(shard) => {
                let compared = &self.compared;
                shard.owns(labels.filter(|(n, _)| compared.keeps_name(n)), self.scratch)
            }
        }
    }
}

impl Head {
    /// Reads entries into `found`; false if there are no more.
    fn read(
        &mut self,
        shared: &Shared,
        listing: &Listing,
        found: &mut Found,
        series: usize,
        chunks: usize,
        shown: Option<&Shown>,
        mut sharding: Option<Sharding<'_>>,
    ) -> Result<bool, SourceError> {
        let number = shared.blocks[self.block];
        let pinned = &shared.pinned;
        let block = pinned.block(number);
        let symbols = pinned.symbols(number)?;
        let table = block.index().symbols();
        let range = shared.select.range;
        let ids = &listing.ids[self.block];
        let has_tombstones = !block.tombstones().is_empty();
        let sharded = shared.select.hints.shard.is_some();
        // Names that are not shown, by ordinal: their values need not even be interned.
        let hidden: Vec<u32> = match shown {
            Some(shown) if !shown.everything() => table_names(block)
                .filter(|n| !shown.keeps_name(n))
                .filter_map(|n| table.find(n))
                .collect(),
            _ => Vec::new(),
        };
        let mut reader = block.index().series();
        let wanted = found.len() + series;
        while self.pos < self.end && found.len() < wanted && found.chunks.len() < chunks {
            let id = ids[self.pos];
            self.pos += 1;
            let upcoming_end = self.end.min(self.pos + (wanted - found.len()));
            let upcoming = &ids[self.pos..upcoming_end.max(self.pos)];
            self.ordinals.clear();
            self.chunks.clear();
            reader.decode(id, upcoming, range, &mut self.ordinals, &mut self.chunks)?;
            if self.chunks.is_empty() {
                continue;
            }
            if sharded && let Some(sharding) = &mut sharding {
                let text = |o| table.get(o).unwrap_or_default();
                if !sharding.owns(self.ordinals.iter().map(|&(n, v)| (text(n), text(v)))) {
                    continue;
                }
            }
            let deleted = match has_tombstones {
                true => block.tombstones().of(id as u64),
                false => &[],
            };
            let chunks_before = found.chunks.len();
            for &meta in &self.chunks {
                let touched = touch(deleted, meta.range());
                if touched == Touch::All {
                    continue;
                }
                found.chunks.push(Place {
                    meta,
                    id,
                    block: self.block as u16,
                    touched: touched == Touch::Part,
                });
            }
            let any = found.chunks.len() > chunks_before;
            if any {
                for &(name, value) in &self.ordinals {
                    if hidden.contains(&name) {
                        continue;
                    }
                    found.labels.push((
                        pinned.symbol(symbols, number, name)?,
                        pinned.symbol(symbols, number, value)?,
                    ));
                }
            }
            found.finish(any);
        }
        Ok(self.pos < self.end)
    }

    /// Makes sure that the next entry is there, if there is one.
    fn look(&mut self, shared: &Shared, listing: &Listing) -> Result<bool, SourceError> {
        if self.next < self.ahead.len() {
            return Ok(true);
        }
        let mut ahead = std::mem::take(&mut self.ahead);
        ahead.clear();
        self.next = 0;
        let mut more = true;
        while more && ahead.len() == 0 {
            more = self.read(shared, listing, &mut ahead, AHEAD, usize::MAX, None, None)?;
        }
        self.ahead = ahead;
        Ok(self.ahead.len() > 0)
    }
}

fn table_names(block: &Block) -> impl Iterator<Item = &str> {
    block.index().table().names()
}

/// Takes the series with the smallest labels from all blocks that have it; false at the end.
fn merge_one(
    heads: &mut [Head],
    shared: &Shared,
    listing: &Listing,
    found: &mut Found,
    shown: Option<&mut Shown>,
    mut sharding: Sharding<'_>,
) -> Result<bool, SourceError> {
    let symbols = &shared.pinned.scope.symbols;
    let mut first: Option<usize> = None;
    let mut equal: u64 = 0;
    for i in 0..heads.len() {
        if !heads[i].look(shared, listing)? {
            continue;
        }
        let labels = heads[i].ahead.labels_of(heads[i].next);
        let order = match first {
            None => Ordering::Less,
            Some(f) => symbols.compare(labels, heads[f].ahead.labels_of(heads[f].next)),
        };
        match order {
            Ordering::Less => {
                first = Some(i);
                equal = 1 << (i % 64);
            }
            Ordering::Equal => equal |= 1 << (i % 64),
            Ordering::Greater => {}
        }
    }
    let Some(first) = first else {
        return Ok(false);
    };
    let labels_from = found.labels.len();
    let chunks_from = found.chunks.len();
    found
        .labels
        .extend_from_slice(heads[first].ahead.labels_of(heads[first].next));
    for (i, head) in heads.iter_mut().enumerate().skip(first) {
        // The bit is shared beyond 64 blocks, so it is only a hint.
        if equal & 1 << (i % 64) == 0 || head.next >= head.ahead.len() {
            continue;
        }
        if i != first && head.ahead.labels_of(head.next) != &found.labels[labels_from..] {
            continue;
        }
        found
            .chunks
            .extend_from_slice(head.ahead.chunks_of(head.next));
        head.next += 1;
    }
    let chunks = &mut found.chunks[chunks_from..];
    if !chunks.is_sorted_by_key(|c| (c.meta.min, c.meta.max)) {
        chunks.sort_by_key(|c| (c.meta.min, c.meta.max));
    }
    let wanted = shared.select.hints.shard.is_none()
        || sharding.owns(
            found.labels[labels_from..]
                .iter()
                .map(|&(n, v)| (symbols.get(n), symbols.get(v))),
        );
    if wanted
        && let Some(shown) = shown
        && !shown.everything()
    {
        let mut kept = labels_from;
        for i in labels_from..found.labels.len() {
            let pair = found.labels[i];
            if shown.keeps(pair.0, symbols) {
                found.labels[kept] = pair;
                kept += 1;
            }
        }
        found.labels.truncate(kept);
    }
    found.finish(wanted);
    Ok(true)
}
