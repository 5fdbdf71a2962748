//! Series whose retention is over while that of their blocks is not.

use std::sync::Arc;

use bucket::marks::{self, DeletionMark, NoCompactMark};
use compact::Options;
use compact::job::made_by_us;
use compact::retention::{Keep, Retention, SeriesRule};
use model::time::Clock as _;
use model::{Labels, MatchOp, Matcher};

use crate::kit::*;

fn rule(blocks: &[Matcher], series: Matcher, raw: i64) -> Arc<SeriesRule> {
    Arc::new(SeriesRule {
        blocks: blocks.to_vec(),
        text: format!("{{{}={}}}", series.name, series.value),
        series: vec![series],
        keep: Keep {
            raw,
            ..Keep::default()
        },
    })
}

fn m(n: usize) -> Labels {
    Labels::from_pairs([("__name__", "m"), ("n", &n.to_string())])
}

/// Of three series in blocks of ten days ago: of tenant dev, the second is kept for five days, the
/// third for ever, whatever a later rule says.
async fn filled() -> (Bench, Options, Vec<block::Meta>) {
    let bench = Bench::new(bucket::Bucket::in_memory());
    let now = bench.clock.now();
    let start = now - now % (8 * HOUR) - 10 * DAY;
    let mut metas = Vec::new();
    for (n, (tenant, ago)) in [("dev", 0), ("prod", 2 * HOUR), ("dev", 8 * DAY)]
        .into_iter()
        .enumerate()
    {
        let from = start + ago;
        let series = ramps(3, from, from + HOUR);
        let range = (from, from + 2 * HOUR);
        let external = [("tenant", tenant)];
        metas.push(put(&bench.bucket, 100 + n as u64, range, &external, &series).await);
    }
    let dev = [Matcher::equal("tenant", "dev")];
    let options = Options {
        retention: Retention {
            series: vec![
                rule(&dev, Matcher::equal("n", "2"), 0),
                rule(
                    &dev,
                    Matcher::new(MatchOp::Regex, "n", "[12]").unwrap(),
                    5 * DAY,
                ),
            ],
            ..Retention::default()
        },
        ..bench.options()
    };
    (bench, options, metas)
}

async fn numbers(bench: &Bench, block: &block::Meta) -> Vec<String> {
    let opened = bench.open(std::slice::from_ref(block)).await;
    let values = opened[0].index().table().values("n", "");
    values.map(|(value, _)| value.to_owned()).collect()
}

#[test]
fn they_go_and_their_block_stays() {
    run(async {
        let (bench, options, metas) = filled().await;
        let mark = NoCompactMark::new(metas[0].ulid, "manual", "by hand", 0);
        marks::write(&bench.bucket, metas[0].ulid, &mark)
            .await
            .unwrap();
        let before = bench.answers().await;
        let compactor = bench.compactor("a", options.clone()).await.unwrap();
        compactor.iterate().await.unwrap();
        // Whoever serves the old block goes on until its mark counts.
        assert_eq!(bench.answers().await, before);
        bench.later(25 * HOUR);
        let mut want = before.clone();
        let gone = want.get_mut(&m(1)).unwrap();
        let old = metas[0].min_time..metas[0].max_time;
        gone.retain(|s| !old.contains(&s.ts));
        assert_eq!(bench.answers().await, want);

        let served = bench.served().await;
        assert_eq!(served.len(), 3);
        let new = served.iter().find(|meta| made_by_us(meta)).unwrap();
        assert_eq!(new.compaction.sources, metas[0].compaction.sources);
        assert_eq!(new.stats.num_series, 2);
        let thanos = new.thanos.as_ref().unwrap();
        assert_eq!(thanos.labels["tenant"], "dev");
        let deleted = &thanos.rewrites[0]["deletions_applied"];
        assert_eq!(deleted[0]["matchers"], "{n=[12]}");
        assert_eq!(deleted.as_array().unwrap().len(), 1);
        assert_eq!(numbers(&bench, new).await, ["0", "2"]);
        let mark = marks::read::<NoCompactMark>(&bench.bucket, new.ulid)
            .await
            .unwrap();
        assert_eq!(mark.unwrap().details, "by hand");

        // It is done, also for the next process; and after the delay nothing of the old block is left.
        let count = async || bench.folders().await.len();
        let (folders, next) = (count().await, bench.compactor("b", options).await.unwrap());
        next.iterate().await.unwrap();
        next.iterate().await.unwrap();
        assert_eq!(count().await, folders);
        bench.later(25 * HOUR);
        next.iterate().await.unwrap();
        assert_eq!(count().await, folders - 1);
        assert_eq!(bench.answers().await, want);
        assert!(next.halted().is_empty(), "{:?}", next.halted());
    });
}

#[test]
fn a_block_that_has_none_of_them_is_looked_into_once() {
    run(async {
        let (bench, mut options, metas) = filled().await;
        options.retention.series = vec![rule(&[], Matcher::equal("n", "no such"), DAY)];
        // Nobody else needs an index, either.
        options.planner.max_index_size = u64::MAX;
        let compactor = bench.compactor("a", options.clone()).await.unwrap();
        compactor.iterate().await.unwrap();
        assert_eq!(bench.served().await, metas);
        let seen = bench.folders().await["epimetheus"].clone();
        assert!(seen.iter().any(|f| f.starts_with("retention/")), "{seen:?}");
        // An index that is not there cannot be looked into.
        for meta in &metas {
            let key = format!("{}/index", meta.ulid);
            bench.bucket.delete(&key).await.unwrap();
        }
        let next = bench.compactor("b", options.clone()).await.unwrap();
        next.iterate().await.unwrap();
        assert!(next.halted().is_empty(), "{:?}", next.halted());
        // Other rules are another thing.
        options
            .retention
            .series
            .push(rule(&[], Matcher::equal("n", "1"), DAY));
        let next = bench.compactor("c", options).await.unwrap();
        next.iterate().await.unwrap();
        assert!(!next.halted().is_empty());
    });
}

#[test]
fn what_was_written_again_stands_for_the_old_block_though_that_was_not_marked() {
    run(async {
        let (bench, options, metas) = filled().await;
        let compactor = bench.compactor("a", options.clone()).await.unwrap();
        compactor.iterate().await.unwrap();
        let old = metas[0].ulid;
        // As if it had ended between the two writes.
        marks::remove::<DeletionMark>(&bench.bucket, old)
            .await
            .unwrap();
        let next = bench.compactor("b", options).await.unwrap();
        next.iterate().await.unwrap();
        assert!(next.halted().is_empty(), "{:?}", next.halted());
        let mark = marks::read::<DeletionMark>(&bench.bucket, old)
            .await
            .unwrap();
        assert!(mark.is_some());
        bench.later(49 * HOUR);
        next.iterate().await.unwrap();
        let served = bench.served().await;
        assert_eq!(served.len(), 3);
        assert!(served.iter().any(made_by_us) && served.iter().all(|b| b.ulid != old));
    });
}

#[test]
fn a_block_of_nothing_else_goes() {
    run(async {
        let (bench, mut options, metas) = filled().await;
        options.retention.series = vec![rule(&[], Matcher::equal("__name__", "m"), 3 * DAY)];
        let compactor = bench.compactor("a", options).await.unwrap();
        compactor.iterate().await.unwrap();
        for (meta, over) in metas.iter().zip([true, true, false]) {
            let mark = marks::read::<DeletionMark>(&bench.bucket, meta.ulid)
                .await
                .unwrap();
            assert_eq!(mark.is_some(), over);
        }
    });
}
