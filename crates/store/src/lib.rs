//! Every source of series but the local head.
//!
//! - [`Gateway`] answers from the blocks in a bucket: a small index-header for each block tells
//!   which ranges hold postings, series and chunks, and only those are fetched.
//! - [`Proxy`] makes one source of several: the local database and a gateway, or many stores.
//!
//! ```
//! use std::sync::Arc;
//! use bucket::{Bucket, Catalog, CatalogOptions};
//! use model::{Matcher, Scope, Select, Source, TimeRange};
//! use store::{Gateway, GatewayOptions, Proxy};
//!
//! let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
//! let registry = metrics::Registry::new();
//! let catalog = Catalog::new(Bucket::in_memory(), CatalogOptions::default(), &registry)?;
//! runtime.block_on(catalog.sync())?;
//! let handle = runtime.handle().clone();
//! let options = GatewayOptions::default();
//! let gateway = Gateway::new(Arc::new(catalog), options, handle.clone(), &registry)?;
//!
//! let proxy = Proxy::new(vec![("bucket".into(), Arc::new(gateway))], handle);
//! let view = proxy.open(Scope::unbounded(TimeRange::ALL))?;
//! let rows = view.select(Select::new(vec![Matcher::equal("job", "node")], TimeRange::ALL));
//! # let _ = rows;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Useful for: answering `select` from somewhere else than memory. Not useful for: finding and
//! marking blocks (`bucket`), decoding what is in a chunk (`chunk`), compacting (`compact`).

mod failure;
mod gateway;
mod merge;
mod proxy;

pub use gateway::{ExternalLabels, Gateway, GatewayOptions};
pub use proxy::Proxy;

/// Ends a task whose results nobody will take.
struct Guard(tokio::task::AbortHandle);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.abort();
    }
}
