use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use block::Meta;
use block::meta::Thanos;
use bucket::catalog::{Bound, Strategy};
use bucket::marks::{self, DeletionMark, NoCompactMark};
use bucket::{Bucket, Catalog, CatalogOptions, Put};
use model::TimeRange;
use model::time::ManualClock;
use s3kit::{Fault, Op, Rule};
use ulid::Ulid;

use crate::kit;

const HOUR: i64 = 3_600_000;

fn ulid(n: u64) -> Ulid {
    Ulid::from_parts(n, 0)
}

fn meta(n: u64, range: (i64, i64), labels: &[(&str, &str)]) -> Meta {
    let mut meta = Meta::new(ulid(n), TimeRange::new(range.0, range.1));
    meta.thanos = Some(Thanos {
        labels: labels
            .iter()
            .map(|(n, v)| ((*n).into(), (*v).into()))
            .collect::<BTreeMap<_, _>>(),
        source: "sidecar".into(),
        ..Thanos::default()
    });
    meta
}

async fn put(bucket: &Bucket, meta: &Meta) {
    for (file, body) in [("index", vec![0u8; 10]), ("meta.json", meta.to_json())] {
        let key = marks::key(meta.ulid, file);
        bucket.put(&key, body.into(), Put::Overwrite).await.unwrap();
    }
}

fn catalog(bucket: &Arc<Bucket>, options: CatalogOptions) -> Catalog {
    Catalog::new(Arc::clone(bucket), options, &metrics::Registry::new()).unwrap()
}

fn served(catalog: &Catalog) -> Vec<u64> {
    let snapshot = catalog.snapshot();
    snapshot
        .blocks
        .iter()
        .map(|b| b.ulid().timestamp_ms())
        .collect()
}

#[tokio::test]
async fn blocks_come_and_go() {
    for strategy in [Strategy::Recursive, Strategy::Concurrent] {
        let (server, bucket) = kit::s3();
        let catalog = catalog(
            &bucket,
            CatalogOptions {
                strategy,
                ..CatalogOptions::default()
            },
        );
        assert!(catalog.snapshot().taken.is_none());
        let mut told = catalog.subscribe();
        for n in [3, 1, 2] {
            put(
                &bucket,
                &meta(n, (n as i64 * HOUR, n as i64 * HOUR + 5), &[("a", "b")]),
            )
            .await;
        }
        let half = marks::key(ulid(9), "index");
        bucket
            .put(&half, "half a block".into(), Put::Overwrite)
            .await
            .unwrap();
        bucket
            .put("debug/metas/x.json", "{}".into(), Put::Overwrite)
            .await
            .unwrap();
        let change = catalog.sync().await.unwrap();
        assert_eq!((change.added.len(), change.removed.len()), (3, 0));
        assert_eq!(served(&catalog), [1, 2, 3]);
        assert!(told.has_changed().unwrap());
        told.mark_unchanged();
        let partial = &catalog.snapshot().partial;
        assert_eq!(partial.len(), 1, "{strategy:?}");
        assert_eq!(partial[0].ulid, ulid(9));
        assert_eq!(catalog.snapshot().blocks[0].labels.get("a"), Some("b"));

        // What is known is not asked for again.
        let before = server.counters().requests(Op::Get, "");
        let first = Arc::clone(&catalog.snapshot().blocks[0]);
        let change = catalog.sync().await.unwrap();
        assert_eq!((change.added.len(), change.removed.len()), (0, 0));
        assert!(Arc::ptr_eq(&first, &catalog.snapshot().blocks[0]));
        let metas = server.counters().log();
        let metas = metas
            .iter()
            .filter(|r| r.op == Op::Get && r.key.ends_with("meta.json"));
        let asked_for_half = metas
            .clone()
            .filter(|r| r.key.starts_with(&ulid(9).to_string()))
            .count();
        assert_eq!(metas.count() - asked_for_half, 3);
        if strategy == Strategy::Recursive {
            assert_eq!(
                server.counters().requests(Op::Get, ""),
                before,
                "one listing is all"
            );
        }

        marks::delete_block(&bucket, ulid(2)).await.unwrap();
        let meta_9 = meta(9, (0, 5), &[]);
        put(&bucket, &meta_9).await;
        let change = catalog.sync().await.unwrap();
        assert_eq!(
            (change.added.len(), change.removed.len()),
            (1, 1),
            "{strategy:?}"
        );
        assert_eq!(served(&catalog), [9, 1, 3]);
    }
}

#[tokio::test]
async fn a_restart_reads_only_what_is_new() {
    let (server, bucket) = kit::s3();
    let dir = tempfile::tempdir().unwrap();
    let options = || CatalogOptions {
        cache_dir: Some(dir.path().join("metas")),
        ..CatalogOptions::default()
    };
    for n in 1..=20 {
        put(&bucket, &meta(n, (n as i64, n as i64), &[])).await;
    }
    catalog(&bucket, options()).sync().await.unwrap();
    put(&bucket, &meta(21, (21, 21), &[])).await;
    marks::delete_block(&bucket, ulid(1)).await.unwrap();
    server.counters().reset();
    let again = catalog(&bucket, options());
    again.sync().await.unwrap();
    assert_eq!(again.snapshot().blocks.len(), 20);
    assert_eq!(server.counters().of(Op::Get).requests, 1);
    assert_eq!(server.counters().of(Op::List).requests, 1);
    assert!(!dir.path().join("metas").join(ulid(1).to_string()).exists());
}

#[tokio::test]
async fn filters() {
    let bucket = Bucket::in_memory();
    let clock = Arc::new(ManualClock::default());
    let now = 100 * 24 * HOUR;
    clock.set(now);
    let n = |ago: i64| (now - ago) as u64;
    // 1 and 2: of the first hours; the ULID's time is when they were made.
    put(&bucket, &meta(1, (0, HOUR - 1), &[("region", "eu")])).await;
    put(&bucket, &meta(2, (HOUR, 2 * HOUR - 1), &[("region", "us")])).await;
    let fresh = n(60_000);
    put(
        &bucket,
        &meta(fresh, (2 * HOUR, 3 * HOUR), &[("region", "eu")]),
    )
    .await;
    let mut compacted = meta(n(50_000), (0, 1), &[("region", "eu")]);
    compacted.thanos.as_mut().unwrap().source = "compactor".into();
    put(&bucket, &compacted).await;

    let base = || CatalogOptions {
        clock: clock.clone(),
        ..CatalogOptions::default()
    };
    let check = async |options: CatalogOptions, want: &[u64]| {
        let catalog = catalog(&bucket, options);
        catalog.sync().await.unwrap();
        let mut got = served(&catalog);
        got.sort_unstable();
        assert_eq!(got, want);
    };
    check(base(), &[1, 2, fresh, n(50_000)]).await;
    let old_only = CatalogOptions {
        time: (Bound::At(0), Bound::Ago(100 * 24 * HOUR - HOUR + 1)),
        ..base()
    };
    check(old_only, &[1, n(50_000)]).await;
    let europe = CatalogOptions {
        labels: Some(Arc::new(|_, labels| labels.get("region") == Some("eu"))),
        ..base()
    };
    check(europe, &[1, fresh, n(50_000)]).await;
    let rules = |action, label: &str, regex| {
        let rule = model::relabel::Config {
            source_labels: Some(vec![label.into()]),
            regex: Some(model::regex::Regex::anchored(regex).unwrap()),
            action: Some(action),
            ..Default::default()
        };
        model::relabel::compile(&[rule], model::relabel::NameScheme::Utf8).unwrap()
    };
    let relabelled = |rules| CatalogOptions {
        labels: Some(bucket::catalog::relabel_filter(rules)),
        ..base()
    };
    let drop_europe = rules(model::relabel::Action::Drop, "region", "e.");
    check(relabelled(drop_europe), &[2]).await;
    let one = ulid(1).to_string();
    let keep_one = rules(model::relabel::Action::Keep, "__block_id", &one);
    check(relabelled(keep_one), &[1]).await;
    let patient = CatalogOptions {
        consistency_delay: Duration::from_secs(120),
        ..base()
    };
    check(patient, &[1, 2, n(50_000)]).await;

    let mark = DeletionMark::new(ulid(1), "retention", now - 25 * HOUR);
    assert!(marks::write(&bucket, ulid(1), &mark).await.unwrap());
    assert!(
        !marks::write(&bucket, ulid(1), &mark).await.unwrap(),
        "the first mark stays"
    );
    let mark = DeletionMark::new(ulid(2), "retention", now - 23 * HOUR);
    marks::write(&bucket, ulid(2), &mark).await.unwrap();
    check(base(), &[2, fresh, n(50_000)]).await;
    let all = CatalogOptions {
        ignore_deletion_marks_delay: None,
        strategy: Strategy::Concurrent,
        compaction_marks: true,
        ..base()
    };
    let no_compact = NoCompactMark::new(ulid(2), "manual", "", now);
    marks::write(&bucket, ulid(2), &no_compact).await.unwrap();
    let everything = catalog(&bucket, all);
    everything.sync().await.unwrap();
    assert_eq!(served(&everything).len(), 4);
    let snapshot = everything.snapshot();
    let second = snapshot
        .blocks
        .iter()
        .find(|b| b.ulid() == ulid(2))
        .unwrap();
    assert_eq!(second.marks.deletion, Some(mark));
    assert_eq!(second.marks.no_compact, Some(no_compact));

    marks::remove::<DeletionMark>(&bucket, ulid(2))
        .await
        .unwrap();
    let change = everything.sync().await.unwrap();
    assert_eq!(
        (change.added.len(), change.removed.len()),
        (1, 1),
        "a mark is a change"
    );
}

#[tokio::test]
async fn what_cannot_be_read_is_said() {
    let (server, bucket) = kit::s3();
    for n in 1..=3 {
        put(&bucket, &meta(n, (0, 1), &[])).await;
    }
    let broken = marks::key(ulid(2), "meta.json");
    bucket
        .put(&broken, "{".into(), Put::Overwrite)
        .await
        .unwrap();
    let third = marks::key(ulid(3), "meta.json");
    server
        .faults()
        .add(Rule::always(Fault::Internal).key(third));
    let registry = metrics::Registry::new();
    let catalog = Catalog::new(bucket, CatalogOptions::default(), &registry).unwrap();
    catalog.sync().await.unwrap();
    assert_eq!(served(&catalog), [1]);
    let unreadable = catalog.snapshot().unreadable.clone();
    assert_eq!(unreadable.len(), 2);
    assert!(unreadable[0].1.contains("meta.json"), "{unreadable:?}");
    let incomplete = catalog.snapshot().incomplete.clone().unwrap();
    assert!(incomplete.contains(&ulid(3).to_string()), "{incomplete}");
    server.faults().clear();
    server
        .faults()
        .add(Rule::always(Fault::Internal).on(Op::List));
    assert!(catalog.sync().await.is_err());
    assert_eq!(
        served(&catalog),
        [1],
        "a listing that fails changes nothing"
    );
    server.faults().clear();
    catalog.sync().await.unwrap();
    assert_eq!(served(&catalog), [1, 3]);
    assert_eq!(catalog.snapshot().incomplete, None);
    let mut text = Vec::new();
    metrics::encode(&registry.gather(), metrics::Format::Text, &mut text);
    let text = String::from_utf8(text).unwrap();
    assert!(
        text.contains("thanos_blocks_meta_synced{state=\"corrupted-meta-json\"} 1"),
        "{text}"
    );
    assert!(
        text.contains("thanos_blocks_meta_synced{state=\"loaded\"} 2"),
        "{text}"
    );
}

#[tokio::test]
async fn a_bucket_that_is_away_at_the_start_leaves_what_was_known() {
    let (server, bucket) = kit::s3();
    let dir = tempfile::tempdir().unwrap();
    let options = CatalogOptions {
        cache_dir: Some(dir.path().to_owned()),
        ..CatalogOptions::default()
    };
    for n in 1..4 {
        put(&bucket, &meta(n, (0, 5), &[("a", "b")])).await;
    }
    let first = catalog(&bucket, options.clone());
    assert_eq!(first.recall().await, 0, "nothing was remembered yet");
    first.sync().await.unwrap();
    assert_eq!(first.recall().await, 0, "it has looked");

    server.faults().add(Rule::always(Fault::Unavailable));
    let next = catalog(&bucket, options);
    assert!(next.sync().await.is_err());
    assert_eq!(next.recall().await, 3);
    assert_eq!(served(&next), [1, 2, 3]);
    assert!(next.snapshot().taken.is_none(), "nobody has looked");
    server.faults().clear();
    marks::delete_block(&bucket, ulid(2)).await.unwrap();
    next.sync().await.unwrap();
    assert_eq!(served(&next), [1, 3]);
    assert!(next.snapshot().taken.is_some());
}

#[tokio::test]
async fn folders_full_of_other_objects_are_not_listed_again() {
    let (server, bucket) = kit::s3();
    for n in 1..=2 {
        put(&bucket, &meta(n, (0, 1), &[])).await;
        for other in 0..1100 {
            server.put(&format!("{}/chunks/{other:06}", ulid(n)), "x");
        }
    }
    let options = CatalogOptions {
        strategy: Strategy::Concurrent,
        ..CatalogOptions::default()
    };
    let catalog = catalog(&bucket, options);
    let counters = server.counters();
    counters.reset();
    catalog.sync().await.unwrap();
    assert_eq!(counters.of(Op::List).requests, 3, "all of it");
    counters.reset();
    let mark = DeletionMark::new(ulid(2), "", 0);
    marks::write(&bucket, ulid(2), &mark).await.unwrap();
    catalog.sync().await.unwrap();
    assert_eq!(counters.of(Op::List).requests, 1, "the top");
    assert_eq!(served(&catalog), [1]);
    // What was read of a mark is not read again where a listing tells that it is the same.
    let catalog = self::catalog(&bucket, CatalogOptions::default());
    catalog.sync().await.unwrap();
    counters.reset();
    catalog.sync().await.unwrap();
    assert_eq!(counters.of(Op::Get).requests, 0);
    assert_eq!(served(&catalog), [1]);
}
