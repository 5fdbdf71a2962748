//! The loop of one target: wait, ask, read, append, report.

mod append;
mod told;
mod work;

use std::sync::Arc;
use std::time::{Duration, Instant};

use model::owner::Owner;
use model::relabel::{NameScheme, Rule};
use model::report::Health;
use model::sink::Column;
use model::time::Clock;
use model::{Appended, Batch, Millis, Reject, STALE_NAN, SeriesRef, Sink};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::cache::Cache;
use crate::config::ScrapeConfig;
use crate::counters::Counters;
use crate::error::ScrapeError;
use crate::failures::{FailureLog, FailureLogs};
use crate::fetch::Fetcher;
use crate::metadata::{Table, Tables};
use crate::pace::Grid;
use crate::parse::ScrapeProtocol;
use crate::samples::{Counts, Rows};
use crate::target::Target;
use work::Work;

pub(crate) use append::mark_ends;

/// What all loops of the process share.
pub(crate) struct Shared {
    pub(crate) sink: Arc<dyn Sink>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) owner: Arc<dyn Owner>,
    pub(crate) counters: Counters,
    pub(crate) seed: u64,
    pub(crate) tolerance: Millis,
    pub(crate) exemplars: bool,
    /// Whether start timestamps are taken.
    pub(crate) starts: bool,
    /// Whether series have type and unit among their labels.
    pub(crate) type_and_unit: bool,
    /// Whether the sink is given the metadata of series.
    pub(crate) metadata: bool,
    /// How many bodies may be read at the same time.
    pub(crate) readers: wire::Turns,
    pub(crate) buffers: Buffers,
    pub(crate) failures: FailureLogs,
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
    pub(crate) failures: Option<Arc<FailureLog>>,
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
    /// Whether the sink has to be given the metadata of all series.
    untold: bool,
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
        let of_interval = [interval_text.as_str()];
        let lengths = shared.counters.interval_length.with(&of_interval);
        let spread = &shared.counters.interval_length_histogram;
        let spread = spread.with(&of_interval);
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
                let length = before.elapsed();
                lengths.observe_duration(length);
                spread.observe_duration(length);
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
        let mut retyped = false;
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
                    self.memory.untold = true;
                    let mut state = self.state.lock();
                    retyped = self.job.shared.type_and_unit && state.fingerprint != 0;
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
                if self.job.shared.metadata {
                    self.add_metadata(&mut rows);
                }
                let gone = self.memory.cache.vanished();
                self.memory.cache.commit();
                if retyped {
                    // The labels of all series are made anew, by the next scrape.
                    let series = self.memory.cache.tracked();
                    self.memory.cache = Cache::inheriting(series);
                }
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
        if self.job.shared.starts {
            rows.batch.starts.resize(rows.batch.len(), 0);
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
        let whole = &self.job.shared.counters.duration;
        whole.observe_duration(began.elapsed());
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
                if let Some(log) = &self.job.failures {
                    let clock = &*self.job.shared.clock;
                    log.write(clock, &self.job.config.job_name, &self.target.url, error);
                }
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
            ScrapeError::BucketLimit => counters.bucket_limit.inc(),
            _ => {}
        }
    }

    /// Counts and logs what was not taken. Markers and reports may be refused when a target comes
    /// back; that is nobody's fault.
    fn count(&self, appended: &Appended, samples: usize, counts: &Counts) {
        let (mut order, mut duplicates, mut bounds) = (0, counts.duplicates, counts.out_of_bounds);
        let mut exemplars = 0;
        for rejected in appended.rejected.iter().filter(|r| match r.column {
            Column::Floats => r.row < samples,
            Column::Histograms | Column::Exemplars => true,
        }) {
            match rejected.reason {
                Reject::ExemplarOutOfOrder => exemplars += 1,
                // Every scrape shows the newest exemplars again.
                _ if rejected.column == Column::Exemplars => {}
                Reject::OutOfOrder => order += 1,
                Reject::Duplicate => duplicates += 1,
                Reject::OutOfBounds | Reject::TooOld | Reject::TooFarInFuture => bounds += 1,
                // No sample gets here with these.
                Reject::InvalidHistogram(_) | Reject::ExemplarLabels => {}
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
            (
                exemplars,
                &counters.exemplars_out_of_order,
                "out-of-order exemplars",
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

fn wait(ms: Millis) -> Duration {
    Duration::from_millis(ms.max(0).unsigned_abs())
}
