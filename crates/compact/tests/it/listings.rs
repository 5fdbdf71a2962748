//! Listings that change under the compactor and the tools: whatever they leave out, repeat or show that is gone, no
//! sample is lost and none is altered.

use block::meta::File;
use bucket::Put;
use compact::Options;
use s3kit::{Server, Wild};
use ulid::Ulid;

use crate::kit::*;

/// Blocks of two hours, of two series.
async fn filled(server: &Server) -> Bench {
    let bench = Bench::new(s3(server));
    for n in 0..6 {
        let range = (n * 2 * HOUR, (n + 1) * 2 * HOUR);
        let external = [("region", "eu")];
        let series = ramps(2, range.0, range.1);
        put(&bench.bucket, 100 + n as u64, range, &external, &series).await;
    }
    bench
}

fn wild(seed: u64) -> Wild {
    Wild {
        hidden: [0.0, 0.05, 0.3][seed as usize % 3],
        ghosts: [0.5, 0.0][seed as usize % 2],
        repeated: 0.4,
        cut: [0.0, 0.2][seed as usize / 2 % 2],
        page: 2 + seed as usize % 5,
        seed,
    }
}

#[test]
fn compactors_lose_nothing_by_listings_that_change() {
    run(async {
        let mut changed = 0;
        for seed in 0..9 {
            let server = Server::start(s3kit::Config::default()).unwrap();
            let bench = filled(&server).await;
            let before = bench.answers().await;
            let options = Options {
                vertical: true,
                ..bench.options()
            };
            let compactor = bench.compactor("a", options).await.unwrap();
            // Everything is old enough to be deleted, if it should be.
            for _ in 0..5 {
                server.listings().set(Some(wild(seed)));
                // What it cannot do, it says.
                let _ = compactor.iterate().await;
                server.listings().set(None);
                assert_eq!(bench.answers().await, before, "seed {seed}");
                bench.later(50 * HOUR);
            }
            changed += server.listings().changed();
            // Once listings are right, it is as if they always had been.
            for _ in 0..3 {
                compactor.iterate().await.unwrap();
                bench.later(100 * HOUR);
            }
            assert!(
                compactor.halted().is_empty(),
                "{seed}: {:?}",
                compactor.halted()
            );
            assert_eq!(bench.answers().await, before, "seed {seed}");
            let ranges: Vec<_> = bench
                .served()
                .await
                .iter()
                .map(|m| m.min_time / HOUR)
                .collect();
            assert!(ranges.len() <= 3, "seed {seed}: {ranges:?}");
            for (folder, files) in bench.folders().await {
                let whole = ["chunks/000001", "index", "meta.json"];
                assert!(
                    folder == "epimetheus" || files == whole,
                    "seed {seed}: {folder} {files:?}"
                );
            }
        }
        assert!(changed > 100, "{changed} pages");
    });
}

#[test]
fn what_a_listing_leaves_out_is_not_taken_for_missing() {
    run(async {
        let server = Server::start(s3kit::Config::default()).unwrap();
        let bench = filled(&server).await;
        let block = bench.served().await[0].clone();
        // It looks like an upload that was given up long ago.
        let nothing = Wild {
            hidden: 1.0,
            ..Wild::default()
        };
        bench.later(100 * HOUR);
        let compactor = bench.compactor("a", bench.options()).await.unwrap();
        for seed in 0..40 {
            server.listings().set(Some(Wild {
                hidden: 0.4,
                seed,
                ..Wild::default()
            }));
            let _ = compactor.clean().await;
        }
        server.listings().set(None);
        assert_eq!(bench.served().await.len(), 6, "nothing was deleted");

        // A copy is a whole block or none.
        let to = bucket::Bucket::in_memory();
        let mut named = block.clone();
        let files = ["chunks/000001", "index", "meta.json"].map(|path| File {
            rel_path: path.to_owned(),
            ..File::default()
        });
        named.thanos.get_or_insert_default().files = files.into();
        let key = format!("{}/meta.json", block.ulid);
        let json = named.to_json();
        bench
            .bucket
            .put(&key, json.into(), Put::Overwrite)
            .await
            .unwrap();
        server.listings().set(Some(nothing));
        let refused = compact::replicate::replicate(&bench.bucket, &to, block.ulid).await;
        let error = refused.unwrap_err().to_string();
        assert!(
            error.contains("listing does not show") && error.contains("chunks/000001"),
            "{error}"
        );
        assert!(!to.exists(&key).await.unwrap());
        server.listings().set(None);
        let copied = compact::replicate::replicate(&bench.bucket, &to, block.ulid).await;
        assert_eq!(copied.unwrap(), compact::replicate::Replicated::Copied(3));
    });
}

#[test]
fn no_segment_takes_the_place_of_another() {
    let object = |path: &str| bucket::Object {
        key: format!("{}/{path}", Ulid::nil()),
        size: 100,
        modified: 0,
        etag: None,
    };
    let twice = [
        "chunks/000001",
        "chunks/000001",
        "chunks/000002",
        "index",
        "index",
    ];
    let files = compact::input::Files::of(&twice.map(object));
    let names: Vec<&str> = files.segments.iter().map(|s| s.0.as_str()).collect();
    assert_eq!(names, ["000001", "000002"]);
    run(async {
        let bucket = bucket::Bucket::in_memory();
        let meta = block::Meta::new(Ulid::nil(), model::TimeRange::new(0, 1));
        let files = compact::input::Files::of(&["chunks/000002", "index"].map(object));
        let runtime = tokio::runtime::Handle::current();
        let open =
            move || compact::input::open_listed(&bucket, &runtime, &meta, &files, 1 << 20).err();
        let error = tokio::task::spawn_blocking(open).await.unwrap().unwrap();
        assert!(
            error.to_string().contains("has no chunk segment 000001"),
            "{error}"
        );
    });
}
