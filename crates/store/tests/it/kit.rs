//! What the tests share: blocks in buckets, and gateways over them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use block::Meta;
use block::index::SymbolSet;
use block::meta::Thanos;
use bucket::{Bucket, Catalog, CatalogOptions, Config, RetryPolicy};
use chunk::xor::Encoder;
use model::{Labels, Sample, TimeRange};
use s3kit::Server;
use store::{Gateway, GatewayOptions};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use ulid::Ulid;

pub type Series = Vec<(Labels, Vec<Sample>)>;

/// One runtime for all tests of the process.
pub static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
});

/// Writes a block of those samples that lie in `range` into the folder `parent`; none if there
/// are none.
pub fn write_block(
    parent: &Path,
    ulid: Ulid,
    range: TimeRange,
    external: &Labels,
    series: &Series,
) -> Option<Meta> {
    let mut by_labels: BTreeMap<&Labels, BTreeMap<i64, f64>> = BTreeMap::new();
    for (labels, samples) in series {
        let inside = samples.iter().filter(|s| range.contains(s.ts));
        let inside: BTreeMap<i64, f64> = inside.map(|s| (s.ts, s.value)).collect();
        if !inside.is_empty() {
            by_labels.entry(labels).or_default().extend(inside);
        }
    }
    let all = by_labels.values().flat_map(|s| s.keys());
    let tight = all.fold(TimeRange::EMPTY, |r, &t| r.union(TimeRange::new(t, t)));
    if tight.is_empty() {
        return None;
    }
    let strings = by_labels
        .keys()
        .flat_map(|l| l.iter().flat_map(|(n, v)| [n, v]));
    let symbols = SymbolSet::collect(strings.collect::<BTreeSet<_>>());
    let mut meta = Meta::new(ulid, tight);
    meta.thanos = Some(Thanos {
        version: 1,
        labels: external
            .iter()
            .map(|(n, v)| (n.to_owned(), v.to_owned()))
            .collect(),
        source: "sidecar".into(),
        ..Thanos::default()
    });
    let mut writer = block::Writer::create(parent, meta, symbols).unwrap();
    for (labels, samples) in by_labels {
        let samples: Vec<(i64, f64)> = samples.into_iter().collect();
        let encoded: Vec<(i64, i64, Vec<u8>)> = samples
            .chunks(120)
            .map(|part| {
                let mut encoder = Encoder::new();
                for &(t, v) in part {
                    encoder.append(t, v);
                }
                (part[0].0, part[part.len() - 1].0, encoder.bytes().to_vec())
            })
            .collect();
        let chunks: Vec<_> = encoded
            .iter()
            .map(|(min, max, data)| block::Chunk::xor(*min, *max, data))
            .collect();
        writer.add_labels(labels, &chunks).unwrap();
    }
    writer.finish().unwrap()
}

/// Where blocks lie.
pub enum Place {
    Disk(TempDir),
    S3(Server),
}

impl Place {
    pub fn disk() -> Self {
        Place::Disk(tempfile::tempdir().unwrap())
    }

    pub fn s3() -> Self {
        Place::S3(Server::start(s3kit::Config::default()).unwrap())
    }

    pub fn server(&self) -> &Server {
        match self {
            Place::S3(server) => server,
            Place::Disk(_) => panic!("not on S3"),
        }
    }

    pub fn bucket(&self) -> Arc<Bucket> {
        let config = match self {
            Place::Disk(dir) => Config::filesystem(dir.path()),
            Place::S3(server) => {
                let (access, secret) = server.keys();
                Config::parse(&format!(
                    "type: S3\nconfig: {{bucket: {}, endpoint: '{}', insecure: true, access_key: \
                     {access}, secret_key: {secret}}}",
                    server.bucket(),
                    server.host_port()
                ))
                .unwrap()
            }
        };
        let policy = RetryPolicy {
            attempts: 2,
            attempt_timeout: Duration::from_secs(2),
            first_pause: Duration::from_millis(2),
            ..RetryPolicy::default()
        };
        bucket::open_with(&config, policy, &metrics::Registry::new()).unwrap()
    }

    /// Puts a block there as the shipper would.
    pub fn add(
        &self,
        n: u64,
        range: TimeRange,
        external: &Labels,
        series: &Series,
    ) -> Option<Ulid> {
        let dir = tempfile::tempdir().unwrap();
        let ulid = Ulid::from_parts(1_700_000_000_000 + n, 7);
        let meta = write_block(dir.path(), ulid, range, external, series)?;
        self.copy(&dir.path().join(ulid.to_string()), ulid);
        Some(meta.ulid)
    }

    pub fn copy(&self, from: &Path, ulid: Ulid) {
        let mut files = vec!["index".to_owned(), "meta.json".to_owned()];
        for entry in std::fs::read_dir(from.join("chunks")).unwrap() {
            files.push(format!("chunks/{}", entry.unwrap().file_name().display()));
        }
        for file in files {
            let bytes = std::fs::read(from.join(&file)).unwrap();
            match self {
                Place::S3(server) => server.put(&format!("{ulid}/{file}"), bytes),
                Place::Disk(dir) => {
                    let to = dir.path().join(ulid.to_string()).join(&file);
                    std::fs::create_dir_all(to.parent().unwrap()).unwrap();
                    std::fs::write(to, bytes).unwrap();
                }
            }
        }
    }

    pub fn catalog(&self) -> Arc<Catalog> {
        let registry = metrics::Registry::new();
        let catalog = Catalog::new(self.bucket(), CatalogOptions::default(), &registry).unwrap();
        let catalog = Arc::new(catalog);
        RUNTIME.block_on(catalog.sync()).unwrap();
        catalog
    }

    pub fn gateway(&self, options: GatewayOptions) -> Gateway {
        let registry = metrics::Registry::new();
        let handle = RUNTIME.handle().clone();
        Gateway::new(self.catalog(), options, handle, &registry).unwrap()
    }
}

/// A source together with what it needs to live.
pub struct Kept<T> {
    pub source: T,
    pub _place: Place,
}

impl<T: model::Source> model::Source for Kept<T> {
    fn open(&self, scope: Arc<model::Scope>) -> Result<Box<dyn model::View>, model::SourceError> {
        self.source.open(scope)
    }

    fn extent(&self) -> Arc<model::Extent> {
        self.source.extent()
    }
}

pub fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::from_pairs(pairs.iter().copied())
}

/// `count` series of one metric, `samples` each, a sample every 15 s from `start` on.
pub fn fleet(metric: &str, count: usize, start: i64, samples: i64) -> Series {
    (0..count)
        .map(|i| {
            let labels = Labels::from_pairs([
                ("__name__", metric.to_owned()),
                ("instance", format!("host-{i:05}")),
                ("job", format!("job-{}", i % 5)),
            ]);
            let samples = (0..samples).map(|k| Sample {
                ts: start + k * 15_000,
                value: (i as i64 * 7 + k * k % 31) as f64,
            });
            (labels, samples.collect())
        })
        .collect()
}
