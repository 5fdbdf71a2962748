//! What the head counts beyond samples and series.

use metrics::{Counter, Error, FloatGauge, Gauge, Registry};

/// Exemplars.
#[derive(Debug, Default)]
pub struct ExemplarStats {
    /// Taken.
    pub appended: Counter,
    /// Held now.
    pub stored: Gauge,
    /// Series that have some.
    pub series: Gauge,
    /// Time of the oldest, seconds.
    pub oldest_seconds: FloatGauge,
    /// How many can be held.
    pub max: Gauge,
    /// Rejected: older than their series' newest.
    pub out_of_order: Counter,
}

impl ExemplarStats {
    /// Registers every instrument.
    pub(super) fn new(r: &Registry) -> Result<Self, Error> {
        Ok(Self {
            appended: r.counter(
                "prometheus_tsdb_exemplar_exemplars_appended_total",
                "Total number of appended exemplars.",
            )?,
            stored: r.gauge(
                "prometheus_tsdb_exemplar_exemplars_in_storage",
                "Number of exemplars currently in circular storage.",
            )?,
            series: r.gauge(
                "prometheus_tsdb_exemplar_series_with_exemplars_in_storage",
                "Number of series with exemplars currently in circular storage.",
            )?,
            oldest_seconds: r.float_gauge(
                "prometheus_tsdb_exemplar_last_exemplars_timestamp_seconds",
                "The timestamp of the oldest exemplar stored in circular storage.",
            )?,
            max: r.gauge(
                "prometheus_tsdb_exemplar_max_exemplars",
                "Total number of exemplars the exemplar storage can store, resizeable.",
            )?,
            out_of_order: r.counter(
                "prometheus_tsdb_exemplar_out_of_order_exemplars_total",
                "Total number of out of order exemplar ingestion failed attempts.",
            )?,
        })
    }
}

/// Files of finished chunks.
#[derive(Debug, Default)]
pub struct ChunkFileStats {
    /// Chunks written to files.
    pub written: Counter,
    /// Damaged files that were met.
    pub corruptions: Counter,
    /// Writes that failed; their chunks stayed in memory.
    pub writes_failed: Counter,
    /// Bytes of the files.
    pub bytes: Gauge,
}

impl ChunkFileStats {
    /// Registers every instrument.
    pub(super) fn new(r: &Registry) -> Result<Self, Error> {
        Ok(Self {
            written: r.counter(
                "prometheus_tsdb_mmap_chunks_total",
                "Total number of chunks that were memory-mapped.",
            )?,
            corruptions: r.counter(
                "prometheus_tsdb_mmap_chunk_corruptions_total",
                "Total number of memory-mapped chunk corruptions.",
            )?,
            writes_failed: r.counter(
                "prometheus_tsdb_mmap_chunk_writes_failed_total",
                "Total number of failed writes of chunks to files; they stay in memory.",
            )?,
            bytes: r.gauge(
                "prometheus_tsdb_head_chunks_storage_size_bytes",
                "Size of the chunks_head directory.",
            )?,
        })
    }
}

/// The head as a whole.
#[derive(Debug, Default)]
pub struct HeadStats {
    /// Batches begun.
    pub appenders: Counter,
    /// Histograms taken.
    pub histograms_appended: Counter,
    /// Histograms rejected: older than the series' newest.
    pub histograms_out_of_order: Counter,
    /// Histograms taken out of order.
    pub histograms_ooo_appended: Counter,
    /// Histograms rejected: older than the out-of-order window.
    pub histograms_too_old: Counter,
    /// Histograms rejected: before what the head takes.
    pub histograms_out_of_bound: Counter,
    /// Histograms rejected: too far in the future.
    pub histograms_far_future: Counter,
    /// Histograms rejected: another value at the same time.
    pub histograms_duplicate: Counter,
    /// Histograms rejected: not valid.
    pub histograms_invalid: Counter,
    /// Series whose newest sample is a stale marker.
    pub stale_series: Gauge,
    /// Series whose newest sample is a histogram.
    pub histogram_series: Gauge,
    /// Entries of positive and negative buckets in the newest samples of those.
    pub histogram_buckets: Gauge,
    /// Oldest sample, seconds.
    pub min_seconds: FloatGauge,
    /// Newest sample, seconds.
    pub max_seconds: FloatGauge,
    /// The number of the newest batch.
    pub high_watermark: Gauge,
    /// Batches with a lower number are visible to everybody.
    pub low_watermark: Gauge,
    /// Bytes of label names and values.
    pub symbol_bytes: Gauge,
    /// Series that were not made because there are too many.
    pub series_limited: Counter,
    /// Snapshots of the head that could not be read.
    pub snapshot_errors: Counter,
    /// Histograms in the log whose series is not.
    pub unknown_histograms: Counter,
    /// Exemplars in the log whose series is not.
    pub unknown_exemplars: Counter,
    /// Metadata in the log whose series is not.
    pub unknown_metadata: Counter,
    /// Tombstones in the log whose series is not.
    pub unknown_tombstones: Counter,
}

impl HeadStats {
    /// Registers every instrument.
    pub(super) fn new(r: &Registry) -> Result<Self, Error> {
        let histogram =
            |name, help| Ok::<_, Error>(r.counters(name, help, ["type"])?.with(&["histogram"]));
        let unknown = |kind| {
            let name = "prometheus_tsdb_wal_replay_unknown_refs_total";
            let help = "Total number of unknown series references encountered during WAL replay.";
            Ok::<_, Error>(r.counters(name, help, ["type"])?.with(&[kind]))
        };
        Ok(Self {
            appenders: r.counter(
                "prometheus_tsdb_head_appenders_created_total",
                "Total number of appender transactions created.",
            )?,
            histograms_appended: histogram(
                "prometheus_tsdb_head_samples_appended_total",
                "Total number of appended samples.",
            )?,
            histograms_ooo_appended: histogram(
                "prometheus_tsdb_head_out_of_order_samples_appended_total",
                "Total number of appended out of order samples.",
            )?,
            histograms_out_of_order: histogram(
                "prometheus_tsdb_out_of_order_samples_total",
                "Total number of out of order samples ingestion failed attempts due to out of order being disabled.",
            )?,
            histograms_too_old: histogram(
                "prometheus_tsdb_too_old_samples_total",
                "Total number of out of order samples ingestion failed attempts with out of support enabled, but sample outside of time window.",
            )?,
            histograms_out_of_bound: histogram(
                "prometheus_tsdb_out_of_bound_samples_total",
                "Total number of out of bound samples ingestion failed attempts with out of order support disabled.",
            )?,
            histograms_far_future: histogram(
                "prometheus_tsdb_far_future_samples_total",
                "Total number of samples refused because their time was too far in the future.",
            )?,
            histograms_duplicate: histogram(
                "prometheus_tsdb_duplicate_samples_total",
                "Total number of samples refused because another value was there at that time.",
            )?,
            histograms_invalid: r.counter(
                "prometheus_tsdb_invalid_histograms_total",
                "Total number of histograms refused because they are not valid.",
            )?,
            stale_series: r.gauge(
                "prometheus_tsdb_head_stale_series",
                "Total number of stale series in the head block.",
            )?,
            histogram_series: r.gauge(
                "prometheus_tsdb_head_native_histogram_series",
                "Number of series in the head whose latest sample is a native histogram.",
            )?,
            histogram_buckets: r.gauge(
                "prometheus_tsdb_head_native_histogram_buckets",
                "Number of entries of positive and negative buckets in the latest native histograms of the series in the head.",
            )?,
            min_seconds: r.float_gauge(
                "prometheus_tsdb_head_min_time_seconds",
                "Minimum time bound of the head block.",
            )?,
            max_seconds: r.float_gauge(
                "prometheus_tsdb_head_max_time_seconds",
                "Maximum timestamp of the head block.",
            )?,
            high_watermark: r.gauge(
                "prometheus_tsdb_isolation_high_watermark",
                "The highest TSDB append ID that has been given out.",
            )?,
            low_watermark: r.gauge(
                "prometheus_tsdb_isolation_low_watermark",
                "The lowest TSDB append ID that is still referenced.",
            )?,
            symbol_bytes: r.gauge(
                "prometheus_tsdb_symbol_table_size_bytes",
                "Size of symbol table in memory for loaded blocks",
            )?,
            series_limited: r.counter(
                "prometheus_tsdb_head_series_limited_total",
                "Total number of times that series were not made because of the limit of series.",
            )?,
            snapshot_errors: r.counter(
                "prometheus_tsdb_snapshot_replay_error_total",
                "Total number snapshot replays that failed.",
            )?,
            unknown_histograms: unknown("histograms")?,
            unknown_exemplars: unknown("exemplars")?,
            unknown_metadata: unknown("metadata")?,
            unknown_tombstones: unknown("tombstones")?,
        })
    }
}
