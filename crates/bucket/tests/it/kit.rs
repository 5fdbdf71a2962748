//! What the tests share.

use std::sync::Arc;
use std::time::Duration;

use bucket::{Bucket, Config, RetryPolicy};
use s3kit::Server;

/// Quick to give up, so that tests of failures are quick.
pub fn policy() -> RetryPolicy {
    RetryPolicy {
        attempts: 3,
        attempt_timeout: Duration::from_millis(500),
        per_mib: Duration::from_secs(2),
        first_pause: Duration::from_millis(5),
        longest_pause: Duration::from_millis(20),
        ..RetryPolicy::default()
    }
}

pub fn s3_yaml(server: &Server) -> String {
    let (access, secret) = server.keys();
    format!(
        "type: S3\nconfig:\n  bucket: {}\n  endpoint: {}\n  insecure: true\n  access_key: {access}\n  secret_key: {secret}\n  part_size: 5242880\n",
        server.bucket(),
        server.host_port(),
    )
}

pub fn s3() -> (Server, Arc<Bucket>) {
    let server = Server::start(s3kit::Config::default()).unwrap();
    let config = Config::parse(&s3_yaml(&server)).unwrap();
    let bucket = bucket::open_with(&config, policy(), &metrics::Registry::new()).unwrap();
    (server, bucket)
}

pub fn filesystem() -> (tempfile::TempDir, Arc<Bucket>) {
    let dir = tempfile::tempdir().unwrap();
    let config = Config::filesystem(dir.path());
    let bucket = bucket::open_with(&config, policy(), &metrics::Registry::new()).unwrap();
    (dir, bucket)
}

/// Writes a block of these series (labels in order) into the folder `dir`.
pub fn write_block(dir: &std::path::Path, mut meta: block::Meta, series: &[(&str, i64)]) {
    use block::index::{ChunkMeta, SymbolSet, Writer};
    std::fs::create_dir_all(dir).unwrap();
    let mut chunks = block::chunks::Writer::create(&dir.join("chunks"), 1 << 20).unwrap();
    let names = series.iter().flat_map(|(name, _)| ["__name__", *name]);
    let symbols = SymbolSet::collect(names);
    let mut index = Writer::create(&dir.join("index"), symbols).unwrap();
    for (name, samples) in series {
        let mut encoder = chunk::xor::Encoder::new();
        for i in 0..*samples {
            encoder.append(meta.min_time + i, i as f64);
        }
        let reference = chunks.add(model::Encoding::XOR, encoder.bytes()).unwrap();
        let labels = [(
            index.symbols().find("__name__").unwrap(),
            index.symbols().find(name).unwrap(),
        )];
        let at = ChunkMeta {
            min: meta.min_time,
            max: meta.min_time + samples - 1,
            reference,
        };
        index.add(&labels, &[at]).unwrap();
        meta.stats.num_samples += *samples as u64;
        meta.stats.num_series += 1;
        meta.stats.num_chunks += 1;
    }
    index.finish().unwrap();
    chunks.finish().unwrap();
    meta.write(dir).unwrap();
}
