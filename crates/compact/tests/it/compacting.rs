use std::collections::BTreeSet;

use block::merge::Overlap;
use bucket::marks::{self, DeletionMark, NoCompactMark};
use compact::job::made_by_us;
use compact::retention::{Keep, Retention};
use model::time::Clock;
use model::{Labels, Sample};
use proptest::prelude::*;

use crate::kit::*;

const EXTERNAL: &[(&str, &str)] = &[("region", "eu")];

#[test]
fn two_hours_become_eight() {
    run(async {
        let bench = Bench::new(bucket::Bucket::in_memory());
        for n in 0..5 {
            let range = (n * 2 * HOUR, (n + 1) * 2 * HOUR);
            let series = ramps(3, range.0, range.1);
            put(&bench.bucket, 100 + n as u64, range, EXTERNAL, &series).await;
        }
        let before = bench.answers().await;
        let compactor = bench.compactor("a", bench.options()).await.unwrap();
        compactor.iterate().await.unwrap();

        let served = bench.served().await;
        let ranges: Vec<_> = served.iter().map(|m| (m.min_time, m.max_time)).collect();
        assert_eq!(ranges, [(0, 8 * HOUR), (8 * HOUR, 10 * HOUR)]);
        let meta = &served[0];
        assert_eq!(
            (meta.compaction.level, meta.compaction.sources.len()),
            (2, 4)
        );
        assert_eq!(meta.compaction.parents.len(), 4);
        let thanos = meta.thanos.as_ref().unwrap();
        assert_eq!(thanos.source, "compactor");
        assert_eq!(thanos.labels["region"], "eu");
        assert_eq!(thanos.segment_files, ["000001"]);
        let files: Vec<&str> = thanos.files.iter().map(|f| f.rel_path.as_str()).collect();
        assert_eq!(files, ["chunks/000001", "index", "meta.json"]);
        assert!(thanos.files[0].size_bytes > 0 && thanos.index_stats.chunk_max_size > 0);
        assert!(thanos.upload_time.is_some());
        assert!(made_by_us(meta) && !made_by_us(&served[1]));
        assert_eq!(bench.answers().await, before);
        let health = compact::health::of_index(&bench.open(&served).await[0]).unwrap();
        assert!(health.is_good(), "{health:?}");

        // Nothing is left on the disk; the old blocks go after their delay.
        assert_eq!(
            std::fs::read_dir(bench.dir.path())
                .unwrap()
                .flatten()
                .flat_map(|g| std::fs::read_dir(g.path()).unwrap())
                .count(),
            0
        );
        assert_eq!(bench.folders().await.len(), 6 + 1);
        bench.later(49 * HOUR);
        compactor.iterate().await.unwrap();
        let folders = bench.folders().await;
        let names: BTreeSet<String> = folders.keys().cloned().collect();
        let mut want: BTreeSet<String> = served.iter().map(|m| m.ulid.to_string()).collect();
        want.insert("epimetheus".into());
        assert_eq!(names, want);
        assert_eq!(bench.answers().await, before);
    });
}

#[test]
fn overlaps_halt_their_group_and_no_other() {
    run(async {
        let bench = Bench::new(bucket::Bucket::in_memory());
        for n in 0..2 {
            put(
                &bench.bucket,
                100 + n,
                (0, 2 * HOUR),
                EXTERNAL,
                &ramps(1, 0, HOUR),
            )
            .await;
        }
        for n in 0..5 {
            let range = (n * 2 * HOUR, (n + 1) * 2 * HOUR);
            let series = ramps(1, range.0, range.1);
            put(
                &bench.bucket,
                200 + n as u64,
                range,
                &[("region", "us")],
                &series,
            )
            .await;
        }
        let compactor = bench.compactor("a", bench.options()).await.unwrap();
        compactor.iterate().await.unwrap();
        let halted = compactor.halted();
        assert_eq!(halted.len(), 1);
        let reason = halted.values().next().unwrap();
        assert!(reason.contains("overlap"), "{reason}");
        // Of two equal blocks one is garbage only if their sources say so: these differ.
        let served = bench.served().await;
        assert_eq!(served.len(), 2 + 2);

        // One of them is marked: the other is its successor, and nothing overlaps.
        let eu = |m: &&block::Meta| m.thanos.as_ref().unwrap().labels["region"] == "eu";
        let one = served.iter().find(eu).unwrap().ulid;
        let mark = DeletionMark::new(one, "rewritten", Clock::now(&*bench.clock));
        marks::write(&bench.bucket, one, &mark).await.unwrap();
        // The group looks different: it is examined again.
        compactor.iterate().await.unwrap();
        assert!(compactor.halted().is_empty(), "{:?}", compactor.halted());
    });
}

#[test]
fn replicas_become_one() {
    run(async {
        for overlap in [Overlap::Unite, Overlap::Penalty] {
            let bench = Bench::new(bucket::Bucket::in_memory());
            let samples = |offset: i64| -> Vec<Sample> {
                (0..100)
                    .map(|i| Sample {
                        ts: i * 30_000 + offset,
                        value: (i * 10) as f64,
                    })
                    .collect()
            };
            let labels = Labels::from_pairs([("__name__", "up")]);
            for (n, replica) in ["a", "b"].into_iter().enumerate() {
                let series = [(labels.clone(), samples(n as i64 * 3_000))].into();
                let external = [("region", "eu"), ("replica", replica)];
                put(
                    &bench.bucket,
                    100 + n as u64,
                    (0, 2 * HOUR),
                    &external,
                    &series,
                )
                .await;
            }
            let options = compact::Options {
                replica_labels: vec!["replica".into()],
                vertical: true,
                overlap,
                ..bench.options()
            };
            let compactor = bench.compactor("a", options).await.unwrap();
            compactor.iterate().await.unwrap();
            let served = bench.served().await;
            assert_eq!(served.len(), 1);
            let external = &served[0].thanos.as_ref().unwrap().labels;
            assert_eq!(external.len(), 1, "{external:?}");
            let got = bench.answers().await.remove(&labels).unwrap();
            match overlap {
                Overlap::Unite => assert_eq!(got.len(), 200),
                Overlap::Penalty => assert_eq!(got, samples(0)),
            }
        }
    });
}

#[test]
fn marks_are_obeyed_and_set() {
    run(async {
        let bench = Bench::new(bucket::Bucket::in_memory());
        let mut metas = Vec::new();
        for n in 0..5 {
            let range = (n * 2 * HOUR, (n + 1) * 2 * HOUR);
            let series = ramps(1, range.0, range.1);
            metas.push(put(&bench.bucket, 100 + n as u64, range, EXTERNAL, &series).await);
        }
        let mark = NoCompactMark::new(metas[1].ulid, "manual", "", 0);
        marks::write(&bench.bucket, metas[1].ulid, &mark)
            .await
            .unwrap();
        let mut options = bench.options();
        let compactor = bench.compactor("a", options.clone()).await.unwrap();
        compactor.iterate().await.unwrap();
        let ranges = |served: &[block::Meta]| -> Vec<_> {
            served
                .iter()
                .map(|m| (m.min_time / HOUR, m.max_time / HOUR))
                .collect()
        };
        assert_eq!(
            ranges(&bench.served().await),
            [(0, 2), (2, 4), (4, 8), (8, 10)]
        );

        // Now the sum of indexes is too large for anything.
        marks::remove::<NoCompactMark>(&bench.bucket, metas[1].ulid)
            .await
            .unwrap();
        options.planner.max_index_size = 10;
        let compactor = bench.compactor("a", options).await.unwrap();
        compactor.iterate().await.unwrap();
        let mut marked = 0;
        for meta in bench.served().await {
            let mark = marks::read::<NoCompactMark>(&bench.bucket, meta.ulid)
                .await
                .unwrap();
            marked += usize::from(mark.is_some_and(|m| m.reason == "index-size-exceeding"));
        }
        assert!(marked >= 2, "{marked}");
        assert!(compactor.halted().is_empty());
    });
}

#[test]
fn retention_marks_and_deletes() {
    run(async {
        let bench = Bench::new(bucket::Bucket::in_memory());
        let now = Clock::now(&*bench.clock);
        let start = now - now % (2 * HOUR) - 100 * DAY;
        let old = put(
            &bench.bucket,
            100,
            (start, start + 2 * HOUR),
            EXTERNAL,
            &ramps(1, start, start + HOUR),
        )
        .await;
        let recent = start + 98 * DAY;
        let young = put(
            &bench.bucket,
            101,
            (recent, recent + 2 * HOUR),
            EXTERNAL,
            &ramps(1, recent, recent + HOUR),
        )
        .await;
        let kept = put(
            &bench.bucket,
            102,
            (start, start + 2 * HOUR),
            &[("tenant", "forever")],
            &ramps(1, start, start + HOUR),
        )
        .await;
        let options = compact::Options {
            retention: Retention {
                rules: vec![(
                    vec![model::Matcher::equal("tenant", "forever")],
                    Keep::default(),
                )],
                default: Keep {
                    raw: 30 * DAY,
                    ..Keep::default()
                },
                ..Retention::default()
            },
            ..bench.options()
        };
        let compactor = bench.compactor("a", options).await.unwrap();
        compactor.iterate().await.unwrap();
        let mark = marks::read::<DeletionMark>(&bench.bucket, old.ulid)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(mark.details, "block exceeding retention (epimetheus)");
        for other in [&young, &kept] {
            let mark = marks::read::<DeletionMark>(&bench.bucket, other.ulid)
                .await
                .unwrap();
            assert_eq!(mark, None);
        }
        // A mark that was taken back within the delay: the block is there as before.
        bench.later(47 * HOUR);
        compactor.iterate().await.unwrap();
        assert!(bench.folders().await.contains_key(&old.ulid.to_string()));
        bench.later(2 * HOUR);
        compactor.iterate().await.unwrap();
        let folders = bench.folders().await;
        assert!(!folders.contains_key(&old.ulid.to_string()));
        assert!(folders.contains_key(&young.ulid.to_string()));
    });
}

#[test]
fn what_was_never_finished_is_removed_when_it_is_old() {
    run(async {
        let bench = Bench::new(bucket::Bucket::in_memory());
        let meta = put(
            &bench.bucket,
            100,
            (0, 2 * HOUR),
            EXTERNAL,
            &ramps(1, 0, HOUR),
        )
        .await;
        let key = format!("{}/meta.json", meta.ulid);
        bench.bucket.delete(&key).await.unwrap();
        let compactor = bench.compactor("a", bench.options()).await.unwrap();
        compactor.iterate().await.unwrap();
        assert_eq!(bench.folders().await.len(), 1, "it may still be coming");
        bench.later(49 * HOUR);
        compactor.iterate().await.unwrap();
        assert_eq!(bench.folders().await.len(), 0);
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever blocks there are, every answer stays what it was.
    #[test]
    fn answers_stay_what_they_were(
        blocks in prop::collection::vec(
            (0i64..12, prop::collection::btree_map(0usize..4, prop::collection::btree_set(0i64..7_199_999, 1..40), 1..4)),
            1..9,
        ),
        length in prop::sample::select(vec![1i64, 2]),
    ) {
        run(async move {
            let bench = Bench::new(bucket::Bucket::in_memory());
            for (n, (at, series)) in blocks.iter().enumerate() {
                // Some of two hours, some of twice that, so that they overlap.
                let from = at * 2 * HOUR;
                let range = (from, from + 2 * length * HOUR);
                let series: Series = series
                    .iter()
                    .map(|(name, times)| {
                        let labels = Labels::from_pairs([("__name__", "m"), ("n", &name.to_string())]);
                        // A sample's value follows from its time: no block contradicts another.
                        let samples = times.iter().map(|t| Sample { ts: from + t * length, value: ((from + t * length) % 1013) as f64 });
                        (labels, samples.collect())
                    })
                    .collect();
                put(&bench.bucket, 100 + n as u64, range, EXTERNAL, &series).await;
            }
            let before = bench.answers().await;
            let options = compact::Options { vertical: true, ..bench.options() };
            let compactor = bench.compactor("a", options).await.unwrap();
            compactor.iterate().await.unwrap();
            assert!(compactor.halted().is_empty(), "{:?}", compactor.halted());
            assert_eq!(bench.answers().await, before);
            let served = bench.served().await;
            for block in bench.open(&served).await {
                let health = compact::health::of_index(&block).unwrap();
                assert!(health.is_good(), "{health:?}");
            }
            bench.later(60 * HOUR);
            compactor.iterate().await.unwrap();
            assert_eq!(bench.answers().await, before);
            let mut sorted = bench.served().await;
            sorted.sort_by_key(|m| m.min_time);
            assert!(sorted.windows(2).all(|w| w[0].max_time <= w[1].min_time), "no overlaps are left");
        });
    }
}
