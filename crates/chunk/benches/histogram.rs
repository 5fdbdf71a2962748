//! Histogram chunks: encode and decode, per histogram of 20 buckets.

use std::hint::black_box;

use chunk::Columns;
use chunk::histogram::Encoder;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use model::histogram::{Histogram, IntBuckets, IntHistogram};

const SAMPLES: usize = 120;

/// Counters of which half the buckets grow between scrapes.
fn series(k: u64, floats: bool) -> Vec<Histogram> {
    let mut seed = 42 + k;
    let mut random = move |below: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % below
    };
    let mut counts = [0i64; 20];
    let mut sum = 0.0;
    let mut next = || {
        for _ in 0..10 {
            counts[random(20) as usize] += random(20) as i64;
        }
        sum += random(1000) as f64 / 8.0;
        // Three spans.
        let index = |i: usize| (i + i / 7) as i32;
        let pairs = counts
            .iter()
            .enumerate()
            .map(|(i, count)| (index(i), *count));
        let h = IntHistogram {
            schema: 3,
            zero_threshold: 1e-128,
            count: counts.iter().sum::<i64>() as u64,
            sum,
            positive: IntBuckets::from_pairs(pairs),
            ..IntHistogram::default()
        };
        match floats {
            true => Histogram::Float(h.to_float()),
            false => Histogram::Int(h),
        }
    };
    (0..SAMPLES).map(|_| next()).collect()
}

fn encode(series: &[Histogram]) -> Encoder {
    let mut e = Encoder::new(&series[0], false);
    for (i, h) in series.iter().enumerate() {
        e.append(i as i64 * 15_000, 0, h)
            .expect("buckets that fit their spans");
    }
    e
}

fn bench(c: &mut Criterion) {
    for (name, floats) in [("integer", false), ("float", true)] {
        let all: Vec<_> = (0..50).map(|k| series(k, floats)).collect();
        let chunks: Vec<Encoder> = all.iter().map(|s| encode(s)).collect();
        let mut group = c.benchmark_group(format!("{name}_histogram"));
        group.throughput(Throughput::Elements((SAMPLES * all.len()) as u64));
        let mut out = Columns::default();
        group.bench_function("decode", |b| {
            b.iter(|| {
                for chunk in &chunks {
                    out.clear();
                    chunk::decode(chunk.encoding(), black_box(chunk.bytes()), &mut out)
                        .expect("our own chunk");
                }
                out.histograms.len()
            })
        });
        group.bench_function("encode", |b| {
            b.iter(|| {
                all.iter()
                    .map(|s| encode(black_box(s)).len())
                    .sum::<usize>()
            })
        });
        group.finish();
    }
}

criterion_group!(benches, bench);
criterion_main!(benches);
