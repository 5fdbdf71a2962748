//! Handing a scrape to the sink: references for new series, the batch, and what becomes of
//! references that have expired.

use std::sync::Arc;

use model::{
    Appended, Batch, Labels, METRIC_NAME, Millis, STALE_NAN, SeriesRef, SeriesRows, Sink, SinkError,
};

use super::told::metadata_of;
use super::work::mutator;
use super::{Loop, Memory};
use crate::error::ScrapeError;
use crate::parse::{self, LabelOptions};
use crate::samples::{Rows, UNRESOLVED};

/// Names of the report series, and the kinds of the optional ones.
const REPORTS: [&str; 8] = [
    "up",
    "scrape_duration_seconds",
    "scrape_samples_scraped",
    "scrape_samples_post_metric_relabeling",
    "scrape_series_added",
    "scrape_timeout_seconds",
    "scrape_sample_limit",
    "scrape_body_size_bytes",
];

impl Loop {
    /// Gives new series their references.
    pub(super) async fn resolve(&mut self, rows: &mut Rows) -> Result<(), ScrapeError> {
        if !rows.fresh.is_empty() {
            let labels = rows.fresh.iter().map(|f| f.labels.clone()).collect();
            let refs = self
                .job
                .shared
                .sink
                .resolve(SeriesRows { labels })
                .await
                .map_err(|e| ScrapeError::Sink(e.to_string()))?;
            for (fresh, series) in rows.fresh.iter().zip(&refs) {
                self.memory.cache.set_ref(fresh.place, *series);
            }
            for (row, fresh) in std::mem::take(&mut rows.pending) {
                if let Some(series) = refs.get(fresh) {
                    rows.set_series(row, *series);
                }
            }
        }
        for (i, row) in rows.exemplar_rows.iter().enumerate() {
            if let Some(series) = rows.series(*row)
                && let Some(exemplar) = rows.batch.exemplars.get_mut(i)
            {
                exemplar.series = series;
            }
        }
        Ok(())
    }

    /// Appends a batch and, behind its first `reports` rows, the report series. Series whose
    /// references have expired are resolved again; markers of such are left out.
    pub(super) async fn append(
        &mut self,
        mut batch: Batch,
        spare: &mut Batch,
        reports: usize,
        ts: Millis,
        values: &[f64],
    ) -> Result<Appended, ScrapeError> {
        let sink = Arc::clone(&self.job.shared.sink);
        let failed = |e: SinkError| ScrapeError::Sink(e.to_string());
        for _ in 0..3 {
            if self.memory.reports.len() != values.len() {
                let labels = REPORTS
                    .iter()
                    .take(values.len())
                    .map(|name| report_labels(name, &self.target.labels))
                    .collect();
                self.memory.reports = sink.resolve(SeriesRows { labels }).await.map_err(failed)?;
            }
            batch.refs.truncate(reports);
            batch.ts.truncate(reports);
            batch.values.truncate(reports);
            for (series, value) in self.memory.reports.iter().zip(values) {
                batch.push(*series, ts, *value);
            }
            if self.job.shared.starts {
                batch.starts.truncate(reports);
                batch.starts.resize(batch.refs.len(), 0);
            }
            // The sink takes the batch away, and may refuse it.
            copy(&batch, spare);
            match sink.append(batch).await {
                Ok(appended) => return Ok(appended),
                Err(SinkError::Stale(expired)) => {
                    batch = std::mem::take(spare);
                    self.renew(&mut batch, reports, &expired).await?;
                }
                Err(error) => return Err(failed(error)),
            }
        }
        Err(ScrapeError::Sink(
            "series references keep expiring".to_owned(),
        ))
    }

    /// Resolves the series of expired rows again.
    async fn renew(
        &mut self,
        batch: &mut Batch,
        reports: usize,
        expired: &[usize],
    ) -> Result<(), ScrapeError> {
        // Behind the floats the histograms are counted.
        let floats = batch.refs.len();
        if expired.iter().any(|row| (reports..floats).contains(row)) {
            self.memory.reports.clear();
        }
        let histogram = |row: &usize| row.checked_sub(floats);
        let wanted: hashbrown::HashSet<SeriesRef> = expired
            .iter()
            .filter_map(|row| match histogram(row) {
                Some(row) => batch.histograms.get(row).map(|h| h.series),
                None => batch.refs.get(*row).filter(|_| *row < reports).copied(),
            })
            .collect();
        let mutator = mutator(&self.job, &self.target);
        let with_types = self.job.shared.type_and_unit;
        let table = self.state.lock().table.clone().filter(|_| with_types);
        let mut places = Vec::new();
        let mut labels = Vec::new();
        for (place, text, kind, old) in self.memory.cache.with_refs(&wanted) {
            let unit = table.as_ref().and_then(|table| metadata_of(table, text));
            let options = LabelOptions {
                type_and_unit: unit.map(|known| &*known.unit).filter(|_| with_types),
            };
            let pairs = parse::pairs_of(text, kind, options)?;
            if let Some(made) = mutator.labels(&pairs)? {
                places.push((place, old));
                labels.push(made);
            }
        }
        let refs = self
            .job
            .shared
            .sink
            .resolve(SeriesRows { labels })
            .await
            .map_err(|e| ScrapeError::Sink(e.to_string()))?;
        let mut renewed = hashbrown::HashMap::new();
        for ((place, old), new) in places.into_iter().zip(refs) {
            self.memory.cache.set_ref(place, new);
            renewed.insert(old, new);
        }
        for row in expired {
            let series = match histogram(row) {
                Some(row) => batch.histograms.get_mut(row).map(|h| &mut h.series),
                None => batch.refs.get_mut(*row).filter(|_| *row < reports),
            };
            let Some(series) = series else {
                continue;
            };
            // What is not in the cache any more had only its end to be marked, and has ended.
            *series = renewed.get(series).copied().unwrap_or(UNRESOLVED);
        }
        for exemplar in &mut batch.exemplars {
            if let Some(new) = renewed.get(&exemplar.series) {
                exemplar.series = *new;
            }
        }
        for row in &mut batch.metadata {
            if let Some(new) = renewed.get(&row.series) {
                row.series = *new;
            }
        }
        // The new ones are told with the next scrape.
        self.memory.untold = true;
        drop_unresolved(batch);
        Ok(())
    }
}

/// Marks the ends of all series of a target that is gone.
pub(crate) async fn mark_ends(sink: &dyn Sink, memory: Memory, ts: Millis) {
    let mut batch = Batch::default();
    for series in memory.cache.tracked().into_iter().chain(memory.reports) {
        batch.push(series, ts, STALE_NAN);
    }
    while !batch.is_empty() {
        let mut again = Batch::default();
        copy(&batch, &mut again);
        match sink.append(batch).await {
            // Series that have gone from the head need no marker.
            Err(SinkError::Stale(expired)) if !expired.is_empty() => {
                batch = again;
                for row in expired {
                    if let Some(series) = batch.refs.get_mut(row) {
                        *series = UNRESOLVED;
                    }
                }
                drop_unresolved(&mut batch);
            }
            Err(error) => {
                tracing::warn!(%error, "stale append failed");
                return;
            }
            Ok(_) => return,
        }
    }
}

fn report_labels(name: &str, target: &Labels) -> Labels {
    Labels::from_pairs([(METRIC_NAME, name)]).overlay(target)
}

fn drop_unresolved(batch: &mut Batch) {
    let keep: Vec<bool> = batch
        .refs
        .iter()
        .map(|series| *series != UNRESOLVED)
        .collect();
    fn filter<T>(column: &mut Vec<T>, keep: &[bool]) {
        let mut kept = keep.iter();
        column.retain(|_| kept.next().copied().unwrap_or(true));
    }
    filter(&mut batch.refs, &keep);
    filter(&mut batch.ts, &keep);
    filter(&mut batch.values, &keep);
    filter(&mut batch.starts, &keep);
    batch.histograms.retain(|h| h.series != UNRESOLVED);
}

fn copy(from: &Batch, to: &mut Batch) {
    to.clear();
    to.refs.extend_from_slice(&from.refs);
    to.ts.extend_from_slice(&from.ts);
    to.values.extend_from_slice(&from.values);
    to.starts.extend_from_slice(&from.starts);
    to.histograms.extend_from_slice(&from.histograms);
    to.exemplars.extend_from_slice(&from.exemplars);
    to.metadata.extend_from_slice(&from.metadata);
}
