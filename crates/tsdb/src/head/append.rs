//! Appending a batch.

mod judge;
mod log;
mod replay;
mod zeros;

pub(crate) use replay::{ReplayRow, ReplayScratch, ReplayValue};
pub(crate) use zeros::zero;

use model::sink::Column;
use model::{Appended, Batch, Millis, Reject, Rejected, SinkError, TimeRange};
use parking_lot::MutexGuard;

use super::exemplars::Judged;
use super::ooo::{OooSample, OooValue};
use super::open::Chunking;
use super::page::{Inner, Series, Taken};
use super::pages::Pages;
use super::{Head, Starts, place};
use crate::Error;
use crate::wal::{Records, Wal};

/// So many sets of buffers are kept.
const SPARE: usize = 8;

/// Buffers of one append.
pub(super) struct Scratch {
    records: Records,
    /// One a row: those of the floats, then those of the histograms.
    verdicts: Vec<Verdict>,
    /// The rows in the order in which they are taken, if that is not the order in which they stand.
    order: Vec<u32>,
    exemplars: Vec<Judged>,
}

#[derive(Clone, Copy, PartialEq)]
enum Verdict {
    Take,
    /// A stale marker, given as a float to a series of histograms with integer counts,
    TakeIntMarker,
    /// or with float counts.
    TakeFloatMarker,
    /// Out of order, but within the window.
    Ooo,
    Same,
    Reject(Reject),
}

impl Verdict {
    /// Whether the row goes to the ordered chunks.
    fn takes(self) -> bool {
        matches!(
            self,
            Self::Take | Self::TakeIntMarker | Self::TakeFloatMarker
        )
    }
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
    pages: &'a Pages,
    page: Option<(usize, MutexGuard<'a, Inner>)>,
}

impl<'a> Held<'a> {
    fn new(pages: &'a Pages) -> Self {
        Self { pages, page: None }
    }

    #[inline]
    fn get(&mut self, id: u32) -> Option<(&mut Inner, usize)> {
        let (number, slot) = place(id);
        if self.page.as_ref().is_none_or(|p| p.0 != number) {
            // One lock at a time: two threads may walk the pages in different orders.
            self.page = None;
            let page = self.pages.get(number)?;
            self.page = Some((number, page.0.lock()));
        }
        self.page.as_mut().map(|p| (&mut *p.1, slot))
    }
}

impl Head {
    fn chunking(&self) -> Chunking {
        let starts = self.options.starts == Starts::Store;
        Chunking {
            range: self.options.chunk_range,
            xor2: self.options.xor2 || starts,
            starts,
        }
    }

    /// Whether start timestamps are kept.
    pub(crate) fn stores_starts(&self) -> bool {
        self.options.starts == Starts::Store
    }

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
    /// so even an atomic batch can then come back with rejected rows, as in Prometheus. Exemplars
    /// and metadata of unknown series are passed over, and no exemplar rejects an atomic batch.
    pub(crate) fn append(
        &self,
        mut batch: Batch,
        wal: Option<&Wal>,
    ) -> Result<Appended, SinkError> {
        batch.check_columns()?;
        let _active = self.stats.active_appenders.in_flight();
        self.stats.head.appenders.inc();
        let mut scratch = self.scratch.lock().pop().unwrap_or_else(|| Scratch {
            records: Records::new(self.options.compression),
            verdicts: Vec::new(),
            order: Vec::new(),
            exemplars: Vec::new(),
        });
        let result = self.append_with(&batch, wal, &mut scratch);
        {
            let mut spare = self.scratch.lock();
            if spare.len() < SPARE {
                spare.push(scratch);
            }
        }
        let mut appended = result?;
        batch.clear();
        appended.batch = batch;
        Ok(appended)
    }

    fn append_with(
        &self,
        batch: &Batch,
        wal: Option<&Wal>,
        scratch: &mut Scratch,
    ) -> Result<Appended, SinkError> {
        let _open = self.gate.read();
        if self.options.starts == Starts::Zeros
            && let Some(zeros) = self.zeros(batch)
        {
            self.append_rows(&zeros, wal, scratch)?;
        }
        let mut appended = self.append_rows(batch, wal, scratch)?;
        if !batch.exemplars.is_empty() {
            appended.exemplars = self.add_exemplars(batch, scratch, &mut appended.rejected);
        }
        for row in &batch.metadata {
            if let Some(id) = self.own(&row.series)
                && self.has_other_metadata(row)
            {
                self.set_metadata(id, &row.metadata);
            }
        }
        Ok(appended)
    }

    /// Appends the samples of a batch, and logs the rest of it.
    fn append_rows(
        &self,
        batch: &Batch,
        wal: Option<&Wal>,
        scratch: &mut Scratch,
    ) -> Result<Appended, SinkError> {
        let window = self.window();
        self.judge(batch, window, scratch)?;
        let floats = batch.refs.len();
        let rejections = |verdicts: &[Verdict]| -> Vec<Rejected> {
            let rejected = verdicts.iter().enumerate();
            rejected
                .filter_map(|(row, v)| match *v {
                    Verdict::Reject(reason) => Some(match row.checked_sub(floats) {
                        None => Rejected {
                            column: Column::Floats,
                            row,
                            reason,
                        },
                        Some(row) => Rejected {
                            column: Column::Histograms,
                            row,
                            reason,
                        },
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
            self.write_records(batch, scratch);
            ticket = Some((wal, wal.append(&mut scratch.records)?));
        }
        let (mut taken, mut histograms) = self.remember(batch, window, scratch);
        if scratch.verdicts.iter().any(|v| !v.takes()) {
            let more = self.remember_ooo(batch, wal.is_some(), scratch)?;
            taken += more.0;
            histograms += more.1;
        }
        let rejected = rejections(&scratch.verdicts);
        self.count_rejected(&rejected);
        self.stats.samples_appended.add(taken as u64);
        self.stats.head.histograms_appended.add(histograms as u64);
        // Memory has what the log has, whatever the disk says now.
        if let Some((wal, ticket)) = ticket {
            wal.settle(ticket)?;
        }
        let of = |column| rejected.iter().filter(|r| r.column == column).count();
        Ok(Appended {
            samples: floats - of(Column::Floats),
            histograms: batch.histograms.len() - of(Column::Histograms),
            rejected,
            ..Appended::default()
        })
    }

    /// Stores the exemplars that were logged; how many were not rejected.
    fn add_exemplars(
        &self,
        batch: &Batch,
        scratch: &Scratch,
        rejected: &mut Vec<Rejected>,
    ) -> usize {
        let mut taken = 0;
        for (row, (e, judged)) in batch.exemplars.iter().zip(&scratch.exemplars).enumerate() {
            let judged = match (judged, self.own(&e.series)) {
                (Judged::Take, Some(id)) => {
                    let labels = || self.labels_of(id).unwrap_or_default();
                    self.exemplars.add(id, e, labels)
                }
                (other, _) => *other,
            };
            match judged {
                Judged::No(reason) => rejected.push(Rejected {
                    column: Column::Exemplars,
                    row,
                    reason,
                }),
                Judged::Take | Judged::Pass => taken += 1,
            }
        }
        taken
    }

    fn count_rejected(&self, rejected: &[Rejected]) {
        let (floats, histograms) = (&self.stats, &self.stats.head);
        for r in rejected {
            let float = r.column == Column::Floats;
            let counter = match r.reason {
                Reject::OutOfOrder if float => &floats.out_of_order,
                Reject::OutOfOrder => &histograms.histograms_out_of_order,
                Reject::TooOld if float => &floats.too_old,
                Reject::TooOld => &histograms.histograms_too_old,
                Reject::OutOfBounds if float => &floats.out_of_bound,
                Reject::OutOfBounds => &histograms.histograms_out_of_bound,
                Reject::Duplicate if float => &floats.duplicates,
                Reject::Duplicate => &histograms.histograms_duplicate,
                Reject::TooFarInFuture if float => &floats.far_future,
                Reject::TooFarInFuture => &histograms.histograms_far_future,
                Reject::InvalidHistogram(_) => &histograms.histograms_invalid,
                // The ring counts for itself.
                Reject::ExemplarOutOfOrder | Reject::ExemplarLabels => continue,
            };
            counter.inc();
        }
    }

    /// One row as it is kept out of order.
    fn ooo_sample(&self, batch: &Batch, row: usize) -> (u32, OooSample) {
        let starts = self.stores_starts();
        let kept = |start: Millis| if starts { start } else { 0 };
        // The references were known a moment ago.
        match row.checked_sub(batch.refs.len()) {
            None => {
                let start = batch.starts.get(row).copied().unwrap_or(0);
                let sample = OooSample {
                    ts: batch.ts[row],
                    start: kept(start),
                    value: OooValue::Float(batch.values[row]),
                };
                (batch.refs[row].id as u32, sample)
            }
            Some(at) => {
                let h = &batch.histograms[at];
                let sample = OooSample {
                    ts: h.ts,
                    start: kept(h.start),
                    value: OooValue::Histogram(Box::new(h.value.clone())),
                };
                (h.series.id as u32, sample)
            }
        }
    }

    /// Takes the rows that are out of order: into their log, then into memory. How many floats and
    /// how many histograms those are.
    #[cold]
    fn remember_ooo(
        &self,
        batch: &Batch,
        logs: bool,
        scratch: &mut Scratch,
    ) -> Result<(usize, usize), SinkError> {
        let newest = self.range().map_or(Millis::MIN, |r| r.max);
        let mut any = false;
        let times = batch.ts.iter().copied();
        let times = times.chain(batch.histograms.iter().map(|h| h.ts));
        for (ts, v) in times.zip(&scratch.verdicts) {
            let late = match v {
                Verdict::Ooo => true,
                Verdict::Reject(r) => {
                    matches!(r, Reject::OutOfOrder | Reject::OutOfBounds | Reject::TooOld)
                }
                _ => false,
            };
            if late {
                let delta = newest.saturating_sub(ts) as f64 / 1000.0;
                self.stats.ooo_delta.observe(delta);
            }
            any |= *v == Verdict::Ooo;
        }
        if !any {
            return Ok((0, 0));
        }
        let mut ticket = None;
        if logs && let Some(log) = self.ooo_log() {
            self.write_ooo_records(batch, scratch);
            ticket = Some((log, log.append(&mut scratch.records)?));
        }
        let verdicts = scratch.verdicts.iter().enumerate();
        let rows = verdicts.filter(|(_, v)| **v == Verdict::Ooo);
        let samples = rows.map(|(row, _)| self.ooo_sample(batch, row));
        let (mut floats, mut histograms) = (0, 0);
        self.insert_ooo(samples, |new, float| match float {
            true => floats += usize::from(new),
            false => histograms += usize::from(new),
        });
        self.stats.ooo_appended.add(floats as u64);
        self.stats
            .head
            .histograms_ooo_appended
            .add(histograms as u64);
        if let Some((log, ticket)) = ticket {
            log.settle(ticket)?;
        }
        Ok((floats, histograms))
    }

    /// Puts the rows to take into memory; how many floats and how many histograms those are.
    fn remember(&self, batch: &Batch, window: Window, scratch: &mut Scratch) -> (usize, usize) {
        let running = self.isolation.begin();
        let pages = self.pages.read();
        let mut held = Held::new(&pages);
        let chunking = self.chunking();
        let numbers = (running.number, running.low);
        let floats = batch.refs.len();
        let (mut taken, mut histograms, mut chunks) = (0, 0, 0);
        let mut range = TimeRange::EMPTY;
        let Scratch {
            verdicts, order, ..
        } = scratch;
        let mut order = order.iter();
        // Where the rows end whose chunks have been touched.
        let mut touched = 0;
        let rows = verdicts.len();
        let rows = (0..rows).map(|row| order.next().map_or(row, |&row| row as usize));
        for row in rows {
            let v = &mut verdicts[row];
            if !v.takes() {
                continue;
            }
            // The references were known a moment ago, and the gate has been open since.
            let (ts, end) = match row.checked_sub(floats) {
                None => {
                    let (ts, value) = (batch.ts[row], batch.values[row]);
                    let id = batch.refs[row].id as u32;
                    let Some((page, slot)) = held.get(id) else {
                        continue;
                    };
                    if row >= touched {
                        touched = row;
                        let next = batch.refs.iter().skip(row).map(|r| place(r.id as u32));
                        let same = next.take_while(|at| at.0 == place(id).0);
                        page.touch(same.inspect(|_| touched += 1).map(|at| at.1));
                    }
                    let start = match chunking.starts {
                        true => batch.starts.get(row).copied().unwrap_or(0),
                        false => 0,
                    };
                    (ts, page.append(slot, (ts, start, value), chunking, numbers))
                }
                Some(at) => {
                    let h = &batch.histograms[at];
                    let Some((page, slot)) = held.get(h.series.id as u32) else {
                        continue;
                    };
                    let time = (h.ts, h.start);
                    let end = page.append_histogram(slot, time, &h.value, chunking, numbers);
                    (h.ts, end)
                }
            };
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
            match row < floats {
                true => taken += 1,
                false => histograms += 1,
            }
            range.min = range.min.min(ts);
            range.max = range.max.max(ts);
        }
        self.stats.chunks.add(chunks);
        self.stats.chunks_created.add(chunks as u64);
        // Before the batch is visible: whoever sees it knows where the head ends.
        self.saw(range);
        drop(running);
        (taken, histograms)
    }

    /// From the first to the last sample of a series.
    pub(crate) fn span(&self, id: u32) -> Option<(Millis, Millis)> {
        let (number, slot) = place(id);
        let page = self.page(number)?;
        let page = page.0.lock();
        page.get(slot)?.span()
    }

    /// Removes samples of a series; false if there were none.
    pub(crate) fn delete(&self, id: u32, min: Millis, max: Millis) -> Result<bool, Error> {
        let (number, slot) = place(id);
        let Some(page) = self.page(number) else {
            return Ok(false);
        };
        // What lies in files is read first, with nothing locked; it stays where it is meanwhile.
        let in_files = page.0.lock().touched_in_files(slot, (min, max));
        let in_files = self.read_files(&in_files)?;
        let mut page = page.0.lock();
        let before = page.get(slot).map_or(0, Series::chunks);
        let deleted = page.delete(slot, (min, max), &in_files);
        let after = page.get(slot).map_or(0, Series::chunks);
        self.stats.chunks.add(after as i64 - before as i64);
        deleted.map_err(|e| Error::Invalid(format!("a chunk of the head cannot be read: {e}")))
    }
}
