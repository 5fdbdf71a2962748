//! A bucket with blocks, a compactor, and what there is to see in the bucket.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use block::suite::{self, Plan};
use block::{Block, BlockSource, Meta};
use bucket::{Bucket, Catalog, CatalogOptions, Config, Put, RetryPolicy};
use compact::claims::{Claims, Settings};
use compact::{Compactor, Error, Options, catalog_options};
use model::time::{Clock as _, ManualClock, WallClock};
use model::{Cancel, Labels, Millis, Sample, Scope, Select, Source as _, TimeRange};
use s3kit::Server;
use tokio::runtime::Handle;
use ulid::Ulid;

pub const HOUR: Millis = 3_600_000;
pub const DAY: Millis = 24 * HOUR;

pub type Series = BTreeMap<Labels, Vec<Sample>>;

/// Runs a test on a runtime of its own.
pub fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(test);
}

pub fn s3(server: &Server) -> Arc<Bucket> {
    let (access, secret) = server.keys();
    let yaml = format!(
        "type: S3\nconfig:\n  bucket: {}\n  endpoint: {}\n  insecure: true\n  access_key: {access}\n  secret_key: {secret}\n  part_size: 5242880\n",
        server.bucket(),
        server.host_port(),
    );
    let policy = RetryPolicy {
        attempts: 1,
        attempt_timeout: Duration::from_secs(5),
        ..RetryPolicy::default()
    };
    let config = Config::parse(&yaml).unwrap();
    bucket::open_with(&config, policy, &metrics::Registry::new()).unwrap()
}

/// Series of one sample a minute between two times.
pub fn ramps(count: usize, from: Millis, to: Millis) -> Series {
    let series = |n: usize| {
        let labels = Labels::from_pairs([("__name__", "m"), ("n", &n.to_string())]);
        let samples = (from..to).step_by(60_000).map(|ts| Sample {
            ts,
            value: (ts / 1000) as f64 * (n + 1) as f64,
        });
        (labels, samples.collect())
    };
    (0..count).map(series).collect()
}

/// Puts a block of these series into the bucket, as a sidecar would. `name` sets the time of its ULID.
pub async fn put(
    bucket: &Bucket,
    name: u64,
    range: (Millis, Millis),
    external: &[(&str, &str)],
    series: &Series,
) -> Meta {
    let stored = suite::floats(series.clone());
    put_stored(bucket, name, range, external, stored).await
}

pub async fn put_stored(
    bucket: &Bucket,
    name: u64,
    range: (Millis, Millis),
    external: &[(&str, &str)],
    series: Vec<chunk::memory::StoredSeries>,
) -> Meta {
    let dir = tempfile::tempdir().unwrap();
    let plan = Plan {
        range: Some(TimeRange::new(range.0, range.1 - 1)),
        ..Plan::default()
    };
    let mut meta = plan.write(dir.path(), series).unwrap().unwrap();
    let written = dir.path().join(meta.ulid.to_string());
    meta.ulid = Ulid::from_parts(name, u128::from(name) * 7919);
    meta.compaction.sources = vec![meta.ulid];
    let pairs = external.iter();
    meta.thanos = Some(block::meta::Thanos {
        version: 1,
        labels: pairs.map(|(n, v)| (n.to_string(), v.to_string())).collect(),
        source: "sidecar".into(),
        ..Default::default()
    });
    upload(bucket, &written, &meta).await;
    meta
}

pub async fn upload(bucket: &Bucket, dir: &Path, meta: &Meta) {
    for entry in std::fs::read_dir(dir.join("chunks")).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let key = format!("{}/chunks/{name}", meta.ulid);
        bucket.upload_file(&key, &entry.path()).await.unwrap();
    }
    let key = format!("{}/index", meta.ulid);
    bucket.upload_file(&key, &dir.join("index")).await.unwrap();
    let key = format!("{}/meta.json", meta.ulid);
    let json = meta.to_json().into();
    bucket.put(&key, json, Put::Overwrite).await.unwrap();
}

pub struct Bench {
    pub bucket: Arc<Bucket>,
    pub clock: Arc<ManualClock>,
    pub dir: tempfile::TempDir,
}

impl Bench {
    pub fn new(bucket: Arc<Bucket>) -> Self {
        let clock = Arc::new(ManualClock::default());
        clock.set(WallClock.now());
        let dir = tempfile::tempdir().unwrap();
        Self { bucket, clock, dir }
    }

    pub fn later(&self, by: Millis) {
        self.clock.set(self.clock.now() + by);
    }

    pub fn options(&self) -> Options {
        Options {
            concurrency: 2,
            downsample_concurrency: 2,
            ..Options::new(self.dir.path().to_owned(), self.clock.clone())
        }
    }

    pub async fn compactor(&self, owner: &str, options: Options) -> Result<Compactor, Error> {
        self.compactor_on(Arc::clone(&self.bucket), owner, options)
            .await
    }

    pub async fn compactor_on(
        &self,
        bucket: Arc<Bucket>,
        owner: &str,
        options: Options,
    ) -> Result<Compactor, Error> {
        let settings = Settings {
            owner: owner.to_owned(),
            place: None,
            time_to_live: Duration::from_secs(30),
            clock: self.clock.clone(),
        };
        let claims = Claims::begin(Arc::clone(&bucket), settings).await?;
        let base = CatalogOptions {
            clock: self.clock.clone(),
            ..CatalogOptions::default()
        };
        let registry = metrics::Registry::new();
        let catalog = Catalog::new(bucket, catalog_options(base), &registry)?;
        let catalog = Arc::new(catalog);
        let stop = Cancel::default();
        Ok(Compactor::new(catalog, claims, options, stop, &registry).unwrap())
    }

    /// The blocks that a store serves that obeys marks at once.
    pub async fn served(&self) -> Vec<Meta> {
        let options = CatalogOptions {
            ignore_deletion_marks_delay: Some(Duration::from_secs(24 * 3600)),
            clock: self.clock.clone(),
            ..CatalogOptions::default()
        };
        let registry = metrics::Registry::new();
        let catalog = Catalog::new(Arc::clone(&self.bucket), options, &registry).unwrap();
        catalog.sync().await.unwrap();
        let snapshot = catalog.snapshot();
        assert!(snapshot.unreadable.is_empty(), "{:?}", snapshot.unreadable);
        snapshot.blocks.iter().map(|b| b.meta.clone()).collect()
    }

    pub async fn open(&self, metas: &[Meta]) -> Vec<Arc<Block>> {
        let (bucket, metas) = (Arc::clone(&self.bucket), metas.to_vec());
        let runtime = Handle::current();
        let open = move || {
            let open = |meta| {
                compact::input::open(&bucket, &runtime, meta, 1 << 20)
                    .unwrap()
                    .0
            };
            metas.iter().map(open).collect()
        };
        tokio::task::spawn_blocking(open).await.unwrap()
    }

    /// All raw samples that are served.
    pub async fn answers(&self) -> Series {
        let served = self.served().await;
        let raw: Vec<Meta> = served.into_iter().filter(|m| m.resolution() == 0).collect();
        let blocks = self.open(&raw).await;
        let read = move || {
            let scope = Scope::unbounded(TimeRange::ALL);
            let view = BlockSource::new(blocks).open(Arc::clone(&scope)).unwrap();
            let rows = view.select(Select::new(vec![], TimeRange::ALL));
            chunk::suite::collect(rows, &scope, TimeRange::ALL).unwrap()
        };
        tokio::task::spawn_blocking(read).await.unwrap()
    }

    /// Names of all folders and of objects outside of blocks.
    pub async fn folders(&self) -> BTreeMap<String, Vec<String>> {
        let mut folders: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let each = |o: bucket::Object| {
            let (folder, file) = o.key.split_once('/').unwrap_or(("", &o.key));
            folders
                .entry(folder.to_owned())
                .or_default()
                .push(file.to_owned());
        };
        self.bucket.list("", each).await.unwrap();
        folders
    }
}
