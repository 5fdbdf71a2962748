//! A request on its way into the sink: what remote write 1.x, 2.0 and OTLP have in common.
//!
//! Rows are made while the request is read. Series that are not known stand in them by their number
//! in the list of new ones; all of these are resolved in one go, then the batch is appended.

use std::sync::Arc;

use http::StatusCode;
use model::histogram::{CUSTOM_SCHEMA, Histogram};
use model::report::Metadata;
use model::sink::{Column, Exemplar, HistogramSample, SeriesMetadata};
use model::{
    Appended, Batch, Kind, Labels, Millis, Reject, Rejected, SeriesRef, SeriesRows, SinkError,
};

use super::keys::{Key, Keys};
use super::{Inner, Refused};

/// Samples further ahead of now than this are refused, ms.
const AHEAD: Millis = 10 * 60_000;
/// The generation of a reference that is the number of a new series.
const FRESH: u32 = u32::MAX;
/// At most so many refused samples are named in an answer.
const NAMED: usize = 64;

/// What of a request was taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) samples: usize,
    pub(super) histograms: usize,
    pub(super) exemplars: usize,
    /// Exemplars that were not.
    pub(super) exemplars_refused: usize,
}

/// The request so far.
pub(super) struct Request<'k> {
    keys: &'k Keys,
    batch: Batch,
    /// Keys and labels of series that are to be resolved.
    fresh: Vec<(Key, Labels)>,
    numbers: hashbrown::HashMap<Key, u32>,
    /// Key and labels' place of every series, with its first rows: for those that are refused.
    series: Vec<Shown>,
    latest: Millis,
    /// Rows that were refused before the sink saw them.
    pub(super) errors: Vec<String>,
    started: bool,
}

/// A series of the request.
#[derive(Clone, Copy)]
struct Shown {
    key: Key,
    /// Where its labels can be read again.
    at: usize,
    row: usize,
    histogram: usize,
    exemplar: usize,
}

impl Inner {
    pub(super) fn request(&self) -> Request<'_> {
        Request {
            keys: &self.keys,
            batch: Batch::default(),
            fresh: Vec::new(),
            numbers: hashbrown::HashMap::new(),
            series: Vec::new(),
            latest: self.options.clock.now().saturating_add(AHEAD),
            errors: Vec::new(),
            started: false,
        }
    }

    /// Resolves and appends. `labels` reads the labels at a place again.
    pub(super) fn finish(
        &self,
        mut request: Request<'_>,
        atomic: bool,
        labels: impl Fn(usize) -> Option<Labels>,
    ) -> (Taken, Option<Refused>) {
        request.batch.atomic = atomic;
        let appended = match self.append(&mut request, &labels) {
            Ok(appended) => appended,
            Err(refused) => return (Taken::default(), Some(refused)),
        };
        let of_exemplars = |r: &&Rejected| r.column == Column::Exemplars;
        let taken = Taken {
            samples: appended.samples,
            histograms: appended.histograms,
            exemplars: appended.exemplars,
            exemplars_refused: appended.rejected.iter().filter(of_exemplars).count(),
        };
        if atomic {
            // Another writer was faster: part of it was taken, as Prometheus takes it, too.
            let late = appended.rejected.iter().find(|r| !of_exemplars(r));
            return (taken, late.map(|r| Refused::bad(text(r.reason))));
        }
        for rejected in &appended.rejected {
            request.refuse(*rejected, &labels);
        }
        let refused = match request.errors.len() {
            0 => None,
            n => {
                request.errors.truncate(NAMED);
                if n > NAMED {
                    request.errors.push(format!("and {} more", n - NAMED));
                }
                Some(Refused::bad(request.errors.join("\n")))
            }
        };
        (taken, refused)
    }

    fn append(
        &self,
        request: &mut Request<'_>,
        labels: impl Fn(usize) -> Option<Labels>,
    ) -> Result<Appended, Refused> {
        for _ in 0..3 {
            self.resolve(request)?;
            let copy = request.copy();
            match wait(self.sink.append(std::mem::take(&mut request.batch))) {
                Ok(appended) => return Ok(appended),
                Err(SinkError::Stale(_)) => {
                    // Rare: a head that was cut between two requests. All are resolved again.
                    request.batch = copy;
                    request.renew(&labels);
                }
                Err(SinkError::Rejected(rejected)) => {
                    return Err(Refused::bad(text(rejected.reason)));
                }
                Err(error) => return Err(failed(&error)),
            }
        }
        Err(Refused::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "series references keep expiring",
        ))
    }

    fn resolve(&self, request: &mut Request<'_>) -> Result<(), Refused> {
        if request.fresh.is_empty() {
            return Ok(());
        }
        let labels = request.fresh.iter().map(|(_, l)| l.clone()).collect();
        let refs = wait(self.sink.resolve(SeriesRows { labels })).map_err(|e| failed(&e))?;
        for ((key, _), series) in request.fresh.iter().zip(&refs) {
            self.keys.put(*key, *series);
        }
        let known = |series: &mut SeriesRef| {
            if series.generation == FRESH
                && let Some(known) = refs.get(series.id as usize)
            {
                *series = *known;
            }
        };
        let batch = &mut request.batch;
        batch.refs.iter_mut().for_each(known);
        batch
            .histograms
            .iter_mut()
            .for_each(|h| known(&mut h.series));
        batch
            .exemplars
            .iter_mut()
            .for_each(|e| known(&mut e.series));
        batch.metadata.iter_mut().for_each(|m| known(&mut m.series));
        request.fresh.clear();
        request.numbers.clear();
        Ok(())
    }
}

/// Waits for a sink, on a thread that may be held. The local database is done at once.
fn wait<T>(future: model::BoxFuture<'static, T>) -> T {
    tokio::runtime::Handle::current().block_on(future)
}

fn failed(error: &SinkError) -> Refused {
    let status = match error {
        SinkError::Failed { kind, .. } => match kind {
            // To be sent again later.
            Kind::Unavailable | Kind::Limit => StatusCode::SERVICE_UNAVAILABLE,
            Kind::Invalid => StatusCode::BAD_REQUEST,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        },
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    Refused::new(status, error.to_string())
}

/// The reason in Prometheus' words.
pub(super) fn text(reason: Reject) -> String {
    match reason {
        Reject::TooFarInFuture => "out of bounds: timestamp is too far in the future".to_owned(),
        reason => reason.to_string(),
    }
}

impl Request<'_> {
    /// Makes room for so many samples.
    pub(super) fn reserve(&mut self, samples: usize) {
        self.batch.refs.reserve(samples);
        self.batch.ts.reserve(samples);
        self.batch.values.reserve(samples);
    }

    /// The reference of the series with this key, whose labels `read` reads if it is not known; none
    /// if they cannot be labels. `at`: where they can be read again.
    pub(super) fn series<E>(
        &mut self,
        key: Key,
        at: usize,
        read: impl FnOnce() -> Result<Labels, E>,
    ) -> Result<SeriesRef, E> {
        let reference = match self.keys.get(key) {
            Some(known) => known,
            None => {
                let number = match self.numbers.get(&key) {
                    Some(number) => *number,
                    None => {
                        let labels = read()?;
                        // A request holds less than 2^32 bytes.
                        let number = self.fresh.len() as u32;
                        self.fresh.push((key, labels));
                        self.numbers.insert(key, number);
                        number
                    }
                };
                SeriesRef {
                    id: u64::from(number),
                    generation: FRESH,
                }
            }
        };
        self.series.push(Shown {
            key,
            at,
            row: self.batch.refs.len(),
            histogram: self.batch.histograms.len(),
            exemplar: self.batch.exemplars.len(),
        });
        Ok(reference)
    }

    /// A float. Whether it is worth keeping; if not, why.
    #[inline]
    pub(super) fn sample(
        &mut self,
        series: SeriesRef,
        ts: Millis,
        start: Millis,
        value: f64,
    ) -> Result<(), Reject> {
        if ts > self.latest {
            return Err(Reject::TooFarInFuture);
        }
        self.batch.push(series, ts, value);
        if start != 0 && !self.started {
            self.started = true;
            self.batch.starts.resize(self.batch.refs.len() - 1, 0);
        }
        if self.started {
            self.batch.starts.push(start);
        }
        Ok(())
    }

    /// A histogram; one that is finer than can be kept is made coarser.
    pub(super) fn histogram(
        &mut self,
        series: SeriesRef,
        ts: Millis,
        start: Millis,
        mut value: Histogram,
    ) -> Result<(), Reject> {
        const FINEST: i32 = 8;
        if ts > self.latest {
            return Err(Reject::TooFarInFuture);
        }
        if (FINEST + 1..=52).contains(&value.schema()) && value.schema() != CUSTOM_SCHEMA {
            match &mut value {
                Histogram::Int(h) => h.reduce_to(FINEST),
                Histogram::Float(h) => h.reduce_to(FINEST),
            }
        }
        value.validate()?;
        self.batch.histograms.push(HistogramSample {
            series,
            ts,
            start,
            value,
        });
        Ok(())
    }

    /// An exemplar.
    pub(super) fn exemplar(
        &mut self,
        series: SeriesRef,
        labels: Labels,
        value: f64,
        ts: Millis,
    ) -> Result<(), Reject> {
        if ts > self.latest {
            return Err(Reject::TooFarInFuture);
        }
        self.batch.exemplars.push(Exemplar {
            series,
            labels,
            value,
            ts,
            timed: ts != 0,
        });
        Ok(())
    }

    /// Metadata of a series.
    pub(super) fn metadata(&mut self, series: SeriesRef, metadata: Metadata) {
        self.batch
            .metadata
            .push(SeriesMetadata { series, metadata });
    }

    /// Notes a sample that is not taken.
    #[cold]
    pub(super) fn error(&mut self, text: impl Into<String>) {
        self.errors.push(text.into());
    }

    /// Notes a row that the sink did not take.
    fn refuse(&mut self, rejected: Rejected, labels: impl Fn(usize) -> Option<Labels>) {
        // Exemplars that come again are nobody's fault.
        if rejected.column == Column::Exemplars && rejected.reason != Reject::ExemplarOutOfOrder {
            return;
        }
        let first = |s: &Shown| match rejected.column {
            Column::Floats => s.row,
            Column::Histograms => s.histogram,
            Column::Exemplars => s.exemplar,
        };
        let after = self.series.partition_point(|s| first(s) <= rejected.row);
        let shown = after.checked_sub(1).and_then(|i| self.series.get(i));
        let series = shown.and_then(|s| labels(s.at)).unwrap_or_default();
        self.error(format!("{} for series {series}", text(rejected.reason)));
    }

    fn copy(&self) -> Batch {
        let from = &self.batch;
        Batch {
            refs: from.refs.clone(),
            ts: from.ts.clone(),
            values: from.values.clone(),
            starts: from.starts.clone(),
            histograms: from.histograms.clone(),
            exemplars: from.exemplars.clone(),
            metadata: from.metadata.clone(),
            atomic: from.atomic,
        }
    }

    /// Takes every series for a new one: references have expired.
    fn renew(&mut self, labels: impl Fn(usize) -> Option<Labels>) {
        let ends = self.series.iter().skip(1).copied();
        let all = Shown {
            row: self.batch.refs.len(),
            histogram: self.batch.histograms.len(),
            exemplar: self.batch.exemplars.len(),
            key: 0,
            at: 0,
        };
        let mut renewed: hashbrown::HashMap<SeriesRef, SeriesRef> = hashbrown::HashMap::new();
        for (shown, end) in self.series.iter().zip(ends.chain([all])) {
            let Some(labels) = labels(shown.at) else {
                continue;
            };
            self.keys.forget(shown.key);
            let number = self.fresh.len() as u64;
            self.fresh.push((shown.key, labels));
            let fresh = SeriesRef {
                id: number,
                generation: FRESH,
            };
            for series in self
                .batch
                .refs
                .get_mut(shown.row..end.row)
                .into_iter()
                .flatten()
            {
                renewed.insert(std::mem::replace(series, fresh), fresh);
            }
            let histograms = shown.histogram..end.histogram;
            for h in self
                .batch
                .histograms
                .get_mut(histograms)
                .into_iter()
                .flatten()
            {
                renewed.insert(std::mem::replace(&mut h.series, fresh), fresh);
            }
            let exemplars = shown.exemplar..end.exemplar;
            for e in self
                .batch
                .exemplars
                .get_mut(exemplars)
                .into_iter()
                .flatten()
            {
                e.series = fresh;
            }
        }
        for m in &mut self.batch.metadata {
            if let Some(fresh) = renewed.get(&m.series) {
                m.series = *fresh;
            }
        }
    }
}

/// A label set of the wire: sorted or not, but with a name, valid, and with no name twice.
pub(super) fn labels<'a>(pairs: &mut [(&'a str, &'a str)]) -> Result<Labels, BadLabels> {
    if !pairs.is_sorted() {
        pairs.sort_unstable();
    }
    let whole = || Labels::from_pairs(pairs.iter().copied()).to_string();
    let twice = pairs.windows(2).find_map(|w| match w {
        [(a, _), (b, _)] if a == b => Some((*a).to_owned()),
        _ => None,
    });
    if let Some(name) = twice {
        return Err(BadLabels::Twice(whole(), name));
    }
    let labels = Labels::from_sorted(pairs.iter().copied().filter(|(_, v)| !v.is_empty()));
    if labels.name().is_empty() || pairs.iter().any(|(name, _)| name.is_empty()) {
        return Err(BadLabels::Invalid(whole()));
    }
    Ok(labels)
}

/// Why a label set is none.
#[derive(Debug, thiserror::Error)]
pub(super) enum BadLabels {
    #[error("invalid metric name or labels, got {0}")]
    Invalid(String),
    #[error("invalid labels for series, labels {0}, duplicated label {1}")]
    Twice(String, String),
    #[error("parsing labels for series: {0}")]
    Wire(#[from] wire::fields::BadMessage),
}

/// A shared text.
pub(super) fn shared(text: &str) -> Arc<str> {
    Arc::from(text)
}
