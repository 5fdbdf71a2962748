//! The bucket's metrics, under Thanos' names.

use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use metrics::{Counter, Family, FloatGauge, Histogram, Registry};

use super::Timer;
use crate::Error;

/// Upper bounds of durations, seconds (as Thanos has them).
const BOUNDS: [f64; 14] = [
    0.001, 0.01, 0.1, 0.3, 0.6, 1.0, 3.0, 6.0, 9.0, 20.0, 30.0, 60.0, 90.0, 120.0,
];

pub(super) struct Meters {
    bucket: Arc<str>,
    operations: Family<Counter, 2>,
    failures: Family<Counter, 2>,
    retries: Family<Counter, 2>,
    durations: Family<Histogram, 2>,
    fetched: Family<Counter, 2>,
    uploaded: Counter,
    last_upload: FloatGauge,
}

impl Meters {
    pub(super) fn new(registry: &Registry, bucket: &str) -> Result<Self, Error> {
        let both = ["bucket", "operation"];
        let meters = Self {
            bucket: bucket.into(),
            operations: registry.counters(
                "thanos_objstore_bucket_operations_total",
                "Total number of all attempted operations against a bucket.",
                both,
            )?,
            failures: registry.counters(
                "thanos_objstore_bucket_operation_failures_total",
                "Total number of operations against a bucket that failed, retries included.",
                both,
            )?,
            retries: registry.counters(
                "epimetheus_objstore_bucket_operation_retries_total",
                "Total number of repeated attempts at operations against a bucket.",
                both,
            )?,
            durations: registry.histograms(
                "thanos_objstore_bucket_operation_duration_seconds",
                "Duration of operations against the bucket, retries included.",
                both,
                &BOUNDS,
            )?,
            fetched: registry.counters(
                "thanos_objstore_bucket_operation_fetched_bytes_total",
                "Total number of bytes fetched from bucket, per operation.",
                both,
            )?,
            uploaded: registry
                .counters(
                    "epimetheus_objstore_bucket_uploaded_bytes_total",
                    "Total number of bytes put into the bucket.",
                    ["bucket"],
                )?
                .with(&[bucket]),
            last_upload: registry
                .float_gauges(
                    "thanos_objstore_bucket_last_successful_upload_time",
                    "Second timestamp of the last successful upload to the bucket.",
                    ["bucket"],
                )?
                .with(&[bucket]),
        };
        for operation in ["iter", "get", "get_range", "attributes", "upload", "delete"] {
            meters.operations.with(&[bucket, operation]);
            meters.failures.with(&[bucket, operation]);
            meters.durations.with(&[bucket, operation]);
            meters.fetched.with(&[bucket, operation]);
        }
        Ok(meters)
    }

    pub(super) fn start(&self, operation: &'static str) -> Timer<'_> {
        self.operations.with(&[&self.bucket, operation]).inc();
        Timer {
            meters: self,
            operation,
            start: Instant::now(),
        }
    }

    pub(super) fn retried(&self, operation: &str) {
        self.retries.with(&[&self.bucket, operation]).inc();
    }

    pub(super) fn fetched(&self, operation: &str, bytes: usize) {
        let counter = self.fetched.with(&[&self.bucket, operation]);
        counter.add(bytes as u64);
    }

    /// Of all operations.
    pub(super) fn all_fetched(&self) -> u64 {
        let of = |operation| self.fetched.with(&[&self.bucket, operation]).get();
        of("get") + of("get_range")
    }

    pub(super) fn uploaded(&self, bytes: usize) {
        self.uploaded.add(bytes as u64);
        if let Ok(now) = SystemTime::now().duration_since(UNIX_EPOCH) {
            self.last_upload.set(now.as_secs_f64());
        }
    }
}

impl Timer<'_> {
    /// Ends the operation; `answered` means that it was no failure.
    pub(super) fn done(self, answered: bool) {
        let labels: [&str; 2] = [&self.meters.bucket, self.operation];
        let histogram = self.meters.durations.with(&labels);
        histogram.observe_duration(self.start.elapsed());
        if !answered {
            self.meters.failures.with(&labels).inc();
        }
    }
}
