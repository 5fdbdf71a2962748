//! Appending a batch.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use model::sink::Column;
use model::{Appended, Batch, Kind, Millis, Reject, Rejected, SinkError, TimeRange};
use parking_lot::MutexGuard;

use super::page::{Inner, Page, Series, Taken};
use super::{Head, place};
use crate::wal::{Records, Wal, record};

/// A samples record is closed once it has this many bytes: large enough to compress well.
const SAMPLES_RECORD: usize = 64 << 10;
/// So many sets of buffers are kept.
const SPARE: usize = 8;

/// Buffers of one append.
pub(super) struct Scratch {
    records: Records,
    verdicts: Vec<Verdict>,
}

#[derive(Clone, Copy, PartialEq)]
enum Verdict {
    Take,
    /// Out of order, but within the window.
    Ooo,
    Same,
    Reject(Reject),
}

/// The times at which samples are taken.
#[derive(Clone, Copy)]
struct Window {
    min: Millis,
    max: Millis,
    /// From when on samples are taken out of order, if at all.
    ooo: Option<Millis>,
}

impl Window {
    #[inline]
    fn check(self, ts: Millis) -> Option<Reject> {
        if ts < self.min {
            Some(Reject::OutOfBounds)
        } else if ts > self.max {
            Some(Reject::TooFarInFuture)
        } else {
            None
        }
    }

    /// What becomes of a sample that the ordered chunks refuse.
    #[cold]
    fn otherwise(self, ts: Millis, reason: Reject) -> Verdict {
        match (reason, self.ooo) {
            (Reject::OutOfOrder | Reject::OutOfBounds, Some(from)) if ts >= from => Verdict::Ooo,
            (Reject::OutOfOrder | Reject::OutOfBounds, Some(_)) => Verdict::Reject(Reject::TooOld),
            _ => Verdict::Reject(reason),
        }
    }
}

/// Holds the lock of the page that was asked for last.
struct Held<'a> {
    pages: &'a [Option<Arc<Page>>],
    page: Option<(usize, MutexGuard<'a, Inner>)>,
}

impl<'a> Held<'a> {
    fn new(pages: &'a [Option<Arc<Page>>]) -> Self {
        Self { pages, page: None }
    }

    #[inline]
    fn get(&mut self, id: u32) -> Option<(&mut Inner, usize)> {
        let (number, slot) = place(id);
        if self.page.as_ref().is_none_or(|p| p.0 != number) {
            // One lock at a time: two threads may walk the pages in different orders.
            self.page = None;
            let page = self.pages.get(number)?.as_ref()?;
            self.page = Some((number, page.0.lock()));
        }
        self.page.as_mut().map(|p| (&mut *p.1, slot))
    }
}

impl Head {
    fn window(&self) -> Window {
        let newest = self.believed_max().unwrap_or(Millis::MIN);
        let min = newest.saturating_sub(self.options.chunk_range / 2);
        let ooo = self.ooo_window();
        let max = match self.options.future_limit {
            Some(limit) => self.options.clock.now().saturating_add(limit),
            None => Millis::MAX,
        };
        Window {
            min: min.max(self.min_valid()),
            max,
            ooo: (ooo > 0).then(|| newest.saturating_sub(ooo)),
        }
    }

    /// Appends a batch: to `wal` first, then to memory. Rows are judged against memory before the
    /// log is written; what another thread appends to the same series meanwhile is judged again,
    /// so even an atomic batch can then come back with rejected rows, as in Prometheus.
    pub(crate) fn append(
        &self,
        mut batch: Batch,
        wal: Option<&Wal>,
    ) -> Result<Appended, SinkError> {
        let rows = batch.refs.len();
        let starts_fit = batch.starts.is_empty() || batch.starts.len() == rows;
        if batch.ts.len() != rows || batch.values.len() != rows || !starts_fit {
            return Err(SinkError::failed(
                Kind::Invalid,
                "the columns of the batch differ in length",
            ));
        }
        if !batch.histograms.is_empty() {
            return Err(SinkError::failed(
                Kind::Invalid,
                "not implemented: appending native histograms",
            ));
        }
        let _active = self.stats.active_appenders.in_flight();
        let mut scratch = self.scratch.lock().pop().unwrap_or_else(|| Scratch {
            records: Records::new(self.options.compression),
            verdicts: Vec::new(),
        });
        let result = self.append_with(&batch, wal, &mut scratch);
        {
            let mut spare = self.scratch.lock();
            if spare.len() < SPARE {
                spare.push(scratch);
            }
        }
        let (samples, rejected) = result?;
        let exemplars = batch.exemplars.len();
        batch.clear();
        Ok(Appended {
            samples,
            histograms: 0,
            exemplars,
            rejected,
            batch,
        })
    }

    fn append_with(
        &self,
        batch: &Batch,
        wal: Option<&Wal>,
        scratch: &mut Scratch,
    ) -> Result<(usize, Vec<Rejected>), SinkError> {
        let _open = self.gate.read();
        let window = self.window();
        self.judge(batch, window, &mut scratch.verdicts)?;
        let rejections = |verdicts: &[Verdict]| -> Vec<Rejected> {
            let rejected = verdicts.iter().enumerate();
            rejected
                .filter_map(|(row, v)| match *v {
                    Verdict::Reject(reason) => Some(Rejected {
                        column: Column::Floats,
                        row,
                        reason,
                    }),
                    _ => None,
                })
                .collect()
        };
        if batch.atomic
            && let Some(&first) = rejections(&scratch.verdicts).first()
        {
            self.count_rejected(&[first]);
            return Err(SinkError::Rejected(first));
        }
        let mut ticket = None;
        if let Some(wal) = wal {
            write_records(batch, scratch);
            ticket = Some((wal, wal.append(&mut scratch.records)?));
        }
        let mut taken = self.remember(batch, window, &mut scratch.verdicts);
        if scratch.verdicts.iter().any(|v| !matches!(v, Verdict::Take)) {
            taken += self.remember_ooo(batch, wal.is_some(), scratch)?;
        }
        let rejected = rejections(&scratch.verdicts);
        self.count_rejected(&rejected);
        self.stats.samples_appended.add(taken as u64);
        // Memory has what the log has, whatever the disk says now.
        if let Some((wal, ticket)) = ticket {
            wal.settle(ticket)?;
        }
        Ok((scratch.verdicts.len() - rejected.len(), rejected))
    }

    fn count_rejected(&self, rejected: &[Rejected]) {
        for r in rejected {
            match r.reason {
                Reject::OutOfOrder => self.stats.out_of_order.inc(),
                Reject::TooOld => self.stats.too_old.inc(),
                Reject::OutOfBounds => self.stats.out_of_bound.inc(),
                Reject::Duplicate => self.stats.duplicates.inc(),
                Reject::TooFarInFuture => self.stats.far_future.inc(),
                // Of what is not kept in memory yet.
                Reject::InvalidHistogram(_)
                | Reject::ExemplarOutOfOrder
                | Reject::ExemplarLabels => {}
            }
        }
    }

    /// One verdict a row.
    fn judge(
        &self,
        batch: &Batch,
        window: Window,
        verdicts: &mut Vec<Verdict>,
    ) -> Result<(), SinkError> {
        verdicts.clear();
        let tag = self.tags.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        let pages = self.pages.read();
        let mut held = Held::new(&pages);
        let mut stale = Vec::new();
        let mut repeated = false;
        let known = |r: &model::SeriesRef| {
            (r.generation == self.generation)
                .then(|| u32::try_from(r.id).ok())
                .flatten()
        };
        for (row, ((r, &ts), &value)) in batch
            .refs
            .iter()
            .zip(&batch.ts)
            .zip(&batch.values)
            .enumerate()
        {
            let series = known(r).and_then(|id| {
                let (page, slot) = held.get(id)?;
                page.series.get_mut(slot)?.as_mut()
            });
            let Some(series) = series else {
                stale.push(row);
                continue;
            };
            repeated |= series.checked == tag;
            series.checked = tag;
            verdicts.push(verdict(series.last(), ts, value, window));
        }
        if !stale.is_empty() {
            self.stats.series_not_found.add(stale.len() as u64);
            return Err(SinkError::Stale(stale));
        }
        if repeated {
            // Rare (timestamps in an exposition, or backfilling): a row is judged by what the rows
            // before it will have left.
            let mut ends: HashMap<u64, (Millis, f64)> = HashMap::new();
            for (row, v) in verdicts.iter_mut().enumerate() {
                let (r, ts, value) = (batch.refs[row], batch.ts[row], batch.values[row]);
                let last = ends.get(&r.id).copied().or_else(|| {
                    let (page, slot) = held.get(known(&r)?)?;
                    page.get(slot)?.last()
                });
                *v = verdict(last, ts, value, window);
                if *v == Verdict::Take {
                    ends.insert(r.id, (ts, value));
                }
            }
        }
        Ok(())
    }

    /// Takes the rows that are out of order: into their log, then into memory. How many those are.
    #[cold]
    fn remember_ooo(
        &self,
        batch: &Batch,
        logs: bool,
        scratch: &mut Scratch,
    ) -> Result<usize, SinkError> {
        let newest = self.range().map_or(Millis::MIN, |r| r.max);
        let mut any = false;
        for (&ts, v) in batch.ts.iter().zip(&scratch.verdicts) {
            let late = match v {
                Verdict::Ooo => true,
                Verdict::Reject(r) => {
                    matches!(r, Reject::OutOfOrder | Reject::OutOfBounds | Reject::TooOld)
                }
                Verdict::Take | Verdict::Same => false,
            };
            if late {
                let delta = newest.saturating_sub(ts) as f64 / 1000.0;
                self.stats.ooo_delta.observe(delta);
            }
            any |= *v == Verdict::Ooo;
        }
        if !any {
            return Ok(0);
        }
        let Scratch { records, verdicts } = scratch;
        let verdicts = verdicts.iter().enumerate();
        let rows = verdicts.filter(|(_, v)| **v == Verdict::Ooo);
        let samples = rows.map(|(row, _)| (batch.refs[row].id, batch.ts[row], batch.values[row]));
        let mut ticket = None;
        if logs && let Some(log) = self.ooo_log() {
            super::ooo::write_records(samples.clone(), SAMPLES_RECORD, records);
            ticket = Some((log, log.append(records)?));
        }
        let mut taken = 0;
        let samples = samples.map(|(id, ts, value)| (id as u32, ts, value));
        self.insert_ooo(samples, |new| taken += usize::from(new));
        self.stats.ooo_appended.add(taken as u64);
        if let Some((log, ticket)) = ticket {
            log.settle(ticket)?;
        }
        Ok(taken)
    }

    /// Puts the rows to take into memory; how many those are.
    fn remember(&self, batch: &Batch, window: Window, verdicts: &mut [Verdict]) -> usize {
        let running = self.isolation.begin();
        let pages = self.pages.read();
        let mut held = Held::new(&pages);
        let (mut taken, mut chunks) = (0, 0);
        let mut range = TimeRange::EMPTY;
        for (row, v) in verdicts.iter_mut().enumerate() {
            if *v != Verdict::Take {
                continue;
            }
            let (ts, value) = (batch.ts[row], batch.values[row]);
            // The references were known a moment ago, and the gate has been open since.
            let Some((page, slot)) = held.get(batch.refs[row].id as u32) else {
                continue;
            };
            let chunk_range = self.options.chunk_range;
            let end = page.append(slot, (ts, value), chunk_range, running.number, running.low);
            match end {
                // Somebody was faster.
                Some(Taken::No(reason)) => {
                    *v = window.otherwise(ts, reason);
                    continue;
                }
                Some(Taken::Same) | None => continue,
                Some(Taken::NewChunk) => chunks += 1,
                Some(Taken::Yes) => {}
            }
            taken += 1;
            range.min = range.min.min(ts);
            range.max = range.max.max(ts);
        }
        self.stats.chunks.add(chunks);
        self.stats.chunks_created.add(chunks as u64);
        // Before the batch is visible: whoever sees it knows where the head ends.
        self.saw(range);
        drop(running);
        taken
    }

    /// From the first to the last sample of a series.
    pub(crate) fn span(&self, id: u32) -> Option<(Millis, Millis)> {
        let (number, slot) = place(id);
        let page = self.pages.read().get(number).cloned().flatten()?;
        let page = page.0.lock();
        let series = page.get(slot)?;
        Some((series.first_ts()?, series.last()?.0))
    }

    /// Removes samples of a series; false if there were none.
    pub(crate) fn delete(&self, id: u32, min: Millis, max: Millis) -> bool {
        let (number, slot) = place(id);
        let Some(page) = self.pages.read().get(number).cloned().flatten() else {
            return false;
        };
        let mut page = page.0.lock();
        let before = page.get(slot).map_or(0, Series::chunks);
        let deleted = page.delete(slot, (min, max), self.options.chunk_range);
        let after = page.get(slot).map_or(0, Series::chunks);
        self.stats.chunks.add(after as i64 - before as i64);
        // What the head itself encoded can be decoded.
        deleted.unwrap_or(false)
    }

    /// Appends samples of the log: those of series that exist, later than what is there and not
    /// older than `min`. The answer is how many had no series.
    pub(crate) fn replay(&self, samples: &[(u32, Millis, f64)], min: Millis) -> u64 {
        let pages = self.pages.read();
        let mut held = Held::new(&pages);
        let (mut unknown, mut chunks) = (0, 0);
        let mut range = TimeRange::EMPTY;
        for &(id, ts, value) in samples {
            if ts < min {
                continue;
            }
            let end = held.get(id).and_then(|(page, slot)| {
                page.append(slot, (ts, value), self.options.chunk_range, 0, 0)
            });
            match end {
                None => {
                    unknown += 1;
                    continue;
                }
                Some(Taken::No(_) | Taken::Same) => continue,
                Some(Taken::NewChunk) => chunks += 1,
                Some(Taken::Yes) => {}
            }
            range = range.union(TimeRange::new(ts, ts));
        }
        drop(held);
        self.stats.chunks.add(chunks);
        self.stats.chunks_created.add(chunks as u64);
        self.saw(range);
        unknown
    }
}

#[inline]
fn verdict(last: Option<(Millis, f64)>, ts: Millis, value: f64, window: Window) -> Verdict {
    if let Some(reason) = window.check(ts) {
        return window.otherwise(ts, reason);
    }
    match Series::check(last, ts, value) {
        Taken::No(reason) => window.otherwise(ts, reason),
        Taken::Same => Verdict::Same,
        Taken::Yes | Taken::NewChunk => Verdict::Take,
    }
}

fn write_records(batch: &Batch, scratch: &mut Scratch) {
    let records = &mut scratch.records;
    records.clear();
    if !batch.metadata.is_empty() {
        record::begin_metadata(records.out());
        for m in &batch.metadata {
            let d = &m.metadata;
            record::put_metadata(records.out(), m.series.id, d.kind, &d.unit, &d.help);
        }
        records.end();
    }
    let mut writer: Option<record::SamplesWriter> = None;
    for (row, v) in scratch.verdicts.iter().enumerate() {
        // What is out of order stands here too: whoever sends the log on wants every sample, and
        // replay passes over it as what it is.
        if !matches!(v, Verdict::Take | Verdict::Ooo) {
            continue;
        }
        let (id, ts) = (batch.refs[row].id, batch.ts[row]);
        if records.open_len() > SAMPLES_RECORD {
            records.end();
            writer = None;
        }
        let w = match writer {
            Some(w) => w,
            None => record::SamplesWriter::begin(records.out(), id, ts),
        };
        writer = Some(w);
        w.push(records.out(), id, ts, batch.values[row]);
    }
    records.end();
    if let Some(first) = batch.exemplars.first() {
        let base = (first.series.id, first.ts);
        record::begin_exemplars(records.out(), base.0, base.1);
        for e in &batch.exemplars {
            let labels: Vec<_> = e.labels.iter().collect();
            let labels = labels.into_iter();
            record::put_exemplar(records.out(), base, e.series.id, e.ts, e.value, labels);
        }
        records.end();
    }
}
