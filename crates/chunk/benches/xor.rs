//! XOR chunks: encode and decode, per sample.

use chunk::{Columns, xor};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;

const SAMPLES: usize = 120;

/// Shapes of real series: constant, counters with small steps, noisy gauges; with and without
/// jitter in time.
fn shapes() -> Vec<(&'static str, Vec<(i64, f64)>)> {
    let mut seed = 42u64;
    let mut random = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    let ts = |i: usize| 1_700_000_000_000 + i as i64 * 15_000;
    let constant = (0..SAMPLES).map(|i| (ts(i), 1.0)).collect();
    let mut n = 0.0;
    let counter = (0..SAMPLES)
        .map(|i| {
            n += (random() % 50) as f64;
            (ts(i), n)
        })
        .collect();
    let gauge = (0..SAMPLES)
        .map(|i| (ts(i), (random() % 10_000) as f64 / 10_000.0))
        .collect();
    let mut n = 0.0;
    let jitter = (0..SAMPLES)
        .map(|i| {
            n += (random() % 5000) as f64 / 7.0;
            (ts(i) + (random() % 7) as i64, n)
        })
        .collect();
    vec![
        ("constant", constant),
        ("counter", counter),
        ("gauge", gauge),
        ("jitter", jitter),
    ]
}

fn encode(samples: &[(i64, f64)], buf: Vec<u8>) -> Vec<u8> {
    let mut e = xor::Encoder::reuse(buf);
    for &(t, v) in samples {
        e.append(t, v);
    }
    e.into_bytes()
}

fn bench(c: &mut Criterion) {
    let mut group = c.benchmark_group("decode");
    for (name, samples) in shapes() {
        // Many chunks, so that branches are not learned by heart.
        let chunks: Vec<_> = (0..200)
            .map(|k| {
                let moved: Vec<_> = samples
                    .iter()
                    .enumerate()
                    .map(|(i, &(t, v))| {
                        (
                            t,
                            if name == "constant" {
                                v
                            } else {
                                v + ((i * k) % 13) as f64
                            },
                        )
                    })
                    .collect();
                encode(&moved, Vec::new())
            })
            .collect();
        group.throughput(Throughput::Elements((SAMPLES * chunks.len()) as u64));
        let mut out = Columns::default();
        group.bench_function(name, |b| {
            b.iter(|| {
                for chunk in &chunks {
                    out.clear();
                    xor::decode(black_box(chunk), &mut out).expect("our own chunk");
                }
                out.len()
            })
        });
    }
    group.finish();
    let mut group = c.benchmark_group("encode");
    for (name, samples) in shapes() {
        group.throughput(Throughput::Elements(SAMPLES as u64));
        let mut buf = Vec::new();
        group.bench_function(name, |b| {
            b.iter(|| {
                buf = encode(black_box(&samples), std::mem::take(&mut buf));
                buf.len()
            })
        });
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
