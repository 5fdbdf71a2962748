//! What queries are counted as, under the names of Prometheus' engine.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use metrics::{Counter, Error, Gauge, Histogram, Kind, Registry, Summary};
use promql::{QueryError, QueryResult};

use super::Current;

pub(super) struct Counters {
    /// Queries that run or wait for their turn.
    pub(super) queries: Gauge,
    /// The log of queries could not be written.
    pub(super) log_failures: Counter,
    seconds: Summary,
    seconds_histogram: Histogram,
    samples: Counter,
}

impl Counters {
    pub(super) fn new(r: &Registry, most: usize, current: &Arc<Current>) -> Result<Self, Error> {
        let max = r.gauge(
            "prometheus_engine_queries_concurrent_max",
            "The max number of concurrent queries.",
        )?;
        max.set(i64::try_from(most).unwrap_or(i64::MAX));
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
        // Parsing, planning, waiting for a place and evaluating are one here.
        let slice = ["inner_eval"];
        Ok(Self {
            queries: r.gauge(
                "prometheus_engine_queries",
                "The current number of queries being executed or waiting.",
            )?,
            log_failures: r.counter(
                "prometheus_engine_query_log_failures_total",
                "The number of query log failures.",
            )?,
            seconds: r
                .summaries(
                    "prometheus_engine_query_duration_seconds",
                    "Query timings",
                    ["slice"],
                    &[0.5, 0.9, 0.99],
                )?
                .with(&slice),
            seconds_histogram: r
                .histograms(
                    "prometheus_engine_query_duration_histogram_seconds",
                    "The duration of various parts of PromQL query execution.",
                    ["slice"],
                    &[0.01, 0.1, 1.0, 10.0],
                )?
                .with(&slice),
            samples: r.counter(
                "prometheus_engine_query_samples_total",
                "The total number of samples loaded by all queries.",
            )?,
        })
    }

    pub(super) fn ended(&self, took: Duration, answer: &Result<QueryResult, QueryError>) {
        self.seconds.observe_duration(took);
        self.seconds_histogram.observe_duration(took);
        if let Ok(result) = answer
            && let Some(scope) = &result.scope
        {
            let samples = scope.statistics.samples.load(Ordering::Relaxed);
            self.samples.add(samples);
        }
    }
}
