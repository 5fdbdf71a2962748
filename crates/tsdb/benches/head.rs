//! Appending by reference in batches shaped like scrapes, making series, replaying a log; and how
//! many bytes a series takes in memory and a sample in the log.
//!
//! `EPIMETHEUS_SIZES=1 cargo bench -p tsdb` prints the sizes first, `EPIMETHEUS_REPLAY=folder` what it
//! takes to open a data folder, which is made if it is not there.

#![expect(clippy::unwrap_used, reason = "a bench ends where something fails")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use model::{Batch, Labels, Scope, Select, SeriesRef, Source, TimeRange};
use tsdb::{Db, Options};

/// As the binary has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Labels as of a Kubernetes cluster: ten a series, most values shared.
fn labels(i: usize) -> Labels {
    let (target, line) = (i / 500, i % 500);
    Labels::from_pairs([
        (
            "__name__",
            format!("container_metric_number_{}_total", line / 5),
        ),
        ("container", format!("container-{}", line % 5)),
        ("endpoint", "https-metrics".to_owned()),
        (
            "id",
            format!("/kubepods/burstable/pod{target:08x}/{line:012x}"),
        ),
        (
            "instance",
            format!("10.42.{}.{}:10250", target / 250, target % 250),
        ),
        ("job", "kubelet".to_owned()),
        ("metrics_path", "/metrics/cadvisor".to_owned()),
        ("namespace", format!("namespace-{}", target % 40)),
        ("node", format!("node-{}", target % 200)),
        (
            "pod",
            format!("deployment-{}-{:05x}", target % 300, target * 7919),
        ),
    ])
}

fn sets(n: usize) -> Vec<Labels> {
    (0..n).map(labels).collect()
}

fn quiet() -> Options {
    Options::quiet()
}

fn value(i: usize, step: i64) -> f64 {
    match i % 4 {
        0 => 1.0,
        1 => (step * (i as i64 % 17)) as f64,
        2 => 1e6 + (step * step % 977) as f64,
        _ => ((i as f64) + step as f64 * 0.37).sin() * 100.0,
    }
}

/// One scrape of every target (500 lines each) at `step`.
fn scrape(db: &Db, refs: &[SeriesRef], step: i64, mut batch: Batch) -> Batch {
    for (target, part) in refs.chunks(500).enumerate() {
        for (i, r) in part.iter().enumerate() {
            batch.push(*r, step * 15_000 + target as i64 % 15_000, value(i, step));
        }
        batch = match db.append_now(batch) {
            Ok(took) => took.batch,
            Err(e) => panic!("{e}"),
        };
    }
    batch
}

fn rss() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|l| l.starts_with("VmRSS"));
    line.and_then(|l| l.split_whitespace().nth(1)?.parse::<usize>().ok())
        .unwrap_or(0)
        * 1024
}

fn sizes() {
    const SERIES: usize = 400_000;
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path(), quiet()).unwrap();
    let before = rss();
    let started = Instant::now();
    let mut refs = Vec::with_capacity(SERIES);
    for part in (0..SERIES).step_by(500) {
        let sets: Vec<Labels> = (part..part + 500).map(labels).collect();
        refs.extend(db.resolve_now(&sets).unwrap());
    }
    println!(
        "made {SERIES} series (labels built included) in {:?}",
        started.elapsed()
    );
    println!("empty: {} B of memory a series", (rss() - before) / SERIES);
    let mut batch = Batch::default();
    for step in 0..40 {
        let started = Instant::now();
        batch = scrape(&db, &refs, step, batch);
        if step % 13 == 0 {
            println!(
                "{step:3} samples: {} B a series (counted {}), {:?} a scrape of all",
                (rss() - before) / SERIES,
                db.head_bytes() / SERIES,
                started.elapsed()
            );
        }
    }
    let log: u64 = std::fs::read_dir(dir.path().join("wal"))
        .unwrap()
        .map(|e| e.unwrap().metadata().unwrap().len())
        .sum();
    println!(
        "log: {:.2} B a sample, series included",
        log as f64 / (SERIES * 40) as f64
    );
    let started = Instant::now();
    let n = count(&db);
    println!("a query opened {n} chunks in {:?}", started.elapsed());
    drop(db);
    let started = Instant::now();
    let db = Db::open(dir.path(), quiet()).unwrap();
    println!(
        "replayed {} samples in {:?}",
        db.replayed().samples,
        started.elapsed()
    );
}

fn count(db: &Db) -> usize {
    let scope = Scope::unbounded(TimeRange::ALL);
    let view = db.open(Arc::clone(&scope)).unwrap();
    let mut n = 0;
    if let model::Rows::Cursors(cursors) = view.select(Select::new(vec![], TimeRange::ALL)) {
        for mut cursor in cursors {
            while let Some(batch) = cursor.next().unwrap() {
                n += black_box(&batch).chunks.len();
            }
        }
    }
    n
}

fn append(c: &mut Criterion) {
    let mut group = c.benchmark_group("append");
    const SERIES: usize = 50_000;
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path(), quiet()).unwrap();
    let refs = db.resolve_now(&sets(SERIES)).unwrap();
    let mut step = 0;
    let mut batch = Some(Batch::default());
    group.throughput(Throughput::Elements(SERIES as u64));
    group.bench_function("scrapes of 500 by reference", |b| {
        b.iter(|| {
            step += 1;
            batch = batch.take().map(|batch| scrape(&db, &refs, step, batch));
        })
    });
    group.finish();
}

fn create(c: &mut Criterion) {
    let mut group = c.benchmark_group("create");
    const SERIES: usize = 20_000;
    let sets = sets(SERIES);
    group.throughput(Throughput::Elements(SERIES as u64));
    group.bench_function("series", |b| {
        b.iter_batched(
            || {
                let dir = tempfile::tempdir().unwrap();
                let db = Db::open(dir.path(), quiet()).unwrap();
                (dir, db)
            },
            |(dir, db)| {
                for part in sets.chunks(500) {
                    black_box(db.resolve_now(part).unwrap());
                }
                (dir, db)
            },
            BatchSize::PerIteration,
        )
    });
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path(), quiet()).unwrap();
    db.resolve_now(&sets).unwrap();
    group.bench_function("resolve known series", |b| {
        b.iter(|| {
            for part in sets.chunks(500) {
                black_box(db.resolve_now(part).unwrap());
            }
        })
    });
    group.finish();
}

fn replay(c: &mut Criterion) {
    let mut group = c.benchmark_group("replay");
    const SERIES: usize = 20_000;
    const STEPS: i64 = 40;
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path(), quiet()).unwrap();
    let refs = db.resolve_now(&sets(SERIES)).unwrap();
    let mut batch = Batch::default();
    for step in 0..STEPS {
        batch = scrape(&db, &refs, step, batch);
    }
    drop(db);
    group.throughput(Throughput::Elements(SERIES as u64 * STEPS as u64));
    group.bench_function("40 samples of 20000 series", |b| {
        b.iter(|| Db::open(dir.path(), quiet()).unwrap().replayed().samples)
    });
    group.finish();
}

/// Leaves a folder as a kill does: 45 scrapes of 100,000 series in the log.
fn make_folder(dir: &std::path::Path) {
    let db = Db::open(dir, quiet()).unwrap();
    let mut refs = Vec::new();
    for part in sets(100_000).chunks(500) {
        refs.extend(db.resolve_now(part).unwrap());
    }
    let mut batch = Batch::default();
    for step in 0..45 {
        batch = scrape(&db, &refs, step, batch);
    }
}

/// Opens a folder and says what that took; nothing is written but an empty segment.
fn open_folder(dir: &std::path::Path) {
    if !dir.exists() {
        make_folder(dir);
    }
    let cpu = || -> f64 {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let fields = stat.split_whitespace().skip(13).take(2);
        fields.filter_map(|f| f.parse::<f64>().ok()).sum::<f64>() / 100.0
    };
    let (before, memory) = (cpu(), rss());
    let db = Db::open(dir, quiet()).unwrap();
    let replayed = db.replayed();
    println!(
        "{} series, {} samples in {:?}, {:.2} s of CPU, {} MiB",
        replayed.series,
        replayed.samples,
        replayed.took,
        cpu() - before,
        (rss() - memory) >> 20
    );
}

fn all(c: &mut Criterion) {
    if let Some(dir) = std::env::var_os("EPIMETHEUS_REPLAY") {
        open_folder(dir.as_ref());
        return;
    }
    if std::env::var_os("EPIMETHEUS_SIZES").is_some() {
        sizes();
    }
    append(c);
    create(c);
    replay(c);
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10).measurement_time(Duration::from_secs(4));
    targets = all
}
criterion_main!(benches);
