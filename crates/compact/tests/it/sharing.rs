use std::collections::BTreeMap;
use std::sync::Arc;

use block::meta::Thanos;
use bucket::marks::{self, DeletionMark};
use bucket::{Config, Put};
use compact::claims::{Claims, Settings};
use model::time::WallClock;
use s3kit::{Op, Server};
use ulid::Ulid;

use crate::kit::*;

async fn fill(bench: &Bench, groups: usize, blocks: i64) {
    for group in 0..groups {
        for n in 0..blocks {
            let range = (n * 2 * HOUR, (n + 1) * 2 * HOUR);
            let name = 1000 * (group as u64 + 1) + n as u64;
            let tenant = group.to_string();
            let external = [("tenant", tenant.as_str())];
            put(
                &bench.bucket,
                name,
                range,
                &external,
                &ramps(2, range.0, range.1),
            )
            .await;
        }
    }
}

#[test]
fn several_divide_the_work() {
    run(async {
        for count in [2usize, 4] {
            let server = Server::start(s3kit::Config::default()).unwrap();
            let bench = Bench::new(s3(&server));
            // In one group, too, there is work for several.
            fill(&bench, 2, 13).await;
            let before = bench.answers().await;
            let mut running = Vec::new();
            for n in 0..count {
                let mut options = bench.options();
                options.data_dir.push(n.to_string());
                options.concurrency = 1;
                options.downsampling = false;
                let compactor = bench
                    .compactor_on(s3(&server), &format!("compactor-{n}"), options)
                    .await
                    .unwrap();
                running.push(tokio::spawn(async move {
                    for _ in 0..20 {
                        compactor.iterate().await.unwrap();
                        assert!(compactor.halted().is_empty(), "{:?}", compactor.halted());
                        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                    }
                }));
            }
            for task in running {
                task.await.unwrap();
            }
            assert_eq!(bench.answers().await, before);
            let served = bench.served().await;
            assert_eq!(
                served.len(),
                2 * 4,
                "three times eight hours and the newest two, for each tenant"
            );

            // Every block went into one block, once.
            let mut parents: BTreeMap<Ulid, usize> = BTreeMap::new();
            let mut made = 0;
            for folder in bench.folders().await.keys() {
                let Ok(text) = bench.bucket.get(&format!("{folder}/meta.json")).await else {
                    continue;
                };
                let meta = block::Meta::parse(&text).unwrap();
                made += usize::from(meta.compaction.level > 1);
                for parent in &meta.compaction.parents {
                    *parents.entry(parent.ulid).or_default() += 1;
                }
            }
            assert_eq!(made, 2 * 3);
            assert!(parents.values().all(|n| *n == 1), "{parents:?}");
        }
    });
}

#[test]
fn a_stranger_halts_the_group() {
    run(async {
        let bench = Bench::new(bucket::Bucket::in_memory());
        fill(&bench, 1, 5).await;
        let compactor = bench.compactor("a", bench.options()).await.unwrap();
        compactor.iterate().await.unwrap();
        assert!(compactor.halted().is_empty());

        // Somebody else compacts, too.
        let series = ramps(1, 100 * HOUR, 102 * HOUR);
        let range = (100 * HOUR, 102 * HOUR);
        let mut meta = put(&bench.bucket, 9000, range, &[("tenant", "0")], &series).await;
        let old = meta.ulid;
        meta.ulid = Ulid::generate();
        for file in ["chunks/000001", "index"] {
            let bytes = bench.bucket.get(&format!("{old}/{file}")).await.unwrap();
            let key = format!("{}/{file}", meta.ulid);
            bench.bucket.put(&key, bytes, Put::Overwrite).await.unwrap();
        }
        meta.thanos = Some(Thanos {
            source: "compactor".into(),
            ..meta.thanos.unwrap()
        });
        let key = format!("{}/meta.json", meta.ulid);
        bench
            .bucket
            .put(&key, meta.to_json().into(), Put::Overwrite)
            .await
            .unwrap();
        marks::delete_block(&bench.bucket, old).await.unwrap();
        for n in 5..10 {
            let range = (n * 2 * HOUR, (n + 1) * 2 * HOUR);
            put(
                &bench.bucket,
                1000 + n as u64,
                range,
                &[("tenant", "0")],
                &ramps(1, range.0, range.1),
            )
            .await;
        }
        let before = bench.served().await;
        // The clock of the test stands still; the block must look younger than our beginning.
        compactor.iterate().await.unwrap();
        let halted = compactor.halted();
        let reason = halted.values().next().expect("halted");
        assert!(reason.contains("another compactor"), "{reason}");
        assert_eq!(bench.served().await, before, "nothing was touched");

        // That it is well now, its blocks do not show: it is examined again after a while.
        let (group, _) = halted.iter().next().unwrap();
        let claims = format!("epimetheus/compact/{group}.json");
        bench.bucket.delete(&claims).await.unwrap();
        compactor.iterate().await.unwrap();
        assert_eq!(compactor.halted(), halted);
        bench.later(HOUR);
        compactor.iterate().await.unwrap();
        assert!(compactor.halted().is_empty(), "{:?}", compactor.halted());
        assert!(bench.served().await.len() < before.len());
    });
}

#[test]
fn a_mark_of_another_halts_the_group() {
    run(async {
        let server = Server::start(s3kit::Config::default()).unwrap();
        let bench = Bench::new(s3(&server));
        fill(&bench, 1, 5).await;
        let compactor = bench.compactor("a", bench.options()).await.unwrap();
        // While the job runs, somebody marks an input.
        server.set_latency(std::time::Duration::from_millis(30));
        let marked = Ulid::from_parts(1001, 1001 * 7919);
        let other = s3(&server);
        let gets = server
            .counters()
            .requests(Op::Get, &format!("{marked}/chunks"));
        let marker = async {
            while server
                .counters()
                .requests(Op::Get, &format!("{marked}/chunks"))
                == gets
            {
                tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            }
            let mark = DeletionMark::new(marked, "by hand", 0);
            marks::write(&other, marked, &mark).await.unwrap();
        };
        let (result, ()) = tokio::join!(compactor.iterate(), marker);
        result.unwrap();
        let halted = compactor.halted();
        let reason = halted.values().next().expect("halted");
        assert!(reason.contains("by hand"), "{reason}");
        let made = bench
            .served()
            .await
            .iter()
            .filter(|m| m.compaction.level > 1)
            .count();
        assert_eq!(made, 0);
    });
}

fn settings(owner: &str, place: Option<&str>) -> Settings {
    Settings {
        owner: owner.to_owned(),
        place: place.map(str::to_owned),
        time_to_live: std::time::Duration::from_secs(60),
        clock: Arc::new(WallClock),
    }
}

#[test]
fn what_was_killed_leaves_its_claims_to_the_next_one_in_its_place() {
    run(async {
        let server = Server::start(s3kit::Config::default()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let config = Config::filesystem(dir.path());
        let alone = bucket::open(&config, &metrics::Registry::new()).unwrap();
        let at = |owner: &str, place: &str| settings(&format!("{owner}.{place}"), Some(place));
        let begin = Claims::begin;
        let inputs = [Ulid::from_parts(1, 1), Ulid::from_parts(2, 2)];
        let first = begin(s3(&server), at("1", "host.A")).await.unwrap();
        first.state("group").await.unwrap();
        let held = first.claim("group", &inputs, Ulid::from_parts(3, 3)).await;
        // It ends without a word, and does not know it.
        let held = held.unwrap().unwrap();
        begin(Arc::clone(&alone), at("1", "host.A")).await.unwrap();

        // Elsewhere its claim holds.
        for place in ["host.B", "other.A"] {
            let other = begin(s3(&server), at("2", place)).await.unwrap();
            let state = other.state("group").await.unwrap();
            assert_eq!(state.busy(0).count(), 2, "{place}");
            let claimed = other.claim("group", &inputs, Ulid::from_parts(4, 4)).await;
            assert!(claimed.unwrap().is_none(), "{place}");
            assert!(begin(Arc::clone(&alone), at("2", place)).await.is_err());
        }
        // In its place it is nobody's, and whoever thought to have it finds out.
        let next = begin(s3(&server), at("3", "host.A")).await.unwrap();
        let state = next.state("group").await.unwrap();
        assert_eq!(state.busy(0).count(), 0);
        let output = Ulid::from_parts(5, 5);
        let claimed = next.claim("group", &inputs, output).await.unwrap().unwrap();
        assert!(claimed.confirm().await.unwrap());
        assert!(!held.confirm().await.unwrap());
        begin(alone, at("3", "host.A")).await.unwrap();
    });
}

#[test]
fn where_nothing_is_compared_one_works_alone() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let config = Config::filesystem(dir.path());
        let bucket = bucket::open(&config, &metrics::Registry::new()).unwrap();
        let bench = Bench::new(bucket);
        fill(&bench, 1, 5).await;
        let before = bench.answers().await;
        let settings = |owner: &str| settings(owner, None);
        let claims = Claims::begin(Arc::clone(&bench.bucket), settings("first"))
            .await
            .unwrap();
        assert!(!claims.shared());
        let e = Claims::begin(Arc::clone(&bench.bucket), settings("second")).await;
        let e = e.err().unwrap().to_string();
        assert!(
            e.contains("no conditional writes") && e.contains("first"),
            "{e}"
        );
        claims.end().await;
        let compactor = bench.compactor("third", bench.options()).await.unwrap();
        compactor.iterate().await.unwrap();
        assert_eq!(bench.answers().await, before);
        assert_eq!(bench.served().await.len(), 2);
    });
}
