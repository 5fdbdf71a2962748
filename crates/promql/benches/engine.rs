//! Whole queries over series in memory, per operator: 1,000 counters over six hours every 15 s.

use std::hint::black_box;
use std::sync::Arc;

use chunk::HistogramRow;
use chunk::memory::{MemorySource, StoredSeries};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use futures::executor::block_on;
use model::histogram::{Buckets, FloatHistogram, Histogram};
use model::{Labels, Sample};
use promql::value::QueryOptions;
use promql::{Engine, EngineOptions, Evaluator, InstantQuery, RangeQuery};

const SERIES: u32 = 1_000;
const HOURS: i64 = 6;
const END: i64 = HOURS * 3_600_000;

fn source(count: u32) -> MemorySource {
    let mut series = Vec::new();
    let mut random = 1u64;
    for i in 0..count {
        let samples = |random: &mut u64, gauge: bool| {
            let mut v = 0.0;
            (0..HOURS * 240)
                .map(|s| {
                    *random = random
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1);
                    let x = (*random >> 54) as f64;
                    v = if gauge { x } else { v + x };
                    Sample {
                        ts: s * 15_000 + i64::from(i % 15_000),
                        value: v,
                    }
                })
                .collect::<Vec<_>>()
        };
        let (ns, pod, le) = (
            format!("ns{}", i % 20),
            format!("pod{i}"),
            format!("{}", i % 10),
        );
        let le = if le == "9" { "+Inf" } else { &le };
        let labels = |name: &str| {
            Labels::from_pairs([("__name__", name), ("ns", &ns), ("pod", &pod), ("le", le)])
        };
        series.push((labels("counter_total"), samples(&mut random, false)));
        series.push((labels("gauge"), samples(&mut random, true)));
    }
    MemorySource::new(series)
}

/// 100 native histograms of 40 buckets over an hour, some of them with other buckets than the rest.
fn native() -> MemorySource {
    let mut series = Vec::new();
    for i in 0..100u32 {
        let first = -(i as i32 % 3);
        let rows = (0..240i64).map(|s| {
            let counts = (0..40).map(|b| f64::from(b) * s as f64 / 4.0);
            let positive = Buckets::from_pairs((first..).zip(counts));
            HistogramRow {
                ts: s * 15_000,
                start: 0,
                value: Histogram::Float(FloatHistogram {
                    schema: 3,
                    count: positive.counts.iter().sum(),
                    sum: s as f64,
                    positive,
                    ..FloatHistogram::default()
                }),
            }
        });
        let (ns, pod) = (format!("ns{}", i % 5), format!("pod{i}"));
        let labels = [("__name__", "h_total"), ("ns", &*ns), ("pod", &*pod)];
        series.push(StoredSeries::histograms(
            Labels::from_pairs(labels),
            rows.collect(),
        ));
    }
    MemorySource::with_histograms(series)
}

fn histograms(c: &mut Criterion) {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build();
    let engine = Engine::new(
        Arc::new(native()),
        EngineOptions::default(),
        Arc::new(pool.expect("a thread can be started")),
    );
    let mut group = c.benchmark_group("native histograms, per series and step");
    let (end, step) = (3_600_000, 15_000);
    group.throughput(Throughput::Elements(100 * (end / step) as u64));
    group.sample_size(10);
    for expr in [
        "rate(h_total[5m])",
        "sum by (ns) (h_total)",
        "histogram_quantile(0.9, sum by (ns) (rate(h_total[5m])))",
        "histogram_count(rate(h_total[5m]))",
        "histogram_count(sum_over_time(h_total[30m]))",
        "h_total - h_total offset 1m",
    ] {
        group.bench_with_input(BenchmarkId::from_parameter(expr), expr, |b, expr| {
            b.iter(|| {
                let query = RangeQuery {
                    expr: expr.into(),
                    start: 0,
                    end,
                    step,
                    options: QueryOptions::default(),
                };
                black_box(block_on(engine.range(query)).expect("the query is right"))
            });
        });
    }
    group.finish();
}

fn benches(c: &mut Criterion) {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build();
    let engine = Engine::new(
        Arc::new(source(SERIES)),
        EngineOptions::default(),
        Arc::new(pool.expect("a thread can be started")),
    );

    let mut group = c.benchmark_group("range, per series and step");
    let step = 15_000;
    let steps = (END / step) as u64;
    group.throughput(Throughput::Elements(u64::from(SERIES) * steps));
    group.sample_size(10);
    for expr in [
        "gauge",
        "rate(counter_total[5m])",
        "sum by (ns) (rate(counter_total[5m]))",
        "sum by (ns) (gauge)",
        "topk(5, gauge)",
        "sum(avg_over_time(gauge[1h]))",
        "sum(max_over_time(gauge[1h]))",
        "histogram_quantile(0.9, sum by (le) (rate(counter_total[5m])))",
        "max by (ns) (gauge / on (pod) counter_total)",
    ] {
        group.bench_with_input(BenchmarkId::from_parameter(expr), expr, |b, expr| {
            b.iter(|| {
                let query = RangeQuery {
                    expr: expr.into(),
                    start: 0,
                    end: END,
                    step,
                    options: QueryOptions::default(),
                };
                black_box(block_on(engine.range(query)).expect("the query is right"))
            });
        });
    }
    group.finish();

    let mut group = c.benchmark_group("instant, per series");
    group.throughput(Throughput::Elements(u64::from(SERIES)));
    group.sample_size(20);
    for expr in [
        "gauge",
        "count by (ns) (gauge)",
        "rate(counter_total[5m])",
        "histogram_quantile(0.9, sum by (le, ns) (rate(counter_total[5m])))",
        "topk(10, gauge)",
        "quantile by (ns) (0.9, gauge)",
    ] {
        group.bench_with_input(BenchmarkId::from_parameter(expr), expr, |b, expr| {
            b.iter(|| {
                let query = InstantQuery {
                    expr: expr.into(),
                    ts: END - 60_000,
                    options: QueryOptions::default(),
                };
                black_box(block_on(engine.instant(query)).expect("the query is right"))
            });
        });
    }
    group.finish();
}

/// What a query costs that touches next to nothing: parsing, planning, and the ways between threads.
fn light(c: &mut Criterion) {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build();
    let engine = Engine::new(
        Arc::new(source(SERIES)),
        EngineOptions::default(),
        Arc::new(pool.expect("a thread can be started")),
    );
    let mut group = c.benchmark_group("instant, a handful of series");
    for expr in [
        "1 + 1",
        "gauge{pod=\"pod7\"}",
        "sum(gauge{pod=~\"pod1.\"})",
        "sum by (ns) (rate(counter_total{pod=~\"pod1.\"}[5m]))",
    ] {
        group.bench_with_input(BenchmarkId::from_parameter(expr), expr, |b, expr| {
            b.iter(|| {
                let query = InstantQuery {
                    expr: expr.into(),
                    ts: END - 60_000,
                    options: QueryOptions::default(),
                };
                black_box(block_on(engine.instant(query)).expect("the query is right"))
            });
        });
    }
    group.finish();
}

/// What one series, one sample, one step more costs, and what a second thread saves: time per element
/// stays the same where the cost is linear.
fn scaling(c: &mut Criterion) {
    let mut group = c.benchmark_group("scaling, per sample");
    group.sample_size(10);
    let hour = 3_600_000;
    // Series, hours, steps.
    let cases = [
        (250, 6, 360),
        (500, 6, 360),
        (1000, 6, 360),
        (2000, 6, 360),
        (1000, 1, 360),
        (1000, 3, 360),
        (1000, 6, 90),
        (1000, 6, 1440),
    ];
    for threads in [1, 2] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        let pool = Arc::new(pool.expect("threads can be started"));
        for (series, hours, steps) in cases {
            let options = EngineOptions::default();
            let engine = Engine::new(Arc::new(source(series)), options, Arc::clone(&pool));
            group.throughput(Throughput::Elements(u64::from(series) * hours as u64 * 240));
            let name = format!("{series} series x {hours} h, {steps} steps, {threads} threads");
            group.bench_function(name, |b| {
                b.iter(|| {
                    let query = RangeQuery {
                        expr: "sum by (ns) (rate(counter_total[5m]))".into(),
                        start: END - hours * hour,
                        end: END,
                        step: hours * hour / steps,
                        options: QueryOptions::default(),
                    };
                    black_box(block_on(engine.range(query)).expect("the query is right"))
                });
            });
        }
    }
    group.finish();
}

criterion_group!(all, benches, histograms, light, scaling);
criterion_main!(all);
