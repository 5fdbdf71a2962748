//! The loop of one target: wait, ask, read, append, report.

use std::sync::Arc;
use std::time::{Duration, Instant};

use model::owner::Owner;
use model::relabel::{NameScheme, Rule};
use model::report::Health;
use model::time::Clock;
use model::{Appended, Batch, Labels, METRIC_NAME, Millis, Reject, STALE_NAN, SeriesRef};
use model::{SeriesRows, Sink, SinkError};
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::cache::Cache;
use crate::config::ScrapeConfig;
use crate::counters::Counters;
use crate::error::ScrapeError;
use crate::fetch::Fetcher;
use crate::metadata::{Table, Tables};
use crate::mutate::{LabelLimits, Mutator};
use crate::pace::Grid;
use crate::parse::{self, Format, LabelOptions, ScrapeProtocol};
use crate::samples::{Counts, Reader, Rows, UNRESOLVED};
use crate::target::Target;

/// Bodies up to this size are read where they were fetched; what takes longer goes to a thread
/// that may be held. A body with new series takes about ten times as long as one without.
const INLINE_KNOWN: usize = 128 << 10;
const INLINE_NEW: usize = 8 << 10;

/// What all loops of the process share.
pub(crate) struct Shared {
    pub(crate) sink: Arc<dyn Sink>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) owner: Arc<dyn Owner>,
    pub(crate) counters: Counters,
    pub(crate) seed: u64,
    pub(crate) tolerance: Millis,
    pub(crate) exemplars: bool,
    /// How many bodies may be read at the same time.
    pub(crate) readers: Arc<Semaphore>,
    pub(crate) buffers: Buffers,
}

/// What all loops of a job share.
pub(crate) struct Job {
    pub(crate) config: Arc<ScrapeConfig>,
    pub(crate) relabel: Vec<Rule>,
    pub(crate) metric_relabel: Vec<Rule>,
    pub(crate) scheme: NameScheme,
    pub(crate) fallback: Option<ScrapeProtocol>,
    pub(crate) fetcher: Fetcher,
    pub(crate) tables: Arc<Tables>,
    pub(crate) shared: Arc<Shared>,
    /// Set while the job has too many targets.
    pub(crate) too_many: Arc<Mutex<Option<(usize, u64)>>>,
}

/// Buffers that scrapes hand on to each other.
#[derive(Default)]
pub(crate) struct Buffers(Mutex<Vec<Buffer>>);

/// The memory of one scrape.
#[derive(Default)]
pub(crate) struct Buffer {
    raw: Vec<u8>,
    plain: Vec<u8>,
    batch: Batch,
    /// A copy of the batch, for when the sink wants some of its series resolved again.
    spare: Batch,
}

impl Buffers {
    /// At most this many wait for use, each with at most so many bytes.
    const KEPT: usize = 8;
    const BIG: usize = 16 << 20;

    fn take(&self) -> Buffer {
        self.0.lock().pop().unwrap_or_default()
    }

    fn give(&self, mut buffer: Buffer) {
        buffer.batch.clear();
        buffer.spare.clear();
        let size = buffer.raw.capacity() + buffer.plain.capacity();
        let samples = buffer.batch.refs.capacity() * size_of::<SeriesRef>() * 2;
        let mut kept = self.0.lock();
        if kept.len() < Self::KEPT && size + samples <= Self::BIG {
            kept.push(buffer);
        }
    }
}

/// How the last scrape of a target went, for reports.
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    pub(crate) health: Health,
    pub(crate) last_error: String,
    pub(crate) last_scrape: Millis,
    pub(crate) last_duration: f64,
    pub(crate) table: Option<Arc<Table>>,
    fingerprint: u64,
}

/// What outlives a loop when its target is scraped on under other settings.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    pub(crate) cache: Cache,
    reports: Vec<SeriesRef>,
    /// The due time and the timestamp of the last scrape.
    last: Option<(Millis, Millis)>,
}

impl Memory {
    /// When the last scrape was due; none if there was none.
    pub(crate) fn last_due(&self) -> Option<Millis> {
        self.last.map(|(due, _)| due)
    }

    /// The memory of the same target under a configuration that makes other series.
    pub(crate) fn renewed(self) -> Self {
        Self {
            cache: Cache::inheriting(self.cache.tracked()),
            ..self
        }
    }
}

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

/// The loop of one target.
pub(crate) struct Loop {
    pub(crate) target: Arc<Target>,
    pub(crate) job: Arc<Job>,
    pub(crate) state: Arc<Mutex<State>>,
    pub(crate) memory: Memory,
}

impl Loop {
    /// Scrapes until `stop`; the running scrape is finished. Gives back what can be used on.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> Memory {
        let shared = Arc::clone(&self.job.shared);
        let grid = Grid::new(self.target.interval, self.target.key, shared.seed);
        let interval_text = model::time::format_duration(grid.interval());
        let lengths = shared.counters.interval_length.with(&[&interval_text]);
        let mut before: Option<Instant> = None;
        loop {
            let last = self.memory.last.map(|(due, _)| due);
            let now = shared.clock.now();
            let due = grid.next(now, last);
            tokio::select! {
                () = stop.cancelled() => return self.memory,
                () = tokio::time::sleep(wait(due - now)) => {}
            }
            let now = shared.clock.now();
            // A timer that went off early, by a clock that runs slower.
            if now < due && due - now > shared.tolerance && due - now < grid.interval() {
                continue;
            }
            if !shared.owner.owns(self.target.key, now) {
                self.memory = Memory {
                    last: Some((due, now)),
                    ..Memory::default()
                };
                before = None;
                continue;
            }
            if let Some(before) = before.replace(Instant::now()) {
                lengths.observe(before.elapsed().as_secs_f64());
            }
            let ts = grid.snap(due, now, shared.tolerance);
            self.memory.last = Some((due, ts));
            self.scrape(ts).await;
        }
    }

    async fn scrape(&mut self, ts: Millis) {
        let began = Instant::now();
        let mut buffer = self.job.shared.buffers.take();
        self.memory.cache.begin();
        let forced = *self.job.too_many.lock();
        let fetched = match forced {
            Some((targets, limit)) => Err(ScrapeError::TargetLimit { targets, limit }),
            None => {
                let timeout = wait(self.target.timeout);
                self.job
                    .fetcher
                    .fetch(&self.target.url, timeout, &mut buffer.raw)
                    .await
            }
        };
        let mut bytes = 0;
        let mut counts = Counts::default();
        let mut rows = Rows {
            batch: std::mem::take(&mut buffer.batch),
            ..Rows::default()
        };
        rows.batch.clear();
        let mut error = match fetched {
            Err(error) => Some(error),
            Ok(fetched) => {
                let work = Work {
                    job: Arc::clone(&self.job),
                    target: Arc::clone(&self.target),
                    ts,
                    gzip: fetched.gzip,
                    content_type: fetched.content_type,
                    fingerprint: self.state.lock().fingerprint,
                    cache: std::mem::take(&mut self.memory.cache),
                    buffer,
                    rows,
                };
                let done = work.run().await;
                self.memory.cache = done.work.cache;
                buffer = done.work.buffer;
                rows = done.work.rows;
                counts = done.counts;
                bytes = done.bytes;
                if let Some((fingerprint, table)) = done.table {
                    let mut state = self.state.lock();
                    state.fingerprint = fingerprint;
                    state.table = Some(table);
                }
                done.error
            }
        };
        if error.is_none()
            && let Err(failed) = self.resolve(&mut rows).await
        {
            error = Some(failed);
        }
        let gone = match &error {
            None => {
                let gone = self.memory.cache.vanished();
                self.memory.cache.commit();
                gone
            }
            Some(error) => {
                self.count_failure(error);
                if matches!(error, ScrapeError::BodySizeLimit) {
                    bytes = -1;
                }
                rows.batch.clear();
                self.memory.cache.vanish()
            }
        };
        let samples = rows.batch.len();
        for series in gone {
            rows.batch.push(series, ts, STALE_NAN);
        }
        let duration = began.elapsed().as_secs_f64();
        self.report(&error, ts, duration);
        let reports = rows.batch.len();
        let values = self.report_values(error.is_none(), duration, &counts, bytes);
        let spare = &mut buffer.spare;
        let appended = self.append(rows.batch, spare, reports, ts, &values).await;
        buffer.batch = match appended {
            Ok(appended) => {
                self.count(&appended, samples, &counts);
                appended.batch
            }
            Err(failed) => {
                tracing::error!(
                    job = %self.job.config.job_name,
                    target = %self.target.url,
                    error = %failed,
                    "scrape commit failed"
                );
                Batch::default()
            }
        };
        self.job.shared.buffers.give(buffer);
    }

    /// Gives new series their references.
    async fn resolve(&mut self, rows: &mut Rows) -> Result<(), ScrapeError> {
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
                if let Some(row) = rows.batch.refs.get_mut(fresh.row) {
                    *row = *series;
                }
            }
            for (row, fresh) in &rows.again {
                if let (Some(row), Some(series)) = (rows.batch.refs.get_mut(*row), refs.get(*fresh))
                {
                    *row = *series;
                }
            }
        }
        for (exemplar, row) in rows.batch.exemplars.iter_mut().zip(&rows.exemplar_rows) {
            if let Some(series) = rows.batch.refs.get(*row) {
                exemplar.series = *series;
            }
        }
        Ok(())
    }

    fn report_values(&self, up: bool, duration: f64, counts: &Counts, bytes: i64) -> Vec<f64> {
        let mut values = vec![
            f64::from(u8::from(up)),
            duration,
            counts.total as f64,
            counts.added as f64,
            counts.series_added as f64,
        ];
        if self.job.config.extra_scrape_metrics == Some(true) {
            values.extend([
                self.target.timeout as f64 / 1000.0,
                self.job.config.sample_limit as f64,
                bytes as f64,
            ]);
        }
        values
    }

    /// Appends a batch and, behind its first `reports` rows, the report series. Series whose
    /// references have expired are resolved again; markers of such are left out.
    async fn append(
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
        if expired.iter().any(|row| *row >= reports) {
            self.memory.reports.clear();
        }
        let wanted: hashbrown::HashSet<SeriesRef> = expired
            .iter()
            .filter(|row| **row < reports)
            .filter_map(|row| batch.refs.get(*row).copied())
            .collect();
        let mutator = mutator(&self.job, &self.target);
        let mut places = Vec::new();
        let mut labels = Vec::new();
        for (place, text, kind, old) in self.memory.cache.with_refs(&wanted) {
            let pairs = parse::pairs_of(text, kind, LabelOptions::default())?;
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
        for row in expired.iter().filter(|row| **row < reports) {
            let Some(series) = batch.refs.get_mut(*row) else {
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
        drop_unresolved(batch);
        Ok(())
    }

    fn report(&self, error: &Option<ScrapeError>, ts: Millis, duration: f64) {
        let mut state = self.state.lock();
        state.last_scrape = ts;
        state.last_duration = duration;
        match error {
            None => {
                state.health = Health::Up;
                state.last_error.clear();
            }
            Some(error) => {
                state.health = Health::Down;
                state.last_error = error.to_string();
                tracing::debug!(
                    job = %self.job.config.job_name,
                    target = %self.target.url,
                    error = %error,
                    "scrape failed"
                );
            }
        }
    }

    fn count_failure(&self, error: &ScrapeError) {
        let counters = &self.job.shared.counters;
        match error {
            ScrapeError::BodySizeLimit => counters.body_size_limit.inc(),
            ScrapeError::SampleLimit => counters.sample_limit.inc(),
            ScrapeError::LabelLimit(_) => counters.label_limits.inc(),
            _ => {}
        }
    }

    /// Counts and logs what was not taken. Markers and reports may be refused when a target comes
    /// back; that is nobody's fault.
    fn count(&self, appended: &Appended, samples: usize, counts: &Counts) {
        let (mut order, mut duplicates, mut bounds) = (0, counts.duplicates, counts.out_of_bounds);
        for rejected in appended.rejected.iter().filter(|r| r.row < samples) {
            match rejected.reason {
                Reject::OutOfOrder => order += 1,
                Reject::Duplicate => duplicates += 1,
                Reject::OutOfBounds | Reject::TooOld | Reject::TooFarInFuture => bounds += 1,
            }
        }
        let counters = &self.job.shared.counters;
        for (number, counter, what) in [
            (order, &counters.out_of_order, "out-of-order samples"),
            (
                duplicates,
                &counters.duplicates,
                "samples with different value but same timestamp",
            ),
            (
                bounds,
                &counters.out_of_bounds,
                "samples that are too old or are too far into the future",
            ),
        ] {
            if number > 0 {
                counter.add(number as u64);
                tracing::warn!(
                    job = %self.job.config.job_name,
                    target = %self.target.url,
                    num_dropped = number,
                    "error on ingesting {what}"
                );
            }
        }
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
}

fn copy(from: &Batch, to: &mut Batch) {
    to.clear();
    to.refs.extend_from_slice(&from.refs);
    to.ts.extend_from_slice(&from.ts);
    to.values.extend_from_slice(&from.values);
    to.exemplars.extend_from_slice(&from.exemplars);
}

fn wait(ms: Millis) -> Duration {
    Duration::from_millis(ms.max(0).unsigned_abs())
}

fn mutator<'a>(job: &'a Job, target: &'a Target) -> Mutator<'a> {
    Mutator {
        target: &target.labels,
        honor_labels: job.config.honor_labels,
        rules: &job.metric_relabel,
        limits: LabelLimits::of(&job.config),
        scheme: job.scheme,
    }
}

/// Reading a body: work for a thread, with all that it needs.
struct Work {
    job: Arc<Job>,
    target: Arc<Target>,
    ts: Millis,
    gzip: bool,
    content_type: String,
    fingerprint: u64,
    cache: Cache,
    buffer: Buffer,
    rows: Rows,
}

struct Done {
    work: Work,
    counts: Counts,
    bytes: i64,
    table: Option<(u64, Arc<Table>)>,
    error: Option<ScrapeError>,
}

impl Work {
    async fn run(self) -> Done {
        let size = self.buffer.raw.len() * if self.gzip { 8 } else { 1 };
        let inline = if self.cache.len() > 0 {
            INLINE_KNOWN
        } else {
            INLINE_NEW
        };
        if size <= inline {
            return self.read();
        }
        // Only as many at a time as there are processors: more would only hold more memory.
        let readers = Arc::clone(&self.job.shared.readers);
        let Ok(permit) = readers.acquire_owned().await else {
            return self.read();
        };
        let handle = tokio::task::spawn_blocking(move || {
            let done = self.read();
            drop(permit);
            done
        });
        match handle.await {
            Ok(done) => done,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    fn read(mut self) -> Done {
        let mut counts = Counts::default();
        let mut table = None;
        let mut bytes = 0;
        let result = self.read_into(&mut counts, &mut table, &mut bytes);
        Done {
            work: self,
            counts,
            bytes,
            table,
            error: result.err(),
        }
    }

    fn read_into(
        &mut self,
        counts: &mut Counts,
        table: &mut Option<(u64, Arc<Table>)>,
        bytes: &mut i64,
    ) -> Result<(), ScrapeError> {
        let body = if self.gzip {
            let buffer = &mut self.buffer;
            self.job.fetcher.inflate(&buffer.raw, &mut buffer.plain)?;
            &self.buffer.plain
        } else {
            &self.buffer.raw
        };
        *bytes = body.len() as i64;
        // An empty body is an empty scrape, whatever it says it is.
        if body.is_empty() {
            return Ok(());
        }
        let negotiated = parse::negotiate(&self.content_type, self.job.fallback)?;
        if let Some(warning) = &negotiated.warning {
            tracing::debug!(target = %self.target.url, "{warning}");
        }
        let reader = Reader {
            mutator: mutator(&self.job, &self.target),
            honor_timestamps: self.job.config.honor_timestamps,
            track_timestamps: self.job.config.track_timestamps_staleness,
            sample_limit: self.job.config.sample_limit,
            exemplars: self.job.shared.exemplars,
        };
        let format: Format = negotiated.format;
        let (counted, result) = reader.read(body, format, self.ts, &mut self.cache, &mut self.rows);
        *counts = counted;
        result?;
        if counts.metadata != self.fingerprint && counts.metadata != 0 {
            let made = self.job.tables.get(counts.metadata, body, format);
            *table = Some((counts.metadata, made));
        }
        Ok(())
    }
}
