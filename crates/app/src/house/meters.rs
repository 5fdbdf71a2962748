//! What the engine tells of itself, under the names that Prometheus' and Thanos' dashboards read.

use std::sync::Arc;

use anyhow::Result;
use metrics::{Kind, Registry};
use promql::{Engine, Watch};

/// Observes where the time of queries goes, as Prometheus does.
pub fn durations(registry: &Registry) -> Result<Watch> {
    const SLICES: [&str; 4] = ["inner_eval", "prepare_time", "queue_time", "result_sort"];
    let summaries = registry.summaries(
        "prometheus_engine_query_duration_seconds",
        "Query timings.",
        ["slice"],
        &[0.5, 0.9, 0.99],
    )?;
    let histograms = registry.histograms(
        "prometheus_engine_query_duration_histogram_seconds",
        "The duration of various parts of PromQL query execution.",
        ["slice"],
        &[0.01, 0.1, 1.0, 10.0],
    )?;
    let slices = SLICES.map(|slice| (summaries.with(&[slice]), histograms.with(&[slice])));
    Ok(Arc::new(move |timings| {
        let took = [timings.inner, timings.prepare, timings.queue, timings.sort];
        for ((summary, histogram), took) in slices.iter().zip(took) {
            summary.observe_duration(took);
            histogram.observe_duration(took);
        }
    }))
}

/// Tells how many queries run and may run, as Prometheus does.
pub fn queries(engine: &Arc<Engine>, registry: &Registry) -> Result<()> {
    let running = (
        "prometheus_engine_queries",
        "The current number of queries being executed or waiting.",
    );
    let most = (
        "prometheus_engine_queries_concurrent_max",
        "The max number of concurrent queries.",
    );
    running_and_most(engine, registry, running, most)
}

/// Two gauges, each with its name and what it is.
fn running_and_most(
    engine: &Arc<Engine>,
    registry: &Registry,
    running: (&str, &str),
    most: (&str, &str),
) -> Result<()> {
    let weak = Arc::downgrade(engine);
    registry.callback(Kind::Gauge, running.0, running.1, move || {
        weak.upgrade().map_or(0.0, |engine| engine.running() as f64)
    })?;
    let limit = i64::try_from(engine.options().max_concurrency).unwrap_or(i64::MAX);
    registry.gauge(most.0, most.1)?.set(limit);
    Ok(())
}

/// Observes how long queries wait for their turn, as Thanos' querier does; `then` is told, too.
pub fn waiting(then: Watch, registry: &Registry) -> Result<Watch> {
    let seconds = registry.histogram(
        "thanos_query_concurrent_gate_queries_duration_seconds",
        "How many seconds it took for queries to wait at the gate.",
        &[
            0.01, 0.1, 0.3, 0.6, 1.0, 3.0, 6.0, 9.0, 20.0, 30.0, 60.0, 90.0, 120.0, 240.0, 360.0,
            720.0,
        ],
    )?;
    let total = registry.counter(
        "thanos_query_concurrent_gate_queries_total",
        "Total number of queries.",
    )?;
    Ok(Arc::new(move |timings| {
        total.inc();
        seconds.observe_duration(timings.queue);
        then(timings);
    }))
}

/// Tells how many queries run and may run, as Thanos' querier does.
pub fn gate(engine: &Arc<Engine>, registry: &Registry) -> Result<()> {
    let running = (
        "thanos_query_concurrent_gate_queries_in_flight",
        "Number of queries that are currently in flight.",
    );
    let most = (
        "thanos_query_concurrent_gate_queries_max",
        "Maximum number of concurrent queries.",
    );
    running_and_most(engine, registry, running, most)
}
