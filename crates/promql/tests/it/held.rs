//! `query.max-samples`: what is refused is what Prometheus would hold, whatever is held here.

use promql::profile::Profiling;
use promql::value::QueryOptions;
use promql::{Engine, EngineOptions, Evaluator, InstantQuery, QueryError, QueryResult, RangeQuery};

use crate::engine::{data, engine, options};

const REFUSED: &str = "query processing would load too many samples into memory in query execution";

fn ask(engine: &Engine, expr: &str, steps: i64) -> Result<QueryResult, QueryError> {
    let options = QueryOptions {
        profiling: Profiling::Statistics,
        ..QueryOptions::default()
    };
    let (expr, start) = (expr.into(), 1_800_000);
    futures::executor::block_on(match steps {
        1 => engine.instant(InstantQuery {
            expr,
            ts: start,
            options,
        }),
        steps => engine.range(RangeQuery {
            expr,
            start,
            end: start + (steps - 1) * 15_000,
            step: 15_000,
            options,
        }),
    })
}

fn limited(most: u64) -> Engine {
    let options = EngineOptions {
        max_samples: most,
        ..options()
    };
    engine(data(), options, 2)
}

/// A query, and the most samples Prometheus 3.14 holds for it at 1, 3 and 61 steps: 120 series of
/// `c_total` and 3 of `g`, a sample every 15 s.
const HELD: &[(&str, [u64; 3])] = &[
    ("1", [1, 3, 61]),
    ("time() * 2", [4, 11, 185]),
    ("c_total", [120, 360, 7320]),
    ("-c_total", [120, 360, 7320]),
    ("sum(c_total)", [120, 360, 7320]),
    ("c_total * 2", [362, 844, 14822]),
    ("2 * sum(c_total)", [121, 363, 7381]),
    ("abs(c_total)", [360, 840, 14760]),
    ("timestamp(c_total)", [240, 480, 7440]),
    ("rate(c_total[5m])", [140, 380, 7340]),
    ("sum by (job) (rate(c_total[5m]))", [140, 380, 7340]),
    ("quantile_over_time(0.5, c_total[5m])", [141, 383, 7401]),
    ("topk(2, c_total)", [121, 363, 7381]),
    ("sum(c_total) + sum(c_total)", [121, 363, 7381]),
    ("count_values(\"v\", g)", [9, 21, 369]),
    ("g and on () vector(1)", [11, 25, 431]),
    ("absent_over_time(c_total[5m])", [140, 380, 7340]),
    ("absent(nothing)", [1, 3, 61]),
    (
        "label_replace(c_total, \"x\", \"y\", \"\", \"\")",
        [120, 360, 7320],
    ),
    ("max_over_time(g[10m:30s])", [83, 92, 353]),
    ("sum(c_total @ 1800)", [120, 120, 120]),
    ("c_total @ 1800", [120, 360, 7320]),
];

#[test]
fn what_prometheus_would_not_hold_is_refused() {
    let unlimited = engine(data(), options(), 2);
    for (expr, held) in HELD {
        for (steps, &most) in [1, 3, 61].into_iter().zip(held) {
            let whole = ask(&unlimited, expr, steps).unwrap();
            let peak = whole.profile.unwrap().peak_samples;
            assert!(
                peak.abs_diff(most) <= most / 100 + 1,
                "{expr} at {steps} steps: {peak}, {most} expected"
            );
            // What is measured for statistics must not decide: off, as most queries are asked.
            assert!(
                ask(&limited(peak), expr, steps).is_ok(),
                "{expr} at {steps} steps"
            );
            let error = ask(&limited(peak - 1), expr, steps).unwrap_err();
            let refused = matches!(&error, QueryError::Execution(text) if text == REFUSED);
            assert!(refused, "{expr} at {steps} steps: {error}");
        }
    }
}
