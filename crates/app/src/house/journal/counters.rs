//! What the journal tells of itself, and what only whole answers know, under the names of
//! Prometheus' engine.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use metrics::{Counter, Error, Kind, Registry};
use promql::{QueryError, QueryResult};

use super::Current;

pub(super) struct Counters {
    /// The log of queries could not be written.
    pub(super) log_failures: Counter,
    samples: Counter,
    read: Counter,
}

impl Counters {
    pub(super) fn new(r: &Registry, current: &Arc<Current>) -> Result<Self, Error> {
        let current = Arc::clone(current);
        r.callback(
            Kind::Gauge,
            "prometheus_engine_query_log_enabled",
            "State of the query log.",
            move || {
                let loaded = current.loaded();
                let is_off = loaded.config.global.query_log_file.is_empty();
                f64::from(u8::from(!is_off))
            },
        )?;
        Ok(Self {
            log_failures: r.counter(
                "prometheus_engine_query_log_failures_total",
                "The number of query log failures.",
            )?,
            samples: r.counter(
                "prometheus_engine_query_samples_total",
                "The total number of samples loaded by all queries.",
            )?,
            read: r.counter(
                "prometheus_engine_query_samples_read_total",
                "The total number of samples read by all queries (only new points per step for range-vector).",
            )?,
        })
    }

    pub(super) fn ended(&self, answer: &Result<QueryResult, QueryError>) {
        if let Ok(result) = answer
            && let Some(scope) = &result.scope
        {
            let read = scope.statistics.samples.load(Ordering::Relaxed);
            self.read.add(read);
            // How often they were looked at is counted only for who asks.
            let samples = result
                .profile
                .as_ref()
                .map(|p| p.samples.queryable.iter().sum::<u64>());
            self.samples.add(samples.unwrap_or(read));
        }
    }
}
