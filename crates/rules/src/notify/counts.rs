//! Counting alerts on their way, under Prometheus' names or under Thanos'.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use metrics::{Counter, Error, Family, Gauge, Histogram, Registry, Summary};

/// Under whose names alerts are counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Names {
    /// `prometheus_notifications_*`.
    #[default]
    Prometheus,
    /// `thanos_alert_queue_*` and `thanos_alert_sender_*`.
    Thanos,
}

const BY: [&str; 1] = ["alertmanager"];

pub(super) enum Metrics {
    Prometheus(Prometheus),
    Thanos(Thanos),
}

pub(super) struct Prometheus {
    latency: Family<Summary, 1>,
    histogram: Family<Histogram, 1>,
    errors: Family<Counter, 1>,
    sent: Family<Counter, 1>,
    dropped: Family<Counter, 1>,
    length: Family<Gauge, 1>,
    known: Gauge,
}

/// Thanos has one queue for all Alertmanagers; here the length is that of the longest.
pub(super) struct Thanos {
    pushed: Counter,
    popped: Counter,
    overflowed: Counter,
    length: Gauge,
    sent: Family<Counter, 1>,
    errors: Family<Counter, 1>,
    latency: Family<Histogram, 1>,
    lost: Counter,
}

/// The counters of one Alertmanager.
#[derive(Clone)]
pub(super) enum Counts {
    Prometheus {
        latency: Summary,
        histogram: Histogram,
        errors: Counter,
        sent: Counter,
        dropped: Counter,
        length: Gauge,
    },
    Thanos {
        latency: Histogram,
        errors: Counter,
        sent: Counter,
        popped: Counter,
        overflowed: Counter,
        length: Gauge,
    },
}

/// Whether anybody has heard of an alert. What goes to several Alertmanagers shares one.
pub(super) struct Fate {
    heard: AtomicBool,
    lost: Option<Counter>,
}

impl Fate {
    pub(super) fn heard(&self) {
        self.heard.store(true, Ordering::Relaxed);
    }
}

impl Drop for Fate {
    fn drop(&mut self) {
        if let (Some(lost), false) = (&self.lost, *self.heard.get_mut()) {
            lost.inc();
        }
    }
}

impl Metrics {
    pub(super) fn new(registry: &Registry, names: Names, capacity: usize) -> Result<Self, Error> {
        let capacity = i64::try_from(capacity).unwrap_or(i64::MAX);
        match names {
            Names::Prometheus => Prometheus::new(registry, capacity).map(Self::Prometheus),
            Names::Thanos => Thanos::new(registry, capacity).map(Self::Thanos),
        }
    }

    /// The counters of the Alertmanager at `url`.
    pub(super) fn of(&self, url: &str) -> Counts {
        match self {
            Self::Prometheus(m) => Counts::Prometheus {
                latency: m.latency.with(&[url]),
                histogram: m.histogram.with(&[url]),
                errors: m.errors.with(&[url]),
                sent: m.sent.with(&[url]),
                dropped: m.dropped.with(&[url]),
                length: m.length.with(&[url]),
            },
            Self::Thanos(m) => {
                let by = &[host(url)];
                Counts::Thanos {
                    latency: m.latency.with(by),
                    errors: m.errors.with(by),
                    sent: m.sent.with(by),
                    popped: m.popped.clone(),
                    overflowed: m.overflowed.clone(),
                    length: m.length.clone(),
                }
            }
        }
    }

    pub(super) fn forget(&self, url: &str) {
        match self {
            Self::Prometheus(m) => {
                let by = &[url];
                m.latency.remove(by);
                m.histogram.remove(by);
                m.errors.remove(by);
                m.sent.remove(by);
                m.dropped.remove(by);
                m.length.remove(by);
            }
            Self::Thanos(m) => {
                let by = &[host(url)];
                m.latency.remove(by);
                m.errors.remove(by);
                m.sent.remove(by);
            }
        }
    }

    /// So many Alertmanagers are told.
    pub(super) fn known(&self, count: usize) {
        if let Self::Prometheus(m) = self {
            m.known.set(count as i64);
        }
    }

    /// So many alerts are to be told.
    pub(super) fn taken(&self, count: usize) {
        if let Self::Thanos(m) = self {
            m.pushed.add(count as u64);
        }
    }

    pub(super) fn fate(&self) -> Arc<Fate> {
        Arc::new(Fate {
            heard: AtomicBool::new(false),
            lost: match self {
                Self::Prometheus(_) => None,
                Self::Thanos(m) => Some(m.lost.clone()),
            },
        })
    }
}

/// Host and port of a URL.
fn host(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split('/').next().unwrap_or(rest)
}

impl Counts {
    /// So many alerts wait.
    pub(super) fn waiting(&self, count: usize) {
        let (Self::Prometheus { length, .. } | Self::Thanos { length, .. }) = self;
        length.set(count as i64);
    }

    /// So many had no room.
    pub(super) fn overflowed(&self, count: usize) {
        match self {
            Self::Prometheus { dropped, .. } => dropped.add(count as u64),
            Self::Thanos { overflowed, .. } => overflowed.add(count as u64),
        }
    }

    /// So many were not sent any more.
    pub(super) fn dropped(&self, count: usize) {
        if let Self::Prometheus { dropped, .. } = self {
            dropped.add(count as u64);
        }
    }

    /// A request with so many failed.
    pub(super) fn failed(&self, count: usize) {
        match self {
            Self::Prometheus {
                errors, dropped, ..
            } => {
                errors.add(count as u64);
                dropped.add(count as u64);
            }
            // Thanos counts requests.
            Self::Thanos { errors, .. } => errors.inc(),
        }
    }

    /// A request with so many has ended, well or not.
    pub(super) fn sent(&self, count: usize, took: Duration) {
        match self {
            Self::Prometheus {
                latency,
                histogram,
                sent,
                ..
            } => {
                sent.add(count as u64);
                latency.observe_duration(took);
                histogram.observe_duration(took);
            }
            Self::Thanos {
                latency,
                sent,
                popped,
                ..
            } => {
                sent.add(count as u64);
                popped.add(count as u64);
                latency.observe_duration(took);
            }
        }
    }
}

impl Prometheus {
    fn new(registry: &Registry, capacity: i64) -> Result<Self, Error> {
        registry
            .gauge(
                "prometheus_notifications_queue_capacity",
                "The capacity of the alert notifications queue.",
            )?
            .set(capacity);
        Ok(Self {
            latency: registry.summaries(
                "prometheus_notifications_latency_seconds",
                "Latency quantiles for sending alert notifications.",
                BY,
                &[0.5, 0.9, 0.99],
            )?,
            histogram: registry.histograms(
                "prometheus_notifications_latency_histogram_seconds",
                "Latency histogram for sending alert notifications.",
                BY,
                &[0.01, 0.1, 1.0, 10.0],
            )?,
            errors: registry.counters(
                "prometheus_notifications_errors_total",
                "Total number of sent alerts affected by errors.",
                BY,
            )?,
            sent: registry.counters(
                "prometheus_notifications_sent_total",
                "Total number of alerts sent.",
                BY,
            )?,
            dropped: registry.counters(
                "prometheus_notifications_dropped_total",
                "Total number of alerts dropped due to errors when sending to Alertmanager.",
                BY,
            )?,
            length: registry.gauges(
                "prometheus_notifications_queue_length",
                "The number of alert notifications in the queue.",
                BY,
            )?,
            known: registry.gauge(
                "prometheus_notifications_alertmanagers_discovered",
                "The number of alertmanagers discovered and active.",
            )?,
        })
    }
}

impl Thanos {
    fn new(registry: &Registry, capacity: i64) -> Result<Self, Error> {
        registry
            .gauge(
                "thanos_alert_queue_capacity",
                "Capacity of the alert queue.",
            )?
            .set(capacity);
        Ok(Self {
            pushed: registry.counter(
                "thanos_alert_queue_alerts_pushed_total",
                "Total number of alerts pushed to the queue.",
            )?,
            popped: registry.counter(
                "thanos_alert_queue_alerts_popped_total",
                "Total number of alerts popped from the queue.",
            )?,
            overflowed: registry.counter(
                "thanos_alert_queue_alerts_dropped_total",
                "Total number of alerts that were dropped from the queue.",
            )?,
            length: registry.gauge("thanos_alert_queue_length", "Length of the alert queue.")?,
            sent: registry.counters(
                "thanos_alert_sender_alerts_sent_total",
                "Total number of alerts sent by alertmanager.",
                BY,
            )?,
            errors: registry.counters(
                "thanos_alert_sender_errors_total",
                "Total number of errors while sending alerts to alertmanager.",
                BY,
            )?,
            latency: registry.histograms(
                "thanos_alert_sender_latency_seconds",
                "Latency for sending alert notifications (not including dropped notifications).",
                BY,
                &metrics::DEFAULT_BUCKETS,
            )?,
            lost: registry.counter(
                "thanos_alert_sender_alerts_dropped_total",
                "Total number of alerts dropped in case of all sends to alertmanagers failed.",
            )?,
        })
    }
}
