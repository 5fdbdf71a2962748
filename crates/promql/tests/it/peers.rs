//! Parts of queries that peers evaluate: the answers are those of an evaluation in one place.

use std::sync::Arc;

use chunk::memory::MemorySource;
use futures::executor::block_on;
use model::scope::PartialResponse;
use model::{BoxFuture, Labels, Sample, Str};
use parking_lot::Mutex;
use promql::peers::{Parties, Peer, Peers};
use promql::value::QueryOptions;
use promql::{
    Engine, EngineOptions, Evaluator, InstantQuery, QueryError, QueryResult, RangeQuery, Value,
};

type Series = Vec<(Labels, Vec<Sample>)>;

/// Counters, a gauge and buckets of a cluster, one sample every 15 s for an hour.
fn cluster(name: &str, salt: u32) -> Series {
    let mut all = Series::new();
    let mut add = |pairs: &[(&str, &str)], value: &dyn Fn(u32) -> f64| {
        let mut labels = pairs.to_vec();
        labels.push(("cluster", name));
        let samples = (0..240).map(|s| Sample {
            ts: i64::from(s) * 15_000,
            value: value(s),
        });
        all.push((Labels::from_pairs(labels), samples.collect()));
    };
    for i in 0..12u32 {
        let (job, instance) = (format!("j{}", i % 3), format!("i{i}"));
        let of = [("job", job.as_str()), ("instance", instance.as_str())];
        let named = |metric| [("__name__", metric), of[0], of[1]];
        let step = f64::from(i * 7 + salt * 3 + 1);
        add(&named("c_total"), &|s| f64::from(s % 97) * step);
        add(&named("g"), &|s| f64::from((s * (i + 3 + salt)) % 101));
        for (n, le) in ["0.1", "1", "+Inf"].into_iter().enumerate() {
            let labels = [("__name__", "h_bucket"), of[0], of[1], ("le", le)];
            add(&labels, &|s| f64::from(s) * step * (n + 1) as f64);
        }
    }
    all
}

fn engine(series: Series, peers: Option<Arc<dyn Peers>>) -> Arc<Engine> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build();
    let options = EngineOptions {
        peers,
        max_selects: 1,
        ..EngineOptions::default()
    };
    let source = Arc::new(MemorySource::new(series));
    let pool = Arc::new(pool.expect("threads can be started"));
    Arc::new(Engine::new(source, options, pool))
}

/// Writes down what it is asked. As over the wire, times are full seconds.
struct Asked {
    inner: Arc<Engine>,
    log: Arc<Mutex<Vec<String>>>,
    fails: bool,
}

impl Asked {
    fn note(&self, expr: &Str) -> Option<QueryError> {
        self.log.lock().push(expr.to_string());
        let error = || QueryError::Unavailable("connection refused".to_owned());
        self.fails.then(error)
    }
}

type Answer = BoxFuture<'static, Result<QueryResult, QueryError>>;

impl Evaluator for Asked {
    fn instant(&self, mut query: InstantQuery) -> Answer {
        query.ts = query.ts.div_euclid(1000) * 1000;
        match self.note(&query.expr) {
            None => self.inner.instant(query),
            Some(e) => Box::pin(std::future::ready(Err(e))),
        }
    }

    fn range(&self, query: RangeQuery) -> Answer {
        assert_eq!((query.start % 1000, query.step % 1000), (0, 0));
        match self.note(&query.expr) {
            None => self.inner.range(query),
            Some(e) => Box::pin(std::future::ready(Err(e))),
        }
    }
}

struct Known(Parties);

impl Peers for Known {
    fn parties(&self, _: &QueryOptions) -> Option<Parties> {
        Some(self.0.clone())
    }
}

/// A root over two leaves and all of their data; the root without leaves; what the leaves are asked.
struct Tree {
    root: Arc<Engine>,
    alone: Arc<Engine>,
    log: Arc<Mutex<Vec<String>>>,
}

fn tree(change: impl FnOnce(&mut Parties), fails: bool) -> Tree {
    let log: Arc<Mutex<Vec<String>>> = Arc::default();
    let data = [("eu", cluster("eu", 0)), ("us", cluster("us", 5))];
    let peer = |(name, series): &(&str, Series)| Peer {
        name: Str::from(format!("{name}:10901")),
        evaluator: Arc::new(Asked {
            inner: engine(series.clone(), None),
            log: Arc::clone(&log),
            fails: fails && *name == "us",
        }),
        labels: vec![Labels::from_pairs([("cluster", *name)])],
    };
    let mut parties = Parties {
        peers: data.iter().map(peer).collect(),
        ..Parties::default()
    };
    change(&mut parties);
    let all: Series = data.into_iter().flat_map(|(_, series)| series).collect();
    Tree {
        root: engine(all.clone(), Some(Arc::new(Known(parties)))),
        alone: engine(all, None),
        log,
    }
}

fn options(partial_response: PartialResponse) -> QueryOptions {
    QueryOptions {
        partial_response,
        ..QueryOptions::default()
    }
}

fn instant(engine: &Engine, expr: &str, ts: i64) -> Result<QueryResult, QueryError> {
    block_on(engine.instant(InstantQuery {
        expr: expr.into(),
        ts,
        options: options(PartialResponse::Abort),
    }))
}

fn range(engine: &Engine, expr: &str, (start, end, step): (i64, i64, i64)) -> QueryResult {
    let query = RangeQuery {
        expr: expr.into(),
        start,
        end,
        step,
        options: options(PartialResponse::Abort),
    };
    block_on(engine.range(query)).expect("it is answered")
}

/// Labels, times and values; the order of an instant vector means nothing here.
fn flat(result: &QueryResult) -> Vec<(String, i64, f64)> {
    let mut all: Vec<_> = match &result.value {
        Value::Vector(samples) => {
            let each = samples.iter();
            each.map(|s| (s.labels.to_string(), s.ts, s.value))
                .collect()
        }
        Value::Matrix(series) => {
            let points = |s: &promql::value::RangeSeries| {
                let labels = s.labels.to_string();
                let each = s.ts.iter().zip(&s.values);
                each.map(move |(ts, v)| (labels.clone(), *ts, *v))
                    .collect::<Vec<_>>()
            };
            series.iter().flat_map(points).collect()
        }
        other => panic!("{other:?}"),
    };
    all.sort_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
    all
}

#[track_caller]
fn same(expr: &str, a: &QueryResult, b: &QueryResult) {
    let (a, b) = (flat(a), flat(b));
    assert!(!b.is_empty(), "{expr}: nothing to compare");
    assert_eq!(a.len(), b.len(), "{expr}: {a:?} {b:?}");
    for (a, b) in a.iter().zip(&b) {
        let close = (a.2 - b.2).abs() <= 1e-12 * a.2.abs().max(b.2.abs());
        let equal = close || a.2 == b.2 || (a.2.is_nan() && b.2.is_nan());
        assert!((&a.0, a.1) == (&b.0, b.1) && equal, "{expr}: {a:?} {b:?}");
    }
}

/// What is asked, and of what. `-`: nothing.
const QUERIES: &[(&str, &str)] = &[
    ("sum(g)", "sum by (cluster) (g)"),
    (
        "sum by (job) (rate(c_total[5m]))",
        "sum by (job, cluster) (rate(c_total[5m]))",
    ),
    ("sum without (instance) (g)", "sum without (instance) (g)"),
    (
        "sum without (cluster, instance) (g)",
        "sum without (instance) (g)",
    ),
    ("count(g > 40)", "count by (cluster) (g > 40)"),
    ("group by (job) (g)", "group by (job, cluster) (g)"),
    (
        "min by (job) (g) - max by (job) (g)",
        "min by (job, cluster) (g)|max by (job, cluster) (g)",
    ),
    (
        "avg by (job) (g)",
        "sum by (job, cluster) (g)|count by (job, cluster) (g)",
    ),
    ("topk(2, c_total)", "topk by (cluster) (2, c_total)"),
    (
        "topk by (cluster) (2, c_total)",
        "topk by (cluster) (2, c_total)",
    ),
    (
        "stddev by (cluster, job) (g)",
        "stddev by (cluster, job) (g)",
    ),
    ("stddev(g)", "-"),
    (
        "quantile(0.5, sum by (cluster, job) (g))",
        "sum by (cluster, job) (g)",
    ),
    (
        "histogram_quantile(0.9, sum by (le) (rate(h_bucket[5m])))",
        "sum by (le, cluster) (rate(h_bucket[5m]))",
    ),
    (
        "histogram_quantile(0.9, sum by (le, cluster) (rate(h_bucket[5m])))",
        "histogram_quantile(0.9, sum by (le, cluster) (rate(h_bucket[5m])))",
    ),
    (
        "sum(g) / sum(c_total)",
        "sum by (cluster) (g)|sum by (cluster) (c_total)",
    ),
    (
        "sum by (cluster) (g) / on (cluster) sum by (cluster) (c_total)",
        "sum by (cluster) (g) / on (cluster) sum by (cluster) (c_total)",
    ),
    ("max_over_time(sum(g)[10m:1m])", "sum by (cluster) (g)"),
    (
        "sum(max_over_time(g[10m:]))",
        "sum by (cluster) (max_over_time(g[10m:1m]))",
    ),
    ("sum(g offset 5m)", "sum by (cluster) (g offset 5m)"),
    ("sum(g @ end())", "sum by (cluster) (g @ 3000.000)"),
    (
        "sum(g{cluster=\"eu\"})",
        "sum by (cluster) (g{cluster=\"eu\"})",
    ),
    (
        "sum(label_replace(g, \"x\", \"$1\", \"job\", \"(.*)\"))",
        "sum by (cluster) (label_replace(g, \"x\", \"$1\", \"job\", \"(.*)\"))",
    ),
    (
        "sum by (cluster) (label_replace(g{cluster=\"eu\"}, \"cluster\", \"x\", \"job\", \".*\"))",
        "-",
    ),
    (
        "sum(g * on (job, instance, cluster) c_total)",
        "sum by (cluster) (g * on (job, instance, cluster) c_total)",
    ),
    (
        "sum(g * on (job, instance) group_left c_total{cluster=\"eu\"})",
        "-",
    ),
    ("sum(g) or vector(1)", "sum by (cluster) (g)"),
    ("absent(sum(nothing))", "sum by (cluster) (nothing)"),
    ("rate(c_total[5m])", "-"),
    ("sort_desc(sum by (job) (g))", "sum by (job, cluster) (g)"),
    (
        "sum(g) * scalar(sum(c_total))",
        "sum by (cluster) (g)|sum by (cluster) (c_total)",
    ),
];

/// What both peers were asked, each once.
fn asked(tree: &Tree) -> Vec<String> {
    let mut asked: Vec<String> = std::mem::take(&mut *tree.log.lock());
    asked.sort();
    asked.dedup();
    asked
}

#[test]
fn answers_are_those_of_one_place() {
    let tree = tree(|_| (), false);
    for (expr, of) in QUERIES {
        let mut wanted: Vec<&str> = of.split('|').filter(|t| *t != "-").collect();
        wanted.sort_unstable();
        let grid = (600_000, 3_000_000, 30_000);
        same(
            expr,
            &range(&tree.root, expr, grid),
            &range(&tree.alone, expr, grid),
        );
        assert_eq!(asked(&tree), wanted, "{expr}");
        let at = 3_000_000;
        let (a, b) = (
            instant(&tree.root, expr, at),
            instant(&tree.alone, expr, at),
        );
        same(expr, &a.unwrap(), &b.unwrap());
        assert_eq!(asked(&tree), wanted, "{expr}");
        // A moment between two seconds is written into the expression, at which all look from there.
        let at = 2_000_345;
        let (a, b) = (
            instant(&tree.root, expr, at),
            instant(&tree.alone, expr, at),
        );
        same(expr, &a.unwrap(), &b.unwrap());
        // The steps of a subquery lie at full seconds.
        let inside = *expr == "max_over_time(sum(g)[10m:1m])";
        let pinned = asked(&tree);
        let from_there = |e: &String| e.contains("@ 2000.345") != inside;
        assert!(pinned.iter().all(from_there), "{pinned:?}");
    }
}

#[test]
fn steps_between_seconds_are_evaluated_here() {
    let tree = tree(|_| (), false);
    for grid in [(600_500, 900_000, 30_000), (600_000, 900_000, 1_500)] {
        let expr = "sum by (job) (g)";
        same(
            expr,
            &range(&tree.root, expr, grid),
            &range(&tree.alone, expr, grid),
        );
        assert_eq!(asked(&tree), [""; 0]);
    }
    // What looks at the time of the step cannot be told another one.
    let expr = "sum(predict_linear(g[5m], 60))";
    let (a, b) = (
        instant(&tree.root, expr, 900_001),
        instant(&tree.alone, expr, 900_001),
    );
    same(expr, &a.unwrap(), &b.unwrap());
    assert_eq!(asked(&tree), [""; 0]);
}

#[test]
fn what_may_overlap_is_evaluated_here() {
    let overlapping: [fn(&mut Parties); 4] = [
        // The same labels twice.
        |p| p.peers[1].labels = p.peers[0].labels.clone(),
        // Nothing is known of one.
        |p| p.peers[1].labels.clear(),
        // Labels differ, but not those that partition.
        |p| p.partition = vec!["region".into()],
        // There is a source that only has series.
        |p| p.others.push(Labels::from_pairs([("cluster", "us")])),
    ];
    for change in overlapping {
        let tree = tree(change, false);
        let expr = "sum by (job) (g)";
        let (a, b) = (
            instant(&tree.root, expr, 900_000),
            instant(&tree.alone, expr, 900_000),
        );
        same(expr, &a.unwrap(), &b.unwrap());
        assert_eq!(asked(&tree), [""; 0]);
    }
    // One whose series cannot be meant is in nobody's way, and only who can have some is asked.
    let asia = |p: &mut Parties| p.others.push(Labels::from_pairs([("cluster", "asia")]));
    let tree = tree(asia, false);
    let expr = "sum(g{cluster=~\"eu\"})";
    let (a, b) = (
        instant(&tree.root, expr, 900_000),
        instant(&tree.alone, expr, 900_000),
    );
    same(expr, &a.unwrap(), &b.unwrap());
    assert_eq!(tree.log.lock().len(), 1);
}

#[test]
fn a_peer_that_fails_is_named() {
    let tree = tree(|_| (), true);
    let error = instant(&tree.root, "sum(g)", 900_000)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("us:10901") && error.contains("connection refused"),
        "{error}"
    );
    let query = InstantQuery {
        expr: "sum by (cluster) (g)".into(),
        ts: 900_000,
        options: options(PartialResponse::Warn),
    };
    let part = block_on(tree.root.instant(query)).unwrap();
    let clusters: Vec<String> = flat(&part).into_iter().map(|s| s.0).collect();
    assert_eq!(clusters, ["{cluster=\"eu\"}"]);
    let warning = part.warnings.first().unwrap();
    assert!(warning.contains("us:10901"), "{warning}");
}
