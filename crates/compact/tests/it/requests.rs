//! What compactions ask of a bucket, counted at the S3 server.

use s3kit::{Op, Server};

use crate::kit::*;

/// Five blocks of two hours, of which four become one.
async fn fill(bench: &Bench) {
    for n in 0..5i64 {
        let range = (n * 2 * HOUR, (n + 1) * 2 * HOUR);
        let series = ramps(200, range.0, range.1);
        put(
            &bench.bucket,
            1000 + n as u64,
            range,
            &[("tenant", "a")],
            &series,
        )
        .await;
    }
}

#[test]
fn a_compaction_asks_no_more_than_it_must() {
    run(async {
        let server = Server::start(s3kit::Config::default()).unwrap();
        let bench = Bench::new(s3(&server));
        fill(&bench).await;
        let counters = server.counters();
        counters.reset();
        let compactor = bench.compactor("one", bench.options()).await.unwrap();
        // Whether writes can be conditional.
        assert_eq!(counters.all().requests, 5);
        counters.reset();
        compactor.iterate().await.unwrap();
        let of = |op| counters.of(op).requests;
        // The bucket is looked at before and after, and the inputs twice, all of them at once.
        assert_eq!(of(Op::List), 5, "{:#?}", counters.log());
        assert_eq!(of(Op::Head), 0);
        // Metas, marks and what others do; the index and four small segments of each input, each in one piece.
        assert_eq!(
            counters.requests(Op::Get, ""),
            6 + 4 + 1 + 4 * (1 + 4),
            "{:#?}",
            counters.log()
        );
        // The state of the group: made, claimed, confirmed, released. The block. The marks of what it is made of.
        assert_eq!(of(Op::Put), 4 + 3 + 4);
        assert_eq!(counters.all().requests, 5 + 31 + 11);

        // An iteration in which there is nothing to do.
        counters.reset();
        compactor.iterate().await.unwrap();
        let log = counters.log();
        assert!(log.iter().all(|r| r.op == Op::List), "{log:#?}");
        assert!(log.len() <= 2, "{log:#?}");
    });
}

#[test]
fn what_is_larger_than_a_window_is_read_once() {
    run(async {
        let server = Server::start(s3kit::Config::default()).unwrap();
        let bench = Bench::new(s3(&server));
        fill(&bench).await;
        let metas = bench.served().await;
        let data = |key: &String| key.ends_with("/index") || key.contains("/chunks/");
        let keys = server.keys_under("");
        let sizes = keys
            .iter()
            .filter(|k| data(k))
            .map(|k| server.get(k).unwrap().len());
        let all = sizes.sum::<usize>() as u64;
        for window in [16 << 10, 64 << 10, 1 << 20] {
            server.counters().reset();
            let (bucket, metas) = (std::sync::Arc::clone(&bench.bucket), metas.clone());
            let runtime = tokio::runtime::Handle::current();
            let read = move || {
                let open = |meta| {
                    compact::input::open(&bucket, &runtime, meta, window)
                        .unwrap()
                        .0
                };
                let blocks: Vec<_> = metas.iter().map(open).collect();
                let (mut merger, _) =
                    block::merge::Merger::new(&blocks, block::merge::Overlap::Unite).unwrap();
                let (mut merged, mut series) = (block::merge::Merged::default(), 0);
                while merger.next(&mut merged).unwrap() {
                    series += 1;
                }
                series
            };
            assert_eq!(tokio::task::spawn_blocking(read).await.unwrap(), 200);
            let read = server.counters().of(Op::Get).bytes_out;
            // The end of an index comes with more than is needed of it; the rest once.
            let more = 5 * (64 << 10);
            assert!(
                read <= all + more && read >= all / 2,
                "{window}: {read} of {all}"
            );
        }
    });
}
