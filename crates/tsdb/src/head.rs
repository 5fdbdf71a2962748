//! The mutable head: what was sampled lately, in memory.
//!
//! A series has a 32-bit number that is never used again while the process runs; it is the series'
//! reference in the log too. Numbers lead to [`page`]s of 64 series behind one lock; label pairs,
//! postings and the map from labels to numbers are one [`index`]. Locks are taken in the order
//! `gate`, `making`, `index`, `pages`, a page; nothing waits for the disk while it holds one of the
//! last three.
//!
//! - Making series: numbers are given, the log has the labels, then the index: whoever finds a
//!   series may append to it, because its labels are in the log already.
//! - Appending: the batch is judged against memory, what can be taken goes to the log in one write,
//!   then to memory under one number of [`isolation`].
//! - A sample that comes [out of order](ooo) goes to another log and lies beside its page.
//! - Garbage collection closes the `gate` for the moment in which series go.

mod append;
mod cardinality;
mod collect;
pub(crate) mod exemplars;
mod export;
mod files;
mod index;
mod isolation;
mod make;
mod matching;
mod metadata;
mod ooo;
mod open;
mod page;
mod pages;
mod save;
mod select;

#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use model::time::{Clock, WallClock};
use model::{Labels, Millis, SeriesRef, TimeRange};
use parking_lot::{Mutex, RwLock};

use crate::Stats;
use crate::wal::Records;
use append::Scratch;
pub(crate) use append::{ReplayRow, ReplayScratch, ReplayValue, zero};
use exemplars::Exemplars;
use files::ChunkFiles;
use index::Index;
use isolation::Isolation;
pub(crate) use isolation::Snapshot;
use metadata::MetadataTable;
use ooo::Ooo;
pub(crate) use ooo::Reach;
pub(crate) use page::PAGE;
use page::Page;
use pages::Pages;

pub(crate) use page::range_end;
pub(crate) use save::Filed;
pub(crate) use select::{ChunkWriter, HeadCursor, Ids, PairSymbols, account};

/// A head of so many pages is measured as a whole whenever its size is asked,
const MEASURED_AT_ONCE: usize = 256;
/// one of more in so many parts at most.
const MEASURED_IN: usize = 16;

/// What is done with the start timestamps of samples (when a counter began to count).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Starts {
    /// They are left out.
    #[default]
    Ignore,
    /// One that lies behind its series' newest sample becomes a sample of 0
    /// (`created-timestamp-zero-ingestion` of Prometheus).
    Zeros,
    /// They are kept with their samples (`st-storage` of Prometheus): floats are encoded as XOR2, and
    /// log and chunks have forms that Prometheus before 3.9 cannot read.
    Store,
}

/// How the head behaves.
#[derive(Clone)]
pub(crate) struct HeadOptions {
    /// Chunks and blocks do not cross multiples of this many ms.
    pub(crate) chunk_range: Millis,
    /// Samples later than now plus this are refused, and do not count as the head's end.
    pub(crate) future_limit: Option<Millis>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) compression: crate::wal::Compression,
    /// What is done with start timestamps.
    pub(crate) starts: Starts,
    /// Floats are encoded as XOR2.
    pub(crate) xor2: bool,
    /// Exemplars that are kept.
    pub(crate) exemplars: usize,
    /// More series than this are not made; 0: no limit.
    pub(crate) max_series: usize,
}

impl Default for HeadOptions {
    fn default() -> Self {
        Self {
            chunk_range: 2 * 3_600_000,
            future_limit: Some(10 * 60_000),
            clock: Arc::new(WallClock),
            compression: Default::default(),
            starts: Starts::default(),
            xor2: false,
            exemplars: 0,
            max_series: 0,
        }
    }
}

pub(crate) struct Head {
    options: HeadOptions,
    generation: u32,
    index: RwLock<Index>,
    pages: RwLock<Pages>,
    making: Mutex<Making>,
    metadata: MetadataTable,
    pub(crate) exemplars: Exemplars,
    /// Finished chunks on the disk; none in a head that lives in memory alone.
    files: OnceLock<ChunkFiles>,
    isolation: Arc<Isolation>,
    /// Held open by whoever appends; closed to remove series and to move `min_valid`.
    gate: RwLock<()>,
    /// Oldest and newest sample; crossed while there is none.
    min: AtomicI64,
    max: AtomicI64,
    /// Nothing older is taken: it may be in a block already.
    min_valid: AtomicI64,
    ooo: Ooo,
    tags: AtomicU32,
    /// How often its size was asked.
    measured: AtomicU32,
    scratch: Mutex<Vec<Scratch>>,
    stats: Arc<Stats>,
}

struct Making {
    next: u64,
    records: Records,
    pairs: Vec<u32>,
}

/// Tells references of one database from those of another in the same process.
static GENERATION: AtomicU32 = AtomicU32::new(1);

pub(crate) fn place(id: u32) -> (usize, usize) {
    ((id / PAGE) as usize, (id % PAGE) as usize)
}

impl Head {
    pub(crate) fn new(options: HeadOptions, stats: Arc<Stats>) -> Self {
        let records = Records::new(options.compression);
        let exemplars = Exemplars::new(options.exemplars, Arc::clone(&stats.exemplars));
        Self {
            options,
            generation: GENERATION.fetch_add(1, Ordering::Relaxed),
            index: RwLock::default(),
            pages: RwLock::default(),
            making: Mutex::new(Making {
                // Prometheus takes reference 0 for "none".
                next: 1,
                records,
                pairs: Vec::new(),
            }),
            metadata: MetadataTable::default(),
            exemplars,
            files: OnceLock::new(),
            isolation: Arc::default(),
            gate: RwLock::new(()),
            min: AtomicI64::new(i64::MAX),
            max: AtomicI64::new(i64::MIN),
            min_valid: AtomicI64::new(i64::MIN),
            ooo: Ooo::default(),
            tags: AtomicU32::new(0),
            measured: AtomicU32::new(0),
            scratch: Mutex::default(),
            stats,
        }
    }

    /// From the oldest to the newest sample.
    pub(crate) fn range(&self) -> Option<TimeRange> {
        let range = TimeRange::new(
            self.min.load(Ordering::Acquire),
            self.max.load(Ordering::Acquire),
        );
        (!range.is_empty()).then_some(range)
    }

    /// What time it is by the clock, ms.
    pub(crate) fn now(&self) -> Millis {
        self.options.clock.now()
    }

    /// What time it is for cutting, and for the window in which samples are taken: the newest
    /// sample, unless that is further in the future than is believed (a clock had jumped).
    pub(crate) fn believed_max(&self) -> Option<Millis> {
        let (max, now) = (self.range()?.max, self.now());
        Some(match self.options.future_limit {
            Some(limit) if max > now.saturating_add(limit) => now,
            _ => max,
        })
    }

    /// Nothing older than this is taken.
    pub(crate) fn min_valid(&self) -> Millis {
        self.min_valid.load(Ordering::Acquire)
    }

    /// From now on nothing older than `min` is taken; batches under way have ended when this
    /// returns.
    pub(crate) fn raise_min_valid(&self, min: Millis) {
        let _closed = self.gate.write();
        self.min_valid.fetch_max(min, Ordering::AcqRel);
        self.tell_range();
    }

    /// Closes the head up to `limit`, or to behind its newest sample if that is earlier and `all` is
    /// asked for: nothing older is taken any more. Where it is closed now.
    pub(crate) fn seal(&self, limit: Millis, all: bool) -> Millis {
        let _closed = self.gate.write();
        let end = match (all, self.range()) {
            (true, Some(range)) => limit.min(range.max.saturating_add(1)),
            _ => limit,
        };
        self.min_valid.fetch_max(end, Ordering::AcqRel);
        end
    }

    /// Nothing older than `before` is in memory any more.
    fn raise_min(&self, before: Millis) {
        let _closed = self.gate.write();
        if self.min.load(Ordering::Acquire) < before && self.max.load(Ordering::Acquire) >= before {
            self.min.store(before, Ordering::Release);
        }
        self.tell_range();
    }

    fn tell_range(&self) {
        if let Some(range) = self.range() {
            self.stats.head_min.set(range.min);
            self.stats.head_max.set(range.max);
            let seconds = |ms: Millis| ms as f64 / 1000.0;
            self.stats.head.min_seconds.set(seconds(range.min));
            self.stats.head.max_seconds.set(seconds(range.max));
        }
    }

    fn saw(&self, range: TimeRange) {
        if !range.is_empty() {
            self.min.fetch_min(range.min, Ordering::AcqRel);
            self.max.fetch_max(range.max, Ordering::AcqRel);
            self.tell_range();
        }
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        self.isolation.snapshot()
    }

    /// How many series there are.
    pub(crate) fn series(&self) -> usize {
        self.index.read().all().len()
    }

    fn reference(&self, id: u32) -> SeriesRef {
        SeriesRef {
            id: id.into(),
            generation: self.generation,
        }
    }

    fn find(&self, index: &Index, pages: &Pages, (labels, hash): (&Labels, u32)) -> Option<u32> {
        index.find(hash, |id| {
            let (page, slot) = place(id);
            let Some(page) = pages.get(page) else {
                return false;
            };
            let page = page.0.lock();
            page.get(slot)
                .is_some_and(|s| index.is(page.labels(s), labels))
        })
    }

    /// No number up to `id` is given to a new series: the log may still use it.
    pub(crate) fn skip_numbers(&self, id: u64) {
        let making = &mut *self.making.lock();
        if id < u64::from(u32::MAX) {
            making.next = making.next.max(id + 1);
        }
    }

    /// The time of a series' newest sample: none that is not later is taken.
    pub(crate) fn newest(&self, id: u32) -> Option<Millis> {
        let (page, slot) = place(id);
        let page = self.page(page)?;
        let page = page.0.lock();
        page.get(slot)?.newest().ts()
    }

    /// Brings the index into order, after [`Head::make_as`] made series in any order.
    pub(crate) fn order_index(&self) {
        self.index.write().order();
    }

    /// The labels of a series.
    pub(crate) fn labels_of(&self, id: u32) -> Option<Labels> {
        let index = self.index.read();
        let (page, slot) = place(id);
        let page = self.page(page)?;
        let page = page.0.lock();
        Some(index.labels(page.labels(page.get(slot)?)))
    }

    /// Whether a series exists.
    pub(crate) fn has(&self, id: u64) -> bool {
        let Ok(id) = u32::try_from(id) else {
            return false;
        };
        let (page, slot) = place(id);
        self.page(page)
            .is_some_and(|p| p.0.lock().get(slot).is_some())
    }

    /// Bytes of memory that the head holds, roughly. Asked often: of a large head a part is measured
    /// anew each time, with what was never measured.
    pub(crate) fn bytes(&self) -> usize {
        // The index first, and let go of: whoever makes series takes it before the pages.
        let index = self.index.read().bytes();
        let round = self.measured.fetch_add(1, Ordering::Relaxed) as usize;
        let pages = self.pages.read();
        let parts = pages
            .count()
            .div_ceil(MEASURED_AT_ONCE)
            .clamp(1, MEASURED_IN);
        let bytes = |(i, page): (usize, &Arc<Page>)| page.bytes(i % parts == round % parts);
        index + pages.iter().map(bytes).sum::<usize>()
    }

    /// The page of this number.
    fn page(&self, number: usize) -> Option<Arc<Page>> {
        self.pages.read().get(number).cloned()
    }

    /// The pages one after the other, the list of them locked only in between. What is made meanwhile may
    /// be among them or not.
    fn walk(&self) -> impl Iterator<Item = (usize, Arc<Page>)> {
        let (mut from, end) = (0, self.pages.read().end());
        std::iter::from_fn(move || {
            let pages = self.pages.read();
            let (number, page) = pages.next(from).filter(|(number, _)| *number < end)?;
            from = number + 1;
            Some((number, Arc::clone(page)))
        })
    }

    /// What it counts.
    pub(crate) fn stats(&self) -> &Arc<Stats> {
        &self.stats
    }

    /// What tells this head's references from those of others.
    pub(crate) fn generation(&self) -> u32 {
        self.generation
    }
}
