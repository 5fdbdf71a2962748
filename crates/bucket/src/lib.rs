//! Object storage, and the catalog of blocks in it: configure, list, cache, mark, ship.
//!
//! [`Config`] is Thanos' `objstore.config`; [`open`] makes a [`Bucket`] of it, whose operations
//! are retried within a budget, limited in time and counted under Thanos' metric names.
//!
//! ```
//! use bucket::{Config, Put};
//!
//! # let dir = std::env::temp_dir().join(format!("bucket-doc-{}", std::process::id()));
//! # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
//! # runtime.block_on(async {
//! let yaml = format!("type: FILESYSTEM\nconfig:\n  directory: {}\n", dir.display());
//! let bucket = bucket::open(&Config::parse(&yaml)?, &metrics::Registry::new())?;
//! bucket.put("a/b", "hello".into(), Put::Create).await?;
//! assert_eq!(bucket.get_range("a/b", 1..3).await?, "el");
//! # Ok::<(), bucket::Error>(())
//! # }).unwrap();
//! # std::fs::remove_dir_all(&dir).unwrap();
//! ```
//!
//! On top of it stand the [`Shipper`], which uploads finished blocks of a TSDB's directory, the
//! [`Catalog`], which knows the blocks of a bucket, and the [`marks`] that say what shall happen
//! to them.
//!
//! Useful for: whole objects, ranges of them, folders of blocks. Not useful for: what is inside a
//! block (`block`), answering queries from it (`store`), deciding what to compact (`compact`).

pub mod aws;
pub mod catalog;
mod client;
pub mod config;
mod error;
pub mod gcp;
pub mod marks;
mod retry;
pub mod shipper;

pub use catalog::{Catalog, CatalogBlock, CatalogOptions, OnRead, Snapshot};
pub use client::{Bucket, Folder, Object, Put, Upload, WHOLE_LIMIT, open, open_with};
pub use config::Config;
pub use error::Error;
pub use retry::RetryPolicy;
pub use shipper::{OnSettled, Report, Shipper, ShipperOptions};
