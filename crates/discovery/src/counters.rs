//! Prometheus' own metrics of discovery.

use std::time::Duration;

use metrics::{Counter, Error, Family, FloatGauge, Gauge, Histogram, Registry, Summary};

/// Instruments of one manager and what it runs.
#[derive(Clone)]
pub(crate) struct Counters {
    name: String,
    pub(crate) received: Counter,
    pub(crate) updates: Counter,
    pub(crate) delayed: Counter,
    last_update: Family<FloatGauge, 2>,
    pub(crate) failed_configs: Gauge,
    pub(crate) discovered: Discovered,
    pub(crate) file_errors: Counter,
    pub(crate) file_scans: Summary,
    pub(crate) file_mtime: Family<FloatGauge, 1>,
    pub(crate) http_failures: Counter,
    pub(crate) dns_lookups: Counter,
    pub(crate) dns_failures: Counter,
    pub(crate) consul_failures: Counter,
    pub(crate) consul_calls: Family<Summary, 2>,
    #[cfg(feature = "kubernetes")]
    pub(crate) kubernetes_events: Family<Counter, 2>,
    #[cfg(feature = "kubernetes")]
    pub(crate) kubernetes_failures: Counter,
    #[cfg(feature = "kubernetes")]
    pub(crate) kubernetes_requests: Family<Counter, 1>,
    pub(crate) refresh_failures: Family<Counter, 1>,
    refreshes: Family<Summary, 1>,
    refreshes_histogram: Family<Histogram, 1>,
}

/// Targets by manager and job; a manager forgets only its own.
#[derive(Clone)]
pub(crate) struct Discovered {
    name: String,
    family: Family<Gauge, 2>,
}

impl Discovered {
    fn clear(&self) {
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
        #[cfg(feature = "kubernetes")]
        let kubernetes_events = {
            let events = registry.counters(
                "prometheus_sd_kubernetes_events_total",
                "The number of Kubernetes events handled.",
                ["role", "event"],
            )?;
            for role in crate::config::Role::names() {
                for event in ["add", "delete", "update"] {
                    events.with(&[role, event]);
                }
            }
            events
        };
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
            delayed: counter(
                "prometheus_sd_updates_delayed_total",
                "Total number of update events that couldn't be sent immediately.",
            )?,
            last_update: registry.float_gauges(
                "prometheus_sd_last_update_timestamp_seconds",
                "Timestamp of the last update sent to the SD consumers.",
                ["name", "config"],
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
            #[cfg(feature = "kubernetes")]
            kubernetes_events,
            #[cfg(feature = "kubernetes")]
            kubernetes_failures: registry.counter(
                "prometheus_sd_kubernetes_failures_total",
                "The number of failed WATCH/LIST requests.",
            )?,
            #[cfg(feature = "kubernetes")]
            kubernetes_requests: registry.counters(
                "prometheus_sd_kubernetes_http_request_total",
                "Total number of HTTP requests to the Kubernetes API by status code.",
                ["status_code"],
            )?,
            dns_lookups: registry.counter(
                "prometheus_sd_dns_lookups_total",
                "The number of DNS-SD lookups.",
            )?,
            dns_failures: registry.counter(
                "prometheus_sd_dns_lookup_failures_total",
                "The number of DNS-SD lookup failures.",
            )?,
            consul_failures: registry.counter(
                "prometheus_sd_consul_rpc_failures_total",
                "The number of Consul RPC call failures.",
            )?,
            consul_calls: {
                let calls = registry.summaries(
                    "prometheus_sd_consul_rpc_duration_seconds",
                    "The duration of a Consul RPC call in seconds.",
                    ["endpoint", "call"],
                    &quantiles,
                )?;
                for call in ["service", "services"] {
                    calls.with(&["catalog", call]);
                }
                calls
            },
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
            refreshes_histogram: registry.histograms(
                "prometheus_sd_refresh_duration_histogram_seconds",
                "The duration of a refresh for the given SD mechanism.",
                ["mechanism"],
                &[0.01, 0.1, 1.0, 10.0],
            )?,
        })
    }

    /// A refresh has ended, well or not.
    pub(crate) fn refreshed(&self, mechanism: &str, took: Duration) {
        self.refreshes.with(&[mechanism]).observe_duration(took);
        let histogram = self.refreshes_histogram.with(&[mechanism]);
        histogram.observe_duration(took);
    }

    /// What is known for a job was told at `seconds` since the epoch.
    pub(crate) fn told(&self, job: &str, seconds: f64) {
        self.last_update.with(&[&self.name, job]).set(seconds);
    }

    /// Forgets what jobs had: those of now are told anew.
    pub(crate) fn clear(&self) {
        self.last_update.retain(|[name, _]| **name != *self.name);
        self.discovered.clear();
    }

    /// The number of targets found for a job.
    pub(crate) fn discovered(&self, job: &str) -> Gauge {
        self.discovered.family.with(&[&self.name, job])
    }
}
