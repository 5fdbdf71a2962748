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
