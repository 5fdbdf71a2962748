//! Reading a body: work that no async thread may be held by.

use std::sync::Arc;

use model::Millis;
use tokio::runtime::Handle;

use super::{Buffer, Job};
use crate::cache::Cache;
use crate::error::ScrapeError;
use crate::metadata::Table;
use crate::mutate::{LabelLimits, Mutator};
use crate::parse;
use crate::samples::{Counts, Reader, Rows, finest_schema};
use crate::target::Target;

/// Bodies up to this size are read where they were fetched; what takes longer goes to a thread
/// that may be held. A body with new series takes about ten times as long as one without.
const INLINE_KNOWN: usize = 128 << 10;
const INLINE_NEW: usize = 8 << 10;

/// How the labels of a target's samples are made.
pub(super) fn mutator<'a>(job: &'a Job, target: &'a Target) -> Mutator<'a> {
    Mutator {
        target: &target.labels,
        honor_labels: job.config.honor_labels,
        rules: &job.metric_relabel,
        limits: LabelLimits::of(&job.config),
        scheme: job.scheme,
    }
}

/// Reading a body: work for a thread, with all that it needs.
pub(super) struct Work {
    pub(super) job: Arc<Job>,
    pub(super) target: Arc<Target>,
    pub(super) ts: Millis,
    pub(super) gzip: bool,
    pub(super) content_type: String,
    pub(super) fingerprint: u64,
    pub(super) cache: Cache,
    pub(super) buffer: Buffer,
    pub(super) rows: Rows,
}

/// What came of it.
pub(super) struct Done {
    pub(super) work: Work,
    pub(super) counts: Counts,
    pub(super) bytes: i64,
    pub(super) table: Option<(u64, Arc<Table>)>,
    pub(super) error: Option<ScrapeError>,
}

impl Work {
    /// Reads here or on a thread of its own, as the body's size demands.
    pub(super) async fn run(self) -> Done {
        let size = self.buffer.raw.len() * if self.gzip { 8 } else { 1 };
        let inline = if self.cache.len() > 0 {
            INLINE_KNOWN
        } else {
            INLINE_NEW
        };
        if size <= inline {
            return self.read();
        }
        // What is left if reading should ever panic: one failed scrape, and the loop goes on.
        let empty = Work {
            job: Arc::clone(&self.job),
            target: Arc::clone(&self.target),
            content_type: String::new(),
            cache: Cache::default(),
            buffer: Buffer::default(),
            rows: Rows::default(),
            ts: self.ts,
            gzip: self.gzip,
            fingerprint: self.fingerprint,
        };
        let job = Arc::clone(&self.job);
        let runtime = Handle::current();
        let read = job.shared.readers.run(&runtime, || self.read());
        read.await.unwrap_or_else(|error| Done {
            work: empty,
            counts: Counts::default(),
            bytes: 0,
            table: None,
            error: Some(ScrapeError::Body(format!("internal error: {error}"))),
        })
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
            starts: self.job.shared.starts,
            type_and_unit: self.job.shared.type_and_unit,
            histograms: self.target.histograms,
            bucket_limit: self.job.config.native_histogram_bucket_limit,
            max_schema: finest_schema(self.job.config.native_histogram_min_bucket_factor),
        };
        let written = negotiated.written;
        let (cache, rows) = (&mut self.cache, &mut self.rows);
        let (counted, result) = reader.read(body, written, self.ts, cache, rows);
        *counts = counted;
        result?;
        if counts.metadata != self.fingerprint && counts.metadata != 0 {
            let made = self.job.tables.get(counts.metadata, body, written);
            *table = Some((counts.metadata, made));
        }
        Ok(())
    }
}
