use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use chunk::suite;
use futures::executor::block_on;
use model::scope::PartialResponse;
use model::{
    Budget, Kind, LabelSelect, Labels, Matcher, Order, Scope, Select, Source, Str, TimeRange,
};
use s3kit::{Fault, Op, Rule};
use store::{ExternalLabels, GatewayOptions};

use crate::kit::{Kept, Place, fleet, labels};

fn own() -> GatewayOptions {
    GatewayOptions {
        labels: ExternalLabels::own(Labels::default()),
        ..GatewayOptions::default()
    }
}

fn job(value: &str) -> Vec<Matcher> {
    vec![Matcher::equal("job", value)]
}

#[test]
fn suite_one_block_on_disk() {
    suite::source("gateway, one block, disk", |series| {
        let place = Place::disk();
        place.add(1, TimeRange::ALL, &Labels::default(), &series);
        Arc::new(Kept {
            source: place.gateway(own()),
            _place: place,
        })
    });
}

/// Every series lies in three blocks, which overlap.
#[test]
fn suite_many_blocks_on_s3() {
    suite::source("gateway, many blocks, S3", |series| {
        let place = Place::s3();
        let external = labels(&[("cluster", "a")]);
        for (n, range) in [
            TimeRange::new(i64::MIN, 12_000),
            TimeRange::new(11_000, 1_000_000),
            TimeRange::new(1_000_001, i64::MAX),
        ]
        .into_iter()
        .enumerate()
        {
            place.add(n as u64, range, &external, &series);
        }
        let dir = tempfile::tempdir().unwrap();
        let options = GatewayOptions {
            labels: ExternalLabels::own(external),
            data_dir: Some(dir.path().to_owned()),
            // Small, so that every path is taken.
            window_bytes: 1 << 16,
            cache_bytes: 1 << 16,
            header_bytes: 1 << 10,
            ..GatewayOptions::default()
        };
        Arc::new(Kept {
            source: place.gateway(options),
            _place: place,
        })
    });
}

#[test]
fn suite_overlaid_by_nothing() {
    suite::source("gateway, overlay", |series| {
        let place = Place::disk();
        place.add(1, TimeRange::ALL, &Labels::default(), &series);
        Arc::new(Kept {
            source: place.gateway(GatewayOptions::default()),
            _place: place,
        })
    });
}

#[test]
fn external_labels_are_laid_on_top() {
    let place = Place::disk();
    let series = [
        (labels(&[("a", "1")]), fleet("m", 1, 0, 3).remove(0).1),
        (
            labels(&[("a", "1"), ("k", "1")]),
            fleet("m", 1, 0, 3).remove(0).1,
        ),
        (
            labels(&[("a", "1"), ("m", "inner")]),
            fleet("m", 1, 0, 3).remove(0).1,
        ),
    ];
    for (n, replica) in ["x", "y"].into_iter().enumerate() {
        let external = labels(&[("m", "outer"), ("replica", replica)]);
        place.add(n as u64, TimeRange::ALL, &external, &series[..2].to_vec());
    }
    place.add(
        2,
        TimeRange::ALL,
        &labels(&[("m", "third")]),
        &series[2..].to_vec(),
    );
    let gateway = place.gateway(GatewayOptions::default());
    let ask = |matchers: Vec<Matcher>, without: &[&str]| {
        let scope = Scope::unbounded(TimeRange::ALL);
        let view = gateway.open(Arc::clone(&scope)).unwrap();
        let mut select = Select::new(matchers, TimeRange::ALL);
        select.order = Order::ByLabels {
            without: without.iter().map(|w| Str::from(*w)).collect(),
        };
        let rows = suite::collect_in_order(view.select(select), &scope, TimeRange::ALL).unwrap();
        rows.into_iter()
            .map(|(l, _)| l.to_string())
            .collect::<Vec<_>>()
    };
    let a = || vec![Matcher::equal("a", "1")];
    // The shorter set came first inside the block; with the label on top it comes second.
    assert_eq!(
        ask(a(), &[]),
        [
            r#"{a="1", k="1", m="outer", replica="x"}"#,
            r#"{a="1", k="1", m="outer", replica="y"}"#,
            r#"{a="1", m="outer", replica="x"}"#,
            r#"{a="1", m="outer", replica="y"}"#,
            r#"{a="1", m="third"}"#,
        ]
    );
    assert_eq!(
        ask(a(), &["replica"]),
        [
            r#"{a="1", k="1", m="outer"}"#,
            r#"{a="1", k="1", m="outer"}"#,
            r#"{a="1", m="outer"}"#,
            r#"{a="1", m="outer"}"#,
            r#"{a="1", m="third"}"#,
        ]
    );
    assert_eq!(ask(vec![Matcher::equal("m", "inner")], &[]).len(), 0);
    assert_eq!(ask(vec![Matcher::equal("m", "third")], &[]).len(), 1);
    assert_eq!(
        ask(
            vec![Matcher::equal("replica", "y"), Matcher::equal("k", "1")],
            &[]
        )
        .len(),
        1
    );

    let view = gateway.open(Scope::unbounded(TimeRange::ALL)).unwrap();
    let ask = |matchers: Vec<Matcher>| LabelSelect {
        matchers,
        range: TimeRange::ALL,
        limit: 0,
    };
    let values = |name: &str, matchers| {
        let answer = block_on(view.label_values(name.into(), ask(matchers))).unwrap();
        answer
            .value
            .iter()
            .map(|s| s.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(values("m", vec![]), ["outer", "third"]);
    assert_eq!(values("m", vec![Matcher::equal("k", "1")]), ["outer"]);
    assert_eq!(
        values("replica", vec![Matcher::equal("k", "2")]),
        [] as [&str; 0]
    );
    assert_eq!(values("k", vec![Matcher::equal("replica", "x")]), ["1"]);
    let names = block_on(view.label_names(ask(vec![Matcher::equal("k", "1")]))).unwrap();
    assert_eq!(names.value, ["a", "k", "m", "replica"].map(Str::from));
    let extent = gateway.extent();
    assert_eq!(extent.parts.len(), 3);
    assert!(!extent.may_hold(TimeRange::ALL, &[Matcher::equal("m", "elsewhere")]));
}

#[test]
fn only_own_blocks_and_only_before() {
    let place = Place::disk();
    let series = fleet("up", 3, 0, 400);
    let ours = labels(&[("cluster", "ours")]);
    place.add(1, TimeRange::new(0, 2_999_999), &ours, &series);
    place.add(2, TimeRange::new(3_000_000, i64::MAX), &ours, &series);
    place.add(
        3,
        TimeRange::ALL,
        &labels(&[("cluster", "theirs")]),
        &fleet("other", 3, 0, 400),
    );
    let bound = Arc::new(AtomicI64::new(i64::MAX));
    let before = Arc::clone(&bound);
    let gateway = place.gateway(GatewayOptions {
        labels: ExternalLabels::own(ours),
        before: Some(Arc::new(move || Some(before.load(Ordering::Relaxed)))),
        ..GatewayOptions::default()
    });
    let ask = || {
        let scope = Scope::unbounded(TimeRange::ALL);
        let view = gateway.open(Arc::clone(&scope)).unwrap();
        let select = Select::new(vec![Matcher::equal("absent", "")], TimeRange::ALL);
        suite::collect(view.select(select), &scope, TimeRange::ALL).unwrap()
    };
    let all = ask();
    assert_eq!(all.len(), 3);
    assert!(
        all.keys()
            .all(|l| l.name() == "up" && l.get("cluster").is_none())
    );
    assert!(all.values().all(|s| s.len() == 400));
    bound.store(3_000_000, Ordering::Relaxed);
    assert!(ask().values().all(|s| s.len() == 200));
    assert_eq!(gateway.extent().parts[0].1, TimeRange::new(0, 2_985_000));
    bound.store(0, Ordering::Relaxed);
    assert!(ask().is_empty());
    assert!(!gateway.extent().may_hold(TimeRange::ALL, &[]));
}

#[test]
fn missing_parts_are_said_or_fail() {
    let place = Place::s3();
    let early = place.add(
        1,
        TimeRange::new(0, 999_999),
        &Labels::default(),
        &fleet("up", 5, 0, 100),
    );
    let late = fleet("up", 5, 1_500_000, 100);
    let late = place.add(
        2,
        TimeRange::new(1_000_000, i64::MAX),
        &Labels::default(),
        &late,
    );
    let (early, late) = (early.unwrap().to_string(), late.unwrap().to_string());
    let gateway = place.gateway(GatewayOptions {
        cache_bytes: 0,
        ..own()
    });
    let ask = |strategy| {
        let mut scope = Scope::new(TimeRange::ALL, Budget::unlimited());
        scope.partial_response = strategy;
        let scope = Arc::new(scope);
        let view = gateway.open(Arc::clone(&scope)).unwrap();
        let select = Select::new(job("job-1"), TimeRange::ALL);
        let batches = suite::batches(view.select(select))?;
        let warnings: Vec<Str> = batches.iter().flat_map(|b| b.warnings.clone()).collect();
        let rows = suite::open(&batches, &scope.symbols, TimeRange::ALL)?;
        Ok::<_, model::SourceError>((rows, warnings))
    };
    let faults = place.server().faults();
    faults.add(
        Rule::always(Fault::Unavailable)
            .on(Op::Get)
            .key(format!("{late}/index")),
    );
    let (rows, warnings) = ask(PartialResponse::Warn).unwrap();
    assert_eq!(
        (rows.len(), rows[0].1.len()),
        (1, 67),
        "the other block answers"
    );
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains(&late), "{warnings:?}");
    let e = ask(PartialResponse::Abort).unwrap_err();
    assert_eq!(e.kind, Kind::Unavailable, "{e}");
    assert!(e.message.contains(&late), "{e}");

    faults.clear();
    faults.add(
        Rule::always(Fault::Unavailable)
            .on(Op::Get)
            .key(format!("{early}/chunks")),
    );
    let (rows, warnings) = ask(PartialResponse::Warn).unwrap();
    assert_eq!((rows.len(), warnings.len()), (1, 1), "{warnings:?}");

    faults.clear();
    let (rows, warnings) = ask(PartialResponse::Warn).unwrap();
    assert_eq!(
        (rows[0].1.len(), warnings.len()),
        (167, 0),
        "and then it is whole again"
    );

    // A block whose bytes are wrong is corrupt, not missing samples.
    let fresh = place.gateway(own());
    let chunks = format!("{early}/chunks/000001");
    let mut bytes = place.server().get(&chunks).unwrap().to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x55;
    place.server().put(&chunks, bytes);
    let scope = Scope::unbounded(TimeRange::ALL);
    let view = fresh.open(Arc::clone(&scope)).unwrap();
    let select = Select::new(vec![Matcher::equal("absent", "")], TimeRange::ALL);
    let batches = suite::batches(view.select(select)).unwrap();
    let warnings: Vec<&Str> = batches.iter().flat_map(|b| &b.warnings).collect();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(
        warnings[0].contains("checksum") && warnings[0].contains(&early),
        "{warnings:?}"
    );
}

#[test]
fn a_block_with_a_damaged_index_is_set_aside_and_every_answer_says_so() {
    let place = Place::s3();
    let half = |n, from, to, at| {
        let series = fleet("up", 5, at, 100);
        place
            .add(n, TimeRange::new(from, to), &Labels::default(), &series)
            .unwrap()
    };
    let sound = half(1, 0, 999_999, 0);
    let damaged = half(2, 1_000_000, i64::MAX, 1_500_000);
    let index = format!("{damaged}/index");
    let mut bytes = place.server().get(&index).unwrap().to_vec();
    // The table of contents at the end.
    let at = bytes.len() - 20;
    bytes[at] ^= 0x55;
    place.server().put(&index, bytes);
    let gateway = place.gateway(own());
    let ask = || {
        let scope = Scope::unbounded(TimeRange::ALL);
        let view = gateway.open(Arc::clone(&scope)).unwrap();
        let select = Select::new(job("job-1"), TimeRange::ALL);
        let batches = suite::batches(view.select(select)).unwrap();
        let warnings: Vec<Str> = batches.iter().flat_map(|b| b.warnings.clone()).collect();
        let rows = suite::open(&batches, &scope.symbols, TimeRange::ALL).unwrap();
        (rows.len(), warnings)
    };
    let (rows, warnings) = ask();
    assert_eq!((rows, warnings.len()), (1, 1), "{warnings:?}");
    assert!(warnings[0].contains(&damaged.to_string()), "{warnings:?}");
    let asked = place.server().counters().requests(Op::Get, &index);
    let (rows, warnings) = ask();
    assert_eq!((rows, warnings.len()), (1, 1), "{warnings:?}");
    assert!(warnings[0].contains("set aside"), "{warnings:?}");
    assert_eq!(place.server().counters().requests(Op::Get, &index), asked);
    assert_ne!(sound, damaged);
}

#[test]
fn hanging_requests_end_with_the_query() {
    let place = Place::s3();
    place.add(
        1,
        TimeRange::ALL,
        &Labels::default(),
        &fleet("up", 5, 0, 100),
    );
    let gateway = place.gateway(own());
    place.server().faults().add(Rule::always(Fault::Hang));
    let scope = Scope::new(TimeRange::ALL, Budget::unlimited());
    let scope = Arc::new(scope.with_timeout(std::time::Duration::from_millis(150)));
    let view = gateway.open(Arc::clone(&scope)).unwrap();
    let select = Select::new(job("job-1"), TimeRange::ALL);
    let e = suite::batches(view.select(select)).unwrap_err();
    assert_eq!(e.kind, Kind::Timeout, "{e}");
    let scope = Scope::unbounded(TimeRange::ALL);
    let view = gateway.open(Arc::clone(&scope)).unwrap();
    let rows = view.select(Select::new(job("job-1"), TimeRange::ALL));
    let cancel = scope.cancel.clone();
    std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(50));
        cancel.cancel();
    });
    let e = suite::batches(rows).unwrap_err();
    assert_eq!(e.kind, Kind::Cancelled, "{e}");
}

#[test]
fn a_catalog_that_knows_nothing_yet_says_so() {
    let place = Place::disk();
    let registry = metrics::Registry::new();
    let options = bucket::CatalogOptions::default();
    let catalog = bucket::Catalog::new(place.bucket(), options, &registry).unwrap();
    let handle = crate::kit::RUNTIME.handle().clone();
    let gateway = store::Gateway::new(Arc::new(catalog), own(), handle, &registry).unwrap();
    assert!(
        gateway.extent().may_hold(TimeRange::ALL, &[]),
        "nothing may be pruned"
    );
    let scope = Scope::unbounded(TimeRange::ALL);
    let view = gateway.open(scope).unwrap();
    let batches = suite::batches(view.select(Select::new(job("x"), TimeRange::ALL))).unwrap();
    assert!(
        batches[0].warnings[0].contains("not known yet"),
        "{batches:?}"
    );
}

#[test]
fn who_hardly_asks_the_bucket_can_do_without_it() {
    const OLDEST: i64 = 10_000_000;
    let place = Place::disk();
    let registry = metrics::Registry::new();
    let options = bucket::CatalogOptions::default();
    let catalog = bucket::Catalog::new(place.bucket(), options, &registry).unwrap();
    let options = GatewayOptions {
        before: Some(Arc::new(|| Some(OLDEST))),
        lookback: 300_000,
        ..own()
    };
    let handle = crate::kit::RUNTIME.handle().clone();
    let gateway = store::Gateway::new(Arc::new(catalog), options, handle, &registry).unwrap();
    let mut scope = Scope::new(TimeRange::ALL, Budget::unlimited());
    scope.partial_response = model::scope::PartialResponse::Abort;
    let scope = Arc::new(scope);
    let ask = |min: i64, max: i64| {
        let view = gateway.open(Arc::clone(&scope)).unwrap();
        suite::batches(view.select(Select::new(job("x"), TimeRange::new(min, max))))
    };
    // What the database holds, the bucket is not asked for.
    assert!(ask(OLDEST, OLDEST + 1).unwrap().is_empty());
    // The lookback of a rule reaches before the oldest sample.
    let warnings = &ask(OLDEST - 300_000, OLDEST).unwrap()[0].warnings;
    assert!(warnings[0].contains("not known yet"), "{warnings:?}");
    // What reaches further needs what may lie in the bucket, and so does what asks for nothing else.
    for (min, max) in [(OLDEST - 300_001, OLDEST), (OLDEST - 1000, OLDEST - 1)] {
        let e = ask(min, max).unwrap_err();
        assert!(e.message.contains("not known yet"), "{e}");
    }
}
