//! Compaction and downsampling from a bucket in memory into it: samples a second of one thread.

#![expect(clippy::unwrap_used, reason = "a bench that cannot go on ends")]

use std::sync::Arc;

use block::merge::Overlap;
use block::suite::{self, Plan};
use bucket::{Bucket, Catalog, CatalogBlock, CatalogOptions, Put};
use compact::input::Files;
use compact::job::{Job, Work, Workshop};
use compact::output::HashFunc;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use model::{Cancel, Labels, Sample, TimeRange};
use ulid::Ulid;

const SERIES: usize = 200;
const STEP: i64 = 15_000;
const HOUR: i64 = 3_600_000;

/// Blocks of `SERIES` series over `hours`, side by side, or on top of each other and a part of a step
/// apart. Gives how many samples they have.
async fn fill(bucket: &Arc<Bucket>, inputs: i64, hours: i64, overlapping: bool) -> u64 {
    let dir = tempfile::tempdir().unwrap();
    let mut samples = 0;
    for n in 0..inputs {
        let (from, offset) = match overlapping {
            true => (0, n * STEP / inputs),
            false => (n * hours * HOUR, 0),
        };
        let range = TimeRange::new(from, from + hours * HOUR - 1);
        let series = (0..SERIES).map(|i| {
            let labels = Labels::from_pairs([("__name__", "m"), ("n", &format!("{i:05}"))]);
            let ts = (from + offset..from + hours * HOUR).step_by(STEP as usize);
            let value = |ts: i64| ((ts / STEP * 7919 + i as i64) % 1013) as f64;
            let list = ts.map(|ts| Sample {
                ts,
                value: value(ts),
            });
            (labels, list.collect::<Vec<_>>())
        });
        let plan = Plan {
            range: Some(range),
            segment: 512 << 20,
            ..Plan::default()
        };
        let meta = plan.write(dir.path(), suite::floats(series));
        let meta = meta.unwrap().unwrap();
        samples += meta.stats.num_samples;
        let folder = dir.path().join(meta.ulid.to_string());
        for file in ["chunks/000001", "index"] {
            let key = format!("{}/{file}", meta.ulid);
            bucket.upload_file(&key, &folder.join(file)).await.unwrap();
        }
        let key = format!("{}/meta.json", meta.ulid);
        let json = meta.to_json().into();
        bucket.put(&key, json, Put::Overwrite).await.unwrap();
    }
    samples
}

async fn blocks(bucket: &Arc<Bucket>) -> Vec<Arc<CatalogBlock>> {
    let options = CatalogOptions::default();
    let catalog = Catalog::new(Arc::clone(bucket), options, &metrics::Registry::new());
    let catalog = catalog.unwrap();
    catalog.sync().await.unwrap();
    catalog.snapshot().blocks.clone()
}

fn bench(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let mut group = c.benchmark_group("compact");
    group.sample_size(10);
    let unite = || Work::Compact(Overlap::Unite);
    let penalty = Work::Compact(Overlap::Penalty);
    let downsample = Work::Downsample(compact::FIVE_MINUTES);
    for (name, inputs, overlapping, work) in [
        ("copied, 1 input", 1, false, unite()),
        ("copied, 4 inputs", 4, false, unite()),
        ("copied, 16 inputs", 16, false, unite()),
        ("united, 4 inputs", 4, true, unite()),
        ("penalty, 4 inputs", 4, true, penalty),
        ("raw to 5m", 1, false, downsample),
    ] {
        let bucket = Bucket::in_memory();
        let hours = 32 / inputs;
        let samples = runtime.block_on(fill(&bucket, inputs, hours, overlapping));
        let inputs = runtime.block_on(blocks(&bucket));
        let list = |b: &Arc<CatalogBlock>| runtime.block_on(Files::list(&bucket, b.ulid()));
        let files: Vec<Files> = inputs.iter().map(list).map(Result::unwrap).collect();
        let dir = tempfile::tempdir().unwrap();
        let shop = Workshop {
            bucket: Arc::clone(&bucket),
            dir: dir.path().to_owned(),
            hash: HashFunc::None,
            stop: Cancel::default(),
            progress: Arc::new(|_, _| {}),
        };
        group.throughput(Throughput::Elements(samples));
        group.bench_function(name, |b| {
            b.iter(|| {
                let job = Job {
                    group: "bench".into(),
                    work: work.clone(),
                    inputs: inputs.clone(),
                    labels: Labels::default(),
                    resolution: 0,
                    output: Ulid::generate(),
                };
                runtime.block_on(async {
                    let made = Arc::new(job)
                        .run(&shop, files.clone())
                        .await
                        .unwrap()
                        .unwrap();
                    made.discard().await;
                });
            });
        });
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
