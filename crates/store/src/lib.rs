//! Every source of series but the local head.
//!
//! - [`Gateway`] answers from the blocks in a bucket: a small index-header for each block tells
//!   which ranges hold postings, series and chunks, and only those are fetched.
//! - [`Proxy`] makes one source of several: the local database and a gateway, or many stores.
//! - [`Remote`] is a store at the other end of a connection, [`Serve`] is this end: StoreAPI over
//!   any source.
//! - [`PrometheusSource`] is a real Prometheus, asked by remote read.
//! - [`Endpoints`] are the stores a querier knows: found in DNS, asked who they are.
//! - [`FanOut`] asks all of them for rules, targets, metadata, exemplars and cardinality.
//! - [`Labelled`] lays external labels over a source, [`Deduplicated`] makes replicas into lanes.
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

mod arrange;
mod dedup;
mod endpoints;
mod failure;
mod gateway;
mod labelled;
mod merge;
mod pack;
mod prometheus;
mod proxy;
mod remote;
mod remote_read;
mod reports;
mod serve;
mod tier;

pub use dedup::{DedupOptions, Deduplicated};
pub use endpoints::{EndpointSpec, EndpointStatus, Endpoints, EndpointsOptions, Known, Selector};
pub use gateway::{ExternalLabels, Gateway, GatewayOptions};
pub use labelled::Labelled;
pub use prometheus::{Prometheus, PrometheusFlags, PrometheusSource, RETRY};
pub use proxy::Proxy;
pub use remote::{About, Remote};
pub use remote_read::{RemoteRead, RemoteReadOptions, Switch};
pub use reports::{FanOut, FanOutOptions};
pub use serve::{Serve, ServeOptions};
pub use tier::{Tier, TierConfig};

use model::{Rows, SeriesBatch, SourceError};
use tokio::sync::mpsc;
use tracing::Instrument as _;

/// Rows that a task on `runtime` produces; it ends when nobody wants them any more.
fn stream_of<F, T>(runtime: &tokio::runtime::Handle, work: F) -> Rows
where
    F: FnOnce(mpsc::Sender<Result<SeriesBatch, SourceError>>) -> T,
    T: Future<Output = Result<(), SourceError>> + Send + 'static,
{
    let (send, receive) = mpsc::channel(1);
    let work = work(send.clone());
    let task = async move {
        // Nothing of the work is left when the last word is said.
        if let Err(e) = work.await {
            let _ = send.send(Err(e)).await;
        }
    };
    let task = runtime.spawn(task.in_current_span());
    let state = (receive, Guard(task.abort_handle()));
    Rows::Stream(Box::pin(futures_util::stream::unfold(
        state,
        |(mut receive, guard)| async {
            let item = receive.recv().await?;
            Some((item, (receive, guard)))
        },
    )))
}

/// Ends a task whose results nobody will take.
struct Guard(tokio::task::AbortHandle);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.abort();
    }
}
