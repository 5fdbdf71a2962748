//! Whole queries over a source in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use chunk::memory::MemorySource;
use futures::executor::block_on;
use model::source::Ahead;
use model::{
    BoxFuture, Budget, Cancel, Extent, Labels, Rows, Sample, Scope, Select, Source, SourceError,
    Str, View,
};
use promql::features::Features;
use promql::value::QueryOptions;
use promql::{
    Engine, EngineOptions, Evaluator, InstantQuery, QueryError, QueryResult, RangeQuery, Value,
};

use crate::dealt::{Dealt, Endless};

pub fn pool(threads: usize) -> Arc<rayon::ThreadPool> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    Arc::new(pool.expect("threads can be started"))
}

pub fn options() -> EngineOptions {
    EngineOptions {
        features: Features::ALL,
        ..EngineOptions::default()
    }
}

pub fn engine(source: impl Source + 'static, options: EngineOptions, threads: usize) -> Engine {
    Engine::new(Arc::new(source), options, pool(threads))
}

/// Counters `c_total` of 3 jobs with 40 instances each, one sample every 15 s for an hour, with
/// resets; and a gauge `g` of each job.
pub fn data() -> MemorySource {
    let mut series = Vec::new();
    for i in 0..120u32 {
        let (job, instance) = (format!("j{}", i % 3), format!("i{i}"));
        let mut v = 0.0;
        let samples = (0..240)
            .map(|s| {
                v = if (s + i) % 97 == 96 {
                    0.0
                } else {
                    v + f64::from(i % 7) + 0.3
                };
                Sample {
                    ts: i64::from(s) * 15_000,
                    value: v,
                }
            })
            .collect();
        let labels = [
            ("__name__", "c_total"),
            ("job", job.as_str()),
            ("instance", instance.as_str()),
        ];
        series.push((Labels::from_pairs(labels), samples));
    }
    for job in 0..3u32 {
        let samples = (0..240)
            .map(|s| Sample {
                ts: s * 15_000,
                value: f64::from(job) + s as f64,
            })
            .collect();
        let job = format!("j{job}");
        let labels = [("__name__", "g"), ("job", job.as_str())];
        series.push((Labels::from_pairs(labels), samples));
    }
    MemorySource::new(series)
}

fn at(engine: &Engine, expr: &str, ts: i64) -> Result<QueryResult, QueryError> {
    block_on(engine.instant(InstantQuery {
        expr: expr.into(),
        ts,
        options: QueryOptions::default(),
    }))
}

fn over(engine: &Engine, expr: &str) -> Result<QueryResult, QueryError> {
    block_on(engine.range(RangeQuery {
        expr: expr.into(),
        start: 0,
        end: 3_600_000,
        step: 15_000,
        options: QueryOptions::default(),
    }))
}

fn values(result: QueryResult) -> Vec<(String, f64)> {
    match result.value {
        Value::Vector(v) => v
            .into_iter()
            .map(|s| (s.labels.to_string(), s.value))
            .collect(),
        other => panic!("not a vector: {other:?}"),
    }
}

#[test]
fn the_same_answer_on_any_number_of_threads_and_kind_of_rows() {
    let queries = [
        "sum by (job) (rate(c_total[5m]))",
        "avg(rate(c_total[1m])) by (job)",
        "stddev(c_total)",
        "topk(3, rate(c_total[5m]))",
        "c_total * on (job) group_left g",
        "histogram_quantile(0.9, label_replace(c_total, \"le\", \"$1\", \"instance\", \"i(.*)\"))",
        "quantile by (job) (0.7, c_total)",
        "max_over_time(sum(rate(c_total[1m]))[10m:30s])",
        "count_values(\"v\", c_total > 100 < 103)",
    ];
    for expr in queries {
        let mut answers = Vec::new();
        for (threads, stream) in [(1, false), (2, false), (4, true), (1, true)] {
            let source = data().answering_streams(stream);
            let engine = engine(source, options(), threads);
            answers.push(over(&engine, expr).unwrap().value);
        }
        let Value::Matrix(series) = &answers[0] else {
            panic!("{expr}");
        };
        assert!(!series.is_empty(), "{expr}");
        // As text, since NaN differs from itself; short, since the answers are long.
        let texts: Vec<String> = answers.iter().map(|a| format!("{a:?}")).collect();
        assert!(texts.iter().all(|t| *t == texts[0]), "{expr}");
    }
}

#[test]
fn a_range_query_is_its_steps() {
    let engine = engine(data(), options(), 2);
    for expr in [
        "sum by (job) (rate(c_total[5m]))",
        "c_total - c_total offset 1m",
        "sum_over_time(g[10m])",
        "bottomk(2, c_total) or topk(1, g)",
        "g > bool 100",
        "absent(g > 200)",
        "max_over_time(rate(g[1m])[5m:15s])",
        "c_total and on (job) (g > 100)",
        "scalar(g{job=\"j1\"}) + g",
    ] {
        let Value::Matrix(series) = over(&engine, expr).unwrap().value else {
            panic!("{expr}");
        };
        for ts in [0, 600_000, 1_500_000, 3_600_000] {
            let mut want = values(at(&engine, expr, ts).unwrap());
            let mut got: Vec<_> = series
                .iter()
                .filter_map(|s| {
                    let i = s.ts.iter().position(|t| *t == ts)?;
                    Some((s.labels.to_string(), s.values[i]))
                })
                .collect();
            want.sort_by(|a, b| a.0.cmp(&b.0));
            got.sort_by(|a, b| a.0.cmp(&b.0));
            assert_eq!(got.len(), want.len(), "{expr} at {ts}");
            for (g, w) in got.iter().zip(&want) {
                assert_eq!(g.0, w.0, "{expr} at {ts}");
                let close = (g.1 - w.1).abs() <= 1e-9 * w.1.abs();
                assert!(close, "{expr} at {ts}: {g:?} {w:?}");
            }
        }
    }
}

/// (A script cannot show this: it asks once more with the matchers sorted.)
#[test]
fn what_is_absent_has_the_labels_asked_to_be_equal() {
    let engine = engine(data(), options(), 1);
    for (matchers, labels) in [
        (r#"a=~"x|y", a="x", b="z""#, r#"{a="x", b="z"}"#),
        (r#"a="x", a=~"x|y", b="z""#, r#"{b="z"}"#),
        (r#"a="x", a="y", b="z""#, r#"{b="z"}"#),
        (r#"a="x", a="y", a="x""#, "{}"),
        (r#"a!="y", a="x", b="z""#, r#"{b="z"}"#),
    ] {
        let absent = at(&engine, &format!("absent(c_total{{{matchers}}})"), 0).unwrap();
        assert_eq!(values(absent), [(labels.to_owned(), 1.0)], "{matchers}");
    }
}

#[test]
fn errors_have_prometheus_texts() {
    let engine = engine(data(), options(), 1);
    let text = |expr: &str| at(&engine, expr, 600_000).unwrap_err().to_string();
    let error = text("g * on (job) c_total{instance=~\"i[03]\"}");
    assert_eq!(
        error,
        "found duplicate series for the match group {job=\"j0\"} on the right hand-side of the operation: [{__name__=\"c_total\", instance=\"i0\", job=\"j0\"}, {__name__=\"c_total\", instance=\"i3\", job=\"j0\"}];many-to-many matching not allowed: matching labels must be unique on one side"
    );
    assert_eq!(
        text("c_total * on (job) g"),
        "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)"
    );
    assert_eq!(
        text("label_replace(c_total, \"instance\", \"\", \"\", \"\")"),
        "vector cannot contain metrics with the same labelset"
    );
    assert_eq!(text("topk(NaN, g)"), "Parameter value is NaN");
    assert_eq!(
        text("1 >/ 2"),
        "operator \">/\" not allowed for Scalar operations"
    );
    // Durations are part of what was asked, not of what is computed.
    for (expr, error) in [
        ("rate(g[range()])", "7:14: duration must be greater than 0"),
        ("g offset (1m / (5 - 5))", "10:21: division by zero"),
        ("g[(0s)]", "2:5: duration must be greater than 0"),
        ("g[(5s - 5s)]", "3:10: duration must be greater than 0"),
        (
            "g[max_of(0s, -1s)]",
            "9:16: duration must be greater than 0",
        ),
        ("g[-(step())]", "2:10: duration must be greater than 0"),
        ("g[+(range())]", "4:11: duration must be greater than 0"),
        ("g[5m:(1s - 1s)]", "6:13: duration must be greater than 0"),
        ("g[5 % (range())]", "2:14: modulo by zero"),
    ] {
        let answer = at(&engine, expr, 0);
        assert!(
            matches!(&answer, Err(QueryError::BadData(m)) if m == error),
            "{expr}: {answer:?}"
        );
    }
    assert!(matches!(
        over(&engine, "g[5m]"),
        Err(QueryError::BadData(m)) if m == "invalid expression type \"range vector\" for range query, must be Scalar or instant Vector"
    ));
    assert!(matches!(
        at(&engine, "sum(", 0),
        Err(QueryError::BadData(_))
    ));
}

#[test]
fn a_query_over_its_limits_fails_alone() {
    let mut few = options();
    few.max_samples = 500;
    let limited = engine(data(), few, 2);
    assert_eq!(
        over(&limited, "c_total").unwrap_err().to_string(),
        "query processing would load too many samples into memory in query execution"
    );
    // What fits does not depend on how often it was asked.
    assert!(at(&limited, "sum(c_total)", 600_000).is_ok());

    let mut small = options();
    small.memory = Budget::new("all queries", 10 << 20);
    small.query_memory = 200_000;
    let memory = Arc::clone(&small.memory);
    let small = engine(data(), small, 2);
    let error = over(&small, "c_total").unwrap_err().to_string();
    assert!(
        error.contains("one query is limited to 200000 bytes"),
        "{error}"
    );
    at(&small, "sum(c_total)", 600_000).unwrap();
    assert_eq!(memory.used(), 0, "everything was given back");
}

#[test]
fn what_fits_alone_waits_for_room() {
    let mut tight = options();
    let one = engine(data(), options(), 2);
    let whole = over(&one, "c_total").unwrap();
    // Each takes more than half of what there is.
    let needs = whole.scope.as_ref().unwrap().budget.peak();
    tight.memory = Budget::new("all queries", needs / 2 * 3);
    tight.query_memory = needs / 4 * 5;
    let memory = Arc::clone(&tight.memory);
    let tight = engine(data(), tight, 2);
    std::thread::scope(|s| {
        let asked: Vec<_> = (0..8)
            .map(|_| s.spawn(|| over(&tight, "c_total").map(|result| result.value)))
            .collect();
        for answer in asked {
            assert_eq!(answer.join().unwrap().unwrap(), whole.value);
        }
    });
    assert!(memory.peak() <= memory.limit());
    // Alone in the world, but the memory is lent to something else: it gives up in time.
    let _lent = memory.reserve("a slow reader", memory.limit()).unwrap();
    let begun = Instant::now();
    let options = QueryOptions {
        timeout: Some(Duration::from_millis(200)),
        ..QueryOptions::default()
    };
    let query = RangeQuery {
        expr: "c_total".into(),
        start: 0,
        end: 3_600_000,
        step: 15_000,
        options,
    };
    let late = block_on(tight.range(query)).unwrap_err();
    assert_eq!(late.to_string(), "query timed out in query queue");
    assert!(begun.elapsed() < Duration::from_secs(5));
}

/// A source whose stream never answers.
struct Silent;

impl Source for Silent {
    fn open(&self, _: Arc<Scope>) -> Result<Box<dyn View>, SourceError> {
        Ok(Box::new(Silent))
    }

    fn extent(&self) -> Arc<Extent> {
        Arc::default()
    }
}

impl View for Silent {
    fn select(&self, _: Select) -> Rows {
        Rows::Stream(Box::pin(futures::stream::pending()))
    }

    fn label_names(
        &self,
        _: model::LabelSelect,
    ) -> BoxFuture<'static, Result<model::Answer<Vec<Str>>, SourceError>> {
        Box::pin(std::future::pending())
    }

    fn label_values(
        &self,
        _: Str,
        _: model::LabelSelect,
    ) -> BoxFuture<'static, Result<model::Answer<Vec<Str>>, SourceError>> {
        Box::pin(std::future::pending())
    }
}

#[test]
fn a_store_that_never_answers_blocks_nobody() {
    let pool = pool(1);
    let silent = Engine::new(Arc::new(Silent), options(), Arc::clone(&pool));
    let other = Engine::new(Arc::new(data()), options(), pool);
    let cancel = Cancel::default();
    let stuck = silent.range(RangeQuery {
        expr: "sum(rate(c_total[5m])) / sum(g)".into(),
        start: 0,
        end: 3_600_000,
        step: 15_000,
        options: QueryOptions {
            cancel: cancel.clone(),
            ..QueryOptions::default()
        },
    });
    let stuck = std::thread::spawn(move || block_on(stuck));
    std::thread::sleep(Duration::from_millis(20));
    assert!(over(&other, "sum(rate(c_total[5m]))").is_ok());
    let asked = Instant::now();
    cancel.cancel();
    let error = stuck.join().unwrap().unwrap_err();
    assert!(asked.elapsed() < Duration::from_millis(100));
    assert_eq!(
        error.to_string(),
        "query was canceled in expression evaluation"
    );

    let late = silent.instant(InstantQuery {
        expr: "g".into(),
        ts: 0,
        options: QueryOptions {
            timeout: Some(Duration::from_millis(30)),
            ..QueryOptions::default()
        },
    });
    let error = block_on(late).unwrap_err();
    assert_eq!(
        error.to_string(),
        "query timed out in expression evaluation"
    );
}

#[test]
fn a_busy_query_ends_with_the_batches_at_hand() {
    let given = Arc::<AtomicU64>::default();
    let pool = pool(2);
    let endless = Endless {
        source: data(),
        given: Arc::clone(&given),
    };
    let engine = Engine::new(Arc::new(endless), options(), Arc::clone(&pool));
    for expr in [
        "sum(rate(c_total[5m]))",
        "topk(3, c_total)",
        "stddev(c_total) / count(g)",
    ] {
        let cancel = Cancel::default();
        let busy = engine.range(RangeQuery {
            expr: expr.into(),
            start: 0,
            end: 3_600_000,
            step: 15_000,
            options: QueryOptions {
                cancel: cancel.clone(),
                ..QueryOptions::default()
            },
        });
        let before = given.load(Ordering::Relaxed);
        let busy = std::thread::spawn(move || block_on(busy));
        while given.load(Ordering::Relaxed) < before + 20 {
            std::thread::yield_now();
        }
        cancel.cancel();
        assert_eq!(
            busy.join().unwrap().unwrap_err().to_string(),
            "query was canceled in expression evaluation"
        );
        // Each cursor of each selector may be at work on a batch, for which it looks at the next.
        let most = given.load(Ordering::Relaxed) + 2 * 2 * 2;
        // What the pool has begun by now is done when each of its threads has said so.
        pool.broadcast(|_| ());
        let after = given.load(Ordering::Relaxed);
        assert!(after <= most, "{expr}: {after} batches, {most} at most");
    }
}

#[test]
fn queries_wait_for_their_turn() {
    let one = EngineOptions {
        max_concurrency: 1,
        ..options()
    };
    let engine = engine(Silent, one, 1);
    let query = |timeout| {
        engine.instant(InstantQuery {
            expr: "g".into(),
            ts: 0,
            options: QueryOptions {
                timeout: Some(Duration::from_millis(timeout)),
                ..QueryOptions::default()
            },
        })
    };
    let (first, second) = block_on(async { futures::join!(query(200), query(30)) });
    assert_eq!(
        first.unwrap_err().to_string(),
        "query timed out in expression evaluation"
    );
    assert_eq!(
        second.unwrap_err().to_string(),
        "query timed out in query queue"
    );
}

#[test]
fn one_selector_is_read_once() {
    let engine = engine(data(), options(), 2);
    let all = at(&engine, "sum(rate(c_total[5m])) + count(c_total)", 600_000).unwrap();
    let scope = all.scope.unwrap();
    // Decoded for each kernel, fetched once: both read the same batches.
    assert_eq!(
        scope
            .statistics
            .series
            .load(std::sync::atomic::Ordering::Relaxed),
        240
    );
    let explained = engine
        .explain(
            "sum by (job) (rate(c_total[5m])) / on (job) g",
            0,
            3_600_000,
            Some(15_000),
        )
        .unwrap()
        .to_string();
    let lines: Vec<&str> = explained.lines().map(str::trim).collect();
    assert!(
        lines[0].starts_with("Join[/] on (job) OneToOne  [streams;"),
        "{explained}"
    );
    assert!(
        lines[1].starts_with("Aggregate[Sum] by (job)  [blocks;"),
        "{explained}"
    );
    assert!(
        lines[2].starts_with("Scan[rate] {__name__=\"c_total\"} range=300000ms"),
        "{explained}"
    );
}

#[test]
fn annotations_carry_places() {
    let engine = engine(data(), options(), 1);
    let result = at(&engine, "sum(rate(g[5m]))", 600_000).unwrap();
    assert_eq!(
        result.infos,
        [Str::from(
            "PromQL info: metric might not be a counter, name does not end in _total/_sum/_count/_bucket: \"g\" (1:10)"
        )]
    );
    let result = at(&engine, "quantile(2, g)", 600_000).unwrap();
    assert_eq!(
        result.warnings,
        [Str::from(
            "PromQL warning: quantile value should be between 0 and 1, got 2 (1:10)"
        )]
    );
    // What is the same at every step is sorted at one, unless a calendar function is in it.
    for (expr, warns) in [
        ("sort(g)", 1),
        ("sort(vector(1))", 0),
        ("sort(year(vector(1)))", 1),
        ("year(sort(vector(1)))", 0),
    ] {
        let result = over(&engine, expr).unwrap();
        assert_eq!(result.warnings.len(), warns, "{expr}");
    }
}

#[test]
fn matrices_and_scalars_come_raw() {
    let engine = engine(data(), options(), 1);
    let Value::Matrix(m) = at(&engine, "g{job=\"j1\"}[1m]", 60_000).unwrap().value else {
        panic!();
    };
    assert_eq!(m[0].ts, [15_000, 30_000, 45_000, 60_000]);
    let Value::Matrix(m) = at(&engine, "vector(1)[2m:1m]", 150_000).unwrap().value else {
        panic!();
    };
    assert_eq!(m[0].ts, [60_000, 120_000]);
    assert_eq!(
        at(&engine, "1 + 1", 5).unwrap().value,
        Value::Scalar(5, 2.0)
    );
    assert_eq!(
        at(&engine, "\"a\"", 5).unwrap().value,
        Value::String(5, "a".to_owned())
    );
    // A grid nobody could hold.
    assert!(at(&engine, "max_over_time(vector(1)[100y:1ms])", 0).is_err());
}

#[test]
fn deep_expressions_fit_the_stack() {
    let engine = engine(data(), options(), 1);
    // As deep as the parser lets them be.
    let sum = vec!["g"; 500].join(" + ");
    let calls = format!("{}g{}", "abs(".repeat(250), ")".repeat(250));
    let joins = format!("{}g{}", "g * (g + ".repeat(120), ")".repeat(120));
    let nested = format!("{}g{}", "sum by (job) (".repeat(240), ")".repeat(240));
    let subqueries = format!(
        "{}g{}",
        "max_over_time(".repeat(100),
        "[1m:15s])".repeat(100)
    );
    let scalars = format!(
        "g + {}g{}",
        "scalar(vector(1) + ".repeat(80),
        ")".repeat(80)
    );
    let times = vec!["time()"; 500].join(" + ");
    let negated = format!("{}time()", "-".repeat(250));
    for expr in [
        sum, calls, joins, nested, subqueries, scalars, times, negated,
    ] {
        let result = at(&engine, &expr, 600_000);
        assert!(
            matches!(&result, Ok(_) | Err(QueryError::BadData(_))),
            "{}: {result:?}",
            &expr[..40]
        );
        assert!(engine.explain(&expr, 0, 0, None).is_ok() == result.is_ok());
    }
}

/// Little work is done where the query is polled, much on the pool; neither is told by the answer.
#[test]
fn cursors_may_be_many_and_heavy_or_light() {
    let kinds: [fn(usize) -> Option<Ahead>; 4] = [
        |_| None,
        |_| Some(Ahead::default()),
        |i| (i % 2 == 0).then_some(Ahead::default()),
        |i| {
            if i % 3 == 0 {
                None
            } else {
                Some(Ahead {
                    series: 1,
                    bytes: usize::MAX,
                })
            }
        },
    ];
    for expr in [
        "c_total",
        "rate(c_total[5m])",
        "sum by (job) (c_total)",
        "c_total - c_total",
    ] {
        let mut want = values(at(&engine(data(), options(), 1), expr, 3_000_000).unwrap());
        want.sort_by(|a, b| a.0.cmp(&b.0));
        for ahead in kinds {
            for threads in [1, 3] {
                let dealt = Dealt {
                    source: data(),
                    ahead,
                    fails: None,
                    in_turn: false,
                };
                let engine = engine(dealt, options(), threads);
                let mut got = values(at(&engine, expr, 3_000_000).unwrap());
                got.sort_by(|a, b| a.0.cmp(&b.0));
                assert_eq!(got, want, "{expr} on {threads} threads");
                let (a, b) = (over(&engine, expr).unwrap(), over(&engine, expr).unwrap());
                assert_eq!(format!("{:?}", a.value), format!("{:?}", b.value));
            }
        }
    }
    for ahead in kinds {
        let dealt = Dealt {
            source: data(),
            ahead,
            fails: Some(4),
            in_turn: false,
        };
        let error = at(&engine(dealt, options(), 2), "sum(c_total)", 3_000_000).unwrap_err();
        assert_eq!(error.to_string(), "expanding series: torn");
    }
}
