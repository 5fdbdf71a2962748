//! What a gateway counts, under the names of Thanos' dashboards where these have one.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use metrics::{Counter, Histogram, Kind, Registry};

use super::Inner;

const ITEMS: [&str; 3] = ["postings", "series", "chunks"];

pub(super) struct Meters {
    pub fetches: Counter,
    pub fetched_bytes: Counter,
    pub hits: Counter,
    pub misses: Counter,
    pub blocks_queried: Histogram,
    /// Ranges asked for and found, by what is in them.
    pub items: [(Counter, Counter); 3],
    /// Ranges, and their bytes, touched and fetched by a question, likewise.
    pub touched: [Sizes; 3],
    pub fetched: [Sizes; 3],
    pub all_seconds: Histogram,
    pub merge_seconds: Histogram,
}

/// Ranges and their bytes.
pub(super) struct Sizes {
    pub count: Histogram,
    pub bytes: Histogram,
}

impl Meters {
    /// Of a gateway whose cache holds at most so many bytes.
    pub(super) fn new(cache_bytes: u64, registry: &Registry) -> Result<Self, metrics::Error> {
        let counter = |name, help| registry.counter(name, help);
        let limit = |name, help, bytes: u64| -> Result<(), metrics::Error> {
            let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
            registry.gauge(name, help)?.set(bytes);
            Ok(())
        };
        limit(
            "thanos_store_index_cache_max_size_bytes",
            "Maximum number of bytes to be held in the cache.",
            cache_bytes,
        )?;
        limit(
            "thanos_store_index_cache_max_item_size_bytes",
            "Maximum number of bytes for single entry to be held in the cache.",
            super::cache::largest(cache_bytes),
        )?;
        let seconds = |name, help| {
            let buckets = [
                0.001, 0.01, 0.1, 0.3, 0.6, 1.0, 3.0, 6.0, 9.0, 20.0, 30.0, 60.0, 90.0, 120.0,
            ];
            registry.histogram(name, help, &buckets)
        };
        Ok(Self {
            fetches: counter(
                "epimetheus_bucket_store_range_requests_total",
                "Total number of ranges of blocks that were requested from the bucket.",
            )?,
            fetched_bytes: counter(
                "epimetheus_bucket_store_fetched_bytes_total",
                "Total number of bytes of blocks that were fetched from the bucket.",
            )?,
            hits: counter(
                "epimetheus_bucket_store_range_cache_hits_total",
                "Total number of ranges of blocks that were found in memory.",
            )?,
            misses: counter(
                "epimetheus_bucket_store_range_cache_misses_total",
                "Total number of ranges of blocks that were not found in memory.",
            )?,
            items: items(registry)?,
            touched: sizes(registry, "touched")?,
            fetched: sizes(registry, "fetched")?,
            all_seconds: seconds(
                "thanos_bucket_store_series_get_all_duration_seconds",
                "Time it takes until all per-block prepares and loads for a query are finished.",
            )?,
            merge_seconds: seconds(
                "thanos_bucket_store_series_merge_duration_seconds",
                "Time it takes to merge sub-results from all queried blocks into a single result.",
            )?,
            blocks_queried: registry.histogram(
                "thanos_bucket_store_series_blocks_queried",
                "Number of blocks in a bucket store that were touched to satisfy a query.",
                &[1.0, 2.0, 3.0, 4.0, 5.0, 10.0, 100.0],
            )?,
        })
    }
}

fn items(registry: &Registry) -> Result<[(Counter, Counter); 3], metrics::Error> {
    let requests = registry.counters(
        "thanos_store_index_cache_requests_total",
        "Total number of items requested from the cache.",
        ["item_type"],
    )?;
    let hits = registry.counters(
        "thanos_store_index_cache_hits_total",
        "Total number of items found in the cache.",
        ["item_type"],
    )?;
    Ok(["Postings", "Series", "Chunks"].map(|item| (requests.with(&[item]), hits.with(&[item]))))
}

fn sizes(registry: &Registry, what: &str) -> Result<[Sizes; 3], metrics::Error> {
    let count = registry.histograms(
        &format!("thanos_bucket_store_series_data_{what}"),
        &format!(
            "Number of items of a data type {what} to fulfill a single Store API series request."
        ),
        ["data_type"],
        &metrics::exponential_buckets(200.0, 2.0, 15),
    )?;
    let bytes = registry.histograms(
        &format!("thanos_bucket_store_series_data_size_{what}_bytes"),
        &format!("Total size of items of a data type in a block that were {what} for a single Series/LabelValues/LabelNames request."),
        ["data_type"],
        &metrics::exponential_buckets(1024.0, 4.0, 12),
    )?;
    Ok(ITEMS.map(|item| Sizes {
        count: count.with(&[item]),
        bytes: bytes.with(&[item]),
    }))
}

type Read = fn(&Inner) -> f64;

/// What is kept as numbers elsewhere.
const KEPT: [(&str, &str, Kind, Read); 9] = [
    (
        "thanos_bucket_store_block_loads_total",
        "Total number of index-header loads.",
        Kind::Counter,
        |i| i.headers.loads.load(Ordering::Relaxed) as f64,
    ),
    (
        "thanos_bucket_store_block_load_failures_total",
        "Total number of failed index-header loads.",
        Kind::Counter,
        |i| i.headers.failures.load(Ordering::Relaxed) as f64,
    ),
    (
        "thanos_bucket_store_block_drops_total",
        "Total number of index-headers that were let go of.",
        Kind::Counter,
        |i| i.headers.drops.load(Ordering::Relaxed) as f64,
    ),
    (
        "thanos_bucket_store_block_drop_failures_total",
        "Total number of index-headers that could not be let go of: always 0, for nothing can fail there.",
        Kind::Counter,
        |_| 0.0,
    ),
    (
        "thanos_bucket_store_blocks_loaded",
        "Number of blocks that are served.",
        Kind::Gauge,
        |i| i.catalog.snapshot().blocks.len() as f64,
    ),
    (
        "epimetheus_bucket_store_blocks_set_aside",
        "Number of blocks that are not answered from because their index is damaged.",
        Kind::Gauge,
        |i| i.headers.aside() as f64,
    ),
    (
        "epimetheus_bucket_store_index_header_bytes",
        "Bytes of index-headers in memory, mapped files included.",
        Kind::Gauge,
        |i| i.headers.held() as f64,
    ),
    (
        "epimetheus_bucket_store_range_cache_bytes",
        "Bytes of ranges of blocks in memory.",
        Kind::Gauge,
        |i| i.cache.bytes() as f64,
    ),
    (
        "thanos_store_index_cache_total_size_bytes",
        "Current byte size of items in the cache (including bookkeeping).",
        Kind::Gauge,
        |i| i.cache.bytes() as f64,
    ),
];

type Count = fn(&super::cache::Counts) -> u64;

/// What is in the cache, by the file that it is of.
const CACHED: [(&str, &str, Kind, Count); 5] = [
    (
        "thanos_store_index_cache_items",
        "Current number of items in the cache.",
        Kind::Gauge,
        |c| c.items,
    ),
    (
        "thanos_store_index_cache_items_size_bytes",
        "Current byte size of items in the cache.",
        Kind::Gauge,
        |c| c.bytes,
    ),
    (
        "thanos_store_index_cache_items_added_total",
        "Total number of items that were added to the cache.",
        Kind::Counter,
        |c| c.added,
    ),
    (
        "thanos_store_index_cache_items_evicted_total",
        "Total number of items that were evicted from the cache.",
        Kind::Counter,
        |c| c.evicted,
    ),
    (
        "thanos_store_index_cache_items_overflowed_total",
        "Total number of items that could not be added to the cache due to being too big.",
        Kind::Counter,
        |c| c.overflowed,
    ),
];

impl Inner {
    /// Metrics of what is kept as numbers elsewhere.
    pub(super) fn export(self: &Arc<Self>, registry: &Registry) -> Result<(), metrics::Error> {
        for (name, help, kind, read) in KEPT {
            let inner = Arc::downgrade(self);
            registry.callback(kind, name, help, move || {
                inner.upgrade().map_or(0.0, |inner| read(&inner))
            })?;
        }
        for (name, help, kind, count) in CACHED {
            let inner = Arc::downgrade(self);
            registry.callbacks(kind, name, help, &["item_type"], move |push| {
                let Some(inner) = inner.upgrade() else {
                    return;
                };
                for (item, counts) in ["Index", "Chunks"].iter().zip(inner.cache.counts()) {
                    push(&[item], count(&counts) as f64);
                }
            })?;
        }
        Ok(())
    }
}
