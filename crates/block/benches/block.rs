//! A block of 100k series over two hours: opened, searched, selected from, merged.

#![expect(clippy::unwrap_used, reason = "a bench that cannot run should say so")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use block::fs::{Fs, MapFs, OsFs};
use block::index::{Reader, SymbolSet};
use block::merge::{merge, meta_of};
use block::postings::resolve;
use block::read_at::FileAt;
use block::{Block, BlockSource, Chunk, Meta, Writer};
use chunk::{Columns, SeriesDecoder, Want, xor};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use model::{Cancel, Labels, MatchOp, Matcher, Rows, Scope, Select, Source as _, TimeRange};
use tempfile::TempDir;
use ulid::Ulid;

const SERIES: usize = 100_000;
const SAMPLES: usize = 480;
const START: i64 = 1_700_006_400_000;

fn write(dir: &Path, offset: i64) -> PathBuf {
    let mut all: Vec<Labels> = (0..SERIES)
        .map(|i| {
            Labels::from_pairs([
                ("__name__".to_owned(), format!("metric_{}", i / 1000)),
                ("namespace".to_owned(), format!("ns-{}", i % 20)),
                ("pod".to_owned(), format!("pod-{:05}-abcde", i % 5000)),
                ("container".to_owned(), format!("c{}", i % 4)),
                ("job".to_owned(), "kubelet".to_owned()),
                ("instance".to_owned(), format!("10.0.0.{}:9100", i % 100)),
            ])
        })
        .collect();
    all.sort();
    let strings = all.iter().flat_map(|l| l.iter()).flat_map(|(n, v)| [n, v]);
    let symbols = SymbolSet::collect(strings);
    let end = START + 2 * 3_600_000 - 1;
    let meta = Meta::new(Ulid::generate(), TimeRange::new(START, end));
    let mut writer = Writer::create(dir, meta, symbols).unwrap();
    let mut seed = 7u64;
    for labels in &all {
        let mut value = 0.0;
        let encoded: Vec<_> = (0..SAMPLES / 120)
            .map(|c| {
                let ts = |k: usize| START + offset + ((c * 120 + k) as i64) * 15_000;
                let mut e = xor::Encoder::new();
                for k in 0..120 {
                    seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    value += (seed >> 58) as f64;
                    e.append(ts(k), value);
                }
                (ts(0), ts(119), e.into_bytes())
            })
            .collect();
        let chunks: Vec<_> = encoded
            .iter()
            .map(|(min, max, data)| Chunk::xor(*min, *max, data))
            .collect();
        writer.add_labels(labels, &chunks).unwrap();
    }
    let meta = writer.finish().unwrap().unwrap();
    dir.join(meta.ulid.to_string())
}

/// Selects, and with `decode` opens every chunk; gives series and samples.
fn run(source: &BlockSource, matchers: &[Matcher], range: TimeRange, decode: bool) -> usize {
    let scope = Scope::unbounded(range);
    let view = source.open(Arc::clone(&scope)).unwrap();
    let Rows::Cursors(cursors) = view.select(Select::new(matchers.to_vec(), range)) else {
        return 0;
    };
    let (mut decoder, mut columns) = (SeriesDecoder::new(), Columns::default());
    let mut touched = 0;
    for mut cursor in cursors {
        while let Some(batch) = cursor.next().unwrap() {
            touched += batch.len();
            for i in 0..if decode { batch.len() } else { 0 } {
                decoder
                    .decode(&batch, i, &Want::raw(range), &mut columns)
                    .unwrap();
                touched += columns.len();
            }
        }
    }
    touched
}

fn bench(c: &mut Criterion) {
    let dir = TempDir::new().unwrap();
    let path = write(dir.path(), 0);
    let index = path.join("index");
    let mut group = c.benchmark_group("open");
    group.bench_function("index", |b| {
        b.iter(|| {
            Reader::open(Arc::new(FileAt::open(&index).unwrap()))
                .unwrap()
                .memory()
        })
    });
    group.finish();

    let reader = Reader::open(Arc::new(FileAt::open(&index).unwrap())).unwrap();
    let m = |op, name: &str, value: &str| Matcher::new(op, name, value).unwrap();
    let mut group = c.benchmark_group("postings");
    for (name, matchers) in [
        ("equal", vec![Matcher::equal("__name__", "metric_42")]),
        (
            "two_equal",
            vec![
                Matcher::equal("__name__", "metric_42"),
                Matcher::equal("namespace", "ns-7"),
            ],
        ),
        (
            "alternation",
            vec![m(MatchOp::Regex, "namespace", "ns-1|ns-5|ns-7")],
        ),
        (
            "regex_5000_values",
            vec![m(MatchOp::Regex, "pod", "pod-.*[13579]-.*")],
        ),
        (
            "not_one_of_5000",
            vec![
                Matcher::equal("__name__", "metric_42"),
                m(MatchOp::NotRegex, "pod", "pod-0000[0-9]-.*"),
            ],
        ),
        ("all_values", vec![m(MatchOp::Regex, "pod", ".+")]),
    ] {
        group.bench_function(name, |b| {
            b.iter(|| resolve(&reader, &matchers).unwrap().len())
        });
    }
    group.finish();

    let all = [Matcher::equal("job", "kubelet")];
    let one = [Matcher::equal("__name__", "metric_42")];
    let instant = TimeRange::new(START + 3_300_000, START + 3_600_000);
    for (how, fs) in [("read", &OsFs as &dyn Fs), ("map", &MapFs)] {
        let open = || Arc::new(Block::open_on(fs, &path).unwrap());
        let source = BlockSource::new(vec![open()]);
        let twice = BlockSource::new(vec![open(), open()]);
        let mut group = c.benchmark_group(format!("select_{how}"));
        group.sample_size(10);
        group.throughput(Throughput::Elements(SERIES as u64));
        group.bench_function("instant_100k", |b| {
            b.iter(|| run(&source, &all, instant, false))
        });
        group.bench_function("instant_100k_two_blocks", |b| {
            b.iter(|| run(&twice, &all, instant, false))
        });
        group.bench_function("instant_100k_decoded", |b| {
            b.iter(|| run(&source, &all, instant, true))
        });
        group.bench_function("2h_100k", |b| {
            b.iter(|| run(&source, &all, TimeRange::ALL, false))
        });
        group.throughput(Throughput::Elements(1000 * SAMPLES as u64));
        group.bench_function("2h_1k_decoded", |b| {
            b.iter(|| run(&source, &one, TimeRange::ALL, true))
        });
        group.finish();
    }

    let other = write(dir.path(), 7_000);
    let open = |p: &Path| Arc::new(Block::open(p).unwrap());
    let mut group = c.benchmark_group("merge");
    group.sample_size(10);
    for (name, blocks) in [
        ("copied", vec![open(&path)]),
        ("encoded_again", vec![open(&path), open(&other)]),
    ] {
        group.throughput(Throughput::Elements(
            (blocks.len() * SERIES * SAMPLES) as u64,
        ));
        group.bench_function(name, |b| {
            b.iter(|| {
                let out = TempDir::new().unwrap();
                let metas: Vec<_> = blocks.iter().map(|b| b.meta()).collect();
                let meta = meta_of(Ulid::generate(), &metas);
                merge(&blocks, out.path(), meta, &Cancel::default()).unwrap()
            })
        });
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
