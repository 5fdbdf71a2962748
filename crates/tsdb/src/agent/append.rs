//! Taking samples: judged against the newest of their series, and into the log.

use std::sync::atomic::Ordering;

use model::sink::{Column, Exemplar};
use model::{Appended, Batch, Labels, Millis, Reject, Rejected, SeriesRef, SinkError};

use super::Inner;
use super::series::{Table, reference};
use crate::Error;
use crate::head::exemplars::fits;
use crate::head::{Starts, zero};
use crate::wal::{Records, Rows, record};

/// A series record is closed once it has this many bytes.
const SERIES_RECORD: usize = 64 << 10;

impl Inner {
    fn open(&self) -> Result<(), SinkError> {
        match self.closed.load(Ordering::Acquire) {
            true => Err(Error::Closed.into()),
            false => Ok(()),
        }
    }

    pub(super) fn resolve(&self, labels: &[Labels]) -> Result<Vec<SeriesRef>, SinkError> {
        self.open()?;
        let (table, records) = &mut *self.table.lock();
        records.clear();
        let mut new: hashbrown::HashMap<&Labels, u64> = hashbrown::HashMap::new();
        let mut next = table.next();
        let mut refs = Vec::with_capacity(labels.len());
        for labels in labels {
            let known = table.find(labels).or_else(|| new.get(labels).copied());
            refs.push(reference(known.unwrap_or_else(|| {
                if records.open_len() > SERIES_RECORD {
                    records.end();
                }
                if records.open_len() == 0 {
                    record::begin_series(records.out());
                }
                let pairs: Vec<_> = labels.iter().collect();
                record::put_series(records.out(), next, pairs.into_iter());
                new.insert(labels, next);
                next += 1;
                next - 1
            })));
        }
        if new.is_empty() {
            return Ok(refs);
        }
        records.end();
        let ticket = self.wal.append(records)?;
        let now = self.options.clock.now();
        for (labels, id) in new {
            table.put(id, labels.clone(), now);
        }
        self.options.stats.series.set(table.len() as i64);
        self.wal.settle(ticket)?;
        Ok(refs)
    }

    pub(super) fn append(&self, mut batch: Batch) -> Result<Appended, SinkError> {
        self.open()?;
        let rows = batch.refs.len();
        batch.check_columns()?;
        let (ticket, mut appended) = {
            let (table, records) = &mut *self.table.lock();
            let mut judging = Judging {
                table,
                window: self.window.load(Ordering::Relaxed),
                before: Vec::new(),
                rejected: Vec::new(),
            };
            let result = judging.take(&batch, records, self.options.starts);
            let result = result.and_then(|taken| Ok((self.wal.append(records)?, taken)));
            let (ticket, exemplars) = match result {
                Ok(done) => done,
                // Nothing is in the log: memory forgets it, too.
                Err(e) => {
                    judging.undo();
                    return Err(e);
                }
            };
            let rejected = judging.rejected;
            let of = |column| rejected.iter().filter(|r| r.column == column).count();
            let appended = Appended {
                samples: rows - of(Column::Floats),
                histograms: batch.histograms.len() - of(Column::Histograms),
                exemplars,
                rejected,
                ..Appended::default()
            };
            (ticket, appended)
        };
        let stats = &self.options.stats;
        stats.floats.add(appended.samples as u64);
        stats.histograms.add(appended.histograms as u64);
        stats.exemplars.add(appended.exemplars as u64);
        let late = |r: &&Rejected| r.reason == Reject::OutOfOrder;
        let late = appended.rejected.iter().filter(late).count();
        stats.out_of_order.add(late as u64);
        self.wal.settle(ticket)?;
        batch.clear();
        appended.batch = batch;
        Ok(appended)
    }
}

struct Judging<'a> {
    table: &'a mut Table,
    window: Millis,
    /// What was the newest sample of a series before.
    before: Vec<(SeriesRef, Option<Millis>)>,
    rejected: Vec<Rejected>,
}

impl Judging<'_> {
    /// Writes the records of what is taken; how many exemplars that are.
    fn take(
        &mut self,
        batch: &Batch,
        records: &mut Records,
        starts: Starts,
    ) -> Result<usize, SinkError> {
        records.clear();
        let known = |r: &SeriesRef, table: &mut Table| table.get(*r).is_some();
        let floats = batch.refs.iter();
        let all = floats.chain(batch.histograms.iter().map(|h| &h.series));
        let stale: Vec<usize> = all
            .enumerate()
            .filter(|(_, r)| !known(r, self.table))
            .map(|(row, _)| row)
            .collect();
        if !stale.is_empty() {
            return Err(SinkError::Stale(stale));
        }
        self.metadata(batch, records);
        let mut rows = Rows::new(records, starts == Starts::Store);
        for (row, ((&series, &ts), &value)) in batch
            .refs
            .iter()
            .zip(&batch.ts)
            .zip(&batch.values)
            .enumerate()
        {
            let start = batch.starts.get(row).copied().unwrap_or(0);
            if starts == Starts::Zeros && self.begins(series, start, ts) {
                rows.sample((series.id, start, 0), 0.0);
            }
            match self.judge(series, ts) {
                Ok(()) => rows.sample((series.id, ts, start), value),
                Err(reason) => self.reject(batch, Column::Floats, row, reason)?,
            }
        }
        for (row, h) in batch.histograms.iter().enumerate() {
            if let Err(e) = h.value.validate() {
                self.reject(batch, Column::Histograms, row, Reject::InvalidHistogram(e))?;
                continue;
            }
            if starts == Starts::Zeros && self.begins(h.series, h.start, h.ts) {
                rows.histogram((h.series.id, h.start, 0), &zero(&h.value));
            }
            match self.judge(h.series, h.ts) {
                Ok(()) => rows.histogram((h.series.id, h.ts, h.start), &h.value),
                Err(reason) => self.reject(batch, Column::Histograms, row, reason)?,
            }
        }
        let exemplars = self.exemplars(batch, &mut rows);
        rows.end();
        Ok(exemplars)
    }

    fn reject(
        &mut self,
        batch: &Batch,
        column: Column,
        row: usize,
        reason: Reject,
    ) -> Result<(), SinkError> {
        let rejected = Rejected {
            column,
            row,
            reason,
        };
        if batch.atomic {
            return Err(SinkError::Rejected(rejected));
        }
        self.rejected.push(rejected);
        Ok(())
    }

    /// Whether a sample is newer than its series' newest, which it then is.
    fn judge(&mut self, series: SeriesRef, ts: Millis) -> Result<(), Reject> {
        let Some(of) = self.table.get(series) else {
            return Err(Reject::OutOfOrder);
        };
        if of
            .newest
            .is_some_and(|newest| ts <= newest.saturating_sub(self.window))
        {
            return Err(Reject::OutOfOrder);
        }
        self.before.push((series, of.newest));
        of.newest = of.newest.max(Some(ts));
        Ok(())
    }

    /// Whether a start timestamp stands for a sample of its own.
    fn begins(&mut self, series: SeriesRef, start: Millis, ts: Millis) -> bool {
        let newest = self.table.get(series).and_then(|s| s.newest);
        start != 0 && start < ts && newest.is_none_or(|newest| start > newest)
    }

    fn undo(&mut self) {
        for (series, newest) in self.before.drain(..).rev() {
            if let Some(of) = self.table.get(series) {
                of.newest = newest;
            }
        }
    }

    fn metadata(&mut self, batch: &Batch, records: &mut Records) {
        for row in &batch.metadata {
            let Some(of) = self.table.get(row.series) else {
                continue;
            };
            if of.metadata.as_deref() == Some(&row.metadata) {
                continue;
            }
            if records.open_len() == 0 {
                record::begin_metadata(records.out());
            }
            let m = &row.metadata;
            record::put_metadata(records.out(), row.series.id, m.kind, &m.unit, &m.help);
            of.metadata = Some(m.clone().into());
        }
        records.end();
    }

    fn exemplars(&mut self, batch: &Batch, rows: &mut Rows<'_>) -> usize {
        let mut taken = 0;
        for (row, e) in batch.exemplars.iter().enumerate() {
            let Some(of) = self.table.get(e.series) else {
                continue;
            };
            taken += 1;
            if of.exemplar.as_deref().is_some_and(|last| is_same(last, e)) {
                continue;
            }
            if !fits(&e.labels) {
                taken -= 1;
                self.rejected.push(Rejected {
                    column: Column::Exemplars,
                    row,
                    reason: Reject::ExemplarLabels,
                });
                continue;
            }
            rows.exemplar(e);
            of.exemplar = Some(Box::new(e.clone()));
        }
        taken
    }
}

fn is_same(last: &Exemplar, e: &Exemplar) -> bool {
    let any_time = !last.timed && !e.timed;
    last.labels == e.labels && last.value == e.value && (any_time || last.ts == e.ts)
}
