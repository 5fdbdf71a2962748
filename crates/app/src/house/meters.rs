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

/// Tells how many queries run, wait and may run: the first two together and the last as Prometheus does.
pub fn queries(engine: &Arc<Engine>, registry: &Registry) -> Result<()> {
    gauge(
        engine,
        registry,
        "prometheus_engine_queries",
        "The current number of queries being executed or waiting.",
        |engine| engine.running() + engine.waiting(),
    )?;
    gauge(
        engine,
        registry,
        "epimetheus_engine_queries_waiting",
        "The current number of queries waiting until they may be executed.",
        Engine::waiting,
    )?;
    gauge(
        engine,
        registry,
        "prometheus_engine_queries_concurrent_max",
        "The max number of concurrent queries.",
        at_once,
    )
}

/// A gauge that asks the engine when it is read.
fn gauge(
    engine: &Arc<Engine>,
    registry: &Registry,
    name: &str,
    help: &str,
    ask: impl Fn(&Engine) -> usize + Send + Sync + 'static,
) -> Result<()> {
    let weak = Arc::downgrade(engine);
    registry.callback(Kind::Gauge, name, help, move || {
        weak.upgrade().map_or(0.0, |engine| ask(&engine) as f64)
    })?;
    Ok(())
}

fn at_once(engine: &Engine) -> usize {
    engine.options().max_concurrency
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
    gauge(
        engine,
        registry,
        "thanos_query_concurrent_gate_queries_in_flight",
        "Number of queries that are currently in flight.",
        Engine::running,
    )?;
    gauge(
        engine,
        registry,
        "thanos_query_concurrent_gate_queries_max",
        "Maximum number of concurrent queries.",
        at_once,
    )
}
