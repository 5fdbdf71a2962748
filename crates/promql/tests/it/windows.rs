//! Queries that do not fit their memory as a whole: in windows of steps they give the same.

use std::sync::Arc;

use chunk::memory::MemorySource;
use futures::executor::block_on;
use promql::features::Features;
use promql::profile::Profiling;
use promql::value::{QueryOptions, RangeSeries};
use promql::{Engine, EngineOptions, Evaluator, QueryError, QueryResult, RangeQuery, Value};

use crate::oracle_data::{self, END, Random, START};

const STEP: i64 = 15_000;

fn engine(source: &Arc<MemorySource>, options: EngineOptions) -> Engine {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build();
    let source = Arc::clone(source);
    Engine::new(source, options, Arc::new(pool.expect("threads")))
}

fn options() -> EngineOptions {
    EngineOptions {
        features: Features::ALL,
        ..EngineOptions::default()
    }
}

fn ask(engine: &Engine, expr: &str) -> Result<QueryResult, QueryError> {
    block_on(engine.range(RangeQuery {
        expr: expr.into(),
        start: START + 600_000,
        end: END,
        step: STEP,
        options: QueryOptions {
            profiling: Profiling::Statistics,
            ..QueryOptions::default()
        },
    }))
}

fn series(result: &QueryResult) -> &[RangeSeries] {
    match &result.value {
        Value::Matrix(series) => series,
        other => panic!("a matrix: {other:?}"),
    }
}

/// In how many windows it ran, if it did.
fn windows(result: &QueryResult) -> Option<usize> {
    let name = &result.profile.as_ref()?.plan.name;
    let rest = name.strip_prefix("Windows of steps: ")?;
    rest.split(' ').nth(3)?.parse().ok()
}

fn close(a: f64, b: f64) -> bool {
    a.to_bits() == b.to_bits()
        || (a.is_nan() && b.is_nan())
        || (a - b).abs() <= 1e-12 * a.abs().max(b.abs()).max(1.0)
}

fn assert_equal(expr: &str, whole: &QueryResult, parts: &QueryResult) {
    let (a, b) = (series(whole), series(parts));
    let labels = |all: &[RangeSeries]| all.iter().map(|s| s.labels.clone()).collect::<Vec<_>>();
    assert_eq!(labels(a), labels(b), "{expr}");
    for (a, b) in a.iter().zip(b) {
        assert_eq!(a.ts, b.ts, "{expr} {}", a.labels);
        for (x, y) in a.values.iter().zip(&b.values) {
            assert!(close(*x, *y), "{expr} {}: {x} {y}", a.labels);
        }
        assert_eq!(a.histograms.len(), b.histograms.len(), "{expr}");
        for ((t, x), (u, y)) in a.histograms.iter().zip(&b.histograms) {
            assert_eq!(t, u, "{expr}");
            assert!(close(x.count, y.count) && close(x.sum, y.sum), "{expr}");
        }
    }
    assert_eq!(whole.warnings, parts.warnings, "{expr}");
    assert_eq!(whole.infos, parts.infos, "{expr}");
}

#[test]
fn what_does_not_fit_as_a_whole_gives_the_same_in_windows() {
    let source = Arc::new(MemorySource::with_histograms(oracle_data::series(3)));
    let roomy = engine(&source, options());
    let mut random = Random::new(0x3a17);
    let (mut ran, mut verdicts) = (0, 0);
    for _ in 0..150 {
        let expr = oracle_data::expression(&mut random);
        let Ok(whole) = ask(&roomy, &expr) else {
            continue;
        };
        let scope = whole.scope.as_ref().expect("a scope");
        let profile = whole.profile.as_ref().expect("a profile");
        let mut tight = options();
        tight.query_memory = scope.budget.peak() * 2 / 3;
        let parts = match ask(&engine(&source, tight.clone()), &expr) {
            Ok(parts) => parts,
            Err(e) => {
                assert!(e.to_string().contains("is limited to"), "{expr}: {e}");
                continue;
            }
        };
        // Threads may be at work on less at once.
        if windows(&parts).is_none() {
            continue;
        }
        ran += 1;
        assert_equal(&expr, &whole, &parts);
        let counted = parts.profile.as_ref().expect("a profile");
        assert_eq!(profile.samples.ts, counted.samples.ts, "{expr}");
        assert_eq!(
            profile.samples.queryable, counted.samples.queryable,
            "{expr}"
        );
        let exact = !expr.contains(" @ ") && !expr.contains(")[");
        assert!(
            !exact || counted.peak_samples == profile.peak_samples,
            "{expr}"
        );
        // As many samples are too many as for the whole. Where windows count samples again, it is the
        // memory that refuses then.
        for most in [profile.peak_samples, profile.peak_samples * 9 / 10] {
            let limited = |options: EngineOptions| EngineOptions {
                max_samples: most,
                ..options
            };
            let whole = ask(&engine(&source, limited(options())), &expr);
            let parts = ask(&engine(&source, limited(tight.clone())), &expr);
            let text = |r: &Result<QueryResult, QueryError>| {
                r.as_ref()
                    .err()
                    .map(ToString::to_string)
                    .unwrap_or_default()
            };
            let (whole, parts) = (text(&whole), text(&parts));
            if exact {
                verdicts += usize::from(!whole.is_empty());
                assert_eq!(whole, parts, "{expr}: {most} of {}", profile.peak_samples);
            } else {
                let fits = parts == whole || parts.contains("is limited to");
                assert!(fits, "{expr}: {whole}, {parts}");
            }
        }
    }
    assert!(
        ran > 20 && verdicts > 10,
        "{ran} ran in windows, {verdicts}"
    );
}
