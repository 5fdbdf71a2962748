//! Samples that come out of order: older than their series' newest, but within the window.
//!
//! They lie beside the page they belong to (see [`store`]), behind the same lock, and are logged in
//! a log of their own, the WBL, before they are acknowledged. Finished chunks move to the files of
//! the head; the log keeps every sample until a block has it, so a start makes them anew and passes
//! over those in files. A query unites them with the ordered
//! chunks; a cut writes them into blocks of their own. A cut begins a new *epoch*: what is of an
//! older one is on its way into blocks, and what comes meanwhile is not.

mod export;
mod store;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use model::{Millis, TimeRange};

use store::Inserted;
pub(super) use store::{OooSample, OooUnfiled, OooValue, Store};

use super::{Head, Snapshot, page, place};
use crate::Error;
use crate::wal::Wal;
use crate::wal::record::{self, RecordKind};

/// What the head knows of out-of-order samples beyond the pages.
pub(crate) struct Ooo {
    /// How far behind the head's newest sample one may be, ms; 0: nothing is taken out of order.
    window: AtomicI64,
    /// The log. There is one once the window was open, or if one was found on disk.
    log: OnceLock<Arc<Wal>>,
    epoch: AtomicU32,
    /// Oldest and newest that is held; crossed while there is none.
    min: AtomicI64,
    max: AtomicI64,
}

impl Default for Ooo {
    fn default() -> Self {
        Self {
            window: AtomicI64::new(0),
            log: OnceLock::new(),
            epoch: AtomicU32::new(0),
            min: AtomicI64::new(i64::MAX),
            max: AtomicI64::new(i64::MIN),
        }
    }
}

/// Which samples of the head a query asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reach {
    /// First and last time of the ordered ones; crossed if none are wanted.
    pub(crate) ordered: (Millis, Millis),
    /// First and last time of those that came out of order.
    pub(crate) ooo: Option<(Millis, Millis)>,
}

impl page::Inner {
    /// Whether a query would see a sample of a series.
    pub(crate) fn shows(&self, slot: usize, reach: &Reach, snapshot: &Snapshot) -> bool {
        self.see(slot, reach.ordered, Some(snapshot), |_| {})
            || (reach.ooo.zip(self.ooo.as_ref())).is_some_and(|(range, ooo)| ooo.any(slot, range))
    }

    /// Whether nothing is left of a series' samples.
    pub(crate) fn is_vacant(&self, slot: usize) -> bool {
        self.get(slot).is_some_and(|s| s.is_empty())
            && !self.ooo.as_ref().is_some_and(|o| o.has(slot))
    }
}

impl Head {
    /// How far behind the newest sample one may be, ms.
    pub(crate) fn ooo_window(&self) -> Millis {
        self.ooo.window.load(Ordering::Acquire)
    }

    /// Changes the window; [`Head::set_ooo_log`] comes first.
    pub(crate) fn set_ooo_window(&self, window: Millis) {
        self.ooo.window.store(window.max(0), Ordering::Release);
        self.exemplars.set_window(window);
    }

    /// The log of out-of-order samples.
    pub(crate) fn ooo_log(&self) -> Option<&Arc<Wal>> {
        self.ooo.log.get()
    }

    /// Gives the head its log of out-of-order samples, once.
    pub(crate) fn set_ooo_log(&self, log: Arc<Wal>) {
        let _ = self.ooo.log.set(log);
    }

    /// From the oldest to the newest out-of-order sample.
    pub(crate) fn ooo_range(&self) -> Option<TimeRange> {
        let min = self.ooo.min.load(Ordering::Acquire);
        let range = TimeRange::new(min, self.ooo.max.load(Ordering::Acquire));
        (!range.is_empty()).then_some(range)
    }

    fn saw_ooo(&self, range: TimeRange) {
        if !range.is_empty() {
            self.ooo.min.fetch_min(range.min, Ordering::AcqRel);
            self.ooo.max.fetch_max(range.max, Ordering::AcqRel);
        }
    }

    /// Inserts out-of-order samples that are in the log. `each` hears whether a sample was new (the
    /// first of a time stays), and whether it is a float. How many had no series.
    pub(crate) fn insert_ooo(
        &self,
        samples: impl IntoIterator<Item = (u32, OooSample)>,
        mut each: impl FnMut(bool, bool),
    ) -> u64 {
        let epoch = self.ooo.epoch.load(Ordering::Acquire);
        let pages = self.pages.read();
        let (mut unknown, mut chunks) = (0, 0);
        let mut range = TimeRange::EMPTY;
        for (id, sample) in samples {
            let (ts, float) = (sample.ts, matches!(sample.value, OooValue::Float(_)));
            let (number, slot) = place(id);
            let mut page = pages.get(number).map(|p| p.0.lock());
            let Some(page) = page.as_mut().filter(|p| p.get(slot).is_some()) else {
                unknown += 1;
                continue;
            };
            let store = page.ooo.get_or_insert_default();
            let inserted = store.insert(slot, sample, epoch);
            chunks += i64::from(inserted == Inserted::NewChunk);
            if inserted != Inserted::Same {
                range = range.union(TimeRange::new(ts, ts));
            }
            each(inserted != Inserted::Same, float);
        }
        self.stats.chunks.add(chunks);
        self.stats.chunks_created.add(chunks as u64);
        self.saw_ooo(range);
        unknown
    }

    /// Ends the epoch: `rotate` is called while no batch is under way, so what the log has so far
    /// is what was inserted so far. The answer is the new epoch, and what `rotate` said.
    pub(crate) fn end_ooo_epoch<T>(
        &self,
        rotate: impl FnOnce() -> Result<T, Error>,
    ) -> Result<(u32, T), Error> {
        let _closed = self.gate.write();
        let rotated = rotate()?;
        let epoch = self.ooo.epoch.fetch_add(1, Ordering::AcqRel) + 1;
        Ok((epoch, rotated))
    }

    /// When the oldest out-of-order sample from `from` on is that is older than `epoch`.
    pub(crate) fn ooo_next(&self, epoch: u32, from: Millis) -> Option<Millis> {
        let pages = self.pages.read();
        let next = pages.iter().filter_map(|(_, page)| {
            let page = page.0.lock();
            page.ooo.as_ref()?.next(epoch, from)
        });
        next.min()
    }

    /// Drops what is older than `epoch`: it lies in blocks, and no query reads it here any more.
    pub(crate) fn drop_ooo(&self, epoch: u32) {
        // Nothing is inserted meanwhile, so that the range is right afterwards.
        let _closed = self.gate.write();
        let (mut dropped, mut range) = (0, TimeRange::EMPTY);
        for (_, page) in self.pages.read().iter() {
            let mut page = page.0.lock();
            let Some(store) = &mut page.ooo else { continue };
            dropped += store.drop_before(epoch);
            range = range.union(store.range());
            if store.is_empty() {
                page.ooo = None;
            }
        }
        self.ooo.min.store(range.min, Ordering::Release);
        self.ooo.max.store(range.max, Ordering::Release);
        self.stats.chunks.add(-(dropped as i64));
        self.stats.chunks_removed.add(dropped as u64);
    }

    /// From the first to the last out-of-order sample of a series.
    pub(crate) fn ooo_span(&self, id: u32) -> Option<(Millis, Millis)> {
        let (number, slot) = place(id);
        let page = self.page(number)?;
        let page = page.0.lock();
        page.ooo.as_ref()?.span(slot)
    }

    /// Removes out-of-order samples of a series in `min..=max`.
    pub(crate) fn delete_ooo(&self, id: u32, min: Millis, max: Millis) {
        let (number, slot) = place(id);
        let Some(page) = self.page(number) else {
            return;
        };
        let mut page = page.0.lock();
        let Some(store) = &mut page.ooo else { return };
        let chunks = store.chunks(slot) as i64;
        store.delete(slot, (min, max));
        self.stats.chunks.add(store.chunks(slot) as i64 - chunks);
        if store.is_empty() {
            page.ooo = None;
        }
    }

    /// Takes a record of the out-of-order log back; `renamed` says which references stand for a
    /// series of another number. How many samples it had, and how many of them had no series.
    pub(crate) fn replay_ooo(
        &self,
        bytes: &[u8],
        renamed: &HashMap<u64, u32>,
    ) -> Result<(u64, u64), record::BadRecord> {
        let number = |reference: u64| match renamed.get(&reference) {
            Some(&id) => id,
            // A number that no series has.
            None => u32::try_from(reference).unwrap_or(u32::MAX),
        };
        let stores = self.stores_starts();
        let kept = |start: Millis| if stores { start } else { 0 };
        let mut samples = Vec::new();
        match record::kind(bytes) {
            RecordKind::Samples => record::read_samples(bytes, |reference, ts, value| {
                let value = OooValue::Float(value);
                samples.push((
                    number(reference),
                    OooSample {
                        ts,
                        start: 0,
                        value,
                    },
                ));
            })?,
            RecordKind::SamplesV2 => {
                record::read_started_samples(bytes, |reference, ts, start, value| {
                    let value = OooValue::Float(value);
                    samples.push((
                        number(reference),
                        OooSample {
                            ts,
                            start: kept(start),
                            value,
                        },
                    ));
                })?;
            }
            RecordKind::Histograms => {
                record::read_histograms(bytes, |reference, ts, start, value| {
                    if value.validate().is_ok() {
                        let value = OooValue::Histogram(Box::new(value));
                        let start = kept(start);
                        samples.push((number(reference), OooSample { ts, start, value }));
                    }
                })?;
            }
            RecordKind::Tombstones => {
                let mut stones = Vec::new();
                record::read_tombstones(bytes, |reference, min, max| {
                    stones.push((number(reference), min, max));
                })?;
                for (id, min, max) in stones {
                    self.delete_ooo(id, min, max);
                }
            }
            // Marks of chunks in files say nothing that the log does not say: it keeps every sample
            // until a block has it.
            _ => {}
        }
        let count = samples.len() as u64;
        Ok((count, self.insert_ooo(samples, |_, _| {})))
    }
}
