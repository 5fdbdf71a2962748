use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use model::source::Shard;
use model::{
    Budget, Kind, LabelSelect, Labels, MatchOp, Matcher, Order, Projection, STALE_NAN, Sample,
    Scope, Select, Source, SourceError, Str, TimeRange, View,
};

use super::{batches, collect, collect_in_order, open, same_samples};

type Series = Vec<(Labels, Vec<Sample>)>;

/// Checks that what `make` builds of some series answers as a `model::Source` must. `name` is put
/// before every failure.
pub fn source(name: &str, make: impl Fn(Series) -> Arc<dyn Source>) {
    let check = |what: &str, series: Series, run: &dyn Fn(&Case)| {
        let case = Case {
            name: format!("{name}: {what}"),
            source: make(series.clone()),
            series: series.into_iter().collect(),
        };
        run(&case);
    };
    check("an empty source", Vec::new(), &empty);
    check("matchers", five(), &matchers);
    check("ranges", long(), &ranges);
    check("special values", special(), &special_values);
    check("order after removal", unordered(), &order);
    check("replicas", replicas(), &replicas_follow);
    check("projection", many(), &projection);
    check("shards", many(), &shards);
    check("limit", many(), &limit);
    check("labels only", many(), &labels_only);
    check("shape of batches", long_and_many(), &shape);
    check("label names and values", many(), &names_and_values);
    check("cancel, deadline, budget", many(), &stops);
    check("one view, many selects", many(), &one_view);
}

struct Case {
    name: String,
    source: Arc<dyn Source>,
    series: BTreeMap<Labels, Vec<Sample>>,
}

impl Case {
    fn open(&self) -> (Arc<Scope>, Box<dyn View>) {
        let scope = Scope::unbounded(TimeRange::ALL);
        let view = self.source.open(Arc::clone(&scope));
        (
            scope,
            view.unwrap_or_else(|e| panic!("{}: open: {e}", self.name)),
        )
    }

    fn ok<T>(&self, result: Result<T, SourceError>) -> T {
        result.unwrap_or_else(|e| panic!("{}: {e}", self.name))
    }

    fn collect(&self, select: Select) -> BTreeMap<Labels, Vec<Sample>> {
        let (scope, view) = self.open();
        let range = select.range;
        self.ok(collect(view.select(select), &scope, range))
    }

    fn in_order(&self, select: Select) -> Series {
        let (scope, view) = self.open();
        let range = select.range;
        self.ok(collect_in_order(view.select(select), &scope, range))
    }

    fn same(
        &self,
        what: &str,
        got: &BTreeMap<Labels, Vec<Sample>>,
        want: &BTreeMap<Labels, Vec<Sample>>,
    ) {
        let got_labels: Vec<_> = got.keys().collect();
        let want_labels: Vec<_> = want.keys().collect();
        assert_eq!(got_labels, want_labels, "{}: {what}", self.name);
        for (labels, samples) in want {
            assert!(
                same_samples(&got[labels], samples),
                "{}: {what}: {labels}:\n{:?}\nexpected\n{samples:?}",
                self.name,
                got[labels],
            );
        }
    }

    /// What is expected of a select over the data.
    fn want(&self, matchers: &[Matcher], range: TimeRange) -> BTreeMap<Labels, Vec<Sample>> {
        self.series
            .iter()
            .filter(|(labels, _)| {
                matchers
                    .iter()
                    .all(|m| m.matches(labels.get(&m.name).unwrap_or("")))
            })
            .map(|(labels, samples)| {
                let inside = samples.iter().filter(|s| range.contains(s.ts));
                (labels.clone(), inside.copied().collect::<Vec<_>>())
            })
            .filter(|(_, samples)| !samples.is_empty())
            .collect()
    }
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::from_pairs(pairs.iter().copied())
}

fn ramp(start: i64, step: i64, n: i64) -> Vec<Sample> {
    (0..n)
        .map(|i| Sample {
            ts: start + i * step,
            value: (i * i % 97) as f64 + 0.25,
        })
        .collect()
}

fn any() -> Vec<Matcher> {
    vec![Matcher::equal("absent", "")]
}

fn five() -> Series {
    [
        labels(&[("n", "1")]),
        labels(&[("n", "1"), ("i", "a")]),
        labels(&[("n", "1"), ("i", "b")]),
        labels(&[("n", "2")]),
        labels(&[("n", "2.5")]),
    ]
    .into_iter()
    .enumerate()
    .map(|(k, l)| (l, ramp(1000 + k as i64, 10, 5)))
    .collect()
}

fn long() -> Series {
    vec![
        (
            labels(&[("__name__", "long"), ("x", "1")]),
            ramp(0, 15_000, 700),
        ),
        (labels(&[("__name__", "late")]), ramp(9_000_000, 15_000, 10)),
        (
            labels(&[("__name__", "before_epoch")]),
            ramp(-400_000, 1_000, 300),
        ),
    ]
}

fn special() -> Series {
    let values = [
        f64::NAN,
        STALE_NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        -0.0,
        0.0,
        f64::MAX,
        f64::MIN_POSITIVE,
        f64::from_bits(0x7ff8_0000_0000_0001),
    ];
    let samples: Vec<Sample> = values
        .iter()
        .enumerate()
        .map(|(i, &value)| Sample {
            ts: 1_000 + i as i64 * 7,
            value,
        })
        .collect();
    vec![
        (
            labels(&[("__name__", "special"), ("text", "ä \"q\" \\ \n 日本")]),
            samples.clone(),
        ),
        (
            labels(&[("__name__", "sp.ecial"), ("ütf-8", &"long".repeat(100))]),
            samples,
        ),
    ]
}

/// Removing `b` turns their order round.
fn unordered() -> Series {
    [
        labels(&[("b", "1"), ("c", "x"), ("l", "1")]),
        labels(&[("b", "2"), ("c", "a"), ("l", "2")]),
        labels(&[("b", "3"), ("l", "3")]),
        labels(&[("a", "z"), ("b", "4")]),
        labels(&[("b", "5"), ("c", "x")]),
        labels(&[("b", "6")]),
    ]
    .into_iter()
    .enumerate()
    .map(|(k, l)| (l, ramp(1000 + k as i64, 10, 3)))
    .collect()
}

fn replicas() -> Series {
    let mut all = Series::new();
    for pod in ["p1", "p2", "p3"] {
        for replica in ["r1", "r2"] {
            all.push((
                labels(&[("__name__", "up"), ("pod", pod), ("replica", replica)]),
                ramp(1000, 10, 4),
            ));
        }
    }
    all
}

fn many() -> Series {
    (0..700)
        .map(|i| {
            let l = Labels::from_pairs([
                ("__name__", format!("metric_{}", i % 3)),
                ("instance", format!("host-{i:03}")),
                ("job", format!("job-{}", i % 7)),
                (if i % 2 == 0 { "even" } else { "odd" }, "yes".to_owned()),
            ]);
            (l, ramp(10_000 + i, 1_000, 3))
        })
        .collect()
}

fn long_and_many() -> Series {
    long().into_iter().chain(many()).collect()
}

fn empty(case: &Case) {
    assert!(
        case.collect(Select::new(any(), TimeRange::ALL)).is_empty(),
        "{}",
        case.name
    );
    let (_, view) = case.open();
    let ask = || LabelSelect {
        matchers: Vec::new(),
        range: TimeRange::ALL,
        limit: 0,
    };
    let names = case.ok(futures::executor::block_on(view.label_names(ask())));
    assert!(names.value.is_empty(), "{}", case.name);
    let values = case.ok(futures::executor::block_on(
        view.label_values("a".into(), ask()),
    ));
    assert!(values.value.is_empty(), "{}", case.name);
}

fn matchers(case: &Case) {
    use MatchOp::{Equal, NotEqual, NotRegex, Regex};
    let all = ["n", "i", "missing"];
    let values = [
        "1",
        "2",
        "2.5",
        "a",
        "b",
        "missing",
        "",
        "^1$",
        "^a$",
        "^a?$",
        "^$",
        "^.*$",
        "^.+$",
        ".*",
        ".+",
        "1|2.5",
        "(1|2.5)",
        "(1|2)",
        "a|b",
        "(a|b)",
        "x1|2",
        "2|2\\.5",
        "c||d",
        "(c||d)",
        "^(b|a).*$",
        "[ab]",
        "A|a",
        "(?i:A)",
    ];
    // Every matcher alone, and every one together with n="1" and with one that excludes.
    for name in all {
        for value in values {
            for op in [Equal, NotEqual, Regex, NotRegex] {
                let Ok(matcher) = Matcher::new(op, name, value) else {
                    continue;
                };
                for with in [
                    vec![],
                    vec![Matcher::equal("n", "1")],
                    vec![Matcher::equal("n", "1"), no("i", "b")],
                    vec![no("i", "")],
                ] {
                    let mut list = vec![matcher.clone()];
                    list.extend(with);
                    let text: Vec<_> = list.iter().map(Matcher::to_string).collect();
                    let got = case.collect(Select::new(list.clone(), TimeRange::ALL));
                    let want = case.want(&list, TimeRange::ALL);
                    case.same(&text.join(","), &got, &want);
                }
            }
        }
    }
    // A few answers spelled out, so that the expectation itself is held.
    let count = |list: Vec<Matcher>| case.collect(Select::new(list, TimeRange::ALL)).len();
    assert_eq!(count(vec![Matcher::equal("i", "")]), 3, "{}", case.name);
    assert_eq!(
        count(vec![Matcher::equal("missing", "")]),
        5,
        "{}",
        case.name
    );
    assert_eq!(count(vec![no("missing", "")]), 0, "{}", case.name);
    assert_eq!(
        count(vec![Matcher::equal("n", "1"), no("i", "a")]),
        2,
        "{}",
        case.name
    );
    assert_eq!(count(Vec::new()), 5, "{}", case.name);
}

fn no(name: &str, value: &str) -> Matcher {
    match Matcher::new(MatchOp::NotEqual, name, value) {
        Ok(m) => m,
        Err(e) => panic!("{e}"),
    }
}

fn ranges(case: &Case) {
    for (min, max) in [
        (i64::MIN, i64::MAX),
        (0, 0),
        (1, 14_999),
        (15_000, 15_000),
        (1_000_000, 2_000_000),
        (-1_000_000, -1),
        (-100_001, -100_000),
        (10_485_000, 20_000_000),
        (10_485_001, 20_000_000),
        (9_000_000, 9_000_000),
        (20_000_000, 30_000_000),
        (10, 5),
    ] {
        let range = TimeRange::new(min, max);
        let (scope, view) = case.open();
        let batches = case.ok(batches(view.select(Select::new(any(), range))));
        for chunk in batches.iter().flat_map(|b| &b.chunks) {
            assert!(
                TimeRange::new(chunk.min, chunk.max).overlaps(range),
                "{}: chunk {}..{} does not overlap {min}..{max}",
                case.name,
                chunk.min,
                chunk.max
            );
        }
        let got: BTreeMap<_, _> = case
            .ok(open(&batches, &scope.symbols, range))
            .into_iter()
            .filter(|(_, s)| !s.is_empty())
            .collect();
        case.same(&format!("{min}..{max}"), &got, &case.want(&[], range));
    }
}

fn special_values(case: &Case) {
    case.same(
        "all",
        &case.collect(Select::new(any(), TimeRange::ALL)),
        &case.series,
    );
    let utf8 = vec![Matcher::equal("__name__", "sp.ecial")];
    assert_eq!(
        case.collect(Select::new(utf8, TimeRange::ALL)).len(),
        1,
        "{}",
        case.name
    );
}

fn by_labels(without: &[&str]) -> Select {
    let mut select = Select::new(any(), TimeRange::ALL);
    select.order = Order::ByLabels {
        without: without.iter().map(|w| Str::from(*w)).collect(),
    };
    select
}

/// The series as they come once `without` labels are gone.
fn stripped(case: &Case, without: &[&str]) -> Vec<Labels> {
    let mut want: Vec<Labels> = case
        .series
        .keys()
        .map(|l| l.builder().retain(|n, _| !without.contains(&n)).build())
        .collect();
    want.sort();
    want
}

fn order(case: &Case) {
    let can = case.source.extent().capabilities.without_labels;
    for without in [
        &[][..],
        &["b"],
        &["l"],
        &["b", "c"],
        &["zzz"],
        &["a", "b", "c", "l"],
    ] {
        if !can && !without.is_empty() {
            continue;
        }
        let got: Vec<Labels> = case
            .in_order(by_labels(without))
            .into_iter()
            .map(|(l, _)| l)
            .collect();
        assert_eq!(
            got,
            stripped(case, without),
            "{}: without {without:?}",
            case.name
        );
    }
}

fn replicas_follow(case: &Case) {
    if !case.source.extent().capabilities.without_labels {
        return;
    }
    let got = case.in_order(by_labels(&["replica"]));
    let names: Vec<&str> = got.iter().filter_map(|(l, _)| l.get("pod")).collect();
    assert_eq!(names, ["p1", "p1", "p2", "p2", "p3", "p3"], "{}", case.name);
    for (labels, samples) in &got {
        assert_eq!(labels.get("replica"), None, "{}", case.name);
        assert_eq!(
            samples.len(),
            4,
            "{}: each keeps its own samples",
            case.name
        );
    }
}

fn projection(case: &Case) {
    let obeys = case.source.extent().capabilities.projection;
    for (projection, keep) in [
        (Projection::Include(vec!["job".into()]), &["job"][..]),
        (Projection::Include(vec![]), &[]),
        (
            Projection::Exclude(vec!["instance".into(), "odd".into(), "even".into()]),
            &["__name__", "job"],
        ),
    ] {
        for order in [Order::Any, Order::ByLabels { without: vec![] }] {
            let mut select = Select::new(any(), TimeRange::ALL);
            select.hints.projection = projection.clone();
            select.order = order;
            let got = case.in_order(select);
            assert_eq!(
                got.len(),
                case.series.len(),
                "{}: {projection:?}: series stay apart",
                case.name
            );
            for (labels, samples) in &got {
                assert_eq!(samples.len(), 3, "{}", case.name);
                assert!(
                    !obeys || labels.iter().all(|(n, _)| keep.contains(&n)),
                    "{}: {projection:?}: {labels}",
                    case.name
                );
                assert!(
                    !keep.contains(&"job") || labels.get("job").is_some(),
                    "{}: {projection:?} lost a label: {labels}",
                    case.name
                );
            }
        }
    }
}

fn shards(case: &Case) {
    if !case.source.extent().capabilities.sharding {
        return;
    }
    for (by, names) in [
        (true, vec![Str::from("job")]),
        (false, vec![Str::from("instance"), Str::from("__name__")]),
        (false, vec![]),
    ] {
        let total = 3;
        let mut seen: BTreeMap<Labels, Vec<Sample>> = BTreeMap::new();
        let mut where_is: BTreeMap<Labels, u64> = BTreeMap::new();
        for index in 0..total {
            let mut select = Select::new(any(), TimeRange::ALL);
            let shard = Shard {
                index,
                total,
                by,
                labels: names.clone(),
            };
            select.hints.shard = Some(shard.clone());
            for (labels, samples) in case.collect(select) {
                assert!(
                    shard.owns(labels.iter(), &mut Vec::new()),
                    "{}: {labels} is not in {shard:?}",
                    case.name
                );
                let key = labels
                    .builder()
                    .retain(|n, _| names.iter().any(|l| **l == *n) == by)
                    .build();
                let at = *where_is.entry(key).or_insert(index);
                assert_eq!(at, index, "{}: a group was split: {labels}", case.name);
                assert!(
                    seen.insert(labels, samples).is_none(),
                    "{}: shards overlap",
                    case.name
                );
            }
        }
        case.same("all shards together", &seen, &case.series);
    }
}

fn limit(case: &Case) {
    for limit in [1, 10, 700, 10_000] {
        let mut select = Select::new(any(), TimeRange::ALL);
        select.hints.limit = limit;
        let got = case.collect(select);
        assert!(got.len() >= limit.min(case.series.len()), "{}", case.name);
        for (labels, samples) in &got {
            let complete = case
                .series
                .get(labels)
                .is_some_and(|s| same_samples(s, samples));
            assert!(complete, "{}: {labels} is not complete", case.name);
        }
    }
}

fn labels_only(case: &Case) {
    let (scope, view) = case.open();
    let mut select = Select::new(any(), TimeRange::ALL);
    select.skip_chunks = true;
    let batches = case.ok(batches(view.select(select)));
    assert!(batches.iter().all(|b| b.chunks.is_empty()), "{}", case.name);
    let found: BTreeSet<Labels> = batches
        .iter()
        .flat_map(|b| (0..b.len()).map(|i| b.label_set(i, &scope.symbols)))
        .collect();
    let want: BTreeSet<Labels> = case.series.keys().cloned().collect();
    assert_eq!(found, want, "{}", case.name);
}

fn shape(case: &Case) {
    for order in [Order::Any, Order::ByLabels { without: vec![] }] {
        let (scope, view) = case.open();
        let mut select = Select::new(any(), TimeRange::ALL);
        select.order = order;
        let batches = case.ok(batches(view.select(select)));
        let mut seen = BTreeSet::new();
        for batch in &batches {
            assert!(!batch.is_empty(), "{}: an empty batch", case.name);
            for i in 0..batch.len() {
                let names: Vec<&str> = batch
                    .labels_of(i)
                    .iter()
                    .map(|(n, _)| scope.symbols.get(*n))
                    .collect();
                assert!(names.is_sorted(), "{}: names {names:?}", case.name);
                let chunks = batch.chunks_of(i);
                assert!(
                    chunks.is_sorted_by_key(|c| (c.lane, c.min, c.max)),
                    "{}: chunks {chunks:?}",
                    case.name
                );
                for c in chunks {
                    assert!(
                        !batch.bytes_of(c).is_empty(),
                        "{}: {c:?} points outside",
                        case.name
                    );
                    assert!(c.min <= c.max, "{}: {c:?}", case.name);
                }
                assert!(
                    seen.insert(batch.label_set(i, &scope.symbols)),
                    "{}: a series came twice",
                    case.name
                );
            }
        }
        assert_eq!(seen.len(), case.series.len(), "{}", case.name);
    }
    let got = case.in_order(by_labels(&[]));
    assert!(got.is_sorted_by(|a, b| a.0 < b.0), "{}", case.name);
}

fn names_and_values(case: &Case) {
    let (_, view) = case.open();
    let ask = |matchers: Vec<Matcher>, range: TimeRange, limit: usize| LabelSelect {
        matchers,
        range,
        limit,
    };
    let strs = |list: &[&str]| list.iter().map(|s| Str::from(*s)).collect::<Vec<_>>();
    let names = |a: LabelSelect| {
        case.ok(futures::executor::block_on(view.label_names(a)))
            .value
    };
    let values = |n: &str, a: LabelSelect| {
        case.ok(futures::executor::block_on(view.label_values(n.into(), a)))
            .value
    };
    let all = TimeRange::ALL;
    assert_eq!(
        names(ask(vec![], all, 0)),
        strs(&["__name__", "even", "instance", "job", "odd"]),
        "{}",
        case.name
    );
    let host = || vec![Matcher::equal("instance", "host-001")];
    assert_eq!(
        names(ask(host(), all, 0)),
        strs(&["__name__", "instance", "job", "odd"]),
        "{}",
        case.name
    );
    assert_eq!(names(ask(vec![], all, 2)).len(), 2, "{}", case.name);
    assert_eq!(
        values("__name__", ask(vec![], all, 0)),
        strs(&["metric_0", "metric_1", "metric_2"]),
        "{}",
        case.name
    );
    assert_eq!(
        values("job", ask(host(), all, 0)),
        strs(&["job-1"]),
        "{}",
        case.name
    );
    assert_eq!(
        values("odd", ask(vec![Matcher::equal("even", "")], all, 0)),
        strs(&["yes"]),
        "{}",
        case.name
    );
    assert!(values("odd", ask(vec![Matcher::equal("even", "yes")], all, 0)).is_empty());
    assert!(
        values("nothing", ask(vec![], all, 0)).is_empty(),
        "{}",
        case.name
    );
    assert_eq!(
        values("instance", ask(vec![], all, 5)).len(),
        5,
        "{}",
        case.name
    );
    let far = TimeRange::new(1 << 50, 1 << 51);
    assert!(
        values("job", ask(vec![], far, 0)).is_empty(),
        "{}",
        case.name
    );
    assert!(names(ask(vec![], far, 0)).is_empty(), "{}", case.name);
}

fn stops(case: &Case) {
    let first_error = |scope: Scope| -> Option<Kind> {
        let scope = Arc::new(scope);
        let view = match self_open(case, &scope) {
            Ok(view) => view,
            Err(e) => return Some(e.kind),
        };
        batches(view.select(Select::new(any(), TimeRange::ALL)))
            .err()
            .map(|e| e.kind)
    };
    let scope = Scope::new(TimeRange::ALL, Budget::unlimited());
    scope.cancel.cancel();
    assert_eq!(first_error(scope), Some(Kind::Cancelled), "{}", case.name);
    let scope = Scope::new(TimeRange::ALL, Budget::unlimited()).with_timeout(Duration::ZERO);
    assert_eq!(first_error(scope), Some(Kind::Timeout), "{}", case.name);
    let budget = Budget::new("test", 100);
    let scope = Scope::new(TimeRange::ALL, Arc::clone(&budget));
    assert_eq!(first_error(scope), Some(Kind::Limit), "{}", case.name);
    assert_eq!(
        budget.used(),
        0,
        "{}: what was reserved is given back",
        case.name
    );
    // And enough is enough.
    let budget = Budget::new("test", 1 << 28);
    let scope = Arc::new(Scope::new(TimeRange::ALL, Arc::clone(&budget)));
    let view = case.ok(self_open(case, &scope));
    let held = case.ok(batches(view.select(Select::new(any(), TimeRange::ALL))));
    assert!(
        budget.used() > 0,
        "{}: batches hold their memory",
        case.name
    );
    drop((held, view));
    assert_eq!(
        budget.used(),
        0,
        "{}: what was reserved is given back",
        case.name
    );
}

fn self_open(case: &Case, scope: &Arc<Scope>) -> Result<Box<dyn View>, SourceError> {
    case.source.open(Arc::clone(scope))
}

fn one_view(case: &Case) {
    let (scope, view) = case.open();
    let a = view.select(Select::new(
        vec![Matcher::equal("even", "yes")],
        TimeRange::ALL,
    ));
    let b = view.select(Select::new(
        vec![Matcher::equal("odd", "yes")],
        TimeRange::ALL,
    ));
    drop(view); // rows outlive it
    let a = case.ok(collect(a, &scope, TimeRange::ALL));
    let b = case.ok(collect(b, &scope, TimeRange::ALL));
    assert_eq!(a.len() + b.len(), case.series.len(), "{}", case.name);
    assert!(a.keys().all(|l| !b.contains_key(l)), "{}", case.name);
}
