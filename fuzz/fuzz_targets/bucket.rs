//! Objects of any bytes where a bucket has metas, marks, claims and what was looked into: a compactor goes on.
//! The input is cut at bytes of 0 into these objects.

#![no_main]

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bucket::{Bucket, Catalog, CatalogOptions, Put};
use compact::claims::{Claims, Settings};
use compact::{Compactor, Options, catalog_options};
use libfuzzer_sys::fuzz_target;
use model::Cancel;
use model::time::WallClock;

static RUNTIME: LazyLock<tokio::runtime::Runtime> = LazyLock::new(|| {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(1).enable_all().build().expect("a runtime")
});

const KEYS: [&str; 9] = [
    "01HZJ9WJQPWHGNC2W4J9TA62KC/meta.json",
    "01HZJ9WJQPWHGNC2W4J9TA62KC/deletion-mark.json",
    "01HZJ9WJQPWHGNC2W4J9TA62KC/no-compact-mark.json",
    "01HZJ9WJQPWHGNC2W4J9TA62KC/no-downsample-mark.json",
    "01HZJ9WJQPWHGNC2W4J9TA62KC/index",
    "01HZJ9WJQPWHGNC2W4J9TA62KD/meta.json",
    "01HZJ9WJQPWHGNC2W4J9TA62KD/index",
    // The group of blocks without labels.
    "epimetheus/compact/0@17241709254077376921.json",
    "epimetheus/retention/0@17241709254077376921.json",
];

fuzz_target!(|bytes: &[u8]| {
    RUNTIME.block_on(async {
        let bucket = Bucket::in_memory();
        for (key, object) in KEYS.iter().zip(bytes.split(|b| *b == 0)) {
            let object = bytes::Bytes::copy_from_slice(object);
            let _ = bucket.put(key, object, Put::Overwrite).await;
        }
        let clock = Arc::new(WallClock);
        let settings = Settings {
            owner: "fuzz".to_owned(),
            time_to_live: Duration::from_secs(30),
            clock: clock.clone(),
        };
        let claims = Claims::begin(Arc::clone(&bucket), settings).await.expect("claims");
        let registry = metrics::Registry::new();
        let options = catalog_options(CatalogOptions::default());
        let catalog = Catalog::new(bucket, options, &registry).expect("a catalog");
        let dir = std::env::temp_dir().join("epimetheus-fuzz-bucket");
        let options = Options {
            vertical: true,
            ..Options::new(dir, clock)
        };
        let (catalog, stop) = (Arc::new(catalog), Cancel::default());
        let compactor = Compactor::new(catalog, claims, options, stop, &registry).expect("one");
        let _ = compactor.iterate().await;
        compactor.tell(compactor.todo());
    });
});
