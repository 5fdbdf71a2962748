//! What this room says about itself, under Prometheus' names.

use metrics::{Counter, Family, Gauge, Histogram, Registry, Summary};

/// Quantiles of the summaries of intervals.
const QUANTILES: [f64; 5] = [0.01, 0.05, 0.5, 0.9, 0.99];

/// Bounds of the histograms beside them, seconds.
const BOUNDS: [f64; 4] = [0.01, 0.1, 1.0, 10.0];

/// `prometheus_target_*`.
#[derive(Clone)]
pub(crate) struct Counters {
    pub(crate) pools: Counter,
    pub(crate) pools_failed: Counter,
    pub(crate) reloads: Counter,
    pub(crate) reloads_failed: Counter,
    pub(crate) exceeded_target_limit: Counter,
    pub(crate) target_limit: Family<Gauge, 1>,
    pub(crate) targets: Family<Gauge, 1>,
    pub(crate) syncs: Family<Counter, 1>,
    pub(crate) sync_failed: Family<Counter, 1>,
    pub(crate) sync_length: Family<Summary, 1>,
    pub(crate) sync_length_histogram: Family<Histogram, 1>,
    pub(crate) interval_length: Family<Summary, 1>,
    pub(crate) interval_length_histogram: Family<Histogram, 1>,
    pub(crate) duration: Histogram,
    pub(crate) body_size_limit: Counter,
    pub(crate) sample_limit: Counter,
    pub(crate) label_limits: Counter,
    pub(crate) bucket_limit: Counter,
    pub(crate) duplicates: Counter,
    pub(crate) out_of_order: Counter,
    pub(crate) out_of_bounds: Counter,
    pub(crate) exemplars_out_of_order: Counter,
}

impl Counters {
    pub(crate) fn new(registry: &Registry) -> Result<Self, metrics::Error> {
        let counter = |name: &str, help: &str| registry.counter(name, help);
        Ok(Self {
            pools: counter(
                "prometheus_target_scrape_pools_total",
                "Total number of scrape pool creation attempts.",
            )?,
            pools_failed: counter(
                "prometheus_target_scrape_pools_failed_total",
                "Total number of scrape pool creations that failed.",
            )?,
            reloads: counter(
                "prometheus_target_scrape_pool_reloads_total",
                "Total number of scrape pool reloads.",
            )?,
            reloads_failed: counter(
                "prometheus_target_scrape_pool_reloads_failed_total",
                "Total number of failed scrape pool reloads.",
            )?,
            exceeded_target_limit: counter(
                "prometheus_target_scrape_pool_exceeded_target_limit_total",
                "Total number of times scrape pools hit the target limit, during sync or config reload.",
            )?,
            target_limit: registry.gauges(
                "prometheus_target_scrape_pool_target_limit",
                "Maximum number of targets allowed in this scrape pool.",
                ["scrape_job"],
            )?,
            targets: registry.gauges(
                "prometheus_target_scrape_pool_targets",
                "Current number of targets in this scrape pool.",
                ["scrape_job"],
            )?,
            syncs: registry.counters(
                "prometheus_target_scrape_pool_sync_total",
                "Total number of syncs that were executed on a scrape pool.",
                ["scrape_job"],
            )?,
            sync_failed: registry.counters(
                "prometheus_target_sync_failed_total",
                "Total number of target sync failures.",
                ["scrape_job"],
            )?,
            sync_length: registry.summaries(
                "prometheus_target_sync_length_seconds",
                "Actual interval to sync the scrape pool.",
                ["scrape_job"],
                &QUANTILES,
            )?,
            sync_length_histogram: registry.histograms(
                "prometheus_target_sync_length_histogram_seconds",
                "Actual interval to sync the scrape pool.",
                ["scrape_job"],
                &BOUNDS,
            )?,
            interval_length: registry.summaries(
                "prometheus_target_interval_length_seconds",
                "Actual intervals between scrapes.",
                ["interval"],
                &QUANTILES,
            )?,
            interval_length_histogram: registry.histograms(
                "prometheus_target_interval_length_histogram_seconds",
                "Actual intervals between scrapes.",
                ["interval"],
                &BOUNDS,
            )?,
            // A native histogram there, of which the text shows sum and count.
            duration: registry.histogram(
                "prometheus_target_scrape_duration_seconds",
                "Total duration of the scrape from start to commit completion in seconds.",
                &[],
            )?,
            body_size_limit: counter(
                "prometheus_target_scrapes_exceeded_body_size_limit_total",
                "Total number of scrapes that hit the body size limit",
            )?,
            sample_limit: counter(
                "prometheus_target_scrapes_exceeded_sample_limit_total",
                "Total number of scrapes that hit the sample limit and were rejected.",
            )?,
            label_limits: counter(
                "prometheus_target_scrape_pool_exceeded_label_limits_total",
                "Total number of times scrape pools hit the label limits, during sync or config reload.",
            )?,
            bucket_limit: counter(
                "prometheus_target_scrapes_exceeded_native_histogram_bucket_limit_total",
                "Total number of scrapes that hit the native histogram bucket limit and were rejected.",
            )?,
            duplicates: counter(
                "prometheus_target_scrapes_sample_duplicate_timestamp_total",
                "Total number of samples rejected due to duplicate timestamps but different values.",
            )?,
            out_of_order: counter(
                "prometheus_target_scrapes_sample_out_of_order_total",
                "Total number of samples rejected due to not being out of the expected order.",
            )?,
            out_of_bounds: counter(
                "prometheus_target_scrapes_sample_out_of_bounds_total",
                "Total number of samples rejected due to timestamp falling outside of the time bounds.",
            )?,
            exemplars_out_of_order: counter(
                "prometheus_target_scrapes_exemplar_out_of_order_total",
                "Total number of exemplar rejected due to not being out of the expected order.",
            )?,
        })
    }

    /// Forgets a job.
    pub(crate) fn forget(&self, job: &str) {
        self.target_limit.remove(&[job]);
        self.targets.remove(&[job]);
        self.syncs.remove(&[job]);
        self.sync_failed.remove(&[job]);
        self.sync_length.remove(&[job]);
        self.sync_length_histogram.remove(&[job]);
    }
}
