//! What a query costs, counted at the S3 server.

use std::sync::Arc;
use std::time::Duration;

use chunk::suite;
use model::scope::PartialResponse;
use model::{Budget, Labels, MatchOp, Matcher, Scope, Select, Source, TimeRange};
use s3kit::{Op, Wild};
use store::{ExternalLabels, Gateway, GatewayOptions, ServeOptions};

use crate::kit::{Place, Series, fleet};

fn options(dir: &tempfile::TempDir) -> GatewayOptions {
    GatewayOptions {
        labels: ExternalLabels::own(Labels::default()),
        data_dir: Some(dir.path().to_owned()),
        ..GatewayOptions::default()
    }
}

fn ask(gateway: &Gateway, matchers: Vec<Matcher>, range: TimeRange) -> (usize, usize) {
    let scope = Scope::unbounded(TimeRange::ALL);
    let view = gateway.open(Arc::clone(&scope)).unwrap();
    let rows = view.select(Select::new(matchers, range));
    let all = suite::collect(rows, &scope, range).unwrap();
    (all.len(), all.values().map(Vec::len).sum())
}

fn day(blocks: i64, count: usize) -> (Place, Series) {
    let place = Place::s3();
    let mut all = fleet("up", count, 0, blocks * 480);
    all.extend(fleet("other_metric", count, 0, blocks * 480));
    for n in 0..blocks {
        let range = TimeRange::new(n * 7_200_000, (n + 1) * 7_200_000 - 1);
        place.add(n as u64, range, &Labels::default(), &all);
    }
    (place, all)
}

#[test]
fn three_rounds_with_headers_present_and_caches_empty() {
    let (place, _) = day(6, 200);
    let dir = tempfile::tempdir().unwrap();
    let matchers = || {
        vec![
            Matcher::equal("__name__", "up"),
            Matcher::new(MatchOp::Regex, "job", "job-[12]").unwrap(),
        ]
    };
    // The first query makes the index-headers. These indexes are as if they were too large to be kept.
    let large = || GatewayOptions {
        kept_bytes: 0,
        ..options(&dir)
    };
    let first = place.gateway(large());
    assert_eq!(ask(&first, matchers(), TimeRange::ALL), (80, 80 * 6 * 480));
    drop(first);

    let gateway = place.gateway(large());
    let server = place.server();
    server.counters().reset();
    server.set_latency(Duration::from_millis(40));
    assert_eq!(
        ask(&gateway, matchers(), TimeRange::ALL),
        (80, 80 * 6 * 480)
    );
    server.set_latency(Duration::ZERO);
    let counters = server.counters();
    let requests = counters.all().requests;
    assert!(
        counters.rounds() <= 3,
        "{} rounds: {:#?}",
        counters.rounds(),
        counters.log()
    );
    // Per block: postings, series, chunks.
    assert_eq!(requests, 6 * 3);
    assert_eq!(
        counters.of(Op::Get).requests,
        requests,
        "ranges and nothing else"
    );
    assert!(
        counters.log().iter().all(|r| r.range.is_some()),
        "no full download"
    );

    // What was fetched is not fetched again.
    counters.reset();
    assert_eq!(
        ask(&gateway, matchers(), TimeRange::ALL),
        (80, 80 * 6 * 480)
    );
    assert_eq!(counters.all().requests, 0);
}

/// What a query takes of each of four blocks once the headers are there, if so many bytes of indexes are kept.
#[test]
fn of_small_indexes_only_chunks_are_asked_for() {
    let (place, _) = day(4, 100);
    let matchers = || vec![Matcher::equal("__name__", "up")];
    // Postings of 200 series are 4 KB, the series themselves 8 KB at least.
    for (kept_bytes, a_block) in [(1u64 << 20, 1u64), (6 << 10, 2), (1 << 10, 3)] {
        let dir = tempfile::tempdir().unwrap();
        let small = || GatewayOptions {
            kept_bytes,
            ..options(&dir)
        };
        let expected = (100, 100 * 4 * 480);
        assert_eq!(
            ask(&place.gateway(small()), matchers(), TimeRange::ALL),
            expected
        );
        let gateway = place.gateway(small());
        let server = place.server();
        server.counters().reset();
        server.set_latency(Duration::from_millis(30));
        assert_eq!(ask(&gateway, matchers(), TimeRange::ALL), expected);
        server.set_latency(Duration::ZERO);
        let counters = server.counters();
        let (requests, rounds) = (counters.all().requests, counters.rounds() as u64);
        assert_eq!(requests, 4 * a_block, "{kept_bytes}: {:#?}", counters.log());
        assert!(rounds <= a_block, "{kept_bytes}: {rounds} rounds");
        // What is damaged on the local disk is fetched again.
        let folder = dir.path().join("index-headers");
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let mut bytes = std::fs::read(&path).unwrap();
            let at = bytes.len() - 9;
            bytes[at] ^= 0x20;
            std::fs::write(&path, bytes).unwrap();
        }
        assert_eq!(
            ask(&place.gateway(small()), matchers(), TimeRange::ALL),
            expected
        );
    }
}

/// Chunks are cut into batches where the file has gaps: no stretch is read in two pieces without need.
#[test]
fn batches_end_where_the_file_has_gaps() {
    let place = Place::s3();
    let mut all = Series::new();
    for metric in 0..40 {
        all.extend(fleet(&format!("metric_{metric:02}"), 100, 0, 480));
    }
    let range = TimeRange::new(0, 7_200_000 - 1);
    place.add(0, range, &Labels::default(), &all);
    let dir = tempfile::tempdir().unwrap();
    let metrics = || vec![Matcher::new(MatchOp::Regex, "__name__", "metric_[0-3]5").unwrap()];
    // 100 series have about 90 KB of chunks; a batch is a quarter of the window.
    let small = || GatewayOptions {
        window_bytes: 4 * (128 << 10),
        ..options(&dir)
    };
    let expected = (400, 400 * 480);
    assert_eq!(ask(&place.gateway(small()), metrics(), range), expected);
    let gateway = place.gateway(small());
    let counters = place.server().counters();
    counters.reset();
    assert_eq!(ask(&gateway, metrics(), range), expected);
    assert_eq!(counters.all().requests, 4, "{:#?}", counters.log());
    // What is longer than a batch is cut into as few pieces as there may be, and where a window of series ends.
    let gateway = place.gateway(small());
    let ten = vec![Matcher::new(MatchOp::Regex, "__name__", "metric_1.").unwrap()];
    counters.reset();
    assert_eq!(ask(&gateway, ten, range), (1000, 1000 * 480));
    let log = counters.log();
    let bytes: u64 = log.iter().map(|r| r.bytes_out).sum();
    let windows = 4;
    assert!(
        log.len() as u64 <= bytes / (128 << 10) + windows,
        "{log:#?}"
    );
}

#[test]
fn an_index_header_of_a_small_index_costs_one_request_once() {
    let (place, _) = day(3, 50);
    let dir = tempfile::tempdir().unwrap();
    let gateway = place.gateway(options(&dir));
    let counters = place.server().counters();
    counters.reset();
    let view = gateway.open(Scope::unbounded(TimeRange::ALL)).unwrap();
    let ask_names = || {
        let select = model::LabelSelect {
            matchers: vec![],
            range: TimeRange::ALL,
            limit: 0,
        };
        futures::executor::block_on(view.label_names(select))
            .unwrap()
            .value
    };
    // They are small enough that the first read has all of them.
    assert_eq!(ask_names().len(), 3);
    assert_eq!(counters.all().requests, 3);
    assert_eq!(ask_names().len(), 3);
    assert_eq!(counters.all().requests, 3);
    // Nor in another process.
    counters.reset();
    let again = place.gateway(options(&dir));
    let listed = counters.all().requests;
    let view = again.open(Scope::unbounded(TimeRange::ALL)).unwrap();
    let select = model::LabelSelect {
        matchers: vec![],
        range: TimeRange::ALL,
        limit: 0,
    };
    let values = futures::executor::block_on(view.label_values("job".into(), select)).unwrap();
    assert_eq!(values.value.len(), 5);
    assert_eq!(counters.all().requests, listed);
    // A torn file is made again.
    for entry in std::fs::read_dir(dir.path().join("index-headers")).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    }
    let third = place.gateway(options(&dir));
    let one = vec![Matcher::equal("instance", "host-00001")];
    assert_eq!(ask(&third, one, TimeRange::ALL).0, 2);
}

#[test]
fn only_blocks_in_range_and_few_bytes() {
    let (place, _) = day(6, 300);
    let dir = tempfile::tempdir().unwrap();
    let gateway = place.gateway(options(&dir));
    let one = || {
        vec![
            Matcher::equal("__name__", "up"),
            Matcher::equal("instance", "host-00123"),
        ]
    };
    let hour = TimeRange::new(7_200_000 * 3 + 100, 7_200_000 * 3 + 3_600_000);
    ask(&gateway, one(), TimeRange::new(0, 0));
    let counters = place.server().counters();
    counters.reset();
    assert_eq!(ask(&gateway, one(), hour), (1, 240));
    let blocks: std::collections::BTreeSet<String> = counters
        .log()
        .iter()
        .map(|r| r.key.split('/').next().unwrap().to_owned())
        .collect();
    assert_eq!(blocks.len(), 1);
    let chunks: u64 = counters
        .log()
        .iter()
        .filter(|r| r.key.contains("/chunks/"))
        .map(|r| r.bytes_out)
        .sum();
    assert!(
        chunks < 5_000,
        "{chunks} bytes of chunks for one hour of one series"
    );
}

#[test]
fn memory_is_bounded_by_the_window_not_the_answer() {
    let place = Place::s3();
    let all = fleet("up", 8000, 0, 480);
    for n in 0..2 {
        let range = TimeRange::new(n * 3_600_000, (n + 1) * 3_600_000 - 1);
        place.add(n as u64, range, &Labels::default(), &all);
    }
    let dir = tempfile::tempdir().unwrap();
    let gateway = place.gateway(GatewayOptions {
        window_bytes: 512 << 10,
        cache_bytes: 0,
        ..options(&dir)
    });
    let budget = Budget::new("test", 1 << 30);
    let scope = Arc::new(Scope::new(TimeRange::ALL, Arc::clone(&budget)));
    let view = gateway.open(Arc::clone(&scope)).unwrap();
    let name = vec![Matcher::equal("__name__", "up")];
    let model::Rows::Stream(mut stream) = view.select(Select::new(name, TimeRange::ALL)) else {
        panic!("a bucket waits");
    };
    let (mut series, mut bytes) = (0, 0u64);
    futures::executor::block_on(async {
        use futures::StreamExt as _;
        while let Some(batch) = stream.next().await {
            let batch = batch.unwrap();
            series += batch.len();
            bytes += batch.chunks.iter().map(|c| u64::from(c.len)).sum::<u64>();
        }
    });
    assert_eq!(series, 8000);
    assert_eq!(budget.used(), 0);
    assert!(bytes > 4 << 20, "{bytes}");
    assert!(
        budget.peak() < bytes / 2,
        "{} at once of {bytes}",
        budget.peak()
    );
}

/// A request from some on fails, in some way, for a while: what is answered is right, and what is missing is said.
#[test]
fn whatever_fails_no_answer_is_wrong() {
    use s3kit::{Fault, Rule};
    let (place, _) = day(4, 20);
    let faults = place.server().faults();
    let matchers = || vec![Matcher::equal("__name__", "up")];
    let asked = |gateway: &Gateway, partial_response| {
        let mut scope = Scope::new(TimeRange::ALL, Budget::new("test", 1 << 30));
        scope.partial_response = partial_response;
        let scope = Arc::new(scope);
        let view = gateway.open(Arc::clone(&scope)).unwrap();
        let rows = view.select(Select::new(matchers(), TimeRange::ALL));
        let batches = suite::batches(rows)?;
        let said = batches.iter().any(|b| !b.warnings.is_empty());
        let all = suite::open(&batches, &scope.symbols, TimeRange::ALL)?;
        Ok::<_, model::SourceError>((all, said))
    };
    let dir = tempfile::tempdir().unwrap();
    let (whole, said) = asked(&place.gateway(options(&dir)), PartialResponse::Abort).unwrap();
    assert!(!said && whole.len() == 20);
    let mut dice = 0x51ed_270b_u64;
    let mut roll = |sides: u64| {
        dice = dice.wrapping_mul(0xd134_2543_de82_ef95).wrapping_add(1);
        (dice >> 33) % sides
    };
    let (mut missed, mut failed) = (0, 0);
    for round in 0..30 {
        let fault = [
            Fault::Unavailable,
            Fault::Internal,
            Fault::Forbidden,
            Fault::Reset,
            Fault::Truncate(10),
            Fault::Delay(Duration::from_millis(20)),
            Fault::Trickle(4096),
        ][roll(7) as usize];
        let (after, times) = (roll(12), 1 + roll(6));
        // With headers and without, small indexes kept and not.
        let fresh = tempfile::tempdir().unwrap();
        let gateway = place.gateway(GatewayOptions {
            data_dir: (roll(2) == 0).then(|| fresh.path().to_owned()),
            kept_bytes: [0, 2 << 20][roll(2) as usize],
            ..options(&dir)
        });
        faults.add(Rule::always(fault).after(after).times(times));
        match asked(&gateway, PartialResponse::Abort) {
            Ok((all, said)) => assert!(all == whole && !said, "round {round}"),
            Err(e) => {
                failed += 1;
                assert!(!e.to_string().is_empty());
            }
        }
        let (part, said) = asked(&gateway, PartialResponse::Warn).unwrap();
        let full: std::collections::BTreeMap<_, _> = whole.iter().cloned().collect();
        for (labels, samples) in &part {
            let all = &full[labels];
            assert!(samples.iter().all(|s| all.contains(s)), "round {round}");
        }
        assert!(part == whole || said, "round {round}: nobody said so");
        missed += usize::from(part != whole);
        faults.clear();
        let (all, said) = asked(&gateway, PartialResponse::Warn).unwrap();
        // A block whose index looked damaged stays aside for a while, and that is said.
        assert!(all == whole || said, "round {round}");
    }
    assert!(failed + missed > 5, "{failed}, {missed}");
}

/// Listings leave things out, show what is gone, repeat entries and end early: no sample is wrong, and whatever was
/// listed and cannot be read is said.
#[test]
fn listings_that_change_make_no_wrong_answer() {
    let (place, _) = day(4, 10);
    let listings = place.server().listings();
    // Gone, but a listing may show it still.
    let gone = place.add(
        99,
        TimeRange::new(0, 7_200_000 - 1),
        &Labels::default(),
        &fleet("gone", 3, 0, 480),
    );
    let gone = gone.unwrap().to_string();
    let dir = tempfile::tempdir().unwrap();
    let asked = || {
        let gateway = place.gateway(options(&dir));
        let mut scope = Scope::new(TimeRange::ALL, Budget::new("test", 1 << 30));
        scope.partial_response = PartialResponse::Warn;
        let scope = Arc::new(scope);
        let view = gateway.open(Arc::clone(&scope)).unwrap();
        let matchers = vec![Matcher::new(MatchOp::Regex, "__name__", "up|gone").unwrap()];
        let rows = view.select(Select::new(matchers, TimeRange::ALL));
        let batches = suite::batches(rows).unwrap();
        let said = batches.iter().any(|b| !b.warnings.is_empty());
        let all = suite::open(&batches, &scope.symbols, TimeRange::ALL).unwrap();
        (all, said)
    };
    assert_eq!(asked().0.len(), 13);
    for key in place.server().keys_under(&gone) {
        place.server().remove(&key);
    }
    let (whole, said) = asked();
    assert!(!said && whole.len() == 10);
    let full: std::collections::BTreeMap<_, _> = whole.iter().cloned().collect();
    let mut parts = 0;
    for seed in 0..20u64 {
        let hides = seed % 2 == 1;
        listings.set(Some(Wild {
            hidden: if hides { 0.1 } else { 0.0 },
            ghosts: 0.5,
            repeated: 0.5,
            cut: if hides { 0.2 } else { 0.0 },
            page: 2 + seed as usize % 4,
            seed,
        }));
        let (part, said) = asked();
        for (labels, samples) in &part {
            let all = &full[labels];
            assert!(samples.iter().all(|s| all.contains(s)), "seed {seed}");
            assert!(
                samples.is_sorted_by(|a, b| a.ts < b.ts),
                "seed {seed}: twice"
            );
        }
        // What no listing shows, nobody can miss.
        assert!(
            part == whole || hides || said,
            "seed {seed}: nobody said so"
        );
        parts += usize::from(part != whole);
        listings.set(None);
        assert_eq!(
            asked(),
            (whole.clone(), false),
            "seed {seed}: and then all is there"
        );
    }
    assert!(parts > 2, "{parts}");
}

/// `--store.grpc.downloaded-bytes-limit`: whatever is needed counts, cached or not; Thanos' code and the beginning of its
/// words.
#[test]
fn no_question_touches_more_bytes_than_it_may() {
    let (place, _) = day(2, 50);
    let dir = tempfile::tempdir().unwrap();
    let call = |touched_limit: u64| {
        let gateway = place.gateway(GatewayOptions {
            touched_limit,
            ..options(&dir)
        });
        let remote = crate::remote::wired(Arc::new(gateway), ServeOptions::default(), false);
        let one = || {
            let scope = Scope::unbounded(TimeRange::ALL);
            let view = remote.open(Arc::clone(&scope)).unwrap();
            let matchers = vec![Matcher::equal("__name__", "up")];
            let rows = view.select(Select::new(matchers, TimeRange::ALL));
            suite::batches(rows).map(|batches| batches.len())
        };
        // The second one finds everything in the cache.
        [one(), one()]
    };
    for answer in call(100) {
        let error = answer.unwrap_err();
        // Over the wire: ResourceExhausted.
        assert_eq!(error.kind, model::Kind::Limit, "{error}");
        let said = error.to_string();
        assert!(said.contains("exceeded bytes limit"), "{said}");
        assert!(said.contains("limit 100 violated (got "), "{said}");
    }
    for limit in [0, 100 << 20] {
        for answer in call(limit) {
            assert!(answer.unwrap() > 0, "{limit}");
        }
    }
}
