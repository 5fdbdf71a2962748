//! Histograms with classic buckets.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::snapshot::Value;
use crate::value::AtomicF64;

/// Bounds in seconds for the latency of an ordinary network service.
pub const DEFAULT_BUCKETS: [f64; 11] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// `count` bounds from `start`, each `width` above the one before.
pub fn linear_buckets(start: f64, width: f64, count: usize) -> Vec<f64> {
    (0..count).map(|i| start + width * i as f64).collect()
}

/// `count` bounds from `start`, each `factor` times the one before.
pub fn exponential_buckets(start: f64, factor: f64, count: usize) -> Vec<f64> {
    std::iter::successors(Some(start), |b| Some(b * factor))
        .take(count)
        .collect()
}

/// Counts observations by size.
#[derive(Clone, Debug)]
pub struct Histogram(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Upper bounds, ascending, `+Inf` left out.
    bounds: Arc<[f64]>,
    /// How many fell in each bucket (not cumulated); one more than there are bounds.
    counts: Box<[AtomicU64]>,
    sum: AtomicF64,
}

impl Histogram {
    /// A histogram with these finite, ascending upper bounds.
    pub(crate) fn new(bounds: &Arc<[f64]>) -> Self {
        Self(Arc::new(Inner {
            bounds: Arc::clone(bounds),
            counts: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            sum: AtomicF64::default(),
        }))
    }

    /// Counts one observation. NaN falls in the last bucket, as in Go's client.
    pub fn observe(&self, value: f64) {
        let bucket = match value.is_nan() {
            true => self.0.bounds.len(),
            false => self.0.bounds.partition_point(|&b| b < value),
        };
        self.0.counts[bucket].fetch_add(1, Relaxed);
        self.0.sum.add(value);
    }

    /// Observes a duration in seconds.
    pub fn observe_duration(&self, duration: Duration) {
        self.observe(duration.as_secs_f64());
    }

    /// A timer that observes the seconds until it is dropped.
    #[must_use = "the time is observed when the timer is dropped"]
    pub fn start_timer(&self) -> Timer {
        Timer {
            histogram: self.clone(),
            start: Instant::now(),
        }
    }

    /// How many observations there were.
    pub fn count(&self) -> u64 {
        self.0.counts.iter().map(|c| c.load(Relaxed)).sum()
    }

    /// The sum of all observations.
    pub fn sum(&self) -> f64 {
        self.0.sum.get()
    }

    /// The buckets as they are now. The count is the sum of what was read, so that it always
    /// equals the `+Inf` bucket, whatever other threads observe meanwhile.
    pub(crate) fn value(&self) -> Value {
        let sum = self.sum();
        let mut count = 0;
        let mut buckets = Vec::with_capacity(self.0.counts.len());
        let bounds = self.0.bounds.iter().copied().chain([f64::INFINITY]);
        for (bound, n) in bounds.zip(&self.0.counts) {
            count += n.load(Relaxed);
            buckets.push((bound, count));
        }
        Value::Histogram {
            buckets,
            sum,
            count,
        }
    }
}

/// Observes its own age in a [`Histogram`] when it is dropped.
#[derive(Debug)]
pub struct Timer {
    histogram: Histogram,
    start: Instant,
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.histogram.observe_duration(self.start.elapsed());
    }
}
