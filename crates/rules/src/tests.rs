//! Groups over an engine and a sink in memory.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ::metrics::Registry;
use chunk::memory::MemorySink;
use model::report::{AlertState, RuleHealth, RuleKind, RulesReport};
use model::scope::PartialResponse;
use model::time::{Clock, ManualClock, WallClock};
use model::{
    Batch, Extent, Labels, Millis, Scope, SeriesRows, Sink, Source, SourceError, View, is_stale,
};
use promql::{Engine, EngineOptions};

use crate::file::{self, ReadOptions};
use crate::group::{Group, Means};
use crate::manager::Silence;
use crate::metrics::Metrics;
use crate::rule::Shared;
use crate::{Alert, History, Link, Manager, Notify, Options, Update};

/// What the sink holds, as a source.
struct Live(Arc<MemorySink>);

impl Source for Live {
    fn open(&self, scope: Arc<Scope>) -> Result<Box<dyn View>, SourceError> {
        self.0.source().open(scope)
    }

    fn extent(&self) -> Arc<Extent> {
        self.0.source().extent()
    }
}

/// Remembers what it is told.
#[derive(Default)]
struct Told(parking_lot::Mutex<Vec<Alert>>);

impl Notify for Told {
    fn notify(&self, alerts: Vec<Alert>) {
        self.0.lock().extend(alerts);
    }
}

struct House {
    sink: Arc<MemorySink>,
    shared: Shared,
    metrics: Metrics,
}

impl House {
    fn new() -> Self {
        let sink = Arc::new(MemorySink::new());
        Self {
            shared: Shared {
                evaluator: engine(&sink),
                external_labels: Labels::from_pairs([("region", "eu")]),
                external_url: "http://prom.example".to_owned(),
                link: Link::default(),
                expansions: Default::default(),
            },
            sink,
            metrics: Metrics::new(&Registry::new(), false).unwrap(),
        }
    }

    async fn put(&self, labels: &[(&str, &str)], ts: Millis, value: f64) {
        let labels = vec![Labels::from_pairs(labels.iter().copied())];
        let refs = self.sink.resolve(SeriesRows { labels }).await.unwrap();
        let mut batch = Batch::default();
        batch.push(refs[0], ts, value);
        self.sink.append(batch).await.unwrap();
    }

    async fn evaluate(&self, group: &mut Group, ts: Millis) -> Vec<Alert> {
        let metrics = self.metrics.of("file;group", PartialResponse::Abort);
        let told = Told::default();
        let means = Means {
            shared: &self.shared,
            sink: &*self.sink,
            notify: &told,
            clock: &WallClock,
            resend_delay: 60_000,
            metrics: &metrics,
            beside: None,
        };
        group.evaluate(&means, ts).await;
        told.0.into_inner()
    }

    fn history(&self, tolerance: Millis, grace: Millis) -> History {
        History {
            evaluator: Arc::clone(&self.shared.evaluator),
            outage_tolerance: tolerance,
            grace_period: grace,
            ignored_labels: Vec::new(),
        }
    }

    /// The samples of a series, a stale marker as `None`.
    fn samples(&self, labels: &[(&str, &str)]) -> Vec<(Millis, Option<f64>)> {
        let samples = self
            .sink
            .samples(&Labels::from_pairs(labels.iter().copied()));
        let shown = |v: f64| (!is_stale(v)).then_some(v);
        samples.iter().map(|s| (s.ts, shown(s.value))).collect()
    }
}

fn engine(sink: &Arc<MemorySink>) -> Arc<Engine> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build();
    Arc::new(Engine::new(
        Arc::new(Live(Arc::clone(sink))),
        EngineOptions::default(),
        Arc::new(pool.unwrap()),
    ))
}

fn options(sink: &Arc<MemorySink>) -> Options {
    Options {
        evaluator: engine(sink),
        sink: Arc::clone(sink) as Arc<dyn Sink>,
        notify: Arc::new(Silence),
        owner: Arc::new(model::owner::Everything),
        clock: Arc::new(WallClock),
        external_url: String::new(),
        link: Link::default(),
        history: History {
            evaluator: engine(sink),
            outage_tolerance: 3_600_000,
            grace_period: 600_000,
            ignored_labels: Vec::new(),
        },
        resend_delay: 60_000,
        beside: None,
        by_strategy: false,
        read: ReadOptions::default(),
    }
}

fn group(rules: &str) -> Group {
    let text = format!("groups:\n- name: g\n  rules:\n{rules}");
    let read = file::parse(Path::new("r.yml"), &text, ReadOptions::default()).unwrap();
    Group::new("r.yml".into(), &read.file.groups[0], 60_000, 0)
}

fn state(group: &Group, rule: usize) -> AlertState {
    match group.status().rules[rule].kind {
        RuleKind::Alerting { state, .. } => state,
        RuleKind::Recording => panic!("it records"),
    }
}

#[tokio::test]
async fn what_is_recorded_is_there_for_the_next_rule_and_ends_with_a_marker() {
    let house = House::new();
    let mut group = group(
        "  - {record: 'job:x:sum', expr: sum by (job) (x), labels: {team: a, job: ''}}\n\
         \x20 - {record: twice, expr: '2 * job:x:sum'}\n",
    );
    house.put(&[("__name__", "x"), ("job", "a")], 0, 3.0).await;
    house.evaluate(&mut group, 0).await;
    let sum = [("__name__", "job:x:sum"), ("team", "a")];
    let twice = [("__name__", "twice"), ("team", "a")];
    assert_eq!(house.samples(&sum), [(0, Some(3.0))]);
    assert_eq!(house.samples(&twice), [(0, Some(6.0))]);
    // x is older than the lookback.
    house.evaluate(&mut group, 600_000).await;
    assert_eq!(house.samples(&sum), [(0, Some(3.0)), (600_000, None)]);
    assert_eq!(house.samples(&twice), [(0, Some(6.0)), (600_000, None)]);
}

#[tokio::test]
async fn equal_labels_and_limits_are_errors_of_the_rule() {
    let house = House::new();
    let mut group = group("  - {record: a, expr: x, labels: {job: ''}}\n");
    house.put(&[("__name__", "x"), ("job", "a")], 0, 3.0).await;
    house.put(&[("__name__", "x"), ("job", "b")], 0, 3.0).await;
    house.evaluate(&mut group, 0).await;
    let status = group.status();
    assert_eq!(status.rules[0].health, RuleHealth::Bad);
    assert!(
        status.rules[0]
            .last_error
            .starts_with("vector contains metrics with the same")
    );

    let text = "groups: [{name: g, limit: 1, rules: [{record: a, expr: x}, {alert: b, expr: x}]}]";
    let read = file::parse(Path::new("r.yml"), text, ReadOptions::default()).unwrap();
    let mut group = Group::new("r.yml".into(), &read.file.groups[0], 60_000, 0);
    house.evaluate(&mut group, 0).await;
    let status = group.status();
    assert_eq!(
        status.rules[0].last_error,
        "exceeded limit of 1 with 2 series"
    );
    assert_eq!(
        status.rules[1].last_error,
        "exceeded limit of 1 with 2 alerts"
    );
}

#[tokio::test]
async fn an_alert_is_pending_fires_is_kept_and_resolves() {
    let house = House::new();
    let mut group = group(
        "  - alert: High\n    expr: x > 1\n    for: 2m\n    keep_firing_for: 2m\n    labels: {severity: '{{ $value }}'}\n\
         \x20   annotations: {summary: '{{ $labels.job }} in {{ $externalLabels.region }}: {{ with query \"x\" }}{{ . | first | value }}{{ end }}'}\n",
    );
    group.skip_restore();
    let x = [("__name__", "x"), ("job", "a")];
    let minute = 60_000;
    for (i, value) in [2.0, 2.0, 2.0, 2.0].into_iter().enumerate() {
        let ts = i as Millis * minute;
        house.put(&x, ts, value).await;
        let told = house.evaluate(&mut group, ts).await;
        match i {
            0 | 1 => {
                assert_eq!(state(&group, 0), AlertState::Pending);
                assert_eq!(told, []);
            }
            2 => {
                assert_eq!(state(&group, 0), AlertState::Firing);
                assert_eq!(told[0].starts_at, 2 * minute);
                assert_eq!(told[0].ends_at, 6 * minute);
                assert_eq!(
                    told[0].labels.to_string(),
                    r#"{alertname="High", job="a", severity="2"}"#
                );
                assert_eq!(told[0].annotations.get("summary"), Some("a in eu: 2"));
                assert_eq!(
                    told[0].generator_url,
                    "http://prom.example/graph?g0.expr=x+%3E+1&g0.tab=1"
                );
            }
            // The resend delay has not passed.
            _ => assert_eq!(told, []),
        }
    }
    let series = |state| {
        let labels = [
            ("__name__", "ALERTS"),
            ("alertname", "High"),
            ("alertstate", state),
            ("job", "a"),
            ("severity", "2"),
        ];
        house.samples(&labels)
    };
    assert_eq!(
        series("pending"),
        [(0, Some(1.0)), (minute, Some(1.0)), (2 * minute, None)]
    );
    assert_eq!(
        series("firing"),
        [(2 * minute, Some(1.0)), (3 * minute, Some(1.0))]
    );

    house.put(&x, 4 * minute, 0.0).await;
    for (at, want) in [
        (4, AlertState::Firing),
        (5, AlertState::Firing),
        (6, AlertState::Inactive),
    ] {
        let told = house.evaluate(&mut group, at * minute).await;
        assert_eq!(state(&group, 0), want, "{at}");
        if at == 6 {
            assert_eq!(told[0].ends_at, 6 * minute);
        }
    }
    // It is told again for a while, and then forgotten.
    let told = house.evaluate(&mut group, 8 * minute).await;
    assert_eq!(told.len(), 1);
    house.evaluate(&mut group, 22 * minute).await;
    assert_eq!(house.evaluate(&mut group, 24 * minute).await, []);
}

#[tokio::test]
async fn a_restart_restores_how_long_alerts_were_pending() {
    let minute = 60_000;
    let rules = "  - {alert: High, expr: x > 1, for: 30m}\n";
    let house = House::new();
    let x = [("__name__", "x"), ("job", "a")];
    let mut before = group(rules);
    before.skip_restore();
    for i in 0..=10 {
        house.put(&x, i * minute, 2.0).await;
        house.evaluate(&mut before, i * minute).await;
    }
    // Down for five minutes: those do not count.
    let mut after = group(rules);
    for i in 15..=16 {
        house.put(&x, i * minute, 2.0).await;
        house.evaluate(&mut after, i * minute).await;
    }
    let history = house.history(60 * minute, 10 * minute);
    after.restore(&house.shared, &history, 16 * minute).await;
    let RuleKind::Alerting { alerts, .. } = &after.status().rules[0].kind else {
        panic!("it records");
    };
    assert_eq!(alerts[0].active_at, 6 * minute);
}

#[tokio::test]
async fn an_alert_that_fired_before_a_restart_goes_on_from_when_it_began() {
    let minute = 60_000;
    let rules = "  - {alert: High, expr: x > 1, for: 5m}\n";
    let house = House::new();
    let x = [("__name__", "x"), ("job", "a")];
    let mut before = group(rules);
    before.skip_restore();
    let mut starts = Vec::new();
    for i in 0..=10 {
        house.put(&x, i * minute + 400, 2.0).await;
        for alert in house.evaluate(&mut before, i * minute + 400).await {
            starts.push(alert.starts_at);
        }
    }
    let mut after = group(rules);
    for i in 13..=15 {
        house.put(&x, i * minute + 400, 2.0).await;
        for alert in house.evaluate(&mut after, i * minute + 400).await {
            starts.push(alert.starts_at);
        }
        if i == 14 {
            let history = house.history(60 * minute, 0);
            after
                .restore(&house.shared, &history, i * minute + 400)
                .await;
        }
    }
    assert!(
        starts.len() > 2 && starts.iter().all(|at| *at == 5 * minute + 400),
        "{starts:?}"
    );
}

#[tokio::test]
async fn what_was_recorded_elsewhere_has_labels_that_the_alert_has_not() {
    let minute = 60_000;
    let house = House::new();
    let recorded = [
        ("__name__", "ALERTS_FOR_STATE"),
        ("alertname", "High"),
        ("job", "a"),
        ("replica", "1"),
        ("region", "eu"),
    ];
    for i in 0..=10 {
        house.put(&recorded, i * minute, 0.0).await;
    }
    let mut after = group("  - {alert: High, expr: x > 1, for: 30m}\n");
    let x = [("__name__", "x"), ("job", "a")];
    for i in 15..=16 {
        house.put(&x, i * minute, 2.0).await;
        house.evaluate(&mut after, i * minute).await;
    }
    // `region` is an external label, `replica` is to be ignored.
    let history = History {
        ignored_labels: vec!["replica".to_owned()],
        ..house.history(60 * minute, 10 * minute)
    };
    after.restore(&house.shared, &history, 16 * minute).await;
    let RuleKind::Alerting { alerts, .. } = &after.status().rules[0].kind else {
        panic!("it records");
    };
    assert_eq!(alerts[0].active_at, 6 * minute);
}

/// Counts who asks at once.
struct Crowd {
    inner: Arc<Engine>,
    now: Arc<AtomicUsize>,
    most: AtomicUsize,
    order: parking_lot::Mutex<Vec<String>>,
}

impl promql::Evaluator for Crowd {
    fn instant(
        &self,
        query: promql::InstantQuery,
    ) -> model::BoxFuture<'static, Result<promql::QueryResult, promql::QueryError>> {
        let at_once = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(at_once, Ordering::SeqCst);
        self.order.lock().push(query.expr.to_string());
        let (now, answer) = (Arc::clone(&self.now), self.inner.instant(query));
        Box::pin(async move {
            // Others may begin.
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            now.fetch_sub(1, Ordering::SeqCst);
            answer.await
        })
    }

    fn range(
        &self,
        query: promql::RangeQuery,
    ) -> model::BoxFuture<'static, Result<promql::QueryResult, promql::QueryError>> {
        self.inner.range(query)
    }
}

#[tokio::test]
async fn independent_rules_run_side_by_side_and_the_others_in_order() {
    let rules = "  - {record: a, expr: x}\n  - {record: b, expr: x + 1}\n  - {record: c, expr: x + 2}\n\
                 \x20 - {record: d, expr: a + b}\n  - {record: e, expr: d + 1}\n";
    for (beside, most) in [(None, 1), (Some(0), 1), (Some(1), 2), (Some(4), 3)] {
        let mut house = House::new();
        house.put(&[("__name__", "x")], 0, 1.0).await;
        let crowd = Arc::new(Crowd {
            inner: engine(&house.sink),
            now: Arc::default(),
            most: AtomicUsize::new(0),
            order: parking_lot::Mutex::default(),
        });
        house.shared.evaluator = Arc::clone(&crowd) as Arc<dyn promql::Evaluator>;
        let metrics = house.metrics.of("g", PartialResponse::Abort);
        let beside = beside.map(tokio::sync::Semaphore::new);
        let means = Means {
            shared: &house.shared,
            sink: &*house.sink,
            notify: &Silence,
            clock: &WallClock,
            resend_delay: 60_000,
            metrics: &metrics,
            beside: beside.as_ref(),
        };
        let mut group = group(rules);
        group.evaluate(&means, 0).await;
        assert_eq!(crowd.most.load(Ordering::SeqCst), most, "{beside:?}");
        assert_eq!(crowd.order.lock()[3..], ["a + b", "d + 1"]);
        // What is read was written before.
        assert_eq!(house.samples(&[("__name__", "e")]), [(0, Some(4.0))]);
    }
}

#[tokio::test]
async fn a_failing_query_resolves_nothing() {
    let house = House::new();
    let mut group = group("  - {alert: High, expr: 'x > on () y'}\n");
    group.skip_restore();
    house.put(&[("__name__", "x"), ("job", "a")], 0, 3.0).await;
    house.put(&[("__name__", "y")], 0, 1.0).await;
    house.evaluate(&mut group, 0).await;
    assert_eq!(state(&group, 0), AlertState::Firing);
    house
        .put(&[("__name__", "x"), ("job", "b")], 1000, 3.0)
        .await;
    let told = house.evaluate(&mut group, 1000).await;
    assert_eq!(group.status().rules[0].health, RuleHealth::Bad);
    assert_eq!(state(&group, 0), AlertState::Firing);
    assert_eq!(told, []);
}

#[tokio::test]
async fn ticks_are_spread_and_a_reload_neither_doubles_nor_loses_one() {
    let sink = Arc::new(MemorySink::new());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("r.yml");
    let write = |extra: &str| {
        let text = format!(
            "groups: [{{name: g, interval: 50ms, rules: [{{record: t, expr: time()}}{extra}]}}]"
        );
        std::fs::write(&path, text).unwrap();
    };
    write("");
    let manager = Manager::new(&Registry::new(), options(&sink)).unwrap();
    let update = Update {
        files: vec![path.clone()],
        interval: 60_000,
        ..Update::default()
    };
    manager.update(&update).await.unwrap();
    for i in 0..4 {
        tokio::time::sleep(std::time::Duration::from_millis(120)).await;
        write(&format!(", {{record: u, expr: '{i}'}}"));
        manager.update(&update).await.unwrap();
    }
    // A file that is wrong changes nothing.
    std::fs::write(&path, "groups: [{name: g, rules: [{expr: up}]}]").unwrap();
    assert!(manager.update(&update).await.is_err());
    assert_eq!(manager.rule_groups()[0].rules.len(), 2);
    manager.stop().await;
    let samples = sink.samples(&Labels::from_pairs([("__name__", "t")]));
    assert!(samples.len() >= 4, "{samples:?}");
    let phase = samples[0].ts.rem_euclid(50);
    for pair in samples.windows(2) {
        assert!(pair[0].ts < pair[1].ts);
        assert_eq!(pair[1].ts.rem_euclid(50), phase);
    }
    assert_eq!(samples[0].ts, (samples[0].value * 1000.0).round() as Millis);
}

/// Takes its time.
struct Slow(Arc<Engine>);

impl promql::Evaluator for Slow {
    fn instant(
        &self,
        query: promql::InstantQuery,
    ) -> model::BoxFuture<'static, Result<promql::QueryResult, promql::QueryError>> {
        let answer = self.0.instant(query);
        Box::pin(async move {
            tokio::time::sleep(std::time::Duration::from_millis(130)).await;
            answer.await
        })
    }

    fn range(
        &self,
        query: promql::RangeQuery,
    ) -> model::BoxFuture<'static, Result<promql::QueryResult, promql::QueryError>> {
        self.0.range(query)
    }
}

#[tokio::test]
async fn ticks_that_a_slow_query_misses_are_counted() {
    let sink = Arc::new(MemorySink::new());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("r.yml");
    let text = "groups: [{name: g, interval: 50ms, rules: [{record: t, expr: time()}]}]";
    std::fs::write(&path, text).unwrap();
    let registry = Registry::new();
    let options = options(&sink);
    let manager = Manager::new(
        &registry,
        Options {
            evaluator: Arc::new(Slow(engine(&sink))),
            ..options
        },
    )
    .unwrap();
    let update = Update {
        files: vec![path],
        interval: 60_000,
        ..Update::default()
    };
    manager.update(&update).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    manager.stop().await;
    let number = |name: &str| {
        let families = registry.gather();
        let family = families.iter().find(|f| *f.desc.name == *name).unwrap();
        match family.metrics[0].value {
            ::metrics::Value::Number(n) => n as i64,
            _ => panic!("{name} is no number"),
        }
    };
    let ticks: Vec<Millis> = sink
        .samples(&Labels::from_pairs([("__name__", "t")]))
        .iter()
        .map(|s| s.ts)
        .collect();
    assert!(
        ticks.len() >= 3 && ticks.windows(2).all(|pair| pair[0] < pair[1]),
        "{ticks:?}"
    );
    let missed = number("prometheus_rule_group_iterations_missed_total");
    let all = number("prometheus_rule_group_iterations_total");
    let begun = number("prometheus_rule_evaluations_total");
    // Each tick since the first was either begun or counted as missed.
    assert_eq!(all, begun + missed);
    let between = (ticks[ticks.len() - 1] - ticks[0]) / 50 + 1;
    assert!(
        missed >= between - ticks.len() as i64 && missed > 0,
        "{missed} of {between}"
    );
}

#[test]
fn a_tick_is_never_in_the_future() {
    let clock = ManualClock::default();
    for now in [0, 1, 59_999, 60_000, 1_700_000_000_123] {
        clock.set(now);
        let group = group("  - {record: a, expr: b}\n");
        let tick = group.tick_before(clock.now());
        assert!(tick <= now && now - tick < 60_000);
    }
}

fn data() -> PathBuf {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data");
    std::env::var_os("EPIMETHEUS_DATA").map_or_else(|| default.into(), PathBuf::from)
}

#[test]
fn the_corpus_of_rule_files_is_judged_rightly() {
    let folder = data().join("rules");
    let Ok(index) = std::fs::read_to_string(folder.join("INDEX.json")) else {
        eprintln!(
            "SKIPPED: no rule files in {} (EPIMETHEUS_DATA)",
            folder.display()
        );
        return;
    };
    let index: serde_json::Value = serde_json::from_str(&index).unwrap();
    let options = ReadOptions {
        features: promql::features::Features::ALL,
        ..ReadOptions::default()
    };
    let (mut judged, mut wrong) = (0, Vec::new());
    for entry in index.as_array().unwrap() {
        let (Some(name), Some(accept)) = (entry["file"].as_str(), entry["accept"].as_bool()) else {
            continue;
        };
        if entry.get("expected_exit").is_some() {
            continue;
        }
        judged += 1;
        let mut options = options;
        if entry["accept_utf8_validation"].as_bool() == Some(true) {
            options.scheme = model::relabel::NameScheme::Legacy;
        }
        let read = file::read(&folder.join(name), options);
        let said = match &read {
            Ok(_) => String::new(),
            Err(errors) => errors.iter().map(|e| e.to_string() + "\n").collect(),
        };
        let expected = entry["error_contains"].as_str().unwrap_or("");
        if read.is_ok() != accept || !said.contains(expected) {
            wrong.push(format!("{name}: accept {accept} {expected:?}: {said}"));
        }
    }
    assert!(judged > 15, "{judged}");
    assert_eq!(wrong, Vec::<String>::new());

    let templates = std::fs::read_to_string(folder.join("template_accept_reject.jsonl")).unwrap();
    for line in templates.lines() {
        let case: serde_json::Value = serde_json::from_str(line).unwrap();
        let text = case["rule_file"].as_str().unwrap();
        let read = file::parse(Path::new("r.yml"), text, options);
        assert_eq!(read.is_ok(), case["accept"].as_bool().unwrap(), "{text}");
    }
}
