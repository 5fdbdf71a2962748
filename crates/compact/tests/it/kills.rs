//! The compactor ends at any request. The next one finds a bucket that it can heal.

use s3kit::{Fault, Rule, Server};

use crate::kit::*;

async fn filled(server: &Server) -> Bench {
    let bench = Bench::new(s3(server));
    for n in 0..5 {
        let range = (n * 2 * HOUR, (n + 1) * 2 * HOUR);
        let external = [("region", "eu")];
        put(
            &bench.bucket,
            100 + n as u64,
            range,
            &external,
            &ramps(2, range.0, range.1),
        )
        .await;
    }
    // One that is downsampled, and one whose time is over.
    let long = (-60 * DAY, -58 * DAY);
    put(
        &bench.bucket,
        50,
        long,
        &[("region", "us")],
        &ramps(1, long.0, long.1),
    )
    .await;
    bench
}

/// Ends a compactor at request `n`; with `lost`, that request is still carried out. Then another one
/// heals. Gives whether the first one was ended at all.
async fn ended_at(n: u64, lost: bool) -> bool {
    let server = Server::start(s3kit::Config::default()).unwrap();
    let bench = filled(&server).await;
    let before = bench.answers().await;
    let compactor = bench.compactor("first", bench.options()).await.unwrap();
    if lost {
        server.faults().add(Rule::once(Fault::LostAnswer).after(n));
    }
    server.faults().add(Rule::always(Fault::Internal).after(n));
    let _ = compactor.iterate().await;
    let struck = server.faults().struck() > 0;
    drop(compactor);
    server.faults().clear();
    assert_eq!(bench.answers().await, before, "ended at {n}");

    // The claims of the first one run out.
    bench.later(60_000);
    let compactor = bench.compactor("second", bench.options()).await.unwrap();
    compactor.iterate().await.unwrap();
    assert!(
        compactor.halted().is_empty(),
        "{n}: {:?}",
        compactor.halted()
    );
    assert_eq!(bench.answers().await, before, "healed after {n}");
    let shape = |metas: &[block::Meta]| -> Vec<(i64, i64, i64)> {
        let mut shape: Vec<_> = metas
            .iter()
            .map(|m| (m.resolution(), m.min_time / HOUR, m.max_time / HOUR))
            .collect();
        shape.sort_unstable();
        shape
    };
    let want = [
        (0, -60 * 24, -58 * 24),
        (0, 0, 8),
        (0, 8, 10),
        (300_000, -60 * 24, -58 * 24),
    ];
    assert_eq!(shape(&bench.served().await), want, "ended at {n}");

    // Nothing that is no block stays.
    bench.later(100 * HOUR);
    compactor.iterate().await.unwrap();
    let folders = bench.folders().await;
    assert_eq!(folders.len(), want.len() + 1, "ended at {n}: {folders:?}");
    for (folder, files) in &folders {
        if folder != "epimetheus" {
            assert_eq!(files, &["chunks/000001", "index", "meta.json"], "{folder}");
        }
    }
    assert_eq!(server.open_uploads(), 0);
    assert_eq!(bench.answers().await, before);
    struck
}

/// Every third request; all of them, carried out or not, with EPIMETHEUS_THOROUGH in the environment.
#[test]
fn any_request_may_be_the_last() {
    run(async {
        let thorough = std::env::var_os("EPIMETHEUS_THOROUGH").is_some();
        let mut n = 0;
        while ended_at(n, n % 2 == 1).await {
            if thorough {
                ended_at(n, n % 2 == 0).await;
            }
            n += if thorough { 1 } else { 3 };
        }
        assert!(n > 40, "{n} requests are few for all that work");
    });
}
