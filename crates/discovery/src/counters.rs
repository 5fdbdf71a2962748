//! Prometheus' own metrics of discovery.

use metrics::{Counter, Error, Family, Gauge, Registry, Summary};

/// Instruments of one manager and what it runs.
#[derive(Clone)]
pub(crate) struct Counters {
    name: String,
    pub(crate) received: Counter,
    pub(crate) updates: Counter,
    pub(crate) failed_configs: Gauge,
    pub(crate) discovered: Discovered,
    pub(crate) file_errors: Counter,
    pub(crate) file_scans: Summary,
    pub(crate) file_mtime: Family<metrics::FloatGauge, 1>,
    pub(crate) http_failures: Counter,
    pub(crate) dns_lookups: Counter,
    pub(crate) dns_failures: Counter,
    pub(crate) refresh_failures: Family<Counter, 1>,
    pub(crate) refreshes: Family<Summary, 1>,
}

/// Targets by manager and job; a manager forgets only its own.
#[derive(Clone)]
pub(crate) struct Discovered {
    name: String,
    family: Family<Gauge, 2>,
}

impl Discovered {
    pub(crate) fn clear(&self) {
        self.family.retain(|[name, _]| **name != *self.name);
    }
}

impl Counters {
    pub(crate) fn new(name: &str, registry: &Registry) -> Result<Self, Error> {
        let counter = |metric: &str, help: &str| {
            registry
                .counters(metric, help, ["name"])
                .map(|f| f.with(&[name]))
        };
        let quantiles = [0.5, 0.9, 0.99];
        Ok(Self {
            name: name.to_owned(),
            received: counter(
                "prometheus_sd_received_updates_total",
                "Total number of update events received from the SD providers.",
            )?,
            updates: counter(
                "prometheus_sd_updates_total",
                "Total number of update events sent to the SD consumers.",
            )?,
            failed_configs: registry
                .gauges(
                    "prometheus_sd_failed_configs",
                    "Current number of service discovery configurations that failed to load.",
                    ["name"],
                )?
                .with(&[name]),
            discovered: Discovered {
                name: name.to_owned(),
                family: registry.gauges(
                    "prometheus_sd_discovered_targets",
                    "Current number of discovered targets.",
                    ["name", "config"],
                )?,
            },
            file_errors: registry.counter(
                "prometheus_sd_file_read_errors_total",
                "The number of File-SD read errors.",
            )?,
            file_scans: registry.summary(
                "prometheus_sd_file_scan_duration_seconds",
                "The duration of the File-SD scan in seconds.",
                &quantiles,
            )?,
            file_mtime: registry.float_gauges(
                "prometheus_sd_file_mtime_seconds",
                "Timestamp (mtime) of files read by FileSD. Timestamp is set at read time.",
                ["filename"],
            )?,
            http_failures: registry.counter(
                "prometheus_sd_http_failures_total",
                "Number of HTTP service discovery refresh failures.",
            )?,
            dns_lookups: registry.counter(
                "prometheus_sd_dns_lookups_total",
                "The number of DNS-SD lookups.",
            )?,
            dns_failures: registry.counter(
                "prometheus_sd_dns_lookup_failures_total",
                "The number of DNS-SD lookup failures.",
            )?,
            refresh_failures: registry.counters(
                "prometheus_sd_refresh_failures_total",
                "Number of refresh failures for the given SD mechanism.",
                ["mechanism"],
            )?,
            refreshes: registry.summaries(
                "prometheus_sd_refresh_duration_seconds",
                "The duration of a refresh in seconds for the given SD mechanism.",
                ["mechanism"],
                &quantiles,
            )?,
        })
    }

    /// The number of targets found for a job.
    pub(crate) fn discovered(&self, job: &str) -> Gauge {
        self.discovered.family.with(&[&self.name, job])
    }
}
