use block::merge::{Merged, Merger, Overlap};
use chunk::{Columns, aggregate};
use model::source::Aggregate;
use model::{Encoding, Labels, Sample};

use crate::kit::*;

/// A column of all series of a block.
async fn column(bench: &Bench, meta: &block::Meta, wanted: Aggregate) -> Vec<Columns> {
    let blocks = bench.open(std::slice::from_ref(meta)).await;
    let read = move || {
        let (mut merger, _) = Merger::new(&blocks, Overlap::Unite).unwrap();
        let mut merged = Merged::default();
        let mut all = Vec::new();
        while merger.next(&mut merged).unwrap() {
            let mut columns = Columns::default();
            for c in &merged.chunks {
                assert_eq!(c.encoding, Encoding::AGGREGATE);
                for part in aggregate::parts(&c.data).map(Result::unwrap) {
                    if part.aggregate == wanted {
                        chunk::decode(part.encoding, &c.data[part.range], &mut columns).unwrap();
                    }
                }
            }
            all.push(columns);
        }
        all
    };
    tokio::task::spawn_blocking(read).await.unwrap()
}

#[test]
fn long_blocks_are_downsampled_twice() {
    run(async {
        let bench = Bench::new(bucket::Bucket::in_memory());
        let days = 14;
        let external = [("region", "eu")];
        let series = ramps(2, 0, days * DAY);
        let raw = put(&bench.bucket, 100, (0, days * DAY), &external, &series).await;
        put(
            &bench.bucket,
            101,
            (days * DAY, days * DAY + 2 * HOUR),
            &external,
            &ramps(1, days * DAY, days * DAY + HOUR),
        )
        .await;
        let before = bench.answers().await;
        let compactor = bench.compactor("a", bench.options()).await.unwrap();
        compactor.iterate().await.unwrap();

        let served = bench.served().await;
        let mut resolutions: Vec<i64> = served.iter().map(|m| m.resolution()).collect();
        resolutions.sort_unstable();
        assert_eq!(resolutions, [0, 0, 300_000, 3_600_000]);
        for (resolution, per_window) in [(300_000, 5.0), (3_600_000, 60.0)] {
            let meta = served
                .iter()
                .find(|m| m.resolution() == resolution)
                .unwrap();
            assert_eq!(meta.compaction, raw.compaction);
            assert_eq!((meta.min_time, meta.max_time), (0, days * DAY));
            assert_eq!(meta.thanos.as_ref().unwrap().source, "compactor");
            for (n, counts) in column(&bench, meta, Aggregate::Count)
                .await
                .iter()
                .enumerate()
            {
                assert_eq!(counts.len() as i64, days * DAY / resolution, "{n}");
                assert!(counts.values.iter().all(|v| *v == per_window));
            }
            let maxima = column(&bench, meta, Aggregate::Max).await;
            let (labels, samples) = series.iter().nth(1).unwrap();
            let last = samples.last().unwrap();
            assert_eq!(maxima[1].values.last(), Some(&last.value), "{labels}");
        }
        assert_eq!(bench.answers().await, before);

        // Once is enough.
        compactor.iterate().await.unwrap();
        assert_eq!(bench.served().await.len(), 4);
    });
}

#[test]
fn counters_rise_as_much_as_the_raw_ones() {
    run(async {
        let bench = Bench::new(bucket::Bucket::in_memory());
        let labels = Labels::from_pairs([("__name__", "c_total")]);
        let mut value = 0.0;
        let mut rise = 0.0;
        let mut samples = Vec::new();
        for i in 0..12 * 24 * 60i64 {
            let step = (i * 7919 % 13) as f64;
            // A reset every 1001 minutes.
            value = if i % 1001 == 1000 { step } else { value + step };
            rise += if i == 0 { 0.0 } else { step };
            samples.push(Sample {
                ts: i * 60_000,
                value,
            });
        }
        let series = [(labels, samples)].into();
        put(
            &bench.bucket,
            100,
            (0, 12 * DAY),
            &[("region", "eu")],
            &series,
        )
        .await;
        let compactor = bench.compactor("a", bench.options()).await.unwrap();
        compactor.iterate().await.unwrap();
        for meta in bench.served().await.iter().filter(|m| m.resolution() > 0) {
            let blocks = bench.open(std::slice::from_ref(meta)).await;
            let read = move || {
                let (mut merger, _) = Merger::new(&blocks, Overlap::Unite).unwrap();
                let mut merged = Merged::default();
                assert!(merger.next(&mut merged).unwrap());
                let mut counter = aggregate::Counter::default();
                let mut all = Columns::default();
                for c in &merged.chunks {
                    let mut columns = Columns::default();
                    let part = aggregate::parts(&c.data)
                        .map(Result::unwrap)
                        .last()
                        .unwrap();
                    assert_eq!(part.aggregate, Aggregate::Counter);
                    chunk::decode(part.encoding, &c.data[part.range], &mut columns).unwrap();
                    counter.add(&columns, &mut all);
                }
                all.values.last().unwrap() - all.values[0]
            };
            let read = tokio::task::spawn_blocking(read).await.unwrap();
            assert_eq!(read, rise, "resolution {}", meta.resolution());
        }
    });
}
